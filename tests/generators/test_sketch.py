"""What is drawn before an image: requested fractions to the pixel, and the rest as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from generators.morphology import Morphology, SketchSettings
from generators.registry import PRESETS
from generators.sketch import Sketch, same_fractions
from generators.training import checkpoint
from loop.candidate import Candidate
from loop.errors import InvalidInputError
from tests.generators.test_flow import proposals, trained, untrained
from tests.libraries import blobs, scored

FloatArray = NDArray[np.float64]
WITH_IMAGES = ("image and compositions", "image")
SETTINGS = SketchSettings(width=16, depth=2, sample_steps=6)


def images_of(designs: list[Candidate]) -> NDArray[np.uint8]:
    return np.stack([c.microstructure for c in designs if c.microstructure is not None])


@pytest.mark.parametrize("kind", WITH_IMAGES)
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_a_requested_fraction_is_met_to_the_pixel(kind: str, guidance: float) -> None:
    flow = trained(kind)
    requests = np.full((12, len(flow.properties)), np.nan)
    asked = np.linspace(0.35, 0.65, 12)
    requests[:, flow.properties.index("fraction")] = asked
    found = images_of(flow.generate(requests, guidance=guidance, rng=np.random.default_rng(0)))
    pixels = found[0].size
    assert np.abs(found.mean((1, 2)) - asked).max() <= 0.5 / pixels + 1e-7


def test_without_guidance_no_fraction_is_set() -> None:
    flow = trained("image")
    found = images_of(
        flow.generate(np.full((12, 1), 0.9), guidance=0.0, rng=np.random.default_rng(0))
    )
    assert found.mean((1, 2)).max() < 0.85


def test_an_image_of_which_nothing_is_asked_is_as_sampled() -> None:
    """Whatever is asked of the others."""
    flow = trained("image")
    found = []
    for fraction in (0.4, 0.6):
        requests = np.full((8, 1), np.nan)
        requests[::2] = fraction
        made = flow.generate(requests, guidance=1.0, rng=np.random.default_rng(0))
        found.append(images_of(made))
    np.testing.assert_array_equal(found[0][1::2], found[1][1::2])
    assert not np.array_equal(found[0][::2], found[1][::2])
    assert np.abs(found[0][1::2].mean((1, 2)) - 0.4).max() > 0.05


@pytest.mark.parametrize("kind", ["compositions", "process"])
def test_without_images_there_is_nothing_to_sketch(kind: str) -> None:
    assert trained(kind).sketch is None


def test_the_property_that_is_the_fraction_is_known_from_the_rows() -> None:
    rng = np.random.default_rng(0)
    fractions = rng.uniform(0.1, 0.9, (500, 2))
    values = np.column_stack(
        [
            fractions[:, 0] ** 1.1,  # close to it is not it
            fractions[:, 1] + rng.normal(0, 1e-3, 500),  # predicted by a surrogate
            rng.uniform(0.1, 0.9, 500),
        ]
    )
    values[::3, 1] = np.nan
    assert same_fractions(fractions, values).tolist() == [-1, 1]
    assert same_fractions(np.full((5, 1), 0.3), np.full((5, 1), 0.3)).tolist() == [-1]


def test_what_is_not_asked_for_stays_near_what_the_image_has() -> None:
    """An untrained flow stands still: what it begins with is the mixture of image and noise."""
    some = np.stack(blobs(50, np.random.default_rng(1), side=32))
    morphology = Morphology.fit(some, 2)
    sketch = Sketch.create(morphology, 1, SETTINGS)
    own = morphology.of(some)
    y, known = torch.zeros(50, 1), torch.zeros(50, 1, dtype=torch.bool)
    free = np.full((50, 1), np.nan)
    for start in (0.0, 0.4, 0.9):
        settings = replace(SETTINGS, start=start)
        source = torch.Generator().manual_seed(3)
        found = sketch.draw(own, sketch.under(y, known), free, 1.0, settings, source)
        noise = torch.randn(own.shape, generator=torch.Generator().manual_seed(3))
        expected = (1 - start) * noise + start * own
        np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-5)


def test_a_checkpoint_from_before_there_was_one_is_read(tmp_path: Path) -> None:
    flow = trained("image and compositions")
    _, path = flow.save(tmp_path)
    tensors, card = checkpoint.load(path)
    card["settings"].pop("sketch")
    old = {k: v for k, v in tensors.items() if not k.startswith("sketch")}
    _, before = checkpoint.save(tmp_path, old, card)
    back = untrained("image and compositions").load(before)
    assert back.sketch is None
    assert len(proposals(back)) == 8
    # Training goes on from it, and has one then.
    designs = flow.library.draw(20, rng=np.random.default_rng(7))
    assert back.fit(scored(designs), rng=np.random.default_rng(8)).sketch is not None


def test_sizes_come_from_the_checkpoint(tmp_path: Path) -> None:
    flow = trained("image")
    _, path = flow.save(tmp_path)
    tiny = PRESETS["tiny"]
    other = replace(tiny, sketch=replace(tiny.sketch, width=48, depth=3, image_steps=2))
    back = untrained("image", other).load(path)
    assert (back.settings.sketch.width, back.settings.sketch.depth) == (16, 2)
    assert back.settings.sketch.image_steps == 2
    tensors, card = checkpoint.load(path)
    tensors["sketch.leave.weight"] = tensors["sketch.leave.weight"][:, :-1]
    _, wrong = checkpoint.save(tmp_path, tensors, card)
    with pytest.raises(InvalidInputError, match=r"is of another architecture: .*sketch.leave"):
        untrained("image").load(wrong)
