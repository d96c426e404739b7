"""Effective conductivity: closed forms, an independent direct solver, bounds, symmetries."""

from __future__ import annotations

import numpy as np
import pytest

from loop.errors import InvalidInputError
from simulators import fields
from simulators.bounds import hashin_shtrikman, wiener
from simulators.conductivity import Conductivity, effective_conductivity, geometric_mean
from simulators.exact import (
    checkerboard_conductivity,
    laminate_conductivity,
    square_array_conductivity,
)
from simulators.verification import checkerboard, disc, stripes
from tests.oracles import direct_conductivity, lurie_cherkaev
from tests.simulators.conftest import ImageMaker

TIGHT = 1e-13


def assert_loewner(low: np.ndarray, high: np.ndarray, slack: float = 1e-11) -> None:
    """high - low has no negative eigenvalue, (n, 2, 2) each."""
    least = np.linalg.eigvalsh(high - low).min(1)
    assert np.all(least >= -slack * np.linalg.norm(high, axis=(1, 2)))


@pytest.mark.parametrize("contrast", [1.0, 2.0, 100.0, 1e4, 1e6])
def test_laminate_in_series_and_parallel(contrast: float) -> None:
    k = effective_conductivity(stripes(), [1, contrast], tolerance=TIGHT)
    across, along = laminate_conductivity([0.5, 0.5], [1, contrast])
    for tensor in (k.tensor, k.lower, k.upper):
        np.testing.assert_allclose(tensor[0], np.diag([across, along]), rtol=1e-10, atol=1e-10)
    turned = effective_conductivity(stripes().swapaxes(1, 2), [1, contrast], tolerance=TIGHT)
    np.testing.assert_allclose(turned.tensor[0], np.diag([along, across]), rtol=1e-10, atol=1e-10)


def test_laminate_of_three_unequal_phases() -> None:
    image = np.repeat([0, 1, 2, 1], [3, 5, 7, 1])[None, None, :] * np.ones((1, 4, 1), dtype=int)
    k = effective_conductivity(image, [2, 0.3, 11], tolerance=TIGHT)
    expected = laminate_conductivity([3 / 16, 6 / 16, 7 / 16], [2, 0.3, 11])
    np.testing.assert_allclose([k.xx[0], k.yy[0]], expected, rtol=1e-12)


@pytest.mark.parametrize("shape", [(16, 16), (5, 9), (1, 1), (1, 7)])
def test_uniform_image_needs_no_step(shape: tuple[int, int]) -> None:
    k = effective_conductivity(np.ones((2, *shape), dtype=np.uint8), [[5.0, 3.0], [5.0, 0.2]])
    np.testing.assert_allclose(k.tensor, [3 * np.eye(2), 0.2 * np.eye(2)], rtol=1e-13)
    assert k.iterations.max() == 0
    assert k.converged.all()


@pytest.mark.parametrize("contrast", [10.0, 100.0, 1e4])
@pytest.mark.parametrize("n", [2, 16, 64])
def test_checkerboard(n: int, contrast: float) -> None:
    """The estimate is exact on any grid, because the board is its own dual."""
    k = effective_conductivity(checkerboard(n), [1, contrast], tolerance=TIGHT)
    truth = checkerboard_conductivity(1, contrast)
    assert k.xx[0] == pytest.approx(truth, rel=1e-9)
    assert k.lower[0, 0, 0] < truth < k.upper[0, 0, 0]


@pytest.mark.parametrize(("contrast", "allowed"), [(10.0, 0.004), (0.1, 0.004), (100.0, 0.008)])
def test_square_array_of_discs(contrast: float, allowed: float) -> None:
    """Pixels make the disc's edge rough: 0.4 % at 64 pixels, half of it at 128."""
    errors = []
    for n in (64, 128):
        image = disc(n)
        k = effective_conductivity(image, [1, contrast])
        truth = square_array_conductivity(float(image.mean()), 1, contrast)
        errors.append(abs(k.xx[0] / truth - 1))
        assert k.xx[0] == pytest.approx(k.yy[0], rel=1e-9)
    assert errors[0] < allowed
    assert errors[1] < 0.6 * errors[0]


@pytest.mark.parametrize("contrast", [3.0, 1e3])
@pytest.mark.parametrize("shape", [(12, 12), (7, 10)])
def test_energies_are_those_of_a_direct_solver(
    random_images: ImageMaker, shape: tuple[int, int], contrast: float
) -> None:
    images = random_images(3, shape, phases=3)
    phases = np.array([1, contrast**0.5, contrast])
    k = effective_conductivity(images, phases, tolerance=1e-12)
    for i, image in enumerate(images):
        upper = direct_conductivity(image, phases)
        np.testing.assert_allclose(k.upper[i], upper, rtol=1e-8, atol=1e-9 * contrast)
        resistivity = direct_conductivity(image, 1 / phases)
        turn = np.array([[0, -1], [1, 0]])
        lower = np.linalg.inv(turn.T @ resistivity @ turn)
        np.testing.assert_allclose(k.lower[i], lower, rtol=1e-8, atol=1e-9 * contrast)


@pytest.mark.parametrize("contrast", [3.0, 100.0, 1e4])
@pytest.mark.parametrize("blur", [0.0, 0.12])
def test_bounds_narrow_on_finer_grids_and_stay_inside_the_coarser(
    random_images: ImageMaker, contrast: float, blur: float
) -> None:
    """Fields of a grid are fields of its refinement: bounds are nested, and hold the truth."""
    images = random_images(12, (12, 12), blur=blur, seed=5)
    previous: Conductivity | None = None
    for factor in (1, 2, 4):
        finer = images.repeat(factor, 1).repeat(factor, 2)
        k = effective_conductivity(finer, [1, contrast], tolerance=1e-10)
        assert k.converged.all()
        assert_loewner(k.lower, k.tensor)
        assert_loewner(k.tensor, k.upper)
        if previous is not None:
            assert_loewner(previous.lower, k.lower)
            assert_loewner(k.upper, previous.upper)
        previous = k


@pytest.mark.parametrize("steps", [0, 1, 2, 4, 8])
def test_bounds_hold_when_stopped_early(random_images: ImageMaker, steps: int) -> None:
    images = random_images(8, (16, 16), phases=3, seed=2)
    phases = [1, 30, 1000]
    stopped = effective_conductivity(images, phases, tolerance=1e-12, max_iterations=steps)
    done = effective_conductivity(images, phases, tolerance=1e-12)
    assert not stopped.converged.any()
    assert done.converged.all()
    assert_loewner(stopped.lower, done.lower)
    assert_loewner(done.upper, stopped.upper)
    assert np.all(stopped.iterations <= steps)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-6])
def test_tolerance_is_on_the_effective_property(
    random_images: ImageMaker, tolerance: float
) -> None:
    images = random_images(8, (16, 16), seed=3)
    rough = effective_conductivity(images, [1, 200], tolerance=tolerance)
    exact = effective_conductivity(images, [1, 200], tolerance=1e-14)
    assert rough.converged.all()
    assert rough.residual.max() <= tolerance
    for axis in (0, 1):
        assert np.all(rough.upper[:, axis, axis] / exact.upper[:, axis, axis] - 1 <= tolerance)
    assert np.all(rough.iterations < exact.iterations)


def test_duality(random_images: ImageMaker) -> None:
    images = random_images(6, (15, 18), phases=3, seed=4)
    phases = np.array([0.2, 3.0, 70.0])
    k = effective_conductivity(images, phases).tensor
    dual = effective_conductivity(images, 1 / phases).tensor
    turn = np.array([[0, -1], [1, 0]])
    np.testing.assert_allclose(turn @ dual @ turn.T @ k, np.eye(2)[None].repeat(6, 0), atol=1e-12)


def test_turning_mirroring_shifting_scaling(random_images: ImageMaker) -> None:
    images = random_images(6, (14, 20), seed=6)
    phases = np.array([1.0, 40.0])
    k = effective_conductivity(images, phases, tolerance=TIGHT).tensor

    def solved(changed: np.ndarray, factor: float = 1.0) -> np.ndarray:
        return effective_conductivity(changed, factor * phases, tolerance=TIGHT).tensor

    turn = np.array([[0, 1], [-1, 0]])
    expected = turn @ k @ turn.T
    np.testing.assert_allclose(
        solved(np.rot90(images, axes=(1, 2))), expected, rtol=1e-9, atol=1e-9
    )
    flip = np.array([[1, -1], [-1, 1]])
    np.testing.assert_allclose(solved(images[:, :, ::-1]), k * flip, rtol=1e-9, atol=1e-9)
    shifted = np.roll(images, (3, 5), axis=(1, 2))
    np.testing.assert_allclose(solved(shifted), k, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(solved(images, 1e-3), 1e-3 * k, rtol=1e-9, atol=1e-12)
    tiled = np.tile(images, (1, 2, 2))
    np.testing.assert_allclose(solved(tiled), k, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("contrast", [2.0, 50.0, 1e4])
def test_inside_the_bounds_of_fractions(random_images: ImageMaker, contrast: float) -> None:
    """Wiener for each axis; Lurie and Cherkaev for the tensor, whatever its anisotropy."""
    images = random_images(20, (16, 16), seed=7)
    k = effective_conductivity(images, [1, contrast])
    for i, image in enumerate(images):
        f = float(image.mean())
        low, high = wiener([1 - f, f], [1, contrast])
        axes = np.linalg.eigvalsh(k.tensor[i])
        assert low * (1 - 1e-12) <= axes[0]
        assert axes[1] <= high * (1 + 1e-12)
        above, below = lurie_cherkaev(f, 1, contrast)
        upper, lower = np.linalg.eigvalsh(k.upper[i]), np.linalg.eigvalsh(k.lower[i])
        assert (1 / (upper - 1)).sum() <= above * (1 + 1e-9)
        assert (1 / (contrast - lower)).sum() <= below * (1 + 1e-9)


def test_symmetric_images_are_isotropic_and_inside_hashin_shtrikman(
    random_images: ImageMaker,
) -> None:
    images = random_images(8, (10, 10), phases=3, seed=8)
    eighth = np.maximum(images, images.swapaxes(1, 2))
    quarter = np.concatenate((eighth, eighth[:, ::-1]), axis=1)
    full = np.concatenate((quarter, quarter[:, :, ::-1]), axis=2)
    phases = np.array([1.0, 5.0, 60.0])
    k = effective_conductivity(full, phases, tolerance=TIGHT)
    np.testing.assert_allclose(k.xx, k.yy, rtol=1e-8)
    np.testing.assert_allclose(k.tensor[:, 0, 1], 0, atol=1e-8)
    fractions = np.stack([(full == p).mean((1, 2)) for p in range(3)], axis=1)
    low, high = hashin_shtrikman(fractions, phases)
    assert np.all(k.upper[:, 0, 0] >= low)
    assert np.all(k.lower[:, 0, 0] <= high)
    assert np.all((k.xx > low) & (k.xx < high))


def test_more_conductive_phases_conduct_more(random_images: ImageMaker) -> None:
    images = random_images(5, (12, 12), seed=9)
    less = effective_conductivity(images, [1, 10], tolerance=1e-12).tensor
    more = effective_conductivity(images, [1.1, 10], tolerance=1e-12).tensor
    assert_loewner(less, more)


@pytest.mark.parametrize("shape", [(24, 24), (15, 17), (64, 64)])
def test_batch_equals_singles(random_images: ImageMaker, shape: tuple[int, int]) -> None:
    images = random_images(11, shape, seed=10)
    phases = np.stack([np.ones(11), np.geomspace(1.5, 3000, 11)], axis=1)
    batch = effective_conductivity(images, phases)
    for i in range(11):
        single = effective_conductivity(images[i : i + 1], phases[i])
        np.testing.assert_array_equal(single.tensor[0], batch.tensor[i])
        assert single.iterations[0] == batch.iterations[i]
    assert len(set(batch.iterations.tolist())) > 3


def test_geometric_mean_of_matrices() -> None:
    """A # B solves X A^-1 X = B (Riccati), whatever the axes of A and B."""
    rng = np.random.default_rng(0)
    a, b = (m @ m.swapaxes(1, 2) + 0.1 * np.eye(2) for m in rng.standard_normal((2, 5, 2, 2)))
    x = geometric_mean(a, b)
    np.testing.assert_allclose(x @ np.linalg.inv(a) @ x, b, rtol=1e-10)
    np.testing.assert_allclose(geometric_mean(a, a), a, rtol=1e-12)


@pytest.mark.parametrize(
    ("labels", "phases", "message"),
    [
        (np.zeros((4, 4), dtype=int), [1.0], r"shape \(4, 4\); expected \(n, h, w\)"),
        (np.zeros((0, 4, 4), dtype=int), [1.0], "none empty"),
        (np.zeros((1, 4, 4)), [1.0], "float64; expected integers"),
        (np.full((1, 4, 4), 2), [1.0, 2.0], "expected labels 0 to 1"),
        (np.full((1, 4, 4), -1), [1.0, 2.0], "expected labels 0 to 1"),
        (np.zeros((1, 4, 4), dtype=int), [0.0], "expected finite values > 0"),
        (np.zeros((1, 4, 4), dtype=int), [np.nan], "expected finite values > 0"),
        (np.zeros((1, 4, 4), dtype=int), [[1.0], [1.0]], r"expected \(p,\) or \(1, p\)"),
    ],
)
def test_wrong_input_is_named(labels: np.ndarray, phases: list[float], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        effective_conductivity(labels, phases)


def test_large_fields_one_by_one_are_the_same(
    random_images: ImageMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = random_images(2, (24, 18), seed=8)
    together = effective_conductivity(image, [1, 30])
    monkeypatch.setattr(fields, "VALUES_CPU", 1)
    apart = effective_conductivity(image, [1, 30])
    np.testing.assert_array_equal(apart.iterations, together.iterations)
    np.testing.assert_allclose(apart.tensor, together.tensor, rtol=1e-13)
