"""Residual convolutions modulated by a condition."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class ModulatedConvolution(nn.Module):
    """adaLN-Zero residual block of two 3×3 convolutions: (b, c, h, w), condition (b, d).

    Dhariwal & Nichol 2021 (adaptive group normalisation), the gate from zero as in Peebles & Xie.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.groups = min(8, channels // 4)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulation = nn.Linear(width, 3 * channels)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale, gate = self.modulation(condition)[:, :, None, None].chunk(3, dim=1)
        y = functional.group_norm(x, self.groups) * (1 + scale) + shift
        y = self.conv1(functional.silu(y))
        y = self.conv2(functional.silu(functional.group_norm(y, self.groups)))
        return x + gate * y
