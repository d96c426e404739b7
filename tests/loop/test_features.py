"""Features against counting by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from loop.candidate import Candidate
from loop.features import (
    COMPONENTS,
    PER_PHASE,
    Features,
    ImageFeatures,
    autocorrelation,
    configurations,
)
from loop.space import DesignSpace
from tests import libraries
from tests.oracles import counted_chords, counted_two_point

IMAGES = arrays(np.uint8, st.tuples(*[st.integers(3, 7)] * 2), elements=st.integers(0, 1))


@given(IMAGES, st.integers(0, 3))
def test_autocorrelation_counts_pairs(image: np.ndarray, lag: int) -> None:
    field = image.astype(float)
    counted = counted_two_point(field, field, periodic=True)
    found = autocorrelation(field[None], lag)[0]
    h, w = image.shape
    expected = [[counted[dy % h, dx % w] for dx in range(lag + 1)] for dy in range(-lag, lag + 1)]
    assert found == pytest.approx(np.array(expected), abs=1e-12)


def test_autocorrelation_at_no_lag_is_the_fraction() -> None:
    images = np.random.default_rng(0).integers(0, 2, (5, 16, 12)).astype(float)
    found = autocorrelation(images, 4)
    assert found.shape == (5, 9, 5)
    assert found[:, 4, 0] == pytest.approx(images.mean((1, 2)))


@given(IMAGES)
def test_configurations_count_the_patterns(image: np.ndarray) -> None:
    h, w = image.shape
    counts = np.zeros(16)
    for y, x in itertools.product(range(h - 1), range(w - 1)):
        a, b, c, d = (int(v) for v in image[y : y + 2, x : x + 2].ravel())
        counts[a + 2 * b + 4 * c + 8 * d] += 1
    assert configurations(image[None])[0] == pytest.approx(counts / ((h - 1) * (w - 1)))


def test_configurations_of_stripes() -> None:
    """Vertical stripes of one pixel show two patterns, each in every other window."""
    stripes = np.tile(np.array([0, 1], dtype=np.uint8), (9, 5))[:, :9]
    found = configurations(np.stack([stripes, np.ones((9, 9), np.uint8)]))
    expected = np.zeros((2, 16))
    expected[0, [0b1010, 0b0101]] = 0.5
    expected[1, 15] = 1.0
    assert found == pytest.approx(expected)


@pytest.fixture(scope="module")
def patches() -> np.ndarray:
    space = libraries.SPACES["image and compositions"]
    return libraries.library(space).patches(300, rng=np.random.default_rng(0))


def test_image_features_start_with_fraction_and_transitions(patches: np.ndarray) -> None:
    columns = ImageFeatures.fit(patches, 2).transform(patches)
    image = patches[7]
    h, w = image.shape
    along_x = sum(image[y, x] != image[y, x - 1] for y in range(h) for x in range(w))
    along_y = sum(image[y, x] != image[y - 1, x] for y in range(h) for x in range(w))
    expected = [image.mean(), along_x / (h * w), along_y / (h * w)]
    assert columns[7, :3] == pytest.approx(expected)


def test_image_features_hold_the_mean_chords(patches: np.ndarray) -> None:
    """As log(chord / 2), along x and y, up to the half pixel that keeps them finite."""
    columns = ImageFeatures.fit(patches, 2).transform(patches)
    for image, row in zip(patches[:20], columns, strict=False):
        inside = image == 1
        if inside.all(0).any() or inside.all(1).any():
            continue  # endless chords are not counted
        for column, picture in zip((3, 4), (inside, inside.T), strict=True):
            chords = counted_chords(picture)
            half = 0.5 / image.size
            shares = sum(chords) / image.size, 2 * len(chords) / image.size
            assert row[column] == pytest.approx(np.log((shares[0] + half) / (shares[1] + half)))


def test_an_image_without_interfaces_has_finite_features(patches: np.ndarray) -> None:
    constant = np.stack([np.zeros((32, 32)), np.ones((32, 32))]).astype(np.uint8)
    assert np.all(np.isfinite(ImageFeatures.fit(patches, 2).transform(constant)))


def test_components_are_orthonormal_and_ordered(patches: np.ndarray) -> None:
    features = ImageFeatures.fit(patches, 2)
    assert features.axes @ features.axes.T == pytest.approx(np.eye(len(features.axes)), abs=1e-9)
    scores = features.transform(patches)[:, PER_PHASE:]
    assert scores.mean(0) == pytest.approx(np.zeros(COMPONENTS), abs=1e-9)
    assert np.all(np.diff(scores.std(0)) <= 1e-12)
    assert np.corrcoef(scores.T) == pytest.approx(np.eye(COMPONENTS), abs=1e-6)


def test_components_explain_the_most_variance(patches: np.ndarray) -> None:
    """Their variances are the largest eigenvalues of the covariance."""
    features = ImageFeatures.fit(patches, 2)
    raw = ImageFeatures._raw(patches, 2, features.lag)
    gram = (raw - raw.mean(0)) @ (raw - raw.mean(0)).T / len(raw)
    largest = np.linalg.eigvalsh(gram)[::-1][:COMPONENTS]
    variances = features.transform(patches)[:, PER_PHASE:].var(0)
    assert variances == pytest.approx(largest, rel=1e-6)


def test_features_are_of_the_image_and_not_of_its_place(patches: np.ndarray) -> None:
    """The simulators continue images periodically: a shift changes nothing."""
    features = ImageFeatures.fit(patches, 2)
    shifted = np.roll(patches, (5, 11), axis=(1, 2))
    assert features.transform(shifted) == pytest.approx(features.transform(patches), abs=1e-9)


def test_chunks_make_no_difference(patches: np.ndarray) -> None:
    features = ImageFeatures.fit(patches, 2)
    many = np.concatenate([patches, patches[:250]])  # more than one chunk of 512
    found = features.transform(many)
    assert found[300:] == pytest.approx(found[:250], abs=1e-12)


@pytest.mark.parametrize("kind", libraries.SPACES)
def test_a_composition_changes_its_own_columns(kind: str) -> None:
    """Parts stand in the order process, image, phases' compositions, overall composition."""
    space = libraries.SPACES[kind]
    library = libraries.library(space)
    rng = np.random.default_rng(1)
    images = library.patches(64, rng=rng) if space.image_shape else None
    features = Features.fit(space, images)
    designs = library.draw(6, rng=rng)
    rows = features.transform(designs)
    q = len(space.process)
    assert rows[:, :q].ravel().tolist() == [v for c in designs for v in c.process.values()]
    image_columns = PER_PHASE + COMPONENTS if space.image_shape else 0
    if not space.elements:
        assert rows.shape == (6, image_columns)
        return
    inner = len(space.phases) * (len(space.elements) - 1)
    start = q + image_columns
    for candidate, row in zip(designs, rows, strict=True):
        assert candidate.phase_compositions is not None
        own = candidate.phase_compositions[:, 1:].ravel()
        assert row[start : start + inner] == pytest.approx(own, abs=0)
        if space.image_shape:
            assert row[start + inner :] == pytest.approx(candidate.composition()[1:])
        else:
            assert len(row) == start + inner


def test_three_phases_each_have_their_columns() -> None:
    rng = np.random.default_rng(4)
    images = rng.integers(0, 3, (40, 16, 16)).astype(np.uint8)
    features = ImageFeatures.fit(images, 3)
    rows = features.transform(images)
    assert rows[:, 0] == pytest.approx((images == 1).mean((1, 2)))
    assert rows[:, PER_PHASE] == pytest.approx((images == 2).mean((1, 2)))
    assert rows.shape == (40, 2 * PER_PHASE + 2 * COMPONENTS)
    space = DesignSpace(("a", "b", "c"), ("Ni", "Al"), (16, 16))
    x = rng.dirichlet([1, 1], size=3)
    candidate = Candidate(("a", "b", "c"), ("Ni", "Al"), images[0], x)
    row = Features(space, features).transform([candidate])[0]
    assert row[-1] == pytest.approx(candidate.composition()[1])
