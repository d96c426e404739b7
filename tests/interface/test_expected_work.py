"""What is expected of work: in the list for people and machines, passed over when it returns."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from interface.cli import app
from interface.laboratory import (
    expectations,
    kept_work,
    tell_csv,
    tell_file,
    work_csv,
    work_list,
    write_work,
)
from interface.plots_work import work_figure
from loop.errors import InvalidInputError
from loop.laboratory import Expected, Wanted, Work
from loop.ledger import Ledger
from loop.targets import Maximise
from tests.interface.fixtures import NAME, propose, start_campaign

WANTED = {"hardness_GPa": Wanted("GPa", 0.0, 20.0), "ratio": Wanted("1", 0.0, 9.0)}
EXPECTED = {"mean": 12.3456789, "std": 0.3, "noise": 0.4}  # 0.5 together
COLUMNS = ("expected_hardness_GPa [GPa]", "expected_std_hardness_GPa [GPa]")


def planned(path: Path, *predicted: dict[str, dict[str, float]] | None) -> Ledger:
    """A campaign that waits for two properties of a design for each prediction."""
    opened = Ledger.open(path)
    number = start_campaign(opened)
    designs = propose("loop", 1, len(predicted), np.random.default_rng(0))
    opened.plan_batch(number, "loop", 1, designs, predicted=predicted)
    opened.ask(number, {d.id: WANTED for d in designs})
    return opened


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Three designs: the noise of one expectation on record, of one not, of one no expectation."""
    bare = {"hardness_GPa": {"mean": 3.0, "std": 0.25}}
    with planned(tmp_path / "ledger.db", {"hardness_GPa": EXPECTED}, bare, None) as opened:
        yield opened


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def text_of(rows: list[dict[str, str]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def test_the_list_for_machines(ledger: Ledger) -> None:
    first, second, third = (item.measure for item in work_list(ledger, 1).items)
    hardness, ratio = first
    assert (hardness.expected, hardness.expected_std) == (12.3456789, 0.5)
    assert hardness.expected_noise == 0.4
    assert (ratio.expected, ratio.expected_std, ratio.expected_noise) == (None, None, None)
    assert (second[0].expected, second[0].expected_noise) == (3.0, None)
    assert third[0].expected is None


def test_the_columns_of_a_file(ledger: Ledger, tmp_path: Path) -> None:
    work = ledger.work(1)
    write_work(work, tmp_path / "list.csv", expectations(ledger, 1, work))
    for text in (work_csv(ledger, 1), (tmp_path / "list.csv").read_text()):
        rows = rows_of(text)
        assert list(rows[0])[-2:] == list(COLUMNS)  # nothing is expected of the ratio
        found = [tuple(row[column] for column in COLUMNS) for row in rows]
        assert found == [("12.346", "0.5"), ("3", "0.25"), ("", "")]
        assert [row["hardness_GPa [GPa]"] for row in rows] == ["", "", ""]
    write_work(work, tmp_path / "bare.csv")
    assert COLUMNS[0] not in rows_of((tmp_path / "bare.csv").read_text())[0]
    kept = kept_work(work, tmp_path / "work", 1, expectations(ledger, 1, work))
    assert COLUMNS[0] in rows_of(kept.read_text())[0]


def test_what_is_expected_is_no_result(ledger: Ledger, tmp_path: Path) -> None:
    """Only what was filled in is kept, whatever stands in the columns of expectations."""
    rows = rows_of(work_csv(ledger, 1))
    with pytest.raises(InvalidInputError, match="have no value in any row"):
        tell_csv(ledger, 1, text_of(rows).encode(), "list", replace=False)
    rows[0]["hardness_GPa [GPa]"] = "7.5 ± 0.5"
    rows[1][COLUMNS[0]], rows[1][COLUMNS[1]] = "somebody's note", "-1"
    told = tell_csv(ledger, 1, text_of(rows).encode(), "list", replace=False)
    assert (told.new, told.open) == (1, 5)
    rows[1]["ratio"] = "0.5"
    (tmp_path / "back.csv").write_text(text_of(rows))
    told = tell_file(ledger, 1, tmp_path / "back.csv", replace=False)
    assert (told.new, told.same, told.open) == (1, 1, 4)
    found = ledger.measurements([row["id"] for row in rows])
    values = {(key, m.value) for of_one in found.values() for key, m in of_one.items()}
    assert values == {(("hardness_GPa", "GPa"), 7.5), (("ratio", "1"), 0.5)}


def test_a_column_of_another_property_is_still_refused(ledger: Ledger) -> None:
    rows = [row | {"expected_hardnes_GPa [GPa]": "1"} for row in rows_of(work_csv(ledger, 1))]
    with pytest.raises(InvalidInputError, match="unknown column 'expected_hardnes_GPa'"):
        tell_csv(ledger, 1, text_of(rows).encode(), "list", replace=False)


def test_a_property_that_is_called_so_keeps_its_column(tmp_path: Path) -> None:
    """Its results are told, and what is expected of the other one is left out of the file."""
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        number = start_campaign(ledger)
        designs = propose("loop", 1, 1, np.random.default_rng(0))
        predicted = [{"life_h": EXPECTED, "expected_life_h": EXPECTED}]
        ledger.plan_batch(number, "loop", 1, designs, predicted=predicted)
        unit = Wanted("h", 0.0, 99.0)
        ledger.ask(number, {designs[0].id: {"life_h": unit, "expected_life_h": unit}})
        (row,) = rows = rows_of(work_csv(ledger, number))
        assert row["expected_life_h [h]"] == ""
        assert row["expected_expected_life_h [h]"] == "12.346"
        row["expected_life_h [h]"] = "4"
        assert tell_csv(ledger, number, text_of(rows).encode(), "list", replace=False).new == 1
        found = ledger.measurements([designs[0].id])[designs[0].id]
        assert found["expected_life_h", "h"].value == 4.0


def test_the_list_at_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    option = ["--ledger", str(tmp_path / "ledger.db")]

    def printed(*words: str) -> str:
        done = CliRunner().invoke(app, ["ask", NAME, *words, *option])
        assert done.exit_code == 0, done.output
        return done.stdout

    with planned(tmp_path / "ledger.db", {"hardness_GPa": EXPECTED}):
        pass
    shown = printed()
    assert "hardness_GPa 12.35 ± 0.50" in shown
    assert "± one standard deviation of what would be measured" in shown
    (item,) = json.loads(printed("--json"))["items"]
    assert item["measure"][0]["expected_std"] == 0.5
    printed("-o", "list.csv")
    assert COLUMNS[0] in rows_of((tmp_path / "list.csv").read_text())[0]


def test_a_deviation_without_the_noise_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with planned(tmp_path / "ledger.db", {"hardness_GPa": {"mean": 3.0, "std": 0.25}}):
        pass
    done = CliRunner().invoke(app, ["ask", NAME, "--ledger", str(tmp_path / "ledger.db")])
    assert "of the property itself; the scatter of measuring it comes on top" in done.stdout


def test_the_picture_says_whose_deviation_it_draws(tmp_path: Path) -> None:
    (design,) = propose("loop", 1, 1, np.random.default_rng(0))
    work = [Work(design, WANTED, {}, (("loop", 1),))]
    targets = [Maximise("hardness_GPa")]
    drawn = []
    for noise in (0.3, None):
        expected = {design.id: {"hardness_GPa": Expected(12.0, 0.5, noise)}}
        file = tmp_path / f"{noise}.png"
        drawn.append(work_figure(work, expected, targets, {}, file).read_bytes())
    assert drawn[0] != drawn[1]
    with pytest.raises(InvalidInputError, match="nothing is expected"):
        work_figure(work, {}, targets, {}, tmp_path / "none.png")
