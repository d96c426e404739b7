"""One line of the table of rounds, from the ledger alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loop.candidate import Record
from loop.features import Features
from loop.ledger import Ledger
from loop.measuring import best_known
from loop.metrics import distinct, mean_pairwise_distance, normalised_rmse
from loop.scaling import NOTHING, spreads
from loop.targets import Targets

FloatArray = NDArray[np.float64]
SEED_ARM = "seed"
LOOP_ARM = "loop"
DISTINCT_RADIUS = 0.5  # in standardised features, per root of their number


@dataclass(frozen=True, slots=True)
class RoundSummary:
    """One line of the table of rounds."""

    arm: str
    round: int
    evaluated: int
    ok: int
    hits: int
    hit_rate: float
    evaluated_total: int
    hits_total: int
    distinct_hits_total: int
    best_distance: float | None
    pool: int
    pool_valid: int
    diversity: float | None
    hit_spread: float | None
    surrogate_nrmse: float | None
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def summarise(
    ledger: Ledger,
    campaign: int,
    arm: str,
    index: int,
    *,
    targets: Targets,
    features: Features,
    seconds: float,
) -> RoundSummary:
    """The figures of a scored round.

    ``diversity`` and ``hit_spread`` are mean distances between the batch's designs and between
    all hits so far, over the mean distance between seeds: 1 is as spread as the library.
    ``distinct_hits_total`` counts hits that lie at least a radius apart, one design varied once.
    """
    batch = ledger.records(campaign, arms=[arm], rounds=[index])
    seeds = ledger.records(campaign, arms=[SEED_ARM])
    rounds = range(0 if arm == SEED_ARM else 1, index + 1)
    own = ledger.records(campaign, arms=[arm], rounds=rounds)
    hits = [r for r in best_known(own) if targets.met(r.outcome.values)]
    batch_hits = sum(targets.met(r.outcome.values) for r in batch)
    reference = features.transform([r.candidate for r in seeds])
    center, scale = reference.mean(0), spreads(reference, NOTHING)

    def scaled(rows: Sequence[Record]) -> FloatArray:
        found = features.transform([r.candidate for r in rows]) if rows else reference[:0]
        z: FloatArray = (found - center) / scale
        return z

    typical = mean_pairwise_distance(scaled(seeds))
    z_hits = scaled(hits)
    best = min(
        (targets.distance(r.outcome.values) for r in best_known([*seeds, *own])), default=np.inf
    )
    details = ledger.batch_details(campaign, arm, index)
    return RoundSummary(
        arm=arm,
        round=index,
        evaluated=len(batch),
        ok=sum(r.outcome.status == "ok" for r in batch),
        hits=batch_hits,
        hit_rate=batch_hits / len(batch) if batch else 0.0,
        evaluated_total=len(own),
        hits_total=len(hits),
        distinct_hits_total=distinct(z_hits, DISTINCT_RADIUS * float(np.sqrt(len(scale)))),
        best_distance=_finite(best),
        pool=int(details.get("pool", len(batch))),
        pool_valid=int(details.get("pool_valid", len(batch))),
        diversity=_finite(mean_pairwise_distance(scaled(batch)) / typical),
        hit_spread=_finite(mean_pairwise_distance(z_hits) / typical),
        surrogate_nrmse=_surrogate_error(ledger, campaign, arm, index, batch, targets),
        seconds=seconds,
    )


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _surrogate_error(
    ledger: Ledger,
    campaign: int,
    arm: str,
    index: int,
    batch: Sequence[Record],
    targets: Targets,
) -> float | None:
    """Mean over the targets of the error of the batch's predictions over their spread."""
    pairs = [
        (p, r.outcome.values)
        for p, r in zip(ledger.predictions(campaign, arm, index), batch, strict=False)
        if p and r.outcome.status == "ok"
    ]
    if len(pairs) < 2:
        return None
    names = targets.properties
    guess = np.array([[p[k]["mean"] for k in names] for p, _ in pairs])
    found = np.array([[v.get(k, np.nan) for k in names] for _, v in pairs])
    return _finite(normalised_rmse(guess, found).mean())
