"""Transport between end faces: exact cases, a direct solver, percolation, bounds."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from loop.errors import InvalidInputError
from simulators import transport_solver
from simulators.percolation import percolating
from simulators.transport import Transport, through_transport
from simulators.transport_bounds import (
    Branches,
    balanced_fluxes,
    dirichlet_conductance,
    thomson_conductance,
    thomson_of_potential,
)
from simulators.transport_solver import potentials
from simulators.verification_transport import SLANTED, slanted_strip
from tests.simulators.conftest import ImageMaker
from tests.simulators.voxels import direct_transport

TIGHT = 1e-11
Labels = NDArray[np.integer]


@pytest.fixture(params=["banded", "sparse", "aggregation", "multigrid"])
def solver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Plane images by every way; voxels always go to one of the last two."""
    if request.param == "sparse":
        monkeypatch.setattr(transport_solver, "BANDED", 0)
    if request.param in ("aggregation", "multigrid"):
        always_iterate(monkeypatch)
    if request.param == "multigrid":
        in_batches(monkeypatch)
    return str(request.param)


def always_iterate(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("DIRECT_ESTIMATED", "DIRECT_CERTIFIED", "DIRECT_CONTRAST"):
        monkeypatch.setattr(transport_solver, limit, 0)


def in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU."""
    monkeypatch.setattr(transport_solver.Scheme, "two_coloured", lambda _: False)


def check_bounds(k: Transport) -> None:
    slack = 1e-12
    assert np.all(k.diffusivity * (1 - k.residual) <= k.lower * (1 + slack) + 1e-300)
    assert np.all(k.lower <= k.upper * (1 + slack))


@pytest.mark.usefixtures("solver")
@pytest.mark.parametrize(
    "shape", [(20, 20), (40, 20), (7, 1), (1, 5), (20, 20, 20), (40, 20, 20), (3, 1, 1)]
)
def test_uniform_block_with_an_insulating_slab(shape: tuple[int, ...]) -> None:
    """Of the full width, tau is 1: straight channels are not tortuous."""
    image = np.ones((1, *shape), dtype=np.uint8)
    for empty in (False, True):
        if empty and shape[1] > 1:
            image[:, :, 0] = 0
        k = through_transport(image, [0, 1], tolerance=TIGHT)
        assert k.tortuosity[0] == pytest.approx(1, abs=1e-9)
        assert k.lower[0] == pytest.approx(k.upper[0], rel=1e-9)
        assert k.diffusivity[0] == pytest.approx(image.mean(), rel=1e-9)


@pytest.mark.parametrize("diffusivities", [(0, 1, 0, 0), (0, 1, 0.5, 0), (1, 2, 0.5, 3)])
@pytest.mark.parametrize("periodic", [False, True])
def test_straight_strips(diffusivities: tuple[float, ...], periodic: bool) -> None:
    image = np.zeros((1, 12, 20, 20), dtype=int)
    image[:, :, :10, :10], image[:, :, :10, 10:], image[:, :, 10:, 15:] = 1, 2, 3
    k = through_transport(image, diffusivities, periodic=periodic, tolerance=TIGHT)
    assert k.tortuosity[0] == pytest.approx(1, abs=1e-9)
    assert k.diffusivity[0] == pytest.approx(np.array(diffusivities)[image].mean(), rel=1e-9)


@pytest.mark.usefixtures("solver")
def test_layers_across_are_in_series() -> None:
    image = np.repeat([0, 1, 2], [3, 4, 5])[None, :, None] * np.ones((1, 1, 6), dtype=int)
    values = np.array([0.5, 3.0, 20.0])
    k = through_transport(image, values, tolerance=TIGHT)
    expected = 12 / (3 / 0.5 + 4 / 3 + 5 / 20)
    assert k.diffusivity[0] == pytest.approx(expected, rel=1e-9)
    assert k.lower[0] == pytest.approx(expected, rel=1e-9)
    assert k.tortuosity[0] == pytest.approx(values[image].mean() / expected, rel=1e-9)
    along = through_transport(image, values, axis=1, tolerance=TIGHT)
    assert along.tortuosity[0] == pytest.approx(1, abs=1e-9)


def test_slanted_strip() -> None:
    """37 unit resistors and 7/24 at either end; tau is a fifth of the sum, 7.51667."""
    k = through_transport(slanted_strip(), [0, 1], tolerance=TIGHT)
    assert pytest.approx(7.51667, abs=5e-6) == SLANTED
    assert k.tortuosity[0] == pytest.approx(SLANTED, rel=1e-9)
    check_bounds(k)


@pytest.mark.parametrize("periodic", [False, True])
def test_blocked(periodic: bool) -> None:
    image = np.zeros((4, 10, 9, 9), dtype=int)
    image[0, 0] = 1  # one face only
    image[1, :8, 4, 4] = 1  # dead end
    image[2, :5, 4, 4], image[2, 5:, 5, 5] = 1, 1  # an edge is no contact
    image[3, :, 2, 2] = 1
    k = through_transport(image, [0, 1], periodic=periodic)
    assert k.percolates.tolist() == [False, False, False, True]
    assert np.all(np.isinf(k.tortuosity[:3]))
    for values in (k.diffusivity, k.lower, k.upper):
        np.testing.assert_array_equal(values[:3], 0)
    assert k.tortuosity[3] == pytest.approx(1, abs=1e-5)
    assert k.converged.all()
    nothing = through_transport(image, [0, 0])
    assert np.all(np.isinf(nothing.tortuosity))
    assert np.all(nothing.mean == 0)


def test_dead_ends_count_in_the_mean_alone() -> None:
    image = np.zeros((1, 10, 12), dtype=int)
    image[0, :, 3] = 1
    k = through_transport(image, [0, 1])
    image[0, 2:8, 8] = 1  # an island
    with_island = through_transport(image, [0, 1])
    assert with_island.diffusivity[0] == pytest.approx(k.diffusivity[0], rel=1e-12)
    assert with_island.tortuosity[0] == pytest.approx(k.tortuosity[0] * 16 / 10, rel=1e-12)


def test_a_poor_phase_becomes_an_insulator() -> None:
    rng = np.random.default_rng(0)
    image = rng.choice(3, (1, 30, 30), p=[0.2, 0.7, 0.1])
    values = [through_transport(image, [0, 1, poor]).tortuosity[0] for poor in (1e-3, 1e-6, 0)]
    assert abs(values[0] / values[2] - 1) < 0.02
    assert abs(values[1] / values[2] - 1) < 1e-4


@pytest.mark.usefixtures("solver")
@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("shape", [(8, 7), (9, 2), (1, 6), (5, 4, 3), (4, 2, 5)])
def test_against_a_direct_solver(shape: tuple[int, ...], periodic: bool) -> None:
    rng = np.random.default_rng(sum(shape))
    images = rng.integers(0, 4, (4, *shape))
    values = np.array([0, 0.02, 1, 50])
    for axis in range(len(shape)):
        k = through_transport(images, values, axis=axis, periodic=periodic, tolerance=TIGHT)
        check_bounds(k)
        for i in range(4):
            field = np.moveaxis(values[images[i]], axis, 0)
            field = field * percolating(field > 0, periodic=periodic)
            conductance = direct_transport(field, periodic=periodic) if field.any() else 0.0
            expected = conductance * len(field) / (field.size / len(field))
            assert k.diffusivity[i] == pytest.approx(expected, rel=1e-8, abs=1e-15)
            truth = values[images[i]].mean() / expected if expected else math.inf
            assert k.tortuosity[i] == pytest.approx(truth, rel=1e-8)


def paths(conducting: NDArray[np.bool_], periodic: bool) -> NDArray[np.bool_]:
    """Percolating pixels, found by walking from either face."""
    reached = []
    for end in (0, -1):
        seen = np.zeros_like(conducting)
        seen[end] = conducting[end]
        while True:
            wide = seen.copy()
            for axis, step in itertools.product(range(seen.ndim), (1, -1)):
                moved = np.roll(seen, step, axis)
                if axis == 0 or not periodic:
                    edge = [slice(None)] * seen.ndim
                    edge[axis] = slice(0, 1) if step == 1 else slice(-1, None)
                    moved[tuple(edge)] = False
                wide |= moved & conducting
            if np.array_equal(wide, seen):
                break
            seen = wide
        reached.append(seen)
    result: NDArray[np.bool_] = reached[0] & reached[1]
    return result


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("shape", [(8, 9), (6, 1), (5, 4, 6), (1, 3)])
def test_percolation_by_walking(shape: tuple[int, ...], periodic: bool) -> None:
    rng = np.random.default_rng(1)
    shares = []
    for fraction in (0.35, 0.5, 0.6, 0.7):
        for _ in range(10):
            conducting = rng.random(shape) < fraction
            found = percolating(conducting, periodic=periodic)
            np.testing.assert_array_equal(found, paths(conducting, periodic))
            shares.append(found.mean())
    assert min(shares) == 0 < max(shares)


def test_periodic_sides_lead_around() -> None:
    image = np.zeros((1, 3, 4), dtype=int)
    image[0, 0, 0] = image[0, 1, 0] = image[0, 1, 3] = image[0, 2, 3] = 1
    assert not through_transport(image, [0, 1]).percolates[0]
    k = through_transport(image, [0, 1], periodic=True)
    # Half, unit, unit, unit, half: four resistors in a row of the 3 x 4 image.
    assert k.diffusivity[0] == pytest.approx(3 / (4 * 4), rel=1e-9)


@pytest.mark.usefixtures("solver")
@pytest.mark.parametrize("values", [(0.0, 1.0), (0.05, 1.0), (1e-4, 1.0)])
def test_bounds_of_all_refinements_share_the_truth(
    random_images: ImageMaker, values: tuple[float, float]
) -> None:
    images = random_images(6, (14, 14), blur=0.15, seed=11)
    images = np.where(images.mean((1, 2), keepdims=True) < 0.5, 1 - images, images)
    lows, highs, gaps = [], [], []
    for factor in (1, 2, 4):
        finer = images.repeat(factor, 1).repeat(factor, 2)
        k = through_transport(finer, values, tolerance=1e-9)
        check_bounds(k)
        lows.append(k.lower)
        highs.append(k.upper)
        gaps.append(np.sum((k.upper - k.lower)[k.percolates]))
    assert np.all(np.max(lows, axis=0) <= np.min(highs, axis=0) * (1 + 1e-12))
    assert gaps[0] > gaps[1] > gaps[2]


@pytest.mark.parametrize("shape", [(14, 14), (7, 8, 6)])
def test_bounds_hold_for_any_potential(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    for periodic in (False, True):
        k = rng.choice([0.0, 0.3, 1.0], shape, p=[0.2, 0.3, 0.5])
        k *= percolating(k > 0, periodic=periodic)
        image = np.searchsorted([0.0, 0.3, 1.0], k)[None]
        best = through_transport(image, [0, 0.3, 1], periodic=periodic, tolerance=1e-10)
        unit = shape[0] / np.prod(shape[1:])
        for _ in range(5):
            u = rng.random(shape)
            flux = balanced_fluxes(k, u, Branches(k, periodic=periodic))
            assert thomson_conductance(k, flux) * unit <= best.upper[0]
            lumped = thomson_conductance(k, flux, lumped=True) * unit
            assert lumped <= best.diffusivity[0] * (1 + 1e-9)
            assert dirichlet_conductance(k, u, periodic=periodic) * unit >= best.lower[0]


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("shape", [(14, 14), (7, 8, 6)])
def test_unbalanced_fluxes_bound_too(shape: tuple[int, ...], periodic: bool) -> None:
    """Of a solution the bound is the balanced one to rounding; of any potential it holds."""
    rng = np.random.default_rng(4)
    for values in ([0.0, 1.0, 1.0], [0.0, 1e-7, 1.0]):
        k = rng.choice(values, shape, p=[0.2, 0.3, 0.5])
        k *= percolating(k > 0, periodic=periodic)
        u = potentials(
            k[None],
            periodic=periodic,
            tolerance=1e-12,
            max_iterations=1000,
            device="cpu",
            certified=True,
        ).u[0]
        branches = Branches(k, periodic=periodic)
        best = thomson_conductance(k, balanced_fluxes(k, u, branches))
        assert thomson_of_potential(k, u, periodic=periodic) == pytest.approx(best, rel=1e-8)
        for size in (1e-15, 1e-13, 1e-11, 1e-9, 1e-6, 1e-2, 1.0):
            other = u + size * rng.standard_normal(shape)
            found = thomson_of_potential(k, other, periodic=periodic)
            assert found <= dirichlet_conductance(k, u, periodic=periodic)
            if size <= 1e-9:
                assert found == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-6])
def test_tolerance_is_on_the_diffusivity(
    random_images: ImageMaker, monkeypatch: pytest.MonkeyPatch, tolerance: float
) -> None:
    images = np.stack([random_images(12, (48, 48), blur=0.1 + 0.02 * i)[i] for i in range(12)])
    values = np.stack([10.0 ** -np.arange(12.0), np.ones(12)], axis=1)
    exact = through_transport(images, values, bounds=False)
    always_iterate(monkeypatch)
    k = through_transport(images, values, tolerance=tolerance, bounds=False)
    assert k.converged.all()
    assert np.all(np.isnan(k.lower) & np.isnan(k.upper))
    error = k.diffusivity / exact.diffusivity - 1
    assert np.all((error >= -1e-9) & (error <= k.residual + 1e-9))
    assert np.all(k.residual <= tolerance)
    early = through_transport(images, values, max_iterations=2)
    assert early.converged.tolist() == [True] + 11 * [False]  # the first is uniform
    assert np.all(early.diffusivity * (1 - early.residual) <= exact.diffusivity * (1 + 1e-9))


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-6])
def test_estimates_without_bounds_keep_the_tolerance(
    random_images: ImageMaker, monkeypatch: pytest.MonkeyPatch, tolerance: float
) -> None:
    """One conductor between insulators, from thin channels to uncorrelated pixels."""
    rng = np.random.default_rng(5)
    images = [random_images(8, (40, 40), blur=blur, seed=3) for blur in (0.1, 0.2)]
    images.append(
        (rng.random((8, 40, 40)) < np.linspace(0.62, 0.75, 8)[:, None, None]).astype(np.uint8)
    )
    stack = np.concatenate(images)
    exact = through_transport(stack, [0, 1], bounds=False)
    always_iterate(monkeypatch)
    k = through_transport(stack, [0, 1], bounds=False, tolerance=tolerance)
    assert exact.percolates.sum() > 10
    assert k.converged.all()
    kept = exact.percolates
    error = k.diffusivity[kept] / exact.diffusivity[kept] - 1
    assert np.all((error >= -1e-9) & (error <= tolerance))


def test_scaling_and_batches(random_images: ImageMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    always_iterate(monkeypatch)
    images = random_images(5, (20, 24), seed=2)
    values = np.stack([np.linspace(0, 0.4, 5), np.ones(5)], axis=1)
    k = through_transport(images, values)
    for factor in (1e-12, 1e200):
        scaled = through_transport(images, values * factor)
        np.testing.assert_allclose(scaled.diffusivity, k.diffusivity * factor, rtol=1e-9)
        np.testing.assert_allclose(scaled.tortuosity, k.tortuosity, rtol=1e-9)
    for i in range(5):
        single = through_transport(images[i : i + 1], values[i])
        assert single.diffusivity[0] == pytest.approx(k.diffusivity[i], rel=1e-12)
        assert single.lower[0] == pytest.approx(k.lower[i], rel=1e-9)


@pytest.mark.parametrize(("way", "most"), [("aggregation", 20), ("multigrid", 50)])
@pytest.mark.parametrize("size", [16, 32, 64])
def test_multigrid_iterations_hardly_grow(
    random_images: ImageMaker, monkeypatch: pytest.MonkeyPatch, size: int, way: str, most: int
) -> None:
    """Channels 2 pixels wide or wider: some dozens of steps whatever the size."""
    always_iterate(monkeypatch)
    if way == "multigrid":
        in_batches(monkeypatch)
    images = random_images(3, (size, size), blur=0.3, seed=4).repeat(2, 1).repeat(2, 2)
    for values in ([0, 1], [0.02, 1], [1, 50], [1, 1]):
        k = through_transport(images, values, bounds=False)
        assert k.converged.all()
        assert k.iterations.max() <= most


@pytest.mark.parametrize(
    ("labels", "values", "axis", "message"),
    [
        (np.zeros((4, 4), dtype=int), [1.0], 0, r"expected \(n, h, w\) or \(n, d, h, w\)"),
        (np.zeros((1, 4, 4)), [1.0], 0, "expected integers"),
        (np.zeros((1, 4, 4), dtype=int), [-1.0], 0, "expected finite values >= 0"),
        (np.zeros((1, 4, 4), dtype=int), [np.nan], 0, "expected finite values >= 0"),
        (np.zeros((1, 4, 4), dtype=int), [[1.0], [1.0]], 0, r"expected \(p,\) or \(1, p\)"),
        (np.full((1, 4, 4), 3), [1.0, 2.0], 0, "expected labels 0 to 1"),
        (np.zeros((1, 4, 4), dtype=int), [1.0], 2, "axis 2; expected 0 to 1"),
        (np.zeros((1, 4, 4), dtype=int), [1.0], -1, "axis -1; expected 0 to 1"),
    ],
)
def test_wrong_input_is_named(labels: Labels, values: list[float], axis: int, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        through_transport(labels, values, axis=axis)
