"""Real beside generated micrographs: patches and the statistics that tell them apart."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from interface.labels import phase_label
from interface.pictures import ACCENT, OTHER_ARM_COLOURS, colour_image
from interface.plots_style import house_figure
from loop.errors import InvalidInputError
from loop.statistics import precipitate_diameters, radial_power_spectrum, two_point_radial

FloatArray = NDArray[np.float64]
LabelImages = NDArray[np.uint8]

REAL = "#D9822B"
IN_A_ROW = 12  # label images of a set in ``micrograph_rows``
SHOWN = 9  # patches drawn of each set, spread evenly over it
BAND = (10, 90)  # percentiles of the patches that the bands hold


def micrograph_comparison(
    real: LabelImages,
    generated: LabelImages,
    path: Path | str,
    *,
    phase: str = "gamma_prime",
    label: int = 1,
    title: str = "Generated beside real micrographs",
) -> Path:
    """PNG: patches of both sets above their two-point statistics, spectrum, fractions and sizes.

    ``real``: held-out label patches, (n, h, w); ``generated``: (m, h, w), the same size.
    ``phase``, ``label``: the phase whose statistics are drawn and its label. Curves are means
    over the set, bands hold the middle 80 % of its patches. Raises InvalidInputError for an empty
    set or patches of two sizes (particles that the edge cuts only compare at equal size).
    """
    real, generated = np.asarray(real), np.asarray(generated)
    for name, images in (("real", real), ("generated", generated)):
        if images.ndim != 3 or len(images) == 0:
            raise InvalidInputError(
                f"{name} micrographs have shape {images.shape}; expected (n, h, w), n > 0"
            )
    if real.shape[1:] != generated.shape[1:]:
        raise InvalidInputError(
            f"real patches are {real.shape[1:]} and generated {generated.shape[1:]}; "
            "cut the real ones to the size of the generated"
        )
    sets = (
        (f"Real, held out (n = {len(real)})", real, REAL),
        (f"Generated (n = {len(generated)})", generated, ACCENT),
    )
    written = phase_label(phase)
    with house_figure(path, 12.4, 6.4) as figure:
        figure.suptitle(title, x=0.008, ha="left", fontsize=12, weight="bold")
        parts: Any = figure.subfigures(2, 1, height_ratios=(1.13, 1.0))
        upper, lower = parts
        rows = upper.subplots(2, SHOWN)
        for axes, (name, images, colour) in zip(rows, sets, strict=True):
            _patches(axes, images, name, colour)
        two_point, spectrum, fraction, size = lower.subplots(1, 4)
        bins = np.linspace(0, 1, 26)
        largest = np.sqrt(4 / np.pi * real[0].size)
        edges = np.geomspace(1.0, largest * 1.01, 17)
        for name, images, colour in sets:
            indicator = images == label
            _curve(two_point, *two_point_radial(indicator), name, colour)
            _curve(spectrum, *radial_power_spectrum(indicator), name, colour)
            shares = np.histogram(indicator.mean((1, 2)), bins)[0] / len(images)
            _steps(fraction, shares, bins, colour)
            diameters = np.concatenate([precipitate_diameters(image) for image in indicator])
            _steps(size, np.histogram(diameters, edges)[0] / len(images), edges, colour)
        two_point.set(title="Two-point probability", xlabel="distance r (px)",
                      ylabel=f"$S_2(r)$ of {written}", xlim=(0, None), ylim=(0, None))  # fmt: skip
        spectrum.set(title="Radial power spectrum", xlabel="spatial frequency (1/px)",
                     ylabel="power", xscale="log")  # fmt: skip
        if any(
            len(np.unique(images == label)) > 1 for _, images, _ in sets
        ):  # an absent phase has no power
            spectrum.set_yscale("log")
        spectrum.set_xticks([0.02, 0.05, 0.1, 0.2, 0.5], ["0.02", "0.05", "0.1", "0.2", "0.5"])
        spectrum.minorticks_off()
        fraction.set(title="Area fraction", xlabel=f"{written} fraction of a patch",
                     ylabel="share of patches", ylim=(0, None))  # fmt: skip
        size.set(title="Precipitate size", xlabel="equivalent diameter (px)",
                 ylabel="particles per patch", xscale="log", ylim=(0, None))  # fmt: skip
        size.set_xticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
        size.set_xlim(1.0, edges[-1])
        handles, labels = two_point.get_legend_handles_labels()
        lower.legend(handles, labels, loc="outside lower center", ncols=2)
    return Path(path)


def micrograph_rows(
    rows: Mapping[str, LabelImages],
    path: Path | str,
    *,
    title: str = "Real and generated micrographs",
) -> Path:
    """PNG: one row of label images a set, its name before it, the first set drawn as real.

    ``rows``: name -> (n, h, w), at most ``IN_A_ROW`` of them drawn. Raises InvalidInputError for
    an empty set and when there is none.
    """
    for name, images in rows.items():
        if images.ndim != 3 or len(images) == 0:
            raise InvalidInputError(
                f"micrographs of {name!r} have shape {images.shape}; expected (n, h, w), n > 0"
            )
    if not rows:
        raise InvalidInputError("there are no micrographs to draw; give at least one set")
    count = min(IN_A_ROW, max(map(len, rows.values())))
    with house_figure(path, 1.0 * count + 2.0, 1.06 * len(rows) + 0.5) as figure:
        figure.suptitle(title, x=0.008, ha="left", fontsize=12, weight="bold")
        grid: Any = figure.subplots(len(rows), count, squeeze=False)
        for number, (axes, (name, images)) in enumerate(zip(grid, rows.items(), strict=True)):
            colour = REAL if number == 0 else ACCENT
            _tiles(axes, images[:count], colour if number == 0 else "#C4CCD4")
            axes[0].set_ylabel(
                textwrap.fill(name, 20), rotation=0, ha="right", va="center", color=colour
            )
    return Path(path)


def interpolation_figure(
    strips: Sequence[LabelImages],
    shares: FloatArray,
    curves: Mapping[str, Sequence[FloatArray]],
    path: Path | str,
    *,
    logarithmic: Collection[str] = (),
    title: str = "Between two real micrographs",
) -> Path:
    """PNG: walks from one micrograph to another as strips, and what was simulated along them.

    ``strips``: (m, h, w) frames of each walk, the ends real; ``shares`` (m,) from 0 to 1;
    ``curves``: label of an axis -> a curve (m,) of each walk, more of them than there are strips
    if need be: those of strips are drawn strong. ``logarithmic``: labels of the axes that are.
    Raises InvalidInputError for frames or curves of another length.
    """
    lengths = {len(s) for s in strips} | {len(c) for walk in curves.values() for c in walk}
    if not strips or not curves or lengths != {len(shares)}:
        raise InvalidInputError(
            f"strips and curves have {', '.join(map(str, sorted(lengths))) or 'no'} frames; "
            f"expected {len(shares)}, one for each share, and at least one of both"
        )
    with house_figure(path, 0.98 * len(shares) + 0.6, 1.0 * len(strips) + 2.9) as figure:
        figure.suptitle(title, x=0.008, ha="left", fontsize=12, weight="bold")
        heights = (1.0 * len(strips), 2.5)
        parts: Any = figure.subfigures(2, 1, height_ratios=heights)
        grid: Any = parts[0].subplots(len(strips), len(shares), squeeze=False)
        for number, (axes, frames) in enumerate(zip(grid, strips, strict=True)):
            _tiles(axes, frames, "#C4CCD4")
            for end in (axes[0], axes[-1]):
                _frame(end, REAL)
            colour = _walk_colour(number)
            axes[0].set_ylabel(str(number + 1), rotation=0, ha="right", va="center", color=colour)
        panels: Any = parts[1].subplots(1, len(curves), squeeze=False)
        for ax, (label, walks) in zip(panels[0], curves.items(), strict=True):
            for number, values in reversed(list(enumerate(walks))):
                shown = number < len(strips)
                ax.plot(
                    shares,
                    values,
                    color=_walk_colour(number) if shown else "#C4CCD4",
                    marker="o" if shown else None,
                    markersize=3.5,
                    linewidth=1.8 if shown else 1.0,
                )
            ax.set(xlabel="share of the second micrograph", ylabel=label, xlim=(-0.02, 1.02))
            if label in logarithmic:
                ax.set_yscale("log")
                ax.yaxis.set_major_formatter("{x:g}")
                ax.yaxis.set_minor_formatter(NullFormatter())
    return Path(path)


def _walk_colour(number: int) -> str:
    colours = (ACCENT, *OTHER_ARM_COLOURS, REAL)
    return colours[number % len(colours)]


def _tiles(axes: Any, images: LabelImages, edge: str) -> None:
    """Pictures without ticks; axes that are left over stay empty."""
    for ax in axes:
        ax.grid(visible=False)
        ax.set(xticks=[], yticks=[])
        for spine in ax.spines.values():
            spine.set_visible(False)
    for ax, image in zip(axes, images, strict=False):
        ax.imshow(colour_image(image), interpolation="nearest")
        _frame(ax, edge)


def _frame(ax: Any, colour: str) -> None:
    for spine in ax.spines.values():
        spine.set(visible=True, color=colour, linewidth=0.8 if colour != REAL else 1.6)


def _patches(axes: Any, images: LabelImages, name: str, colour: str) -> None:
    places = np.linspace(0, len(images) - 1, min(SHOWN, len(images))).round().astype(int)
    _tiles(axes, images[places], "#C4CCD4")
    axes[0].set_title(name, color=colour)


def _curve(ax: Any, x: FloatArray, curves: FloatArray, name: str, colour: str) -> None:
    low, high = np.percentile(curves, BAND, axis=0)
    ax.fill_between(x, low, high, color=colour, alpha=0.16, linewidth=0)
    ax.plot(x, curves.mean(0), color=colour, label=name)


def _steps(ax: Any, heights: FloatArray, edges: FloatArray, colour: str) -> None:
    ax.stairs(heights, edges, color=colour, linewidth=1.6)
    ax.stairs(heights, edges, color=colour, alpha=0.14, fill=True)
