"""Compositions drawn from a set: all feasible, and as uniform as exact marginals can tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, chisquare, kstest, uniform

from loop.composition import FloatArray, present_ilr, present_ilr_inverse
from loop.errors import InvalidInputError
from loop.formula import SYMBOLS, canonical_text, read_composition
from loop.grouped_simplex import GroupedSimplex
from loop.hit_and_run import hit_and_run
from loop.paths import straight_path
from loop.polytope import CompositionSet
from loop.sampling import draw_supports, sample, sobol
from loop.truncated_simplex import TruncatedSimplex
from tests.loop.composition_sets import random_set

THIRTY = SYMBOLS[2:32]
# Largest distance of an empirical distribution function of n from the true one, exceeded with
# probability 0.001: 1.95 / sqrt(n) (Kolmogorov).
KOLMOGOROV = 1.95
# Absent is exactly 0. Of 10^6 uniform fractions one is below this with a probability of about
# 30 * 10^6 * 1e-13 = 3e-6 (density of a fraction at 0 of 30: 29); rounding leaves 1e-17.
DUST = 1e-13


def _uniformly(x: FloatArray, cdf: Callable[[Any], Any]) -> None:
    assert kstest(x, cdf).statistic <= KOLMOGOROV / np.sqrt(len(x))


# Feasible, always


def test_a_hundred_thousand_compositions_of_thirty_elements_are_all_feasible() -> None:
    rng = np.random.default_rng(5)
    groups = ["Ni + Co + Fe >= 0.5", "Al + Ti <= 0.2", "Cr:Cu = 2:1", "0.01 <= Mn <= 0.1"]
    crossing = ["Ni + Co >= 0.5", "Co + 2 Al >= 0.3", "Cr:Fe = 1:1", "Ni - Ti >= 0.2"]
    seen = 0
    for constraints, n in (
        (groups, 30_000),
        ([*groups, "at most 6 elements"], 20_000),
        (crossing, 6_000),
        ([*crossing, "at most 5 elements"], 4_000),
    ):
        space = CompositionSet.of(THIRTY, constraints)
        x = sample(space, n, rng, steps=10)  # mixing is not asked for here
        assert x.shape == (n, 30)
        assert space.is_feasible(x, tolerance=1e-9).all()
        if space.at_most is not None:
            assert np.all((x > 0).sum(axis=1) <= space.at_most)
            assert np.all((x == 0) | (x > DUST))
        seen += n
        if space.at_most is None:
            a, b = x[:2000:2], x[1:2000:2]
            path = straight_path(a, b, np.linspace(0, 1, 20))
            assert space.is_feasible(path.reshape(-1, 30), tolerance=1e-9).all()
            assert np.array_equal(path[0], a)
            assert np.array_equal(path[-1], b)
            seen += path.shape[0] * path.shape[1]
    assert seen == 100_000


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(deadline=None, max_examples=25)
def test_random_sets_give_feasible_points(seed: int, sparse: bool) -> None:
    space, _ = random_set(seed, sparse=sparse)
    for x in (
        sample(space, 20, np.random.default_rng(seed), steps=5),
        sobol(space, 16, seed=seed),
    ):
        assert space.is_feasible(x, tolerance=1e-9).all()
        assert np.all((x == 0) | (x > DUST))


def test_round_trips_of_what_is_drawn(tmp_path: Path) -> None:
    space = CompositionSet.of(THIRTY, ["Ni + Co >= 0.5", "at most 6 elements"])
    x = sample(space, 200, np.random.default_rng(6))
    back = present_ilr_inverse(present_ilr(x))
    assert np.array_equal(back == 0, x == 0)
    assert np.abs(back - x).max() <= 1e-12
    for by_weight in (False, True):
        texts = [canonical_text(row, THIRTY, by_weight=by_weight) for row in x]
        read = np.array([read_composition(text, THIRTY) for text in texts])
        assert np.array_equal(read == 0, x == 0)
        assert np.abs(read - x).max() <= 1e-12
    pd.DataFrame(x, columns=list(THIRTY)).to_parquet(tmp_path / "x.parquet")
    assert np.array_equal(pd.read_parquet(tmp_path / "x.parquet").to_numpy(), x)


# Uniform


def test_the_whole_simplex_has_beta_marginals() -> None:
    x = sample(CompositionSet(THIRTY), 4000, np.random.default_rng(1))
    for i in (0, 14, 29):
        _uniformly(x[:, i], beta(1, 29).cdf)
    _uniformly(x[:, :10].sum(axis=1), beta(10, 20).cdf)


def test_capped_elements_have_the_marginal_of_their_sections() -> None:
    """x1 of {sum 1, each <= 1/2}: the section is x1 long, so its distribution is 4 x1^2."""
    space = CompositionSet.of(("Ni", "Co", "Al"), ["Ni <= 0.5", "Co <= 0.5", "Al <= 0.5"])
    x = sample(space, 4000, np.random.default_rng(2))
    for i in range(3):
        _uniformly(x[:, i], lambda v: 4 * np.clip(v, 0, 0.5) ** 2)


@pytest.mark.parametrize(
    "high",
    [
        np.ones(30),
        np.full(30, 0.05),
        np.random.default_rng(3).choice([0.02, 0.05, 0.2, 0.9], 30),
        np.array([0.21] * 5),
    ],
    ids=["free", "tight", "mixed", "nearly full"],
)
def test_the_density_of_the_map_is_constant(high: FloatArray) -> None:
    """ln of it spreads by less than 1e-4, the error of tables linear between 8192 nodes."""
    simplex = TruncatedSimplex(np.zeros(len(high)), high)
    x = simplex.points(np.random.default_rng(4).random((2000, len(high) - 1)))
    assert np.abs(x.sum(axis=1) - 1).max() <= 1e-14
    assert np.all((x >= 0) & (x <= high))
    assert np.std(simplex.log_density(x)) < 1e-4


def test_the_sum_of_a_group_is_a_cut_beta() -> None:
    """Ni + Co of 5 elements is Beta(2, 3); above 1/2 only that is left."""
    space = CompositionSet.of(THIRTY[:5], [f"{THIRTY[0]} + {THIRTY[1]} >= 0.5"])
    x = sample(space, 4000, np.random.default_rng(7))
    total, whole = x[:, :2].sum(axis=1), beta(2, 3)
    _uniformly(total, lambda v: (whole.cdf(v) - whole.cdf(0.5)) / whole.sf(0.5))
    _uniformly(x[:, 0] / total, uniform().cdf)
    _uniformly(x[:, 2] / (1 - total), beta(1, 2).cdf)


def test_two_groups_and_a_ratio() -> None:
    """A and B in ratio 2 : 1 are one part; sums of parts of a flat Dirichlet are a Dirichlet."""
    a, b, c, d, e, f = THIRTY[:6]
    space = CompositionSet.of(
        (a, b, c, d, e, f), [f"{a}:{b} = 2:1", f"{a} + {b} + {c} >= 0", f"{d} + {e} <= 1"]
    )
    assert GroupedSimplex.made(space) is not None
    x = sample(space, 4000, np.random.default_rng(8))
    assert x[:, 0] == pytest.approx(2 * x[:, 1], abs=1e-15)
    _uniformly(x[:, :2].sum(axis=1), beta(1, 4).cdf)
    _uniformly(x[:, :3].sum(axis=1), beta(2, 3).cdf)
    _uniformly(x[:, 5], beta(1, 4).cdf)


def test_hit_and_run_has_the_same_marginals() -> None:
    """Ni >= Co cuts the simplex in half: other elements and Ni + Co keep their marginals."""
    e = 8
    space = CompositionSet.of(THIRTY[:e], [f"{THIRTY[0]} - {THIRTY[1]} >= 0"])
    assert GroupedSimplex.made(space) is None
    x = hit_and_run(space, 1024, np.random.default_rng(9))  # as many chains: independent points
    for i in range(2, e):
        _uniformly(x[:, i], beta(1, e - 1).cdf)
    _uniformly(x[:, :2].sum(axis=1), beta(2, e - 2).cdf)
    _uniformly(x[:, 0] / x[:, :2].sum(axis=1), uniform(0.5, 0.5).cdf)


def test_a_flat_set_is_walked_in_its_own_plane() -> None:
    """Ni + Co >= 1/2 with Ni <= 0.2 and Co <= 0.3 holds both fixed; the rest shares 1/2."""
    space = CompositionSet.of(
        ("Ni", "Co", "Al", "Cr", "Fe"), ["Ni + Co >= 0.5", "Ni <= 0.2", "Co <= 0.3"]
    )
    x = hit_and_run(space, 1000, np.random.default_rng(10))
    assert np.all(x[:, :2] == [0.2, 0.3])
    _uniformly(2 * x[:, 2], beta(1, 2).cdf)
    assert space.is_feasible(sample(space, 50, np.random.default_rng(10))).all()
    one = CompositionSet.of(("Ni", "Al", "Cr"), ["Ni = 0.5", "Al = 0.3"])
    only = sample(one, 3, np.random.default_rng(11))
    assert np.all(only[:, :2] == [0.5, 0.3])
    assert only[:, 2] == pytest.approx(0.2, abs=1e-15)


# Which elements


def test_supports_are_all_equally_likely() -> None:
    """Chi-squared over the 10 sets of 3 of 6 elements that hold the required one."""
    space = CompositionSet.of(THIRTY[:6], [f"{THIRTY[2]} >= 0.1", "at most 3 elements"])
    rng = np.random.default_rng(12)
    counts = Counter(draw_supports(space, 1, rng)[0] for _ in range(1000))
    assert set(counts) == {s for s in combinations(range(6), 3) if 2 in s}
    assert chisquare(list(counts.values())).pvalue > 1e-3
    x = sample(space, 1000, rng)
    assert space.is_feasible(x).all()
    used = Counter(tuple(np.flatnonzero(row).tolist()) for row in x)
    assert set(used.values()) == {100}  # the ten there are, in equal parts


def test_rare_supports_are_found_without_rejection() -> None:
    """One set of 8 of 30 elements in 5.8 million is feasible."""
    wanted = THIRTY[3:11]
    constraints = [f"{element} <= 0.13" for element in wanted]
    constraints += [f"{element} <= 0.01" for element in THIRTY if element not in wanted]
    space = CompositionSet.of(THIRTY, [*constraints, "at most 8 elements"])
    x = sample(space, 20, np.random.default_rng(13))
    assert space.is_feasible(x).all()
    assert np.all(x[:, 3:11] > 0)


# Sobol


def test_sobol_points_are_more_even_than_random_ones() -> None:
    """The mean of n = 1024 points misses 1/5 by a tenth of the random points' standard error."""
    n, space = 1024, CompositionSet(THIRTY[:5])
    x = sobol(space, n, seed=1)
    assert np.array_equal(x, sobol(space, n, seed=1))
    assert not np.array_equal(x, sobol(space, n, seed=2))
    assert space.is_feasible(x).all()
    error = np.abs(x.mean(axis=0) - 0.2).max()
    assert error < 0.1 * float(beta(1, 4).std()) / np.sqrt(n)
    group = CompositionSet.of(THIRTY[:5], [f"{THIRTY[0]} + {THIRTY[1]} >= 0.5"])
    y = sobol(group, n, seed=1)
    _uniformly(y[:, 2] / y[:, 2:].sum(axis=1), beta(1, 2).cdf)


def test_sobol_where_no_map_is_known() -> None:
    half = CompositionSet.of(THIRTY[:5], [f"{THIRTY[0]} - {THIRTY[1]} >= 0"])
    x = sobol(half, 512, seed=3)  # thinned, so still uniform
    _uniformly(x[:, 2], beta(1, 4).cdf)
    corner = CompositionSet.of(
        THIRTY[:5], [f"{THIRTY[0]} + 2 {THIRTY[1]} >= 1.9", f"{THIRTY[0]} >= 0.01"]
    )
    y = sobol(corner, 512, seed=3)  # along rays: feasible and all different
    assert corner.is_feasible(y).all()
    assert len(np.unique(y, axis=0)) == 512
    few = CompositionSet.of(THIRTY, ["at most 4 elements"])
    z = sobol(few, 512, seed=4)
    assert few.is_feasible(z).all()
    assert np.all((z > 0).sum(axis=1) == 4)


def test_nothing_and_less() -> None:
    space = CompositionSet(THIRTY[:3])
    rng = np.random.default_rng(0)
    assert sample(space, 0, rng).shape == (0, 3)
    assert sobol(space, 0, seed=1).shape == (0, 3)
    assert sample(CompositionSet(("Ni",)), 2, rng).tolist() == [[1.0], [1.0]]
    with pytest.raises(InvalidInputError, match="-1 compositions were asked for"):
        sample(space, -1, rng)
    with pytest.raises(InvalidInputError, match="no composition with sum 1"):
        TruncatedSimplex(np.zeros(2), np.full(2, 0.4))
