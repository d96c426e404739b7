"""``run`` that waits, ``ask``, ``tell``, ``resume``: a laboratory at the command line."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from interface.cli import app
from loop.ledger import Ledger
from tests.laboratories import ELEMENTS, fill_in, hardness, write_alloys

LEDGER = Path("runs") / "alloys" / "ledger.db"


def spinodal(*words: str, code: int = 0) -> Result:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == code, done.output
    return done


def document(*words: str) -> Any:
    return json.loads(spinodal(*words, "--json").stdout)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the campaign has asked for its ten seeds."""
    folder = tmp_path_factory.mktemp("asked")
    write_alloys(folder / "alloys")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done = spinodal("run", "alloys", "--plain")
    (folder / "printed.txt").write_text(done.stdout)
    return folder


@pytest.fixture
def waiting(asked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, as the current one."""
    shutil.copytree(asked, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def test_a_run_that_waits_says_what_to_do(asked: Path) -> None:
    printed = (asked / "printed.txt").read_text()
    assert "Stopped: waiting for 10 measurements of 10 designs." in printed
    work = asked / "runs" / "alloys" / "work" / "round-0.csv"
    assert f"fill in the work list {work.relative_to(asked)}" in printed
    assert f"tell alloys {work.relative_to(asked)}" in printed
    assert "resume alloys" in printed
    with work.open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 10


@pytest.mark.usefixtures("waiting")
def test_run_wait_tell_resume_to_the_end() -> None:
    told = []
    for round_ in range(3):
        work = Path("runs") / "alloys" / "work" / f"round-{round_}.csv"
        told.append(fill_in(work, Path("told.csv")))
        done = spinodal("tell", "alloys", "told.csv")
        assert f"{told[-1]} new results kept; nothing is open any more" in done.stdout
        assert "resume alloys" in done.stderr
        (line,) = document("status")["campaigns"]
        assert line["waiting"] == "all that was asked for has been told; resume it"
        found = document("resume", "alloys", "--plain")
    assert told == [10, 6, 6]
    assert found["reason"] == "rounds: all 2 are done"
    assert found["waiting"] is None
    with Ledger.open(LEDGER) as ledger:
        for record in ledger.records(1):
            fractions = dict(zip(ELEMENTS, record.candidate.composition().tolist(), strict=True))
            assert record.outcome.values["hardness_GPa"] == pytest.approx(hardness(fractions))
            assert dict(record.outcome.uncertainty) == {"hardness_GPa": 0.01}
    table = spinodal("query", "arm = 'loop'").stdout
    assert "measured" in table
    assert "uncertainty" in table
    best = found["best"][0]
    shown = spinodal("show", best[:8]).stdout
    assert "± 0.01  measured" in shown
    (record_,) = document("show", best[:8], "-o", "a.png")["records"]
    assert (record_["uncertainty"], record_["value_fidelity"]) == (0.01, "measured")


def test_a_run_that_still_waits_does_nothing(waiting: Path) -> None:
    before = LEDGER.read_bytes()
    work = Path("runs") / "alloys" / "work" / "round-0.csv"
    fill_in(work, work)  # somebody's work, that must not be lost
    mine = work.read_bytes()
    for words in (("run", "alloys"), ("resume", "alloys"), ("run", "alloys", "--plain")):
        found = document(*words)
        assert found["reason"] is None
        assert found["waiting"] == "waiting for 10 measurements of 10 designs"
        assert found["work_list"] == str(work)
    assert work.read_bytes() == mine
    assert not (waiting / "runs" / "alloys" / "prefect").exists()
    assert LEDGER.stat().st_size == len(before)


@pytest.mark.usefixtures("waiting")
def test_ask_shows_and_writes_the_open_work() -> None:
    shown = spinodal("ask", "alloys").stdout
    assert "hardness_GPa [GPa]" in shown
    assert shown.count("seed 0") == 10
    listed = document("ask")
    assert (listed["campaign"], listed["open"], len(listed["items"])) == ("alloys", 10, 10)
    item = listed["items"][0]
    assert sum(item["phase_compositions"]["alloy"].values()) == pytest.approx(1.0)
    assert item["measure"] == [
        {
            "property": "hardness_GPa", "unit": "GPa", "low": 0.0, "high": 20.0,
            "value": None, "uncertainty": None,
            "expected": None, "expected_std": None, "expected_noise": None,
        }
    ]  # fmt: skip
    done = spinodal("ask", "alloys", "--output", "work.csv")
    assert "10 designs written to work.csv" in done.stdout
    fill_in(Path("work.csv"), Path("part.csv"), 4)
    spinodal("tell", "alloys", "part.csv")
    assert "waiting for 6 measurements" in spinodal("status").stdout
    assert len(document("ask")["items"]) == 6
    spinodal("ask", "alloys", "--output", "work.csv", code=2)
    spinodal("ask", "alloys", "--output", "work.txt", code=2)


@pytest.mark.usefixtures("waiting")
def test_single_values() -> None:
    ids = [item["id"] for item in document("ask")["items"]]
    told = document("tell", "alloys", "--id", ids[0][:8], "--value", "hardness_GPa=1.52±0.03")
    assert (told["new"], told["open"]) == (1, 9)
    told = document("tell", "alloys", "--id", ids[0], "--value", "hardness_GPa = 1.52 +/- 0.03")
    assert (told["new"], told["same"]) == (0, 1)
    other = ("tell", "alloys", "--id", ids[0], "--value", "hardness_GPa=1.6")
    assert "told before as 1.52 ± 0.03 GPa, now 1.6 GPa" in spinodal(*other, code=2).stderr
    assert document(*other, "--replace")["replaced"] == 1


@pytest.mark.usefixtures("waiting")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--id", "0" * 32, "--value", "hardness_GPa=1"), "is not on the work list"),
        (("--id", "ID", "--value", "hardnes_GPa=1"), "did you mean 'hardness_GPa'"),
        (("--id", "ID", "--value", "hardness_GPa=150"), "outside the physical range 0 to 20 GPa"),
        (("--id", "ID", "--value", "hardness_GPa=nan"), "expected a finite number"),
        (("--id", "ID", "--value", "hardness_GPa=1,5"), "has a decimal comma"),
        (("--id", "ID", "--value", "1.5"), "expected PROPERTY=VALUE±UNCERTAINTY"),
        (("--id", "ID"), "expected either a file"),
        (("--value", "hardness_GPa=1"), "expected either a file"),
        ((), "expected either a file"),
        (("told.csv", "--id", "ID", "--value", "hardness_GPa=1"), "expected either a file"),
        (("none.csv",), "no results at none.csv"),
    ],
)
def test_what_cannot_be_told(words: tuple[str, ...], message: str) -> None:
    id_ = document("ask")["items"][0]["id"]
    given = [id_ if word == "ID" else word for word in words]
    done = spinodal("tell", "alloys", *given, code=2)
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert document("ask")["open"] == 10


@pytest.mark.usefixtures("waiting")
def test_a_bad_row_and_nothing_of_the_file_is_kept() -> None:
    fill_in(Path("runs") / "alloys" / "work" / "round-0.csv", Path("told.csv"))
    text = Path("told.csv").read_text().splitlines()
    text[5] = text[5].replace("± 0.01", "± -0.01")
    Path("told.csv").write_text("\n".join(text))
    done = spinodal("tell", "alloys", "told.csv", code=2)
    assert "line 6, column hardness_GPa [GPa]: got -0.01; expected an uncertainty" in done.stderr
    assert document("ask")["open"] == 10


def test_a_table_is_replayed_at_once(in_scratch: Path) -> None:
    write_alloys(in_scratch / "alloys", table=True)
    found = document("run", "alloys", "--plain")
    assert found["reason"] == "rounds: all 2 are done"
    with Ledger.open(LEDGER) as ledger:
        records = ledger.records(1)
        assert ledger.work(1, told=True) == []
    assert [r.outcome.status for r in records] == ["ok"] * len(records)
    assert {r.fidelity for r in records} == {"measured"}
    assert {r.outcome.uncertainty["hardness_GPa"] for r in records} == {0.01}
    assert len([r for r in records if r.arm == "loop"]) == 6
    for record in records:
        fractions = dict(zip(ELEMENTS, record.candidate.composition().tolist(), strict=True))
        assert record.outcome.values["hardness_GPa"] == pytest.approx(hardness(fractions))
    assert "alloys asks for nothing" in spinodal("ask", "alloys").stdout
    done = spinodal("tell", "alloys", "--id", "0" * 32, "--value", "hardness_GPa=1", code=2)
    assert "this campaign has asked for no measurement" in done.stderr
    assert "unknown campaign" in spinodal("ask", "nine", code=2).stderr
