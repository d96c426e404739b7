"""Energy above the convex hull of a user's entries, with pymatgen's PhaseDiagram.

At 0 K: the energy by which a compound lies above the mixture of other entries of least energy at
its composition. Source: S. P. Ong, L. Wang, B. Kang and G. Ceder, Chem. Mater. 20, 1798 (2008).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from loop.errors import InvalidInputError

COLUMNS = ("composition", "energy_eV_per_atom")
Formula = str | Mapping[str, float]


class EnergyHull:
    """The hull over entries (composition, energy in eV per atom).

    A composition is a formula (``"Ni3Al"``) or element -> amount. All energies must come from one
    method and reference. Every element needs an entry of its own: the hull ends there.
    Raises InvalidInputError for entries that cannot be used or an element without an entry.
    """

    def __init__(self, entries: Iterable[tuple[Formula, float]]) -> None:
        from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram

        given = []
        for formula, energy in entries:
            composition = _composition(formula)
            if not isinstance(energy, (int, float)) or not math.isfinite(energy):
                raise InvalidInputError(
                    f"entry {formula!r} has energy {energy!r}; expected a finite number of eV"
                )
            given.append(PDEntry(composition, float(energy) * composition.num_atoms))
        if not given:
            raise InvalidInputError("no entries were given; expected at least one per element")
        elements = {element for entry in given for element in entry.elements}
        alone = {e.elements[0] for e in given if len(e.elements) == 1}
        if missing := sorted(element.symbol for element in elements - alone):
            raise InvalidInputError(
                f"the entries have no pure {', '.join(missing)}; add the element's own energy"
            )
        self.elements = tuple(sorted(element.symbol for element in elements))
        self._diagram = PhaseDiagram(given)

    @classmethod
    def load(cls, path: str | Path) -> EnergyHull:
        """Entries from a file.

        CSV with the columns ``composition`` and ``energy_eV_per_atom``, or JSON: a list of
        pymatgen's computed entries (``composition``, ``energy`` in eV for that many atoms,
        ``correction``), as the Materials Project hands out.
        """
        source = Path(path)
        try:
            if source.suffix.lower() == ".json":
                return cls(_from_json(source))
            table = pd.read_csv(source)
        except OSError as error:
            raise InvalidInputError(
                f"entries {source} cannot be read: {error.strerror or error}"
            ) from None
        except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
            raise InvalidInputError(f"entries {source} are not a table: {error}") from None
        for column in COLUMNS:
            if column not in table.columns:
                raise InvalidInputError(
                    f"{source} has no column {column!r}; expected {', '.join(COLUMNS)}"
                )
        energies = pd.to_numeric(table[COLUMNS[1]], errors="coerce")
        return cls(zip(table[COLUMNS[0]].astype(str), energies.tolist(), strict=True))

    def above(self, formula: Formula, energy_eV_per_atom: float) -> float:
        """Energy of a compound above the hull of the entries, eV per atom.

        Negative where it would be a new stable phase. Raises InvalidInputError for an element that
        the entries do not have.
        """
        if not math.isfinite(energy_eV_per_atom):
            raise InvalidInputError(f"energy is {energy_eV_per_atom}; expected a finite number")
        return float(energy_eV_per_atom) - self.energy(formula)

    def energy(self, formula: Formula) -> float:
        """Least energy that mixtures of the entries reach at a composition, eV per atom."""
        composition = self._known(formula)
        return float(self._diagram.get_hull_energy_per_atom(composition))

    def decomposition(self, formula: Formula) -> dict[str, float]:
        """The entries that make up that mixture: reduced formula -> share of the atoms."""
        found = self._diagram.get_decomposition(self._known(formula))
        return {entry.composition.reduced_formula: float(share) for entry, share in found.items()}

    def _known(self, formula: Formula) -> Any:
        composition = _composition(formula)
        for element in composition.elements:
            if element.symbol not in self.elements:
                raise InvalidInputError(
                    f"{formula!r} contains {element.symbol}, which the entries do not have "
                    f"({', '.join(self.elements)}); add entries with it"
                )
        return composition


def _composition(formula: Formula) -> Any:
    from pymatgen.core import Composition

    try:
        composition = Composition(formula if isinstance(formula, str) else dict(formula))
        elements = composition.elements
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidInputError(f"{formula!r} is no composition: {error}") from None
    if not elements or any(type(element).__name__ != "Element" for element in elements):
        raise InvalidInputError(f"{formula!r} is no composition of elements; give e.g. 'Ni3Al'")
    return composition


def _from_json(source: Path) -> list[tuple[Formula, float]]:
    try:
        data = json.loads(source.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidInputError(f"entries {source} are not JSON: {error}") from None
    found: list[tuple[Formula, float]] = []
    for i, entry in enumerate(data if isinstance(data, list) else [None]):
        if not isinstance(entry, dict) or not {"composition", "energy"} <= entry.keys():
            raise InvalidInputError(
                f"{source}: entry {i} has no composition and energy; expected a list of computed "
                "entries as objects"
            )
        composition = _composition(entry["composition"])
        try:
            total = float(entry["energy"]) + float(entry.get("correction") or 0.0)
        except (TypeError, ValueError):
            raise InvalidInputError(
                f"{source}: entry {i} has energy {entry['energy']!r}; expected a number in eV"
            ) from None
        found.append((entry["composition"], total / float(composition.num_atoms)))
    return found
