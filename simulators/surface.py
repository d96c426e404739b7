"""Specific surface: length of the boundary of a phase per area, from pixels.

Edges of pixels overstate a smooth boundary, by 4/pi in random direction and by sqrt(2) along a
diagonal. The Cauchy-Crofton formula counts crossings instead: the boundary length per area is pi/2
times the crossings per length of test lines, averaged over their directions. Four directions (rows,
columns, both diagonals) leave a straight boundary -5.2 % to +2.6 % by its direction, two leave
-21 % to +11 %; boundaries of all directions come out right with either. Sources: L. A. Santalo,
Integral Geometry and Geometric Probability, 1976, chapter 4; E. E. Underwood, Quantitative
Stereology, 1970, chapter 3; G. Lehmann and D. Legland, Insight J. (2012).
"""

from __future__ import annotations

import math
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from loop.errors import InvalidInputError

FloatArray = NDArray[np.float64]
# Steps (rows, columns) from pixel to pixel along the test lines.
STEPS = {2: ((0, 1), (1, 0)), 4: ((0, 1), (1, 0), (1, 1), (1, -1))}


@overload
def specific_surface(
    field: NDArray[np.generic],
    *,
    directions: int = 4,
    periodic: bool = True,
    smoothing: float = 0.0,
) -> FloatArray: ...


@overload
def specific_surface(
    field: Tensor, *, directions: int = 4, periodic: bool = True, smoothing: float = 0.0
) -> Tensor: ...


def specific_surface(
    field: NDArray[np.generic] | Tensor,
    *,
    directions: int = 4,
    periodic: bool = True,
    smoothing: float = 0.0,
) -> FloatArray | Tensor:
    """Boundary length per area, (...) in 1/px, of indicators or soft phases (..., h, w).

    Of an indicator (0 or 1): the Cauchy-Crofton estimate from the crossings between neighbouring
    pixels. Of a soft field in [0, 1] a crossing counts by its height |s(x) - s(x')|, which by the
    coarea formula is exactly the mean over all thresholds t of the estimate for {s > t}: a diffuse
    boundary measures as much as the sharp one in its middle. ``directions``: 2 or 4.
    ``periodic``: otherwise the image's edge is no boundary and only pairs inside count.
    ``smoothing`` > 0 rounds the kink of |d| at 0 to sqrt(d^2 + smoothing^2) - smoothing, for
    optimisers that want second derivatives. Tensors pass gradients.
    Raises InvalidInputError for a wrong shape or number of directions.
    """
    if isinstance(field, np.ndarray):
        values = torch.as_tensor(np.array(field, dtype=np.float64))
        return specific_surface(
            values, directions=directions, periodic=periodic, smoothing=smoothing
        ).numpy()
    if field.ndim < 2 or field.numel() == 0:
        raise InvalidInputError(f"field has shape {tuple(field.shape)}; expected (..., h, w)")
    soft = field if field.is_floating_point() else field.double()
    if not periodic and min(soft.shape[-2:]) < 2:
        raise InvalidInputError(
            f"field has shape {tuple(field.shape)}; without periodicity a boundary needs 2 x 2"
        )
    total = torch.zeros(soft.shape[:-2], dtype=soft.dtype, device=soft.device)
    for step in _steps(directions):
        difference = _difference(soft, step, periodic)
        if smoothing > 0:
            height = torch.sqrt(difference**2 + smoothing**2) - smoothing
        else:
            height = difference.abs()
        total = total + height.mean((-2, -1)) / math.hypot(*step)
    return 0.5 * math.pi / directions * total


@overload
def surface_from_two_point(s2: NDArray[np.generic], *, directions: int = 4) -> FloatArray: ...


@overload
def surface_from_two_point(s2: Tensor, *, directions: int = 4) -> Tensor: ...


def surface_from_two_point(
    s2: NDArray[np.generic] | Tensor, *, directions: int = 4
) -> FloatArray | Tensor:
    """Boundary length per area, (...) in 1/px, from the slope of the two-point correlation at 0.

    ``s2``: (..., h, w), an indicator's autocorrelation as ``correlation.two_point`` gives it. In
    two dimensions dS2/dr(0) = -s / pi, averaged over directions; here by the first difference,
    which for a periodic image is ``specific_surface`` exactly. Soft fields come out smaller, since
    a diffuse boundary has no cusp at 0. Sources: P. Debye, H. R. Anderson and H. Brumberger, J.
    Appl. Phys. 28, 679 (1957); S. Torquato, Random Heterogeneous Materials, 2002, section 2.2.
    """
    if isinstance(s2, np.ndarray):
        values = torch.as_tensor(np.array(s2, dtype=np.float64))
        return surface_from_two_point(values, directions=directions).numpy()
    if s2.ndim < 2 or s2.numel() == 0:
        raise InvalidInputError(
            f"two-point correlation has shape {tuple(s2.shape)}; expected (..., h, w)"
        )
    h, w = s2.shape[-2:]
    steps = _steps(directions)
    falls = [(s2[..., 0, 0] - s2[..., dy % h, dx % w]) / math.hypot(dy, dx) for dy, dx in steps]
    return math.pi * torch.stack(falls).mean(0)


def _steps(directions: int) -> tuple[tuple[int, int], ...]:
    if directions not in STEPS:
        raise InvalidInputError(f"directions = {directions}; expected 2 or 4")
    return STEPS[directions]


def _difference(field: Tensor, step: tuple[int, int], periodic: bool) -> Tensor:
    """Every pixel minus the one a step further on."""
    dy, dx = step
    if periodic:
        return field - torch.roll(field, (-dy, -dx), (-2, -1))
    h, w = field.shape[-2:]
    first = field[..., : h - dy, max(0, -dx) : w - max(0, dx)]
    return first - field[..., dy:, max(0, dx) : w - max(0, -dx)]
