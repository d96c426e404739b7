"""Slopes of an image's statistics from a small network, and latents that are moved by them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from generators.morphology import Morphology, matched
from generators.networks.statistics import StatisticsNetwork
from generators.slopes import SlopeRows, learn_slopes, slope_error, slope_scales, slopes_of
from generators.steering_steps import jacobian_of
from generators.training.loop import Schedule
from tests.generators.test_morphology import decode


def latents(n: int, seed: int = 2) -> Tensor:
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def labels(z: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return decode(z).argmax(1).to(torch.uint8).numpy()


def network(seed: int = 0) -> StatisticsNetwork:
    torch.manual_seed(seed)
    return StatisticsNetwork(channels=1, outputs=3, width=32, depth=2)


def taught(z: Tensor, morphology: Morphology, steps: int = 300) -> StatisticsNetwork:
    net, rows = network(), SlopeRows.of(z, decode, morphology)
    source = torch.Generator().manual_seed(1)
    learn_slopes(
        net,
        rows,
        Schedule(steps, 4e-3, ema=0.99),
        64,
        device="cpu",
        generator=source,
        stage="slopes",
    )
    return net


def test_the_rows_are_what_decoding_gives() -> None:
    z = latents(40)
    morphology = Morphology.fit(labels(z), 2)
    rows = SlopeRows.of(z, decode, morphology)
    torch.testing.assert_close(rows.statistics, morphology.of(labels(z)), atol=1e-5, rtol=1e-5)
    one = z[:1].clone().requires_grad_()
    _, found = morphology.held(decode(one), torch.from_numpy(labels(z)[:1].mean((1, 2)))[:, None])
    (jacobian,) = jacobian_of(found, [one])
    torch.testing.assert_close(rows.jacobians[:1].double(), jacobian, atol=1e-6, rtol=1e-4)


def test_slopes_are_those_of_finite_differences() -> None:
    net, z = network().double(), latents(3).double()
    found = slopes_of(net, z)
    for place in ((0, 0), (5, 2)):
        moved = torch.zeros_like(z)
        moved[:, 0, place[0], place[1]] = 1e-5
        with torch.no_grad():
            slope = (net(z + moved) - net(z - moved)) / 2e-5
        torch.testing.assert_close(
            found[:, :, 8 * place[0] + place[1]], slope, atol=1e-8, rtol=1e-6
        )


def test_shifting_an_image_changes_nothing() -> None:
    net, z = network(), latents(4)
    torch.testing.assert_close(net(z), net(z.roll((3, 5), (2, 3))), atol=1e-6, rtol=1e-5)


class Nothing(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return 0.0 * z.sum((1, 2, 3))[:, None].expand(-1, 3)


def test_no_slopes_have_an_error_of_about_a_half() -> None:
    """|slope|² and its median are alike, so the error is the mean of x/(x + median)."""
    z = latents(300)
    rows = SlopeRows.of(z, decode, Morphology.fit(labels(z), 2))
    squares = rows.jacobians.double().square().sum(2).numpy()
    middle = np.sort(squares, axis=0)[(len(squares) - 1) // 2]  # the lower one of an even number
    expected = (squares / (squares + middle)).mean()
    assert abs(slope_error(Nothing(), rows, slope_scales(rows)) - expected) < 1e-5
    assert 0.45 < expected < 0.55


def test_latents_are_moved_by_learned_slopes_nearly_as_by_the_decoder() -> None:
    """Each step decodes once and is judged on what was decoded; fractions are exact anyway."""
    known, z = latents(1200, seed=3), latents(80)
    source = torch.Generator().manual_seed(5)
    other = z + 0.4 * torch.randn(z.shape, generator=source)
    morphology = Morphology.fit(labels(known), 2)
    net = taught(known, morphology)
    rows = SlopeRows.of(z, decode, morphology)
    assert slope_error(net, rows, slope_scales(rows)) < 0.25
    wanted = morphology.of(labels(other))
    calls = []

    def counted(latent: Tensor) -> Tensor:
        calls.append(len(latent))
        return decode(latent)

    def error(steps: int, learned: bool) -> float:
        calls.clear()
        _, images = matched(
            z,
            counted,
            morphology,
            wanted,
            steps=steps,
            slopes=(lambda latent: slopes_of(net, latent)) if learned else None,
            decoded=decode(z) if learned else None,
        )
        np.testing.assert_array_equal(images.sum((1, 2)), labels(other).sum((1, 2)))
        return float((morphology.of(images) - wanted)[:, 1:].square().sum(1).median())

    before, exact, learned = error(0, True), error(4, False), error(4, True)
    assert len(calls) == 4  # what was decoded before is not decoded again
    assert learned < 0.2 * before
    assert learned < 1.2 * exact
