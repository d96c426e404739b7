"""The statistics by which walks between micrographs are judged, on curves with a known answer."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.interpolation import (
    CHORD,
    FRACTION,
    WITHIN,
    Walk,
    judged,
    largest_fall,
    noise_of,
    summary,
)

SHARES = np.linspace(0.0, 1.0, 9)


def walk(values: np.ndarray) -> Walk:
    return Walk((), {FRACTION: values, CHORD: np.exp(values)})


def redrawn(noise: float, n: int = 400) -> list[Walk]:
    rng = np.random.default_rng(1)
    found = []
    for _ in range(n):
        values = SHARES + noise * rng.normal(size=len(SHARES))
        values[[0, -1]] = SHARES[[0, -1]]
        found.append(walk(values))
    return found


def test_a_straight_walk_is_monotone_in_both_directions() -> None:
    for values in (SHARES, SHARES[::-1]):
        found = judged(FRACTION, walk(values), redrawn(0.01))
        assert found["rank"] == pytest.approx(1.0)
        assert found["largest_fall"] == 0.0
        assert found["monotone_within_noise"]
        assert found["strictly_monotone"]
        assert found["change"] == 1.0


def test_the_noise_is_that_of_frames_at_one_share() -> None:
    curves = [w.values[FRACTION] for w in redrawn(0.05, 4000)]
    # Of 4,000 x 7 normal deviates: 0.05 / sqrt(2 · 28,000) = 0.0002.
    assert noise_of(curves) == pytest.approx(0.05, abs=0.001)
    assert judged(CHORD, walk(SHARES), redrawn(0.05))["noise"] == pytest.approx(0.05, rel=0.05)


def test_a_fall_counts_from_the_highest_frame_so_far() -> None:
    assert largest_fall(np.array([0.0, 2.0, 1.5, 1.8, 0.5, 3.0])) == 1.5
    back = SHARES.copy()
    back[4] = back[3] - 0.3
    found = judged(FRACTION, walk(back), redrawn(0.01))
    assert found["largest_fall"] == pytest.approx(0.3)
    assert found["step"] == pytest.approx(30.0, rel=0.1)
    assert not found["monotone_within_noise"]
    assert judged(FRACTION, walk(back), redrawn(1.1 * 0.3 / WITHIN))["monotone_within_noise"]


def test_frames_without_a_value_are_left_out() -> None:
    values = SHARES.copy()
    values[3] = np.nan
    found = judged(FRACTION, walk(values), redrawn(0.01))
    assert found["unscored"] == 1
    assert found["rank"] == pytest.approx(1.0)
    assert found["monotone_within_noise"]


def test_walks_are_summed_up() -> None:
    back = SHARES.copy()
    back[4] = back[3] - 0.3
    rows = [judged(FRACTION, walk(v), redrawn(0.01)) for v in (SHARES, SHARES, back)]
    found = summary(rows)
    assert found["walks"] == 3
    assert found["monotone_within_noise"] == 2
    assert found["strictly_monotone"] == 2
    assert found["rank_mean_and_least"][1] == rows[2]["rank"] < 1.0
    assert found["fall_over_change_median_and_largest"] == [0.0, pytest.approx(0.3)]
