"""Designs that a simulator made: kept part by part, and drawn with their parts together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loop.campaign import Campaign, load_campaign
from loop.designs import Bank, screened_designs
from loop.errors import InvalidInputError
from loop.features import Features
from loop.library import Library
from loop.made_designs import MadeDesigns, made_designs, source_hash
from loop.protocols import Progress, silent
from loop.surrogate import Surrogate
from loop.targets import Maximise, Targets
from tests.made_libraries import write_campaign

IMAGES, PER_IMAGE = 5, 3  # of a part


class Counting:
    """A source whose designs tell where they come from: the image's fraction is in the rows."""

    name, version, parts = "counting", "1", 3

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.made: list[int] = []
        self.fails = -1

    def identity(self) -> Mapping[str, Any]:
        return {"seed": self.seed}

    def make(self, part: int, *, progress: Progress = silent) -> MadeDesigns:
        if part == self.fails:
            raise RuntimeError("killed")
        self.made.append(part)
        rng = np.random.default_rng([self.seed, part])
        images = np.zeros((IMAGES, 32, 32), dtype=np.uint8)
        for i, image in enumerate(images):
            image.flat[rng.permutation(1024)[: 100 + 30 * (IMAGES * part + i)]] = 1
        own = np.repeat(np.arange(IMAGES), PER_IMAGE)
        share = images.mean((1, 2))[own]
        # Fraction of copper in the silver-rich phase: a hundredth of the image's share.
        rows = np.zeros((len(own), 2, 2))
        rows[:, 0, 1] = share / 100
        rows[:, 1, 1] = 0.9
        rows[:, :, 0] = 1 - rows[:, :, 1]
        process = np.column_stack([960 + 40 * share, 200 + 100 * share])
        return MadeDesigns(images, own, rows, process, ("temperature_K", "time_s"))


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    return load_campaign(write_campaign(tmp_path / "campaign"))


@pytest.fixture
def library(campaign: Campaign, tmp_path: Path) -> Library:
    return Library.of_made(campaign, made_designs(Counting(), tmp_path))


# Keeping


def test_a_second_run_reads_what_the_first_made(tmp_path: Path) -> None:
    first, second = Counting(), Counting()
    made = made_designs(first, tmp_path)
    assert first.made == [0, 1, 2]
    again = made_designs(second, tmp_path)
    assert second.made == []
    assert again.digest() == made.digest()
    assert again.variables == ("temperature_K", "time_s")
    assert list(np.unique(made.image)) == list(range(3 * IMAGES))


def test_making_goes_on_where_it_stopped(tmp_path: Path) -> None:
    whole = made_designs(Counting(), tmp_path / "whole")
    stopped = Counting()
    stopped.fails = 1
    with pytest.raises(RuntimeError, match="killed"):
        made_designs(stopped, tmp_path)
    (tmp_path / source_hash(stopped) / "part-001.writing").write_bytes(b"half")
    later = Counting()
    seen: list[tuple[int, int]] = []

    def progress(stage: str, done: int, total: int, **_: float) -> None:
        assert stage == "make library"
        seen.append((done, total))

    assert made_designs(later, tmp_path, progress=progress).digest() == whole.digest()
    assert later.made == [1, 2]
    assert seen == [(1, 3), (2, 3), (2, 3), (3, 3)]


def test_other_settings_are_another_library(tmp_path: Path) -> None:
    made_designs(Counting(), tmp_path)
    other = Counting(seed=1)
    assert made_designs(other, tmp_path).digest() != made_designs(Counting(), tmp_path).digest()
    assert other.made == [0, 1, 2]


@pytest.mark.parametrize("damage", ["cut", "other", "text"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    made_designs(Counting(), tmp_path)
    place = tmp_path / source_hash(Counting())
    file = place / "part-001.npz"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:1000])
    elif damage == "text":
        file.write_text("no archive")
    else:  # a whole archive in which one number was changed
        stored = dict(np.load(file))
        stored["process"] = stored["process"] + 1e-9
        np.savez(file, **stored)
    with pytest.raises(InvalidInputError, match=r"part-001\.npz is damaged; delete it"):
        made_designs(Counting(), tmp_path)
    file.unlink()
    mended = Counting()
    made_designs(mended, tmp_path)
    assert mended.made == [1]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInputError, match="cannot be used"):
        made_designs(Counting(), tmp_path / "file")


# Drawing


def test_designs_come_with_their_own_parts(library: Library) -> None:
    designs = library.draw(300, rng=np.random.default_rng(1))
    assert len({d.id for d in designs}) == 300  # moved and turned
    for design in designs:
        assert library.space.violations(design) == []
        share = design.phase_fractions()[1]
        assert design.phase_compositions is not None
        assert design.phase_compositions[0, 1] == pytest.approx(share / 100, abs=1e-12)
        assert design.process["temperature_K"] == pytest.approx(960 + 40 * share, abs=1e-9)
        assert design.process["time_s"] == pytest.approx(200 + 100 * share, abs=1e-9)


def test_images_are_moved_around_their_edges(campaign: Campaign, tmp_path: Path) -> None:
    assert campaign.library is not None
    section = campaign.library.model_copy(update={"augment": False})
    made = made_designs(Counting(), tmp_path)
    library = Library.of_made(replace(campaign, library=section), made)
    for image in library.patches(20, rng=np.random.default_rng(2)):
        shifts = [
            np.roll(known, (y, x), (0, 1)).tobytes()
            for known in library.images("train")
            if known.sum() == image.sum()
            for y in range(32)
            for x in range(32)
        ]
        assert image.tobytes() in shifts


def test_a_split_holds_whole_images(library: Library) -> None:
    assert library.made is not None
    rows = {split: library.made.rows(split) for split in ("train", "val", "test")}
    own = {split: set(library.made.image[found]) for split, found in rows.items()}
    assert own["val"] == {6, 13}
    assert not own["train"] & own["val"]
    assert len(rows["train"]) + len(rows["val"]) == 3 * IMAGES * PER_IMAGE
    assert library.has_images("val")
    assert not library.has_images("test")
    held_out = {int(image.sum()) for image in library.images("val")}
    drawn = library.patches(50, rng=np.random.default_rng(0))
    assert held_out.isdisjoint(drawn.sum((1, 2)).tolist())
    with pytest.raises(InvalidInputError, match=r"no test images .*for validation\)$"):
        library.patches(1, rng=np.random.default_rng(0), split="test")
    with pytest.raises(InvalidInputError, match="no test designs"):
        library.draw(1, rng=np.random.default_rng(0), split="test")
    with pytest.raises(InvalidInputError, match="unknown split 'tset'"):
        library.draw(1, rng=np.random.default_rng(0), split="tset")


def test_every_design_comes_once_before_any_comes_twice(library: Library) -> None:
    n = 13 * PER_IMAGE  # images for training
    shares = [d.phase_fractions()[1] for d in library.draw(n, rng=np.random.default_rng(4))]
    assert {shares.count(share) for share in shares} == {PER_IMAGE}
    assert library.draw(0, rng=np.random.default_rng(0)) == []


def test_screened_designs_stay_together(library: Library) -> None:
    rng = np.random.default_rng(3)
    features = Features.fit(library.space, library.patches(64, rng=rng))
    bank = Bank.draw(library, features, 128, rng)
    seen = library.draw(30, rng=rng)
    x = features.transform(seen)
    y = np.array([[d.phase_fractions()[1]] for d in seen])
    found, _ = screened_designs(
        40,
        space=library.space,
        library=library,
        bank=bank,
        features=features,
        surrogate=Surrogate(("share",)).fit(x, y, rng=rng),
        targets=Targets((Maximise("share"),)),
        rng=rng,
    )
    for design in found:
        share = design.phase_fractions()[1]
        assert design.phase_compositions is not None
        assert design.phase_compositions[0, 1] == pytest.approx(share / 100, abs=1e-12)
        assert design.process["temperature_K"] == pytest.approx(960 + 40 * share, abs=1e-9)


# What is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variables": ("time_s", "temperature_K")}, "process variables"),
        ({"images": np.zeros((15, 16, 16), dtype=np.uint8)}, r"images \(16, 16\)"),
        ({"process": np.full((45, 2), 2000.0)}, "45 of 45 made designs lie outside"),
        ({"image": np.full(45, 15)}, "images that are not among the 15"),
        ({"images": np.zeros((15, 32, 32), dtype=np.uint8)}, "train images .* one phase only"),
    ],
)
def test_designs_outside_the_space(
    campaign: Campaign, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    made = replace(made_designs(Counting(), tmp_path), **change)
    with pytest.raises(InvalidInputError, match=message):
        Library.of_made(campaign, made)


def test_a_library_to_be_made_is_not_read(campaign: Campaign) -> None:
    with pytest.raises(InvalidInputError, match="made by a simulator, not read"):
        Library.load(campaign)
