"""Networks of conductances and their V-cycles against dense matrices."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from simulators.multigrid import DIRECT, Multigrid, Network
from simulators.transport_solver import Scheme

SHAPES = [(12, 9), (7, 16), (40, 3), (1, 30), (30, 1), (6, 5, 7), (9, 1, 11)]


def network(shape: tuple[int, ...], periodic: bool, seed: int = 0) -> Network:
    """Two networks with insulators; every cell that conducts is joined to something."""
    rng = np.random.default_rng(seed)
    k = rng.choice([0.0, 0.1, 1.0, 5.0], (2, *shape), p=[0.2, 0.1, 0.4, 0.3])
    net = Scheme(k, periodic).network("cpu")
    return Network(net.links, net.wraps, net.ground + 1e-3 * (torch.as_tensor(k) > 0))


def dense(apply: object, shape: tuple[int, ...]) -> np.ndarray:
    """(2, c, c) matrices of a linear map of (2, *shape)."""
    assert callable(apply)
    cells = int(np.prod(shape))
    repeats = (2, *[1] * len(shape))
    columns = [
        apply(unit.reshape(1, *shape).repeat(repeats)).reshape(2, -1).clone()
        for unit in torch.eye(cells, dtype=torch.float64)
    ]
    result: np.ndarray = torch.stack(columns, dim=2).numpy()
    return result


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_networks_apply_their_graph_laplacian(shape: tuple[int, ...], periodic: bool) -> None:
    net = network(shape, periodic)
    number = np.arange(int(np.prod(shape))).reshape(shape)
    expected = np.stack([np.diag(ground.flatten().numpy()) for ground in net.ground])
    for axis, (link, wrap) in enumerate(zip(net.links, net.wraps, strict=True)):
        size = shape[axis]
        pairs = [(link, range(size - 1), range(1, size))]
        if wrap is not None:
            pairs.append((wrap, range(size - 1, size), range(1)))
        for values, low, high in pairs:
            i, j = np.take(number, low, axis).ravel(), np.take(number, high, axis).ravel()
            for n, g in itertools.product(range(2), range(len(i))):
                c = float(values[n].flatten()[g])
                expected[n, i[g], i[g]] += c
                expected[n, j[g], j[g]] += c
                expected[n, i[g], j[g]] -= c
                expected[n, j[g], i[g]] -= c
    diagonal = net.diagonal()
    found = dense(lambda u: net.apply(u, diagonal), shape)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_cycles_are_symmetric_positive_and_near_the_inverse(
    shape: tuple[int, ...], periodic: bool
) -> None:
    net = network(shape, periodic)
    grid = Multigrid(net, driven=0)
    assert (len(grid.levels) > 1) == (int(np.prod(shape)) > DIRECT)
    cycle = dense(grid.cycle, shape)
    diagonal = net.diagonal()
    matrix = dense(lambda u: net.apply(u, diagonal), shape)
    for n in range(2):
        used = diagonal[n].flatten().numpy() > 0
        m, a = cycle[n][np.ix_(used, used)], matrix[n][np.ix_(used, used)]
        np.testing.assert_allclose(m, m.T, atol=1e-10)
        np.testing.assert_array_equal(cycle[n][~used], 0)
        factor = np.linalg.cholesky(a)
        spectrum = np.linalg.eigvalsh(factor.T @ m @ factor)
        assert spectrum.min() > 0
        assert spectrum.max() < 3
        if len(grid.levels) == 1:
            np.testing.assert_allclose(spectrum, 1, rtol=1e-7)


@pytest.mark.parametrize("n", [16, 32, 64])
def test_coarse_grids_of_a_uniform_body_are_the_uniform_body(n: int) -> None:
    """Halving the crossing sums keeps the conductance between the ends, in 2 and 3 dimensions."""
    for shape in ((n, n), (8, n, 4)):
        k = np.ones((1, *shape))
        net = Scheme(k, periodic=True).network("cpu")
        coarse = net.coarse(driven=0)
        # Of the same cross-section, cells of twice the length: links per cell grow 2^(m - 2).
        size = 2.0 ** (len(shape) - 2)
        for link in (*coarse.links, *(wrap for wrap in coarse.wraps if wrap is not None)):
            torch.testing.assert_close(link, torch.full_like(link, size))
        torch.testing.assert_close(
            coarse.ground[:, 0], torch.full_like(coarse.ground[:, 0], 2 * size)
        )
