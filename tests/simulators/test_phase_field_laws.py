"""Cahn-Hilliard: what always holds, and input that is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from loop.errors import InvalidInputError
from simulators.free_energy import (
    DarkenMobility,
    FreeEnergy,
    PolynomialEnergy,
    SolutionEnergy,
    darken_mobility,
)
from simulators.phase_field import evolve
from simulators.solution import GAS_CONSTANT
from tests.simulators.evolutions import (
    MOBILE,
    STIFF,
    TERNARY,
    WELL,
    FloatArray,
    assert_lawful,
    noisy,
)
from tests.simulators.test_thermodynamics import SILVER_COPPER

# What always holds


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("tolerance", [0.02, 1.0])
def test_mass_is_kept_and_energy_never_rises(dtype: torch.dtype, tolerance: float) -> None:
    """However rough the steps: white noise, a rough tolerance, far beyond the first domains."""
    start = noisy((4, 1, 32, 24), [0.42], 0.05)
    found = evolve(
        start,
        WELL,
        times=np.geomspace(0.1, 3000, 12),
        gradient=2.0,
        mobility=5.0,
        tolerance=tolerance,
        dtype=dtype,
    )
    assert_lawful(found, start)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("local", [False, True])
def test_multicomponent_keeps_the_laws(dtype: torch.dtype, local: bool) -> None:
    start = noisy((2, 2, 24, 24), [0.3, 0.3], 0.02)
    mobility = DarkenMobility([[1.0, 0.5, 2.0], [1.0, 1.0, 1.0]]) if local else MOBILE
    found = evolve(
        start,
        SolutionEnergy(TERNARY, [1000.0, 900.0]),
        times=[1, 10, 50, 200],
        gradient=2 * STIFF,
        mobility=mobility,
        tolerance=0.1,
        dtype=dtype,
    )
    assert_lawful(found, start)
    assert np.ptp(found.fields[:, -1]) > 0.3


def test_a_stable_field_becomes_uniform() -> None:
    start = noisy((1, 1, 16, 16), [0.1], 0.05)
    found = evolve(start, WELL, times=[1e4], gradient=2.0, mobility=5.0)
    np.testing.assert_allclose(found.fields, 0.1, atol=1e-9)


def test_profile_and_energy_of_a_flat_interface() -> None:
    """c = 1/2 + 0.2 tanh(x / l), l = sqrt(2 K / rho) / 0.4; energy sqrt(2 K rho) 0.4^3 / 6 each.

    The two interfaces of a periodic strip are 16 l apart, their interaction below 1e-6.
    """
    n, rho, stiff = 96, 5.0, 2.0
    length = (2 * stiff / rho) ** 0.5 / 0.4
    x = (np.arange(n) - n / 2 + 0.5) * 0.75
    profile = 0.5 + 0.2 * np.tanh((18.0 - np.abs(x)) / length)
    start = np.broadcast_to(0.3 + 0.4 * (np.abs(x) < 18), (1, 4, n))
    start = start + (profile.mean() - start.mean())
    found = evolve(start, WELL, times=[2000.0], gradient=stiff, mobility=5.0, spacing=0.75)
    np.testing.assert_allclose(found.fields[0, 0, 0, 0], profile, atol=2e-5)
    surface = found.energies[0, 0] * n * 0.75 / 2
    assert surface == pytest.approx((2 * stiff * rho) ** 0.5 * 0.4**3 / 6, rel=1e-4)


def test_unmixed_phases_have_the_binodal_compositions() -> None:
    """Flat interfaces: no capillarity, so the plateaus are those of the common tangent."""
    from simulators.miscibility import binodal

    low, high = binodal(SILVER_COPPER, 1200.0)[0]
    x = np.arange(64)
    start = np.broadcast_to(0.5 + 0.1 * np.cos(2 * np.pi * x / 64), (1, 4, 64))
    found = evolve(
        start,
        SolutionEnergy(SILVER_COPPER, [1200.0]),
        times=[3e4],
        gradient=3.0,
        mobility=DarkenMobility([[1.0, 1.0]]),
    )
    assert found.fields.min() == pytest.approx(low, abs=2e-3)
    assert found.fields.max() == pytest.approx(high, abs=2e-3)


def test_float32_agrees_with_float64() -> None:
    start = noisy((2, 1, 32, 32), [0.5], 0.01)
    single, double = (
        evolve(start, WELL, times=[5, 20], gradient=2.0, mobility=5.0, dtype=dtype)
        for dtype in (torch.float32, torch.float64)
    )
    np.testing.assert_allclose(single.fields, double.fields, atol=1e-4)
    assert single.fields.dtype == np.float32


def test_shift_and_rotation() -> None:
    start = noisy((1, 1, 24, 24), [0.5], 0.05)
    settings: dict[str, Any] = {"times": [20.0], "gradient": 2.0, "mobility": 5.0}
    plain = evolve(start, WELL, **settings).fields
    moved = evolve(np.roll(start, (5, -3), (2, 3)), WELL, **settings).fields
    np.testing.assert_allclose(moved, np.roll(plain, (5, -3), (3, 4)), atol=1e-8)
    turned = evolve(np.rot90(start, axes=(2, 3)), WELL, **settings).fields
    np.testing.assert_allclose(turned, np.rot90(plain, axes=(3, 4)), atol=1e-8)


@pytest.mark.parametrize("kind", ["polynomial", "ternary", "darken"])
def test_batch_equals_singles(kind: str) -> None:
    """Bit for bit, with ends that lie a factor of 60 apart and parameters of their own."""
    n = 5
    times = np.geomspace(1, 60, n)[::-1, None] * np.array([0.5, 1.0])
    start = noisy((n, 1, 16, 16), [0.45], 0.05)
    energy: FreeEnergy = PolynomialEnergy(
        np.array([[0.0, 0, -(1 + i / 10), 0, 1.0] for i in range(n)]), centre=0.5
    )
    mobility: FloatArray | DarkenMobility = np.linspace(1, 2, n)[:, None, None]
    stiff: FloatArray = np.eye(1)
    if kind != "polynomial":
        start = noisy((n, 2, 16, 16), [0.3, 0.3], 0.05)
        energy, mobility, stiff = SolutionEnergy(TERNARY, np.linspace(900, 1000, n)), MOBILE, STIFF
    if kind == "darken":
        mobility = DarkenMobility(np.linspace(1, 2, 3 * n).reshape(n, 3))
    batch = evolve(start, energy, times=times, gradient=stiff, mobility=mobility)
    for i in range(n):
        own = np.array([i])
        if isinstance(mobility, DarkenMobility):
            one: FloatArray | DarkenMobility = mobility.take(own)
        else:
            one = mobility[own] if mobility.ndim == 3 else mobility
        single = evolve(
            start[own], energy.take(own), times=times[own], gradient=stiff, mobility=one
        )
        np.testing.assert_array_equal(single.fields[0], batch.fields[i])
        np.testing.assert_array_equal(single.energies[0], batch.energies[i])
        assert single.steps[0] == batch.steps[i]


def test_time_zero_and_one_pixel() -> None:
    start = noisy((1, 1, 8, 8), [0.5])
    found = evolve(start, WELL, times=[0.0, 1.0], gradient=2.0, mobility=5.0)
    np.testing.assert_allclose(found.fields[:, 0], start, atol=1e-15)
    pixel = evolve(np.full((1, 1, 1), 0.4), WELL, times=[10.0], gradient=2.0, mobility=5.0)
    assert pixel.fields[0, 0, 0, 0, 0] == pytest.approx(0.4, abs=1e-15)


def test_steps_that_run_out_are_told() -> None:
    found = evolve(
        noisy((1, 1, 16, 16), [0.5]),
        WELL,
        times=[0.1, 1e6],
        gradient=2.0,
        mobility=5.0,
        max_steps=50,
    )
    assert not found.finished[0]
    assert np.isfinite(found.energies[0, 0])
    assert np.isnan(found.energies[0, 1])


def test_energies_of_solutions_are_theirs() -> None:
    c = np.random.default_rng(3).dirichlet([2, 2, 2], (2, 5, 4))
    energy = SolutionEnergy(TERNARY, [900.0, 1100.0], floor=1e-6)
    fields = torch.as_tensor(np.moveaxis(c[..., 1:], -1, 1).copy())
    density, slope = energy.evaluate(fields)
    t = np.array([900.0, 1100.0])[:, None, None]
    unit = GAS_CONSTANT * t
    np.testing.assert_allclose(density.numpy(), TERNARY.gibbs_energy(c, t) / unit, rtol=1e-12)
    mu = TERNARY.chemical_potentials(c, t) / unit[..., None]
    expected = np.moveaxis(mu[..., 1:] - mu[..., :1], -1, 1)
    np.testing.assert_allclose(slope.numpy(), expected, rtol=1e-11, atol=1e-12)
    curvature = np.moveaxis(TERNARY.curvature(c, t) / unit[..., None, None], (-2, -1), (1, 2))
    np.testing.assert_allclose(energy.hessian(fields).numpy(), curvature, rtol=1e-11)


@pytest.mark.parametrize("x", [-0.05, 5e-4, 0.9999, 1.02])
def test_energy_goes_on_smoothly_beyond_the_floor(x: float) -> None:
    """Twice differentiable on either side of the floor and outside [0, 1]."""
    energy = SolutionEnergy(SILVER_COPPER, [900.0])

    def at(y: float) -> tuple[float, float, float]:
        c = torch.full((1, 1, 1, 1), y, dtype=torch.float64)
        density, slope = energy.evaluate(c)
        return float(density), float(slope), float(energy.hessian(c))

    h = 1e-6
    assert (at(x + h)[0] - at(x - h)[0]) / (2 * h) == pytest.approx(at(x)[1], rel=1e-5)
    assert (at(x + h)[1] - at(x - h)[1]) / (2 * h) == pytest.approx(at(x)[2], rel=1e-5)


def test_darken_mobility() -> None:
    """Binary closed form; several components against the sum; local against given."""
    x, a, b = 0.3, 2.0, 5.0
    binary = darken_mobility([1 - x, x], [a, b])
    assert binary[0, 0] == pytest.approx(x * (1 - x) * ((1 - x) * b + x * a), rel=1e-14)
    z, d = np.array([0.2, 0.5, 0.1, 0.2]), np.array([1.0, 3.0, 0.2, 2.0])
    full = np.diag(z * d) - np.outer(z, z * d) - np.outer(z * d, z) + np.outer(z, z) * (z @ d)
    np.testing.assert_allclose(darken_mobility(z, d), full[1:, 1:], rtol=1e-12)
    assert np.linalg.eigvalsh(full[1:, 1:]).min() > 0
    c = torch.as_tensor(z[1:]).reshape(1, 3, 1, 1)
    local = DarkenMobility(d[None]).evaluate(c)[0, :, :, 0, 0]
    np.testing.assert_allclose(local.numpy(), full[1:, 1:], rtol=1e-12)
    slopes = torch.as_tensor([0.3, -1.0, 2.0], dtype=torch.float64).reshape(1, 3, 1, 1)
    flux = DarkenMobility(d[None]).flux(c, slopes)[0, :, 0, 0]
    np.testing.assert_allclose(flux.numpy(), full[1:, 1:] @ [0.3, -1.0, 2.0], rtol=1e-12)


# Bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"initial": np.zeros((4, 4))}, r"expected \(n, 1, h, w\) or \(n, h, w\)"),
        ({"initial": np.full((1, 4, 4), np.nan)}, "not finite"),
        ({"initial": np.zeros((1, 2, 4, 4))}, r"expected \(n, 1, h, w\)"),
        ({"times": [2.0, 1.0]}, "not ascending"),
        ({"times": [-1.0]}, "negative"),
        ({"times": [[1.0], [2.0]]}, r"expected \(s,\) or \(1, s\)"),
        ({"gradient": 0.0}, "expected all of them > 0"),
        ({"gradient": np.eye(3)}, r"expected a number, \(1, 1\)"),
        ({"mobility": -1.0}, "expected all of them >= 0"),
        ({"mobility": np.nan}, "not finite"),
        ({"mobility": DarkenMobility([[1.0, 1.0]] * 3)}, "mobility is of 3 systems"),
        ({"energy": SolutionEnergy(SILVER_COPPER, [900.0, 900.0])}, "energy is of 2 systems"),
        ({"spacing": 0.0}, "expected finite values > 0"),
        ({"tolerance": -1.0}, "expected finite values > 0"),
    ],
)
def test_wrong_input_is_named(change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {
        "initial": np.full((1, 4, 4), 0.5),
        "energy": WELL,
        "times": [1.0],
        "gradient": 2.0,
        "mobility": 5.0,
    }
    with pytest.raises(InvalidInputError, match=message):
        evolve(**(given | change))


def test_matrices_must_be_symmetric() -> None:
    with pytest.raises(InvalidInputError, match="gradient is not symmetric"):
        evolve(
            np.full((1, 2, 4, 4), 0.3),
            SolutionEnergy(TERNARY, [900.0]),
            times=[1.0],
            gradient=[[1.0, 0.5], [0.2, 1.0]],
            mobility=1.0,
        )


@pytest.mark.parametrize(
    "make",
    [
        lambda: PolynomialEnergy([1.0, 2.0]),
        lambda: PolynomialEnergy([1.0, np.inf, 1.0]),
        lambda: SolutionEnergy(SILVER_COPPER, [-5.0]),
        lambda: SolutionEnergy(SILVER_COPPER, [900.0], floor=0.5),
        lambda: DarkenMobility([[1.0, 0.0]]),
        lambda: DarkenMobility([1.0, 1.0]),
    ],
)
def test_wrong_energies_and_mobilities_are_named(make: Callable[[], object]) -> None:
    with pytest.raises(InvalidInputError, match="expected"):
        make()
