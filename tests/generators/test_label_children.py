"""Labels of the baselines: drawn with the library's rows, crossed and changed by the others."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest

from generators.baseline import LABEL_RATE, LibraryDraw, Mutation
from generators.genetic import Genetic, GeneticSettings
from generators.random_field import RandomField
from loop.candidate import Candidate, Outcome, Record
from loop.library import Library
from loop.process_labels import FREE
from loop.space import DesignSpace
from loop.targets import Maximise, Range, Targets
from tests import libraries

ROUTES = ("CAST", "ANNEAL", "WROUGHT")
TARGETS = Targets((Maximise("hardness"),))
BEST = {"CAST": 1.0, "ANNEAL": 2.0, "WROUGHT": 3.0}


def labelled(kind: str) -> Library:
    """A library whose table names the first two routes alone; ``quench`` is free."""
    plain = libraries.library(libraries.SPACES[kind])
    labels = {"processing": ROUTES, "quench": ("air", "oil")}
    space = dataclasses.replace(plain.space, labels=labels)
    assert plain.table is not None
    codes = np.full((len(plain.table), 2), FREE)
    codes[:, 0] = np.arange(len(codes)) % 2
    return dataclasses.replace(plain, space=space, table_labels=codes)


LIBRARY = labelled("process")
SPACE = LIBRARY.space


def records(n: int = 60) -> list[Record]:
    designs = LIBRARY.draw(n, rng=np.random.default_rng(0))
    scores = [{"hardness": BEST[d.labels["processing"]]} for d in designs]
    found = zip(designs, scores, strict=True)
    return [Record(d, Outcome("ok", s), "rule", "1", 0) for d, s in found]


def routes(designs: list[Candidate]) -> Counter[str]:
    return Counter(d.labels["processing"] for d in designs)


def test_library_designs_have_the_rows_labels() -> None:
    found = LibraryDraw(LIBRARY).propose(200, rng=np.random.default_rng(1))
    assert all(SPACE.violations(d) == [] for d in found)
    assert set(routes(found)) == {"CAST", "ANNEAL"}
    assert {d.labels["quench"] for d in found} == {"air", "oil"}


def test_random_fields_have_labels() -> None:
    library = labelled("image and compositions")
    found = RandomField(library.space, library, TARGETS).fit([], rng=np.random.default_rng(0))
    designs = found.propose(4, rng=np.random.default_rng(1))
    assert all(library.space.violations(d) == [] for d in designs)


def test_mutants_are_valid_and_change_labels_at_the_rate() -> None:
    """Parents are the annealed records, so that crossing alone gives no other route."""
    annealed = Targets((Range("hardness", 1.5, 2.5),))
    mutation = Mutation(SPACE, LIBRARY, annealed, elite=20)
    mutation = mutation.fit(records(), rng=np.random.default_rng(1))
    assert set(routes(mutation.parents)) == {"ANNEAL"}
    n = 2000
    found = mutation.propose(n, rng=np.random.default_rng(2))
    assert all(SPACE.violations(d) == [] for d in found)
    changed = n - routes(found)["ANNEAL"]
    assert changed / n == pytest.approx(LABEL_RATE, abs=4 * np.sqrt(LABEL_RATE / n))
    assert set(routes(found)) == set(ROUTES)


def test_a_mutants_labels_come_from_both_parents() -> None:
    """Of two parents that differ in both labels, children have all four combinations."""
    mutation = Mutation(SPACE, LIBRARY, TARGETS, cross=0.5)
    one, other = LIBRARY.draw(2, rng=np.random.default_rng(4))
    mutation.parents = [
        dataclasses.replace(one, labels={"processing": "CAST", "quench": "air"}),
        dataclasses.replace(other, labels={"processing": "ANNEAL", "quench": "oil"}),
    ]
    found = Counter(
        (d.labels["processing"], d.labels["quench"])
        for d in mutation.propose(400, rng=np.random.default_rng(5))
    )
    # Parents differ in half of the pairs, of which half have one label crossed: mixed ones are
    # a quarter before mutation, 50 expected of each kind, and mutation alone would give 10.
    assert found["CAST", "oil"] > 25
    assert found["ANNEAL", "air"] > 25


@pytest.mark.parametrize("selection", ["constrained", "pareto"])
def test_genetic_children_find_the_best_route(selection: str) -> None:
    """It is in no row of the library and pays most; selection keeps what mutation finds."""
    settings = GeneticSettings(selection=selection, population=10)  # type: ignore[arg-type]
    known = records()
    rng = np.random.default_rng(3)
    for _ in range(6):
        found = Genetic(SPACE, LIBRARY, TARGETS, settings).fit(known, rng=rng).propose(20, rng=rng)
        assert all(SPACE.violations(d) == [] for d in found)
        scores = [{"hardness": BEST[d.labels["processing"]]} for d in found]
        known += [
            Record(d, Outcome("ok", s), "rule", "1", 0) for d, s in zip(found, scores, strict=True)
        ]
    assert routes(found)["WROUGHT"] > 10


def test_images_with_labels_need_not_be_cut() -> None:
    """A design that is an image alone is cut always; with a label a parent's image may stay."""
    space = DesignSpace(("a", "b"), (), (32, 32), labels={"processing": ROUTES})
    library = dataclasses.replace(libraries.library(libraries.SPACES["image"]), space=space)
    designs = library.draw(10, rng=np.random.default_rng(0))
    scores = [{"hardness": float(i)} for i in range(10)]
    found = zip(designs, scores, strict=True)
    known = [Record(d, Outcome("ok", s), "rule", "1", 0) for d, s in found]
    settings = GeneticSettings(cut=0.0, immigrants=0.0)
    genetic = Genetic(space, library, TARGETS, settings).fit(known, rng=np.random.default_rng(1))
    images = {d.microstructure.tobytes() for d in designs if d.microstructure is not None}
    children = genetic.propose(5, rng=np.random.default_rng(2))
    assert all(space.violations(child) == [] for child in children)
    kept = [d.microstructure.tobytes() for d in children if d.microstructure is not None]
    assert any(image in images for image in kept)
