"""When a session stops, and when it goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from generators.baseline import LibraryDraw
from loop.candidate import Candidate, Record
from loop.protocols import Generator
from loop.session import Session
from loop.summary import LOOP_ARM, SEED_ARM
from loop.targets import Targets
from tests import libraries
from tests.loop.alloy_sessions import LIBRARY, SPACE, session


def sizes(found: Session, arm: str = "loop") -> list[int]:
    rounds = found.ledger.rounds(found.campaign_id, arm).sort_values("round")
    return [int(n) for n in rounds["evaluated"]]


def test_a_budget_is_used_up_and_not_exceeded(tmp_path: Path) -> None:
    found = session(tmp_path, rounds=9, budget=8)
    assert found.run() == "budget: 8 evaluations are used"
    assert sizes(found) == sizes(found, "random") == [6, 2]


class Scarce:
    """Finds at most a few designs a round; counts how often it was trained."""

    name = "scarce"

    def __init__(self, most: int) -> None:
        self.most = most
        self.fits = 0

    def fit(self, records: Sequence[Record], **_: Any) -> Scarce:
        self.fits += 1
        return self

    def propose(
        self, n: int, targets: Targets | None = None, *, guidance: float, rng: np.random.Generator
    ) -> list[Candidate]:
        return LIBRARY.draw(self.most, rng=rng)


def test_a_budget_is_used_up_though_batches_were_cut_short(tmp_path: Path) -> None:
    """What an arm has left counts, not what it should have used: no round is empty."""
    scarce = Scarce(2)
    arms: Mapping[str, Generator] = {LOOP_ARM: scarce, "random": LibraryDraw(LIBRARY)}
    found = session(tmp_path, generators=arms, rounds=9, budget=8, guidance=(1.0,))
    assert found.run() == "budget: 8 evaluations are used"
    mine, control = sizes(found), sizes(found, "random")
    assert set(mine) <= {1, 2}
    assert sum(mine) == 8
    assert scarce.fits == len(mine) > 3
    assert control == [6, 2] + [0] * (len(mine) - 2)  # each arm has the same budget


def test_an_arm_that_has_used_its_budget_is_not_trained_again(tmp_path: Path) -> None:
    control = Scarce(100)
    arms: Mapping[str, Generator] = {LOOP_ARM: Scarce(2), "mutation": control}
    found = session(tmp_path, generators=arms, rounds=9, budget=6, guidance=(1.0,))
    assert found.run() == "budget: 6 evaluations are used"
    assert sum(sizes(found)) == 6
    assert sizes(found, "mutation") == [6] + [0] * (len(sizes(found)) - 1)
    assert len(sizes(found)) > 2
    assert control.fits == 1


def test_a_lower_budget_stops_a_campaign_that_goes_on(tmp_path: Path) -> None:
    scarce = Scarce(2)
    arms: Mapping[str, Generator] = {LOOP_ARM: scarce}
    first = session(tmp_path, generators=arms, rounds=2, guidance=(1.0,))
    assert first.run() == "rounds: all 2 are done"
    first.ledger.close()
    second = session(tmp_path, generators=arms, rounds=9, budget=3, guidance=(1.0,))
    assert second.run() == "budget: 3 evaluations are used"
    assert sum(sizes(second)) >= 3
    assert len(sizes(second)) == scarce.fits == 2


def test_enough_hits_stop_it(tmp_path: Path) -> None:
    found = session(tmp_path, rounds=9, stop_hits=7)
    reason = found.run()
    rounds = found.ledger.rounds(found.campaign_id, "loop").sort_values("round")
    totals = [int(n) for n in rounds["hits_total"]]
    assert reason == f"enough hits: {totals[-1]} of 7 asked for"
    assert totals[-1] >= 7 > ([0, *totals])[-2]


def played(found: Session, best: Sequence[float], hits: Sequence[int]) -> None:
    """Put rounds with such figures on record for every arm."""
    for index, (distance, total) in enumerate(zip(best, hits, strict=True), start=1):
        for arm in found.arms:
            mine = {"best_distance": distance, "hits_total": total} if arm == "loop" else {}
            summary = {"best_distance": 0.0, "hits_total": 99, "evaluated_total": 6 * index}
            found.ledger.add_round(found.campaign_id, arm, index, {**summary, **mine})


@pytest.mark.parametrize(
    ("best", "hits", "stops"),
    [
        ([3.0, 3.0, 3.0], [0, 0, 0], True),
        ([3.0, 3.0], [0, 0], False),  # two rounds to compare with the one before them
        ([3.0, 3.0, 2.9], [0, 0, 0], False),
        ([3.0, 2.0, 2.0], [0, 0, 0], False),
        ([3.0, 2.0, 2.0, 2.0], [0, 0, 0, 0], True),
        ([0.0, 0.0, 0.0], [1, 1, 2], False),
        ([0.0, 0.0, 0.0], [2, 2, 2], True),
    ],
)
def test_stagnation(tmp_path: Path, best: list[float], hits: list[int], stops: bool) -> None:
    found = session(tmp_path, rounds=9, stagnation_rounds=2)
    played(found, best, hits)
    expected = "stagnation: nothing better in 2 rounds" if stops else None
    assert found.stop_reason() == expected


def test_the_generative_arm_decides_but_no_round_is_left_half_done(tmp_path: Path) -> None:
    found = session(tmp_path, rounds=9, stop_hits=5)
    played(found, [1.0], [0])
    found.ledger.add_round(found.campaign_id, "loop", 2, {"hits_total": 5, "evaluated_total": 12})
    assert (found.next_round(), found.stop_reason()) == (2, None)
    found.ledger.add_round(found.campaign_id, "random", 2, {"hits_total": 0})
    assert (found.next_round(), found.stop_reason()) == (3, "enough hits: 5 of 5 asked for")


def test_more_rounds_take_a_finished_campaign_up_again(tmp_path: Path) -> None:
    """And what is on record then does not say finished any more until it is."""
    first = session(tmp_path, rounds=1)
    assert first.run() == "rounds: all 1 are done"
    first.ledger.close()
    second = session(tmp_path, rounds=2)
    seen = []
    second.run(lambda _: seen.append(second.ledger.finished(second.campaign_id)))
    assert seen == [None]
    assert second.ledger.finished(second.campaign_id) == "rounds: all 2 are done"


def test_designs_run_out(tmp_path: Path) -> None:
    """Where the table's rows are the only source, rounds go on without designs."""
    small = libraries.library(SPACE, rows=30)
    found = session(
        tmp_path, library=small, generators={LOOP_ARM: LibraryDraw(small)}, seeds=28, rounds=2
    )
    assert found.run() == "rounds: all 2 are done"
    assert sum(sizes(found)) <= 30 - len(found.ledger.planned(found.campaign_id, SEED_ARM, 0))
    assert sizes(found)[-1] == 0
