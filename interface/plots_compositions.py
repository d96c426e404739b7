"""Pictures of paths between compositions: where they go, what is simulated, how it looks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from interface.composition_axes import composition_bars, tetrahedron, triangle
from interface.labels import inside_sentence, phase_label, split_property
from interface.pictures import ACCENT, MISSED, MUTED, colour_image
from interface.plots_profiles import (
    ALONG,
    BEFORE,
    MOST_POINTS,
    MOST_PROFILES,
    along,
    direction,
    draw_profiles,
    phase_colour,
    profiles,
)
from interface.plots_style import house_figure

if TYPE_CHECKING:
    from interface.interpolated import Interpolation

VARIES = 1e-6  # atomic fraction
IN_A_STRIP = 9
LEFT = 4.3  # inches, width of the part with the compositions
PANEL = 3.55  # inches, side of the panel of compositions
PROFILE = (2.75, 1.78)  # inches, of a property
TILE = 1.12


def path_figure(path: Interpolation, file: Path | str, *, title: str = "") -> Path:
    """PNG of a path: its compositions, a profile of each property, a strip of its micrographs.

    Compositions in a triangle where three elements vary, in a tetrahedron where four do, both cut
    down to where the path is, and else as stacked bars; a tie-line has its phase fractions besides
    and a star at the alloy that it was drawn through. Bands hold the bounds of a property, or the
    interval of what a surrogate expects (``plots_profiles``). Points outside their bounds have a
    red edge, one that could not be scored leaves a gap, and dashes are what a path was before it
    was mended. Raises InvalidInputError where the file cannot be written.
    """
    file = Path(file)
    names = profiles(path)
    count = min(len(names), MOST_PROFILES) + (path.tie_line is not None)
    columns = 0 if not count else 1 if count < 3 else 2 if count < 5 else 3
    rows = math.ceil(count / columns) if columns else 0
    places = _pictured(path)
    panels = 1 if len(_varying(path)) in (3, 4) else len(path.phases)
    top = max(PANEL if panels == 1 else 2.1 * panels + 0.3, rows * PROFILE[1])
    strip = TILE + 0.3 if places else 0.0
    width = max(LEFT + (columns * PROFILE[0] if columns else 0.6), TILE * len(places) + 0.5)
    with house_figure(file, width, top + strip + 0.4) as figure:
        figure.suptitle(title or _title(path), x=0.012, ha="left", fontsize=11, weight="bold")
        heights = [top, strip] if places else [top]
        parts: Any = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)
        widths = [LEFT, width - LEFT] if columns else [width]
        sides: Any = parts[0, 0].subfigures(1, len(widths), width_ratios=widths, squeeze=False)
        _compositions(sides[0, 0], path)
        if columns:
            axes: Any = sides[0, 1].subplots(rows, columns, squeeze=False, sharex=True)
            draw_profiles(axes, path, names)
            if len(names) > MOST_PROFILES:
                text = f"and {len(names) - MOST_PROFILES} more"
                sides[0, 1].text(0.99, 0.01, text, ha="right", fontsize=7.5, color=MUTED)
        if places:
            _strip(parts[1, 0], path, places)
    return file


def _title(path: Interpolation) -> str:
    if path.tie_line is not None:
        first, second = path.tie_line.phases
        return f"Tie-line of {first} and {second} at {path.tie_line.temperature_K:g} K"
    words = {
        "line": "Mixtures by the lever rule",
        "aitchison": "Equal steps in log ratios",
        "feasible": "Within the bounds",
        "generator": "Through the trained generator",
    }
    text = words.get(path.kind, path.kind)
    if path.mended is not None:
        label = split_property(path.mended.name)[0]
        how = " as predicted" if path.mended.fidelity == "predicted" else ""
        text += f"; {inside_sentence(label)} only {direction(path)}{how}"
    return text


def _ends(path: Interpolation) -> tuple[str, str]:
    return ("A", "B") if path.tie_line is None else path.tie_line.phases


# Compositions


def _varying(path: Interpolation) -> list[int]:
    """Elements whose amount is not the same at every point of every phase."""
    flat = path.compositions.reshape(-1, len(path.elements))
    return [int(j) for j in np.flatnonzero(np.ptp(flat, axis=0) > VARIES)]


def _compositions(figure: Any, path: Interpolation) -> None:
    varying = _varying(path)
    if len(varying) not in (3, 4):
        axes: Any = figure.subplots(len(path.phases), 1, squeeze=False, sharex=True)
        for i, ax in enumerate(axes[:, 0]):
            composition_bars(ax, path.t, path.compositions[:, i], path.elements)
            ax.set_title(phase_label(path.phases[i]) if len(path.phases) > 1 else "Composition")
            ax.set_ylabel("at.%")
        axes[-1, 0].set_xlabel(along(path))
        return
    # The others are the same everywhere, so these have one sum and the sub-composition is linear.
    x = path.compositions[:, :, varying]
    total = float(x[0, 0].sum())
    shown = [x] if path.mended is None else [x, path.mended.compositions[:, :, varying]]
    draw = triangle if len(varying) == 3 else tetrahedron
    ax = draw(figure, np.stack(shown, axis=1) / total, [path.elements[j] for j in varying], total)
    if len(shown) > 1:
        for i in range(len(path.phases)):
            ax.line(shown[1][:, i] / total, color=BEFORE, dashes=(3, 2))
    outside = np.zeros(len(path.t), dtype=bool) if path.feasible is None else ~path.feasible
    colours, size = ALONG(path.t), 26 if len(path.t) <= MOST_POINTS else 9
    x = x / total
    for i, phase in enumerate(path.phases):
        ax.line(x[:, i], color=phase_colour(i))
        ax.points(x[:, i], colours, size=size)
        if outside.any():
            ax.points(x[outside, i], colours[outside], size=size, edge=MISSED)
        which = f" {phase_label(phase)}" if len(path.phases) > 1 else ""
        for name, end, other in zip(_ends(path), (0, -1), (-1, 0), strict=True):
            ax.name(x[end, i], name + which, x[other, i])
    if path.tie_line is not None:
        ax.star((1 - path.tie_line.at) * x[0, 0] + path.tie_line.at * x[-1, 0])


# Micrographs


def _pictured(path: Interpolation) -> list[int]:
    """Places of the points whose micrographs are drawn, evenly spread; both ends among them."""
    if not path.candidates or any(c.microstructure is None for c in path.candidates):
        return []
    count = min(IN_A_STRIP, len(path.t))
    found: list[int] = np.linspace(0, len(path.t) - 1, count).round().astype(int).tolist()
    return found


def _strip(figure: Any, path: Interpolation, places: Sequence[int]) -> None:
    axes: Any = figure.subplots(1, len(places), squeeze=False)
    names = dict(zip((0, len(path.t) - 1), _ends(path), strict=True))
    for ax, i in zip(axes[0], places, strict=True):
        image = path.candidates[i].microstructure
        assert image is not None
        ax.imshow(colour_image(image), interpolation="nearest")
        ax.grid(visible=False)
        ax.set(xticks=[], yticks=[])
        end = i in names
        for spine in ax.spines.values():
            colour = ACCENT if end else "#C4CCD4"
            spine.set(visible=True, color=colour, linewidth=1.4 if end else 0.8)
        text = names.get(i, f"t = {path.t[i]:.2g}")
        ax.set_xlabel(text, fontsize=8, weight="bold" if end else "normal", color=MUTED)
