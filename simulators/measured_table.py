"""A table of measured designs, looked up by id or by compositions, process variables and labels.

Columns: either id, or PHASE:ELEMENT, process variables and labels; one for each property and, if
known, PROPERTY_uncertainty; one row a design.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loop.candidate import Candidate
from loop.composition_table import read_compositions
from loop.errors import InvalidInputError, unknown_name
from loop.space import DesignSpace
from simulators.measured_files import Rows, read_number, read_rows, read_uncertainty

FloatArray = NDArray[np.float64]

# Atomic fractions nearer than this are the same: tables are printed with six decimals or more.
SAME_FRACTION = 1e-6
SAME_PROCESS = 1e-9  # relative
UNCERTAINTY = "_uncertainty"


@dataclass(frozen=True, slots=True)
class MeasuredRow:
    """What was measured of one design: property -> value, property -> uncertainty or None."""

    line: int
    values: Mapping[str, float]
    uncertainty: Mapping[str, float | None]


class MeasuredTable:
    """Rows of a table that can be found by a candidate.

    ``ids``: of the rows, or None where rows go by ``compositions`` (n, p, e), in the order of the
    space, ``process`` (n, v) and ``labels``, the values of each row in the space's order.
    ``content_hash``: SHA-256 of the file.
    """

    def __init__(
        self,
        space: DesignSpace,
        rows: Sequence[MeasuredRow],
        *,
        ids: Sequence[str] | None,
        compositions: FloatArray,
        process: FloatArray,
        labels: Sequence[tuple[str, ...]],
        content_hash: str,
    ) -> None:
        self.space = space
        self.rows = tuple(rows)
        self.content_hash = content_hash
        self._by_id = None if ids is None else dict(zip(ids, self.rows, strict=True))
        self._x = compositions
        self._process = process
        self._labels = np.array(labels, dtype=np.str_).reshape(len(labels), len(space.labels))

    @staticmethod
    def read(
        path: Path,
        space: DesignSpace,
        properties: Sequence[str],
        limits: Mapping[str, tuple[float, float]] | None = None,
    ) -> MeasuredTable:
        """The table at ``path``; ``limits``: physically possible values of some properties.

        Raises InvalidInputError for a missing column, cells that cannot be read, values outside
        the limits, a design that appears twice, and a table without ids for a space whose designs
        have images: there a composition does not name a design.
        """
        table = read_rows(path, "table")
        if not table.rows:
            raise InvalidInputError(f"table {path} has a header but no rows; add measured designs")
        for name in properties:
            if name not in table.header:
                raise InvalidInputError(
                    f"table {path}: " + unknown_name("column", name, table.header)
                )
        rows = [_row(table, line, cells, properties, limits or {}) for line, cells in table.rows]
        content_hash = hashlib.sha256(path.read_bytes()).hexdigest()
        none = np.zeros((len(rows), 0))
        if "id" in table.header:
            ids = [cells["id"] for _, cells in table.rows]
            _check_ids(path, ids, rows)
            return MeasuredTable(
                space,
                rows,
                ids=ids,
                compositions=none,
                process=none,
                labels=[("",) * len(space.labels)] * len(rows),
                content_hash=content_hash,
            )
        if space.image_shape is not None or not space.elements:
            raise InvalidInputError(
                f"table {path} has no column 'id', and designs of this space have images, which "
                "compositions do not tell apart; add the ids of the designs"
            )
        kinds = [(name, "process variable") for name in space.process]
        for name, kind in [*kinds, *((name, "label") for name in space.labels)]:
            if name not in table.header:
                raise InvalidInputError(
                    f"table {path} lacks the column {name!r}, a {kind} of the space"
                )
        x = read_compositions(path, space.phases, space.elements)
        values = [
            [read_number(cells[name], table.where(line, name)) for name in space.process]
            for line, cells in table.rows
        ]
        process = np.array(values, dtype=np.float64).reshape(len(rows), len(space.process))
        labels = [
            tuple(_label(cells[name], table.where(line, name)) for name in space.labels)
            for line, cells in table.rows
        ]
        found = MeasuredTable(
            space,
            rows,
            ids=None,
            compositions=x,
            process=process,
            labels=labels,
            content_hash=content_hash,
        )
        for i in range(1, len(rows)):
            same = found._same(x[i], process[i], labels[i])[:i]
            if same.any():
                raise InvalidInputError(
                    f"table {path}, lines {rows[int(np.argmax(same))].line} and {rows[i].line} are "
                    "the same design; keep one row, or the mean of both"
                )
        return found

    def find(self, candidate: Candidate) -> tuple[MeasuredRow | None, str]:
        """The candidate's row, or None and the reason, which names the nearest row.

        Raises InvalidInputError for a candidate that is not of the table's space.
        """
        if self._by_id is not None:
            row = self._by_id.get(candidate.id)
            return row, "" if row else f"id {candidate.id} is not among the {len(self.rows)} rows"
        x, process, labels = self._coordinates(candidate)
        same = self._same(x, process, labels)
        if same.any():
            return self.rows[int(np.argmax(same))], ""
        apart = np.abs(self._x - x).max((1, 2))
        nearest = int(np.argmin(apart))
        off = float(apart[nearest])
        where = f"the nearest row, line {self.rows[nearest].line}, "
        if off > SAME_FRACTION:
            return None, f"not in the table: {where}is {off:.3g} away in atomic fraction"
        mine = [f"{k} = {v:g}" for k, v in zip(self.space.process, process, strict=True)]
        mine += [f"{k} = {v}" for k, v in zip(self.space.labels, labels, strict=True)]
        return None, f"not in the table: {where}has the composition, but not {', '.join(mine)}"

    def _same(
        self, x: FloatArray, process: FloatArray, labels: tuple[str, ...]
    ) -> NDArray[np.bool_]:
        """Which rows are the design of compositions x (p, e), process variables (v,) and labels."""
        alike: NDArray[np.bool_] = np.abs(self._x - x).max((1, 2)) <= SAME_FRACTION
        near = np.isclose(self._process, process, rtol=SAME_PROCESS, atol=1e-300)
        named = (self._labels == np.array(labels, dtype=np.str_)).all(1)
        return alike & near.all(1) & named

    def _coordinates(self, candidate: Candidate) -> tuple[FloatArray, FloatArray, tuple[str, ...]]:
        space = self.space
        given = candidate.phase_compositions
        if candidate.phases != space.phases or given is None:
            raise InvalidInputError(
                f"candidate has {'compositions of' if given is not None else 'no compositions,'} "
                f"phases {', '.join(candidate.phases)}; expected compositions of "
                f"{', '.join(space.phases)}"
            )
        x = np.zeros((len(space.phases), len(space.elements)))
        for column, symbol in enumerate(candidate.elements):
            if symbol in space.elements:
                x[:, space.elements.index(symbol)] = given[:, column]
            elif np.any(given[:, column] > 0):
                raise InvalidInputError(
                    f"candidate contains {symbol}, which is not among the space's elements "
                    f"{', '.join(space.elements)}"
                )
        for name in space.process:
            if name not in candidate.process:
                raise InvalidInputError(f"candidate has no process variable {name}")
        for name in space.labels:
            if name not in candidate.labels:
                raise InvalidInputError(f"candidate has no label {name}")
        process = np.array([candidate.process[name] for name in space.process], dtype=np.float64)
        return x, process, tuple(candidate.labels[name] for name in space.labels)


def _label(text: str, where: str) -> str:
    if not text:
        raise InvalidInputError(f"{where}: got nothing; expected the value of that label")
    return text


def _row(
    table: Rows,
    line: int,
    cells: Mapping[str, str],
    properties: Sequence[str],
    limits: Mapping[str, tuple[float, float]],
) -> MeasuredRow:
    values, uncertainty = {}, {}
    for name in properties:
        value = values[name] = read_number(cells[name], table.where(line, name))
        low, high = limits.get(name, (-math.inf, math.inf))
        if not low <= value <= high:
            raise InvalidInputError(
                f"{table.where(line, name)}: {value:g} is outside the physical range "
                f"[{low:g}, {high:g}]; correct the value, or the limits of the simulator"
            )
        column = name + UNCERTAINTY
        uncertainty[name] = read_uncertainty(cells.get(column, ""), table.where(line, column))
    return MeasuredRow(line, values, uncertainty)


def _check_ids(path: Path, ids: Sequence[str], rows: Sequence[MeasuredRow]) -> None:
    first: dict[str, int] = {}
    for id_, row in zip(ids, rows, strict=True):
        if not id_:
            raise InvalidInputError(f"table {path}, line {row.line}, column id: got nothing")
        if id_ in first:
            raise InvalidInputError(
                f"table {path}, lines {first[id_]} and {row.line} have the same id {id_}; keep one"
            )
        first[id_] = row.line
