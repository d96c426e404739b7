"""What an image is like, told from its latent: a few convolutions and a mean over the image."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class StatisticsNetwork(nn.Module):
    """Latents (b, ``channels``, h, w) of periodic images -> (b, ``outputs``).

    Smooth, for its derivatives are what it is for. It does not change when an image is shifted by
    cells of the latent.
    """

    def __init__(self, *, channels: int, outputs: int, width: int, depth: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels, width, 3, padding=1, padding_mode="circular")
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.SiLU(),
                nn.Conv2d(width, width, 3, padding=1, padding_mode="circular"),
                nn.SiLU(),
                nn.Conv2d(width, width, 1),
            )
            for _ in range(depth)
        )
        self.leave = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, outputs))

    def forward(self, latent: Tensor) -> Tensor:
        y = self.enter(latent)
        for block in self.blocks:
            y = y + block(y)
        found: Tensor = self.leave(functional.silu(y).mean((2, 3)))
        return found
