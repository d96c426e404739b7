"""Stiffness matrices of phases: isotropic, cubic and general, turned into any orientation.

Voigt's order throughout: xx, yy, zz, yz, xz, xy, shear strains in engineering units (twice the
tensor's), so stress = C strain and twice the energy is strain . C strain. x runs along the
columns, y along the rows, z along the layers of an image.
Source: J. F. Nye, Physical Properties of Crystals, 1957, chapter 8.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from loop.errors import InvalidInputError
from simulators.fields import checked_labels, checked_range
from simulators.tensors import PAIRS, geometric_mean

FloatArray = NDArray[np.float64]

ORDER = PAIRS[3]
SIZE = 6
# Number of the component that belongs to a pair of axes.
VOIGT = ((0, 5, 4), (5, 1, 3), (4, 3, 2))
# A symmetric 6 x 6 matrix as 21 components.
ENTRIES = tuple((i, j) for i in range(SIZE) for j in range(i, SIZE))


class Reference(NamedTuple):
    """Homogeneous media for n images: low C0 <= C <= high C0 in every phase that is there.

    ``matrix``: (n, 6, 6). ``low``, ``high``: (n,).
    """

    matrix: FloatArray
    low: FloatArray
    high: FloatArray

    def dual(self) -> Reference:
        """The same for the compliances."""
        return Reference(_inverse(self.matrix), 1 / self.high, 1 / self.low)


def isotropic_stiffness(bulk: ArrayLike, shear: ArrayLike) -> FloatArray:
    """Bulk and shear moduli (...) -> stiffness (..., 6, 6).

    Raises InvalidInputError for moduli that are not finite and > 0.
    """
    k, g = np.broadcast_arrays(
        np.asarray(bulk, dtype=np.float64), np.asarray(shear, dtype=np.float64)
    )
    for name, values in (("bulk", k), ("shear", g)):
        wrong = values[~(np.isfinite(values) & (values > 0))]
        if wrong.size:
            raise InvalidInputError(f"{name} modulus {wrong[0]:g}; expected finite values > 0")
    return _cubic(k + 4 * g / 3, k - 2 * g / 3, g)


def cubic_stiffness(
    c11: ArrayLike, c12: ArrayLike, c44: ArrayLike, rotation: ArrayLike | None = None
) -> FloatArray:
    """Elastic constants (...) of cubic crystals -> stiffness (..., 6, 6).

    ``rotation``: (..., 3, 3), takes the cube's edges from the axes x, y, z to where they are.
    Raises InvalidInputError for constants without stability (Born: C11 > |C12|, C11 + 2 C12 > 0,
    C44 > 0) and as ``rotated_stiffness``.
    """
    c = [np.asarray(part, dtype=np.float64) for part in (c11, c12, c44)]
    c = list(np.broadcast_arrays(*c))
    stable = (c[0] > np.abs(c[1])) & (c[0] + 2 * c[1] > 0) & (c[2] > 0)
    stable &= np.isfinite(c[0]) & np.isfinite(c[2])
    if not np.all(stable):
        first = np.argwhere(~np.atleast_1d(stable))[0]
        got = ", ".join(f"{np.atleast_1d(part)[tuple(first)]:g}" for part in c)
        raise InvalidInputError(
            f"cubic constants C11, C12, C44 = {got} are not stable; expected C11 > |C12|, "
            "C11 + 2 C12 > 0 and C44 > 0"
        )
    matrix = _cubic(*c)
    return matrix if rotation is None else rotated_stiffness(matrix, rotation)


def _cubic(c11: FloatArray, c12: FloatArray, c44: FloatArray) -> FloatArray:
    matrix = np.zeros((*np.shape(c11), SIZE, SIZE))
    for i in range(3):
        matrix[..., i, :3] = np.asarray(c12)[..., None]
        matrix[..., i, i] = c11
        matrix[..., 3 + i, 3 + i] = c44
    return matrix


def stress_rotation(rotation: ArrayLike) -> FloatArray:
    """(..., 3, 3) rotations R -> (..., 6, 6) matrices of stress' = R stress R^T (Bond's matrix).

    Raises InvalidInputError for matrices that are not orthogonal.
    """
    r = np.asarray(rotation, dtype=np.float64)
    if r.shape[-2:] != (3, 3) or not np.allclose(r @ r.swapaxes(-1, -2), np.eye(3), atol=1e-9):
        raise InvalidInputError(
            f"rotation of shape {r.shape} is not orthogonal; expected (..., 3, 3), R R^T = 1"
        )
    bond = np.empty((*r.shape[:-2], SIZE, SIZE))
    for row, (i, j) in enumerate(ORDER):
        for column, (a, b) in enumerate(ORDER):
            bond[..., row, column] = r[..., i, a] * r[..., j, b]
            if a != b:
                bond[..., row, column] += r[..., i, b] * r[..., j, a]
    return bond


def rotated_stiffness(stiffness: ArrayLike, rotation: ArrayLike) -> FloatArray:
    """Stiffness (..., 6, 6) of the body turned by R (..., 3, 3), v' = R v.

    Raises InvalidInputError for a wrong shape or a matrix that is not orthogonal.
    """
    c = np.asarray(stiffness, dtype=np.float64)
    if c.shape[-2:] != (SIZE, SIZE):
        raise InvalidInputError(f"stiffness has shape {c.shape}; expected (..., 6, 6)")
    bond = stress_rotation(rotation)
    turned: FloatArray = bond @ c @ bond.swapaxes(-1, -2)
    return turned


def to_tensor(vector: ArrayLike, *, strain: bool = False) -> FloatArray:
    """Voigt vectors (..., 6) -> symmetric tensors (..., 3, 3); ``strain``: engineering shear."""
    v = np.asarray(vector, dtype=np.float64)
    tensor = np.empty((*v.shape[:-1], 3, 3))
    for number, (i, j) in enumerate(ORDER):
        tensor[..., i, j] = tensor[..., j, i] = v[..., number] / (2 if strain and i != j else 1)
    return tensor


def to_strain(tensor: ArrayLike) -> FloatArray:
    """Symmetric strain tensors (..., 3, 3) -> (..., 6) with engineering shear."""
    t = np.asarray(tensor, dtype=np.float64)
    return np.stack([t[..., i, j] * (1 if i == j else 2) for i, j in ORDER], axis=-1)


def checked_stiffness(labels: ArrayLike, given: ArrayLike) -> tuple[NDArray[np.int64], FloatArray]:
    """Label images (n, h, w) or (n, d, h, w), and stiffness as (n, p, 6, 6).

    ``given``: (p, 6, 6) or (n, p, 6, 6). Raises InvalidInputError for wrong shapes, types or
    labels, and for matrices that are not finite, symmetric and positive definite.
    """
    image = checked_labels(labels, (2, 3))
    values = np.asarray(given, dtype=np.float64)
    if values.ndim == 3:
        values = np.broadcast_to(values, (len(image), *values.shape))
    if values.ndim != 4 or len(values) != len(image) or values.shape[2:] != (SIZE, SIZE):
        raise InvalidInputError(
            f"stiffness has shape {np.shape(given)}; expected (p, 6, 6) or ({len(image)}, p, 6, 6)"
        )
    checked_range(image, "stiffness", values.shape[1])
    if not np.all(np.isfinite(values)):
        raise InvalidInputError("stiffness holds a value that is not finite; correct it")
    turned = values.swapaxes(-1, -2)
    skew = np.abs(values - turned).max((-2, -1)) > 1e-9 * np.abs(values).max((-2, -1))
    if skew.any():
        phase = int(np.argwhere(skew)[0, -1])
        raise InvalidInputError(
            f"stiffness of phase {phase} is not symmetric; expected equal entries (i, j) and (j, i)"
        )
    values = 0.5 * (values + turned)
    least = np.linalg.eigvalsh(values)[..., 0]
    if np.any(least <= 0):
        phase = int(np.argwhere(least <= 0)[0, -1])
        raise InvalidInputError(
            f"stiffness of phase {phase} has the eigenvalue {least[least <= 0][0]:g}; "
            "expected a positive definite matrix"
        )
    return image, values


def reference(image: NDArray[np.int64], values: FloatArray) -> Reference:
    """Reference media for (n, ...) labels and phases (n, p, 6, 6).

    Geometric mean of the arithmetic and the harmonic mean of the phases that are there, each
    counted once: of two phases A and B that is A # B, from which both are equally far.
    """
    flat = image.reshape(len(image), -1)
    there = np.stack([np.bincount(row, minlength=values.shape[1]) > 0 for row in flat])
    return middle(values, there / there.sum(1, keepdims=True))


def middle(values: FloatArray, weights: FloatArray) -> Reference:
    """As ``reference`` for matrices (n, p, 6, 6) with weights (n, p) of sum 1; 0 is absent."""
    arithmetic = np.einsum("np,npij->nij", weights, values)
    harmonic = _inverse(np.einsum("np,npij->nij", weights, _inverse(values)))
    matrix = geometric_mean(harmonic, arithmetic)
    root = np.linalg.inv(np.linalg.cholesky(matrix))[:, None]
    relative = np.linalg.eigvalsh(root @ values @ root.swapaxes(-1, -2))
    low = np.where(weights > 0, relative[..., 0], np.inf).min(1)
    high = np.where(weights > 0, relative[..., -1], 0.0).max(1)
    return Reference(matrix, low, high)


def _inverse(matrices: FloatArray) -> FloatArray:
    inverse = np.linalg.inv(matrices)
    symmetric: FloatArray = 0.5 * (inverse + inverse.swapaxes(-1, -2))
    return symmetric
