"""What a finished campaign's hits are worth: number, spread, sense, per arm.

    python -m benchmarks.hits CAMPAIGN [--ledger URL]

Beside the table of rounds: how far apart the hits are (1 is as far as library designs), how many
different designs remain when near ones count once, and for the superalloy example the two
conditions that join the compositions of ``examples/superalloy/ranges.toml``, which the campaign's
bounds alone do not force: Al + Ti + Mo + W + Ta + Re in γ′ from 22 to 26 at.%, refractory
elements in γ at most 10 at.%.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.report import write
from flows.assembly import open_session
from loop.candidate import Candidate
from loop.session import Session

SUBLATTICE = ("Al", "Ti", "Mo", "W", "Ta", "Re")
REFRACTORY = ("Mo", "W", "Ta", "Re")


def sense(candidates: Sequence[Candidate]) -> dict[str, Any]:
    """Shares of designs that meet the two joint conditions."""
    elements = candidates[0].elements
    x = np.stack([c.phase_compositions for c in candidates if c.phase_compositions is not None])
    inner = x[:, 1, [elements.index(e) for e in SUBLATTICE]].sum(1)
    heavy = x[:, 0, [elements.index(e) for e in REFRACTORY]].sum(1)
    return {
        "gamma_prime_sublattice_share_in_22_26": float(((inner >= 0.22) & (inner <= 0.26)).mean()),
        "gamma_prime_sublattice_range": [float(inner.min()), float(inner.max())],
        "gamma_refractory_share_below_10": float((heavy <= 0.10).mean()),
        "gamma_refractory_max": float(heavy.max()),
    }


def report(session: Session) -> dict[str, Any]:
    """Per arm: the rounds' figures, and what its hits are."""
    rounds = session.ledger.rounds(session.campaign_id)
    targets = session.campaign.targets
    found: dict[str, Any] = {}
    for arm in session.arms:
        table = rounds[rounds["arm"] == arm].sort_values("round")
        records = session.ledger.records(session.campaign_id, arms=[arm])
        hits = [r.candidate for r in records if targets.met(r.outcome.values)]
        last = table.iloc[-1]
        found[arm] = {
            "hits_by_round": table["hits"].tolist(),
            "hits": len(hits),
            "evaluations": len(records),
            "distinct_hits": int(last["distinct_hits_total"]),
            "hit_spread": float(last["hit_spread"]) if np.isfinite(last["hit_spread"]) else None,
            "different_images": len(
                {c.microstructure.tobytes() for c in hits if c.microstructure is not None}
            ),
            "seconds": float(table["seconds"].sum()),
        }
        if hits and set(SUBLATTICE) <= set(hits[0].elements):
            found[arm]["sense"] = sense(hits)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("campaign")
    parser.add_argument("--ledger")
    given = parser.parse_args()
    session = open_session(given.campaign, given.ledger)
    seeds = session.ledger.records(session.campaign_id, arms=["seed"])
    result = {
        "seeds": len(seeds),
        "hits_among_seeds": sum(session.campaign.targets.met(r.outcome.values) for r in seeds),
        "arms": report(session),
    }
    print(result)
    print(write("hits", result))


if __name__ == "__main__":
    main()
