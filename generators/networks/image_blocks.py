"""What a U-Net is made of: modulated residual blocks and attention over feature maps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

GROUP = 16  # channels; with channels last, CPUs are slow at groups narrower than a register


class Condition(NamedTuple):
    """What modulates a U-Net, one row for each row of the batch.

    ``vector`` (b, width): time and properties; ``modulation`` (b, m): of all residual blocks;
    ``tokens`` (b, k, width): the properties, None without cross-attention.
    """

    vector: Tensor
    modulation: Tensor
    tokens: Tensor | None


class ResidualBlock(nn.Module):
    """(b, before, h, w), shift and scale (b, 2·after) -> (b, after, h, w).

    Adaptive group normalisation of Dhariwal & Nichol 2021, section 3.1; the second convolution is
    zero at first.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.modulated = 2 * after
        self.norm = nn.GroupNorm(groups(before), before)
        self.conv1 = nn.Conv2d(before, after, 3, padding=1)
        self.groups = groups(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        silenced(self.conv2)
        self.past = nn.Identity() if before == after else nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        shift, scale = modulation[:, :, None, None].chunk(2, dim=1)
        y = self.conv1(functional.silu(self.norm(x)))
        y = torch.addcmul(shift, functional.group_norm(y, self.groups), 1 + scale)
        out: Tensor = self.past(x) + self.conv2(functional.silu(y))
        return out


class SpatialAttention(nn.Module):
    """x + attention between all pixels, then to tokens: (b, c, h, w), (b, k, d) -> (b, c, h, w).

    softmax(Q Kᵀ/√d) V with Q, K and V linear in the normalised pixels (Dhariwal & Nichol 2021,
    section 3.1); with ``tokens`` > 0, their width, a second one follows with K and V from them
    (Rombach et al. 2022, section 3.3). Both ways out are zero at first. Of ``heads`` as many as
    divide the channels too.
    """

    def __init__(self, channels: int, heads: int, *, tokens: int = 0) -> None:
        super().__init__()
        self.heads = math.gcd(channels, heads)
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        silenced(self.out)
        self.attends = tokens > 0
        if self.attends:
            self.cross_norm = nn.LayerNorm(channels)
            self.query = nn.Linear(channels, channels)
            self.keys_values = nn.Linear(tokens, 2 * channels)
            self.cross_out = nn.Linear(channels, channels)
            silenced(self.cross_out)

    def forward(self, x: Tensor, tokens: Tensor | None = None) -> Tensor:
        b, c, h, w = x.shape
        pixels = x.permute(0, 2, 3, 1).reshape(b, h * w, c)  # a view when channels come last
        q, k, v = self.qkv(self.norm(pixels)).chunk(3, dim=-1)
        pixels = pixels + self.out(self._attended(q, k, v))
        if self.attends and tokens is not None:
            k, v = self.keys_values(tokens).chunk(2, dim=-1)
            found = self._attended(self.query(self.cross_norm(pixels)), k, v)
            pixels = pixels + self.cross_out(found)
        return pixels.reshape(b, h, w, c).permute(0, 3, 1, 2)

    def _attended(self, *parts: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in parts)
        return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Stage(nn.Module):
    """A residual block with attention behind it, where there is any."""

    def __init__(self, before: int, after: int, attention: SpatialAttention | None) -> None:
        super().__init__()
        self.block = ResidualBlock(before, after)
        self.attention = attention

    def forward(self, x: Tensor, condition: Condition, modulations: Iterator[Tensor]) -> Tensor:
        x = self.block(x, next(modulations))
        return x if self.attention is None else self.attention(x, condition.tokens)


def groups(channels: int) -> int:
    """Groups to normalise ``channels`` in: of ``GROUP`` where they divide, else one."""
    return channels // GROUP if channels % GROUP == 0 else 1


def silenced(layer: nn.Module) -> None:
    """Weights and bias to zero: what the layer ends adds nothing before something is learned."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
