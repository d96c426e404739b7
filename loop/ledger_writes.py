"""Inserts of the ledger, inside a transaction that the caller holds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Table, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from loop import tables as t
from loop.candidate import Candidate, Fidelity, Outcome
from loop.errors import LedgerError
from loop.evaluations import FIXED_FIELDS, UNCERTAINTY_PREFIX
from loop.laboratory import overall
from loop.ledger_reads import candidate_keys
from loop.ledger_rows import candidate_row, candidate_values, proposal_values
from loop.targets import Targets


def now() -> str:
    """The time in UTC, ISO 8601 to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def lock_campaign(connection: Connection, campaign: int) -> None:
    """Let writers of one campaign take turns (SQLite: the transaction itself sees to that)."""
    found = select(t.campaign.c.id).where(t.campaign.c.id == campaign).with_for_update()
    if connection.scalar(found) is None:
        raise LedgerError(f"no campaign with number {campaign} in this ledger; prepare it first")


def insert_row(connection: Connection, table: Table, **values: Any) -> int:
    """Add one row; returns its number."""
    key = connection.execute(insert(table).values(**values)).inserted_primary_key
    assert key is not None
    return int(key[0])


def insert_missing(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add the rows whose key is not there yet."""
    if not rows:
        return
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    connection.execute(dialect.insert(table).on_conflict_do_nothing(), list(rows))


def register_fields(connection: Connection, campaign: int, kinds: Mapping[str, str]) -> None:
    """Note names that filters may use. ``kinds``: name -> property, requested, label, …

    Raises LedgerError for a name that already means something else.
    """
    for name, kind in kinds.items():
        if name in FIXED_FIELDS or not name:
            what = "label" if kind == "label" else "property"
            raise LedgerError(
                f"{name!r} cannot name a {what}, the ledger uses it itself; rename it"
            )
    known = select(t.field.c.name, t.field.c.kind)
    clashes = {row.name: row.kind for row in connection.execute(known)}
    for name, kind in kinds.items():
        if clashes.get(name, kind) != kind:
            raise LedgerError(
                f"{name!r} is already the name of a {clashes[name]} value in this ledger; "
                "rename one of the two"
            )
    rows = [{"campaign_id": campaign, "name": n, "kind": k} for n, k in kinds.items()]
    insert_missing(connection, t.field, rows)


def add_proposals(
    connection: Connection,
    campaign: int,
    batch: int,
    candidates: Sequence[Candidate],
    predictions: Iterable[Mapping[str, Any] | None],
) -> None:
    """The rows of a new batch: candidates that are not known yet, proposals, their numbers."""
    insert_missing(connection, t.candidate, [candidate_row(c) for c in candidates])
    keys = candidate_keys(connection, [c.id for c in candidates])
    kinds: dict[str, str] = {}
    values: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []
    for candidate in candidates:
        key = keys[candidate.id]
        for name, value in candidate_values(candidate).items():
            kinds[name] = "candidate"
            values.append({"candidate_key": key, "name": name, "value": value})
        for name, text in candidate.labels.items():
            if kinds.setdefault(name, "label") != "label":
                raise LedgerError(
                    f"{name!r} names a label and a number of the same designs; rename the label"
                )
            labels.append({"candidate_key": key, "name": name, "value": text})
    insert_missing(connection, t.candidate_value, values)
    insert_missing(connection, t.candidate_label, labels)

    rows: list[dict[str, Any]] = []
    numbers: list[dict[str, tuple[str, float]]] = []
    for position, (candidate, predicted) in enumerate(zip(candidates, predictions, strict=True)):
        origin = candidate.origin
        rows.append(
            {
                "batch_id": batch,
                "position": position,
                "candidate_key": keys[candidate.id],
                "elements": candidate.elements,
                "source": origin.source,
                "guidance": origin.guidance,
                "details": origin.details,
                "predicted": predicted,
            }
        )
        numbers.append(proposal_values(origin.details, predicted))
    ids = connection.scalars(
        insert(t.proposal).returning(t.proposal.c.id, sort_by_parameter_order=True), rows
    ).all()
    values = []
    for proposal, named in zip(ids, numbers, strict=True):
        for name, (kind, value) in named.items():
            kinds[name] = kind
            values.append({"proposal_id": proposal, "name": name, "value": value})
    register_fields(connection, campaign, kinds)
    if values:
        connection.execute(insert(t.proposal_value), values)


def add_evaluations(
    connection: Connection,
    campaign: int,
    found: Sequence[tuple[int, Outcome]],
    common: Mapping[str, Any],
    targets: Targets,
    fidelity: Mapping[str, Fidelity],
) -> None:
    """The rows of new outcomes, each with the number of its proposal.

    ``fidelity``: of each property; an evaluation's is that of its values, or of all properties
    where it has none.
    """
    rows: list[dict[str, Any]] = []
    for proposal, outcome in found:
        distance = targets.distance(outcome.values)
        rows.append(
            {
                **common,
                "proposal_id": proposal,
                "fidelity": overall(
                    [fidelity.get(name, "simulated") for name in outcome.values]
                    or fidelity.values()
                ),
                "status": outcome.status,
                "reason": t.plain_text(outcome.reason),
                "diagnostics": outcome.diagnostics,
                "distance": distance if math.isfinite(distance) else None,
                "hit": outcome.status == "ok" and distance == 0.0,
                "evaluated_at": now(),
            }
        )
    ids = connection.scalars(
        insert(t.evaluation).returning(t.evaluation.c.id, sort_by_parameter_order=True), rows
    ).all()
    values: list[dict[str, Any]] = []
    kinds: dict[str, str] = {}
    for evaluation, (_, outcome) in zip(ids, found, strict=True):
        for name in dict.fromkeys((*outcome.values, *outcome.bounds)):
            kinds[name] = "property"
            if name in outcome.uncertainty:
                kinds[UNCERTAINTY_PREFIX + name] = "uncertainty"
            low, high = outcome.bounds.get(name, (None, None))
            values.append(
                {
                    "evaluation_id": evaluation,
                    "name": name,
                    "value": outcome.values.get(name),
                    "low": low,
                    "high": high,
                    "uncertainty": outcome.uncertainty.get(name),
                    "fidelity": fidelity.get(name, "simulated"),
                }
            )
    register_fields(connection, campaign, kinds)
    if values:
        connection.execute(insert(t.property_value), values)
