"""The image autoencoder: it learns, its latent is standardised, it survives a checkpoint."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from generators.registry import PRESETS
from generators.training.losses import DETAIL, LEAST_SHARE, detail_weights
from generators.vae import ImageVAE, VAESettings
from loop.library import Library
from loop.space import DesignSpace
from tests import libraries

SPACE = libraries.SPACES["image"]
SETTINGS = replace(PRESETS["tiny"].vae, steps=120, images=512, batch=16)


@pytest.fixture(scope="module")
def library() -> Library:
    return libraries.library(SPACE)


@pytest.fixture(scope="module")
def vae(library: Library) -> ImageVAE:
    return ImageVAE.fit(library, SETTINGS, device="cpu", rng=np.random.default_rng(0))


@pytest.fixture(scope="module")
def held_out(library: Library) -> NDArray[np.uint8]:
    return library.patches(200, rng=np.random.default_rng(1), split="val")


def test_it_reconstructs_images_it_has_not_seen(vae: ImageVAE, held_out: NDArray[np.uint8]) -> None:
    """Far better than the more frequent phase everywhere, which errs on the other's share."""
    majority = min(held_out.mean(), 1 - held_out.mean())
    assert vae.reconstruction_error(held_out) < 0.4 * majority


def test_the_latent_says_which_image_it_is(vae: ImageVAE, held_out: NDArray[np.uint8]) -> None:
    """No posterior collapse: with the latents of other images it reconstructs far worse."""
    latents = vae.encode(torch.from_numpy(held_out))
    swapped = vae.decode(latents.roll(1, dims=0))
    assert np.mean(swapped != held_out) > 2 * vae.reconstruction_error(held_out)


def test_latents_of_the_training_images_are_standardised(vae: ImageVAE, library: Library) -> None:
    """Per channel; the first draw of the stream is the images that it was fitted to."""
    images = library.patches(SETTINGS.images, rng=np.random.default_rng(0))
    latents = vae.encode(torch.from_numpy(images))
    channels = SETTINGS.latent_channels
    assert latents.shape == (SETTINGS.images, channels, 4, 4)
    assert latents.mean((0, 2, 3)).numpy() == pytest.approx(np.zeros(channels), abs=1e-4)
    assert latents.std((0, 2, 3)).numpy() == pytest.approx(np.ones(channels), abs=1e-4)


def test_decoding_undoes_the_standardisation(vae: ImageVAE, held_out: NDArray[np.uint8]) -> None:
    """decode(encode(x)) is the network's own decoding of its own mean: D(E(x))."""
    labels = torch.from_numpy(held_out)
    with torch.no_grad(), vae.how.autocast(vae.device):
        mean, _ = vae.network.encode(labels)
        # Through the same rounding: standardised in float32 and back.
        direct = vae.network.decode_labels(mean.float())
    assert np.mean(vae.decode(vae.encode(labels)) != direct.numpy()) < 1e-3


def test_shapes_and_labels(vae: ImageVAE) -> None:
    z = torch.randn(300, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    images = vae.decode(z)  # more than one chunk
    assert images.shape == (300, 32, 32)
    assert images.dtype == np.uint8
    assert set(np.unique(images)) == {0, 1}
    assert vae.encode(torch.from_numpy(images)).dtype == torch.float32


def test_the_same_stream_gives_the_same_weights(library: Library) -> None:
    short = replace(SETTINGS, steps=5, images=64)
    first, second, other = (
        ImageVAE.fit(library, short, device="cpu", rng=np.random.default_rng(seed)).tensors()
        for seed in (3, 3, 4)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_restored_from_its_tensors_it_is_bit_equal(
    vae: ImageVAE, held_out: NDArray[np.uint8]
) -> None:
    tensors = {name: tensor.clone().contiguous() for name, tensor in vae.tensors().items()}
    back = ImageVAE.restore(tensors, VAESettings(**vae.card()), 2, "cpu")
    labels = torch.from_numpy(held_out)
    assert torch.equal(back.encode(labels), vae.encode(labels))
    z = torch.randn(64, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    assert np.array_equal(back.decode(z), vae.decode(z))


def test_three_phases_and_oblong_images() -> None:
    space = DesignSpace(("a", "b", "c"), (), (16, 32))
    base = libraries.library(SPACE)
    assert base.split_images is not None
    rng = np.random.default_rng(0)

    def relabel(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.where((image == 1) & (rng.random(image.shape) < 0.3), 2, image).astype(np.uint8)

    images = replace(
        base.split_images,
        images={k: tuple(map(relabel, v)) for k, v in base.split_images.images.items()},
    )
    library = Library(space, images, None, augment=False, outside=0, data_hash="0" * 64)
    short = replace(SETTINGS, steps=3, images=64, latent_channels=5)
    vae = ImageVAE.fit(library, short, device="cpu", rng=rng)
    patches = library.patches(7, rng=rng)
    latents = vae.encode(torch.from_numpy(patches))
    assert latents.shape == (7, 5, 2, 4)
    assert vae.decode(latents).shape == patches.shape


def test_pixels_of_fine_detail_weigh_more() -> None:
    """By hand: a lone pixel has a share of 1/81 around it, its neighbours 80/81, a corner all."""
    labels = torch.zeros(1, 32, 32, dtype=torch.uint8)
    labels[0, 16, 16] = 1
    weights = detail_weights(labels, 2)[0]
    area = DETAIL**2
    assert float(weights[16, 16]) == pytest.approx(1 / (LEAST_SHARE + 1 / area))
    assert float(weights[16, 17]) == pytest.approx(1 / (LEAST_SHARE + (area - 1) / area))
    assert float(weights[0, 0]) == pytest.approx(1 / (LEAST_SHARE + 1.0))
    swapped = detail_weights(1 - labels, 2)[0]
    assert torch.equal(swapped, weights)
