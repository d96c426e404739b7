"""Generation where the networks are not on the CPU and the simulators are."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from generators.editor import Editor
from generators.familiarity import log_likelihood
from generators.flow import JointFlow
from generators.pixels import PixelCode
from generators.steering import Steering
from generators.training.precision import Computation
from generators.vae import ImageVAE
from loop.candidate import Candidate
from tests import libraries
from tests.generators.elsewhere import DEVICE, Elsewhere, There
from tests.generators.test_flow import TINY, untrained

pytestmark = pytest.mark.usefixtures("one_thread")

BOTH = "image and compositions"


def test_tensors_of_two_devices_do_not_go_together() -> None:
    with Elsewhere():
        x = torch.arange(6.0).reshape(2, 3).to(DEVICE).requires_grad_()
        assert isinstance(x, There)
        assert x.device.type == torch.zeros(2, device=DEVICE).device.type == DEVICE
        assert isinstance(torch.zeros(2, device=DEVICE), There)
        with pytest.raises(RuntimeError, match="expected all tensors on one device"):
            x + torch.ones(2, 3)
        with pytest.raises((RuntimeError, TypeError)):
            x.detach().numpy()
        y = (x * torch.tensor(2.0))[torch.tensor([1])].cpu().square().sum()
        y.backward()
        assert isinstance(x.grad, There)
        assert x.grad.cpu().tolist() == [[0, 0, 0], [24, 32, 40]]


@cache
def trained(space: str) -> JointFlow:
    few: dict[str, Any] = {
        "first_steps": 4,
        "head_first_steps": 4,
        "plain_rows": 40,
        "sample_steps": 2,
    }
    sketch, vae = replace(TINY.sketch, first_steps=4), replace(TINY.vae, steps=4)
    settings = replace(TINY, **few, sketch=sketch, vae=vae, space=space)
    flow = untrained(BOTH, settings)
    designs = flow.library.draw(30, rng=np.random.default_rng(0))
    found = flow.fit(libraries.scored(designs), rng=np.random.default_rng(1))
    assert found.code is not None
    if isinstance(found.code.vae, ImageVAE):
        found.code.vae.how = Computation()
    found.models = (Chain(),)
    return found


class Chain:
    """A simulator of the density, on the CPU alone: its weights are there."""

    def properties_of(
        self, fields: torch.Tensor | None, compositions: torch.Tensor | None
    ) -> dict[str, torch.Tensor]:
        assert fields is not None
        assert compositions is not None
        weights = torch.linspace(6.0, 12.0, compositions.shape[-1], dtype=torch.float64)
        shares = fields.mean((2, 3))
        return {"density": torch.einsum("np,npe,e->n", shares, compositions, weights)}


def moved(flow: JointFlow) -> JointFlow:
    """A copy on the other device."""
    new = copy.copy(flow)
    new.device = DEVICE
    assert flow.code is not None
    vae = copy.copy(flow.code.vae)
    assert vae is not None
    vae.mean, vae.std = vae.mean.to(DEVICE), vae.std.to(DEVICE)
    if not isinstance(vae, PixelCode):
        vae.network = copy.deepcopy(vae.network).to(DEVICE)
    new.code = replace(flow.code, vae=vae)
    assert flow.linear is not None
    new.linear = flow.linear.to(DEVICE)
    for name in ("network", "head"):
        setattr(new, name, copy.deepcopy(getattr(flow, name)).to(DEVICE))
    new.sketch = copy.copy(flow.sketch)
    if new.sketch is not None:
        new.sketch.network = copy.deepcopy(new.sketch.network).to(DEVICE)
    return new


def alike(found: list[Candidate], expected: list[Candidate]) -> None:
    """Equal but for the order of sums: a pixel in a hundred, a composition's fifth digit."""
    for one, other in zip(found, expected, strict=True):
        assert one.microstructure is not None
        assert other.microstructure is not None
        assert np.mean(one.microstructure != other.microstructure) < 0.01
        assert one.phase_compositions is not None
        assert one.phase_compositions == pytest.approx(other.phase_compositions, abs=1e-4)


@pytest.mark.parametrize("space", ["latent", "pixel"])
def test_designs_are_those_of_the_cpu(space: str) -> None:
    """Sampled, brought to drawn statistics, redrawn and steered by a simulator."""
    flow = trained(space)
    requests = np.array([[8.0, np.nan], [np.nan, 0.4], [8.5, 0.5]])
    how = Steering(image_steps=2, composition_steps=2, restarts=1)

    def made(one: JointFlow) -> list[Candidate]:
        rng = np.random.default_rng(0)
        return one.generate(requests, guidance=2.0, rng=rng, steering=how)

    expected = made(flow)
    with Elsewhere():
        alike(made(moved(flow)), expected)


def test_walks_and_likelihoods_are_those_of_the_cpu() -> None:
    flow = trained("latent")
    a, b = flow.library.draw(2, rng=np.random.default_rng(3))

    def made(one: JointFlow) -> tuple[list[Candidate], list[float]]:
        walk = Editor(one, steps=2).frames(a, b, 4)
        likelihood = log_likelihood(one, [a, b], rng=np.random.default_rng(0))
        return walk, likelihood.tolist()

    expected = made(flow)
    with Elsewhere():
        found = made(moved(flow))
    alike(found[0], expected[0])
    assert found[1] == pytest.approx(expected[1], rel=1e-3)
