"""Generators over alloys without images: exact zeros, labels, and labels that are asked for."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from generators import registry
from generators.asked import Asked
from generators.coding import JointCode
from generators.labels import label_bits, label_codes_of
from generators.sparse import SparseCode
from loop.candidate import Candidate, Outcome, Record
from loop.errors import InvalidInputError
from loop.known_alloys import KnownAlloys
from loop.library import Library
from loop.process_labels import FREE, label_codes
from loop.protocols import Generator
from loop.space import DesignSpace
from loop.targets import Range, Targets
from tests import libraries

FloatArray = NDArray[np.float64]
ELEMENTS = ("Al", "Co", "Cr", "Fe", "Ni", "Nb", "Mo", "Ti")
ROUTES = ("CAST", "POWDER", "WROUGHT")
SPACE = DesignSpace(
    ("alloy",),
    ELEMENTS,
    None,
    {"alloy": {"Al": (0.0, 0.4), "Fe": (0.0, 0.6)}},
    {"temperature_K": (900.0, 1500.0)},
    {"processing": ROUTES, "quench": ("air", "water")},
)
TARGETS = Targets((Range("hardness_HV", 300.0, 400.0),))
LEARNING = ("joint-flow", "diffusion", "vae", "gan")


def alloys(n: int, rng: np.random.Generator) -> tuple[FloatArray, NDArray[np.int64]]:
    """(n, e) alloys and their labels (n, 2).

    Two families that share no element but Ti: Co-Cr-Fe-Ni and Nb-Mo. Aluminium, at least 5 %, is
    in every cast alloy and in no other.
    """
    x = np.zeros((n, len(ELEMENTS)))
    codes = np.stack([rng.integers(3, size=n), rng.integers(2, size=n)], axis=1)
    for row, (route, _) in zip(x, codes, strict=True):
        family = [1, 2, 3, 4] if rng.random() < 0.6 else [5, 6]
        there = [*family, 7] if rng.random() < 0.5 else family
        row[there] = rng.dirichlet(np.full(len(there), 20.0))
        if route == 0:
            row *= 0.8
            row[0] = 0.2 - 0.15 * rng.random()
            row /= row.sum()
    return x, codes


def designs(x: FloatArray, codes: NDArray[np.int64], rng: np.random.Generator) -> list[Candidate]:
    return [
        Candidate(
            SPACE.phases,
            ELEMENTS,
            None,
            row[None],
            {"temperature_K": float(rng.uniform(900, 1500))},
            labels={"processing": ROUTES[a], "quench": ("air", "water")[b]},
        )
        for row, (a, b) in zip(x, codes.tolist(), strict=True)
    ]


@cache
def world() -> tuple[Library, list[Record]]:
    """A library of 400 alloys, and as many records whose hardness grows with aluminium."""
    rng = np.random.default_rng(7)
    x, codes = alloys(400, rng)
    library = Library(SPACE, None, x[:, None], False, 0, "0" * 64, table_labels=codes)
    records = [
        Record(
            design,
            Outcome("ok", {"hardness_HV": 200.0 + 1000.0 * row[0]}),
            "table",
            "1",
            0,
        )
        for design, row in zip(designs(x, codes, rng), x, strict=True)
    ]
    return library, records


def untrained(name: str, space: DesignSpace = SPACE, **settings: Any) -> Asked:
    library, _ = world()
    made = registry.create(
        name,
        space=space,
        library=library,
        targets=TARGETS,
        properties=("hardness_HV",),
        preset="tiny",
        settings=settings,
    )
    return cast(Asked, made)


def fitted(generator: Asked, seed: int) -> Asked:
    """Trained on the records."""
    _, records = world()
    new = cast(Generator, generator).fit(records, rng=np.random.default_rng(seed))
    return cast(Asked, new)


@cache
def trained(name: str) -> Asked:
    """In a second, of the tiny preset: everything is there and nothing is good."""
    return fitted(untrained(name), seed=1)


def proposals(generator: Asked, n: int = 40, seed: int = 2, **more: Any) -> list[Candidate]:
    return generator.propose(n, TARGETS, guidance=1.5, rng=np.random.default_rng(seed), **more)


def compositions(found: list[Candidate]) -> FloatArray:
    return np.stack([design.composition() for design in found])


@pytest.mark.parametrize("name", LEARNING)
def test_designs_are_feasible_with_exact_zeros_and_known_labels(name: str) -> None:
    """Guided or not: nothing outside the space within 1e-9, and no amount that is nearly zero."""
    generator = trained(name)
    free = generator.propose(40, None, guidance=0.0, rng=np.random.default_rng(3))
    for found in (free, proposals(generator)):
        assert not [v for design in found for v in SPACE.violations(design)]
        x = compositions(found)
        assert np.abs(x.sum(1) - 1).max() <= 1e-9
        assert (x == 0).any(1).mean() > 0.9  # of eight elements a learned alloy has at most six
        assert np.all((x == 0) | (x > 1e-6))


@pytest.mark.parametrize("name", LEARNING)
def test_labels_that_are_asked_for_are_had(name: str) -> None:
    generator = trained(name)
    found = proposals(generator, labels={"processing": "WROUGHT"})
    assert {design.labels["processing"] for design in found} == {"WROUGHT"}
    assert {design.labels["quench"] for design in found} == {"air", "water"}
    assert not [v for design in found for v in SPACE.violations(design)]
    details = found[0].origin.details
    assert details["requested_labels"] == {"processing": "WROUGHT"}
    assert set(details["requested"]) == {"hardness_HV"}
    assert "requested_labels" not in proposals(generator)[0].origin.details


@pytest.mark.parametrize("name", LEARNING)
def test_one_seed_gives_one_set_of_designs(name: str) -> None:
    generator = trained(name)
    ids = [[d.id for d in proposals(generator, seed=seed)] for seed in (2, 2, 3)]
    assert ids[0] == ids[1]
    assert ids[0] != ids[2]


@pytest.mark.parametrize("name", LEARNING)
def test_a_checkpoint_gives_the_same_designs(name: str, tmp_path: Path) -> None:
    _, path = trained(name).save(tmp_path)  # type: ignore[attr-defined]
    back = untrained(name).load(path)  # type: ignore[attr-defined]
    assert isinstance(back.code.compositions, SparseCode)
    again, first = (proposals(g, labels={"quench": "water"}) for g in (back, trained(name)))
    assert [d.id for d in again] == [d.id for d in first]


@pytest.mark.parametrize("name", ["joint-flow", "vae"])
def test_a_checkpoint_of_other_labels_is_refused(name: str, tmp_path: Path) -> None:
    _, path = trained(name).save(tmp_path)  # type: ignore[attr-defined]
    other = DesignSpace(
        SPACE.phases,
        ELEMENTS,
        None,
        SPACE.bounds,
        SPACE.process,
        {"processing": ("CAST", "POWDER"), "quench": ("air", "water")},
    )
    with pytest.raises(InvalidInputError, match="labels"):
        untrained(name, other).load(path)  # type: ignore[attr-defined]


def test_an_unknown_label_is_refused_with_the_nearest_known() -> None:
    generator = trained("joint-flow")
    with pytest.raises(InvalidInputError, match=r"procesing.*processing"):
        proposals(generator, labels={"procesing": "CAST"})
    with pytest.raises(InvalidInputError, match=r"CASTED.*CAST"):
        proposals(generator, labels={"processing": "CASTED"})


def test_requests_of_another_shape_and_codes_that_are_none_are_refused() -> None:
    generator = trained("vae")
    rng = np.random.default_rng(0)
    with pytest.raises(InvalidInputError, match=r"shape \(2, 2\)"):
        generator.generate(np.full((2, 2), np.nan), guidance=1.0, rng=rng)
    for wrong in (3.0, 0.5, -2.0):
        with pytest.raises(InvalidInputError, match="label codes"):
            generator.generate(np.array([[np.nan, wrong, np.nan]]), guidance=1.0, rng=rng)


def test_how_far_a_design_is_from_the_known_alloys_is_said() -> None:
    library, _ = world()
    assert library.table is not None
    known = KnownAlloys(library.table[:, 0])
    for name in LEARNING:
        found = proposals(trained(name), n=5)
        expected = known.nearest(compositions(found)).difference
        said = [design.origin.details["difference_from_known"] for design in found]
        assert said == pytest.approx(expected, abs=1e-12)


# The coding


def code() -> tuple[JointCode, list[Candidate]]:
    _, records = world()
    candidates = [record.candidate for record in records]
    return JointCode.of_vectors(SPACE, candidates), candidates


def test_designs_come_back_from_their_vectors() -> None:
    joint, candidates = code()
    vectors = joint.vectors(candidates)
    assert joint.vector_sizes == (16, 1, 5)
    assert vectors.shape == (400, 22)
    found = joint.candidates(
        None, joint.compositions_of(vectors), vectors, [c.origin for c in candidates]
    )
    assert [c.labels for c in found] == [c.labels for c in candidates]
    assert compositions(found) == pytest.approx(compositions(candidates), abs=1e-5)
    assert np.array_equal(compositions(found) == 0, compositions(candidates) == 0)
    temperatures = [[c.process["temperature_K"] for c in some] for some in (found, candidates)]
    assert temperatures[0] == pytest.approx(temperatures[1], abs=1e-3)


def test_what_is_decided_is_presence_and_labels_and_stays() -> None:
    joint, candidates = code()
    vectors = joint.vectors(candidates)
    decided = joint.decided(vectors)
    assert decided.shape == (400, joint.context_size) == (400, 8 + 5)
    x = compositions(candidates)
    assert np.array_equal(decided[:, :8].numpy(), np.where(x > 0, 1.0, -1.0))
    assert np.array_equal(decided[:, 8:].numpy(), label_bits(SPACE, label_codes(SPACE, candidates)))
    assert np.array_equal(joint.context(candidates), decided)
    drawn = joint.as_decided(vectors[:: -1 if False else 1].flip(0), vectors)
    assert np.array_equal(joint.decided(drawn), decided)
    amounts = ~joint.decisive
    assert np.array_equal(drawn[:, amounts], vectors.flip(0)[:, amounts])


def test_asked_labels_replace_those_that_were_drawn_and_free_ones_do_not() -> None:
    joint, candidates = code()
    vectors = joint.vectors(candidates[:50])
    codes = np.full((50, 2), FREE)
    assert joint.labelled(vectors, codes) is vectors
    codes[:, 0] = 1
    changed = joint.labelled(vectors, codes)
    found = joint.label_codes_of(changed)
    assert set(found[:, 0]) == {1}
    assert np.array_equal(found[:, 1], label_codes(SPACE, candidates[:50])[:, 1])
    assert np.array_equal(changed[:, :17], vectors[:, :17])


def test_label_bits_by_hand() -> None:
    codes = np.array([[2, FREE], [0, 1]])
    bits = label_bits(SPACE, codes)
    assert bits[0, :3].tolist() == [-1.0, -1.0, 1.0]
    assert np.isnan(bits[0, 3:]).all()
    assert bits[1].tolist() == [1.0, -1.0, -1.0, -1.0, 1.0]
    noisy = bits[1:] * 0.1 + np.array([[0.0, 0.05, 0.0, 0.0, 0.0]])
    assert label_codes_of(SPACE, noisy).tolist() == [[0, 1]]


def test_images_keep_the_coding_they_had() -> None:
    space = libraries.SPACES["image and compositions"]
    library = libraries.library(space)
    candidates = library.draw(20, rng=np.random.default_rng(0))
    joint = JointCode.of_vectors(space, candidates)
    assert not isinstance(joint.compositions, SparseCode)
    assert joint.vector_sizes == (4, 4)
    assert not joint.decisive.any()


# What is learned


SMALL: dict[str, dict[str, Any]] = {
    "joint-flow": {
        "width": 48,
        "first_steps": 300,
        "batch": 128,
        "sample_steps": 12,
        "head_width": 48,
        "head_first_steps": 200,
        "head_batch": 128,
    },
    "diffusion": {
        "width": 48,
        "first_steps": 300,
        "batch": 128,
        "sample_steps": 20,
        "head_width": 48,
        "head_first_steps": 200,
        "head_batch": 128,
    },
    "vae": {"first_steps": 250, "batch": 128},
}


@cache
def learned(name: str) -> Asked:
    return fitted(untrained(name, focus=0.0, **SMALL[name]), seed=4)


@pytest.mark.parametrize("name", ["joint-flow", "diffusion"])
def test_elements_go_with_each_other_and_with_the_label(name: str) -> None:
    """The two families do not mix, and aluminium comes with the label CAST alone.

    Half of what is asked for would be wrong by chance. A share of 0.85 of n = 200 is then more than
    9 standard errors away; that it is not 1 is the short training's.
    """
    generator = learned(name)
    n = 200
    bare = np.full((n, 1), np.nan)
    rng = np.random.default_rng(5)
    there = {}
    for route in ("CAST", "WROUGHT"):
        requests = generator.with_labels(bare, {"processing": route})
        found = generator.generate(requests, guidance=1.5, rng=rng)
        there[route] = compositions(found) > 0
    assert there["CAST"][:, 0].mean() > 0.85
    assert there["WROUGHT"][:, 0].mean() < 0.15
    free = compositions(generator.propose(n, None, guidance=0.0, rng=rng)) > 0
    mixed = free[:, 1:5].any(1) & free[:, 5:7].any(1)
    assert mixed.mean() < 0.15
    first = free[:, 1:5].any(1).mean()  # 0.6 in the data; 4 standard errors and the training's own
    assert first == pytest.approx(0.6, abs=4 * np.sqrt(0.24 / n) + 0.1)


@pytest.mark.parametrize("name", ["joint-flow", "vae"])
def test_the_label_that_is_drawn_goes_with_the_elements(name: str) -> None:
    """Without a request: of designs with aluminium most are cast, of others few.

    0.15 to 0.85 of at least 40 designs each is more than 4 standard errors from the 1/3 of chance.
    """
    found = learned(name).propose(300, None, guidance=0.0, rng=np.random.default_rng(6))
    cast_ones = np.array([design.labels["processing"] == "CAST" for design in found])
    aluminium = compositions(found)[:, 0] > 0
    assert 40 < aluminium.sum() < 260
    assert cast_ones[aluminium].mean() > 0.7
    assert cast_ones[~aluminium].mean() < 0.2
