"""What the headers of a scientist's table say about properties: quantity, unit and role.

``Yield strength (MPa)``, ``hardness_HV``, ``Density [g/cm³]`` -> name and unit. Columns of elements
are in ``interface.alloy_elements``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from loop.units import UNITS, unit_suffix

_BRACKETS = re.compile(r"^(.*?)\s*[(\[]([^()\[\]]*(?:\([^()]*\)[^()\[\]]*)?)[)\]]\s*(.*)$")
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
        known = UNITS.get(self.suffix)
        return known.typed if known else self.suffix.replace("_per_", "/").replace("_", " ")


def read_quantity(header: str) -> Quantity:
    """A header of a column of numbers taken apart; see the module's text.

    Raises InvalidInputError for a unit that cannot stand in a property's name.
    """
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
