"""``measured``: a laboratory as a simulator.

Three ways, by the settings:

without table   ask and tell. Designs that are evaluated and not yet measured are pending; the
                campaign puts them on its work list and waits. What people then tell is kept in
                the ledger, checked whole before any of it is (``loop.ledger``).
table           replay. A table of designs that have been measured answers as a laboratory would,
                at once: a design is looked up by its id, or by its compositions and process
                variables; what the table does not hold is infeasible, with the nearest row in
                the reason.
table and       a campaign that starts from what has been measured: the designs of the table are its
otherwise =     seeds, whose values are known at once, and people are asked for all others
"ask"           (``simulators.measured_known``).

A property that another simulator gives too is ``confirms`` in the place of ``outputs``:
``simulators.measured_again``.

Settings, its table in the campaign file:

outputs   property -> unit, as { hardness_GPa = "GPa" }; required
limits    property -> [least, greatest] that are physically possible; those of quantities that are
          known by their name and unit (``simulators.measured_limits``) need not be given, and what
          is given counts in their place
table     path of the table to replay, or to start from
otherwise "infeasible" (as if it were left out) or "ask": of designs that the table does not hold

Uncertainties are standard uncertainties (one standard deviation; BIPM, Guide to the Expression of
Uncertainty in Measurement, 2008).
"""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loop.candidate import Candidate, Outcome
from loop.errors import InvalidCampaignError, InvalidInputError, unknown_name
from loop.laboratory import AWAITED, Measurement, Notebook
from loop.space import DesignSpace
from simulators.measured_known import KnownLaboratory, known_designs
from simulators.measured_limits import usual_limits
from simulators.measured_table import MeasuredRow, MeasuredTable

if TYPE_CHECKING:
    from simulators.measured_again import ConfirmingLaboratory, ConfirmingReplay

NAME = "measured"
VERSION = "2"  # raise it when the same results would give other outcomes
KEYS = ("outputs", "limits", "table", "otherwise")
OTHERWISE = ("infeasible", "ask")

Limits = Mapping[str, tuple[float, float]]


def create(
    *,
    space: DesignSpace,
    settings: Mapping[str, Any],
    device: str = "cpu",  # noqa: ARG001  a laboratory has none
    folder: Path | None = None,
) -> Laboratory | Replay | KnownLaboratory | ConfirmingLaboratory | ConfirmingReplay:
    """The laboratory, or the replay, of a design space.

    ``folder``: where a relative path of a table starts; the current folder when not given.
    Raises InvalidCampaignError for settings that cannot be used, InvalidInputError for a table
    that cannot.
    """
    if "confirms" in settings:
        from simulators import measured_again  # made of what is here

        return measured_again.create(space=space, settings=settings, folder=folder)
    for key in settings:
        if key not in KEYS:
            raise InvalidCampaignError(f"{NAME}: " + unknown_name("key", key, (*KEYS, "confirms")))
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
    limits = read_limits(settings.get("limits", {}), outputs)
    place = settings.get("table")
    otherwise = settings.get("otherwise", OTHERWISE[0])
    if otherwise not in OTHERWISE:
        raise InvalidCampaignError(
            f"{NAME}: otherwise is {otherwise!r}; expected {' or '.join(map(repr, OTHERWISE))}"
        )
    if place is None and "otherwise" in settings:
        raise InvalidCampaignError(
            f"{NAME}: otherwise says what becomes of designs that a table does not hold; give the "
            "table, or leave otherwise out: without a table people are asked for all designs"
        )
    asks = place is None or otherwise == "ask"
    if asks and multiprocessing.current_process().daemon:  # as simulators.isolated starts them
        raise InvalidCampaignError(
            f"{NAME}: a laboratory that is asked looks results up in the ledger, which a "
            f"process of its own cannot; take {NAME} out of simulators.timeout_s"
        )
    if place is None:
        return Laboratory(outputs, limits)
    if not isinstance(place, str):
        raise InvalidCampaignError(f"{NAME}: table is {place!r}; expected the path of a CSV file")
    path = (folder or Path()) / place
    replay = Replay(outputs, MeasuredTable.read(path, space, tuple(outputs), limits), limits)
    if otherwise != "ask":
        return replay
    version = _version([replay.version, otherwise])
    people = Laboratory(outputs, limits)
    return KnownLaboratory(replay, people, known_designs(path, space), version)


def read_limits(given: Any, outputs: Mapping[str, str]) -> dict[str, tuple[float, float]]:
    """The limits as set, and the usual ones of other outputs; InvalidCampaignError as they come."""
    if not isinstance(given, Mapping):
        raise InvalidCampaignError(
            f"{NAME}: limits is {given!r}; expected property = [least, greatest]"
        )
    found = {name: usual_limits(name, unit) for name, unit in outputs.items()}
    for name, span in given.items():
        if name not in outputs:
            raise InvalidCampaignError(f"{NAME}: limits: " + unknown_name("output", name, outputs))
        numbers = list(span) if isinstance(span, (list, tuple)) else []
        if len(numbers) != 2 or not all(
            isinstance(v, (int, float)) and not isinstance(v, bool) and not math.isnan(v)
            for v in numbers
        ):
            raise InvalidCampaignError(
                f"{NAME}: limits.{name} is {span!r}; expected [least, greatest] (inf for none)"
            )
        if not numbers[0] < numbers[1]:
            raise InvalidCampaignError(
                f"{NAME}: limits.{name} is {span!r}; expected the smaller number first"
            )
        found[name] = (float(numbers[0]), float(numbers[1]))
    return {name: span for name, span in found.items() if span != (-math.inf, math.inf)}


def _version(what: object) -> str:
    return f"{VERSION}-{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:8]}"


class Replay:
    """A Simulator that answers from a table of measured designs."""

    name = NAME
    fidelity = "measured"

    def __init__(self, outputs: Mapping[str, str], table: MeasuredTable, limits: Limits) -> None:
        self.outputs: Mapping[str, str] = dict(outputs)
        self.limits: Limits = dict(limits)
        self.table = table
        self.version = _version([sorted(outputs.items()), table.content_hash])

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
                outcomes.append(_of_row(row))
        return outcomes


def _of_row(row: MeasuredRow) -> Outcome:
    known = {name: u for name, u in row.uncertainty.items() if u is not None}
    return Outcome("ok", row.values, uncertainty=known)


class _Blank:
    """A notebook with nothing in it."""

    def measurements(self, ids: Sequence[str]) -> dict[str, dict[tuple[str, str], Measurement]]:
        return {}


class Laboratory:
    """A Simulator whose values people give; it looks them up in the notebook it consults."""

    name = NAME
    fidelity = "measured"

    def __init__(
        self,
        outputs: Mapping[str, str],
        limits: Limits | None = None,
        notebook: Notebook | None = None,
    ) -> None:
        self.outputs: Mapping[str, str] = dict(outputs)
        self.limits: Limits = dict(limits or {})
        self.version = _version(sorted(outputs.items()))
        self._notebook: Notebook = notebook or _Blank()

    def consult(self, notebook: Notebook) -> None:
        """Look results up in ``notebook`` from now on."""
        self._notebook = notebook

    def evaluate(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        """One outcome per candidate, in order; pending until all of its properties are told."""
        told = self._notebook.measurements([c.id for c in candidates])
        return [self._outcome(told.get(c.id, {})) for c in candidates]

    def _outcome(self, told: Mapping[tuple[str, str], Measurement]) -> Outcome:
        have = {
            name: told[name, unit] for name, unit in self.outputs.items() if (name, unit) in told
        }
        lacking = [name for name in self.outputs if name not in have]
        if lacking:
            return Outcome(
                "pending",
                diagnostics={AWAITED: lacking},
                reason=f"not measured yet: {', '.join(lacking)}",
            )
        return Outcome(
            "ok",
            {name: m.value for name, m in have.items()},
            uncertainty={n: m.uncertainty for n, m in have.items() if m.uncertainty is not None},
        )
