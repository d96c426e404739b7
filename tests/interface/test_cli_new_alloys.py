"""``new --alloys``, ``run``, ``ask``, ``tell``: from measured alloys to the next ones."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from interface.cli import app
from loop.campaign import load_campaign
from loop.ledger import Ledger

ELEMENTS = ("Al", "Co", "Cr", "Ni")
LEDGER = Path("runs") / "mine" / "ledger.db"
RUN = ("new", "mine", "--alloys", "table.csv", "--maximise", "hardness_HV")


def spinodal(*words: str, code: int = 0) -> Result:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == code, done.output
    return done


def hardness(x: np.ndarray) -> float:
    """A rule that stands for the laboratory; HV. Hardest where Al and Cr meet."""
    return float(200 + 1500 * x[0] * x[2])


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twenty alloys of at most three elements, in a folder of their own."""
    rng = np.random.default_rng(3)
    lines = ["alloy,route,hardness (HV),hardness uncertainty (HV),density (g/cm3)"]
    for i in range(20):
        x = np.zeros(4)
        x[rng.permutation(4)[:3]] = rng.dirichlet(np.full(3, 4.0))
        x = np.round(x, 3) + 0.0
        x[x.argmax()] += 1 - x.sum()
        text = "".join(f"{e}{v:.3f}" for e, v in zip(ELEMENTS, x, strict=True) if v)
        lines.append(f"{text},{'AB'[i % 2]},{hardness(x):.1f},{5 + i},{5 + 0.1 * i:.2f}")
    path = tmp_path / "table.csv"
    path.write_text("\n".join(lines) + "\n")
    monkeypatch.chdir(tmp_path)
    return path


@pytest.mark.usefixtures("table")
def test_the_folder_that_is_written() -> None:
    found = spinodal(*RUN, "--constraint", "Ni + Co >= 0.2")
    assert "20 rows in table.csv" in found.stdout
    assert "compositions by the column alloy" in found.stdout
    assert "20 alloys of 4 elements" in found.stdout
    campaign = load_campaign(Path("mine"))
    assert campaign.loop.seeds == 20
    assert campaign.loop.batch == 10
    assert campaign.space.constraints == ("Ni + Co >= 0.2", "at most 3 elements")
    with Path("mine/alloys.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 20
    assert rows[4]["hardness_HV_uncertainty"] == "9"
    assert rows[4]["lines"] == "6"
    shares = np.array([[float(row[f"alloy:{e}"]) for e in ELEMENTS] for row in rows])
    low, high = (campaign.space.bounds["alloy"]["Al"][i] for i in (0, 1))
    # Widened by a tenth of what the table spans, outward to three decimals.
    assert low == 0
    assert high == pytest.approx(1.1 * shares[:, 0].max(), abs=1e-3)
    (target,) = campaign.targets
    best = max(float(row["hardness_HV"]) for row in rows)
    assert target.low == pytest.approx(best)


@pytest.mark.usefixtures("table")
def test_known_alloys_cost_nothing_and_new_ones_are_asked_for() -> None:
    spinodal(*RUN, "--batch", "4")
    ran = spinodal("run", "mine", "--plain")
    assert "waiting for 4 measurements of 4 designs" in ran.stdout
    with Ledger.open(LEDGER, create=False) as ledger:
        number = ledger.campaign_id("mine")
        records = ledger.records(number)
        work = ledger.work(number)
        known = {r.candidate.id for r in records}
    space = load_campaign(Path("mine")).space
    assert len(records) == 20
    assert {(r.arm, r.fidelity, r.outcome.status) for r in records} == {("seed", "measured", "ok")}
    assert records[4].outcome.uncertainty == {"hardness_HV": 9.0}
    for w in work:
        assert w.candidate.id not in known
        assert space.violations(w.candidate) == []
    asked = spinodal("ask", "mine", "--output", "list.csv", "--picture", "list.png")
    assert "4 designs written to list.csv" in asked.stdout
    assert Path("list.png").read_bytes()[:4] == b"\x89PNG"
    assert "expected" in spinodal("ask", "mine").stdout
    with Path("list.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        weighed = {e: float(v) for e, v in (p.split() for p in row["at%"].split("  "))}
        assert sum(weighed.values()) == pytest.approx(100, abs=0.03)
        for element, value in weighed.items():
            assert value == pytest.approx(100 * float(row[f"alloy:{element}"]), abs=0.006)
        x = np.array([float(row[f"alloy:{e}"]) for e in ELEMENTS])
        row["hardness_HV [HV]"] = f"{hardness(x):.1f} ± 5"
    with Path("list.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert "4 new results kept" in spinodal("tell", "mine", "list.csv").stdout
    again = spinodal("resume", "mine", "--plain")
    assert "waiting for 4 measurements of 4 designs" in again.stdout
    with Ledger.open(LEDGER, create=False) as ledger:
        rounds = ledger.rounds(ledger.campaign_id("mine"))
    (first,) = rounds[rounds["arm"] == "loop"].to_dict("records")
    assert (first["evaluated"], first["evaluated_total"]) == (4, 4)


@pytest.mark.usefixtures("table")
def test_several_targets_and_a_label() -> None:
    found = spinodal(
        *("new", "mine", "--alloys", "table.csv", "--maximise", "hardness (HV)"),
        *("--target", "density (g/cm3)=5.2..6.4", "--label", "route", "--json"),
    )
    assert json.loads(found.stdout)["properties"] == {
        "hardness_HV": "HV",
        "density_g_per_cm3": "g/cm3",
    }
    campaign = load_campaign(Path("mine"))
    assert campaign.space.labels == {"route": ("A", "B")}
    assert [(t.name, t.high) for t in campaign.targets][1] == ("density_g_per_cm3", 6.4)
    spinodal("run", "mine", "--plain", "--rounds", "1")
    with Ledger.open(LEDGER, create=False) as ledger:
        work = ledger.work(ledger.campaign_id("mine"))
    assert len(work) == 10
    assert {w.candidate.labels["route"] for w in work} <= {"A", "B"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "what shall the alloys reach"),
        (("--target", "hardness_HV=9..3"), "expected PROPERTY=LOW..HIGH"),
        (("--maximise", "hardnes_HV"), "unknown property 'hardnes_HV'; did you mean"),
        (("--maximise", "hardness", "--only", "route"), "expected COLUMN=TEXT"),
        (("--maximise", "hardness", "--constraint", "Xx >= 0"), "unknown element 'Xx'"),
        (("--maximise", "hardness", "--constraint", "Ni + Co >= 2"), "exclude one another"),
        (
            ("--maximise", "hardness", "--constraint", "Ni >= 0.95"),
            "widened by --margin 0.1: --margin",
        ),
        (("--maximise", "hardness", "--constraint", "Ni <= 0,4"), "write 'Ni <= 0.4'"),
        (("--maximise", "hardness", "--images", "x"), "--alloys makes a campaign of its own"),
    ],
)
def test_what_cannot_be_used_leaves_nothing_behind(
    table: Path, words: tuple[str, ...], told: str
) -> None:
    done = spinodal("new", "mine", "--alloys", "table.csv", *words, code=2)
    assert told in done.output
    assert not Path("mine").exists()
    assert sorted(p.name for p in table.parent.iterdir()) == ["table.csv"]


@pytest.mark.usefixtures("table")
def test_alloy_options_need_the_table_and_nothing_is_replaced() -> None:
    done = spinodal("new", "mine", "--compositions", "x.csv", "--maximise", "a", code=2)
    assert "go with --alloys CSV" in done.output
    spinodal(*RUN)
    assert "exists and is not replaced" in spinodal(*RUN, code=2).output
