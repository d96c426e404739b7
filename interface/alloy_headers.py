"""What the headers of a scientist's table say: quantity and unit, element and percent of what.

``Yield strength (MPa)``, ``hardness_HV``, ``Density [g/cm³]`` -> name and unit;
``Al``, ``Al (at.%)``, ``wt% Ni``, ``alloy:Al`` -> element and kind of percent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from loop.errors import InvalidInputError
from loop.formula import SYMBOLS, check_symbol

# Units as they are written behind an underscore in a property's name, and as people write them.
UNITS = {
    "HV": "HV", "HB": "HB", "HRA": "HRA", "HRB": "HRB", "HRC": "HRC", "HK": "HK",
    "GPa": "GPa", "MPa": "MPa", "kPa": "kPa", "Pa": "Pa",
    "g_per_cm3": "g/cm3", "kg_per_m3": "kg/m3", "USD_per_kg": "USD/kg",
    "W_per_mK": "W/mK", "S_per_m": "S/m", "MS_per_m": "MS/m", "ohm_m": "ohm m",
    "uohm_cm": "uohm cm", "J_per_m2": "J/m2", "J_per_molK": "J/molK", "kJ_per_mol": "kJ/mol",
    "eV_per_atom": "eV/atom", "per_K": "1/K", "MPa_m05": "MPa m0.5", "mm_per_year": "mm/year",
    "mA_per_cm2": "mA/cm2", "A_per_m": "A/m", "emu_per_g": "emu/g",
    "eV": "eV", "J": "J", "T": "T", "mT": "mT", "K": "K", "degC": "degC", "percent": "percent",
    "mm": "mm", "um": "um", "nm": "nm", "angstrom": "angstrom", "h": "h", "s": "s",
}  # fmt: skip
DIMENSIONLESS = ("1", "-", "–", "")
_SPELLINGS = {
    "%": "percent", "°c": "degC", "c": "degC", "ºc": "degC", "å": "angstrom",
    "w/(mk)": "W_per_mK", "wm-1k-1": "W_per_mK", "gcm-3": "g_per_cm3", "g/cc": "g_per_cm3",
    "kgm-3": "kg_per_m3", "mpam0.5": "MPa_m05", "mpam^0.5": "MPa_m05", "mpam1/2": "MPa_m05",
    "mpa√m": "MPa_m05", "ohmm": "ohm_m", "uohmcm": "uohm_cm", "vickers": "HV",
}  # fmt: skip
_SIGNS = {
    **dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻−", "0123456789--", strict=True)),
    "µ": "u", "μ": "u", "Ω": "ohm", "·": " ", "⋅": " ", "*": " ",
}  # fmt: skip
_BRACKETS = re.compile(r"^(.*?)\s*[(\[]([^()\[\]]*(?:\([^()]*\)[^()\[\]]*)?)[)\]]\s*(.*)$")
_PERCENT = re.compile(r"(wt|w|mass|at|mol)[\s.]*(?:%|percent|pct|fraction|frac)\.?", re.IGNORECASE)
_UNCERTAINTY = {"uncertainty", "std", "stdev", "sd", "sigma", "error", "err"}
_KINDS = {"uncertainty": "uncertainty", "spread": "spread", "count": "count"}


@dataclass(frozen=True, slots=True)
class Quantity:
    """What a column of numbers holds.

    ``name``: words joined by underscores, without the unit. ``suffix``: the unit as a property's
    name carries it, "" where there is none, None where nothing is said. ``role``: value,
    uncertainty, spread (standard deviation of repeats) or count (of repeats).
    """

    name: str
    suffix: str | None
    role: str

    @property
    def full(self) -> str:
        """As the program names it: ``yield_strength_MPa``."""
        return f"{self.name}_{self.suffix}" if self.suffix else self.name

    @property
    def unit(self) -> str:
        """As a work list writes it: ``g/cm3``, "1" without a unit."""
        if not self.suffix:
            return "1"
        return UNITS.get(self.suffix, self.suffix.replace("_per_", "/").replace("_", " "))


def read_quantity(header: str) -> Quantity:
    """A header of a column of numbers taken apart; see the module's text."""
    text = re.sub(r"±|\+/-|\+-", " uncertainty ", header).strip()
    suffix: str | None = None
    if matched := _BRACKETS.match(text):
        text = f"{matched[1]} {matched[3]}".strip()
        suffix = unit_suffix(matched[2])
    elif matched := re.match(r"^(.*),\s*(\S.*)$", text):
        text, suffix = matched[1], unit_suffix(matched[2])
    words = [w for w in re.split(r"[^\w%°]+|_", text.replace("’", "").replace("'", "")) if w]
    role, kept = "value", []
    for word in words:
        low = word.lower()
        found = "uncertainty" if low in _UNCERTAINTY else _KINDS.get(low)
        if found and len(words) > 1:
            role = found
        else:
            kept.append(word)
    if suffix is None:
        for start in range(1, len(kept)):
            if (unit := "_".join(kept[start:])) in UNITS:
                kept, suffix = kept[:start], unit
                break
    return Quantity("_".join(w.lower() for w in kept), suffix, role)


def unit_suffix(text: str) -> str:
    """A unit as a name carries it: ``g/cm³`` -> ``g_per_cm3``; "" for none.

    Raises InvalidInputError for what cannot stand in a name.
    """
    plain = text.strip()
    if plain in DIMENSIONLESS:
        return ""
    for sign, written in _SIGNS.items():
        plain = plain.replace(sign, written)
    squeezed = re.sub(r"\s", "", plain)
    if (known := _SPELLINGS.get(squeezed.lower())) is not None:
        return known
    for suffix, written in UNITS.items():
        if squeezed in (suffix, re.sub(r"\s", "", written)):
            return suffix
    made = squeezed.replace("^", "").replace("/", "_per_").replace("%", "percent")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", made):
        raise InvalidInputError(
            f"unit {text!r} cannot be part of a property's name; write it with letters, digits "
            "and /, such as W/mK"
        )
    return made


def read_element(header: str) -> tuple[str, str | None] | None:
    """(element, "weight", "atomic" or None where nothing is said) of a column; None for others.

    Raises InvalidInputError for a column that says percent of an element that does not exist.
    """
    kind: str | None = None
    text = header
    if matched := _PERCENT.search(header):
        kind = "weight" if matched[1].lower() in ("wt", "w", "mass") else "atomic"
        text = header[: matched.start()] + " " + header[matched.end() :]
    text = re.sub(r"[()\[\],.%]", " ", text)
    phased = ":" in text
    name = re.sub(r"^[xc]_", "", text.rpartition(":")[2].strip()).strip("_ ")
    if name in SYMBOLS:
        return name, kind
    if phased or (kind is not None and re.fullmatch(r"[A-Z][a-z]?", name)):
        check_symbol(name, f"column {header!r}")
    return None


def percent_of(header: str) -> str:
    """``wt%`` or ``at%`` where a header says it, else ""."""
    matched = _PERCENT.search(header)
    if matched is None:
        return ""
    return "wt%" if matched[1].lower() in ("wt", "w", "mass") else "at%"
