"""Pictures of candidates: the gallery of the best and the sheet of one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.patches import Patch
from numpy.typing import NDArray

from interface.labels import (
    arm_label,
    composition_text,
    format_number,
    phase_label,
    process_text,
    property_label,
    short_id,
    split_property,
    target_met,
    target_text,
)
from interface.pictures import (
    INK,
    MET,
    MISSED,
    MUTED,
    colour_image,
    phase_colour,
)
from interface.plots_style import house_figure
from loop.candidate import Candidate, Record
from loop.errors import InvalidInputError
from loop.targets import Target, Targets

FloatArray = NDArray[np.float64]


def _picture(ax: Any, candidate: Candidate) -> None:
    """The microstructure, or the compositions as stacked bars where there is none."""
    ax.grid(visible=False)
    if candidate.microstructure is not None:
        ax.imshow(colour_image(candidate.microstructure), interpolation="nearest")
        ax.set(xticks=[], yticks=[])
        for spine in ax.spines.values():
            spine.set(visible=True, color="#C4CCD4", linewidth=0.8)
    elif candidate.phase_compositions is not None:
        _composition_bars(ax, candidate)


def _composition_bars(ax: Any, candidate: Candidate) -> None:
    """Horizontal bars in at.%, one per element and phase, largest element on top."""
    x = candidate.phase_compositions
    assert x is not None
    shown = [int(j) for j in np.argsort(-x.max(0), kind="stable") if x[:, j].max() > 0]
    thickness = 0.8 / len(candidate.phases)
    for i, phase in enumerate(candidate.phases):
        place = np.arange(len(shown)) + (i - (len(candidate.phases) - 1) / 2) * thickness
        ax.barh(
            place,
            100 * x[i, shown],
            height=thickness * 0.92,
            color=phase_colour(i),
            edgecolor="#8A949E",
            linewidth=0.5,
            label=phase_label(phase),
        )
        for y, value in zip(place, 100 * x[i, shown], strict=True):
            ax.annotate(
                f"{value:.1f}" if value else "0",
                (value, y),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=6.5,
                color=MUTED,
            )
    ax.set_yticks(np.arange(len(shown)), [candidate.elements[j] for j in shown])
    ax.invert_yaxis()
    ax.set_xlim(0, min(100.0, 100 * float(x.max()) * 1.15))
    ax.set_xlabel("composition (at.%)")
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)


def _mark(met: bool | None) -> tuple[str, str]:
    if met is None:
        return "·", MUTED
    return ("✓", MET) if met else ("✗", MISSED)


def _rows(
    values: Mapping[str, float], targets: Sequence[Target], others: bool
) -> list[tuple[Target | None, str]]:
    named: list[tuple[Target | None, str]] = [(t, t.name) for t in targets]
    if others:
        known = {t.name for t in targets}
        named += [(None, name) for name in sorted(values) if name not in known]
    return named


def gallery(
    candidates: Sequence[Candidate],
    values: Sequence[Mapping[str, float]],
    targets: Targets,
    path: Path | str,
    *,
    columns: int = 4,
    title: str = "Best candidates",
) -> Path:
    """PNG of candidates as cards: microstructure, properties against targets, composition.

    ``values``: per candidate, property -> value; a missing one is shown as –. Raises
    InvalidInputError when there is nothing to draw or the lists differ in length.
    """
    if not candidates:
        raise InvalidInputError("no candidates to draw; run a round first, or widen the filter")
    if len(candidates) != len(values):
        raise InvalidInputError(
            f"{len(candidates)} candidates but values of {len(values)}; give one each"
        )
    columns = min(columns, len(candidates))
    lines = max(len(composition_text(c)) + len(process_text(c)) for c in candidates)
    text_height = 0.34 + 0.19 * len(targets) + 0.05 + 0.17 * lines
    rows = math.ceil(len(candidates) / columns)
    card_w, gap = 2.75, 0.28
    # Bars need less room than a micrograph.
    picture_h = card_w if any(c.microstructure is not None for c in candidates) else 0.55 * card_w
    card_h = picture_h + text_height + 0.12
    width, height = columns * (card_w + gap) + gap, rows * card_h + 0.62
    with house_figure(path, width, height, layout=None) as figure:
        figure.text(gap / width, 1 - 0.26 / height, title, fontsize=13, weight="bold", va="center")
        if candidates[0].microstructure is not None:
            figure.legend(
                handles=_phase_swatches(candidates[0]),
                loc="center right",
                bbox_to_anchor=(1 - gap / width, 1 - 0.26 / height),
                borderaxespad=0,
                ncols=len(candidates[0].phases),
            )
        for n, (candidate, found) in enumerate(zip(candidates, values, strict=True)):
            left = (gap + (n % columns) * (card_w + gap)) / width
            top = 1 - (0.55 + (n // columns) * card_h) / height
            ax = figure.add_axes(
                (left, top - picture_h / height, card_w / width, picture_h / height)
            )
            _picture(ax, candidate)
            if candidate.microstructure is None:  # the bars have their numbers, the text is below
                ax.set(xlabel="", xticks=[])
                ax.tick_params(axis="y", labelsize=7.5)
                ax.spines["bottom"].set_visible(False)
            text = figure.add_axes(
                (
                    left,
                    top - (picture_h + text_height) / height,
                    card_w / width,
                    text_height / height,
                )
            )
            text.axis("off")
            text.set(xlim=(0, card_w), ylim=(text_height, 0))
            _card_text(text, candidate, found, targets, card_w)
    return Path(path)


def _phase_swatches(candidate: Candidate) -> list[Patch]:
    return [
        Patch(facecolor=phase_colour(i), edgecolor="#8A949E", linewidth=0.5, label=phase_label(p))
        for i, p in enumerate(candidate.phases)
    ]


def _card_text(
    ax: Any, candidate: Candidate, found: Mapping[str, float], targets: Targets, width: float
) -> None:
    distance = targets.distance(found)
    hit = distance == 0.0
    ax.text(0, 0.15, short_id(candidate.id), fontsize=9, weight="bold", va="center")
    verdict = "hit" if hit else f"distance {distance:.2g}"
    ax.text(width, 0.15, verdict, fontsize=8, va="center", ha="right", color=MET if hit else MISSED)
    y = 0.15
    for target in targets:
        y += 0.19
        label, unit = split_property(target.name)
        mark, colour = _mark(target_met(target, found.get(target.name)))
        ax.text(0.0, y, mark, fontsize=8.5, color=colour, va="center", weight="bold")
        ax.text(0.14, y, label, fontsize=7, va="center")
        ax.text(
            width * 0.635,
            y,
            format_number(found.get(target.name), target),
            fontsize=7.5,
            va="center",
            ha="right",
            weight="bold",
        )
        ax.text(
            width,
            y,
            f"{target_text(target)} {unit}".strip(),
            fontsize=6.5,
            va="center",
            ha="right",
            color=MUTED,
        )
    y += 0.06
    phases = composition_text(candidate, most=6)
    beside = max((_bold_width(phase, 7) + 0.08 for phase, _ in phases), default=0.0)
    for phase, composition in phases:
        y += 0.17
        ax.text(0, y, phase, fontsize=7, va="center", weight="bold")
        ax.text(beside, y, composition, fontsize=6.3, va="center", color="#3E4C59")
    for name, value in process_text(candidate):
        y += 0.17
        ax.text(
            0, y, f"{name}: {value}", fontsize=6.3, va="center", color="#3E4C59", parse_math=False
        )


def _bold_width(text: str, size: float) -> float:
    """Width in inches of a text in bold, ``size`` points high."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    path = TextPath((0, 0), text, prop=FontProperties(weight="bold", size=size))
    return float(path.get_extents().width) / 72


def candidate_figure(
    candidate: Candidate,
    record: Record | None,
    path: Path | str,
    *,
    targets: Targets | None = None,
) -> Path:
    """PNG of one candidate: microstructure, both compositions, properties with bounds and targets.

    ``record`` may be None (not evaluated) or hold a failed outcome, whose reason is then shown.
    """
    has_image = candidate.microstructure is not None
    has_bars = candidate.phase_compositions is not None
    outcome = None if record is None else record.outcome
    values = {} if outcome is None else dict(outcome.values)
    rows = _rows(values, list(targets or ()), others=True)
    table_h = 0.55 + 0.24 * (len(rows) + 1)
    top_h = 4.45
    width = 9.4
    with house_figure(path, width, top_h + table_h + 0.75, layout=None) as figure:
        height = figure.get_size_inches()[1]
        figure.text(0.3 / width, 1 - 0.3 / height, f"Candidate {candidate.id}", fontsize=12,
                    weight="bold", va="center")  # fmt: skip
        figure.text(0.3 / width, 1 - 0.56 / height, _origin_text(candidate, record), fontsize=8,
                    color=MUTED, va="center", parse_math=False)  # fmt: skip
        bottom = (table_h + 0.42) / height
        if has_image:
            ax = figure.add_axes((0.3 / width, bottom, 3.9 / width, 3.9 / height))
            _picture(ax, candidate)
            assert candidate.microstructure is not None
            h, w = candidate.microstructure.shape
            shares = "   ".join(
                f"{phase_label(p)} {100 * f:.1f} %"
                for p, f in zip(candidate.phases, candidate.phase_fractions(), strict=True)
            )
            ax.set_xlabel(f"{w} × {h} px     area: {shares}", fontsize=8, color=MUTED)
        if has_bars:
            left = 4.95 if has_image else 0.8
            ax = figure.add_axes(
                (left / width, bottom, (width - left - 0.35) / width, 3.9 / height)
            )
            _composition_bars(ax, candidate)
            ax.legend(
                loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(candidate.phases),
                borderaxespad=0.2,
            )  # fmt: skip
        ax = figure.add_axes((0.3 / width, 0, (width - 0.6) / width, (table_h - 0.12) / height))
        ax.axis("off")
        ax.set(xlim=(0, width - 0.6), ylim=(table_h - 0.12, 0))
        _property_table(ax, rows, record, width - 0.6)
    return Path(path)


def _origin_text(candidate: Candidate, record: Record | None) -> str:
    origin = candidate.origin
    parts = [f"from {origin.source}"]
    if origin.guidance is not None:
        parts.append(f"guidance {origin.guidance:g}")
    if record is not None:
        parts.append(f"{arm_label(record.arm)}, round {record.round}")
        parts.append(f"{record.fidelity} by {record.simulator} {record.version}")
    parts += [f"{name} {value}" for name, value in process_text(candidate)]
    return "   ·   ".join(parts)


def _property_table(
    ax: Any, rows: Sequence[tuple[Target | None, str]], record: Record | None, width: float
) -> None:
    columns = (0.0, 0.22, 0.52 * width, 0.76 * width, width)
    y = 0.12
    outcome = None if record is None else record.outcome
    for x, text, side in zip(
        columns[1:], ("property", "value", "target", "bounds"), ("left", *3 * ("right",)),
        strict=True,
    ):  # fmt: skip
        ax.text(x, y, text, fontsize=8, color=MUTED, ha=side, va="center")
    ax.plot([0, width], [y + 0.13] * 2, color="#C4CCD4", linewidth=0.8)
    y += 0.05
    for target, name in rows:
        y += 0.24
        value = None if outcome is None else outcome.values.get(name)
        mark, colour = _mark(None if target is None else target_met(target, value))
        ax.text(columns[0], y, mark, fontsize=9, color=colour, weight="bold", va="center")
        ax.text(columns[1], y, property_label(name), fontsize=8.5, va="center")
        ax.text(columns[2], y, format_number(value, target), fontsize=8.5, weight="bold",
                ha="right", va="center")  # fmt: skip
        ax.text(columns[3], y, target_text(target) if target else "", fontsize=8.5,
                ha="right", va="center", color=INK)  # fmt: skip
        if outcome is not None and name in outcome.bounds:
            low, high = outcome.bounds[name]
            text = f"{format_number(low)} to {format_number(high)}"
            ax.text(columns[4], y, text, fontsize=8.5, ha="right", va="center", color=MUTED)
    if outcome is None or outcome.status != "ok":
        text = "not evaluated yet" if outcome is None else f"{outcome.status}: {outcome.reason}"
        ax.text(columns[1], y + 0.24, text[:150], fontsize=8.5, color=MISSED, va="center")
