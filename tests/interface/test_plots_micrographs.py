"""Strips of micrographs: every set is drawn, and what cannot be drawn is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from interface.pictures import ACCENT, PHASE_COLOURS
from interface.plots_micrographs import REAL, interpolation_figure, micrograph_rows
from loop.errors import InvalidInputError
from tests.interface.test_plots import pixels, share


def images(n: int, value: int | None = None) -> np.ndarray:
    rng = np.random.default_rng(n)
    shape = (n, 32, 32)
    return (rng.integers(2, size=shape) if value is None else np.full(shape, value)).astype(
        np.uint8
    )


def test_rows_are_drawn_one_below_the_other(tmp_path: Path) -> None:
    found = pixels(
        micrograph_rows({"real": images(20, 1), "made": images(5, 0)}, tmp_path / "rows.png")
    )
    half = found.shape[0] // 2 + 20  # the title is above
    assert share_of(found[:half], PHASE_COLOURS[1]) > 0.4
    assert share_of(found[half:], PHASE_COLOURS[1]) < 0.01
    assert share_of(found[half:], PHASE_COLOURS[0]) > 0.2  # five of twelve places


def share_of(found: np.ndarray, colour: str) -> float:
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return float(np.mean(np.abs(found[..., :3].astype(int) - wanted).max(-1) < 12))


def test_rows_that_cannot_be_drawn_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="'made' have shape"):
        micrograph_rows({"real": images(2), "made": images(2)[:0]}, tmp_path / "x.png")
    with pytest.raises(InvalidInputError, match="no micrographs to draw"):
        micrograph_rows({}, tmp_path / "x.png")


def test_walks_are_drawn_with_their_curves(tmp_path: Path) -> None:
    shares = np.linspace(0, 1, 5)
    walks = [shares, shares**2, 1 - shares]
    path = interpolation_figure(
        [images(5), images(5)],
        shares,
        {"fraction": walks, "chord": [1 + w for w in walks]},
        tmp_path / "w.png",
        logarithmic=("chord",),
    )
    assert share(pixels(path), ACCENT) > 1e-4
    assert share(pixels(path), REAL) > 1e-4  # around the ends
    assert share(pixels(path), PHASE_COLOURS[1]) > 0.05


def test_walks_of_another_length_are_refused(tmp_path: Path) -> None:
    shares = np.linspace(0, 1, 5)
    for strips, curves in (([images(4)], [shares]), ([images(5)], [shares[1:]]), ([], [shares])):
        with pytest.raises(InvalidInputError, match="expected 5, one for each share"):
            interpolation_figure(strips, shares, {"q": curves}, tmp_path / "x.png")
