"""Constraints of a design space: read, checked, and kept by what is proposed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from loop.campaign import load_campaign
from loop.candidate import Candidate, Origin
from loop.errors import InvalidCampaignError, InvalidInputError
from loop.feasible import within_constraints
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


def test_constraints_are_for_one_phase() -> None:
    with pytest.raises(InvalidCampaignError, match="designs of one phase"):
        DesignSpace(("a", "b"), ELEMENTS, constraints=("Ni >= 0.1",))
    with pytest.raises(InvalidInputError, match="unknown phase 'b'"):
        SPACE.allowed("b")


def test_a_campaign_file_has_them_and_without_them_keeps_its_hash(tmp_path: Path) -> None:
    text = """
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
    file = tmp_path / "campaign.toml"
    file.write_text(text.format(line=""))
    before = load_campaign(file)
    assert "constraints" not in before.settings["space"]
    file.write_text(text.format(line='constraints = ["Ni >= 0.5"]'))
    campaign = load_campaign(file)
    assert campaign.space.constraints == ("Ni >= 0.5",)
    assert campaign.settings_hash() != before.settings_hash()
    file.write_text(text.format(line='constraints = ["Ni >= 1.5"]'))
    with pytest.raises(InvalidCampaignError, match=r"campaign\.toml: space\.constraints"):
        load_campaign(file)
