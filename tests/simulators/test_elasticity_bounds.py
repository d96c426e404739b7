"""Stiffness of anisotropic pixels and voxels: laminates, an independent solver, both bounds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from simulators.conductivity import effective_conductivity
from simulators.elasticity import effective_stiffness
from simulators.stiffness import EffectiveStiffness, effective_elasticity, lower_bound
from simulators.stiffness_exact import corner_exponent, equal_shear, hashin_shtrikman, laminate
from simulators.stiffness_moduli import voigt_reuss_hill
from simulators.stiffness_tensors import cubic_stiffness, isotropic_stiffness, rotated_stiffness
from tests.simulators.conftest import ImageMaker
from tests.simulators.elastic import (
    AXES,
    assert_loewner,
    crystals,
    direct_voxels,
    finer,
    layers,
    relative,
    rotation,
    triclinic,
)

TIGHT = 1e-13


def turning(axis: int) -> np.ndarray:
    """(3, 3) quarter turn about an axis, proper."""
    i, j = (axis + 1) % 3, (axis + 2) % 3
    turn = np.zeros((3, 3))
    turn[axis, axis] = turn[j, i] = 1
    turn[i, j] = -1
    return turn


@pytest.mark.parametrize("contrast", [1.0, 1e3, 1e6])
@pytest.mark.parametrize(("m", "axis"), [(2, 0), (2, 1), (3, 0), (3, 1), (3, 2)])
def test_laminate_of_anisotropic_phases(m: int, axis: int, contrast: float) -> None:
    """Both bounds are exact: strains and stresses of layers lie in their spaces."""
    phases = crystals(contrast)
    c = effective_elasticity(layers(m, axis, (3, 4, 1)), phases, tolerance=TIGHT)
    truth = laminate([3 / 8, 4 / 8, 1 / 8], phases, np.eye(3)[axis])
    for matrix in (c.tensor, c.lower, c.upper):
        assert relative(matrix[0], truth) <= 1e-9


@pytest.mark.parametrize("contrast", [1.0, 1e6])
def test_laminate_of_isotropic_phases(contrast: float) -> None:
    phases = isotropic_stiffness([180.0, 40 * contrast], [76.0, 12 * contrast])
    c = effective_elasticity(layers(2, 0, (3, 5)), phases, tolerance=TIGHT)
    truth = laminate([3 / 8, 5 / 8], phases, [1, 0, 0])
    assert relative(c.lower[0], truth) <= 1e-9
    assert relative(c.upper[0], truth) <= 1e-9


def test_the_closed_form_is_common_traction_and_common_strain() -> None:
    """The layers' own equations: S* sigma = mean strain, with what they share prescribed."""
    phases, f = crystals(5.0), np.array([0.2, 0.5, 0.3])
    n = np.array([1.0, 2.0, -2.0]) / 3
    truth = laminate(f, phases, n)
    # Turned so that the normal is x: xx, xz, xy of the stress, yy, zz, yz of the strain are common.
    frame = np.linalg.qr(np.stack((n, [0, 1, 0], [0, 0, 1]), axis=1))[0].T
    across, along = [0, 4, 5], [1, 2, 3]
    own = rotated_stiffness(phases, frame)
    mixed = []
    for c in own:
        soft = np.linalg.inv(c[np.ix_(across, across)])
        side = c[np.ix_(along, across)]
        mixed.append((soft, side @ soft, c[np.ix_(along, along)] - side @ soft @ side.T))
    soft, side, plane = (
        np.einsum("p,pij->ij", f, np.stack(part)) for part in zip(*mixed, strict=True)
    )
    stiff = np.linalg.inv(soft)
    expected = np.zeros((6, 6))
    expected[np.ix_(across, across)] = stiff
    expected[np.ix_(along, across)] = side @ stiff
    expected[np.ix_(across, along)] = (side @ stiff).T
    expected[np.ix_(along, along)] = plane + side @ stiff @ side.T
    assert relative(rotated_stiffness(truth, frame), expected) < 1e-12


@pytest.mark.parametrize("solid", [False, True])
def test_oblique_laminate_is_approached(solid: bool) -> None:
    """Layers at 45 degrees as stairs: bounds close in on the true layers."""
    phases = crystals(10.0)[:2]
    errors = []
    for n in (8, 16) if solid else (16, 32, 64):
        i = np.arange(n)
        image = ((i[:, None] + i[None, :]) // (n // 2) % 2)[None]
        normal = [1, 1, 0]
        if solid:
            image = np.broadcast_to(image[0][:, :, None], (1, n, n, 2)).astype(np.int64)
            normal = [0, 1, 1]
        c = effective_elasticity(image, phases, tolerance=1e-8)
        truth = laminate([0.5, 0.5], phases, normal)
        errors.append(relative(c.tensor[0], truth))
    assert all(b < 0.7 * a for a, b in itertools.pairwise(errors))
    assert errors[-1] < (0.1 if solid else 0.03)


@pytest.mark.parametrize("shape", [(1, 5, 4), (3, 4, 5), (2, 3, 2)])
def test_upper_bound_is_the_direct_solvers(shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 3, (2, *shape))
    phases = crystals(20.0)
    given = image[:, 0] if shape[0] == 1 else image
    c = effective_elasticity(given, phases, tolerance=1e-12, dual=False)
    for i in range(2):
        assert relative(c.upper[i], direct_voxels(image[i], phases)) < 1e-8


def test_isotropic_pixels_agree_with_the_plane_solver(random_images: ImageMaker) -> None:
    images = random_images(3, (12, 9), phases=3, seed=1)
    bulk, shear = [180.0, 40.0, 300.0], [76.0, 12.0, 20.0]
    plane = effective_stiffness(images, bulk, shear, tolerance=1e-12, lower="energy")
    c = effective_elasticity(images, isotropic_stiffness(bulk, shear), tolerance=1e-12)
    index = np.ix_([0, 1, 2], [0, 1, 5, 2], [0, 1, 5, 2])
    np.testing.assert_allclose(plane.upper, c.upper[index], rtol=1e-9, atol=1e-8)
    np.testing.assert_allclose(plane.lower, c.lower[index], rtol=1e-9, atol=1e-8)
    assert_loewner(plane.lower, plane.tensor)
    assert_loewner(plane.tensor, plane.upper)
    reuss = effective_stiffness(images, bulk, shear, tolerance=1e-12)
    assert_loewner(reuss.lower, plane.lower)
    assert np.all(reuss.youngs_lower < plane.youngs_lower)
    assert np.all(plane.youngs_lower[:, None] < plane.youngs)
    np.testing.assert_array_equal(reuss.upper, plane.upper)
    np.testing.assert_allclose(
        1 / np.linalg.inv(reuss.lower)[:, 0, 0], reuss.youngs_lower, rtol=1e-10
    )


@pytest.mark.parametrize("contrast", [3.0, 1e3])
@pytest.mark.parametrize("shape", [(4, 5, 4), (2, 3, 3, 4)])
def test_bounds_narrow_on_finer_grids_and_stay_inside_the_coarser(
    shape: tuple[int, ...], contrast: float
) -> None:
    """Fields of a grid are fields of its refinement: bounds are nested, and hold the truth."""
    images = np.random.default_rng(1).integers(0, 2, shape)
    phases = crystals(contrast)[1:] / np.array([1.0, contrast]).reshape(2, 1, 1)
    previous: EffectiveStiffness | None = None
    for factor in (1, 2, 4) if len(shape) == 3 else (1, 2):
        c = effective_elasticity(finer(images, factor), phases, tolerance=1e-8)
        assert c.converged.all()
        assert_loewner(c.lower, c.tensor)
        assert_loewner(c.tensor, c.upper)
        if previous is not None:
            # Stopping early leaves 1e-8 of an energy.
            assert_loewner(previous.lower, c.lower, 1e-7)
            assert_loewner(c.upper, previous.upper, 1e-7)
        previous = c


@pytest.mark.parametrize("steps", [0, 1, 3, 8])
@pytest.mark.parametrize("shape", [(4, 8, 8), (2, 4, 5, 4)])
def test_bounds_hold_when_stopped_early(shape: tuple[int, ...], steps: int) -> None:
    images = np.random.default_rng(2).integers(0, 3, shape)
    phases = crystals(300.0)
    stopped = effective_elasticity(images, phases, tolerance=1e-12, max_iterations=steps)
    done = effective_elasticity(images, phases, tolerance=1e-10)
    assert not stopped.converged.any()
    assert done.converged.all()
    assert_loewner(stopped.lower, done.lower)
    assert_loewner(done.upper, stopped.upper)
    assert np.all(stopped.iterations <= steps)


def test_bounds_hold_the_direct_solver_on_a_finer_grid() -> None:
    """Contrast up to 1e4, axes and phases at random: coarse bounds around a fine answer."""
    rng = np.random.default_rng(3)
    for seed in range(30):
        image = rng.integers(0, 2, (1, 4, 3))
        ratio = 10 ** rng.uniform(0, 4)
        phases = np.stack((triclinic(seed), triclinic(seed + 100, ratio)))
        coarse = effective_elasticity(image, phases, tolerance=1e-6)
        truth = direct_voxels(finer(image, 3)[0][None], phases)  # above the true one
        assert_loewner(coarse.lower, truth[None])
        assert_loewner(truth[None], coarse.upper)


@pytest.mark.parametrize("solid", [False, True])
def test_equal_shear_moduli(solid: bool) -> None:
    """Hill's exact result for any geometry is inside the bounds, and they close in on it."""
    shape = (2, 4, 4, 4) if solid else (3, 8, 8)
    images = np.random.default_rng(4).integers(0, 2, shape)
    bulk, shear = np.array([100.0, 1000.0]), 50.0
    gaps = []
    for factor in (1, 2) if solid else (1, 2, 4):
        c = effective_elasticity(
            finer(images, factor), isotropic_stiffness(bulk, [shear, shear]), tolerance=1e-9
        )
        f = images.reshape(len(images), -1).mean(1)
        truth = np.stack([equal_shear([1 - x, x], bulk, shear) for x in f])
        assert_loewner(c.lower, truth)
        assert_loewner(truth, c.upper)
        gaps.append(np.trace(c.upper - c.lower, axis1=1, axis2=2))
    for coarse, fine in itertools.pairwise(gaps):
        assert np.all(fine < 0.36 * coarse)  # second order but for a logarithm


def test_a_thousand_random_bodies_of_known_stiffness() -> None:
    """Bulk moduli up to 1e4 apart, one shear modulus: the truth is inside, every time."""
    rng = np.random.default_rng(10)
    for shape in ((600, 4, 4), (400, 2, 3, 3)):
        images = rng.integers(0, 2, shape)
        n = len(images)
        bulk = 10 ** rng.uniform(-2, 2, (n, 2))
        shear = 10 ** rng.uniform(-2, 2, n)
        c = effective_elasticity(images, isotropic_stiffness(bulk, shear[:, None]))
        f = images.reshape(n, -1).mean(1)
        truth = np.stack([equal_shear([1 - f[i], f[i]], bulk[i], shear[i]) for i in range(n)])
        assert_loewner(c.lower, truth)
        assert_loewner(truth, c.upper)


def test_shear_along_the_columns_is_conduction(random_images: ImageMaker) -> None:
    """Isotropic columns in antiplane shear: the same equations, spaces and bounds."""
    images = random_images(3, (9, 8), phases=3, seed=11)
    shear = np.array([1.0, 7.0, 300.0])
    c = effective_elasticity(images, isotropic_stiffness(2 * shear, shear), tolerance=TIGHT)
    k = effective_conductivity(images, shear, tolerance=TIGHT)
    for name in ("tensor", "lower", "upper"):
        own = getattr(c, name)[:, 3:5, 3:5][:, ::-1, ::-1]  # xz first
        np.testing.assert_allclose(own, getattr(k, name), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("inclusion", [100.0, 0.1])
def test_the_gap_closes_at_the_order_of_the_corners(inclusion: float) -> None:
    """Square fibre: width^(2 exponent), the exponent that of a wedge in the plane."""
    bulk, shear = (1.0, inclusion), (0.6, 0.6 * inclusion)
    gaps = []
    for n in (32, 64):
        half = np.arange(n) < n // 2
        image = (half[:, None] & half)[None].astype(np.int64)
        c = effective_elasticity(image, isotropic_stiffness(bulk, shear), tolerance=1e-9)
        d = (c.upper - c.lower)[0]
        # Stretching along one axis and pressing along the other: no finer corner field mixes in.
        gaps.append(d[0, 0] - d[0, 1] if inclusion > 1 else d[0, 0])
    order = 2 * corner_exponent(bulk, shear)
    assert np.log2(gaps[0] / gaps[1]) == pytest.approx(order, abs=0.01)


def test_corner_exponent() -> None:
    """Known wedges: none for equal phases; nearly void, the crack-like 0.5445 and 0.9085 of 270
    degrees (Williams 1952).
    """
    assert corner_exponent((2.0, 2.0), (1.0, 1.0)) == 1.0
    assert corner_exponent((2.0, 2e-7), (1.0, 1e-7)) == pytest.approx(0.544484, abs=1e-5)


@pytest.mark.parametrize("solid", [False, True])
def test_turning_scaling_shifting(solid: bool) -> None:
    shape = (1, 4, 5, 3) if solid else (1, 6, 5)
    image = np.random.default_rng(5).integers(0, 2, shape)
    phases = crystals(8.0)[:2]
    c = effective_elasticity(image, phases, tolerance=TIGHT)
    scaled = effective_elasticity(image, 1e-3 * phases, tolerance=TIGHT)
    shifted = effective_elasticity(np.roll(image, (1, 2), (1, 2)), phases, tolerance=TIGHT)
    for name in ("tensor", "lower", "upper"):
        own = getattr(c, name)
        np.testing.assert_allclose(getattr(scaled, name), 1e-3 * own, rtol=1e-9, atol=1e-9)
        assert relative(getattr(shifted, name), own) < 1e-9
    for axis in (0, 1, 2) if solid else (2,):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        # np.rot90 takes the first of the array's axes to the second.
        dims = (image.ndim - 1 - first, image.ndim - 1 - second)
        turned = effective_elasticity(
            np.rot90(image, axes=dims), rotated_stiffness(phases, turning(axis)), tolerance=TIGHT
        )
        for name in ("tensor", "lower", "upper"):
            expected = rotated_stiffness(getattr(c, name), turning(axis))
            assert relative(getattr(turned, name), expected) < 1e-9, AXES[axis]


@pytest.mark.parametrize("contrast", [0.02, 50.0])
def test_symmetric_voxels_are_inside_hashin_shtrikman(contrast: float) -> None:
    """Cubes in the corners and edges: cubic symmetry, whose bulk modulus obeys the bounds."""
    half = np.minimum(np.arange(8), 7 - np.arange(8))
    image = (half[:, None, None] + half[:, None] + half <= 4).astype(np.int64)[None]
    bulk, shear = np.array([170.0, 170 * contrast]), np.array([80.0, 60 * contrast])
    c = effective_elasticity(image, isotropic_stiffness(bulk, shear))
    f = float(image.mean())
    low, high = hashin_shtrikman([1 - f, f], bulk, shear)
    k = [float(voigt_reuss_hill(part[0]).bulk_voigt) for part in (c.lower, c.tensor, c.upper)]
    assert low[0] < k[1] < high[0]
    assert k[2] >= low[0]
    assert k[0] <= high[0]
    np.testing.assert_allclose(c.tensor[0, 0, 0], c.tensor[0, 2, 2], rtol=1e-6)
    np.testing.assert_allclose(c.tensor[0, 3, 3], c.tensor[0, 5, 5], rtol=1e-6)


@pytest.mark.parametrize("shape", [(3, 6, 5), (2, 3, 4, 5)])
def test_single_precision_reaches_the_same(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(6).integers(0, 2, shape)
    phases = crystals(100.0)[:2]
    single = effective_elasticity(image, phases, tolerance=1e-8, dtype=torch.float32)
    double = effective_elasticity(image, phases, tolerance=1e-8)
    assert single.converged.all()
    for name in ("tensor", "lower", "upper"):
        assert relative(getattr(single, name), getattr(double, name)) < 1e-7


def test_batch_equals_singles_and_dual_alone() -> None:
    images = np.random.default_rng(7).integers(0, 2, (5, 5, 6))
    phases = np.stack([crystals(ratio)[:2] for ratio in np.geomspace(1.1, 300, 5)])
    batch = effective_elasticity(images, phases)
    for i in range(5):
        single = effective_elasticity(images[i : i + 1], phases[i])
        assert relative(single.tensor[0], batch.tensor[i]) < 1e-12
        assert single.iterations[0] == batch.iterations[i]
    lower, iterations, residual, converged = lower_bound(images, phases)
    np.testing.assert_array_equal(lower, batch.lower)
    assert converged.all()
    assert residual.max() <= 1e-6
    assert np.all(iterations <= batch.iterations)


def test_without_dual_the_lower_bound_is_reuss() -> None:
    image = np.random.default_rng(8).integers(0, 2, (2, 4, 4))
    phases = crystals(4.0)[:2]
    c = effective_elasticity(image, phases, dual=False)
    f = image.mean((1, 2))[:, None, None]
    soft = np.linalg.inv(phases)
    np.testing.assert_allclose(
        c.lower, np.linalg.inv((1 - f) * soft[0] + f * soft[1]), rtol=1e-9, atol=1e-9
    )
    np.testing.assert_array_equal(c.tensor, c.upper)
    both = effective_elasticity(image, phases)
    assert_loewner(c.lower, both.lower)
    assert np.all(both.youngs_lower < both.youngs)
    assert np.all(both.youngs < both.youngs_upper)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (1, 1, 1), (3, 1, 2)])
def test_uniform_and_one_pixel_images(shape: tuple[int, ...]) -> None:
    """The absent phase does not count, whatever its stiffness."""
    phases = np.stack((triclinic(0), 1e9 * triclinic(1)))
    c = effective_elasticity(np.zeros((1, *shape), dtype=int), phases)
    for matrix in (c.tensor, c.lower, c.upper):
        assert relative(matrix[0], phases[0]) < 1e-12
    assert c.iterations[0] == 0
    assert c.converged.all()


@pytest.mark.parametrize("coupled", [False, True])
def test_a_columnar_body_is_its_voxels(coupled: bool) -> None:
    """Pixels solve in the plane and along the columns apart, voxels all at once."""
    image = np.random.default_rng(13).integers(0, 2, (2, 5, 4))
    phases = crystals(9.0)[:2] if coupled else isotropic_stiffness([1.0, 20.0], [0.4, 5.0])
    flat = effective_elasticity(image, phases, tolerance=TIGHT)
    solid = effective_elasticity(image[:, None].repeat(3, 1), phases, tolerance=TIGHT)
    for name in ("tensor", "lower", "upper"):
        assert relative(getattr(flat, name), getattr(solid, name)) < 1e-9


@pytest.mark.parametrize("shape", [(2, 6, 7), (1, 4, 3, 5)])
def test_cubic_grains_under_pressure(shape: tuple[int, ...]) -> None:
    """Equal strain on all axes stresses each grain alike: the bulk modulus is the crystal's."""
    grains = np.stack([cubic_stiffness(247.0, 153.0, 122.0, rotation(seed)) for seed in range(4)])
    image = np.random.default_rng(12).integers(0, 4, shape)
    c = effective_elasticity(image, grains, tolerance=TIGHT)
    ones = np.array([1.0, 1, 1, 0, 0, 0])
    expected = np.broadcast_to((247 + 2 * 153) * ones, (len(image), 6))
    for matrix in (c.lower, c.tensor, c.upper):
        np.testing.assert_allclose(matrix @ ones, expected, atol=1e-5)


def test_a_turned_crystal_needs_no_step_and_no_grid() -> None:
    """Anisotropic reference media: equal phases converge at once in any orientation."""
    phase = rotated_stiffness(triclinic(4), rotation(9))
    image = np.random.default_rng(9).integers(0, 2, (1, 4, 5, 6))
    c = effective_elasticity(image, np.stack((phase, phase)))
    assert relative(c.lower[0], phase) < 1e-12
    assert c.iterations[0] == 0
