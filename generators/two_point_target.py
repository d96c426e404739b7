"""The two-point function that reconstructed images are to have, checked when it is built.

S2(r) is the probability that both pixels of a pair at the periodic lag r lie in the phase. What
has to hold for some image of two phases to have it: S2(0) = φ, S2(r) = S2(−r), S2 within
max(0, 2φ − 1) ... φ, a spectrum that is nowhere negative, and for γ = φ − S2 the triangle
inequality γ(r + s) ≤ γ(r) + γ(s) (S. Torquato, Random Heterogeneous Materials (2002), sec. 2.2;
Y. Jiao, F. H. Stillinger & S. Torquato, Phys. Rev. E 76, 031110 (2007), sec. III). They are
necessary, not sufficient: how near an image has come is measured on the image.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft

from generators.spectral_field import SpectralField, opposite
from loop.errors import InvalidInputError

FloatArray = NDArray[np.float64]
Labels = NDArray[np.uint8]
MAX_LAG = 16
ROUNDING = 1e-9
NOISE = 0.02  # of φ: what averages and other estimators than the periodic one may add to S2
NEGATIVE = 0.05  # share of negative power that such noise may make


def pair_counts(images: NDArray[np.generic]) -> FloatArray:
    """Ordered pixel pairs in the phase at every periodic lag, (n, h, w), of 0/1 images (n, h, w).

    Whole numbers: S2 is this over h w. Rounding takes off what the FFT adds.
    """
    shape = images.shape[-2:]
    power = np.abs(fft.rfft2(images.astype(np.float64))) ** 2
    found: FloatArray = np.rint(fft.irfft2(power, s=shape))
    return found


@dataclass(frozen=True, slots=True, eq=False)
class TwoPointTarget:
    """S2 of phase 1 at the periodic lags of an image, and the lags within which it is asked for.

    ``two_point``: (h, w), lag 0 first. ``max_lag``: |dy|, |dx| up to it are compared; beyond, the
    values only shape what a reconstruction starts from. Raises InvalidInputError for values that
    are not finite, of no image of two phases, or of a constant one.
    """

    two_point: FloatArray
    max_lag: int = MAX_LAG
    window: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        s2 = np.array(self.two_point, dtype=np.float64)
        if s2.ndim != 2 or min(s2.shape) < 4:
            raise InvalidInputError(
                f"two-point function has shape {s2.shape}; expected (h, w), the periodic lags of "
                "an image of at least 4 x 4 pixels, lag 0 first"
            )
        if not 1 <= self.max_lag <= min(s2.shape) // 2:
            raise InvalidInputError(
                f"largest lag is {self.max_lag} px; expected 1 to {min(s2.shape) // 2}, half the "
                f"smaller side of images of {s2.shape[0]} x {s2.shape[1]}"
            )
        _check(s2)
        s2.flags.writeable = False
        y, x = (np.abs((np.arange(n) + n // 2) % n - n // 2) <= self.max_lag for n in s2.shape)
        object.__setattr__(self, "two_point", s2)
        object.__setattr__(self, "window", y[:, None] & x)

    @staticmethod
    def of_image(labels: ArrayLike, *, phase: int = 1, max_lag: int = MAX_LAG) -> TwoPointTarget:
        """From an image (h, w) of labels, continued periodically.

        Raises InvalidInputError for an image without the phase, or with nothing else.
        """
        image = np.asarray(labels)
        if image.ndim != 2 or not np.issubdtype(image.dtype, np.integer):
            raise InvalidInputError(
                f"image has shape {image.shape} and type {image.dtype}; expected labels (h, w) of "
                "whole numbers"
            )
        inside = image == phase
        if inside.all() or not inside.any():
            raise InvalidInputError(
                f"image shows {'nothing but' if inside.all() else 'no pixel of'} phase {phase} "
                f"(labels {', '.join(map(str, np.unique(image)[:6]))}); a reconstruction needs "
                "two phases"
            )
        return TwoPointTarget(pair_counts(inside[None])[0] / image.size, max_lag)

    @staticmethod
    def of_lags(
        lags: ArrayLike, shape: tuple[int, int], *, fraction: float | None = None
    ) -> TwoPointTarget:
        """From S2 at dy = −m ... m, dx = 0 ... m, (2 m + 1, m + 1), for images of ``shape``.

        The order of ``loop.features.autocorrelation``. Nothing is known beyond m; there the
        covariance is taken to end. ``fraction``: of the phase; S2(0) has to be it.
        """
        s2 = np.asarray(lags, dtype=np.float64)
        m = s2.shape[1] - 1 if s2.ndim == 2 else 0
        if s2.shape != (2 * m + 1, m + 1) or not 1 <= m < (min(shape) + 1) // 2:
            raise InvalidInputError(
                f"two-point function within a lag has shape {s2.shape}; expected (2 m + 1, m + 1), "
                f"dy from -m and dx from 0, with m below half of {min(shape)}"
            )
        gap = np.abs(s2[:, 0] - s2[::-1, 0]).max()
        if gap > ROUNDING:
            raise InvalidInputError(
                f"two-point function differs by {gap:.3g} between a lag and its opposite (dx = 0); "
                "give the average of the two"
            )
        phi = float(s2[m, 0])
        if fraction is not None and not abs(phi - fraction) <= ROUNDING:
            raise InvalidInputError(
                f"two-point function at lag 0 is {phi:g}, the phase fraction {fraction:g}; both "
                "are the same probability: give matching values or leave out the fraction"
            )
        whole = np.full(shape, phi**2)
        rows, columns = np.arange(-m, m + 1), np.arange(m + 1)
        whole[np.ix_(rows, columns)] = s2
        whole[np.ix_(-rows, -columns)] = s2
        return TwoPointTarget(whole, m)

    @property
    def shape(self) -> tuple[int, int]:
        h, w = self.two_point.shape
        return h, w

    @property
    def fraction(self) -> float:
        """φ = S2(0)."""
        return float(self.two_point[0, 0])

    @property
    def pixels(self) -> int:
        """Pixels of phase 1 in an image: the fraction to half a pixel, at least one of each."""
        size = self.two_point.size
        return min(max(round(self.fraction * size), 1), size - 1)

    @property
    def counts(self) -> FloatArray:
        """(h, w) pairs of pixels asked for, as ``pair_counts``; whole numbers for an image's."""
        found: FloatArray = self.two_point * self.two_point.size
        whole = np.rint(found)
        return np.where(np.abs(found - whole) < 1e-6, whole, found)

    def field(self) -> SpectralField:
        """The Gaussian field whose cut comes nearest to it.

        Beyond the window, and where noise took S2 out of reach, values are cut to the reach.
        """
        low = max(0.0, 2.0 * self.fraction - 1.0)
        return SpectralField.of_two_point(
            np.clip(self.two_point, low, self.fraction), self.fraction
        )

    def errors(self, images: NDArray[np.generic]) -> FloatArray:
        """(n,) two-point errors of 0/1 images (n, h, w) of this shape.

        Root of the mean square of the difference in S2 over all lags of the window, both
        directions, over S2(0) of the target. Raises InvalidInputError for another shape.
        """
        found = np.asarray(images)
        if found.ndim != 3 or found.shape[1:] != self.shape:
            raise InvalidInputError(
                f"images have shape {found.shape}; expected (n, {self.shape[0]}, {self.shape[1]})"
            )
        return self.errors_of_counts(pair_counts(found))

    def errors_of_counts(self, counts: FloatArray) -> FloatArray:
        """As ``errors``, of pair counts (n, h, w)."""
        gap = (counts - self.counts)[:, self.window] / self.counts[0, 0]
        found: FloatArray = np.sqrt(np.mean(gap**2, axis=1))
        return found


def _check(s2: FloatArray) -> None:
    bad = ~np.isfinite(s2)
    if bad.any():
        raise InvalidInputError(
            f"two-point function is {s2[bad][0]} at lag {_lag(bad)}; expected finite probabilities"
        )
    fraction = float(s2[0, 0])
    if not 0.0 < fraction < 1.0:
        raise InvalidInputError(
            f"two-point function at lag 0 is {fraction:g}; it is the fraction of the phase, which "
            "lies between 0 and 1, ends excluded (a constant image has nothing to reconstruct)"
        )
    slack = NOISE * min(fraction, 1.0 - fraction)
    low = max(0.0, 2.0 * fraction - 1.0)
    bad = (s2 < -ROUNDING) | (s2 < low - slack) | (s2 > fraction + ROUNDING)
    if bad.any():
        raise InvalidInputError(
            f"two-point function is {s2[bad][0]:g} at lag {_lag(bad)}; of a phase of fraction "
            f"{fraction:g} (its value at lag 0) it lies within [{low:g}, {fraction:g}]"
        )
    bad = np.abs(s2 - opposite(s2)) > ROUNDING
    if bad.any():
        raise InvalidInputError(
            f"two-point function differs between lag {_lag(bad)} and its opposite; give the "
            "average of the two"
        )
    gamma = fraction - s2
    for step in ((0, 1), (1, 0), (1, 1), (1, -1)):
        excess = np.abs(np.roll(gamma, step, (0, 1)) - gamma) - gamma[step]
        if excess.max() > slack:
            raise InvalidInputError(
                f"two-point function changes by {excess.max() + gamma[step]:.3g} near lag "
                f"{_lag(excess == excess.max())} over the step {step}, but only by "
                f"{gamma[step]:.3g} from lag 0; of no image of two phases it changes faster "
                "anywhere than there"
            )
    power = fft.fft2(s2).real
    negative = float(-np.minimum(power, 0.0).sum() / np.abs(power).sum())
    if negative > NEGATIVE:
        raise InvalidInputError(
            f"two-point function has {negative:.0%} of its power at negative spectral density; no "
            "image has that. Give S2 of images, not of a formula that leaves out their period"
        )


def _lag(where: NDArray[np.bool_]) -> str:
    h, w = where.shape
    y, x = (int(k) for k in np.argwhere(where)[0])
    return f"({y - h if 2 * y > h else y}, {x - w if 2 * x > w else x})"
