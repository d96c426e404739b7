"""Measures of sample quality against closed forms and sets whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from loop.errors import InvalidInputError
from loop.quality import (
    agreement,
    frechet_distance,
    frechet_of_samples,
    interval,
    novelty,
    two_point_curves,
    two_point_error,
    without_fraction,
)


def test_a_set_beside_itself_has_all_measures_1() -> None:
    x = np.random.default_rng(0).normal(size=(700, 5))
    found = agreement(x, x).figures()
    assert found == {"precision": 1.0, "recall": 1.0, "density": 1.0, "coverage": 1.0}


def test_sets_apart_have_all_measures_0() -> None:
    x = np.random.default_rng(0).normal(size=(300, 4))
    found = agreement(x, x + 100.0).figures()
    assert found == {"precision": 0.0, "recall": 0.0, "density": 0.0, "coverage": 0.0}


def test_a_mode_that_is_dropped_is_missing_from_recall_and_a_false_one_from_precision() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(300, 3)), rng.normal(size=(100, 3)) + 50.0
    both = np.concatenate([first, second])
    dropped = agreement(both, first)
    assert dropped.figures()["recall"] == pytest.approx(0.75, abs=1e-12)
    assert dropped.figures()["precision"] == 1.0
    assert dropped.figures()["coverage"] == pytest.approx(0.75, abs=1e-12)
    np.testing.assert_array_equal(dropped.recalled, np.repeat([1.0, 0.0], [300, 100]))
    false = agreement(first, both)
    assert false.figures()["precision"] == pytest.approx(0.75, abs=1e-12)
    assert false.figures()["recall"] == 1.0


def test_two_draws_of_one_distribution_have_density_1_and_the_coverage_of_its_formula() -> None:
    """Naeem et al. 2020, equations 6 and 7: E density = 1, and coverage by counting neighbours."""
    n = m = 1500
    for k in (3, 5):
        rng = np.random.default_rng(k)
        found = agreement(rng.normal(size=(n, 2)), rng.normal(size=(m, 2)), k).figures()
        missed = np.prod([(n - 1 - i) / (n + m - 1 - i) for i in range(k)])
        # Neighbourhoods overlap, which makes the counts vary: about 1/√n times √k.
        assert found["density"] == pytest.approx(1.0, abs=4 * np.sqrt(k / n))
        assert found["coverage"] == pytest.approx(1 - missed, abs=4 * np.sqrt(k / n) / 2)


def test_membership_is_counted_one_by_one() -> None:
    rng = np.random.default_rng(4)
    x, y, k = rng.normal(size=(40, 2)), rng.normal(size=(30, 2)) * 2.0, 3

    def reach(rows: np.ndarray) -> list[float]:
        return [sorted(np.linalg.norm(rows - row, axis=1))[k] for row in rows]

    found = agreement(x, y, k)
    for i, row in enumerate(y):
        held = [np.linalg.norm(row - other) <= r for other, r in zip(x, reach(x), strict=True)]
        assert found.precise[i] == any(held)
        assert found.density[i] == pytest.approx(sum(held) / k)
    for i, row in enumerate(x):
        held = [np.linalg.norm(row - other) <= r for other, r in zip(y, reach(y), strict=True)]
        assert found.recalled[i] == any(held)


def test_frechet_distance_of_normal_distributions() -> None:
    rng = np.random.default_rng(2)
    # Commuting covariances: sum over the axes of (difference of means)² + (s_a - s_b)².
    found = frechet_distance([1.0, 2.0], np.diag([4.0, 1.0]), [0.0, 0.0], np.diag([1.0, 9.0]))
    assert found == pytest.approx(1 + 4 + 1 + 4, rel=1e-12)
    assert frechet_distance([0.0], [[2.0]], [0.0], [[2.0]]) == pytest.approx(0.0, abs=1e-12)
    a, b = (m @ m.T for m in rng.normal(size=(2, 5, 5)))
    expected = np.trace(a + b - 2.0 * np.real(sqrtm(a @ b)))
    zero = np.zeros(5)
    assert frechet_distance(zero, a, zero, b) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(zero, b, zero, a) == pytest.approx(expected, rel=1e-8)


def test_frechet_distance_of_samples_reaches_that_of_their_distributions() -> None:
    rng = np.random.default_rng(3)
    a = rng.normal(size=(40000, 2)) * [1.0, 2.0]
    b = rng.normal(size=(40000, 2)) * [2.0, 2.0] + [3.0, 0.0]
    # Standard deviation: of the means 0.01 each, times 2 · 3; twice over for both.
    assert frechet_of_samples(a, b) == pytest.approx(9 + 1, abs=0.3)
    # The bias stated in the docstring, n = m = 200 and d = 2: 2 · 7 / 4 · 2/200 = 0.035.
    draws = [
        frechet_of_samples(rng.normal(size=(200, 2)), rng.normal(size=(200, 2))) for _ in range(200)
    ]
    assert np.mean(draws) == pytest.approx(0.035, rel=0.2)


def test_novelty_tells_copies_from_new_ones() -> None:
    rng = np.random.default_rng(5)
    training, held_out = rng.normal(size=(400, 3)), rng.normal(size=(400, 3))
    copies = novelty(training[:100], training, held_out)
    assert copies.median == 0.0
    assert copies.too_near == 1.0
    new = novelty(rng.normal(size=(400, 3)), training, held_out)
    # Medians of two sets of 400 distances, each known to about 4 %.
    assert new.median == pytest.approx(1.0, abs=0.2)
    assert new.too_near == pytest.approx(0.01, abs=0.025)
    half = np.concatenate([training[:200], held_out[:200]])
    assert novelty(half, training, held_out).too_near == pytest.approx(0.5, abs=0.02)
    with pytest.raises(InvalidInputError, match="held-out rows are training rows"):
        novelty(held_out, training, training)


def test_two_point_error_of_another_fraction_and_of_another_structure() -> None:
    full, half = np.ones((2, 32, 32)), np.ones((2, 32, 32))
    half[1] = 0.0
    reference = two_point_curves(full)
    assert reference.shape == (2, 17)
    assert two_point_error(reference, reference) == 0.0
    assert two_point_error(two_point_curves(half), reference) == pytest.approx(0.5)
    rng = np.random.default_rng(6)
    noise = two_point_curves(rng.random((64, 32, 32)) < 0.5)
    # Without correlation S2 = φ² = 1/4 beside the fraction's 1/2 at lag 0; φ known to 0.002.
    stripes = two_point_curves(np.tile(np.arange(32)[:, None] // 16 % 2, (64, 1, 32)))
    assert two_point_error(noise, stripes) > 0.1
    assert two_point_error(noise[:32], noise[32:]) < 0.02
    np.testing.assert_allclose(without_fraction(noise)[0, 1:], 0.0, atol=0.003)
    assert without_fraction(noise)[0, 0] == pytest.approx(0.25, abs=0.003)
    with pytest.raises(InvalidInputError, match="reach to 8 px"):
        two_point_curves(np.ones((1, 16, 16)))


def test_interval_holds_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    inside = 0
    for _ in range(200):
        low, high = interval(
            lambda x: float(x.mean()), rng.normal(size=60), rng=rng, draws=200, level=0.9
        )
        inside += low <= 0.0 <= high
    assert inside / 200 == pytest.approx(0.9, abs=4 * np.sqrt(0.9 * 0.1 / 200))


def test_an_interval_of_two_samples_draws_both_anew() -> None:
    rng = np.random.default_rng(8)
    a, b = rng.normal(size=400), rng.normal(size=400)
    low, high = interval(lambda x, y: float(x.mean() - y.mean()), a, b, rng=rng)
    assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt(2 / 400), rel=0.15)


def test_what_cannot_be_measured_is_refused() -> None:
    x = np.zeros((5, 2))
    with pytest.raises(InvalidInputError, match=r"made rows have shape \(3, 2\)"):
        agreement(x, x[:3])
    with pytest.raises(InvalidInputError, match="finite numbers"):
        agreement(x, np.full((5, 2), np.nan))
    with pytest.raises(InvalidInputError, match="2 features and made rows 1"):
        agreement(x, x[:, :1])
    with pytest.raises(InvalidInputError, match="covariances"):
        frechet_distance([0.0, 1.0], np.eye(3), [0.0, 1.0], np.eye(3))
    with pytest.raises(InvalidInputError, match="sample is empty"):
        interval(lambda a: float(a.mean()), x[:0], rng=np.random.default_rng(0))
