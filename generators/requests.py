"""From targets to the property values that a generator is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from loop.targets import Maximise, Minimise, Targets

FloatArray = NDArray[np.float64]
MARGIN = 0.15  # share of a target's width kept free at either side: proposals scatter


def draw_requests(
    n: int,
    targets: Targets,
    properties: Sequence[str],
    near: FloatArray,
    rng: np.random.Generator,
) -> FloatArray:
    """(n, k) requested values, NaN for properties without a target.

    Half of the rows are uniform in the box of the targets, which spreads them over it; half start
    from known rows ``near`` (m, k) the targets and are moved into the box, which keeps properties
    that hang together so. Open sides (maximise, minimise) reach beyond the best known value by up
    to half a standard deviation of ``near``.
    """
    requests = np.full((n, len(properties)), np.nan)
    base = near[rng.integers(len(near), size=n)] if len(near) else np.full_like(requests, np.nan)
    follow = rng.random(n) < 0.5
    for target in targets:
        if target.name not in properties:
            continue
        j = properties.index(target.name)
        low, high = target.low, target.high
        known = near[:, j][np.isfinite(near[:, j])] if len(near) else np.zeros(0)
        reach = 0.5 * float(known.std()) if known.size > 1 else target.scale
        reach = reach or target.scale
        if isinstance(target, Maximise):
            best = float(known.max()) if known.size else 0.0
            low = max(low, best - reach) if np.isfinite(low) else best - reach
            high = max(best, low) + reach
        elif isinstance(target, Minimise):
            best = float(known.min()) if known.size else 0.0
            high = min(high, best + reach) if np.isfinite(high) else best + reach
            low = min(best, high) - reach
        margin = MARGIN * (high - low)
        low, high = low + margin, high - margin
        spread = rng.uniform(low, high, size=n)
        moved = np.clip(base[:, j], low, high)
        requests[:, j] = np.where(follow & np.isfinite(moved), moved, spread)
    return requests
