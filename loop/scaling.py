"""Scales of properties: logarithm where that makes the spread more even, then standardised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
ROUNDING = 1e-9  # of the greatest amount: a spread below is none
NOTHING = 1e-12  # what is computed, of the order of 1, and only differs by rounding


def spreads(x: FloatArray, floor: float = 0.0) -> FloatArray:
    """(d,) standard deviations of columns (n, d), NaN left out; 1 where they are rounding alone.

    Told by ratios, so that a column's unit does not matter; ``floor``: below it nothing counts,
    for columns that may be zero but for rounding.
    """
    found = np.nanstd(x, axis=0)
    least = np.maximum(ROUNDING * np.nanmax(np.abs(x), axis=0), floor)
    scale: FloatArray = np.where(found > least, found, 1.0)
    return scale


def _skewness(x: FloatArray) -> float:
    spread = x.std()
    return float(np.mean(((x - x.mean()) / spread) ** 3)) if spread > 0 else 0.0


@dataclass(frozen=True)
class PropertyScale:
    """Columns (n, k) to zero mean and unit variance and back.

    ``log`` (k,) marks columns that are positive throughout and less skewed in the logarithm;
    constant columns are left at unit scale. Both are told by ratios, whatever the unit of a column.
    """

    log: NDArray[np.bool_]
    mean: FloatArray
    std: FloatArray

    @staticmethod
    def fit(values: FloatArray) -> PropertyScale:
        """From rows (n, k); NaN entries (not measured) are left out."""
        k = values.shape[1]
        log = np.zeros(k, dtype=bool)
        mean, std = np.zeros(k), np.ones(k)
        for j in range(k):
            column = values[np.isfinite(values[:, j]), j]
            if not column.size:
                continue
            (unit,) = spreads(column[:, None])
            # The factor keeps columns of little skewness as they are.
            if column.min() > 0 and _skewness(column) > 1 + abs(_skewness(np.log(column))):
                log[j] = True
                column = np.log(column)
                spread = float(column.std())
                unit = spread if spread > ROUNDING else 1.0  # a difference of logs is a ratio
            mean[j] = column.mean()
            std[j] = unit
        return PropertyScale(log, mean, std)

    def forward(self, values: FloatArray) -> FloatArray:
        """(n, k) property values -> standardised; NaN stays NaN."""
        safe = np.where(self.log, np.maximum(values, 1e-300), 1.0)
        z: FloatArray = (np.where(self.log, np.log(safe), values) - self.mean) / self.std
        return z

    def inverse(self, z: FloatArray) -> FloatArray:
        """Standardised (n, k) -> property values."""
        raw = self.mean + self.std * z
        values: FloatArray = np.where(self.log, np.exp(np.where(self.log, raw, 0.0)), raw)
        return values

    def slope(self, z: FloatArray) -> FloatArray:
        """d value / d z at z, (n, k): turns small standardised errors into property units."""
        slope: FloatArray = self.std * np.where(self.log, self.inverse(z), 1.0)
        return slope
