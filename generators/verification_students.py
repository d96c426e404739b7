"""``spinodal verify generators``: the long steps that students take, on Gaussian data.

For data N(m, s²) noise x goes to m + s x; a step of any length along the path is affine.
"""

from __future__ import annotations

import torch
from torch import Tensor

from generators.dynamics.gaussian import GaussianVelocity
from generators.dynamics.steps import GaussianStep, PlainStep, Step, steps_between
from generators.training.distillation import student_map, two_steps
from loop.verification import Case, absolute_case, relative_case

ROOM = "generators"
DOUBLE = torch.float64
M, S = 2.0, 0.5  # of the data
START = 0.3  # the noise that is carried
LONG_STEPS = "exponential integrator, Hochbruck & Ostermann 2010"


def _numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=DOUBLE)


def _velocity(m: float = M, s: float = S) -> GaussianVelocity:
    axes = torch.ones(1, 1, dtype=DOUBLE)
    return GaussianVelocity(_numbers(m), axes, _numbers(s * s), _numbers(s * s))


def _nothing(x: Tensor, _: Tensor) -> Tensor:
    return torch.zeros_like(x)


def _carried(x: Tensor, t: float, s: float) -> Tensor:
    """The exact map of the data's flow from t to s."""

    def width(u: float) -> float:
        return float(((u * S) ** 2 + (1 - u) ** 2) ** 0.5)

    return s * M + width(s) / width(t) * (x - t * M)


def _long_step() -> float:
    x = _numbers(START)[:, None]
    return float(student_map(GaussianStep(_velocity()), _nothing, x, _numbers(0.0), _numbers(1.0)))


def _progressive_target() -> tuple[float, float]:
    """(found, exact) of two plain steps whose field is the exact map of a quarter of the path."""

    def quarter(x: Tensor, t: Tensor) -> Tensor:
        begin = float(t[0])
        return (_carried(x, begin, begin + 0.25) - x) / 0.25

    x = _numbers(START)[:, None]
    found = two_steps(PlainStep(), quarter, x, _numbers(0.5), _numbers(1.0))
    return float(found), float(_carried(x, 0.5, 1.0))


def _boundary(step: Step) -> float:
    """f(x, 1) of a consistency function whose field is anything."""
    x, end = _numbers(START)[:, None], _numbers(1.0)
    return float(student_map(step, lambda y, _: 1e3 * torch.cos(y), x, end, end))


def _walked(steps: int) -> float:
    """The end of a walk whose linear part is that of N(0, 1), all else in the rest."""
    velocity, other = _velocity(), _velocity(0.0, 1.0)
    x = _numbers(START)[:, None]
    times = torch.linspace(0, 1, steps + 1, dtype=DOUBLE)
    path = steps_between(GaussianStep(other), lambda y, t: velocity(y, t) - other(y, t), x, times)
    return float(path[0, -1, 0])


def cases() -> list[Case]:
    """Exact checks of the steps and targets of few-step students."""
    exact = M + S * START
    found, target = _progressive_target()
    ratio = (_walked(32) - exact) / (_walked(64) - exact)
    return [
        relative_case(
            ROOM, "student: one step of Gaussian data", exact, _long_step(), 1e-12, LONG_STEPS
        ),
        absolute_case(
            ROOM,
            "student: progressive target is two exact steps",
            target,
            found,
            1e-12,
            "Salimans & Ho 2022",
        ),
        absolute_case(
            ROOM,
            "student: consistency function at the end",
            START,
            _boundary(GaussianStep(_velocity())),
            1e-12,
            "Song et al. 2023",
        ),
        relative_case(
            ROOM, "student: teacher's walk, error ratio of halving", 4.0, ratio, 0.1, "order 2"
        ),
    ]
