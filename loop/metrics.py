"""Figures by which rounds and arms are judged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

FloatArray = NDArray[np.float64]


def hits_curve(hits: Sequence[bool]) -> NDArray[np.int64]:
    """(n,) cumulative hits in the order of evaluation."""
    return np.cumsum(np.asarray(hits, dtype=np.int64))


def best_so_far(distances: Sequence[float]) -> FloatArray:
    """(n,) running minimum of the distance to the targets."""
    curve: FloatArray = np.minimum.accumulate(np.asarray(distances, dtype=np.float64))
    return curve


def enhancement_factor(found: int, reference: int) -> float:
    """Hits over the reference arm's at equal calls; inf when only the reference found none.

    Adesiji et al. 2025 (survey of closed-loop laboratories). NaN when neither found any.
    """
    if reference:
        return found / reference
    return float("inf") if found else float("nan")


def acceleration_factor(
    hits: Sequence[bool], reference: Sequence[bool], level: int | None = None
) -> float:
    """Reference calls over own calls to reach ``level`` hits (default: what both reach).

    Inf when only the reference never reaches it, 0 when only the own calls do not, NaN when
    neither does. Adesiji et al. 2025.
    """
    own, other = hits_curve(hits), hits_curve(reference)
    if level is None:
        level = int(min(own[-1] if own.size else 0, other[-1] if other.size else 0)) or 1
    calls = [np.flatnonzero(curve >= level) for curve in (own, other)]
    if not calls[0].size:
        return 0.0 if calls[1].size else float("nan")
    if not calls[1].size:
        return float("inf")
    return float((calls[1][0] + 1) / (calls[0][0] + 1))


def distinct(features: FloatArray, radius: float) -> int:
    """How many rows remain when each takes all others within ``radius`` with it (greedy)."""
    left = np.ones(len(features), dtype=bool)
    count = 0
    for i in range(len(features)):
        if not left[i]:
            continue
        count += 1
        left &= ((features - features[i]) ** 2).sum(1) > radius**2
    return count


def mean_pairwise_distance(features: FloatArray) -> float:
    """Mean Euclidean distance over all pairs of rows, (n, d); NaN below two rows."""
    return float(pdist(features).mean()) if len(features) > 1 else float("nan")


def normalised_rmse(predicted: FloatArray, found: FloatArray) -> FloatArray:
    """(k,) root-mean-square error over the spread of the found values, (n, k) each.

    Entries where either is NaN are left out; a column of them gives NaN.
    """
    ratio = np.full(found.shape[1], np.nan)
    for j, known in enumerate((np.isfinite(predicted) & np.isfinite(found)).T):
        if known.any():
            error = np.sqrt(np.mean((predicted[known, j] - found[known, j]) ** 2))
            spread = found[known, j].std()
            ratio[j] = error / spread if spread > 0 else error
    return ratio
