"""Alloy descriptors: what the literature computes from a composition to tell alloys apart.

All are functions of the atomic fractions x_i and of data of the pure elements, from pymatgen's
tables. Overbars are means weighted by x_i; "spread" is the weighted standard deviation.

    mixing entropy                -R sum x_i ln x_i, of the ideal solution. J. W. Yeh et al., Adv.
                                  Eng. Mater. 6, 299 (2004)
    valence electrons per atom    sum x_i VEC_i, d electrons counted: the group number of groups 1
                                  to 12, less ten of groups 13 to 18, 3 of the f block. S. Guo,
                                  C. Ng, J. Lu, C. T. Liu, J. Appl. Phys. 109, 103505 (2011)
    radius mismatch               100 sqrt(sum x_i (1 - r_i / r_mean)^2). Y. Zhang et al., Adv. Eng.
                                  Mater. 10, 534 (2008)
    electronegativity difference  sqrt(sum x_i (chi_i - chi_mean)^2), Pauling's scale; as the radius
                                  mismatch there
    melting temperature           sum x_i T_i, the rule of mixtures of X. Yang, Y. Zhang, Mater.
                                  Chem. Phys. 132, 233 (2012)
    density                       sum x_i M_i / sum x_i V_i, additive atomic volumes
    modulus mismatch              100 sqrt(sum x_i (1 - E_i / E_mean)^2), of Young's moduli

The mixing enthalpy and with it Omega = T_m S_mix / |H_mix| are not here: they need a table of
binary enthalpies (A. Takeuchi, A. Inoue, Mater. Trans. 46, 2817, 2005), which pymatgen has not.

Radii are metallic ones (coordination number 12); Si, C and B, which have none, take Slater's
empirical radius (J. C. Slater, J. Chem. Phys. 41, 3199, 1964). Another table of radii gives
another mismatch: compare values of one source only.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from loop.composition import closure
from loop.errors import InvalidInputError, unknown_name
from loop.formula import check_symbol

FloatArray = NDArray[np.float64]
Missing = Literal["refuse", "leave_out"]

GAS_CONSTANT = 8.31446261815324  # J / (mol K)

# Name -> unit; the order of the columns.
DESCRIPTORS: Mapping[str, str] = {
    "mixing_entropy_J_per_molK": "J/(mol K)",
    "valence_electrons_per_atom": "1",
    "valence_electron_spread": "1",
    "mean_radius_pm": "pm",
    "radius_mismatch_percent": "%",
    "mean_electronegativity": "1",
    "electronegativity_difference": "1",
    "melting_temperature_K": "K",
    "molar_volume_cm3_per_mol": "cm3/mol",
    "density_g_per_cm3": "g/cm3",
    "youngs_modulus_GPa": "GPa",
    "youngs_modulus_mismatch_percent": "%",
}

_DATA: Mapping[str, str] = {
    "mass": "atomic mass",
    "valence": "group",
    "radius": "metallic or atomic radius",
    "electronegativity": "electronegativity",
    "melting": "melting point",
    "volume": "molar volume",
    "modulus": "Young's modulus",
}


@cache
def _element(symbol: str) -> dict[str, float]:
    """Data of one element by the names of _DATA; nan where pymatgen knows nothing."""
    from pymatgen.core import Element

    check_symbol(symbol, "descriptors")
    element = Element(symbol)

    def number(value: object) -> float:
        return math.nan if value is None else float(value)  # type: ignore[arg-type]

    with warnings.catch_warnings():  # pymatgen warns of every gap; a gap is a nan here
        warnings.simplefilter("ignore")
        radius = number(element.metallic_radius)
        if math.isnan(radius):
            radius = number(element.atomic_radius)
        group = 3 if element.is_lanthanoid or element.is_actinoid else int(element.group)
        return {
            "mass": number(element.atomic_mass),
            "valence": float(group if group <= 12 else group - 10),
            "radius": 100.0 * radius,  # Å -> pm
            "electronegativity": number(element.X),
            "melting": number(element.melting_point),
            "volume": number(element.molar_volume),
            "modulus": number(element.youngs_modulus),
        }


class _Alloys:
    """Fractions (n, e) of alloys, and means over the elements that have a datum."""

    def __init__(self, x: FloatArray, elements: Sequence[str], missing: Missing) -> None:
        self.x, self.elements, self.missing = x, tuple(elements), missing

    def _column(self, *names: str) -> tuple[FloatArray, list[FloatArray]]:
        """Fractions closed over the elements that have all the data, and the data, (e,) each."""
        data = [np.array([_element(s)[name] for s in self.elements]) for name in names]
        gaps = np.isnan(data).any(0)
        if not gaps.any():
            return self.x, data
        present = gaps & (self.x > 0).any(0)
        if present.any() and self.missing == "refuse":
            at = int(np.argmax(present))
            lacking = next(n for n, d in zip(names, data, strict=True) if np.isnan(d[at]))
            raise InvalidInputError(
                f"element {self.elements[at]} has no {_DATA[lacking]} in pymatgen's tables; leave "
                'the element or the descriptor out, or pass missing="leave_out" for the mean over '
                "the other elements"
            )
        known = np.where(gaps, 0.0, self.x)
        if (known.sum(1) <= 0).any():
            row = int(np.argmax(known.sum(1) <= 0))
            raise InvalidInputError(
                f"alloy number {row} consists of elements without {_DATA[names[0]]} in pymatgen's "
                "tables; leave the alloy or the descriptor out"
            )
        return closure(known), [np.where(gaps, 1.0, d) for d in data]

    def mean(self, name: str) -> FloatArray:
        x, (values,) = self._column(name)
        found: FloatArray = x @ values
        return found

    def spread(self, name: str) -> FloatArray:
        x, (values,) = self._column(name)
        # Centred first, so that a pure element has exactly 0.
        found: FloatArray = np.sqrt((x * (values - (x @ values)[:, None]) ** 2).sum(1))
        return found

    def mismatch(self, name: str) -> FloatArray:
        return 100.0 * self.spread(name) / self.mean(name)

    def entropy(self) -> FloatArray:
        logs = np.log(np.where(self.x > 0, self.x, 1.0))
        found: FloatArray = -GAS_CONSTANT * (self.x * logs).sum(1)
        return found + 0.0  # no negative zero

    def density(self) -> FloatArray:
        x, (mass, volume) = self._column("mass", "volume")
        found: FloatArray = (x @ mass) / (x @ volume)
        return found


_RULES: Mapping[str, Callable[[_Alloys], FloatArray]] = {
    "mixing_entropy_J_per_molK": lambda a: a.entropy(),
    "valence_electrons_per_atom": lambda a: a.mean("valence"),
    "valence_electron_spread": lambda a: a.spread("valence"),
    "mean_radius_pm": lambda a: a.mean("radius"),
    "radius_mismatch_percent": lambda a: a.mismatch("radius"),
    "mean_electronegativity": lambda a: a.mean("electronegativity"),
    "electronegativity_difference": lambda a: a.spread("electronegativity"),
    "melting_temperature_K": lambda a: a.mean("melting"),
    "molar_volume_cm3_per_mol": lambda a: a.mean("volume"),
    "density_g_per_cm3": lambda a: a.density(),
    "youngs_modulus_GPa": lambda a: a.mean("modulus"),
    "youngs_modulus_mismatch_percent": lambda a: a.mismatch("modulus"),
}


def descriptors(
    x: ArrayLike,
    elements: Sequence[str],
    names: Sequence[str] = tuple(DESCRIPTORS),
    *,
    missing: Missing = "refuse",
) -> FloatArray:
    """Descriptors of alloys: atomic fractions (n, e) -> (n, d), columns in the order of ``names``.

    Rows are closed to sum 1 first; units are those of ``DESCRIPTORS``. ``missing``: what to do
    with an element that an alloy contains and pymatgen has no datum of: refuse it, or leave it out
    of that descriptor, the fractions of the others closed to 1.
    Raises InvalidInputError for another shape, amounts that are no composition, an unknown
    element or descriptor, and a datum that is missing.
    """
    amounts = np.asarray(x, dtype=np.float64)
    if amounts.ndim != 2 or amounts.shape[1] != len(elements):
        raise InvalidInputError(
            f"compositions have shape {amounts.shape}; expected (n, {len(elements)}), one column "
            "per element"
        )
    for name in names:
        if name not in _RULES:
            raise InvalidInputError(unknown_name("descriptor", name, DESCRIPTORS))
    for symbol in elements:
        check_symbol(symbol, "descriptors")
    alloys = _Alloys(closure(amounts), elements, missing)
    found: FloatArray = np.empty((len(amounts), len(names)))
    for column, name in enumerate(names):
        found[:, column] = _RULES[name](alloys)
    return found
