"""Constraints of a design space: read, checked, and kept by what is proposed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from loop.campaign import load_campaign
from loop.candidate import Candidate, Origin
from loop.errors import InvalidCampaignError, InvalidInputError
from loop.feasible import within_constraints
from loop.known_alloys import DIFFERENCE, KnownAlloys, with_difference
from loop.space import DesignSpace

ELEMENTS = ("Ni", "Al", "Co", "Cr", "Fe", "Ti")
BOUNDS = {"alloy": {"Al": (0.0, 0.4), "Ni": (0.05, 1.0)}}
CONSTRAINTS = ("at most 4 elements", "Ni + Co >= 0.3", "Fe:Cr = 2:1")
SPACE = DesignSpace(("alloy",), ELEMENTS, bounds=BOUNDS, constraints=CONSTRAINTS)


def alloys(x: np.ndarray) -> list[Candidate]:
    origin = Origin("test", 2.0, {"asked": 1})
    return [Candidate(("alloy",), ELEMENTS, None, row[None], origin=origin) for row in x]


def test_everything_proposed_is_moved_to_what_is_allowed() -> None:
    rng = np.random.default_rng(5)
    moved = within_constraints(SPACE, alloys(rng.dirichlet(np.full(6, 0.7), 60)))
    for candidate in moved:
        assert SPACE.violations(candidate) == []
        assert candidate.phase_compositions is not None
        assert np.count_nonzero(candidate.phase_compositions) <= 4


def test_what_is_allowed_stays_and_what_was_moved_says_how_far() -> None:
    fine, poor = alloys(np.array([[0.4, 0.3, 0, 0.1, 0.2, 0], [0.1, 0.3, 0, 0, 0, 0.6]]))
    first, second = within_constraints(SPACE, [fine, poor])
    assert first is fine
    # Nearest with Ni + Co = 0.3 and no Fe, Cr: Ni takes 0.2, half of it from Al, half from Ti,
    # unless Co comes in: (0.15, 0.25, 0.1, ..., 0.5) with Ni, Co each up by the same step.
    x = second.phase_compositions
    assert x is not None
    np.testing.assert_allclose(x[0], [0.2, 0.2, 0.1, 0, 0, 0.5], atol=1e-9)
    assert second.origin.details["moved_to_constraints"] == pytest.approx(0.2)
    assert (second.origin.guidance, second.origin.details["asked"]) == (2.0, 1)


def test_without_constraints_nothing_is_looked_at() -> None:
    space = DesignSpace(("alloy",), ELEMENTS)
    given = alloys(np.full((1, 6), 1 / 6))
    assert within_constraints(space, given) == given


def test_each_of_several_phases_is_moved_for_itself() -> None:
    space = DesignSpace(
        ("a", "b", "c"),
        ELEMENTS,
        bounds={"a": {"Al": (0.0, 0.4)}},
        phase_constraints={"a": ("Ni + Co >= 0.5",), "b": ("at most 2 elements",)},
    )
    assert (space.constrained, DesignSpace(("a", "b"), ELEMENTS).constrained) == (True, False)
    x = np.full((3, 6), 1 / 6)
    x[1] = [0.4, 0.3, 0.1, 0.1, 0.1, 0.0]
    (design,) = [Candidate(space.phases, ELEMENTS, None, x)]
    assert space.violations(design) == [
        "space.constraints.a: Ni + Co >= 0.5 (it is 0.333333)",
        "space.constraints.b: at most 2 elements (there are 5)",
    ]
    (moved,) = within_constraints(space, [design])
    assert space.violations(moved) == []
    found = moved.phase_compositions
    assert found is not None
    # Ni and Co share what is missing of a sum of 0.5, the others give it evenly.
    np.testing.assert_allclose(found[0], [0.25, 0.125, 0.25, 0.125, 0.125, 0.125], atol=1e-12)
    np.testing.assert_allclose(found[1], [0.55, 0.45, 0, 0, 0, 0], atol=1e-12)
    np.testing.assert_array_equal(found[2], x[2])
    far = np.sqrt(2 * (1 / 12) ** 2 + 4 / 24**2 + 2 * 0.15**2 + 3 * 0.1**2)
    assert moved.origin.details["moved_to_constraints"] == pytest.approx(far)


def test_what_was_said_of_another_composition_is_said_no_more() -> None:
    known = KnownAlloys([[0.1, 0.3, 0, 0, 0, 0.6]])
    fine, poor = alloys(np.array([[0.4, 0.3, 0, 0.1, 0.2, 0], [0.1, 0.3, 0, 0, 0, 0.6]]))
    before = with_difference([fine, poor], known)
    assert [c.origin.details[DIFFERENCE] for c in before] == pytest.approx([1.2, 0.0])
    after = within_constraints(SPACE, before)
    assert after[0] is before[0]
    assert DIFFERENCE not in after[1].origin.details
    # (0.2, 0.2, 0.1, 0, 0, 0.5): see above.
    again = with_difference(after, known)
    assert [c.origin.details[DIFFERENCE] for c in again] == pytest.approx([1.2, 0.4])
    assert again[1].origin.details["moved_to_constraints"] == pytest.approx(0.2)
    assert (again[1].id, again[1].origin.guidance) == (after[1].id, 2.0)
    assert with_difference(after, None) == after


def test_violations_name_the_constraint_and_the_value() -> None:
    (candidate,) = alloys(np.array([[0.1, 0.3, 0, 0, 0, 0.6]]))
    assert SPACE.violations(candidate) == ["space.constraints: Ni + Co >= 0.3 (it is 0.1)"]


@pytest.mark.parametrize(
    ("constraints", "words"),
    [
        (("Ni + Co >= 0.9", "Ni + Co <= 0.2"), "exclude one another"),
        (("Al >= 0.5",), "bounds of Al contradict"),
        (("Xx >= 0.5",), "unknown element 'Xx'"),
        (("mostly Ni",), "cannot be read"),
    ],
)
def test_constraints_that_leave_nothing_or_cannot_be_read(
    constraints: tuple[str, ...], words: str
) -> None:
    with pytest.raises(InvalidCampaignError, match=words):
        DesignSpace(("alloy",), ELEMENTS, bounds=BOUNDS, constraints=constraints)


def test_a_list_of_constraints_is_for_one_phase() -> None:
    with pytest.raises(InvalidCampaignError, match=r"give a table \[space\.constraints\]"):
        DesignSpace(("a", "b"), ELEMENTS, constraints=("Ni >= 0.1",))
    with pytest.raises(InvalidCampaignError, match=r"space\.constraints: unknown phase 'c'"):
        DesignSpace(("a", "b"), ELEMENTS, phase_constraints={"c": ("Ni >= 0.1",)})
    with pytest.raises(InvalidCampaignError, match=r"space\.constraints\.b: .*exclude one another"):
        DesignSpace(("a", "b"), ELEMENTS, phase_constraints={"b": ("Ni+Al >= 1", "Ni+Al <= 0.5")})
    with pytest.raises(InvalidCampaignError, match="this space has no elements"):
        DesignSpace(("a", "b"), (), (32, 32), phase_constraints={"a": ("Ni >= 0.1",)})
    with pytest.raises(InvalidInputError, match="unknown phase 'b'"):
        SPACE.allowed("b")


CAMPAIGN = """
[campaign]
name = "a"
[space]
phases = ["alloy"]
elements = ["Al", "Ni"]
{line}
[compositions]
file = "x.csv"
[targets.density_g_per_cm3]
minimise = true
[simulators]
use = ["measured"]
"""


def test_a_campaign_file_has_them_and_without_them_keeps_its_hash(tmp_path: Path) -> None:
    file = tmp_path / "campaign.toml"
    file.write_text(CAMPAIGN.format(line=""))
    before = load_campaign(file)
    assert "constraints" not in before.settings["space"]
    file.write_text(CAMPAIGN.format(line='constraints = ["Ni >= 0.5"]'))
    campaign = load_campaign(file)
    assert campaign.space.constraints == ("Ni >= 0.5",)
    assert campaign.settings_hash() != before.settings_hash()
    file.write_text(CAMPAIGN.format(line='constraints = ["Ni >= 1.5"]'))
    with pytest.raises(InvalidCampaignError, match=r"campaign\.toml: space\.constraints"):
        load_campaign(file)
    # A table that names the one phase says the same, and so has the same hash.
    file.write_text(CAMPAIGN.format(line='constraints = { alloy = ["Ni >= 0.5"] }'))
    named = load_campaign(file)
    assert named.space.constraints == ("Ni >= 0.5",)
    assert named.settings_hash() == campaign.settings_hash()
    two = CAMPAIGN.replace('phases = ["alloy"]', 'phases = ["a", "b"]')
    file.write_text(two.format(line='constraints = { b = ["Ni >= 0.5"] }'))
    assert load_campaign(file).space.constraints_of("b") == ("Ni >= 0.5",)
    assert load_campaign(file).settings["space"]["constraints"] == {"b": ["Ni >= 0.5"]}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('constraints = "Ni >= 0.5"', r"space\.constraints is 'Ni >= 0\.5'; expected a list"),
        ("constraints = [0.5]", r"space\.constraints\.0 is 0\.5"),
        (
            'constraints = { alloy = "Ni >= 0.5" }',
            r"space\.constraints\.alloy is .*expected a list",
        ),
        ('constraints = { aloy = ["Ni >= 0.5"] }', r"unknown phase 'aloy'.*alloy"),
    ],
)
def test_constraints_of_another_form(tmp_path: Path, line: str, words: str) -> None:
    (tmp_path / "campaign.toml").write_text(CAMPAIGN.format(line=line))
    with pytest.raises(InvalidCampaignError, match=words):
        load_campaign(tmp_path)
