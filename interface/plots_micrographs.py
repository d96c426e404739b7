"""Real beside generated micrographs: patches and the statistics that tell them apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interface.labels import phase_label
from interface.pictures import ACCENT, colour_image
from interface.plots_style import house_figure
from loop.errors import InvalidInputError
from loop.statistics import precipitate_diameters, radial_power_spectrum, two_point_radial

FloatArray = NDArray[np.float64]
LabelImages = NDArray[np.uint8]

REAL = "#D9822B"
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


def _patches(axes: Any, images: LabelImages, name: str, colour: str) -> None:
    places = np.linspace(0, len(images) - 1, min(SHOWN, len(images))).round().astype(int)
    for ax in axes:
        ax.grid(visible=False)
        ax.set(xticks=[], yticks=[])
        for spine in ax.spines.values():
            spine.set_visible(False)
    for ax, place in zip(axes, places, strict=False):
        ax.imshow(colour_image(images[place]), interpolation="nearest")
        for spine in ax.spines.values():
            spine.set(visible=True, color="#C4CCD4", linewidth=0.8)
    axes[0].set_title(name, color=colour)


def _curve(ax: Any, x: FloatArray, curves: FloatArray, name: str, colour: str) -> None:
    low, high = np.percentile(curves, BAND, axis=0)
    ax.fill_between(x, low, high, color=colour, alpha=0.16, linewidth=0)
    ax.plot(x, curves.mean(0), color=colour, label=name)


def _steps(ax: Any, heights: FloatArray, edges: FloatArray, colour: str) -> None:
    ax.stairs(heights, edges, color=colour, linewidth=1.6)
    ax.stairs(heights, edges, color=colour, alpha=0.14, fill=True)
