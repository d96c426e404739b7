"""The table of sample quality on a small library: what is real passes, what is not does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from benchmarks.micrographs import (
    first_steps,
    lengthened,
    measured,
    modules,
    table,
)
from benchmarks.yardstick import Yardstick, every_crop, real_split
from generators.random_field import RandomField
from generators.registry import PRESETS
from loop.candidate import Candidate, Record
from loop.library import Library
from loop.protocols import Progress, silent
from loop.targets import Targets
from tests import libraries
from tests.generators.test_flow import trained

SIDE = 32


def of_side() -> Library:
    """Three training micrographs and four test ones of the same kind."""
    space = libraries.SPACES["image"]
    made = libraries.library(space)
    assert made.split_images is not None
    test = tuple(libraries.blobs(4, np.random.default_rng(11)))
    names = {**made.split_images.names, "test": ("4", "5", "6", "7")}
    images = {**made.split_images.images, "test": test}
    return replace(made, split_images=replace(made.split_images, images=images, names=names))


@pytest.fixture(scope="module")
def library() -> Library:
    return of_side()


@pytest.fixture(scope="module")
def yard(library: Library) -> Yardstick:
    return Yardstick.of(library, 128, 16, np.random.default_rng(0))


def test_crops_of_the_same_micrographs_have_the_best_row(library: Library, yard: Yardstick) -> None:
    rng = np.random.default_rng(1)
    real = yard.row(library.patches(400, rng=rng, split="test"), rng)
    noise = yard.row(rng.integers(2, size=(400, SIDE, SIDE)).astype(np.uint8), rng)
    assert real["samples_for_two_point_statistics"] == 400
    # Fractions of crops of 32 px scatter by about 0.1: 0.005 in the mean of 400, S2 twice that.
    assert real["two_point_error_within_lag_16"] < 0.04
    low, high = real["two_point_error_interval"]
    assert low < high
    assert noise["two_point_error_within_lag_16"] > 3 * real["two_point_error_within_lag_16"]
    assert real["precision"] > 0.7
    assert real["coverage"] > 0.7
    assert noise["precision"] == noise["recall"] == 0.0
    assert noise["frechet_distance"] > 10 * real["frechet_distance"]
    assert noise["unique"] == noise["unique_up_to_shift_and_turn"] == 128
    assert noise["copies"] == 0
    assert noise["novelty_median"] > 3.0


def test_training_crops_are_found_to_be_copies(library: Library, yard: Yardstick) -> None:
    rng = np.random.default_rng(2)
    row = yard.row(library.patches(128, rng=rng), rng)
    assert row["copies"] == row["looked_for"] == 16
    assert row["best_agreement_with_training_median"] == 1.0
    same = yard.row(np.repeat(library.patches(1, rng=rng), 128, axis=0), rng)
    assert same["unique"] == same["unique_up_to_shift_and_turn"] == 1


def test_crops_of_the_grid_lie_in_their_micrographs(library: Library) -> None:
    crops = every_crop(library, "test")
    assert crops.shape == (4 * 5 * 5, SIDE, SIDE)  # (96 - 32) / 16 + 1 places a side
    np.testing.assert_array_equal(crops[0], library.images("test")[0][:SIDE, :SIDE])
    np.testing.assert_array_equal(crops[-1], library.images("test")[-1][-SIDE:, -SIDE:])


def test_real_micrographs_are_halved_every_way(library: Library, yard: Yardstick) -> None:
    found = real_split(library, yard, (64, 1024))
    assert len(found["halves_of_the_test_micrographs"]) == 3  # 4 choose 2, over 2
    assert all(0 < error < 0.5 for error in found["halves_of_the_test_micrographs"])
    few, many = found["noise_of_64_crops"], found["noise_of_1024_crops"]
    # The error falls as 1 / sqrt(n), here by 4.
    assert few[0] / many[0] == pytest.approx(4.0, rel=0.4)


def test_a_generator_is_measured_with_its_rate(library: Library, yard: Yardstick) -> None:
    field = RandomField(library.space, library, Targets(()))
    row, shown = measured(field, yard, 128, 1.5)
    assert row["parameters"] == row["training_steps"] == 0
    assert row["training_seconds"] == 1.5
    assert row["of_one_phase"] == 0.0
    assert row["samples_per_second"] > 0
    assert row["cpu_milliseconds_per_sample"] > 0
    assert len(shown) == 12
    text = table({"random-field": row, "real": {"unique": 3}})
    assert text.count("\n") == 3
    assert text.splitlines()[-1].startswith("| real |  | ")


class Blank:
    """Every ``nth`` sample shows one phase only."""

    name = "blank"

    def __init__(self, library: Library, nth: int) -> None:
        self.library, self.nth, self.drawn = library, nth, 0

    def fit(
        self,
        records: Sequence[Record],
        *,
        rng: np.random.Generator,
        progress: Progress = silent,
    ) -> Blank:
        return self

    def propose(
        self,
        n: int,
        targets: Targets | None = None,
        *,
        guidance: float,
        rng: np.random.Generator,
    ) -> list[Candidate]:
        found = self.library.draw(n, rng=rng)
        empty = Candidate(
            phases=self.library.space.phases, microstructure=np.zeros((SIDE, SIDE), dtype=np.uint8)
        )
        first, self.drawn = self.drawn, self.drawn + n
        return [empty if i % self.nth == 0 else c for i, c in enumerate(found, first + 1)]


def test_samples_of_one_phase_stay_and_are_counted(library: Library, yard: Yardstick) -> None:
    row, shown = measured(Blank(library, 4), yard, 64, 0.0)
    assert row["of_one_phase"] == 0.25
    assert row["samples_for_two_point_statistics"] == 64
    assert (shown.min((1, 2)) == shown.max((1, 2))).mean() == 0.25


@dataclass(frozen=True)
class Inner:
    steps: int = 20
    width: int = 8


@dataclass(frozen=True)
class Lengths:
    first_steps: int = 30
    head_first_steps: int = 40
    retrain_steps: int = 10
    sample_steps: int = 4
    inner: Inner = field(default_factory=Inner)


def test_first_trainings_are_lengthened_and_nothing_else() -> None:
    longer = lengthened(Lengths(), 2.5)
    assert longer == Lengths(75, 100, 10, 4, Inner(50, 8))
    assert first_steps(Lengths()) == 30 + 40 + 20
    assert first_steps(None) == 0
    flow = PRESETS["tiny"]
    assert lengthened(flow, 1.0) == flow
    assert first_steps(lengthened(flow, 3.0)) == 3 * first_steps(flow)


def test_all_networks_of_a_generator_are_counted() -> None:
    flow = trained("image and compositions")
    assert flow.code is not None
    assert flow.network in modules(flow)
    assert flow.head in modules(flow)
    assert len(modules(flow)) == 3  # and the autoencoder
