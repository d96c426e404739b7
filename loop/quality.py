"""How good generated samples are beside real ones, in a feature space.

A sample set can fail in two ways: what it makes is not real (precision, density), or it does not
make all there is (recall, coverage). Rows are designs, columns standardised features; distances
are Euclidean. Every measure comes with what it is for two sets of real ones: call it with those.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist

from loop.errors import InvalidInputError
from loop.statistics import two_point_radial

FloatArray = NDArray[np.float64]
NEIGHBOURS = 3  # Kynkäänniemi et al. 2019, section 2
LAG = 16  # px, up to which two-point statistics are compared
DRAWS = 400  # of a bootstrap
CHUNK = 512  # rows of a distance matrix held at once
TOO_NEAR = 0.01  # quantile of the real ones' distances below which a sample counts as near


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """Row by row what the means of ``agreement`` are taken over.

    ``precise`` (m,): 1 for a sample among the real ones; ``recalled`` (n,): 1 for a real one
    among the samples; ``density`` (m,): real neighbourhoods that hold the sample, over k;
    ``covered`` (n,): 1 for a real one whose neighbourhood holds a sample.
    """

    precise: FloatArray
    recalled: FloatArray
    density: FloatArray
    covered: FloatArray

    def figures(self) -> dict[str, float]:
        """Precision and recall, density and coverage."""
        return {
            "precision": float(self.precise.mean()),
            "recall": float(self.recalled.mean()),
            "density": float(self.density.mean()),
            "coverage": float(self.covered.mean()),
        }


def agreement(real: ArrayLike, made: ArrayLike, k: int = NEIGHBOURS) -> Agreement:
    """Improved precision and recall, density and coverage of samples (m, d) beside real (n, d).

    Kynkäänniemi et al. 2019, equation 1: a row is among a set when it lies in the ball around some
    member that reaches to that member's k-th neighbour in the set. Naeem et al. 2020, equations 4
    and 5, with open balls, so that a set beside itself has density and coverage 1. Recall and
    coverage grow with m: compare sets of one size. Raises InvalidInputError for k rows or fewer.
    """
    x, y = _rows("real", real, k), _rows("made", made, k)
    if x.shape[1] != y.shape[1]:
        raise InvalidInputError(
            f"real rows have {x.shape[1]} features and made rows {y.shape[1]}; expected as many"
        )
    reach_x, reach_y = _reach(x, k), _reach(y, k)
    precise, density = np.zeros(len(y)), np.zeros(len(y))
    recalled, covered = np.zeros(len(x)), np.zeros(len(x))
    for start in range(0, len(x), CHUNK):
        rows = slice(start, start + CHUNK)
        distance = cdist(x[rows], y)
        inside = distance < reach_x[rows, None]
        precise = np.maximum(precise, (distance <= reach_x[rows, None]).any(0))
        density += inside.sum(0) / k
        recalled[rows] = (distance <= reach_y).any(1)
        covered[rows] = inside.any(1)
    return Agreement(precise, recalled, density, covered)


def _rows(name: str, rows: ArrayLike, k: int) -> FloatArray:
    x = np.asarray(rows, dtype=np.float64)
    if x.ndim != 2 or len(x) <= k or k < 1 or not np.isfinite(x).all():
        raise InvalidInputError(
            f"{name} rows have shape {x.shape}; expected (n, d) finite numbers with n above the "
            f"number of neighbours, {k}, and that at least 1"
        )
    return x


def _reach(x: FloatArray, k: int) -> FloatArray:
    """(n,) distance of each row to its k-th neighbour, itself not counted."""
    # cdist and not a tree: the distances have to be those that are compared with them.
    parts = [
        np.partition(cdist(x[start : start + CHUNK], x), k, axis=1)[:, k]
        for start in range(0, len(x), CHUNK)
    ]
    return np.concatenate(parts)


# Moments


def frechet_distance(
    mean_a: ArrayLike, covariance_a: ArrayLike, mean_b: ArrayLike, covariance_b: ArrayLike
) -> float:
    """Squared Fréchet distance of two normal distributions in d dimensions.

    |m_a - m_b|² + tr(A + B - 2 (A^½ B A^½)^½), D. C. Dowson & B. V. Landau, J. Multivariate
    Analysis 12, 450 (1982); of image features it is what Heusel et al. 2017 call FID. Raises
    InvalidInputError for shapes that do not go together.
    """
    m, n = np.asarray(mean_a, dtype=np.float64), np.asarray(mean_b, dtype=np.float64)
    a = np.asarray(covariance_a, dtype=np.float64)
    b = np.asarray(covariance_b, dtype=np.float64)
    if m.ndim != 1 or m.shape != n.shape or a.shape != (len(m), len(m)) or a.shape != b.shape:
        raise InvalidInputError(
            f"means have shapes {m.shape} and {n.shape}, covariances {a.shape} and {b.shape}; "
            "expected (d,) and (d, d)"
        )
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    product = np.linalg.eigvalsh(root @ b @ root)
    cross = np.sqrt(np.maximum(product, 0.0)).sum()
    distance = np.square(m - n).sum() + np.trace(a) + np.trace(b) - 2.0 * cross
    return max(0.0, float(distance))


def frechet_of_samples(a: ArrayLike, b: ArrayLike) -> float:
    """Of the normal distributions with the moments of rows (n, d) and (m, d).

    Biased upwards by about d (d + 5) / 4 (1/n + 1/m) for uncorrelated features of unit variance:
    compare with that of two real sets of the same sizes.
    """
    x, y = _rows("first", a, 1), _rows("second", b, 1)
    return frechet_distance(
        x.mean(0), np.atleast_2d(np.cov(x.T)), y.mean(0), np.atleast_2d(np.cov(y.T))
    )


# Novelty


@dataclass(frozen=True, slots=True, eq=False)
class Novelty:
    """How far samples keep from what was trained on, beside real ones that were not.

    ``ratio`` (m,): distance to the nearest training row over the median of that distance among
    the held-out rows; ``too_near``: share of the samples nearer than ``TOO_NEAR`` of those are,
    which is what it is for new real ones.
    """

    ratio: FloatArray
    too_near: float

    @property
    def median(self) -> float:
        """1: as far from the training data as new real ones; near 0: the data by heart."""
        return float(np.median(self.ratio))


def novelty(made: ArrayLike, training: ArrayLike, held_out: ArrayLike) -> Novelty:
    """Nearest-neighbour distances of samples (m, d) and held-out rows (n, d) to training rows.

    Raises InvalidInputError for empty sets and when every held-out row is a training row.
    """
    y, x = _rows("made", made, 1), _rows("training", training, 1)
    tree = KDTree(x)
    ours = np.asarray(tree.query(y)[0], dtype=np.float64)
    real = np.asarray(tree.query(_rows("held-out", held_out, 1))[0], dtype=np.float64)
    usual = float(np.median(real))
    if usual <= 0.0:
        raise InvalidInputError(
            "most held-out rows are training rows; give real ones that were not trained on"
        )
    return Novelty(ours / usual, float(np.mean(ours < np.quantile(real, TOO_NEAR))))


# Two-point statistics


def two_point_curves(indicator: NDArray[np.generic], lag: int = LAG) -> FloatArray:
    """(n, lag + 1) two-point probabilities S2(0 ... lag) of indicators (n, h, w).

    Raises InvalidInputError when half the smaller side is less than ``lag``.
    """
    parts = []
    for start in range(0, len(indicator), CHUNK):
        r, s2 = two_point_radial(indicator[start : start + CHUNK])
        if len(r) <= lag:
            raise InvalidInputError(
                f"two-point statistics reach to {len(r) - 1} px in images of "
                f"{indicator.shape[1]} x {indicator.shape[2]}; expected a lag of at most that, "
                f"not {lag}"
            )
        parts.append(s2[:, : lag + 1])
    return np.concatenate(parts) if parts else np.zeros((0, lag + 1))


def two_point_error(curves: ArrayLike, reference: ArrayLike) -> float:
    """Root-mean-square difference of the mean curves of (n, l) and (m, l), over the mean fraction.

    The fraction is the reference's S2(0).
    """
    ours = np.asarray(curves, dtype=np.float64).mean(0)
    real = np.asarray(reference, dtype=np.float64).mean(0)
    return float(np.sqrt(np.mean(np.square(ours - real))) / real[0])


def without_fraction(curves: ArrayLike) -> FloatArray:
    """The mean autocovariance of (n, l) curves: what is left of S2 once the fractions are known.

    Mean of S2(r) - φ² over images whose fractions are φ = S2(0), (1, l).
    """
    s2 = np.asarray(curves, dtype=np.float64)
    left: FloatArray = (s2 - np.square(s2[:, :1])).mean(0, keepdims=True)
    return left


# Uncertainty


def interval(
    statistic: Callable[..., float],
    *samples: ArrayLike,
    rng: np.random.Generator,
    draws: int = DRAWS,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval of ``statistic(*samples)``; rows of each are drawn anew.

    Efron & Tibshirani 1993, section 13.3. Rows have to be independent: crops of one picture are
    less so the more they overlap, and the interval is then too narrow. Raises InvalidInputError
    for an empty sample.
    """
    arrays = [np.asarray(sample) for sample in samples]
    if any(len(array) == 0 for array in arrays):
        raise InvalidInputError("a sample is empty; a bootstrap needs at least one row of each")
    found = [
        statistic(*(array[rng.integers(len(array), size=len(array))] for array in arrays))
        for _ in range(draws)
    ]
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
