"""Specific surface: discs, lines, thresholds, two-point slope."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from loop.errors import InvalidInputError
from simulators.correlation import interface_density, two_point
from simulators.surface import specific_surface, surface_from_two_point
from simulators.verification import checkerboard, stripes
from tests.simulators.conftest import ImageMaker

DIRECTIONS = [2, 4]


def distances(n: int, y: float, x: float) -> np.ndarray:
    rows, columns = np.mgrid[0.5:n, 0.5:n]
    return np.hypot(rows - y, columns - x)


@pytest.mark.parametrize("directions", DIRECTIONS)
def test_boundary_of_discs(directions: int) -> None:
    """2 pi r, on average over centres; pixel edges measure 8 r.

    A line hits the pixel disc one pixel too many or too few at random near its ends: 0.3 % here.
    """
    n, r = 96, 32.3
    centres = np.random.default_rng(0).uniform(47, 49, (40, 2))
    images = np.stack([distances(n, *centre) <= r for centre in centres])
    mean = specific_surface(images, directions=directions).mean() * n * n
    assert mean == pytest.approx(2 * math.pi * r, rel=3e-3)
    edges = interface_density(images.astype(np.int64)).mean() * n * n
    assert edges == pytest.approx(8 * r, rel=3e-3)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_straight_boundaries(rows: int) -> None:
    """Lines of slope ``rows``: |cos| of the angle to every test line, averaged, times pi/2."""
    n = 48
    i = np.arange(n)
    image = (i[:, None] + rows * i[None, :]) % n < n // 2
    normal = np.array([1.0, rows]) / math.hypot(1, rows)
    length = 2 * math.hypot(1, rows) * n  # two boundaries of rows + 1 windings
    steps = {2: [(0, 1), (1, 0)], 4: [(0, 1), (1, 0), (1, 1), (1, -1)]}
    for directions, ways in steps.items():
        lines = [np.array(way) / math.hypot(*way) for way in ways]
        factor = 0.5 * math.pi * np.mean([abs(float(normal @ line)) for line in lines])
        found = float(specific_surface(image, directions=directions)) * n * n
        assert found == pytest.approx(factor * length, rel=1e-12)
    assert 0.94 < factor < 1.03  # what the module's description promises of four directions


def test_stripes_and_squares() -> None:
    """Two directions give pi/4 of the pixel edges, always."""
    for image in (stripes(32, 4)[0], checkerboard(32)[0]):
        edges = interface_density(image)
        assert specific_surface(image, directions=2) == pytest.approx(math.pi / 4 * edges)
    # Boundaries normal to x: rows cross each once a row, diagonals too, at sqrt(2) the length.
    assert float(specific_surface(stripes(32, 4)[0])) == pytest.approx(
        math.pi / 8 * (1 + 2 / math.sqrt(2)) / 4
    )


@pytest.mark.parametrize("directions", DIRECTIONS)
def test_independent_pixels(directions: int) -> None:
    """A pair differs with probability 2 phi (1 - phi). 4 million pixels, whose pairs share them:
    sd of the estimate 3.7e-4 with two directions, less with four; four of them.
    """
    images = np.random.default_rng(1).random((1000, 64, 64)) < 0.3
    weight = {2: 2.0, 4: 2 + math.sqrt(2)}[directions]
    expected = 0.5 * math.pi / directions * weight * 0.42
    found = specific_surface(images, directions=directions).mean()
    assert found == pytest.approx(expected, abs=1.6e-3)


@pytest.mark.parametrize("directions", DIRECTIONS)
def test_it_is_the_slope_of_the_two_point_correlation(
    random_images: ImageMaker, directions: int
) -> None:
    for image in (random_images(5, (14, 17), seed=2), random_images(1, (1, 9), blur=0.0)):
        inside = image == 1
        np.testing.assert_allclose(
            surface_from_two_point(two_point(inside), directions=directions),
            specific_surface(inside, directions=directions),
            rtol=1e-12,
        )


def test_slope_without_periodicity() -> None:
    """Pairs and pixels are then other samples of the same field: 1 % for 200 images of 64^2."""
    rng = np.random.default_rng(3)
    noise = np.fft.rfft2(rng.standard_normal((200, 128, 128)))
    q2 = np.fft.fftfreq(128)[:, None] ** 2 + np.fft.rfftfreq(128)[None, :] ** 2
    images = np.fft.irfft2(noise * np.exp(-q2 / 0.01), s=(128, 128))[:, :64, :64] > 0
    slope = surface_from_two_point(two_point(images, periodic=False)).mean()
    crossings = specific_surface(images, periodic=False).mean()
    assert slope == pytest.approx(crossings, rel=0.01)


@pytest.mark.parametrize("periodic", [True, False])
def test_a_soft_field_is_the_mean_of_its_thresholds(periodic: bool) -> None:
    """Coarea formula: exact for a field of few levels."""
    levels = np.random.default_rng(4).integers(0, 5, (2, 8, 9))
    cuts = [specific_surface(levels > cut, periodic=periodic) for cut in range(4)]
    np.testing.assert_allclose(
        specific_surface(levels / 4, periodic=periodic), np.mean(cuts, axis=0), rtol=1e-12
    )


def test_a_diffuse_boundary_measures_as_its_middle() -> None:
    """tanh profiles of growing width around a circle: 2 pi r all the same."""
    n, r = 128, 36.0
    distance = distances(n, 63.7, 64.2)
    for width in (2.0, 4.0, 6.0):
        soft = torch.as_tensor(0.5 - 0.5 * np.tanh((distance - r) / width))
        found = float(specific_surface(soft)) * n * n
        assert found == pytest.approx(2 * math.pi * r, rel=2e-3)
    # A rounded kink costs at most its size for every pair: pi/2 (2 + sqrt 2) / 4 a pixel.
    rounded = float(specific_surface(soft, smoothing=1e-3)) * n * n
    assert found - 1e-3 * 1.341 * n * n <= rounded < found


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gradients(smoothing: float, periodic: bool) -> None:
    field = torch.rand(2, 4, 5, dtype=torch.float64, generator=torch.manual_seed(0))
    field.requires_grad_()

    def surface(f: torch.Tensor) -> torch.Tensor:
        return specific_surface(f, periodic=periodic, smoothing=smoothing)

    def slope(f: torch.Tensor) -> torch.Tensor:
        return surface_from_two_point(two_point(f))

    assert torch.autograd.gradcheck(surface, field)
    assert torch.autograd.gradcheck(slope, field)
    if smoothing:
        assert torch.autograd.gradgradcheck(surface, field)


def test_phases_share_their_boundary(random_images: ImageMaker) -> None:
    """Every crossing is one of two phases: the sum is twice the interfaces, pi/4 of the edges."""
    images = random_images(6, (16, 16), phases=3, seed=5)
    total = sum(specific_surface(images == phase, directions=2) for phase in range(3))
    np.testing.assert_allclose(total, 2 * math.pi / 4 * interface_density(images))


def test_turning_and_mirroring_change_nothing(random_images: ImageMaker) -> None:
    image = random_images(1, (16, 16), seed=6)[0] == 1
    for turns, mirror in itertools.product(range(4), (False, True)):
        other = np.rot90(image, turns)
        other = other[:, ::-1] if mirror else other
        for periodic in (True, False):
            assert float(specific_surface(other, periodic=periodic)) == pytest.approx(
                float(specific_surface(image, periodic=periodic)), rel=1e-12
            )


def test_wrong_input_is_named() -> None:
    with pytest.raises(InvalidInputError, match=r"expected \(\.\.\., h, w\)"):
        specific_surface(np.zeros(4))
    with pytest.raises(InvalidInputError, match="expected 2 or 4"):
        specific_surface(np.zeros((4, 4)), directions=3)
    with pytest.raises(InvalidInputError, match="needs 2 x 2"):
        specific_surface(np.zeros((1, 4)), periodic=False)
    with pytest.raises(InvalidInputError, match=r"expected \(\.\.\., h, w\)"):
        surface_from_two_point(np.zeros(4))
    assert float(specific_surface(np.ones((1, 1)))) == 0
