"""Work lists and results as files: they come back as they went out, and errors name the place."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.candidate import Candidate
from loop.errors import InvalidInputError
from loop.laboratory import Measurement, Wanted, Work
from simulators.measured_files import parse_rows, read_rows
from simulators.measured_work import full_id, image_file, read_results, read_value, work_text
from tests.simulators.test_measured import A, B, C, alloy

WANTED: Mapping[str, Wanted] = {
    "hardness_GPa": Wanted("GPa", 0.0, 20.0),
    "strain": Wanted("1", -math.inf, math.inf),
}
WORK = [Work(c, WANTED, {}, (("loop", 1), ("random", 1))) for c in (A, B, C)]
HARDNESS, DEVIATION = "hardness_GPa [GPa]", "hardness_GPa_uncertainty [GPa]"


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def told(text: str, work: list[Work] = WORK) -> list[tuple[str, Measurement]]:
    return read_results(parse_rows(text.encode(), "told.csv", "results"), work)


def filled(*cells: tuple[int, str, str]) -> str:
    """The work list with some cells of it filled in: (row, column, text)."""
    rows = rows_of(work_text(WORK))
    for row, column, text in cells:
        assert column in rows[row]
        rows[row][column] = text
    stream = io.StringIO()
    writer = csv.DictWriter(stream, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def test_the_work_list_says_what_to_make_and_what_to_measure() -> None:
    rows = rows_of(work_text(WORK))
    assert list(rows[0]) == [
        "id", "rounds", "at%", "wt%", "alloy:Ag", "alloy:Cu", "alloy:Ni", "temperature_K",
        HARDNESS, DEVIATION, "strain", "strain_uncertainty",
    ]  # fmt: skip
    for row, candidate in zip(rows, (A, B, C), strict=True):
        assert row["id"] == candidate.id
        assert row["rounds"] == "loop 1; random 1"
        assert candidate.phase_compositions is not None
        made = [float(row[f"alloy:{e}"]) for e in candidate.elements]
        assert made == candidate.phase_compositions[0].tolist()
        weighed = dict(part.split() for part in row["at%"].split("  "))
        assert sum(map(float, weighed.values())) == pytest.approx(100, abs=0.02)
        for element, share in zip(candidate.elements, made, strict=True):
            assert float(weighed.get(element, 0)) == pytest.approx(100 * share, abs=0.005 + 1e-9)
        assert float(row["temperature_K"]) == candidate.process["temperature_K"]
        assert row[HARDNESS] == row["strain"] == ""


def test_designs_of_different_kinds_share_a_list() -> None:
    labels = np.zeros((2, 3), dtype=np.uint8)
    pictured = Candidate(phases=("a", "b"), microstructure=labels)
    first = Measurement(pictured.id, "strain", 0.25, "1", 0.5)
    work = [*WORK[:1], Work(pictured, {"strain": WANTED["strain"]}, {"strain": first}, ())]
    plain, picture = rows_of(work_text(work))
    assert (plain["image"], picture["image"]) == ("", f"images/{pictured.id}.png")
    assert (picture["alloy:Ag"], picture["temperature_K"], picture["rounds"]) == ("", "", "")
    assert (picture["strain"], picture["strain_uncertainty"]) == ("0.25", "0.5")
    assert image_file(pictured) == picture["image"]
    assert told(work_text(work), work) == [("told.csv, line 3, column strain", first)]


numbers = st.floats(allow_nan=False, allow_infinity=False).filter(lambda v: abs(v) < 1e300)


@given(
    st.lists(
        st.tuples(
            st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3),
            numbers,
            numbers,
            st.none() | st.floats(0, 1e6),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_round_trip(drawn: list[tuple[list[float], float, float, float | None]]) -> None:
    """Asked, filled in, read: the very same numbers, in both forms of a file."""
    truth: list[Measurement] = []
    work = []
    for i, (parts, hardness, strain, uncertainty) in enumerate(drawn):
        candidate = alloy(*(np.array(parts) / sum(parts)), temperature=300.0 + i)
        mine = {
            "hardness_GPa": Measurement(candidate.id, "hardness_GPa", hardness, "GPa", uncertainty),
            "strain": Measurement(candidate.id, "strain", strain, "1", uncertainty),
        }
        truth += mine.values()
        work.append(Work(candidate, WANTED, mine, (("loop", 1),)))
    assert [m for _, m in told(work_text(work), work)] == truth
    lines = ["id,property,value,unit,uncertainty"] + [
        f"{m.id},{m.property},{m.value!r},{m.unit},"
        f"{'' if m.uncertainty is None else repr(m.uncertainty)}"
        for m in truth
    ]
    assert [m for _, m in told("\n".join(lines), work)] == truth


def test_blanks_are_not_measured_yet() -> None:
    found = told(filled((0, HARDNESS, "1.5"), (2, "strain", "-0.002 ± 0.001")))
    assert found == [
        (f"told.csv, line 2, column {HARDNESS}", Measurement(A.id, "hardness_GPa", 1.5, "GPa")),
        ("told.csv, line 4, column strain", Measurement(C.id, "strain", -0.002, "1", 0.001)),
    ]
    with pytest.raises(InvalidInputError, match="have no value in any row; fill in"):
        told(work_text(WORK))


def test_what_a_spreadsheet_leaves_of_numbers_is_enough() -> None:
    text = filled((0, HARDNESS, "1.5"), (0, "alloy:Ag", "0.7000001"), (0, "rounds", "mine"))
    text = text.replace(HARDNESS, "hardness_GPa").replace(DEVIATION, "note")
    assert [m.value for _, m in told(text)] == [1.5]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([(0, HARDNESS, "1,5")], r"line 2, column hardness_GPa \[GPa\]: '1,5' has a decimal comma"),
        ([(1, HARDNESS, "soft")], "line 3, .*: got 'soft'; expected a number"),
        ([(0, HARDNESS, "nan")], "got nan; expected a finite number"),
        ([(0, HARDNESS, "1.5 ± ")], r"got '1\.5 ±'; expected a number after ±"),
        ([(0, HARDNESS, "1±2±3")], "expected VALUE or VALUE ± UNCERTAINTY"),
        ([(0, HARDNESS, "1.5 +/- -0.1")], r"got -0\.1; expected an uncertainty >= 0"),
        ([(0, HARDNESS, "1"), (0, DEVIATION, "-1")], "got -1; expected an uncertainty >= 0"),
        ([(0, DEVIATION, "0.1")], "line 2, .*: empty, but an uncertainty is given"),
        ([(0, HARDNESS, "1±2"), (0, DEVIATION, "2")], "another beside the value; keep one"),
        (
            [(1, HARDNESS, "1.5"), (1, "alloy:Ag", "0.7")],
            r"line 3, column alloy:Ag: 0\.7, but the design .* has 0\.5; was the table sorted",
        ),
        ([(0, HARDNESS, "1"), (0, "temperature_K", "900")], "column temperature_K: 900, but"),
    ],
)
def test_cells_that_cannot_be_read(cells: list[tuple[int, str, str]], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        told(filled(*cells))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (HARDNESS, "hardness_GPa [MPa]", r"column 'hardness_GPa \[MPa\]' is in MPa; expected GPa"),
        (HARDNESS, "hardness_GPa (HV)", r"is in HV; expected GPa: convert the column"),
        (HARDNESS, "hardnes_GPa", "unknown column 'hardnes_GPa'; did you mean 'hardness_GPa'"),
        ("id,", "name,", "lack the column 'id'"),
        (HARDNESS, DEVIATION, "appears twice"),
        (HARDNESS, "note", r"have the column 'hardness_GPa_uncertainty \[GPa\]', but none of"),
        ("strain,", "hardness_GPa,", "hardness_GPa has two columns, .* keep one"),
    ],
)
def test_headers_that_cannot_be_read(old: str, new: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        told(filled((0, HARDNESS, "1.5")).replace(old, new, 1))


HEADER = "id,property,value,unit,uncertainty\n"


def test_ids_may_be_shortened() -> None:
    whole = told(filled((0, HARDNESS, "1.5"), (2, "strain", "0.1")))
    short = filled((0, HARDNESS, "1.5"), (2, "strain", "0.1"))
    for candidate in (A, B, C):
        short = short.replace(candidate.id, candidate.id[:8])
    assert told(short) == whole
    assert told(f"{HEADER}{A.id[:8]},strain,1,1,\n")[0][1].id == A.id
    # What begins no id, or is too short to be sure of, is left for the ledger to refuse.
    assert told(f"{HEADER}zzzzzzzz,strain,1,1,\n")[0][1].id == "zzzzzzzz"
    assert told(f"{HEADER}{A.id[:5]},strain,1,1,\n")[0][1].id == A.id[:5]
    # A row of another design is still refused, whatever its id is shortened to.
    wrong = filled((1, HARDNESS, "1.5"), (1, "alloy:Ag", "0.7")).replace(B.id, B.id[:8])
    with pytest.raises(InvalidInputError, match="was the table sorted"):
        told(wrong)


def test_an_id_that_begins_several_is_refused() -> None:
    ids = ["abcdef01", "abcdef02"]
    assert full_id("abcdef01", ids, "here") == "abcdef01"
    with pytest.raises(InvalidInputError, match="here: 2 ids begin with 'abcdef'; give more of it"):
        full_id("abcdef", ids, "here")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + '{a},hardness_GPa,"1,5",GPa,0.1\n', "line 2, column value: '1,5' has a decimal"),
        (HEADER + "{a},hardness_GPa,1,5,GPa,0.1\n", r"line 2: 6 fields.*use points, not commas"),
        (HEADER + "{a},hardness_GPa,1.5,GPa,-0.1\n", r"line 2, column uncertainty: got -0\.1"),
        (HEADER + "{a},hardness_GPa,,GPa,0.1\n", "empty, but an uncertainty is given"),
        (HEADER + "{a},hardness_GPa,inf,GPa,\n", "column value: got inf; expected a finite"),
        ("id,rounds\n{a},loop 1\n", "have no column with results; expected hardness_GPa, strain"),
        ("id,property,value\n", "lack the column 'unit'"),
        ("id,property,value,units\n", "unknown column 'units'; did you mean 'unit'"),
        ("id;property;value;unit\n", "separates columns by semicolons"),
        ("id\tvalue\n", "separates columns by tabs"),
        ("id,id,value,unit\n", "column 'id' appears twice"),
        ("", "is empty"),
        (HEADER + '{a},"hardness\n', "expected CSV"),
    ],
)
def test_files_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        told(text.replace("{a}", A.id))


def test_files_that_are_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no results at"):
        read_rows(tmp_path / "told.csv", "results")
    (tmp_path / "latin.csv").write_bytes(b"id,property\n\xff\xfe,1\n")
    words = "cannot read results .*: line 2 is not UTF-8, perhaps Latin-1; save it as UTF-8"
    with pytest.raises(InvalidInputError, match=words) as told:
        read_rows(tmp_path / "latin.csv", "results")
    assert "codec" not in str(told.value)
    (tmp_path / "wide.csv").write_bytes("id,property\n".encode("utf-16"))
    with pytest.raises(InvalidInputError, match="its text is UTF-16; save it as UTF-8"):
        read_rows(tmp_path / "wide.csv", "results")
    with pytest.raises(InvalidInputError, match="cannot read results"):
        read_rows(tmp_path, "results")


@pytest.mark.parametrize("sign", ["±", "+-", "+/-", " ± ", " +/- "])
def test_values_with_uncertainty(sign: str) -> None:
    assert read_value(f"1.52{sign}0.03", "here") == (1.52, 0.03)
    assert read_value("-1e-3", "here") == (-1e-3, None)
