"""Free samples have the library's law of phase fractions: exact against windows and quantiles."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from generators import phase_law
from generators.phase_law import (
    KNOTS,
    PRIOR,
    PhaseLaw,
    crop_fractions,
    fractions_of,
    shares_of,
)
from loop.candidate import Candidate
from loop.images import SplitImages
from loop.made_designs import MadeDesigns
from tests.generators.test_flow import trained
from tests.libraries import blobs

WITH_IMAGES = ("image and compositions", "image")


def images_of(designs: list[Candidate]) -> NDArray[np.uint8]:
    return np.stack([c.microstructure for c in designs if c.microstructure is not None])


@pytest.mark.parametrize("phases", [2, 3])
def test_shares_and_fractions_are_inverse(phases: int) -> None:
    fractions = np.random.default_rng(0).dirichlet(np.ones(phases), 200)[:, 1:]
    np.testing.assert_allclose(fractions_of(shares_of(fractions)), fractions, atol=1e-15)


def test_a_phase_that_has_nothing_left_has_no_share() -> None:
    shares = shares_of(np.array([[1.0, 0.0], [0.7, 0.3], [0.0, 1.0]]))
    np.testing.assert_allclose(shares, [[1.0, np.nan], [0.7, 1.0], [0.0, 1.0]])


def test_the_law_is_that_of_all_windows_in_which_phases_meet() -> None:
    library = trained("image").library
    assert library.space.image_shape is not None
    found = crop_fractions(library)
    windows = np.concatenate(
        [
            np.lib.stride_tricks.sliding_window_view(image, library.space.image_shape).reshape(
                -1, *library.space.image_shape
            )
            for image in library.images()
        ]
    )
    meet = windows.min((1, 2)) != windows.max((1, 2))
    np.testing.assert_allclose(found[:, 0], windows[meet].mean((1, 2)), atol=1e-15)


@pytest.mark.parametrize("phases", [2, 3])
def test_a_large_batch_has_the_quantiles_of_the_law(phases: int) -> None:
    """The level of a sample of rank r is u = (n r + m l)/(n + m), so |u - r| <= m/(n + m)."""
    rng = np.random.default_rng(phases)
    law = PhaseLaw.fit(rng.dirichlet(np.ones(phases), 5000)[:, 1:])
    n = 4000
    drawn = rng.dirichlet(np.full(phases, 4.0), n)[:, 1:]
    found = shares_of(law.mapped(drawn, drawn))
    ranks = (shares_of(drawn).argsort(0).argsort(0) + 0.5) / n
    room = PRIOR / (n + PRIOR) + 1 / KNOTS
    assert np.abs(law.level(found) - ranks).max() <= room
    # The first share keeps its order, and of two phases it is the fraction itself.
    assert (np.diff(found[drawn[:, 0].argsort(), 0]) >= 0).all()


def test_one_sample_stays_where_it_is() -> None:
    """Its rank, 1/2, weighs one against ``PRIOR``."""
    law = PhaseLaw.fit(np.linspace(0.1, 0.9, 8001)[:, None])
    for fraction in (0.15, 0.5, 0.85):
        found = law.mapped(np.array([[fraction]]), np.array([[fraction]]))
        expected = (0.5 + PRIOR * (fraction - 0.1) / 0.8) / (1 + PRIOR)
        assert float(law.level(found)[0, 0]) == pytest.approx(expected, abs=2 / KNOTS)


def test_samples_beyond_the_law_are_brought_into_it() -> None:
    law = PhaseLaw.fit(np.linspace(0.4, 0.6, 500)[:, None])
    fractions = np.full((50, 1), 0.99)
    found = law.mapped(fractions, np.linspace(0, 1, 50)[:, None])
    assert found.min() >= 0.4
    assert found.max() <= 0.6


@pytest.mark.parametrize("phases", [2, 3])
def test_images_have_what_the_law_gives_them_to_the_pixel(phases: int) -> None:
    stream = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(40, phases, 8, 8, generator=stream)
    law = PhaseLaw.fit(np.random.default_rng(0).dirichlet(np.full(phases, 5.0), 900)[:, 1:])
    images, held = law.matched(logits)
    for phase in range(1, phases):
        counted = (images == phase).mean((1, 2))
        assert np.abs(counted - held[:, phase - 1].numpy()).max() <= (phases - 1) / 64 + 1e-6
    if phases == 2:  # an image grows or shrinks: pixels go one way only
        gained = (images > logits.argmax(1).numpy()).any((1, 2))
        lost = (images < logits.argmax(1).numpy()).any((1, 2))
        assert not (gained & lost).any()


@pytest.mark.parametrize("kind", WITH_IMAGES)
def test_free_designs_have_the_library_s_fractions(kind: str) -> None:
    flow, n = trained(kind), 256
    images = images_of(flow.propose(n, None, guidance=0.0, rng=np.random.default_rng(0)))
    assert (images.min((1, 2)) != images.max((1, 2))).all()
    levels = np.sort(flow.library_law().level(images.mean((1, 2))[:, None])[:, 0])
    room = PRIOR / (n + PRIOR) + 1 / KNOTS + 0.5 / images[0].size
    assert np.abs(levels - (np.arange(n) + 0.5) / n).max() <= room
    plain = copy.copy(flow)
    plain.settings = replace(flow.settings, library_law=False)
    before = images_of(plain.propose(n, None, guidance=0.0, rng=np.random.default_rng(0)))
    assert (images != before).mean() < 0.1  # the same structures, a little grown or shrunk


def test_what_is_asked_is_led_as_without_the_law() -> None:
    flow = trained("image")
    plain = copy.copy(flow)
    plain.settings = replace(flow.settings, library_law=False)
    requests = np.full((12, 1), np.nan)
    requests[::2] = 0.5
    found, before = (
        images_of(f.generate(requests, guidance=1.0, rng=np.random.default_rng(0)))
        for f in (flow, plain)
    )
    np.testing.assert_array_equal(found[::2], before[::2])
    assert (found[::2].mean((1, 2)) == 0.5).all()


def test_of_many_places_every_few_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of the places leaves every second along both axes."""
    library = trained("image").library
    every = crop_fractions(library)
    monkeypatch.setattr(phase_law, "PLACES", -(-len(every) // 4))
    some = crop_fractions(library)
    assert len(every) / 5 < len(some) < len(every) / 3
    assert set(some.ravel()) <= set(every.ravel())
    assert float(some.mean()) == pytest.approx(float(every.mean()), abs=1e-3)


def test_designs_that_were_made_are_looked_at_whole() -> None:
    library = trained("image").library
    images = np.stack(blobs(30, np.random.default_rng(0), side=32))
    rows = np.zeros((30, 2, 0))
    made = MadeDesigns(images, np.arange(30), rows, np.zeros((30, 0)), ())
    split = SplitImages(
        {"train": tuple(images), "val": (), "test": ()}, {"train": (), "val": (), "test": ()}, ""
    )
    found = crop_fractions(replace(library, split_images=split, made=made))
    np.testing.assert_allclose(found[:, 0], images.mean((1, 2)), atol=1e-15)
