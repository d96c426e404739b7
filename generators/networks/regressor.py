"""Property regressor of noised joint states: the first half of a denoiser, then a readout.

As the classifiers of Dhariwal & Nichol 2021 (section 4.3, appendix H): the trunk of the generator
at a smaller size, modulated by the time, its tokens pooled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from generators.networks.conditioning import FourierFeatures
from generators.networks.convolution import ModulatedConvolution
from generators.networks.dit import PATCH, Block
from loop.errors import InvalidCampaignError


@dataclass(frozen=True, slots=True)
class RegressorSettings:
    """``train``: whether there is one; the others are its sizes and training lengths."""

    train: bool = False
    width: int = 64
    depth: int = 2
    heads: int = 4
    channels: int = 16
    first_steps: int = 800
    retrain_steps: int = 150
    batch: int = 128
    rate: float = 2e-3
    retrain_rate: float = 5e-4


def check_regressor(settings: RegressorSettings) -> None:
    """Raise InvalidCampaignError for sizes that do not go together."""
    for name, size, of in (
        ("width", settings.width, settings.heads),
        ("channels", settings.channels, 8),
    ):
        if size % of:
            raise InvalidCampaignError(
                f"generator.settings.regressor: {name} is {size}; expected a multiple of {of}"
                + (" (heads)" if name == "width" else "")
            )


class StateRegressor(nn.Module):
    """States (b, d), times (b,) -> (b, ``outputs``), zero before any training.

    The state is that of ``JointTransformer``: an image latent (c, h, w), absent when
    ``latent_shape`` is None, and vectors of ``vector_sizes``. Image tokens are pooled by their
    mean, vectors keep their places. Raises ValueError for an empty state.
    """

    def __init__(
        self,
        *,
        latent_shape: tuple[int, int, int] | None,
        vector_sizes: tuple[int, ...],
        outputs: int,
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
        self.latent_size = math.prod(latent_shape) if latent_shape else 0
        self.image_tokens = 0
        if latent_shape is not None:
            c, h, w = latent_shape
            self.image_tokens = (h // patch) * (w // patch)
            self.enter = nn.Conv2d(c, channels, 3, padding=1)
            self.before = ModulatedConvolution(channels, width)
            self.image_in = nn.Conv2d(channels, width, patch, stride=patch)
        self.vectors_in = nn.ModuleList(nn.Linear(n, width) for n in vector_sizes)
        tokens = self.image_tokens + len(vector_sizes)
        self.position = nn.Parameter(torch.randn(tokens, width) * 0.02)
        self.time_features = FourierFeatures(period=2.0)
        n_time = 2 * len(self.time_features.frequencies)
        self.time = nn.Sequential(nn.Linear(n_time, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        pooled = (latent_shape is not None) + len(vector_sizes)
        self.readout = nn.Sequential(
            nn.Linear((pooled + 1) * width, width), nn.SiLU(), nn.Linear(width, outputs)
        )
        last = self.readout[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, state: Tensor, time: Tensor) -> Tensor:
        condition = functional.silu(self.time(self.time_features(time)))
        latent, *vectors = state.split([self.latent_size, *self.vector_sizes], dim=1)
        tokens: list[Tensor] = []
        if self.latent_shape is not None:
            features = self.enter(latent.reshape(-1, *self.latent_shape))
            features = self.before(features, condition)
            tokens.append(self.image_in(features).flatten(2).transpose(1, 2))
        tokens += [f(v)[:, None] for f, v in zip(self.vectors_in, vectors, strict=True)]
        x = torch.cat(tokens, dim=1) + self.position
        for block in self.blocks:
            x = block(x, condition)
        x = functional.layer_norm(x, (x.shape[-1],))
        pooled = [x[:, self.image_tokens :].flatten(1), condition]
        if self.image_tokens:
            pooled.insert(0, x[:, : self.image_tokens].mean(1))
        found: Tensor = self.readout(torch.cat(pooled, dim=1))
        return found
