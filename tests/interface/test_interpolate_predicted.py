"""``interpolate`` on alloys that people measure: what they told, and what is expected between."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from interface.cli import app
from loop.candidate import Candidate
from loop.formula import read_composition
from loop.laboratory import Measurement, Wanted
from loop.ledger import Ledger
from tests.laboratories import ELEMENTS, NAME, copy_played, hardness, play_alloys, write_alloys
from tests.loop.ledger_fixtures import campaign

LEDGER = Path("runs") / NAME / "ledger.db"
A, B = "Ag60Cu30Ni10 at%", "Ag30Cu20Ni50 at%"
WORDS = (A, B, "--campaign", NAME, "--steps", "5")


def call(*words: str) -> Result:
    return CliRunner().invoke(app, ["interpolate", *words])


def answer(*words: str) -> dict[str, Any]:
    done = call(*words, "--json")
    assert done.exit_code == 0, done.output
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign whose table is played as the laboratory, after one round."""
    folder = tmp_path_factory.mktemp("played")
    play_alloys(folder)
    return folder


@pytest.fixture
def here(played: Path, in_scratch: Path) -> None:
    copy_played(played, in_scratch)


def test_what_was_told_is_what_is_scored(in_scratch: Path) -> None:
    write_alloys(in_scratch / NAME)
    words = (A, B, "--campaign", NAME, "--steps", "3", "--score")
    assert [p["outcome"]["status"] for p in answer(*words)["points"]] == ["pending"] * 3
    assert not LEDGER.exists()  # nothing is begun
    LEDGER.parent.mkdir(parents=True)
    x = read_composition(A, ELEMENTS)
    alloy = Candidate(("alloy",), ELEMENTS, None, x[None])
    with Ledger.open(LEDGER) as ledger:
        number = campaign(ledger, NAME)
        ledger.plan_batch(number, "loop", 1, [alloy])
        ledger.ask(number, {alloy.id: {"hardness_GPa": Wanted("GPa", 0.0, 20.0)}})
        told = Measurement(alloy.id, "hardness_GPa", 1.5, "GPa", 0.02)
        ledger.tell(number, [("row 1", told)])
    first, *others = answer(*words)["points"]
    assert first["outcome"]["values"] == {"hardness_GPa": 1.5}
    assert first["outcome"]["uncertainty"] == {"hardness_GPa": 0.02}
    assert [p["outcome"]["status"] for p in others] == ["pending"] * 2


@pytest.mark.usefixtures("here")
def test_points_that_nobody_measured_have_an_expected_value() -> None:
    document = answer(*WORDS, "--predict")
    assert document["predicted"]["records"] == 13
    answered = CliRunner().invoke(app, ["predict", NAME, A, B, "--json"])
    ends = json.loads(answered.stdout)["designs"]
    points = document["points"]
    for point, end in ((points[0], ends[0]), (points[-1], ends[1])):
        # The same numbers but for the order in which products of a batch are summed.
        told = [end[f"predicted_{kind}hardness_GPa"] for kind in ("", "low_", "high_")]
        value, bounds = (point["predicted"][key]["hardness_GPa"] for key in ("values", "bounds"))
        assert [value, *bounds] == pytest.approx(told, rel=1e-9)
    for point in points:
        assert "outcome" not in point  # nothing was simulated
        true = hardness(point["compositions"]["alloy"])
        assert point["predicted"]["values"]["hardness_GPa"] == pytest.approx(true, abs=0.05)


@pytest.mark.usefixtures("here")
def test_predicted_and_measured_stand_side_by_side() -> None:
    with Ledger.open(LEDGER, create=False) as ledger:
        frame = ledger.evaluations(ledger.campaign_id(), where="status = 'ok'")
    ids = frame["id"][:2].tolist()
    words = (*ids, "--campaign", NAME, "--steps", "4", "--predict", "--score")
    done = call(*words, "--picture", "path.png")
    assert done.exit_code == 0, done.output
    assert "predicted_hardness_GPa" in done.stdout
    assert "predicted: by the surrogate of 13 records" in done.stdout
    with Image.open("path.png") as picture:
        assert picture.size[0] > 700
    assert call(*words, "-o", "path.csv").exit_code == 0
    table = pd.read_csv("path.csv")
    assert table["hardness_GPa"][0] == frame["hardness_GPa"][0]
    assert table["hardness_GPa"].isna().tolist() == [False, True, True, False]
    within = table["predicted_low_hardness_GPa"] < table["predicted_hardness_GPa"]
    assert within.all()
    assert (table["predicted_hardness_GPa"] < table["predicted_high_hardness_GPa"]).all()


@pytest.mark.usefixtures("here")
def test_a_property_that_nobody_simulates_moves_one_way_as_predicted() -> None:
    ends = ("Ag40Cu50Ni10 at%", "Ag55Cu20Ni25 at%")
    words = (*ends, "--campaign", NAME, "--path", "aitchison", "--monotone", "hardness_GPa")
    refused = call(*words, "--steps", "7")
    assert refused.exit_code == 2
    assert "not in the table" in refused.stderr
    document = answer(*words, "--steps", "7", "--predict")
    assert (document["monotone"], document["monotone_as"]) == ("hardness_GPa", "predicted")
    values = [p["predicted"]["values"]["hardness_GPa"] for p in document["points"]]
    assert values == sorted(values) or values == sorted(values, reverse=True)
    assert all("outcome" not in point for point in document["points"])
    assert "pending" not in call(*words, "--predict").stdout


def test_nothing_is_expected_before_anything_is_known(in_scratch: Path) -> None:
    write_alloys(in_scratch / NAME)
    done = call(*WORDS, "--predict")
    assert done.exit_code == 2
    assert "has no records yet, so its surrogate knows nothing" in done.stderr
    assert done.stderr.count("\n") == 1
