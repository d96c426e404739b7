"""U-Net over images, in a latent or in pixels, conditioned on time and properties.

Ho et al. 2020 (appendix B) with the changes of Dhariwal & Nichol 2021 (section 3): residual blocks
whose second normalisation is modulated by time and properties, attention at chosen resolutions and
a zero-initialised output. At the coarsest level a transformer joins the pixels and further tokens.

Time and properties are met first, and the modulations of all blocks come of one product
(``conditioned``): a thousandth of an evaluation, so that samplers need not keep them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from generators.networks.conditioning import FourierFeatures, PropertyEmbedding, PropertyTokens
from generators.networks.dit import Block, CrossAttention
from generators.networks.image_blocks import (
    Condition,
    ResidualBlock,
    SpatialAttention,
    Stage,
    groups,
    silenced,
)
from loop.errors import InvalidInputError

MULTIPLES = (1, 2, 3, 4)  # channels of a level over the finest's; further levels as the last
COARSEST = 8  # px a side at most, where a ``JointUNet`` has its transformer
ATTENDED = 16  # px a side at most, where its pixels attend to each other


class UNet(nn.Module):
    """Images (b, c, h, w), times (b,), properties (b, k), mask (b, k) -> (b, c, h, w).

    ``channels``: of each level, the finest first; each level halves the sides of the one before.
    ``blocks``: residual blocks of a level on the way down, one more on the way up. ``attention``:
    the levels (0 the finest) with self-attention behind each block, of ``heads`` heads. ``depth``:
    transformer blocks of ``width`` at the coarsest level, over its pixels and further tokens, if
    any. ``attend``: attention of both kinds also looks at a token of each property. Sides other
    than ``shape``'s will do where they halve as often; then positions are interpolated.
    Raises InvalidInputError for sides that do not, ValueError for settings that contradict.
    """

    tokens: PropertyTokens | None

    def __init__(
        self,
        *,
        shape: tuple[int, int, int],
        properties: int,
        width: int,
        channels: Sequence[int],
        heads: int,
        blocks: int = 2,
        depth: int = 1,
        attention: Sequence[int] = (),
        attend: bool = False,
    ) -> None:
        super().__init__()
        if not channels or blocks < 1:
            raise ValueError(f"channels {tuple(channels)}, {blocks} blocks; expected at least one")
        if attend and not properties:
            raise ValueError("attend is set without properties: expected at least one to look at")
        self.shape = shape
        self.factor = 2 ** (len(channels) - 1)
        side = self._coarsest(shape[1:])
        self.time_features = FourierFeatures(period=2.0)
        n_time = 2 * len(self.time_features.frequencies)
        self.time = nn.Sequential(nn.Linear(n_time, width), nn.SiLU(), nn.Linear(width, width))
        self.property = PropertyEmbedding(properties, width)

        def stage(before: int, level: int) -> Stage:
            found = None
            if level in attention:
                tokens = width if attend else 0
                found = SpatialAttention(channels[level], heads, tokens=tokens)
            return Stage(before, channels[level], found)

        now = channels[0]
        self.enter = nn.Conv2d(shape[0], now, 3, padding=1)
        skips = [now]
        self.down = nn.ModuleList()  # stages, and the convolutions that halve
        for level, after in enumerate(channels):
            if level:
                self.down.append(nn.Conv2d(now, now, 3, stride=2, padding=1))
                skips.append(now)
            for _ in range(blocks):
                self.down.append(stage(now, level))
                now = after
                skips.append(now)
        self.skips = tuple(skips)
        self.before = ResidualBlock(now, now)
        self.into = nn.Linear(now, width)
        self.position = nn.Parameter(torch.randn(1, width, *side) * 0.02)
        self.middle = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.out = nn.Linear(width, now)
        self.after = ResidualBlock(now, now)
        self.up = nn.ModuleList()  # stages, and the convolutions behind a doubling
        for level in reversed(range(len(channels))):
            for _ in range(blocks + 1):
                self.up.append(stage(now + skips.pop(), level))
                now = channels[level]
            if level:
                self.up.append(nn.Conv2d(now, channels[level - 1], 3, padding=1))
                now = channels[level - 1]
        self.norm = nn.GroupNorm(groups(now), now)
        self.leave = nn.Conv2d(now, shape[0], 3, padding=1)
        silenced(self.leave)
        # In the order of use, which is that of making.
        self.modulated = [m.modulated for m in self.modules() if isinstance(m, ResidualBlock)]
        self.modulation = nn.Linear(width, sum(self.modulated))
        silenced(self.modulation)
        self.register_module("tokens", None)
        if attend:
            self.tokens = PropertyTokens(properties, width)
            for block in self.middle:
                assert isinstance(block, Block)
                block.across = CrossAttention(width, heads)

    def conditioned(
        self, time: Tensor, values: Tensor, mask: Tensor, added: Tensor | None = None
    ) -> Condition:
        """Of times (b,), properties (b, k) and whatever else is ``added`` (b, width) to them."""
        summed = self.time(self.time_features(time)) + self.property(values, mask)
        vector = functional.silu(summed if added is None else summed + added)
        tokens = None if self.tokens is None else self.tokens(values, mask)
        return Condition(vector, self.modulation(vector), tokens)

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        values: Tensor,
        mask: Tensor,
        control: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """``control``: what is added to the skips and last to the middle; see ``encoded``."""
        return self.denoised(x, self.conditioned(time, values, mask), control)

    def denoised(
        self, x: Tensor, condition: Condition, control: Sequence[Tensor] | None = None
    ) -> Tensor:
        """As ``forward``, of a condition computed before."""
        return self.joint(x, None, condition, control)[0]

    def joint(
        self,
        x: Tensor,
        extra: Tensor | None,
        condition: Condition,
        control: Sequence[Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Images and further tokens (b, n, width) -> the same shapes, the tokens unnormalised.

        None is no tokens, n = 0.

        Raises InvalidInputError for controls of another number than the skips and the middle.
        """
        modulations = iter(condition.modulation.split(self.modulated, dim=1))
        skips = self.encoded(x, condition, modulations)
        y, extra = self._mixed(skips[-1], extra, condition, modulations)
        if control is not None:
            if len(control) != len(skips) + 1:
                raise InvalidInputError(
                    f"{len(control)} controls; expected {len(skips)} for the skips and one for the "
                    "middle"
                )
            skips = [skip + c for skip, c in zip(skips, control[:-1], strict=True)]
            y = y + control[-1]
        for layer in self.up:
            if isinstance(layer, Stage):
                y = layer(torch.cat([y, skips.pop()], dim=1), condition, modulations)
            else:
                y = layer(functional.interpolate(y, scale_factor=2.0, mode="nearest"))
        return self.leave(functional.silu(self.norm(y))), extra

    def encoded(
        self, x: Tensor, condition: Condition, modulations: Iterator[Tensor] | None = None
    ) -> list[Tensor]:
        """What the way down leaves for the way up: the channels of ``skips``, finest first."""
        self._coarsest(x.shape[2:])
        if modulations is None:
            modulations = iter(condition.modulation.split(self.modulated, dim=1))
        y = self.enter(x.contiguous(memory_format=torch.channels_last))
        found = [y]
        for layer in self.down:
            y = layer(y, condition, modulations) if isinstance(layer, Stage) else layer(y)
            found.append(y)
        return found

    def _mixed(
        self, x: Tensor, extra: Tensor | None, condition: Condition, modulations: Iterator[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The middle: pixels and further tokens attend to each other."""
        x = self.before(x, next(modulations))
        b, c, h, w = x.shape
        position: Tensor = self.position
        if position.shape[2:] != (h, w):
            position = functional.interpolate(position, (h, w), mode="bilinear")
        pixels = self.into(x.permute(0, 2, 3, 1).reshape(b, h * w, c))
        tokens = pixels + position.flatten(2).transpose(1, 2)
        if extra is not None:
            tokens = torch.cat([tokens, extra], dim=1)
        for block in self.middle:
            tokens = block(tokens, condition.vector, condition.tokens)
        found = self.out(tokens[:, : h * w]).reshape(b, h, w, c).permute(0, 3, 1, 2)
        return self.after(x + found, next(modulations)), tokens[:, h * w :]

    def _coarsest(self, sides: Sequence[int]) -> tuple[int, int]:
        h, w = sides
        if h % self.factor or w % self.factor:
            raise InvalidInputError(
                f"images of {h} x {w}; expected sides that are multiples of {self.factor}, or a "
                "U-Net of fewer levels"
            )
        return h // self.factor, w // self.factor


class JointUNet(nn.Module):
    """Velocity of the joint state as ``JointTransformer``: (b, n_state), time (b,), properties.

    The image latent (c, h, w), or an image of pixels, goes through a ``UNet`` whose finest level
    has ``channels``; its sides are halved once, and on until they are at most ``COARSEST`` pixels
    or odd. There ``depth`` transformer blocks of ``width`` join the pixels and a token of each
    vector; the tokens' sum also modulates every level, beside time and properties.
    Raises InvalidInputError without an image latent, or when its sides cannot be halved.
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
        attend: bool = False,
    ) -> None:
        super().__init__()
        if latent_shape is None:
            raise InvalidInputError(
                'a U-Net needs images and these designs have none; expected network = "dit"'
            )
        self.latent_shape = latent_shape
        self.vector_sizes = vector_sizes
        side = max(latent_shape[1:])
        levels = 2
        while side > COARSEST * 2 ** (levels - 1) and not any(
            n % 2**levels for n in latent_shape[1:]
        ):
            levels += 1
        self.unet = UNet(
            shape=latent_shape,
            properties=properties,
            width=width,
            channels=[channels * MULTIPLES[min(i, len(MULTIPLES) - 1)] for i in range(levels)],
            heads=heads,
            depth=depth,
            attention=[i for i in range(levels) if side / 2**i <= ATTENDED],
            attend=attend,
        )
        self.vectors_in = nn.ModuleList(nn.Linear(n, width) for n in vector_sizes)
        self.vectors_out = nn.ModuleList(nn.Linear(width, n) for n in vector_sizes)
        self.final_modulation = nn.Linear(width, 2 * width) if vector_sizes else None
        for layer in (*self.vectors_out, self.final_modulation):
            if layer is not None:
                silenced(layer)

    @property
    def latent_size(self) -> int:
        return math.prod(self.latent_shape)

    @property
    def state_size(self) -> int:
        return self.latent_size + sum(self.vector_sizes)

    def forward(
        self,
        state: Tensor,
        time: Tensor,
        values: Tensor,
        mask: Tensor,
        control: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """``control``: as of ``UNet``."""
        latent, *vectors = state.split([self.latent_size, *self.vector_sizes], dim=1)
        image = latent.reshape(-1, *self.latent_shape)
        if self.final_modulation is None:
            return self.unet(image, time, values, mask, control).flatten(1)
        entered = [f(v) for f, v in zip(self.vectors_in, vectors, strict=True)]
        tokens = torch.stack(entered, dim=1)
        condition = self.unet.conditioned(time, values, mask, tokens.sum(1))
        image, tokens = self.unet.joint(image, tokens, condition, control)
        shift, scale = self.final_modulation(condition.vector)[:, None].chunk(2, dim=-1)
        tokens = functional.layer_norm(tokens, tokens.shape[-1:]) * (1 + scale) + shift
        found = [f(tokens[:, i]) for i, f in enumerate(self.vectors_out)]
        return torch.cat([image.flatten(1), *found], dim=1)
