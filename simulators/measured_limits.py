"""What is physically possible of a measured quantity, as far as its name and unit tell.

By the unit alone
    Vickers and Knoop hardness to 12,000 (diamond: about 10,000), Brinell to 1,000 (ISO 6506-1 ends
    at 650), Rockwell to the constants of its scales, 100 and 130 (ISO 6508-1: 100 - h/0.002 mm and
    130 - h/0.002 mm); temperatures above absolute zero.
By a word of the name, with the unit
    hardness to 120 GPa, which is 12,000 HV; moduli to 1,300 GPa (diamond along <111>: about 1,200,
    McSkimin & Andreatch 1972, J. Appl. Phys. 43, 2944); strengths to 150 GPa (graphene: 130, Lee et
    al. 2008, Science 321, 385); fracture toughness to 1,000 MPa m^0.5 (CrCoNi at 20 K: about 500,
    Liu et al. 2022, Science 378, 978); mass density from 0.05 (foams) to 25 g/cm3 (osmium: 22.6);
    fractions and porosity from none to all; Poisson's ratio from -1 to 1/2 (isotropic solids).
Others
    quantities that cannot be negative, by a word of the name.

Differences and changes of quantities have none of these limits.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from loop.errors import InvalidInputError
from loop.units import unit_suffix

Span = tuple[float, float]

NOT_NEGATIVE = {
    *("coercivity", "conductivity", "cost", "density", "diameter", "diffusivity", "ductility"),
    *("elongation", "hardness", "life", "lifetime", "modulus", "porosity", "radius"),
    *("resistivity", "roughness", "size", "strength", "thickness", "toughness", "ultimate"),
    *("uts", "viscosity", "yield"),
}
_DIFFERENCES = {"change", "delta", "difference", "error", "misfit", "mismatch", "residual", "shift"}
_ANYTHING: Span = (-math.inf, math.inf)
_POSITIVE: Span = (0.0, math.inf)

_BY_UNIT: Mapping[str, Span] = {
    "HV": (0.0, 12_000.0),
    "HK": (0.0, 12_000.0),
    "HB": (0.0, 1_000.0),
    "HRA": (0.0, 100.0),
    "HRB": (0.0, 130.0),
    "HRC": (0.0, 100.0),
    "K": _POSITIVE,
    "degC": (-273.15, math.inf),
}


def _pressures(greatest_GPa: float) -> dict[str, Span]:
    units = {"GPa": 1.0, "MPa": 1e3, "kPa": 1e6, "Pa": 1e9}
    return {unit: (0.0, greatest_GPa * factor) for unit, factor in units.items()}


_PARTS: Mapping[str, Span] = {"": (0.0, 1.0), "percent": (0.0, 100.0)}
# Words of a name, all of which it has to have -> limits by unit.
_BY_WORDS: tuple[tuple[frozenset[str], Mapping[str, Span]], ...] = (
    (frozenset({"hardness"}), _pressures(120.0)),
    (frozenset({"modulus"}), _pressures(1_300.0)),
    *((frozenset({w}), _pressures(150.0)) for w in ("strength", "ultimate", "uts", "yield")),
    (frozenset({"toughness"}), {"MPa_m05": (0.0, 1_000.0)}),
    (frozenset({"density"}), {"g_per_cm3": (0.05, 25.0), "kg_per_m3": (50.0, 25_000.0)}),
    *((frozenset({w}), _PARTS) for w in ("fraction", "fractions", "porosity")),
    (frozenset({"reduction", "area"}), _PARTS),
    *((frozenset({w, "ratio"}), {"": (-1.0, 0.5)}) for w in ("poisson", "poissons")),
)


def usual_limits(name: str, unit: str) -> Span:
    """Least and greatest value that is physically possible of a property; infinite for no limit.

    ``name``: words joined by underscores, with or without the unit, ``yield_strength_MPa``.
    ``unit``: as people write it, "1" for none.
    """
    words = {re.sub("^(micro|macro|nano)", "", word) for word in name.lower().split("_")}
    if words & _DIFFERENCES:
        return _ANYTHING
    try:
        suffix = unit_suffix(unit)
    except InvalidInputError:  # a unit that no name could carry, so none of those above
        suffix = unit
    if suffix in _BY_UNIT:
        return _BY_UNIT[suffix]
    for needed, spans in _BY_WORDS:
        if needed <= words and suffix in spans:
            return spans[suffix]
    return _POSITIVE if words & NOT_NEGATIVE else _ANYTHING
