"""Options of the image autoencoder: grey images, conditions, a codebook, features; bad input."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from generators import vae as module
from generators.latent_content import active_units, code_use, evidence_bound
from generators.training.errors import TrainingError
from generators.training.losses import hard_fields, two_point_loss
from generators.training.resume import TrainingState
from generators.vae import ImageVAE, VAESettings
from loop.errors import InvalidInputError
from tests import libraries

SPACE = libraries.SPACES["image"]
SHORT = VAESettings(width=8, steps=80, batch=16, images=256)


@cache
def images(split: str = "train", n: int = 256) -> Tensor:
    library = libraries.library(SPACE)
    return torch.from_numpy(library.patches(n, rng=np.random.default_rng(0), split=split))


def grey(labels: Tensor) -> Tensor:
    """Phases at 0.2 and 0.7 with a smooth shade across."""
    shade = torch.linspace(0.0, 0.2, labels.shape[-1])
    return 0.2 + 0.5 * labels.float() + shade


def fit(
    settings: VAESettings = SHORT,
    data: Tensor | None = None,
    *,
    phases: int | None = 2,
    properties: NDArray[np.float64] | None = None,
) -> ImageVAE:
    data = images() if data is None else data
    return ImageVAE.fit_images(
        data,
        settings,
        phases=phases,
        device="cpu",
        rng=np.random.default_rng(0),
        properties=properties,
    )


def back_from_tensors(vae: ImageVAE) -> ImageVAE:
    tensors = {name: tensor.clone().contiguous() for name, tensor in vae.tensors().items()}
    return ImageVAE.restore(tensors, VAESettings(**vae.card()), vae.network.phases, "cpu")


@cache
def plain() -> ImageVAE:
    return fit()


@cache
def of_grey() -> ImageVAE:
    return fit(SHORT, grey(images()), phases=None)


@cache
def of_codes() -> ImageVAE:
    return fit(replace(SHORT, bottleneck="vq", codes=32))


@cache
def conditional() -> ImageVAE:
    return fit(replace(SHORT, latent_channels=1, kl_weight=3.0), properties=fractions(images()))


def fractions(labels: Tensor) -> NDArray[np.float64]:
    """(n, 2): the second phase's share, and a property that is never known."""
    share = labels.float().mean((1, 2)).double().numpy()
    return np.stack([share, np.full(len(share), np.nan)], axis=1)


def standardised(vae: ImageVAE, data: Tensor) -> None:
    latents = vae.encode(data)
    channels = latents.shape[1]
    assert latents.mean((0, 2, 3)).numpy() == pytest.approx(np.zeros(channels), abs=1e-4)
    assert latents.std((0, 2, 3)).numpy() == pytest.approx(np.ones(channels), abs=1e-4)


# Grey images


def test_grey_images_there_and_back() -> None:
    vae, held_out = of_grey(), grey(images("val", 64))
    back = vae.decode(vae.encode(held_out))
    assert back.dtype == np.float32
    assert back.shape == held_out.shape
    assert 0.0 <= back.min() <= back.max() <= 1.0
    constant = float((held_out - held_out.mean()).abs().mean())
    assert vae.reconstruction_error(held_out.numpy()) < 0.4 * constant
    standardised(vae, grey(images()))
    again = back_from_tensors(vae)
    assert np.array_equal(again.decode(again.encode(held_out)), back)


# Codebook


def test_a_codebook_instead_of_a_normal() -> None:
    vae, held_out = of_codes(), images("val", 64)
    majority = min(float(held_out.float().mean()), 1 - float(held_out.float().mean()))
    assert vae.reconstruction_error(held_out.numpy()) < 0.5 * majority
    standardised(vae, images())
    use = code_use(vae, images())
    assert use.sum() == pytest.approx(1.0)
    perplexity = float(np.exp(-(use[use > 0] * np.log(use[use > 0])).sum()))
    assert 8 < perplexity <= 32
    assert 1 <= vae.figures["perplexity"] <= 32


def test_a_codebook_comes_back_and_rounds() -> None:
    """Latents within rounding of an entry decode as the entry does."""
    vae, held_out = of_codes(), images("val", 16)
    again = back_from_tensors(vae)
    latents = vae.encode(held_out)
    assert np.array_equal(again.decode(latents), vae.decode(latents))
    quantiser = vae.network.quantiser
    assert quantiser is not None
    raw = latents * vae.std + vae.mean
    rounded = (quantiser(raw).values - vae.mean) / vae.std
    assert np.mean(vae.decode(rounded) != vae.decode(latents)) < 1e-3


def test_figures_of_one_bottleneck_are_not_of_the_other() -> None:
    with pytest.raises(InvalidInputError, match="a quantised latent has no evidence lower bound"):
        evidence_bound(of_codes(), images(n=4), np.random.default_rng(0))
    with pytest.raises(InvalidInputError, match=r"has no codebook; set vae\.bottleneck to vq"):
        code_use(plain(), images(n=4))
    with pytest.raises(InvalidInputError, match=r"vae.bottleneck is 'gumbel'; expected kl or vq"):
        fit(replace(SHORT, bottleneck="gumbel"))  # type: ignore[arg-type]


# Conditions


def test_the_decoder_uses_the_condition_and_it_may_be_left_out() -> None:
    """The same latent decodes to more of the second phase when more is asked for."""
    vae, held_out = conditional(), images("val", 64)
    z = torch.randn(64, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    shares = []
    for share in (0.3, 0.5, 0.7):
        asked = np.tile([share, np.nan], (64, 1))
        shares.append(float(vae.decode(z, asked).mean()))
    assert shares[0] < shares[1] - 0.02 < shares[2] - 0.04
    unknown = np.full((64, 2), np.nan)
    assert np.array_equal(vae.decode(z, unknown), vae.decode(z))
    again, known = back_from_tensors(vae), fractions(held_out)
    assert torch.equal(again.encode(held_out, known), vae.encode(held_out, known))
    assert not torch.equal(vae.encode(held_out, known), vae.encode(held_out))


def test_conditions_that_do_not_fit() -> None:
    with pytest.raises(InvalidInputError, match="this autoencoder takes none"):
        plain().encode(images(n=4), np.zeros((4, 2)))
    with pytest.raises(InvalidInputError, match=r"shape \(4, 3\); expected \(4, 2\), NaN where"):
        conditional().encode(images(n=4), np.zeros((4, 3)))
    with pytest.raises(InvalidInputError, match=r"shape \(9, 1\) for 256 images; expected a row"):
        fit(properties=np.zeros((9, 1)))


# Divergence and features


def test_a_heavier_divergence_says_less_and_the_figures_show_it() -> None:
    heavy = fit(replace(SHORT, kl_weight=300.0, detail=0.0))
    assert active_units(plain(), images()) > 0.9
    assert active_units(heavy, images()) == 0.0  # collapsed
    light, nothing = (
        float(evidence_bound(v, images(), np.random.default_rng(0)).prior.mean())
        for v in (plain(), heavy)
    )
    assert nothing < 1.0 < light


def test_the_loss_without_detail_is_the_bound_per_pixel() -> None:
    """Rounded in training against float32, and one draw each: within a few per cent."""
    settings = replace(SHORT, detail=0.0, kl_weight=1.0, steps=60)
    vae = fit(settings)
    bound = evidence_bound(vae, images(), np.random.default_rng(1))
    assert bound.total.shape == (256,)
    figures = vae.figures
    last = figures["reconstruction"] * 32 * 32 + figures["kl_nats"]
    assert float(bound.total.mean()) == pytest.approx(last, rel=0.15)
    assert float(bound.bits_per_dimension(32 * 32).mean()) < 1.0  # a coin for each pixel


def test_a_grey_bound_is_that_of_its_normal() -> None:
    vae = of_grey()
    bound = evidence_bound(vae, grey(images(n=8)), np.random.default_rng(1))
    best = 0.5 * np.log(2 * np.pi * vae.settings.deviation**2) * 32 * 32
    assert bool((bound.reconstruction > best).all())  # no error at all would give this
    assert bool((bound.prior > 0).all())


def test_all_features_together_train() -> None:
    vae = fit(
        replace(
            SHORT,
            two_point_weight=0.5,
            gradient_weight=0.2,
            adversarial_weight=0.02,
            discriminator_width=8,
            kl_warmup=20.0,
            free_bits=0.05,
        )
    )
    names = {"reconstruction", "kl_nats", "two_point", "gradient", "adversarial", "discriminator"}
    assert set(vae.figures) == names
    held_out = images("val", 64).numpy()
    assert vae.reconstruction_error(held_out) < 0.4 * min(held_out.mean(), 1 - held_out.mean())
    # What was trained along is not kept.
    assert vae.tensors().keys() == plain().tensors().keys()


def test_the_two_point_loss_brings_the_statistics_closer() -> None:
    """Through sharp pixels: from noise, logits come to have the statistics of an image."""
    wanted = functional.one_hot(images(n=4).long(), 2).permute(0, 3, 1, 2).float()
    draws = torch.Generator().manual_seed(0)
    logits = torch.randn(wanted.shape, generator=draws).requires_grad_()
    optimiser = torch.optim.Adam([logits], lr=0.1)
    errors = []
    for _ in range(200):
        optimiser.zero_grad()
        error = two_point_loss(hard_fields(logits), wanted)
        error.backward()
        optimiser.step()
        errors.append(float(error.detach()))
    assert min(errors[-20:]) < 0.2 * errors[0]


# Memory and input


def test_large_images_are_coded_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same numbers, whatever the pieces."""
    vae = plain()
    large = images(n=12).repeat(1, 4, 6)[:, :128, :192]
    latents, seen = vae.encode(large), []
    pictures = vae.decode(latents)
    encode = vae.network.encode

    def counted(x: Tensor, *given: Tensor | None) -> tuple[Tensor, Tensor]:
        seen.append(len(x))
        return encode(x, *given)

    monkeypatch.setattr(module, "CHUNK_PIXELS", 5 * 128 * 192)
    monkeypatch.setattr(vae.network, "encode", counted)
    assert vae.encode(large).numpy() == pytest.approx(latents.numpy(), abs=0.05)
    assert seen == [5, 5, 2]
    assert np.mean(vae.decode(latents) != pictures) < 1e-3


def test_images_that_cannot_be_learned_from() -> None:
    cases = (
        (images(n=15), 2, "15 images for batches of 16"),
        (torch.zeros(20, 32, 32, dtype=torch.uint8), 2, "all 20 images are constant"),
        (images() + 1, 2, "values from 1 to 2; expected labels of 2 phases"),
        (grey(images()) * float("nan"), None, "expected grey images"),
        (images()[:, :30], 2, "30 x 32 pixels; expected multiples of 8"),
    )
    for data, phases, message in cases:
        with pytest.raises(InvalidInputError, match=message):
            fit(SHORT, data, phases=phases)
    with pytest.raises(InvalidInputError, match=r"vae\.deviation is 0\.0; expected above 0"):
        fit(replace(SHORT, deviation=0.0), grey(images()), phases=None)


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    wild = replace(SHORT, kl_weight=float("inf"), steps=30)
    with pytest.raises(TrainingError, match=r"autoencoder: loss is (nan|inf) at step 0"):
        fit(wild)


class KilledError(Exception):
    """Stands for the end of a process."""


@pytest.mark.parametrize("more", [{"bottleneck": "vq", "codes": 8}, {"adversarial_weight": 0.1}])
def test_a_training_that_was_killed_ends_the_same(tmp_path: Path, more: dict[str, Any]) -> None:
    """Codebook and discriminator with it: bit-equal weights."""
    short = replace(SHORT, steps=9, adversarial_start=0.2, discriminator_width=8, **more)
    whole = fit(short).tensors()
    keep = TrainingState(tmp_path, every_steps=4)
    seen: list[tuple[str, int, int, dict[str, float]]] = []
    ends = {8}

    def progress(stage: str, done: int, total: int, **figures: float) -> None:
        seen.append((stage, done, total, figures))
        if done in ends:
            raise KilledError

    def run() -> dict[str, Tensor]:
        rng = np.random.default_rng(0)
        return ImageVAE.fit_images(
            images(), short, phases=2, device="cpu", rng=rng, progress=progress, keep=keep
        ).tensors()

    with pytest.raises(KilledError):
        run()
    ends.clear()
    seen.clear()
    again = run()
    assert min(done for _, done, *_ in seen) >= 4  # not from the beginning
    assert again.keys() == whole.keys()
    assert all(torch.equal(again[name], whole[name]) for name in whole)


def test_settings_of_older_checkpoints_are_read() -> None:
    """Cards from before the options lack them; the defaults are what was done then."""
    old = ("latent_channels", "width", "steps", "batch", "learning_rate", "kl_weight", "images")
    card = {k: v for k, v in asdict(SHORT).items() if k in old}
    assert VAESettings(**card) == SHORT
