"""Random composition sets for tests: never empty, since each is built around one composition."""

from __future__ import annotations

import numpy as np

from loop.composition import FloatArray
from loop.constraints import Group, Ratio
from loop.formula import SYMBOLS
from loop.polytope import CompositionSet


def random_set(
    seed: int, *, most: int = 30, sparse: bool = False
) -> tuple[CompositionSet, FloatArray]:
    """A set over up to ``most`` elements, and a composition (e,) in it."""
    rng = np.random.default_rng(seed)
    e = int(rng.integers(3, most + 1))
    elements = tuple(np.array(SYMBOLS)[rng.choice(80, size=e, replace=False)].tolist())
    there = rng.choice(e, size=int(rng.integers(2, e + 1)), replace=False)
    inside = np.zeros(e)
    inside[there] = rng.dirichlet(np.ones(len(there)))
    bounds = {}
    for i in rng.choice(e, size=e // 2, replace=False):
        low = float(inside[i] * rng.random()) if rng.random() < 0.4 else 0.0
        high = float(inside[i] + rng.random() * (1 - inside[i]))
        bounds[elements[i]] = (low, high)
    groups = []
    for _ in range(int(rng.integers(0, 4))):
        members = rng.choice(e, size=int(rng.integers(2, min(e, 5) + 1)), replace=False)
        weights = rng.choice([1.0, 1.0, 1.0, 0.5, -1.0], size=len(members))
        value = float(weights @ inside[members])
        low = value - 0.2 * rng.random() if rng.random() < 0.7 else -np.inf
        high = value + 0.2 * rng.random() if not np.isfinite(low) or rng.random() < 0.3 else np.inf
        named = dict(zip((elements[i] for i in members), weights.tolist(), strict=True))
        groups.append(Group(named, low, high))
    ratios = []
    if len(there) > 2 and rng.random() < 0.4:
        a, b = there[:2]
        ratios.append(Ratio(elements[a], elements[b], float(inside[a]), float(inside[b])))
    at_most = min(len(there) + 1, e) if sparse else None
    return CompositionSet(elements, bounds, tuple(groups), tuple(ratios), at_most), inside
