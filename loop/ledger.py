"""The ledger: everything that a campaign planned, found and used; its only lasting state.

Records are only ever added, each call in one transaction. Adding the same content twice is
accepted silently, so that a step may be repeated after a crash; other content under the same
name is a LedgerError. A Ledger may be shared by threads; every process opens its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, select

from loop import ledger_laboratory
from loop import ledger_reads as reads
from loop import tables as t
from loop.candidate import Candidate, Fidelity, Outcome
from loop.database import this_process
from loop.errors import InvalidInputError, LedgerError
from loop.laboratory import Measurement, Told, Wanted
from loop.ledger_reader import Checkpoint, LedgerReader
from loop.ledger_writes import (
    add_evaluations,
    add_proposals,
    insert_row,
    lock_campaign,
    now,
    register_fields,
)
from loop.targets import Targets

__all__ = ["Checkpoint", "Ledger", "LedgerReader"]

# Settings that may change when a campaign is taken up again (campaign.settings_hash leaves them
# out): not worth naming where others differ.
_FREE_SETTINGS = (
    "compute",
    "loop.rounds",
    "loop.budget",
    "loop.stop_hits",
    "loop.stagnation_rounds",
)
# How long a round took is no part of what it found.
_VOLATILE_SUMMARY = frozenset({"seconds"})


class Ledger(LedgerReader):
    """A ledger that can be written, too. Every method may raise LedgerError."""

    def ensure_campaign(
        self,
        name: str,
        *,
        seed: int,
        settings: Mapping[str, Any],
        settings_hash: str,
        data_hash: str,
        versions: Mapping[str, str],
        properties: Sequence[str] = (),
    ) -> int:
        """The campaign's number; made when new. The start and what it uses are noted.

        ``properties``: names that filters know before the first outcome has arrived.
        Raises LedgerError when a campaign of that name began with another seed, other data or
        other settings (but for how long it may run, and where).
        """
        if not 0 <= seed < 2**63:
            raise InvalidInputError(f"campaign seed is {seed}; expected 0 <= seed < 2**63")
        with self._database.write() as connection:
            row = connection.execute(
                select(t.campaign).where(t.campaign.c.name == name).with_for_update()
            ).one_or_none()
            if row is None:
                number = insert_row(
                    connection,
                    t.campaign,
                    name=name,
                    seed=seed,
                    settings_hash=settings_hash,
                    data_hash=data_hash,
                    created_at=now(),
                )
            else:
                number = int(row.id)
                _check_same(connection, row, seed, settings, settings_hash, data_hash)
            newest = connection.execute(
                select(t.run_start).order_by(t.run_start.c.id.desc()).limit(1)
            ).one_or_none()
            if newest is None or (
                newest.campaign_id,
                t.canonical_json(newest.settings),
                t.canonical_json(newest.versions),
            ) != (number, t.canonical_json(settings), t.canonical_json(versions)):
                insert_row(
                    connection,
                    t.run_start,
                    campaign_id=number,
                    settings=settings,
                    versions=versions,
                    started_at=now(),
                )
            register_fields(connection, number, dict.fromkeys(properties, "property"))
        return number

    @contextmanager
    def claim(self, campaign: int) -> Iterator[None]:
        """Hold the right to run a campaign; freed when the process ends, however it ends.

        Raises BusyError, naming the holder, when another run has it.
        """

        def busy() -> str:
            with self._database.read() as connection:
                return reads.claim_message(connection, campaign)

        with self._database.exclusive(campaign, busy):
            pid, host = this_process()
            with self._database.write() as connection:
                lock_campaign(connection, campaign)
                insert_row(
                    connection,
                    t.claim,
                    campaign_id=campaign,
                    pid=pid,
                    host=host[:255],
                    claimed_at=now(),
                )
            yield

    def finish(self, campaign: int, reason: str | None) -> None:
        """Note why a campaign stopped; None takes it up again."""
        self._stop(campaign, reason, None)

    def wait(self, campaign: int, what: str) -> None:
        """Note what a campaign waits for that stopped and has not finished."""
        self._stop(campaign, None, what)

    def _stop(self, campaign: int, reason: str | None, waiting: str | None) -> None:
        with self._database.write() as connection:
            lock_campaign(connection, campaign)
            if reads.stopped(connection, campaign) != (reason, waiting):
                values = {"reason": reason, "waiting": waiting, "stopped_at": now()}
                insert_row(connection, t.run_stop, campaign_id=campaign, **values)

    def plan_batch(
        self,
        campaign: int,
        arm: str,
        round: int,  # noqa: A002 - the field's word
        candidates: Sequence[Candidate],
        *,
        predicted: Sequence[Mapping[str, Any] | None] | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Put a batch (it may be empty) on record, in order, with ``details`` of how it was found.

        ``predicted``: per candidate None or property -> {"mean": …, "std": …}, and
        "noise", by which values scatter about the property, where it is known. The origin's
        ``details["requested"]`` (property -> number) becomes fields requested_<property>.
        Raises LedgerError when another batch is on record for this arm and round.
        """
        predictions = list(predicted) if predicted is not None else [None] * len(candidates)
        if len(predictions) != len(candidates):
            raise InvalidInputError(
                f"{len(predictions)} predictions for {len(candidates)} candidates; "
                "expected one each (None where there is none)"
            )
        with self._database.write() as connection:
            lock_campaign(connection, campaign)
            if reads.batch_size(connection, campaign, arm, round) is not None:
                content = [
                    reads.proposal_content(c.id, c.origin, p)
                    for c, p in zip(candidates, predictions, strict=True)
                ]
                if reads.planned_content(connection, campaign, arm, round) != content:
                    raise LedgerError(
                        f"round {round} of arm {arm!r} already has another batch on record; "
                        "what was planned stays as it is"
                    )
                return
            batch = insert_row(
                connection,
                t.batch,
                campaign_id=campaign,
                arm=arm,
                round=round,
                size=len(candidates),
                details=dict(details or {}),
                start_id=reads.newest_start(connection, campaign).id,
                planned_at=now(),
            )
            if candidates:
                add_proposals(connection, campaign, batch, candidates, predictions)

    def add_outcomes(
        self,
        campaign: int,
        arm: str,
        round: int,  # noqa: A002
        positions: Sequence[int],
        outcomes: Sequence[Outcome],
        *,
        simulator: str,
        version: str,
        targets: Targets,
        fidelity: Mapping[str, Fidelity] | None = None,
    ) -> None:
        """Record outcomes of a batch with their distance to the targets and whether they hit.

        A position keeps the outcome it has: the same status, reason, values, bounds, uncertainty,
        simulator and version are accepted again (diagnostics may differ, they hold timings),
        anything else is a LedgerError, and then none of the call is recorded. ``fidelity``: of
        each property; simulated where nothing is said. Raises InvalidInputError for an outcome
        that is pending: it is none yet.
        """
        if len(positions) != len(outcomes) or len(set(positions)) != len(positions):
            raise InvalidInputError(
                f"{len(outcomes)} outcomes for positions {list(positions)}; "
                "expected one outcome per position and each position once"
            )
        if any(outcome.status == "pending" for outcome in outcomes):
            raise InvalidInputError(
                "an outcome is pending; leave its position out until it is known"
            )
        with self._database.write() as connection:
            lock_campaign(connection, campaign)
            proposals = reads.proposal_ids(connection, campaign, arm, round)
            unknown = [position for position in positions if position not in proposals]
            if unknown:
                raise LedgerError(
                    f"round {round} of arm {arm!r} has no position {unknown[0]} "
                    f"({len(proposals)} are planned); plan the batch first"
                )
            known = reads.recorded(connection, [proposals[p] for p in positions])
            fresh: list[tuple[int, Outcome]] = []
            for position, outcome in zip(positions, outcomes, strict=True):
                old = known.get(proposals[position])
                if old is None:
                    fresh.append((proposals[position], outcome))
                elif old != reads.comparable(simulator, version, outcome):
                    raise LedgerError(
                        f"position {position} of round {round}, arm {arm!r}, already has another "
                        f"outcome (by {old[0]} {old[1]}); what was recorded stays as it is"
                    )
            if fresh:
                common = {
                    "start_id": reads.newest_start(connection, campaign).id,
                    "simulator": simulator,
                    "version": version,
                }
                add_evaluations(connection, campaign, fresh, common, targets, fidelity or {})

    def ask(self, campaign: int, wanted: Mapping[str, Mapping[str, Wanted]]) -> None:
        """Put properties (candidate id -> property -> what) on the work list, if not there yet.

        Raises LedgerError for a candidate that is not in the ledger.
        """
        with self._database.write() as connection:
            lock_campaign(connection, campaign)
            ledger_laboratory.add_requests(connection, campaign, wanted)

    def tell(
        self,
        campaign: int,
        results: Iterable[tuple[str, Measurement]],
        *,
        replace: bool = False,
    ) -> Told:
        """Keep results of work that was asked for: all of them in one transaction, or none.

        ``results``: each with where it stands, for messages. A result that was told before alike
        is passed over; a different one takes its place with ``replace``, and records that were
        scored with it stay as they are. Raises InvalidInputError for an id that is not on the
        campaign's work list, a property that is not wanted of it, another unit, a value outside
        the physical range, and a result that contradicts another.
        """
        with self._database.write() as connection:
            lock_campaign(connection, campaign)
            return ledger_laboratory.add_measurements(
                connection, campaign, results, replace=replace
            )

    def add_round(
        self,
        campaign: int,
        arm: str,
        round: int,  # noqa: A002
        summary: Mapping[str, Any],
    ) -> None:
        """Record the summary of a finished round; its ``seconds`` may differ when repeated."""
        with self._database.write() as connection:
            lock_campaign(connection, campaign)
            old = reads.round_summary(connection, campaign, arm, round)
            if old is None:
                insert_row(
                    connection,
                    t.round_summary,
                    campaign_id=campaign,
                    arm=arm,
                    round=round,
                    summary=summary,
                    finished_at=now(),
                )
            elif _lasting(old) != _lasting(summary):
                raise LedgerError(
                    f"round {round} of arm {arm!r} already has another summary; "
                    "what was recorded stays as it is"
                )

    def add_checkpoint(
        self,
        campaign: int,
        arm: str,
        round: int,  # noqa: A002
        kind: str,
        sha256: str,
        path: Path | str,
        metadata: Mapping[str, Any],
    ) -> None:
        """Name the weights that a round uses.

        Training that was cut off may give other weights when it is repeated, so the newest count
        until the round's batch is planned; from then on other weights are a LedgerError.
        """
        with self._database.write() as connection:
            lock_campaign(connection, campaign)
            old = reads.checkpoint_row(connection, campaign, arm, round, kind)
            if old is not None and old.sha256 == sha256:
                return
            if old is not None and reads.batch_size(connection, campaign, arm, round) is not None:
                raise LedgerError(
                    f"round {round} of arm {arm!r} was planned with {kind} {old.sha256[:12]}; "
                    f"{sha256[:12]} cannot take its place"
                )
            insert_row(
                connection,
                t.checkpoint,
                campaign_id=campaign,
                arm=arm,
                round=round,
                kind=kind,
                sha256=sha256,
                path=str(path),
                metadata=metadata,
                saved_at=now(),
            )


def _lasting(summary: Mapping[str, Any]) -> str:
    return t.canonical_json({k: v for k, v in summary.items() if k not in _VOLATILE_SUMMARY})


def _check_same(
    connection: Connection,
    row: Row[Any],
    seed: int,
    settings: Mapping[str, Any],
    settings_hash: str,
    data_hash: str,
) -> None:
    changed = []
    if row.settings_hash != settings_hash:
        old = reads.newest_start(connection, row.id).settings
        changed = _differences(old, settings, "") or [f"hash {row.settings_hash}, {settings_hash}"]
    elif row.seed != seed:
        changed = [f"seed was {row.seed}, is {seed}"]
    elif row.data_hash != data_hash:
        changed = [f"data with hash {row.data_hash[:12]}, is {data_hash[:12]}"]
    if changed:
        raise LedgerError(
            f"campaign {row.name!r} began with other settings or data ({'; '.join(changed[:3])}); "
            "restore them, or give this campaign another name or ledger"
        )


def _differences(old: Any, new: Any, path: str) -> list[str]:
    if path in _FREE_SETTINGS:
        return []
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        found: list[str] = []
        for key in sorted({*old, *new}):
            found += _differences(old.get(key), new.get(key), f"{path}.{key}".strip("."))
        return found
    before, after = t.canonical_json(old), t.canonical_json(new)
    return [] if before == after else [f"{path} was {before[:40]}, is {after[:40]}"]
