"""The core of the evolutionary search against brute force and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from generators import verification_baselines
from generators.evolution import (
    blend,
    blend_sparse,
    crowded_order,
    crowding_distances,
    cut_mask,
    non_dominated_ranks,
    spread_factor,
    tournament,
)
from generators.verification_baselines import brute_force_ranks
from loop.errors import InvalidInputError
from loop.verification import all_passed


def test_verification_passes_and_would_not_with_another_formula(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cases = verification_baselines.cases()
    assert all_passed(cases)
    assert len({case.name for case in cases}) == len(cases) == 12
    for name, wrong, fails in (
        ("non_dominated_ranks", lambda f: np.zeros(len(f)), "fronts"),
        ("spread_factor", lambda u, _: 2 * u, "spread factor"),
        ("r1_penalty", lambda judge, real: judge(real).square().mean(), "R1 of a linear"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(verification_baselines, name, wrong)
            failed = [case.name for case in verification_baselines.cases() if not case.passed]
        assert any(fails in found for found in failed)


# Who is better


@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(1, 4), st.integers(2, 9))
def test_fronts_are_those_of_comparing_all_pairs(seed: int, n: int, k: int, levels: int) -> None:
    """Few levels make ties and equal rows."""
    f = np.random.default_rng(seed).integers(levels, size=(n, k)).astype(float)
    assert np.array_equal(non_dominated_ranks(f), brute_force_ranks(f))


def test_fronts_of_known_rows() -> None:
    rows = np.array([[0.0, 2.0], [1.0, 1.0], [2.0, 0.0], [1.0, 2.0], [2.0, 2.0], [1.0, 1.0]])
    assert non_dominated_ranks(rows).tolist() == [0, 0, 0, 1, 2, 0]
    assert non_dominated_ranks(np.array([[3.0], [1.0], [2.0]])).tolist() == [2, 0, 1]
    assert non_dominated_ranks(np.zeros((3, 0))).tolist() == [0, 0, 0]


@pytest.mark.parametrize("rows", [np.zeros(3), np.array([[0.0, np.nan]]), np.array([[np.inf]])])
def test_objectives_that_cannot_be_ranked(rows: np.ndarray) -> None:
    with pytest.raises(InvalidInputError, match=r"expected .n, k., all of them finite"):
        non_dominated_ranks(rows)


def test_crowding_of_known_rows() -> None:
    """Neighbours' distance over the range, per objective; the ends are infinite."""
    front = np.array([[0.0, 4.0], [4.0, 0.0], [1.0, 2.0], [2.0, 1.0]])
    expected = [np.inf, np.inf, 2 / 4 + 3 / 4, 3 / 4 + 2 / 4]
    assert crowding_distances(front).tolist() == pytest.approx(expected)
    assert crowding_distances(np.ones((3, 2))).tolist() == [0.0, 0.0, 0.0]
    assert crowding_distances(np.array([[1.0, 2.0]])).tolist() == [0.0]
    assert crowding_distances(np.array([[1.0, 2.0], [2.0, 1.0]])).tolist() == [np.inf, np.inf]
    assert crowding_distances(np.zeros((0, 2))).shape == (0,)


def test_survivors_are_whole_fronts_and_of_the_last_the_least_crowded() -> None:
    front = np.array([[0.0, 10.0], [1.0, 8.0], [1.1, 7.9], [6.0, 3.0], [10.0, 0.0]])
    behind = front + 1.0
    order = crowded_order(np.concatenate([behind, front]))
    assert set(order[:5].tolist()) == {5, 6, 7, 8, 9}
    assert set(order[:2].tolist()) == {5, 9}
    assert order[2] == 8  # far from both its neighbours
    assert set(order[5:7].tolist()) == {0, 4}


def test_tournaments_favour_the_first_as_they_should() -> None:
    """Place i of n wins with probability (2 (n − i) − 1) / n²; four standard errors."""
    n, count = 5, 20000
    wins = np.bincount(tournament(n, count, np.random.default_rng(0)), minlength=n) / count
    expected = (2 * (n - np.arange(n)) - 1) / n**2
    assert np.all(np.abs(wins - expected) < 4 * np.sqrt(expected * (1 - expected) / count))


# What two parents give


@given(st.floats(1e-6, 1 - 1e-6), st.floats(0.0, 30.0))
def test_contracting_and_expanding_are_mirror_images(u: float, eta: float) -> None:
    """β(u) β(1 − u) = 1, and half of the mass is on either side of 1."""
    one, other = spread_factor(np.array([u, 1 - u]), eta)
    assert one * other == pytest.approx(1.0, rel=1e-6)
    assert (one <= 1) == (u <= 0.5) or one == pytest.approx(1.0)


@pytest.mark.parametrize("eta", [1.5, 5.0, 20.0])
def test_the_spread_follows_its_distribution(eta: float) -> None:
    """P(β <= b) is ½ b^(η+1) inside and 1 − ½ b^−(η+1) outside."""
    u = (np.arange(20000) + 0.5) / 20000
    beta = spread_factor(u, eta)
    for b in (0.3, 0.8, 1.0, 1.2, 3.0):
        exact = 0.5 * b ** (eta + 1) if b <= 1 else 1 - 0.5 * b ** -(eta + 1)
        assert float((beta <= b).mean()) == pytest.approx(exact, abs=1e-4)


@given(st.integers(0, 2**32 - 1))
def test_children_have_their_parents_mean_and_the_stated_distance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.dirichlet(np.ones(4), size=(2, 3))
    spread = spread_factor(rng.random((3, 1)), 4.0)
    one, other = blend(first, second, spread)
    assert (one + other) / 2 == pytest.approx((first + second) / 2, abs=1e-15)
    assert other - one == pytest.approx(spread * (second - first), abs=1e-12)
    assert one.sum(1) == pytest.approx(np.ones(3), abs=1e-12)  # on the line, so on the simplex


@given(st.integers(0, 2**32 - 1))
def test_an_element_that_one_parent_lacks_goes_whole_to_one_child(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.dirichlet(np.ones(5), size=(2, 2))
    first[:, 0] = second[:, 0] = first[:, 1] = second[:, 2] = 0.0
    one, other = blend_sparse(first, second, spread_factor(rng.random((2, 1)), 4.0), rng)
    assert not one[:, 0].any()
    assert not other[:, 0].any()
    for j, amounts in ((1, second[:, 1]), (2, first[:, 2])):
        assert np.array_equal(np.maximum(one[:, j], other[:, j]), amounts)
        assert not np.minimum(one[:, j], other[:, j]).any()
    assert (one + other) / 2 == pytest.approx((first + second) / 2, abs=1e-15)


def test_a_cut_takes_a_part_that_hangs_together() -> None:
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(300):
        mask = cut_mask((24, 40), rng)
        assert mask.shape == (24, 40)
        # Rows and columns of a half-plane or a rectangle are single runs.
        for lines in (mask, mask.T):
            steps = np.diff(lines.astype(int), axis=1, prepend=0, append=0)
            assert np.all((steps == 1).sum(1) <= 1)
        shares.append(float(mask.mean()))
    assert 0.02 < min(shares) < max(shares) < 0.98
