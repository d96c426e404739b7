"""Low-rank adapters: what a frozen network learns in addition, in a few numbers.

Hu et al. 2022 (LoRA), section 4.1: a weight W (n, m) becomes W + (α/r) B A with A (r, m) drawn at
random and B (n, r) zero, so that the network is bit for bit the frozen one before the first step.
A convolution's weight (n, c, k, k) counts as n rows of c k k numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from loop.errors import InvalidInputError

LAYERS = (nn.Linear, nn.Conv2d)


class LowRank(nn.Module):
    """A layer and what is added to it: layer(x) + (α/r) B (A x); r at most the smaller side of W.

    A convolution's A is a convolution like it, to r channels, and its B one of 1 x 1.
    """

    def __init__(
        self,
        layer: nn.Linear | nn.Conv2d,
        rank: int,
        alpha: float,
        generator: torch.Generator | None = None,
    ) -> None:
        """``generator``: of A's entries, on the CPU; variance 1/m, m = numbers a row of W has."""
        super().__init__()
        self.layer = layer
        weight = layer.weight.detach()
        n, m = weight.shape[0], weight[0].numel()
        r = min(rank, n, m)
        down = torch.randn(r, m, generator=generator) / math.sqrt(m)
        self.down = nn.Parameter(down.to(weight))
        self.up = nn.Parameter(weight.new_zeros(n, r))
        self.scale = alpha / rank

    def forward(self, x: Tensor) -> Tensor:
        layer = self.layer
        if isinstance(layer, nn.Linear):
            thin = functional.linear(functional.linear(x, self.down), self.up)
        else:
            kernel = self.down.reshape(-1, *layer.weight.shape[1:])
            thin = layer._conv_forward(x, kernel, None)  # with its stride, padding, dilation
            thin = functional.conv2d(thin, self.up[:, :, None, None])
        found: Tensor = layer(x) + self.scale * thin
        return found

    @torch.no_grad()
    def merged(self) -> nn.Module:
        """The layer with W + (α/r) B A for its weight."""
        self.layer.weight += self.scale * (self.up @ self.down).reshape(self.layer.weight.shape)
        return self.layer


def inject(
    network: nn.Module, *, rank: int, alpha: float, generator: torch.Generator | None = None
) -> nn.ModuleList:
    """Freeze a network in place and give each linear layer and convolution in it an adapter.

    Returns the adapters' A and B by layer, the only parameters that want a gradient. Grouped
    convolutions stay as they are.
    Raises InvalidInputError for a rank below 1, a network that has adapters and one without layers.
    """
    if rank < 1:
        raise InvalidInputError(f"adapters of rank {rank}; expected a rank of at least 1")
    if adapters_of(network):
        raise InvalidInputError("this network has adapters already; merge or remove them first")
    found = {
        name: module
        for name, module in network.named_modules()
        if name and isinstance(module, LAYERS) and getattr(module, "groups", 1) == 1
    }
    if not found:
        raise InvalidInputError(
            "this network has no layer to adapt; expected linear layers or convolutions inside it"
        )
    network.requires_grad_(False)
    for name, module in found.items():
        _replace(network, name, LowRank(module, rank, alpha, generator))
    pairs = [nn.ParameterList([part.down, part.up]) for part in adapters_of(network).values()]
    return nn.ModuleList(pairs)


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(network.get_submodule(parent), own, module)


def adapters_of(network: nn.Module) -> dict[str, LowRank]:
    """The adapters by the name of their layer; empty where there are none."""
    return {name: part for name, part in network.named_modules() if isinstance(part, LowRank)}


def remove(network: nn.Module) -> None:
    """Take the adapters out, in place: the network is bit for bit what it was before them.

    Its weights stay frozen until they are told otherwise (``requires_grad_``).
    """
    for name, part in _some(network).items():
        _replace(network, name, part.layer)


def merge(network: nn.Module) -> None:
    """Add the adapters to the weights, in place: no cost is left, and no way back."""
    for name, part in _some(network).items():
        _replace(network, name, part.merged())


def _some(network: nn.Module) -> dict[str, LowRank]:
    found = adapters_of(network)
    if not found:
        raise InvalidInputError("this network has no adapters; inject some first")
    return found


def adapter_tensors(network: nn.Module) -> dict[str, Tensor]:
    """A and B of every adapter, as ``LAYER.down`` and ``LAYER.up``: all that is to be kept."""
    return {
        f"{name}.{key}": value.detach()
        for name, part in _some(network).items()
        for key, value in (("down", part.down), ("up", part.up))
    }


def restore_adapters(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Fill injected adapters from ``adapter_tensors``, in place.

    Raises InvalidInputError where names or shapes are those of another network or rank.
    """
    mine = adapter_tensors(network)
    for name in sorted(mine.keys() | tensors.keys()):
        has, expected = (
            str(tuple(part[name].shape)) if name in part else "nothing" for part in (tensors, mine)
        )
        if has != expected:
            raise InvalidInputError(
                f"adapters of another network or rank: they have {has} for {name}, expected "
                f"{expected}"
            )
    for name, value in mine.items():
        value.copy_(tensors[name])
