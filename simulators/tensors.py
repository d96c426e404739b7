"""Symmetric positive definite conductivity tensors: means, components, reference media."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

# Order of the components of a symmetric tensor, per dimension.
PAIRS = {2: ((0, 0), (1, 1), (0, 1)), 3: ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))}


class Reference(NamedTuple):
    """Homogeneous media for n images, each spectrally as near to its phases as it gets.

    ``components``: (n, 1) for isotropic media, else (n, 3) or (n, 6) in the order of ``PAIRS``.
    ``low``, ``high``: (n,), low K0 <= K <= high K0 for every phase that the image contains.
    """

    components: FloatArray
    low: FloatArray
    high: FloatArray

    def dual(self) -> Reference:
        """The same for the resistivities."""
        if self.components.shape[1] == 1:
            inverse = 1 / self.components
        else:
            inverse = to_components(np.linalg.inv(to_tensors(self.components)).astype(np.float64))
        return Reference(inverse, 1 / self.high, 1 / self.low)


def to_components(tensors: FloatArray) -> FloatArray:
    """(..., m, m) -> (..., 3) or (..., 6), the order of ``PAIRS``."""
    return np.stack([tensors[..., i, j] for i, j in PAIRS[tensors.shape[-1]]], axis=-1)


def to_tensors(components: FloatArray) -> FloatArray:
    """Inverse of ``to_components``."""
    m = 2 if components.shape[-1] == 3 else 3
    tensors = np.empty((*components.shape[:-1], m, m))
    for number, (i, j) in enumerate(PAIRS[m]):
        tensors[..., i, j] = tensors[..., j, i] = components[..., number]
    return tensors


def fractions(image: NDArray[np.int64], phases: int) -> FloatArray:
    """(n, ...) labels -> (n, p) phase fractions."""
    flat = image.reshape(len(image), -1)
    counts = [np.bincount(row, minlength=phases) for row in flat]
    return np.stack(counts) / flat.shape[1]


def reference(image: NDArray[np.int64], values: FloatArray) -> Reference:
    """Reference media for (n, ...) labels and phases (n, p) or (n, p, m, m).

    Isotropic: the geometric mean of the least and the greatest conductivity present. Anisotropic:
    the geometric mean of the Voigt and the Reuss tensor; it turns with the phases, inverts with
    them, and is exact when all of them are equal.
    """
    f = fractions(image, values.shape[1])
    if values.ndim == 2:
        least = np.where(f > 0, values, np.inf).min(1)
        greatest = np.where(f > 0, values, 0.0).max(1)
        middle = np.sqrt(least) * np.sqrt(greatest)
        return Reference(middle[:, None], least / middle, greatest / middle)
    voigt = np.einsum("np,npij->nij", f, values)
    reuss = np.linalg.inv(np.einsum("np,npij->nij", f, np.linalg.inv(values)))
    middle = geometric_mean(reuss, voigt)
    root = np.linalg.inv(np.linalg.cholesky(middle))[:, None]
    relative = np.linalg.eigvalsh(root @ values @ root.swapaxes(-1, -2))
    low = np.where(f > 0, relative[..., 0], np.inf).min(1)
    high = np.where(f > 0, relative[..., -1], 0.0).max(1)
    return Reference(to_components(middle), low, high)


def geometric_mean(a: FloatArray, b: FloatArray) -> FloatArray:
    """Geometric mean A # B of symmetric positive definite matrices, (n, m, m) each.

    m = 2: A # B = sqrt(alpha beta / det(A/alpha + B/beta)) (A/alpha + B/beta), alpha = sqrt(det A),
    beta = sqrt(det B); else L (L^-1 B L^-T)^(1/2) L^T with A = L L^T. It lies between A and B when
    they are ordered (R. Bhatia, Positive Definite Matrices, 2007, section 4.1).
    """
    if a.shape[-1] == 2:
        alpha = np.sqrt(np.linalg.det(a))[:, None, None]
        beta = np.sqrt(np.linalg.det(b))[:, None, None]
        mean = a / alpha + b / beta
        scale = np.sqrt(alpha * beta / np.linalg.det(mean)[:, None, None])
        result: FloatArray = scale * mean
        return result
    factor = np.linalg.cholesky(a)
    inverse = np.linalg.inv(factor)
    inner = inverse @ b @ inverse.swapaxes(-1, -2)
    values, vectors = np.linalg.eigh(0.5 * (inner + inner.swapaxes(-1, -2)))
    half = factor @ vectors * np.sqrt(np.sqrt(values))[:, None, :]
    mean = half @ half.swapaxes(-1, -2)
    return 0.5 * (mean + mean.swapaxes(-1, -2))
