"""Units of properties: as a name carries them, as people type them, as they are printed.

The name of a property ends with its unit, ``fracture_toughness_MPa_m05``. This is the one table of
these endings; headers, work lists, the page and the limits of measured values go by it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from loop.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class Unit:
    """``typed``: in letters that every keyboard has; ``printed``: for people to read."""

    typed: str
    printed: str


def _same(*names: str) -> dict[str, Unit]:
    return {name: Unit(name, name) for name in names}


# Ending of a name -> unit. Case matters.
UNITS: Mapping[str, Unit] = {
    **_same("HV", "HB", "HRA", "HRB", "HRC", "HK"),
    **_same("GPa", "MPa", "kPa", "Pa"),
    "MPa_m05": Unit("MPa m0.5", "MPa√m"),
    "g_per_cm3": Unit("g/cm3", "g/cm³"),
    "kg_per_m3": Unit("kg/m3", "kg/m³"),
    "USD_per_kg": Unit("USD/kg", "USD/kg"),
    "W_per_mK": Unit("W/mK", "W m⁻¹ K⁻¹"),
    "S_per_m": Unit("S/m", "S/m"),
    "MS_per_m": Unit("MS/m", "MS/m"),
    "ohm_m": Unit("ohm m", "Ω·m"),
    "uohm_cm": Unit("uohm cm", "µΩ·cm"),
    "eV_per_atom": Unit("eV/atom", "eV/atom"),
    "kJ_per_mol": Unit("kJ/mol", "kJ/mol"),
    "J_per_m2": Unit("J/m2", "J/m²"),
    "J_per_molK": Unit("J/molK", "J mol⁻¹ K⁻¹"),
    "per_K": Unit("1/K", "1/K"),
    "per_px": Unit("1/px", "1/px"),
    "per_nm": Unit("1/nm", "1/nm"),
    "per_um": Unit("1/um", "1/µm"),
    "mm_per_year": Unit("mm/year", "mm/year"),
    "mA_per_cm2": Unit("mA/cm2", "mA/cm²"),
    "A_per_m": Unit("A/m", "A/m"),
    "emu_per_g": Unit("emu/g", "emu/g"),
    **_same("eV", "J", "T", "mT", "K"),
    "degC": Unit("degC", "°C"),
    "percent": Unit("percent", "%"),
    **_same("px", "nm"),
    "um": Unit("um", "µm"),
    "mm": Unit("mm", "mm"),
    "angstrom": Unit("angstrom", "Å"),
    **_same("h", "s"),
}
DIMENSIONLESS = ("1", "-", "–", "")
# Other ways to type them, in small letters and without spaces.
_SPELLINGS = {
    "%": "percent", "vol%": "percent", "vol.%": "percent",
    "°c": "degC", "c": "degC", "ºc": "degC", "å": "angstrom",
    "w/(mk)": "W_per_mK", "w/m/k": "W_per_mK", "wm-1k-1": "W_per_mK",
    "jmol-1k-1": "J_per_molK", "gcm-3": "g_per_cm3", "g/cc": "g_per_cm3", "kgm-3": "kg_per_m3",
    "mpam0.5": "MPa_m05", "mpam^0.5": "MPa_m05", "mpam1/2": "MPa_m05", "mpam^1/2": "MPa_m05",
    "mpa√m": "MPa_m05", "ohmm": "ohm_m", "uohmcm": "uohm_cm", "vickers": "HV",
}  # fmt: skip
_SIGNS = {
    **dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻−", "0123456789--", strict=True)),
    "µ": "u", "μ": "u", "Ω": "ohm", "·": " ", "⋅": " ", "*": " ",
}  # fmt: skip


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
    for suffix, unit in UNITS.items():
        if squeezed in (suffix, re.sub(r"\s", "", unit.typed)):
            return suffix
    made = squeezed.replace("^", "").replace("/", "_per_").replace("%", "percent")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", made):
        raise InvalidInputError(
            f"unit {text!r} cannot be part of a property's name; write it with letters, digits "
            "and /, such as W/mK"
        )
    return made
