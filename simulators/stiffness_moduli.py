"""What engineers read off a stiffness matrix: moduli along a direction, anisotropy, averages.

Matrices are (..., 6, 6) in Voigt's order, see ``stiffness_tensors``; moduli have their unit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from loop.errors import InvalidInputError
from simulators.stiffness_tensors import ORDER, SIZE

FloatArray = NDArray[np.float64]


class Moduli(NamedTuple):
    """Isotropic moduli (...) that stand for a matrix.

    ``bulk_voigt``, ``shear_voigt``: of uniform strain, the upper ones; ``bulk_reuss``,
    ``shear_reuss``: of uniform stress, the lower ones; ``bulk``, ``shear``: their means (Hill);
    ``youngs``, ``poisson``: of these.
    """

    bulk_voigt: FloatArray
    shear_voigt: FloatArray
    bulk_reuss: FloatArray
    shear_reuss: FloatArray

    @property
    def bulk(self) -> FloatArray:
        return 0.5 * (self.bulk_voigt + self.bulk_reuss)

    @property
    def shear(self) -> FloatArray:
        return 0.5 * (self.shear_voigt + self.shear_reuss)

    @property
    def youngs(self) -> FloatArray:
        result: FloatArray = 9 * self.bulk * self.shear / (3 * self.bulk + self.shear)
        return result

    @property
    def poisson(self) -> FloatArray:
        k, g = self.bulk, self.shear
        result: FloatArray = (3 * k - 2 * g) / (2 * (3 * k + g))
        return result


def _matrices(stiffness: ArrayLike) -> FloatArray:
    c = np.asarray(stiffness, dtype=np.float64)
    if c.shape[-2:] != (SIZE, SIZE):
        raise InvalidInputError(f"stiffness has shape {c.shape}; expected (..., 6, 6)")
    return c


def unit_tension(direction: ArrayLike) -> FloatArray:
    """Stress (..., 6) of unit tension along the vectors (..., 3), of any length."""
    n = np.asarray(direction, dtype=np.float64)
    length = np.linalg.norm(n, axis=-1, keepdims=True)
    if n.shape[-1:] != (3,) or not np.all(np.isfinite(n)) or not np.all(length > 0):
        raise InvalidInputError(
            f"direction {np.array2string(n, threshold=9)}; expected (..., 3), finite, not 0"
        )
    n = n / length
    return np.stack([n[..., i] * n[..., j] for i, j in ORDER], axis=-1)


def directional_youngs(stiffness: ArrayLike, direction: ArrayLike) -> FloatArray:
    """Young's modulus (...) under uniaxial stress along ``direction`` (..., 3), of any length.

    1 / E = sigma : S : sigma, sigma = n n. Raises InvalidInputError for wrong shapes or a
    direction of no length. Source: J. F. Nye, Physical Properties of Crystals, 1957, chapter 8.
    """
    stress = unit_tension(direction)
    strain = np.linalg.solve(_matrices(stiffness), stress[..., None])[..., 0]
    result: FloatArray = 1 / (stress * strain).sum(-1)
    return result


def poisson_ratio(stiffness: ArrayLike, direction: ArrayLike, transverse: ArrayLike) -> FloatArray:
    """Contraction along ``transverse`` over extension along ``direction``, the pull's, (...).

    Both (..., 3), of any length, and across each other. Raises InvalidInputError otherwise.
    """
    n, m = np.asarray(direction, dtype=np.float64), np.asarray(transverse, dtype=np.float64)
    stress, across = unit_tension(n), unit_tension(m)
    lengths = np.linalg.norm(n, axis=-1) * np.linalg.norm(m, axis=-1)
    if np.any(np.abs((n * m).sum(-1)) > 1e-9 * lengths):
        raise InvalidInputError(
            "the transverse direction is not at right angles to the pull; expected n . m = 0"
        )
    strain = np.linalg.solve(_matrices(stiffness), stress[..., None])[..., 0]
    result: FloatArray = -(across * strain).sum(-1) / (stress * strain).sum(-1)
    return result


def cubic_projection(stiffness: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(C11, C12, C44), (...) each, of the nearest cubic matrix with its cube along the axes.

    Nearest in the sum of squares of the tensor's components: the averages of the three.
    Source: M. Moakher and A. N. Norris, J. Elast. 85, 215 (2006).
    """
    c = _matrices(stiffness)
    c11 = (c[..., 0, 0] + c[..., 1, 1] + c[..., 2, 2]) / 3
    c12 = (c[..., 0, 1] + c[..., 0, 2] + c[..., 1, 2]) / 3
    c44 = (c[..., 3, 3] + c[..., 4, 4] + c[..., 5, 5]) / 3
    return c11, c12, c44


def zener_ratio(stiffness: ArrayLike) -> FloatArray:
    """2 C44 / (C11 - C12) of the ``cubic_projection``, (...): 1 for isotropic bodies."""
    c11, c12, c44 = cubic_projection(stiffness)
    return 2 * c44 / (c11 - c12)


def voigt_reuss_hill(stiffness: ArrayLike) -> Moduli:
    """Moduli of a polycrystal of such grains, equally in all directions.

    Source: R. Hill, Proc. Phys. Soc. A 65, 349 (1952).
    """
    c = _matrices(stiffness)
    s: FloatArray = np.linalg.inv(c).astype(np.float64)

    def sums(m: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        return (
            m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2],
            m[..., 0, 1] + m[..., 0, 2] + m[..., 1, 2],
            m[..., 3, 3] + m[..., 4, 4] + m[..., 5, 5],
        )

    axial, side, shear = sums(c)
    axial_s, side_s, shear_s = sums(s)
    return Moduli(
        bulk_voigt=(axial + 2 * side) / 9,
        shear_voigt=(axial - side + 3 * shear) / 15,
        bulk_reuss=1 / (axial_s + 2 * side_s),
        shear_reuss=15 / (4 * axial_s - 4 * side_s + 3 * shear_s),
    )
