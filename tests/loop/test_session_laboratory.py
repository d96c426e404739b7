"""A campaign that needs people: it asks, waits without cost, and goes on with what it is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from generators.baseline import LibraryDraw, Mutation
from loop.candidate import Candidate, Outcome
from loop.errors import InvalidInputError, LedgerError
from loop.laboratory import Measurement, fidelities
from loop.protocols import Generator, Simulator
from loop.session import Session
from loop.summary import LOOP_ARM, SEED_ARM
from loop.targets import Range, Targets
from simulators.measured import Laboratory
from tests import libraries
from tests.loop.alloy_sessions import LIBRARY, SPACE, Rule, session

HARDNESS = Targets((Range("hardness_GPa", 1.0, 1.5),))
OUTPUTS = {"hardness_GPa": "GPa", "strain": "1"}
ARMS: Mapping[str, Generator] = {
    LOOP_ARM: Mutation(SPACE, LIBRARY, HARDNESS),
    "random": LibraryDraw(LIBRARY),
}


def lab(folder: Path, *more: Simulator, **given: Any) -> Session:
    """A session with a laboratory, and other simulators besides."""
    usual: dict[str, Any] = {
        "targets": HARDNESS,
        "generators": ARMS,
        "simulators": [*more, Laboratory(OUTPUTS)],
    }
    return session(folder, **(usual | given))


def truth(candidate: Candidate) -> dict[str, float]:
    density = libraries.rule(candidate)["density"]
    return {"hardness_GPa": density / 6.0, "strain": density - 8.0}


def measure(found: Session, n: int | None = None) -> int:
    """What a laboratory does: measure the first n designs of its work list, and tell."""
    work = found.ledger.work(found.campaign_id)[:n]
    results = [
        (f"{w.candidate.id} {name}", Measurement(w.candidate.id, name, value, OUTPUTS[name], 0.01))
        for w in work
        for name, value in truth(w.candidate).items()
    ]
    found.ledger.tell(found.campaign_id, results)
    return len(work)


def spent(found: Session) -> int:
    frame = found.ledger.evaluations(found.campaign_id)
    return int((frame["status"] != "pending").sum())


def test_a_campaign_with_a_laboratory_from_start_to_end(tmp_path: Path) -> None:
    """As people have it: every run is another process, stopped until something is told."""
    told = []
    for _ in range(9):
        found = lab(tmp_path, budget=10)
        reason = found.run()
        if not reason.startswith("waiting"):
            break
        assert found.stop_reason() is None
        assert found.ledger.finished(found.campaign_id) is None
        assert found.ledger.waiting(found.campaign_id) == reason
        told.append(measure(found))
        assert reason == f"waiting for {2 * told[-1]} measurements of {told[-1]} designs"
        found.ledger.close()
    # Seeds first; then both arms of a round ask together.
    assert reason == "budget: 10 evaluations are used"
    assert told == [20, 12, 8]
    assert found.ledger.waiting(found.campaign_id) is None
    for record in found.ledger.records(found.campaign_id):
        assert record.outcome.values == truth(record.candidate)
        assert record.outcome.uncertainty == dict.fromkeys(OUTPUTS, 0.01)
        assert record.fidelity == "measured"
        assert (record.outcome.status, record.simulator) == ("ok", "measured")


def test_waiting_costs_nothing_and_changes_nothing(tmp_path: Path) -> None:
    fits = []

    class Counted(Mutation):
        def fit(self, *given: Any, **named: Any) -> Mutation:
            fits.append(1)
            return super().fit(*given, **named)

    arms = {LOOP_ARM: Counted(SPACE, LIBRARY, HARDNESS), "random": LibraryDraw(LIBRARY)}
    found = lab(tmp_path, generators=arms)
    assert found.run().startswith("waiting")
    measure(found)
    reason = found.run()
    assert reason == "waiting for 24 measurements of 12 designs"
    before = found.ledger.evaluations(found.campaign_id)
    assert len(fits) == 1
    for again in (found, lab(tmp_path, generators=arms)):
        assert again.waits() == reason
        assert again.run() == reason
    assert len(fits) == 1
    assert found.ledger.evaluations(found.campaign_id).equals(before)
    assert spent(found) == 20
    assert list(found.ledger.rounds(found.campaign_id)["round"]) == [0]
    with pytest.raises(LedgerError, match="round 1 of arm 'loop' waits for 6 outcomes"):
        found.finish_round("loop", 1)


def test_what_is_told_in_part_is_scored_and_the_rest_waited_for(tmp_path: Path) -> None:
    found = lab(tmp_path)
    found.run()
    measure(found, 5)
    w = found.ledger.work(found.campaign_id)[0]
    half = Measurement(w.candidate.id, "strain", 0.1, "1")
    found.ledger.tell(found.campaign_id, [("half", half)])
    assert found.waits() is None
    assert found.run() == "waiting for 29 measurements of 15 designs"
    assert spent(found) == 5
    assert found.chunks(SEED_ARM, 0) == [1, 2, 3, 4]
    assert found.evaluate(SEED_ARM, 0, 1) == 0


def test_a_design_that_another_simulator_refuses_is_not_asked_for(tmp_path: Path) -> None:
    """What can be computed screens what has to be measured; pending work is computed once more."""

    class Picky(Rule):
        def evaluate(self, candidates: Sequence[Candidate]) -> list[Outcome]:
            self.calls.append(len(candidates))
            values = [libraries.rule(c) for c in candidates]
            return [
                Outcome("infeasible", reason="too dense")
                if v["density"] > 8.2
                else Outcome("ok", v, {"density": (0.0, 99.0)}, {"steps": 3})
                for v in values
            ]

    picky = Picky()
    found = lab(tmp_path, picky)
    found.run()
    frame = found.ledger.evaluations(found.campaign_id)
    refused = int((frame["status"] == "infeasible").sum())
    assert 0 < refused < 20
    assert len(found.ledger.work(found.campaign_id)) == 20 - refused
    assert found.ledger.waiting(found.campaign_id) == found.waits()
    before = sum(picky.calls)
    found.run()
    assert sum(picky.calls) == before == 20
    measure(found)
    while found.run().startswith("waiting"):
        measure(found)
    ok = [r for r in found.ledger.records(found.campaign_id) if r.outcome.status == "ok"]
    assert {r.fidelity for r in ok} == {"mixed"}
    for record in ok:
        assert record.outcome.values == truth(record.candidate) | libraries.rule(record.candidate)
        assert dict(record.outcome.bounds) == {"density": (0.0, 99.0)}
        assert set(record.outcome.uncertainty) == set(OUTPUTS)
    rows = found.ledger.candidate_records(ok[0].candidate.id)
    kinds = dict(zip(rows["property"], rows["value_fidelity"], strict=True))
    assert kinds == {"density": "simulated", "hardness_GPa": "measured", "strain": "measured"}


def test_another_campaign_knows_what_was_measured_and_corrected(tmp_path: Path) -> None:
    first = lab(tmp_path)
    first.run()
    measure(first)
    first.run()
    (one,) = [r for r in first.ledger.records(first.campaign_id) if r.round == 0][:1]
    correct = Measurement(one.candidate.id, "strain", 0.125, "1")
    first.ledger.tell(first.campaign_id, [("correction", correct)], replace=True)
    from dataclasses import replace

    from loop.campaign import CampaignSection
    from tests.loop.alloy_sessions import campaign

    second = Session(
        replace(campaign(HARDNESS), info=CampaignSection(name="again", seed=4)),
        first.ledger,
        library=LIBRARY,
        generators=ARMS,
        simulators=[Laboratory(OUTPUTS)],
        checkpoints=tmp_path / "checkpoints",
    )
    second.run()
    seeds = second.ledger.records(second.campaign_id, arms=[SEED_ARM])
    assert len(seeds) == 20  # the same seeds: nothing of them is asked for again
    found = next(r for r in seeds if r.candidate == one.candidate)
    assert found.outcome.values["strain"] == 0.125
    assert one.outcome.values["strain"] != 0.125


def test_a_run_that_is_killed_while_it_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time it is taken up it comes one chunk further, and nothing is asked for twice."""
    for done in range(5):
        found = lab(tmp_path)
        ask = found.ledger.ask

        def dying(*given: Any, of: Any = ask) -> None:
            of(*given)
            raise KeyboardInterrupt

        monkeypatch.setattr(found.ledger, "ask", dying)
        with pytest.raises(KeyboardInterrupt):
            found.run()
        assert len(found.ledger.work(found.campaign_id)) == 4 * (done + 1)
        found.ledger.close()
    found = lab(tmp_path)
    assert found.run() == "waiting for 40 measurements of 20 designs"
    assert spent(found) == 0


class Later:
    """A simulator whose answers take until the second time of asking, as a queue's do."""

    name = "later"
    version = "1"
    outputs: Mapping[str, str] = {"density": "g/cm3"}

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def evaluate(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        known = [c.id in self.seen for c in candidates]
        self.seen |= {c.id for c in candidates}
        return [
            Outcome("ok", libraries.rule(c)) if k else Outcome("pending", reason="in the queue")
            for c, k in zip(candidates, known, strict=True)
        ]


def test_any_simulator_may_need_time(tmp_path: Path) -> None:
    later = Later()
    found = session(tmp_path, simulators=[later])
    assert found.run() == "waiting for outcomes of 20 designs by later"
    assert found.ledger.work(found.campaign_id) == []
    assert found.waits() is None  # nobody can tell but the simulator, so it is asked again
    reasons = [found.run() for _ in range(3)]
    assert reasons[-1] == "rounds: all 2 are done"
    assert all(reason.startswith("waiting for outcomes of") for reason in reasons[:-1])


def test_fidelities_are_what_simulators_declare() -> None:
    class Joined:
        name, version = "joined", "1"
        parts = (Rule(), Laboratory(OUTPUTS))
        outputs: Mapping[str, str] = {"density": "g/cm3"} | OUTPUTS

        def evaluate(self, candidates: Sequence[Candidate]) -> list[Outcome]:
            return []

    measured = dict.fromkeys(OUTPUTS, "measured")
    assert fidelities([Joined()]) == {"density": "simulated"} | measured
    odd = Laboratory(OUTPUTS)
    odd.fidelity = "guessed"
    with pytest.raises(InvalidInputError, match="fidelity 'guessed'; expected 'simulated' or"):
        fidelities([odd])
