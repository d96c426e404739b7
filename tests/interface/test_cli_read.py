"""Questions to the ledger by command: what is printed is what the ledger holds."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from interface.cli import app
from loop.ledger import Ledger
from tests.interface import fixtures


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"
    return fixtures.write_ledger(path, rounds=2, batch=12)


@pytest.fixture
def ledger(written: Path, in_scratch: Path) -> Path:
    """A copy where commands look for it: runs/blobs/ledger.db."""
    folder = in_scratch / "runs" / fixtures.NAME
    folder.mkdir(parents=True)
    copy = folder / "ledger.db"
    copy.write_bytes(written.read_bytes())
    return copy


def call(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def document(*words: str) -> Any:
    result = call(*words)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def refused(*words: str) -> str:
    """The one line of an error that the user can mend."""
    result = call(*words)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


def test_status_counts_what_the_ledger_holds(ledger: Path) -> None:
    found = document("status", "--json")
    (campaign,) = found["campaigns"]
    with Ledger.open(ledger) as opened:
        frame = opened.evaluations(1)
    assert campaign["evaluations"] == len(frame) == 48 + 2 * 2 * 12
    assert campaign["hits"] == int(frame["hit"].sum())
    assert found["ledger"] == str(Path("runs") / fixtures.NAME / "ledger.db")
    assert fixtures.NAME in call("status").stdout


def test_rounds_has_every_arm(ledger: Path) -> None:
    found = document("rounds", "--json")["rounds"]
    assert [(row["round"], row["arm"]) for row in found] == [
        (0, "seed"), (1, "loop"), (1, "random"), (2, "loop"), (2, "random"),
    ]  # fmt: skip
    assert document("rounds", fixtures.NAME, "--json")["campaign"] == fixtures.NAME
    assert "did you mean 'blobs'" in refused("rounds", "blob", "--ledger", str(ledger))


@pytest.mark.usefixtures("ledger")
def test_query_filters_sorts_and_limits() -> None:
    everything = pd.DataFrame(document("query", "--json"))
    limit = float(everything["youngs_modulus_GPa"].median())
    words = ["query", f"youngs_modulus_GPa > {limit!r}", "--sort", "youngs_modulus_GPa"]
    found = pd.DataFrame(document(*words, "--desc", "--json"))
    expected = everything.loc[everything["youngs_modulus_GPa"] > limit, "youngs_modulus_GPa"]
    assert found["youngs_modulus_GPa"].tolist() == sorted(expected, reverse=True)
    assert (
        document(*words, "--desc", "--limit", "3", "--json")
        == document(*words, "--desc", "--json")[:3]
    )


@pytest.mark.usefixtures("ledger")
def test_every_format_says_the_same(in_scratch: Path) -> None:
    words = ["query", "hit", "--sort", "distance"]
    by_json = pd.DataFrame(document(*words, "--json"))
    by_csv = pd.read_csv(io.StringIO(call(*words, "--format", "csv").stdout))
    assert by_csv["id"].tolist() == by_json["id"].tolist()
    for name in ("found.csv", "found.json", "found.parquet"):
        assert document(*words, "--output", name, "--json") == {
            "rows": len(by_json),
            "file": name,
        }
    frames = [
        pd.read_csv(in_scratch / "found.csv"),
        pd.DataFrame(json.loads((in_scratch / "found.json").read_text())),
        pd.read_parquet(in_scratch / "found.parquet"),
    ]
    for frame in frames:
        assert frame["id"].tolist() == by_json["id"].tolist()
        # Text formats keep every bit of a float64 as well.
        assert frame["density_g_per_cm3"].tolist() == by_json["density_g_per_cm3"].tolist()
    table = call(*words).stdout
    assert all(candidate_id[:8] in table for candidate_id in by_json["id"])
    assert f"{len(by_json)} found" in table


@pytest.mark.usefixtures("ledger")
def test_the_table_shows_what_was_asked_about() -> None:
    shown = call("query", "x_Cr < 0.2", "--sort", "gamma.Al", "--limit", "2").stdout
    assert "x_Cr" in shown
    assert "gamma.Al" in shown
    assert "material_cost" not in shown
    chosen = document("query", "--columns", "round,id", "--limit", "1", "--json")
    assert list(chosen[0]) == ["round", "id"]
    everything = document("query", "--limit", "1", "--json")
    assert list(document("query", "--columns", "all", "--limit", "1", "--json")[0]) == list(
        everything[0]
    )
    first_rows = call("query").stdout
    assert "96 found; the first 20 are shown" in first_rows


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["query", "youngs_modulus > 190"], "did you mean 'youngs_modulus_GPa'"),
        (["query", "density_g_per_cm3 >"], "ends too early"),
        (["query", "__import__('os').system('true')"], "position"),
        (["query", "hit; drop table campaign"], "position"),
        (["query", "--sort", "speed"], "unknown field 'speed'"),
        (["query", "--columns", "id,speed"], "unknown field 'speed'"),
        (["query", "--limit=-1"], "limit is -1"),
        (["query", "--output", "found.txt"], ".csv, .json or .parquet"),
        (["query", "--output", "no/such/found.csv"], "does not exist; create it first"),
        (["query", "--campaign", "blop"], "did you mean 'blobs'"),
        (["show", "zz"], "no candidate has an id that begins with 'zz'"),
        (["show", ""], "no candidate"),
        (["rounds", "--ledger", "none.db"], "none.db"),
    ],
)
@pytest.mark.usefixtures("ledger")
def test_bad_questions_are_one_line(words: list[str], message: str) -> None:
    assert message in refused(*words)


@pytest.mark.usefixtures("ledger")
def test_an_error_is_a_document_too() -> None:
    result = call("query", "speed > 1", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["exit_code"] == 2
    assert "unknown field 'speed'" in json.loads(result.stdout)["error"]


@pytest.mark.usefixtures("ledger")
def test_nothing_is_overwritten(in_scratch: Path) -> None:
    for words in (
        ["query", "hit", "--output", "kept.csv"],
        ["export", "kept.zip"],
        ["show", document("query", "hit", "--json")[0]["id"], "--output", "kept.png"],
    ):
        kept = in_scratch / words[-1]
        kept.write_text("mine")
        assert "exists already" in refused(*words)
        assert kept.read_text() == "mine"


def test_show_prints_the_record_and_draws_it(ledger: Path, in_scratch: Path) -> None:
    wanted = document("query", "hit and arm = 'loop'", "--json")[0]
    found = document("show", wanted["id"][:10], "--json")
    with Ledger.open(ledger) as opened:
        candidate = opened.candidate(wanted["id"])
    assert candidate.microstructure is not None
    assert candidate.phase_compositions is not None
    assert np.array_equal(np.array(found["microstructure"]), candidate.microstructure)
    gamma = found["phase_compositions"]["gamma"]
    assert list(gamma.values()) == candidate.phase_compositions[0].tolist()
    values = {row["property"]: row["value"] for row in found["records"]}
    assert values["density_g_per_cm3"] == wanted["density_g_per_cm3"]
    with Image.open(in_scratch / found["picture"]) as picture:
        assert min(picture.size) > 200
    text = call("show", wanted["id"]).stdout
    assert wanted["id"] in text
    # The micrograph: half as many lines as pixels, every line a row of halves.
    lines = text.splitlines()[1 : 1 + candidate.microstructure.shape[0] // 2]
    assert all(set(line) <= set(" ▀▄█") for line in lines)
    assert "198 ± 1.5" in text


def test_show_of_a_failed_design_gives_the_reason(ledger: Path) -> None:
    failed = document("query", "status = 'failed'", "--json")
    assert failed, "the fixture has failed designs"
    text = call("show", failed[0]["id"]).stdout
    assert "failed" in text
    assert "residual 3.1e-02" in text
    assert ledger.is_file()


def test_export_holds_everything(ledger: Path, in_scratch: Path) -> None:
    counts = document("export", "out", "--json")
    with Ledger.open(ledger) as opened:
        frame = opened.evaluations(1)
        known = {i: opened.candidate(i) for i in frame["id"].head(5)}
    out = in_scratch / "out"
    assert counts["evaluations"] == len(pd.read_csv(out / "evaluations.csv")) == len(frame)
    assert counts["images"] == frame["id"].nunique() == len(list((out / "images").iterdir()))
    compositions = pd.read_csv(out / "compositions.csv", index_col="id")
    for candidate_id, candidate in known.items():
        with Image.open(out / "images" / f"{candidate_id}.png") as image:
            assert candidate.microstructure is not None
            assert np.array_equal(np.asarray(image), candidate.microstructure)
        assert candidate.phase_compositions is not None
        row = compositions.loc[candidate_id].to_numpy()
        assert row.tolist() == candidate.phase_compositions.ravel().tolist()
    settings = json.loads((out / "settings.json").read_text())
    assert settings["campaign"]["targets"] == fixtures.settings()["targets"]
    assert settings["seed"] == 5


@pytest.mark.usefixtures("ledger")
def test_export_to_a_zip_and_with_a_filter(in_scratch: Path) -> None:
    import zipfile

    hits = document("query", "hit", "--json")
    counts = document("export", "hits.zip", "--filter", "hit", "--format", "parquet", "--json")
    assert counts["evaluations"] == len(hits)
    with zipfile.ZipFile(in_scratch / "hits.zip") as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        frame = pd.read_parquet(io.BytesIO(archive.read("hits/evaluations.parquet")))
    assert frame["id"].tolist() == [row["id"] for row in hits]
    assert sum(name.startswith("hits/images/") for name in names) == counts["images"]
    # Nothing half-written stays behind.
    assert sorted(p.name for p in in_scratch.iterdir()) == ["hits.zip", "runs"]


def test_a_bad_filter_leaves_no_export(ledger: Path, in_scratch: Path) -> None:
    assert "unknown field" in refused("export", "out", "--filter", "speed > 1")
    assert sorted(p.name for p in in_scratch.iterdir()) == ["runs"]
    assert ledger.is_file()


def test_which_ledger(ledger: Path, in_scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = in_scratch / "runs" / "other" / "ledger.db"
    fixtures.write_ledger(_made(other), rounds=1, batch=2)
    message = refused("status")
    assert str(ledger.relative_to(in_scratch)) in message
    assert str(other.relative_to(in_scratch)) in message
    assert document("status", "--ledger", str(ledger), "--json")["campaigns"][0]["rounds"] == 2
    monkeypatch.setenv("SPINODAL_LEDGER", str(other))
    assert document("status", "--json")["campaigns"][0]["rounds"] == 1
    # The option counts for more than the environment.
    assert document("status", "--ledger", str(ledger), "--json")["campaigns"][0]["rounds"] == 2


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    return path


@pytest.mark.usefixtures("in_scratch")
def test_without_any_ledger() -> None:
    assert "spinodal run CAMPAIGN" in refused("status")
    assert list(Path().iterdir()) == []


def test_a_file_that_is_no_ledger(in_scratch: Path) -> None:
    file = in_scratch / "notes.txt"
    file.write_text("not a database")
    assert "is not a ledger" in refused("status", "--ledger", str(file))
    assert file.read_text() == "not a database"
