"""The plain arms: library draws and mutated designs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from generators.baseline import LibraryDraw, Mutation
from loop.candidate import Candidate, Outcome, Record
from loop.targets import Targets, Value
from tests import libraries

SPACE = libraries.SPACES["image and compositions"]
LIBRARY = libraries.library(SPACE)
TARGETS = Targets((Value("density", 8.0, 0.1),))
DESIGNS = LIBRARY.draw(40, rng=np.random.default_rng(0))


def fitted(**given: float) -> Mutation:
    settings = {"elite": 5, **given}
    mutation = Mutation(SPACE, LIBRARY, TARGETS, **settings)  # type: ignore[arg-type]
    return mutation.fit(libraries.scored(DESIGNS), rng=np.random.default_rng(1))


def parts(c: Candidate) -> tuple[np.ndarray, np.ndarray]:
    assert c.microstructure is not None
    assert c.phase_compositions is not None
    return c.microstructure, c.phase_compositions


def test_library_draw_is_the_library() -> None:
    found = LibraryDraw(LIBRARY).propose(9, TARGETS, guidance=3.0, rng=np.random.default_rng(2))
    assert found == LIBRARY.draw(9, rng=np.random.default_rng(2))
    assert {c.origin.source for c in found} == {"library"}


def test_parents_are_the_records_nearest_to_the_targets() -> None:
    distance = {c.id: abs(libraries.rule(c)["density"] - 8.0) for c in DESIGNS}
    nearest = sorted(DESIGNS, key=lambda c: max(0.0, distance[c.id] - 0.1))[:5]
    assert fitted().parents == nearest
    failed = [Record(c, Outcome.failed("no"), "rule", "1", 0) for c in DESIGNS]
    assert Mutation(SPACE, LIBRARY, TARGETS).fit(failed, rng=np.random.default_rng(0)).parents == []


def test_without_parents_it_draws_from_the_library() -> None:
    found = Mutation(SPACE, LIBRARY, TARGETS).propose(5, rng=np.random.default_rng(3))
    assert found == LIBRARY.draw(5, rng=np.random.default_rng(3))


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.01, 0.1, 3.0]))
def test_children_are_feasible_and_sparse_alloys_stay_sparse(seed: int, step: float) -> None:
    mutation = fitted(step=step, cross=0.0)
    known = {p.id: p for p in mutation.parents}
    for child in mutation.propose(5, rng=np.random.default_rng(seed)):
        assert SPACE.violations(child) == []
        parent = known[child.origin.details["parent"]]
        absent = parts(parent)[1] == 0
        assert np.all(parts(child)[1][absent] == 0.0)
        assert child.origin.source == "mutation"


def test_steps_are_of_the_stated_size() -> None:
    """Without crossing a child's move is at most ``step`` of the bounds' width, times a normal."""
    mutation = fitted(step=0.02, cross=0.0, swap=0.0)
    low, high = SPACE.bound_arrays()
    known = {p.id: p for p in mutation.parents}
    children = mutation.propose(200, rng=np.random.default_rng(4))
    moves = np.array([parts(c)[1] - parts(known[c.origin.details["parent"]])[1] for c in children])
    assert np.abs(moves / (high - low)).max() < 0.02 * 6  # six standard deviations
    assert np.abs(moves).max() > 0
    for child in children:
        assert np.array_equal(parts(child)[0], parts(known[child.origin.details["parent"]])[0])


@pytest.mark.parametrize(("swap", "cross"), [(0.5, 0.3), (0.0, 1.0), (1.0, 0.0)])
def test_images_are_swapped_and_parents_crossed_at_the_stated_rates(
    swap: float, cross: float
) -> None:
    """Without steps a child's parts are its parents' own: n = 400 and four standard errors."""
    n, mutation = 400, fitted(step=0.0, swap=swap, cross=cross)
    known = {p.id: p for p in mutation.parents}
    kept = own = 0
    for child in mutation.propose(n, rng=np.random.default_rng(5)):
        parent = known[child.origin.details["parent"]]
        kept += np.array_equal(parts(child)[0], parts(parent)[0])
        rows = [parts(p)[1] for p in mutation.parents]
        for phase in range(2):
            row = parts(child)[1][phase]
            assert any(np.allclose(row, x[phase], atol=1e-12) for x in rows)
            own += np.allclose(row, parts(parent)[1][phase], atol=1e-12)
    error = 4 * np.sqrt(0.25 / n)
    assert kept / n == pytest.approx(1 - swap, abs=error if 0 < swap < 1 else 0)
    # A cross takes the other parent's row, which is the same parent's one time in five.
    expected = 1 - cross * 0.8
    assert own / (2 * n) == pytest.approx(expected, abs=error if cross else 0)


def test_process_variables_move_within_their_limits() -> None:
    space = libraries.SPACES["process"]
    library = libraries.library(space)
    records = libraries.scored(library.draw(10, rng=np.random.default_rng(6)))
    mutation = Mutation(space, library, TARGETS, step=1.0)
    children = mutation.fit(records, rng=np.random.default_rng(0)).propose(
        100, rng=np.random.default_rng(7)
    )
    values = np.array([c.process["temperature_K"] for c in children])
    assert values.min() == 900.0
    assert values.max() == 1100.0
    assert len(set(values)) > 10
    assert all(space.violations(c) == [] for c in children)
