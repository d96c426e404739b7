"""The view of one candidate: picture, compositions, properties against targets, history."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nicegui import ui

from interface.dashboard_style import mark, phase_legend, picture, tag, text
from interface.dashboard_values import value_text
from interface.labels import (
    arm_label,
    format_number,
    format_uncertain,
    phase_label,
    treatment_text,
)
from interface.models import CandidateDetail, EvaluationInfo, PropertyInfo
from interface.pictures import LARGEST_SCALE
from loop.targets import Target, Targets

PICTURE_SIDE = 512  # px that a picture is drawn with at least, where its pixels allow


def picture_scale(shape: Sequence[int], side: int) -> int:
    """The scale at which a picture of (h, w) px reaches ``side`` px, within what the API allows."""
    return max(1, min(LARGEST_SCALE, -(-side // max(shape))))


def candidate_view(detail: CandidateDetail, targets: Targets, close: Callable[[], None]) -> None:
    """Fill the current element with everything the ledger knows of one design."""
    shown = _newest(detail.evaluations)
    with tag("div", "sp-panel-head"):
        text(f"Candidate {detail.id[:8]}", "", "h2")
        if shown is not None:
            text(verdict(shown.status, shown.hit, shown.distance), f"{_kind(shown)} strong")
        tag("div", "sp-fill")
        _link("Record (JSON)", f"/api/candidates/{detail.id}")
        if detail.image_shape is not None:
            _link("Picture (PNG)", f"/api/candidates/{detail.id}/image.png?scale=1")
        ui.button(icon="close", on_click=close).props('flat round dense aria-label="close"')
    with tag("div", "sp-detail"):
        with tag("div", "sp-stack"):
            _design(detail)
        with tag("div", "sp-stack"):
            _origin(detail, shown)
            if shown is not None and shown.status not in ("ok", "pending"):
                text(f"{shown.status}: {shown.reason}", "sp-note")
            if shown is not None:
                _properties(shown.properties, targets)
            if detail.phase_compositions is not None:
                _compositions(detail)
            _history(detail.evaluations)


def _newest(evaluations: Sequence[EvaluationInfo]) -> EvaluationInfo | None:
    done = [e for e in evaluations if e.status != "pending"] or list(evaluations)
    return max(done, key=lambda e: e.evaluated_at or e.planned_at, default=None)


def verdict(status: str, hit: bool | None, distance: float | None) -> str:
    """A candidate's standing in a few words."""
    if status == "pending":
        return "waiting for evaluation"
    if status != "ok":
        return status
    if hit:
        return "hit"
    return "scored" if distance is None else f"distance {distance:.2g}"


def _kind(e: EvaluationInfo) -> str:
    return "met" if e.hit else "sp-muted" if e.status == "pending" else "missed"


def _link(label: str, url: str) -> None:
    text(label, "sp-link sp-small", "a").props(f'href="{url}" target="_blank" rel="noopener"')


def _design(detail: CandidateDetail) -> None:
    if detail.image_shape is None:
        text("This design has no microstructure.", "sp-noimage")
    else:
        h, w = detail.image_shape
        picture(detail.id, picture_scale((h, w), PICTURE_SIDE), "sp-large")
        phase_legend(detail.phases)
        shares = detail.phase_fractions or {}
        areas = ", ".join(f"{phase_label(p)} {100 * f:.1f} %" for p, f in shares.items())
        text(f"{w} × {h} px; area fractions {areas}", "sp-muted sp-small")
    for name, value in treatment_text(detail.process, detail.labels):
        text(f"{name}: {value}", "sp-small")
    text(detail.id, "sp-code sp-muted")


def _origin(detail: CandidateDetail, shown: EvaluationInfo | None) -> None:
    source = detail.origin["source"] if shown is None else shown.source
    guidance = detail.origin["guidance"] if shown is None else shown.guidance
    parts = [f"from {source}"]
    if guidance is not None:
        parts.append(f"guidance {guidance:g}")
    if shown is not None:
        parts.append(f"{arm_label(shown.arm)}, round {shown.round}")
        if shown.simulator is not None:
            parts.append(f"{shown.fidelity} by {shown.simulator} {shown.version}")
    text("  ·  ".join(parts), "sp-muted")
    far = detail.origin["details"].get("difference_from_known")
    if far is not None:
        text(
            f"difference from the nearest known alloy {far:.3g} ({50 * far:.3g} % of the atoms)",
            "sp-small",
        )


def _head(names: Sequence[str], left: int) -> None:
    with tag("tr"):
        for i, name in enumerate(names):
            text(name, "left" if i < left else "", "th")


def _properties(properties: Sequence[PropertyInfo], targets: Targets) -> None:
    by_name = {t.name: t for t in targets}
    columns: list[tuple[str, Callable[[PropertyInfo], str]]] = [
        ("value", lambda p: value_text(p.value, p.uncertainty, by_name.get(p.property))),
        ("target", lambda p: p.target),
    ]
    if any(p.fidelity not in (None, "simulated") for p in properties):
        columns.append(("by", lambda p: p.fidelity or ""))
    if any(p.low is not None for p in properties):
        columns.append(("bounds", _bounds))
    if any(p.requested is not None for p in properties):
        columns.append(("requested", lambda p: _requested(p, by_name)))
    if any(p.predicted is not None for p in properties):
        columns.append(("predicted", lambda p: format_uncertain(p.predicted, p.predicted_std)))
    with tag("div", "sp-scroll"), tag("table", "sp-table"):
        _head(["", "property", *(name for name, _ in columns)], left=2)
        for p in properties:
            with tag("tr"):
                with tag("td", "left"):
                    mark(p.met)
                with tag("td", "left"):
                    text(p.label, name="span")
                    if p.unit:
                        text(f" {p.unit}", "unit", "span")
                for name, written in columns:
                    text(written(p), "strong" if name == "value" else "", "td")


def _requested(p: PropertyInfo, targets: dict[str, Target]) -> str:
    return "" if p.requested is None else format_number(p.requested, targets.get(p.property))


def _bounds(p: PropertyInfo) -> str:
    if p.low is None or p.high is None:
        return ""
    return f"{format_number(p.low)} to {format_number(p.high)}"


def _compositions(detail: CandidateDetail) -> None:
    phases = detail.phase_compositions or {}
    overall = detail.composition
    most = {e: max(row[e] for row in phases.values()) for e in detail.elements}
    order = sorted((e for e in detail.elements if most[e] > 0), key=lambda e: -most[e])
    names = ["element", *(phase_label(p) for p in phases)]
    with tag("div", "sp-scroll"), tag("table", "sp-table"):
        _head([*names, *(["overall"] if overall else [])], left=1)
        for element in order:
            with tag("tr"):
                text(element, "left strong", "td")
                for row in [*phases.values(), *([overall] if overall else [])]:
                    text(f"{100 * row[element]:.2f}" if row[element] else "0", "", "td")
        text("Composition in at.%; overall by the lever rule", "sp-muted sp-small", "caption")


def _history(evaluations: Sequence[EvaluationInfo]) -> None:
    if len(evaluations) < 2:
        return
    with tag("div", "sp-scroll"), tag("table", "sp-table"):
        _head(["campaign", "arm", "round", "source", "outcome"], left=2)
        for e in evaluations:
            with tag("tr"):
                text(e.campaign, "left", "td")
                text(arm_label(e.arm), "left", "td")
                text(str(e.round), "", "td")
                text(e.source, "", "td")
                text(verdict(e.status, e.hit, e.distance), "", "td")
        text("Every time this design was proposed", "sp-muted sp-small", "caption")
