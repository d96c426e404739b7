"""The CSV of compositions: each wrong one is named with its line and column."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop.composition_table import read_compositions, table_names
from loop.errors import InvalidInputError

PHASES, ELEMENTS = ("a", "b"), ("Ni", "Al")
HEADER = "a:Ni,a:Al,b:Ni,b:Al\n"


def _write(folder: Path, text: str | bytes) -> Path:
    path = folder / "table.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_order_of_columns_and_remarks_do_not_matter(tmp_path: Path) -> None:
    text = "name,b:Al,a:Ni,a:Al,b:Ni\nfirst,0.25,0.9,0.1,0.75\n\nsecond, 0.3 ,1,0,0.7\n"
    x = read_compositions(_write(tmp_path, text), PHASES, ELEMENTS)
    assert x == pytest.approx(
        np.array([[[0.9, 0.1], [0.75, 0.25]], [[1, 0], [0.7, 0.3]]]), abs=1e-15
    )
    assert x[1, 0, 1] == 0.0
    assert table_names(tmp_path / "table.csv") == (("b", "a"), ("Al", "Ni"))


def test_byte_order_mark_and_windows_lines(tmp_path: Path) -> None:
    text = ("\ufeff" + HEADER + "0.9,0.1,0.75,0.25\n").replace("\n", "\r\n")
    assert read_compositions(_write(tmp_path, text), PHASES, ELEMENTS).shape == (1, 2, 2)


@given(st.lists(st.floats(0.001, 0.999), min_size=1, max_size=5))
@settings(deadline=None, max_examples=25)
def test_printed_fractions_come_back_closed(
    tmp_path_factory: pytest.TempPathFactory, values: list[float]
) -> None:
    rows = "".join(f"{v:.6f},{1 - v:.6f},1,0\n" for v in values)
    path = _write(tmp_path_factory.mktemp("t"), HEADER + rows)
    x = read_compositions(path, PHASES, ELEMENTS)
    assert np.abs(x.sum(axis=2) - 1).max() <= 1e-15
    assert x[:, 0, 0] == pytest.approx(np.array(values), abs=2e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; expected a header"),
        ("\n  \n", "is empty; expected a header"),
        (HEADER, "has a header but no rows"),
        ("a:Ni,a:Al,b:Ni\n1,0,1\n", "lacks the column 'b:Al'"),
        ("a:Ni,a:Al,b:Ni,b:Al,a:Ni\n1,0,1,0,1\n", "column 'a:Ni' appears twice"),
        ("a:Ni,a:Xx,b:Ni,b:Al\n1,0,1,0\n", "column a:Xx: unknown element 'Xx'"),
        (
            "a:Ni,a:Al,b:Ni,b:Al,a:Cr\n1,0,1,0,0\n",
            "column a:Cr is not of this space: unknown element 'Cr'",
        ),
        (
            "a:Ni,a:Al,b:Ni,b:Al,c:Ni\n1,0,1,0,1\n",
            "column c:Ni is not of this space: unknown phase 'c'",
        ),
        (HEADER + "0.9,0.1,0.75,0.2\n", "line 2: b sums to 0.95; expected 1; give atomic"),
        (HEADER + "0.9,0.1,0.7,0.3\n0.9,0.2,0.7,0.3\n", "line 3: a sums to 1.1; expected 1"),
        (HEADER + "0.9,0.0999,0.7,0.3\n", "line 2: a sums to 0.9999; expected 1"),
        (HEADER + "90,10,75,25\n", "line 2: a sums to 100; expected 1; .*percentages"),
        (HEADER + "1.1,-0.1,0.75,0.25\n", "line 2, column a:Al: got -0.1; expected .* >= 0"),
        (HEADER + "nan,0.1,0.75,0.25\n", "line 2, column a:Ni: got nan; expected a finite"),
        (HEADER + "inf,0.1,0.75,0.25\n", "line 2, column a:Ni: got inf; expected a finite"),
        (HEADER + ",0.1,0.75,0.25\n", "line 2, column a:Ni: got nothing; expected a number"),
        (HEADER + "x,0.1,0.75,0.25\n", "line 2, column a:Ni: got 'x'; expected a number"),
        (HEADER + '"0,9","0,1",0.75,0.25\n', "line 2, column a:Ni: '0,9' has a decimal comma"),
        (HEADER + "0,9,0,1,0.75,0.25\n", "line 2: 6 fields, the header has 4; use points"),
        (HEADER + "0.9,0.1,0.75\n", "line 2: 3 fields, the header has 4"),
        (HEADER.replace(",", ";") + "0,9;0,1;1;0\n", "separates columns by semicolons"),
        (HEADER.replace(",", "\t") + "0.9\t0.1\t1\t0\n", "separates columns by tabs"),
        (HEADER + '"0.9,0.1,1,0\n', "cannot read compositions"),
        (b"\xff\xfe\x00\x01", "cannot read compositions .*: its text is UTF-16; save it as UTF-8"),
        (
            (HEADER + "1,0,1,0\n\u00b5,0,1,0\n").encode("latin-1"),
            "line 3 is not UTF-8, perhaps Latin",
        ),
        (HEADER.encode() + b"1,0,1,\x00\n", "compositions"),
    ],
)
def test_bad_tables(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = _write(tmp_path, text)
    with pytest.raises(InvalidInputError, match=message) as caught:
        read_compositions(path, PHASES, ELEMENTS)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_table(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no compositions file at"):
        read_compositions(tmp_path / "none.csv", PHASES, ELEMENTS)
    with pytest.raises(InvalidInputError, match="cannot read compositions"):
        read_compositions(tmp_path, PHASES, ELEMENTS)


def test_table_without_phases(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no column PHASE:ELEMENT"):
        table_names(_write(tmp_path, "Ni,Al\n0.5,0.5\n"))
