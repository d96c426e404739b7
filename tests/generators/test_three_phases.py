"""Designs of three phases: proposed, grown, refined and graded, as those of two."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from generators.adaptation_control import ControlSettings, control
from generators.adaptation_graded import graded
from generators.adaptation_maps import gradient_map, map_error
from generators.editor import Editor
from generators.flow import JointFlow
from generators.superresolution import block_error, refine
from loop.candidate import Candidate, Outcome, Record
from loop.errors import InvalidInputError
from loop.images import SplitImages
from loop.library import Library
from loop.space import DesignSpace
from loop.targets import Targets
from tests.generators.test_flow import TINY

PHASES = ("a", "b", "c")
SPACE = DesignSpace(PHASES, (), (32, 32))
PROPERTIES = ("b_fraction", "c_fraction")


def scored(design: Candidate) -> Record:
    fractions = design.phase_fractions()
    values = dict(zip(PROPERTIES, fractions[1:].tolist(), strict=True))
    return Record(design, Outcome("ok", values), "rule", "1", 0)


@cache
def trained() -> JointFlow:
    rng = np.random.default_rng(0)
    images = []
    for _ in range(4):
        field = ndimage.gaussian_filter(rng.normal(size=(96, 96)), 3.0, mode="wrap")
        images.append(np.digitize(field, np.quantile(field, [0.4, 0.75])).astype(np.uint8))
    split = SplitImages(
        {"train": tuple(images), "val": (), "test": ()},
        {"train": tuple("1234"), "val": (), "test": ()},
        "made for tests",
    )
    library = Library(SPACE, split, None, augment=True, outside=0, data_hash="0" * 64)
    vae = replace(TINY.vae, steps=120, learning_rate=6e-3)
    settings = replace(TINY, first_steps=150, plain_rows=300, learning_rate=6e-3, vae=vae)
    flow = JointFlow(SPACE, library, Targets(()), PROPERTIES, settings)
    designs = library.draw(100, rng=np.random.default_rng(1))
    return flow.fit([scored(c) for c in designs], rng=np.random.default_rng(2))


def images_of(designs: list[Candidate]) -> NDArray[np.uint8]:
    return np.stack([c.microstructure for c in designs if c.microstructure is not None])


def test_requested_fractions_of_both_phases_are_drawn_towards() -> None:
    flow = trained()
    requests = np.tile([[0.2, 0.45]], (16, 1))
    led, free = (
        flow.generate(requests, guidance=s, rng=np.random.default_rng(3)) for s in (2.0, 0.0)
    )
    errors = [
        np.abs([c.phase_fractions()[1:] - requests[0] for c in designs]).mean(0)
        for designs in (led, free)
    ]
    assert (errors[0] < 0.5 * errors[1]).all()
    for c in led:
        assert SPACE.violations(c) == []


def test_a_grown_image_holds_its_own() -> None:
    design = trained().library.draw(1, rng=np.random.default_rng(4))[0]
    image = design.microstructure
    assert image is not None
    found = Editor(trained(), steps=6).extend(design, (64, 64), rng=np.random.default_rng(0))
    np.testing.assert_array_equal(found[:32, :32], image)
    assert set(np.unique(found[32:])) == {0, 1, 2}
    inside = np.mean([(found[i] != found[i + 1]).mean() for i in range(63)])
    assert (found[-1] != found[0]).mean() <= 2 * inside


def test_refined_designs_follow_both_coarse_images() -> None:
    image = trained().library.draw(1, rng=np.random.default_rng(5))[0].microstructure
    assert image is not None
    coarse = np.stack([(image.reshape(4, 8, 4, 8) == p).mean((1, 3)) for p in (1, 2)])
    found = refine(Editor(trained()), coarse, 4, rng=np.random.default_rng(6), steps=6)
    free = trained().propose(4, None, guidance=0.0, rng=np.random.default_rng(6))
    errors = [block_error(images_of(designs), coarse).mean() for designs in (found, free)]
    assert errors[0] < 0.5 * errors[1]
    with pytest.raises(InvalidInputError, match="expected fractions of 2 phases"):
        refine(Editor(trained()), coarse[0], 1, rng=np.random.default_rng(0))


def test_graded_designs_follow_both_maps() -> None:
    settings = ControlSettings(steps=40, batch=16, learning_rate=1e-2, images=100)
    branch = control(trained(), settings, rng=np.random.default_rng(7))
    wanted = np.concatenate(
        [gradient_map(0.1, 0.5, (32, 32)), gradient_map(0.4, 0.2, (32, 32), "y")]
    )
    errors = [
        map_error(
            images_of(
                graded(
                    trained(),
                    branch,
                    wanted,
                    8,
                    rng=np.random.default_rng(8),
                    strength=strength,
                    settle=settle,
                )
            ),
            wanted,
        )
        for strength, settle in ((1.0, 12), (0.0, 0))
    ]
    assert errors[0] < 0.5 * errors[1]
