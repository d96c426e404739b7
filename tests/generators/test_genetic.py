"""The genetic algorithm: feasible, elitist, without duplicates, and it finds a known optimum."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generators.genetic import Genetic, GeneticSettings, objectives
from generators.settings import with_settings
from loop.candidate import Candidate, Outcome, Record
from loop.errors import InvalidCampaignError
from loop.library import Library
from loop.protocols import Generator
from loop.space import DesignSpace
from loop.targets import Maximise, Minimise, Range, Targets, Value
from tests import libraries

KINDS = list(libraries.SPACES)


@cache
def library(kind: str) -> Library:
    return libraries.library(libraries.SPACES[kind])


def untrained(kind: str, **given: Any) -> Genetic:
    space = libraries.SPACES[kind]
    return Genetic(space, library(kind), libraries.targets(space), GeneticSettings(**given))


def records(kind: str, n: int = 60, seed: int = 0) -> list[Record]:
    return libraries.scored(library(kind).draw(n, rng=np.random.default_rng(seed)))


def fitted(kind: str, **given: Any) -> Genetic:
    return untrained(kind, **given).fit(records(kind), rng=np.random.default_rng(1))


# What every generator owes


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_a_generator_and_follows_its_stream(kind: str) -> None:
    generator = fitted(kind)
    assert isinstance(generator, Generator)
    ids = [[c.id for c in generator.propose(9, rng=np.random.default_rng(s))] for s in (3, 3, 4)]
    assert ids[0] == ids[1] != ids[2]
    new = generator.fit(records(kind, seed=5), rng=np.random.default_rng(2))
    assert [c.id for c in generator.propose(9, rng=np.random.default_rng(3))] == ids[0]
    assert [c.id for c in new.propose(9, rng=np.random.default_rng(3))] != ids[0]
    assert generator.propose(0, rng=np.random.default_rng(3)) == []


@settings(max_examples=25)
@given(
    st.sampled_from(KINDS),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.01, 0.3, 3.0]),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_children_are_feasible_new_and_unlike(
    kind: str, seed: int, step: float, share: float
) -> None:
    """However large the steps; on the bounds within 1e-9, and absent is exactly 0."""
    space = libraries.SPACES[kind]
    generator = fitted(kind, step=step, cut=share, cross=1 - share / 2, immigrants=share / 3, eta=0)
    known = {r.candidate.id for r in records(kind)}
    found = generator.propose(16, guidance=1.0, rng=np.random.default_rng(seed))
    assert len({c.id for c in found} - known) == len(found) == 16
    for child in found:
        assert space.violations(child) == []
        assert child.origin.source == "genetic"
        x = child.phase_compositions
        if x is not None:
            assert np.abs(x.sum(1) - 1).max() <= 1e-9
            assert not ((x > 0) & (x < 1e-9)).any()


def test_absent_elements_come_from_parents_alone() -> None:
    """What neither parent has no child has; where one has it, some children do and some do not."""
    kind = "compositions"
    generator = fitted(kind, immigrants=0.0, population=60)
    known = {r.candidate.id: r.candidate for r in records(kind)}
    single = []
    for child in generator.propose(300, rng=np.random.default_rng(0)):
        pair = [known[name] for name in child.origin.details["parents"] if name in known]
        if len(pair) < 2:
            continue
        has = [bool(c.phase_compositions[0, 3]) for c in (*pair, child)]  # type: ignore[index]
        assert has[2] <= (has[0] or has[1])
        if has[0] != has[1]:
            single.append(has[2])
    # Each pair has one child with it; mutation may take it away, never bring it back.
    assert 0.3 < np.mean(single) < 0.6


# Selection


def scored(**columns: list[float]) -> list[Record]:
    """Records with these values, their designs of the library."""
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    designs = library("compositions").draw(len(rows), rng=np.random.default_rng(0))
    return [Record(c, Outcome("ok", v), "r", "1", 0) for c, v in zip(designs, rows, strict=True)]


def parents(given: list[Record], targets: Targets, **settings: Any) -> list[int]:
    """Places in ``given`` of the population, best first."""
    generator = untrained("compositions", **settings).fit(given, rng=np.random.default_rng(0))
    place = {r.candidate.id: i for i, r in enumerate(given)}
    return [place[c.id] for c in generator.parents(targets)]


def test_objectives_are_distances_and_what_is_to_grow_or_shrink() -> None:
    targets = Targets((Value("a", 1.0, 0.5), Range("b", 0.0, 2.0), Maximise("c"), Minimise("d")))
    values = np.array([[1.2, 4.0, 3.0, 3.0], [3.0, 1.0, -1.0, 0.0]])
    assert objectives(values, targets).tolist() == [[0.0, 2.0, -3.0, 3.0], [3.0, 0.0, 1.0, 0.0]]


def test_pareto_keeps_what_is_best_in_anything() -> None:
    given = scored(a=[0.0, 9.0, 5.0, 6.0], b=[9.0, 0.0, 5.0, 6.0])
    targets = Targets((Value("a", 0.0, 1.0), Value("b", 0.0, 1.0)))
    found = parents(given, targets, selection="pareto")
    assert set(found[:2]) == {0, 1}
    assert found[2:] == [2, 3]
    assert parents(given, targets, selection="pareto", population=3) == found[:3]


def test_constrained_ranks_by_violation_and_then_by_fronts() -> None:
    """Records 0 and 3 meet the range; of these 3 is better in both objectives."""
    given = scored(
        a=[0.5, 3.0, 2.0, 0.1, 0.9], b=[1.0, 9.0, 9.0, 2.0, 1.5], c=[2.0, 0, 0, 1.0, 1.0]
    )
    targets = Targets((Range("a", 0.0, 1.0), Maximise("b"), Minimise("c")))
    assert parents(given, targets) == [3, 4, 0, 2, 1]
    only = Targets((Range("a", 0.0, 1.0),))
    assert parents(given, only)[3:] == [2, 1]


def test_records_without_the_values_are_no_parents_and_targets_may_change() -> None:
    given = [*scored(a=[3.0, 1.0, 2.0]), *records("compositions", 8, seed=3)]
    assert parents(given, Targets((Value("a", 0.0, 1.0),))) == [1, 2, 0]
    assert len(parents(given, Targets((Value("density", 8.0, 1.0),)))) == 8
    assert parents(given, Targets((Value("nothing", 0.0, 1.0),))) == []
    assert len(parents(given, Targets(()))) == 11


def test_the_best_are_never_lost() -> None:
    """Elitism: of all records, however old, the nearest is the first parent."""
    given = records("compositions", 200)
    best = min(given, key=lambda r: abs(r.outcome.values["density"] - 8.0))
    targets = Targets((Value("density", 8.0, 1e-6),))
    generator = untrained("compositions").fit(
        [best, *records("compositions", 60, seed=9), *given], rng=np.random.default_rng(0)
    )
    assert generator.parents(targets)[0].id == best.candidate.id
    assert len(generator.parents(targets)) == generator.settings.population


def test_without_parents_designs_of_the_library() -> None:
    failed = [Record(r.candidate, Outcome.failed("no"), "r", "1", 0) for r in records("image", 5)]
    generator = untrained("image").fit(failed, rng=np.random.default_rng(0))
    found = generator.propose(7, rng=np.random.default_rng(3))
    assert {c.origin.source for c in found} == {"library"}
    assert len({c.id for c in found}) == 7


# Images


def test_images_are_cut_and_pasted_from_the_parents() -> None:
    generator = fitted("image", immigrants=0.0)
    known = {r.candidate.id: r.candidate for r in records("image")}
    mixed = 0
    for child in generator.propose(40, rng=np.random.default_rng(0)):
        pair = [known.get(name) for name in child.origin.details["parents"]]
        if None in pair:
            continue
        one, other = (np.asarray(c.microstructure) for c in pair if c is not None)
        image = np.asarray(child.microstructure)
        assert np.all((image == one) | (image == other))
        mixed += not np.array_equal(image, one) and not np.array_equal(image, other)
    assert mixed > 20


def test_a_cut_that_leaves_one_phase_is_not_taken() -> None:
    """Each parent has its second phase in one corner: most rectangles miss one of them."""
    space = libraries.SPACES["image"]
    corners = np.zeros((2, 32, 32), dtype=np.uint8)
    corners[0, :2, :2] = corners[1, -2:, -2:] = 1
    given = [
        Record(Candidate(space.phases, (), c), Outcome("ok", {"fraction": 0.0}), "r", "1", 0)
        for c in corners
    ]
    generator = untrained("image", immigrants=0.0).fit(given, rng=np.random.default_rng(0))
    for child in generator.propose(20, rng=np.random.default_rng(1)):
        assert space.violations(child) == []


def test_images_come_whole_where_nothing_is_cut() -> None:
    kind = "image and compositions"
    generator = fitted(kind, cut=0.0, immigrants=0.0, population=60)
    images = {r.candidate.microstructure.tobytes() for r in records(kind)}  # type: ignore[union-attr]
    known = {r.candidate.id for r in records(kind)}
    for child in generator.propose(40, rng=np.random.default_rng(0)):
        assert child.microstructure is not None
        if set(child.origin.details["parents"]) <= known:
            assert child.microstructure.tobytes() in images


# It works


def test_it_finds_a_known_optimum() -> None:
    """An alloy is wanted whose last element is absent; only the distances to it are told.

    From 60 random designs, 15 generations of 40; the library's nearest of as many is far off.
    """
    optimum = np.array([0.55, 0.27, 0.18, 0.0])
    targets = Targets(
        tuple(Value(k, v, 1e-3) for k, v in zip(libraries.ELEMENTS, optimum, strict=True))
    )

    def score(c: Candidate) -> dict[str, float]:
        assert c.phase_compositions is not None
        return dict(zip(libraries.ELEMENTS, c.phase_compositions[0].tolist(), strict=True))

    def told(designs: list[Candidate]) -> list[Record]:
        return [Record(c, Outcome("ok", score(c)), "r", "1", 0) for c in designs]

    kind = "compositions"
    rng = np.random.default_rng(0)
    seen = told(library(kind).draw(60, rng=rng))
    generator = Genetic(libraries.SPACES[kind], library(kind), targets)
    distances = []
    for _ in range(15):
        generator = generator.fit(seen, rng=rng)
        seen += told(generator.propose(40, rng=rng))
        distances.append(min(targets.distance(r.outcome.values) for r in seen))
    assert np.all(np.diff(distances) <= 0)
    best = min(seen, key=lambda r: targets.distance(r.outcome.values)).candidate
    assert best.phase_compositions is not None
    assert best.phase_compositions[0, 3] == 0.0
    assert np.abs(best.phase_compositions[0] - optimum).max() < 0.01
    other = told(library(kind).draw(660, rng=rng))
    assert distances[-1] < 0.1 * min(targets.distance(r.outcome.values) for r in other)


# Settings


@pytest.mark.parametrize("name", ["cross", "mutate", "cut", "immigrants"])
def test_shares_above_one_are_refused(name: str) -> None:
    with pytest.raises(InvalidCampaignError, match=f"settings.{name} is 1.5; expected a share"):
        untrained("image", **{name: 1.5})


def test_settings_are_read_from_a_table() -> None:
    found = with_settings("generator.settings", GeneticSettings(), {"selection": "pareto"})
    assert found == GeneticSettings(selection="pareto")
    with pytest.raises(InvalidCampaignError, match="is 'best'; expected constrained or pareto"):
        with_settings("generator.settings", GeneticSettings(), {"selection": "best"})


def test_one_phase_images_are_no_contradiction() -> None:
    """A space of one phase has constant images; its compositions still make new designs."""
    space = DesignSpace(("a",), ("Ni", "Al"), (16, 16))
    rng = np.random.default_rng(0)
    x = np.array([[0.5, 0.5]])
    given = []
    for share in rng.uniform(0.1, 0.9, 9):
        c = Candidate(
            ("a",), ("Ni", "Al"), np.zeros((16, 16), np.uint8), np.array([[share, 1 - share]])
        )
        given.append(Record(c, Outcome("ok", {"Ni": share}), "r", "1", 0))

    class Blank:
        def draw(self, n: int, *, rng: np.random.Generator) -> list[Candidate]:
            return [Candidate(("a",), ("Ni", "Al"), np.zeros((16, 16), np.uint8), x)] * n

    targets = Targets((Value("Ni", 0.5, 0.01),))
    generator = Genetic(space, Blank(), targets).fit(given, rng=rng)  # type: ignore[arg-type]
    assert len(generator.propose(10, rng=rng)) == 10
