"""``spinodal verify generators``: adapters and cross-attention change nothing before they learn.

Every figure is exact: a number that should be 0 is 0, not nearly.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from generators.networks.adapters import LowRank, adapters_of, inject, merge, remove
from generators.networks.control import ControlBranch
from generators.networks.dit import CrossAttention, JointTransformer
from loop.verification import Case, absolute_case

ROOM = "generators"
LORA = "Hu et al. 2022, W + (a/r) B A with B = 0"
CONTROLNET = "Zhang et al. 2023, equation 2 with Z1 = Z2 = 0"
ATTENTION = "Rombach et al. 2022, softmax(QK'/sqrt d) V"
ROUNDING = 1e-12  # of sums over at most 64 products near 1, float64


def cases() -> list[Case]:
    """Every case, on a small transformer with random weights in float64."""
    return [*_low_rank(), *_branch(), *_attention()]


def _network(*, attend: bool = False) -> JointTransformer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = JointTransformer(
            latent_shape=(2, 4, 4),
            vector_sizes=(3,),
            properties=2,
            width=16,
            depth=2,
            heads=2,
            channels=8,
            attend=attend,
        )
    draws = torch.Generator().manual_seed(0)
    for name, parameter in network.named_parameters():
        if "across" not in name:  # those stay at the zeros that the case is about
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=draws)
    return network.double().eval()


def _inputs(network: JointTransformer) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    draws = torch.Generator().manual_seed(1)
    state = torch.randn(4, network.state_size, generator=draws, dtype=torch.float64)
    time = torch.rand(4, generator=draws, dtype=torch.float64)
    values = torch.randn(4, 2, generator=draws, dtype=torch.float64)
    return state, time, values, torch.tensor([[True, False]]).expand(4, 2)


def _difference(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().abs().max())


def _changed(a: nn.Module, b: nn.Module) -> float:
    """How many weights of two modules differ; those that one of them lacks count, too."""
    mine, other = a.state_dict(), b.state_dict()
    lacking = len(mine.keys() ^ other.keys())
    return float(
        lacking + sum(int((mine[k] != other[k]).sum()) for k in mine.keys() & other.keys())
    )


def _step(parameters: list[nn.Parameter], value: Tensor) -> None:
    optimiser = torch.optim.SGD(parameters, lr=0.1)
    optimiser.zero_grad()
    value.square().mean().backward()
    optimiser.step()


def _low_rank() -> list[Case]:
    base = _network()
    given = _inputs(base)
    network = copy.deepcopy(base)
    parts = inject(network, rank=2, alpha=4.0, generator=torch.Generator().manual_seed(2))
    found = [
        absolute_case(
            ROOM,
            "low-rank adapters at initialisation, change of the output",
            0.0,
            _difference(network(*given), base(*given)),
            0.0,
            LORA,
        )
    ]
    for _ in range(3):
        _step(list(parts.parameters()), network(*given) - 1.0)
    learned = network(*given).detach()
    layer = next(part for part in adapters_of(network).values() if isinstance(part, LowRank))
    grown = layer.up @ layer.down
    merged, removed = copy.deepcopy(network), copy.deepcopy(network)
    merge(merged)
    remove(removed)
    found += [
        absolute_case(
            ROOM,
            "low-rank adapters, rank of what was learned",
            2.0,
            float(torch.linalg.matrix_rank(grown.detach())),
            0.0,
            "Hu et al. 2022, section 4.1",
        ),
        absolute_case(
            ROOM,
            "low-rank adapters merged, change of the output",
            0.0,
            _difference(merged(*given), learned),
            ROUNDING,
            "Hu et al. 2022, section 4.1",
        ),
        absolute_case(
            ROOM,
            "weights of the base changed by training adapters",
            0.0,
            _changed(removed, base),
            0.0,
            LORA,
        ),
    ]
    return found


def _branch() -> list[Case]:
    base = _network()
    before = copy.deepcopy(base)
    given = _inputs(base)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        branch = ControlBranch(base, 1).double()
    draws = torch.Generator().manual_seed(4)
    maps = torch.rand(4, 1, 4, 4, generator=draws, dtype=torch.float64)
    plain = base(*given).detach()
    first = _difference(base(*given, branch(*given, maps)), plain)
    for _ in range(3):
        _step(list(branch.parameters()), base(*given, branch(*given, maps)) - 1.0)
    return [
        absolute_case(
            ROOM, "control branch at initialisation, change of the output", 0.0, first, 0.0,
            CONTROLNET,
        ),
        absolute_case(
            ROOM,
            "weights of the base changed by training a control branch",
            0.0,
            _changed(base, before),
            0.0,
            CONTROLNET,
        ),
    ]  # fmt: skip


def _attention() -> list[Case]:
    plain, attending = _network(), _network(attend=True)
    given = _inputs(plain)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        attention = CrossAttention(8, 2).double()
    nn.init.eye_(attention.out.weight)
    draws = torch.Generator().manual_seed(6)
    x, token = (torch.randn(2, n, 8, generator=draws, dtype=torch.float64) for n in (5, 1))
    _, value = attention.keys_values(token).chunk(2, dim=-1)
    return [
        absolute_case(
            ROOM,
            "cross-attention at initialisation, change of the output",
            0.0,
            _difference(attending(*given), plain(*given)),
            0.0,
            ATTENTION,
        ),
        absolute_case(
            ROOM,
            "cross-attention to one token, distance to its value",
            0.0,
            _difference(attention(x, token), value.expand(2, 5, 8)),
            ROUNDING,
            ATTENTION,
        ),
    ]
