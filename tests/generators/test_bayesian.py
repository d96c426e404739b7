"""Bayesian optimisation of compositions: feasible, new, and at a known optimum."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from generators.bayesian import Bayesian, BayesianSettings
from generators.settings import with_settings
from loop.candidate import Candidate, Record
from loop.errors import InvalidCampaignError
from loop.library import Library
from loop.space import DesignSpace
from loop.targets import Maximise, Range, Targets
from tests import libraries

SPACE = libraries.SPACES["compositions"]
DENSEST = Targets((Maximise("density"),))


@cache
def library() -> Library:
    return libraries.library(SPACE)


def records(n: int = 24, seed: int = 0) -> list[Record]:
    return libraries.scored(library().draw(n, rng=np.random.default_rng(seed)))


def untrained(space: DesignSpace = SPACE, targets: Targets = DENSEST, **given: Any) -> Bayesian:
    settings = with_settings("generator.settings", BayesianSettings(), {"batch": 4, **given})
    return Bayesian(space, library(), targets, settings)


def fitted(space: DesignSpace = SPACE, targets: Targets = DENSEST, **given: Any) -> Bayesian:
    return untrained(space, targets, **given).fit(records(), rng=np.random.default_rng(1))


def fractions(found: list[Candidate]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([c.composition() for c in found])


def test_it_finds_the_optimum_of_a_linear_property() -> None:
    """The densest composition of the bounds: Re at its most, Al and Cr at their least, Ni the rest.

    It lies outside of what the library has, of whose alloys the densest is 3 % lighter.
    """
    best = np.array([1.0 - 0.02 - 0.05 - 0.1, 0.02, 0.05, 0.1])
    found = fitted(within="space", batches=1).propose(4, rng=np.random.default_rng(2))
    densities = fractions(found) @ libraries.WEIGHTS
    known = max(r.outcome.values["density"] for r in records())
    limit = float(best @ libraries.WEIGHTS)
    assert known < 0.97 * limit
    assert densities.max() > 0.995 * limit
    assert densities.max() <= limit + 1e-9


def test_it_keeps_within_the_library_unless_told() -> None:
    table = library().table
    assert table is not None
    x = table[:, 0]
    found = fractions(fitted(batches=1).propose(4, rng=np.random.default_rng(2)))
    assert (found >= x.min(0) - 1e-9).all()
    assert (found <= x.max(0) + 1e-9).all()
    # The densest of those amounts is at the library's own limits.
    assert found[:, 3].max() == pytest.approx(x[:, 3].max(), abs=0.005)


def test_constraints_bounds_and_zeros_hold() -> None:
    space = DesignSpace(
        ("a",),
        libraries.ELEMENTS,
        None,
        {"a": libraries.BOUNDS},
        constraints=("Al + Cr >= 0.3", "at most 3 elements"),
    )
    found = fitted(space).propose(20, rng=np.random.default_rng(3))
    assert len(found) == 8  # two batches of four
    assert len({c.id for c in found}) == 8
    x = fractions(found)
    for candidate in found:
        assert space.violations(candidate) == []
        assert candidate.origin.source == "bayesian"
    assert (x[:, 1] + x[:, 2] >= 0.3 - 1e-9).all()
    assert (np.count_nonzero(x, axis=1) <= 3).all()
    assert (x[:, 3] == 0).all()  # the others cannot be left out
    assert [c.origin.details["batch"] for c in found] == [1] * 4 + [2] * 4


def test_proposals_follow_the_stream_and_are_not_on_record() -> None:
    targets = Targets((Range("density", 8.0, 8.3),))
    generator = fitted(targets=targets, batches=1)
    ids = [
        [c.id for c in generator.propose(3, rng=np.random.default_rng(seed))] for seed in (3, 3, 4)
    ]
    assert ids[0] == ids[1] != ids[2]
    assert not set(ids[0]) & {r.candidate.id for r in records()}
    densities = fractions(generator.propose(3, rng=np.random.default_rng(3))) @ libraries.WEIGHTS
    assert ((densities > 8.0) & (densities < 8.3)).all()  # of a linear property it is sure


def test_other_targets_than_the_campaigns_are_aimed_at() -> None:
    lightest = Targets((Range("density", 7.3, 7.6),))
    found = fitted(batches=1).propose(2, lightest, guidance=1.0, rng=np.random.default_rng(5))
    densities = fractions(found) @ libraries.WEIGHTS
    assert ((densities > 7.3) & (densities < 7.6)).all()


def test_without_enough_records_the_library_is_drawn_from() -> None:
    few = untrained().fit(records(7), rng=np.random.default_rng(1))
    found = few.propose(3, rng=np.random.default_rng(2))
    assert [c.origin.source for c in found] == ["library"] * 3
    assert few.propose(0, rng=np.random.default_rng(2)) == []
    assert (
        untrained().fit([], rng=np.random.default_rng(1)).propose(1, rng=np.random.default_rng(2))
    )


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("image", "has no elements and has images and has 2 phases"),
        ("image and compositions", "has images and has 2 phases"),
        ("process", r"has process variables \(temperature_K\); use joint-flow"),
    ],
)
def test_other_design_spaces_are_refused(kind: str, reason: str) -> None:
    space = libraries.SPACES[kind]
    with pytest.raises(InvalidCampaignError, match=reason):
        Bayesian(space, libraries.library(space), libraries.targets(space))


def test_settings_that_cannot_be_used_say_so() -> None:
    with pytest.raises(InvalidCampaignError, match="expected library or space"):
        untrained(within="everywhere")
    with pytest.raises(InvalidCampaignError, match="diversity is 0; expected a number above 0"):
        untrained(diversity=0.0)
    with pytest.raises(InvalidCampaignError, match="batches is 0; expected a whole number > 0"):
        untrained(batches=0)
    beyond = DesignSpace(
        ("a",), libraries.ELEMENTS, None, {"a": libraries.BOUNDS}, constraints=("Re >= 0.09",)
    )
    with pytest.raises(InvalidCampaignError, match=r"within is 'library', and then .* 'space'"):
        untrained(beyond)
    assert untrained(beyond, within="space").allowed.at_most is None
