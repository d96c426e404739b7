"""A map of phase fractions steers a frozen transformer: the ControlNet branch.

Zhang et al. 2023, equation 2, y = F(x) + Z₂(F'(x + Z₁(c))): F is the frozen network, F' a copy of
its first half that is trained, c the encoded map, and both Z are projections that begin at zero,
so that at initialisation the output is bit for bit the frozen one. Of a transformer F' are its
blocks, each with its own Z₂ behind it (Chen et al. 2024, PixArt-δ, section 3.2).
"""

from __future__ import annotations

import copy

from torch import Tensor, nn

from generators.networks.dit import Control, JointTransformer
from loop.errors import InvalidInputError

UNUSED = ("image_out", "after", "leave", "vectors_out", "final_modulation")


def _zero(layer: nn.Module) -> nn.Module:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class ControlBranch(nn.Module):
    """Terms for the blocks of a ``JointTransformer`` from maps (b, m, h, w) in [0, 1].

    h and w are those of the latent. m is 1 for two phases: the fraction of the second; generally
    phases - 1, the fractions of all but the first. The network given is not changed.
    Raises InvalidInputError for a network without image.
    """

    def __init__(self, network: JointTransformer, maps: int) -> None:
        super().__init__()
        if network.latent_shape is None:
            raise InvalidInputError("this flow has no images, so no map can steer it")
        if maps < 1:
            raise InvalidInputError("a map needs at least 2 phases; with one there is no fraction")
        self.maps = maps
        channels, width = network.channels, network.width
        self.hint = nn.Sequential(
            nn.Conv2d(maps, channels, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.SiLU(),
        )
        self.into = _zero(nn.Conv2d(channels, channels, 1))
        self.copied = copy.deepcopy(network)
        self.copied.requires_grad_(True)
        for name in UNUSED:
            delattr(self.copied, name)
        self.features = _zero(nn.Conv2d(channels, channels, 1))
        self.tokens = nn.ModuleList(_zero(nn.Linear(width, width)) for _ in network.blocks)

    def forward(
        self, state: Tensor, time: Tensor, values: Tensor, mask: Tensor, maps: Tensor
    ) -> Control:
        """What the frozen network is to add; inputs as its own, and ``maps`` (b, m, h, w).

        Raises InvalidInputError for maps of another shape.
        """
        copied = self.copied
        assert copied.latent_shape is not None
        expected = (len(state), self.maps, *copied.latent_shape[1:])
        if tuple(maps.shape) != expected:
            raise InvalidInputError(f"maps have shape {tuple(maps.shape)}; expected {expected}")
        condition = copied.conditioned(time, values, mask)
        properties = None if copied.tokens is None else copied.tokens(values, mask)
        x, features = copied.entered(state, condition, self.into(self.hint(2 * maps - 1)))
        tokens = []
        for block, out in zip(copied.blocks, self.tokens, strict=True):
            x = block(x, condition, properties)
            tokens.append(out(x))
        return Control(features=self.features(features), tokens=tuple(tokens))
