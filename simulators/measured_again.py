"""``measured`` where another simulator gives the property too: a few of the designs are measured.

    [simulators]
    use = ["precipitation-strength", "measured"]

    [simulators.settings.measured]
    confirms = { yield_strength_MPa = "MPa" }
    per_round = 4
    of_seeds = 8

Settings, in the place of ``outputs``:

confirms    property -> unit: what is measured of designs that have been simulated
per_round   how many designs an arm has measured in a round, those that promise most; they count
            among its batch; 4 where it is left out
of_seeds    how many of the seeds are measured, so that the first round knows of the difference; 6
            where it is left out: fewer than about five tell less of it than the model believes
limits      as for ``outputs``
table       path of a table that is played as the laboratory; without it people are asked

How the loop goes about it: ``loop.measuring``.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loop.candidate import Candidate, Outcome
from loop.errors import InvalidCampaignError, unknown_name
from loop.laboratory import Notebook
from loop.space import DesignSpace
from simulators.measured import NAME, Laboratory, Limits, Replay, read_limits
from simulators.measured_table import MeasuredTable

VERSION = "1"  # raise it when the same results would give other outcomes
KEYS = ("confirms", "per_round", "of_seeds", "limits", "table")
PER_ROUND = 4
OF_SEEDS = 6


def create(
    *, space: DesignSpace, settings: Mapping[str, Any], folder: Path | None = None
) -> ConfirmingLaboratory | ConfirmingReplay:
    """The laboratory, or the table that is played as one.

    Raises InvalidCampaignError for settings that cannot be used, InvalidInputError for a table
    that cannot.
    """
    if "outputs" in settings:
        raise InvalidCampaignError(
            f"{NAME}: outputs is what only the laboratory gives, of every design; confirms what a "
            "simulator gives too, of a few; expected one of the two"
        )
    for key in settings:
        if key not in KEYS:
            raise InvalidCampaignError(f"{NAME}: " + unknown_name("key", key, KEYS))
    confirms = settings["confirms"]
    if (
        not isinstance(confirms, Mapping)
        or not confirms
        or not all(isinstance(unit, str) and unit for unit in confirms.values())
    ):
        raise InvalidCampaignError(
            f"{NAME}: confirms is {confirms!r}; expected property = unit of what another simulator "
            'gives, such as { hardness_GPa = "GPa" } ("1" where there is none)'
        )
    per_round = _whole(settings, "per_round", PER_ROUND, least=1)
    of_seeds = _whole(settings, "of_seeds", OF_SEEDS, least=0)
    limits = read_limits(settings.get("limits", {}), confirms)
    if multiprocessing.current_process().daemon:  # as simulators.isolated starts them
        raise InvalidCampaignError(
            f"{NAME}: which designs are measured is decided in the campaign's own process; take "
            f"{NAME} out of simulators.timeout_s"
        )
    place = settings.get("table")
    if place is None:
        return ConfirmingLaboratory(confirms, limits, per_round, of_seeds)
    if not isinstance(place, str):
        raise InvalidCampaignError(f"{NAME}: table is {place!r}; expected the path of a CSV file")
    path = (folder or Path()) / place
    table = MeasuredTable.read(path, space, tuple(confirms), limits)
    return ConfirmingReplay(confirms, limits, per_round, of_seeds, table)


def _whole(settings: Mapping[str, Any], key: str, usual: int, *, least: int) -> int:
    value = settings.get(key, usual)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidCampaignError(
            f"{NAME}: {key} is {value!r}; expected a whole number >= {least}"
        )
    return value


class _Confirming:
    """What both have in common: a simulator without outputs, a ``loop.measuring.Confirming``."""

    name = NAME
    fidelity = "measured"

    def __init__(
        self,
        confirms: Mapping[str, str],
        limits: Limits | None = None,
        per_round: int = PER_ROUND,
        of_seeds: int = OF_SEEDS,
    ) -> None:
        self.outputs: Mapping[str, str] = {}
        self.confirms: Mapping[str, str] = dict(confirms)
        self.limits: Limits = dict(limits or {})
        self.per_round, self.of_seeds = per_round, of_seeds
        self.version = f"{VERSION}-{_digest(sorted(confirms.items()))}"

    def evaluate(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        """Nothing of its own: what it measures is asked for by ``confirm``."""
        return [Outcome("ok") for _ in candidates]


def _digest(what: object) -> str:
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:8]


class ConfirmingLaboratory(_Confirming):
    """People measure; ``confirm`` is pending until they have told all of a design."""

    def __init__(
        self,
        confirms: Mapping[str, str],
        limits: Limits | None = None,
        per_round: int = PER_ROUND,
        of_seeds: int = OF_SEEDS,
    ) -> None:
        super().__init__(confirms, limits, per_round, of_seeds)
        self._people = Laboratory(self.confirms, self.limits)

    def consult(self, notebook: Notebook) -> None:
        """Look results up in ``notebook`` from now on."""
        self._people.consult(notebook)

    def confirm(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        """One outcome per candidate, in order."""
        return self._people.evaluate(candidates)


class ConfirmingReplay(_Confirming):
    """A table answers at once; what it does not hold cannot be measured."""

    def __init__(
        self,
        confirms: Mapping[str, str],
        limits: Limits | None,
        per_round: int,
        of_seeds: int,
        table: MeasuredTable,
    ) -> None:
        super().__init__(confirms, limits, per_round, of_seeds)
        self._replay = Replay(self.confirms, table, self.limits)
        self.version = f"{VERSION}-{_digest([sorted(confirms.items()), table.content_hash])}"

    def confirm(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        """One outcome per candidate, in order."""
        return self._replay.evaluate(candidates)
