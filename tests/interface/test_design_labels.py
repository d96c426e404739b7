"""Labels of designs from campaign file to page: asked for, told, queried, shown, exported."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from interface.api import create_api
from interface.cli import app
from interface.interpolation import between_candidates, between_formulas
from interface.labels import process_text, treatment_text
from interface.plots import candidate_figure
from interface.views_candidates import sort_columns
from loop.candidate import Candidate
from loop.errors import InvalidInputError
from loop.ledger import Ledger
from loop.space import DesignSpace
from loop.targets import Targets
from tests.interface.test_api import read
from tests.laboratories import fill_in, write_alloys

LABELS = '\n[space.labels]\nprocessing = ["CAST", "ANNEAL"]\n'
LEDGER = Path("runs") / "alloys" / "ledger.db"


def spinodal(*words: str) -> Result:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, done.output
    return done


def document(*words: str) -> Any:
    return json.loads(spinodal(*words, "--json").stdout)


def refused(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 2, done.output
    return done.stderr.strip()


def write_labelled(folder: Path) -> None:
    """Sixty alloys, cast and annealed in turn."""
    write_alloys(folder, rounds=1)
    table = folder / "compositions.csv"
    header, *rows = table.read_text().splitlines()
    lines = [f"{row},{('CAST', 'ANNEAL')[i % 2]}" for i, row in enumerate(rows)]
    table.write_text("\n".join([f"{header},processing", *lines]) + "\n")
    text = (folder / "campaign.toml").read_text()
    (folder / "campaign.toml").write_text(
        text.replace("\n[compositions]", LABELS + "\n[compositions]")
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the campaign ran to its end, a laboratory measuring what it asked for."""
    place = tmp_path_factory.mktemp("labelled")
    write_labelled(place / "alloys")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        spinodal("run", "alloys", "--plain")
        for round_ in range(2):
            work = LEDGER.parent / "work" / f"round-{round_}.csv"
            if round_ == 0:
                (place / "first.csv").write_bytes(work.read_bytes())
                (place / "asked.txt").write_text(spinodal("ask", "alloys").stdout)
                (place / "asked.json").write_text(spinodal("ask", "alloys", "--json").stdout)
            fill_in(work, Path("told.csv"))
            spinodal("tell", "alloys", "told.csv")
            found = document("resume", "alloys", "--plain")
    assert found["reason"] == "rounds: all 1 are done"
    return place


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


def records() -> dict[str, str]:
    """Id -> processing of all designs on record."""
    with Ledger.open(LEDGER, create=False) as ledger:
        return {r.candidate.id: r.candidate.labels["processing"] for r in ledger.records(1)}


@pytest.mark.usefixtures("here")
def test_rounds_are_of_both_routes() -> None:
    with Ledger.open(LEDGER, create=False) as ledger:
        found = ledger.records(1)
        space = DesignSpace(
            ("alloy",), found[0].candidate.elements, labels={"processing": ("CAST", "ANNEAL")}
        )
        assert all(space.violations(r.candidate) == [] for r in found)
        assert {r.arm for r in found} == {"seed", "loop", "random"}
    assert set(records().values()) == {"CAST", "ANNEAL"}


def test_the_work_list_says_what_to_do(here: Path) -> None:
    with (here / "first.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    routes = records()
    assert {row["id"]: row["processing"] for row in rows}.items() <= routes.items()
    assert "Processing = " in (here / "asked.txt").read_text()
    items = json.loads((here / "asked.json").read_text())["items"]
    assert [item["labels"] for item in items] == [{"processing": r["processing"]} for r in rows]


@pytest.mark.usefixtures("here")
def test_queries_by_label(tmp_path: Path) -> None:
    routes = records()
    found = document("query", "processing = 'CAST'")
    assert {row["id"] for row in found} == {i for i, route in routes.items() if route == "CAST"}
    assert all(row["processing"] == "CAST" for row in found)
    table = spinodal("query", "processing = 'ANNEAL'", "--columns", "id,processing").stdout
    assert "ANNEAL" in table
    assert "CAST" not in table
    assert "did you mean 'processing'" in refused("query", "procesing = 'CAST'")
    for ending, reader in (("csv", pd.read_csv), ("parquet", pd.read_parquet)):
        file = tmp_path / f"found.{ending}"
        spinodal("query", "", "--sort", "processing", "-o", str(file))
        frame = reader(file)
        assert dict(zip(frame["id"], frame["processing"], strict=True)) == routes
        assert frame["processing"].is_monotonic_increasing


@pytest.mark.usefixtures("here")
def test_one_design(tmp_path: Path) -> None:
    id_, route = next(iter(records().items()))
    picture = str(tmp_path / "a.png")
    assert document("show", id_, "-o", picture)["labels"] == {"processing": route}
    assert f"Processing: {route}" in spinodal("show", id_, "-o", str(tmp_path / "b.png")).stdout


@pytest.mark.usefixtures("here")
def test_an_export_is_a_table_for_the_next_campaign(tmp_path: Path) -> None:
    spinodal("export", str(tmp_path / "out"))
    designs = pd.read_csv(tmp_path / "out" / "compositions.csv")
    assert dict(zip(designs["id"], designs["processing"], strict=True)) == records()
    rows = pd.read_csv(tmp_path / "out" / "evaluations.csv")
    assert dict(zip(rows["id"], rows["processing"], strict=True)) == records()


@pytest.mark.usefixtures("here")
def test_over_http() -> None:
    routes = records()
    with Ledger.open(LEDGER, create=False) as ledger:
        api = create_api(ledger)
        page = read(api, "/api/candidates", filter="processing = 'CAST'", limit=5)
        assert page["items"]
        for item in page["items"]:
            assert item["labels"] == {"processing": "CAST"}
            assert item["properties"].keys() == {"hardness_GPa"}
            assert "processing" not in item["design"]
        for id_ in list(routes)[:2]:
            assert read(api, f"/api/candidates/{id_}")["labels"] == {"processing": routes[id_]}


@pytest.mark.usefixtures("here")
def test_paths_between_compositions_in_words() -> None:
    ends = ("Ag60Cu20Ni20", "Ag20Cu60Ni20", "--steps", "3")
    found = document("interpolate", *ends, "--campaign", "alloys", "--label", "processing=CAST")
    with_other = document(
        "interpolate", *ends, "--campaign", "alloys", "--label", "processing=ANNEAL"
    )
    assert found["points"][0]["id"] != with_other["points"][0]["id"]
    words = ("interpolate", *ends, "--campaign", "alloys")
    assert "give it with --label processing=VALUE" in refused(*words)
    assert "unknown value 'cast'" in refused(*words, "--label", "processing=cast")
    assert "unknown label 'route'" in refused(*words, "--label", "route=CAST")
    assert "expected NAME=VALUE" in refused(*words, "--label", "CAST")
    assert "names processing twice" in refused(
        *words, "--label", "processing=CAST", "--label", "processing=CAST"
    )
    assert "--label needs its designs" in refused(
        "interpolate", *ends, "--label", "processing=CAST"
    )


def alloy(share: float, route: str) -> Candidate:
    x = np.array([[1.0 - share, share]])
    return Candidate(("alloy",), ("Ni", "Al"), None, x, labels={"processing": route})


def test_paths_between_designs_keep_their_label() -> None:
    path = between_candidates(alloy(0.1, "CAST"), alloy(0.3, "CAST"), 3)
    assert [dict(c.labels) for c in path.candidates] == [{"processing": "CAST"}] * 3
    assert path.candidates[-1].id == alloy(0.3, "CAST").id
    with pytest.raises(
        InvalidInputError,
        match="labels of the two candidates differ: processing = CAST and processing = ANNEAL",
    ):
        between_candidates(alloy(0.1, "CAST"), alloy(0.3, "ANNEAL"), 3)
    space = DesignSpace(("alloy",), ("Ni", "Al"), labels={"processing": ("CAST",)})
    words = between_formulas("Ni90Al10", "Ni70Al30", 3, space=space, labels={"processing": "CAST"})
    assert words.candidates[0].id == alloy(0.1, "CAST").id


def test_fields_of_text_are_labels() -> None:
    fields = {"id": "text", "arm": "text", "hit": "boolean", "density": "number",
              "processing": "text", "reason": "text", "round": "number"}  # fmt: skip
    columns = sort_columns(fields, [])
    assert columns.labels == ("processing",)
    assert columns.properties == ("density",)
    assert columns.design == ()


def test_words_for_people(tmp_path: Path) -> None:
    """After the process variables; and a value that looks like a formula is none in a picture."""
    assert treatment_text({"time_h": 2.0}, {"heat_treatment": "CAST"}) == [
        ("Time (h)", "2"), ("Heat treatment", "CAST"),
    ]  # fmt: skip
    odd = alloy(0.1, r"$\frac{$ <b>")
    assert process_text(odd) == [("Processing", r"$\frac{$ <b>")]
    candidate_figure(odd, None, tmp_path / "odd.png", targets=Targets(()))
    assert (tmp_path / "odd.png").stat().st_size > 0


def test_a_label_is_asked_of_the_trained_generator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = write_alloys(tmp_path / "alloys", rounds=1, table=True)
    for name in ("compositions.csv", "measured.csv"):
        header, *rows = (place / name).read_text().splitlines()
        lines = [f"{row},{('CAST', 'ANNEAL')[i % 2]}" for i, row in enumerate(rows)]
        (place / name).write_text("\n".join([f"{header},processing", *lines]) + "\n")
    text = (place / "campaign.toml").read_text()
    text = text.replace("\n[compositions]", LABELS + "\n[compositions]")
    text = text.replace('name = "library"', 'name = "joint-flow"')
    (place / "campaign.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    spinodal("run", "alloys", "--plain")
    for wanted in ("CAST", "ANNEAL"):
        found = document("propose", "alloys", "-n", "4", "--set", f"processing={wanted}")
        assert [design["processing"] for design in found["designs"]] == [wanted] * 4
    asked = ("propose", "alloys", "--set", "processing=ANNEAL", "--set", "hardness_GPa=1.5")
    assert document(*asked)["designs"][0]["requested_hardness_GPa"] == 1.5
    assert "did you mean 'CAST'" in refused("propose", "alloys", "--set", "processing=CASTS")
