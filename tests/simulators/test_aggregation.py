"""Aggregation of graphs against dense matrices: symmetric, positive, near the inverse."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from simulators import aggregation
from simulators.aggregation import Aggregation, Graph, factorised
from simulators.percolation import percolating
from simulators.transport_solver import Scheme

FloatArray = NDArray[np.float64]
SHAPES = [(12, 9), (7, 16), (40, 3), (1, 30), (30, 1), (6, 5, 7), (9, 1, 11), (2, 1)]


def graph(shape: tuple[int, ...], *, periodic: bool = False, seed: int = 0) -> Graph:
    rng = np.random.default_rng(seed)
    k = rng.choice([0.0, 0.1, 1.0, 5.0], shape, p=[0.2, 0.1, 0.4, 0.3])
    k.reshape(shape[0], -1)[:, 0] = 1.0  # one way through at least
    return Scheme((k * percolating(k > 0, periodic=periodic))[None], periodic).graph()


def matrix(of: Graph) -> FloatArray:
    result = np.diag(of.diagonal())
    np.subtract.at(result, (of.low, of.high), of.link)
    np.subtract.at(result, (of.high, of.low), of.link)
    return result


@pytest.fixture(autouse=True)
def many_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregation, "DIRECT", 4)


@pytest.mark.parametrize("shape", SHAPES)
def test_reduced_systems_are_the_whole(shape: tuple[int, ...]) -> None:
    of = graph(shape)
    a = matrix(of)
    grid = Aggregation(of)
    currents = np.random.default_rng(1).standard_normal(len(a))
    expected = np.linalg.solve(a, currents)
    across = np.stack([grid.across(unit) for unit in np.eye(len(grid.black))], axis=1)
    spectrum = np.linalg.eigvalsh(across)
    assert spectrum.min(initial=0) > -1e-12
    assert spectrum.max(initial=0) < 1
    reduced = np.linalg.solve(np.eye(len(across)) - across, grid.reduced(currents))
    v = np.asarray(reduced, dtype=np.float64)
    np.testing.assert_allclose(grid.complete(v, currents), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(factorised(of).solve(currents), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("shape", "periodic"),
    [*((shape, False) for shape in SHAPES), ((9, 8), True), ((5, 4, 2), True)],
)
def test_cycles_are_symmetric_positive_and_near_the_inverse(
    shape: tuple[int, ...], periodic: bool
) -> None:
    of = graph(shape, periodic=periodic)
    a = matrix(of)
    grid = Aggregation(of)
    whole = np.stack([grid.solve(unit) for unit in np.eye(len(a))], axis=1)
    np.testing.assert_allclose(whole, whole.T, atol=1e-10 * np.abs(whole).max())
    factor = np.linalg.cholesky(a)
    spectrum = np.linalg.eigvalsh(factor.T @ whole @ factor)
    assert spectrum.min() > 0
    assert spectrum.max() < 3


def test_blocks_are_split_where_nothing_connects_them() -> None:
    """Two channels, side by side in every block of two columns, joined at the far end alone."""
    k = np.ones((1, 8, 4))
    k[0, :, 1] = 0
    k[0, :-1, 2] = 0
    of = Scheme(k, periodic=False).graph()
    blocks = of.blocks()
    assert len(np.unique(blocks[of.place[1] == 0])) == 4
    assert not set(blocks[of.place[1] == 0]) & set(blocks[of.place[1] == 3])
    k[0, :, 1] = 1
    joined = Scheme(k, periodic=False).graph()
    numbers = joined.blocks()
    assert len(np.unique(numbers[joined.place[1] <= 1])) == 4


@pytest.mark.parametrize("shape", [(12, 9), (6, 5, 7)])
def test_coarse_graphs_keep_two_colours_and_half_the_conductance(shape: tuple[int, ...]) -> None:
    of = graph(shape)
    while len(of.ground) > 2:
        colour = np.sum(of.place, axis=0) % 2
        assert np.all(colour[of.low] != colour[of.high])
        blocks = of.blocks()
        coarse = of.coarse(blocks)
        inner = blocks[of.low] == blocks[of.high]
        assert coarse.link.sum() == pytest.approx(0.5 * of.link[~inner].sum())
        assert coarse.ground.sum() == pytest.approx(0.5 * of.ground.sum())
        if len(coarse.ground) == len(of.ground):
            break
        of = coarse
