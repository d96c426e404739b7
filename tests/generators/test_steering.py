"""Guidance by the simulator: least steps, bounds, exact zeros, and that it never does harm."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from generators.steering import Bounds, Steering, Values, steer
from generators.steering_steps import damped_step

FloatArray = NDArray[np.float64]
P, E = 2, 4


def linear(weights: Tensor, curvature: float = 0.0) -> Values:
    """Property j: mean over phases of w_j . x, plus curvature times its square."""

    def values(fields: Tensor | None, x: Tensor | None) -> Tensor:  # noqa: ARG001
        assert x is not None
        found = torch.einsum("npe,kpe->nk", x, weights)
        return found + curvature * found**2

    return values


def bounds(low: float = 0.0, high: float = 1.0) -> Bounds:
    return Bounds(np.full((P, E), low), np.full((P, E), high), np.full((P, E), 0.1))


def designs(n: int, seed: int = 0) -> FloatArray:
    x: FloatArray = np.random.default_rng(seed).dirichlet(np.full(E, 8.0), (n, P))
    return x


def test_the_least_step_is_the_pseudoinverse() -> None:
    rng = np.random.default_rng(0)
    jacobian = torch.from_numpy(rng.standard_normal((5, 3, 10)))
    residual = torch.from_numpy(rng.standard_normal((5, 3)))
    step = damped_step(jacobian, residual, torch.full((5,), 1e9, dtype=torch.float64))
    exact = (torch.linalg.pinv(jacobian) @ residual[..., None])[..., 0]
    # Damping of 1e-8 of the mean eigenvalue shortens it by that over the least one.
    torch.testing.assert_close(step, exact, rtol=1e-6, atol=1e-7)


def test_a_step_keeps_within_reach() -> None:
    rng = np.random.default_rng(1)
    jacobian = torch.from_numpy(rng.standard_normal((50, 3, 6)))
    jacobian[:10, 2] = jacobian[:10, 1] * (1 + 1e-9)  # two properties that move together
    residual = torch.from_numpy(10 * rng.standard_normal((50, 3)))
    reach = torch.from_numpy(rng.uniform(0.01, 3.0, 50))
    step = damped_step(jacobian, residual, reach)
    assert bool(torch.isfinite(step).all())
    assert bool((step.norm(dim=1) <= reach * (1 + 1e-9)).all())


@pytest.mark.parametrize("curvature", [0.0, 0.3])
def test_compositions_meet_the_request(curvature: float) -> None:
    """Exactly where the property is linear; quadratic convergence where it is curved."""
    rng = np.random.default_rng(2)
    values = linear(torch.from_numpy(rng.standard_normal((3, P, E))), curvature)
    x, other = designs(40), designs(40, seed=9)
    wanted = values(None, torch.from_numpy(0.7 * x + 0.3 * other)).numpy()
    found = steer(
        values,
        wanted,
        np.full(3, 0.1),
        latents=None,
        decode=None,
        compositions=x,
        bounds=bounds(),
        settings=Steering(composition_steps=6, close=1e-9, composition_reach=20.0),
    )
    assert found.compositions is not None
    reached = values(None, torch.from_numpy(found.compositions)).numpy()
    error = np.abs(reached - wanted).max(1)
    assert np.quantile(error, 0.9) < 1e-7
    np.testing.assert_allclose(found.compositions.sum(-1), 1.0, atol=1e-12)
    assert found.compositions.min() >= 0
    assert np.all(found.calls <= 7)


def test_the_change_is_the_least_one() -> None:
    """Inside the bounds it is the minimum-norm solution of the linear equations."""
    rng = np.random.default_rng(3)
    weights = rng.standard_normal((2, P, E))
    values = linear(torch.from_numpy(weights))
    x = np.full((1, P, E), 0.25)
    wanted = values(None, torch.from_numpy(x)).numpy() + np.array([[0.01, -0.01]])
    found = steer(
        values,
        wanted,
        np.ones(2),
        latents=None,
        decode=None,
        compositions=x,
        bounds=bounds(),
        settings=Steering(close=1e-12, composition_reach=100.0),
    )
    assert found.compositions is not None
    sums = np.kron(np.eye(P), np.ones(E))
    equations = np.concatenate([weights.reshape(2, -1), sums])
    least = np.linalg.pinv(equations) @ [0.01, -0.01, 0, 0]
    np.testing.assert_allclose((found.compositions - x).ravel(), least, atol=1e-9)


def test_bounds_hold_and_absent_stays_absent() -> None:
    rng = np.random.default_rng(4)
    values = linear(torch.from_numpy(rng.standard_normal((2, P, E))))
    x = designs(60, seed=5)
    x[:30, :, 3] = 0.0
    x /= x.sum(-1, keepdims=True)
    limits = Bounds(np.zeros((P, E)), np.full((P, E), 0.8), np.full((P, E), 0.1))
    x = limits.project(x, x > 0)
    wanted = values(None, torch.from_numpy(x)).numpy() + rng.normal(0, 0.3, (60, 2))
    found = steer(
        values,
        wanted,
        np.ones(2),
        latents=None,
        decode=None,
        compositions=x,
        bounds=limits,
        settings=Steering(composition_reach=30.0),
    )
    assert found.compositions is not None
    assert np.all(found.compositions[x == 0] == 0)
    assert found.compositions.max() <= 0.8 + 1e-12
    np.testing.assert_allclose(found.compositions.sum(-1), 1.0, atol=1e-12)
    before = np.square(values(None, torch.from_numpy(x)).numpy() - wanted).sum(1)
    after = values(None, torch.from_numpy(found.compositions)).numpy() - wanted
    assert np.all(np.square(after).sum(1) <= before + 1e-12)
    assert np.median(np.square(after).sum(1)) < 0.05 * np.median(before)


def decode(z: Tensor, rows: Tensor) -> Tensor:  # noqa: ARG001
    """Latents (n, 1, 8, 8) as logits of 16 x 16 pixels, smooth enough to move an interface."""
    up = functional.interpolate(z, scale_factor=2, mode="bilinear")
    return torch.cat([-up, up], dim=1)


def fraction_and_mix(fields: Tensor | None, x: Tensor | None) -> Tensor:
    """Fraction of the second phase; and the lever rule of one element of the compositions."""
    assert fields is not None
    assert x is not None
    share = fields.mean((2, 3))
    return torch.stack([share[:, 1], (share * x[:, :, 0]).sum(1)], dim=1)


def test_images_and_compositions_together() -> None:
    """The image takes the fraction to the nearest pixels; the compositions do the rest."""
    rng = torch.Generator().manual_seed(0)
    z = torch.randn(30, 1, 8, 8, generator=rng)
    x = designs(30, seed=7)
    with torch.no_grad():
        labels = decode(z, torch.arange(len(z))).argmax(1)
        start = functional.one_hot(labels, 2).permute(0, 3, 1, 2).double()
        wanted = fraction_and_mix(start, torch.from_numpy(x)).numpy()
    wanted = wanted + np.random.default_rng(0).normal(0, [0.05, 0.03], wanted.shape)
    found = steer(
        fraction_and_mix,
        wanted,
        np.array([0.1, 0.1]),
        latents=z,
        decode=decode,
        compositions=x,
        bounds=bounds(),
        settings=Steering(close=1e-6),
    )
    assert found.images is not None
    assert found.compositions is not None
    fields = functional.one_hot(torch.from_numpy(found.images).long(), 2).permute(0, 3, 1, 2)
    reached = fraction_and_mix(fields.double(), torch.from_numpy(found.compositions)).numpy()
    error = np.abs(reached - wanted)
    pixel = 1 / 256
    assert np.median(error[:, 0]) <= 1.5 * pixel
    assert np.quantile(error[:, 1], 0.9) < 1e-6
    changed = (found.images != start.argmax(1).numpy()).mean()
    assert changed < 0.15  # moved, not drawn anew


def test_nothing_asked_nothing_changed() -> None:
    x = designs(3)
    values = linear(torch.ones(2, P, E, dtype=torch.float64))
    found = steer(
        values,
        np.full((3, 2), np.nan),
        np.ones(2),
        latents=None,
        decode=None,
        compositions=x,
        bounds=bounds(),
        settings=Steering(),
    )
    np.testing.assert_array_equal(found.compositions, x)
    assert np.all(found.calls == 1)


def test_errors_are_those_of_what_is_returned_and_the_nearer_design_replaces() -> None:
    rng = np.random.default_rng(6)
    values = linear(torch.from_numpy(rng.uniform(0.5, 1.5, (2, P, E))))
    wanted = values(None, torch.from_numpy(designs(40, seed=11))).numpy()
    wanted[:5] = np.nan  # nothing asked
    wanted[5] += 5.0  # out of reach
    tries = [
        steer(
            values,
            wanted,
            np.full(2, 0.1),
            latents=None,
            decode=None,
            compositions=designs(40, seed=seed),
            bounds=bounds(0.0, 0.6),
            settings=Steering(composition_steps=1, composition_reach=2.0),
        )
        for seed in (12, 13)
    ]

    def errors(x: FloatArray | None) -> FloatArray:
        assert x is not None
        found = values(None, torch.from_numpy(x)).numpy()
        worst: FloatArray = np.nan_to_num(np.abs(found / wanted - 1)).max(1)
        return worst

    for found in tries:
        np.testing.assert_allclose(found.errors, errors(found.compositions), atol=1e-12)
    first, second = tries
    least = np.minimum(first.errors, second.errors)
    calls = first.calls + second.calls
    nearer = first.replaced(np.arange(40), second)
    assert 0 < nearer.sum() < 35
    np.testing.assert_array_equal(first.errors, least)
    np.testing.assert_allclose(errors(first.compositions), least, atol=1e-12)
    np.testing.assert_array_equal(first.calls, calls)
