"""Derivatives of effective conductivities of anisotropic and of several soft phases."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from loop.errors import InvalidInputError
from simulators import exact
from simulators.adjoint import (
    conductivity_of_field,
    conductivity_of_phases,
    mixed_field,
    soft_field,
)
from simulators.conductivity import effective_conductivity
from simulators.soft_fields import labelled_field

SHAPES = [(9, 8), (5, 4, 6)]
MIXING = [
    (False, "arithmetic"),
    (False, "geometric"),
    (False, "harmonic"),
    (True, "arithmetic"),
    (True, "harmonic"),
]
STEP = 1e-5  # central differences are then good to about 1e-9


def noise(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.as_tensor(np.random.default_rng(seed).standard_normal(shape))


def tensors(shape: tuple[int, ...], m: int, seed: int = 0) -> torch.Tensor:
    """Positive definite (..., m, m) of condition numbers up to some tens."""
    root = noise((*shape, m, m), seed)
    scale = torch.exp(noise((*shape, 1, 1), seed + 100))
    return scale * (root @ root.mT + 0.2 * torch.eye(m, dtype=torch.float64))


def shares(n: int, phases: int, shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.softmax(noise((n, phases, *shape), seed), 1)


@pytest.mark.parametrize(("anisotropic", "mean"), MIXING)
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_are_central_differences(
    shape: tuple[int, ...], anisotropic: bool, mean: str
) -> None:
    """Of a random functional of estimate and both bounds, by logits and by phase properties."""
    m = len(shape)
    weights = noise((3, 2, m, m), seed=1)
    logits = noise((2, 3, *shape), seed=2)
    phases = tensors((2, 3), m) if anisotropic else torch.exp(1.5 * noise((2, 3), seed=3))

    def functional(logits: torch.Tensor, phases: torch.Tensor) -> torch.Tensor:
        soft = torch.softmax(logits, 1)
        found = conductivity_of_phases(soft, phases, mean=mean, tolerance=1e-14)
        assert bool(found.converged.all())
        return (weights * torch.stack((found.tensor, found.lower, found.upper))).sum()

    inputs = (logits.clone().requires_grad_(), phases.clone().requires_grad_())
    slopes = torch.autograd.grad(functional(*inputs), inputs)
    for number, given in enumerate((logits, phases)):
        way = noise(tuple(given.shape), seed=4) * 0.5
        if number == 1 and anisotropic:
            way = 0.2 * (way + way.mT)
        step = [torch.zeros_like(logits), torch.zeros_like(phases)]
        step[number] = STEP * way
        with torch.no_grad():
            above = functional(logits + step[0], phases + step[1])
            below = functional(logits - step[0], phases - step[1])
        expected = float((above - below) / (2 * STEP))
        assert float((slopes[number] * way).sum()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shape", [(3, 2), (2, 2, 3)])
def test_every_entry_of_every_tensor(shape: tuple[int, ...]) -> None:
    """Entry by entry against differences, in coordinates that keep the tensors symmetric."""
    m = len(shape)
    rows, columns = np.tril_indices(m)
    given = noise((1, *shape, len(rows)), seed=5).requires_grad_()
    unit = torch.eye(m, dtype=torch.float64)

    def effective(lower: torch.Tensor) -> tuple[torch.Tensor, ...]:
        parts = [torch.outer(unit[r], unit[c]) for r, c in zip(rows, columns, strict=True)]
        root = torch.einsum("...k,kij->...ij", lower, torch.stack(parts))
        return conductivity_of_field(root @ root.mT + 0.5 * unit, tolerance=1e-15)[:3]

    assert torch.autograd.gradcheck(effective, given, eps=1e-5, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_values_are_those_of_the_simulator(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 3, (2, *shape))
    phases = tensors((2, 3), len(shape), seed=7)
    field = labelled_field(image, phases)
    np.testing.assert_array_equal(field[1].numpy(), phases[1].numpy()[image[1]])
    found = conductivity_of_field(field, tolerance=1e-10)
    expected = effective_conductivity(image, phases.numpy(), tolerance=1e-10)
    for name in ("tensor", "lower", "upper"):
        other = getattr(expected, name)
        np.testing.assert_allclose(
            getattr(found, name).numpy(), other, rtol=1e-8, atol=1e-8 * np.abs(other).max()
        )


@pytest.mark.parametrize("shape", SHAPES)
def test_isotropic_tensors_are_scalars(shape: tuple[int, ...]) -> None:
    """Same values; the slope by a scalar is the trace of the slope by the tensor."""
    m = len(shape)
    scalar = torch.exp(noise((1, *shape))).requires_grad_()
    unit = torch.eye(m, dtype=torch.float64)
    tensor = (scalar.detach()[..., None, None] * unit).requires_grad_()
    by_scalar = conductivity_of_field(scalar, tolerance=1e-14)
    by_tensor = conductivity_of_field(tensor, tolerance=1e-14)
    weights = noise((m, m), seed=1)
    for one, other in zip(by_scalar[:3], by_tensor[:3], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
        (a,) = torch.autograd.grad((weights * one).sum(), scalar, retain_graph=True)
        (b,) = torch.autograd.grad((weights * other).sum(), tensor, retain_graph=True)
        torch.testing.assert_close(a, b.diagonal(dim1=-2, dim2=-1).sum(-1), rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(b, b.mT)


@pytest.mark.parametrize("shape", SHAPES)
def test_conductivity_is_homogeneous_of_degree_one(shape: tuple[int, ...]) -> None:
    """Euler: sum of k : dK/dk is K, for every entry and both bounds, at any tolerance."""
    k = tensors((2, *shape), len(shape), seed=9).requires_grad_()
    for tolerance in (1e-3, 1e-10):
        found = conductivity_of_field(k, tolerance=tolerance)
        for tensor in found[:3]:
            size = float(tensor.detach().abs().max())
            for i, j in ((0, 0), (0, 1), (1, 1)):
                (slope,) = torch.autograd.grad(tensor[:, i, j].sum(), k, retain_graph=True)
                torch.testing.assert_close(
                    (slope * k).flatten(1).sum(1), tensor[:, i, j], rtol=1e-9, atol=1e-9 * size
                )


@pytest.mark.parametrize("m", [2, 3])
def test_derivative_of_an_anisotropic_laminate(m: int) -> None:
    """Against differences of the closed form (Milton 2002, section 9.2), layers normal to x."""
    labels = np.broadcast_to(np.array([0, 0, 1, 1, 1]), (1, *[1] * (m - 1), 5)).copy()
    phases = tensors((2,), m, seed=11)
    way = noise((2, m, m), seed=12)
    way = 0.1 * (way + way.mT)
    weights = noise((m, m), seed=13)
    weights = weights + weights.mT

    def truth(step: float) -> float:
        given = (phases + step * way).numpy()
        k = exact.laminate_tensor([0.4, 0.6], given, np.eye(m)[0])
        return float((weights.numpy() * k).sum())

    given = phases.clone().requires_grad_()
    found = conductivity_of_field(labelled_field(labels, given), tolerance=1e-14)
    (slope,) = torch.autograd.grad((weights * found.tensor[0]).sum(), given)
    difference = (truth(STEP) - truth(-STEP)) / (2 * STEP)
    assert float((slope * way).sum()) == pytest.approx(difference, rel=1e-7)


def test_more_conductive_pixels_never_hurt() -> None:
    """Slopes of energies by the tensor of a pixel are positive semidefinite."""
    k = tensors((1, 4, 5, 3), 3, seed=14).requires_grad_()
    found = conductivity_of_field(k)
    for part in (found.lower, found.upper):
        for case in range(3):
            (slope,) = torch.autograd.grad(part[:, case, case].sum(), k, retain_graph=True)
            assert float(torch.linalg.eigvalsh(slope).min()) >= -1e-12 * float(slope.abs().max())


# Soft phases


@pytest.mark.parametrize("mean", ["arithmetic", "geometric", "harmonic"])
def test_hard_phases_are_the_pixel_image(mean: str) -> None:
    image = np.random.default_rng(3).integers(0, 3, (2, 6, 5))
    one_hot = torch.nn.functional.one_hot(torch.as_tensor(image), 3).movedim(-1, 1).double()
    phases = torch.exp(noise((3,), seed=15))
    torch.testing.assert_close(
        mixed_field(one_hot, phases, mean=mean), labelled_field(image, phases)
    )
    if mean != "geometric":
        turned = tensors((2, 3), 2, seed=16)
        torch.testing.assert_close(
            mixed_field(one_hot, turned, mean=mean), labelled_field(image, turned)
        )


def test_mixing_rules_by_hand() -> None:
    soft = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).reshape(1, 3, 1, 1)
    phases = torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64)
    for mean, value in (
        ("arithmetic", 0.5 + 3 + 20),
        ("geometric", 10**0.7),
        ("harmonic", 1 / (0.5 + 0.03 + 0.002)),
    ):
        assert float(mixed_field(soft, phases, mean=mean)) == pytest.approx(value, rel=1e-14)
    pair = torch.tensor([1.0, 10.0], dtype=torch.float64)
    half = torch.full((1, 2, 2), 0.25, dtype=torch.float64)
    assert float(soft_field(half, pair)[0, 0, 0]) == pytest.approx(10**0.25, rel=1e-14)


@pytest.mark.parametrize("shape", SHAPES)
def test_mixed_tensors_are_ordered(shape: tuple[int, ...]) -> None:
    """Harmonic <= arithmetic as quadratic forms, in pixels and so in the whole."""
    soft, phases = shares(2, 3, shape, seed=17), tensors((2, 3), len(shape), seed=18)
    low, high = (mixed_field(soft, phases, mean=mean) for mean in ("harmonic", "arithmetic"))
    assert float(torch.linalg.eigvalsh(high - low).min()) > -1e-12
    k_low, k_high = (conductivity_of_field(field) for field in (low, high))
    for name in ("tensor", "lower", "upper"):
        gap = getattr(k_high, name) - getattr(k_low, name)
        assert float(torch.linalg.eigvalsh(gap).min()) > -1e-8


def test_a_descent_reaches_an_anisotropic_target() -> None:
    """Soft phases of two crystal orientations and a matrix are led to a given tensor."""
    phases = torch.stack(
        [torch.diag(torch.tensor(values)) for values in ((10.0, 1.0), (1.0, 10.0), (2.0, 2.0))]
    ).double()
    logits = noise((1, 3, 10, 10), seed=19).requires_grad_()
    goal = torch.tensor([[4.0, 0.3], [0.3, 2.5]], dtype=torch.float64)
    optimiser = torch.optim.Adam([logits], lr=0.2)
    for _ in range(60):
        optimiser.zero_grad()
        found = conductivity_of_phases(torch.softmax(logits, 1), phases, tolerance=1e-6)
        loss = ((found.tensor[0] - goal) ** 2).sum()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 1e-3


def test_single_precision_gets_single_precision_gradients() -> None:
    k = tensors((1, 4, 4), 2, seed=20).float()
    k = (0.5 * (k + k.mT)).requires_grad_()
    found = conductivity_of_field(k)
    assert found.tensor.dtype == torch.float64
    (slope,) = torch.autograd.grad(found.tensor.sum(), k)
    assert slope.dtype == torch.float32
    soft = shares(1, 3, (4, 4)).float().requires_grad_()
    for kind in (torch.float32, torch.float64):
        phases = torch.tensor([1.0, 2.0, 9.0], dtype=kind, requires_grad=True)
        by_phases = conductivity_of_phases(soft, phases)
        slopes = torch.autograd.grad(by_phases.tensor.sum(), (soft, phases))
        assert [slope.dtype for slope in slopes] == [torch.float32, kind]


def test_wrong_fields_are_named() -> None:
    unit = torch.eye(2, dtype=torch.float64).expand(1, 4, 4, 2, 2)
    skew = torch.tensor([[1.0, 0.5], [0.0, 1.0]], dtype=torch.float64)
    indefinite = torch.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=torch.float64)
    for bad, message in (
        (unit[..., :1], r"expected floating point .* of tensors"),
        (torch.ones(1, 4, 4, 3, 3), r"\(n, h, w, 2, 2\)"),
        (torch.ones(1, 4, 4, 4, 2, 2), r"\(n, d, h, w, 3, 3\)"),
        (unit * torch.nan, "not finite"),
        (unit @ skew, "not symmetric"),
        (unit @ indefinite, "not positive definite"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            conductivity_of_field(bad)


def test_wrong_phases_are_named() -> None:
    soft = shares(2, 3, (4, 4))
    three = torch.ones(3, dtype=torch.float64)
    for bad, phases, mean, message in (
        (soft[0], three, "arithmetic", r"expected floating point \(n, p, h, w\)"),
        (2 * soft, three, "arithmetic", "sum to 1 only within 1"),
        (soft - 0.5, three, "arithmetic", "share below 0"),
        (soft, three[:2], "arithmetic", "3 phases, conductivities 2"),
        (soft, torch.ones(3, 3, 3), "arithmetic", r"expected \(p,\) or \(2, p\), or \(p, 2, 2\)"),
        (soft, three, "mode", "expected geometric, arithmetic or harmonic"),
        (soft, tensors((3,), 2), "geometric", "geometric mean of anisotropic phases"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            conductivity_of_phases(bad, phases, mean=mean)
