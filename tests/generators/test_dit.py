"""The transformer's cross-attention over property tokens, and terms that come from outside."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from generators.networks.conditioning import PropertyTokens
from generators.networks.dit import Control, CrossAttention, JointTransformer

SIZES: dict[str, Any] = {
    "latent_shape": (3, 4, 4),
    "vector_sizes": (5, 2),
    "properties": 3,
    "width": 16,
    "depth": 2,
    "heads": 2,
    "channels": 8,
}


def transformer(seed: int = 0, **given: Any) -> JointTransformer:
    """With all weights away from their zeros, so that every part of it counts."""
    torch.manual_seed(seed)
    network = JointTransformer(**{**SIZES, **given})
    draws = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        if "across" not in name and "tokens" not in name:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=draws)
    return network.eval()


def inputs(network: JointTransformer, b: int = 4) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    draws = torch.Generator().manual_seed(1)
    state = torch.randn(b, network.state_size, generator=draws)
    mask = torch.tensor([[True, False, True]]).expand(b, 3)
    return state, torch.rand(b, generator=draws), torch.randn(b, 3, generator=draws), mask


@torch.no_grad()
def test_attention_begins_as_if_it_were_not_there() -> None:
    """Same seed: all other weights are the same, and what is added is exactly zero."""
    plain, attending = transformer(), transformer(attend=True)
    names = set(plain.state_dict())
    more = set(attending.state_dict()) - names
    assert names < set(attending.state_dict())
    assert all("across" in name or name.startswith("tokens.") for name in more)
    assert torch.equal(plain(*inputs(plain)), attending(*inputs(plain)))


@torch.no_grad()
def test_attention_is_that_of_torch() -> None:
    """nn.MultiheadAttention with the same projections, float64."""
    torch.manual_seed(0)
    ours = CrossAttention(16, 4).double()
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.3)
    theirs = nn.MultiheadAttention(16, 4, batch_first=True).double()
    theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.keys_values.weight]))
    theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.keys_values.bias]))
    theirs.out_proj.load_state_dict(ours.out.state_dict())
    x, others = torch.randn(3, 7, 16).double(), torch.randn(3, 5, 16).double()
    expected, _ = theirs(x, others, others, need_weights=False)
    torch.testing.assert_close(ours(x, others), expected, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_one_token_is_its_own_average() -> None:
    """The softmax over one key is 1: the result is the projected value, whatever is asked."""
    torch.manual_seed(0)
    attention = CrossAttention(8, 2).double()
    nn.init.eye_(attention.out.weight)
    token = torch.randn(2, 1, 8).double()
    _, value = attention.keys_values(token).chunk(2, dim=-1)
    found = attention(torch.randn(2, 5, 8).double(), token)
    torch.testing.assert_close(found, value.expand(2, 5, 8), rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_what_is_masked_is_not_seen_and_the_null_is_learned() -> None:
    network = transformer(attend=True)
    for block in network.blocks:
        assert isinstance(block.across, CrossAttention)
        nn.init.normal_(block.across.out.weight, std=0.3)
    state, time, values, mask = inputs(network)
    found = network(state, time, values, mask)
    hidden = values.clone()
    hidden[:, 1] = torch.nan  # masked
    assert torch.equal(found, network(state, time, hidden, mask))
    values[:, 2] += 1.0
    assert not torch.allclose(found, network(state, time, values, mask))
    tokens = network.tokens
    assert isinstance(tokens, PropertyTokens)
    tokens.null[1] += 1.0
    values[:, 2] -= 1.0
    assert not torch.allclose(found, network(state, time, values, mask))


def test_attention_reaches_every_one_of_its_weights() -> None:
    network = transformer(attend=True).train()
    for block in network.blocks:
        assert isinstance(block.across, CrossAttention)
        nn.init.normal_(block.across.out.weight, std=0.3)
    network(*inputs(network)).square().sum().backward()
    for name, parameter in network.named_parameters():
        if "across" in name or name.startswith("tokens."):
            assert parameter.grad is not None, name
            assert bool(parameter.grad.abs().sum() > 0), name


def test_attention_without_properties_is_refused() -> None:
    with pytest.raises(ValueError, match="attend is set without properties"):
        transformer(attend=True, properties=0)


@torch.no_grad()
def test_control_terms_go_where_they_say() -> None:
    network = transformer()
    given = inputs(network)
    found = network(*given)
    n = network.image_tokens + 2
    zero = Control(torch.zeros(16), torch.zeros(4, 8, 4, 4), (torch.zeros(4, n, 16),) * 2)
    for control in (None, Control(), zero):
        assert torch.equal(found, network(*given, control))
    # A shift of the condition is a shift of the bias that ends the time network.
    shift = torch.randn(16)
    moved = network(*given, Control(condition=shift))
    last = network.time[-1]
    assert isinstance(last, nn.Linear)
    last.bias.add_(shift)
    torch.testing.assert_close(moved, network(*given))
    last.bias.sub_(shift)
    # Past the blocks: the vectors do not see them, the image does.
    added = network(*given, Control(features=torch.randn(4, 8, 4, 4)))
    size = network.latent_size
    torch.testing.assert_close(added[:, size:], found[:, size:])
    assert not torch.allclose(added[:, :size], found[:, :size])
    # After the last block each token has its own way out.
    only = torch.zeros(4, n, 16)
    only[:, -1] = torch.randn(4, 16)  # a constant would be lost in the norm after it
    added = network(*given, Control(tokens=(torch.zeros(4, n, 16), only)))
    torch.testing.assert_close(added[:, :-2], found[:, :-2])
    assert not torch.allclose(added[:, -2:], found[:, -2:], rtol=0.01, atol=0.01)
