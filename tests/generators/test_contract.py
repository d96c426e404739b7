"""What every generator of the registry owes the loop, in every kind of design space."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from generators import registry
from loop.candidate import Outcome, Record
from loop.library import Library
from loop.protocols import Generator
from tests import libraries

KINDS = list(libraries.SPACES)
NAMES = [
    *("bayesian", "diffusion", "gan", "genetic"),
    *("joint-flow", "library", "mutation", "random-field", "vae"),
]
# An autoencoder that has seen enough to tell two phases apart; the rest is hardly trained.
SETTINGS: dict[str, dict[str, Any]] = {
    "bayesian": {"batch": 4, "batches": 1},
    "diffusion": {"vae": {"steps": 60}},
    "joint-flow": {"vae": {"steps": 60}},
    "vae": {"vae": {"steps": 60}},
}


@cache
def library(kind: str) -> Library:
    return libraries.library(libraries.SPACES[kind])


@cache
def untrained(kind: str, name: str) -> Generator:
    space = libraries.SPACES[kind]
    return registry.create(
        name,
        space=space,
        library=library(kind),
        targets=libraries.targets(space),
        properties=libraries.properties(space),
        preset="tiny",
        settings=SETTINGS.get(name),
    )


def records(kind: str, seed: int = 0) -> list[Record]:
    """Scored designs, among them one that failed."""
    designs = library(kind).draw(49, rng=np.random.default_rng(seed))
    failed = Record(designs[48], Outcome.failed("did not converge"), "rule", "1", 0)
    return [*libraries.scored(designs[:48]), failed]


@cache
def fitted(kind: str, name: str) -> Generator:
    return untrained(kind, name).fit(records(kind), rng=np.random.default_rng(1))


def ids(generator: Generator, kind: str, seed: int = 3, guidance: float = 1.0) -> list[str]:
    targets = libraries.targets(libraries.SPACES[kind])
    rng = np.random.default_rng(seed)
    return [c.id for c in generator.propose(12, targets, guidance=guidance, rng=rng)]


# Those that refuse other spaces: ones without images, ones that are more than a composition.
IMAGES_ONLY, COMPOSITIONS_ONLY = {"random-field"}, {"bayesian"}
PAIRS = [
    (kind, name)
    for kind in KINDS
    for name in NAMES
    if name not in IMAGES_ONLY or libraries.SPACES[kind].image_shape
    if name not in COMPOSITIONS_ONLY or kind == "compositions"
]
pytestmark = pytest.mark.parametrize(("kind", "name"), PAIRS)


def test_it_is_a_generator(kind: str, name: str) -> None:
    for generator in (untrained(kind, name), fitted(kind, name)):
        assert isinstance(generator, Generator)
        assert generator.name == name


@pytest.mark.parametrize("guidance", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("asked", [True, False])
def test_proposals_are_designs_of_the_space(
    kind: str, name: str, guidance: float, asked: bool
) -> None:
    space = libraries.SPACES[kind]
    targets = libraries.targets(space) if asked else None
    for n in (0, 1, 9):
        found = fitted(kind, name).propose(
            n, targets, guidance=guidance, rng=np.random.default_rng(4)
        )
        assert len(found) <= n
        assert n == 0 or found
        for candidate in found:
            # A decoded image may show one phase only; then the gate turns it away.
            wrong = [v for v in space.violations(candidate) if "image is constant" not in v]
            assert wrong == []
            assert candidate.origin.source in (name, "library")


def test_absent_elements_are_exactly_absent(kind: str, name: str) -> None:
    """Half of the library's alloys lack an element: so do some of the proposals, exactly."""
    if not libraries.SPACES[kind].elements:
        return
    found = fitted(kind, name).propose(60, guidance=1.0, rng=np.random.default_rng(5))
    last = np.array([c.phase_compositions[:, -1] for c in found])  # type: ignore[index]
    assert (last == 0).any()
    assert (last > 0).any()
    assert not ((last > 0) & (last < 1e-9)).any()


def test_the_same_stream_gives_the_same_proposals(kind: str, name: str) -> None:
    generator = fitted(kind, name)
    assert ids(generator, kind) == ids(generator, kind)
    assert ids(generator, kind) != ids(generator, kind, seed=4)


def test_the_same_stream_gives_the_same_fit(kind: str, name: str) -> None:
    """And the records that it learned from are as they were."""
    given = records(kind)
    kept = [(r.candidate.id, dict(r.outcome.values)) for r in given]
    again = untrained(kind, name).fit(given, rng=np.random.default_rng(1))
    assert ids(again, kind) == ids(fitted(kind, name), kind)
    assert [(r.candidate.id, dict(r.outcome.values)) for r in given] == kept


def test_fitting_gives_a_new_object_and_leaves_the_old_one_as_it_was(kind: str, name: str) -> None:
    old = fitted(kind, name)
    before = ids(old, kind), ids(old, kind, guidance=2.0)
    new = old.fit(records(kind, seed=5), rng=np.random.default_rng(2))
    assert new is not old
    assert old is not untrained(kind, name)
    assert (ids(old, kind), ids(old, kind, guidance=2.0)) == before
    if name != "library":  # which has nothing to learn
        assert ids(new, kind) != before[0]
