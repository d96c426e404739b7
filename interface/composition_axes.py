"""Axes on which compositions are drawn: a triangle, a tetrahedron, stacked bars.

Triangle and tetrahedron are cut down to the part of the simplex where the points are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib import import_module
from itertools import combinations
from typing import Any

import numpy as np
from matplotlib import patheffects

from interface.pictures import INK, MUTED
from loop.composition import FloatArray

MARGIN = 0.15  # of the extent of the points, on each side of them
LEAST = 0.01  # of the simplex, side of what is shown
WHOLE = 0.6  # from this side on the whole simplex is shown
MOST_BARS = 41
HALO = [patheffects.withStroke(linewidth=2.5, foreground="white")]
EDGE = "#66727F"
STAR = "#D9822B"
# After P. Tol, "Colour schemes", SRON/EPS/TN/09-002 (2021): muted and light, neighbours unlike.
COLOURS = (
    "#DDDDDD", "#4477AA", "#EEDD88", "#CC6677", "#44AA99", "#332288", "#EE8866", "#99DDFF",
    "#117733", "#FFAABB", "#882255", "#BBCC33", "#77AADD", "#999933", "#AA4499", "#222255",
)  # fmt: skip


def window(x: FloatArray) -> tuple[FloatArray, float]:
    """Least fractions (k,) and the side of the part of the simplex that holds points (..., k)."""
    flat = x.reshape(-1, x.shape[-1])
    extent = max(float(np.ptp(flat, axis=0).max()), LEAST)
    low = np.maximum(flat.min(axis=0) - MARGIN * extent, 0.0)
    step = 10.0 ** np.floor(np.log10((1.0 - float(low.sum())) / 2))
    low = np.floor(low / step + 1e-9) * step
    side = 1.0 - float(low.sum())
    return (np.zeros_like(low), 1.0) if side > WHOLE else (low, side)


class SimplexAxes(ABC):
    """What both have: points are (..., k) shares with sum 1, drawn as atomic percent."""

    options: Mapping[str, Any] = {}

    def __init__(self, ax: Any, total: float, low: FloatArray, side: float) -> None:
        self.ax, self.percent, self.low, self.side = ax, 100 * total, low, side

    @abstractmethod
    def place(self, x: FloatArray) -> FloatArray:
        """(..., k) shares -> (coordinates, ...) as the axes take them."""

    def line(self, x: FloatArray, color: Any, dashes: tuple[int, int] | None = None) -> None:
        style = "-" if dashes is None else (0, dashes)
        self.ax.plot(*self.place(x), color=color, linewidth=1.6, linestyle=style, zorder=2)

    def points(self, x: FloatArray, color: Any, size: float, edge: Any = "white") -> None:
        self.ax.scatter(
            *self.place(x), c=color, s=size, edgecolor=edge, linewidth=0.7, zorder=3,
            clip_on=False, **self.options,
        )  # fmt: skip

    def star(self, x: FloatArray) -> None:
        self.ax.scatter(
            *self.place(x[None]), marker="*", s=150, color=STAR, edgecolor="white", zorder=4,
            clip_on=False, **self.options,
        )  # fmt: skip

    def ways(self, away: FloatArray) -> list[FloatArray]:
        """Directions in which the name of an end may stand, the best first."""
        return [away]

    def name(self, x: FloatArray, text: str, other: FloatArray) -> None:
        """Beside an end, on the side away from the ``other`` one."""
        away = (x - other) / max(float(np.linalg.norm(x - other)), 1e-12)
        places = [x + 0.075 * self.side * way for way in self.ways(away)]
        inside = [p for p in places if np.min((p - self.low) / self.side) > 0.03]
        self.ax.text(
            *self.place((inside or places)[0]), text, ha="center", va="center", weight="bold",
            fontsize=9, color=INK, path_effects=HALO, zorder=5,
        )  # fmt: skip


class Triangle(SimplexAxes):
    """A ternary diagram: the first element on top, then left, then right."""

    def place(self, x: FloatArray) -> FloatArray:
        return self.percent * np.moveaxis(x, -1, 0)

    def ways(self, away: FloatArray) -> list[FloatArray]:
        beside = np.cross(np.full(3, 3**-0.5), away)
        return [away, beside, -beside]


class Tetrahedron(SimplexAxes):
    """A quaternary diagram in three dimensions, the first element on top."""

    CORNERS = np.array(
        [
            [0.0, 0.0, 1.0],
            [-np.sqrt(2 / 9), -np.sqrt(2 / 3), -1 / 3],
            [np.sqrt(8 / 9), 0.0, -1 / 3],
            [-np.sqrt(2 / 9), np.sqrt(2 / 3), -1 / 3],
        ]
    )

    options: Mapping[str, Any] = {"depthshade": False}

    def place(self, x: FloatArray) -> FloatArray:
        return np.moveaxis(((x - self.low) / self.side) @ self.CORNERS, -1, 0)


def triangle(figure: Any, x: FloatArray, names: Sequence[str], total: float) -> Triangle:
    """Ternary axes for shares (..., 3) of a sub-composition that is ``total`` of the alloy."""
    import_module("mpltern")  # registers the projection
    low, side = window(x)
    percent = 100 * total
    ax = figure.add_subplot(projection="ternary", ternary_sum=percent)
    ax.set_ternary_min(*(percent * low), fit="triangle")
    for axis, label, name in zip(
        (ax.taxis, ax.laxis, ax.raxis),
        (ax.set_tlabel, ax.set_llabel, ax.set_rlabel),
        names,
        strict=True,
    ):
        label(f"{name} (at.%)", color=INK, fontsize=9)
        axis.set_label_position("tick1")
        axis.set_major_formatter("{x:.4g}")
        axis.get_major_locator().set_params(nbins=5)
    ax.grid(visible=True, color="#E6EAEE", linewidth=0.8)
    ax.tick_params(labelrotation="horizontal", labelsize=7.5, colors="#52606D", length=3)
    return Triangle(ax, total, low, side)


def tetrahedron(figure: Any, x: FloatArray, names: Sequence[str], total: float) -> Tetrahedron:
    """A tetrahedron for shares (..., 4) of a sub-composition that is ``total`` of the alloy.

    Each corner says what the element comes to there, and what it has on the face opposite. The
    shadow of the points on the base shows how high they are.
    """
    low, side = window(x)
    ax = figure.add_subplot(projection="3d", proj_type="ortho", computed_zorder=False)
    ax.set_axis_off()
    made = Tetrahedron(ax, total, low, side)
    corners = Tetrahedron.CORNERS
    base = corners[1:]
    ax.plot_trisurf(
        *base.T, triangles=[[0, 1, 2]], color="#EEF1F4", alpha=0.6, zorder=0, shade=False
    )
    for i, j in combinations(range(4), 2):
        # Seen from in front, only the edge of the second and the fourth corner lies behind.
        behind = (i, j) == (1, 3)
        ax.plot(
            *corners[[i, j]].T, color=EDGE, linewidth=0.7 if behind else 1.1,
            linestyle=(0, (3, 3)) if behind else "-", zorder=1,
        )  # fmt: skip
    for k, (corner, name) in enumerate(zip(corners, names, strict=True)):
        least = 100 * total * low[k]
        span = f"{least:.4g}–{least + 100 * total * side:.4g}"
        text = f"{name}\n{span} at.%"
        ax.text(
            *(1.2 * corner), text, ha="center", va="center", fontsize=8.5, color=INK, zorder=5,
            linespacing=1.2, path_effects=HALO,
        )  # fmt: skip
    flat = x.reshape(len(x), -1, 4)
    for i in range(flat.shape[1]):
        above = made.place(flat[:, i])
        floor = np.full(len(x), -1 / 3)
        ax.plot(above[0], above[1], floor, color="#C4CCD4", linewidth=1.2, zorder=1)
        for place in {0, len(x) - 1}:
            ax.plot(
                [above[0][place]] * 2, [above[1][place]] * 2, [-1 / 3, above[2][place]],
                color="#C4CCD4", linewidth=0.8, linestyle=(0, (2, 2)), zorder=1,
            )  # fmt: skip
    ax.view_init(elev=16, azim=-8)
    ax.set(xlim=(-0.75, 0.95), ylim=(-0.85, 0.85), zlim=(-0.55, 1.15))
    ax.set_box_aspect((1, 1, 1), zoom=1.32)
    return made


def composition_bars(ax: Any, t: FloatArray, x: FloatArray, elements: Sequence[str]) -> None:
    """Stacked bars (areas where there are many points) of compositions (n, e) over t (n,).

    The element there is most of lies at the bottom.
    """
    order = [int(j) for j in np.argsort(-x.mean(axis=0), kind="stable") if x[:, j].max() > 0]
    top = np.zeros(len(t))
    bars = len(t) <= MOST_BARS
    for place, j in enumerate(order):
        colour = COLOURS[place % len(COLOURS)]
        part = 100 * x[:, j]
        hatch = "//" if place >= len(COLOURS) else None
        if bars:
            width = 0.86 / (len(t) - 1)
            ax.bar(
                t, part, width, bottom=top, color=colour, edgecolor="white", linewidth=0.4,
                label=elements[j], hatch=hatch,
            )  # fmt: skip
        else:
            ax.fill_between(
                t, top, top + part, color=colour, linewidth=0, label=elements[j], hatch=hatch
            )
        top = top + part
    ax.set(ylim=(0, 100), xlim=(-0.6 / (len(t) - 1), 1 + 0.6 / (len(t) - 1)) if bars else (0, 1))
    ax.grid(visible=False)
    handles, labels = ax.get_legend_handles_labels()
    ax.legend(
        handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7,
        handlelength=1.0, handleheight=1.0, labelspacing=0.25, borderaxespad=0.3, labelcolor=MUTED,
    )  # fmt: skip
