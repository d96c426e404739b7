"""What page, API and plots show is counted right: small frames with known answers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interface.dashboard_charts import nice_limits, requested_chart, rounds_chart
from interface.dashboard_data import Snapshots
from interface.models import CampaignInfo
from interface.views import (
    arm_rank,
    arm_series,
    campaign_info,
    campaign_infos,
    requested_simulated,
    round_infos,
    round_table,
    state_text,
    target_shares,
)
from interface.views_candidates import (
    campaign_columns,
    candidate_detail,
    candidate_page,
    distinct_designs,
    sort_columns,
)
from loop.errors import InvalidInputError, LedgerError
from loop.ledger import Ledger
from loop.targets import Maximise, Minimise, Range, Targets, Value
from tests.interface.fixtures import (
    ELEMENTS,
    NAME,
    PHASES,
    TARGETS,
    add_batch,
    rule,
    start_campaign,
    write_ledger,
)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    path = write_ledger(tmp_path_factory.mktemp("views") / "ledger.db", rounds=2, batch=12)
    with Ledger.open(path, create=False) as opened:
        yield opened


def frame(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["id", "arm", "round", "status", "hit", "distance"])
    return table.assign(
        hit=table["hit"].astype("boolean"), distance=table["distance"].astype(float)
    )


EVALUATIONS = frame(
    [
        ("s1", "seed", 0, "ok", False, 3.0),
        ("s2", "seed", 0, "failed", False, None),
        ("a", "loop", 1, "ok", True, 0.0),
        ("b", "loop", 1, "ok", False, 2.0),
        ("c", "loop", 1, "infeasible", False, None),
        ("a", "loop", 2, "ok", True, 0.0),
        ("d", "loop", 2, "ok", True, 0.0),
        ("e", "loop", 2, "pending", None, None),
        ("f", "random", 1, "ok", False, 4.0),
        ("g", "random", 2, "ok", False, 2.5),
        ("h", "random", 3, "pending", None, None),
    ]
)


def test_rounds_are_counted_with_repeats_pending_and_failed() -> None:
    rows = round_table(EVALUATIONS).to_dict(orient="records")
    table = {(row.pop("arm"), row.pop("round")): row for row in rows}
    assert list(table) == [
        ("seed", 0), ("loop", 1), ("loop", 2), ("random", 1), ("random", 2), ("random", 3),
    ]  # fmt: skip
    assert table["loop", 1] == {
        "planned": 3, "evaluated": 3, "ok": 2, "infeasible": 1, "failed": 0, "hits": 1,
        "hits_total": 1, "distinct_hits_total": 1, "hit_rate": 1 / 3, "best_distance": 0.0,
    }  # fmt: skip
    second = table["loop", 2]
    assert (second["planned"], second["evaluated"], second["hits"]) == (3, 2, 2)
    assert (second["hits_total"], second["distinct_hits_total"]) == (3, 2)  # a came twice
    assert second["hit_rate"] == 1.0
    # The best so far starts from the seeds, and a round without outcome does not lose it.
    assert [table["random", r]["best_distance"] for r in (1, 2, 3)] == [3.0, 2.5, 2.5]
    assert math.isnan(table["random", 3]["hit_rate"])


def test_no_evaluations_give_no_rounds() -> None:
    assert round_table(EVALUATIONS.iloc[:0]).empty


def test_a_round_without_anything_to_evaluate_is_still_a_round() -> None:
    table = round_table(EVALUATIONS, [("loop", 1), ("loop", 3), ("mutation", 1)])
    rows = {(r["arm"], r["round"]): r for r in table.to_dict(orient="records")}
    assert len(rows) == 8
    empty = rows["loop", 3]
    assert (empty["planned"], empty["hits"], empty["hits_total"]) == (0, 0, 3)
    assert empty["best_distance"] == 0.0
    assert math.isnan(empty["hit_rate"])
    assert rows["mutation", 1]["best_distance"] == 3.0  # of the seeds


def test_arms_start_from_the_seeds_without_hits_of_their_own() -> None:
    with_seed_hit = frame([("s1", "seed", 0, "ok", True, 0.0), ("a", "loop", 1, "ok", True, 0.0)])
    series = arm_series(round_table(with_seed_hit))
    assert list(series) == ["loop"]
    assert series["loop"]["round"].tolist() == [0, 1]
    assert series["loop"]["distinct_hits_total"].tolist() == [0, 1]
    assert series["loop"]["best_distance"].tolist() == [0.0, 0.0]


def test_arms_are_ordered_seeds_loop_controls_others() -> None:
    arms = ["zeta", "mutation", "loop", "alpha", "seed", "random"]
    assert sorted(arms, key=arm_rank) == ["seed", "loop", "random", "mutation", "alpha", "zeta"]


def test_requested_pairs_need_both_numbers() -> None:
    table = pd.DataFrame(
        {
            "id": ["a", "b", "c"], "arm": "loop", "round": 1, "guidance": [1.0, 2.0, math.nan],
            "p": [1.0, math.nan, 3.0], "requested_p": [1.5, 2.0, math.nan],
        }
    )  # fmt: skip
    pairs = requested_simulated(table, "p")
    assert pairs[["id", "x", "y"]].to_numpy().tolist() == [["a", 1.5, 1.0]]
    with pytest.raises(InvalidInputError, match="unknown property 'q'"):
        requested_simulated(table, "q")
    with pytest.raises(InvalidInputError, match="predicted_p"):
        requested_simulated(table, "p", "predicted")


def test_shares_of_targets_count_scored_designs_only() -> None:
    table = pd.DataFrame(
        {
            "arm": ["loop", "loop", "loop", "random"], "status": ["ok", "ok", "failed", "ok"],
            "a": [1.0, 3.0, math.nan, 1.05], "b": [5.0, 6.0, math.nan, 4.0],
        }
    )  # fmt: skip
    targets = Targets((Value("a", 1.0, 0.1), Maximise("b", 5.5), Range("absent", 0, 1)))
    assert target_shares(table, targets) == {
        "a": {"loop": 0.5, "random": 1.0},
        "b": {"loop": 0.5, "random": 0.0},
    }
    assert target_shares(table, Targets((Maximise("a"), Minimise("b", 5.0)))) == {
        "b": {"loop": 0.5, "random": 1.0}
    }


def _info(**changes: Any) -> CampaignInfo:
    common: dict[str, Any] = {
        "name": "x", "seed": 0, "created_at": "", "started_at": "", "settings_hash": "",
        "data_hash": "", "state": "in progress", "finished": None, "last_entry_at": None,
        "round": 0, "rounds": None, "planned": 0, "evaluations": 0, "hits": 0, "arms": [],
        "targets": [],
    }  # fmt: skip
    return CampaignInfo(**(common | changes))


@pytest.mark.parametrize(
    ("seconds", "words"), [(5, " s ago"), (200, "3 min ago"), (7300, "2 h ago"), (2e5, "2 d ago")]
)
def test_the_state_says_how_old_the_newest_entry_is(seconds: float, words: str) -> None:
    stamp = (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()
    running = state_text(_info(last_entry_at=stamp))
    assert running.startswith("in progress, newest entry ")
    assert running.endswith(words)
    stopped = state_text(_info(last_entry_at=stamp, state="not finished"))
    assert stopped.startswith("not running, newest entry ")
    assert f"{words}; `spinodal resume`" in stopped


def test_the_state_says_why_a_campaign_stopped() -> None:
    assert state_text(_info(state="finished", finished="budget")) == "finished · budget"
    assert state_text(_info()) == "in progress, nothing planned yet"
    assert "nothing planned yet; `spinodal resume`" in state_text(_info(state="not finished"))


def test_a_campaign_is_summed_up(ledger: Ledger) -> None:
    info = campaign_info(ledger)
    evaluations = ledger.evaluations()
    hits = evaluations[(evaluations["arm"] == "loop") & evaluations["hit"].fillna(False)]
    assert (info.name, info.state, info.finished) == (NAME, "finished", "rounds")
    assert (info.round, info.rounds, info.arms) == (2, 2, ["seed", "loop", "random"])
    assert info.evaluations == info.planned == len(evaluations) == 48 + 4 * 12
    assert info.hits == hits["id"].nunique() > 0
    assert {t.property for t in info.targets} == set(TARGETS.properties)
    assert campaign_infos(ledger) == [info]


def test_a_run_in_progress_is_told_from_one_left_behind(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "l.db") as ledger:
        campaign = start_campaign(ledger)
        add_batch(ledger, campaign, "loop", 1, 10, evaluate=4)
        with ledger.claim(campaign):
            info = campaign_info(ledger)
            assert (info.state, info.evaluations, info.planned) == ("in progress", 52, 58)
        # Its newest entry is of this very moment; yet nobody runs it any more.
        assert campaign_info(ledger).state == "not finished"
        last = round_infos(ledger, campaign)[-1]
        assert (last.arm, last.planned, last.evaluated) == ("loop", 10, 4)
        assert last.summary == {}
        ledger.finish(campaign, "budget")
        assert campaign_info(ledger).state == "finished"


def test_the_page_sees_a_run_start_and_end_though_nothing_is_entered(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "l.db") as ledger:
        campaign = start_campaign(ledger)
        snapshots = Snapshots(ledger)
        before = snapshots.get()
        assert before.info.state == "not finished"
        assert snapshots.get() is before  # nothing changed, nothing read again
        with ledger.claim(campaign):
            during = snapshots.get()
            assert during.info.state == "in progress"
            assert snapshots.get() is during
        assert snapshots.get().info.state == "not finished"


def test_round_infos_carry_what_the_run_noted(ledger: Ledger) -> None:
    infos = round_infos(ledger, ledger.campaign_id())
    assert [(i.arm, i.round) for i in infos] == [
        ("seed", 0), ("loop", 1), ("loop", 2), ("random", 1), ("random", 2),
    ]  # fmt: skip
    assert all(i.summary["seconds"] == 1.5 for i in infos)


def test_fields_are_told_apart() -> None:
    fields = {
        "id": "text", "round": "number", "distance": "number", "hit": "boolean",
        "x_slope": "number", "density": "number", "requested_density": "number",
        "predicted_density": "number", "predicted_std_density": "number",
        "x_Ni": "number", "gamma.Ni": "number", "process.temperature_K": "number",
    }  # fmt: skip
    columns = sort_columns(fields, ["Ni"])
    assert columns.properties == ("x_slope", "density")
    assert columns.requested == columns.predicted == columns.predicted_std == ("density",)
    assert columns.design == ("x_Ni", "gamma.Ni", "process.temperature_K")


def test_properties_with_a_target_come_first(ledger: Ledger) -> None:
    columns = campaign_columns(ledger, ledger.campaign_id())
    assert set(columns.properties[:4]) == set(TARGETS.properties)
    assert columns.properties[4:] == ("material_cost_USD_per_kg",)


def test_pages_put_together_are_the_whole(ledger: Ledger) -> None:
    whole = candidate_page(ledger, None, where="round > 0", sort="distance", limit=1000)
    parts = [
        item
        for offset in range(0, whole.total, 5)
        for item in candidate_page(
            ledger, NAME, where="round > 0", sort="distance", limit=5, offset=offset
        ).items
    ]
    assert parts == whole.items
    assert len(parts) == whole.total == ledger.count(where="round > 0") == 48
    assert whole.units["density_g_per_cm3"] == "g/cm³"


def test_a_row_holds_what_the_design_gives(ledger: Ledger) -> None:
    (row, *_) = candidate_page(ledger, None, where='hit and arm = "loop"').items
    design = ledger.candidate(row.id)
    assert row.properties == pytest.approx(rule(design), abs=0)
    assert row.hit is True
    assert row.distance == 0.0
    assert row.requested == design.origin.details["requested"]
    assert row.predicted_std == pytest.approx({t.name: 0.3 * t.scale for t in TARGETS})
    (failed, *_) = candidate_page(ledger, None, where='status = "failed"').items
    assert (failed.distance, failed.properties) == (None, {})
    assert "400 iterations" in str(failed.reason)


def test_designs_are_distinct_and_counted(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "l.db") as ledger:
        campaign = start_campaign(ledger)
        seeds = ledger.planned(campaign, "seed", 0)
        for round_ in (1, 2, 3):  # the same designs once more, thrice
            ledger.plan_batch(campaign, "loop", round_, seeds)
        found = distinct_designs(ledger, None, sort="round", descending=True, limit=30)
        assert found.total == 4 * 48
        assert [row.id for row in found.rows] == [seed.id for seed in seeds[:30]]
        assert {row.status for row in found.rows} == {"pending"}
        everything = distinct_designs(ledger, None, limit=100)
        assert len(everything.rows) == 48


def test_hits_only_joins_the_filter_and_keeps_its_error(ledger: Ledger) -> None:
    where = "gamma_prime_fraction > 0.52 or gamma_prime_fraction < 0.5"
    found = distinct_designs(ledger, None, where=where, hits_only=True, limit=500)
    assert found.total == ledger.count(where=f"({where}) and hit")
    assert all(row.hit for row in found.rows)
    assert distinct_designs(ledger, None, hits_only=True).total == ledger.count(where="hit")
    with pytest.raises(InvalidInputError, match=r"^filter, position 1: unknown field 'densty'"):
        distinct_designs(ledger, None, where="densty > 8", hits_only=True)
    with pytest.raises(InvalidInputError):  # no way around the hit by closing the bracket
        distinct_designs(ledger, None, where="round = 1) or (round = 0", hits_only=True)


def test_a_design_in_full(ledger: Ledger) -> None:
    (row, *_) = candidate_page(ledger, None, where='hit and arm = "loop"').items
    detail = candidate_detail(ledger, row.id[:12])
    design = ledger.candidate(row.id)
    assert detail.id == row.id
    assert (detail.phases, detail.elements) == (list(PHASES), list(ELEMENTS))
    assert detail.phase_compositions is not None
    assert detail.composition is not None
    for phase in PHASES:
        assert sum(detail.phase_compositions[phase].values()) == pytest.approx(1, abs=1e-9)
    np.testing.assert_allclose(list(detail.composition.values()), design.composition())
    (evaluation,) = detail.evaluations
    assert evaluation.hit is True
    properties = {p.property: p for p in evaluation.properties}
    k = properties["thermal_conductivity_W_per_mK"]
    assert k.value is not None
    assert (k.low, k.high) == (k.value - 0.3, k.value + 0.4)
    assert k.met is True
    assert (k.unit, k.target) == ("W m⁻¹ K⁻¹", "11.2 ± 0.15")
    assert k.predicted == pytest.approx(k.value + 0.015)
    assert properties["material_cost_USD_per_kg"].met is None
    with pytest.raises(LedgerError, match="no candidate"):
        candidate_detail(ledger, "ffffffffffff")


@given(
    low=st.floats(-1e6, 1e6, allow_nan=False),
    span=st.floats(0, 1e6, allow_nan=False),
)
def test_nice_limits_hold_the_data_in_few_steps(low: float, span: float) -> None:
    if 0 < span < 1e-9 * max(1.0, abs(low)):
        span = 0.0
    bottom, top, step = nice_limits(low, low + span)
    slack = 1e-6 * step + 1e-9 * abs(low)
    assert bottom <= low + slack
    assert top >= low + span - slack
    assert 0 < (top - bottom) / step <= 8
    assert step > 0


def test_charts_mark_a_round_that_runs_and_leave_out_what_is_missing() -> None:
    options = rounds_chart(round_table(EVALUATIONS), "hit_rate", "% of evaluated designs")
    series = {line["name"]: line["data"] for line in options["series"]}
    values = np.array([p["value"] for p in series["generative loop"]], dtype=float)
    np.testing.assert_allclose(values, np.array([[0, 0], [1, 100 / 3], [2, 100]]))
    assert series["generative loop"][2]["itemStyle"]["color"] == "#FFFFFF"
    assert series["generative loop"][1]["itemStyle"]["color"] != "#FFFFFF"
    assert series["random library"][3]["value"] == [3, None]
    assert options["xAxis"]["max"] == 3


def test_the_requested_chart_has_one_scale_for_both_axes_and_the_targets_band() -> None:
    points = pd.DataFrame(
        {"id": ["a" * 32], "arm": ["loop"], "round": [1], "guidance": [math.nan],
         "x": [8.3], "y": [8.05]}
    )  # fmt: skip
    options = requested_chart(points, "density_g_per_cm3", Range("d", 8.0, 8.2), "requested")
    assert {k: options["xAxis"][k] for k in ("min", "max")} == {
        k: options["yAxis"][k] for k in ("min", "max")
    }
    assert options["xAxis"]["name"] == "requested density (g/cm³)"
    band = options["series"][0]["markArea"]["data"][0]
    assert (band[0]["yAxis"], band[1]["yAxis"]) == (8.0, 8.2)
    assert options["series"][1]["data"][0]["value"] == [8.3, 8.05, "a" * 32]
    empty = requested_chart(points.iloc[:0], "density_g_per_cm3", Maximise("d", 8.0), "requested")
    assert empty["series"][0]["markLine"]["data"] == [{"yAxis": 8.0}]
