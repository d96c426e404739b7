"""Candidates: what makes two designs one, what is refused, and the lever rule."""

from __future__ import annotations

import hashlib
import math
import struct
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from loop.candidate import Candidate, Origin, Outcome
from loop.errors import InvalidInputError

PHASES = ("gamma", "gamma_prime")
X = np.array([[0.7, 0.2, 0.1], [0.75, 0.25, 0.0]])
IMAGE = np.array([[0, 1, 1, 1], [0, 1, 0, 1]], dtype=np.uint8)


def make(**changes: Any) -> Candidate:
    parts: dict[str, Any] = {
        "phases": PHASES,
        "elements": ("Ni", "Al", "Re"),
        "microstructure": IMAGE,
        "phase_compositions": X,
        "process": {"temperature_K": 1373.0, "time_h": 4.0},
    }
    return Candidate(**{**parts, **changes})


@st.composite
def compositions(draw: st.DrawFn) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """(elements, (2, e) fractions); some elements are absent from both phases."""
    elements = draw(
        st.lists(st.sampled_from(["Ni", "Al", "Cr", "Co", "W", "C"]), min_size=1, unique=True)
    )
    amounts = np.array(
        [[draw(st.just(0.0) | st.floats(0.01, 1.0)) for _ in elements] for _ in PHASES]
    )
    amounts[:, draw(st.integers(0, len(elements) - 1))] += 0.5
    return tuple(elements), amounts / amounts.sum(axis=1, keepdims=True)


@given(compositions(), st.randoms(use_true_random=False))
def test_id_does_not_depend_on_the_order_of_elements_or_on_absent_ones(
    given_: tuple[tuple[str, ...], NDArray[np.float64]], random: Any
) -> None:
    elements, x = given_
    reference = make(elements=elements, phase_compositions=x)
    order = list(range(len(elements)))
    random.shuffle(order)
    turned = make(elements=tuple(elements[i] for i in order), phase_compositions=x[:, order])
    assert turned.id == reference.id
    assert turned == reference
    assert hash(turned) == hash(reference)
    wider = make(
        elements=("Zr", *elements, "Hf"),
        phase_compositions=np.pad(x, ((0, 0), (1, 1))),
    )
    assert wider.id == reference.id
    present = [j for j in range(len(elements)) if np.any(x[:, j] != 0)]
    narrow = make(elements=tuple(elements[j] for j in present), phase_compositions=x[:, present])
    assert narrow.id == reference.id


def test_id_is_of_the_content_alone() -> None:
    reference = make()
    assert reference.id == make(origin=Origin("library", 2.0, {"a": 1})).id
    assert reference.id == make(process={"time_h": 4, "temperature_K": 1373}).id
    assert reference.id == make(phase_compositions=X * (1 + 1e-14)).id
    signed = X.copy()
    signed[1, 2] = -0.0
    assert reference.id == make(phase_compositions=signed).id
    assert len(reference.id) == 32


def test_ids_are_the_same_in_every_version() -> None:
    """Ledgers hold them: SHA-256 over the parts as the class describes them, written out."""
    digest = hashlib.sha256(b"gamma|gamma_prime")
    digest.update(b"image(2, 4)" + bytes([0, 1, 1, 1, 0, 1, 0, 1]))
    for element, column in (("Al", 1), ("Ni", 0), ("Re", 2)):
        digest.update(element.encode() + struct.pack("<2d", *X[:, column]))
    digest.update(b"temperature_K=1373.0time_h=4.0")
    assert make().id == digest.hexdigest()[:32]


@pytest.mark.parametrize(
    "changes",
    [
        {"phases": ("gamma", "delta")},
        {"elements": ("Ni", "Al", "W")},
        {"elements": ("Al", "Ni", "Re")},
        {"microstructure": IMAGE.T},
        {"microstructure": IMAGE.reshape(1, 8)},
        {"microstructure": 1 - IMAGE},
        {"microstructure": None},
        {"phase_compositions": X[::-1]},
        {"phase_compositions": X + np.array([[1e-6, -1e-6, 0.0], [0.0, 0.0, 0.0]])},
        {"phase_compositions": None},
        {"process": {"temperature_K": 1374.0, "time_h": 4.0}},
        {"process": {"temperature_C": 1373.0, "time_h": 4.0}},
        {"process": {}},
    ],
)
def test_other_content_has_another_id(changes: dict[str, Any]) -> None:
    assert make(**changes).id != make().id


def test_a_candidate_cannot_be_changed() -> None:
    image, x = IMAGE.copy(), X.copy()
    candidate = make(microstructure=image, phase_compositions=x)
    image[:], x[:] = 0, 0.5
    np.testing.assert_array_equal(candidate.microstructure, IMAGE)
    np.testing.assert_array_equal(candidate.phase_compositions, X)
    assert candidate.microstructure is not None
    with pytest.raises(ValueError, match="read-only"):
        candidate.microstructure[0, 0] = 1
    with pytest.raises(TypeError):
        candidate.process["time_h"] = 5.0  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        candidate.phases = ("a",)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phases": ()}, "no phases"),
        ({"phases": ("gamma|gamma_prime", "eta")}, r"contains '\|'; rename the phase"),
        ({"phases": ("gamma", "")}, "phase name '' is empty"),
        ({"microstructure": None, "phase_compositions": None}, "neither"),
        ({"microstructure": IMAGE.astype(np.int64)}, "type int64; expected uint8"),
        ({"microstructure": IMAGE[0]}, r"shape \(4,\); expected \(h, w\)"),
        ({"microstructure": IMAGE[:0]}, "expected"),
        ({"microstructure": IMAGE + 1}, "label 2 but there are only 2 phases"),
        ({"phase_compositions": X[:, :2]}, r"shape \(2, 2\); expected \(2, 3\)"),
        ({"phase_compositions": X * 1.001}, "gamma sums to 1.001; expected 1 within 1e-09"),
        ({"phase_compositions": X * np.nan}, "not finite"),
        ({"phase_compositions": X + [[0.2, 0.0, -0.2]] * 2}, r"gamma has Re = -0.1"),
        ({"process": {"temperature_K": math.inf}}, "temperature_K is inf"),
    ],
)
def test_what_is_no_design_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        make(**changes)


def test_lever_rule() -> None:
    candidate = make()
    np.testing.assert_array_equal(candidate.phase_fractions(), [3 / 8, 5 / 8])
    np.testing.assert_allclose(
        candidate.composition(), 3 / 8 * X[0] + 5 / 8 * X[1], rtol=0, atol=1e-15
    )
    single = Candidate(("alloy",), ("Ni",), None, np.ones((1, 1)))
    np.testing.assert_array_equal(single.composition(), [1.0])
    with pytest.raises(InvalidInputError, match="fractions are unknown"):
        make(microstructure=None).composition()
    with pytest.raises(InvalidInputError, match="no phase compositions"):
        make(phase_compositions=None).composition()


@given(compositions(), st.integers(1, 7))
def test_overall_composition_lies_between_those_of_the_phases(
    given_: tuple[tuple[str, ...], NDArray[np.float64]], precipitate: int
) -> None:
    elements, x = given_
    image = (np.arange(8) < precipitate).astype(np.uint8).reshape(2, 4)
    overall = make(elements=elements, phase_compositions=x, microstructure=image).composition()
    assert abs(overall.sum() - 1) < 1e-9
    assert np.all(overall >= x.min(axis=0) - 1e-15)
    assert np.all(overall <= x.max(axis=0) + 1e-15)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"status": "fine"}, "expected one of"),
        ({"status": "failed"}, "without a reason"),
        ({"status": "infeasible", "reason": "r", "values": {"p": 1.0}}, "carries values"),
        ({"status": "ok", "values": {"p": math.nan}}, "mark it failed"),
        ({"status": "ok", "bounds": {"p": (2.0, 1.0)}}, "expected low <= high"),
        ({"status": "ok", "bounds": {"p": (math.nan, 1.0)}}, "expected low <= high"),
    ],
)
def test_outcomes_that_contradict_themselves_are_refused(
    given_: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Outcome(**given_)
    with pytest.raises(InvalidInputError, match="empty source"):
        Origin("")
