"""The U-Net: what holds for any weights, what holds at first, and that it learns."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from generators.dynamics.guidance import compose, together
from generators.dynamics.samplers import euler, uniform_times
from generators.networks.conditioning import PropertyTokens
from generators.networks.dit import JointTransformer
from generators.networks.image_blocks import ResidualBlock, SpatialAttention, groups
from generators.networks.unet import JointUNet, UNet
from loop.errors import InvalidInputError
from tests.generators.test_networks import awake, normal


def unet(**given: object) -> UNet:
    settings = {
        "shape": (2, 8, 4),
        "properties": 3,
        "width": 8,
        "channels": (8, 16),
        "heads": 2,
        "attention": (1,),
        "attend": True,
    }
    return UNet(**{**settings, **given})  # type: ignore[arg-type]


def joint(**given: object) -> JointUNet:
    settings = {
        "latent_shape": (2, 8, 4),
        "vector_sizes": (5, 3),
        "properties": 3,
        "width": 8,
        "depth": 2,
        "heads": 2,
        "channels": 8,
    }
    return JointUNet(**{**settings, **given})  # type: ignore[arg-type]


def conditions(b: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Times, values and a mask of which the last row is empty."""
    mask = torch.tensor([[True, False, True]]).repeat(b, 1)
    mask[-1] = False
    return torch.linspace(0.1, 0.9, b, dtype=torch.float64), normal(b, 3, seed=2), mask


# Property tokens


def test_each_token_is_of_its_property_alone() -> None:
    tokens = awake(PropertyTokens(3, 8))
    _, values, _ = conditions()
    mask = torch.ones_like(values, dtype=torch.bool)
    found = tokens(values, mask)
    assert found.shape == (4, 3, 8)
    for j in range(3):
        moved = values.clone()
        moved[:, j] += 0.1
        changed = (tokens(moved, mask) - found).abs().amax((0, 2)) > 1e-3
        assert changed.tolist() == [i == j for i in range(3)]


@pytest.mark.parametrize("value", [0.0, 1e6, math.nan, math.inf])
def test_a_masked_property_is_its_null_whatever_its_value(value: float) -> None:
    tokens = awake(PropertyTokens(3, 8))
    values = normal(4, 3)
    values[:, 1] = value
    found = tokens(values, torch.tensor([True, False, True]).expand(4, 3))
    assert torch.equal(found[:, 1], tokens.null[1].expand(4, 8))
    found.sum().backward()
    for parameter in tokens.parameters():
        assert parameter.grad is not None
        assert bool(torch.isfinite(parameter.grad).all())


# Blocks


@pytest.mark.parametrize(("before", "after"), [(16, 16), (8, 32)])
def test_residual_block_is_the_formula(before: int, after: int) -> None:
    """past(x) + conv₂ silu((1 + scale) norm(conv₁ silu norm(x)) + shift), norms written out."""
    block = awake(ResidualBlock(before, after))
    x, modulation = normal(3, before, 5, 4), normal(3, 2 * after, seed=2)

    def normalised(y: Tensor) -> Tensor:
        parts = y.reshape(len(y), groups(y.shape[1]), -1)
        variance, mean = torch.var_mean(parts, dim=2, correction=0, keepdim=True)
        return ((parts - mean) / (variance + 1e-5).sqrt()).reshape(y.shape)

    def silu(y: Tensor) -> Tensor:
        return y * y.sigmoid()

    weight, bias = (p[:, None, None] for p in (block.norm.weight, block.norm.bias))
    shift, scale = (m[:, :, None, None] for m in modulation.split(after, dim=1))
    with torch.no_grad():
        y = block.conv1(silu(weight * normalised(x) + bias))
        y = block.conv2(silu((1 + scale) * normalised(y) + shift))
        assert torch.allclose(block(x, modulation), block.past(x) + y, rtol=1e-10, atol=1e-10)


def test_attention_is_the_formula() -> None:
    """softmax(Q Kᵀ/√d) V pixel by pixel, head by head, then the same over the tokens."""
    layer = awake(SpatialAttention(8, 2, tokens=6))
    x, tokens = normal(3, 8, 2, 3), normal(3, 4, 6, seed=2)

    def attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        heads = []
        for part in (slice(0, 4), slice(4, 8)):
            weights = torch.einsum("bnd,bmd->bnm", q[..., part], k[..., part]) / math.sqrt(4)
            heads.append(torch.softmax(weights, dim=-1) @ v[..., part])
        return torch.cat(heads, dim=-1)

    with torch.no_grad():
        pixels = x.flatten(2).transpose(1, 2)
        pixels = pixels + layer.out(attended(*layer.qkv(layer.norm(pixels)).split(8, dim=-1)))
        asked = layer.query(layer.cross_norm(pixels))
        found = attended(asked, *layer.keys_values(tokens).split(8, dim=-1))
        expected = (pixels + layer.cross_out(found)).transpose(1, 2).reshape(3, 8, 2, 3)
        assert torch.allclose(layer(x, tokens), expected, rtol=1e-10, atol=1e-12)


def test_blocks_pass_their_input_on_at_first() -> None:
    x = normal(3, 16, 5, 4)
    assert torch.equal(ResidualBlock(16, 16).double()(x, normal(3, 32)), x)
    attention = SpatialAttention(16, 4, tokens=6).double()
    assert torch.equal(attention(x, normal(3, 5, 6)), x)


# The network


@pytest.mark.parametrize("shape", [(4, 8, 8), (3, 16, 48), (1, 256, 256)])
def test_output_is_zero_at_first_but_learns(shape: tuple[int, int, int]) -> None:
    network = unet(shape=shape, channels=(4, 4, 4, 4), blocks=1, attention=(3,))
    x, values = torch.randn(1, *shape), torch.randn(1, 3)
    out = network(x, torch.full((1,), 0.3), values, values > 0)
    assert torch.equal(out, torch.zeros_like(x))
    (out - x).square().sum().backward()
    leave = network.leave.weight.grad
    assert leave is not None
    assert float(leave.abs().max()) > 0


def test_other_sides_than_the_ones_it_was_made_for() -> None:
    network = awake(unet())
    t, values, mask = conditions(2)
    with torch.no_grad():
        assert network(normal(2, 2, 12, 8), t, values, mask).shape == (2, 2, 12, 8)
        with pytest.raises(InvalidInputError, match=r"images of 7 x 8; expected .* of 2"):
            network(normal(2, 2, 7, 8), t, values, mask)
    with pytest.raises(InvalidInputError, match="images of 6 x 6"):
        unet(shape=(1, 6, 6), channels=(8, 8, 8))


def test_contradicting_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="attend is set without properties"):
        unet(properties=0)
    with pytest.raises(ValueError, match="expected at least one"):
        unet(channels=())


@pytest.mark.parametrize("attend", [False, True])
def test_time_and_properties_are_heard_and_masked_ones_are_not(attend: bool) -> None:
    network = awake(unet(attend=attend))
    t, values, mask = conditions()
    x = normal(4, 2, 8, 4)
    with torch.no_grad():
        found = network(x, t, values, mask)
        assert float((network(x, t + 0.1, values, mask) - found).abs().amin(0).max()) > 1e-3
        for j in range(3):
            moved = values.clone()
            moved[:, j] = 7.0
            change = (network(x, t, moved, mask) - found).abs().amax((1, 2, 3))
            assert (change > 1e-6).tolist() == mask[:, j].tolist()


def test_cross_attention_alone_hears_the_properties() -> None:
    """With the same modulation, other tokens give another image."""
    network = awake(unet())
    t, values, mask = conditions()
    condition = network.conditioned(t, values, mask)
    other = condition._replace(tokens=normal(4, 3, 8, seed=9))
    x = normal(4, 2, 8, 4)
    with torch.no_grad():
        change = network.denoised(x, other) - network.denoised(x, condition)
    assert float(change.abs().max()) > 1e-3


def test_far_pixels_are_seen() -> None:
    """Attention and the coarsest level reach from one corner to the other."""
    network = awake(unet(shape=(1, 32, 32), channels=(8, 8, 8)))
    t, values, mask = conditions(1)
    x = normal(1, 1, 32, 32)
    moved = x.clone()
    moved[..., 0, 0] += 1
    with torch.no_grad():
        change = network(moved, t, values, mask) - network(x, t, values, mask)
    assert float(change[..., -1, -1].abs().max()) > 1e-6


def test_rows_do_not_depend_on_their_company() -> None:
    network = awake(joint(attend=True))
    t, values, mask = conditions()
    state = normal(4, network.state_size)
    with torch.no_grad():
        found = network(state, t, values, mask)
        for i in range(4):
            row = slice(i, i + 1)
            alone = network(state[row], t[row], values[row], mask[row])
            assert torch.allclose(alone, found[row], rtol=1e-11, atol=1e-11)


def test_a_guided_batch_equals_two_passes() -> None:
    network = awake(joint(attend=True))
    _, values, _ = conditions()
    off, on = torch.zeros(4, 3, dtype=torch.bool), torch.ones(4, 3, dtype=torch.bool)
    x, times = normal(4, network.state_size), uniform_times(3).double()
    with torch.no_grad():
        field = compose(together(network, (values, off), (values, on)), [3.0])
        found = field(x, times[1].expand(4))
        base, given = (network(x, times[1].expand(4), values, m) for m in (off, on))
        assert torch.allclose(found, base + 3 * (given - base), rtol=1e-11, atol=1e-11)
        assert euler(field, x, times).shape == x.shape


# Control


def test_controls_of_zero_change_no_bit_and_others_do() -> None:
    network = awake(unet())
    t, values, mask = conditions()
    x = normal(4, 2, 8, 4)
    condition = network.conditioned(t, values, mask)
    with torch.no_grad():
        found = network(x, t, values, mask)
        skips = network.encoded(x, condition)
        assert [s.shape[1] for s in skips] == list(network.skips)
        zeros = [torch.zeros_like(s) for s in (*skips, skips[-1])]
        assert torch.equal(network(x, t, values, mask, zeros), found)
        for i in range(len(zeros)):
            one = [z + 0.1 * (j == i) for j, z in enumerate(zeros)]
            change = network(x, t, values, mask, one) - found
            assert float(change.abs().max()) > 1e-4
        with pytest.raises(
            InvalidInputError, match=r"2 controls; expected 6 .* one for the middle"
        ):
            network(x, t, values, mask, zeros[:2])


# The joint state


@pytest.mark.parametrize(
    ("shape", "vectors"),
    [((4, 8, 8), (5, 5, 1)), ((1, 64, 64), (5,)), ((2, 18, 6), ()), ((1, 100, 50), (3,))],
)
def test_joint_state_as_the_transformer_has_it(
    shape: tuple[int, int, int], vectors: tuple[int, ...]
) -> None:
    network = joint(latent_shape=shape, vector_sizes=vectors)
    other = JointTransformer(
        latent_shape=shape,
        vector_sizes=vectors,
        properties=3,
        width=8,
        depth=1,
        heads=2,
        channels=8,
    )
    assert (network.latent_size, network.state_size) == (other.latent_size, other.state_size)
    state = torch.randn(2, network.state_size)
    out = network(state, torch.rand(2), torch.randn(2, 3), torch.ones(2, 3, dtype=torch.bool))
    assert torch.equal(out, torch.zeros_like(state))
    (out - state).square().sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    for layer in (network.unet.leave, *network.vectors_out):
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        assert layer.weight.grad is not None
        assert float(layer.weight.grad.abs().max()) > 0


def test_image_and_vectors_see_each_other() -> None:
    network = awake(joint())
    t, values, mask = conditions()
    state = normal(4, network.state_size)
    parts = [slice(0, 64), slice(64, 69), slice(69, 72)]
    with torch.no_grad():
        found = network(state, t, values, mask)
        for moved, seen in itertools.product(parts, parts):
            changed = state.clone()
            changed[:, moved] += 0.5
            change = (network(changed, t, values, mask) - found)[:, seen]
            assert float(change.abs().max()) > 1e-5


def test_without_images_there_is_no_unet() -> None:
    with pytest.raises(InvalidInputError, match=r'these designs have none; expected .* "dit"'):
        joint(latent_shape=None)
    with pytest.raises(InvalidInputError, match="images of 5 x 8; expected"):
        joint(latent_shape=(1, 5, 8))


def test_it_learns_the_image_from_the_vector_and_the_vector_from_the_image() -> None:
    """Pattern times the vector's sign, and vector by the image's brightness: all rows at once."""
    torch.manual_seed(0)
    network = joint(latent_shape=(2, 4, 4), width=16, depth=1, vector_sizes=(2,))
    bright, sign = torch.tensor([[0.0, 0.0, 1.0, 1.0], [-1.0, 1.0, -1.0, 1.0]])[..., None]
    state = torch.cat([bright.expand(4, 32), sign.expand(4, 2)], dim=1)
    target = torch.cat([sign * torch.randn(32), (2 * bright - 1).expand(4, 2)], dim=1)
    t, values, mask = torch.full((4,), 0.5), torch.zeros(4, 3), torch.zeros(4, 3) > 0
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2, betas=(0.9, 0.95))
    for _ in range(50):
        error = network(state, t, values, mask) - target
        optimiser.zero_grad()
        error.square().mean().backward()
        optimiser.step()
    squares = error.detach().square()
    assert float(squares[:, :32].mean()) < 0.1
    assert float(squares[:, 32:].mean()) < 0.1
