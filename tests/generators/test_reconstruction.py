"""Reconstructions of real images meet what is asked, and differ from each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from generators import reconstruction
from generators.exchange import Exchange
from generators.latent_search import Search
from generators.reconstruction import reconstruct
from generators.two_point_target import TwoPointTarget
from loop.errors import InvalidInputError
from loop.features import autocorrelation
from loop.images import read_labels
from tests.generators.test_latent_search import Smooth, target
from tests.generators.test_two_point_target import DATA, blobs


@pytest.mark.parametrize("path", sorted(DATA.glob("*.png")), ids=lambda p: p.stem)
def test_images_that_mcrpy_ships(path: Path) -> None:
    """Two-point error at most 1.2 % within lag 16, fraction within 0.005; here it is exact."""
    image = read_labels(path)
    wanted = TwoPointTarget.of_image(image)
    found = reconstruct(wanted, 2, rng=np.random.default_rng(0))
    assert found.start == "random-field"
    assert np.all(found.errors <= 0.012)
    assert np.all(found.errors <= found.start_errors)
    np.testing.assert_array_equal(found.errors, wanted.errors(found.images))
    assert found.images.sum((1, 2)).tolist() == [int(image.sum())] * 2
    assert np.all(found.fraction_errors == 0.0)
    assert np.mean(found.images[0] != found.images[1]) > 0.01
    assert np.mean(found.images[0] != image) > 0.01


def test_lags_alone_give_images_of_another_size() -> None:
    image = blobs((48, 48))
    wanted = TwoPointTarget.of_lags(autocorrelation(image[None].astype(float), 8)[0], (40, 64))
    found = reconstruct(wanted, 3, rng=np.random.default_rng(1))
    assert found.images.shape == (3, 40, 64)
    assert np.all(found.errors < 0.012)
    assert np.all(np.abs(found.fraction_errors) <= 0.5 / (40 * 64))


def test_a_prior_is_begun_with() -> None:
    found = reconstruct(
        target(), 4, rng=np.random.default_rng(0), prior=Smooth(), moves=Search(steps=10)
    )
    assert found.start == "smooth"
    assert np.all(found.errors <= found.start_errors)
    assert np.all(found.errors < 0.012)


def test_the_same_seed_gives_the_same_images(monkeypatch: pytest.MonkeyPatch) -> None:
    def images(n: int, seed: int) -> np.ndarray:
        return reconstruct(target(), n, rng=np.random.default_rng(seed)).images

    whole = images(5, 0)
    np.testing.assert_array_equal(images(5, 0), whole)
    assert np.any(images(5, 1) != whole)
    monkeypatch.setattr(reconstruction, "PIXELS", 2 * 24 * 24)  # two at a time
    parts = images(5, 0)
    assert parts.shape == whole.shape
    assert np.all(target().errors(parts) < 0.012)


def test_stripes_come_out_as_stripes() -> None:
    """All power in one frequency and its multiples: the field has the stripes' direction."""
    image = np.tile((np.arange(32) // 4 % 2).astype(np.uint8), (32, 1))
    found = reconstruct(TwoPointTarget.of_image(image), 2, rng=np.random.default_rng(0))
    assert np.all(found.errors < 0.012)
    assert np.all(found.images == found.images[:, :1])  # the same in every row


def test_settings_are_heeded() -> None:
    none = Exchange(sweeps=0, pairs=0)
    found = reconstruct(target(), 2, rng=np.random.default_rng(0), settings=none)
    np.testing.assert_array_equal(found.errors, found.start_errors)


def test_no_image_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="0 images were asked for"):
        reconstruct(target(), 0, rng=np.random.default_rng(0))
