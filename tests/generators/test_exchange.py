"""Exchange of pixels: its sums are those of a recomputation, and nothing gets worse."""

from __future__ import annotations

import numpy as np
import pytest

from generators.exchange import Candidates, Exchange, HalfLags, exchange, interface
from generators.two_point_target import TwoPointTarget, pair_counts
from loop.errors import InvalidInputError
from tests.generators.test_two_point_target import blobs, stripes

SHAPES = [((8, 8), 4), ((9, 7), 3), ((8, 10), 2), ((12, 12), 6), ((12, 5), 2)]


@pytest.mark.parametrize(("shape", "lag"), SHAPES)
def test_half_of_the_lags_stand_for_all(shape: tuple[int, int], lag: int) -> None:
    target = TwoPointTarget.of_image(blobs(shape), max_lag=lag)
    lags, other = HalfLags(target), blobs(shape, 3)
    assert lags.weight.sum() + 1 == target.window.sum()
    full = lags.full(lags.counts(other) - lags.wanted)
    exact = np.where(target.window, pair_counts(other[None])[0] - target.counts, 0.0)
    exact[0, 0] = 0.0
    np.testing.assert_allclose(full, exact, atol=1e-9)


@pytest.mark.parametrize(("shape", "lag"), SHAPES)
def test_an_exchange_changes_what_a_recomputation_finds(shape: tuple[int, int], lag: int) -> None:
    """Every pair of pixels of both phases: the counts to the pair, E to rounding."""
    target = TwoPointTarget.of_image(blobs(shape), max_lag=lag)
    image, lags = blobs(shape, 5), HalfLags(target)
    out, into = np.flatnonzero(image.ravel() == 1), np.flatnonzero(image.ravel() == 0)
    found = Candidates.among(image, out, into, lags)
    counts = lags.counts(image)
    gap = counts - lags.wanted
    before = lags.weight @ gap**2
    changes = found.changes(gap, lags)
    for a in range(0, len(out), 5):
        for b in range(0, len(into), 3):
            moved = image.copy().ravel()
            moved[out[a]], moved[into[b]] = 0, 1
            exact = lags.counts(moved.reshape(shape))
            np.testing.assert_array_equal(found.moved(counts, a, b, lags), exact)
            after = lags.weight @ (exact - lags.wanted) ** 2
            assert changes[a, b] == pytest.approx(after - before, abs=1e-6)


def test_the_interface_of_stripes() -> None:
    assert interface(stripes(8, 12, 1)).all()
    found = interface(stripes(8, 12, 3))
    np.testing.assert_array_equal(found[0], np.tile([True, False, True], 4))
    lone = np.zeros((5, 5), dtype=np.uint8)
    lone[0, 0] = 1
    assert interface(lone).sum() == 5  # the pixel and its four neighbours, across the period


@pytest.mark.parametrize(
    ("settings", "share"),
    [(Exchange(pairs=0), 0.5), (Exchange(sweeps=0, pairs=12), 0.9), (Exchange(), 0.5)],
)
def test_fraction_stays_and_no_error_rises(settings: Exchange, share: float) -> None:
    target = TwoPointTarget.of_image(blobs((32, 40)), max_lag=10)
    given = np.stack([blobs((32, 40), seed, 0.3 + 0.05 * seed) for seed in range(1, 6)])
    kept = given.copy()
    found = exchange(given, target, settings)
    np.testing.assert_array_equal(given, kept)
    np.testing.assert_array_equal(found.sum((1, 2)), given.sum((1, 2)))
    before, after = target.errors(given), target.errors(found)
    assert np.all(after <= before)
    assert np.all(after[1:3] < share * before[1:3])  # those that have about the right fraction


def test_an_image_that_is_there_already_stays_as_it_is() -> None:
    image = blobs((24, 24))
    target = TwoPointTarget.of_image(image, max_lag=6)
    given = np.stack([image, np.roll(image, (3, 7), (0, 1)), image[::-1, ::-1]])
    np.testing.assert_array_equal(exchange(given, target), given)


def test_no_specks_appear() -> None:
    """A pixel only joins a phase that it touches."""
    target = TwoPointTarget.of_image(blobs((32, 32)), max_lag=8)
    image = blobs((32, 32), 4)
    for _ in range(10):
        moved = exchange(image[None], target, Exchange(sweeps=0, pairs=1))[0]
        assert np.sum(moved != image) in (0, 2)
        assert interface(image)[moved != image].all()
        image = moved


def test_images_without_an_interface_stay_as_they_are() -> None:
    target = TwoPointTarget.of_image(blobs((16, 16)), max_lag=4)
    blank = np.zeros((2, 16, 16), dtype=np.uint8)
    np.testing.assert_array_equal(exchange(blank, target), blank)


def test_other_images_are_refused() -> None:
    target = TwoPointTarget.of_image(blobs((16, 16)), max_lag=4)
    for given in (np.zeros((16, 16)), np.zeros((1, 8, 8)), np.full((1, 16, 16), 2)):
        with pytest.raises(InvalidInputError, match=r"expected \(n, 16, 16\) of 0 and 1"):
            exchange(given.astype(np.uint8), target)


def test_single_pairs_end_where_it_is_near_enough() -> None:
    target = TwoPointTarget.of_image(blobs((32, 32)), max_lag=8)
    given = blobs((32, 32), 2)[None]
    for share in (0.9, 0.5):
        enough = share * float(target.errors(given)[0])
        found = exchange(given, target, Exchange(sweeps=0, pairs=400, enough=enough))
        # One pair changes it by far less than a fifth.
        assert 0.8 * enough < target.errors(found)[0] <= enough
