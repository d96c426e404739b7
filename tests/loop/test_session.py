"""A session's stages, budgets and stop rules, on alloys with a closed-form property.

Killing, resuming and running without the workflow engine: ``test_session_resume``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from generators.baseline import Mutation
from loop.campaign import (
    CampaignSection,
)
from loop.candidate import Candidate, Outcome
from loop.errors import InvalidCampaignError, InvalidInputError, LedgerError
from loop.protocols import Generator
from loop.session import Session
from loop.summary import LOOP_ARM, SEED_ARM
from loop.targets import Maximise, Targets
from tests import libraries
from tests.loop.alloy_sessions import LIBRARY, SPACE, TARGETS, Nearest, Rule, campaign, session


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Session:
    found = session(tmp_path_factory.mktemp("finished"))
    assert found.run() == "rounds: all 2 are done"
    return found


def test_every_arm_is_recorded_in_every_round(finished: Session) -> None:
    rounds = finished.ledger.rounds(finished.campaign_id)
    found = {(row.round, row.arm): row.evaluated for row in rounds.itertuples()}
    assert found == {
        (0, "seed"): 20,
        (1, "loop"): 6,
        (1, "random"): 6,
        (2, "loop"): 6,
        (2, "random"): 6,
    }
    assert finished.ledger.finished(finished.campaign_id) == "rounds: all 2 are done"
    assert finished.next_round() == 3


def test_seeds_are_valid_library_designs(finished: Session) -> None:
    seeds = finished.ledger.planned(finished.campaign_id, SEED_ARM, 0)
    assert len({c.id for c in seeds}) == 20
    assert {c.origin.source for c in seeds} == {"library"}
    assert all(SPACE.violations(c) == [] for c in seeds)


def test_fewer_seeds_than_were_asked_for_are_said(tmp_path: Path, finished: Session) -> None:
    assert finished.remarks() == []
    found = session(tmp_path, library=libraries.library(SPACE, rows=12))
    assert found.remarks() == []  # not planned yet
    found.prepare()
    seeds = found.ledger.planned(found.campaign_id, SEED_ARM, 0)
    assert 0 < len(seeds) <= 12
    assert found.remarks() == [
        f"the library has {len(seeds)} valid designs for seeds, 20 were asked for (loop.seeds)"
    ]


def test_a_library_without_a_valid_design_plans_nothing(tmp_path: Path) -> None:
    """Such a library cannot be read, but a program may make one."""
    outside = np.tile([0.1, 0.1, 0.1, 0.7], (12, 1, 1))
    found = session(tmp_path, library=replace(LIBRARY, table=outside))
    with pytest.raises(InvalidInputError, match=r"none .* can be a seed: a has Ni \(40\); widen"):
        found.prepare()
    assert not found.ledger.is_planned(found.campaign_id, SEED_ARM, 0)


@pytest.mark.parametrize("arm", ["loop", "random"])
def test_an_arm_knows_the_seeds_and_its_own_earlier_rounds(finished: Session, arm: str) -> None:
    known = finished.records(arm, 2)
    assert {(r.arm, r.round) for r in known} == {("seed", 0), (arm, 1)}
    assert len(known) == 26
    assert {(r.arm, r.round) for r in finished.records(arm, 1)} == {("seed", 0)}


@pytest.mark.parametrize("arm", ["loop", "random"])
def test_no_arm_evaluates_a_design_twice(finished: Session, arm: str) -> None:
    ids = [r.candidate.id for r in finished.records(arm, 3)]
    assert len(ids) == len(set(ids))


def test_outcomes_are_the_simulators(finished: Session) -> None:
    for record in finished.records("loop", 3):
        assert record.outcome.values == libraries.rule(record.candidate)
        assert (record.simulator, record.version) == ("rule", "1")


def test_predictions_are_kept_with_the_batch(finished: Session) -> None:
    """The surrogate has seen a linear property: it predicts what is then found."""
    batch = finished.ledger.predictions(finished.campaign_id, "loop", 2)
    records = finished.ledger.records(finished.campaign_id, arms=["loop"], rounds=[2])
    for predicted, record in zip(batch, records, strict=True):
        assert predicted is not None
        assert predicted["density"]["mean"] == pytest.approx(
            record.outcome.values["density"], abs=0.02
        )


def test_a_repeated_stage_does_nothing(finished: Session) -> None:
    before = finished.ledger.evaluations(finished.campaign_id)
    finished.prepare()
    assert finished.plan("loop", 2) == 6
    assert finished.chunks("loop", 2) == []
    assert finished.evaluate("loop", 2, 0) == 0
    assert finished.finish_round("loop", 2).hits_total >= 0
    assert finished.ledger.evaluations(finished.campaign_id).equals(before)


def test_a_chunk_is_evaluated_once_and_alone(tmp_path: Path) -> None:
    rule = Rule()
    found = session(tmp_path, simulators=[rule])
    found.prepare()
    assert found.chunks(SEED_ARM, 0) == [0, 1, 2, 3, 4]
    assert found.evaluate(SEED_ARM, 0, 3) == 4
    assert found.chunks(SEED_ARM, 0) == [0, 1, 2, 4]
    assert found.evaluate(SEED_ARM, 0, 3) == 0
    assert rule.calls == [4]
    pending = found.ledger.pending(found.campaign_id, SEED_ARM, 0)
    assert pending == [i for i in range(20) if i // 4 != 3]


def test_a_scored_design_is_not_scored_again(tmp_path: Path) -> None:
    """Another campaign of the same ledger with the same seed begins with the same designs."""
    rule = Rule()
    first = session(tmp_path, simulators=[rule])
    again = Session(
        replace(campaign(), info=CampaignSection(name="again", seed=4)),
        first.ledger,
        library=LIBRARY,
        generators={LOOP_ARM: Mutation(SPACE, LIBRARY, TARGETS)},
        simulators=[rule],
        checkpoints=tmp_path / "checkpoints",
    )
    first.prepare()
    first.evaluate(SEED_ARM, 0, 0)
    again.prepare()
    for chunk in (0, 1):
        assert again.evaluate(SEED_ARM, 0, chunk) == 4
    assert rule.calls == [4, 4]  # the first chunk was known
    old, new = (s.ledger.records(s.campaign_id) for s in (first, again))
    assert [r.outcome for r in new[:4]] == [r.outcome for r in old]


def test_a_broken_simulator_does_not_stop_the_campaign(tmp_path: Path) -> None:
    densities = sorted(libraries.rule(c)["density"] for c in LIBRARY.draw(400, rng=_rng()))
    found = session(tmp_path, simulators=[Rule(broken=densities[280])], rounds=1)
    assert found.run().startswith("rounds")
    records = found.records("loop", 2)
    failed = [r for r in records if r.outcome.status == "failed"]
    assert failed
    for r in records:
        dense = libraries.rule(r.candidate)["density"] >= densities[280]
        assert (r.outcome.status == "failed") == dense
        assert dense == (r.outcome.reason == "rule raised ArithmeticError: too dense")


def test_a_value_that_is_not_finite_is_on_record_as_failed(tmp_path: Path) -> None:
    class Careless(Rule):
        def evaluate(self, candidates: Sequence[Candidate]) -> list[Outcome]:
            found = []
            for c in candidates:
                value = libraries.rule(c)["density"]
                found.append(Outcome("ok", {"density": np.nan if value > dense else value}))
            return found

    dense = float(np.median([libraries.rule(c)["density"] for c in LIBRARY.draw(400, rng=_rng())]))
    found = session(tmp_path, simulators=[Careless()])
    found.prepare()
    for chunk in found.chunks(SEED_ARM, 0):
        found.evaluate(SEED_ARM, 0, chunk)
    frame = found.ledger.evaluations(found.campaign_id)
    assert set(frame["status"]) == {"ok", "failed"}
    for record in found.ledger.records(found.campaign_id):
        failed = libraries.rule(record.candidate)["density"] > dense
        assert (record.outcome.status == "failed") == failed
        assert failed == ("density is nan" in record.outcome.reason)


def test_two_simulators_of_one_property_are_refused(tmp_path: Path) -> None:
    class Second(Rule):
        name = "second"

    with pytest.raises(InvalidCampaignError, match="'rule' and 'second' both give density"):
        session(tmp_path, simulators=[Rule(), Second()])


def test_a_campaign_in_which_nothing_works_says_so(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no evaluation so far was ok; look at the reasons"):
        session(tmp_path, simulators=[Rule(broken=0.0)]).run()


def test_an_unknown_property_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidCampaignError, match="did you mean 'density'"):
        session(tmp_path, targets=Targets((Maximise("densitie"),)))


# Resuming


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def all_found(found: Session) -> list[tuple[Any, ...]]:
    records = found.ledger.records(found.campaign_id)
    return [(r.arm, r.round, r.candidate.id, dict(r.outcome.values)) for r in records]


def test_a_generator_without_weights_resumes_to_the_same_designs(tmp_path: Path) -> None:
    """Though it warm-starts, which only a process that lives through would remember."""
    arms: Mapping[str, Generator] = {LOOP_ARM: Nearest()}
    whole = session(tmp_path, generators=arms, rounds=3)
    whole.run()
    (tmp_path / "pieces").mkdir()
    for rounds in (1, 2, 3):
        pieces = session(tmp_path / "pieces", generators=arms, rounds=rounds)
        pieces.run()
        pieces.ledger.close()
    assert all_found(session(tmp_path / "pieces", generators=arms)) == all_found(whole)


def test_a_second_run_at_the_same_time_is_refused(tmp_path: Path) -> None:
    first, second = session(tmp_path), session(tmp_path)
    with (
        first.ledger.claim(first.campaign_id),
        pytest.raises(LedgerError, match="campaign 'alloys'"),
    ):
        second.run()
    assert second.ledger.evaluations(second.campaign_id).empty
    assert second.run().startswith("rounds")


def test_a_campaign_with_other_settings_is_refused(tmp_path: Path) -> None:
    session(tmp_path).ledger.close()
    with pytest.raises(LedgerError, match="batch was 6, is 7"):
        session(tmp_path, batch=7)
