"""Microstructure statistics of label images: two-point, mean chord length, interface density.

Images are periodic unless said otherwise, as the effective properties take them to be: a chord that
leaves on one side goes on at the other. Lengths are in pixels; x runs along the columns, y along
the rows. Elsewhere: paths and chords one by one (``correlation_paths``), specific surface
(``surface``), soft phase fields (``soft_statistics``), micrographs (``loop.statistics``).
"""

from __future__ import annotations

from typing import overload

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from loop.errors import InvalidInputError

FloatArray = NDArray[np.float64]
# Sums of integers up to here come out of an FFT in float64 with errors far below 1/2.
GREATEST_COUNT = 2.0**40


@overload
def two_point(
    field: NDArray[np.generic], other: NDArray[np.generic] | None = None, *, periodic: bool = True
) -> FloatArray: ...


@overload
def two_point(field: Tensor, other: Tensor | None = None, *, periodic: bool = True) -> Tensor: ...


def two_point(
    field: NDArray[np.generic] | Tensor,
    other: NDArray[np.generic] | Tensor | None = None,
    *,
    periodic: bool = True,
) -> FloatArray | Tensor:
    """Two-point correlation S(r) = mean over x of field(x) other(x + r), (..., h, w) fields.

    ``other`` defaults to ``field`` (autocorrelation). Fields are indicators (0 or 1) or any real
    values, arrays or tensors; the answer is of the same kind. Of boolean or integer fields, such as
    ``labels == phase``, the pairs are counted exactly; of floating point ones the sums carry the
    rounding of the FFT, and tensors pass gradients. Lags are in the order of the FFT: entry [0, 0]
    is lag zero, entry [-1, 0] is one row up.

    ``periodic``: pairs wrap around and the answer is (..., h, w). Otherwise only pairs inside the
    image count, each lag divided by its own number of pairs, and the answer is
    (..., 2 h - 1, 2 w - 1). Source: S. Torquato, Random Heterogeneous Materials, 2002, section 2.2.
    """
    arrays = not isinstance(field, Tensor)
    own = torch.as_tensor(np.array(field)) if arrays else torch.as_tensor(field)
    if other is None:
        partner = own
    else:
        partner = torch.as_tensor(np.array(other)) if arrays else torch.as_tensor(other)
    whole = not own.is_floating_point() and not partner.is_floating_point()
    kind = torch.float64 if arrays or not own.is_floating_point() else own.dtype
    found = _correlate(own.to(kind), partner.to(kind), periodic, whole)
    return found.numpy() if arrays else found


def _correlate(a: Tensor, b: Tensor, periodic: bool, whole: bool) -> Tensor:
    if a.ndim < 2 or a.shape != b.shape or a.numel() == 0:
        raise InvalidInputError(
            f"two_point got shapes {tuple(a.shape)}, {tuple(b.shape)}; expected equal (..., h, w)"
        )
    h, w = a.shape[-2:]
    size = (h, w) if periodic else (2 * h - 1, 2 * w - 1)
    first = torch.fft.rfft2(a, s=size)
    second = first if b is a else torch.fft.rfft2(b, s=size)
    total = torch.fft.irfft2(first.conj() * second, s=size)
    if whole and float(a.abs().max() * b.abs().max()) * h * w <= GREATEST_COUNT:
        total = total.round()
    if periodic:
        return total / (h * w)
    pairs = _overlap(h)[:, None] * _overlap(w)[None, :]
    return total / pairs.to(device=total.device, dtype=total.dtype)


def _overlap(n: int) -> Tensor:
    """Number of pixel pairs at each lag 0 … n - 1, -(n - 1) … -1 of a line of n pixels."""
    lags = torch.arange(2 * n - 1)
    return n - torch.minimum(lags, 2 * n - 1 - lags)


@overload
def radial_mean(lags: NDArray[np.generic], *, periodic: bool = True) -> FloatArray: ...


@overload
def radial_mean(lags: Tensor, *, periodic: bool = True) -> Tensor: ...


def radial_mean(
    lags: NDArray[np.generic] | Tensor, *, periodic: bool = True
) -> FloatArray | Tensor:
    """Average over directions of what ``two_point`` gives, by distance 0 to half the smaller side.

    ``lags``: (..., h, w), or (..., 2 h - 1, 2 w - 1) when not periodic, in the order of the FFT.
    Returns (..., min(h, w) // 2 + 1): entry r is the mean over the lags whose length rounds to
    r px. Without periodicity the shells are those of ``loop.statistics.two_point_radial``.
    """
    if isinstance(lags, np.ndarray):
        values = torch.as_tensor(np.array(lags, dtype=np.float64))
        return radial_mean(values, periodic=periodic).numpy()
    rows, columns = lags.shape[-2:]
    side = min(rows, columns) if periodic else (min(rows, columns) + 1) // 2
    bins = side // 2 + 1
    y = torch.fft.fftfreq(rows, 1 / rows, dtype=torch.float64, device=lags.device)
    x = torch.fft.fftfreq(columns, 1 / columns, dtype=torch.float64, device=lags.device)
    shell = torch.hypot(y[:, None], x[None, :]).round().long().flatten()
    kept = torch.nonzero(shell < bins)[:, 0]
    shell = shell[kept]
    count = torch.bincount(shell, minlength=bins)
    sums = torch.zeros(*lags.shape[:-2], bins, dtype=lags.dtype, device=lags.device)
    return sums.index_add(-1, shell, lags.flatten(-2)[..., kept]) / count


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
