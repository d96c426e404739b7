"""Rows to learn from, and which of them are drawn how often."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from loop.candidate import Candidate, Record
from loop.errors import InvalidInputError
from loop.targets import Targets

FloatArray = NDArray[np.float64]
NEAREST = 64  # rows remembered as starting points of requests


def scored_rows(
    name: str, records: Sequence[Record], properties: Sequence[str]
) -> tuple[list[Candidate], FloatArray]:
    """Candidates of the records that are ok and their properties (n, k), NaN where one is missing.

    ``name``: of the generator that learns from them. Raises InvalidInputError for fewer than two.
    """
    rows = [r for r in records if r.outcome.status == "ok"]
    if len(rows) < 2:
        raise InvalidInputError(
            f"{name} got {len(rows)} scored records; expected at least 2 to learn from"
        )
    values = np.array([[r.outcome.values.get(k, np.nan) for k in properties] for r in rows])
    return [r.candidate for r in rows], values


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
