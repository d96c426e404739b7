"""Steps in parts of losses that move something of their own: critic, codebook, discriminator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from generators.networks.autoencoder import Autoencoder
from generators.training.adversarial import OBJECTIVES, AdversarialLoss, JointGANSettings
from generators.training.autoencoding import AutoencoderLoss
from generators.training.loop import Schedule, train
from generators.training.precision import Computation
from generators.training.resume import MovingLoss
from generators.vae import VAESettings
from tests.generators.test_adversarial import SMALL, designs, pair, weights

pytestmark = pytest.mark.usefixtures("one_thread")

ROWS = 8  # noise of halves of them is a multiple of 16 numbers: parts draw what the whole draws
SMALL_VAE = VAESettings(latent_channels=2, width=8, steps=4, adversarial_start=0.0)
FULL = "CUDA out of memory. Tried to allocate 2.00 GiB."


def of_gan(s: JointGANSettings, parts: int, steps: int = 1) -> AdversarialLoss:
    """The loss after so many steps of a training in parts."""
    network, critic = pair(s=s)
    schedule = Schedule(steps, 1e-3, warmup=1)
    loss = AdversarialLoss(network, critic, s, schedule, torch.Generator().manual_seed(0))
    assert isinstance(loss, MovingLoss)
    n = ROWS * s.critic_steps
    values = torch.randn(n, 2, generator=torch.Generator().manual_seed(2))
    batch = (*designs(n), values, values > 0)

    def batches() -> Iterator[tuple[Tensor, ...]]:
        while True:
            yield batch

    train(network, loss, batches(), schedule, stage="pair", how=Computation(parts=parts))
    return loss


def moments(optimiser: torch.optim.Optimizer) -> Tensor:
    """Means of the gradients that it has stepped along."""
    return torch.cat([state["exp_avg"].reshape(-1) for state in optimiser.state.values()])


def counts(optimiser: torch.optim.Optimizer) -> set[float]:
    return {float(state["step"]) for state in optimiser.state.values()}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_critic_steps_with_the_whole_batch(objective: Any) -> None:
    """Two steps of the critic for one of the generator, whatever the parts; gradients add up."""
    s = replace(SMALL, objective=objective, critic_steps=2)
    whole, divided = of_gan(s, 1), of_gan(s, 4)
    assert counts(whole.optimiser) == counts(divided.optimiser) == {2.0}
    expected = moments(whole.optimiser)
    error = (moments(divided.optimiser) - expected).abs().max()
    assert float(error) < 1e-4 * float(expected.abs().max())
    for name, figure in whole.figures.items():
        if name != "generator":
            assert divided.figures[name] == pytest.approx(figure, rel=1e-3, abs=1e-5)


def test_memory_that_runs_out_behind_the_critic_does_not_let_it_step_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Room for 4 of 8 rows in the generator's pass: 3 steps, 3 of the critic."""
    plain = AdversarialLoss._of_generator

    def limited(self: AdversarialLoss, y: Tensor, known: Tensor) -> Tensor:
        if len(y) > 4:
            raise torch.OutOfMemoryError(FULL)
        return plain(self, y, known)

    monkeypatch.setattr(AdversarialLoss, "_of_generator", limited)
    loss = of_gan(SMALL, 1, steps=3)
    assert counts(loss.optimiser) == {3.0}
    assert bool(weights(loss.network, loss.critic).isfinite().all())


def of_autoencoder(settings: VAESettings, parts: int, steps: int = 1) -> AutoencoderLoss:
    torch.manual_seed(0)
    codes = settings.codes if settings.bottleneck == "vq" else 0
    network = Autoencoder(2, latent_channels=2, width=8, codes=codes)
    torch.manual_seed(1)
    noise = torch.Generator().manual_seed(1)
    loss = AutoencoderLoss(network, settings, noise, precision="float32")
    if network.quantiser is not None:
        with torch.no_grad():
            mean, _ = network.encode(designs(ROWS).labels)
        network.quantiser.start(mean, noise)
        loss.started = True
    images = designs(ROWS).labels

    def batches() -> Iterator[tuple[Tensor, ...]]:
        while True:
            yield (images,)

    schedule = Schedule(steps, 1e-3, warmup=1)
    train(network, loss, batches(), schedule, stage="coder", how=Computation(parts=parts))
    return loss


def test_the_codebook_follows_the_whole_batch_once() -> None:
    settings = replace(SMALL_VAE, bottleneck="vq", codes=8)
    found = []
    for parts in (1, 2, 3):
        quantiser = of_autoencoder(settings, parts).network.quantiser
        assert quantiser is not None
        found.append(torch.cat([quantiser.codebook, quantiser.counts[:, None]], dim=1))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-5, atol=1e-6)


def test_the_discriminator_steps_once_with_the_gradient_of_the_whole_batch() -> None:
    settings = replace(SMALL_VAE, adversarial_weight=0.1, discriminator_width=8)
    whole, divided = (of_autoencoder(settings, parts).judge for parts in (1, 2))
    assert whole is not None
    assert divided is not None
    assert counts(whole) == counts(divided) == {1.0}
    error = (moments(divided) - moments(whole)).abs().max()
    assert float(error) < 1e-4 * float(moments(whole).abs().max())


@pytest.mark.parametrize("bottleneck", ["kl", "vq"])
def test_memory_that_runs_out_moves_neither_twice(
    bottleneck: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind the step of both at the first attempt; 2 steps in all."""
    settings = replace(
        SMALL_VAE, bottleneck=bottleneck, codes=8, adversarial_weight=0.1, discriminator_width=8
    )
    plain, updates = AutoencoderLoss._with_features, []

    def limited(self: AutoencoderLoss, total: Tensor, output: Tensor, images: Tensor) -> Tensor:
        found = plain(self, total, output, images)
        if len(images) > 4:
            raise torch.OutOfMemoryError(FULL)
        return found

    monkeypatch.setattr(AutoencoderLoss, "_with_features", limited)
    if bottleneck == "vq":
        from generators.networks.vq import VectorQuantiser

        update = VectorQuantiser.update

        def counted(self: VectorQuantiser, *given: Any) -> int:
            updates.append(len(given[0]))
            return update(self, *given)

        monkeypatch.setattr(VectorQuantiser, "update", counted)
    loss = of_autoencoder(settings, 1, steps=2)
    assert loss.judge is not None
    assert counts(loss.judge) == {2.0}
    assert updates == ([ROWS, ROWS] if bottleneck == "vq" else [])
