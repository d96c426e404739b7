"""Voxel grids: gradient, face fluxes, their adjoints and Fourier multipliers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from simulators.conductivity2d import Medium
from simulators.conductivity3d import dirichlet_system, thomson_system
from simulators.fields import irfft3, rfft3
from simulators.grid3d import (
    AXES,
    MOMENT,
    Modes,
    divergence,
    equilibrated,
    flux_green,
    gradient,
    join,
    laplacian,
    split,
)
from simulators.tensors import to_components

SHAPES = [(4, 6, 8), (5, 3, 7), (2, 2, 2), (1, 4, 5), (3, 1, 1), (1, 1, 1)]
Shape = tuple[int, int, int]


def fields(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.as_tensor(np.random.default_rng(seed).standard_normal(shape))


def homogeneous(shape: Shape, isotropic: bool) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """Components (1, c) of a medium and its constant fields."""
    components = torch.tensor([[2.5]], dtype=torch.float64)
    if not isotropic:
        a = np.random.default_rng(3).standard_normal((3, 3))
        components = torch.as_tensor(to_components((a @ a.T + 0.3 * np.eye(3))[None]))
    ones = torch.ones(1, *shape, dtype=torch.float64)
    return components, tuple(float(c) * ones for c in components[0])


def gathered(flux: torch.Tensor) -> torch.Tensor:
    return torch.stack(
        [
            torch.roll(flux[..., c, :, :, :], -1, d) - flux[..., c, :, :, :]
            for c, d in enumerate(AXES)
        ]
    ).sum(0)


def test_gradient_of_a_plane_is_its_slope() -> None:
    z, y, x = torch.meshgrid(*(torch.arange(n).double() for n in (5, 6, 7)), indexing="ij")
    modes = gradient(2 * x - 3 * y + 5 * z)
    inner = (slice(0, 4), slice(0, 5), slice(0, 6))
    for mode, slope in zip(modes, (2, -3, 5, 0, 0, 0, 0), strict=True):
        assert torch.all(mode[inner] == slope)


def test_modes_hold_the_energy_of_the_trilinear_field() -> None:
    """Mean of |grad u|^2 over one voxel from its eight corners, by dense quadrature."""
    u = fields((2, 2, 2), seed=3)
    corners = u.numpy()
    n = 60
    s = (np.arange(n) + 0.5) / n
    weights = [np.stack((1 - s, s))] * 3
    slopes = [np.stack((-np.ones(n), np.ones(n)))] * 3
    energy = 0.0
    for axis in range(3):
        factors = [slopes[a] if a == axis else weights[a] for a in range(3)]
        energy += float((np.einsum("abc,ai,bj,ck->ijk", corners, *factors) ** 2).mean())
    modes = [float(mode[0, 0, 0]) for mode in gradient(u)]
    squares = [m**2 for m in modes]
    found = sum(squares[:3]) + 2 * MOMENT * sum(squares[3:6]) + 3 * MOMENT**2 * squares[6]
    assert found == pytest.approx(energy, rel=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_adjoints(shape: Shape) -> None:
    u = fields(shape)
    m = Modes(*fields((7, *shape), seed=1))
    forth = sum(float((a * b).sum()) for a, b in zip(gradient(u), m, strict=True))
    assert forth == pytest.approx(float((u * divergence(m)).sum()), rel=1e-11, abs=1e-11)
    for dim in AXES:
        mean, difference = split(u, dim)
        for a, b in itertools.product((None, m.x), (None, m.y)):
            if a is not None or b is not None:
                forth = sum(
                    float((p * q).sum()) for p, q in ((a, mean), (b, difference)) if p is not None
                )
                back = float((u * join(a, b, dim)).sum())
                assert forth == pytest.approx(back, rel=1e-11, abs=1e-11)


@pytest.mark.parametrize("isotropic", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_multipliers_are_those_of_the_operators(shape: Shape, isotropic: bool) -> None:
    components, medium = homogeneous(shape, isotropic)
    reference = Medium(components, torch.ones(1, dtype=torch.float64))
    u = fields((1, 3, *shape))
    expected = irfft3(rfft3(u) * laplacian(components, shape)[:, None], shape)
    found = dirichlet_system(medium, reference).apply(u)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-11)

    flux = fields((1, 3, 3, *shape), seed=2)
    green = flux_green(components, shape)
    best = green.apply(flux)
    assert float(gathered(best).abs().max()) < 1e-12
    assert float(best.mean((-3, -2, -1)).abs().max()) < 1e-12
    # The minimiser for the force M z is z itself, if z has no divergence and no mean.
    again = green.apply(thomson_system(medium, reference).apply(best))
    torch.testing.assert_close(again, best, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("shape", SHAPES)
def test_projection_of_fluxes(shape: Shape) -> None:
    flux = fields((2, 3, *shape))
    clean = equilibrated(flux)
    assert float(gathered(clean).abs().max()) < 1e-12
    assert float(clean.mean((-3, -2, -1)).abs().max()) < 1e-13
    torch.testing.assert_close(equilibrated(clean), clean, rtol=1e-10, atol=1e-12)
    other = equilibrated(fields((2, 3, *shape), seed=5))
    assert float((other * (flux - clean)).sum()) == pytest.approx(0, abs=1e-10)
