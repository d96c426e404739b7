"""Labels at the laboratory: tables are matched by them, work lists carry them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.candidate import Candidate
from loop.errors import InvalidInputError
from loop.laboratory import Measurement, Wanted, Work
from loop.space import DesignSpace
from simulators.measured import Replay, create
from simulators.measured_files import parse_rows
from simulators.measured_work import read_results, recipe, work_text

SPACE = DesignSpace(
    ("alloy",),
    ("Ni", "Al"),
    process={"time_h": (0.0, 10.0)},
    labels={"processing": ("CAST", "ANNEAL", "WROUGHT"), "maker": ("A", "B")},
)
TABLE = """\
alloy:Ni,alloy:Al,processing,maker,time_h,remark,hardness_HV
0.9,0.1,CAST,A,2,old,300
0.9,0.1,ANNEAL,A,2,,250
0.9,0.1,CAST,B,2,,310
0.5,0.5,CAST,A,2,,500
"""
WANTED: Mapping[str, Wanted] = {"hardness_HV": Wanted("HV", 0.0, 2000.0)}


def alloy(share: float, processing: str = "CAST", maker: str = "A", hours: float = 2) -> Candidate:
    x = np.array([[1.0 - share, share]])
    labels = {"processing": processing, "maker": maker}
    return Candidate(("alloy",), ("Ni", "Al"), None, x, {"time_h": hours}, labels=labels)


def replay(folder: Path, text: str = TABLE) -> Replay:
    (folder / "table.csv").write_text(text)
    settings = {"outputs": {"hardness_HV": "HV"}, "table": str(folder / "table.csv")}
    made = create(space=SPACE, settings=settings)
    assert isinstance(made, Replay)
    return made


def test_rows_are_found_by_composition_process_and_labels(tmp_path: Path) -> None:
    designs = [alloy(0.1), alloy(0.1, "ANNEAL"), alloy(0.1, maker="B"), alloy(0.5)]
    found = replay(tmp_path).evaluate(designs)
    assert [o.values["hardness_HV"] for o in found] == [300.0, 250.0, 310.0, 500.0]


def test_another_label_is_another_design(tmp_path: Path) -> None:
    never, late = replay(tmp_path).evaluate([alloy(0.5, "WROUGHT", "B"), alloy(0.1, hours=3)])
    assert never.status == late.status == "infeasible"
    assert "line 5, has the composition, but not time_h = 2, processing = WROUGHT, maker = B" in (
        never.reason
    )
    assert "but not time_h = 3, processing = CAST, maker = A" in late.reason


def test_a_design_without_the_labels_fails(tmp_path: Path) -> None:
    bare = Candidate(("alloy",), ("Ni", "Al"), None, np.array([[0.9, 0.1]]), {"time_h": 2.0})
    (found,) = replay(tmp_path).evaluate([bare])
    assert (found.status, found.reason) == ("failed", "candidate has no label processing")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",processing,", ",route,", "lacks the column 'processing', a label of the space"),
        ("0.1,ANNEAL", "0.1,", "line 3, column processing: got nothing; expected the value"),
        ("ANNEAL", "CAST", "lines 2 and 3 are the same design"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        replay(tmp_path, TABLE.replace(old, new))


def test_a_table_by_id_needs_no_labels(tmp_path: Path) -> None:
    known, other = replay(tmp_path, f"id,hardness_HV\n{alloy(0.1).id},300\n").evaluate(
        [alloy(0.1), alloy(0.1, "ANNEAL")]
    )
    assert known.values["hardness_HV"] == 300.0
    assert other.status == "infeasible"


# Work lists


def work(*designs: Candidate) -> list[Work]:
    return [Work(d, WANTED, {}, (("loop", 1),)) for d in designs]


def test_the_work_list_says_them() -> None:
    asked = work(alloy(0.1), alloy(0.5, "ANNEAL", "B"))
    rows = list(csv.DictReader(io.StringIO(work_text(asked))))
    columns = list(rows[0])
    first = columns.index("time_h")
    assert columns[first : first + 4] == ["time_h", "maker", "processing", "hardness_HV [HV]"]
    assert [(r["processing"], r["maker"]) for r in rows] == [("CAST", "A"), ("ANNEAL", "B")]
    assert recipe(alloy(0.1))["processing"] == "CAST"


def told(text: str, asked: list[Work]) -> list[tuple[str, Measurement]]:
    return read_results(parse_rows(text.encode(), "told.csv", "results"), asked)


@given(
    st.lists(
        st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=8),
        min_size=1,
        max_size=4,
        unique=True,
    )
)
def test_a_filled_in_list_comes_back(values: list[str]) -> None:
    asked = work(*(alloy(0.1, value) for value in values))
    text = work_text(asked)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["processing"] for row in rows] == values
    for number, row in enumerate(rows):
        row["hardness_HV [HV]"] = str(100 + number)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    found = told(stream.getvalue(), asked)
    assert [(m.id, m.value) for _, m in found] == [
        (w.candidate.id, 100.0 + i) for i, w in enumerate(asked)
    ]


def test_a_row_with_another_label_is_not_the_design() -> None:
    asked = work(alloy(0.1), alloy(0.1, "ANNEAL"))
    text = work_text(asked).replace("CAST,,", "ANNEAL,310,")
    assert "310" in text
    with pytest.raises(
        InvalidInputError, match=r"line 2, column processing: ANNEAL, but the design .* has CAST"
    ):
        told(text, asked)
