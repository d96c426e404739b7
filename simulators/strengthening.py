"""Precipitation strengthening by coherent ordered particles, from their fraction and size.

Model. Spheres of one radius r and volume fraction f on a square lattice in the slip plane:

    L = r sqrt(2 pi / 3 f)           spacing of their centres; r sqrt(2/3) is the mean square radius
    T = line_tension G b^2           of the dislocations; 1/2 by default

Cutting by dislocation pairs, the second of which removes the antiphase boundary that the first one
makes. Weakly coupled pairs (small particles; the leading dislocation bows out by Friedel's
statistics, the trailing one is pulled along by the boundary inside the particles):

    tau_weak = (gamma / 2 b) [ (6 gamma f r / (pi T))^(1/2) - f ]

Strongly coupled pairs (large particles; both dislocations are inside one particle, held apart by
their repulsion, whose uncertain strength is w of order 1):

    tau_strong = (3/2)^(1/2) (G b / r) f^(1/2) w / pi^(3/2) [ 2 pi gamma r / (w G b^2) - 1 ]^(1/2)

It rises to (gamma / b) (3 f / 2 pi)^(1/2) at r = w G b^2 / (pi gamma), where the trailing
dislocation enters when the leading one has come to the middle. In smaller particles the greatest
force is at the middle all the same, and tau_strong keeps that value.

Passing between the particles (Orowan), with Ashby's correction for the mutual attraction of the
arms of the loop, r_s = r sqrt(2/3) the mean radius in the slip plane:

    tau_Orowan = 0.4 G b / (pi (1 - nu)^(1/2)) ln(2 r_s / b) / (L - 2 r_s)

The easiest mechanism decides; the polycrystal yields at M times its shear stress, M after Taylor.

Sources: R. C. Reed, The Superalloys, Cambridge 2006, chapter 2 (both cutting formulas);
L. M. Brown and R. K. Ham in Strengthening Methods in Crystals, 1971; W. Huether and B. Reppich,
Z. Metallkd. 69, 628 (1978); R. W. Kozar et al., Metall. Mater. Trans. A 40, 1588 (2009)
(superalloys, the smallest decides); J. W. Martin, Micromechanisms in Particle-Hardened Alloys,
Cambridge 1980 (Orowan-Ashby).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from loop.errors import InvalidInputError

FloatArray = NDArray[np.float64]
MECHANISMS = ("weak", "strong", "orowan")
ASSUMPTIONS = (
    "spheres of one radius, 3/4 of the mean chord of the precipitates in the image",
    "area fraction taken as volume fraction; particles on a square lattice in the slip plane",
    "sharp interfaces; one kind of particle; room-temperature constants",
    "the easiest of the mechanisms decides; no misfit, modulus, solution or grain-size hardening",
)


@dataclass(frozen=True, slots=True)
class Material:
    """Constants of matrix and particles.

    ``shear_modulus`` of the matrix in GPa; ``burgers_vector`` in nm; ``apb_energy`` of the
    precipitate's antiphase boundary on the slip plane in J/m^2 (None: particles cannot be cut);
    ``poissons_ratio``; ``taylor_factor`` M (3.06 for fcc without texture, G. I. Taylor, J. Inst.
    Met. 62, 307, 1938); ``line_tension``: T / (G b^2); ``repulsion``: w of strongly coupled pairs.
    Raises InvalidInputError for values that are not physical.
    """

    shear_modulus: float
    burgers_vector: float
    apb_energy: float | None = None
    poissons_ratio: float = 0.3
    taylor_factor: float = 3.06
    line_tension: float = 0.5
    repulsion: float = 1.0

    def __post_init__(self) -> None:
        for name in (
            "shear_modulus",
            "burgers_vector",
            "apb_energy",
            "taylor_factor",
            "line_tension",
            "repulsion",
        ):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InvalidInputError(f"{name} is {value}; expected a finite value > 0")
        if not -1 < self.poissons_ratio < 0.5:
            raise InvalidInputError(
                f"poissons_ratio is {self.poissons_ratio}; expected a value between -1 and 0.5"
            )

    @property
    def apb(self) -> float:
        """Antiphase boundary energy in J/m^2; InvalidInputError where there is none."""
        if self.apb_energy is None:
            raise InvalidInputError("cutting needs apb_energy, in J/m^2; without it only orowan")
        return self.apb_energy

    @property
    def pair_width(self) -> float:
        """w G b^2 / (pi gamma) in nm: how far apart a strongly coupled pair is held."""
        return self.repulsion * self.shear_modulus * self.burgers_vector**2 / (math.pi * self.apb)


def _checked(fraction: ArrayLike, radius: ArrayLike) -> tuple[FloatArray, FloatArray]:
    f, r = np.broadcast_arrays(
        np.asarray(fraction, dtype=np.float64), np.asarray(radius, dtype=np.float64)
    )
    if not np.all((f > 0) & (f < 1)):
        raise InvalidInputError("precipitate fraction lies outside (0, 1)")
    if not np.all(np.isfinite(r) & (r > 0)):
        raise InvalidInputError("precipitate radius is not finite and > 0")
    return f, r


def weakly_coupled(fraction: ArrayLike, radius: ArrayLike, material: Material) -> FloatArray:
    """Shear stress in MPa, (...), to cut particles by weakly coupled pairs; at least 0.

    ``fraction``: (...) in (0, 1); ``radius``: (...) in nm. Raises InvalidInputError otherwise.
    """
    f, r = _checked(fraction, radius)
    m, gamma = material, material.apb
    tension = m.line_tension * m.shear_modulus * m.burgers_vector**2  # GPa nm^2 = nN
    # gamma in J/m^2 = GPa nm
    bowed = np.sqrt(6 * gamma * f * r / (math.pi * tension))
    return 1e3 * np.maximum(gamma / (2 * m.burgers_vector) * (bowed - f), 0.0)


def strongly_coupled(fraction: ArrayLike, radius: ArrayLike, material: Material) -> FloatArray:
    """Shear stress in MPa, (...), to cut particles by strongly coupled pairs.

    Arguments as in ``weakly_coupled``. Below ``material.pair_width`` the value at that radius.
    """
    f, r = _checked(fraction, radius)
    m = material
    r = np.maximum(r, m.pair_width)
    line = m.shear_modulus * m.burgers_vector
    inside = 2 * r / m.pair_width - 1
    factor = math.sqrt(1.5) * m.repulsion / math.pi**1.5
    return 1e3 * factor * line / r * np.sqrt(f) * np.sqrt(inside)


def orowan(fraction: ArrayLike, radius: ArrayLike, material: Material) -> FloatArray:
    """Shear stress in MPa, (...), to pass between the particles.

    Arguments as in ``weakly_coupled``. inf where particles touch in the slip plane (f >= pi / 4);
    0 for particles smaller than the dislocation's core (2 r_s <= b).
    """
    f, r = _checked(fraction, radius)
    m = material
    diameter = 2 * math.sqrt(2 / 3) * r
    gap = diameter * (np.sqrt(math.pi / (4 * f)) - 1)
    loop = np.maximum(np.log(diameter / m.burgers_vector), 0.0)
    scale = 0.4 * m.shear_modulus * m.burgers_vector / (math.pi * math.sqrt(1 - m.poissons_ratio))
    with np.errstate(divide="ignore"):
        return 1e3 * np.where(gap > 0, scale * loop / np.where(gap > 0, gap, 1.0), np.inf)


@dataclass(frozen=True, slots=True)
class Strengthening:
    """``stress``: (...) MPa in tension; ``mechanism``: (...) the name of the one that decides;
    ``shear``: mechanism -> (...) MPa of shear stress.
    """

    stress: FloatArray
    mechanism: NDArray[np.str_]
    shear: dict[str, FloatArray]


def precipitation_strengthening(
    fraction: ArrayLike,
    radius: ArrayLike,
    material: Material,
    mechanisms: tuple[str, ...] = MECHANISMS,
) -> Strengthening:
    """The least stress of the ``mechanisms``, times the Taylor factor.

    ``fraction``: (...) in (0, 1); ``radius``: (...) in nm. Raises InvalidInputError for values out
    of range, no mechanism, and where none can act (Orowan alone with touching particles).
    """
    laws = {"weak": weakly_coupled, "strong": strongly_coupled, "orowan": orowan}
    if not mechanisms or set(mechanisms) - set(laws):
        raise InvalidInputError(
            f"mechanisms are {', '.join(mechanisms) or 'none'}; expected some of "
            f"{', '.join(MECHANISMS)}"
        )
    shear = {
        name: laws[name](fraction, radius, material) for name in MECHANISMS if name in mechanisms
    }
    table = np.stack(list(shear.values()))
    least = table.min(0)
    if not np.all(np.isfinite(least)):
        raise InvalidInputError(
            "particles touch in the slip plane (fraction >= 0.785), so no dislocation passes "
            "between them; give apb_energy, so that they can be cut"
        )
    names = np.array(list(shear))
    return Strengthening(material.taylor_factor * least, names[table.argmin(0)], shear)
