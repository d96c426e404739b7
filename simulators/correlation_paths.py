"""Lineal path and chord lengths of a phase, along rows and columns.

Both speak of straight segments of pixels: the lineal path function is the probability that one lies
wholly in the phase, the chord lengths are those of the longest such segments. They hold the same
counts: among n pixels of lines, chords of length l give sum over l of max(l - r, 0) segments of
r + 1 pixels, so the chords are the second difference of the paths. Source: S. Torquato, Random
Heterogeneous Materials, 2002, sections 2.4 and 2.5.
"""

from __future__ import annotations

from typing import Literal, overload

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from loop.errors import InvalidInputError

FloatArray = NDArray[np.float64]
Axis = Literal["x", "y"]
AXES: tuple[Axis, Axis] = ("x", "y")


@overload
def lineal_path(
    field: NDArray[np.generic], axis: Axis, *, longest: int | None = None, periodic: bool = True
) -> FloatArray: ...


@overload
def lineal_path(
    field: Tensor, axis: Axis, *, longest: int | None = None, periodic: bool = True
) -> Tensor: ...


def lineal_path(
    field: NDArray[np.generic] | Tensor,
    axis: Axis,
    *,
    longest: int | None = None,
    periodic: bool = True,
) -> FloatArray | Tensor:
    """Lineal path function L(r), (..., longest + 1), of fields (..., h, w) along ``axis``.

    L(r), r = 0 … ``longest`` px, is the mean over positions of the product of the r + 1 pixels
    from there on: for indicators (0 or 1) the share of segments wholly in the phase, L(0) its
    fraction; for soft fields what independent draws by the pixels' shares would give on average,
    with gradients through tensors. ``longest`` defaults to the line, n - 1. ``periodic``: segments
    go on at the other side; otherwise only those inside the image count.
    Raises InvalidInputError for a field without two dimensions or a segment beyond the line.
    """
    if isinstance(field, np.ndarray):
        values = torch.as_tensor(np.array(field, dtype=np.float64))
        return lineal_path(values, axis, longest=longest, periodic=periodic).numpy()
    if field.ndim < 2 or field.numel() == 0:
        raise InvalidInputError(f"field has shape {tuple(field.shape)}; expected (..., h, w)")
    lines = _along(field if field.is_floating_point() else field.double(), axis)
    n = lines.shape[-1]
    reach = n - 1 if longest is None else longest
    if not 0 <= reach < n:
        raise InvalidInputError(
            f"lineal path over {reach} px along {axis}; expected 0 to {n - 1} in lines of {n} px"
        )
    path = lines
    found = [path.mean((-2, -1))]
    for r in range(1, reach + 1):
        path = path * torch.roll(lines, -r, -1) if periodic else path[..., :-1] * lines[..., r:]
        found.append(path.mean((-2, -1)))
    return torch.stack(found, -1)


def chord_counts(
    labels: ArrayLike, phase: int, axis: Axis, *, periodic: bool = True
) -> NDArray[np.int64]:
    """Number of chords of a phase by length, (..., n), from (..., h, w) labels along ``axis``.

    Entry l - 1 counts the chords of l px in lines of n px. ``periodic``: a chord that leaves on
    one side goes on at the other, and a line that the phase fills has no chord. Otherwise chords
    that the edge cuts count as they are seen. Raises InvalidInputError for labels that are not
    integer (..., h, w).
    """
    image = np.asarray(labels)
    if image.ndim < 2 or image.size == 0 or not np.issubdtype(image.dtype, np.integer):
        raise InvalidInputError(
            f"labels have shape {image.shape} and type {image.dtype}; expected integer (..., h, w)"
        )
    inside = image == phase
    lines = inside if _checked(axis) == "x" else inside.swapaxes(-1, -2)
    shape = lines.shape
    lines = lines.reshape(-1, shape[-1])
    owner = np.repeat(np.arange(lines.shape[0] // shape[-2]), shape[-2])
    n = shape[-1]
    if periodic:
        ended = ~lines.all(1)
        lines, owner = lines[ended], owner[ended]
        # From a pixel outside on, so that no chord wraps around the end.
        start = lines.argmin(1)
        lines = np.take_along_axis(lines, (np.arange(n) + start[:, None]) % n, axis=1)
    steps = np.diff(np.pad(lines, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    row, begin = np.nonzero(steps == 1)
    length = np.nonzero(steps == -1)[1] - begin
    images = int(np.prod(shape[:-2], dtype=np.int64))
    counts = np.bincount(owner[row] * n + length - 1, minlength=images * n)
    return counts.reshape(*shape[:-2], n).astype(np.int64)


def chord_length_distribution(
    labels: ArrayLike, phase: int, axis: Axis, *, periodic: bool = True
) -> FloatArray:
    """Share of the chords of every length 1 … n px, (..., n); nan where there is no chord.

    As ``chord_counts``. Its mean is the mean chord length of ``correlation.mean_chord_lengths``
    where no line is filled.
    """
    counts = chord_counts(labels, phase, axis, periodic=periodic)
    total = counts.sum(-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        shares: FloatArray = np.asarray(counts / total, dtype=np.float64)
    return shares


def _checked(axis: str) -> str:
    if axis not in AXES:
        raise InvalidInputError(f"axis {axis!r}; expected 'x' (along rows) or 'y' (along columns)")
    return axis


def _along(field: Tensor, axis: str) -> Tensor:
    """Fields with the lines along ``axis`` last."""
    return field if _checked(axis) == "x" else field.mT
