"""Patch discriminator: which patches of an image look made?"""

from __future__ import annotations

from torch import Tensor, nn

PATCH = 18  # px, what one logit sees


class PatchDiscriminator(nn.Module):
    """Fields (b, c, h, w) to logits (b, 1, h/4, w/4), one for each patch of 18 x 18 pixels.

    Isola et al. 2017 (PatchGAN), section 3.2.2, shallower: the images' features are a few pixels
    wide. No normalisation, so that a logit sees its patch and nothing else.
    """

    def __init__(self, channels: int, *, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 3, padding=1),
        )

    def forward(self, fields: Tensor) -> Tensor:
        logits: Tensor = self.layers(fields)
        return logits
