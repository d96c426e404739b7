"""Acquisition against closed forms far into the tails; batches against brute force."""

from __future__ import annotations

import math

import mpmath  # type: ignore[import-untyped]
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from loop.selection import greedy_batch, log_expected_improvement, log_probability_of_hit
from loop.surrogate import Prediction
from loop.targets import Maximise, Minimise, Range, Targets, Value

FloatArray = NDArray[np.float64]


def one(mean: float, std: float) -> Prediction:
    return Prediction(np.array([[mean]]), np.array([[std]]))


def exact_log_probability(low: float, high: float, mean: float, std: float) -> float:
    """log P(low < N(mean, std²) < high) with 60 digits, from the tail where it is small."""
    with mpmath.workdps(60):
        a, b = ((mpmath.mpf(v) - mpmath.mpf(mean)) / mpmath.mpf(std) for v in (low, high))
        if a + b < 0:
            a, b = -b, -a
        root = mpmath.sqrt(2)
        return float(mpmath.log((mpmath.erfc(a / root) - mpmath.erfc(b / root)) / 2))


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        *[(0.5, 0.1), (0.0, 1.0), (5.0, 1.0), (-40.0, 1.0), (300.0, 1.0), (1e5, 1.0)],
        *[(1.0, 1e-6), (-1e3, 1e-3), (0.4, 1e-9)],
        *[(0.0, 1e6), (0.0, 1.9e6), (0.0, 2.1e6), (0.0, 1e8), (1e9, 1e8)],
    ],
)
def test_log_probability_is_right_in_the_middle_and_in_the_tails(mean: float, std: float) -> None:
    found = log_probability_of_hit(one(mean, std), Targets((Range("x", 0.4, 0.6),)))
    # Against rounding of the limits: they are differences of numbers of the size of the mean.
    exact = exact_log_probability(0.4, 0.6, mean, std)
    assert found[0] == pytest.approx(exact, rel=1e-7)


@pytest.mark.parametrize("mean", [-1e4, -40.0, -5.0, 0.0, 5.0, 40.0, 1e4])
def test_open_sides(mean: float) -> None:
    above = log_probability_of_hit(one(mean, 1.0), Targets((Maximise("x", 1.0),)))
    below = log_probability_of_hit(one(mean, 1.0), Targets((Minimise("x", 1.0),)))
    assert above[0] == pytest.approx(stats.norm.logsf(1.0, mean), rel=1e-6, abs=1e-15)
    assert below[0] == pytest.approx(stats.norm.logcdf(1.0, mean), rel=1e-6, abs=1e-15)
    without = Targets((Maximise("x"), Minimise("y")))
    both = Prediction(np.full((1, 2), mean), np.ones((1, 2)))
    assert log_probability_of_hit(both, without).tolist() == [0.0]


@given(
    st.floats(-1e12, 1e12),
    st.floats(1e-9, 1e12),
    st.floats(-1e3, 1e3),
    st.floats(1e-6, 1e3),
)
def test_log_probability_is_finite_and_at_most_zero(
    mean: float, std: float, value: float, tolerance: float
) -> None:
    """Even where rounding makes both standardised limits equal."""
    found = log_probability_of_hit(one(mean, std), Targets((Value("x", value, tolerance),)))
    assert np.all(np.isfinite(found))
    assert np.all(found <= 0.0)


def test_limits_that_rounding_makes_equal_leave_the_density() -> None:
    found = log_probability_of_hit(one(1e20, 1e22), Targets((Value("x", 5.0, 0.1),)))
    exact = stats.norm.logpdf(5.0, 1e20, 1e22) + math.log(0.2)
    assert found[0] == pytest.approx(exact, rel=1e-9)


def test_several_targets_multiply() -> None:
    rng = np.random.default_rng(0)
    targets = Targets((Value("a", 1.0, 0.5), Range("b", -1.0, 2.0), Minimise("c", 0.3)))
    p = Prediction(rng.normal(size=(50, 3)), rng.uniform(0.5, 2.0, (50, 3)))
    low, high = targets.limits()
    each = stats.norm.cdf(high, p.mean, p.std) - stats.norm.cdf(low, p.mean, p.std)
    both = np.log(np.prod(each, axis=1))
    assert log_probability_of_hit(p, targets) == pytest.approx(both, rel=1e-6)


def expected_improvement(mean: FloatArray, std: FloatArray, best: float) -> FloatArray:
    """σ (u Φ(u) + φ(u)), u = (µ − best)/σ (Jones, Schonlau & Welch 1998)."""
    u = (mean - best) / std
    found: FloatArray = std * (u * stats.norm.cdf(u) + stats.norm.pdf(u))
    return found


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_expected_improvement_of_one_objective(sign: float) -> None:
    rng = np.random.default_rng(1)
    objective = Maximise("x", scale=2.0) if sign > 0 else Minimise("x", scale=2.0)
    targets = Targets((Range("y", 0.0, 1.0), objective))
    p = Prediction(rng.normal(size=(40, 2)), rng.uniform(0.2, 2.0, (40, 2)))
    best = rng.normal(size=(7, 2))
    incumbent = (sign * best[:, 1] / 2).max()
    exact = expected_improvement(sign * p.mean[:, 1] / 2, p.std[:, 1] / 2, incumbent)
    found = log_expected_improvement(p, targets, best, rng)
    assert found == pytest.approx(np.log(exact), rel=1e-6, abs=1e-9)


def test_expected_improvement_stays_finite_far_below_the_best() -> None:
    targets = Targets((Maximise("x"),))
    found = log_expected_improvement(
        one(-1e3, 1.0), targets, np.array([[0.0]]), np.random.default_rng(0)
    )
    # For u → −∞, log EI → log φ(u) − 2 log|u| (Ament et al. 2023).
    assert found[0] == pytest.approx(stats.norm.logpdf(-1e3) - 2 * math.log(1e3), rel=1e-6)


def test_expected_improvement_weights_lie_on_the_simplex() -> None:
    """Two objectives: any draw is the closed form of some convex combination."""
    rng = np.random.default_rng(2)
    targets = Targets((Maximise("x"), Minimise("y")))
    p = Prediction(rng.normal(size=(30, 2)), rng.uniform(0.2, 2.0, (30, 2)))
    best = rng.normal(size=(5, 2))
    found = log_expected_improvement(p, targets, best, np.random.default_rng(3))
    errors = []
    for w in np.linspace(0, 1, 4001):
        weights = np.array([w, w - 1.0])
        mean, std = p.mean @ weights, np.sqrt(p.std**2 @ weights**2)
        exact = np.log(expected_improvement(mean, std, float((best @ weights).max())))
        errors.append(np.abs(found - exact).max())
    assert min(errors) < 2e-2  # the grid's step is 1/4000
    assert max(errors) > 0.5


def test_without_objectives_or_hits() -> None:
    p = one(0.3, 1.0)
    none = np.zeros((0,))
    rng = np.random.default_rng(0)
    assert log_expected_improvement(p, Targets((Value("x", 0, 1),)), none, rng).tolist() == [0.0]
    assert np.isfinite(log_expected_improvement(p, Targets((Maximise("x"),)), none, rng)).all()


def kernel(a: FloatArray, b: FloatArray, length: float) -> FloatArray:
    squared = ((a[:, None] - b[None]) ** 2).sum(-1)
    k: FloatArray = np.exp(-0.5 * squared / length**2)
    return k


def brute_force(
    quality: FloatArray,
    x: FloatArray,
    q: int,
    diversity: float,
    length: float,
    taken: FloatArray | None = None,
) -> list[int]:
    """At each turn the design with the largest log-determinant of what is picked, plus quality."""
    fixed = np.zeros((0, x.shape[1])) if taken is None else taken
    picked: list[int] = []
    for _ in range(q):
        scores = {}
        for i in set(range(len(x))) - set(picked):
            rows = np.concatenate([fixed, x[[*picked, i]]])
            _, log_determinant = np.linalg.slogdet(kernel(rows, rows, length))
            scores[i] = log_determinant + 2 / diversity * quality[[*picked, i]].sum()
        picked.append(max(scores, key=lambda i: scores[i]))
    return picked


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("diversity", [0.3, 1.0, 10.0])
def test_greedy_batch_is_the_greedy_log_determinant(seed: int, diversity: float) -> None:
    rng = np.random.default_rng(seed)
    quality, x = rng.normal(size=14), rng.normal(size=(14, 2))
    found = greedy_batch(quality, x, 6, diversity=diversity, length=0.8)
    assert found == brute_force(quality, x, 6, diversity, 0.8)


@pytest.mark.parametrize("seed", range(5))
def test_greedy_batch_given_designs_that_are_taken(seed: int) -> None:
    rng = np.random.default_rng(seed)
    quality, x = 0.3 * rng.normal(size=14), rng.normal(size=(14, 2))
    taken = rng.normal(size=(4, 2)) * 1.5
    found = greedy_batch(quality, x, 5, diversity=1.0, length=0.6, taken=taken)
    assert found == brute_force(quality, x, 5, 1.0, 0.6, taken)


def test_without_diversity_the_best_are_ranked() -> None:
    quality = np.array([0.1, 5.0, -3.0, 5.0, 2.0])
    found = greedy_batch(quality, np.zeros((5, 2)), 4, diversity=0.0, length=1.0)
    assert found == [1, 3, 4, 0]


def test_much_diversity_spreads_the_batch() -> None:
    """Three clusters, the best designs all in the first: one of each is picked."""
    rng = np.random.default_rng(0)
    centres = np.repeat([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]], 6, axis=0)
    x = centres + 0.01 * rng.normal(size=(18, 2))
    quality = np.repeat([1.0, 0.5, 0.0], 6)
    picked = greedy_batch(quality, x, 3, diversity=1.0, length=1.0)
    assert sorted(i // 6 for i in picked) == [0, 1, 2]
    ranked = greedy_batch(quality, x, 3, diversity=0.0, length=1.0)
    assert [i // 6 for i in ranked] == [0, 0, 0]


def test_taken_designs_are_avoided_however_many_came_before() -> None:
    x = np.array([[0.0, 0.0], [5.0, 5.0]])
    quality = np.array([0.2, 0.0])
    assert greedy_batch(quality, x, 1, diversity=1.0, length=1.0) == [0]
    beside = np.array([[0.0, 0.01]])
    assert greedy_batch(quality, x, 1, diversity=1.0, length=1.0, taken=beside) == [1]
    crowd = np.concatenate([np.full((50, 2), -20.0), beside])
    assert greedy_batch(quality, x, 1, diversity=1.0, length=1.0, taken=crowd) == [1]


@given(st.integers(1, 12), st.integers(1, 20), st.sampled_from([0.0, 0.5, 3.0]))
def test_a_batch_has_no_index_twice(n: int, q: int, diversity: float) -> None:
    """Even when all designs are the same one."""
    picked = greedy_batch(np.zeros(n), np.zeros((n, 3)), q, diversity=diversity, length=1.0)
    assert len(picked) == len(set(picked)) == min(n, q)
