"""The gate: library designs pass at the stated rate, odd ones are turned away."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from loop.candidate import Candidate
from loop.features import ImageFeatures
from loop.library import Library
from loop.validity import NEIGHBOURS, QUANTILE, SLACK, Gate, Support
from tests import libraries

SPACE = libraries.SPACES["image and compositions"]
HELD_OUT = 600


def four_sigma(rate: float, *sizes: int) -> float:
    """Four standard errors of a share, when both it and its threshold are estimated."""
    return 4 * float(np.sqrt(rate * (1 - rate) * sum(1 / n for n in sizes)))


def test_distance_is_the_mean_over_the_nearest_rows() -> None:
    rng = np.random.default_rng(0)
    rows, test = rng.normal(size=(80, 3)) * [1, 10, 0.1], rng.normal(size=(9, 3))
    support = Support.fit(rows, rng.normal(size=(30, 3)) * [1, 10, 0.1])
    apart = np.sort(cdist(test / rows.std(0), rows / rows.std(0)), axis=1)
    assert support.distance(test) == pytest.approx(apart[:, :NEIGHBOURS].mean(1))


def test_limit_is_the_quantile_of_the_held_out_rows() -> None:
    rng = np.random.default_rng(1)
    rows, held_out = rng.normal(size=(500, 4)), rng.normal(size=(HELD_OUT, 4))
    support = Support.fit(rows, held_out)
    reach = np.quantile(support.distance(held_out), QUANTILE)
    assert support.limit == pytest.approx(SLACK * reach)
    fresh = rng.normal(size=(2000, 4))
    # Rows of the same kind pass at the stated rate; the slack only adds to it.
    passed = support.inside(fresh).mean()
    assert passed >= QUANTILE - four_sigma(QUANTILE, HELD_OUT, len(fresh))
    assert not support.inside(fresh + 8.0).any()


@pytest.fixture(scope="module")
def library() -> Library:
    return libraries.library(SPACE, rows=2000)


@pytest.fixture(scope="module")
def gate(library: Library) -> Gate:
    rng = np.random.default_rng(2)
    images = library.patches(1000, rng=rng)
    return Gate.fit(
        SPACE,
        ImageFeatures.fit(images, 2),
        images,
        library.patches(HELD_OUT, rng=rng, split="val"),
        library.table,
    )


def replaced(candidate: Candidate, **parts: object) -> Candidate:
    given = {
        "microstructure": candidate.microstructure,
        "phase_compositions": candidate.phase_compositions,
    }
    return Candidate(SPACE.phases, SPACE.elements, **{**given, **parts})  # type: ignore[arg-type]


def test_library_designs_pass(gate: Gate, library: Library) -> None:
    """Held-out micrographs and new alloys of the same kind, each at the stated rate."""
    rng = np.random.default_rng(3)
    n = 500
    designs = library.draw(n, rng=rng, split="val")
    alloys = libraries.alloys(n, 2, rng)
    fresh = [replaced(c, phase_compositions=x) for c, x in zip(designs, alloys, strict=True)]
    reasons = gate.reasons(fresh)
    for part in ("image", "compositions"):
        away = sum(part in reason for reason in reasons)
        assert away / n <= 1 - QUANTILE + four_sigma(QUANTILE, HELD_OUT, n)


def test_speckled_and_random_images_are_turned_away(gate: Gate, library: Library) -> None:
    rng = np.random.default_rng(4)
    for candidate in library.draw(20, rng=rng):
        image = candidate.microstructure
        assert image is not None
        noise = rng.random(image.shape)
        speckled = np.where(noise < 0.05, 1 - image, image).astype(np.uint8)
        random = (noise < image.mean()).astype(np.uint8)
        stripes = np.tile(np.array([0, 1], np.uint8), (32, 16))
        odd = [replaced(candidate, microstructure=a) for a in (speckled, random, stripes)]
        assert gate.reasons(odd) == ["image is unlike the library's micrographs"] * 3


def test_little_noise_is_mostly_seen(gate: Gate, library: Library) -> None:
    """One pixel in fifty flipped moves fraction and correlations little, local patterns much."""
    rng = np.random.default_rng(8)
    designs = library.draw(200, rng=rng)
    noisy = []
    for candidate in designs:
        image = candidate.microstructure
        assert image is not None
        flipped = np.where(rng.random(image.shape) < 0.02, 1 - image, image).astype(np.uint8)
        noisy.append(replaced(candidate, microstructure=flipped))
    away = np.mean(["image" in reason for reason in gate.reasons(noisy)])
    assert away > 0.75


def test_odd_compositions_are_turned_away(gate: Gate, library: Library) -> None:
    """Inside the bounds, but outside what the library's alloys span."""
    corner = np.array([0.4, 0.3, 0.2, 0.1])
    for candidate in library.draw(10, rng=np.random.default_rng(5)):
        x = np.stack([corner, candidate.phase_compositions[1]])  # type: ignore[index]
        odd = replaced(candidate, phase_compositions=x)
        assert SPACE.violations(odd) == []
        assert "compositions are unlike the library's" in gate.reasons([odd])[0]


def test_infeasible_designs_are_turned_away_with_their_reason(gate: Gate, library: Library) -> None:
    rng = np.random.default_rng(6)
    good = next(c for c in library.draw(50, rng=rng) if not gate.reasons([c])[0])
    constant = replaced(good, microstructure=np.zeros((32, 32), np.uint8))
    small = replaced(good, microstructure=np.tile(np.eye(2, dtype=np.uint8), (8, 8)))
    pure = replaced(good, phase_compositions=np.array([[1.0, 0, 0, 0]] * 2))
    reasons = gate.reasons([constant, good, small, pure, good])
    assert "constant" in reasons[0]
    assert "shape (16, 16)" in reasons[2]
    assert "Ni = 1.0000, outside [0.4, 0.9]" in reasons[3]
    assert (reasons[1], reasons[4]) == ("", "")


def test_a_gate_without_images_or_with_few_compositions_still_checks_the_space() -> None:
    space = libraries.SPACES["compositions"]
    gate = Gate.fit(space, None, None, None, libraries.alloys(4, 1, np.random.default_rng(0)))
    inside = Candidate(("a",), space.elements, None, np.array([[0.7, 0.1, 0.2, 0.0]]))
    outside = Candidate(("a",), space.elements, None, np.array([[0.1, 0.1, 0.8, 0.0]]))
    reasons = gate.reasons([inside, outside])
    assert reasons[0] == ""
    assert "outside" in reasons[1]
    assert gate.reasons([]) == []
