"""``propose`` and ``distil``: designs on request, scored when asked, nothing in the ledger."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from interface.cli import app
from loop.ledger import Ledger
from tests.campaigns import NAME, write_campaign

LEDGER = Path("runs") / NAME / "ledger.db"


def call(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def designs(*words: str) -> list[dict[str, object]]:
    found = call("propose", NAME, *words, "--json")
    assert found.exit_code == 0, found.output
    listed: list[dict[str, object]] = json.loads(found.stdout)["designs"]
    return listed


def evaluations() -> int:
    with Ledger.open(LEDGER, create=False) as ledger:
        return len(ledger.evaluations(ledger.campaign_id(), columns=("id",)))


@pytest.fixture
def run_here(plain_run: Path, in_scratch: Path) -> None:
    """A finished run in the current directory."""
    shutil.copytree(plain_run, in_scratch, dirs_exist_ok=True)


@pytest.mark.usefixtures("run_here")
def test_the_campaigns_targets_are_what_is_asked_by_default() -> None:
    before = evaluations()
    found = designs("-n", "5")
    assert len({d["id"] for d in found}) == 5
    for design in found:
        assert 7.25 < float(str(design["requested_density_g_per_cm3"])) < 7.5
        assert 0.5 < float(str(design["requested_gamma_prime_fraction"])) < 0.65
        assert "density_g_per_cm3" not in design
        assert sum(float(str(design[f"gamma:{e}"])) for e in ("Ni", "Al", "Cr")) == pytest.approx(1)
    assert found == designs("-n", "5")
    assert {d["id"] for d in found}.isdisjoint(d["id"] for d in designs("-n", "5", "--seed", "1"))
    assert evaluations() == before


@pytest.mark.usefixtures("run_here")
def test_values_and_ranges_scored_and_written() -> None:
    words = ("--set", "density_g_per_cm3=7.4", "--set", "gamma_prime_fraction=0.4..0.6", "-n", "3")
    files = ("--output", "designs.csv", "--pictures", "designs.png")
    found = call("propose", NAME, *words, "--score", *files)
    assert found.exit_code == 0, found.output
    assert "designs: designs.csv" in found.stderr
    table = pd.read_csv("designs.csv")
    assert (table["requested_density_g_per_cm3"] == 7.4).all()
    assert table["requested_gamma_prime_fraction"].between(0.4, 0.6).all()
    assert (table["status"] == "ok").all()
    fraction = table["gamma_prime_fraction"]
    off = np.maximum(np.maximum(0.4 - fraction, fraction - 0.6), 0)
    worst = np.maximum((table["density_g_per_cm3"] / 7.4 - 1).abs(), off / fraction.clip(0.4, 0.6))
    np.testing.assert_allclose(table["error_%"], 100 * worst, rtol=1e-6)
    assert np.asarray(Image.open("designs.png")).shape == (2 * 16 + 4, 3 * (2 * 16 + 4))
    assert call("propose", NAME, *words, "--output", "designs.json").exit_code == 0
    document = json.loads(Path("designs.json").read_text())
    assert (document["generator"], document["guidance"]) == ("joint-flow", 2.0)
    assert document["warnings"] == []
    assert np.shape(document["designs"][0]["microstructure"]) == (16, 16)
    assert document["designs"][0]["phases"] == ["gamma", "gamma_prime"]


@pytest.mark.usefixtures("run_here")
def test_a_request_like_nothing_before_is_warned_of() -> None:
    found = call("propose", NAME, "-n", "1", "--set", "density_g_per_cm3=19")
    assert found.exit_code == 0, found.output
    assert "warning: nothing like density_g_per_cm3 = 19 was in the training" in found.stderr


@pytest.mark.usefixtures("run_here")
def test_the_ledger_stays_as_it_is_after_a_run_of_another_length() -> None:
    """``resume`` goes on with the length that was asked for last, not with the file's."""

    def dump() -> str:
        with contextlib.closing(sqlite3.connect(LEDGER)) as connection:
            return "\n".join(connection.iterdump())

    longer = call("run", NAME, "--plain", "--rounds", "3")
    assert longer.exit_code == 0, longer.output
    before = dump()
    assert designs("-n", "1")
    assert dump() == before


@pytest.mark.usefixtures("run_here")
def test_how_usual_designs_are_to_the_generator() -> None:
    words = ("-n", "3", "--set", "density_g_per_cm3=7.4")
    found = call("propose", NAME, *words, "--familiarity", "--json")
    assert found.exit_code == 0, found.output
    document = json.loads(found.stdout)
    shares = [one["familiarity_%"] for one in document["designs"]]
    # Of 128 held-out designs some number is less likely than each.
    np.testing.assert_allclose(np.round(np.array(shares) * 1.28) / 1.28, shares, atol=1e-9)
    assert all(0 <= share <= 100 for share in shares)
    warned = any("less likely to the generator" in text for text in document["warnings"])
    assert warned == (min(shares) < 2)
    assert [one["id"] for one in designs(*words)] == [one["id"] for one in document["designs"]]


@pytest.mark.usefixtures("run_here")
def test_more_of_this_and_away_from_that() -> None:
    words = ("-n", "3", "--set", "density_g_per_cm3=7.4")
    further = ("--also", "gamma_prime_fraction=0.6 @ 0.5", "--avoid", "density_g_per_cm3=7.6")
    found = call("propose", NAME, *words, *further, "--json")
    assert found.exit_code == 0, found.output
    document = json.loads(found.stdout)
    assert document["also"] == [
        {"condition": "gamma_prime_fraction=0.6", "weight": 0.5},
        {"condition": "density_g_per_cm3=7.6", "weight": -1.0},
    ]
    ids = {one["id"] for one in document["designs"]}
    assert ids.isdisjoint(one["id"] for one in designs(*words))
    assert "requested_gamma_prime_fraction" not in document["designs"][0]


@pytest.mark.usefixtures("run_here")
def test_a_student_is_taught_and_found() -> None:
    none = call("propose", NAME, "--student")
    assert none.exit_code == 2
    assert "has no student of any steps at guidance 2 (it has none); train one" in none.stderr
    taught = call("distil", NAME, "--steps", "1", "--guidance", "1..3")
    assert taught.exit_code == 0, taught.output
    assert "a student of 1 steps at guidance 1..3 -> runs/" in taught.stdout
    found = call("propose", NAME, "--student", "-n", "3", "--guidance", "1.5", "--json")
    assert found.exit_code == 0, found.output
    document = json.loads(found.stdout)
    assert (document["generator"], document["steps"]) == ("joint-student", 1)
    assert len(document["designs"]) == 3
    for words, message in (
        (("--guidance", "5"), "no student of any steps at guidance 5 (1 steps at guidance 1..3)"),
        (("--steps", "4"), "no student of 4 steps at guidance 2 (1 steps at guidance 1..3)"),
        (("--avoid", "density_g_per_cm3=8"), "a student has learned one request at a time"),
    ):
        other = call("propose", NAME, "--student", *words)
        assert other.exit_code == 2
        assert message in other.stderr
    assert not list((LEDGER.parent / "checkpoints" / "training").glob("student-*"))


@pytest.mark.usefixtures("run_here")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--set", "densty_g_per_cm3=8"), "did you mean 'density_g_per_cm3'"),
        (("--set", "density_g_per_cm3"), "expected PROPERTY=VALUE or PROPERTY=LOW..HIGH"),
        (("--set", "density_g_per_cm3=8.2..8"), "the lower end first"),
        (("--set", "density_g_per_cm3=8", "--set", "density_g_per_cm3=9"), "asked for twice"),
        (("-n", "0"), "greater than or equal to 1"),
        (("--guidance", "-1"), "greater than or equal to 0"),
        (("--steps", "2"), "add --student"),
        (("--avoid", "densty_g_per_cm3=8"), "--avoid: unknown property 'densty_g_per_cm3'"),
        (("--also", "density_g_per_cm3=7..8"), "ranges are for --set"),
        (("--also", "density_g_per_cm3=8 @ 0"), "the weight is '0'; expected a number above 0"),
        (("--output", "designs.txt"), "ends in .csv or .json"),
        (("--pictures", "designs.jpg"), "ends in .png"),
        (("--output", "printed.txt"), "exists already"),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_line(words: tuple[str, ...], message: str) -> None:
    found = call("propose", NAME, *words)
    assert found.exit_code == 2
    assert message in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("command", ["propose", "distil"])
def test_an_untrained_campaign_says_so(in_scratch: Path, command: str) -> None:
    write_campaign(in_scratch / NAME)
    found = call(command, NAME)
    assert found.exit_code == 2
    assert "has no trained generator yet" in found.stderr
    assert not LEDGER.exists()
    with Ledger.open(in_scratch / "empty.db") as ledger:
        found = call(command, NAME, "--ledger", "empty.db")
        assert found.exit_code == 2
        assert "has no trained generator yet; run it first" in found.stderr
        assert len(found.stderr.strip().splitlines()) == 1
        assert ledger.campaigns().empty  # a question begins nothing


@pytest.mark.parametrize("scales", ["0", "3..1", "x", "1..2..3", "99"])
def test_scales_that_cannot_be_learned(in_scratch: Path, scales: str) -> None:
    write_campaign(in_scratch / NAME)
    found = call("distil", NAME, "--guidance", scales)
    assert found.exit_code == 2
    assert "expected a scale above 0, up to 15, or a range as 1..3" in found.stderr
