"""Derivatives of effective conductivities against central differences and identities."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from loop.errors import InvalidInputError
from simulators.adjoint import conductivity_of_field, labelled_field, soft_field
from simulators.conductivity import effective_conductivity

SHAPES = [(2, 9, 8), (2, 5, 4, 6)]
STEP = 1e-5  # central differences are then good to about 1e-9


def noise(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.as_tensor(np.random.default_rng(seed).standard_normal(shape))


@pytest.mark.parametrize("mean", ["geometric", "arithmetic", "harmonic"])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_are_central_differences(shape: tuple[int, ...], mean: str) -> None:
    """Of a random functional of estimate and both bounds, per image contrast 20 and 15."""
    m = len(shape) - 1
    weights = noise((3, 2, m, m), seed=1)
    soft = 0.1 + 0.8 * torch.rand(shape, dtype=torch.float64, generator=torch.manual_seed(0))
    phases = torch.tensor([[1.0, 20.0], [3.0, 0.2]], dtype=torch.float64)

    def functional(s: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        found = conductivity_of_field(soft_field(s, p, mean=mean), tolerance=1e-14)
        assert bool(found.converged.all())
        parts = torch.stack((found.tensor, found.lower, found.upper))
        return (weights * parts).sum()

    soft.requires_grad_()
    phases.requires_grad_()
    by_field, by_phases = torch.autograd.grad(functional(soft, phases), (soft, phases))
    for number in range(2):
        way = noise((shape, (2, 2))[number], seed=2) * 0.5
        step = [torch.zeros_like(soft), torch.zeros_like(phases)]
        step[number] = STEP * way
        with torch.no_grad():
            above = functional(soft + step[0], phases + step[1])
            below = functional(soft - step[0], phases - step[1])
        expected = float((above - below) / (2 * STEP))
        found = float(((by_field, by_phases)[number] * way).sum())
        assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_values_are_those_of_the_simulator(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 3, shape)
    phases = np.array([[1.0, 4.0, 90.0], [2.0, 2.5, 0.1]])
    field = labelled_field(image, torch.as_tensor(phases))
    np.testing.assert_array_equal(field[1].numpy(), phases[1][image[1]])
    found = conductivity_of_field(field, tolerance=1e-10)
    expected = effective_conductivity(image, phases, tolerance=1e-10)
    for name in ("tensor", "lower", "upper"):
        tensors = getattr(found, name).numpy()
        np.testing.assert_allclose(tensors, getattr(expected, name), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("shape", SHAPES)
def test_conductivity_is_homogeneous_of_degree_one(shape: tuple[int, ...]) -> None:
    """Euler: sum of k dK/dk is K, for every entry and both bounds, at any tolerance."""
    k = torch.exp(noise(shape)).requires_grad_()
    for tolerance in (1e-3, 1e-10):
        found = conductivity_of_field(k, tolerance=tolerance)
        for tensor in found[:3]:
            for i, j in ((0, 0), (0, 1), (1, 1)):
                (slope,) = torch.autograd.grad(tensor[:, i, j].sum(), k, retain_graph=True)
                torch.testing.assert_close(
                    (slope * k).flatten(1).sum(1), tensor[:, i, j], rtol=1e-9, atol=1e-9
                )


def test_derivative_of_a_laminate() -> None:
    """K_xx = 1 / <1/k>, K_yy = <k>: slopes K_xx^2 / (N k^2) and 1 / N in every pixel."""
    line = torch.tensor([1.0, 3.0, 10.0, 0.5], dtype=torch.float64)
    k = line.expand(1, 3, 4).clone().requires_grad_()
    for number in range(3):
        tensor = conductivity_of_field(k)[number]
        (across,) = torch.autograd.grad(tensor[0, 0, 0], k, retain_graph=True)
        (along,) = torch.autograd.grad(tensor[0, 1, 1], k)
        series = 1 / (1 / line).mean()
        torch.testing.assert_close(across[0], ((series / line) ** 2 / 12).expand(3, 4))
        torch.testing.assert_close(along[0], torch.full((3, 4), 1 / 12, dtype=torch.float64))


@pytest.mark.parametrize("shape", SHAPES)
def test_more_conductive_pixels_never_hurt(shape: tuple[int, ...]) -> None:
    k = torch.exp(noise(shape, seed=4)).requires_grad_()
    found = conductivity_of_field(k)
    for part in (found.lower, found.upper):
        for case in range(len(shape) - 1):
            (slope,) = torch.autograd.grad(part[:, case, case].sum(), k, retain_graph=True)
            assert float(slope.min()) >= 0


def test_a_descent_reaches_a_target() -> None:
    """The gradient leads a soft field from one conductivity to another within a few steps."""
    logits = noise((1, 12, 12), seed=5).requires_grad_()
    phases = torch.tensor([1.0, 10.0], dtype=torch.float64)
    optimiser = torch.optim.Adam([logits], lr=0.2)
    for _ in range(60):
        optimiser.zero_grad()
        found = conductivity_of_field(soft_field(torch.sigmoid(logits), phases), tolerance=1e-6)
        loss = ((found.tensor[0] - torch.diag(torch.tensor([4.0, 2.5]))) ** 2).sum()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 1e-3


def test_single_precision_fields_get_single_precision_gradients() -> None:
    k = torch.rand(1, 6, 6).add(0.5).requires_grad_()
    found = conductivity_of_field(k)
    assert found.tensor.dtype == torch.float64
    (slope,) = torch.autograd.grad(found.tensor.sum(), k)
    assert slope.dtype == torch.float32


@pytest.mark.parametrize(
    ("k", "message"),
    [
        (torch.ones(4, 4), r"shape \(4, 4\) .* expected floating point \(n, h, w\)"),
        (torch.ones(1, 4, 4, dtype=torch.int64), "expected floating point"),
        (torch.zeros(1, 4, 4), "not finite and > 0"),
        (torch.full((1, 4, 4), torch.nan), "not finite and > 0"),
    ],
)
def test_wrong_fields_are_named(k: torch.Tensor, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        conductivity_of_field(k)


def test_wrong_phases_are_named() -> None:
    soft = torch.full((2, 4, 4), 0.5, dtype=torch.float64)
    pair = torch.ones(2, dtype=torch.float64)
    for bad, phases, mean, message in (
        (soft * 3, pair, "geometric", r"leaves \[0, 1\]"),
        (soft, torch.ones(3), "geometric", r"expected \(2,\) or \(2, 2\)"),
        (soft, pair, "mode", "expected geometric, arithmetic or harmonic"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            soft_field(bad, phases, mean=mean)
    with pytest.raises(InvalidInputError, match="expected labels 0 to 1"):
        labelled_field(np.full((1, 3, 3), 2), pair)
    with pytest.raises(InvalidInputError, match=r"expected \(p,\) or \(1, p\)"):
        labelled_field(np.zeros((1, 3, 3), dtype=int), torch.ones(2, 2))
