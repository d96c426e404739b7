"""Gaussian random fields on a periodic grid, cut at a level so that two-point statistics match.

Phase 1 is where a Gaussian field of mean 0, variance 1 and correlation ρ(r) lies above the level
a with P(X > a) = φ. Its two-point probability is that of a bivariate normal quadrant,

    S2 = P(X > a, Y > a) = φ² + ∫_0^ρ exp(−a² / (1 + t)) / (2π √(1 − t²)) dt,

(N. F. Berk, Phys. Rev. A 44 (1991) 5069; A. P. Roberts & M. Teubner, Phys. Rev. E 51 (1995) 4141;
S. Torquato, Random Heterogeneous Materials (2002), sec. 8.3 and 12), which grows with ρ and can
be inverted lag by lag. Not every S2 belongs to such a field: where the spectral density that
follows is negative it is clipped, and how much was clipped is kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.special import ndtri, owens_t

from loop.errors import InvalidInputError

FloatArray = NDArray[np.float64]
ROUNDING = 1e-9  # by which given values may pass their limits
NODES = 1025
STEEP = 1e-8  # below this slope, an angle cannot be told from its neighbours by S2


def _checked(name: str, values: FloatArray, low: float, high: float) -> FloatArray:
    found = np.asarray(values, dtype=np.float64)
    good = (found >= low - ROUNDING) & (found <= high + ROUNDING)  # NaN is not good
    if not np.all(good):
        worst = found[~good].flat[0]
        raise InvalidInputError(
            f"{name} has {worst:g}; expected finite values in [{low:g}, {high:g}]"
        )
    return np.clip(found, low, high)


def level(fraction: float) -> float:
    """The level a that a normal variable passes with probability φ = ``fraction``.

    Raises InvalidInputError for a fraction that does not lie between 0 and 1.
    """
    if not 0.0 < fraction < 1.0:
        raise InvalidInputError(
            f"phase fraction is {fraction}; a level cut needs one between 0 and 1, ends excluded"
        )
    return -float(ndtri(fraction))


def _even(name: str, lags: FloatArray) -> FloatArray:
    found = np.asarray(lags, dtype=np.float64)
    if found.ndim != 2 or min(found.shape) < 1:
        raise InvalidInputError(f"{name} has shape {found.shape}; expected (h, w) lags")
    if np.any(np.abs(found - opposite(found)) > ROUNDING):
        raise InvalidInputError(
            f"{name} differs between a lag and its opposite; give the average of the two"
        )
    return found


def _of_angle(angle: FloatArray, a: float, fraction: float) -> FloatArray:
    """S2 at ρ = sin(angle): φ − 2 T(a, √((1 − ρ) / (1 + ρ))) (D. B. Owen, Ann. Math. Stat. 1956).

    The root is tan(π/4 − angle/2), which loses no digits near ρ = 1.
    """
    ratio = np.tan(0.25 * np.pi - 0.5 * angle)
    return np.asarray(fraction - 2.0 * owens_t(a, ratio), dtype=np.float64)


def cut_two_point(correlation: FloatArray, fraction: float) -> FloatArray:
    """Two-point probability of the cut field at correlations ρ, same shape.

    Raises InvalidInputError for |ρ| > 1 and for a fraction outside (0, 1).
    """
    a = level(fraction)
    rho = _checked("correlation", correlation, -1.0, 1.0)
    return _of_angle(np.arcsin(rho), a, fraction)


def field_correlation(two_point: FloatArray, fraction: float) -> FloatArray:
    """Correlation ρ of the Gaussian field whose cut has the two-point probability, same shape.

    The inverse of ``cut_two_point``: interpolated, then Newton in the angle arcsin ρ, whose slope
    dS2/dangle = exp(−a² / (1 + ρ)) / 2π has no singularity at ρ = 1.
    Raises InvalidInputError where S2 is not within max(0, 2φ − 1) ... φ.
    """
    a = level(fraction)
    s2 = _checked("two-point probability", two_point, max(0.0, 2.0 * fraction - 1.0), fraction)
    nodes = np.linspace(-0.5 * np.pi, 0.5 * np.pi, NODES)
    angle = np.interp(s2, np.maximum.accumulate(_of_angle(nodes, a, fraction)), nodes)
    for _ in range(2):
        rise = np.maximum(1.0 + np.sin(angle), 1e-300)
        slope = np.exp(-(a**2) / rise) / (2.0 * np.pi)
        excess = _of_angle(angle, a, fraction) - s2
        step = np.divide(excess, slope, out=np.zeros_like(excess), where=slope > STEEP)
        angle = np.clip(angle - step, -0.5 * np.pi, 0.5 * np.pi)
    rho: FloatArray = np.sin(angle)
    return rho


def cut(field: FloatArray, fraction: float) -> NDArray[np.uint8]:
    """Labels (n, h, w) of fields (n, h, w): 1 in the highest pixels, as many as the fraction asks.

    Every image has round(φ h w) pixels of label 1, but at least one of either label.
    """
    n, h, w = field.shape
    count = min(max(round(fraction * h * w), 1), h * w - 1)
    highest = np.argpartition(field.reshape(n, -1), -count, axis=1)[:, -count:]
    labels = np.zeros((n, h * w), dtype=np.uint8)
    np.put_along_axis(labels, highest, 1, axis=1)
    return labels.reshape(n, h, w)


@dataclass(frozen=True, slots=True, eq=False)
class SpectralField:
    """A periodic Gaussian field of mean 0 and variance 1, and the phase fraction it is cut at.

    ``density``: spectral density at the grid's frequencies, (h, w), >= 0 with mean 1.
    ``clipped``: negative power that was set to 0, as a share of the power kept; with 0 the
    images have the statistics that were asked for.
    """

    fraction: float
    density: FloatArray
    clipped: float

    @staticmethod
    def of_correlation(correlation: FloatArray, fraction: float) -> SpectralField:
        """From ρ at the lags of a periodic grid, (h, w), lag 0 first.

        Raises InvalidInputError where ρ is not 1 at lag 0, not even, or outside [−1, 1].
        """
        level(fraction)
        rho = _checked("correlation", _even("correlation", correlation), -1.0, 1.0)
        if abs(rho[0, 0] - 1.0) > ROUNDING:
            raise InvalidInputError(
                f"correlation at lag 0 is {rho[0, 0]:g}; expected 1 (for two-point statistics: "
                "the value at lag 0 is the phase fraction)"
            )
        power = fft.fft2(rho).real
        clipped = float(-np.minimum(power, 0.0).sum() / np.maximum(power, 0.0).sum())
        return SpectralField(fraction, _nearest_density(power), clipped)

    @staticmethod
    def of_two_point(two_point: FloatArray, fraction: float) -> SpectralField:
        """From S2 of the phase at the lags of a periodic grid, (h, w), lag 0 first.

        Raises InvalidInputError for an S2 that no medium of this fraction has, or that is not even.
        """
        rho = field_correlation(_even("two-point probability", two_point), fraction)
        # Where S2 hardly depends on ρ, rounding alone tells a lag from its opposite.
        return SpectralField.of_correlation(0.5 * (rho + opposite(rho)), fraction)

    @property
    def correlation(self) -> FloatArray:
        """ρ at the lags, (h, w), after clipping."""
        rho: FloatArray = fft.ifft2(self.density).real
        return rho

    @property
    def two_point(self) -> FloatArray:
        """S2 at the lags, (h, w), that images cut at the level have on average."""
        return cut_two_point(self.correlation, self.fraction)

    def fields(self, n: int, rng: np.random.Generator) -> FloatArray:
        """n realisations, (n, h, w): white noise filtered by the root of the spectral density."""
        h, w = self.density.shape
        white = fft.rfft2(rng.standard_normal((n, h, w)))
        filtered = white * np.sqrt(self.density[:, : w // 2 + 1])
        found: FloatArray = fft.irfft2(filtered, s=(h, w))
        return found

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        """n periodic images, (n, h, w) labels, each with the fraction to half a pixel.

        Cut at its own quantile, an image loses the fluctuation of the phase fraction between
        realisations: S2 at long lags falls by the variance of that fraction.
        """
        return cut(self.fields(n, rng), self.fraction)


def _nearest_density(power: FloatArray) -> FloatArray:
    """The density >= 0 of mean 1 nearest to ``power`` (of mean 1) in least squares.

    By Parseval's theorem that is the correlation nearest to the one given, over all lags, with 1
    at lag 0. It is max(power − c, 0): projection onto a simplex (J. Duchi et al., ICML 2008,
    fig. 1). Scaling what is kept instead would lower the correlation at every lag.
    """
    if power.min() >= 0.0:
        return power / power.mean()
    falling = np.sort(power, axis=None)[::-1]
    surplus = (np.cumsum(falling) - power.size) / np.arange(1, power.size + 1)
    last = np.flatnonzero(falling > surplus)[-1]
    found: FloatArray = np.maximum(power - surplus[last], 0.0)
    return found / found.mean()


def opposite(lags: FloatArray) -> FloatArray:
    """Values (..., h, w) at the periodic lags −r in place of r."""
    return np.roll(np.flip(lags, axis=(-2, -1)), 1, axis=(-2, -1))


def _torus_lags(n: int) -> NDArray[np.int64]:
    """The shortest lag of each place 0 ... n − 1 of a periodic axis."""
    found: NDArray[np.int64] = (np.arange(n) + n // 2) % n - n // 2
    return found


def mean_product(
    first: NDArray[np.generic], second: NDArray[np.generic], *, periodic: bool
) -> FloatArray:
    """Mean of first(x) second(x + r) over pairs of pixels and over images, at periodic lags r.

    ``first``, ``second``: (n, h, w); returns (h, w), lag 0 first. For the indicator of a phase
    with itself this is S2. Images that are not periodic give pairs within the image alone, at the
    shortest lags around the grid, and the mean over them where there are several (half a side).
    """
    n, h, w = first.shape
    if periodic:
        shape, pairs = (h, w), np.full((h, w), float(h * w))
    else:
        # Padding by the longest lag: no pair that is used wraps around.
        shape = (fft.next_fast_len(h + h // 2), fft.next_fast_len(w + w // 2))
        reach = [size - np.abs(_torus_lags(size)) for size in (h, w)]
        pairs = np.multiply.outer(*reach).astype(np.float64)
    power = np.zeros((shape[0], shape[1] // 2 + 1), dtype=np.complex128)
    chunk = max(1, 2**20 // math.prod(shape))
    for start in range(0, n, chunk):
        part = slice(start, start + chunk)
        a = fft.rfft2(first[part].astype(np.float64), shape)
        b = a if second is first else fft.rfft2(second[part].astype(np.float64), shape)
        power += (a.conj() * b).sum(0)
    sums = fft.irfft2(power, shape)
    y, x = _torus_lags(h), _torus_lags(w)
    ways = [(lag, np.where(2 * np.abs(lag) == size, -lag, lag)) for lag, size in ((y, h), (x, w))]
    picked = [sums[np.ix_(down, right)] for down in ways[0] for right in ways[1]]
    found: FloatArray = np.mean(picked, axis=0) / (n * pairs)
    return found
