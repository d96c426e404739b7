"""The random field: the library's statistics, the fractions asked for, and the contract."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from generators.random_field import LibraryCovariance, RandomField
from generators.spectral_field import SpectralField, cut_two_point, opposite
from loop.candidate import Candidate, Outcome, Record
from loop.errors import InvalidCampaignError, InvalidInputError
from loop.images import LabelImage, Split, SplitImages
from loop.library import Library
from loop.made_designs import MadeDesigns
from loop.protocols import Generator
from loop.space import DesignSpace
from loop.targets import Maximise, Range, Target, Targets, Value
from tests import libraries

KINDS = ["image and compositions", "image"]
NO_TARGETS = Targets(())
PIXEL = 1 / 1024


@cache
def library(kind: str) -> Library:
    return libraries.library(libraries.SPACES[kind])


@cache
def untrained(kind: str) -> RandomField:
    space = libraries.SPACES[kind]
    return RandomField(space, library(kind), libraries.targets(space))


def records(kind: str, seed: int = 0) -> list[Record]:
    """Scored designs, among them one that failed."""
    designs = library(kind).draw(41, rng=np.random.default_rng(seed))
    failed = Record(designs[40], Outcome.failed("did not converge"), "rule", "1", 0)
    return [*libraries.scored(designs[:40]), failed]


def stack(candidates: list[Candidate]) -> NDArray[np.uint8]:
    return np.stack([c.microstructure for c in candidates if c.microstructure is not None])


def fractions(candidates: list[Candidate]) -> NDArray[np.float64]:
    return stack(candidates).mean((1, 2))


def two_points(images: NDArray[np.generic]) -> NDArray[np.float64]:
    """Periodic S2 of each of (n, h, w) indicators."""
    power = np.abs(np.fft.fft2(images.astype(float))) ** 2
    found: NDArray[np.float64] = np.fft.ifft2(power).real / images[0].size
    return found


def of_images(images: NDArray[np.uint8], *, augment: bool = False) -> Library:
    """A library of whole periodic images (n, h, w), one design on each, as a simulator makes it.

    The process variable and the copper of the first phase follow from the fraction of the second
    phase: the three belong together.
    """
    n = len(images)
    shape = (images.shape[1], images.shape[2])
    space = DesignSpace(("a", "b"), ("Ag", "Cu"), shape, process={"time_s": (0.0, 1.0)})
    share = images.mean((1, 2))[:, None]
    copper = np.concatenate([share / 2, np.full((n, 1), 0.9)], axis=1)
    rows = np.stack([1 - copper, copper], axis=-1)
    made = MadeDesigns(images, np.arange(n), rows, share, ("time_s",))
    split = SplitImages(
        {"train": tuple(images[made.rows("train")]), "val": (), "test": ()},
        {"train": tuple(map(str, made.rows("train"))), "val": (), "test": ()},
        "made for tests",
    )
    return Library(space, split, rows, augment, 0, "0" * 64, made)


def filtered(n: int, widths: tuple[float, float], fraction: float, seed: int) -> NDArray[np.uint8]:
    """(n, 32, 32) level cuts of noise filtered by Gaussians of two widths."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(n, 32, 32))
    fields = ndimage.gaussian_filter(noise, (0, *widths), mode="wrap")
    levels = np.quantile(fields, 1 - fraction, axis=(1, 2), keepdims=True)
    return (fields > levels).astype(np.uint8)


@pytest.mark.parametrize("widths", [(1.5, 1.5), (1.0, 3.0)])
def test_proposals_have_the_statistics_of_the_library(widths: tuple[float, float]) -> None:
    """Isotropic and drawn out along x: cuts of a Gaussian field, which the model can be."""
    images, n = filtered(700, widths, 0.3, seed=1), 400
    known = of_images(images)
    generator = RandomField(known.space, known, NO_TARGETS)
    found = two_points(stack(generator.propose(n, rng=np.random.default_rng(2))))
    given = two_points(np.stack(known.images()))
    # Five standard errors of the difference, 513 different lags, and what had to be clipped.
    field = generator.covariance.field(0.3)
    scatter = np.sqrt(found.var(0) / n + given.var(0) / len(given))
    lost = field.two_point.mean() - 0.3**2  # by cutting at the quantile
    clipped = np.abs(field.two_point - generator.covariance.two_point(0.3)).max()
    assert lost < 0.003
    assert clipped < 0.003
    assert np.all(np.abs(found.mean(0) - given.mean(0)) < 5 * scatter + 2 * lost + clipped + PIXEL)
    along, across = found.mean(0)[0, 4], found.mean(0)[4, 0]
    assert (along > across + 0.05) == (widths[1] > widths[0])


def test_windows_of_micrographs_give_the_statistics_of_the_field_they_show() -> None:
    """Large images that are not periodic in the window, against the closed form of their field."""
    rng = np.random.default_rng(3)
    images = libraries.blobs(6, rng, side=192, width=1.5)
    space = libraries.SPACES["image"]
    split = SplitImages(
        {"train": tuple(images), "val": (), "test": ()},
        {"train": tuple("012345"), "val": (), "test": ()},
        "made for tests",
    )
    micrographs = Library(space, split, None, True, 0, "0" * 64)
    measured = LibraryCovariance.measure(micrographs)
    # Filtering by a Gaussian of width s gives the correlation exp(−r² / 4s²).
    lag = np.minimum(np.arange(32), 32 - np.arange(32))
    rho = np.exp(-(lag[:, None] ** 2 + lag**2) / (4 * 1.5**2))
    expected = cut_two_point(rho, 0.5)
    # An independent patch has 4π · 1.5² = 28 pixels: six images hold 7,800 of them, a window 36.
    # Five standard errors of S2 are 5 · 0.5/√7800 = 0.03. The fraction's variance between windows,
    # 0.25/36 = 0.007, which a given fraction takes away, is within that.
    assert np.abs(measured.two_point(0.5) - expected).max() < 0.03
    field = measured.field(0.5)
    assert np.abs(field.two_point - expected)[lag < 8][:, lag < 8].max() < 0.03
    assert measured.least < measured.fractions[0] <= measured.fractions[-1] < measured.most


def test_a_layered_library_gives_layers_turned_as_the_library_turns_its_own() -> None:
    images = filtered(60, (0.8, 6.0), 0.5, seed=4)
    kept, turned = (of_images(images, augment=a) for a in (False, True))

    def along_x(known: Library) -> NDArray[np.bool_]:
        generator = RandomField(known.space, known, NO_TARGETS)
        found = two_points(stack(generator.propose(100, rng=np.random.default_rng(5))))
        apart = found[:, 0, 4] - found[:, 4, 0]
        assert np.abs(apart).min() > 0.05  # never a mixture of both directions
        return apart > 0

    assert along_x(kept).all()
    assert 25 < along_x(turned).sum() < 75  # five standard errors of 100 throws of a coin


def test_windows_that_end_at_the_phase_boundary_do_not_pass_for_long_waves() -> None:
    """Stripes 40 px wide seen through 32 px: one phase at an edge where the other abounds.

    At the fraction φ a stripe's S2 along the layers is φ at every lag, a covariance of 1.
    """
    image = np.zeros((160, 160), dtype=np.uint8)
    image[:, 40:80] = image[:, 120:] = 1
    split = SplitImages(
        {"train": (image,), "val": (), "test": ()},
        {"train": ("0",), "val": (), "test": ()},
        "made for tests",
    )
    space = libraries.SPACES["image"]
    striped = Library(space, split, None, False, 0, "0" * 64)
    c = LibraryCovariance.measure(striped).covariance
    np.testing.assert_allclose(c[:, 0, 0], 1.0, atol=1e-12)
    np.testing.assert_allclose(c.mean((1, 2)), 0.0, atol=1e-12)
    np.testing.assert_allclose(c, opposite(c), atol=1e-12)
    assert c[:, 4, 0].min() > 0.9
    generator = RandomField(space, striped, NO_TARGETS)
    images = stack(generator.propose(20, rng=np.random.default_rng(12)))
    crossings = [(images != np.roll(images, 1, axis=axis)).mean() for axis in (1, 2)]
    assert crossings[0] < 0.5 * crossings[1]


@pytest.mark.parametrize("wanted", [0.05, 0.2, 0.5, 0.9])
def test_any_fraction_has_a_field(wanted: float) -> None:
    """Also fractions far from the library's."""
    covariance = untrained("image").covariance
    s2 = covariance.two_point(wanted)
    assert s2[0, 0] == pytest.approx(wanted, abs=1e-12)
    assert s2.max() <= wanted + 1e-12
    assert s2.min() >= max(0.0, 2 * wanted - 1)
    field = covariance.field(wanted)
    assert isinstance(field, SpectralField)
    assert 0.0 <= field.clipped < 1.0


def test_without_a_request_fractions_are_those_of_library_draws() -> None:
    generator = untrained("image")
    for asked, guidance in ((None, 1.0), (Targets((Value("b_fraction", 0.5, 0.01),)), 0.0)):
        found = generator.propose(20, asked, guidance=guidance, rng=np.random.default_rng(6))
        drawn = library("image").parts(20, rng=np.random.default_rng(6)).images
        assert drawn is not None
        np.testing.assert_array_equal(fractions(found), drawn.mean((1, 2)))
        assert [c.origin.details["fraction"] for c in found] == fractions(found).tolist()


@pytest.mark.parametrize(
    ("given", "low", "high"),
    [
        ((Value("b_fraction", 0.45, 0.02),), 0.43, 0.47),
        ((Range("a_fraction", 0.6, 0.65),), 0.35, 0.4),
        ((Range("a_fraction", 0.5, 0.65), Range("b_fraction", 0.2, 0.4)), 0.35, 0.4),
        ((Maximise("b_fraction", at_least=0.55), Value("density", 8.0, 0.1)), 0.55, 1.0),
        ((Range("b_fraction", 0.9, 0.95),), 0.9, 0.95),  # outside the library
    ],
)
def test_targets_on_a_fraction_are_met(given: tuple[Target, ...], low: float, high: float) -> None:
    kind = "image"
    high = min(high, untrained(kind).covariance.most) if low < 0.9 else high
    for generator in (
        untrained(kind),
        untrained(kind).fit(records(kind), rng=np.random.default_rng(0)),
    ):
        rng = np.random.default_rng(7)
        found = fractions(generator.propose(40, Targets(given), guidance=1.0, rng=rng))
        assert found.min() >= low - PIXEL / 2
        assert found.max() <= high + PIXEL / 2
        assert np.ptp(found) > 0.5 * (high - low) * (generator.window is None)


def test_targets_that_exclude_each_other_are_refused() -> None:
    asked = Targets((Range("a_fraction", 0.7, 0.8), Range("b_fraction", 0.7, 0.8)))
    with pytest.raises(InvalidInputError, match=r"b_fraction >= 0\.7 and <= 0\.3; .* loosen"):
        untrained("image").propose(1, asked, guidance=1.0, rng=np.random.default_rng(0))


def test_fitting_takes_the_range_of_the_best_records() -> None:
    kind = "image"
    given = records(kind)
    targets = libraries.targets(libraries.SPACES[kind])
    figures: dict[str, float] = {}

    def progress(stage: str, done: int, total: int, **given: float) -> None:
        assert (stage, done, total) == ("random field", 1, 1)
        figures.update(given)

    generator = RandomField(libraries.SPACES[kind], library(kind), targets, elite=7)
    new = generator.fit(given, rng=np.random.default_rng(0), progress=progress)
    best = sorted(given[:40], key=lambda r: targets.distance(r.outcome.values))[:7]
    shares = [r.outcome.values["fraction"] for r in best]
    assert new.window == (min(shares), max(shares))
    assert generator.window is None
    assert 0 <= figures["clipped_power"] < 1
    found = fractions(new.propose(50, targets, guidance=1.0, rng=np.random.default_rng(8)))
    assert found.min() >= min(shares) - PIXEL / 2
    assert found.max() <= max(shares) + PIXEL / 2
    assert generator.fit(given[40:], rng=np.random.default_rng(0)).window is None


def test_compositions_are_rows_of_the_library() -> None:
    kind = "image and compositions"
    table = library(kind).table
    assert table is not None
    rows = {row.tobytes() for row in table}
    for candidate in untrained(kind).propose(30, rng=np.random.default_rng(9)):
        assert candidate.phase_compositions is not None
        assert candidate.phase_compositions.tobytes() in rows


def test_designs_that_belong_together_stay_together() -> None:
    """The image is new, its fraction and the process that gives this fraction are one design's."""
    rng = np.random.default_rng(10)
    shares = rng.uniform(0.3, 0.7, 80)
    known = of_images(np.concatenate([filtered(1, (1.5, 1.5), f, i) for i, f in enumerate(shares)]))
    generator = RandomField(known.space, known, NO_TARGETS)
    asked = Targets((Range("b_fraction", 0.4, 0.5),))
    for targets in (None, asked):
        found = generator.propose(15, targets, guidance=1.0, rng=np.random.default_rng(11))
        shares = fractions(found)
        np.testing.assert_allclose([c.process["time_s"] for c in found], shares, atol=1e-12)
        rows = np.array([c.phase_compositions for c in found])
        np.testing.assert_allclose(rows[:, 0, 1], shares / 2, atol=1e-12)
        assert all(known.space.violations(c) == [] for c in found)
    assert fractions(found).min() >= 0.4
    assert fractions(found).max() <= 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_contract(kind: str) -> None:
    space = libraries.SPACES[kind]
    targets = libraries.targets(space)
    old = untrained(kind)
    given = records(kind)
    kept = [(r.candidate.id, dict(r.outcome.values)) for r in given]
    new = old.fit(given, rng=np.random.default_rng(1))
    assert [(r.candidate.id, dict(r.outcome.values)) for r in given] == kept

    def ids(generator: Generator, seed: int = 3) -> list[str]:
        rng = np.random.default_rng(seed)
        return [c.id for c in generator.propose(12, targets, guidance=1.0, rng=rng)]

    assert isinstance(new, Generator)
    assert new is not old
    before = ids(new)
    assert before == ids(new) == ids(old.fit(given, rng=np.random.default_rng(1)))
    assert before != ids(new, seed=4)
    assert len(set(before)) == 12
    assert ids(new.fit(records(kind, seed=5), rng=np.random.default_rng(2))) != before
    assert ids(new) == before
    for n in (0, 1, 9):
        for guidance in (0.0, 1.0, 2.5):
            for asked in (targets, None):
                rng = np.random.default_rng(4)
                found = new.propose(n, asked, guidance=guidance, rng=rng)
                assert len(found) == n
                for candidate in found:
                    assert space.violations(candidate) == []
                    assert candidate.origin.source == new.name == "random-field"


def test_images_of_one_phase_are_refused() -> None:
    known = library("image")
    assert known.split_images is not None
    constant = (np.zeros((96, 96), dtype=np.uint8), np.ones((96, 96), dtype=np.uint8))
    images: dict[Split, tuple[LabelImage, ...]] = {"train": constant, "val": (), "test": ()}
    broken = replace(known, split_images=replace(known.split_images, images=images))
    with pytest.raises(InvalidInputError, match="all 2 train images show one phase only at 32 x"):
        RandomField(known.space, broken, NO_TARGETS)
    # One image in which phases meet is enough, and the constant ones are left aside.
    images["train"] = (*constant, known.images()[0])
    mended = replace(known, split_images=replace(known.split_images, images=images))
    assert RandomField(known.space, mended, NO_TARGETS).covariance.least > 0


def test_images_that_barely_show_a_second_phase_have_statistics() -> None:
    """One pixel of one phase or of the other: the fraction's variance is all but the whole."""
    images = np.zeros((64, 32, 32), dtype=np.uint8)
    images[::2] = 1
    images[:, 7, 9] = 1 - images[:, 0, 0]
    known = of_images(images)
    generator = RandomField(known.space, known, NO_TARGETS)
    found = generator.propose(55, rng=np.random.default_rng(13))  # each design that is drawn from
    counts = stack(found).sum((1, 2)).tolist()
    assert sorted(counts) == sorted(np.stack(known.images()).sum((1, 2)).tolist())
    assert set(counts) == {1, 1023}


def test_spaces_that_it_cannot_fill_are_refused() -> None:
    known = library("image")
    with pytest.raises(InvalidCampaignError, match=r"two phases, but .* has 3 \(a, b, c\)"):
        RandomField(replace(known.space, phases=("a", "b", "c")), known, NO_TARGETS)
    with pytest.raises(InvalidCampaignError, match="has no images"):
        RandomField(libraries.SPACES["compositions"], library("compositions"), NO_TARGETS)
