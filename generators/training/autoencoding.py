"""What an image autoencoder minimises: reconstruction, divergence or commitment, features.

    −E log p(x|z) + β min(1, t/T) KL(q(z|x) ‖ N(0, 1)) + domain features + adversarial term,

each per pixel (Higgins et al. 2017; Rombach et al. 2022, section 3.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from generators.dynamics.likelihood import log_normal
from generators.networks.autoencoder import Autoencoder, kl_to_standard_normal
from generators.networks.discriminator import PatchDiscriminator
from generators.training.losses import (
    detail_weights,
    discriminator_loss,
    free_bits,
    generator_loss,
    gradient_loss,
    hard_fields,
    two_point_loss,
    warm_up,
)
from generators.training.resume import optimiser_tensors, restore_optimiser, under

if TYPE_CHECKING:
    from generators.vae import VAESettings


class AutoencoderLoss:
    """Loss of a batch of images (b, h, w) at ``step``, which also trains what is trained along.

    That is the codebook, by moving averages, and the discriminator, by its own optimiser from
    ``adversarial_start`` of the steps on. ``figures`` holds the parts of the last loss. A
    ``StatefulLoss``: the training sets the step, and a resumed one has the same discriminator.
    """

    def __init__(self, network: Autoencoder, settings: VAESettings, noise: torch.Generator) -> None:
        """``noise``: a stream on the network's device."""
        self.network = network
        self.settings = settings
        self.noise = noise
        self.step = 0
        self.started = False  # whether the codebook has seen data
        self.parts: dict[str, Tensor] = {}
        self.discriminator: PatchDiscriminator | None = None
        self.judge: torch.optim.Optimizer | None = None
        if settings.adversarial_weight > 0:
            self.discriminator = PatchDiscriminator(
                network.phases or 1, width=settings.discriminator_width
            ).to(noise.device)
            self.judge = torch.optim.AdamW(
                self.discriminator.parameters(), lr=settings.discriminator_rate, betas=(0.5, 0.99)
            )

    @property
    def figures(self) -> dict[str, float]:
        return {name: float(part) for name, part in self.parts.items()}

    def state(self) -> dict[str, Tensor]:
        """Weights and moments of the discriminator; the codebook is the network's."""
        if self.discriminator is None or self.judge is None:
            return {}
        found = {f"judge.{k}": v for k, v in optimiser_tensors(self.judge).items()}
        return found | {f"weight.{k}": v for k, v in self.discriminator.state_dict().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Become what ``state`` gave, in place."""
        if self.discriminator is None or self.judge is None:
            return
        self.discriminator.load_state_dict(under("weight.", state))
        restore_optimiser(self.judge, under("judge.", state))

    def __call__(
        self, images: Tensor, values: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        s, network = self.settings, self.network
        self.parts = {}
        with torch.autocast(images.device.type, dtype=torch.bfloat16):
            mean, log_variance = network.encode(images, values, mask)
            if network.quantiser is None:
                epsilon = torch.randn(mean.shape, generator=self.noise, device=mean.device)
                latent = mean + (0.5 * log_variance).exp() * epsilon
                bottleneck = None
            else:
                latent, bottleneck = self._quantised(mean)
            output = network.decode(latent, values, mask).float()
        reconstruction = self._reconstruction(output, images)
        self.parts["reconstruction"] = reconstruction.detach()
        if bottleneck is None:
            each = kl_to_standard_normal(mean.float(), log_variance.float())
            kl = free_bits(each, s.free_bits)
            self.parts["kl_nats"] = kl.detach()
            weight = s.kl_weight * warm_up(self.step, s.kl_warmup)
            total = reconstruction + weight * kl / images[0].numel()
        else:
            total = reconstruction + s.commitment * bottleneck
        return self._with_features(total, output, images)

    def _quantised(self, mean: Tensor) -> tuple[Tensor, Tensor]:
        """The latent rounded to the codebook, and the commitment; the codebook follows."""
        quantiser = self.network.quantiser
        assert quantiser is not None
        learning = torch.is_grad_enabled()
        if learning and self.step == 0 and not self.started:
            quantiser.start(mean, self.noise)
            self.started = True
        found = quantiser(mean)
        if learning:
            quantiser.update(mean, found.indices, self.noise)
        self.parts["perplexity"] = found.perplexity
        return found.values, found.commitment

    def _reconstruction(self, output: Tensor, images: Tensor) -> Tensor:
        """−log p(x|z) per pixel, nats; of labels a mean weighted by their detail."""
        s, phases = self.settings, self.network.phases
        if phases is None:
            error = output[:, 0] - images
            return -log_normal(error, variance=s.deviation**2).mean() / images[0].numel()
        each = functional.cross_entropy(output, images.long(), reduction="none")
        if s.detail == 0:
            return each.mean()
        weights = detail_weights(images, phases)
        if s.detail != 1:
            weights = weights**s.detail
        return (weights * each).sum() / weights.sum()

    def _with_features(self, total: Tensor, output: Tensor, images: Tensor) -> Tensor:
        s, phases = self.settings, self.network.phases
        start = s.adversarial_start * s.steps
        judged = self.discriminator is not None and self.step >= start
        if not (s.two_point_weight or s.gradient_weight or judged):
            return total
        if phases is None:
            made, real = output, images[:, None].float()
        else:
            made, real = hard_fields(output), 0.5 + 0.5 * self.network.one_hot(images)
        if s.two_point_weight:
            part = two_point_loss(made, real)
            self.parts["two_point"] = part.detach()
            total = total + s.two_point_weight * part
        if s.gradient_weight:
            part = gradient_loss(made, real)
            self.parts["gradient"] = part.detach()
            total = total + s.gradient_weight * part
        if judged:
            total = total + s.adversarial_weight * self._judged(made, real)
        return total

    def _judged(self, made: Tensor, real: Tensor) -> Tensor:
        """One step of the discriminator; then what it makes of ``made``, gradient to that alone."""
        assert self.discriminator is not None
        assert self.judge is not None
        judge, optimiser = self.discriminator, self.judge
        if torch.is_grad_enabled():
            optimiser.zero_grad(set_to_none=True)
            loss = discriminator_loss(judge(real), judge(made.detach()))
            loss.backward()
            nn.utils.clip_grad_norm_(judge.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            self.parts["discriminator"] = loss.detach()
        judge.requires_grad_(False)  # the weights are not the encoder's and decoder's to move
        try:
            part = generator_loss(judge(made))
        finally:
            judge.requires_grad_(True)
        self.parts["adversarial"] = part.detach()
        return part
