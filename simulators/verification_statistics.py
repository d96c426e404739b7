"""``spinodal verify simulators``: two-point, paths, chords and surfaces against closed forms."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from loop.verification import Case, absolute_case, relative_case
from simulators.correlation import two_point
from simulators.correlation_paths import chord_counts, chord_length_distribution, lineal_path
from simulators.soft_statistics import (
    lineal_paths,
    one_hot,
    phase_fractions,
    specific_surfaces,
    two_point_matrix,
)
from simulators.surface import specific_surface, surface_from_two_point

ROOM = "simulators"
TORQUATO = "Torquato 2002, "
Labels = NDArray[np.int64]


def cases() -> list[Case]:
    """Every case, computed now on the CPU; a few seconds."""
    return [*_counted(), *_independent(), *_disc(), *_overlapping(), *_soft()]


def _distance(n: int, centre: tuple[float, float]) -> NDArray[np.float64]:
    rows, columns = np.mgrid[0.5:n, 0.5:n]
    return np.hypot(rows - centre[0], columns - centre[1])


def _phases(n: int = 24, phases: int = 3) -> Labels:
    """(n, n) labels, a smooth random field cut into equal shares."""
    noise = np.fft.rfft2(np.random.default_rng(0).standard_normal((n, n)))
    q2 = np.fft.fftfreq(n)[:, None] ** 2 + np.fft.rfftfreq(n)[None, :] ** 2
    smooth = np.fft.irfft2(noise * np.exp(-q2 / 0.02), s=(n, n))
    return np.digitize(smooth, np.quantile(smooth, np.arange(1, phases) / phases))


def _counted() -> Iterator[Case]:
    """Exact counts: pairs one by one, stripes, the chords in the paths, the sum rules."""
    image = _phases()
    a, b = image == 0, image == 1
    h, w = image.shape
    for periodic in (True, False):
        found = two_point(a, b, periodic=periodic)
        worst = 0.0
        for dy, dx in np.ndindex(h, w):
            shifted = np.roll(b, (-dy, -dx), (0, 1))
            pairs = (a & shifted) if periodic else (a & shifted)[: h - dy, : w - dx]
            worst = max(worst, abs(float(pairs.mean()) - float(found[dy, dx])))
        kind = "periodic" if periodic else "inside the image"
        yield absolute_case(
            ROOM, f"two-point, cross, {kind}, against counting", 0.0, worst, 0.0, "by counting"
        )
    squares = (np.arange(64) // 32)[:, None] ^ (np.arange(64) // 32)[None, :]
    cross = two_point(squares == 0, squares == 1)
    for lag, truth in (((0, 0), 0.0), ((0, 32), 0.5), ((0, 8), 0.125), ((32, 32), 0.0)):
        yield absolute_case(
            ROOM,
            f"two-point, cross, checkerboard at {lag}",
            truth,
            float(cross[lag]),
            0.0,
            "by counting",
        )
    stripes = np.broadcast_to(np.arange(64) // 8 % 2, (64, 64))
    path = lineal_path(stripes == 1, "x", longest=8)
    for r in (0, 3, 8):
        yield absolute_case(
            ROOM,
            f"lineal path, stripes of 8 px at {r} px",
            (8 - r) / 16,
            path[r],
            0.0,
            "(s - r)/2s",
        )
    share = chord_length_distribution(stripes, 1, "x")[7]
    yield absolute_case(ROOM, "chords, stripes of 8 px, share of 8 px", 1.0, share, 0.0, "all")
    counts = chord_counts(image, 1, "x")
    path = np.append(lineal_path(b, "x"), [0.0, 0.0]) * image.size
    second = path[:-2] - 2 * path[1:-1] + path[2:]
    yield absolute_case(
        ROOM,
        "chords, second difference of the lineal path, worst",
        0.0,
        float(np.abs(second - counts).max()),
        1e-9,
        TORQUATO + "section 2.5",
    )
    soft = one_hot(image[None], 3)
    matrix, fractions = two_point_matrix(soft), phase_fractions(soft)
    yield absolute_case(
        ROOM,
        "two-point, sums over the phases, worst",
        0.0,
        float((matrix.sum(2) - fractions[..., None, None]).abs().max()),
        1e-12,
        TORQUATO + "section 2.2",
    )


def _independent() -> Iterator[Case]:
    """Bernoulli pixels, phi = 0.4: 2 million, so each allowance is five standard deviations."""
    images = np.random.default_rng(1).random((512, 64, 64)) < 0.4
    s2 = two_point(images).mean(0)
    source = "independent pixels"
    yield absolute_case(
        ROOM, "two-point, independent pixels at 0", images.mean(), s2[0, 0], 0.0, source
    )
    for lag in ((0, 1), (7, 30)):
        yield absolute_case(
            ROOM, f"two-point, independent pixels at {lag}", 0.16, s2[lag], 2.4e-3, source
        )
    path = lineal_path(images, "y", longest=3).mean(0)
    for r in range(1, 4):
        yield absolute_case(
            ROOM,
            f"lineal path, independent pixels at {r} px",
            0.4 ** (r + 1),
            path[r],
            2.4e-3,
            "phi^(r + 1)",
        )
    shares = chord_length_distribution(images.reshape(1, -1, 64).astype(np.uint8), 1, "x")[0]
    yield absolute_case(
        ROOM, "chords, independent pixels, share of 2 px", 0.24, shares[1], 3.1e-3, "geometric"
    )


def _disc() -> Iterator[Case]:
    """A disc of 40.3 px: pixels move its boundary by a fraction of a pixel at random."""
    n, radius = 128, 40.3
    distance = _distance(n, (63.7, 64.2))
    disc = distance <= radius
    boundary = 2 * math.pi * radius / n**2
    s2 = two_point(disc)
    soft = 0.5 - 0.5 * np.tanh((distance - radius) / 3)
    for name, found in (
        ("crossings in four directions", specific_surface(disc)),
        ("crossings in two directions", specific_surface(disc, directions=2)),
        ("slope of the two-point correlation", surface_from_two_point(s2)),
        ("diffuse boundary, 3 px", specific_surface(soft)),
    ):
        yield relative_case(
            ROOM, f"specific surface of a disc, {name}", boundary, float(found), 1e-2, "2 pi r"
        )
    for r in (10, 40):
        half = r / 2
        lens = radius**2 * math.acos(half / radius) - half * math.sqrt(radius**2 - half**2)
        yield relative_case(
            ROOM,
            f"two-point of a disc at {r} px",
            2 * lens / n**2,
            float(s2[0, r]),
            5e-3,
            "overlap of two circles",
        )


def _overlapping() -> Iterator[Case]:
    """Discs at random places: what they leave free. 3,651 of them, 24 px across.

    Their number is fixed, which leaves the free fraction a standard deviation of about 0.5 %; the
    allowances are six of them and, where two points or paths double it, twice that. Gaps below a
    pixel close, which costs the boundary about 2 %.
    """
    n, radius, covering = 1536, 12.0, 0.7
    rng = np.random.default_rng(2)
    count = round(covering * n * n / (math.pi * radius**2))
    density = count / n**2
    free = np.ones((n, n), dtype=bool)
    reach = np.arange(-14, 15)
    for y, x in rng.uniform(0, n, (count, 2)):
        rows, columns = int(y) + reach, int(x) + reach
        inside = (rows + 0.5 - y)[:, None] ** 2 + (columns + 0.5 - x)[None, :] ** 2 <= radius**2
        free[np.ix_(rows % n, columns % n)] &= ~inside
    area = math.pi * radius**2
    source = TORQUATO + "chapters 5 and 6"
    fraction = math.exp(-density * area)
    yield relative_case(
        ROOM, "fraction free of overlapping discs", fraction, float(free.mean()), 0.03, source
    )
    s2 = two_point(free)
    for r in (6, 18):
        half = r / 2
        lens = 2 * radius**2 * math.acos(half / radius) - r * math.sqrt(radius**2 - half**2)
        truth = math.exp(-density * (2 * area - lens))
        found = float(0.5 * (s2[0, r] + s2[r, 0]))
        yield relative_case(
            ROOM, f"two-point, free of overlapping discs, at {r} px", truth, found, 0.06, source
        )
    paths = 0.5 * (lineal_path(free, "x", longest=18) + lineal_path(free, "y", longest=18))
    for r in (6, 18):
        truth = math.exp(-density * (area + 2 * radius * r))
        yield relative_case(
            ROOM,
            f"lineal path, free of overlapping discs, at {r} px",
            truth,
            paths[r],
            0.06,
            source,
        )
    truth = 2 * math.pi * radius * density * fraction
    found = float(specific_surface(free))
    yield relative_case(ROOM, "specific surface of overlapping discs", truth, found, 0.06, source)


def _soft() -> Iterator[Case]:
    """Directional derivatives of soft statistics against central differences."""
    rng = np.random.default_rng(3)
    logits = torch.as_tensor(rng.standard_normal((1, 3, 8, 9)))
    way = torch.as_tensor(rng.standard_normal(logits.shape))
    for name, statistic in (
        ("two-point", two_point_matrix),
        ("lineal path", lambda s: lineal_paths(s, 4)),
        ("specific surface", specific_surfaces),
    ):
        weights = torch.as_tensor(rng.standard_normal(statistic(torch.softmax(logits, 1)).shape))

        def functional(z: torch.Tensor) -> torch.Tensor:
            return (weights * statistic(torch.softmax(z, 1))).sum()  # noqa: B023

        given = logits.clone().requires_grad_()
        (slope,) = torch.autograd.grad(functional(given), given)
        step = 1e-5 * way
        difference = float(functional(logits + step) - functional(logits - step)) / 2e-5
        yield relative_case(
            ROOM,
            f"{name}, gradient with respect to soft phases",
            difference,
            float((slope * way).sum()),
            1e-6,
            "central differences",
        )
