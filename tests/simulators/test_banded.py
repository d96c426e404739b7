"""Banded factorisation of plane networks against dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from simulators.banded import operations, solvable, solve

FloatArray = NDArray[np.float64]


def dense(
    down: FloatArray, across: FloatArray, wrap: FloatArray | None, ground: FloatArray
) -> FloatArray:
    """(c, c) operator of the network."""
    h, w = ground.shape
    number = np.arange(h * w).reshape(h, w)
    matrix = np.diag(ground.ravel())
    pairs = [(down, number[:-1], number[1:]), (across, number[:, :-1], number[:, 1:])]
    if wrap is not None:
        pairs.append((wrap, number[:, -1:], number[:, :1]))
    for links, low, high in pairs:
        for c, i, j in zip(links.ravel(), low.ravel(), high.ravel(), strict=True):
            matrix[[i, j], [i, j]] += c
            matrix[[i, j], [j, i]] -= c
    return matrix


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 6), (6, 1), (2, 2), (2, 3), (5, 4), (4, 9), (9, 4), (7, 7), (3, 12)]
)
def test_against_dense_matrices(shape: tuple[int, int], wrapped: bool) -> None:
    h, w = shape
    if not solvable(shape, wrapped=wrapped):
        assert wrapped
        assert w % 2 == 1 or w < 4
        return
    rng = np.random.default_rng(h * w)
    choose = [0.0, 1e-3, 1.0, 40.0]
    for filled in (False, True):
        down, across = rng.choice(choose, (h - 1, w)), rng.choice(choose, (h, w - 1))
        wrap = rng.choice(choose, (h, 1)) if wrapped else None
        ground = rng.choice([0.01, 2.0], shape)
        if not filled:  # some cells have nothing
            empty = rng.random(shape) < 0.3
            ground[empty] = 0
            down[empty[1:] | empty[:-1]] = 0
            across[empty[:, 1:] | empty[:, :-1]] = 0
            if wrap is not None:
                wrap[empty[:, -1:] | empty[:, :1]] = 0
        used = (ground > 0).ravel()
        source = rng.standard_normal(shape) * (ground > 0)
        matrix = dense(down, across, wrap, ground)
        expected = np.zeros(h * w)
        if used.any():
            expected[used] = np.linalg.solve(matrix[np.ix_(used, used)], source.ravel()[used])
        before = [a.copy() for a in (down, across, ground, source)]
        found = solve(down, across, wrap, ground, source)
        np.testing.assert_allclose(found.ravel(), expected, rtol=1e-9, atol=1e-12)
        for kept, now in zip(before, (down, across, ground, source), strict=True):
            np.testing.assert_array_equal(kept, now)


def test_work_is_that_of_the_narrow_side() -> None:
    assert operations((10, 100), wrapped=False) == operations((100, 10), wrapped=False)
    assert operations((10, 100), wrapped=True) == 100 * operations((100, 10), wrapped=True)


def test_a_network_that_hangs_in_the_air_is_named() -> None:
    """In sum less than none: the network is not positive definite."""
    ground = np.zeros((4, 4))
    ground[0, 0] = -0.5
    with pytest.raises(np.linalg.LinAlgError, match="not joined to the ground"):
        solve(np.ones((3, 4)), np.ones((4, 3)), None, ground, np.ones((4, 4)))
