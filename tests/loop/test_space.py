"""DesignSpace: what it refuses to be, and what it says of candidates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop.candidate import Candidate
from loop.composition import project_to_bounds
from loop.errors import InvalidCampaignError
from loop.space import DesignSpace

ELEMENTS = ("Ni", "Al", "Cr")
BOUNDS = {"a": {"Al": (0.0, 0.2), "Cr": (0.05, 0.3)}, "b": {"Ni": (0.6, 0.8), "Cr": (0.0, 0.0)}}


def _space(**changes: Any) -> DesignSpace:
    settings_: dict[str, Any] = {
        "phases": ("a", "b"),
        "elements": ELEMENTS,
        "image_shape": (4, 4),
        "bounds": BOUNDS,
        "process": {"temperature_K": (900.0, 1300.0)},
    }
    return DesignSpace(**{**settings_, **changes})


def _candidate(**changes: Any) -> Candidate:
    image = np.zeros((4, 4), dtype=np.uint8)
    image[0, 0] = 1
    parts: dict[str, Any] = {
        "phases": ("a", "b"),
        "elements": ELEMENTS,
        "microstructure": image,
        "phase_compositions": np.array([[0.7, 0.1, 0.2], [0.75, 0.25, 0.0]]),
        "process": {"temperature_K": 1000.0},
    }
    return Candidate(**{**parts, **changes})


def test_bound_arrays_default_to_zero_and_one() -> None:
    low, high = _space().bound_arrays()
    assert np.array_equal(low, [[0, 0, 0.05], [0.6, 0, 0]])
    assert np.array_equal(high, [[1, 0.2, 0.3], [0.8, 1, 0]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phases": ()}, "no phases"),
        ({"phases": ("a", "a")}, "phase a is listed twice"),
        ({"phases": ("a|b", "c"), "bounds": {}}, r"space\.phases: phase name 'a\|b' .* rename"),
        ({"process": {"temperature_K": (1300.0, 900.0)}}, r"temperature_K is \(1300, 900\)"),
        ({"process": {"temperature_K": (900.0, float("inf"))}}, "expected finite low <= high"),
        ({"elements": ("Ni", "Ni", "Cr"), "bounds": {}}, "element Ni is listed twice"),
        ({"elements": (), "bounds": {}, "image_shape": None}, "neither elements nor images"),
        ({"bounds": {"aa": {}}}, "unknown phase 'aa'; did you mean 'a'"),
        ({"bounds": {"a": {"Cx": (0, 1)}}}, r"space\.bounds\.a: unknown element 'Cx'; .*'Cr'"),
        ({"bounds": {"a": {"Ni": (0.5, 0.4)}}}, r"\(0\.5, 0\.4\); expected 0 <= low <= high <= 1"),
        ({"bounds": {"a": {"Ni": (-0.1, 0.4)}}}, "expected 0 <= low"),
        ({"bounds": {"a": {"Ni": (0.5, 1.4)}}}, "expected 0 <= low"),
        ({"bounds": {"a": {"Ni": (0.9, 1), "Al": (0.2, 1)}}}, r"sum to 1\.1 \(Ni 0\.9, Al 0\.2\)"),
        (
            {"bounds": {"a": {"Ni": (0, 0.2), "Al": (0, 0.2), "Cr": (0, 0.2)}}},
            r"upper bounds sum to 0\.6 .*raise one of them",
        ),
    ],
)
def test_impossible_spaces(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidCampaignError, match=message):
        _space(**changes)


def test_valid_candidate() -> None:
    assert _space().violations(_candidate()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phases": ("b", "a")}, "phases are ('b', 'a'), expected ('a', 'b')"),
        ({"microstructure": None}, "has no image"),
        ({"microstructure": np.eye(5, dtype=np.uint8)}, "shape (5, 5), expected (4, 4)"),
        ({"microstructure": np.zeros((4, 4), dtype=np.uint8)}, "constant: only a is present"),
        ({"microstructure": np.ones((4, 4), dtype=np.uint8)}, "constant: only b is present"),
        ({"phase_compositions": None}, "has no compositions"),
        ({"elements": ("Ni", "Cr", "Al")}, "elements are ('Ni', 'Cr', 'Al')"),
        (
            {"phase_compositions": np.array([[0.5, 0.3, 0.2], [0.75, 0.25, 0.0]])},
            "a has Al = 0.3000, outside [0, 0.2]",
        ),
        (
            {"phase_compositions": np.array([[0.7, 0.1, 0.2], [0.75, 0.24, 0.01]])},
            "b has Cr = 0.0100, outside [0, 0]",
        ),
        ({"process": {}}, "process temperature_K is None, outside [900, 1300]"),
        ({"process": {"temperature_K": 1301.0}}, "process temperature_K is 1301.0"),
    ],
)
def test_violations_are_named(changes: dict[str, Any], message: str) -> None:
    (found,) = _space().violations(_candidate(**changes))
    assert message in found


def test_every_violation_is_named() -> None:
    candidate = _candidate(
        microstructure=np.zeros((4, 4), dtype=np.uint8),
        phase_compositions=np.array([[0.5, 0.3, 0.2], [0.5, 0.25, 0.25]]),
        process={"temperature_K": 0.0},
    )
    assert len(_space().violations(candidate)) == 1 + 3 + 1


def test_parts_that_were_not_asked_for() -> None:
    assert _space(image_shape=None).violations(_candidate()) == ["has an image, none was expected"]
    without = _space(elements=(), bounds={})
    assert without.violations(_candidate()) == ["has compositions, none expected"]


def test_single_phase_images_are_constant() -> None:
    space = DesignSpace(phases=("a",), image_shape=(4, 4))
    image = np.zeros((4, 4), dtype=np.uint8)
    assert space.violations(Candidate(phases=("a",), microstructure=image)) == []


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 5.0))
@settings(deadline=None, max_examples=50)
def test_what_is_projected_onto_the_bounds_is_valid(seed: int, spread: float) -> None:
    space = _space()
    x = np.random.default_rng(seed).normal(1 / 3, spread, size=(2, 3))
    projected = project_to_bounds(x, *space.bound_arrays(), zero_below=1e-4)
    assert space.violations(_candidate(phase_compositions=projected)) == []
