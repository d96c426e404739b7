"""Alloy descriptors: what the literature computes from a composition to tell alloys apart.

All are functions of the atomic fractions x_i and of data of the pure elements, from pymatgen's
tables, or of pairs of them. Means are weighted by x_i; "spread" is the weighted standard deviation.

    mixing entropy                -R sum x_i ln x_i, of the ideal solution. J. W. Yeh et al., Adv.
                                  Eng. Mater. 6, 299 (2004)
    valence electrons per atom    sum x_i VEC_i, d electrons counted: the group number of groups 1
                                  to 12, less ten of groups 13 to 18, 3 of the f block. S. Guo,
                                  C. Ng, J. Lu, C. T. Liu, J. Appl. Phys. 109, 103505 (2011)
    radius mismatch               100 sqrt(sum x_i (1 - r_i / r_mean)^2). Y. Zhang et al., Adv. Eng.
                                  Mater. 10, 534 (2008)
    electronegativity difference  sqrt(sum x_i (chi_i - chi_mean)^2), Pauling's scale. S. Fang et
                                  al., J. Non-Cryst. Solids 321, 120 (2003)
    melting temperature           sum x_i T_i, the rule of mixtures of X. Yang, Y. Zhang, Mater.
                                  Chem. Phys. 132, 233 (2012)
    density                       sum x_i M_i / sum x_i V_i, additive atomic volumes
    modulus mismatch              100 sqrt(sum x_i (1 - E_i / E_mean)^2), of Young's moduli
    mixing enthalpy               sum over pairs 4 H_ij x_i x_j, H_ij of the binary liquid at 50 %
                                  by Miedema's model (``mixing_enthalpies.csv``). A. Takeuchi,
                                  A. Inoue, Mater. Trans. 46, 2817 (2005)
    omega                         T_m S_mix / |H_mix|, melting temperature, entropy and enthalpy as
                                  above (Yang and Zhang). Infinite where the enthalpy is 0; so for a
                                  pure element, which is the limit of less and less of the others.
                                  Therefore not among those that are given unasked
    entropy share                 T_m S_mix / (T_m S_mix + |H_mix|) = omega / (1 + omega), 0 to 1,
                                  and 1 where omega is infinite

Radii are metallic ones (coordination number 12); Si, C and B, which have none, take Slater's
empirical radius (J. C. Slater, J. Chem. Phys. 41, 3199, 1964). Another table of radii gives
another mismatch: compare values of one source only.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Literal, SupportsFloat

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
    "mixing_enthalpy_kJ_per_mol": "kJ/mol",
    "entropy_share": "1",
    "omega": "1",
}
FINITE = tuple(name for name in DESCRIPTORS if name != "omega")

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

    def number(value: SupportsFloat | None) -> float:
        return math.nan if value is None else float(value)

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


@cache
def _pair_table() -> dict[str, dict[str, float]]:
    """H_ij in kJ/mol of 70 elements, both ways round."""
    text = files("loop").joinpath("mixing_enthalpies.csv").read_text(encoding="utf-8")
    table: dict[str, dict[str, float]] = {}
    for line in text.splitlines()[1:]:
        a, b, value = line.split(",")
        table.setdefault(a, {})[b] = table.setdefault(b, {})[a] = float(value)
    return table


class _Alloys:
    """Fractions (n, e) of alloys, and means over the elements that have a datum."""

    def __init__(self, x: FloatArray, elements: Sequence[str], missing: Missing) -> None:
        self.x, self.elements, self.missing = x, tuple(elements), missing

    def _column(self, *names: str) -> tuple[FloatArray, list[FloatArray]]:
        """Fractions closed over the elements that have all the data, and the data, (e,) each."""
        data = [np.array([_element(s)[name] for s in self.elements]) for name in names]
        gaps: NDArray[np.bool_] = np.isnan(np.stack(data)).any(axis=0)
        if not gaps.any():
            return self.x, data
        present = gaps & (self.x > 0).any(0)
        at = int(np.argmax(present if present.any() else gaps))
        lacking = next(n for n, d in zip(names, data, strict=True) if np.isnan(d[at]))
        x = self._closed(gaps, f"{_DATA[lacking]} in pymatgen's tables")
        return x, [np.where(gaps, 1.0, d) for d in data]

    def _closed(self, gaps: NDArray[np.bool_], what: str) -> FloatArray:
        """Fractions over the elements that are no ``gaps`` (e,), closed to 1; refused or left out
        as asked for; ``what`` the gaps are in.
        """
        present = gaps & (self.x > 0).any(0)
        if present.any() and self.missing == "refuse":
            raise InvalidInputError(
                f"element {self.elements[int(np.argmax(present))]} has no {what}; leave "
                'the element or the descriptor out, or pass missing="leave_out" for the mean over '
                "the other elements"
            )
        known = np.where(gaps, 0.0, self.x)
        if (known.sum(1) <= 0).any():
            row = int(np.argmax(known.sum(1) <= 0))
            raise InvalidInputError(
                f"alloy number {row} consists of elements without {what}; leave the alloy or the "
                "descriptor out"
            )
        return closure(known) if present.any() else self.x

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

    def enthalpy(self) -> FloatArray:
        """kJ/mol; exactly 0 for a pure element."""
        table = _pair_table()
        gaps = np.array([symbol not in table for symbol in self.elements])
        x = self._closed(gaps, "mixing enthalpy in the table of Takeuchi and Inoue")
        pairs = np.array(
            [[table.get(a, {}).get(b, 0.0) for b in self.elements] for a in self.elements]
        )
        found: FloatArray = 2.0 * np.einsum("ni,ij,nj->n", x, pairs, x)  # each pair comes twice
        return found

    def solution(self) -> tuple[FloatArray, FloatArray]:
        """T_m S_mix and |H_mix|, kJ/mol."""
        return self.mean("melting") * self.entropy() / 1000.0, np.abs(self.enthalpy())

    def omega(self) -> FloatArray:
        disorder, enthalpy = self.solution()
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(enthalpy > 0, disorder / enthalpy, np.inf)

    def entropy_share(self) -> FloatArray:
        disorder, enthalpy = self.solution()
        with np.errstate(invalid="ignore"):
            return np.where(enthalpy > 0, disorder / (disorder + enthalpy), 1.0)

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
    "mixing_enthalpy_kJ_per_mol": lambda a: a.enthalpy(),
    "entropy_share": lambda a: a.entropy_share(),
    "omega": lambda a: a.omega(),
}


def descriptors(
    x: ArrayLike,
    elements: Sequence[str],
    names: Sequence[str] = FINITE,
    *,
    missing: Missing = "refuse",
) -> FloatArray:
    """Descriptors of alloys: atomic fractions (n, e) -> (n, d), columns in the order of ``names``.

    Rows are closed to sum 1 first; units are those of ``DESCRIPTORS``. ``missing``: what to do
    with an element that an alloy contains and the tables have no datum of: refuse it, or leave it
    out of that descriptor, the fractions of the others closed to 1. Without ``names`` all but
    ``omega``, which may be infinite.
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
