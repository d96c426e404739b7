"""Stiffness matrices, what is read off them, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from loop.errors import InvalidInputError
from simulators.elasticity import effective_stiffness
from simulators.stiffness import effective_elasticity
from simulators.stiffness_local import peak_stress, thermal_expansion
from simulators.stiffness_moduli import (
    cubic_projection,
    directional_youngs,
    poisson_ratio,
    voigt_reuss_hill,
    zener_ratio,
)
from simulators.stiffness_tensors import (
    cubic_stiffness,
    isotropic_stiffness,
    rotated_stiffness,
    stress_rotation,
    to_strain,
    to_tensor,
)
from tests.simulators.elastic import PAIRS, rotation, triclinic

NICKEL = (247.0, 153.0, 122.0)


def fourth_order(c: np.ndarray) -> np.ndarray:
    """(6, 6) -> (3, 3, 3, 3)."""
    tensor = np.empty((3, 3, 3, 3))
    for row, (i, j) in enumerate(PAIRS):
        for column, (k, m) in enumerate(PAIRS):
            for a, b in ((i, j), (j, i)):
                tensor[a, b, k, m] = tensor[a, b, m, k] = c[row, column]
    return tensor


def test_rotation_is_that_of_the_fourth_order_tensor() -> None:
    c, r = triclinic(0), rotation(1)
    expected = np.einsum("ia,jb,kc,ld,abcd->ijkl", r, r, r, r, fourth_order(c))
    np.testing.assert_allclose(fourth_order(rotated_stiffness(c, r)), expected, atol=1e-12)
    back = rotated_stiffness(rotated_stiffness(c, r), r.T)
    np.testing.assert_allclose(back, c, atol=1e-12)


def test_vectors_and_tensors() -> None:
    r = rotation(2)
    strain = np.array([1.0, 2.0, 3.0, 0.4, 0.5, 0.6])
    np.testing.assert_allclose(to_strain(to_tensor(strain, strain=True)), strain)
    tensor = to_tensor(strain)
    np.testing.assert_allclose(to_tensor(stress_rotation(r) @ strain), r @ tensor @ r.T)


def test_isotropic_matrices_have_their_moduli_in_any_direction() -> None:
    k, g = np.array([170.0, 10.0]), np.array([80.0, 30.0])
    c = isotropic_stiffness(k, g)
    young, poisson = 9 * k * g / (3 * k + g), (3 * k - 2 * g) / (2 * (3 * k + g))
    np.testing.assert_allclose(rotated_stiffness(c, rotation(3)), c, atol=1e-10)
    np.testing.assert_allclose(directional_youngs(c, [1, -2, 5]), young)
    np.testing.assert_allclose(poisson_ratio(c, [1, -2, 5], [2, 1, 0]), poisson)
    np.testing.assert_allclose(zener_ratio(c), 1.0)
    m = voigt_reuss_hill(c)
    for part, truth in zip((*m[:4:2], m.bulk), (k, k, k), strict=True):
        np.testing.assert_allclose(part, truth)
    np.testing.assert_allclose((m.shear_voigt, m.shear_reuss, m.shear), (g, g, g))
    np.testing.assert_allclose(m.youngs, young)
    np.testing.assert_allclose(m.poisson, poisson)


def test_cubic_crystal_along_its_directions() -> None:
    """E by 1/E = S11 - 2 (S11 - S12 - S44 / 2)(l2m2 + m2n2 + l2n2), Nye 1957, section 8.4."""
    c11, c12, c44 = NICKEL
    c = cubic_stiffness(*NICKEL)
    s11 = (c11 + c12) / ((c11 - c12) * (c11 + 2 * c12))
    s12, s44 = -c12 / ((c11 - c12) * (c11 + 2 * c12)), 1 / c44
    for direction, factor in (([1, 0, 0], 0), ([1, 1, 0], 1 / 4), ([1, 1, 1], 1 / 3)):
        expected = 1 / (s11 - 2 * (s11 - s12 - s44 / 2) * factor)
        assert directional_youngs(c, direction) == pytest.approx(expected, rel=1e-12)
    assert poisson_ratio(c, [0, 0, 1], [1, 1, 0]) == pytest.approx(-s12 / s11)
    assert zener_ratio(c) == pytest.approx(2 * c44 / (c11 - c12))
    np.testing.assert_allclose(cubic_projection(c), NICKEL)
    r = rotation(4)
    turned = cubic_stiffness(*NICKEL, rotation=r)
    # The cube's edges are where the rotation took them.
    assert directional_youngs(turned, r @ [1, 0, 0]) == pytest.approx(1 / s11)
    shear = (c11 - c12 + 3 * c44) / 5
    reuss = 5 * (c11 - c12) * c44 / (4 * c44 + 3 * (c11 - c12))
    m = voigt_reuss_hill(turned)
    np.testing.assert_allclose(m[:2], [(c11 + 2 * c12) / 3, shear])
    np.testing.assert_allclose(m[2:], [(c11 + 2 * c12) / 3, reuss])


GOOD = isotropic_stiffness([100.0, 200.0], [50.0, 70.0])
IMAGE = np.zeros((1, 3, 3), dtype=int)
SKEW = GOOD + np.eye(6, k=1)
NAN = np.where(np.eye(6) > 0, np.nan, GOOD)


@pytest.mark.parametrize(
    ("labels", "stiffness", "message"),
    [
        (np.zeros((3, 3), dtype=int), GOOD, r"shape \(3, 3\); expected \(n, h, w\)"),
        (np.zeros((1, 3, 3)), GOOD, "float64; expected integers"),
        (IMAGE + 2, GOOD, "expected labels 0 to 1"),
        (IMAGE, GOOD[0], r"shape \(6, 6\); expected \(p, 6, 6\) or \(1, p, 6, 6\)"),
        (IMAGE, GOOD[:, :3, :3], r"expected \(p, 6, 6\)"),
        (IMAGE, np.stack((GOOD, GOOD)), r"expected \(p, 6, 6\) or \(1, p, 6, 6\)"),
        (IMAGE, SKEW, "phase 0 is not symmetric"),
        (IMAGE, NAN, "not finite"),
        (IMAGE, GOOD * np.array([1, -1]).reshape(2, 1, 1), "phase 1 has the eigenvalue"),
    ],
)
def test_wrong_phases_are_named(labels: np.ndarray, stiffness: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        effective_elasticity(labels, stiffness)


def test_contrast_beyond_single_precision_is_named() -> None:
    phases = GOOD * np.array([1.0, 1e8]).reshape(2, 1, 1)
    image = np.array([[[0, 1]]])
    with pytest.raises(InvalidInputError, match="beyond float32"):
        effective_elasticity(image, phases, dtype=torch.float32)


def test_wrong_constants_and_directions_are_named() -> None:
    for call, message in (
        (lambda: cubic_stiffness(100.0, 120.0, 50.0), "not stable; expected C11 > |C12|"),
        (lambda: cubic_stiffness(100.0, 20.0, np.nan), "not stable"),
        (lambda: isotropic_stiffness(0.0, 1.0), "bulk modulus 0; expected finite values > 0"),
        (lambda: rotated_stiffness(GOOD, np.ones((3, 3))), "not orthogonal"),
        (lambda: rotated_stiffness(np.eye(3), np.eye(3)), r"expected \(..., 6, 6\)"),
        (lambda: directional_youngs(GOOD, [0, 0, 0]), "expected \\(..., 3\\), finite, not 0"),
        (lambda: poisson_ratio(GOOD, [1, 0, 0], [1, 1, 0]), "not at right angles"),
        (lambda: voigt_reuss_hill(np.eye(3)), r"expected \(..., 6, 6\)"),
        (lambda: thermal_expansion(IMAGE, GOOD, [1.0]), r"expected \(2,\) or \(2, 3, 3\)"),
        (
            lambda: thermal_expansion(IMAGE, GOOD, np.arange(18.0).reshape(2, 3, 3)),
            "not symmetric",
        ),
        (lambda: peak_stress(IMAGE, GOOD, quantiles=[1.5]), "expected numbers from 0 to 1"),
        (lambda: peak_stress(IMAGE, GOOD, direction=[0, 0, 0]), "not 0"),
        (lambda: peak_stress(IMAGE, GOOD, direction=[[1, 0, 0]]), r"expected \(3,\)"),
        (
            lambda: effective_stiffness(IMAGE, [1.0], [1.0], lower="voigt"),  # type: ignore[arg-type]
            "expected 'reuss' or 'energy'",
        ),
    ):
        with pytest.raises(InvalidInputError, match=message):
            call()
