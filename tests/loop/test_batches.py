"""Batches of compositions: known optima, feasibility, exact zeros, inputs that are too little."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from loop.ascent import ascend
from loop.batches import BatchProposal, propose_batch
from loop.composition import project_to_bounds
from loop.errors import InvalidInputError
from loop.formula import SYMBOLS
from loop.polytope import CompositionSet
from loop.sampling import sample, sobol
from loop.surrogate import Surrogate
from loop.targets import Maximise, Minimise, Range, Targets

FloatArray = NDArray[np.float64]
TWENTY = SYMBOLS[10:30]
BEST = Targets((Maximise("strength_GPa"),))
GROUPS = ("Ni + Co + Fe >= 0.5", "Al + Ti <= 0.2", "Cr:Cu = 2:1", "0.01 <= Mn <= 0.1")


def known_optimum(e: int, rng: np.random.Generator) -> FloatArray:
    """A composition with exact zeros, (e,)."""
    x = np.zeros(e)
    x[rng.permutation(e)[: e // 2]] = rng.dirichlet(np.full(e // 2, 3.0))
    return x


def bump(x: FloatArray, optimum: FloatArray) -> FloatArray:
    """(n, e) -> (n, 1), 1 at the optimum only."""
    return np.exp(-((x - optimum) ** 2).sum(1) / 0.1)[:, None]


def proposed(space: CompositionSet, q: int = 8, n: int = 60, seed: int = 0) -> BatchProposal:
    rng = np.random.default_rng(seed)
    x = sample(space, n, rng, steps=10)
    y = bump(x, sample(space, 1, rng, steps=10)[0])
    return propose_batch(space, x, y, BEST, q, rng=rng)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_known_optimum_of_twenty_parts_is_found(seed: int) -> None:
    """Eight batches of 8 after 40 records end within 1 % of it, which random ones are far from."""
    rng = np.random.default_rng(seed)
    space = CompositionSet(TWENTY)
    optimum = known_optimum(20, rng)
    x = sobol(space, 40, seed=seed)
    y = bump(x, optimum)
    random = bump(sample(space, 8 * 8, rng), optimum).max()
    for _ in range(8):
        found = propose_batch(space, x, y, BEST, 8, rng=rng)
        x = np.concatenate([x, found.compositions])
        y = bump(x, optimum)
    assert y.max() > 0.99
    assert random < y.max() - 0.2


@pytest.mark.parametrize(
    ("elements", "constraints"),
    [
        (TWENTY, ()),
        (SYMBOLS[2:32], GROUPS),
        (SYMBOLS[2:32], ("at most 5 elements",)),
        (SYMBOLS[2:14], ("Al + Mg >= 0.4", "Na:Si = 1:2", "at most 5 elements")),
        (SYMBOLS[10:16], ("Al <= 0.3", "Na >= 0.05")),
    ],
)
def test_every_batch_is_feasible_and_new(
    elements: tuple[str, ...], constraints: tuple[str, ...]
) -> None:
    space = CompositionSet.of(elements, constraints)
    found = proposed(space)
    x = found.compositions
    assert x.shape == (8, len(elements))
    assert space.is_feasible(x, tolerance=1e-9).all()
    assert np.all((x == 0) | (x > 1e-9))
    if space.at_most is not None:
        assert np.all(np.count_nonzero(x, axis=1) <= space.at_most)
    apart = np.abs(x[:, None] - x[None]).max(-1)
    assert apart[np.triu_indices(8, 1)].min() > 1e-6
    assert found.prediction.mean.shape == found.prediction.std.shape == (8, 1)
    assert found.surrogate.predict(x).mean == pytest.approx(found.prediction.mean, rel=1e-12)


def test_the_same_seed_gives_the_same_batch() -> None:
    space = CompositionSet(TWENTY[:6])
    one, same, other = (proposed(space, seed=seed).compositions for seed in (3, 3, 4))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_surrogate_that_is_at_hand_is_not_fitted_again() -> None:
    rng = np.random.default_rng(0)
    space = CompositionSet(TWENTY[:5])
    x = sample(space, 30, rng)
    y = bump(x, known_optimum(5, rng))
    ready = Surrogate(BEST.properties).fit(x, y, rng=rng)
    found = propose_batch(space, x, y, BEST, 3, rng=rng, surrogate=ready)
    assert found.surrogate is ready
    with pytest.raises(InvalidInputError, match="the surrogate has 5 inputs and gives strength"):
        propose_batch(space, x, y, Targets((Minimise("cost"),)), 3, rng=rng, surrogate=ready)


def test_ranges_alone_give_hits_that_differ() -> None:
    """Of a linear property every design asked for is a hit, and they are spread out."""
    rng = np.random.default_rng(1)
    space = CompositionSet(TWENTY[:6])
    x = sample(space, 60, rng)
    slopes = np.arange(6.0)
    targets = Targets((Range("density_g_cm3", 3.0, 3.2), Range("cost", 0.0, 0.15)))
    y = np.column_stack([x @ slopes, x[:, 0]])
    found = propose_batch(space, x, y, targets, 8, rng=rng).compositions
    values = np.column_stack([found @ slopes, found[:, 0]])
    assert (targets.distances(values) == 0).all()
    apart = np.sqrt(((found[:, None] - found[None]) ** 2).sum(-1))
    assert apart[np.triu_indices(8, 1)].min() > 0.1


def test_an_objective_with_a_threshold_on_another_property() -> None:
    """Maximise the last part's share where the first part is at least 0.4: 0.6 is the most."""
    rng = np.random.default_rng(2)
    space = CompositionSet(TWENTY[:5])
    x = sample(space, 60, rng)
    targets = Targets((Maximise("yield_GPa"), Range("ductility", 0.4, 1.0)))
    y = x[:, [4, 0]]
    for _ in range(2):
        found = propose_batch(space, x, y, targets, 6, rng=rng)
        x = np.concatenate([x, found.compositions])
        y = x[:, [4, 0]]
    hits = (targets.distances(y) == 0).all(1)
    assert y[hits, 0].max() == pytest.approx(0.6, abs=0.01)


def test_two_objectives_are_spread_along_the_front() -> None:
    """Of x1 and x2 at once the front is x1 + x2 = 1, from one end to the other."""
    rng = np.random.default_rng(3)
    space = CompositionSet(TWENTY[:4])
    x = sample(space, 40, rng)
    targets = Targets((Maximise("a"), Minimise("minus_b")))
    found = propose_batch(space, x, x[:, :2] * [1, -1], targets, 8, rng=rng).compositions
    assert found[:, :2].sum(1).min() > 0.9
    assert np.ptp(found[:, 0]) > 0.5


# Ascent


def test_the_ascent_ends_at_the_projection_of_a_target_outside() -> None:
    """Of -|x - a|² the largest value in the set is at the projection of a, which is exact."""
    rng = np.random.default_rng(4)
    high = np.full(7, 0.4)
    far = rng.normal(size=(3, 2, 7))
    goal = torch.from_numpy(far)

    def onto(x: FloatArray) -> FloatArray:
        return project_to_bounds(x, np.zeros(7), high)

    ends = ascend(lambda x: -(x - goal).square().sum((1, 2)), onto(rng.random((3, 2, 7))), onto)
    assert np.abs(ends - onto(far)).max() < 1e-9


# Little to go by


def test_constant_properties_and_repeated_records_still_give_a_batch() -> None:
    rng = np.random.default_rng(5)
    space = CompositionSet(TWENTY[:5])
    once = sample(space, 12, rng)
    x = np.repeat(once, 3, axis=0)
    constant = propose_batch(space, x, np.ones((36, 1)), BEST, 4, rng=rng).compositions
    repeated = bump(x, known_optimum(5, rng))
    again = propose_batch(space, x, repeated, BEST, 4, rng=rng).compositions
    alone = propose_batch(space, np.repeat(once[:1], 8, axis=0), np.ones(8), BEST, 4, rng=rng)
    for batch in (constant, again, alone.compositions):
        assert space.is_feasible(batch).all()
        assert len(np.unique(batch.round(6), axis=0)) == 4


def test_records_outside_the_set_count_for_the_surrogate() -> None:
    """Constraints may come after the records; a NaN is a property that was not measured."""
    rng = np.random.default_rng(6)
    x = sample(CompositionSet(TWENTY[:5]), 30, rng)
    y = bump(x, known_optimum(5, rng))
    y[3] = np.nan
    tight = CompositionSet.of(TWENTY[:5], [f"{TWENTY[0]} >= 0.9"])
    found = propose_batch(tight, x, y, BEST, 4, rng=rng, noise=np.full(30, 0.01))
    assert tight.is_feasible(found.compositions).all()


def test_what_cannot_be_is_said() -> None:
    rng = np.random.default_rng(7)
    space = CompositionSet(TWENTY[:5])
    x = sample(space, 20, rng)
    y = bump(x, x[0])
    with pytest.raises(InvalidInputError, match=r"5 records are scored.*at least 8"):
        propose_batch(space, x[:5], y[:5], BEST, 4, rng=rng)
    with pytest.raises(InvalidInputError, match=r"shape \(20, 4\); expected \(n, 5\)"):
        propose_batch(space, x[:, :4], y, BEST, 4, rng=rng)
    with pytest.raises(InvalidInputError, match=r"shape \(19, 1\); expected \(20, 1\)"):
        propose_batch(space, x, y[:19], BEST, 4, rng=rng)
    with pytest.raises(InvalidInputError, match="a batch of 0"):
        propose_batch(space, x, y, BEST, 0, rng=rng)
    with pytest.raises(InvalidInputError, match="diversity is 0"):
        propose_batch(space, x, y, BEST, 4, rng=rng, diversity=0.0)
    with pytest.raises(InvalidInputError, match="no targets"):
        propose_batch(space, x, y, Targets(()), 4, rng=rng)
    with pytest.raises(InvalidInputError, match="noise has shape"):
        propose_batch(space, x, y, BEST, 4, rng=rng, noise=np.full(20, -1.0))
    with pytest.raises(InvalidInputError, match="a property is infinite"):
        propose_batch(space, x, np.where(y == y.max(), np.inf, y), BEST, 4, rng=rng)
    broken = x.copy()
    broken[2, 1] = np.nan
    with pytest.raises(InvalidInputError, match="composition 2 has a value that is not finite"):
        propose_batch(space, broken, y, BEST, 4, rng=rng)
    point = CompositionSet.of(TWENTY[:5], [f"{TWENTY[0]} >= 1"])
    with pytest.raises(InvalidInputError, match=r"only 1 compositions were found.*2 were asked"):
        propose_batch(point, x, y, BEST, 2, rng=rng)
