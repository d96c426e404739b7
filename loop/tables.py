"""The ledger's tables. A change here needs a new revision in loop/migrations/versions.

Rows are only ever added. Numbers and labels that a filter may name are kept as (owner, name,
value) rows, so that a new property, element or phase needs no new column.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

from loop.errors import InvalidInputError

SCHEMA = "0003"  # the newest revision in loop/migrations/versions
# Not alembic's default name: a PostgreSQL database may hold another program's tables as well.
VERSION_TABLE = "ledger_version"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, PurePath):
        return str(value)
    raise InvalidInputError(
        f"a {type(value).__name__} cannot be kept in the ledger; expected JSON values "
        "(numbers, text, lists, mappings)"
    )


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal content gives equal text."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain)
    # A second pass, because keys that are not text are sorted before they become text.
    return json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


def plain_text(text: str) -> str:
    """Text that every database takes: no NUL, no half of a surrogate pair."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


class SortedJSON(TypeDecorator[Any]):
    """JSON kept as canonical text, byte for byte the same on every database."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else canonical_json(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Time = Text  # ISO 8601, UTC: sorts as text and reads the same on every database

campaign = Table(
    "campaign",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("seed", BigInteger, nullable=False),
    Column("settings_hash", Text, nullable=False),
    Column("data_hash", Text, nullable=False),
    Column("created_at", Time, nullable=False),
)

# A campaign may be taken up again with other versions, or a longer budget: each start is kept,
# and batches and evaluations name the start they were made in.
run_start = Table(
    "run_start",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("campaign_id", ForeignKey(campaign.c.id), nullable=False, index=True),
    Column("settings", SortedJSON, nullable=False),
    Column("versions", SortedJSON, nullable=False),
    Column("started_at", Time, nullable=False),
)

# The newest row says why the campaign stopped; a row without reason opens it again.
run_stop = Table(
    "run_stop",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("campaign_id", ForeignKey(campaign.c.id), nullable=False, index=True),
    Column("reason", Text),
    Column("waiting", Text),  # for what; it has not finished then
    Column("stopped_at", Time, nullable=False),
)

claim = Table(
    "claim",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("campaign_id", ForeignKey(campaign.c.id), nullable=False, index=True),
    Column("pid", Integer, nullable=False),
    Column("host", Text, nullable=False),
    Column("claimed_at", Time, nullable=False),
)

# The names a filter may use besides the fixed ones, and where their values are.
field = Table(
    "field",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("campaign_id", ForeignKey(campaign.c.id), nullable=False),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),  # property, uncertainty, requested, label, …
    UniqueConstraint("campaign_id", "name"),
)

candidate = Table(
    "candidate",
    metadata,
    Column("key", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("phases", SortedJSON, nullable=False),
    Column("elements", SortedJSON, nullable=False),
    Column("height", Integer),
    Column("width", Integer),
    Column("microstructure", LargeBinary),  # PNG of (h, w) uint8 phase labels
    Column("phase_compositions", LargeBinary),  # (p, e) little-endian float64, row by row
    Column("process", SortedJSON, nullable=False),
    Column("labels", SortedJSON),  # empty: none
)

# x_Al (overall), gamma.Al (of a phase), gamma.fraction (area), process.temperature_K
candidate_value = Table(
    "candidate_value",
    metadata,
    Column("candidate_key", ForeignKey(candidate.c.key), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", Double, nullable=False),
    sqlite_with_rowid=False,
)

# processing, or whatever a campaign calls it
candidate_label = Table(
    "candidate_label",
    metadata,
    Column("candidate_key", ForeignKey(candidate.c.key), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
    sqlite_with_rowid=False,
)

batch = Table(
    "batch",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("campaign_id", ForeignKey(campaign.c.id), nullable=False),
    Column("arm", Text, nullable=False),
    Column("round", Integer, nullable=False),
    Column("size", Integer, nullable=False),
    Column("details", SortedJSON, nullable=False),  # how it was found: pool size, turned away
    Column("start_id", ForeignKey(run_start.c.id), nullable=False),
    Column("planned_at", Time, nullable=False),
    UniqueConstraint("campaign_id", "arm", "round"),
)

proposal = Table(
    "proposal",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("batch_id", ForeignKey(batch.c.id), nullable=False),
    Column("position", Integer, nullable=False),
    Column("candidate_key", ForeignKey(candidate.c.key), nullable=False, index=True),
    # The order in which this campaign lists the elements; the candidate may have come first
    # from another campaign with another order.
    Column("elements", SortedJSON, nullable=False),
    Column("source", Text, nullable=False),
    Column("guidance", Double),
    Column("details", SortedJSON, nullable=False),
    Column("predicted", SortedJSON),
    UniqueConstraint("batch_id", "position"),
)

# requested_<property>, predicted_<property>, predicted_std_<property>
proposal_value = Table(
    "proposal_value",
    metadata,
    Column("proposal_id", ForeignKey(proposal.c.id), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", Double, nullable=False),
    sqlite_with_rowid=False,
)

evaluation = Table(
    "evaluation",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("proposal_id", ForeignKey(proposal.c.id), nullable=False, unique=True),
    Column("start_id", ForeignKey(run_start.c.id), nullable=False),
    Column("simulator", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("fidelity", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("diagnostics", SortedJSON, nullable=False),
    Column("distance", Double),  # empty where a targeted property has no value
    Column("hit", Boolean, nullable=False),
    Column("evaluated_at", Time, nullable=False),
)

property_value = Table(
    "property_value",
    metadata,
    Column("evaluation_id", ForeignKey(evaluation.c.id), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", Double),
    Column("low", Double),
    Column("high", Double),
    Column("uncertainty", Double),  # standard uncertainty of a measured value
    Column("fidelity", Text),  # simulated or measured; empty: as the evaluation's
    sqlite_with_rowid=False,
)

# What a campaign waits for: properties of designs that people are to measure.
request = Table(
    "request",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("campaign_id", ForeignKey(campaign.c.id), nullable=False),
    Column("candidate_key", ForeignKey(candidate.c.key), nullable=False),
    Column("name", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("low", Double),  # physically possible values; empty: no limit
    Column("high", Double),
    Column("asked_at", Time, nullable=False),
    UniqueConstraint("campaign_id", "candidate_key", "name"),
)

# Of a design, like its evaluations, whichever campaign it was told to; the newest row counts.
measurement = Table(
    "measurement",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("campaign_id", ForeignKey(campaign.c.id), nullable=False),
    Column("candidate_key", ForeignKey(candidate.c.key), nullable=False),
    Column("name", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("value", Double, nullable=False),
    Column("uncertainty", Double),
    Column("told_at", Time, nullable=False),
    Index(None, "candidate_key", "name"),
)

round_summary = Table(
    "round_summary",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("campaign_id", ForeignKey(campaign.c.id), nullable=False),
    Column("arm", Text, nullable=False),
    Column("round", Integer, nullable=False),
    Column("summary", SortedJSON, nullable=False),
    Column("finished_at", Time, nullable=False),
    UniqueConstraint("campaign_id", "arm", "round"),
)

checkpoint = Table(
    "checkpoint",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("campaign_id", ForeignKey(campaign.c.id), nullable=False),
    Column("arm", Text, nullable=False),
    Column("round", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("metadata", SortedJSON, nullable=False),
    Column("saved_at", Time, nullable=False),
    Index(None, "campaign_id", "arm", "round", "kind"),
)
