"""What a surrogate expects of designs, as a table for people and as a document."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from flows.expectation import Expectation, has_limit
from interface.labels import (
    composition_text,
    format_number,
    format_uncertain,
    short_id,
    target_text,
)
from interface.output import rows
from loop.candidate import Candidate, Outcome

MOST_SHOWN = 4  # properties in the table for people; of more, those with targets
MOST_ABREAST = 2  # properties beside each other; of more, each design has a table of its own
MOST_DECIMALS = 6


def document(found: Expectation) -> dict[str, Any]:
    """The answer as JSON-able values."""
    return {**found.about, "designs": rows(found.frame())}


def table_of(found: Expectation) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Key -> heading, and a line a design, as people read it."""
    designs, targets = found.designs, {target.name: target for target in found.targets}
    lines: list[dict[str, Any]] = [{} for _ in designs]
    columns: dict[str, str] = {}

    def add(key: str, heading: str, cells: list[Any]) -> None:
        columns[key] = heading
        for line, cell in zip(lines, cells, strict=True):
            line[key] = cell

    if designs[0].microstructure is not None:
        add("id", "id", [short_id(design.id) for design in designs])
    if designs[0].elements:
        add("alloy", "alloy (at.%)", [_alloy(design) for design in designs])
    for name in designs[0].process:
        add(f"process {name}", name, [design.process[name] for design in designs])
    for name in designs[0].labels:
        add(f"label {name}", name, [design.labels[name] for design in designs])
    for j, name in enumerate(found.properties):
        if name not in targets and len(found.properties) > MOST_SHOWN:
            continue
        mean, std, low, high = (
            values[:, j].tolist() for values in (found.mean, found.std, found.low, found.high)
        )
        add(f"expected {name}", name, list(map(format_uncertain, mean, std)))
        add(f"interval {name}", f"{_level(found)} %", list(map(_interval, low, high, std)))
        if name in targets and has_limit(targets[name]):
            chances = found.chances[:, found.targets.properties.index(name)]
            heading = f"{target_text(targets[name])}, %"
            add(f"chance {name}", heading, [percent(p) for p in chances.tolist()])
        if any(values := _values(found.outcomes or (), name)):
            add(f"found {name}", found.about["fidelity"][name], values)
    if sum(map(has_limit, found.targets)) > 1:
        add("chance", "all targets, %", [percent(p) for p in found.chance.tolist()])
    if any(found.nearest):
        add("nearest", "nearest on record", list(map(_with_labels, found.nearest)))
        add("apart", "apart, %", [f"{50 * d:.1f}" for d in found.difference.tolist()])
    remarks = [list(told) for told in found.remarks]
    for told, outcome in zip(remarks, found.outcomes or (), strict=found.outcomes is not None):
        if outcome.status != "ok":
            told.append(f"{outcome.status}: {outcome.reason}")
    if any(remarks):
        add("remarks", "remarks", ["; ".join(told) for told in remarks])
    return columns, lines


@dataclass(frozen=True)
class Block:
    """One design: what it is, a line a property, and what there is to say besides."""

    heading: str
    columns: dict[str, str]
    lines: list[dict[str, Any]]
    notes: list[str]


def blocks_of(found: Expectation) -> list[Block] | None:
    """A block a design where a table would have too many properties abreast; else None."""
    columns, lines = table_of(found)
    names = [key.removeprefix("expected ") for key in columns if key.startswith("expected ")]
    if len(names) <= MOST_ABREAST:
        return None
    targets = {target.name: target for target in found.targets}
    kinds = {
        "expected": "expected",
        "interval": f"{_level(found)} %",
        "target": "target",
        "chance": "chance, %",
        "found": "found",
    }
    blocks = []
    for line in lines:
        rows_of = [
            {"property": name}
            | {kind: line.get(f"{kind} {name}", "") for kind in kinds}
            | {"target": target_text(targets[name]) if name in targets else ""}
            for name in names
        ]
        used = [kind for kind in kinds if any(row[kind] for row in rows_of)]
        about = [str(line[key]) for key in ("id", "alloy") if key in line]
        about += [
            f"{columns[key]} {format_number(value) if isinstance(value, float) else value}"
            for key, value in line.items()
            if key.startswith(("process ", "label "))
        ]
        notes = []
        if "chance" in line:
            notes.append(f"all targets: {line['chance']} %")
        if line.get("nearest"):
            notes.append(f"nearest on record, {line['apart']} % apart: {line['nearest']}")
        if line.get("remarks"):
            notes.append(str(line["remarks"]))
        heads = {"property": "property"} | {kind: kinds[kind] for kind in used}
        blocks.append(Block("  ".join(about), heads, rows_of, notes))
    return blocks


def footnote(found: Expectation) -> str:
    """How the table is to be read, on one line."""
    return (
        f"{found.about['records']} records; ± one standard deviation of the property itself, "
        f"{_level(found)} % interval (Gaussian) and chances of a value as those on record scatter"
    )


def percent(probability: float) -> str:
    """In percent with one decimal: ``12.3``, ``< 0.1``, ``> 99.9``; "" for none."""
    if math.isnan(probability):
        return ""
    share = 100 * probability
    if share < 0.05:
        return "< 0.1"
    return "> 99.9" if share > 99.95 else f"{share:.1f}"


def _level(found: Expectation) -> int:
    return round(100 * found.about["interval"]["level"])


def _alloy(design: Candidate) -> str:
    parts = composition_text(design)
    return "; ".join(text if len(parts) == 1 else f"{phase} {text}" for phase, text in parts)


def _with_labels(design: Candidate | None) -> str:
    return "" if design is None else ", ".join([_alloy(design), *design.labels.values()])


def _interval(low: float, high: float, std: float) -> str:
    """Ends with the decimals that the standard deviation resolves to two digits."""
    decimals = min(MOST_DECIMALS, max(0, 1 - math.floor(math.log10(std)))) if std > 0 else 4
    return f"{low:.{decimals}f} to {high:.{decimals}f}".replace("-", "−")


def _values(outcomes: tuple[Outcome, ...], name: str) -> list[str]:
    return [
        ""
        if name not in outcome.values
        else format_uncertain(outcome.values[name], outcome.uncertainty[name])
        if name in outcome.uncertainty
        else format_number(outcome.values[name])
        for outcome in outcomes
    ]
