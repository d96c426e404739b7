"""Effective stiffness: closed forms, an independent direct solver, bounds, symmetries."""

from __future__ import annotations

import numpy as np
import pytest

from loop.errors import InvalidInputError
from simulators.bounds import wiener
from simulators.elasticity import effective_stiffness, youngs_modulus
from simulators.exact import equal_shear_plane_bulk, laminate_stiffness
from simulators.verification import stripes
from tests.oracles import direct_stiffness
from tests.simulators.conftest import ImageMaker

TIGHT = 1e-13
BULK, SHEAR = np.array([180.0, 40.0]), np.array([76.0, 12.0])


def isotropic(bulk: float, shear: float) -> np.ndarray:
    return laminate_stiffness([1.0], [bulk], [shear])


@pytest.mark.parametrize(("bulk", "shear"), [(180.0, 76.0), (1.0, 10.0), (500.0, 1.0)])
@pytest.mark.parametrize("shape", [(8, 8), (5, 9), (1, 1)])
def test_uniform_body(shape: tuple[int, int], bulk: float, shear: float) -> None:
    """Auxetic and nearly incompressible ones too; E is the solid's own, not E / (1 - nu^2)."""
    c = effective_stiffness(np.zeros((1, *shape), dtype=int), [bulk], [shear])
    np.testing.assert_allclose(c.upper[0], isotropic(bulk, shear), rtol=1e-12, atol=1e-12)
    young = 9 * bulk * shear / (3 * bulk + shear)
    np.testing.assert_allclose(c.youngs[0], young, rtol=1e-10)
    assert c.youngs_lower[0] == pytest.approx(young, rel=1e-12)
    poisson = (3 * bulk - 2 * shear) / (2 * (3 * bulk + shear))
    plane = 1 / np.linalg.inv(c.plane_strain[0])[0, 0]
    assert plane == pytest.approx(young / (1 - poisson**2), rel=1e-10)
    assert c.iterations[0] == 0


@pytest.mark.parametrize("factor", [1.0, 1e-3])
def test_laminate(factor: float) -> None:
    bulk, shear = BULK * [1, factor], SHEAR * [1, factor]
    truth = laminate_stiffness([0.5, 0.5], bulk, shear)
    c = effective_stiffness(stripes(32, 4), bulk, shear, tolerance=TIGHT)
    np.testing.assert_allclose(c.upper[0], truth, rtol=1e-9, atol=1e-9)
    turned = effective_stiffness(stripes(32, 4).swapaxes(1, 2), bulk, shear, tolerance=TIGHT)
    swap = [1, 0, 2, 3]
    np.testing.assert_allclose(turned.upper[0], truth[np.ix_(swap, swap)], rtol=1e-9, atol=1e-9)
    across, along = 1 / np.diag(np.linalg.inv(truth))[:2]
    np.testing.assert_allclose(c.youngs[0], [across, along], rtol=1e-9)
    np.testing.assert_allclose(turned.youngs[0], [along, across], rtol=1e-9)


def test_laminate_closed_form_is_the_direct_solvers() -> None:
    """The closed form itself, for unequal layers of three phases."""
    image = np.repeat([0, 1, 2], [2, 3, 1])[None, :].repeat(2, 0)
    bulk, shear = [10.0, 3.0, 50.0], [4.0, 2.5, 9.0]
    truth = laminate_stiffness([2 / 6, 3 / 6, 1 / 6], bulk, shear)
    np.testing.assert_allclose(
        direct_stiffness(image, np.array(bulk), np.array(shear)), truth, rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("contrast", [1.2, 30.0])
@pytest.mark.parametrize("shape", [(10, 10), (7, 8)])
def test_energies_are_those_of_a_direct_solver(
    random_images: ImageMaker, shape: tuple[int, int], contrast: float
) -> None:
    images = random_images(2, shape, phases=3, seed=1)
    bulk = np.array([180.0, 150.0 * contrast, 20.0])
    shear = np.array([76.0, 70.0 * contrast, 35.0])
    c = effective_stiffness(images, bulk, shear, tolerance=1e-12)
    for i, image in enumerate(images):
        expected = direct_stiffness(image, bulk, shear)
        np.testing.assert_allclose(c.upper[i], expected, rtol=1e-7, atol=1e-7 * bulk.max())


@pytest.mark.parametrize("seed", [0, 1])
def test_equal_shear_moduli_decide_the_plane_bulk_modulus(
    random_images: ImageMaker, seed: int
) -> None:
    """Hill's exact result for any geometry: from above, and nearer on finer grids."""
    images = random_images(3, (16, 16), seed=seed)
    bulk, shear = np.array([100.0, 1000.0]), 50.0
    errors = []
    for factor in (1, 2, 4):
        finer = images.repeat(factor, 1).repeat(factor, 2)
        c = effective_stiffness(finer, bulk, [shear, shear]).upper
        plane = (c[:, 0, 0] + c[:, 1, 1] + 2 * c[:, 0, 1]) / 4
        f = images.mean((1, 2))
        truth = [equal_shear_plane_bulk([1 - x, x], bulk + shear / 3, shear) for x in f]
        errors.append(plane / truth - 1)
        assert np.all(errors[-1] > 0)
    assert np.all(errors[1] < 0.6 * errors[0])
    assert np.all(errors[2] < 0.6 * errors[1])


def test_energy_falls_on_finer_grids_and_with_more_steps(random_images: ImageMaker) -> None:
    images = random_images(4, (12, 12), seed=2)
    bulk, shear = [180.0, 5.0], [76.0, 1.0]

    def solved(factor: int, steps: int) -> np.ndarray:
        finer = images.repeat(factor, 1).repeat(factor, 2)
        return effective_stiffness(finer, bulk, shear, tolerance=1e-11, max_iterations=steps).upper

    coarse = solved(1, 500)
    # Grids twice and three times as fine contain the fields of the coarse one.
    for more, less in ((solved(1, 0), coarse), (solved(1, 3), coarse)):
        assert np.linalg.eigvalsh(more - less).min() > -1e-8 * bulk[0]
        assert np.all(np.diagonal(more - less, axis1=1, axis2=2) > 0)
    for factor in (2, 3):
        assert np.linalg.eigvalsh(coarse - solved(factor, 500)).min() > -1e-8 * bulk[0]


def test_between_reuss_and_voigt(random_images: ImageMaker) -> None:
    images = random_images(10, (16, 16), phases=3, seed=3)
    bulk, shear = np.array([180.0, 90.0, 20.0]), np.array([76.0, 50.0, 5.0])
    c = effective_stiffness(images, bulk, shear)
    fractions = np.stack([(images == p).mean((1, 2)) for p in range(3)], axis=1)
    reuss, _ = wiener(fractions, youngs_modulus(bulk, shear))
    np.testing.assert_allclose(c.youngs_lower, reuss, rtol=1e-12)
    assert np.all(c.youngs > c.youngs_lower[:, None])
    voigt = np.stack([isotropic(*p) for p in zip(fractions @ bulk, fractions @ shear, strict=True)])
    assert np.linalg.eigvalsh(voigt - c.upper).min() > -1e-9 * bulk[0]


def test_turning_mirroring_shifting_scaling(random_images: ImageMaker) -> None:
    images = random_images(4, (10, 14), seed=4)

    def solved(changed: np.ndarray, factor: float = 1.0) -> np.ndarray:
        return effective_stiffness(changed, factor * BULK, factor * SHEAR, tolerance=TIGHT).upper

    c = solved(images)
    turn = np.zeros((4, 4))  # strains in the turned axes
    turn[0, 1] = turn[1, 0] = turn[3, 3] = 1
    turn[2, 2] = -1
    expected = turn @ c @ turn.T
    np.testing.assert_allclose(
        solved(np.rot90(images, axes=(1, 2))), expected, rtol=1e-8, atol=1e-8
    )
    flip = np.diag([1, 1, -1, 1])
    np.testing.assert_allclose(solved(images[:, :, ::-1]), flip @ c @ flip, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(
        solved(np.roll(images, (2, 3), axis=(1, 2))), c, rtol=1e-8, atol=1e-8
    )
    np.testing.assert_allclose(solved(images, 1e-3), 1e-3 * c, rtol=1e-8, atol=1e-11)


def test_stiffness_is_symmetric_and_positive(random_images: ImageMaker) -> None:
    c = effective_stiffness(random_images(6, (12, 12), seed=5), [180.0, 0.1], [76.0, 0.02]).upper
    np.testing.assert_array_equal(c, c.swapaxes(1, 2))
    assert np.linalg.eigvalsh(c).min() > 0


def test_batch_equals_singles(random_images: ImageMaker) -> None:
    images = random_images(7, (20, 20), seed=6)
    ratio = np.geomspace(1.1, 300, 7)
    bulk = np.stack([np.full(7, 180.0), 180 / ratio], axis=1)
    shear = np.stack([np.full(7, 76.0), 76 / ratio], axis=1)
    batch = effective_stiffness(images, bulk, shear)
    for i in range(7):
        single = effective_stiffness(images[i : i + 1], bulk[i], shear[i])
        np.testing.assert_array_equal(single.upper[0], batch.upper[i])
    assert len(set(batch.iterations.tolist())) > 3


def test_the_cap_is_reported(random_images: ImageMaker) -> None:
    images = random_images(3, (16, 16), seed=7)
    c = effective_stiffness(images, [180.0, 1.0], [76.0, 0.5], max_iterations=2)
    assert not c.converged.any()
    assert np.all(c.residual > 1e-6)
    assert np.all(c.iterations == 2)


def test_wrong_input_is_named() -> None:
    image = np.zeros((1, 4, 4), dtype=int)
    with pytest.raises(InvalidInputError, match="shear modulus -1; expected finite values > 0"):
        effective_stiffness(image, [1.0], [-1.0])
