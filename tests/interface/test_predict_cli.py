"""``predict``: alloys in words, by id and in tables; what is printed, written and refused."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from flows.expectation import Expectation
from interface.cli import app
from interface.predicted import percent, table_of
from loop.candidate import Candidate, Outcome
from loop.formula import read_composition
from loop.ledger import Ledger
from loop.targets import Maximise, Minimise, Range, Targets
from tests.laboratories import ELEMENTS, NAME, copy_played, hardness, play_alloys, write_alloys

LEDGER = Path("runs") / NAME / "ledger.db"


def call(*words: str) -> Result:
    return CliRunner().invoke(app, ["predict", *words])


def answer(*words: str) -> dict[str, Any]:
    found = call(*words, "--json")
    assert found.exit_code == 0, found.output
    document: dict[str, Any] = json.loads(found.stdout)
    return document


def designs(*words: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = answer(*words)["designs"]
    return listed


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign whose table is played as the laboratory, after one round."""
    folder = tmp_path_factory.mktemp("played")
    # Another number of rounds than the file's: asking must not start the campaign anew.
    play_alloys(folder, "--rounds", "2")
    return folder


@pytest.fixture
def here(played: Path, in_scratch: Path) -> None:
    copy_played(played, in_scratch)


def contents() -> str:
    with sqlite3.connect(LEDGER) as connection:
        return "\n".join(connection.iterdump())


@pytest.mark.usefixtures("here")
def test_alloys_in_words_keep_their_order_and_nothing_is_recorded() -> None:
    before = contents()
    words = ("Ag2CuNi", "Cu-25Ni at%", "Ag-40Cu-20Ni wt%")
    document = answer(NAME, *words)
    assert document["records"] == 16  # ten seeds and two rounds of three
    assert document["interval"] == {
        "level": 0.9,
        "kind": "gaussian",
        "of": "a new value, with its scatter",
    }
    for text, row in zip(words, designs(NAME, *words), strict=True):
        x = read_composition(text, ELEMENTS)
        assert read_composition(str(row["formula"]), ELEMENTS) == pytest.approx(x, abs=1e-12)
        assert [row[f"alloy:{e}"] for e in ELEMENTS] == pytest.approx(x.tolist(), abs=1e-12)
        value = hardness(dict(zip(ELEMENTS, x.tolist(), strict=True)))
        assert row["predicted_hardness_GPa"] == pytest.approx(value, abs=0.05)
        assert row["predicted_low_hardness_GPa"] < row["predicted_high_hardness_GPa"]
        assert 0 <= row["chance"] <= 1
        assert row["difference"] > 0
    assert contents() == before


@pytest.mark.usefixtures("here")
def test_what_people_read() -> None:
    found = call(NAME, "Ag2CuNi", "CuNi", "--score")
    assert found.exit_code == 0, found.output
    heading, _, first, second, *rest = (line for line in found.stdout.splitlines() if line.strip())
    for name in ("hardness_GPa", "90 %", "1.6 to 1.8, %", "nearest on record", "apart, %"):
        assert name in heading
    assert "Ag 50.0 Cu 25.0 Ni 25.0" in first
    assert " ± " in first
    assert " to " in first
    assert "infeasible: not in the table" in first
    assert "Cu 50.0 Ni 50.0" in second
    assert "compositions are unlike the library's" in second  # of ternary alloys
    assert rest[-1].startswith("16 records; ± one standard deviation of the property itself, 90 %")


@pytest.mark.usefixtures("here")
def test_ids_of_the_ledger_are_scored_as_they_were() -> None:
    with Ledger.open(LEDGER, create=False) as ledger:
        frame = ledger.evaluations(ledger.campaign_id(), where="arm = 'loop'")
    (row, last) = designs(NAME, frame["id"][0], frame["id"][1][:8], "--score")
    assert (row["id"], last["id"]) == tuple(frame["id"][:2])
    assert row["hardness_GPa"] == frame["hardness_GPa"][0]
    assert row["uncertainty_hardness_GPa"] == 0.01
    assert row["remarks"] == f"on record: hardness_GPa {frame['hardness_GPa'][0]:.5g} ± 0.01"
    assert (row["difference"], row["nearest_id"]) == (0, row["id"])
    both = designs(NAME, "Ag2CuNi", frame["id"][0])
    assert both[1]["predicted_hardness_GPa"] == row["predicted_hardness_GPa"]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("kind", ["formulas", "columns"])
def test_a_table_of_alloys_and_files(kind: str) -> None:
    x = np.array([[0.5, 0.3, 0.2], [0.4, 0.4, 0.2], [0.25, 0.5, 0.25]])
    if kind == "formulas":
        texts = ["".join(f"{e}{v}" for e, v in zip(ELEMENTS, row, strict=True)) for row in x]
        table = pd.DataFrame({"formula": texts, "made": "no"})
    else:
        table = pd.DataFrame(100 * x, columns=[f"{e} (at.%)" for e in ELEMENTS])
    table.to_csv("own.csv", index=False)
    found = designs(NAME, "AgCu", "--csv", "own.csv")
    assert [row["alloy:Ag"] for row in found] == pytest.approx([0.5, 0.5, 0.4, 0.25])
    for name in ("own.json", "out.csv", "out.parquet"):
        written = call(NAME, "AgCu", "--csv", "own.csv", "--output", name)
        assert written.exit_code == 0, written.output
        assert f"4 rows written to {name}" in written.stdout
    assert json.loads(Path("own.json").read_text())["designs"] == found
    for frame in (pd.read_csv("out.csv"), pd.read_parquet("out.parquet")):
        kept = frame["predicted_hardness_GPa"].to_list()
        assert kept == pytest.approx([row["predicted_hardness_GPa"] for row in found], rel=1e-12)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("AgXx",), "unknown element 'Xx'"),
        (("AgAu2",), "'AgAu2': Au is not among the campaign's elements (Ag, Cu, Ni)"),
        (("Ag50Cu30 at%",), "sums to 80; expected 100"),
        (("Ag-40Cu",), "does not say percent of what"),
        (("AgCu", "--label", "route=A"), "unknown label 'route'"),
        (("AgCu", "--process", "T_K=900"), "unknown process variable 'T_K'"),
        (("AgCu", "--microstructures"), "have no micrographs"),
        (("ffff",), "no candidate has an id that begins with 'ffff'"),
        ((), "no alloy is given"),
        (("--csv", "none.csv"), "no table at none.csv"),
        (("--csv", "bad.csv"), "table bad.csv, line 3: Au is not among the campaign's elements"),
        (("AgCu", "--output", "out.txt"), "ends in .csv, .json or .parquet"),
        (("AgCu", "--output", "bad.csv"), "exists already"),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_line(words: tuple[str, ...], message: str) -> None:
    Path("bad.csv").write_text("formula\nAgCu\nAgAu\n")
    found = call(NAME, *words)
    assert found.exit_code == 2
    assert message in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1


def test_a_campaign_without_records_says_so(in_scratch: Path) -> None:
    write_alloys(in_scratch / NAME)
    found = call(NAME, "AgCu")
    assert found.exit_code == 2
    assert "has no records yet, so its surrogate knows nothing" in found.stderr
    assert not LEDGER.exists()
    Ledger.open(in_scratch / "empty.db").close()
    found = call(NAME, "AgCu", "--ledger", "empty.db")
    assert found.exit_code == 2
    assert len(found.stderr.strip().splitlines()) == 1


@pytest.mark.usefixtures("in_scratch")
def test_labels_and_alloys_that_wait_for_people() -> None:
    rng = np.random.default_rng(3)
    rows = rng.dirichlet([4.0, 4.0, 4.0], 24).round(3)
    rows[:, 0] += 1 - rows.sum(1)
    table = pd.DataFrame(rows, columns=list(ELEMENTS))
    table["route"] = ["A", "B"] * 12
    table["hardness (HV)"] = 100 + 200 * rows[:, 2] + 50 * (table["route"] == "B")
    table.to_csv("table.csv", index=False)
    made = ("new", "mine", "--alloys", "table.csv", "--maximise", "hardness_HV")
    for typed in ([*made, "--label", "route"], ["run", "mine", "--plain"]):
        done = CliRunner().invoke(app, typed)
        assert done.exit_code == 0, done.output
    both = [designs("mine", "Ag2CuNi", "--label", f"route={route}")[0] for route in "AB"]
    for row, more in zip(both, (0, 50), strict=True):
        assert row["predicted_hardness_HV"] == pytest.approx(150 + more, abs=5)
    assert [row["route"] for row in both] == ["A", "B"]
    pd.DataFrame({"formula": ["Ag2CuNi"] * 2, "route": ["A", "B"]}).to_csv("own.csv", index=False)
    for row, alone in zip(designs("mine", "--csv", "own.csv"), both, strict=True):
        assert (row["id"], row["nearest_id"]) == (alone["id"], alone["nearest_id"])
        assert row["predicted_hardness_HV"] == pytest.approx(alone["predicted_hardness_HV"])
    (row,) = designs("mine", "Ag2CuNi", "--label", "route=B", "--score")
    assert (row["status"], row["reason"]) == ("pending", "not measured yet: hardness_HV")
    shown = call("mine", "Ag2CuNi", "--label", "route=B", "--score")
    assert "pending: not measured yet" in shown.stdout
    refused: list[tuple[tuple[str, ...], str]] = [
        (("Ag2CuNi",), "have route, A, B; give it with --label route=VALUE"),
        (("Ag2CuNi", "--label", "route=C"), "unknown value 'C'"),
        (("Ag2CuNi", "--label", "rote=A"), "did you mean 'route'"),
        (("--csv", "own.csv", "--label", "route=A"), "table own.csv has a column of that name"),
        ((str(both[0]["nearest_id"]), "--label", "route=A"), "--label is for alloys in words"),
    ]
    for words, message in refused:
        found = call("mine", *words)
        assert found.exit_code == 2
        assert message in found.stderr


def test_several_targets_and_micrographs_in_the_table() -> None:
    image = np.array([[0, 1], [1, 1]], dtype=np.uint8)
    x = np.array([[0.25, 0.75], [1.0, 0.0]])
    design = Candidate(("gamma", "gamma_prime"), ("Ni", "Al"), image, x, {"T_K": 1273.0})
    names = ("density_g_per_cm3", "price", "a", "b", "youngs_modulus_GPa")
    targets = (Range(names[0], 8.0, 8.2), Maximise(names[4], at_least=200.0), Minimise("price"))
    found = Expectation(
        properties=names,
        targets=Targets(targets),
        designs=(design,),
        mean=np.array([[8.15, 3.0, 0.0, 0.0, 197.3]]),
        std=np.array([[0.021, 0.5, 1.0, 1.0, 2.0]]),
        low=np.array([[8.115, 2.2, 0.0, 0.0, 194.0]]),
        high=np.array([[8.185, 3.8, 0.0, 0.0, 200.6]]),
        chances=np.array([[0.991, 0.0888, np.nan]]),
        chance=np.array([0.088]),
        nearest=(design,),
        difference=np.array([0.25]),
        remarks=(("Al is 0.75, outside its bounds [0, 0.2]",),),
        outcomes=(Outcome("ok", {names[0]: 8.141, names[4]: 196.2}),),
        about={
            "records": 3,
            "interval": {"level": 0.9},
            "fidelity": dict.fromkeys(names, "simulated"),
        },
    )
    columns, (line,) = table_of(found)
    shown = [(heading, line[key]) for key, heading in columns.items()]
    assert shown == [
        ("id", design.id[:8]),
        ("alloy (at.%)", "γ Al 75.0  Ni 25.0; γ′ Ni 100.0"),
        ("T_K", 1273.0),
        ("density_g_per_cm3", "8.150 ± 0.021"),
        ("90 %", "8.115 to 8.185"),
        ("8 to 8.2, %", "99.1"),
        ("simulated", "8.141"),
        ("price", "3.00 ± 0.50"),
        ("90 %", "2.20 to 3.80"),
        ("youngs_modulus_GPa", "197.3 ± 2.0"),
        ("90 %", "194.0 to 200.6"),
        ("≥ 200, %", "8.9"),
        ("simulated", "196.2"),
        ("all targets, %", "8.8"),
        ("nearest on record", "γ Al 75.0  Ni 25.0; γ′ Ni 100.0"),
        ("apart, %", "12.5"),
        ("remarks", "Al is 0.75, outside its bounds [0, 0.2]"),
    ]
    row = found.frame().iloc[0]
    assert row["formula"] == "gamma: Al0.75Ni0.25; gamma_prime: Ni1"
    assert (row["chance"], row["chance_density_g_per_cm3"]) == (0.088, 0.991)
    assert "chance_price" not in row
    assert (row["density_g_per_cm3"], row["gamma:Al"], row["T_K"]) == (8.141, 0.75, 1273)


@pytest.mark.parametrize(
    ("probability", "text"),
    [(0.0, "< 0.1"), (4e-4, "< 0.1"), (6e-4, "0.1"), (0.5, "50.0"), (0.9996, "> 99.9")],
)
def test_chances_in_percent(probability: float, text: str) -> None:
    assert percent(probability) == text
    assert percent(float("nan")) == ""
