"""Convolutional autoencoder of phase-label or grey images with a Gaussian or quantised latent.

There are no connections from encoder to decoder: at generation time there is no encoder.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from generators.networks.conditioning import PropertyEmbedding
from generators.networks.labelling import most_probable
from generators.networks.vq import VectorQuantiser

CONDITION = 64  # width of the embedded properties


class ResidualBlock(nn.Module):
    """Pre-activation residual block: norm, SiLU, 3×3 convolution, twice. Keeps (b, c, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(min(8, channels // 4), channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(min(8, channels // 4), channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]  # made with a bias

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(functional.silu(self.norm1(x)))
        return x + self.conv2(functional.silu(self.norm2(y)))


class FeatureModulation(nn.Module):
    """Scale and shift of channels by a condition: (b, c, h, w), (b, d) -> (b, c, h, w).

    Perez et al. 2018 (FiLM); the identity at initialisation.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(width, 2 * channels)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        return x * (1 + scale) + shift


class Autoencoder(nn.Module):
    """Images (b, h, w) to latents (b, c, h/8, w/8) and back, any h and w that are multiples of 8.

    ``phases``: of label images, whose decoder gives logits (b, p, h, w); None for grey images in
    [0, 1], whose decoder gives their mean (b, 1, h, w). ``width`` is the channel count at half
    resolution. ``properties``: how many condition encoder and decoder, FiLM after each residual
    block; without, every image is coded alike. ``codes``: entries of a codebook; without, the
    latent is Gaussian.

    A pixel-unshuffle by 2 precedes the first and follows the last convolution: the labels carry
    little information per pixel, so half resolution at four times the channels loses nothing and
    costs a quarter.
    """

    factor = 8

    def __init__(
        self,
        phases: int | None,
        *,
        latent_channels: int,
        width: int,
        properties: int = 0,
        codes: int = 0,
    ) -> None:
        super().__init__()
        self.phases = phases
        self.properties = properties
        channels = phases or 1
        w = width
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * channels, w, 3, padding=1),
            ResidualBlock(w),
            nn.Conv2d(w, 2 * w, 2, stride=2),
            ResidualBlock(2 * w),
            nn.Conv2d(2 * w, 4 * w, 2, stride=2),
            ResidualBlock(4 * w),
            ResidualBlock(4 * w),
            nn.GroupNorm(8, 4 * w),
            nn.SiLU(),
            nn.Conv2d(4 * w, latent_channels if codes else 2 * latent_channels, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_channels, 4 * w, 3, padding=1),
            ResidualBlock(4 * w),
            ResidualBlock(4 * w),
            nn.Conv2d(4 * w, 8 * w, 1),
            nn.PixelShuffle(2),
            ResidualBlock(2 * w),
            ResidualBlock(2 * w),
            nn.Conv2d(2 * w, 4 * w, 1),
            nn.PixelShuffle(2),
            ResidualBlock(w),
            nn.GroupNorm(min(8, w // 4), w),
            nn.SiLU(),
            nn.Conv2d(w, 4 * channels, 3, padding=1),
            nn.PixelShuffle(2),
        )
        self.quantiser = VectorQuantiser(codes, latent_channels) if codes else None
        self.embedding = PropertyEmbedding(properties, CONDITION) if properties else None
        blocks = [x for x in (*self.encoder, *self.decoder) if isinstance(x, ResidualBlock)]
        self.in_encoder = sum(isinstance(x, ResidualBlock) for x in self.encoder)
        self.modulations = nn.ModuleList(
            FeatureModulation(block.conv1.in_channels, CONDITION)
            for block in (blocks if properties else [])
        )

    def one_hot(self, labels: Tensor) -> Tensor:
        """(b, h, w) integer labels -> (b, p, h, w) in {-1, 1}."""
        assert self.phases is not None
        hot = functional.one_hot(labels.long(), self.phases).permute(0, 3, 1, 2)
        return 2.0 * hot.float() - 1.0

    def fields(self, images: Tensor) -> Tensor:
        """What the encoder sees, in [-1, 1]: (b, p, h, w) of labels, (b, 1, h, w) of grey."""
        return self.one_hot(images) if self.phases is not None else 2.0 * images[:, None] - 1.0

    def encode(
        self, images: Tensor, values: Tensor | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(b, h, w) images -> mean and log-variance, each (b, c, h/8, w/8).

        ``values`` (b, k): standardised properties, of which those in ``mask`` (b, k) are known;
        None: unknown. A quantised latent is certain: log-variance -inf, and the mean is what the
        codebook has not rounded yet.
        """
        found = self._run(self.encoder, self.fields(images), values, mask)
        if self.quantiser is not None:
            return found, torch.full_like(found, -math.inf)
        mean, log_variance = found.chunk(2, dim=1)
        return mean, log_variance.clamp(-12.0, 4.0)

    def decode(
        self, latent: Tensor, values: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """(b, c, h/8, w/8) -> logits (b, p, h, w), or the mean (b, 1, h, w) of a grey image.

        The codebook, where there is one, is part of the decoder.
        """
        if self.quantiser is not None:
            latent = self.quantiser(latent).values
        out = self._run(self.decoder, latent, values, mask)
        return out if self.phases is not None else 0.5 + 0.5 * out

    def _run(
        self, layers: nn.Sequential, x: Tensor, values: Tensor | None, mask: Tensor | None
    ) -> Tensor:
        """Encoder or decoder, under the condition where there is one."""
        if self.embedding is None:
            plain: Tensor = layers(x)
            return plain
        if values is None or mask is None:
            values = torch.zeros(len(x), self.properties, device=x.device)
            mask = torch.zeros_like(values, dtype=torch.bool)
        condition = functional.silu(self.embedding(values, mask))
        first = self.in_encoder
        modulations = iter(
            self.modulations[:first] if layers is self.encoder else self.modulations[first:]
        )
        for layer in layers:
            x = layer(x)
            if isinstance(layer, ResidualBlock):
                x = next(modulations)(x, condition)
        return x

    def decode_labels(
        self, latent: Tensor, values: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """(b, c, h/8, w/8) -> ``most_probable`` labels (b, h, w), uint8."""
        return most_probable(self.decode(latent, values, mask))

    def decode_images(
        self, latent: Tensor, values: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Labels (b, h, w) uint8, or grey values (b, h, w) float32 in [0, 1]."""
        if self.phases is not None:
            return self.decode_labels(latent, values, mask)
        return self.decode(latent, values, mask)[:, 0].float().clamp(0.0, 1.0)


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) ‖ N(0, 1)) elementwise: ½(µ² + σ² − log σ² − 1), in nats.

    Kingma & Welling 2014, Appendix B.
    """
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1.0)
