"""Thermal expansion, local stresses, and dilute inclusions against their closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from simulators.stiffness import effective_elasticity
from simulators.stiffness_exact import (
    dilute_cylinders,
    dilute_spheres,
    hashin_shtrikman,
    laminate,
    levin_expansion,
)
from simulators.stiffness_local import peak_stress, principal, thermal_expansion, von_mises
from simulators.stiffness_moduli import voigt_reuss_hill
from simulators.stiffness_tensors import (
    isotropic_stiffness,
    stress_rotation,
    to_tensor,
)
from simulators.verification import disc
from tests.simulators.elastic import crystals, layers, rotation

ALPHA = np.array([12e-6, 3e-6])


def ball(n: int, radius: float) -> np.ndarray:
    """(1, n, n, n) labels, a ball of the given radius in cell sides."""
    x2 = ((np.arange(n) + 0.5) / n - 0.5) ** 2
    return (x2[:, None, None] + x2[:, None] + x2 <= radius**2)[None].astype(np.int64)


@pytest.mark.parametrize("contrast", [0.05, 20.0])
def test_dilute_spheres(contrast: float) -> None:
    """Eshelby: bulk and shear modulus, rough edges of the voxels leave a per cent."""
    image = ball(20, 0.24)
    f = float(image.mean())
    bulk, shear = (100.0, 100 * contrast), (60.0, 50 * contrast)
    c = effective_elasticity(image, isotropic_stiffness(bulk, shear), tolerance=1e-5)
    k, g = dilute_spheres(f, bulk, shear)
    m = voigt_reuss_hill(c.tensor[0])
    assert m.bulk == pytest.approx(k, rel=0.01)
    assert m.shear == pytest.approx(g, rel=0.01)
    assert abs(k / bulk[0] - 1) > 0.04  # the inclusion's effect is well above what is allowed
    low, high = hashin_shtrikman([1 - f, f], bulk, shear)
    assert low[0] < m.bulk < high[0]


@pytest.mark.parametrize("contrast", [0.05, 20.0])
def test_dilute_cylinders(contrast: float) -> None:
    image = disc(64, 0.2)
    bulk, shear = (100.0, 100 * contrast), (60.0, 50 * contrast)
    c = effective_elasticity(image, isotropic_stiffness(bulk, shear), tolerance=1e-5).tensor[0]
    k, g = dilute_cylinders(float(image.mean()), bulk, shear)
    assert (c[0, 0] + c[0, 1]) / 2 == pytest.approx(k, rel=0.01)
    assert c[3, 3] == pytest.approx(g, rel=0.01)
    assert c[4, 4] == pytest.approx(c[3, 3], rel=1e-6)


@pytest.mark.parametrize("shape", [(2, 8, 7), (2, 4, 5, 4)])
def test_levin(shape: tuple[int, ...]) -> None:
    """Two phases: the expansion follows from the stiffness, exactly, isotropic or not."""
    image = np.random.default_rng(0).integers(0, 2, shape)
    tensors = np.stack([np.diag([1.0, 2.0, 3.0]), to_tensor([2.0, 1, 1, 0.5, 0.2, -0.3])]) * 1e-5
    for phases, alpha in (
        (isotropic_stiffness([100.0, 900.0], [60.0, 400.0]), ALPHA),
        (isotropic_stiffness([100.0, 900.0], [60.0, 60.0]), ALPHA),
        (crystals(5.0)[[0, 2]], tensors),
    ):
        found = thermal_expansion(image, phases, alpha, tolerance=1e-14)
        stiffness = effective_elasticity(image, phases, tolerance=1e-14, dual=False).upper
        for i in range(len(image)):
            f = float(image[i].mean())
            truth = levin_expansion(stiffness[i], phases, alpha, [1 - f, f])
            # Fields are good to the square root of the tolerance.
            np.testing.assert_allclose(found.expansion[i], truth, atol=1e-6 * 1e-5)
        assert found.converged.all()


def test_expansion_of_a_laminate_of_three_phases() -> None:
    """In closed form by cooling a laminate whose layers strain freely: one more load."""
    phases, f = crystals(3.0), np.array([3, 4, 1]) / 8
    alpha = np.stack([to_tensor([1.0, 2, 3, 0.1, 0.2, 0.3]), np.eye(3), 2 * np.diag([1, 0, 1])])
    found = thermal_expansion(layers(3, 0, (3, 4, 1)), phases, alpha)
    # Layers normal to x: the traction is 0, in-plane strains are common and balance the forces.
    across, along = [0, 4, 5], [1, 2, 3]
    free = np.stack([np.array([*np.diag(a), 2 * a[1, 2], 2 * a[0, 2], 2 * a[0, 1]]) for a in alpha])
    plane = [c[np.ix_(along, along)] - side_term(c, along, across) for c in phases]
    force = sum(w * p @ a[along] for w, p, a in zip(f, plane, free, strict=True))
    common = np.linalg.solve(sum(w * p for w, p in zip(f, plane, strict=True)), force)
    strain = np.zeros(6)
    strain[along] = common
    for w, c, a in zip(f, phases, free, strict=True):
        inner = np.linalg.solve(
            c[np.ix_(across, across)], c[np.ix_(across, along)] @ (a[along] - common)
        )
        strain[across] += w * (a[across] + inner)
    np.testing.assert_allclose(found.expansion[0], to_tensor(strain, strain=True), atol=1e-8)
    stiffness = laminate(f, phases, [1, 0, 0])
    np.testing.assert_allclose(found.stress[0], stiffness @ strain, rtol=1e-7)


def side_term(c: np.ndarray, along: list[int], across: list[int]) -> np.ndarray:
    side = c[np.ix_(along, across)]
    return side @ np.linalg.solve(c[np.ix_(across, across)], side.T)


def test_equal_expansion_is_everybodys() -> None:
    image = np.random.default_rng(1).integers(0, 3, (2, 6, 6))
    alpha = np.broadcast_to(to_tensor([1.0, 2, 3, 0.1, 0.2, 0.3]), (3, 3, 3))
    found = thermal_expansion(image, crystals(100.0), alpha)
    np.testing.assert_allclose(found.expansion, alpha[:2], rtol=1e-12)


def test_stress_in_a_uniform_body_and_its_units() -> None:
    for direction in ([1, 0, 0], [1, 2, -2]):
        p = peak_stress(np.zeros((1, 4, 3, 5), dtype=int), crystals()[[2, 0]], direction=direction)
        np.testing.assert_allclose(p.von_mises, 1.0)
        np.testing.assert_allclose(p.principal, 1.0)
        np.testing.assert_allclose(p.von_mises_by_phase[0, 0], 1.0)
        assert np.isnan(p.von_mises_by_phase[0, 1]).all()
        assert np.isnan(p.principal_by_phase[0, 1]).all()


def test_stress_in_a_laminate() -> None:
    """Pulled along the layers: each carries by its stiffness, sideways pinch included."""
    phases = isotropic_stiffness([100.0, 900.0], [60.0, 400.0])
    f = np.array([3, 5]) / 8
    whole = laminate(f, phases, [1, 0, 0])
    strain = np.linalg.solve(whole, [0, 1.0, 0, 0, 0, 0])
    expected = []
    for c in phases:
        local = strain.copy()
        local[0] = -(c[0, 1] * strain[1] + c[0, 2] * strain[2]) / c[0, 0]  # no traction on x
        expected.append(c @ local)
    p = peak_stress(layers(2, 0, (3, 5)), phases, direction=[0, 1, 0], quantiles=[0.0, 0.2, 1.0])
    np.testing.assert_allclose(p.von_mises_by_phase[0, :, 1], von_mises(expected), rtol=1e-6)
    np.testing.assert_allclose(p.principal_by_phase[0, :, 1], principal(expected)[:, -1], rtol=1e-6)
    np.testing.assert_allclose(p.von_mises[0, [0, 2]], np.sort(von_mises(expected)), rtol=1e-6)
    assert p.von_mises[0, 1] == pytest.approx(p.von_mises[0, 0])  # 3 of 8 carry less


def test_hole_in_a_plate_concentrates_stress() -> None:
    """Kirsch: 3 at the rim of a circular hole, of which voxel centres see a good part."""
    p = peak_stress(
        disc(96, 0.1),
        isotropic_stiffness([100.0, 1e-4], [60.0, 6e-5]),
        direction=[1, 0, 0],
        tolerance=1e-7,
    )
    assert 2.0 < p.principal_by_phase[0, 0, -1] < 3.8
    assert p.principal_by_phase[0, 0, 0] == pytest.approx(1.0, abs=0.12)
    assert p.von_mises_by_phase[0, 1, -1] < 1e-3
    assert np.all(np.diff(p.von_mises, axis=1) >= 0)


def test_invariants() -> None:
    stress = np.array([3.0, -1.0, 2.0, 0.5, 0.7, -0.2])
    turned = stress_rotation(rotation(5)) @ stress
    assert von_mises(turned) == pytest.approx(von_mises(stress))
    np.testing.assert_allclose(principal(turned), principal(stress))
    assert von_mises([0, 0, 0, 0, 0, 1.0]) == pytest.approx(np.sqrt(3))
    assert von_mises([5.0, 5, 5, 0, 0, 0]) == pytest.approx(0)
