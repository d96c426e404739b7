"""Adversarial pair over designs: noise to label fields and coded vectors, and what judges both.

Goodfellow et al. 2014; the critic sees the condition by projection (Miyato & Koyama 2018).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from generators.networks.conditioning import PropertyEmbedding
from generators.networks.convolution import ModulatedConvolution
from generators.networks.mlp import ModulatedBlock

FACTOR = 8  # pixels of the image for one of the coarsest field
SLOPE = 0.2  # of the leaky rectifiers
START = 64  # images that the first level of the logits is measured on


class Layout(NamedTuple):
    """A design as one vector: ``shape`` (p, h, w) of its phase fields or None, ``vectors`` v.

    Fields are divided by √(h w) and vectors by √v, so that a squared distance is twice the share
    of the pixels that differ plus the mean square over the coordinates: neither part drowns the
    other, and slopes mean the same for images of all sizes.
    """

    shape: tuple[int, int, int] | None
    vectors: int

    def join(self, fields: Tensor | None, vectors: Tensor) -> Tensor:
        """Fields (b, p, h, w) and vectors (b, v) to states (b, d)."""
        scaled = vectors / math.sqrt(max(1, self.vectors))
        if fields is None or self.shape is None:
            return scaled
        return torch.cat([fields.flatten(1) / self._side, scaled], dim=1)

    def split(self, states: Tensor) -> tuple[Tensor | None, Tensor]:
        """The inverse of ``join``."""
        if self.shape is None:
            return None, states * math.sqrt(max(1, self.vectors))
        fields, vectors = states.tensor_split([math.prod(self.shape)], dim=1)
        return fields.reshape(-1, *self.shape) * self._side, vectors * math.sqrt(
            max(1, self.vectors)
        )

    @property
    def _side(self) -> float:
        assert self.shape is not None
        return math.sqrt(self.shape[1] * self.shape[2])


def smoothed(fields: Tensor) -> Tensor:
    """Fields (b, c, h, w) under the binomial filter (1, 2, 1)/4 along both axes.

    What rises to twice the resolution has steps between its blocks; without them boundaries of
    phases are as smooth as they are learned (Karras et al. 2019, section 2).
    """
    x = functional.pad(fields, (1, 1, 1, 1), mode="replicate")
    x = 0.25 * (x[..., :-2] + x[..., 2:]) + 0.5 * x[..., 1:-1]
    return 0.25 * (x[..., :-2, :] + x[..., 2:, :]) + 0.5 * x[..., 1:-1, :]


class DesignGenerator(nn.Module):
    """Noise (b, ``noise``), properties (b, k) with a mask (b, k) -> logits and coded vectors.

    The first ``latent`` numbers of the noise, with the properties, modulate every layer; the
    others are a field of ``local`` channels at an eighth of the resolution, so that each place of
    a micrograph is decided near it (Jetchev et al. 2016, spatial GAN). The vectors are a linear
    function of the latent and a correction, zero at first, which also sees the mean of the image's
    features: compositions go with an image.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        properties: int,
        latent: int,
        local: int,
        channels: int,
        width: int,
        depth: int,
    ) -> None:
        """``channels``: at half resolution, a multiple of 4; ``width``: of the condition."""
        super().__init__()
        self.layout, self.properties = layout, properties
        self.latent = self.noise = latent
        self.property = PropertyEmbedding(properties, width)
        self.style = nn.Sequential(
            nn.Linear(latent, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        self.combine = nn.Linear(2 * width, width)
        seen = width
        if layout.shape is not None:
            p, h, w = layout.shape
            self.field = (local, h // FACTOR, w // FACTOR)
            self.noise += math.prod(self.field)
            c = channels
            self.into = nn.Conv2d(local, 4 * c, 3, padding=1)
            self.layers = nn.ModuleList(ModulatedConvolution(n, width) for n in (4 * c, 2 * c, c))
            self.rise = nn.ModuleList(nn.Conv2d(2 * n, 4 * n, 1) for n in (2 * c, c))
            self.out = nn.Conv2d(c, 4 * p, 3, padding=1)
            seen += c
        if layout.vectors:
            self.enter = nn.Linear(seen, width)
            self.blocks = nn.ModuleList(ModulatedBlock(width) for _ in range(depth))
            self.leave = nn.Linear(width, layout.vectors)
            nn.init.zeros_(self.leave.weight)
            nn.init.zeros_(self.leave.bias)
            self.linear = nn.Linear(latent, layout.vectors)

    @torch.no_grad()
    def start(self, labels: Tensor, rows: Tensor, noise: torch.Generator) -> None:
        """Begin at what is easily known of the data: labels (n, h, w) and vectors (n, v).

        Logits have the log of the phases' shares as their mean and a deviation of 1, so that the
        first images are blobs of every phase, more of what there is more of; the vectors are
        normal, with the covariance of the rows (by their first ``latent`` principal components).
        No part has to be found out of nothing. ``noise``: a stream on the CPU.
        """
        if self.layout.shape is not None:
            p = self.layout.shape[0]
            shares = torch.bincount(labels.flatten().long(), minlength=p).double() + 1.0
            level = (shares / shares.sum()).log().repeat_interleave(4).to(self.out.weight)
            z = torch.randn(START, self.noise, generator=noise).to(self.out.weight)
            nothing = z.new_zeros(START, self.properties)
            _, condition = self._condition(z, nothing, nothing.bool())
            found = self.out(self._features(z, condition))
            std, mean = torch.std_mean(found, dim=(0, 2, 3))
            std = std.clamp_min(1e-6)
            assert self.out.bias is not None
            self.out.weight /= std[:, None, None, None]
            self.out.bias.copy_((self.out.bias - mean) / std + level)
        if self.layout.vectors:
            mean = rows.mean(0)
            _, singular, axes = torch.linalg.svd((rows - mean).double(), full_matrices=False)
            q = min(len(singular), self.latent)
            self.linear.weight.zero_()
            self.linear.weight[:, :q] = (axes[:q].T * singular[:q] / math.sqrt(len(rows))).to(rows)
            self.linear.bias.copy_(mean)

    def _condition(self, noise: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """What the latent says, and what it says with the properties; each (b, width)."""
        style = self.style(noise[:, : self.latent])
        both = torch.cat([style, self.property(values, mask)], dim=1)
        return style, functional.silu(self.combine(both))

    def _features(self, noise: Tensor, condition: Tensor) -> Tensor:
        """(b, channels, h/2, w/2)"""
        x: Tensor = self.into(noise[:, self.latent :].reshape(-1, *self.field))
        for i, layer in enumerate(self.layers):
            if i:
                x = functional.pixel_shuffle(self.rise[i - 1](x), 2)
            x = layer(x, condition)
        return functional.silu(x)

    def forward(self, noise: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor | None, Tensor]:
        """Logits (b, p, h, w), None without images, and vectors (b, v); v may be 0."""
        style, condition = self._condition(noise, values, mask)
        logits, seen = None, style
        if self.layout.shape is not None:
            x = self._features(noise, condition)
            logits = smoothed(functional.pixel_shuffle(self.out(x), 2))
            seen = torch.cat([style, x.mean((2, 3))], dim=1)
        if not self.layout.vectors:
            return logits, noise.new_zeros(len(noise), 0)
        y = self.enter(seen)
        for block in self.blocks:
            y = block(y, condition)
        corrected = self.linear(noise[:, : self.latent]) + self.leave(functional.silu(y))
        return logits, corrected

    def fields(self, noise: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """States (b, d) of the made designs: probabilities of the phases, and the vectors."""
        logits, vectors = self(noise, values, mask)
        return self.layout.join(None if logits is None else logits.softmax(1), vectors)


class Critic(nn.Module):
    """States (b, d), properties (b, k) with a mask (b, k) -> scores (b,).

    f(x, y) = ψ(φ(x)) + V(y)·φ(x)/√d (Miyato & Koyama 2018, equation 3), V an embedding with a
    learned null for each property, so that any subset of them is judged. No normalisation, which
    would let designs of a batch judge each other (Gulrajani et al. 2017, section 4).
    """

    def __init__(
        self, layout: Layout, *, properties: int, channels: int, width: int, depth: int
    ) -> None:
        super().__init__()
        self.layout = layout
        seen = layout.vectors
        if layout.shape is not None:
            c = channels
            self.look = nn.Sequential(
                nn.PixelUnshuffle(2),
                nn.Conv2d(4 * layout.shape[0], c, 3, padding=1),
                nn.LeakyReLU(SLOPE),
                nn.Conv2d(c, 2 * c, 4, stride=2, padding=1),
                nn.LeakyReLU(SLOPE),
                nn.Conv2d(2 * c, 4 * c, 4, stride=2, padding=1),
                nn.LeakyReLU(SLOPE),
                nn.Conv2d(4 * c, 4 * c, 3, padding=1),
                nn.LeakyReLU(SLOPE),
            )
            seen += 4 * c
        layers: list[nn.Module] = [nn.Linear(seen, width), nn.LeakyReLU(SLOPE)]
        for _ in range(depth):
            layers += [nn.Linear(width, width), nn.LeakyReLU(SLOPE)]
        self.judge = nn.Sequential(*layers)
        self.score = nn.Linear(width, 1)
        self.property = PropertyEmbedding(properties, width)

    def forward(self, states: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        fields, vectors = self.layout.split(states)
        if fields is not None:
            found = self.look(2.0 * fields - 1.0).mean((2, 3))
            vectors = torch.cat([found, vectors], dim=1)
        phi = self.judge(vectors)
        seen = (phi * self.property(values, mask)).sum(1) / math.sqrt(phi.shape[1])
        score: Tensor = self.score(phi)[:, 0] + seen
        return score
