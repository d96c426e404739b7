"""The discrete gradient, its adjoint and its Fourier multipliers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from simulators.grid import TWIST_WEIGHT, Modes, divergence, gradient, symbols

SHAPES = [(8, 8), (5, 7), (6, 9), (1, 4), (1, 1)]


def fields(shape: tuple[int, int], n: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.as_tensor(rng.standard_normal((n, *shape)))


def test_gradient_of_a_plane_is_its_slope() -> None:
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(9.0), indexing="ij")
    modes = gradient(2 * x - 3 * y)
    inner = (slice(0, 5), slice(0, 8))  # the last row and column see the jump of the period
    assert torch.all(modes.x[inner] == 2)
    assert torch.all(modes.y[inner] == -3)
    assert torch.all(modes.twist[inner] == 0)


def test_modes_hold_the_energy_of_the_bilinear_field() -> None:
    """The mean of |grad u|^2 over one pixel, from its four corner values, by dense quadrature."""
    u = fields((2, 2), 1, seed=3)[0]
    corners = u.numpy()
    modes = gradient(u)
    s = (np.arange(2000) + 0.5) / 2000
    gx = (corners[0, 1] - corners[0, 0]) * (1 - s) + (corners[1, 1] - corners[1, 0]) * s
    gy = (corners[1, 0] - corners[0, 0]) * (1 - s) + (corners[1, 1] - corners[0, 1]) * s
    x, y, twist = (float(mode[0, 0]) for mode in modes)
    assert x**2 + TWIST_WEIGHT * twist**2 == pytest.approx((gx**2).mean(), rel=1e-6)
    assert y**2 + TWIST_WEIGHT * twist**2 == pytest.approx((gy**2).mean(), rel=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_divergence_is_the_adjoint_of_gradient(shape: tuple[int, int]) -> None:
    u = fields(shape, 1)[0]
    m = Modes(*fields(shape, 3, seed=1))
    forth = sum(float((a * b).sum()) for a, b in zip(gradient(u), m, strict=True))
    assert forth == pytest.approx(float((u * divergence(m)).sum()), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_symbols_are_the_multipliers_of_the_gradient(shape: tuple[int, int]) -> None:
    u = fields(shape, 1)[0]
    s = symbols(shape, dtype=torch.float64, device=torch.device("cpu"))
    g = gradient(u)
    none = torch.zeros_like(u)
    spectrum = torch.fft.rfft2(u)
    for symbol, modes in (
        (s.xx, Modes(g.x, none, none)),
        (s.yy, Modes(none, g.y, none)),
        (s.twist, Modes(none, none, g.twist)),
        (s.xy, Modes(g.y, none, none)),
    ):
        expected = torch.fft.irfft2(spectrum * symbol, s=shape)
        torch.testing.assert_close(divergence(modes), expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("shape", [(8, 8), (6, 10), (5, 7)])
def test_only_constants_have_no_energy(shape: tuple[int, int]) -> None:
    """An hourglass field (+1, -1 in turn) has no mean gradient, but it has a twist."""
    s = symbols(shape, dtype=torch.float64, device=torch.device("cpu"))
    total = s.xx + s.yy + 2 * TWIST_WEIGHT * s.twist
    assert float(total[0, 0]) == 0
    total[0, 0] = 1
    assert float(total.min()) > 0.1 / max(shape)
