"""Conformal intervals: coverage within its binomial band, whole groups, exact small cases."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from loop.conformal import (
    Conformal,
    Method,
    group_folds,
    linked_groups,
    row_weights,
    weighted_bound,
)
from loop.errors import InvalidInputError
from loop.property_models import Predicted

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """Least squares with a spread that is wrong on purpose: intervals must mend it."""

    weights: FloatArray | None = None
    name: str = "line"

    def fit(
        self,
        x: FloatArray,
        y: FloatArray,
        *,
        rng: np.random.Generator,
        noise: FloatArray | None = None,
    ) -> Line:
        weights = np.linalg.lstsq(np.c_[np.ones(len(x)), x], y, rcond=None)[0]
        return Line(weights.astype(np.float64))

    def predict(self, x: FloatArray) -> Predicted:
        assert self.weights is not None
        return Predicted(np.c_[np.ones(len(x)), x] @ self.weights, np.full(len(x), 0.1))


def rows(n: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Exchangeable rows whose scatter is skewed and grows with x."""
    x = rng.uniform(0, 1, (n, 1))
    return x, 3.0 * x[:, 0] + (0.2 + x[:, 0]) * (rng.exponential(1.0, n) - 1.0)


@pytest.mark.parametrize("method", ["split", "cv+"])
@pytest.mark.parametrize("alpha", [0.1, 0.3])
def test_exchangeable_rows_are_covered(method: Method, alpha: float) -> None:
    """One new row for each of 1,500 draws of the data, so that the hits are independent."""
    trials, n = 1500, 40
    rng = np.random.default_rng(11)
    hits = 0
    for _ in range(trials):
        x, y = rows(n + 1, rng)
        fitted = Conformal(Line(), alpha=alpha, method=method, folds=4).fit(x[:n], y[:n], rng=rng)
        found = fitted.predict(x[n:])
        hits += bool(found.low[0] <= y[n] <= found.high[0])
    band = 4 * math.sqrt(alpha * (1 - alpha) / trials)  # four standard deviations
    assert hits / trials > 1 - alpha - band
    # Split: at most 1 - alpha + 1 / (calibration rows + 1), for residuals without ties. CV+ has no
    # such bound; with 40 rows the models of the folds are a little worse than one of all rows.
    above = 1 / 11 if method == "split" else 0.05
    assert hits / trials < 1 - alpha + above + band


def test_rows_of_groups_not_seen_are_covered_only_where_groups_stay_whole() -> None:
    """Every group has an offset of its own; 500 draws, five rows of a new group each."""
    rng = np.random.default_rng(12)
    trials, groups, size = 500, 30, 5
    covered = {True: 0.0, False: 0.0}
    for _ in range(trials):
        offset = np.repeat(2.0 * rng.standard_normal(groups + 1), size)
        label = np.repeat(np.arange(groups + 1), size)
        # A feature by which a row can be known again by its group.
        x = np.c_[np.eye(groups + 1)[label]]
        y = offset + 0.3 * rng.standard_normal(len(label))
        new = label == groups
        for whole in covered:
            fitted = Conformal(Line(), folds=5).fit(
                x[~new], y[~new], rng=rng, groups=list(label[~new]) if whole else None
            )
            found = fitted.predict(x[new])
            covered[whole] += float(((found.low <= y[new]) & (y[new] <= found.high)).mean())
    # A group's rows are nearly one: the standard deviation of its share is at most 0.3 there.
    band = 4 * 0.3 / math.sqrt(trials)
    assert covered[True] / trials > 0.9 - band
    assert covered[False] / trials < 0.7


def test_split_interval_by_hand() -> None:
    """Nine residuals, alpha 0.2: the eighth, times the spread, on either side."""

    @dataclass(frozen=True)
    class Zero:
        name: str = "zero"

        def fit(
            self,
            x: FloatArray,
            y: FloatArray,
            *,
            rng: np.random.Generator,
            noise: FloatArray | None = None,
        ) -> Zero:
            return self

        def predict(self, x: FloatArray) -> Predicted:
            return Predicted(np.zeros(len(x)), x[:, 0])

    x, y = np.full((18, 1), 2.0), np.arange(1.0, 19.0)
    fitted = Conformal(Zero(), alpha=0.2, method="split", folds=2).fit(
        x, y, rng=np.random.default_rng(0)
    )
    held = np.sort(y[group_folds(range(18), 2, np.random.default_rng(0)) == 0])
    assert len(held) == 9
    found = fitted.predict(np.array([[2.0], [4.0]]))
    np.testing.assert_allclose(found.high, [held[7], 2 * held[7]])
    np.testing.assert_allclose(found.low, [-held[7], -2 * held[7]])


def test_cv_plus_by_hand() -> None:
    """Barber et al. 2021, eq. (11) with residuals divided by the spread, row by row."""
    rng = np.random.default_rng(5)
    x, y = rows(23, rng)
    found = Conformal(Line(), alpha=0.25, folds=4).fit(x, y, rng=np.random.default_rng(6))
    new = np.array([[0.2], [0.9]])
    fold = group_folds(range(23), 4, np.random.default_rng(6))
    lows, highs = [], []
    for i in range(23):
        others = fold != fold[i]
        model = Line().fit(x[others], y[others], rng=rng)
        residual = abs(y[i] - model.predict(x[i : i + 1]).mean[0])
        at = model.predict(new).mean
        lows.append(at - residual)
        highs.append(at + residual)
    k = math.floor(0.25 * 24)
    interval = found.predict(new)
    np.testing.assert_allclose(interval.low, np.sort(lows, axis=0)[k - 1], rtol=1e-10)
    np.testing.assert_allclose(interval.high, np.sort(highs, axis=0)[24 - k - 1], rtol=1e-10)


def test_too_few_residuals_leave_the_ends_open() -> None:
    x, y = rows(12, np.random.default_rng(0))
    found = Conformal(Line(), alpha=0.01).fit(x, y, rng=np.random.default_rng(0)).predict(x)
    assert np.all(found.low == -np.inf)
    assert np.all(found.high == np.inf)
    assert np.isfinite(found.mean).all()


def rank(n: int, alpha: float) -> float:
    """Which of the values 1 to n, all of one weight, the bound is."""
    weights = row_weights(range(n), "rows")
    return float(weighted_bound(np.arange(1.0, n + 1)[:, None], weights, alpha)[0])


def test_rank_of_equal_weights() -> None:
    """ceil((1 - alpha)(n + 1)), Vovk et al. 2005."""
    assert rank(9, 0.1) == 9
    assert rank(8, 0.1) == math.inf  # it would be the ninth
    assert rank(99, 0.05) == 95
    assert rank(19, 0.1) == 18  # not 19, although 0.9 * 20 is a little above 18


def test_every_group_weighs_the_same() -> None:
    groups = ["a", "b", "b", "b", "c", "a"]
    weights = row_weights(groups)
    np.testing.assert_allclose(weights, [1 / 8, 1 / 12, 1 / 12, 1 / 12, 1 / 4, 1 / 8])
    # 3 of 4 parts are finite: the bound is the value at which 1 - alpha of the weight is reached.
    values = np.array([1.0, 9.0, 8.0, 7.0, 3.0, 2.0])[:, None]
    found = [float(weighted_bound(values, weights, alpha)[0]) for alpha in (0.5, 0.4, 0.25, 0.2)]
    assert found == [3.0, 8.0, 9.0, math.inf]


@given(st.integers(1, 40), st.floats(0.05, 0.95), st.integers(0, 99))
def test_groups_of_one_row_are_rows(n: int, alpha: float, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(n, 2))
    by_groups = weighted_bound(values, row_weights(range(n), "groups"), alpha)
    np.testing.assert_array_equal(
        by_groups, weighted_bound(values, row_weights(range(n), "rows"), alpha)
    )


def test_a_row_of_a_new_group_is_covered_however_large_the_others_are() -> None:
    """Groups of one or of forty rows, the large ones ten times as scattered.

    A new group is large with probability 0.15. Weighed by rows the bound is that of the large
    groups; by groups the share is that of Lee, Barber, Willett for split conformal: 1 - alpha at
    least and at most 2 / (K + 1) more.
    """
    rng = np.random.default_rng(21)
    trials, groups = 1200, 41
    covered, widths = {"groups": 0, "rows": 0}, {"groups": [0.0], "rows": [0.0]}
    for _ in range(trials):
        large = rng.uniform(size=groups) < 0.15
        label = np.repeat(np.arange(groups), np.where(large, 40, 1))
        spread = np.where(large, 10.0, 1.0)[label]
        values = np.abs(spread * rng.standard_normal(len(label)))
        old = label < groups - 1
        one = values[~old][0]
        for weigh in ("groups", "rows"):
            weights = row_weights(label[old].tolist(), weigh)
            bound = float(weighted_bound(values[old, None], weights, 0.2)[0])
            covered[weigh] += one <= bound
            widths[weigh].append(bound)
    band = 4 * math.sqrt(0.2 * 0.8 / trials)
    assert 0.8 - band < covered["groups"] / trials < 0.8 + 2 / 41 + band
    assert covered["rows"] / trials > 0.9
    assert np.median(widths["rows"]) > 3 * np.median(widths["groups"])


@given(
    st.lists(st.integers(0, 12), min_size=6, max_size=60).filter(lambda g: len(set(g)) >= 3),
    st.integers(2, 3),
    st.integers(0, 1000),
)
def test_no_group_is_in_two_folds(groups: list[int], k: int, seed: int) -> None:
    fold = group_folds(groups, k, np.random.default_rng(seed))
    assert set(fold.tolist()) == set(range(k))
    for group in set(groups):
        assert len({f for f, g in zip(fold.tolist(), groups, strict=True) if g == group}) == 1
    # No fold is larger than the smallest one by more than a group.
    sizes = np.bincount(fold)
    assert sizes.max() - sizes.min() <= max(groups.count(g) for g in groups)


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=3), min_size=1, max_size=15))
def test_linked_groups_are_the_connected_components(labels: list[list[int]]) -> None:
    found = linked_groups(labels)
    # Walk from row to row until nothing is added.
    for start in range(len(labels)):
        reached = {start}
        while True:
            names = {n for i in reached for n in labels[i]}
            more = {i for i, own in enumerate(labels) if names & set(own)}
            if more == reached:
                break
            reached = more
        assert reached == {i for i, g in enumerate(found) if g == found[start]}
    assert list(dict.fromkeys(found)) == list(range(max(found) + 1))


def test_bad_input() -> None:
    rng = np.random.default_rng(0)
    x, y = rows(12, rng)
    with pytest.raises(InvalidInputError, match="alpha is 90"):
        Conformal(Line(), alpha=90)
    with pytest.raises(InvalidInputError, match="expected 'split' or 'cv\\+'"):
        Conformal(Line(), method="jackknife")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="expected 'groups' or 'rows'"):
        Conformal(Line(), weigh="papers")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="cannot make 5 folds of 2 groups"):
        Conformal(Line()).fit(x, y, rng=rng, groups=["a", "b"] * 6)
    with pytest.raises(InvalidInputError, match="12 values and 3 groups"):
        Conformal(Line()).fit(x, y, rng=rng, groups=[1, 2, 3])
    with pytest.raises(InvalidInputError, match="not fitted"):
        Conformal(Line()).predict(x)
    with pytest.raises(InvalidInputError, match="row 1 has no label"):
        linked_groups([["a"], []])
