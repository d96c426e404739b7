"""Profiles of properties along a path: simulated, measured and predicted, each as what it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from interface.composition_axes import STAR
from interface.labels import property_label
from interface.pictures import ACCENT, INK, MISSED, MUTED, OTHER_ARM_COLOURS

if TYPE_CHECKING:
    from interface.interpolated import Interpolation
    from loop.candidate import Outcome
    from loop.composition import FloatArray

MOST_PROFILES = 8
MOST_POINTS = 41  # with values; beyond, they are drawn as a line alone
ALONG = LinearSegmentedColormap.from_list("along", ["#9CC4E4", ACCENT, "#0A2E4D"])
BEFORE = "#9AA5B1"  # a path before it was mended
EXPECTED = OTHER_ARM_COLOURS[2]


def phase_colour(i: int) -> str:
    """Of a phase's line in any panel."""
    colours = (ACCENT, STAR, *OTHER_ARM_COLOURS)
    return colours[i % len(colours)]


def along(path: Interpolation) -> str:
    """What the axis along the path is called."""
    return "t from A to B" if path.tie_line is None else f"fraction of {path.tie_line.phases[1]}"


def direction(path: Interpolation) -> str:
    """Which way the mended property goes."""
    assert path.mended is not None
    return "rises" if path.mended.values[-1] >= path.mended.values[0] else "falls"


def profiles(path: Interpolation) -> list[str]:
    """Properties in the order of their panels, the one that was asked to be monotone first."""
    told = [*path.outcomes, *(path.predicted.outcomes if path.predicted is not None else ())]
    names = list(dict.fromkeys(k for o in told for k in o.values))
    if path.mended is not None and path.mended.name in names:
        names.remove(path.mended.name)
        names.insert(0, path.mended.name)
    return names


def draw_profiles(axes: Any, path: Interpolation, names: Sequence[str]) -> None:
    """A panel each in axes (rows, columns), after the phase fractions of a tie-line."""
    panels = list(axes.flat)
    free = iter(panels)
    used = 0
    if path.tie_line is not None:
        _phase_fractions(next(free), path)
        used += 1
    for name, ax in zip(names[:MOST_PROFILES], free, strict=False):
        profile(ax, path, name)
        used += 1
    columns = axes.shape[1]
    for place, ax in enumerate(panels):
        if place >= used:
            ax.set_visible(False)
        elif place + columns >= used:  # the last of its column
            ax.set_xlabel(along(path))
            ax.xaxis.set_tick_params(labelbottom=True)
        ax.set_xlim(-0.03, 1.03)


def _phase_fractions(ax: Any, path: Interpolation) -> None:
    assert path.tie_line is not None
    for i, (name, values) in enumerate(path.fractions().items()):
        ax.plot(path.t, values, color=phase_colour(i), label=name.removeprefix("fraction:"))
    ax.axvline(path.tie_line.at, color=MUTED, linewidth=0.9, dashes=(3, 2))
    ax.annotate(
        "this alloy", (path.tie_line.at, 1.0), xytext=(3, -2), textcoords="offset points",
        fontsize=7.5, color=MUTED, va="top",
    )  # fmt: skip
    ax.set_title("Phase fractions (of atoms)", fontsize=8.5)
    ax.set_ylim(-0.03, 1.03)
    ax.legend(loc="center right", fontsize=7.5)


def profile(ax: Any, path: Interpolation, name: str) -> None:
    """One property: found values with their bounds, expected ones with their interval."""
    expected = path.predicted.outcomes if path.predicted is not None else ()
    drawn = _expected(ax, path, name) if any(name in o.values for o in expected) else []
    values = _values(path.outcomes, name)
    mended = path.mended if path.mended is not None and path.mended.name == name else None
    if mended is not None:
        drawn.append(mended.values)
        ax.plot(path.t, mended.values, color=BEFORE, linewidth=1.2, dashes=(3, 2), zorder=1)
    if len(values):
        drawn += _found(ax, path, name, values, alone=not expected)
    if drawn and len(expected):
        ax.legend(loc="best", fontsize=7)
    title = property_label(name) + (f": {direction(path)}" if mended is not None else "")
    ax.set_title(title, fontsize=8.5, color=ACCENT if mended is not None else INK)
    _limit(ax, np.concatenate([d[np.isfinite(d)] for d in drawn]))


def _values(outcomes: Sequence[Outcome], name: str) -> FloatArray:
    """(n,) NaN where there is none, or empty where nobody was asked."""
    return np.array([o.values.get(name, math.nan) for o in outcomes])


def _ends(outcomes: Sequence[Outcome], name: str) -> FloatArray:
    """(2, n) bounds, NaN where there are none."""
    return np.array([o.bounds.get(name, (math.nan, math.nan)) for o in outcomes]).T


def _expected(ax: Any, path: Interpolation, name: str) -> list[FloatArray]:
    """The surrogate's mean and its interval."""
    assert path.predicted is not None
    values, ends = (read(path.predicted.outcomes, name) for read in (_values, _ends))
    ax.fill_between(path.t, *ends, color=EXPECTED, alpha=0.16, linewidth=0)
    label = f"predicted, {100 * path.predicted.level:.0f} %"
    ax.plot(path.t, values, color=EXPECTED, linewidth=1.4, dashes=(5, 2), zorder=2, label=label)
    return [values, *ends]


def _found(
    ax: Any, path: Interpolation, name: str, values: FloatArray, *, alone: bool
) -> list[FloatArray]:
    """What simulators or people found; gaps are marked where nothing else says what is there."""
    ends = _ends(path.outcomes, name)
    if not np.all(np.isnan(ends)):
        ax.fill_between(path.t, *ends, color=ACCENT, alpha=0.16, linewidth=0)
    label = None if np.all(np.isnan(values)) else path.fidelity.get(name, "simulated")
    few = np.isfinite(values).sum() <= MOST_POINTS
    marker = {"marker": "o", "markersize": 3.5} if few else {}
    ax.plot(path.t, values, color=ACCENT, zorder=3, label=label, **marker)
    spread = np.array([o.uncertainty.get(name, math.nan) for o in path.outcomes])
    if not np.all(np.isnan(spread)):
        ax.errorbar(path.t, values, spread, fmt="none", ecolor=ACCENT, elinewidth=1.0, zorder=3)
    if few:
        ax.scatter(path.t, values, c=ALONG(path.t), s=16, zorder=4)
    for t in path.t[np.isnan(values)] if alone else ():
        ax.axvline(t, color=MISSED, linewidth=0.8, dashes=(2, 2))
    return [values, *ends, values - spread, values + spread]


def _limit(ax: Any, finite: FloatArray) -> None:
    """Limits of the axis that hold the values."""
    if not len(finite):
        return
    low, high = float(finite.min()), float(finite.max())
    # What differs by rounding alone is drawn as one level, not as noise.
    span = max(high - low, 1e-3 * max(abs(low), abs(high)), 1e-12)
    ax.set_ylim((low + high) / 2 - 0.58 * span, (low + high) / 2 + 0.58 * span)
    if 1e-3 < max(abs(low), abs(high)) < 1e6:
        ax.ticklabel_format(axis="y", useOffset=False, style="plain")
