"""Requests and measurements in the ledger, inside a transaction that the caller holds."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Connection, Exists, exists, func, insert, select

from loop import tables as t
from loop.candidate import Candidate
from loop.errors import InvalidInputError, LedgerError, unknown_name
from loop.laboratory import Measurement, Told, Wanted, Work
from loop.ledger_reads import CANDIDATE_COLUMNS, candidate_keys, candidate_of, chunks
from loop.ledger_writes import insert_missing, now

Key = tuple[str, str]  # candidate id, property


def add_requests(
    connection: Connection, campaign: int, wanted: Mapping[str, Mapping[str, Wanted]]
) -> None:
    """See Ledger.ask."""
    keys = candidate_keys(connection, list(wanted))
    unknown = [id_ for id_ in wanted if id_ not in keys]
    if unknown:
        raise LedgerError(f"candidate {unknown[0]} is not in the ledger; plan it first")
    rows = [
        {
            "campaign_id": campaign,
            "candidate_key": keys[id_],
            "name": name,
            "unit": what.unit,
            "low": what.low if math.isfinite(what.low) else None,
            "high": what.high if math.isfinite(what.high) else None,
            "asked_at": now(),
        }
        for id_, properties in wanted.items()
        for name, what in properties.items()
    ]
    insert_missing(connection, t.request, rows)


def requests(connection: Connection, campaign: int) -> dict[str, dict[str, Wanted]]:
    """Candidate id -> property -> what was asked for, in the order of asking."""
    r = t.request.c
    query = (
        select(t.candidate.c.id, r.name, r.unit, r.low, r.high)
        .join_from(t.request, t.candidate)
        .where(r.campaign_id == campaign)
        .order_by(r.id)
    )
    found: dict[str, dict[str, Wanted]] = {}
    for id_, name, unit, low, high in connection.execute(query):
        limits = (-math.inf if low is None else low, math.inf if high is None else high)
        found.setdefault(id_, {})[name] = Wanted(unit, *limits)
    return found


def measurements(
    connection: Connection, ids: Sequence[str]
) -> dict[str, dict[tuple[str, str], Measurement]]:
    """See LedgerReader.measurements."""
    m = t.measurement.c
    found: dict[str, dict[tuple[str, str], Measurement]] = {}
    for part in chunks(list(dict.fromkeys(ids))):
        query = (
            select(t.candidate.c.id, m.name, m.value, m.unit, m.uncertainty)
            .join_from(t.measurement, t.candidate)
            .where(t.candidate.c.id.in_(part))
            .order_by(m.id)  # the newest last, so that it stays
        )
        for id_, name, value, unit, uncertainty in connection.execute(query):
            result = Measurement(id_, name, value, unit, uncertainty)
            found.setdefault(id_, {})[name, unit] = result
    return found


def work(connection: Connection, campaign: int) -> list[Work]:
    """See LedgerReader.work."""
    asked = requests(connection, campaign)
    if not asked:
        return []
    told = measurements(connection, list(asked))
    b = t.batch.c
    query = (
        select(*CANDIDATE_COLUMNS, b.arm, b.round)
        .join_from(t.batch, t.proposal)
        .join(t.candidate)
        .where(b.campaign_id == campaign)
        .order_by(b.round, b.arm, t.proposal.c.position)
    )
    rounds: dict[str, list[tuple[str, int]]] = defaultdict(list)
    designs: dict[str, Candidate] = {}
    # Asked for by key, not read whole: a campaign may hold thousands of designs with images.
    keys = candidate_keys(connection, list(asked))
    for part in chunks(list(keys.values())):
        for row in connection.execute(query.where(t.candidate.c.key.in_(part))):
            designs.setdefault(row.id, candidate_of(row._mapping))
            rounds[row.id].append((row.arm, row.round))
    return [
        Work(
            designs[id_],
            wanted,
            {
                name: told[id_][name, what.unit]
                for name, what in wanted.items()
                if (name, what.unit) in told.get(id_, {})
            },
            tuple(rounds[id_]),
        )
        for id_, wanted in asked.items()
    ]


def _told() -> Exists:
    """Condition on a row of request: its property has been told, in its unit."""
    m, r = t.measurement.c, t.request.c
    return exists().where(m.candidate_key == r.candidate_key, m.name == r.name, m.unit == r.unit)


def open_requests(connection: Connection, campaign: int) -> dict[str, int]:
    """Candidate id -> how many of its properties have been asked for and not told."""
    r = t.request.c
    query = (
        select(t.candidate.c.id, func.count(r.id))
        .join_from(t.request, t.candidate)
        .where(r.campaign_id == campaign, ~_told())
        .group_by(t.candidate.c.id)
    )
    return {id_: int(count) for id_, count in connection.execute(query)}


def unscored(connection: Connection, campaign: int) -> set[str]:
    """Ids of the designs that are planned and have no outcome."""
    query = (
        select(t.candidate.c.id)
        .join_from(t.batch, t.proposal)
        .join(t.candidate)
        .outerjoin(t.evaluation, t.evaluation.c.proposal_id == t.proposal.c.id)
        .where(t.batch.c.campaign_id == campaign, t.evaluation.c.id.is_(None))
    )
    return set(connection.scalars(query))


def add_measurements(
    connection: Connection,
    campaign: int,
    results: Iterable[tuple[str, Measurement]],
    *,
    replace: bool,
) -> Told:
    """See Ledger.tell."""
    asked = requests(connection, campaign)
    given = _checked(results, asked)
    _lock_candidates(connection, {id_ for id_, _ in given})
    known = measurements(connection, [id_ for id_, _ in given])
    new: list[Measurement] = []
    replaced: list[Measurement] = []
    for where, m in given.values():
        old = known.get(m.id, {}).get((m.property, m.unit))
        if old is None:
            new.append(m)
        elif old != m:
            if not replace:
                raise InvalidInputError(
                    f"{where}: {m.property} of {m.id} was told before as {shown(old)}, now "
                    f"{shown(m)}; leave it out, or replace the earlier one (--replace)"
                )
            replaced.append(m)
    keys = candidate_keys(connection, [m.id for m in (*new, *replaced)])
    rows = [
        {
            "campaign_id": campaign,
            "candidate_key": keys[m.id],
            "name": m.property,
            "unit": m.unit,
            "value": m.value,
            "uncertainty": m.uncertainty,
            "told_at": now(),
        }
        for m in (*new, *replaced)
    ]
    if rows:
        connection.execute(insert(t.measurement), rows)
    scored = _scored(connection, {m.id for m in replaced})
    return Told(
        new=len(new),
        same=len(given) - len(rows),
        replaced=len(replaced),
        scored=sum(m.id in scored for m in replaced),
    )


def _lock_candidates(connection: Connection, ids: set[str]) -> None:
    """Let those who tell of one design in several campaigns take turns."""
    for part in chunks(sorted(ids)):
        query = select(t.candidate.c.key).where(t.candidate.c.id.in_(part))
        connection.execute(query.order_by(t.candidate.c.id).with_for_update()).all()


def shown(m: Measurement) -> str:
    """A result for messages."""
    deviation = "" if m.uncertainty is None else f" ± {m.uncertainty:g}"
    return f"{m.value:g}{deviation}{'' if m.unit == '1' else f' {m.unit}'}"


def _checked(
    results: Iterable[tuple[str, Measurement]], asked: Mapping[str, Mapping[str, Wanted]]
) -> dict[Key, tuple[str, Measurement]]:
    """The results by design and property; InvalidInputError for the first that cannot be kept."""
    found: dict[Key, tuple[str, Measurement]] = {}
    for where, m in results:
        if m.id not in asked:
            raise InvalidInputError(
                f"{where}: id {m.id!r} is not on the work list, which has {len(asked)} designs; "
                "take the id from the work list (spinodal ask)"
            )
        wanted = asked[m.id].get(m.property)
        if wanted is None:
            raise InvalidInputError(
                f"{where}: " + unknown_name("property", m.property, asked[m.id])
            )
        if m.unit != wanted.unit:
            raise InvalidInputError(
                f"{where}: {m.property} is in {m.unit or 'no unit'}; expected {wanted.unit}: "
                "convert value and uncertainty, and write that unit"
            )
        if not wanted.low <= m.value <= wanted.high:
            raise InvalidInputError(
                f"{where}: {m.property} is {m.value:g}, which is outside the physical range "
                f"{_range(wanted)}; correct the value or its unit"
            )
        key = (m.id, m.property)
        if key in found and found[key][1] != m:
            raise InvalidInputError(
                f"{where}: {m.property} of {m.id} is given twice, as {shown(found[key][1])} "
                f"({found[key][0]}) and as {shown(m)}; keep one, or the mean of both"
            )
        found.setdefault(key, (where, m))
    return found


def _range(wanted: Wanted) -> str:
    unit = "" if wanted.unit == "1" else f" {wanted.unit}"
    if math.isinf(wanted.high):
        return f"of at least {wanted.low:g}{unit}"
    if math.isinf(wanted.low):
        return f"of at most {wanted.high:g}{unit}"
    return f"{wanted.low:g} to {wanted.high:g}{unit}"


def _scored(connection: Connection, ids: set[str]) -> set[str]:
    """Those of the designs that some campaign of the ledger has scored."""
    found: set[str] = set()
    for part in chunks(sorted(ids)):
        query = (
            select(t.candidate.c.id)
            .join_from(t.candidate, t.proposal)
            .join(t.evaluation)
            .where(t.candidate.c.id.in_(part))
        )
        found.update(connection.scalars(query))
    return found
