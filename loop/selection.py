"""Which proposals are worth an evaluation: acquisition, diversity, batch."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from loop.surrogate import Prediction
from loop.targets import Maximise, Targets

FloatArray = NDArray[np.float64]


def log_probability_of_hit(prediction: Prediction, targets: Targets) -> FloatArray:
    """(n,) log P(every target met at once), properties independent given the design.

    Accurate far in the tails, where the probabilities themselves underflow.
    """
    from botorch.utils.probability.utils import log_prob_normal_in

    low, high = targets.limits()
    total = np.zeros(len(prediction.mean))
    for j in range(len(targets)):
        if not np.isfinite(low[j]) and not np.isfinite(high[j]):
            continue
        mean, std = prediction.mean[:, j], prediction.std[:, j]
        a, b = (low[j] - mean) / std, (high[j] - mean) / std
        # Limits so near each other that their probabilities cancel: the density is constant there.
        width, middle = (high[j] - low[j]) / std, 0.5 * a + 0.5 * b
        thin = ~(a < b) | ((width < 1e-7) & (np.abs(middle) * width < 1e-3))
        total[thin] += np.log(width[thin]) - 0.5 * middle[thin] ** 2 - 0.5 * np.log(2 * np.pi)
        wide = ~thin
        total[wide] += log_prob_normal_in(*map(torch.from_numpy, (a[wide], b[wide]))).numpy()
    return total


def log_expected_improvement(
    prediction: Prediction, targets: Targets, best: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """(n,) log EI of a randomly weighted sum of the maximise/minimise targets; 0 if none.

    ``best``: (m, k) values of the evaluated designs that meet the other targets. Random weights
    draw the batch along the front (Knowles 2006, ParEGO); log EI as in Ament et al. 2023.
    """
    from botorch.acquisition.analytic import _log_ei_helper

    columns = [j for j, t in enumerate(targets) if t in targets.objectives()]
    if not columns:
        return np.zeros(len(prediction.mean))
    items = [targets.items[j] for j in columns]
    sign = np.array([1.0 if isinstance(t, Maximise) else -1.0 for t in items])
    scale = np.array([t.scale for t in items])
    weights = rng.dirichlet(np.ones(len(columns))) * sign / scale
    mean = prediction.mean[:, columns] @ weights
    std = np.sqrt((prediction.std[:, columns] ** 2) @ weights**2)
    incumbent = float((best[:, columns] @ weights).max()) if len(best) else float(mean.mean())
    u = torch.from_numpy((mean - incumbent) / std)
    return _log_ei_helper(u).numpy() + np.log(std)


def greedy_batch(
    quality: FloatArray,
    features: FloatArray,
    q: int,
    *,
    diversity: float,
    length: float,
    taken: FloatArray | None = None,
) -> list[int]:
    """Indices of q designs of high quality that differ from one another and from ``taken``.

    Greedy maximisation of the log-determinant of a determinantal point process with kernel
    exp(quality_i + quality_j) k(x_i, x_j) (Chen, Zhang & Zhou 2018): each pick maximises
    2·quality/diversity + log of the variance that the picks so far leave unexplained. ``quality``
    (n,) is a log acquisition value, ``features`` (n, d) standardised, k a Gaussian of the given
    length. ``diversity`` 0 is plain ranking.
    """
    n = len(quality)
    q = min(q, n)
    if diversity == 0:
        return [int(i) for i in np.argsort(-quality, kind="stable")[:q]]
    fixed = np.zeros((0, features.shape[1])) if taken is None else taken
    remaining = np.ones(n)
    rows: list[FloatArray] = []

    def kernel(x: FloatArray) -> FloatArray:
        squared = ((features - x) ** 2).sum(1)
        k: FloatArray = np.exp(-0.5 * squared / length**2)
        return k

    def condition(column: FloatArray, diagonal: float, coefficients: FloatArray) -> None:
        """One step of the incremental Cholesky factor over all candidates."""
        for row, value in zip(rows, coefficients, strict=True):
            column = column - value * row
        row = column / np.sqrt(max(diagonal, 1e-9))
        rows.append(row)
        np.subtract(remaining, row**2, out=remaining)

    # Designs that were evaluated already: condition on a spread subset so the cost stays O(n q).
    basis: list[FloatArray] = []
    for x in fixed:
        if len(basis) == 4 * q:
            break
        cross = np.array([float(np.exp(-0.5 * ((b - x) ** 2).sum() / length**2)) for b in basis])
        if cross.size and cross.max() > 0.99:
            continue
        basis.append(x)
    if basis:
        b = np.stack(basis)
        gram = np.exp(-0.5 * ((b[:, None] - b[None]) ** 2).sum(-1) / length**2)
        gram[np.diag_indices_from(gram)] += 1e-6
        factor = np.linalg.cholesky(gram)
        cross_all = np.stack([kernel(x) for x in b])
        solved = np.linalg.solve(factor, cross_all)
        rows.extend(solved)
        remaining -= (solved**2).sum(0)
    picked: list[int] = []
    open_ = np.ones(n, dtype=bool)
    for _ in range(q):
        gain = 2.0 * quality / diversity + np.log(np.clip(remaining, 1e-9, None))
        gain = np.where(open_, gain, -np.inf)
        i = int(gain.argmax())
        picked.append(i)
        open_[i] = False
        condition(kernel(features[i]), remaining[i], np.array([row[i] for row in rows]))
    return picked
