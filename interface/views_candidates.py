"""Candidates as page, API and plots show them: a page of rows, and one design in full."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from interface.labels import split_property, target_met, target_text
from interface.models import (
    CandidateDetail,
    CandidatePage,
    CandidateRow,
    EvaluationInfo,
    PropertyInfo,
)
from interface.views import campaign_targets, finite, text_or_none
from loop.candidate import Candidate
from loop.evaluations import FIXED_FIELDS
from loop.known_alloys import DIFFERENCE
from loop.ledger import Ledger
from loop.targets import Targets


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of an evaluation frame by what they are, as property names."""

    properties: tuple[str, ...]
    requested: tuple[str, ...]
    predicted: tuple[str, ...]
    predicted_std: tuple[str, ...]
    uncertainty: tuple[str, ...]
    design: tuple[str, ...]  # fractions, compositions, process variables, difference from known
    labels: tuple[str, ...] = ()  # categorical variables, text


def sort_columns(fields: Mapping[str, str], elements: Sequence[str]) -> Columns:
    """Tell the fields of a campaign apart (see Ledger.fields)."""
    overall = {DIFFERENCE, *(f"x_{element}" for element in elements)}
    groups: dict[str, list[str]] = {name: [] for name in Columns.__slots__}
    prefixes = ("predicted_std", "predicted", "requested", "uncertainty")  # the longest first
    for name, kind in fields.items():
        if name in FIXED_FIELDS:
            continue
        if kind == "text":
            groups["labels"].append(name)
            continue
        prefix = next((p for p in prefixes if name.startswith(f"{p}_")), None)
        if prefix is not None:
            groups[prefix].append(name.removeprefix(f"{prefix}_"))
        else:
            groups["design" if "." in name or name in overall else "properties"].append(name)
    return Columns(**{name: tuple(found) for name, found in groups.items()})


def campaign_columns(ledger: Ledger, campaign: int) -> Columns:
    """The properties on record in a campaign, those with a target first."""
    settings = ledger.campaign_settings(campaign)
    columns = sort_columns(ledger.fields(campaign), settings.get("space", {}).get("elements", ()))
    wanted = [name for name in settings["targets"] if name in columns.properties]
    others = tuple(name for name in columns.properties if name not in wanted)
    return Columns(
        (*wanted, *others),
        columns.requested,
        columns.predicted,
        columns.predicted_std,
        columns.uncertainty,
        columns.design,
        columns.labels,
    )


def candidate_page(
    ledger: Ledger,
    campaign: str | None,
    *,
    where: str = "",
    sort: str | None = None,
    descending: bool = False,
    limit: int = 100,
    offset: int = 0,
) -> CandidatePage:
    """One page of evaluations. Raises InvalidInputError for a bad filter or field."""
    number = ledger.campaign_id(campaign)
    info = campaign_columns(ledger, number)
    frame = ledger.evaluations(
        number, where=where, sort=sort, descending=descending, limit=limit, offset=offset
    )
    name = campaign or str(ledger.campaigns().set_index("id").loc[number, "name"])
    return CandidatePage(
        campaign=name,
        filter=where,
        total=ledger.count(number, where=where),
        limit=limit,
        offset=offset,
        units={p: split_property(p)[1] for p in info.properties},
        items=[_row(row, info) for row in frame.to_dict(orient="records")],
    )


def _row(row: Mapping[Any, Any], columns: Columns) -> CandidateRow:
    def group(prefix: str, names: Sequence[str]) -> dict[str, float | None]:
        found = {name: finite(row[f"{prefix}{name}"]) for name in names}
        return {k: v for k, v in found.items() if v is not None}

    return CandidateRow.model_validate(
        {k: row[k] for k in ("id", "campaign", "arm", "round", "position", "status", "source")}
        | _common(row)
        | {
            "design": group("", columns.design),
            "labels": {k: v for k in columns.labels if (v := text_or_none(row[k])) is not None},
            "properties": group("", columns.properties),
            "uncertainty": group("uncertainty_", columns.uncertainty),
            "requested": group("requested_", columns.requested),
            "predicted": group("predicted_", columns.predicted),
            "predicted_std": group("predicted_std_", columns.predicted_std),
        }
    )


def _common(row: Mapping[Any, Any]) -> dict[str, Any]:
    hit = row["hit"]
    return {
        **{k: text_or_none(row[k]) for k in ("simulator", "version", "fidelity", "reason")},
        "hit": None if hit is None or hit is pd.NA else bool(hit),
        "distance": finite(row["distance"]),
        "guidance": finite(row["guidance"]),
    }


@dataclass(frozen=True, slots=True)
class Designs:
    """Distinct designs of a filter, and how many rows match it in all."""

    rows: tuple[CandidateRow, ...]
    total: int


def distinct_designs(
    ledger: Ledger,
    campaign: str | None,
    *,
    where: str = "",
    hits_only: bool = False,
    sort: str | None = None,
    descending: bool = False,
    limit: int = 24,
) -> Designs:
    """The first ``limit`` distinct designs in the given order, each with its first row.

    Raises InvalidInputError for a bad filter or field; positions count in ``where`` as given.
    """
    if hits_only:
        ledger.count(ledger.campaign_id(campaign), where=where)  # for an error about their text
        where = f"({where}) and hit" if where.strip() else "hit"
    first: dict[str, CandidateRow] = {}
    offset = 0
    while True:
        page = candidate_page(
            ledger, campaign, where=where, sort=sort, descending=descending,
            limit=2 * limit, offset=offset,
        )  # fmt: skip
        for row in page.items:
            first.setdefault(row.id, row)
        offset += page.limit
        if len(first) >= limit or offset >= page.total:
            return Designs(tuple(first.values())[:limit], page.total)


def candidate_detail(ledger: Ledger, id_or_prefix: str) -> CandidateDetail:
    """One design with every evaluation of it. Raises LedgerError for an unknown id."""
    candidate = ledger.candidate(id_or_prefix)
    return CandidateDetail(
        id=candidate.id,
        phases=list(candidate.phases),
        elements=list(candidate.elements),
        image_shape=_shape(candidate),
        phase_fractions=_fractions(candidate),
        phase_compositions=phase_compositions(candidate),
        composition=_overall(candidate),
        process=dict(candidate.process),
        labels=dict(candidate.labels),
        origin={
            "source": candidate.origin.source,
            "guidance": candidate.origin.guidance,
            "details": dict(candidate.origin.details),
        },
        evaluations=evaluation_infos(ledger, candidate.id),
    )


def _shape(candidate: Candidate) -> tuple[int, int] | None:
    if candidate.microstructure is None:
        return None
    h, w = candidate.microstructure.shape
    return h, w


def _fractions(candidate: Candidate) -> dict[str, float] | None:
    if candidate.microstructure is None and len(candidate.phases) > 1:
        return None
    shares = candidate.phase_fractions()
    return {p: float(f) for p, f in zip(candidate.phases, shares, strict=True)}


def phase_compositions(candidate: Candidate) -> dict[str, dict[str, float]] | None:
    """Phase -> element -> atomic fraction; None for a design without compositions."""
    if candidate.phase_compositions is None:
        return None
    return {
        phase: {e: float(x) for e, x in zip(candidate.elements, row, strict=True)}
        for phase, row in zip(candidate.phases, candidate.phase_compositions, strict=True)
    }


def _overall(candidate: Candidate) -> dict[str, float] | None:
    if candidate.phase_compositions is None or _fractions(candidate) is None:
        return None
    return {e: float(x) for e, x in zip(candidate.elements, candidate.composition(), strict=True)}


def evaluation_infos(ledger: Ledger, candidate_id: str) -> list[EvaluationInfo]:
    """Every time a design was planned, with its properties beside what was asked and predicted."""
    records = ledger.candidate_records(candidate_id)
    asked = ledger.evaluations(where=f'id = "{candidate_id}"')
    keys = ["campaign", "arm", "round", "position"]
    requests = {tuple(r[k] for k in keys): r for r in asked.to_dict(orient="records")}
    infos = []
    for key, rows in records.groupby(keys, sort=False):
        assert isinstance(key, tuple)
        first = rows.iloc[0].to_dict()
        targets = campaign_targets(ledger.campaign_settings(ledger.campaign_id(str(key[0]))))
        infos.append(
            EvaluationInfo.model_validate(
                {k: first[k] for k in (*keys, "status", "source", "planned_at")}
                | _common(first)
                | {
                    "evaluated_at": text_or_none(first["evaluated_at"]),
                    "properties": _properties(rows, targets, requests.get(key, {})),
                }
            )
        )
    return infos


def _properties(
    rows: pd.DataFrame, targets: Targets, asked: Mapping[Any, Any]
) -> list[PropertyInfo]:
    """Targets first, then what else was found, then what was only asked or predicted."""
    found = {
        r["property"]: r for r in rows.to_dict(orient="records") if text_or_none(r["property"])
    }
    by_name = {t.name: t for t in targets}
    infos = []
    for name in dict.fromkeys([*by_name, *found]):
        label, unit = split_property(name)
        row, target = found.get(name, {}), by_name.get(name)
        value = finite(row.get("value"))
        infos.append(
            PropertyInfo(
                property=name,
                label=label,
                unit=unit,
                value=value,
                low=finite(row.get("low")),
                high=finite(row.get("high")),
                uncertainty=finite(row.get("uncertainty")),
                fidelity=text_or_none(row.get("value_fidelity")),
                target="" if target is None else target_text(target),
                met=None if target is None else target_met(target, value),
                requested=finite(asked.get(f"requested_{name}")),
                predicted=finite(asked.get(f"predicted_{name}")),
                predicted_std=finite(asked.get(f"predicted_std_{name}")),
            )
        )
    return infos
