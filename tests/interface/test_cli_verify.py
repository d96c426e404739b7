"""``spinodal verify``: the table of exact answers, and an exit code that a miss changes."""

from __future__ import annotations

import json
import math

import pytest
from typer.testing import CliRunner, Result

from interface.cli import app
from loop import composition_cases
from loop.verification import Case, absolute_case


def call(*words: str) -> Result:
    return CliRunner().invoke(app, ["verify", *words])


def test_everything_is_checked_and_passes() -> None:
    done = call("--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["passed"] is True
    assert {case["room"] for case in document["cases"]} == {
        "composition",
        "simulators",
        "generators",
    }
    for case in document["cases"]:
        assert case["pass"] is True
        assert case["error"] <= case["allowed"], case
        assert case["case"]


def test_one_room_alone() -> None:
    document = json.loads(call("composition", "--json").stdout)
    assert {case["room"] for case in document["cases"]} == {"composition"}
    text = call("composition").stdout
    assert all(case["case"] in text for case in document["cases"])
    assert f"{len(document['cases'])} cases, 0 missed" in text


@pytest.mark.parametrize(
    "missed",
    [
        absolute_case("composition", "off by a tenth", 1.0, 1.1, 0.05),
        Case("composition", "not a number", 1.0, math.nan, math.nan, 1.0),
    ],
)
def test_a_miss_is_seen(missed: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    real = composition_cases.cases
    monkeypatch.setattr(composition_cases, "cases", lambda: [*real(), missed])
    done = call("composition")
    assert done.exit_code == 1
    assert "1 missed" in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if missed.name in line]
    assert line.split()[-1] == "no"
    document = json.loads(call("composition", "--json").stdout)
    assert document["passed"] is False
    assert [case["case"] for case in document["cases"] if not case["pass"]] == [missed.name]


def test_no_cases_are_no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composition_cases, "cases", list)
    assert call("composition").exit_code == 1
