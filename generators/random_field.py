"""Random fields with the library's two-point statistics: the baseline that knows no shapes.

Images are level cuts of Gaussian fields, which have the phase fraction and the two-point
statistics of the library and nothing else of it; what a learned generator is worth must show
beyond that. Two phases only: nested cuts of one field let a phase touch its neighbours in the
order of the levels alone, which is seldom what a micrograph of three phases shows.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from generators.spectral_field import SpectralField, mean_product, opposite
from loop.candidate import Candidate, Origin, Record
from loop.errors import InvalidCampaignError, InvalidInputError
from loop.library import Library, transform
from loop.process_labels import named_labels
from loop.protocols import Progress, silent
from loop.space import DesignSpace
from loop.targets import Targets

FloatArray = NDArray[np.float64]
BINS = 8  # of the phase fraction
PER_BIN = 32  # images at least: fewer leave more noise than the fraction explains
IMAGES = 2048
PIXELS = 2**23  # in all the images measured


@dataclass(frozen=True, slots=True, eq=False)
class LibraryCovariance:
    """Two-point statistics of a library at any phase fraction.

    ``fractions`` (b,): mean fractions of phase 1 in bins of equally many images, ascending.
    ``covariance`` (b, h, w): at periodic lags, (S2 − φ²) / (φ (1 − φ)), 1 at lag 0, mean 0.
    ``least``, ``most``: the range of the fraction over all the images measured.
    """

    fractions: FloatArray
    covariance: FloatArray
    least: float
    most: float

    @staticmethod
    def measure(library: Library) -> LibraryCovariance:
        """From the training images as they are, not turned.

        Images that were cut from micrographs are windows half a side apart, those made by a
        simulator are periodic and whole. Images of one phase are left out.
        Raises InvalidInputError when no image is left.
        """
        images, shape = library.images("train"), library.space.image_shape
        assert shape is not None
        windows = [
            window
            for image in images
            for window in _windows(image, shape)
            if window.min() != window.max()
        ]
        if not windows:
            raise InvalidInputError(
                f"random-field: all {len(images)} train images show one phase only at "
                f"{shape[0]} x {shape[1]} pixels; enlarge images.patch or give images in which "
                "phases meet"
            )
        count = min(len(windows), IMAGES, max(PER_BIN, PIXELS // math.prod(shape)))
        chosen = np.linspace(0, len(windows) - 1, count).round().astype(int)
        inside = np.stack([windows[i] == 1 for i in chosen])
        fraction = inside.mean((1, 2))
        order = np.argsort(fraction, kind="stable")
        bins = np.array_split(order, min(BINS, max(1, count // PER_BIN)))
        return LibraryCovariance(
            np.array([fraction[rows].mean() for rows in bins]),
            np.stack([_covariance(inside[rows], library.coupled) for rows in bins]),
            float(fraction.min()),
            float(fraction.max()),
        )

    def two_point(self, fraction: float) -> FloatArray:
        """S2 of phase 1, (h, w) periodic lags, at a phase fraction in (0, 1).

        The covariance is interpolated between the bins; beyond them it is that of the last one.
        """
        place = float(np.interp(fraction, self.fractions, np.arange(len(self.fractions))))
        first = min(int(place), len(self.fractions) - 1)
        second = min(first + 1, len(self.fractions) - 1)
        share = place - first
        c = (1.0 - share) * self.covariance[first] + share * self.covariance[second]
        s2 = fraction**2 + fraction * (1.0 - fraction) * c
        # At another fraction than the measured ones an extreme covariance may be out of reach.
        found: FloatArray = np.clip(s2, max(0.0, 2.0 * fraction - 1.0), fraction)
        return found

    def field(self, fraction: float) -> SpectralField:
        """The Gaussian field of these statistics at a phase fraction in (0, 1)."""
        return SpectralField.of_two_point(self.two_point(fraction), fraction)


def _windows(image: NDArray[np.uint8], shape: tuple[int, int]) -> list[NDArray[np.uint8]]:
    """Windows (h, w) of an image, at most half a side apart, from edge to edge."""
    places = []
    for size, side in zip(image.shape, shape, strict=True):
        steps = math.ceil(2 * (size - side) / side)
        places.append(np.linspace(0, size - side, steps + 1).round().astype(int))
    return [image[y : y + shape[0], x : x + shape[1]] for y in places[0] for x in places[1]]


def _covariance(inside: NDArray[np.bool_], periodic: bool) -> FloatArray:
    """(h, w) covariance of indicators (n, h, w) about each image's own fraction, 1 at lag 0.

    Windows with much of one phase have the other at their edges, where it is about to leave the
    picture, and pairs at long lags lie there: so the mean is taken at the ends of the pairs.

    A periodic image of given fraction has mean covariance 0 over all lags, windows have not: they
    cut waves that are longer than they are. That power, at frequency 0, goes to the longest waves
    that fit, which leaves short lags as they were measured.
    """
    spread = float(inside.mean((1, 2)).var())  # of the fraction within the bin
    picture = inside.mean(0)[None]
    u = mean_product(picture, np.ones_like(picture), periodic=periodic)
    v = opposite(u)
    c = mean_product(inside, inside, periodic=periodic) - u * v - spread
    c /= np.sqrt(_variance(u, spread) * _variance(v, spread))
    y, x = (np.cos(2.0 * np.pi * np.arange(size) / size) for size in c.shape)
    found: FloatArray = c - c.mean() * (1.0 - 0.5 * (y[:, None] + x))
    return found


def _variance(fraction: FloatArray, spread: float) -> FloatArray:
    """Of the indicator about its fraction in one image, where fractions have variance ``spread``.

    A fiftieth of that at lag 0 at least: at some lag all ends may lie in one phase.
    """
    whole = fraction * (1.0 - fraction) - spread
    found: FloatArray = np.maximum(whole, 0.02 * whole[0, 0])
    return found


class RandomField:
    """Level cuts of Gaussian fields with the two-point statistics of the library.

    Images are periodic. Compositions and process variables are those of random designs of the
    library. The fraction of the second phase is that of a random library image, or uniform in
    an interval where guidance is above 0, targets are given and this fraction is not in it. The
    interval: what targets on ``<phase>_fraction`` allow, within the range of the ``elite``
    records nearest to the campaign's targets or, where the two do not meet, within the
    library's. Guidance above 1 does no more than 1. In a library whose images and compositions
    belong together, designs that have their fraction in the interval are taken first, out of
    ``spare`` times as many.

    Raises InvalidCampaignError for a space without images or of other than two phases,
    InvalidInputError for a library whose images show one phase only.
    """

    name = "random-field"

    def __init__(
        self,
        space: DesignSpace,
        library: Library,
        targets: Targets,
        *,
        elite: int = 20,
        spare: int = 8,
    ) -> None:
        if space.image_shape is None:
            raise InvalidCampaignError(
                "generator.name is random-field, but the design space has no images; add an "
                "[images] section or choose library or mutation"
            )
        if len(space.phases) != 2:
            raise InvalidCampaignError(
                f"generator.name is random-field, which cuts a field into two phases, but the "
                f"design space has {len(space.phases)} ({', '.join(space.phases)}); merge phases "
                "into two or choose library or mutation"
            )
        self.space, self.library, self.targets = space, library, targets
        self.elite, self.spare = elite, spare
        self.covariance = LibraryCovariance.measure(library)
        self.window: tuple[float, float] | None = None

    def fit(
        self, records: Sequence[Record], *, rng: np.random.Generator, progress: Progress = silent
    ) -> RandomField:
        """Take the range of the fraction over the records nearest to the targets."""
        near = []
        for record in records:
            distance = self.targets.distance(record.outcome.values)
            known = record.outcome.status == "ok" and record.candidate.microstructure is not None
            if known and math.isfinite(distance):
                near.append((distance, float(record.candidate.phase_fractions()[1])))
        near.sort(key=lambda pair: pair[0])
        best = [fraction for _, fraction in near[: self.elite]]
        new = copy.copy(self)
        new.window = (min(best), max(best)) if best else None
        middle = float(np.median(best if best else self.covariance.fractions))
        progress("random field", 1, 1, clipped_power=self.covariance.field(middle).clipped)
        return new

    def interval(self, targets: Targets) -> tuple[float, float] | None:
        """Where the fraction of the second phase is to lie; None: nothing is known of it.

        Raises InvalidInputError when targets on the fractions exclude each other.
        """
        first, second = (f"{phase}_fraction" for phase in self.space.phases)
        low, high = 0.0, 1.0
        for target in targets:
            if target.name == second:
                low, high = max(low, target.low), min(high, target.high)
            elif target.name == first:
                low, high = max(low, 1.0 - target.high), min(high, 1.0 - target.low)
        if low > high:
            raise InvalidInputError(
                f"the targets on {first} and {second} ask for {second} >= {low:g} and <= "
                f"{high:g}; the two fractions add up to 1, loosen one of the targets"
            )
        if low == 0.0 and high == 1.0:
            return self.window
        known = (self.covariance.least, self.covariance.most)
        for least, most in (self.window or known, known):
            if max(low, least) <= min(high, most):
                return max(low, least), min(high, most)
        return low, high

    def propose(
        self,
        n: int,
        targets: Targets | None = None,
        *,
        guidance: float = 0.0,
        rng: np.random.Generator,
    ) -> list[Candidate]:
        """n designs; ``origin`` says which fraction was wanted and how much power was clipped.

        Raises InvalidInputError when targets on the fractions exclude each other.
        """
        if n == 0:
            return []
        interval = self.interval(targets) if targets is not None and guidance > 0 else None
        several = self.spare if interval is not None and self.library.coupled else 1
        parts = self.library.parts(n * several, rng=rng)
        assert parts.images is not None
        fractions = (parts.images == 1).mean((1, 2))
        rows = np.arange(n)
        if interval is not None:
            low, high = interval
            outside = (fractions < low) | (fractions > high)
            rows = np.argsort(outside, kind="stable")[:n]
            fractions = np.where(outside, rng.uniform(low, high, len(outside)), fractions)
        images, clipped = self._images(fractions[rows], rng)
        return [
            Candidate(
                phases=self.space.phases,
                elements=self.space.elements,
                microstructure=images[i],
                phase_compositions=None if parts.compositions is None else parts.compositions[row],
                process=dict(zip(self.space.process, parts.process[row].tolist(), strict=True)),
                labels=named_labels(self.space, parts.labels[row]),
                origin=Origin(
                    self.name,
                    None,
                    {"fraction": float(fractions[row]), "clipped_power": float(clipped[i])},
                ),
            )
            for i, row in enumerate(rows)
        ]

    def _images(
        self, fractions: FloatArray, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], FloatArray]:
        """Labels (n, h, w) of the fractions (n,), turned where the library turns its own; (n,)
        clipped power.
        """
        assert self.space.image_shape is not None
        h, w = self.space.image_shape
        counts = np.clip(np.rint(fractions * h * w).astype(int), 1, h * w - 1)
        images, clipped = np.empty((len(counts), h, w), dtype=np.uint8), np.empty(len(counts))
        for count in np.unique(counts):  # one inversion for designs of equal fraction
            mine = np.flatnonzero(counts == count)
            field = self.covariance.field(count / (h * w))
            images[mine], clipped[mine] = field.sample(len(mine), rng), field.clipped
        if self.library.augment:
            chosen = rng.integers(8, size=len(images))
            for element in range(1, 8):
                mine = np.flatnonzero(chosen == element)
                images[mine] = transform(images[mine], element)
        return images, clipped
