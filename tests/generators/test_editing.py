"""Editing against the exact flow of a Gaussian."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from generators.dynamics.gaussian import GaussianVelocity
from generators.dynamics.samplers import heun
from generators.editing import fill, invert, noised_back, tiled, times_between, vary
from generators.interpolation import between, linear, shares, slerp
from loop.errors import InvalidInputError


def gaussian(covariance: Tensor, mean: Tensor) -> GaussianVelocity:
    values, vectors = torch.linalg.eigh(covariance)
    return GaussianVelocity(mean, vectors, values, torch.ones(1, dtype=mean.dtype))


def pair(correlation: float) -> GaussianVelocity:
    covariance = torch.tensor([[1.0, correlation], [correlation, 1.0]], dtype=torch.float64)
    return gaussian(covariance, torch.tensor([0.5, -1.0], dtype=torch.float64))


def normal(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_inversion_and_back_with_the_order_of_the_sampler() -> None:
    velocity = pair(0.6)
    data = normal((50, 2), 0) + velocity.mean
    errors = []
    for steps in (8, 16, 32):
        noise = invert(velocity, data, steps)
        back = heun(velocity, noise, times_between(0.0, 1.0, steps))
        errors.append(float((back - data).abs().max()))
    assert errors[2] < 1e-3
    order = math.log2(errors[1] / errors[2])
    assert order > 1.8  # Heun's is 2; what goes forth and back cancels in part


def test_inverted_data_are_standard_normal() -> None:
    velocity = pair(0.6)
    root = torch.linalg.cholesky(torch.tensor([[1.0, 0.6], [0.6, 1.0]], dtype=torch.float64))
    n = 20000
    data = velocity.mean + normal((n, 2), 1) @ root.T
    noise = invert(velocity, data, 64)
    tolerance = 5 * math.sqrt(2 / n)
    torch.testing.assert_close(noise.mean(0), torch.zeros(2).double(), atol=tolerance, rtol=0)
    torch.testing.assert_close(noise.T.cov(), torch.eye(2).double(), atol=tolerance, rtol=0)


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_variations_of_gaussian_data_keep_their_distribution(strength: float) -> None:
    """Noised and taken back, N(m, S) is N(m, S) again; the correlation with before falls."""
    velocity = pair(0.6)
    covariance = torch.tensor([[1.0, 0.6], [0.6, 1.0]], dtype=torch.float64)
    n = 20000
    data = velocity.mean + normal((n, 2), 1) @ torch.linalg.cholesky(covariance).T
    varied = vary(velocity, data, normal((n, 2), 2), 32, strength=strength)
    tolerance = 5 * math.sqrt(2 / n) + 2e-3
    torch.testing.assert_close(varied.T.cov(), covariance, atol=tolerance, rtol=0)
    kept = float(torch.corrcoef(torch.stack([data[:, 0], varied[:, 0]]))[0, 1])
    if strength == 0:
        assert torch.equal(varied, data)
    elif strength == 1:
        assert abs(kept) < tolerance
    else:
        assert 0.3 < kept < 0.99


def test_noising_back_has_the_right_marginal() -> None:
    n = 40000
    data = torch.full((n,), 2.0, dtype=torch.float64)
    late = 0.2 * normal((n,), 0) + 0.8 * data
    early = noised_back(late, 0.8, 0.3, normal((n,), 1))
    assert float(early.mean()) == pytest.approx(0.6, abs=5 * 0.7 / math.sqrt(n))
    assert float(early.std()) == pytest.approx(0.7, rel=5 / math.sqrt(2 * n))


def test_filling_in_finds_the_conditional() -> None:
    """One of two correlated numbers is known; resampling brings the other to its conditional.

    The mean of x2 given x1 is m2 + r (x1 - m1) and its variance 1 - r^2; the replacement is exact
    in the limit of many turns, so the tolerance is of the method, not of the sample.
    """
    correlation, n = 0.8, 4000
    velocity = pair(correlation)
    known = torch.zeros(n, 2, dtype=torch.float64)
    known[:, 0] = 2.0
    mask = torch.tensor([True, False])
    found = fill(velocity, known, mask, 40, generator=torch.Generator().manual_seed(3), resample=10)
    assert torch.all(found[:, 0] == 2.0)
    mean = -1.0 + correlation * 1.5
    assert float(found[:, 1].mean()) == pytest.approx(mean, abs=0.12)
    assert float(found[:, 1].var()) == pytest.approx(1 - correlation**2, abs=0.08)
    once = fill(velocity, known, mask, 40, generator=torch.Generator().manual_seed(3), resample=1)
    assert abs(float(once[:, 1].mean()) - mean) > abs(float(found[:, 1].mean()) - mean)


def test_tiles_of_a_local_velocity_are_that_velocity() -> None:
    """What looks at single places does not see the windows; nor does a window of full size."""

    def local(x: Tensor, t: Tensor) -> Tensor:
        return x.square() - t[:, None, None, None]

    x, t = normal((2, 3, 8, 12), 0), torch.full((2,), 0.4, dtype=torch.float64)
    whole = tiled(local, (4, 4), (2, 2))
    torch.testing.assert_close(whole(x, t), local(x, t))


def test_tiles_move_with_the_state() -> None:
    kernel = normal((1, 1, 4, 4), 5)

    def window(x: Tensor, t: Tensor) -> Tensor:  # noqa: ARG001
        return x * kernel + (x * kernel).mean((2, 3), keepdim=True)

    whole = tiled(window, (4, 4), (2, 2))
    x, t = normal((1, 1, 8, 8), 6), torch.zeros(1, dtype=torch.float64)
    torch.testing.assert_close(whole(x.roll((2, 4), (2, 3)), t), whole(x, t).roll((2, 4), (2, 3)))
    with pytest.raises(InvalidInputError, match="strides that divide"):
        tiled(window, (4, 4), (3, 3))(x, t)


def test_paths_end_where_they_should() -> None:
    a, b, s = normal((5, 7), 0), normal((5, 7), 1), shares(9)
    for path in (linear(a, b, s), slerp(a, b, s)):
        torch.testing.assert_close(path[0], a)
        torch.testing.assert_close(path[-1], b)
    torch.testing.assert_close(linear(a, b, s)[4], (a + b) / 2)
    torch.testing.assert_close(slerp(a, 3 * a, s), linear(a, 3 * a, s))  # no angle between them


def test_slerp_keeps_the_length_of_noise_and_linear_loses_it() -> None:
    a, b, s = normal((4096,), 0), normal((4096,), 1), shares(5)
    length = math.sqrt(4096)
    tolerance = 5 / math.sqrt(2)  # standard deviation of the length of normal noise: 1 / sqrt 2
    assert torch.all((slerp(a, b, s).norm(dim=1) - length).abs() < 2 * tolerance)
    middle = float(linear(a, b, s)[2].norm())
    assert middle == pytest.approx(length / math.sqrt(2), rel=0.05)


def test_bad_input_is_named() -> None:
    x = torch.zeros(1, 2, dtype=torch.float64)
    with pytest.raises(InvalidInputError, match="1 frames"):
        shares(1)
    with pytest.raises(InvalidInputError, match=r"slrp.*slerp"):
        between(x, x, shares(3), "slrp")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="between 0"):
        vary(pair(0.1), x, x, 3, strength=1.5)
    with pytest.raises(InvalidInputError, match="resample is 0"):
        fill(pair(0.1), x, x > 0, 3, generator=torch.Generator(), resample=0)


def test_filling_in_may_begin_with_what_stands_there() -> None:
    """Noised a little it stays near, as a variation does; without it no strength is to be had."""
    flow = gaussian(torch.eye(8), torch.zeros(8))
    begin = torch.full((64, 8), 1.5)
    mask = torch.arange(8) < 3
    known = torch.zeros(64, 8)
    moved = []
    for strength in (0.05, 0.9):
        source = torch.Generator().manual_seed(0)
        found = fill(
            flow, known, mask, 8, generator=source, resample=1, begin=begin, strength=strength
        )
        assert torch.equal(found[:, :3], known[:, :3])
        moved.append(float((found - begin)[:, 3:].abs().mean()))
    assert moved[0] < 0.2 < moved[1]
    with pytest.raises(InvalidInputError, match="without what it begins with"):
        fill(flow, known, mask, 8, generator=torch.Generator(), strength=0.5)
