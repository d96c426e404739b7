"""Closed forms for composites, against which the solvers are checked.

Phase quantities are arrays (..., p) in the order of the fractions; x is the layers' normal.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


def laminate_conductivity(fractions: ArrayLike, conductivities: ArrayLike) -> tuple[float, float]:
    """(across, along) the layers of a laminate: harmonic and arithmetic mean."""
    f, k = np.asarray(fractions, dtype=np.float64), np.asarray(conductivities, dtype=np.float64)
    return float(1 / (f / k).sum()), float((f * k).sum())


def laminate_tensor(fractions: ArrayLike, tensors: ArrayLike, normal: ArrayLike) -> FloatArray:
    """Conductivity (m, m) of a laminate of anisotropic phases (p, m, m), any normal (m,).

    Inside a layer the gradient is E + a n: the normal flux J = n . K (E + a n) is common to all
    and the a average to 0. Source: G. W. Milton, The Theory of Composites, 2002, section 9.2.
    """
    f, k = np.asarray(fractions, dtype=np.float64), np.asarray(tensors, dtype=np.float64)
    n = np.asarray(normal, dtype=np.float64)
    n = n / np.linalg.norm(n)
    along = k @ n  # (p, m)
    stiff = along @ n
    flux = (f / stiff) @ along / (f / stiff).sum()  # J = flux . E
    jumps = (flux - along) / stiff[:, None]  # a = jumps . E
    result: FloatArray = np.einsum("p,pij->ij", f, k) + np.einsum("p,pi,pj->ij", f, along, jumps)
    return result


def maxwell_conductivity(
    fraction: float, matrix: float, inclusion: float, dimensions: int = 3
) -> float:
    """Dilute discs (2) or spheres (3), to first order in the fraction.

    (k - k1) / (k + (m - 1) k1) = f (k2 - k1) / (k2 + (m - 1) k1), whose error for a cubic or square
    array begins with a power of f above the second.
    Source: J. C. Maxwell, A Treatise on Electricity and Magnetism, 1873, article 314.
    """
    m = dimensions
    beta = fraction * (inclusion - matrix) / (inclusion + (m - 1) * matrix)
    return matrix * (1 + (m - 1) * beta) / (1 - beta)


def corner_exponent(contrast: float, *, checkerboard: bool) -> float:
    """How fast potentials grow from a corner between two conductors in the plane, u ~ r^exponent.

    Checkerboard: (4 / pi) atan(1 / sqrt(c)); right-angled inclusion: (2 / pi)
    acos((c - 1) / (2 (c + 1))), c >= 1. On grids of width h energies of bilinear fields are then
    wrong by O(h^(2 exponent)). Source: R. B. Kellogg, Appl. Anal. 4, 101 (1974).
    """
    c = max(contrast, 1 / contrast)
    if checkerboard:
        return 4 / math.pi * math.atan(1 / math.sqrt(c))
    return 2 / math.pi * math.acos((c - 1) / (2 * (c + 1)))


def laminate_stiffness(fractions: ArrayLike, bulk: ArrayLike, shear: ArrayLike) -> FloatArray:
    """Stiffness (4, 4) over (xx, yy, xy, zz) of layers normal to x of isotropic phases.

    Source: G. E. Backus, J. Geophys. Res. 67, 4427 (1962).
    """
    f = np.asarray(fractions, dtype=np.float64)
    g = np.asarray(shear, dtype=np.float64)
    lame = np.asarray(bulk, dtype=np.float64) - 2 * g / 3
    axial = lame + 2 * g

    def mean(x: FloatArray) -> float:
        return float((f * x).sum())

    across = 1 / mean(1 / axial)
    side = mean(lame / axial) * across
    along = mean(axial - lame**2 / axial) + side**2 / across
    between = mean(lame - lame**2 / axial) + side**2 / across
    return np.array(
        [
            [across, side, 0, side],
            [side, along, 0, between],
            [0, 0, 1 / mean(1 / g), 0],
            [side, between, 0, along],
        ]
    )


def checkerboard_conductivity(a: float, b: float) -> float:
    """Two-phase checkerboard: sqrt(a b) (A. M. Dykhne, Sov. Phys. JETP 32, 63, 1971)."""
    return math.sqrt(a * b)


def square_array_conductivity(fraction: float, matrix: float, inclusion: float) -> float:
    """Square array of circular inclusions, area fraction below about 0.6.

    Source: W. T. Perrins, D. R. McKenzie and R. C. McPhedran, Proc. R. Soc. A 369, 207 (1979);
    Rayleigh's series to the eighth power of the fraction.
    """
    f = fraction
    t = (matrix + inclusion) / (matrix - inclusion)
    series = t + f - 0.305827 * f**4 * t / (t**2 - 1.402958 * f**8) - 0.013362 * f**8 / t
    return matrix * (1 - 2 * f / series)


def equal_shear_plane_bulk(fractions: ArrayLike, plane_bulk: ArrayLike, shear: float) -> float:
    """Plane-strain bulk modulus of any geometry when all phases share one shear modulus.

    1 / (k* + G) = mean of 1 / (k + G), k = K + G / 3.
    Source: R. Hill, J. Mech. Phys. Solids 12, 199 (1964).
    """
    f, k = np.asarray(fractions, dtype=np.float64), np.asarray(plane_bulk, dtype=np.float64)
    return float(1 / (f / (k + shear)).sum() - shear)
