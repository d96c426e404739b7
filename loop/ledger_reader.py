"""The reading half of the ledger. Reads never wait for a run that writes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pandas as pd

from loop import evaluations, ledger_laboratory, ledger_reads
from loop.candidate import Candidate, Outcome, Record
from loop.database import Database, open_database
from loop.laboratory import Measurement, Work


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Trained weights: a safetensors file named by its hash."""

    arm: str
    round: int
    kind: str
    sha256: str
    path: Path
    metadata: Mapping[str, Any]


class LedgerReader:
    """What can be asked of a ledger. Every method may raise LedgerError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, url: str | Path, *, create: bool = True) -> Self:
        """Open, and with ``create`` make if missing, the ledger at a path or SQLAlchemy URL.

        An older schema is brought up to date. Raises LedgerError for a missing ledger (without
        ``create``), a newer schema, and what is not a ledger or cannot be read and written.
        """
        return cls(open_database(url, create=create))

    @property
    def url(self) -> str:
        """What `open` takes to open this ledger again; on PostgreSQL it holds the password."""
        return self._database.url

    @property
    def path(self) -> Path | None:
        """The SQLite file, None on PostgreSQL."""
        return self._database.path

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._database.shown!r})"

    def close(self) -> None:
        """Close all connections; the next call would open new ones."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def campaign_id(self, name: str | None = None) -> int:
        """The number of a campaign; of the most recently started one when no name is given.

        Raises LedgerError for an unknown name (the nearest is offered) and an empty ledger.
        """
        with self._database.read() as connection:
            return ledger_reads.campaign_id(connection, name, self._database.shown)

    def campaigns(self) -> pd.DataFrame:
        """One row per campaign.

        Columns: id, name, seed, created_at, started_at, settings_hash, data_hash, rounds
        (finished), planned, evaluations, hits, distinct_hits, finished (why it stopped), waiting
        (for what, where a run stopped for that), asked, told (measurements).
        """
        with self._database.read() as connection:
            return ledger_reads.campaigns(connection)

    def campaign_settings(self, campaign: int) -> dict[str, Any]:
        """The settings of the newest start."""
        with self._database.read() as connection:
            return dict(ledger_reads.newest_start(connection, campaign).settings)

    def campaign_versions(self, campaign: int) -> dict[str, str]:
        """The versions noted at the newest start."""
        with self._database.read() as connection:
            return dict(ledger_reads.newest_start(connection, campaign).versions)

    def finished(self, campaign: int) -> str | None:
        """Why the campaign stopped, None while it has not."""
        with self._database.read() as connection:
            return ledger_reads.stopped(connection, campaign)[0]

    def waiting(self, campaign: int) -> str | None:
        """What a run that stopped waits for, None when it does not."""
        with self._database.read() as connection:
            return ledger_reads.stopped(connection, campaign)[1]

    def work(self, campaign: int, *, told: bool = False) -> list[Work]:
        """Designs that people are asked to measure, in the order of asking.

        With ``told`` also those of which everything has been told.
        """
        with self._database.read() as connection:
            found = ledger_laboratory.work(connection, campaign)
        return [work for work in found if told or work.open]

    def fidelities(self, campaign: int) -> dict[str, set[str]]:
        """Property -> how its values on record were found: simulated, measured, or both."""
        with self._database.read() as connection:
            return ledger_reads.fidelities(connection, campaign)

    def open_requests(self, campaign: int) -> dict[str, int]:
        """Candidate id -> how many of its properties were asked for and are not told, if any."""
        with self._database.read() as connection:
            return ledger_laboratory.open_requests(connection, campaign)

    def unscored(self, campaign: int) -> set[str]:
        """Ids of the designs that are planned and have no outcome."""
        with self._database.read() as connection:
            return ledger_laboratory.unscored(connection, campaign)

    def measurements(self, ids: Sequence[str]) -> dict[str, dict[tuple[str, str], Measurement]]:
        """Candidate id -> (property, unit) -> newest result that was told, in any campaign."""
        with self._database.read() as connection:
            return ledger_laboratory.measurements(connection, ids)

    def is_planned(self, campaign: int, arm: str, round: int) -> bool:  # noqa: A002
        """Whether a batch (it may be empty) is on record."""
        with self._database.read() as connection:
            return ledger_reads.batch_size(connection, campaign, arm, round) is not None

    def planned(self, campaign: int, arm: str, round: int) -> list[Candidate]:  # noqa: A002
        """The batch in its order, with origins; empty when there is none."""
        with self._database.read() as connection:
            return ledger_reads.planned(connection, campaign, arm, round)

    def batch_details(self, campaign: int, arm: str, round: int) -> dict[str, Any]:  # noqa: A002
        """How a batch was found, as given to plan_batch; empty when there is no batch."""
        with self._database.read() as connection:
            return ledger_reads.batch_details(connection, campaign, arm, round)

    def predictions(
        self,
        campaign: int,
        arm: str,
        round: int,  # noqa: A002
    ) -> list[dict[str, dict[str, float]] | None]:
        """What was predicted for a batch, in its order; None where nothing was."""
        with self._database.read() as connection:
            return ledger_reads.predictions(connection, campaign, arm, round)

    def pending(self, campaign: int, arm: str, round: int) -> list[int]:  # noqa: A002
        """Positions of the batch without an outcome, ascending."""
        with self._database.read() as connection:
            return ledger_reads.pending(connection, campaign, arm, round)

    def records(
        self,
        campaign: int,
        *,
        arms: Sequence[str] | None = None,
        rounds: Sequence[int] | None = None,
    ) -> list[Record]:
        """All records (of some arms, of some rounds), ordered by round, arm and position."""
        with self._database.read() as connection:
            return ledger_reads.records(connection, campaign, arms, rounds)

    def cached_outcome(self, candidate_id: str, simulator: str, version: str) -> Outcome | None:
        """The newest outcome of this design by this very simulator, unless it failed."""
        with self._database.read() as connection:
            return ledger_reads.cached_outcome(connection, candidate_id, simulator, version)

    def rounds(self, campaign: int, arm: str | None = None) -> pd.DataFrame:
        """One row per finished round: round, arm, finished_at and the keys of its summary."""
        with self._database.read() as connection:
            return ledger_reads.rounds(connection, campaign, arm)

    def checkpoint(
        self,
        campaign: int,
        arm: str,
        round: int,  # noqa: A002
        kind: str,
    ) -> Checkpoint | None:
        """The weights that a round uses, None when there are none."""
        with self._database.read() as connection:
            row = ledger_reads.checkpoint_row(connection, campaign, arm, round, kind)
        if row is None:
            return None
        return Checkpoint(arm, round, kind, row.sha256, Path(row.path), row._mapping["metadata"])

    def fields(self, campaign: int | None = None) -> dict[str, str]:
        """Names that filters, sorting and columns may use -> "number", "text" or "boolean"."""
        with self._database.read() as connection:
            return evaluations.fields(connection, campaign)

    def evaluations(
        self,
        campaign: int | None = None,
        *,
        where: str | None = None,
        sort: str | None = None,
        descending: bool = False,
        limit: int | None = None,
        offset: int = 0,
        columns: Collection[str] | None = None,
    ) -> pd.DataFrame:
        """One row per planned candidate, of one campaign or all, in evaluation order.

        Columns: id, campaign, arm, round, position, status (``pending`` before the outcome), hit
        (nullable boolean), distance, source, guidance; the properties; uncertainty_<property>
        (standard, of measured values), requested_<property>, predicted_<property>,
        predicted_std_<property>; difference_from_known (of one-phase alloys with a table);
        <phase>.fraction, x_<Element>, <phase>.<Element>, process.<variable>; labels by their own
        names, as text; simulator, version, fidelity, reason, planned_at, evaluated_at. What a
        row lacks is NaN. ``columns`` loads only those.
        ``where``: a filter, see loop.query; blank means all. ``sort``: a field; rows that lack
        it come last either way. Raises InvalidInputError for a bad filter, field or limit.
        """
        with self._database.read() as connection:
            return evaluations.frame(
                connection,
                campaign,
                where=where,
                sort=sort,
                descending=descending,
                limit=limit,
                offset=offset,
                columns=columns,
            )

    def count(self, campaign: int | None = None, *, where: str | None = None) -> int:
        """How many rows `evaluations` has for this filter."""
        with self._database.read() as connection:
            return evaluations.count(connection, campaign, where)

    def candidate(self, id_or_prefix: str) -> Candidate:
        """The candidate whose id begins so, with the origin it first came with.

        Raises LedgerError when there is none, or more than one.
        """
        with self._database.read() as connection:
            return evaluations.candidate(connection, id_or_prefix)

    def candidate_records(self, candidate_id: str) -> pd.DataFrame:
        """Every time a candidate was planned, one row per property (one without, if none).

        Columns: campaign, arm, round, position, status, hit, distance, source, guidance,
        property, value, low, high (bounds), uncertainty (standard), value_fidelity, simulator,
        version, fidelity, reason, planned_at, evaluated_at.
        """
        with self._database.read() as connection:
            return evaluations.candidate_records(connection, candidate_id)
