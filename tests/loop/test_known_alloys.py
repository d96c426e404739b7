"""Distances to known alloys: by hand, against brute force, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.composition import present_distance
from loop.errors import InvalidInputError
from loop.known_alloys import SAME, KnownAlloys

# Al  Co  Cr  Fe  Ni
CANTOR = [0.0, 0.25, 0.25, 0.25, 0.25]
WITH_ALUMINIUM = [0.2, 0.2, 0.2, 0.2, 0.2]


def test_by_hand() -> None:
    known = KnownAlloys([CANTOR, WITH_ALUMINIUM])
    less = [0.1, 0.225, 0.225, 0.225, 0.225]
    uneven = [0.0, 0.5, 0.25, 0.125, 0.125]
    near = known.nearest([CANTOR, less, [0.0, 0.5, 0.5, 0.0, 0.0], uneven])
    # Al 0.1: nine tenths of the parent, so 0.1 of aluminium too many and 0.1 of the others missing.
    assert near.difference == pytest.approx([0.0, 0.2, 1.0, 0.5])
    assert near.index[0] == 0
    assert near.index[3] == 0
    # ln of the ratios of 0.1 to 0.225, centred: (4, -1, -1, -1, -1)/5 ln(4/9), from 0.
    aluminium = abs(np.log(0.1 / 0.225)) * np.sqrt(0.8)
    assert near.aitchison[0] == pytest.approx(0.0, abs=1e-12)
    assert near.aitchison[1] == pytest.approx(aluminium)
    assert np.isinf(near.aitchison[2])
    logs = np.log(uneven[1:])
    assert near.aitchison[3] == pytest.approx(np.linalg.norm(logs - logs.mean()))
    assert near.known_elements.tolist() == [True, True, False, True]
    assert near.copies().tolist() == [True, False, False, False]


@given(st.integers(0, 2**32 - 1))
def test_against_every_pair(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sets = [rng.dirichlet(np.ones(4), n) * (rng.random((n, 4)) < 0.7) for n in (30, 25)]
    known, x = (part[part.sum(1) > 0] for part in sets)
    known, x = (part / part.sum(1, keepdims=True) for part in (known, x))
    near = KnownAlloys(known).nearest(x)
    differences = np.abs(x[:, None] - known[None]).sum(-1)
    assert near.difference == pytest.approx(differences.min(1), abs=1e-12)
    rows = np.arange(len(x))
    assert differences[rows, near.index] == pytest.approx(near.difference, abs=1e-12)
    aitchison = present_distance(x[:, None], known[None])
    assert np.array_equal(np.isinf(near.aitchison), np.isinf(aitchison.min(1)))
    there = near.known_elements
    assert near.aitchison[there] == pytest.approx(aitchison.min(1)[there], abs=1e-9)
    assert np.all((near.difference >= 0) & (near.difference <= 2 + 1e-12))


def test_a_copy_is_one_within_half_a_percent_of_the_atoms() -> None:
    known = KnownAlloys([CANTOR])
    moved = np.array([[0, 0.25 + d, 0.25 - d, 0.25, 0.25] for d in (0.0, 0.49 * SAME, 0.51 * SAME)])
    assert known.nearest(moved).copies().tolist() == [True, True, False]


def test_amounts_are_closed_and_many_are_done_in_parts() -> None:
    """More alloys than are compared at once."""
    rng = np.random.default_rng(0)
    known = rng.dirichlet(np.ones(5), 40)
    x = np.concatenate([known] * 60)
    near = KnownAlloys(100.0 * known).nearest(7.0 * x)
    assert near.difference == pytest.approx(np.zeros(len(x)), abs=1e-12)
    assert np.array_equal(near.index, np.tile(np.arange(40), 60))


def test_none_to_compare() -> None:
    near = KnownAlloys([CANTOR]).nearest(np.zeros((0, 5)))
    assert len(near.index) == len(near.difference) == len(near.aitchison) == 0


@pytest.mark.parametrize(
    ("known", "x", "words"),
    [
        (np.zeros((0, 3)), None, "at least one row"),
        ([0.5, 0.5], None, "shape"),
        ([[0.5, 0.5]], [[0.2, 0.3, 0.5]], r"expected \(n, 2\)"),
        ([[0.5, 0.5]], [0.5, 0.5], r"expected \(n, 2\)"),
        ([[0.5, -0.5]], None, "amounts >= 0"),
    ],
)
def test_what_is_refused(known: object, x: object, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        KnownAlloys(known).nearest(x)  # type: ignore[arg-type]
