"""Tables of what is expected: abreast while they fit, else a block a design."""

from __future__ import annotations

from typing import Any

import numpy as np

from flows.expectation import Expectation
from interface.predicted import blocks_of, table_of
from loop.candidate import Candidate, Outcome
from loop.targets import Range, Targets, Value

NAMES = ("hardness_HV", "density_g_per_cm3", "cost_USD_per_kg")
TARGETS = Targets((Value("hardness_HV", 500.0, 20.0), Range("density_g_per_cm3", 7.0, 8.0)))


def expectation(properties: tuple[str, ...], **more: Any) -> Expectation:
    designs = tuple(
        Candidate(("alloy",), ("Ni", "Al"), phase_compositions=np.array([[1 - x, x]]))
        for x in (0.25, 0.4)
    )
    k = len(properties)
    mean = np.arange(1.0, 2 * k + 1).reshape(2, k) * 100
    given: dict[str, Any] = {
        "properties": properties,
        "targets": TARGETS,
        "designs": designs,
        "mean": mean,
        "std": np.full((2, k), 10.0),
        "low": mean - 16,
        "high": mean + 16,
        "chances": np.array([[0.5, 0.25], [0.999999, 0.0]]),
        "chance": np.array([0.125, 0.0]),
        "nearest": (designs[0], designs[1]),
        "difference": np.array([0.0, 0.2]),
        "remarks": (("on record",), ()),
        "outcomes": None,
        "about": {"records": 20, "interval": {"level": 0.9}},
    }
    return Expectation(**(given | more))


def test_two_properties_stand_abreast() -> None:
    found = expectation(NAMES[:2])
    assert blocks_of(found) is None
    columns, lines = table_of(found)
    assert [name for name in columns if name.startswith("expected")] == [
        "expected hardness_HV",
        "expected density_g_per_cm3",
    ]
    assert len(lines) == 2


def test_of_more_every_design_has_a_block() -> None:
    blocks = blocks_of(expectation(NAMES))
    assert blocks is not None
    first, second = blocks
    assert first.heading == "Ni 75.0  Al 25.0"
    assert [line["property"] for line in first.lines] == list(NAMES)
    assert list(first.columns) == ["property", "expected", "interval", "target", "chance"]
    hardness, density, cost = first.lines
    assert hardness["expected"] == "100 ± 10"
    assert hardness["interval"] == "84 to 116"
    assert (hardness["chance"], density["chance"], cost["chance"]) == ("50.0", "25.0", "")
    assert (hardness["target"], cost["target"]) == ("500 ± 20", "")
    assert first.notes == [
        "all targets: 12.5 %",
        "nearest on record, 0.0 % apart: Ni 75.0  Al 25.0",
        "on record",
    ]
    assert second.lines[0]["chance"] == "> 99.9"
    assert second.notes == [
        "all targets: < 0.1 %",
        "nearest on record, 10.0 % apart: Ni 60.0  Al 40.0",
    ]


def test_what_was_simulated_stands_beside() -> None:
    outcomes = tuple(Outcome("ok", {"hardness_HV": 111.0}) for _ in range(2))
    about = {
        "records": 20,
        "interval": {"level": 0.9},
        "fidelity": dict.fromkeys(NAMES, "simulated"),
    }
    blocks = blocks_of(expectation(NAMES, outcomes=outcomes, about=about))
    assert blocks is not None
    first, _ = blocks
    assert "found" in first.columns
    assert [line["found"] for line in first.lines] == ["111", "", ""]
