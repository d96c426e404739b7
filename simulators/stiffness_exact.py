"""Closed forms for elastic composites, against which the solvers are checked.

Stiffness matrices are (6, 6) in Voigt's order, see ``stiffness_tensors``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from simulators.stiffness_tensors import VOIGT, isotropic_stiffness, to_strain, to_tensor

FloatArray = NDArray[np.float64]


def laminate(fractions: ArrayLike, stiffness: ArrayLike, normal: ArrayLike) -> FloatArray:
    """Stiffness (6, 6) of layers of anisotropic phases (p, 6, 6), any normal (3,).

    Inside a layer the strain is E + sym(a n): the traction t = n . C (E + a n) is common to all
    and the a average to 0. Source: G. W. Milton, The Theory of Composites, 2002, section 9.2.
    """
    f, c = np.asarray(fractions, dtype=np.float64), np.asarray(stiffness, dtype=np.float64)
    n = np.asarray(normal, dtype=np.float64)
    n = n / np.linalg.norm(n)
    jump = np.zeros((6, 3))  # engineering strain of sym(a n) from a
    for i in range(3):
        for j in range(3):
            jump[VOIGT[i][j], i] += n[j]
    along = c @ jump  # (p, 6, 3): traction, transposed
    soft = np.linalg.inv(jump.T @ along)  # inverse acoustic tensors
    total = np.linalg.inv(np.einsum("p,pij->ij", f, soft))
    traction = total @ np.einsum("p,pij,pkj->ik", f, soft, along)  # t = traction . E
    amplitudes = soft @ (traction - along.swapaxes(1, 2))  # a = amplitudes . E
    found = np.einsum("p,pij->ij", f, c) + np.einsum("p,pik,pkj->ij", f, along, amplitudes)
    result: FloatArray = 0.5 * (found + found.T)
    return result


def equal_shear(fractions: ArrayLike, bulk: ArrayLike, shear: float) -> FloatArray:
    """Stiffness (6, 6) of any geometry when all isotropic phases share one shear modulus.

    1 / (K* + 4 G / 3) = mean of 1 / (K + 4 G / 3), and G* = G: every such body is isotropic.
    Source: R. Hill, J. Mech. Phys. Solids 11, 357 (1963).
    """
    f, k = np.asarray(fractions, dtype=np.float64), np.asarray(bulk, dtype=np.float64)
    return isotropic_stiffness(1 / (f / (k + 4 * shear / 3)).sum() - 4 * shear / 3, shear)


def levin_expansion(
    effective: ArrayLike, stiffness: ArrayLike, expansion: ArrayLike, fractions: ArrayLike
) -> FloatArray:
    """Thermal expansion (3, 3) of two phases from their effective stiffness (6, 6), exact.

    alpha* = <alpha> + (alpha_2 - alpha_1) (S_2 - S_1)^-1 (S* - <S>) for phases (2, 6, 6) with
    expansions (2,) or (2, 3, 3). Sources: V. M. Levin, Mech. Solids 2, 58 (1967) (isotropic); B. W.
    Rosen and Z. Hashin, Int. J. Eng. Sci. 8, 157 (1970) (any anisotropy).
    """
    f = np.asarray(fractions, dtype=np.float64)
    alpha = np.asarray(expansion, dtype=np.float64)
    alpha = alpha[:, None, None] * np.eye(3) if alpha.ndim == 1 else alpha
    strains = to_strain(alpha)
    s = np.linalg.inv(np.asarray(stiffness, dtype=np.float64))
    change = np.linalg.inv(np.asarray(effective, dtype=np.float64)) - np.einsum("p,pij->ij", f, s)
    # Where the phases share a modulus the difference is singular, and the change vanishes there.
    weights = np.linalg.pinv(s[1] - s[0], rcond=1e-12) @ (strains[1] - strains[0])
    return to_tensor(f @ strains + change @ weights, strain=True)


def hashin_shtrikman(
    fractions: ArrayLike, bulk: ArrayLike, shear: ArrayLike
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Bounds on (K, G) of an isotropic body of isotropic phases: (lower pair, upper pair).

    K = (sum f / (K_i + 4 G_0 / 3))^-1 - 4 G_0 / 3 and G alike with G_0 (9 K_0 + 8 G_0) /
    (6 (K_0 + 2 G_0)), where K_0 and G_0 are the least or the greatest moduli present; they need
    not be of one phase. The bounds on K hold for cubic symmetry too.
    Sources: Z. Hashin and S. Shtrikman, J. Mech. Phys. Solids 11, 127 (1963); L. J. Walpole, J.
    Mech. Phys. Solids 14, 151 (1966).
    """
    f = np.asarray(fractions, dtype=np.float64)
    there = f > 0
    k = np.asarray(bulk, dtype=np.float64)[there]
    g = np.asarray(shear, dtype=np.float64)[there]
    f = f[there]

    def pair(k0: float, g0: float) -> tuple[float, float]:
        own = 4 * g0 / 3
        zeta = g0 * (9 * k0 + 8 * g0) / (6 * (k0 + 2 * g0))
        return float(1 / (f / (k + own)).sum() - own), float(1 / (f / (g + zeta)).sum() - zeta)

    return pair(float(k.min()), float(g.min())), pair(float(k.max()), float(g.max()))


def dilute_spheres(
    fraction: float, bulk: tuple[float, float], shear: tuple[float, float]
) -> tuple[float, float]:
    """(K, G) of spheres (second modulus) in a matrix, right to first order in the fraction.

    By the mean-field sum with Eshelby's strain in a sphere, K and G as the Hashin-Shtrikman bound
    of the matrix. Sources: J. D. Eshelby, Proc. R. Soc. A 241, 376 (1957); T. Mori and K. Tanaka,
    Acta Metall. 21, 571 (1973).
    """
    f = np.array([1 - fraction, fraction])
    k, g = np.asarray(bulk), np.asarray(shear)
    own = 4 * g[0] / 3
    zeta = g[0] * (9 * k[0] + 8 * g[0]) / (6 * (k[0] + 2 * g[0]))
    return float(1 / (f / (k + own)).sum() - own), float(1 / (f / (g + zeta)).sum() - zeta)


def dilute_cylinders(
    fraction: float, bulk: tuple[float, float], shear: tuple[float, float]
) -> tuple[float, float]:
    """(plane-strain bulk modulus, shear modulus along the axis) of aligned circular fibres.

    k = K + G / 3: 1 / (k* + G_1) = mean of 1 / (k + G_1) and 1 / (G* + G_1) = mean of
    1 / (G + G_1), right to first order in the fraction.
    Sources: R. Hill, J. Mech. Phys. Solids 12, 199 (1964); Z. Hashin and B. W. Rosen, J. Appl.
    Mech. 31, 223 (1964).
    """
    f = np.array([1 - fraction, fraction])
    k, g = np.asarray(bulk) + np.asarray(shear) / 3, np.asarray(shear)
    return (
        float(1 / (f / (k + g[0])).sum() - g[0]),
        float(1 / (f / (g + g[0])).sum() - g[0]),
    )


def corner_exponent(bulk: tuple[float, float], shear: tuple[float, float]) -> float:
    """How fast displacements grow from a right-angled corner in plane strain, u ~ r^exponent.

    The second phase fills a quarter of the plane, the first the rest, bonded. The least real
    exponent below 1 for which the two wedges' eight functions r^(m + 1) {sin, cos}((m +- 1) angle)
    fit together; 1 if there is none. On grids of width h energies are then wrong by
    O(h^(2 exponent)). Sources: M. L. Williams, J. Appl. Mech. 19, 526 (1952); D. B. Bogy, J. Appl.
    Mech. 38, 377 (1971).
    """
    k, g = np.asarray(bulk, dtype=np.float64), np.asarray(shear, dtype=np.float64)
    kappa = (3 * k + 7 * g) / (3 * k + g)  # 3 - 4 nu
    scale = float(np.sqrt(g[0] * g[1]))

    def side(m: float, angle: float, phase: int) -> FloatArray:
        """Displacements and traction (4, 4) on a ray, of the phase's four functions."""
        s, c = np.sin((m + 1) * angle), np.cos((m + 1) * angle)
        s1, c1 = np.sin((m - 1) * angle), np.cos((m - 1) * angle)
        f = np.array([s, c, s1, c1])
        slope = np.array([(m + 1) * c, -(m + 1) * s, (m - 1) * c1, -(m - 1) * s1])
        outward = -(m + 1) * f + (kappa[phase] + 1) * np.array([0, 0, s1, c1])
        around = -slope - (kappa[phase] + 1) * np.array([0, 0, c1, -s1])
        soft = scale / (2 * g[phase])
        return np.stack((outward * soft, around * soft, (m + 1) * f, slope))

    def mismatch(m: float) -> float:
        corner = np.block(
            [
                [side(m, np.pi / 2, 1), -side(m, np.pi / 2, 0)],
                [side(m, 0.0, 1), -side(m, 2 * np.pi, 0)],
            ]
        )
        return float(np.linalg.det(corner))

    grid = np.linspace(0.3, 0.995, 400)
    values = np.array([mismatch(m) for m in grid])
    changes = np.flatnonzero(np.sign(values[1:]) != np.sign(values[:-1]))
    if not changes.size:
        return 1.0
    first = int(changes[0])
    return float(brentq(mismatch, grid[first], grid[first + 1], xtol=1e-12))
