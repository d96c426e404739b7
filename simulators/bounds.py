"""Bounds on effective properties that need the phase fractions only.

Fractions and properties are (..., p), fractions sum to 1; a phase of fraction 0 does not count.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from loop.errors import InvalidInputError

FloatArray = NDArray[np.float64]


def _checked(fractions: ArrayLike, values: ArrayLike) -> tuple[FloatArray, FloatArray]:
    f = np.asarray(fractions, dtype=np.float64)
    v = np.asarray(values, dtype=np.float64)
    try:
        f, v = np.broadcast_arrays(f, v)
    except ValueError:
        raise InvalidInputError(
            f"fractions have shape {f.shape} and properties {v.shape}; expected equal (..., p)"
        ) from None
    if f.ndim == 0 or not np.all(f >= 0) or not np.allclose(f.sum(-1), 1, rtol=0, atol=1e-9):
        raise InvalidInputError("phase fractions are negative or do not sum to 1; normalise them")
    if not np.all(np.isfinite(v) & (v > 0)):
        raise InvalidInputError("a phase property is not finite and > 0; correct it")
    return f, v


def wiener(fractions: ArrayLike, values: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Harmonic and arithmetic mean, (...) each: they bound any structure in any direction.

    For conductivities the bounds of O. Wiener (1912); for bulk and shear moduli Reuss and Voigt.
    """
    f, v = _checked(fractions, values)
    return 1 / (f / v).sum(-1), (f * v).sum(-1)


def hashin_shtrikman(
    fractions: ArrayLike, conductivities: ArrayLike, *, dimensions: int = 2
) -> tuple[FloatArray, FloatArray]:
    """Bounds on the conductivity of an isotropic composite of two or three dimensions, (...) each.

    (sum f_i / (k_i + k_0))^-1 - k_0 with k_0 the least and the greatest conductivity present, times
    ``dimensions`` - 1. Only for structures whose effective tensor is isotropic: others may lie
    outside. Raises InvalidInputError for wrong fractions, properties or dimensions.
    Source: Z. Hashin and S. Shtrikman, J. Appl. Phys. 33, 3125 (1962); S. Torquato, Random
    Heterogeneous Materials, 2002, section 21.1.2.
    """
    if dimensions not in (2, 3):
        raise InvalidInputError(f"{dimensions} dimensions; expected 2 or 3")
    f, k = _checked(fractions, conductivities)
    least = np.where(f > 0, k, np.inf).min(-1)
    greatest = np.where(f > 0, k, 0.0).max(-1)
    factor = dimensions - 1
    return _comparison(f, k, factor * least), _comparison(f, k, factor * greatest)


def _comparison(f: FloatArray, k: FloatArray, reference: FloatArray) -> FloatArray:
    result: FloatArray = 1 / (f / (k + reference[..., None])).sum(-1) - reference
    return result
