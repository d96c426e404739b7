"""Which training rows are drawn how often."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from loop.targets import Targets

FloatArray = NDArray[np.float64]
NEAREST = 64  # rows remembered as starting points of requests


def drawing_weights(
    values: FloatArray,
    properties: Sequence[str],
    targets: Targets,
    focus: float,
    focus_rank: int,
) -> tuple[FloatArray, NDArray[np.intp]]:
    """Drawing probabilities (n,) of rows with values (n, k), and the rows nearest to the targets.

    A share ``focus`` falls off with the rank r of the distance to the targets as
    1/(1 + r/``focus_rank``), which needs no scale; the rest is uniform replay.
    """
    n = len(values)
    uniform = np.full(n, 1.0 / n)
    kept = Targets(tuple(t for t in targets if t.name in properties))
    if not len(kept):
        return uniform, np.arange(min(n, NEAREST))
    columns = [list(properties).index(k) for k in kept.properties]
    distance = np.linalg.norm(kept.distances(values[:, columns]), axis=1)
    order = np.argsort(np.nan_to_num(distance, nan=np.inf), kind="stable")
    rank = np.empty(n)
    rank[order] = np.arange(n)
    focused = 1.0 / (1.0 + rank / focus_rank)
    focused /= focused.sum()
    return (1 - focus) * uniform + focus * focused, order[:NEAREST]


def rows_to_encode(weights: FloatArray, limit: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """At most ``limit`` rows whose images are worth encoding.

    A third are the most often drawn, the first of them first; the others are random.
    """
    n = len(weights)
    order = np.argsort(-weights, kind="stable")
    if n <= limit:
        return order
    first = order[: limit // 3]
    return np.concatenate([first, rng.permutation(order[limit // 3 :])[: limit - len(first)]])
