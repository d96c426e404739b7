"""Spectral projected gradients for many starts side by side."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from loop.composition import FloatArray

STEPS = 40
MEMORY = 5  # values that a step may fall back to (Grippo, Lampariello & Lucidi 1986)


def ascend(
    acquisition: Callable[[Tensor], Tensor],
    starts: FloatArray,
    onto: Callable[[FloatArray], FloatArray],
    steps: int = STEPS,
) -> FloatArray:
    """Batches (r, q, e) moved to where the acquisition is largest nearby; the best met of each.

    Spectral projected gradients, every batch with a step length of its own (Birgin, Martínez &
    Raydan 2000, SIAM J. Optim. 10, 1196, SPG1): the step is the inverse curvature along the last
    one, a value may fall below the last but not below the last ``MEMORY``. One evaluation a step.
    """
    x = starts.copy()
    value, gradient = _value_and_gradient(acquisition, x)
    best, best_value = x.copy(), value.copy()
    memory = np.tile(value, (MEMORY, 1))
    width = np.abs(onto(x + gradient / _largest(gradient)[:, None, None]) - x)
    alpha = 0.1 / (_largest(gradient) * np.maximum(_largest(width), 1e-3))
    still = 0
    for step in range(steps):
        trial = onto(x + alpha[:, None, None] * gradient)
        move = trial - x
        slope = (gradient * move).sum((1, 2))
        trial_value, trial_gradient = _value_and_gradient(acquisition, trial)
        allowed = trial_value >= memory.min(0) + 1e-4 * slope
        bend = -((trial_gradient - gradient) * move).sum((1, 2))
        length = (move**2).sum((1, 2))
        curved = bend > 1e-12 * length
        stretched = np.where(curved, length / np.where(curved, bend, 1.0), 4.0 * alpha)
        alpha = np.where(allowed, np.clip(stretched, 1e-8, 1e4), 0.25 * alpha)
        x = np.where(allowed[:, None, None], trial, x)
        gradient = np.where(allowed[:, None, None], trial_gradient, gradient)
        memory[step % MEMORY] = np.where(allowed, trial_value, memory[step % MEMORY])
        better = trial_value > best_value
        # The end is near when several steps have gained next to nothing in any batch.
        still = 0 if np.any(trial_value > best_value + 1e-3) else still + 1
        best = np.where(better[:, None, None], trial, best)
        best_value = np.where(better, trial_value, best_value)
        if still >= 2 * MEMORY:
            break
    return best


def _largest(gradient: FloatArray) -> FloatArray:
    found: FloatArray = np.maximum(np.abs(gradient).max((1, 2)), 1e-12)
    return found


def _value_and_gradient(
    acquisition: Callable[[Tensor], Tensor], x: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """(r,) and (r, q, e)."""
    at = torch.from_numpy(x).requires_grad_()
    value = acquisition(at)
    (gradient,) = torch.autograd.grad(value.sum(), at)
    return value.detach().numpy(), gradient.numpy()
