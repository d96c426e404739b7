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
from generators.training.distributed import average_gradients, row_weight
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
from generators.training.precision import Computation
from generators.training.resume import Batch, optimiser_tensors, restore_optimiser, under

if TYPE_CHECKING:
    from generators.vae import VAESettings


class AutoencoderLoss:
    """Loss of a batch of images (b, h, w) at ``step``, which also trains what is trained along.

    That is the codebook, by moving averages, and the discriminator, by its own optimiser from
    ``adversarial_start`` of the steps on. ``figures`` holds the parts of the last loss. A
    ``MovingLoss``: the training sets the step, and a resumed one has the same discriminator. Of a
    batch in parts the codebook follows all vectors at once, and the discriminator takes one step,
    after the last part; each part is judged by it as it was before.
    """

    def __init__(
        self,
        network: Autoencoder,
        settings: VAESettings,
        noise: torch.Generator,
        precision: str = "float32",
    ) -> None:
        """``noise``: a stream on the network's device; ``precision``: of encoder and decoder."""
        self.network = network
        self.settings = settings
        self.noise = noise
        self.how = Computation(precision)
        self.step = 0
        self.started = False  # whether the codebook has seen data
        self.begun = False
        self.rows = 0  # of a batch that comes in parts; 0: all at once
        self.coded: list[tuple[Tensor, Tensor]] = []  # means and the entries chosen for them
        # Whether codebook and discriminator have moved with this batch, which may come once more.
        self.followed = self.stepped = False
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

    def begin(self, batch: Batch, parts: int) -> Batch:
        """What follows is this batch, in so many parts."""
        self.begun, self.rows = True, len(batch[0]) if parts > 1 else 0
        self.coded = []
        if self.judge is not None:
            self.judge.zero_grad(set_to_none=True)
        return batch

    def end(self) -> None:
        """Codebook and discriminator follow the parts seen since ``begin``, if there were any."""
        if self.rows:
            self._follow()
            self._step()
        self.begun, self.rows = False, 0
        self.followed = self.stepped = False

    def __call__(
        self, images: Tensor, values: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Of images (b, h, w); the training's batch, or a part of it between begin and end."""
        with torch.autocast(images.device.type, enabled=False):  # but for encoder and decoder
            return self._of(images, values, mask)

    def _of(self, images: Tensor, values: Tensor | None, mask: Tensor | None) -> Tensor:
        s, network = self.settings, self.network
        self.parts = {}
        with self.how.autocast(images.device):
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
            self.coded.append((mean.detach(), found.indices))
            if not self.rows:
                self._follow()
        self.parts["perplexity"] = found.perplexity
        return found.values, found.commitment

    def _follow(self) -> None:
        """The codebook's step toward what was coded."""
        quantiser = self.network.quantiser
        if quantiser is not None and self.coded and not self.followed:
            means, indices = (torch.cat(column) for column in zip(*self.coded, strict=True))
            quantiser.update(means, indices, self.noise)
            self.followed = self.begun
        self.coded = []

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
        """One step of the discriminator; then what it makes of ``made``, gradient to that alone.

        Of a part its gradient is left, and the step is for ``end``.
        """
        assert self.discriminator is not None
        judge = self.discriminator
        if torch.is_grad_enabled() and not self.stepped:
            loss = discriminator_loss(judge(real), judge(made.detach()))
            share = len(real) / self.rows if self.rows else 1.0
            (loss * (share * row_weight(self.rows or len(real), real.device))).backward()
            if not self.rows:
                self._step()
            self.parts["discriminator"] = loss.detach()
        judge.requires_grad_(False)  # the weights are not the encoder's and decoder's to move
        try:
            part = generator_loss(judge(made))
        finally:
            judge.requires_grad_(True)
        self.parts["adversarial"] = part.detach()
        return part

    def _step(self) -> None:
        """The discriminator's step along the gradients it has, if any."""
        if self.discriminator is None or self.judge is None:
            return
        parameters = list(self.discriminator.parameters())
        if any(p.grad is not None for p in parameters):
            average_gradients(parameters)
            nn.utils.clip_grad_norm_(parameters, 1.0)
            self.judge.step()
            self.stepped = self.begun
        self.judge.zero_grad(set_to_none=True)
