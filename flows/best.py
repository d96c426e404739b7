"""Which candidates are shown as a campaign's best."""

from __future__ import annotations

import numpy as np

from loop.candidate import Record
from loop.ledger import Ledger
from loop.measuring import best_known
from loop.targets import Targets, parse_target


def best_records(ledger: Ledger, campaign: int, n: int, *, arm: str = "loop") -> list[Record]:
    """At most n distinct evaluated designs of an arm, nearest to the targets first.

    Hits are all equally near; of more than n, those evenly spaced over the campaign are taken.
    When the arm has none, those of all arms.
    """
    settings = ledger.campaign_settings(campaign)
    targets = Targets(tuple(parse_target(k, v) for k, v in settings["targets"].items()))
    for arms in ([arm], None):
        found: dict[str, tuple[float, Record]] = {}
        scored = (r for r in ledger.records(campaign, arms=arms) if r.outcome.status == "ok")
        for record in best_known(scored):
            distance = targets.distance(record.outcome.values)
            found.setdefault(record.candidate.id, (distance, record))
        if found:
            break
    ranked = sorted(found.values(), key=lambda pair: pair[0])
    hits = [record for distance, record in ranked if distance == 0.0]
    if len(hits) > n:
        return [hits[int(i)] for i in np.linspace(0, len(hits) - 1, n).round()]
    return [record for _, record in ranked[:n]]
