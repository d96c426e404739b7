"""Property conditions: any subset of properties, each with its own learned null."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class FourierFeatures(nn.Module):
    """Scalars (...,) to (..., 2·n): sines and cosines at octaves of a base period.

    A standardised property lies mostly in ±3; the lowest frequency spans that range once and the
    highest resolves a hundredth of it, so that nearby targets are told apart.
    """

    frequencies: Tensor

    def __init__(self, n: int = 6, *, period: float = 16.0) -> None:
        super().__init__()
        self.register_buffer("frequencies", 2 * math.pi / period * 2.0 ** torch.arange(n))

    def forward(self, x: Tensor) -> Tensor:
        angle = x[..., None] * self.frequencies
        return torch.cat([angle.sin(), angle.cos()], dim=-1)


def _projected(module: PropertyEmbedding | PropertyTokens, values: Tensor, mask: Tensor) -> Tensor:
    """(b, k, d): each property's Fourier features and value by its own matrix; finite if masked."""
    values = torch.where(mask, values, torch.zeros_like(values))
    features = torch.cat([module.features(values), values[..., None]], dim=-1)
    return torch.einsum("bkn,knd->bkd", features, module.weight) + module.bias


class PropertyEmbedding(nn.Module):
    """Standardised property values (b, k) with a mask (b, k) to one vector (b, d).

    A property whose mask is False contributes a learned null, whatever its value; with all
    masked the result is the unconditional embedding. Training and sampling use the same path.
    """

    def __init__(self, properties: int, width: int, *, hidden: int = 32) -> None:
        super().__init__()
        self.features = FourierFeatures()
        n = 2 * len(self.features.frequencies) + 1
        self.weight = nn.Parameter(torch.randn(properties, n, hidden) / math.sqrt(n))
        self.bias = nn.Parameter(torch.zeros(properties, hidden))
        self.null = nn.Parameter(torch.randn(properties, hidden) * 0.02)
        self.mix = nn.Sequential(
            nn.SiLU(), nn.Linear(properties * hidden, width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        tokens = torch.where(mask[..., None], _projected(self, values, mask), self.null)
        out: Tensor = self.mix(tokens.flatten(1))
        return out


class PropertyTokens(nn.Module):
    """Standardised property values (b, k) with a mask (b, k) to one token a property: (b, k, d).

    What cross-attention looks at. A masked property is its own learned null token, whatever its
    value, so that a guided batch has tokens of one shape; the features are those of
    ``PropertyEmbedding``.
    """

    def __init__(self, properties: int, width: int) -> None:
        super().__init__()
        self.features = FourierFeatures()
        n = 2 * len(self.features.frequencies) + 1
        self.weight = nn.Parameter(torch.randn(properties, n, width) / math.sqrt(n))
        self.bias = nn.Parameter(torch.randn(properties, width) * 0.02)
        self.null = nn.Parameter(torch.randn(properties, width) * 0.02)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        return torch.where(mask[..., None], _projected(self, values, mask), self.null)
