"""A laboratory that knows results already: a table where it has the design, people otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from loop.candidate import Candidate, Origin, Outcome
from loop.composition_table import read_compositions, read_labels_of_rows
from loop.errors import InvalidInputError
from loop.laboratory import Notebook
from loop.space import DesignSpace
from simulators.measured_files import read_number, read_rows

if TYPE_CHECKING:
    from simulators.measured import Laboratory, Replay


def known_designs(path: Path, space: DesignSpace) -> list[Candidate]:
    """The designs of a table of measured ones, in its order.

    Raises InvalidInputError for a table that goes by ids, a space whose designs have images, and
    a process variable or label of the space that is no column: there a row names no design.
    """
    table = read_rows(path, "table")
    if "id" in table.header or space.image_shape is not None or not space.elements:
        raise InvalidInputError(
            f"table {path} cannot be what a campaign starts from: its rows do not say the whole "
            "design; expected columns PHASE:ELEMENT, no column id, and a space without images"
        )
    for name in (*space.process, *space.labels):
        if name not in table.header:
            raise InvalidInputError(
                f"table {path} lacks the column {name!r}, a "
                f"{'process variable' if name in space.process else 'label'} of the space"
            )
    x = read_compositions(path, space.phases, space.elements)
    labels = read_labels_of_rows(path, space.labels)
    return [
        Candidate(
            phases=space.phases,
            elements=space.elements,
            phase_compositions=row,
            process={k: read_number(cells[k], table.where(line, k)) for k in space.process},
            labels={name: texts[i] for name, texts in labels.items()},
            origin=Origin("measured", None, {"line": line}),
        )
        for i, (row, (line, cells)) in enumerate(zip(x, table.rows, strict=True))
    ]


class KnownLaboratory:
    """A Simulator that answers from a table, and of what is not in it asks people.

    ``known``: the designs of the table; a campaign starts from them, as its seeds.
    """

    name = "measured"
    fidelity = "measured"

    def __init__(
        self, table: Replay, people: Laboratory, known: Sequence[Candidate], version: str
    ) -> None:
        self._table, self._people = table, people
        self.known = tuple(known)
        self.version = version
        self.outputs: Mapping[str, str] = people.outputs
        self.limits: Mapping[str, tuple[float, float]] = people.limits

    def consult(self, notebook: Notebook) -> None:
        """Look up in ``notebook`` what the table does not hold."""
        self._people.consult(notebook)

    def evaluate(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        """One outcome per candidate, in order; pending where neither table nor people have it."""
        found = self._table.evaluate(candidates)
        asked = [i for i, outcome in enumerate(found) if outcome.status == "infeasible"]
        told = self._people.evaluate([candidates[i] for i in asked])
        for i, outcome in zip(asked, told, strict=True):
            found[i] = outcome
        return found
