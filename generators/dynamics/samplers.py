"""Samplers of the probability-flow ODE dx/dt = v(x, t) from noise (t = 0) to data (t = 1).

Each is a free function of a ``Velocity``, a start (b, n) and times (m,) from 0 to 1, and has a
declared order that a test regresses on the exact velocity of a Gaussian.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from generators.dynamics.flow import Velocity

ORDER = {"euler": 1, "heun": 2}


def uniform_times(steps: int) -> Tensor:
    """(steps + 1,) equal steps from 0 to 1."""
    return torch.linspace(0.0, 1.0, steps + 1)


def euler(velocity: Velocity, x: Tensor, times: Tensor) -> Tensor:
    """Explicit Euler, order 1, one evaluation a step."""
    for t, t_next in itertools.pairwise(times):
        x = x + (t_next - t) * velocity(x, t.expand(len(x)))
    return x


def heun(velocity: Velocity, x: Tensor, times: Tensor) -> Tensor:
    """Heun's method (explicit trapezoid), order 2, two evaluations a step (Karras et al. 2022)."""
    for t, t_next in itertools.pairwise(times):
        h = t_next - t
        v = velocity(x, t.expand(len(x)))
        v_next = velocity(x + h * v, t_next.expand(len(x)))
        x = x + h / 2 * (v + v_next)
    return x
