"""Networks: what holds for any weights, and what holds at initialisation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from generators.dynamics.flow import classifier_free
from generators.networks.autoencoder import Autoencoder, kl_to_standard_normal
from generators.networks.conditioning import FourierFeatures, PropertyEmbedding
from generators.networks.convolution import ModulatedConvolution
from generators.networks.dit import Block, JointTransformer
from generators.networks.mlp import ModulatedBlock, VectorFlow

M = TypeVar("M", bound=nn.Module)


def awake(module: M, seed: int = 0) -> M:
    """Random weights throughout, in float64: what training may come to."""
    draws = torch.Generator().manual_seed(seed)
    module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=draws, dtype=torch.float64)
            parameter.copy_(0.3 * noise)
    return module


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Conditions


def test_fourier_features_are_sines_and_cosines_at_octaves() -> None:
    x = torch.linspace(-3, 3, 7)
    found = FourierFeatures(3, period=16.0)(x)
    angles = [2 * math.pi * x / period for period in (16, 8, 4)]
    expected = torch.stack([*[a.sin() for a in angles], *[a.cos() for a in angles]], dim=-1)
    assert found.numpy() == pytest.approx(expected.numpy(), abs=1e-5)


def test_a_masked_value_does_not_count() -> None:
    embedding = awake(PropertyEmbedding(3, 16))
    values, mask = normal(8, 3), torch.tensor([True, False, True]).expand(8, 3)
    found = embedding(values, mask)
    for other in (0.0, 1e6, math.nan, math.inf):
        changed = values.clone()
        changed[:, 1] = other
        assert torch.equal(embedding(changed, mask), found)
    changed = values.clone()
    changed[:, 0] += 0.1
    assert not torch.allclose(embedding(changed, mask), found)


def test_a_masked_value_does_no_harm_to_the_gradients() -> None:
    embedding = awake(PropertyEmbedding(2, 16))
    values = torch.tensor([[math.nan, 1.0], [2.0, math.inf]], dtype=torch.float64)
    embedding(values, torch.tensor([[False, True], [True, False]])).sum().backward()
    for parameter in embedding.parameters():
        assert parameter.grad is not None
        assert bool(torch.isfinite(parameter.grad).all())


def test_the_null_is_learned() -> None:
    embedding = awake(PropertyEmbedding(3, 16))
    values, mask = normal(4, 3), torch.tensor([True, False, True]).expand(4, 3)
    embedding(values, mask).sum().backward()
    grad = embedding.null.grad
    assert grad is not None
    assert grad.abs().amax(1).gt(0).tolist() == [False, True, False]


def test_the_null_is_not_a_value() -> None:
    """No property is unlike every value of it, at initialisation and later."""
    torch.manual_seed(0)
    for embedding in (PropertyEmbedding(2, 16).double(), awake(PropertyEmbedding(2, 16))):
        values = torch.zeros(2001, 2, dtype=torch.float64)
        values[:, 0] = torch.linspace(-8, 8, 2001)
        with torch.no_grad():
            given = embedding(values, torch.tensor([True, False]).expand(2001, 2))
            null = embedding(values[:1], torch.zeros(1, 2, dtype=torch.bool))
        distance = (given - null).norm(dim=1)
        assert float(distance.min()) > 1e-3 * float(given.norm(dim=1).mean())


def test_every_mask_has_its_own_embedding() -> None:
    embedding = awake(PropertyEmbedding(3, 16))
    masks = torch.tensor(list(itertools.product([False, True], repeat=3)))
    found = embedding(normal(1, 3).expand(8, 3), masks).detach()
    apart = torch.cdist(found, found) + 10 * torch.eye(8, dtype=torch.float64)
    assert float(apart.min()) > 1e-3


# The transformer


def transformer(**given: object) -> JointTransformer:
    settings = {
        "latent_shape": (2, 4, 6),
        "vector_sizes": (5, 3),
        "properties": 3,
        "width": 8,
        "depth": 2,
        "heads": 2,
        "channels": 8,
    }
    return JointTransformer(**{**settings, **given})  # type: ignore[arg-type]


def inputs(network: JointTransformer, b: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    state = normal(b, network.state_size)
    return state, torch.linspace(0.1, 0.9, b, dtype=torch.float64), normal(b, 3, seed=2)


@pytest.mark.parametrize(
    ("shape", "vectors", "size"),
    [((2, 4, 6), (5, 3), 56), (None, (5, 3), 8), ((2, 4, 6), (), 48)],
)
def test_velocity_is_zero_at_initialisation_but_learns(
    shape: tuple[int, int, int] | None, vectors: tuple[int, ...], size: int
) -> None:
    network = transformer(latent_shape=shape, vector_sizes=vectors).double()
    assert network.state_size == size
    state, t, values = inputs(network)
    out = network(state, t, values, torch.ones(4, 3, dtype=torch.bool))
    assert torch.equal(out, torch.zeros(4, size, dtype=torch.float64))
    (out - state).square().sum().backward()
    last = [*network.vectors_out, *([network.leave] if shape else [])]
    for layer in last:
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        assert layer.weight.grad is not None
        assert float(layer.weight.grad.abs().max()) > 0


def test_an_empty_state_is_refused() -> None:
    with pytest.raises(ValueError, match="joint state is empty"):
        transformer(latent_shape=None, vector_sizes=())


@pytest.mark.parametrize("block", [Block(8, 2), ModulatedBlock(8), ModulatedConvolution(8, 8)])
def test_blocks_pass_their_input_on_at_initialisation(block: nn.Module) -> None:
    """adaLN-Zero: both gates are zero (Peebles & Xie 2023, §3.2)."""
    shape = {Block: (3, 5, 8), ModulatedConvolution: (3, 8, 5, 4)}.get(type(block), (3, 8))
    x = normal(*shape)
    assert torch.equal(block.double()(x, normal(3, 8)), x)


def test_tokens_are_the_patches_and_the_vectors() -> None:
    """With identities for the projections a token is a 2×2 patch of the channels, or a vector.

    Then the blocks, which pass their input on at first, leave each patch and vector in its place:
    what comes back is the input, the patches normalised over their channels and pixels.
    """
    network = transformer(width=32, vector_sizes=(32, 32)).double()
    eye = torch.eye(32, dtype=torch.float64)
    features = normal(3, 8, 4, 6)
    with torch.no_grad():
        network.position.zero_()
        network.image_in.weight.copy_(eye.reshape(32, 8, 2, 2))
        assert network.image_in.bias is not None
        network.image_in.bias.zero_()
        tokens = network.image_in(features).flatten(2).transpose(1, 2)
        network.image_out.weight.copy_(eye)
        network.image_out.bias.zero_()
        for i in range(8):  # through the last convolution unchanged, channel by channel
            network.leave.weight[:, i, 1, 1] = float(i < 2)
        moved = tokens.clone()
        moved[:, 4] += 1.0
        change = network._image(moved, features, normal(3, 32)) - network._image(
            tokens, features, normal(3, 32)
        )
    for number, (i, j) in enumerate(itertools.product(range(2), range(3))):
        patch = features[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        assert torch.equal(tokens[:, number], patch.reshape(3, 32))
    touched = change.reshape(3, 2, 4, 6).abs().sum((0, 1))
    # Token 4 is in row 1, column 1; the others change by what the norm's scale does.
    assert float(touched[2:, 2:4].mean()) > 3 * float(touched[:2].mean())


def test_image_and_compositions_see_each_other() -> None:
    network = awake(transformer())
    state, t, values = inputs(network)
    mask = torch.ones(4, 3, dtype=torch.bool)
    with torch.no_grad():
        found = network(state, t, values, mask)
        for columns, others in ((slice(0, 48), slice(48, 56)), (slice(48, 56), slice(0, 48))):
            moved = state.clone()
            moved[:, columns] += 0.5
            change = (network(moved, t, values, mask) - found)[:, others]
            assert float(change.abs().max()) > 1e-3


def networks() -> dict[str, tuple[Callable[..., Tensor], Tensor]]:
    joint = awake(transformer())
    vector = awake(VectorFlow(size=7, context=4, properties=3, width=8, depth=2))
    context = normal(4, 4, seed=5)
    return {
        "joint": (joint, normal(4, 56)),
        "vector": (
            lambda x, t, y, m: vector(x, t, context.repeat(len(x) // 4, 1), y, m),
            normal(4, 7),
        ),
    }


@pytest.mark.parametrize("kind", ["joint", "vector"])
@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_guidance_by_one_joint_batch_equals_two_passes(kind: str, scale: float) -> None:
    """No layer mixes the rows of a batch, so both halves of a joint batch are separate passes."""
    network, x = networks()[kind]
    t, values = torch.full((4,), 0.3, dtype=torch.float64), normal(4, 3, seed=2)
    on, off = torch.ones(4, 3, dtype=torch.bool), torch.zeros(4, 3, dtype=torch.bool)
    with torch.no_grad():
        guided = classifier_free(
            lambda x, t: network(x, t, values, off), lambda x, t: network(x, t, values, on), scale
        )(x, t)
        twice = [torch.cat([a, a]) for a in (x, t, values)]
        base, conditional = network(*twice, torch.cat([off, on])).chunk(2)
    assert guided.numpy() == pytest.approx(
        (base + scale * (conditional - base)).numpy(), rel=1e-12, abs=1e-12
    )
    assert float((conditional - base).abs().max()) > 1e-3  # conditions are not ignored


def test_rows_do_not_depend_on_their_company() -> None:
    network = awake(transformer())
    state, t, values = inputs(network)
    mask = torch.rand(4, 3, generator=torch.Generator().manual_seed(0)) < 0.5
    with torch.no_grad():
        together = network(state, t, values, mask).numpy()
        for i in range(4):
            row = slice(i, i + 1)
            alone = network(state[row], t[row], values[row], mask[row]).numpy()
            assert alone == pytest.approx(together[row], rel=1e-12, abs=1e-12)


def test_vector_flow_is_zero_at_initialisation_and_takes_a_context() -> None:
    plain = VectorFlow(size=7, context=0, properties=3, width=8, depth=2).double()
    x, t, values = normal(4, 7), torch.zeros(4, dtype=torch.float64), normal(4, 3)
    mask = torch.ones(4, 3, dtype=torch.bool)
    assert torch.equal(plain(x, t, torch.zeros(4, 0), values, mask), torch.zeros_like(x))
    given = awake(VectorFlow(size=7, context=2, properties=3, width=8, depth=2))
    with torch.no_grad():
        first, second = (given(x, t, normal(4, 2, seed=s), values, mask) for s in (1, 2))
    assert float((first - second).abs().max()) > 1e-3


# The autoencoder


def test_kl_is_the_closed_form_of_torch_distributions() -> None:
    mean, log_variance = normal(5, 7), normal(5, 7, seed=2)
    exact = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0))
    assert kl_to_standard_normal(mean, log_variance).numpy() == pytest.approx(exact.numpy())
    one = kl_to_standard_normal(torch.tensor(1.0), torch.tensor(0.25).log())
    assert float(one) == pytest.approx(0.81815, abs=5e-6)
    nothing = kl_to_standard_normal(torch.zeros(3), torch.zeros(3))
    assert torch.equal(nothing, torch.zeros(3))


@pytest.mark.parametrize(("phases", "h", "w"), [(2, 32, 32), (3, 16, 48), (2, 24, 8)])
def test_autoencoder_shapes(phases: int, h: int, w: int) -> None:
    network = Autoencoder(phases, latent_channels=5, width=8)
    labels = torch.randint(phases, (3, h, w), generator=torch.Generator().manual_seed(0))
    mean, log_variance = network.encode(labels.to(torch.uint8))
    assert mean.shape == log_variance.shape == (3, 5, h // 8, w // 8)
    assert network.decode(mean).shape == (3, phases, h, w)
    back = network.decode_labels(mean)
    assert back.shape == (3, h, w)
    assert back.dtype == torch.uint8
    assert int(back.max()) < phases


def test_labels_become_plus_and_minus_one() -> None:
    network = Autoencoder(3, latent_channels=4, width=8)
    hot = network.one_hot(torch.tensor([[[0, 2], [1, 1]]], dtype=torch.uint8))
    assert hot[0, :, 0, 1].tolist() == [-1, -1, 1]
    assert torch.equal(hot.sum(1), torch.full((1, 2, 2), -1.0))


def test_the_decoder_needs_no_encoder() -> None:
    """At generation time there is none: no connection may lead from it to the decoder."""
    network = Autoencoder(2, latent_channels=4, width=8)
    z = torch.randn(2, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        network.encode(torch.zeros(2, 16, 16, dtype=torch.uint8))
        first = network.decode(z)
        network.encode(torch.ones(2, 16, 16, dtype=torch.uint8))
        del network.encoder
        assert torch.equal(network.decode(z), first)


def test_log_variance_is_kept_in_range() -> None:
    network = awake(Autoencoder(2, latent_channels=4, width=8)).float()
    with torch.no_grad():
        last = network.encoder[-1]
        assert isinstance(last, nn.Conv2d)
        last.weight.mul_(1e4)
        _, log_variance = network.encode(torch.eye(16, dtype=torch.uint8)[None])
    assert np.all((log_variance.numpy() >= -12) & (log_variance.numpy() <= 4))
