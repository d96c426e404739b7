"""The ledger gives back what it was given, once, whole and in order."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from loop.candidate import Candidate, Origin, Outcome
from loop.errors import InvalidInputError, LedgerError
from loop.ledger import Ledger
from loop.targets import Maximise, Targets
from tests.loop.ledger_fixtures import (
    BATCH,
    ELEMENTS,
    PHASES,
    TARGETS,
    campaign,
    design,
    outcome,
    play,
    prediction,
)


def test_records_hold_everything_in_evaluation_order(ledger: Ledger) -> None:
    number = campaign(ledger)
    for arm, index in (("loop", 2), ("random", 1), ("loop", 1), ("seed", 0)):
        seeds = [100 * index + 10 * len(arm) + i for i in range(4)]
        ledger.plan_batch(number, arm, index, [design(s) for s in seeds])
        order = [2, 0, 3]  # position 1 stays pending
        ledger.add_outcomes(
            number,
            arm,
            index,
            order,
            [outcome(seeds[i]) for i in order],
            simulator="chain",
            version="2.1",
            targets=TARGETS,
        )
        assert ledger.pending(number, arm, index) == [1]
    records = ledger.records(number)
    assert [(r.round, r.arm) for r in records] == sorted((r.round, r.arm) for r in records)
    assert len(records) == 12
    for record in records:
        seed = record.candidate.origin.details["seed"]
        assert record.candidate == design(seed)
        assert record.candidate.origin == design(seed).origin
        assert record.outcome == outcome(seed)
        assert (record.simulator, record.version, record.fidelity) == ("chain", "2.1", "simulated")
    chosen = ledger.records(number, arms=["loop", "seed"], rounds=[0, 1])
    assert [(r.round, r.arm) for r in chosen] == [(0, "seed")] * 3 + [(1, "loop")] * 3


def test_evaluations_show_what_was_recorded(ledger: Ledger) -> None:
    number = play(ledger, rounds=4)
    ledger.plan_batch(number, "loop", 5, [design(1)])
    frame = ledger.evaluations(number)
    assert len(frame) == 4 * BATCH + 1
    for row in frame.to_dict("records"):
        seed = 1 if row["round"] == 5 else 1000 * row["round"] + row["position"]
        candidate = design(seed)
        assert row["id"] == candidate.id
        assert (row["source"], row["guidance"]) == ("joint-flow", float(seed % 3))
        assert row["requested_modulus_GPa"] == 200.0 + seed % 3
        assert row["process.temperature_K"] == 1200.0 + seed % 5
        assert "requested_density_g_per_cm3" not in row  # a range is not one number
        mean = (prediction(seed) or {}).get("modulus_GPa", {}).get("mean", math.nan)
        if row["round"] < 5:
            np.testing.assert_equal(row["predicted_modulus_GPa"], mean)
        x, fractions = candidate.phase_compositions, candidate.phase_fractions()
        assert x is not None
        for j, element in enumerate(ELEMENTS):
            assert row[f"x_{element}"] == candidate.composition()[j]
            for i, phase in enumerate(PHASES):
                assert row[f"{phase}.{element}"] == x[i, j]
                assert row[f"{phase}.fraction"] == fractions[i]
        if row["round"] == 5:
            assert row["status"] == "pending"
            assert pd.isna(row["hit"])
            continue
        found = outcome(seed)
        assert (row["status"], row["reason"]) == (found.status, found.reason)
        for name in TARGETS.properties:
            np.testing.assert_equal(row[name], found.values.get(name, math.nan))
        distance = TARGETS.distance(found.values)
        np.testing.assert_equal(row["distance"], distance if np.isfinite(distance) else math.nan)
        assert row["hit"] == TARGETS.met(found.values)
    few = ledger.evaluations(number, columns=["x_Al", "id", "modulus_GPa"], limit=3, offset=2)
    pd.testing.assert_frame_equal(
        few, frame[["id", "modulus_GPa", "x_Al"]].iloc[2:5].reset_index(drop=True)
    )
    with pytest.raises(InvalidInputError, match="did you mean 'x_Al'"):
        ledger.evaluations(columns=["x_al"])
    with pytest.raises(InvalidInputError, match="limit is -1"):
        ledger.evaluations(limit=-1)


def test_a_failed_outcome_never_hits_even_without_targets(ledger: Ledger) -> None:
    number = campaign(ledger)
    ledger.plan_batch(number, "loop", 1, [design(0), design(1)])
    ledger.add_outcomes(
        number, "loop", 1, [0, 1], [Outcome.failed("no convergence"), Outcome("ok", {"p": 1.0})],
        simulator="chain", version="1", targets=Targets((Maximise("p"),)),
    )  # fmt: skip
    assert ledger.evaluations(number)["hit"].tolist() == [False, True]


def test_repeating_a_step_changes_nothing(ledger: Ledger) -> None:
    number = play(ledger, rounds=2)
    before = ledger.evaluations(number)
    assert play(ledger, rounds=2) == number
    seeds = [1000 + i for i in range(BATCH)]
    batch = [design(s) for s in seeds]
    ledger.plan_batch(number, "loop", 1, batch, predicted=[prediction(s) for s in seeds])
    again = Outcome("ok", outcome(1000).values, outcome(1000).bounds, {"iterations": 99})
    ledger.add_outcomes(
        number, "loop", 1, [0], [again], simulator="chain", version="1", targets=TARGETS
    )
    pd.testing.assert_frame_equal(ledger.evaluations(number), before)
    assert len(ledger.rounds(number)) == 2


def test_other_content_is_refused_and_nothing_of_it_kept(ledger: Ledger) -> None:
    number = play(ledger, rounds=1)
    before = ledger.evaluations(number)
    batch = [design(1000 + i) for i in range(BATCH)]
    for changed in (batch, batch[::-1], batch[:-1], [*batch[:-1], design(9)]):
        with pytest.raises(LedgerError, match="already has another batch"):
            ledger.plan_batch(number, "loop", 1, changed)  # the first lacks the predictions
    ledger.plan_batch(number, "loop", 2, [design(1), design(2)])
    for outcomes, simulator, version in (
        ([Outcome("ok", {"modulus_GPa": 1.0}), outcome(1)], "chain", "1"),
        ([outcome(2), outcome(1)], "chain", "2"),
        ([outcome(2), outcome(1)], "other", "1"),
    ):
        ledger.add_outcomes(
            number, "loop", 2, [1], [outcome(2)], simulator="chain", version="1", targets=TARGETS
        )
        with pytest.raises(LedgerError, match="already has another outcome"):
            ledger.add_outcomes(
                number, "loop", 2, [1, 0], outcomes,
                simulator=simulator, version=version, targets=TARGETS,
            )  # fmt: skip
        assert ledger.pending(number, "loop", 2) == [0]
    with pytest.raises(LedgerError, match="already has another summary"):
        ledger.add_round(number, "loop", 1, {"evaluated": BATCH + 1})
    pd.testing.assert_frame_equal(ledger.evaluations(number, where="round = 1"), before)


@pytest.mark.parametrize(
    ("positions", "error"),
    [([7], LedgerError), ([-1], LedgerError), ([0, 0], InvalidInputError), ([], InvalidInputError)],
)
def test_positions_must_be_planned(
    ledger: Ledger, positions: list[int], error: type[Exception]
) -> None:
    number = campaign(ledger)
    ledger.plan_batch(number, "loop", 1, [design(0)])
    outcomes = [Outcome("ok", {"p": 1.0})] * max(1, len(positions))
    with pytest.raises(error):
        ledger.add_outcomes(
            number, "loop", 1, positions, outcomes, simulator="s", version="1", targets=TARGETS
        )
    assert ledger.pending(number, "loop", 1) == [0]


def test_an_empty_batch_is_planned_too(ledger: Ledger) -> None:
    number = campaign(ledger)
    assert not ledger.is_planned(number, "loop", 1)
    ledger.plan_batch(number, "loop", 1, [])
    assert ledger.is_planned(number, "loop", 1)
    assert ledger.planned(number, "loop", 1) == ledger.pending(number, "loop", 1) == []
    assert ledger.evaluations(number).empty
    assert list(ledger.evaluations(number, columns=["id", "hit"]).columns) == ["id", "hit"]


def test_campaigns_know_their_settings_and_refuse_others(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="no campaign yet"):
        ledger.campaign_id()
    first = campaign(ledger)
    second = campaign(ledger, "beta", seed=2**62)
    assert campaign(ledger) == first
    assert ledger.campaign_id() == first  # started again after beta
    assert ledger.campaign_id("beta") == second
    with pytest.raises(LedgerError, match="did you mean 'alloy'"):
        ledger.campaign_id("aloy")
    longer = {"loop": {"batch": BATCH, "rounds": 9}, "compute": {"threads": 8}}
    assert campaign(ledger, settings=longer, versions={"torch": "2.13.0"}) == first
    assert ledger.campaign_settings(first) == longer
    assert ledger.campaign_versions(first) == {"torch": "2.13.0"}
    other = {"loop": {"batch": 5, "rounds": 2}, "compute": {"threads": 2}}
    with pytest.raises(LedgerError, match=r"\(loop.batch was 6, is 5\)"):
        campaign(ledger, settings=other, settings_hash="0")
    with pytest.raises(LedgerError, match="data with hash da7a, is 0"):
        campaign(ledger, data_hash="0")
    with pytest.raises(LedgerError, match="seed was 7, is 8"):
        campaign(ledger, seed=8)
    with pytest.raises(InvalidInputError, match="expected 0 <= seed"):
        campaign(ledger, "big", seed=2**63)
    with pytest.raises(LedgerError, match="no campaign with number 99"):
        ledger.finish(99, "budget")
    ledger.finish(first, "budget")
    assert ledger.finished(first) == "budget"
    frame = ledger.campaigns().set_index("name")
    assert frame.loc["beta", "seed"] == 2**62
    assert frame.loc["alloy", "finished"] == "budget"
    ledger.finish(first, None)
    assert ledger.finished(first) is None


def test_campaign_figures_agree_with_the_evaluations(ledger: Ledger) -> None:
    number = play(ledger, rounds=12)
    ledger.plan_batch(number, "random", 1, [design(1000), design(1000)])
    figures = ledger.campaigns().set_index("id").loc[number]
    frame = ledger.evaluations(number)
    assert figures["rounds"] == 12
    assert figures["planned"] == len(frame) == 12 * BATCH + 2
    assert figures["evaluations"] == (frame["status"] != "pending").sum()
    assert figures["hits"] == frame["hit"].sum() > 0
    assert figures["distinct_hits"] == len(set(ledger.evaluations(where="hit")["id"]))


def test_rounds_and_checkpoints(ledger: Ledger) -> None:
    number = campaign(ledger)
    assert list(ledger.rounds(number).columns) == ["round", "arm", "finished_at"]
    for arm, index in (("random", 1), ("loop", 2), ("loop", 1)):
        best = np.float64(0.5) if index == 1 else math.inf
        ledger.add_round(number, arm, index, {"arm": arm, "round": index, "best_distance": best})
    frame = ledger.rounds(number)
    assert frame[["round", "arm"]].values.tolist() == [[1, "loop"], [1, "random"], [2, "loop"]]
    assert frame["best_distance"].tolist() == [0.5, 0.5, math.inf]
    assert ledger.rounds(number, "random")["round"].tolist() == [1]

    assert ledger.checkpoint(number, "loop", 1, "joint-flow") is None
    ledger.add_checkpoint(number, "loop", 1, "joint-flow", "aa", "c/aa.safetensors", {"steps": 10})
    ledger.add_checkpoint(number, "loop", 1, "joint-flow", "bb", "c/bb.safetensors", {"steps": 10})
    kept = ledger.checkpoint(number, "loop", 1, "joint-flow")
    assert kept is not None
    assert (kept.sha256, kept.path, kept.metadata) == (
        "bb", Path("c/bb.safetensors"), {"steps": 10},
    )  # fmt: skip
    ledger.plan_batch(number, "loop", 1, [design(0)])
    ledger.add_checkpoint(number, "loop", 1, "joint-flow", "bb", "c/bb.safetensors", {})
    with pytest.raises(LedgerError, match="was planned with joint-flow bb"):
        ledger.add_checkpoint(number, "loop", 1, "joint-flow", "cc", "c/cc.safetensors", {})


def test_candidates_are_found_by_the_beginning_of_their_id(ledger: Ledger) -> None:
    number = play(ledger, rounds=3)
    ids = ledger.evaluations(number)["id"].tolist()
    for id_ in ids[:5]:
        assert ledger.candidate(id_).id == id_
        assert ledger.candidate(id_[:20]).origin.source == "joint-flow"
    shared_start = next(a for a in "0123456789abcdef" if sum(i[0] == a for i in ids) > 1)
    with pytest.raises(LedgerError, match="several ids begin with"):
        ledger.candidate(shared_start)
    for unknown in ("", "zz", "%", ids[0] + "0"):
        with pytest.raises(LedgerError, match="no candidate has an id"):
            ledger.candidate(unknown)
    records = ledger.candidate_records(design(1001).id)
    assert records["property"].tolist() == ["density_g_per_cm3", "modulus_GPa"]
    assert records["value"].tolist() == [outcome(1001).values[name] for name in records["property"]]
    assert records["low"].tolist()[1] == 100.0
    assert records["high"].tolist()[1] == 300.0


def test_cached_outcomes_are_of_the_same_simulator_and_never_failures(ledger: Ledger) -> None:
    number = campaign(ledger)
    ledger.plan_batch(number, "loop", 1, [design(1), design(3)])
    ledger.add_outcomes(
        number, "loop", 1, [0, 1], [outcome(1), outcome(3)],
        simulator="chain", version="1", targets=TARGETS,
    )  # fmt: skip
    assert ledger.cached_outcome(design(1).id, "chain", "1") == outcome(1)
    assert ledger.cached_outcome(design(1).id, "chain", "2") is None
    assert ledger.cached_outcome(design(1).id, "other", "1") is None
    assert outcome(3).status == "failed"
    assert ledger.cached_outcome(design(3).id, "chain", "1") is None


def test_names_that_the_ledger_uses_itself_are_refused(ledger: Ledger) -> None:
    number = campaign(ledger)
    ledger.plan_batch(number, "loop", 1, [design(0)])
    for name in ("status", "x_Al"):
        with pytest.raises(LedgerError, match=f"{name!r} .*; rename"):
            ledger.add_outcomes(
                number, "loop", 1, [0], [Outcome("ok", {name: 1.0})],
                simulator="s", version="1", targets=TARGETS,
            )  # fmt: skip
    assert ledger.pending(number, "loop", 1) == [0]


def test_properties_may_be_asked_for_before_there_are_any(ledger: Ledger) -> None:
    number = campaign(ledger, properties=("modulus_GPa",))
    assert ledger.fields(number)["modulus_GPa"] == "number"
    assert "x_Al" not in ledger.fields(number)
    ledger.plan_batch(number, "loop", 1, [design(0)])
    assert ledger.fields(number)["x_Al"] == "number"
    assert ledger.evaluations(number, where="modulus_GPa > 0").empty
    assert ledger.evaluations(number, sort="modulus_GPa")["modulus_GPa"].isna().all()


def test_what_is_not_json_is_refused(ledger: Ledger) -> None:
    number = campaign(ledger)
    odd = Candidate(("a",), (), np.zeros((2, 2), np.uint8), origin=Origin("x", None, {"f": print}))
    with pytest.raises(InvalidInputError, match="builtin_function_or_method cannot be kept"):
        ledger.plan_batch(number, "loop", 1, [odd])
    reason = "half a pair \udc80 and a NUL \0"
    ledger.plan_batch(number, "loop", 1, [design(0)])
    for _ in range(2):
        ledger.add_outcomes(
            number, "loop", 1, [0], [Outcome.failed(reason, norm=np.float32(0.5))],
            simulator="s", version="1", targets=TARGETS,
        )  # fmt: skip
    (record,) = ledger.records(number)
    assert record.outcome.reason == "half a pair \\udc80 and a NUL \\0"
    assert record.outcome.diagnostics == {"norm": 0.5}


def test_damaged_content_is_noticed(ledger: Ledger) -> None:
    number = play(ledger, rounds=1)
    assert ledger.path is not None
    with sqlite3.connect(ledger.path) as raw:
        raw.execute("UPDATE candidate SET microstructure = X'00'")
    raw.close()
    with pytest.raises(LedgerError, match="is damaged in the ledger"):
        ledger.planned(number, "loop", 1)
