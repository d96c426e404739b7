"""Labels of designs: identity, space, codes and features, and how children come by theirs."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.campaign import Campaign, load_campaign
from loop.candidate import Candidate, Origin
from loop.errors import InvalidCampaignError, InvalidInputError
from loop.features import Features
from loop.process_labels import (
    FREE,
    crossed_labels,
    drawn_codes,
    label_codes,
    moved_labels,
    named_labels,
    one_hot,
)
from loop.space import DesignSpace

ROUTES = ("CAST", "ANNEAL", "WROUGHT")
SPACE = DesignSpace(
    ("alloy",),
    ("Ni", "Al"),
    process={"temperature_K": (900.0, 1300.0)},
    labels={"processing": ROUTES, "quench": ("air", "oil")},
)
X = np.array([[0.75, 0.25]])
LABELS = {"processing": "CAST", "quench": "oil"}


def alloy(labels: dict[str, str] | None = None, x: np.ndarray = X) -> Candidate:
    given_ = LABELS if labels is None else labels
    return Candidate(("alloy",), ("Ni", "Al"), None, x, {"temperature_K": 1173.0}, labels=given_)


# Candidates


def test_ids_from_before_there_were_labels_stay() -> None:
    """Computed by the version of the program that knew no labels."""
    known = Candidate(("gamma",), ("Al", "Ni"), None, X[:, ::-1], {"temperature_K": 1173.0})
    assert known.id == "1a273c0926765baa5297fecf5586a444"
    image = np.array([[0, 1], [1, 1]], dtype=np.uint8)
    x = np.array([[0.25, 0.75], [0.5, 0.5]])
    assert Candidate(("a", "b"), ("Al", "Ni"), image, x).id == "11f0764312a11f965c0d499c22677d0f"


def test_labels_are_part_of_the_identity_and_their_order_is_not() -> None:
    turned = dict(reversed(LABELS.items()))
    assert alloy().id == alloy(turned).id
    others = [
        {},
        {"processing": "CAST"},
        {"processing": "CAST", "quench": "air"},
        {"processing": "oil", "quench": "CAST"},
        {"process": "CAST", "quench": "oil"},
        {"processing": 'CAST", "quench": "oil'},  # no text is the others' in disguise
    ]
    assert len({alloy(labels).id for labels in others} | {alloy().id}) == len(others) + 1


def test_labels_travel_between_processes_and_cannot_be_changed() -> None:
    there = pickle.loads(pickle.dumps(alloy()))
    assert there == alloy()
    assert dict(there.labels) == LABELS
    with pytest.raises(TypeError):
        there.labels["quench"] = "air"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"": "CAST"}, "the name of a label is ''; expected text that is not empty"),
        ({"processing": ""}, "label processing is ''"),
        ({"processing": " CAST"}, "label processing is ' CAST'; .* without spaces at its ends"),
        ({"processing": "as\ncast"}, "on one line"),
        ({"processing": 3}, "label processing is 3"),
        ({"temperature_K": "hot"}, "temperature_K is a label and a process variable"),
    ],
)
def test_labels_that_are_refused(labels: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        alloy(labels)


# Spaces and campaign files


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({}, "label processing is missing, expected one of CAST, ANNEAL, WROUGHT"),
        ({**LABELS, "processing": "cast"}, "label processing is 'cast', expected one of CAST"),
        ({**LABELS, "paint": "red"}, "has a label paint, none was expected"),
    ],
)
def test_what_a_space_says_of_labels(labels: dict[str, str], message: str) -> None:
    assert SPACE.violations(alloy()) == []
    assert any(message in violation for violation in SPACE.violations(alloy(labels)))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"processing": ()}, "space.labels.processing has no values; list at least one"),
        ({"processing": ("CAST", "CAST")}, "lists 'CAST' twice; list each value once"),
        ({"processing": ("CAST", "")}, "space.labels.processing: a value is ''"),
        ({" ": ("CAST",)}, "space.labels: a name is ' '"),
        ({"temperature_K": ("hot",)}, "temperature_K is in space.process and in space.labels"),
    ],
)
def test_impossible_labels_of_a_space(labels: Any, message: str) -> None:
    with pytest.raises(InvalidCampaignError, match=message):
        DesignSpace(("a",), ("Ni",), process={"temperature_K": (300.0, 400.0)}, labels=labels)


FILE = """
[campaign]
name = "test"
[space]
phases = ["alloy"]
elements = ["Ni", "Al"]
[space.labels]
processing = ["CAST", "ANNEAL"]
[compositions]
file = "table.csv"
[targets.hardness_HV]
maximise = true
[simulators]
use = ["measured"]
"""


def load(folder: Path, old: str = "", new: str = "") -> Campaign:
    assert old in FILE
    (folder / "campaign.toml").write_text(FILE.replace(old, new) if old else FILE)
    return load_campaign(folder)


def test_a_campaign_file_lists_them_in_order(tmp_path: Path) -> None:
    campaign = load(tmp_path)
    assert dict(campaign.space.labels) == {"processing": ("CAST", "ANNEAL")}
    assert campaign.settings["space"]["labels"] == {"processing": ["CAST", "ANNEAL"]}
    without = load(tmp_path, '[space.labels]\nprocessing = ["CAST", "ANNEAL"]\n')
    assert "labels" not in without.settings["space"]  # it keeps the hash that it had
    assert without.settings_hash() != campaign.settings_hash()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[space.labels]", "[space.lables]", "unknown key 'lables'; did you mean 'labels'"),
        ('["CAST", "ANNEAL"]', '"CAST"', "space.labels.processing is 'CAST'; expected a list"),
        ('["CAST", "ANNEAL"]', "[]", "space.labels.processing has no values"),
        ('["CAST", "ANNEAL"]', '["CAST", 3]', r"space.labels.processing.1 is 3"),
        ('["CAST", "ANNEAL"]', '["CAST", "CAST"]', "lists 'CAST' twice"),
        (
            '[compositions]\nfile = "table.csv"',
            '[library]\nsource = "heat-treatment"',
            r"\[library\] makes designs without labels; leave \[space.labels\] or \[library\] out",
        ),
    ],
)
def test_campaign_files_that_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(InvalidCampaignError, match=message):
        load(tmp_path, old, new)


# Codes and features

routes = st.fixed_dictionaries(
    {"processing": st.sampled_from(ROUTES), "quench": st.sampled_from(["air", "oil"])}
)


@given(st.lists(routes, min_size=1, max_size=6))
def test_codes_come_back_as_the_labels_and_one_hot_tells_all_apart(
    drawn: list[dict[str, str]],
) -> None:
    codes = label_codes(SPACE, [alloy(labels) for labels in drawn])
    assert [named_labels(SPACE, row) for row in codes] == drawn
    rows = one_hot(SPACE, codes)
    assert rows.shape == (len(drawn), 3)
    for labels, row in zip(drawn, rows.tolist(), strict=True):
        expected = [labels["processing"] == r for r in ROUTES[1:]] + [labels["quench"] == "oil"]
        assert row == [float(v) for v in expected]


def test_codes_of_labels_that_are_not_there() -> None:
    with pytest.raises(InvalidInputError, match="the label quench is missing"):
        label_codes(SPACE, [alloy({"processing": "CAST"})])
    with pytest.raises(InvalidInputError, match=r"label quench: unknown value 'oill'; .*'oil'"):
        label_codes(SPACE, [alloy({"processing": "CAST", "quench": "oill"})])


def test_features_have_a_column_for_each_value_but_the_first() -> None:
    labelled = [alloy({"processing": route, "quench": "air"}) for route in ROUTES]
    rows = Features.fit(SPACE, None).transform(labelled)
    # process, labels, composition without the first element
    assert rows.tolist() == [
        [1173.0, 0.0, 0.0, 0.0, 0.25],
        [1173.0, 1.0, 0.0, 0.0, 0.25],
        [1173.0, 0.0, 1.0, 0.0, 0.25],
    ]
    plain = DesignSpace(("alloy",), ("Ni", "Al"), process=SPACE.process)
    assert Features.fit(plain, None).transform([alloy({})]).tolist() == [[1173.0, 0.25]]


def test_drawn_codes_keep_what_is_known_and_draw_the_rest_evenly() -> None:
    n = 6000
    known = np.full((n, 2), FREE)
    known[: n // 2, 0] = 2
    codes = drawn_codes(SPACE, n, np.random.default_rng(0), known)
    assert np.all(codes[: n // 2, 0] == 2)
    shares = np.bincount(codes[n // 2 :, 0], minlength=3) / (n // 2)
    # Binomial standard deviation below 0.0087 of 3,000 draws; four of them.
    assert shares == pytest.approx(np.full(3, 1 / 3), abs=0.035)
    assert np.mean(codes[:, 1]) == pytest.approx(0.5, abs=0.03)


def test_a_space_without_labels_takes_nothing_from_the_stream() -> None:
    plain = DesignSpace(("alloy",), ("Ni", "Al"))
    used, fresh = np.random.default_rng(5), np.random.default_rng(5)
    assert drawn_codes(plain, 4, used).shape == (4, 0)
    assert moved_labels({}, plain, 1.0, used) == {}
    assert crossed_labels({}, {}, 1.0, used) == ({}, {})
    assert used.random() == fresh.random()


# Children


@given(routes, routes, st.integers(0, 2**32 - 1), st.floats(0.0, 1.0))
def test_crossed_labels_are_the_parents(
    first: dict[str, str], second: dict[str, str], seed: int, share: float
) -> None:
    one, other = crossed_labels(first, second, share, np.random.default_rng(seed))
    for name in first:
        assert sorted((one[name], other[name])) == sorted((first[name], second[name]))


def test_moved_labels_are_other_values_at_the_given_rate() -> None:
    rng = np.random.default_rng(1)
    assert moved_labels(LABELS, SPACE, 0.0, rng) == LABELS
    always = [moved_labels(LABELS, SPACE, 1.0, rng) for _ in range(400)]
    assert {labels["processing"] for labels in always} == {"ANNEAL", "WROUGHT"}
    assert {labels["quench"] for labels in always} == {"air"}
    changed = [moved_labels(LABELS, SPACE, 0.1, rng)["processing"] != "CAST" for _ in range(2000)]
    assert np.mean(changed) == pytest.approx(0.1, abs=4 * np.sqrt(0.1 * 0.9 / 2000))


def test_labels_of_another_space_are_replaced() -> None:
    moved = moved_labels({"processing": "cold"}, SPACE, 0.0, np.random.default_rng(2))
    assert SPACE.violations(alloy(moved)) == []
    single = DesignSpace(("alloy",), ("Ni",), labels={"processing": ("CAST",)})
    for before in ({}, {"processing": "cold"}, {"processing": "CAST"}):
        rng = np.random.default_rng(3)
        assert moved_labels(before, single, 1.0, rng) == {"processing": "CAST"}


def test_origin_stays_beside_labels() -> None:
    origin = Origin("library")
    made = Candidate(("alloy",), ("Ni", "Al"), None, X, {}, origin, LABELS)
    assert (made.origin, dict(made.labels)) == (origin, LABELS)
