"""Pictures of a campaign: its rounds, and what was requested against what came."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from interface.labels import arm_label, inside_sentence, split_property
from interface.pictures import (
    ACCENT,
    MET,
    arm_colour,
)
from interface.plots_style import MARKERS, house_figure
from interface.views import arm_series
from loop.errors import InvalidInputError
from loop.targets import Target

FloatArray = NDArray[np.float64]


def rounds_figure(rounds: pd.DataFrame, path: Path | str, *, title: str = "") -> Path:
    """PNG with cumulative different hits, hit rate and best distance so far, per arm and round.

    ``rounds``: as from ``interface.views.round_table``: arm, round, distinct_hits_total,
    hit_rate, best_distance. Raises InvalidInputError when it is empty.
    """
    if rounds.empty:
        raise InvalidInputError("no round has been evaluated yet; run one first")
    panels = (
        ("distinct_hits_total", "Different hits, cumulative", "hits"),
        ("hit_rate", "Hit rate of each round", "share of evaluated designs"),
        ("best_distance", "Best distance to target so far", "distance (units of tolerance)"),
    )
    with house_figure(path, 11.4, 3.7 if title else 3.4) as figure:
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=11, weight="bold")
        axes = figure.subplots(1, 3)
        series = arm_series(rounds)
        for ax, (column, heading, unit) in zip(axes, panels, strict=True):
            for arm, frame in series.items():
                y = frame[column].to_numpy(dtype=float, copy=True)
                y[~np.isfinite(y)] = np.nan
                ax.plot(
                    frame["round"], y, color=arm_colour(arm), marker=MARKERS.get(arm, "v"),
                    markersize=5, label=arm_label(arm), clip_on=False,
                    zorder=3 if arm == "loop" else 2,
                )  # fmt: skip
            ax.set(title=heading, xlabel="round (0: seed designs)", ylabel=unit)
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
            ax.set_ylim(bottom=0)
        axes[1].yaxis.set_major_formatter(PercentFormatter(1.0))
        axes[1].set_ylim(0, 1)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return Path(path)


def requested_simulated_figure(
    requested: FloatArray,
    simulated: FloatArray,
    property_: str,
    path: Path | str,
    *,
    target: Target | None = None,
    groups: Sequence[str] | None = None,
    what: str = "requested",
) -> Path:
    """PNG of simulated against requested values, (n,) each, with identity line and target band.

    ``groups``: per point, what colours it (an arm or ``"guidance 2"``). ``what`` names the
    horizontal axis (``"requested"`` or ``"predicted"``). Pairs that are not finite are left out.
    """
    x, y = np.asarray(requested, float), np.asarray(simulated, float)
    if x.shape != y.shape or x.ndim != 1:
        raise InvalidInputError(f"{what} has shape {x.shape}, simulated {y.shape}; expected (n,)")
    keep = np.isfinite(x) & np.isfinite(y)
    if not keep.any():
        raise InvalidInputError(f"no candidate has both a {what} and a simulated {property_}")
    names = np.array(["" if groups is None else str(g) for g in (groups or [""] * len(x))])
    label, unit = split_property(property_)
    axis = f"{inside_sentence(label)}{f' ({unit})' if unit else ''}"
    with house_figure(path, 4.9, 4.9) as figure:
        ax = figure.subplots()
        low, high = _shared_limits(x[keep], y[keep], target)
        if target is not None and math.isfinite(target.low + target.high):
            ax.axhspan(target.low, target.high, color=MET, alpha=0.13, linewidth=0)
            ax.annotate("target", (high, target.high), xytext=(-3, 2), fontsize=7.5, color=MET,
                        textcoords="offset points", ha="right")  # fmt: skip
        ax.plot([low, high], [low, high], color="#7B8794", linewidth=1, dashes=(4, 3))
        for n, name in enumerate(sorted(set(names[keep]))):
            here = keep & (names == name)
            palette = (ACCENT, "#D9822B", "#2F8F6B", "#8C3B74", "#8A8A8A")
            known = name in MARKERS
            ax.scatter(
                x[here], y[here], s=18, linewidth=0.4, edgecolor="white", alpha=0.85, zorder=3,
                color=arm_colour(name) if known else palette[n % len(palette)],
                marker=MARKERS.get(name, "o"), label=arm_label(name) or None,
            )  # fmt: skip
        error = np.abs(y[keep] - x[keep])
        note = f"n = {keep.sum()}\nmedian |error| = {float(np.median(error)):.2g} {unit}"
        ax.text(0.03, 0.97, note.rstrip(), transform=ax.transAxes, va="top", fontsize=8)
        ax.set(xlim=(low, high), ylim=(low, high), xlabel=f"{what} {axis}",
               ylabel=f"simulated {axis}", aspect="equal")  # fmt: skip
        if groups is not None:
            ax.legend(loc="lower right", handletextpad=0.2)
    return Path(path)


def _shared_limits(x: FloatArray, y: FloatArray, target: Target | None) -> tuple[float, float]:
    everything = [x.min(), x.max(), y.min(), y.max()]
    if target is not None:
        everything += [v for v in (target.low, target.high) if math.isfinite(v)]
    low, high = float(min(everything)), float(max(everything))
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin
