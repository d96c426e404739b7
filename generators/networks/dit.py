"""Diffusion transformer over one joint state: image-latent patches and phase compositions.

Peebles & Xie 2023 (DiT, adaLN-Zero), with one token per latent patch and one per phase
composition, so that attention couples image and chemistry at every layer.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from generators.networks.conditioning import FourierFeatures, PropertyEmbedding

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
    lengths are ``vector_sizes``. Each latent patch and each vector is one token.
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
            self.image_in = nn.Linear(c * patch * patch, width)
            self.image_out = nn.Linear(width, c * patch * patch)
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
        last = list(self.vectors_out) + ([self.image_out] if latent_shape else [])
        for layer in last:
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    @property
    def latent_size(self) -> int:
        return math.prod(self.latent_shape) if self.latent_shape else 0

    @property
    def state_size(self) -> int:
        return self.latent_size + sum(self.vector_sizes)

    def _tokens(self, state: Tensor) -> Tensor:
        parts = []
        b = state.shape[0]
        latent, *vectors = state.split([self.latent_size, *self.vector_sizes], dim=1)
        if self.latent_shape is not None:
            c, h, w = self.latent_shape
            p = self.patch
            z = latent.reshape(b, c, h // p, p, w // p, p)
            z = z.permute(0, 2, 4, 1, 3, 5).reshape(b, self.image_tokens, c * p * p)
            parts.append(self.image_in(z))
        for layer, vector in zip(self.vectors_in, vectors, strict=True):
            parts.append(layer(vector)[:, None])
        return torch.cat(parts, dim=1) + self.position

    def _state(self, tokens: Tensor) -> Tensor:
        parts = []
        b = tokens.shape[0]
        if self.latent_shape is not None:
            c, h, w = self.latent_shape
            p = self.patch
            z = self.image_out(tokens[:, : self.image_tokens])
            z = z.reshape(b, h // p, w // p, c, p, p).permute(0, 3, 1, 4, 2, 5)
            parts.append(z.reshape(b, c * h * w))
        for i, layer in enumerate(self.vectors_out):
            parts.append(layer(tokens[:, self.image_tokens + i]))
        return torch.cat(parts, dim=1)

    def forward(self, state: Tensor, time: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        x = self._tokens(state)
        condition = self.time(self.time_features(time)) + self.property(values, mask)
        condition = functional.silu(condition)
        for block in self.blocks:
            x = block(x, condition)
        shift, scale = self.final_modulation(condition)[:, None].chunk(2, dim=-1)
        x = functional.layer_norm(x, (x.shape[-1],)) * (1 + scale) + shift
        return self._state(x)
