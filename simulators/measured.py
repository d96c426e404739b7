"""``measured``: a laboratory as a simulator.

Two ways, by the settings:

folder   ask and tell. Designs that are evaluated and not yet measured go on a work list,
         ``folder/work.csv``, with ids and recipes; results are told by ``Laboratory.tell`` (records
         or a CSV file), are checked whole before any is kept, and last in ``folder/results.csv``.
         A design without all of its results fails with the reason that it is not measured yet.
table    replay. A table of designs that have been measured answers as a laboratory would: a design
         is looked up by its id, or by its compositions and process variables; what the table does
         not hold is infeasible, with the nearest row in the reason.

Settings, its table in the campaign file:

outputs  property -> unit, as { hardness_GPa = "GPa" }; required
folder, table   one of them; required

Uncertainties are standard uncertainties (one standard deviation; BIPM, Guide to the Expression of
Uncertainty in Measurement, 2008) and come with every outcome in its diagnostics.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loop.candidate import Candidate, Outcome
from loop.errors import InvalidCampaignError, InvalidInputError, unknown_name
from loop.space import DesignSpace
from simulators.measured_files import (
    Measurement,
    csv_text,
    png_bytes,
    read_results,
    read_rows,
    recipe_columns,
    results_text,
    write_whole,
)
from simulators.measured_table import MeasuredTable

NAME = "measured"
VERSION = "1"  # raise it when the same results would give other outcomes
KEYS = ("outputs", "folder", "table")


def create(
    *,
    space: DesignSpace,
    settings: Mapping[str, Any],
    device: str = "cpu",  # noqa: ARG001  a laboratory has none
) -> Laboratory | Replay:
    """The laboratory, or the replay, of a design space.

    Raises InvalidCampaignError for settings that cannot be used, InvalidInputError for files that
    cannot.
    """
    for key in settings:
        if key not in KEYS:
            raise InvalidCampaignError(f"{NAME}: " + unknown_name("key", key, KEYS))
    outputs = settings.get("outputs")
    if (
        not isinstance(outputs, Mapping)
        or not outputs
        or not all(isinstance(unit, str) and unit for unit in outputs.values())
    ):
        raise InvalidCampaignError(
            f"{NAME}: outputs is {outputs!r}; expected property = unit, such as "
            '{ hardness_GPa = "GPa" } ("1" where there is none)'
        )
    places = [key for key in ("folder", "table") if settings.get(key) is not None]
    if len(places) != 1 or not isinstance(settings[places[0]], str):
        raise InvalidCampaignError(
            f"{NAME}: expected either folder (a laboratory to ask) or table (results to replay), "
            "as a path"
        )
    if places == ["folder"]:
        return Laboratory(outputs, Path(settings["folder"]))
    return Replay(outputs, MeasuredTable.read(Path(settings["table"]), space, tuple(outputs)))


def _measured(values: Mapping[str, float], uncertainty: Mapping[str, float | None]) -> Outcome:
    return Outcome(
        "ok",
        values,
        diagnostics={"fidelity": "measured", "standard_uncertainty": dict(uncertainty)},
    )


class Replay:
    """A Simulator that answers from a table of measured designs."""

    name = NAME

    def __init__(self, outputs: Mapping[str, str], table: MeasuredTable) -> None:
        self.outputs: Mapping[str, str] = dict(outputs)
        self.table = table
        described = json.dumps([sorted(outputs.items()), table.content_hash])
        self.version = f"{VERSION}-{hashlib.sha256(described.encode()).hexdigest()[:8]}"

    def evaluate(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        """One outcome per candidate, in order; infeasible where the table does not hold it."""
        outcomes = []
        for candidate in candidates:
            try:
                row, reason = self.table.find(candidate)
            except InvalidInputError as error:
                outcomes.append(Outcome.failed(str(error)))
                continue
            if row is None:
                outcomes.append(Outcome("infeasible", reason=reason))
            else:
                outcomes.append(_measured(row.values, row.uncertainty))
        return outcomes


class Laboratory:
    """A Simulator that is asked and told; its files in ``folder`` are all that lasts of it.

    Raises InvalidInputError when the folder's files cannot be read or contradict each other.
    """

    name = NAME

    def __init__(self, outputs: Mapping[str, str], folder: Path) -> None:
        self.outputs: Mapping[str, str] = dict(outputs)
        self.folder = folder
        self._asked: dict[str, dict[str, str]] = {}  # id -> row of the work list
        self._results: dict[tuple[str, str], Measurement] = {}
        if self.work_list.exists():
            rows = read_rows(self.work_list, "work list")
            if "id" not in rows.header:
                raise InvalidInputError(f"work list {self.work_list} lacks the column 'id'")
            self._asked = {row["id"]: dict(row) for _, row in rows.rows}
        if self.results.exists():
            self._results = self._checked(self._read(self.results))
        self.version = self._version()

    @property
    def work_list(self) -> Path:
        """CSV of what is asked for."""
        return self.folder / "work.csv"

    @property
    def results(self) -> Path:
        """CSV of everything that has been told."""
        return self.folder / "results.csv"

    def _version(self) -> str:
        """Tells the results: an outcome of before is not taken for one of now."""
        results = sorted(
            (*key, repr(m.value), repr(m.uncertainty)) for key, m in self._results.items()
        )
        described = json.dumps([sorted(self.outputs.items()), results])
        return f"{VERSION}-{hashlib.sha256(described.encode()).hexdigest()[:8]}"

    def ask(self, candidates: Sequence[Candidate]) -> list[str]:
        """Put candidates on the work list; returns the ids that were not on it, in order.

        Label images are written first, the list last and whole. Raises InvalidInputError when a
        file cannot be written; then nothing has been asked.
        """
        new = {c.id: c for c in candidates if c.id not in self._asked}
        if not new:
            return []
        asked = {**self._asked, **{id_: recipe_columns(c) for id_, c in new.items()}}
        for candidate in new.values():
            if candidate.microstructure is not None:
                write_whole(self.folder / "images" / f"{candidate.id}.png", png_bytes(candidate))
        columns = list(dict.fromkeys(column for row in asked.values() for column in row))
        rows = [[row.get(column, "") for column in columns] for row in asked.values()]
        write_whole(self.work_list, csv_text([columns, *rows]))
        self._asked = asked
        return list(new)

    def pending(self) -> list[tuple[str, str, str]]:
        """(id, property, unit) that were asked for and not told, in the order of asking."""
        return [
            (id_, name, unit)
            for id_ in self._asked
            for name, unit in self.outputs.items()
            if (id_, name) not in self._results
        ]

    def write_form(self, path: Path) -> int:
        """A results file with a row for everything pending, values to be filled in; how many."""
        wanted = self.pending()
        write_whole(path, results_text([], wanted))
        return len(wanted)

    def tell(self, results: Path | Sequence[Measurement]) -> int:
        """Keep results, from a CSV file or as records; returns how many.

        All or none: raises InvalidInputError for an id that was not asked for, a property that is
        not among the outputs, another unit, and a result given twice or told before, naming line
        (or place) and how to mend it.
        """
        if isinstance(results, Path):
            named = self._read(results)
        else:
            named = [(f"result {i}", m) for i, m in enumerate(results, start=1)]
        new = self._checked(named, self._results)
        kept = {**self._results, **new}
        write_whole(self.results, results_text(list(kept.values()), []))
        self._results = kept
        self.version = self._version()
        return len(new)

    def _read(self, path: Path) -> list[tuple[str, Measurement]]:
        return [(f"results {path}, line {line}", m) for line, m in read_results(path)]

    def _checked(
        self,
        named: Sequence[tuple[str, Measurement]],
        known: Mapping[tuple[str, str], Measurement] | None = None,
    ) -> dict[tuple[str, str], Measurement]:
        found: dict[tuple[str, str], Measurement] = {}
        places: dict[tuple[str, str], str] = {}
        for where, m in named:
            if m.id not in self._asked:
                raise InvalidInputError(
                    f"{where}: id {m.id!r} was not asked for ({len(self._asked)} are on "
                    f"{self.work_list}); take the id from the work list"
                )
            if m.property not in self.outputs:
                raise InvalidInputError(
                    f"{where}: " + unknown_name("property", m.property, self.outputs)
                )
            unit = self.outputs[m.property]
            if m.unit != unit:
                raise InvalidInputError(
                    f"{where}: {m.property} is in {m.unit or 'no unit'}; expected {unit}: convert "
                    "value and uncertainty, and write that unit"
                )
            key = (m.id, m.property)
            if key in found:
                raise InvalidInputError(
                    f"{where}: {m.property} of {m.id} is given twice (first in {places[key]}); "
                    "keep one, or the mean of both"
                )
            if known and key in known:
                raise InvalidInputError(
                    f"{where}: {m.property} of {m.id} was told before, as {known[key].value:g} "
                    f"{unit}; leave the row out, or correct it in {self.results}"
                )
            found[key] = m
            places[key] = where
        return found

    def evaluate(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        """One outcome per candidate, in order; what is not measured yet is asked for and fails."""
        outcomes = []
        missing = []
        for candidate in candidates:
            told = {name: self._results.get((candidate.id, name)) for name in self.outputs}
            have = {name: m for name, m in told.items() if m is not None}
            if len(have) == len(told):
                values = {name: m.value for name, m in have.items()}
                outcomes.append(_measured(values, {n: m.uncertainty for n, m in have.items()}))
                continue
            missing.append(candidate)
            lacking = ", ".join(name for name in self.outputs if name not in have)
            outcomes.append(
                Outcome.failed(f"not measured yet: {lacking}; it is on {self.work_list}")
            )
        self.ask(missing)
        return outcomes
