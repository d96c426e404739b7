"""``measured`` with ``confirms``: settings, people, a table, and a campaign at the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from interface.cli import app
from loop.candidate import Candidate
from loop.errors import InvalidCampaignError, InvalidInputError
from loop.laboratory import Measurement
from loop.ledger import Ledger
from loop.measuring import Confirming
from loop.space import DesignSpace
from simulators import measured, registry
from simulators.measured_again import ConfirmingLaboratory, ConfirmingReplay
from tests.laboratories import ELEMENTS, write_alloys

SPACE = DesignSpace(phases=("alloy",), elements=ELEMENTS)
DENSITY = "density_g_per_cm3"
SETTINGS: dict[str, Any] = {"confirms": {DENSITY: "g/cm3"}}


def design(x: float) -> Candidate:
    return Candidate(
        phases=("alloy",), elements=ELEMENTS, phase_compositions=np.array([[1 - x, x, 0.0]])
    )


class Notes:
    def measurements(self, ids: Any) -> dict[str, dict[tuple[str, str], Measurement]]:
        told = design(0.25)
        given = Measurement(told.id, DENSITY, 9.5, "g/cm3", 0.1)
        return {told.id: {(DENSITY, "g/cm3"): given}} if told.id in ids else {}


def test_people_are_asked_for_what_is_to_be_confirmed() -> None:
    lab = measured.create(space=SPACE, settings=SETTINGS | {"per_round": 2, "of_seeds": 0})
    assert isinstance(lab, ConfirmingLaboratory)
    assert isinstance(lab, Confirming)
    assert (lab.per_round, lab.of_seeds, dict(lab.outputs)) == (2, 0, {})
    assert dict(lab.limits) == {DENSITY: (0.05, 25.0)}  # of foams to osmium, in g/cm3
    designs = [design(0.25), design(0.5)]
    (nothing, _) = lab.evaluate(designs)
    assert (nothing.status, dict(nothing.values)) == ("ok", {})
    assert [o.status for o in lab.confirm(designs)] == ["pending", "pending"]
    lab.consult(Notes())
    first, second = lab.confirm(designs)
    assert (dict(first.values), dict(first.uncertainty)) == ({DENSITY: 9.5}, {DENSITY: 0.1})
    assert second.reason == f"not measured yet: {DENSITY}"


def test_a_table_is_played_as_the_laboratory(tmp_path: Path) -> None:
    header = ",".join(f"alloy:{e}" for e in ELEMENTS)
    (tmp_path / "t.csv").write_text(f"{header},{DENSITY}\n0.75,0.25,0,9.5\n")
    lab = registry.create(
        "measured", space=SPACE, settings=SETTINGS | {"table": "t.csv"}, folder=tmp_path
    )
    assert isinstance(lab, ConfirmingReplay)
    first, second = lab.confirm([design(0.25), design(0.5)])
    assert dict(first.values) == {DENSITY: 9.5}
    assert second.status == "infeasible"
    assert "not in the table" in second.reason
    other = measured.create(space=SPACE, settings=SETTINGS)
    assert other.version != lab.version
    with pytest.raises(InvalidInputError, match="no table at"):
        measured.create(space=SPACE, settings=SETTINGS | {"table": "none.csv"}, folder=tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"confirms": {}}, "confirms is {}; expected property = unit"),
        ({"confirms": {DENSITY: 1}}, "confirms is .*; expected property = unit"),
        (SETTINGS | {"outputs": {"hardness_HV": "HV"}}, "expected one of the two"),
        (SETTINGS | {"per_round": 0}, "per_round is 0; expected a whole number >= 1"),
        (SETTINGS | {"per_round": True}, "per_round is True; expected a whole number"),
        (SETTINGS | {"of_seeds": -1}, "of_seeds is -1; expected a whole number >= 0"),
        (SETTINGS | {"of_seed": 1}, "unknown key 'of_seed'; did you mean 'of_seeds'"),
        (SETTINGS | {"limits": {"cost": [0, 1]}}, "limits: unknown output 'cost'"),
        (SETTINGS | {"table": 3}, "table is 3; expected the path of a CSV file"),
        ({"confirm": {DENSITY: "g/cm3"}}, "unknown key 'confirm'; did you mean 'confirms'"),
    ],
)
def test_settings_that_cannot_be_used(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidCampaignError, match=message):
        measured.create(space=SPACE, settings=settings)


def test_it_has_to_run_in_the_campaign_s_own_process() -> None:
    with pytest.raises(InvalidCampaignError, match=r"take measured out of simulators\.timeout_s"):
        registry.create("measured", space=SPACE, settings=SETTINGS, timeout_s=30.0)


SIMULATORS = """
[simulators]
use = ["composite-chain", "measured"]

[simulators.settings.composite-chain]
outputs = ["density_g_per_cm3"]

[simulators.settings.measured]
confirms = { density_g_per_cm3 = "g/cm3" }
per_round = 1
of_seeds = 4
"""


def write_campaign(folder: Path) -> None:
    """The alloys of ``tests.laboratories``: density simulated, and measured for a few."""
    write_alloys(folder, rounds=1)
    text = (folder / "campaign.toml").read_text()
    head, _, rest = text.partition("[simulators]")
    rest = rest[rest.index("[generator]") :]
    head = head.replace("[targets.hardness_GPa]\nrange = [1.6, 1.8]", "")
    targets = f"[targets.{DENSITY}]\nrange = [9.0, 9.4]\n"
    (folder / "campaign.toml").write_text(head + targets + SIMULATORS + "\n" + rest)


def spinodal(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, done.output
    return done.stdout


def measure(work: Path, target: Path) -> int:
    """Fill in a work list: the densities are 5 % below those of the simulator's rule of mixture."""
    with work.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    with Ledger.open(Path("runs/alloys/ledger.db")) as ledger:
        known = ledger.evaluations(columns=["id", DENSITY]).dropna().set_index("id")[DENSITY]
    for row in rows:
        row[f"{DENSITY} [g/cm3]"] = f"{0.95 * float(known[row['id']]):.6f} ± 0.02"
    with target.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return len(rows)


def test_from_run_to_query_both_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_campaign(tmp_path / "alloys")
    work = Path("runs") / "alloys" / "work"
    assert "waiting for 4 measurements of 4 designs" in spinodal("run", "alloys", "--plain")
    assert measure(work / "round-0.csv", Path("told.csv")) == 4
    assert "4 new results kept" in spinodal("tell", "alloys", "told.csv")
    assert "waiting for 2 measurements of 2 designs" in spinodal("resume", "alloys", "--plain")
    assert measure(work / "round-1.csv", Path("told.csv")) == 2
    spinodal("tell", "alloys", "told.csv")
    assert "rounds: all 1 are done" in spinodal("resume", "alloys", "--plain")

    where = f"simulated_{DENSITY} > 0 and arm = 'loop'"
    (row,) = json.loads(spinodal("query", where, "--format", "json", "--columns", "all"))
    assert (row["fidelity"], row[f"uncertainty_{DENSITY}"]) == ("mixed", 0.02)
    assert row[DENSITY] == pytest.approx(0.95 * row[f"simulated_{DENSITY}"], abs=1e-6)
    assert row["hit"] == (9.0 <= row[DENSITY] <= 9.4)
    table = spinodal("query", f"id = '{row['id']}'")
    assert [word in table for word in ("simulated", "mixed", "0.02")] == [True] * 3

    shown = spinodal("show", row["id"][:8], "-o", "a.png")
    lines = [line for line in shown.splitlines() if "ensity" in line]
    assert any("± 0.02" in line and "measured" in line for line in lines)
    assert any("imulated density" in line and line.count("simulated") >= 1 for line in lines)
    spinodal("export", "out")
    exported = (tmp_path / "out").rglob("*.csv")
    assert any(f"simulated_{DENSITY}" in path.read_text() for path in exported)
