"""What a generator is asked for: inside the targets, and beyond the best on open sides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from generators.requests import MARGIN, draw_requests
from loop.targets import Maximise, Minimise, Range, Targets, Value

NAMES = ("a", "b", "c")
NOTHING = np.zeros((0, 3))


def draw(targets: Targets, near: np.ndarray = NOTHING, n: int = 2000, seed: int = 0) -> np.ndarray:
    return draw_requests(n, targets, NAMES, near, np.random.default_rng(seed))


@given(st.integers(0, 1000), st.floats(-100, 100), st.floats(1e-3, 50), st.booleans())
def test_requests_lie_inside_the_targets(
    seed: int, value: float, width: float, known: bool
) -> None:
    targets = Targets((Value("b", value, width), Range("c", value, value + width)))
    near = np.random.default_rng(seed).normal(size=(20, 3)) * 60 if known else NOTHING
    found = draw(targets, near, n=50, seed=seed)
    assert found.shape == (50, 3)
    assert np.all(np.isnan(found[:, 0]))
    for j, (low, high) in ((1, (value - width, value + width)), (2, (value, value + width))):
        margin = MARGIN * (high - low) * (1 - 1e-9)
        assert np.all((found[:, j] >= low + margin) & (found[:, j] <= high - margin))


def test_requests_spread_over_the_box() -> None:
    """Uniform draws of n = 2000: a mean within 4 standard errors of the middle, both ends used."""
    found = draw(Targets((Range("a", 10.0, 20.0),)))[:, 0]
    low, high = 10 + 10 * MARGIN, 20 - 10 * MARGIN
    error = (high - low) / np.sqrt(12 * len(found))
    assert found.mean() == pytest.approx(15.0, abs=4 * error)
    assert found.min() < low + 0.1
    assert found.max() > high - 0.1


def test_half_of_them_keep_what_hangs_together() -> None:
    """Of properties that are equal in every known design, about half the requests are equal."""
    near = np.repeat(np.linspace(0.1, 0.9, 40)[:, None], 3, axis=1)
    found = draw(Targets((Range("a", -1.0, 2.0), Range("b", -1.0, 2.0))), near)
    share = (found[:, 0] == found[:, 1]).mean()
    assert share == pytest.approx(0.5, abs=4 * np.sqrt(0.25 / len(found)))


def test_known_rows_outside_are_moved_to_the_edge() -> None:
    near = np.full((10, 3), 5.0)
    found = draw(Targets((Range("a", 0.0, 1.0),)), near)[:, 0]
    edge = 1.0 - MARGIN
    assert (found == edge).mean() == pytest.approx(0.5, abs=4 * np.sqrt(0.25 / len(found)))


def test_open_sides_reach_beyond_the_best() -> None:
    near = np.random.default_rng(1).normal(size=(30, 3)) * [1.0, 10.0, 1.0]
    found = draw(Targets((Maximise("a"), Minimise("b"))), near)
    half = 0.5 * near.std(0)
    best = near[:, 0].max(), near[:, 1].min()
    assert best[0] < found[:, 0].max() <= best[0] + half[0]
    assert best[1] > found[:, 1].min() >= best[1] - half[1]
    assert found[:, 0].min() >= best[0] - half[0]
    assert found[:, 1].max() <= best[1] + half[1]


def test_thresholds_hold_even_when_nothing_meets_them_yet() -> None:
    near = np.random.default_rng(2).normal(size=(30, 3))
    targets = Targets((Maximise("a", at_least=50.0), Minimise("b", at_most=-50.0)))
    found = draw(targets, near)
    assert np.all(found[:, 0] > 50.0)
    assert np.all(found[:, 1] < -50.0)
    assert found[:, 0].max() < 51.0


def test_nothing_known_yet() -> None:
    targets = Targets((Maximise("a", scale=3.0), Minimise("b", at_most=1.0), Value("c", 2, 1)))
    found = draw(targets)
    assert np.all(np.isfinite(found))
    assert np.all(found[:, 1] < 1.0)
    unknown = draw(targets, np.full((5, 3), np.nan))
    assert np.all(np.isfinite(unknown))


def test_targets_without_a_known_property_are_left_out() -> None:
    found = draw(Targets((Value("z", 0, 1), Value("a", 0, 1))))
    assert np.isfinite(found).any(0).tolist() == [True, False, False]
    assert draw(Targets(()), n=3).shape == (3, 3)
    assert draw(Targets((Value("a", 0, 1),)), n=0).shape == (0, 3)


def test_the_same_stream_gives_the_same_requests() -> None:
    targets, near = Targets((Value("a", 0, 1),)), np.ones((3, 3))
    assert np.array_equal(draw(targets, near), draw(targets, near), equal_nan=True)
