"""Candidate -> numbers: what the surrogate sees, and what tells a plausible design from an odd one.

Images enter by periodic two-point statistics (the simulators continue images periodically),
compressed by principal components of the library, and by 2×2 pixel configurations, which carry
fraction, interface density, Euler number and single-pixel noise at once (Ohser & Mücklich 2000,
Statistical Analysis of Microstructures, ch. 3). Compositions enter per phase and overall, labels
as a 0/1 column for each value but the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loop.candidate import Candidate, stack_compositions
from loop.process_labels import Codes, label_codes, one_hot
from loop.space import DesignSpace

FloatArray = NDArray[np.float64]
MAX_LAG = 16
COMPONENTS = 10
PER_PHASE = 5  # features of a phase before the principal components


def autocorrelation(indicator: FloatArray, max_lag: int) -> FloatArray:
    """Periodic two-point probability of (n, h, w) indicators at lags |dy|, |dx| <= max_lag.

    Returns (n, 2·max_lag + 1, max_lag + 1): dy from -max_lag, dx from 0 (the rest is symmetric).
    """
    n, h, w = indicator.shape
    power = np.abs(np.fft.rfft2(indicator)) ** 2
    s2 = np.fft.irfft2(power, s=(h, w)) / (h * w)
    rows = np.arange(-max_lag, max_lag + 1) % h
    columns = np.arange(max_lag + 1) % w
    picked: FloatArray = s2[:, rows][:, :, columns]
    assert picked.shape == (n, 2 * max_lag + 1, max_lag + 1)
    return picked


def configurations(indicator: NDArray[np.uint8]) -> FloatArray:
    """(n, h, w) 0/1 images -> (n, 16) frequencies of the 2×2 pixel patterns (not periodic)."""
    a = indicator.astype(np.uint8)
    code = a[:, :-1, :-1] + 2 * a[:, :-1, 1:] + 4 * a[:, 1:, :-1] + 8 * a[:, 1:, 1:]
    flat = code.reshape(len(a), -1) + 16 * np.arange(len(a))[:, None]
    counts = np.bincount(flat.ravel(), minlength=16 * len(a)).reshape(len(a), 16)
    share: FloatArray = counts / flat.shape[1]
    return share


@dataclass(frozen=True)
class ImageFeatures:
    """Principal components of two-point statistics, fitted to the library.

    ``mean`` (d,), ``axes`` (m, d) per non-first phase, concatenated over phases.
    """

    phases: int
    lag: int
    mean: FloatArray
    axes: FloatArray

    @staticmethod
    def _raw(images: NDArray[np.uint8], phases: int, lag: int) -> FloatArray:
        parts = [
            autocorrelation((images == phase).astype(np.float64), lag).reshape(len(images), -1)
            for phase in range(1, phases)
        ]
        return np.concatenate(parts, axis=1)

    @staticmethod
    def fit(images: NDArray[np.uint8], phases: int) -> ImageFeatures:
        """From library images (n, h, w); at most 2,000 are used."""
        lag = min(MAX_LAG, min(images.shape[1:]) // 2)
        raw = ImageFeatures._raw(images[:2000], phases, lag)
        mean = raw.mean(0)
        _, _, axes = np.linalg.svd(raw - mean, full_matrices=False)
        # The sign of a singular vector is arbitrary; fix it so that features are reproducible.
        axes = axes[: COMPONENTS * (phases - 1)]
        axes *= np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])[:, None]
        return ImageFeatures(phases, lag, mean, axes)

    def transform(self, images: NDArray[np.uint8]) -> FloatArray:
        """(n, h, w) -> (n, f): per further phase its fraction, periodic transition densities along
        x and y and the logarithms of the mean chords, then the principal components.
        """
        out = []
        for start in range(0, len(images), 512):
            chunk = images[start : start + 512]
            columns = []
            for phase in range(1, self.phases):
                inside = chunk == phase
                fraction = inside.mean((1, 2))
                along_x = (inside != np.roll(inside, 1, axis=2)).mean((1, 2))
                along_y = (inside != np.roll(inside, 1, axis=1)).mean((1, 2))
                columns += [fraction, along_x, along_y]
                # Half a pixel keeps an image without interfaces finite.
                half = 0.5 / chunk[0].size
                columns += [np.log((fraction + half) / (t + half)) for t in (along_x, along_y)]
            raw = self._raw(chunk, self.phases, self.lag)
            out.append(np.column_stack([*columns, (raw - self.mean) @ self.axes.T]))
        return np.concatenate(out)


@dataclass(frozen=True)
class Features:
    """The surrogate's inputs for candidates of one design space."""

    space: DesignSpace
    images: ImageFeatures | None

    @staticmethod
    def fit(space: DesignSpace, images: NDArray[np.uint8] | None) -> Features:
        several = images is not None and len(space.phases) > 1
        assert images is None or several or len(space.phases) == 1
        fitted = (
            ImageFeatures.fit(images, len(space.phases)) if images is not None and several else None
        )
        return Features(space, fitted)

    def image_part(self, images: NDArray[np.uint8]) -> FloatArray:
        """(n, h, w) -> (n, f)."""
        assert self.images is not None
        return self.images.transform(images)

    def combine(
        self,
        image_part: FloatArray | None,
        compositions: FloatArray | None,
        process: FloatArray,
        labels: Codes,
    ) -> FloatArray:
        """Rows of features from their parts: (n, f), (n, p, e), (n, q), codes (n, l) -> (n, d).

        The overall composition is given besides that of the phases: density and cost are all
        but linear in it. The last element of every composition follows from the others, so the
        first column (the base element) is left out.
        """
        parts = [process, one_hot(self.space, labels)]
        if image_part is not None:
            parts.append(image_part)
        if compositions is not None:
            parts.append(compositions[:, :, 1:].reshape(len(compositions), -1))
            if image_part is not None and self.images is not None:
                second = image_part[:, 0 : PER_PHASE * (self.images.phases - 1) : PER_PHASE]
                fractions = np.column_stack([1.0 - second.sum(1), second])
                overall = np.einsum("np,npe->ne", fractions, compositions)
                parts.append(overall[:, 1:])
        return np.concatenate(parts, axis=1)

    def transform(self, candidates: Sequence[Candidate]) -> FloatArray:
        """(n, d) features of candidates.

        Raises InvalidInputError for a candidate without the space's labels.
        """
        image_part = None
        if self.images is not None:
            images = np.stack(
                [c.microstructure for c in candidates if c.microstructure is not None]
            )
            image_part = self.image_part(images)
        compositions = None
        if self.space.elements:
            compositions = stack_compositions(candidates)
        process = np.array([[c.process[k] for k in self.space.process] for c in candidates])
        labels = label_codes(self.space, candidates)
        return self.combine(image_part, compositions, process.reshape(len(candidates), -1), labels)
