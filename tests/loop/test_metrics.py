"""Figures of merit against closed forms and counting."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

from loop.metrics import (
    acceleration_factor,
    best_so_far,
    distinct,
    enhancement_factor,
    hits_curve,
    mean_pairwise_distance,
    normalised_rmse,
)

BOOLS = st.lists(st.booleans(), max_size=30)


@given(BOOLS)
def test_hits_are_counted(hits: list[bool]) -> None:
    curve = hits_curve(hits)
    assert [int(v) for v in curve] == [sum(hits[: i + 1]) for i in range(len(hits))]


def test_best_so_far_is_the_running_minimum() -> None:
    assert best_so_far([3.0, 5.0, 2.0, 2.5, math.inf, 0.0]).tolist() == [3, 3, 2, 2, 2, 0]


def test_enhancement_factor() -> None:
    assert enhancement_factor(12, 4) == 3.0
    assert enhancement_factor(0, 4) == 0.0
    assert enhancement_factor(3, 0) == math.inf
    assert math.isnan(enhancement_factor(0, 0))


def test_acceleration_factor_compares_calls_to_the_same_level() -> None:
    own = [False, True, True, True]
    reference = [False, False, False, True, False, True]
    # Both reach 2 hits: the own arm at call 3, the reference at call 6.
    assert acceleration_factor(own, reference) == pytest.approx(6 / 3)
    assert acceleration_factor(own, reference, level=1) == pytest.approx(4 / 2)
    assert acceleration_factor(own, reference, level=3) == math.inf
    assert acceleration_factor(reference, own, level=3) == 0.0
    assert math.isnan(acceleration_factor(own, reference, level=4))


@given(BOOLS, BOOLS)
def test_acceleration_of_the_other_side_is_the_inverse(a: list[bool], b: list[bool]) -> None:
    forth, back = acceleration_factor(a, b), acceleration_factor(b, a)
    if math.isnan(forth):
        assert math.isnan(back)
        assert not any(a + b)
    elif forth in (0.0, math.inf):
        assert {forth, back} == {0.0, math.inf}
    else:
        assert forth * back == pytest.approx(1.0)


def test_distinct_counts_clusters() -> None:
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    rows = np.concatenate([c + rng.uniform(-0.3, 0.3, (7, 2)) for c in centres])
    assert distinct(rows, 1.0) == 3  # the clusters are at most 0.6·√2 < 1 wide and 10 apart
    assert distinct(rows, 0.0) == len(rows)
    assert distinct(np.zeros((9, 4)), 0.1) == 1
    assert distinct(np.zeros((0, 4)), 0.1) == 0


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_mean_pairwise_distance_is_that_over_all_pairs(offset: float) -> None:
    rows = np.random.default_rng(1).normal(size=(40, 6)) + offset
    assert mean_pairwise_distance(rows) == pytest.approx(pdist(rows).mean(), rel=1e-9)


def test_mean_pairwise_distance_of_equal_and_of_single_rows() -> None:
    assert mean_pairwise_distance(np.full((5, 3), 1e4 / 3)) == 0.0
    assert math.isnan(mean_pairwise_distance(np.zeros((1, 3))))


def test_normalised_rmse() -> None:
    found = np.array([[0.0, 1.0, 4.0], [2.0, 1.0, np.nan], [4.0, 1.0, 8.0], [6.0, 1.0, 6.0]])
    guess = found + np.array([1.0, -0.5, 2.0])
    guess[3, 2] = np.nan  # leaves 4 and 8: spread 2, error 2
    error = normalised_rmse(guess, found)
    assert error == pytest.approx([1 / math.sqrt(5), 0.5, 1.0])  # spread 0 is left at scale 1
    assert np.all(np.isnan(normalised_rmse(guess, np.full_like(found, np.nan))))


def test_predicting_the_mean_has_normalised_error_one() -> None:
    found = np.random.default_rng(2).normal(size=(50, 3)) * [1.0, 30.0, 0.01]
    guess = np.broadcast_to(found.mean(0), found.shape)
    assert normalised_rmse(guess, found) == pytest.approx(np.ones(3))
