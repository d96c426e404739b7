"""Microstructure statistics of label images: two-point, chord length, interface density.

Images are periodic, as the effective properties take them to be: a chord that leaves on one side
goes on at the other. Lengths are in pixels; x runs along the columns, y along the rows.
``loop.statistics`` has the estimators for pictures that are not periodic, averaged over directions.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from loop.errors import InvalidInputError

FloatArray = NDArray[np.float64]
Array = TypeVar("Array", NDArray[np.float64], Tensor)


def two_point(field: Array, other: Array | None = None, *, periodic: bool = True) -> Array:
    """Two-point correlation S(r) = mean over x of field(x) other(x + r), (..., h, w) fields.

    ``other`` defaults to ``field`` (autocorrelation). Fields are indicators (0 or 1) or any real
    values, arrays or tensors; the answer is of the same kind. Lags are in the order of the FFT:
    entry [0, 0] is lag zero, entry [-1, 0] is one row up.

    ``periodic``: pairs wrap around and the answer is (..., h, w). Otherwise only pairs inside the
    image count, each lag divided by its own number of pairs, and the answer is
    (..., 2 h - 1, 2 w - 1). Source: S. Torquato, Random Heterogeneous Materials, 2002, section 2.2.
    """
    if isinstance(field, np.ndarray):
        own = torch.as_tensor(np.array(field, dtype=np.float64))
        partner = own if other is None else torch.as_tensor(np.array(other, dtype=np.float64))
        return _correlate(own, partner, periodic).numpy()
    tensor = field if field.is_floating_point() else field.to(torch.float64)
    return _correlate(tensor, tensor if other is None else other.to(tensor.dtype), periodic)


def _correlate(a: Tensor, b: Tensor, periodic: bool) -> Tensor:
    if a.ndim < 2 or a.shape != b.shape or a.numel() == 0:
        raise InvalidInputError(
            f"two_point got shapes {tuple(a.shape)}, {tuple(b.shape)}; expected equal (..., h, w)"
        )
    h, w = a.shape[-2:]
    size = (h, w) if periodic else (2 * h - 1, 2 * w - 1)
    product = torch.fft.rfft2(a, s=size).conj() * torch.fft.rfft2(b, s=size)
    total = torch.fft.irfft2(product, s=size)
    if periodic:
        return total / (h * w)
    pairs = _overlap(h)[:, None] * _overlap(w)[None, :]
    return total / pairs.to(device=total.device, dtype=total.dtype)


def _overlap(n: int) -> Tensor:
    """Number of pixel pairs at each lag 0 … n - 1, -(n - 1) … -1 of a line of n pixels."""
    lags = torch.arange(2 * n - 1)
    return n - torch.minimum(lags, 2 * n - 1 - lags)


def _labels(labels: ArrayLike) -> NDArray[np.integer]:
    image = np.asarray(labels)
    if image.ndim < 2 or image.size == 0 or not np.issubdtype(image.dtype, np.integer):
        raise InvalidInputError(
            f"labels have shape {image.shape} and type {image.dtype}; expected integer (..., h, w)"
        )
    return image


def _chords(inside: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number of chords along x and along y, (...) each: entries into the phase."""
    along_x = inside & ~np.roll(inside, 1, axis=-1)
    along_y = inside & ~np.roll(inside, 1, axis=-2)
    return along_x.sum((-2, -1)), along_y.sum((-2, -1))


def _ratio(length: NDArray[np.int64], chords: NDArray[np.int64]) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: FloatArray = np.asarray(length / chords, dtype=np.float64)
    return ratio


def mean_chord_lengths(labels: ArrayLike, phase: int) -> FloatArray:
    """Mean chord length of a phase along (x, y), (..., 2) in px, from (..., h, w) labels.

    inf where the phase runs through without an end; nan where it is absent.
    """
    inside = _labels(labels) == phase
    area = inside.sum((-2, -1))
    x, y = _chords(inside)
    return np.stack((_ratio(area, x), _ratio(area, y)), axis=-1)


def mean_chord_length(labels: ArrayLike, phase: int) -> FloatArray:
    """Mean length of all chords of a phase along x and y together, (...) in px.

    2 area / (chords along x + chords along y): finite as soon as the phase ends anywhere; 2 s for
    stripes of width s, s for squares of side s. inf where the phase fills the image, nan where it
    is absent. Source: E. E. Underwood, Quantitative Stereology, 1970, chapter 4 (mean intercept).
    """
    inside = _labels(labels) == phase
    x, y = _chords(inside)
    return _ratio(2 * inside.sum((-2, -1)), x + y)


def interface_density(labels: ArrayLike) -> FloatArray:
    """Length of pixel edges between different phases per area, (...) in 1/px.

    Exact for the pixel image. A smooth interface of random direction is pi/4 of that long.
    """
    image = _labels(labels)
    edges = (image != np.roll(image, 1, axis=-1)).sum((-2, -1)) + (
        image != np.roll(image, 1, axis=-2)
    ).sum((-2, -1))
    return _ratio(edges, np.asarray(image.shape[-2] * image.shape[-1]))
