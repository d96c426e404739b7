"""Residual network over a short vector, modulated by time, properties and a context vector."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from generators.networks.conditioning import FourierFeatures, PropertyEmbedding


class ModulatedBlock(nn.Module):
    """adaLN-Zero feed-forward block: (b, d), condition (b, d) -> (b, d)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.feed = nn.Sequential(
            nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)
        )
        self.modulation = nn.Linear(width, 3 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale, gate = self.modulation(condition).chunk(3, dim=-1)
        y = functional.layer_norm(x, (x.shape[-1],)) * (1 + scale) + shift
        return x + gate * self.feed(y)


class VectorFlow(nn.Module):
    """Velocity of a vector (b, n) at times (b,), given properties (b, k) with mask and a context.

    ``context`` (b, f) holds what the vector is to go with: the features of a micrograph. With
    f = 0 there is none.
    """

    def __init__(self, *, size: int, context: int, properties: int, width: int, depth: int) -> None:
        super().__init__()
        self.size = size
        self.time_features = FourierFeatures(period=2.0)
        n_time = 2 * len(self.time_features.frequencies)
        self.time = nn.Sequential(nn.Linear(n_time, width), nn.SiLU(), nn.Linear(width, width))
        self.property = PropertyEmbedding(properties, width)
        self.context = (
            nn.Sequential(nn.Linear(context, width), nn.SiLU(), nn.Linear(width, width))
            if context
            else None
        )
        self.enter = nn.Linear(size, width)
        self.blocks = nn.ModuleList(ModulatedBlock(width) for _ in range(depth))
        self.leave = nn.Linear(width, size)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(
        self, x: Tensor, time: Tensor, context: Tensor, values: Tensor, mask: Tensor
    ) -> Tensor:
        condition = self.time(self.time_features(time)) + self.property(values, mask)
        if self.context is not None:
            condition = condition + self.context(context)
        condition = functional.silu(condition)
        y = self.enter(x)
        for block in self.blocks:
            y = block(y, condition)
        out: Tensor = self.leave(functional.layer_norm(y, (y.shape[-1],)))
        return out


def count_parameters(module: nn.Module) -> int:
    """Number of trained numbers."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
