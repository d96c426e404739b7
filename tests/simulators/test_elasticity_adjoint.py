"""Derivatives of effective stiffness against central differences and identities."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from loop.errors import InvalidInputError
from simulators.adjoint import labelled_field, soft_field
from simulators.adjoint_elasticity import (
    FieldStiffness,
    isotropic_field,
    labelled_stiffness,
    soft_stiffness,
    stiffness_of_field,
)
from simulators.stiffness import effective_elasticity
from simulators.stiffness_tensors import isotropic_stiffness
from tests.simulators.elastic import crystals, relative

SHAPES = [(2, 5, 4), (1, 3, 4, 3)]
STEP = 1e-5  # central differences are then good to about 1e-9


def noise(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.as_tensor(np.random.default_rng(seed).standard_normal(shape))


def functional(found: FieldStiffness) -> torch.Tensor:
    """A random one of estimate and both bounds."""
    assert bool(found.converged.all())
    parts = torch.stack((found.tensor, found.lower, found.upper))
    return (noise((3, 1, 6, 6), seed=1) * parts).sum()


def assert_central_differences(
    function: object, inputs: tuple[torch.Tensor, ...], seed: int = 2
) -> None:
    assert callable(function)
    leaves = tuple(part.clone().requires_grad_() for part in inputs)
    slopes = torch.autograd.grad(function(*leaves), leaves)
    for number, slope in enumerate(slopes):
        way = noise(tuple(slope.shape), seed) * inputs[number].abs() * 0.5
        step = [torch.zeros_like(part) for part in inputs]
        step[number] = STEP * way
        with torch.no_grad():
            above = function(*(a + s for a, s in zip(inputs, step, strict=True)))
            below = function(*(a - s for a, s in zip(inputs, step, strict=True)))
        expected = float((above - below) / (2 * STEP))
        assert float((slope * way).sum()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_by_moduli_and_soft_phase(shape: tuple[int, ...]) -> None:
    """Isotropic phases 1 : 15, geometric mean of the moduli in soft pixels."""
    soft = 0.2 + 0.6 * torch.rand(shape, dtype=torch.float64, generator=torch.manual_seed(0))
    bulk = torch.tensor([1.0, 15.0], dtype=torch.float64)
    shear = torch.tensor([0.6, 8.0], dtype=torch.float64)

    def of(s: torch.Tensor, k: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        field = isotropic_field(soft_field(s, k), soft_field(s, g))
        return functional(stiffness_of_field(field, tolerance=1e-14))

    assert_central_differences(of, (soft, bulk, shear))


@pytest.mark.parametrize("mean", ["arithmetic", "harmonic"])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_by_crystals_and_soft_phase(shape: tuple[int, ...], mean: str) -> None:
    """All 21 constants of either phase at once, off-diagonal ones too."""
    soft = 0.2 + 0.6 * torch.rand(shape, dtype=torch.float64, generator=torch.manual_seed(0))
    phases = torch.as_tensor(crystals(4.0)[[0, 2]] / 100)

    def of(s: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        symmetric = 0.5 * (c + c.mT)
        field = soft_stiffness(s, symmetric, mean=mean)
        return functional(stiffness_of_field(field, tolerance=1e-14))

    assert_central_differences(of, (soft, phases))


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_by_the_phases_of_labels(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(3).integers(0, 3, shape)
    phases = torch.as_tensor(crystals(3.0) / 100)

    def of(c: torch.Tensor) -> torch.Tensor:
        field = labelled_stiffness(image, 0.5 * (c + c.mT))
        return functional(stiffness_of_field(field, tolerance=1e-14))

    assert_central_differences(of, (phases,))


@pytest.mark.parametrize("shape", SHAPES)
def test_values_are_those_of_the_simulator(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 3, shape)
    phases = crystals(6.0)
    found = stiffness_of_field(labelled_stiffness(image, torch.as_tensor(phases)))
    expected = effective_elasticity(image, phases, tolerance=1e-10)
    for name in ("tensor", "lower", "upper"):
        assert relative(getattr(found, name).numpy(), getattr(expected, name)) < 1e-8


def test_isotropic_field_is_that_of_the_phases() -> None:
    image = np.random.default_rng(1).integers(0, 2, (2, 3, 4))
    bulk, shear = np.array([100.0, 7.0]), np.array([50.0, 9.0])
    field = isotropic_field(
        labelled_field(image, torch.as_tensor(bulk)), labelled_field(image, torch.as_tensor(shear))
    )
    np.testing.assert_allclose(field.numpy(), isotropic_stiffness(bulk, shear)[image], atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_stiffness_is_homogeneous_of_degree_one(shape: tuple[int, ...]) -> None:
    """Euler: sum of C dC*/dC is C*, for every entry and both bounds, at any tolerance."""
    c = torch.as_tensor(crystals(5.0)[np.random.default_rng(2).integers(0, 3, shape)])
    c.requires_grad_()
    for tolerance in (1e-3, 1e-10):
        found = stiffness_of_field(c, tolerance=tolerance)
        for tensor in found[:3]:
            for i, j in ((0, 0), (0, 4), (3, 5)):
                (slope,) = torch.autograd.grad(tensor[:, i, j].sum(), c, retain_graph=True)
                torch.testing.assert_close(
                    (slope * c).flatten(1).sum(1), tensor[:, i, j], rtol=1e-9, atol=1e-7
                )


def test_a_descent_reaches_a_target() -> None:
    """The gradient leads a soft field from one Young's modulus to another in a few steps."""
    logits = noise((1, 8, 8), seed=5).requires_grad_()
    bulk = torch.tensor([1.0, 10.0], dtype=torch.float64)
    optimiser = torch.optim.Adam([logits], lr=0.2)
    for _ in range(60):
        optimiser.zero_grad()
        soft = torch.sigmoid(logits)
        field = isotropic_field(soft_field(soft, bulk), soft_field(soft, 0.6 * bulk))
        soft_matrix = torch.linalg.inv(stiffness_of_field(field, tolerance=1e-6).tensor[0])
        moduli = 1 / soft_matrix.diagonal()[:2]
        loss = ((moduli - torch.tensor([6.0, 4.0])) ** 2).sum()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 1e-2


def test_single_precision_fields_get_single_precision_gradients() -> None:
    c = torch.as_tensor(crystals()[:1], dtype=torch.float32).expand(1, 2, 3, 6, 6).clone()
    c.requires_grad_()
    found = stiffness_of_field(c)
    assert found.tensor.dtype == torch.float64
    (slope,) = torch.autograd.grad(found.tensor.sum(), c)
    assert slope.dtype == torch.float32


UNIT = torch.eye(6, dtype=torch.float64)


@pytest.mark.parametrize(
    ("c", "message"),
    [
        (UNIT.expand(4, 4, 6, 6), r"shape \(4, 4, 6, 6\) .* expected floating point \(n, h, w, 6"),
        (torch.ones(1, 4, 4, 6, 6, dtype=torch.int64), "expected floating point"),
        (-UNIT.expand(1, 2, 2, 6, 6), "not positive definite"),
        (UNIT.expand(1, 2, 2, 6, 6) * torch.nan, "not finite"),
        (UNIT.expand(0, 2, 2, 6, 6), "empty"),
    ],
)
def test_wrong_fields_are_named(c: torch.Tensor, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        stiffness_of_field(c)


def test_wrong_phases_are_named() -> None:
    soft = torch.full((2, 4, 4), 0.5, dtype=torch.float64)
    pair = UNIT.expand(2, 6, 6)
    for bad, phases, mean, message in (
        (soft * 3, pair, "arithmetic", r"leaves \[0, 1\]"),
        (soft, UNIT.expand(3, 6, 6), "arithmetic", r"expected \(2, 6, 6\)"),
        (soft, pair, "geometric", "expected arithmetic or harmonic"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            soft_stiffness(bad, phases, mean=mean)
    with pytest.raises(InvalidInputError, match="expected labels 0 to 1"):
        labelled_stiffness(np.full((1, 3, 3), 2), pair)
    with pytest.raises(InvalidInputError, match=r"expected \(p, 6, 6\) or"):
        labelled_stiffness(np.zeros((1, 3, 3), dtype=int), UNIT)
    with pytest.raises(InvalidInputError, match="expected one shape"):
        isotropic_field(torch.ones(2), torch.ones(3))
    with pytest.raises(InvalidInputError, match="shear modulus is not finite and > 0"):
        isotropic_field(torch.ones(2), torch.zeros(2))
