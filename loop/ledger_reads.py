"""Queries about campaigns, batches, outcomes and records, inside a transaction of the caller."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import pandas as pd
from sqlalchemy import Connection, Row, Select, func, select

from loop import tables as t
from loop.candidate import Candidate, Origin, Outcome, Record
from loop.errors import LedgerError, unknown_name
from loop.ledger_rows import candidate_from_row

# What tells two outcomes apart: simulator, version, status, reason, values, bounds, uncertainty.
Comparable = tuple[
    str, str, str, str, dict[str, float], dict[str, tuple[float, float]], dict[str, float]
]


def chunks(items: Sequence[Any], size: int = 5000) -> Iterator[list[Any]]:
    """Lists short enough to be the parameters of one statement."""
    for start in range(0, len(items), size):
        yield list(items[start : start + size])


def campaign_id(connection: Connection, name: str | None, shown: str) -> int:
    """See Ledger.campaign_id."""
    if name is None:
        newest = select(t.run_start.c.campaign_id).order_by(t.run_start.c.id.desc()).limit(1)
        number = connection.scalar(newest)
        if number is None:
            raise LedgerError(f"ledger {shown} has no campaign yet; `spinodal run` starts one")
        return int(number)
    number = connection.scalar(select(t.campaign.c.id).where(t.campaign.c.name == name))
    if number is None:
        known = connection.scalars(select(t.campaign.c.name)).all()
        raise LedgerError(f"ledger {shown}: {unknown_name('campaign', name, known)}")
    return int(number)


def campaigns(connection: Connection) -> pd.DataFrame:
    """See Ledger.campaigns."""
    c = t.campaign.c

    def per_campaign(what: Any, *joins: Any, where: Any = None) -> Any:
        query = select(what).select_from(t.batch).where(t.batch.c.campaign_id == c.id)
        for table, on in joins:
            query = query.join(table, on)
        return (query if where is None else query.where(where)).scalar_subquery()

    proposals = (t.proposal, t.proposal.c.batch_id == t.batch.c.id)
    evaluations = (t.evaluation, t.evaluation.c.proposal_id == t.proposal.c.id)
    finished_rounds = select(func.count(t.round_summary.c.round.distinct())).where(
        t.round_summary.c.campaign_id == c.id, t.round_summary.c.round > 0
    )
    started = select(func.max(t.run_start.c.started_at)).where(t.run_start.c.campaign_id == c.id)

    def newest_stop(what: Any) -> Any:
        query = select(what).where(t.run_stop.c.campaign_id == c.id)
        return query.order_by(t.run_stop.c.id.desc()).limit(1).scalar_subquery()

    def counted(table: Any) -> Any:
        query = select(func.count(table.c.id)).where(table.c.campaign_id == c.id)
        return query.scalar_subquery()

    hit = t.evaluation.c.hit.is_(True)
    query = select(
        c.id,
        c.name,
        c.seed,
        c.created_at,
        started.scalar_subquery().label("started_at"),
        c.settings_hash,
        c.data_hash,
        finished_rounds.scalar_subquery().label("rounds"),
        per_campaign(func.count(t.proposal.c.id), proposals).label("planned"),
        per_campaign(func.count(t.evaluation.c.id), proposals, evaluations).label("evaluations"),
        per_campaign(func.count(t.evaluation.c.id), proposals, evaluations, where=hit).label(
            "hits"
        ),
        per_campaign(
            func.count(t.proposal.c.candidate_key.distinct()), proposals, evaluations, where=hit
        ).label("distinct_hits"),
        newest_stop(t.run_stop.c.reason).label("finished"),
        newest_stop(t.run_stop.c.waiting).label("waiting"),
        counted(t.request).label("asked"),
        counted(t.measurement).label("told"),
    ).order_by(c.id)
    result = connection.execute(query)
    return pd.DataFrame([tuple(row) for row in result], columns=list(result.keys()))


def newest_start(connection: Connection, campaign: int) -> Row[Any]:
    """The newest row of run_start."""
    query = select(t.run_start).where(t.run_start.c.campaign_id == campaign)
    row = connection.execute(query.order_by(t.run_start.c.id.desc()).limit(1)).one_or_none()
    if row is None:
        raise LedgerError(f"no campaign with number {campaign} in this ledger; prepare it first")
    return row


def stopped(connection: Connection, campaign: int) -> tuple[str | None, str | None]:
    """Why a campaign has finished and what it waits for, at most one of them."""
    stop = t.run_stop.c
    query = select(stop.reason, stop.waiting).where(stop.campaign_id == campaign)
    row = connection.execute(query.order_by(stop.id.desc()).limit(1)).one_or_none()
    return (None, None) if row is None else (row.reason, row.waiting)


def claim_message(connection: Connection, campaign: int) -> str:
    """What to say to a second run."""
    name = connection.scalar(select(t.campaign.c.name).where(t.campaign.c.id == campaign))
    query = select(t.claim).where(t.claim.c.campaign_id == campaign)
    holder = connection.execute(query.order_by(t.claim.c.id.desc()).limit(1)).one_or_none()
    who = (
        "another process"
        if holder is None
        else f"process {holder.pid} on {holder.host} since {holder.claimed_at}"
    )
    return (
        f"campaign {name!r} is being run by {who}; wait until it has finished, or end it and resume"
    )


def batch_size(connection: Connection, campaign: int, arm: str, round_: int) -> int | None:
    """How many candidates are planned, None without a batch."""
    return connection.scalar(_of_batch(select(t.batch.c.size), campaign, arm, round_))


def _of_batch(query: Select[Any], campaign: int, arm: str, round_: int) -> Select[Any]:
    b = t.batch.c
    return query.where(b.campaign_id == campaign, b.arm == arm, b.round == round_)


def planned(connection: Connection, campaign: int, arm: str, round_: int) -> list[Candidate]:
    """See Ledger.planned."""
    query = (
        select(*CANDIDATE_COLUMNS)
        .join_from(t.batch, t.proposal)
        .join(t.candidate)
        .order_by(t.proposal.c.position)
    )
    rows = connection.execute(_of_batch(query, campaign, arm, round_))
    return [candidate_of(row._mapping) for row in rows]


CANDIDATE_COLUMNS = (
    t.candidate.c.id,
    t.candidate.c.phases,
    t.candidate.c.elements,
    t.candidate.c.height,
    t.candidate.c.width,
    t.candidate.c.microstructure,
    t.candidate.c.phase_compositions,
    t.candidate.c.process,
    t.candidate.c.labels,
    t.proposal.c.elements.label("listed"),
    t.proposal.c.source,
    t.proposal.c.guidance,
    t.proposal.c.details,
)


def candidate_of(row: Mapping[Any, Any]) -> Candidate:
    """The candidate of a row of CANDIDATE_COLUMNS, with the origin of that proposal."""
    columns = cast(Mapping[str, Any], row)
    origin = Origin(columns["source"], columns["guidance"], columns["details"])
    return candidate_from_row(columns, origin, columns["listed"])


def proposal_content(
    id_: str, origin: Origin, predicted: Mapping[str, Any] | None
) -> tuple[Any, ...]:
    """What tells two proposals apart."""
    prediction = None if predicted is None else t.canonical_json(predicted)
    return id_, origin.source, origin.guidance, t.canonical_json(origin.details), prediction


def planned_content(
    connection: Connection, campaign: int, arm: str, round_: int
) -> list[tuple[Any, ...]]:
    """`proposal_content` of a batch, in order."""
    p = t.proposal.c
    query = (
        select(t.candidate.c.id, p.source, p.guidance, p.details, p.predicted)
        .join_from(t.batch, t.proposal)
        .join(t.candidate)
        .order_by(p.position)
    )
    return [
        proposal_content(row.id, Origin(row.source, row.guidance, row.details), row.predicted)
        for row in connection.execute(_of_batch(query, campaign, arm, round_))
    ]


def batch_details(connection: Connection, campaign: int, arm: str, round_: int) -> dict[str, Any]:
    """See Ledger.batch_details."""
    found = connection.scalar(_of_batch(select(t.batch.c.details), campaign, arm, round_))
    return dict(found or {})


def predictions(
    connection: Connection, campaign: int, arm: str, round_: int
) -> list[dict[str, dict[str, float]] | None]:
    """See Ledger.predictions."""
    query = select(t.proposal.c.predicted).join_from(t.batch, t.proposal)
    query = query.order_by(t.proposal.c.position)
    return list(connection.scalars(_of_batch(query, campaign, arm, round_)))


def pending(connection: Connection, campaign: int, arm: str, round_: int) -> list[int]:
    """See Ledger.pending."""
    query = (
        select(t.proposal.c.position)
        .join_from(t.batch, t.proposal)
        .outerjoin(t.evaluation)
        .where(t.evaluation.c.id.is_(None))
        .order_by(t.proposal.c.position)
    )
    return list(connection.scalars(_of_batch(query, campaign, arm, round_)))


def proposal_ids(connection: Connection, campaign: int, arm: str, round_: int) -> dict[int, int]:
    """Position -> number of the proposal."""
    query = select(t.proposal.c.position, t.proposal.c.id).join_from(t.batch, t.proposal)
    rows = connection.execute(_of_batch(query, campaign, arm, round_))
    return {row.position: row.id for row in rows}


def candidate_keys(connection: Connection, ids: Sequence[str]) -> dict[str, int]:
    """Id -> key of the candidates that are known."""
    keys: dict[str, int] = {}
    for part in chunks(ids):
        query = select(t.candidate.c.id, t.candidate.c.key).where(t.candidate.c.id.in_(part))
        keys.update((row.id, row.key) for row in connection.execute(query))
    return keys


def comparable(simulator: str, version: str, outcome: Outcome) -> Comparable:
    """What must be the same when an outcome is added again; diagnostics hold timings."""
    found = dict(outcome.values), dict(outcome.bounds), dict(outcome.uncertainty)
    return simulator, version, outcome.status, t.plain_text(outcome.reason), *found


def recorded(connection: Connection, proposals: Sequence[int]) -> dict[int, Comparable]:
    """The outcomes that these proposals have."""
    e = t.evaluation.c
    found: dict[int, Comparable] = {}
    for part in chunks(proposals):
        rows = connection.execute(select(t.evaluation).where(e.proposal_id.in_(part))).all()
        outcomes = _outcomes(connection, rows)
        for row in rows:
            found[row.proposal_id] = comparable(row.simulator, row.version, outcomes[row.id])
    return found


def _outcomes(connection: Connection, rows: Sequence[Row[Any]]) -> dict[int, Outcome]:
    """The outcomes of rows that have the columns of the evaluation table."""
    values: dict[int, dict[str, float]] = defaultdict(dict)
    bounds: dict[int, dict[str, tuple[float, float]]] = defaultdict(dict)
    uncertainty: dict[int, dict[str, float]] = defaultdict(dict)
    p = t.property_value.c
    columns = (p.evaluation_id, p.name, p.value, p.low, p.high, p.uncertainty)
    for part in chunks([row.id for row in rows]):
        query = select(*columns).where(p.evaluation_id.in_(part))
        for number, name, value, low, high, deviation in connection.execute(query):
            if value is not None:
                values[number][name] = value
            if low is not None:
                bounds[number][name] = (low, high)
            if deviation is not None:
                uncertainty[number][name] = deviation
    return {
        row.id: Outcome(
            row.status,
            values[row.id],
            bounds[row.id],
            row.diagnostics,
            row.reason,
            uncertainty[row.id],
        )
        for row in rows
    }


def cached_outcome(
    connection: Connection, candidate: str, simulator: str, version: str
) -> Outcome | None:
    """See Ledger.cached_outcome."""
    e = t.evaluation.c
    query = (
        select(t.evaluation)
        .join_from(t.candidate, t.proposal)
        .join(t.evaluation)
        .where(t.candidate.c.id == candidate, e.simulator == simulator, e.version == version)
        .where(e.status != "failed")
        .order_by(e.id.desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else _outcomes(connection, [row])[row.id]


def records(
    connection: Connection,
    campaign: int,
    arms: Sequence[str] | None,
    rounds: Sequence[int] | None,
) -> list[Record]:
    """See Ledger.records."""
    of_interest = [t.batch.c.campaign_id == campaign]
    if arms is not None:
        of_interest.append(t.batch.c.arm.in_(list(arms)))
    if rounds is not None:
        of_interest.append(t.batch.c.round.in_(list(rounds)))
    joined = t.batch.join(t.proposal).join(t.evaluation)
    order = (t.batch.c.round, t.batch.c.arm, t.proposal.c.position)
    found = connection.execute(
        select(t.evaluation, t.batch.c.round, t.batch.c.arm)
        .select_from(joined)
        .where(*of_interest)
        .order_by(*order)
    ).all()
    designs = connection.execute(
        select(*CANDIDATE_COLUMNS)
        .select_from(joined.join(t.candidate, t.candidate.c.key == t.proposal.c.candidate_key))
        .where(*of_interest)
        .order_by(*order)
    )
    outcomes = _outcomes(connection, found)
    return [
        Record(
            candidate_of(design._mapping),
            outcomes[row.id],
            row.simulator,
            row.version,
            row.round,
            row.arm,
            row.fidelity,
        )
        for row, design in zip(found, designs, strict=True)
    ]


def fidelities(connection: Connection, campaign: int) -> dict[str, set[str]]:
    """Property -> how its values in a campaign were found."""
    p, e = t.property_value.c, t.evaluation.c
    query = (
        select(p.name, func.coalesce(p.fidelity, e.fidelity))
        .join_from(t.batch, t.proposal)
        .join(t.evaluation)
        .join(t.property_value)
        .where(t.batch.c.campaign_id == campaign, p.value.is_not(None))
        .distinct()
    )
    found: dict[str, set[str]] = defaultdict(set)
    for name, kind in connection.execute(query):
        found[name].add(kind)
    return dict(found)


def round_summary(
    connection: Connection, campaign: int, arm: str, round_: int
) -> dict[str, Any] | None:
    """The summary on record."""
    r = t.round_summary.c
    where = (r.campaign_id == campaign, r.arm == arm, r.round == round_)
    return connection.scalar(select(r.summary).where(*where))


def rounds(connection: Connection, campaign: int, arm: str | None) -> pd.DataFrame:
    """See Ledger.rounds."""
    r = t.round_summary.c
    query = select(r.round, r.arm, r.finished_at, r.summary).where(r.campaign_id == campaign)
    if arm is not None:
        query = query.where(r.arm == arm)
    rows = [
        {"round": row.round, "arm": row.arm, "finished_at": row.finished_at}
        | {k: v for k, v in row.summary.items() if k not in ("round", "arm", "finished_at")}
        for row in connection.execute(query.order_by(r.round, r.arm))
    ]
    return pd.DataFrame(rows, columns=None if rows else ["round", "arm", "finished_at"])


def checkpoint_row(
    connection: Connection, campaign: int, arm: str, round_: int, kind: str
) -> Row[Any] | None:
    """The newest weights on record."""
    c = t.checkpoint.c
    where = (c.campaign_id == campaign, c.arm == arm, c.round == round_, c.kind == kind)
    return connection.execute(
        select(t.checkpoint).where(*where).order_by(c.id.desc()).limit(1)
    ).one_or_none()
