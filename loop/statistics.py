"""Statistics by which micrographs are compared: correlation, spectrum, sizes.

All take the indicator of one phase. Micrographs are not periodic, so neither are the estimators:
two-point sums run over the pairs inside the picture, the spectrum is taken under a Hann window.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from loop.errors import InvalidInputError

FloatArray = NDArray[np.float64]


def _stack(indicator: NDArray[np.generic]) -> FloatArray:
    images = np.asarray(indicator, dtype=np.float64)
    if images.ndim != 3 or min(images.shape) < 1:
        raise InvalidInputError(f"indicator has shape {images.shape}; expected (n, h, w), n > 0")
    return images


def _radial_mean(values: FloatArray, radius: FloatArray, bins: int) -> FloatArray:
    """Mean of (n, ...) ``values`` over shells of rounded ``radius`` 0 ... bins - 1: (n, bins)."""
    shell = np.rint(radius).astype(np.intp).ravel()
    kept = shell < bins
    count = np.bincount(shell[kept], minlength=bins)
    flat = values.reshape(len(values), -1)[:, kept]
    sums = np.stack([np.bincount(shell[kept], weights=row, minlength=bins) for row in flat])
    return sums / np.maximum(count, 1)


def two_point_radial(indicator: NDArray[np.generic]) -> tuple[FloatArray, FloatArray]:
    """Two-point probability S2(r): that both ends of a segment of length r lie in the phase.

    ``indicator``: (n, h, w), 1 inside the phase. Returns r in px, (m,), from 0 to half the
    smaller side, and S2, (n, m), averaged over directions. S2(0) is the volume fraction φ;
    without correlation S2 = φ². S. Torquato, Random Heterogeneous Materials (2002), sec. 2.2.
    """
    images = _stack(indicator)
    h, w = images.shape[1:]
    shape = (2 * h, 2 * w)  # zero padding: no pair wraps around the edge
    pairs = np.fft.irfft2(np.abs(np.fft.rfft2(np.ones((h, w)), shape)) ** 2, shape)
    found = np.fft.irfft2(np.abs(np.fft.rfft2(images, shape)) ** 2, shape)
    correlation = np.where(pairs > 0.5, found / np.maximum(pairs, 1.0), 0.0)
    y = np.fft.fftfreq(2 * h, 1 / (2 * h))
    x = np.fft.fftfreq(2 * w, 1 / (2 * w))
    bins = min(h, w) // 2 + 1
    s2 = _radial_mean(correlation, np.hypot(y[:, None], x[None, :]), bins)
    return np.arange(bins, dtype=np.float64), s2


def radial_power_spectrum(indicator: NDArray[np.generic]) -> tuple[FloatArray, FloatArray]:
    """Power of the fluctuations of the phase by spatial frequency, averaged over directions.

    ``indicator``: (n, h, w). Returns k in cycles per px, (m,), from the longest full wave to the
    Nyquist frequency 0.5, and the power, (n, m), scaled so that uncorrelated pixels of volume
    fraction φ give φ(1 − φ) at every k. Hann window, mean removed.
    """
    images = _stack(indicator)
    h, w = images.shape[1:]
    if min(h, w) < 8:
        raise InvalidInputError(f"images are {h} x {w}; a spectrum needs at least 8 x 8")
    window = np.hanning(h + 2)[1:-1, None] * np.hanning(w + 2)[None, 1:-1]
    window /= np.sqrt(np.mean(window**2))
    mean = np.sum(images * window, axis=(1, 2), keepdims=True) / window.sum()
    power = np.abs(np.fft.fft2((images - mean) * window)) ** 2 / (h * w)
    n = min(h, w)
    radius = n * np.hypot(np.fft.fftfreq(h)[:, None], np.fft.fftfreq(w)[None, :])
    return np.arange(1, n // 2 + 1) / n, _radial_mean(power, radius, n // 2 + 1)[:, 1:]


def precipitate_diameters(indicator: NDArray[np.generic]) -> FloatArray:
    """Diameters, in px, of circles of the same area as each connected particle of (h, w).

    Particles touch across sides, not corners. Those that the edge cuts count as they are seen,
    so compare pictures of one size only. Empty when the phase is absent.
    """
    image = np.asarray(indicator)
    if image.ndim != 2:
        raise InvalidInputError(f"indicator has shape {image.shape}; expected (h, w)")
    labels, count = ndimage.label(image.astype(bool))
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    diameters: FloatArray = np.sqrt(4.0 * areas / np.pi)
    return diameters
