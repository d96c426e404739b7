"""What is printed: strict JSON, whole tables, pictures in text, progress out of the way."""

from __future__ import annotations

import io
import json
import math
import threading

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interface.blocks import half_blocks
from interface.output import cell, json_text, print_table, rows
from interface.progress import Lines, shown

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return value


def _refuse(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


@given(VALUES)
def test_json_is_strict_and_keeps_every_value(value: object) -> None:
    assert json.loads(json_text(value), parse_constant=_refuse) == _finite(value)


def test_whatever_pandas_calls_missing_is_null() -> None:
    frame = pd.DataFrame(
        {
            "f": [1.5, math.nan],
            "b": pd.array([True, None], dtype="boolean"),
            "t": [pd.Timestamp("2026-01-02"), pd.NaT],
            "s": pd.array(["x", None], dtype="str"),
            "i": np.array([1, 2], dtype=np.int64),
        }
    )
    first, second = rows(frame)
    assert json.loads(json_text(first)) == {
        "f": 1.5, "b": True, "t": "2026-01-02T00:00:00", "s": "x", "i": 1,
    }  # fmt: skip
    assert second == {"f": None, "b": None, "t": None, "s": None, "i": 2}


def test_a_table_in_a_pipe_is_not_cut_off(capsys: pytest.CaptureFixture[str]) -> None:
    line = {f"a_rather_long_column_name_{i}": 1.0 / (i + 3) for i in range(8)}
    print_table(list(line), [line])
    printed = capsys.readouterr().out
    for name, value in line.items():
        assert name in printed
        assert cell(value) in printed
    assert all(text == text.rstrip() for text in printed.splitlines())


def test_markup_and_control_codes_in_data_are_only_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_table(["reason"], [{"reason": "[bold]x[/bold] \x1b[31mred"}])
    printed = capsys.readouterr().out
    assert "[bold]x[/bold]" in printed
    assert "\x1b" not in printed


@given(st.integers(1, 40), st.integers(2, 40), st.integers(0, 2**32 - 1))
def test_half_blocks_show_every_pixel(h: int, w: int, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 2, (2 * h, w), dtype=np.uint8)
    text = half_blocks(labels, colour=False)
    upper = [["▀█".find(c) >= 0 for c in line] for line in text.split("\n")]
    lower = [["▄█".find(c) >= 0 for c in line] for line in text.split("\n")]
    assert np.array_equal(np.array(upper), labels[0::2] == 1)
    assert np.array_equal(np.array(lower), labels[1::2] == 1)


def test_a_large_picture_fits_the_terminal() -> None:
    labels = np.zeros((512, 512), dtype=np.uint8)
    labels[:, 256:] = 1
    lines = half_blocks(labels, colour=False).split("\n")
    assert {len(line) for line in lines} == {64}
    assert len(lines) == 32
    assert set(lines) == {" " * 32 + "█" * 32}
    coloured = half_blocks(labels, colour=True)
    assert coloured.count("▀") == 64 * 32
    assert half_blocks(labels * 2, colour=False).split("\n")[0] == " " * 32 + "▒" * 32


def test_lines_tell_ends_of_stages_and_no_more() -> None:
    stream = io.StringIO()
    report = Lines(stream, seconds=1e9)
    for i in range(101):
        report("train", i, 100, loss=1.0 / (i + 1))
    for i in range(4):
        report("simulate", i, 3)
    lines = stream.getvalue().splitlines()
    assert lines == ["train  100/100  loss 0.009901", "simulate  3/3"]


def test_lines_come_now_and_then_inside_a_long_stage() -> None:
    stream = io.StringIO()
    report = Lines(stream, seconds=0.0)
    for i in range(5):
        report("train", i, 100)
    assert stream.getvalue().splitlines()[-1] == "train  4/100"


def test_progress_is_safe_between_threads_and_off_stdout(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with shown() as progress:

        def work() -> None:
            for i in range(51):
                progress("work", i, 50)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    out, err = capsys.readouterr()
    assert out == ""
    assert "work  50/50" in err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bars_on_a_terminal() -> None:
    stream = Terminal()
    with shown(stream) as progress:
        progress("train", 1, 2, loss=0.5)
        progress("train", 2, 2, loss=0.25)
        progress("simulate", 0, 0)
    assert "simulate" in stream.getvalue()
