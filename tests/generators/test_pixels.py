"""Images as their pixels: exact both ways, of unit scale, and a generator works over them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from generators.editor import Editor
from generators.flow import JointFlow
from generators.networks.dit import JointTransformer
from generators.networks.unet import JointUNet
from generators.pixels import PixelCode
from loop.candidate import Candidate, Outcome
from loop.errors import InvalidInputError
from loop.protocols import Differentiable
from tests import libraries
from tests.generators import made

KIND = "image and compositions"
SMALL = {"space": "pixel", "first_steps": 8, "retrain_steps": 3, "batch": 8, "plain_rows": 64}


def labels(phases: int, n: int = 40, shape: tuple[int, int] = (16, 24)) -> NDArray[np.uint8]:
    shares = np.arange(1, phases + 1) / np.arange(1, phases + 1).sum()
    rng = np.random.default_rng(phases)
    return rng.choice(phases, (n, *shape), p=shares).astype(np.uint8)


@pytest.mark.parametrize("phases", [2, 3, 5])
def test_the_way_there_and_back_is_exact(phases: int) -> None:
    images = labels(phases)
    code = PixelCode.of_images(torch.from_numpy(images), phases, "cpu")
    coded = code.encode(torch.from_numpy(images))
    assert coded.shape == (40, 1 if phases == 2 else phases, 16, 24)
    assert coded.dtype == torch.float32
    assert np.array_equal(code.decode(coded), images)
    assert code.decode(coded).dtype == np.uint8
    assert code.reconstruction_error(images) == 0.0
    channels = coded.shape[1]
    assert coded.mean((0, 2, 3)).numpy() == pytest.approx(np.zeros(channels), abs=1e-5)
    assert coded.std((0, 2, 3)).numpy() == pytest.approx(np.ones(channels), abs=1e-4)
    fields = coded * code.std + code.mean
    assert fields.abs().numpy() == pytest.approx(np.ones(fields.shape), abs=1e-5)


def test_an_absent_phase_does_no_harm() -> None:
    images = torch.from_numpy(labels(2))
    code = PixelCode.of_images(images, 3, "cpu")
    assert bool(code.encode(images).isfinite().all())
    assert np.array_equal(code.decode(code.encode(images)), images.numpy())
    with pytest.raises(InvalidInputError, match="images of 1 phase have nothing to learn"):
        PixelCode.of_images(torch.zeros_like(images), 1, "cpu")


@pytest.mark.parametrize("phases", [2, 3])
def test_logits_lead_to_the_labels_with_gradient(phases: int) -> None:
    images = torch.from_numpy(labels(phases, n=4))
    code = PixelCode.of_images(images, phases, "cpu")
    latents = code.encode(images).requires_grad_()
    logits = code.logits(latents)
    assert logits.shape == (4, phases, 16, 24)
    assert torch.equal(logits.argmax(1), images.long())
    logits.softmax(1)[:, 1].mean().backward()
    assert latents.grad is not None
    # More of the channel that says "phase 1" is more of phase 1.
    assert bool((latents.grad[:, 0 if phases == 2 else 1] > 0).all())


def test_restored_from_its_tensors_it_is_the_same() -> None:
    images = torch.from_numpy(labels(3))
    code = PixelCode.of_images(images, 3, "cpu")
    back = PixelCode.restore(code.tensors(), 3, "cpu")
    assert torch.equal(back.encode(images), code.encode(images))


# As the space of a generator


def untrained(name: str, network: str, kind: str = KIND) -> JointFlow:
    given = {**SMALL, "network": network}
    if network == "unet":
        given |= {"channels": 4, "width": 16}
    found = made.untrained(name, kind, **given)
    assert isinstance(found, JointFlow)
    return found


@cache
def trained(name: str, network: str) -> JointFlow:
    new = untrained(name, network)
    designs = new.library.draw(24, rng=np.random.default_rng(0))
    return new.fit(libraries.scored(designs), rng=np.random.default_rng(1))


@pytest.mark.parametrize("network", ["dit", "unet"])
@pytest.mark.parametrize("name", ["joint-flow", "diffusion"])
def test_generators_work_over_pixels(name: str, network: str, tmp_path: Path) -> None:
    model = trained(name, network)
    kinds = {"dit": JointTransformer, "unet": JointUNet}
    assert isinstance(model.network, kinds[network])
    assert model.trained_network().latent_shape == (1, 32, 32)
    rng = np.random.default_rng(2)
    found = model.propose(4, model.targets, guidance=2.0, rng=rng)
    for c in found:
        assert [v for v in model.space.violations(c) if "image is constant" not in v] == []
    digest, path = model.save(tmp_path)
    other = untrained(name, "dit")  # the network's kind comes from the file, too
    back = other.load(path)
    again = back.propose(4, model.targets, guidance=2.0, rng=np.random.default_rng(2))
    assert again == found
    assert back.save(tmp_path / "again")[0] == digest


def test_a_damaged_image_is_repaired_pixel_by_pixel() -> None:
    model = trained("diffusion", "dit")
    first = model.library.draw(1, rng=np.random.default_rng(3))[0]
    image = first.microstructure
    assert image is not None
    damaged = np.zeros(image.shape, dtype=bool)
    damaged[5:9, 11:14] = True
    repaired = Editor(model, steps=2).repair(
        first, damaged, 2, rng=np.random.default_rng(0), resample=1
    )
    for c in repaired:
        assert c.microstructure is not None
        assert np.array_equal(c.microstructure[~damaged], image[~damaged])


class Rule:
    """The library's rule for properties, with derivatives."""

    name, version = "rule", "1"
    outputs: Mapping[str, str] = {"density": "g/cm3", "fraction": "1"}

    def evaluate(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        return [Outcome("ok", libraries.rule(c)) for c in candidates]

    def properties_of(
        self, fields: Tensor | None, compositions: Tensor | None
    ) -> Mapping[str, Tensor]:
        assert fields is not None
        assert compositions is not None
        shares = fields.mean((2, 3)).double()
        overall = (shares[:, :, None] * compositions).sum(1)
        return {"density": overall @ torch.from_numpy(libraries.WEIGHTS), "fraction": shares[:, 1]}


@pytest.mark.parametrize("name", ["joint-flow", "diffusion"])
def test_simulators_guide_pixels_to_the_request(name: str) -> None:
    """The fraction to the nearest pixels, the density by the compositions, inside their bounds."""
    model = copy.copy(trained(name, "dit"))
    assert isinstance(Rule(), Differentiable)
    model.models = (Rule(),)
    found = model.propose(12, model.targets, guidance=1.0, rng=np.random.default_rng(4))
    errors = []
    for c in found:
        assert model.space.violations(c) == []
        values, wanted = libraries.rule(c), c.origin.details["requested"]
        errors.append([abs(values[k] / wanted[k] - 1) for k in ("density", "fraction")])
    density, fraction = np.median(errors, axis=0)
    assert density < 1e-3
    assert fraction < 2 / (0.5 * 32 * 32)


def test_a_checkpoint_of_another_image_size_is_refused(tmp_path: Path) -> None:
    model = trained("joint-flow", "unet")
    _, path = model.save(tmp_path)
    larger = replace(model.space, image_shape=(48, 32))
    other = JointFlow(larger, model.library, model.targets, model.properties, model.settings)
    with pytest.raises(InvalidInputError, match=r"has latent_shape \[1, 32, 32\], this campaign"):
        other.load(path)
