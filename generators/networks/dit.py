"""Transformer between convolutions over one joint state: image latent and vectors.

Peebles & Xie 2023 (DiT, adaLN-Zero), with one token per latent patch and one per phase
composition, so that attention couples image and chemistry at every layer. Convolutions at the
latent's own resolution come before and after it (Hoogeboom et al. 2023, simple diffusion, section
2.3): they know that neighbouring patches continue each other, which attention has to learn.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from generators.networks.conditioning import FourierFeatures, PropertyEmbedding
from generators.networks.convolution import ModulatedConvolution

PATCH = 2  # sides of the squares of the latent that are one token


class Block(nn.Module):
    """adaLN-Zero block: self-attention and a feed-forward part, both scaled from zero."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.feed = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        b, n, d = x.shape
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition)[:, None].chunk(
            6, dim=-1
        )
        y = functional.layer_norm(x, (d,)) * (1 + scale1) + shift1
        q, k, v = (
            t.reshape(b, n, self.heads, d // self.heads).transpose(1, 2)
            for t in self.qkv(y).chunk(3, dim=-1)
        )
        attended = functional.scaled_dot_product_attention(q, k, v)
        x = x + gate1 * self.out(attended.transpose(1, 2).reshape(b, n, d))
        y = functional.layer_norm(x, (d,)) * (1 + scale2) + shift2
        return x + gate2 * self.feed(y)


class JointTransformer(nn.Module):
    """Velocity of the joint state: (b, n_state), time (b,), properties (b, k), mask (b, k).

    The state is the flattened concatenation of an image latent (c, s, s), absent when
    ``latent_shape`` is None, and of vectors (phase compositions, process variables) whose
    lengths are ``vector_sizes``. Each latent patch and each vector is one token of ``width``;
    the convolutions have ``channels`` channels.
    """

    def __init__(
        self,
        *,
        latent_shape: tuple[int, int, int] | None,
        vector_sizes: tuple[int, ...],
        properties: int,
        width: int,
        depth: int,
        heads: int,
        channels: int,
        patch: int = PATCH,
    ) -> None:
        super().__init__()
        if latent_shape is None and not vector_sizes:
            raise ValueError("joint state is empty: expected an image latent or vectors")
        self.latent_shape = latent_shape
        self.vector_sizes = vector_sizes
        self.patch = patch
        tokens = len(vector_sizes)
        if latent_shape is not None:
            c, h, w = latent_shape
            self.image_tokens = (h // patch) * (w // patch)
            tokens += self.image_tokens
            self.enter = nn.Conv2d(c, channels, 3, padding=1)
            self.before = ModulatedConvolution(channels, width)
            self.image_in = nn.Conv2d(channels, width, patch, stride=patch)
            self.image_out = nn.Linear(width, channels * patch * patch)
            self.after = ModulatedConvolution(channels, width)
            self.leave = nn.Conv2d(channels, c, 3, padding=1)
        else:
            self.image_tokens = 0
        self.vectors_in = nn.ModuleList(nn.Linear(n, width) for n in vector_sizes)
        self.vectors_out = nn.ModuleList(nn.Linear(width, n) for n in vector_sizes)
        self.position = nn.Parameter(torch.randn(tokens, width) * 0.02)
        self.time_features = FourierFeatures(period=2.0)
        n_time = 2 * len(self.time_features.frequencies)
        self.time = nn.Sequential(nn.Linear(n_time, width), nn.SiLU(), nn.Linear(width, width))
        self.property = PropertyEmbedding(properties, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.final_modulation = nn.Linear(width, 2 * width)
        nn.init.zeros_(self.final_modulation.weight)
        nn.init.zeros_(self.final_modulation.bias)
        last: list[nn.Module] = [*self.vectors_out, *([self.leave] if latent_shape else [])]
        for layer in last:
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    @property
    def latent_size(self) -> int:
        return math.prod(self.latent_shape) if self.latent_shape else 0

    @property
    def state_size(self) -> int:
        return self.latent_size + sum(self.vector_sizes)

    def forward(self, state: Tensor, time: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        condition = self.time(self.time_features(time)) + self.property(values, mask)
        condition = functional.silu(condition)
        latent, *vectors = state.split([self.latent_size, *self.vector_sizes], dim=1)
        tokens: list[Tensor] = []
        features = None
        if self.latent_shape is not None:
            image = latent.reshape(-1, *self.latent_shape)
            features = self.before(self.enter(image), condition)
            tokens.append(self.image_in(features).flatten(2).transpose(1, 2))
        tokens += [f(v)[:, None] for f, v in zip(self.vectors_in, vectors, strict=True)]
        x = torch.cat(tokens, dim=1) + self.position
        for block in self.blocks:
            x = block(x, condition)
        shift, scale = self.final_modulation(condition)[:, None].chunk(2, dim=-1)
        x = functional.layer_norm(x, (x.shape[-1],)) * (1 + scale) + shift
        found: list[Tensor] = []
        if features is not None:
            found.append(self._image(x[:, : self.image_tokens], features, condition))
        found += [f(x[:, self.image_tokens + i]) for i, f in enumerate(self.vectors_out)]
        return torch.cat(found, dim=1)

    def _image(self, tokens: Tensor, features: Tensor, condition: Tensor) -> Tensor:
        """Tokens (b, n, d) back to patches, added to the features before them: (b, c h w)."""
        b, channels, h, w = features.shape
        p = self.patch
        patches = self.image_out(tokens).reshape(b, h // p, w // p, channels, p, p)
        x = features + patches.permute(0, 3, 1, 4, 2, 5).reshape(b, channels, h, w)
        x = self.after(x, condition)
        x = functional.silu(functional.group_norm(x, self.after.groups))
        return self.leave(x).flatten(1)
