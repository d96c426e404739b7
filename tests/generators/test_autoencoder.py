"""Codebook, conditions and sizes of the image autoencoder's network."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from generators.networks.autoencoder import Autoencoder, FeatureModulation
from generators.networks.vq import ROWS, VectorQuantiser


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def quantiser(codes: int = 7, channels: int = 3, **given: float) -> VectorQuantiser:
    made = VectorQuantiser(codes, channels, **given)
    made.codebook.copy_(normal(codes, channels, seed=5))
    made.counts.fill_(1.0)
    made.sums.copy_(made.codebook)
    return made


# Codebook


def test_the_nearest_entry_by_brute_force() -> None:
    """Also beyond one chunk of rows; in float64, so that near ties are decided alike."""
    made = quantiser(13).double()
    rows = normal(ROWS + 100, 3).double()
    distances = np.stack([((rows - entry) ** 2).sum(1).numpy() for entry in made.codebook])
    assert np.array_equal(made.nearest(rows).numpy(), distances.argmin(0))


def test_values_are_entries_and_gradients_pass_straight_through() -> None:
    made, latent = quantiser(), normal(2, 3, 4, 5).requires_grad_()
    found = made(latent)
    entries = made.codebook[found.indices].movedim(-1, 1)
    assert found.values.detach().numpy() == pytest.approx(entries.numpy(), abs=1e-6)
    weights = normal(2, 3, 4, 5, seed=2)
    (gradient,) = torch.autograd.grad((weights * found.values).sum(), latent)
    assert torch.equal(gradient, weights)
    assert not list(made.parameters())  # the codebook has no gradient to follow


def test_the_commitment_pulls_the_encoder_to_the_entry() -> None:
    made, latent = quantiser(), normal(2, 3, 4, 5).requires_grad_()
    found = made(latent)
    away = latent.detach() - made.codebook[found.indices].movedim(-1, 1)
    assert float(found.commitment.detach()) == pytest.approx(float(away.square().mean()))
    (gradient,) = torch.autograd.grad(found.commitment, latent)
    assert gradient.numpy() == pytest.approx((2 * away / away.numel()).numpy(), abs=1e-7)


def test_quantising_twice_is_quantising_once() -> None:
    made = quantiser()
    once = made(normal(2, 3, 4, 5))
    twice = made(once.values)
    assert torch.equal(twice.indices, once.indices)
    assert twice.values.numpy() == pytest.approx(once.values.numpy(), abs=1e-6)


def test_perplexity_counts_the_entries_in_use() -> None:
    made = quantiser(8)
    each = made.codebook.T.reshape(1, 3, 2, 4)
    assert float(made(each).perplexity) == pytest.approx(8.0)
    one = made.codebook[3].reshape(1, 3, 1, 1).expand(2, 3, 4, 4)
    assert float(made(one).perplexity) == pytest.approx(1.0)
    halves = torch.cat([each[..., :1].expand(1, 3, 2, 4)])  # two entries, half each
    assert float(made(halves).perplexity) == pytest.approx(2.0)


def test_one_step_of_the_moving_averages_by_hand() -> None:
    made = quantiser(2, 1, decay=0.9, restart=0.0)
    made.codebook.copy_(torch.tensor([[0.0], [10.0]]))
    made.counts.copy_(torch.tensor([2.0, 2.0]))
    made.sums.copy_(torch.tensor([[0.0], [20.0]]))
    latent = torch.tensor([1.0, 3.0, 9.0]).reshape(1, 1, 1, 3)
    indices = made(latent).indices
    assert indices.flatten().tolist() == [0, 0, 1]
    made.update(latent, indices, stream())
    assert made.counts.tolist() == pytest.approx([0.9 * 2 + 0.1 * 2, 0.9 * 2 + 0.1 * 1])
    expected = [0.1 * 4 / 2.0, (0.9 * 20 + 0.1 * 9) / 1.9]
    assert made.codebook.flatten().tolist() == pytest.approx(expected, rel=1e-4)


def test_entries_come_to_the_means_of_what_chooses_them() -> None:
    """Three tight clusters: the fixed point is that of k-means, each entry a cluster's mean."""
    centres = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    rows = centres.repeat_interleave(200, 0) + 0.1 * normal(600, 2)
    latent = rows.T.reshape(1, 2, 20, 30)
    made = VectorQuantiser(3, 2, decay=0.8)
    made.start(latent, stream())
    made.codebook.copy_(centres + 1.0)
    for step in range(60):
        made.update(latent, made(latent).indices, stream(step))
    means = rows.reshape(3, 200, 2).mean(1)
    found = made.codebook[made(centres.T.reshape(1, 2, 1, 3)).indices.flatten()]
    assert found.numpy() == pytest.approx(means.numpy(), abs=1e-3)
    assert float(made(latent).perplexity) == pytest.approx(3.0)


def test_a_dead_entry_comes_back_to_life() -> None:
    made = quantiser(4, 2, decay=0.5, restart=0.2)
    made.codebook[3] = 1e3  # nothing is near
    made.counts.fill_(6.0)
    made.sums.copy_(6.0 * made.codebook)
    latent = made.codebook[:3].T.reshape(1, 2, 1, 3) + 0.01 * normal(1, 2, 8, 3)
    restarted = [made.update(latent, made(latent).indices, stream(step)) for step in range(6)]
    # Its 6 of 24 uses halve to 3 and 1.5; 0.75 is below a fifth of the mean use.
    assert restarted[:3] == [0, 0, 1]
    assert float(made.codebook.abs().max()) < 10
    rows = latent.movedim(1, -1).reshape(-1, 2)
    assert float(torch.cdist(made.codebook, rows).min(1).values.max()) < 0.1


def test_more_entries_than_vectors_start_apart() -> None:
    made = VectorQuantiser(50, 2)
    made.start(normal(1, 2, 3, 3), stream())
    assert len(made.codebook.unique(dim=0)) == 50
    again = VectorQuantiser(50, 2)
    again.start(normal(1, 2, 3, 3), stream())
    assert torch.equal(again.codebook, made.codebook)


# Network


@pytest.mark.parametrize(("h", "w"), [(64, 64), (128, 64), (512, 512), (8, 24)])
@pytest.mark.parametrize(("phases", "codes"), [(3, 0), (None, 0), (2, 16)])
def test_any_size_that_is_a_multiple_of_8(h: int, w: int, phases: int | None, codes: int) -> None:
    torch.manual_seed(0)
    network = Autoencoder(phases, latent_channels=4, width=8, codes=codes).eval()
    images = torch.rand(1, h, w) if phases is None else torch.randint(phases, (1, h, w))
    with torch.no_grad():
        mean, log_variance = network.encode(images)
        out, back = network.decode(mean), network.decode_images(mean)
    assert mean.shape == log_variance.shape == (1, 4, h // 8, w // 8)
    assert out.shape == (1, phases or 1, h, w)
    assert back.shape == (1, h, w)
    assert back.dtype == (torch.float32 if phases is None else torch.uint8)
    if codes:
        assert bool((log_variance == -math.inf).all())


def test_modulation_is_the_identity_at_first() -> None:
    x, condition = normal(2, 5, 4, 4), normal(2, 7, seed=2)
    modulation = FeatureModulation(5, 7)
    assert torch.equal(modulation(x, condition), x)
    torch.nn.init.ones_(modulation.modulation.weight[:5])
    s = condition.sum(1)[:, None, None, None]
    found = modulation(x, condition).detach().numpy()
    assert found == pytest.approx((x * (1 + s)).numpy(), abs=1e-5)


def conditional() -> Autoencoder:
    torch.manual_seed(0)
    network = Autoencoder(2, latent_channels=4, width=8, properties=3).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "modulation" in name:
                parameter.normal_(0.0, 0.3)
    return network


def test_conditions_reach_encoder_and_decoder() -> None:
    network = conditional()
    images, z = torch.randint(2, (4, 16, 16)), normal(4, 4, 2, 2)
    values, mask = normal(4, 3, seed=3), torch.tensor([True, False, True]).expand(4, 3)
    other = values.clone()
    other[:, 1] = math.nan  # masked: must not matter
    changed = values.clone()
    changed[:, 0] += 1
    for run in (lambda *c: network.encode(images, *c)[0], lambda *c: network.decode(z, *c)):
        assert torch.equal(run(values, mask), run(other, mask))
        assert not torch.allclose(run(values, mask), run(changed, mask), atol=1e-3)
        assert torch.equal(run(values, torch.zeros_like(mask)), run())


def test_one_batch_of_given_and_not_given_is_two_passes() -> None:
    network = conditional()
    z, values = normal(2, 4, 2, 2).expand(2, 4, 2, 2), normal(2, 3, seed=3)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    with torch.no_grad():
        joint = network.decode(z, values, mask)
        alone = torch.cat(
            [network.decode(z[i : i + 1], values[i : i + 1], mask[i : i + 1]) for i in range(2)]
        )
    assert joint.numpy() == pytest.approx(alone.numpy(), abs=1e-5)


def test_without_options_the_weights_are_those_of_the_plain_network() -> None:
    """Names and count: checkpoints from before the options fit."""
    names = Autoencoder(2, latent_channels=4, width=8).state_dict().keys()
    assert {name.split(".")[0] for name in names} == {"encoder", "decoder"}
    more = Autoencoder(2, latent_channels=4, width=8, properties=2, codes=9).state_dict().keys()
    assert {name.split(".")[0] for name in more - names} == {
        "embedding",
        "modulations",
        "quantiser",
    }
