"""Convolutional autoencoder of phase-label images with a diagonal-Gaussian latent.

There are no connections from encoder to decoder: at generation time there is no encoder.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


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


class Autoencoder(nn.Module):
    """Label images (b, h, w) to latents (b, c, h/8, w/8) and back to logits (b, p, h, w).

    A pixel-unshuffle by 2 precedes the first and follows the last convolution: the labels carry
    little information per pixel, so half resolution at four times the channels loses nothing and
    costs a quarter. ``width`` is the channel count at half resolution.
    """

    factor = 8

    def __init__(self, phases: int, *, latent_channels: int, width: int) -> None:
        super().__init__()
        self.phases = phases
        w = width
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * phases, w, 3, padding=1),
            ResidualBlock(w),
            nn.Conv2d(w, 2 * w, 2, stride=2),
            ResidualBlock(2 * w),
            nn.Conv2d(2 * w, 4 * w, 2, stride=2),
            ResidualBlock(4 * w),
            ResidualBlock(4 * w),
            nn.GroupNorm(8, 4 * w),
            nn.SiLU(),
            nn.Conv2d(4 * w, 2 * latent_channels, 1),
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
            nn.Conv2d(w, 4 * phases, 3, padding=1),
            nn.PixelShuffle(2),
        )

    def one_hot(self, labels: Tensor) -> Tensor:
        """(b, h, w) integer labels -> (b, p, h, w) in {-1, 1}."""
        hot = functional.one_hot(labels.long(), self.phases).permute(0, 3, 1, 2)
        return 2.0 * hot.float() - 1.0

    def encode(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(b, h, w) labels -> mean and log-variance, each (b, c, h/8, w/8)."""
        mean, log_variance = self.encoder(self.one_hot(labels)).chunk(2, dim=1)
        return mean, log_variance.clamp(-12.0, 4.0)

    def decode(self, latent: Tensor) -> Tensor:
        """(b, c, h/8, w/8) -> logits (b, p, h, w)."""
        logits: Tensor = self.decoder(latent)
        return logits

    def decode_labels(self, latent: Tensor) -> Tensor:
        """(b, c, h/8, w/8) -> most probable labels (b, h, w), uint8."""
        return self.decode(latent).argmax(dim=1).to(torch.uint8)


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) ‖ N(0, 1)) elementwise: ½(µ² + σ² − log σ² − 1), in nats.

    Kingma & Welling 2014, Appendix B.
    """
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1.0)
