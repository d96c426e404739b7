"""Editing designs with a trained flow: what is kept is kept exactly, what is asked for changes."""

from __future__ import annotations

import copy
from typing import Any, cast

import numpy as np
import pytest
from torch import Tensor

from generators.editor import Editor
from generators.interpolation import PATHS, evenly
from generators.steering import Steering
from loop.candidate import Candidate
from loop.errors import InvalidInputError
from tests.generators.test_flow import trained, untrained

BOTH = "image and compositions"


@pytest.fixture(scope="module")
def editor() -> Editor:
    return Editor(trained(BOTH), steps=4)


@pytest.fixture
def designs(editor: Editor) -> list[Candidate]:
    return editor.flow.library.draw(2, rng=np.random.default_rng(3))


def test_frames_end_at_the_designs_themselves(editor: Editor, designs: list[Candidate]) -> None:
    for path in PATHS:
        found = editor.frames(designs[0], designs[1], 5, path=path)
        assert found[0] is designs[0]
        assert found[-1] is designs[1]
        assert len({c.id for c in found}) == 5
        for c in found[1:-1]:
            assert editor.flow.space.violations(c) == []
            assert c.origin.details["of"] == [d.id for d in designs]


def test_shallow_frames_stay_near_their_ends(editor: Editor, designs: list[Candidate]) -> None:
    """With next to no noise the first frame after an end is the decoder's image of that end."""
    first = editor.frames(designs[0], designs[1], 101, depth=0.02)[1]
    vae = editor.code.vae
    assert vae is not None
    start = designs[0].microstructure
    assert start is not None
    latent, _ = editor.flow.parts(editor.code.states([designs[0]]))
    assert latent is not None
    decoded = vae.decode(latent)[0]
    assert first.microstructure is not None
    assert np.mean(first.microstructure != decoded) < 0.1
    assert first.phase_compositions is not None
    assert designs[0].phase_compositions is not None
    np.testing.assert_allclose(first.phase_compositions, designs[0].phase_compositions, atol=0.03)


def test_frames_with_noise_of_their_own_are_another_walk_between_the_same_ends(
    editor: Editor, designs: list[Candidate]
) -> None:
    def walk(seed: int) -> list[Candidate]:
        rng = np.random.default_rng(seed)
        return editor.frames(designs[0], designs[1], 4, path="linear", depth=0.9, rng=rng)

    first, again, other = walk(0), walk(0), walk(1)
    assert first == again
    for found in (first, other):
        assert found[0] is designs[0]
        assert found[-1] is designs[1]
    assert {c.id for c in first[1:-1]}.isdisjoint(c.id for c in other[1:-1])
    assert editor.frames(designs[0], designs[1], 2) == designs  # nothing in between


class Fractions:
    """Fraction of the second phase, with gradient."""

    def properties_of(
        self, fields: Tensor | None, compositions: Tensor | None
    ) -> dict[str, Tensor]:
        assert fields is not None
        assert compositions is not None
        return {"fraction": fields[:, 1].mean((1, 2)) + 0.0 * compositions.sum((1, 2))}


def test_steered_frames_have_the_fractions_that_are_asked(
    editor: Editor, designs: list[Candidate]
) -> None:
    flow = copy.copy(editor.flow)
    flow.models = (cast(Any, Fractions()),)
    place = flow.properties.index("fraction")
    start, end = (float(d.phase_fractions()[1]) for d in designs)
    ends = np.full((2, len(flow.properties)), np.nan)
    ends[:, place] = start, end
    requests = evenly(ends[0], ends[1], 6)
    plain, steered = (
        Editor(flow, steps=4).frames(
            designs[0], designs[1], 6, requests=requests, steering=steering
        )
        for steering in (None, Steering(composition_steps=0))
    )

    def error(frames: list[Candidate]) -> float:
        found = [float(c.phase_fractions()[1]) for c in frames]
        return float(np.abs(np.array(found) - requests[:, place]).max())

    # A pixel of 32 x 32 is 0.001; the untrained decoder moves several at once.
    assert error(steered) < max(0.02, 0.5 * error(plain))
    assert steered[1].origin.details["simulator_gradients"] > 0
    with pytest.raises(InvalidInputError, match="without requests"):
        Editor(flow, steps=4).frames(designs[0], designs[1], 6, steering=Steering())
    with pytest.raises(InvalidInputError, match="without simulators that have derivatives"):
        editor.frames(designs[0], designs[1], 6, requests=requests, steering=Steering())


def test_property_values_go_evenly_from_one_design_to_the_other() -> None:
    found = evenly([1.0, np.nan], [3.0, 2.0], 5)
    np.testing.assert_allclose(found[:, 0], [1.0, 1.5, 2.0, 2.5, 3.0])
    assert np.isnan(found[:, 1]).all()
    with pytest.raises(InvalidInputError, match="at least 2"):
        evenly([1.0], [2.0], 1)


def test_variations_grow_with_their_strength(editor: Editor, designs: list[Candidate]) -> None:
    distance = []
    for strength in (0.05, 0.9):
        found = editor.variations(designs[0], 8, strength=strength, rng=np.random.default_rng(0))
        images = np.stack([c.microstructure for c in found if c.microstructure is not None])
        distance.append(np.mean(images != designs[0].microstructure))
    assert distance[0] < distance[1]


def test_repair_keeps_every_sound_pixel(editor: Editor, designs: list[Candidate]) -> None:
    image = designs[0].microstructure
    assert image is not None
    damaged = np.zeros(image.shape, dtype=bool)
    damaged[2:9, 4:10] = True
    found = editor.repair(designs[0], damaged, 3, rng=np.random.default_rng(1), resample=2)
    for c in found:
        assert c.microstructure is not None
        np.testing.assert_array_equal(c.microstructure[~damaged], image[~damaged])
        np.testing.assert_array_equal(c.phase_compositions, designs[0].phase_compositions)
    with pytest.raises(InvalidInputError, match="mask of damaged pixels has shape"):
        editor.repair(designs[0], damaged[:-1], rng=np.random.default_rng(1))


def test_one_part_given_the_other(editor: Editor, designs: list[Candidate]) -> None:
    image = designs[0].microstructure
    assert image is not None
    alloys = editor.compositions_for(image, 4, rng=np.random.default_rng(0))
    assert len({c.id for c in alloys}) == 4
    for c in alloys:
        np.testing.assert_array_equal(c.microstructure, image)
        assert editor.flow.space.violations(c) == []
    pictures = editor.microstructures_for(designs[0], 4, rng=np.random.default_rng(0))
    assert len({c.id for c in pictures}) == 4
    for c in pictures:
        np.testing.assert_array_equal(c.phase_compositions, designs[0].phase_compositions)


def test_what_does_not_fit_is_refused(editor: Editor, designs: list[Candidate]) -> None:
    other = Candidate(phases=("a", "b"), microstructure=np.eye(16, dtype=np.uint8))
    with pytest.raises(InvalidInputError, match=r"has phases a, b of no elements; expected"):
        editor.frames(designs[0], other, 3)
    with pytest.raises(InvalidInputError, match="requests have shape"):
        editor.frames(designs[0], designs[1], 3, requests=np.zeros((2, 1)))
    with pytest.raises(InvalidInputError, match="not trained"):
        Editor(untrained(BOTH))
