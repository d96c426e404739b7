"""Means of tensors and reference media."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from simulators.energies import harmonic, inverse, rotated, rotated_medium
from simulators.tensors import (
    Reference,
    fractions,
    geometric_mean,
    reference,
    to_components,
    to_tensors,
)
from tests.simulators.voxels import random_tensors


@pytest.mark.parametrize("m", [2, 3])
def test_geometric_mean(m: int) -> None:
    """It solves X A^-1 X = B, lies between A and B, commutes with turning and inverting."""
    rng = np.random.default_rng(m)
    a, b = random_tensors(5, m, 1e3, rng), random_tensors(5, m, 1e3, rng)
    x = geometric_mean(a, b)
    np.testing.assert_allclose(x @ np.linalg.inv(a) @ x, b, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(geometric_mean(b, a), x, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(geometric_mean(a, a), a, rtol=1e-11, atol=1e-12)
    inverses = (np.linalg.inv(one).astype(np.float64) for one in (a, b))
    inverted = geometric_mean(*inverses)
    np.testing.assert_allclose(inverted, np.linalg.inv(x), rtol=1e-8, atol=1e-10)
    between = geometric_mean(a, a + b)
    assert np.linalg.eigvalsh(between - a).min() > 0
    assert np.linalg.eigvalsh(a + b - between).min() > 0


@pytest.mark.parametrize("m", [2, 3])
def test_components_and_back(m: int) -> None:
    tensors = random_tensors(4, m, 10, np.random.default_rng(0))
    np.testing.assert_array_equal(to_tensors(to_components(tensors)), tensors)


@pytest.mark.parametrize("m", [2, 3])
def test_reference_media_bound_what_the_image_contains(m: int) -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 3, (4, *[5] * m))
    image[0] = 2
    phases = np.stack([random_tensors(4, m, 100, rng) for _ in range(4)])
    medium = reference(image, phases)
    k0 = to_tensors(medium.components)
    for i in range(4):
        for p in np.unique(image[i]):
            low = np.linalg.eigvalsh(phases[i, p] - medium.low[i] * k0[i])
            high = np.linalg.eigvalsh(medium.high[i] * k0[i] - phases[i, p])
            assert min(low.min(), high.min()) > -1e-9 * np.abs(phases[i]).max()
    np.testing.assert_allclose(k0[0], phases[0, 2], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose((medium.low[0], medium.high[0]), 1.0, rtol=1e-10)
    scalar = reference(image, np.tile([1.0, 4.0, 100.0, 1e9], (4, 1)))
    np.testing.assert_allclose(scalar.components[1:, 0], 10.0)
    np.testing.assert_allclose(scalar.high[1:] / scalar.low[1:], 100.0)


def test_dual_media() -> None:
    rng = np.random.default_rng(2)
    for m in (2, 3):
        k0 = random_tensors(3, m, 10, rng)
        medium = Reference(to_components(k0), np.full(3, 0.5), np.full(3, 4.0))
        dual = medium.dual()
        np.testing.assert_allclose(to_tensors(dual.components), np.linalg.inv(k0), rtol=1e-10)
        np.testing.assert_allclose(dual.low, 0.25)
        np.testing.assert_allclose(dual.high, 2.0)
        if m == 2:
            turned = to_tensors(rotated_medium(medium).components)
            determinant = np.linalg.det(k0)[:, None, None]
            np.testing.assert_allclose(turned, k0 / determinant, rtol=1e-10)


@pytest.mark.parametrize("m", [2, 3])
def test_inverse_fields(m: int) -> None:
    rng = np.random.default_rng(3)
    tensors = random_tensors(2 * 3**m, m, 50, rng).reshape(2, *[3] * m, m, m)
    field = tuple(torch.as_tensor(c) for c in np.moveaxis(to_components(tensors), -1, 0))
    found = np.stack([part.numpy() for part in inverse(field)], axis=-1)
    np.testing.assert_allclose(to_tensors(found), np.linalg.inv(tensors), rtol=1e-9, atol=1e-12)
    mean = np.linalg.inv(np.linalg.inv(tensors).mean(tuple(range(1, m + 1))))
    np.testing.assert_allclose(harmonic(field).numpy(), mean, rtol=1e-9)
    if m == 2:
        turn = np.array([[0, -1], [1, 0]])
        found = np.stack([part.numpy() for part in rotated(field)], axis=-1)
        expected = turn @ np.linalg.inv(tensors) @ turn.T
        np.testing.assert_allclose(to_tensors(found), expected, rtol=1e-9, atol=1e-12)


def test_fractions() -> None:
    image = np.array([[[0, 1], [1, 1]], [[2, 2], [0, 1]]])
    expected = [[0.25, 0.75, 0, 0], [0.25, 0.25, 0.5, 0]]
    np.testing.assert_array_equal(fractions(image, 4), expected)
