"""How near a proposed microstructure is to those that its own heat treatment gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from loop.errors import InvalidInputError
from loop.statistics import two_point_radial

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Realisability:
    """Distance of a proposed image from the images that the process gives.

    ``distance``: between its two-point statistics and the mean of theirs (``two_point_distance``).
    ``scatter``: what an image that the process itself gave would score on average.
    """

    distance: float
    scatter: float


def two_point_distance(a: ArrayLike, b: ArrayLike, phases: int) -> float:
    """Distance between the two-point statistics of two sets of label images of one size.

    ``a``, ``b``: (n, h, w) and (n', h, w) labels < ``phases``. Root of the mean square, over the
    phases and the lags from 0 to half the side, of the difference of the mean S2(r), the
    probability that both ends of a segment of length r lie in the phase. 0 for equal statistics;
    at lag 0 it compares the phase fractions.
    """
    if np.shape(a)[1:] != np.shape(b)[1:]:
        raise InvalidInputError(
            f"label images have shapes {np.shape(a)} and {np.shape(b)}; expected one image size"
        )
    first, second = _curves(a, phases), _curves(b, phases)
    return float(np.sqrt(np.mean((first.mean(0) - second.mean(0)) ** 2)))


def realisability(proposed: ArrayLike, recreated: ArrayLike, phases: int) -> Realisability:
    """How well a proposed image (h, w) agrees with k >= 2 re-created ones, (k, h, w).

    The re-created images come from ``anneal`` at the proposed composition and heat treatment, with
    k seeds. Raises InvalidInputError for fewer than two of them or images of other sizes.
    """
    image, others = np.asarray(proposed), np.asarray(recreated)
    if image.ndim != 2 or others.ndim != 3 or len(others) < 2:
        raise InvalidInputError(
            f"proposed image has shape {image.shape}, re-created ones {others.shape}; expected "
            "(h, w) and (k, h, w) with k of at least 2"
        )
    distance = two_point_distance(image[None], others, phases)
    curves = _curves(others, phases)
    # One more image of the same kind against the mean of k: variance s^2 (1 + 1/k).
    variance = curves.var(axis=0, ddof=1).mean() * (1 + 1 / len(others))
    return Realisability(distance, float(np.sqrt(variance)))


def _curves(labels: ArrayLike, phases: int) -> FloatArray:
    """S2 of every phase, (n, phases, lags)."""
    images = np.asarray(labels)
    if images.ndim != 3 or not np.issubdtype(images.dtype, np.integer):
        raise InvalidInputError(
            f"labels have shape {images.shape} and type {images.dtype}; expected integer (n, h, w)"
        )
    if images.size and (images.min() < 0 or images.max() >= phases):
        raise InvalidInputError(
            f"labels reach from {images.min()} to {images.max()}; expected 0 to {phases - 1}"
        )
    curves = [two_point_radial((images == p).astype(np.float64))[1] for p in range(phases)]
    return np.stack(curves, axis=1)
