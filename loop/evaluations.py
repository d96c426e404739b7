"""Evaluations as a table: a row per proposal, a column per number, filtered and sorted in SQL."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Select, Table, Text, func, literal, select

from loop import tables as t
from loop.candidate import Candidate
from loop.errors import InvalidInputError, LedgerError, unknown_name
from loop.ledger_reads import CANDIDATE_COLUMNS, candidate_of, chunks
from loop.query import Field, Kind, parse_filter

# Fields that every ledger has, in the order of the columns.
FIXED_FIELDS: dict[str, Field] = {
    "id": Field(t.candidate.c.id, "text"),
    "campaign": Field(t.campaign.c.name, "text"),
    "arm": Field(t.batch.c.arm, "text"),
    "round": Field(t.batch.c.round, "number"),
    "position": Field(t.proposal.c.position, "number"),
    "status": Field(func.coalesce(t.evaluation.c.status, literal("pending")), "text"),
    "hit": Field(t.evaluation.c.hit, "boolean"),
    "distance": Field(t.evaluation.c.distance, "number"),
    "source": Field(t.proposal.c.source, "text"),
    "guidance": Field(t.proposal.c.guidance, "number"),
    "simulator": Field(t.evaluation.c.simulator, "text"),
    "version": Field(t.evaluation.c.version, "text"),
    "fidelity": Field(t.evaluation.c.fidelity, "text"),
    "reason": Field(t.evaluation.c.reason, "text"),
    "planned_at": Field(t.batch.c.planned_at, "text"),
    "evaluated_at": Field(t.evaluation.c.evaluated_at, "text"),
}
_LAST = ("simulator", "version", "fidelity", "reason", "planned_at", "evaluated_at")


class _Values(NamedTuple):
    """Where the values of one kind of field are."""

    value: ColumnElement[Any]
    name: ColumnElement[Any]
    key: ColumnElement[Any]
    owner: ColumnElement[Any]  # of the main query, that the key matches
    prefix: str = ""  # of the field, before the name


def _values(table: Table, key: str, owner: Any) -> _Values:
    return _Values(table.c.value, table.c.name, table.c[key], owner)


UNCERTAINTY_PREFIX = "uncertainty_"
_PROPERTIES = _values(t.property_value, "evaluation_id", t.evaluation.c.id)
_VALUES: dict[str, _Values] = {
    "property": _PROPERTIES,
    "uncertainty": _PROPERTIES._replace(
        value=t.property_value.c.uncertainty, prefix=UNCERTAINTY_PREFIX
    ),
    "requested": _values(t.proposal_value, "proposal_id", t.proposal.c.id),
    "predicted": _values(t.proposal_value, "proposal_id", t.proposal.c.id),
    "novelty": _values(t.proposal_value, "proposal_id", t.proposal.c.id),
    "candidate": _values(t.candidate_value, "candidate_key", t.candidate.c.key),
    "label": _values(t.candidate_label, "candidate_key", t.candidate.c.key),
}


def _kind(kind: str) -> Kind:
    """Of the values of a named field."""
    return "text" if kind == "label" else "number"


def fields(connection: Connection, campaign: int | None) -> dict[str, str]:
    """See Ledger.fields."""
    found = named_fields(connection, campaign)
    fixed = {name: field.kind for name, field in FIXED_FIELDS.items() if name not in _LAST}
    last: dict[str, str] = {name: FIXED_FIELDS[name].kind for name in _LAST}
    return {**fixed, **{name: _kind(kind) for name, kind in found.items()}, **last}


def named_fields(connection: Connection, campaign: int | None) -> dict[str, str]:
    """Name -> kind of the values on record: properties first, each kind in order of arrival."""
    query = select(t.field.c.name, t.field.c.kind).order_by(t.field.c.id)
    if campaign is not None:
        query = query.where(t.field.c.campaign_id == campaign)
    found = {row.name: row.kind for row in connection.execute(query)}
    return dict(sorted(found.items(), key=lambda item: list(_VALUES).index(item[1])))


def _resolve(name: str, named: dict[str, str]) -> Field:
    if name in FIXED_FIELDS:
        return FIXED_FIELDS[name]
    if name not in named:
        known = [*FIXED_FIELDS, *named]
        if not get_close_matches(name, known, n=1, cutoff=0.5):  # all of them would fill a page
            known = ["id", "arm", "round", "status", "hit", "distance", "source"]
            known += [other for other, kind in named.items() if kind == "property"]
        raise InvalidInputError(unknown_name("field", name[:80], known))
    # A subquery by primary key for each use, not a join: databases bound the number of joins.
    of = _VALUES[named[name]]
    value = select(of.value).where(of.key == of.owner, of.name == name.removeprefix(of.prefix))
    return Field(value.correlate(*_SOURCES).scalar_subquery(), _kind(named[name]))


_SOURCES = (t.campaign, t.batch, t.proposal, t.candidate, t.evaluation)
_FROM = (
    t.campaign.join(t.batch)
    .join(t.proposal)
    .join(t.candidate)
    .outerjoin(t.evaluation, t.evaluation.c.proposal_id == t.proposal.c.id)
)


def _matching(
    query: Select[Any], campaign: int | None, where: str | None, named: dict[str, str]
) -> Select[Any]:
    query = query.select_from(_FROM)
    if campaign is not None:
        query = query.where(t.campaign.c.id == campaign)
    if where is not None and where.strip():
        query = query.where(parse_filter(where, lambda name: _resolve(name, named)))
    return query


def count(connection: Connection, campaign: int | None, where: str | None) -> int:
    """See Ledger.count."""
    named = named_fields(connection, campaign)
    query = _matching(select(func.count(t.proposal.c.id)), campaign, where, named)
    return int(connection.scalar(query) or 0)


def frame(
    connection: Connection,
    campaign: int | None,
    *,
    where: str | None,
    sort: str | None,
    descending: bool,
    limit: int | None,
    offset: int,
    columns: Collection[str] | None,
) -> pd.DataFrame:
    """See Ledger.evaluations."""
    for name, number in (("limit", limit), ("offset", offset)):
        if number is not None and not 0 <= number < 2**63:
            raise InvalidInputError(f"{name} is {number}; expected a whole number >= 0")
    named = named_fields(connection, campaign)
    for name in columns or ():
        _resolve(name, named)
    wanted = [n for n in fields(connection, campaign) if columns is None or n in columns]

    fixed = [FIXED_FIELDS[name].expression.label(name) for name in wanted if name in FIXED_FIELDS]
    owners = [of.owner.label(f"key {kind}") for kind, of in _VALUES.items()]
    query = _matching(select(*fixed, *owners), campaign, where, named)
    if sort is not None:
        key = _resolve(sort.strip().strip("`"), named).expression
        query = query.order_by(key.is_(None), key.desc() if descending else key.asc())
    query = query.order_by(t.campaign.c.id, t.batch.c.round, t.batch.c.arm, t.proposal.c.position)
    if limit is not None or offset:
        query = query.limit(limit).offset(offset)
    rows = connection.execute(query).all()

    data: dict[str, Any] = {}
    for i, label in enumerate(fixed):
        data[label.name] = _column(label.name, [row[i] for row in rows])
    for i, (kind, of) in enumerate(_VALUES.items(), start=len(fixed)):
        names = [name for name in wanted if named.get(name) == kind]
        if names:
            values = _pivot(connection, of, [row[i] for row in rows], names)
            columns_ = [
                c if _kind(kind) == "number" else pd.array(c, dtype="str") for c in values.T
            ]
            data.update(zip(names, columns_, strict=True))
    return pd.DataFrame({name: data[name] for name in wanted})


def _column(name: str, values: Sequence[Any]) -> Any:
    kind = FIXED_FIELDS[name].kind
    if kind == "boolean":
        return pd.array(values, dtype="boolean")  # nullable: pending proposals have no answer yet
    if kind == "text":
        return pd.array(values, dtype="str")
    return np.array(values, dtype=np.int64 if name in ("round", "position") else np.float64)


def _pivot(
    connection: Connection, of: _Values, owners: Sequence[int | None], names: list[str]
) -> NDArray[Any]:
    """(n, k) values of n owners (they may repeat, or be None), NaN where there is none.

    Numbers as float64, text as objects.
    """
    distinct = list(dict.fromkeys(owner for owner in owners if owner is not None))
    place = {owner: i for i, owner in enumerate(distinct)}
    column = {name.removeprefix(of.prefix): j for j, name in enumerate(names)}
    type_ = object if isinstance(of.value.type, Text) else np.float64
    grid = np.full((len(distinct) + 1, len(names)), np.nan, dtype=type_)  # the last row: None
    query = select(of.key, of.name, of.value).where(of.value.is_not(None))
    for part in chunks(distinct):
        for owner, name, value in connection.execute(query.where(of.key.in_(part))):
            if (j := column.get(name)) is not None:
                grid[place[owner], j] = value
    return grid[[place.get(owner, -1) if owner is not None else -1 for owner in owners]]


def candidate(connection: Connection, prefix: str) -> Candidate:
    """See Ledger.candidate."""
    query = select(t.candidate.c.id).where(func.substr(t.candidate.c.id, 1, len(prefix)) == prefix)
    ids = connection.scalars(query.order_by(t.candidate.c.id).limit(4)).all() if prefix else []
    if not ids:
        raise LedgerError(
            f"no candidate has an id that begins with {prefix[:40]!r}; "
            "`spinodal query` lists the ids"
        )
    if len(ids) > 1:
        shown = ", ".join(ids[:3]) + (", …" if len(ids) > 3 else "")
        raise LedgerError(f"several ids begin with {prefix!r} ({shown}); give more of it")
    row = connection.execute(
        select(*CANDIDATE_COLUMNS)
        .join_from(t.candidate, t.proposal)
        .where(t.candidate.c.id == ids[0])
        .order_by(t.proposal.c.id)
        .limit(1)
    ).one()
    return candidate_of(row._mapping)


def candidate_records(connection: Connection, candidate_id: str) -> pd.DataFrame:
    """See Ledger.candidate_records."""
    labels = {name: f.expression.label(name) for name, f in FIXED_FIELDS.items() if name != "id"}
    p = t.property_value.c
    query = (
        select(
            *(labels[name] for name in labels if name not in _LAST),
            p.name.label("property"),
            p.value,
            p.low,
            p.high,
            p.uncertainty,
            p.fidelity.label("value_fidelity"),
            *(labels[name] for name in _LAST),
        )
        .select_from(_FROM.outerjoin(t.property_value, p.evaluation_id == t.evaluation.c.id))
        .where(t.candidate.c.id == candidate_id)
        .order_by(t.campaign.c.id, t.batch.c.round, t.batch.c.arm, t.proposal.c.position, p.name)
    )
    result = connection.execute(query)
    names: Iterable[str] = result.keys()
    rows = result.all()
    data: dict[str, Any] = {}
    for i, name in enumerate(names):
        values = [row[i] for row in rows]
        if name in FIXED_FIELDS:
            data[name] = _column(name, values)
        elif name in ("property", "value_fidelity"):
            data[name] = pd.array(values, dtype="str")
        else:
            data[name] = np.array(values, dtype=np.float64)
    return pd.DataFrame(data)
