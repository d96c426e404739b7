"""An adaptive integrator of a library (scipy) for tensors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from torch import Tensor

from loop.errors import InvalidInputError

FloatArray = NDArray[np.float64]
MOST_EVALUATIONS = 20_000  # a smooth field takes some hundred; beyond, the steps no longer advance
Derivative = Callable[[Tensor, Sequence[Tensor]], Sequence[Tensor]]


def integrate(
    derivative: Derivative,
    parts: Sequence[Tensor],
    start: float,
    end: float,
    *,
    tolerance: float,
    longest_step: float = math.inf,
) -> list[Tensor]:
    """dy/dt = derivative(t, y) from ``start`` to ``end`` by Dormand and Prince's pair of order 5.

    y is a sequence of tensors of any shapes; t a scalar tensor. Steps are chosen in float64 so that
    the error of a step is below tolerance (1 + |y|); the derivative is called in the precision and
    on the device of the parts. One step size serves all rows of a batch.
    Raises InvalidInputError when the integrator gives up.
    Source: Dormand & Prince 1980; ``scipy.integrate.solve_ivp``, method RK45.
    """
    sizes = np.cumsum([part.numel() for part in parts])[:-1]

    def unpack(flat: FloatArray) -> list[Tensor]:
        return [
            torch.from_numpy(piece).reshape(part.shape).to(part)
            for piece, part in zip(np.split(flat, sizes), parts, strict=True)
        ]

    def pack(pieces: Sequence[Tensor]) -> FloatArray:
        flat = [piece.detach().double().cpu().numpy().ravel() for piece in pieces]
        return np.concatenate(flat)

    evaluations = itertools.count(1)

    def f(t: float, flat: FloatArray) -> FloatArray:
        if next(evaluations) > MOST_EVALUATIONS:
            raise InvalidInputError(
                f"the integrator is at t = {t:g} of {start:g} to {end:g} after {MOST_EVALUATIONS} "
                f"evaluations; loosen the tolerance {tolerance:g} or keep away from a time where "
                "the field is singular"
            )
        return pack(derivative(torch.tensor(t, dtype=torch.float64), unpack(flat)))

    found = solve_ivp(
        f,
        (start, end),
        pack(parts),
        method="RK45",
        rtol=tolerance,
        atol=tolerance,
        max_step=longest_step,
        t_eval=[end],
    )
    if not found.success or not np.isfinite(found.y).all():
        raise InvalidInputError(
            f"the integrator stopped between t = {start:g} and {end:g}: {found.message}; loosen "
            f"the tolerance {tolerance:g} or keep away from a time where the field is singular"
        )
    return unpack(found.y[:, -1])
