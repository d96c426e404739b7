"""Transformer between convolutions over one joint state: image latent and vectors.

Peebles & Xie 2023 (DiT, adaLN-Zero), with one token per latent patch and one per phase
composition, so that attention couples image and chemistry at every layer. Convolutions at the
latent's own resolution come before and after it (Hoogeboom et al. 2023, simple diffusion, section
2.3): they know that neighbouring patches continue each other, which attention has to learn.

Properties reach every block by modulation and, where ``attend`` is set, also by cross-attention
over one token a property (Rombach et al. 2022, section 3.3). What adapters add comes from outside
as ``Control``: this network knows nothing of them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from generators.networks.conditioning import FourierFeatures, PropertyEmbedding, PropertyTokens
from generators.networks.convolution import ModulatedConvolution

PATCH = 2  # sides of the squares of the latent that are one token


class Control(NamedTuple):
    """Terms that adapters add inside a ``JointTransformer``; zeros change no bit of its output.

    ``condition`` (b, width) or (width,): to the sum of time and properties, before its SiLU.
    ``features`` (b, channels, h, w): to the features that go past the blocks.
    ``tokens``: (b, n, width) each, after the first, second, ... block.
    """

    condition: Tensor | None = None
    features: Tensor | None = None
    tokens: tuple[Tensor, ...] = ()


class CrossAttention(nn.Module):
    """softmax(Q Kᵀ/√d) V with Q from tokens (b, n, width), K and V from others (b, k, width).

    d is the width of a head. Rombach et al. 2022, equation after (3). The way out is zero at
    first, so that nothing is added before something is learned.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.keys_values = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, others: Tensor) -> Tensor:
        b, n, width = x.shape
        q, k, v = (
            t.reshape(b, -1, self.heads, width // self.heads).transpose(1, 2)
            for t in (self.query(x), *self.keys_values(others).chunk(2, dim=-1))
        )
        found = functional.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.out(found.transpose(1, 2).reshape(b, n, width))
        return out


class Block(nn.Module):
    """adaLN-Zero block: self-attention and a feed-forward part, both scaled from zero.

    With ``across`` there is cross-attention to the property tokens (b, k, width) between the two.
    """

    across: CrossAttention | None

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
        self.register_module("across", None)

    def forward(self, x: Tensor, condition: Tensor, properties: Tensor | None = None) -> Tensor:
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
        if self.across is not None and properties is not None:
            x = x + self.across(functional.layer_norm(x, (d,)), properties)
        y = functional.layer_norm(x, (d,)) * (1 + scale2) + shift2
        return x + gate2 * self.feed(y)


class JointTransformer(nn.Module):
    """Velocity of the joint state: (b, n_state), time (b,), properties (b, k), mask (b, k).

    The state is the flattened concatenation of an image latent (c, s, s), absent when
    ``latent_shape`` is None, and of vectors (phase compositions, process variables) whose
    lengths are ``vector_sizes``. Each latent patch and each vector is one token of ``width``;
    the convolutions have ``channels`` channels. ``attend``: the blocks also look at a token of
    each property, its own learned null where it is masked; without it weights and numbers are
    those of a network that never had the option.
    Raises ValueError for an empty state and for ``attend`` without properties.
    """

    tokens: PropertyTokens | None

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
        attend: bool = False,
    ) -> None:
        super().__init__()
        if latent_shape is None and not vector_sizes:
            raise ValueError("joint state is empty: expected an image latent or vectors")
        if attend and not properties:
            raise ValueError("attend is set without properties: expected at least one to look at")
        self.latent_shape = latent_shape
        self.vector_sizes = vector_sizes
        self.patch = patch
        self.width, self.channels = width, channels
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
        self.register_module("tokens", None)
        if attend:  # drawn last: from one seed, all other weights are those without it
            self.tokens = PropertyTokens(properties, width)
            for block in self.blocks:
                block.across = CrossAttention(width, heads)

    @property
    def latent_size(self) -> int:
        return math.prod(self.latent_shape) if self.latent_shape else 0

    @property
    def state_size(self) -> int:
        return self.latent_size + sum(self.vector_sizes)

    def forward(
        self,
        state: Tensor,
        time: Tensor,
        values: Tensor,
        mask: Tensor,
        control: Control | None = None,
    ) -> Tensor:
        """``control``: what adapters add; see there."""
        added = control or Control()
        condition = self.conditioned(time, values, mask, added.condition)
        properties = None if self.tokens is None else self.tokens(values, mask)
        x, features = self.entered(state, condition)
        for i, block in enumerate(self.blocks):
            x = block(x, condition, properties)
            if i < len(added.tokens):
                x = x + added.tokens[i]
        shift, scale = self.final_modulation(condition)[:, None].chunk(2, dim=-1)
        x = functional.layer_norm(x, (x.shape[-1],)) * (1 + scale) + shift
        found: list[Tensor] = []
        if features is not None:
            if added.features is not None:
                features = features + added.features
            found.append(self._image(x[:, : self.image_tokens], features, condition))
        found += [f(x[:, self.image_tokens + i]) for i, f in enumerate(self.vectors_out)]
        return torch.cat(found, dim=1)

    def conditioned(
        self, time: Tensor, values: Tensor, mask: Tensor, added: Tensor | None = None
    ) -> Tensor:
        """What modulates every layer, (b, width); ``added``: as ``Control.condition``."""
        condition = self.time(self.time_features(time)) + self.property(values, mask)
        return functional.silu(condition if added is None else condition + added)

    def entered(
        self, state: Tensor, condition: Tensor, added: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Tokens (b, n, width) before the blocks and features (b, channels, h, w) past them.

        ``added`` (b, channels, h, w): to what the first convolution finds. Without an image there
        are no features.
        """
        latent, *vectors = state.split([self.latent_size, *self.vector_sizes], dim=1)
        tokens: list[Tensor] = []
        features = None
        if self.latent_shape is not None:
            features = self.enter(latent.reshape(-1, *self.latent_shape))
            features = self.before(features if added is None else features + added, condition)
            tokens.append(self.image_in(features).flatten(2).transpose(1, 2))
        tokens += [f(v)[:, None] for f, v in zip(self.vectors_in, vectors, strict=True)]
        return torch.cat(tokens, dim=1) + self.position, features

    def _image(self, tokens: Tensor, features: Tensor, condition: Tensor) -> Tensor:
        """Tokens (b, n, d) back to patches, added to the features before them: (b, c h w)."""
        b, channels, h, w = features.shape
        p = self.patch
        patches = self.image_out(tokens).reshape(b, h // p, w // p, channels, p, p)
        x = features + patches.permute(0, 3, 1, 4, 2, 5).reshape(b, channels, h, w)
        x = self.after(x, condition)
        x = functional.silu(functional.group_norm(x, self.after.groups))
        return self.leave(x).flatten(1)
