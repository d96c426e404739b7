"""Latents moved to two-point statistics: exact pixels, true gradients, never farther away."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from generators.latent_search import (
    SOFTNESS,
    LatentGenerator,
    SampleBank,
    Search,
    TrainedPrior,
    search,
    straight_through,
    two_point_errors,
)
from generators.two_point_target import TwoPointTarget
from loop.errors import InvalidInputError
from tests.generators import test_flow, test_vae_joint
from tests.generators.test_two_point_target import blobs


class Smooth:
    """A decoder that blurs what the latent holds, with a weight of its own."""

    name = "smooth"
    shape = (24, 24)

    def __init__(self) -> None:
        self.gain = torch.tensor(3.0, requires_grad=True)

    def draw(self, n: int, target: TwoPointTarget, rng: np.random.Generator) -> Tensor:
        return torch.from_numpy(rng.standard_normal((n, 1, 12, 12))).float()

    def margin(self, latents: Tensor) -> Tensor:
        wide = functional.interpolate(latents, self.shape, mode="bilinear")
        return self.gain * functional.avg_pool2d(wide, 3, 1, 1)[:, 0]


def target(seed: int = 1) -> TwoPointTarget:
    return TwoPointTarget.of_image(blobs((24, 24), seed), max_lag=6)


def test_labels_hold_the_pixels_asked_for_and_pass_the_gradient_of_probabilities() -> None:
    draws = torch.Generator().manual_seed(0)
    margin = torch.randn(3, 6, 7, generator=draws, dtype=torch.float64, requires_grad=True)
    labels = straight_through(margin, 11)
    hard = labels.detach()
    assert set(hard.unique().tolist()) == {0.0, 1.0}
    assert hard.sum((1, 2)).tolist() == [11.0] * 3
    flat, ones = margin.detach().flatten(1), hard.flatten(1).bool()
    for row, inside in zip(flat, ones, strict=True):
        assert row[inside].min() > row[~inside].max()
    weight = torch.randn(3, 6, 7, generator=draws, dtype=torch.float64)
    (found,) = torch.autograd.grad((labels * weight).sum(), margin)
    last = flat.sort(descending=True).values[:, 10:12].mean(1)[:, None, None]
    soft = torch.sigmoid((margin.detach() - last) / SOFTNESS)
    torch.testing.assert_close(found, weight * soft * (1 - soft) / SOFTNESS)


def test_errors_of_labels_are_those_of_the_target() -> None:
    images = np.stack([blobs((24, 24), seed) for seed in range(4)])
    found = two_point_errors(torch.from_numpy(images).double(), target())
    np.testing.assert_allclose(found.numpy(), target().errors(images), atol=1e-12)
    assert found[1] == 0.0


def test_the_gradient_is_that_of_finite_differences() -> None:
    small = TwoPointTarget.of_image(blobs((6, 8), 1), max_lag=2)
    fields = torch.rand(2, 6, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda x: two_point_errors(x, small), fields.requires_grad_(), atol=1e-7
    )


def test_no_error_no_slope() -> None:
    fields = torch.from_numpy(blobs((24, 24), 1)[None]).double().requires_grad_()
    (found,) = torch.autograd.grad(two_point_errors(fields, target()).sum(), fields)
    assert found.count_nonzero() == 0


def test_the_search_brings_samples_nearer() -> None:
    prior, wanted = Smooth(), target()
    found = search(
        prior, wanted, 6, rng=np.random.default_rng(0), settings=Search(4, 30, 0.2, close=0.0)
    )
    assert found.images.sum((1, 2)).tolist() == [wanted.pixels] * 6
    np.testing.assert_allclose(found.errors, wanted.errors(found.images), atol=1e-6)  # float32
    assert np.all(found.errors <= found.sample_errors)
    assert found.errors.mean() < 0.9 * found.sample_errors.mean()
    assert found.decodings == 4 + 30
    assert prior.gain.grad is None


def test_it_stops_when_near_and_takes_the_nearest_of_its_samples() -> None:
    one = search(Smooth(), target(), 5, rng=np.random.default_rng(0), settings=Search(4, close=1.0))
    assert one.decodings == 4
    np.testing.assert_array_equal(one.errors, one.sample_errors)
    prior, rng = Smooth(), np.random.default_rng(0)
    with torch.no_grad():
        labels = straight_through(prior.margin(prior.draw(20, target(), rng)), target().pixels)
    errors = target().errors(labels.numpy()).reshape(5, 4)
    np.testing.assert_allclose(one.errors, errors.min(1), atol=1e-6)


def test_another_size_is_refused() -> None:
    wanted = TwoPointTarget.of_image(blobs((32, 32)), max_lag=6)
    with pytest.raises(InvalidInputError, match="of 32 x 32; the trained smooth makes 24 x 24"):
        search(Smooth(), wanted, 2, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    "generator",
    [
        lambda: test_flow.trained("image and compositions"),
        lambda: test_vae_joint.fitted("image and compositions"),
    ],
    ids=["joint-flow", "vae"],
)
def test_trained_generators_are_priors(generator: object) -> None:
    trained = generator()  # type: ignore[operator]
    assert isinstance(trained, LatentGenerator)
    shape = trained.space.image_shape
    assert shape is not None
    wanted = TwoPointTarget.of_image(blobs(shape), max_lag=4)
    for phase in (0, 1):
        prior = TrainedPrior(trained, phase)
        found = [
            search(prior, wanted, 3, rng=np.random.default_rng(2), settings=Search(steps=4))
            for _ in range(2)
        ]
        np.testing.assert_array_equal(found[0].images, found[1].images)
        assert found[0].images.sum((1, 2)).tolist() == [wanted.pixels] * 3
        assert np.all(found[0].errors <= found[0].sample_errors)


def test_generators_that_cannot_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="is not trained"):
        TrainedPrior(test_flow.untrained("image and compositions"))
    with pytest.raises(InvalidInputError, match="has no latent space of images"):
        TrainedPrior(test_flow.trained("compositions"))
    with pytest.raises(InvalidInputError, match="phase is 2; the trained joint-flow has 2"):
        TrainedPrior(test_flow.trained("image and compositions"), 2)


def test_a_bank_gives_the_nearest_of_its_samples() -> None:
    prior = TrainedPrior(test_flow.trained("image and compositions"))
    bank = SampleBank(prior, 12, np.random.default_rng(0))
    wanted = TwoPointTarget.of_image(blobs(bank.shape), max_lag=4)
    with torch.no_grad():
        labels = (prior.margin(bank.latents) > 0).numpy()
    errors = wanted.errors(labels)
    drawn = bank.draw(8, wanted, np.random.default_rng(1))
    rows = [int((bank.latents == z).flatten(1).all(1).nonzero()[0, 0]) for z in drawn]
    assert sorted(rows[:6]) == sorted(set(rows))  # half of 12, and then the first ones again
    assert rows[6:] == rows[:2]
    np.testing.assert_array_equal(np.argsort(errors[rows[:6]], kind="stable"), np.arange(6))
    found = search(bank, wanted, 3, rng=np.random.default_rng(2), settings=Search(steps=2))
    assert found.images.sum((1, 2)).tolist() == [wanted.pixels] * 3
    with pytest.raises(InvalidInputError, match="a bank of 1 samples"):
        SampleBank(prior, 1, np.random.default_rng(0))
