"""Exchange of pixels on the interface until an image has given two-point statistics.

C. L. Y. Yeong & S. Torquato, Phys. Rev. E 57, 495 (1998) swap a random pixel of one phase with one
of the other and keep what lowers E = Σ_r (C(r) − C*(r))², C(r) the pairs of pixels at lag r. Here
the pixels are not drawn at random: to take pixel x out of the phase changes C(r) by
−(I(x + r) + I(x − r)), so to first order E falls most where G = Σ_r (C(r) − C*(r)) I(x + r) is
highest, and rises least where it is lowest. First many pixels at a time go by G, halving their
number whenever E would rise; then single pairs, the best of all pairs of candidates by their exact
change of E. Only pixels with a neighbour of the other phase move, so none appears in the midst of
a phase; the fraction stays what it is and E never rises.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from generators.two_point_target import FloatArray, Labels, TwoPointTarget, pair_counts
from loop.errors import InvalidInputError

Rows = NDArray[np.intp]
ROUNDING = 1e-6  # of E, in pairs squared


@dataclass(frozen=True, slots=True)
class Exchange:
    """``close``: the two-point error at which moves of many pixels end, ``sweeps`` of them at most.

    ``enough``: the error at which single pairs end, which cost more; ``pairs`` exchanges at most.
    ``candidates``: pixels of each phase they are chosen from. ``share``: of the pixels of the rarer
    phase that the first move takes.
    """

    close: float = 0.003
    enough: float = 0.006
    sweeps: int = 60
    pairs: int = 100
    candidates: int = 24
    share: float = 0.05


def exchange(images: Labels, target: TwoPointTarget, settings: Exchange | None = None) -> Labels:
    """Images (n, h, w) of 0 and 1 with as many pixels of 1 as before and no larger error.

    Raises InvalidInputError for images of another shape or with other labels.
    """
    given = np.asarray(images)
    if given.ndim != 3 or given.shape[1:] != target.shape or given.max(initial=0) > 1:
        raise InvalidInputError(
            f"images have shape {given.shape} and labels up to {given.max(initial=0)}; expected "
            f"(n, {target.shape[0]}, {target.shape[1]}) of 0 and 1"
        )
    settings = settings or Exchange()
    moved = _sweep(given.astype(np.uint8), target, settings)
    lags = HalfLags(target)
    for image in moved:
        if settings.pairs:
            _exchange_pairs(image, lags, target, settings)
    return moved


def interface(images: Labels) -> NDArray[np.bool_]:
    """Pixels (..., h, w) with one of the four neighbours, across the period, in another phase."""
    found = np.zeros(images.shape, dtype=bool)
    for axis in (-2, -1):
        differs = images != np.roll(images, 1, axis)
        found |= differs | np.roll(differs, -1, axis)
    return found


def _slope(images: Labels, gap: FloatArray) -> FloatArray:
    """G = Σ_r gap(r) I(x + r) at every pixel, (n, h, w); ``gap`` is even in r."""
    shape = images.shape[-2:]
    spectrum = fft.rfft2(gap) * fft.rfft2(images.astype(np.float64))
    found: FloatArray = fft.irfft2(spectrum, s=shape)
    return found


def _sweep(images: Labels, target: TwoPointTarget, settings: Exchange) -> Labels:
    """Many pixels of every image at a time, by first order, as long as that helps."""
    counts = pair_counts(images)
    errors = target.errors_of_counts(counts)
    rarer = min(target.pixels, target.two_point.size - target.pixels)
    size = np.full(len(images), max(1, round(settings.share * rarer)))
    for _ in range(settings.sweeps):
        rows = np.flatnonzero((errors > settings.close) & (size > 0))
        if not len(rows):
            break
        now = images[rows]
        gap = np.where(target.window, counts[rows] - target.counts, 0.0)
        slope = _slope(now, gap).reshape(len(rows), -1)
        edge = interface(now).reshape(len(rows), -1)
        trial = now.reshape(len(rows), -1).copy()
        for i, row in enumerate(rows):
            out, into = _highest(slope[i], edge[i], trial[i], int(size[row]))
            trial[i, out], trial[i, into] = 0, 1
        moved: Labels = trial.reshape(now.shape)
        found = pair_counts(moved)
        reached = target.errors_of_counts(found)
        better = reached < errors[rows]
        kept = rows[better]
        images[kept], counts[kept], errors[kept] = moved[better], found[better], reached[better]
        size[rows[~better]] //= 2
    return images


def _highest(
    slope: FloatArray, edge: NDArray[np.bool_], labels: Labels, count: int
) -> tuple[Rows, Rows]:
    """Of flat pixels (h w): interface pixels inside where the slope is highest, and outside where
    it is lowest, ``count`` of each, or as many as both have.
    """
    out, into = np.flatnonzero(edge & (labels == 1)), np.flatnonzero(edge & (labels == 0))
    count = min(count, len(out), len(into))
    if not count:
        return out[:0], into[:0]
    first = np.argpartition(slope[out], len(out) - count)[len(out) - count :]
    return out[first], into[np.argpartition(slope[into], count - 1)[:count]]


class HalfLags:
    """The lags of a target's window, one of each pair ±r, lag 0 left out; k of them.

    ``y``, ``x``: (k,) within the image's shape. ``weight``: 2, or 1 where r = −r. ``place``:
    (h, w) -> which of the k a lag or its opposite is, −1 outside the window and at lag 0.
    """

    def __init__(self, target: TwoPointTarget) -> None:
        h, w = self.shape = target.shape
        y, x = np.nonzero(target.window)
        number, other = y * w + x, (-y % h) * w + (-x % w)
        kept = (number <= other) & (number > 0)
        self.y, self.x, self.weight = y[kept], x[kept], np.where(number == other, 1.0, 2.0)[kept]
        place = np.full(h * w, -1)
        place[number[kept]] = place[other[kept]] = np.arange(int(kept.sum()))
        self.place: NDArray[np.intp] = place.reshape(h, w)
        self.wanted: FloatArray = target.counts[self.y, self.x]

    def counts(self, image: Labels) -> FloatArray:
        """(k,) pairs of an image (h, w)."""
        found: FloatArray = pair_counts(image[None])[0, self.y, self.x]
        return found

    def pairs_with(self, image: Labels, y: Rows, x: Rows) -> FloatArray:
        """(m, k) pairs that pixels (m,) make with the phase: I(x + r) + I(x − r)."""
        h, w = self.shape
        flat = image.ravel()
        ahead = (y[:, None] + self.y) % h * w + (x[:, None] + self.x) % w
        behind = (y[:, None] - self.y) % h * w + (x[:, None] - self.x) % w
        return (flat[ahead] + flat[behind]).astype(np.float64)

    def between(self, y: Rows, x: Rows, to_y: Rows, to_x: Rows) -> NDArray[np.intp]:
        """(a, b) which lag leads from pixels (a,) to pixels (b,), −1 for none of the window."""
        h, w = self.shape
        found: NDArray[np.intp] = self.place[
            (to_y[None] - y[:, None]) % h, (to_x[None] - x[:, None]) % w
        ]
        return found

    def full(self, values: FloatArray) -> FloatArray:
        """(h, w) even map of values (k,), 0 elsewhere."""
        found: FloatArray = np.append(values, 0.0)[self.place]
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Pixels that may leave the phase and pixels that may join it, with their pairs."""

    out_y: Rows
    out_x: Rows
    into_y: Rows
    into_x: Rows
    leaving: FloatArray  # (a, k)
    joining: FloatArray  # (b, k)
    lag: NDArray[np.intp]  # (a, b)

    @staticmethod
    def among(image: Labels, out: Rows, into: Rows, lags: HalfLags) -> Candidates:
        """Of flat pixel numbers (a,) in the phase and (b,) outside it."""
        w = image.shape[1]
        out_y, out_x, into_y, into_x = out // w, out % w, into // w, into % w
        return Candidates(
            out_y,
            out_x,
            into_y,
            into_x,
            lags.pairs_with(image, out_y, out_x),
            lags.pairs_with(image, into_y, into_x),
            lags.between(out_y, out_x, into_y, into_x),
        )

    def changes(self, gap: FloatArray, lags: HalfLags) -> FloatArray:
        """(a, b) exact change of E = Σ weight (gap)² by every exchange, ``gap``: (k,).

        C changes by p_b − p_a − m δ: at the lag between the two pixels the pair with the one that
        has left is not made, twice (m = 2) where the lag is its own opposite.
        """
        weighted = lags.weight * gap
        one = self.joining @ (2.0 * weighted) + self.joining**2 @ lags.weight
        other = self.leaving @ (-2.0 * weighted) + self.leaving**2 @ lags.weight
        found = other[:, None] + one - 2.0 * (self.leaving * lags.weight) @ self.joining.T
        a, b = np.nonzero(self.lag >= 0)
        lag = self.lag[a, b]
        m = 3.0 - lags.weight[lag]
        moved = gap[lag] + self.joining[b, lag] - self.leaving[a, lag]
        found[a, b] += lags.weight[lag] * (m**2 - 2.0 * m * moved)
        return np.asarray(found, dtype=np.float64)

    def moved(self, counts: FloatArray, a: int, b: int, lags: HalfLags) -> FloatArray:
        """(k,) pairs after the exchange of candidates a and b, from those before."""
        found = counts + self.joining[b] - self.leaving[a]
        lag = self.lag[a, b]
        if lag >= 0:
            found[lag] -= 3.0 - lags.weight[lag]
        return found


def _exchange_pairs(
    image: Labels, lags: HalfLags, target: TwoPointTarget, settings: Exchange
) -> None:
    """Single exchanges in place, each the best of the candidates, while E falls."""
    counts = lags.counts(image)
    lag0 = float(image.sum()) - target.counts[0, 0]  # exchanges leave it as it is
    near = (settings.enough * target.counts[0, 0]) ** 2 * np.count_nonzero(target.window) - lag0**2
    for _ in range(settings.pairs):
        gap = counts - lags.wanted
        if float(lags.weight @ gap**2) <= near:
            return
        slope, edge = _slope(image, lags.full(gap)).ravel(), interface(image).ravel()
        out, into = _highest(slope, edge, image.ravel(), settings.candidates)
        if not len(out):
            return
        found = Candidates.among(image, out, into, lags)
        changes = found.changes(gap, lags)
        a, b = (int(i) for i in np.unravel_index(int(changes.argmin()), changes.shape))
        if changes[a, b] >= -ROUNDING:
            return
        counts = found.moved(counts, a, b, lags)
        image[found.out_y[a], found.out_x[a]] = 0
        image[found.into_y[b], found.into_x[b]] = 1
