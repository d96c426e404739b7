"""Targets: parsing, distances in units of each target's scale, hits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop.errors import InvalidCampaignError
from loop.targets import Maximise, Minimise, Range, Target, Targets, Value, parse_target

# thousandths: squares of differences below 1e-160 vanish, which no property comes near
finite = st.integers(-(10**9), 10**9).map(lambda i: i / 1000)
positive = st.floats(1e-3, 1e3)
TARGETS: dict[str, tuple[dict[str, Any], Target]] = {
    "value": ({"value": 14, "tolerance": 0.1}, Value("p", 14.0, 0.1)),
    "range": ({"range": [8.0, 8.2]}, Range("p", 8.0, 8.2)),
    "maximise": ({"maximise": True}, Maximise("p")),
    "at least": ({"maximise": True, "at_least": 200, "scale": 5}, Maximise("p", 200.0, 5.0)),
    "minimise": ({"minimise": True}, Minimise("p")),
    "at most": ({"minimise": True, "at_most": 8.2}, Minimise("p", 8.2)),
}


@pytest.mark.parametrize("name", TARGETS)
def test_tables_become_targets(name: str) -> None:
    table, target = TARGETS[name]
    assert parse_target("p", table) == target


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "got keys none; expected exactly one of value"),
        ({"value": 1, "range": [0, 1]}, "got keys range, value; expected exactly one"),
        ({"vlaue": 1, "tolerance": 1}, "got keys tolerance, vlaue; expected exactly one"),
        ({"value": 1}, "value without tolerance; add tolerance"),
        ({"value": 1, "tolerance": 0}, "tolerance is 0; expected > 0"),
        ({"value": 1, "tolerance": -1}, "tolerance is -1; expected > 0"),
        ({"value": 1, "tolerance": 1, "scale": 2}, "unknown key 'scale'"),
        ({"value": "1", "tolerance": 1}, "value is '1'; expected a number"),
        ({"value": True, "tolerance": 1}, "value is True; expected a number"),
        ({"value": math.nan, "tolerance": 1}, "value is nan; expected a finite number"),
        ({"value": 1, "tolerance": math.inf}, "tolerance is inf; expected a finite number"),
        ({"range": [2, 1]}, r"range \(2, 1\); expected low < high \(swap them\?\)"),
        ({"range": [1, 1]}, "expected low < high"),
        ({"range": [1]}, r"range is \[1\]; expected \[low, high\]"),
        ({"range": "ab"}, r"range is 'ab'; expected \[low, high\]"),
        ({"range": 3}, r"range is 3; expected \[low, high\]"),
        ({"range": [1, "2"]}, "high is '2'; expected a number"),
        ({"range": [1, math.inf]}, "high is inf; expected a finite number"),
        ({"maximise": False}, "maximise is False; expected true"),
        ({"maximise": 1}, "maximise is 1; expected true"),
        ({"maximise": True, "at_most": 3}, "unknown key 'at_most'; did you mean 'at_least'"),
        ({"minimise": True, "scale": 0}, "scale is 0; expected > 0"),
        ({"minimise": True, "at_most": math.nan}, "threshold is nan; expected a finite"),
    ],
)
def test_tables_that_are_no_target(table: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidCampaignError, match=f"target p: .*{message}"):
        parse_target("p", table)


@given(finite, positive, st.floats(-50, 50))
@settings(deadline=None)
def test_value_counts_in_tolerances(value: float, tolerance: float, off: float) -> None:
    targets = Targets((Value("p", value, tolerance),))
    distance = targets.distance({"p": value + off * tolerance})
    # the limits are off by rounding of value and tolerance, at most 1e6 * 2^-52 each
    slack = 1e-8 / tolerance * 1e-1 + 1e-9 * abs(off)
    assert distance == pytest.approx(max(abs(off) - 1.0, 0.0), abs=slack)


@given(finite, positive, finite)
@settings(deadline=None)
def test_range_is_met_inside_only(low: float, width: float, value: float) -> None:
    targets = Targets((Range("p", low, low + width),))
    inside = low <= value <= low + width
    assert targets.met({"p": value}) == inside
    expected = max(low - value, value - (low + width), 0.0) / targets.scales()[0]
    assert targets.distance({"p": value}) == pytest.approx(expected, rel=1e-12)


def test_edges_of_a_target_are_hits() -> None:
    targets = Targets((Value("v", 14.0, 0.5), Range("r", 8.0, 8.25), Minimise("m", 3.0)))
    assert targets.met({"v": 13.5, "r": 8.25, "m": 3.0})
    assert targets.met({"v": 14.5, "r": 8.0, "m": -3.0})
    assert not targets.met({"v": 13.4999, "r": 8.25, "m": 3.0})


def test_distances_of_several_targets_add_as_squares() -> None:
    targets = Targets((Value("v", 10.0, 1.0), Range("r", 0.0, 2.0), Maximise("m", 5.0, 2.0)))
    values = {"v": 14.0, "r": -2.0, "m": 1.0}  # 3 tolerances, 2 half-widths, 2 scales off
    assert np.array_equal(targets.distances(np.array([[14.0, -2.0, 1.0]])), [[3.0, 2.0, 2.0]])
    assert targets.distance(values) == pytest.approx(np.sqrt(9 + 4 + 4), rel=1e-15)
    assert not targets.met(values)
    assert targets.properties == ("v", "r", "m")
    assert len(targets) == 3


def test_open_objectives_are_always_met_and_wanted_more() -> None:
    targets = Targets((Maximise("m"), Minimise("n"), Range("r", 0.0, 1.0)))
    assert targets.met({"m": -1e9, "n": 1e9, "r": 0.5})
    assert [t.name for t in targets.objectives()] == ["m", "n"]
    low, high = targets.limits()
    assert np.array_equal(low, [-np.inf, -np.inf, 0.0])
    assert np.array_equal(high, [np.inf, np.inf, 1.0])


def test_a_missing_property_is_never_a_hit() -> None:
    targets = Targets((Range("r", 0.0, 1.0), Maximise("m")))
    for values in ({}, {"r": 0.5}, {"r": 0.5, "m": math.nan}):
        assert targets.distance(values) == math.inf
        assert not targets.met(values)


def test_one_target_per_property() -> None:
    with pytest.raises(InvalidCampaignError, match="property r has two targets; merge them"):
        Targets((Range("r", 0.0, 1.0), Minimise("r")))
