"""Picture of a work list: what is to be made, and what is expected of it beside what is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from interface.labels import composition_text, property_label, short_id
from interface.laboratory import Expectations
from interface.pictures import ACCENT, INK, MUTED
from interface.plots_style import house_figure
from loop.errors import InvalidInputError
from loop.laboratory import Work
from loop.targets import Maximise, Minimise, Range, Target, Value

MOST_PANELS = 4
ROW = 0.27  # inches, of a design
NAMES, PANEL = 4.1, 3.3  # inches


def work_figure(
    work: Sequence[Work],
    expected: Expectations,
    targets: Sequence[Target],
    known: Mapping[str, Sequence[float]],
    file: Path | str,
    *,
    title: str = "",
) -> Path:
    """PNG of the designs of a work list, the best expected on top, a panel for each target.

    Dots with bars: the surrogate's mean and the standard deviation of what would be measured (of
    the property alone where the scatter of measuring it is not on record, which the axis says).
    Ticks along the bottom: ``known``,
    all values on record of a property. A line: the value that a hit must reach; a band: the range
    of one that must be met. Of more than four targets the first four are drawn. Raises
    InvalidInputError where nothing is expected of any design, or the file cannot be written.
    """
    shown = list(targets)[:MOST_PANELS]
    names = [t.name for t in shown]
    listed = [w for w in work if all(name in expected.get(w.candidate.id, {}) for name in names)]
    if not listed:
        raise InvalidInputError(
            "nothing is expected of the designs on the work list; a surrogate predicts from the "
            "first round on"
        )
    listed.sort(key=lambda w: _place(shown[0], expected[w.candidate.id][names[0]].mean))
    height = ROW * len(listed) + 1.3
    with house_figure(file, NAMES + PANEL * len(shown), height) as figure:
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=11, weight="bold")
        axes: Any = figure.subplots(1, len(shown), squeeze=False, sharey=True)
        y = np.arange(len(listed))
        for ax, target in zip(axes[0], shown, strict=True):
            found = [expected[w.candidate.id][target.name] for w in listed]
            _limits(ax, target)
            ax.errorbar(
                [e.mean for e in found], y, xerr=[e.std for e in found],
                fmt="o", color=ACCENT, markersize=5, linewidth=1.2,
            )  # fmt: skip
            rug = np.asarray(known.get(target.name, ()), dtype=np.float64)
            bottom = len(listed) - 0.35
            ax.plot(rug, np.full(len(rug), bottom), "|", color=MUTED, markersize=6, alpha=0.5)
            bare = any(e.noise is None for e in found)
            what = "the property itself" if bare else "a measurement"
            ax.set_xlabel(
                f"{property_label(target.name)}, expected\n± one standard deviation of {what}"
            )
            ax.set_ylim(len(listed) - 0.1, -0.6)
            ax.grid(visible=False, axis="y")
        axes[0, 0].set_yticks(y, [_words(w) for w in listed], fontsize=7.5)
        axes[0, 0].tick_params(axis="y", length=0)
    return Path(file)


def _place(target: Target, value: float) -> float:
    """What is smaller for a better value."""
    if isinstance(target, Maximise):
        return -value
    if isinstance(target, Minimise):
        return value
    return abs(value - 0.5 * (target.low + target.high))


def _limits(ax: Any, target: Target) -> None:
    if isinstance(target, (Range, Value)):
        ax.axvspan(target.low, target.high, color=ACCENT, alpha=0.12, linewidth=0)
        return
    for end in (target.low, target.high):
        if np.isfinite(end):
            ax.axvline(end, color=INK, linestyle="--", linewidth=0.9)


def _words(work: Work) -> str:
    candidate = work.candidate
    parts = [text for _, text in composition_text(candidate, most=6)]
    parts += list(candidate.labels.values())
    return "   ".join([*parts, short_id(candidate.id)])
