"""Adapters: nothing before the first step, exactly removable, and the base is never touched."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from generators.networks.adapters import (
    adapter_tensors,
    adapters_of,
    inject,
    merge,
    remove,
    restore_adapters,
)
from generators.networks.control import ControlBranch
from generators.networks.dit import JointTransformer
from loop.errors import InvalidInputError
from tests.generators.test_dit import inputs, transformer


def injected(rank: int = 2, *, attend: bool = False) -> tuple[JointTransformer, JointTransformer]:
    """A network and its copy with adapters."""
    base = transformer(attend=attend)
    network = copy.deepcopy(base)
    inject(network, rank=rank, alpha=4.0, generator=torch.Generator().manual_seed(2))
    return base, network


def filled(network: nn.Module, seed: int = 3) -> None:
    draws = torch.Generator().manual_seed(seed)
    for part in adapters_of(network).values():
        part.up.data.copy_(0.1 * torch.randn(part.up.shape, generator=draws))


def weight(layer: nn.Module) -> nn.Parameter:
    return layer.get_parameter("weight")


def same(a: nn.Module, b: nn.Module) -> bool:
    mine, other = a.state_dict(), b.state_dict()
    return mine.keys() == other.keys() and all(torch.equal(mine[k], other[k]) for k in mine)


@pytest.mark.parametrize("attend", [False, True])
@torch.no_grad()
def test_at_first_it_is_the_frozen_network_bit_for_bit(attend: bool) -> None:
    base, network = injected(attend=attend)
    layers = [m for m in base.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert len(adapters_of(network)) == len(layers) > 10
    assert torch.equal(base(*inputs(base)), network(*inputs(base)))


@torch.no_grad()
def test_it_adds_the_product_of_two_thin_matrices() -> None:
    """Against W x + b + (α/r) B (A x), and of rank r; float64."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(7, 5)).double()
    base = copy.deepcopy(network[0])
    inject(network, rank=2, alpha=6.0)
    (part,) = adapters_of(network).values()
    nn.init.normal_(part.up)
    x = torch.randn(4, 7).double()
    expected = base(x) + 3.0 * (x @ part.down.T) @ part.up.T
    torch.testing.assert_close(network(x), expected, rtol=1e-12, atol=1e-12)
    merge(network)
    assert int(torch.linalg.matrix_rank(weight(network[0]) - weight(base))) == 2


@torch.no_grad()
def test_a_convolution_is_a_matrix_of_its_patches() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1)).double()
    base = copy.deepcopy(network[0])
    inject(network, rank=2, alpha=2.0)
    filled(network)
    (part,) = adapters_of(network).values()
    x = torch.randn(2, 3, 5, 6).double()
    patches = nn.functional.unfold(x, 3, padding=1)  # (2, 27, 30)
    more = (part.up @ part.down @ patches).reshape(2, 4, 5, 6)
    torch.testing.assert_close(network(x), base(x) + more, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_merged_is_unmerged_and_removed_is_the_base() -> None:
    base, network = injected()
    filled(network)
    given = inputs(base)
    found = network(*given)
    assert not torch.allclose(found, base(*given))
    merged = copy.deepcopy(network)
    merge(merged)
    assert merged.state_dict().keys() == base.state_dict().keys()
    # Same products, perhaps by another kernel: rounding of sums over at most 64 terms.
    torch.testing.assert_close(merged(*given), found, rtol=1e-5, atol=1e-5)
    assert torch.equal(network(*given), found)  # a copy was merged
    remove(network)
    assert same(network, base)
    assert torch.equal(network(*given), base(*given))
    with pytest.raises(InvalidInputError, match="has no adapters"):
        remove(network)


def test_only_the_adapters_learn() -> None:
    base, network = injected()
    trained = {id(p) for p in network.parameters() if p.requires_grad}
    parts = adapters_of(network).values()
    assert trained == {id(p) for part in parts for p in (part.down, part.up)}
    optimiser = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=0.01)
    losses = []
    for _ in range(5):
        loss = (network(*inputs(base)) - 1.0).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert any(bool(part.up.abs().sum() > 0) for part in parts)
    remove(network)
    assert same(network, base)


@torch.no_grad()
def test_kept_and_restored() -> None:
    base, network = injected()
    filled(network)
    tensors = adapter_tensors(network)
    again = copy.deepcopy(base)
    inject(again, rank=2, alpha=4.0)
    restore_adapters(again, tensors)
    assert torch.equal(again(*inputs(base)), network(*inputs(base)))
    other = copy.deepcopy(base)
    inject(other, rank=3, alpha=4.0)
    with pytest.raises(InvalidInputError, match=r"another network or rank: they have \(2, "):
        restore_adapters(other, tensors)


def test_what_cannot_be_injected_is_said() -> None:
    with pytest.raises(InvalidInputError, match="rank 0; expected a rank of at least 1"):
        inject(nn.Sequential(nn.Linear(2, 2)), rank=0, alpha=1.0)
    with pytest.raises(InvalidInputError, match="no layer to adapt; expected linear layers"):
        inject(nn.Sequential(nn.ReLU()), rank=1, alpha=1.0)
    _, network = injected()
    with pytest.raises(InvalidInputError, match="has adapters already"):
        inject(network, rank=1, alpha=1.0)


# The branch


def maps(b: int = 4) -> Tensor:
    return torch.rand(b, 2, 4, 4, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("attend", [False, True])
@torch.no_grad()
def test_the_branch_is_silent_at_first(attend: bool) -> None:
    base = transformer(attend=attend)
    branch = ControlBranch(base, 2)
    given = inputs(base)
    control = branch(*given, maps())
    assert control.features is not None
    assert len(control.tokens) == len(base.blocks)
    assert torch.equal(base(*given, control), base(*given))


@torch.no_grad()
def test_the_branch_is_a_copy_behind_its_projection() -> None:
    """With Z₁ = 0 and Z₂ = 1 what it adds are the frozen network's own tokens and features."""
    base = transformer()
    branch = ControlBranch(base, 2)
    nn.init.eye_(weight(branch.tokens[0]))
    nn.init.dirac_(weight(branch.features))
    state, time, values, mask = inputs(base)
    control = branch(state, time, values, mask, maps())
    condition = base.conditioned(time, values, mask)
    x, features = base.entered(state, condition)
    assert control.features is not None
    assert features is not None
    torch.testing.assert_close(control.features, features)
    torch.testing.assert_close(control.tokens[0], base.blocks[0](x, condition))


def test_the_branch_learns_and_the_base_does_not() -> None:
    """Two steps: the first moves Z₂ alone, the second also what lies behind it and Z₁."""
    base = transformer().requires_grad_(False)
    before = copy.deepcopy(base)
    branch = ControlBranch(base, 2)
    given = inputs(base)
    optimiser = torch.optim.SGD(branch.parameters(), lr=0.1)
    for step in range(2):
        loss = base(*given, branch(*given, maps())).square().mean()
        optimiser.zero_grad()
        loss.backward()
        first, last = weight(branch.into).grad, weight(branch.tokens[0]).grad
        assert first is not None
        assert last is not None
        assert bool(first.abs().sum() > 0) == (step > 0)
        assert bool(last.abs().sum() > 0)
        optimiser.step()
    assert same(base, before)
    found = base(*given, branch(*given, maps()))
    other = base(*given, branch(*given, 1 - maps()))
    assert not torch.equal(found, other)


def test_what_no_map_can_steer() -> None:
    vectors = transformer(latent_shape=None)
    with pytest.raises(InvalidInputError, match="has no images, so no map can steer it"):
        ControlBranch(vectors, 1)
    with pytest.raises(InvalidInputError, match="at least 2 phases"):
        ControlBranch(transformer(), 0)
    branch = ControlBranch(transformer(), 2)
    with pytest.raises(InvalidInputError, match=r"shape \(4, 1, 4, 4\); expected \(4, 2, 4, 4\)"):
        branch(*inputs(transformer()), maps()[:, :1])
