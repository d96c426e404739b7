"""Batches by joint improvement: what one design would show, no second one is picked for."""

from __future__ import annotations

import numpy as np
import pytest

from loop.candidate import Candidate, Outcome, Record
from loop.errors import InvalidInputError
from loop.joint_selection import joint_improvement_batch, of_properties
from loop.surrogate import Surrogate
from loop.targets import Maximise, Minimise, Range, Targets

UP = Targets((Maximise("y"),))


def records(y: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> list[Record]:
    design = Candidate(("a",), ("Ni", "Al"), phase_compositions=np.array([[0.5, 0.5]]))
    return [
        Record(design, Outcome("ok", {"z": float(a), "y": float(b)}), "rule", "1", 0) for a, b in y
    ]


@pytest.fixture(scope="module")
def known() -> tuple[Surrogate, list[Record]]:
    """Two properties of one number: z falls, y has two equal hills, at 0 and at 6."""
    x = np.linspace(-2.0, 8.0, 26)[:, None]
    y = np.exp(-(x[:, 0] ** 2)) + np.exp(-((x[:, 0] - 6.0) ** 2))
    values = np.column_stack([-x[:, 0], y])
    keep = y < 0.6  # the tops of both are still to be found
    rng = np.random.default_rng(0)
    surrogate = Surrogate(("z", "y")).fit(x[keep], values[keep], rng=rng)
    return surrogate, records(values[keep])


def test_one_of_each_hill_and_no_copies(known: tuple[Surrogate, list[Record]]) -> None:
    """A pool of twenty copies of either top: ranking would take both designs from one hill."""
    pool = np.concatenate([np.full(20, 0.0), np.full(20, 6.0), np.full(20, 3.0)])[:, None]
    for seed in range(3):
        rng = np.random.default_rng(seed)
        picked = joint_improvement_batch(pool, *_of(known), 2, rng=rng)
        assert sorted(pool[picked, 0].tolist()) == [0.0, 6.0]


def _of(known: tuple[Surrogate, list[Record]]) -> tuple[Surrogate, Targets, list[Record]]:
    return known[0], UP, known[1]


def test_the_other_targets_hold(known: tuple[Surrogate, list[Record]]) -> None:
    """z above -3 leaves the hill at 0 alone."""
    pool = np.linspace(-1.0, 7.0, 81)[:, None]
    targets = Targets((Maximise("y"), Range("z", -3.0, 9.0)))
    rng = np.random.default_rng(1)
    picked = joint_improvement_batch(pool, known[0], targets, known[1], 3, rng=rng)
    assert len(set(picked)) == 3
    assert abs(pool[picked[0], 0]) < 0.5
    assert (pool[picked, 0] < 3.0).all()


def test_a_small_pool_is_taken_whole_and_the_stream_decides(
    known: tuple[Surrogate, list[Record]],
) -> None:
    pool = np.array([[0.0], [3.0], [6.0]])
    first, second = (
        joint_improvement_batch(pool, *_of(known), 8, rng=np.random.default_rng(4))
        for _ in range(2)
    )
    assert first == second
    assert sorted(first) == [0, 1, 2]
    empty = np.zeros((0, 1))
    assert joint_improvement_batch(empty, *_of(known), 8, rng=np.random.default_rng(4)) == []


def test_part_of_a_surrogate_predicts_the_same(known: tuple[Surrogate, list[Record]]) -> None:
    x = np.array([[0.3], [5.0]])
    both, one = known[0].predict(x), of_properties(known[0], ["y"]).predict(x)
    np.testing.assert_array_equal(one.mean[:, 0], both.mean[:, 1])
    np.testing.assert_array_equal(one.std[:, 0], both.std[:, 1])


def test_what_cannot_be_picked_says_why(known: tuple[Surrogate, list[Record]]) -> None:
    pool, rng = np.zeros((2, 1)), np.random.default_rng(0)
    with pytest.raises(InvalidInputError, match="no target is to be maximised or minimised"):
        joint_improvement_batch(
            pool, known[0], Targets((Range("y", 0.0, 1.0),)), known[1], 1, rng=rng
        )
    with pytest.raises(InvalidInputError, match="the surrogate predicts z, y; expected one"):
        joint_improvement_batch(pool, known[0], Targets((Minimise("cost"),)), known[1], 1, rng=rng)
    with pytest.raises(InvalidInputError, match="no record has all of y; score some"):
        joint_improvement_batch(pool, known[0], UP, [], 1, rng=rng)
