"""Joint diffusion: the flow's rules with another way to noise; editing, likelihood, checkpoints."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from generators import registry
from generators.coding import JointCode
from generators.diffusion import JointDiffusion
from generators.dynamics.gaussian import GaussianVelocity
from generators.dynamics.likelihood import flow_log_likelihood
from generators.editor import Editor
from generators.flow import JointFlow
from generators.joint_settings import DIFFUSION_PRESETS
from generators.processes import PATHS
from generators.training import checkpoint
from generators.training.denoising import SAMPLERS, DiffusionSettings
from loop.candidate import Candidate
from loop.errors import InvalidCampaignError, InvalidInputError
from loop.protocols import silent
from loop.scaling import PropertyScale
from tests import libraries

KINDS = list(libraries.SPACES)
TINY = replace(DIFFUSION_PRESETS["tiny"], vae=replace(DIFFUSION_PRESETS["tiny"].vae, steps=30))
BOTH = "image and compositions"


def untrained(kind: str, settings: DiffusionSettings = TINY) -> JointDiffusion:
    space = libraries.SPACES[kind]
    library = libraries.library(space)
    properties = libraries.properties(space)
    return JointDiffusion(space, library, libraries.targets(space), properties, settings)


@cache
def trained(kind: str, settings: DiffusionSettings = TINY) -> JointDiffusion:
    new = untrained(kind, settings)
    designs = new.library.draw(40, rng=np.random.default_rng(0))
    found = new.fit(libraries.scored(designs), rng=np.random.default_rng(1))
    assert isinstance(found, JointDiffusion)
    return found


@cache
def gaussian(**given: Any) -> JointDiffusion:
    """With an untrained network, which adds nothing: the model is the Gaussian of its data."""
    settings = replace(TINY, **given)
    model = untrained("process", settings)
    designs = model.library.draw(300, rng=np.random.default_rng(0))
    model.code = JointCode.fit(
        model.space,
        model.library,
        designs,
        settings.vae,
        device="cpu",
        rng=np.random.default_rng(0),
        progress=silent,
    )
    model.property_scale = PropertyScale.fit(np.linspace(7, 9, 20)[:, None])
    torch.manual_seed(0)
    model.network = model.make_network(model.code).eval()
    model.linear = GaussianVelocity.fit(model.code.states(designs))
    return model


def proposals(model: JointFlow, guidance: float = 2.0, n: int = 8) -> list[Candidate]:
    return model.propose(n, model.targets, guidance=guidance, rng=np.random.default_rng(2))


def free(model: JointFlow, n: int) -> Any:
    return np.full((n, len(model.properties)), np.nan)


# A model whose truth is known


@pytest.mark.parametrize("process", PATHS)
@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
def test_its_velocity_is_that_of_the_gaussian_of_its_data(prediction: str, process: str) -> None:
    """In float32, through the level and scale of the process."""
    model = gaussian(prediction=prediction, process=process)
    assert model.linear is not None
    x = torch.randn(
        5, model.trained_network().state_size, generator=torch.Generator().manual_seed(0)
    )
    for time in (0.0, 0.3, 1.0):
        t = torch.full((5,), time)
        with torch.no_grad():
            found = model.velocity(free(model, 5), 2.0)(x, t)
        torch.testing.assert_close(found, model.linear(x, t), rtol=1e-4, atol=1e-4)


def test_its_samples_have_the_mean_and_covariance_of_the_data() -> None:
    """Each sampler's own error is in test_denoiser; here 3,000 samples within their scatter."""
    model = gaussian(sampler="heun", sample_steps=20)
    linear = model.linear
    assert linear is not None
    n = 3000
    noise = torch.randn(
        n, model.trained_network().state_size, generator=torch.Generator().manual_seed(1)
    )
    with torch.no_grad():
        found = model.sample(noise, free(model, n), 1.0).double()
    covariance = (linear.axes * linear.variance) @ linear.axes.T
    spread = covariance.diagonal().sqrt().double()
    mean = linear.mean.double()
    moved = spread > 0.1  # the presence of an element that all have is a constant
    assert bool(((found.mean(0) - mean).abs() < 4.5 * spread / n**0.5)[moved].all())
    error = (torch.cov(found.T) - covariance).abs() / spread[:, None] / spread
    assert float(error[moved][:, moved].max()) < 4.5 * (2 / n) ** 0.5
    # Its 1e-2 is the least deviation that is taken for granted, less than 20 steps resolve.
    assert bool(((found.mean(0) - mean).abs() < spread)[~moved].all())


def test_its_likelihood_is_the_density_of_the_gaussian() -> None:
    """The data have an element that is absent in half of them: far from singular all the same."""
    model = gaussian()
    linear = model.linear
    assert linear is not None
    states = (
        linear.mean
        + torch.randn(
            6, model.trained_network().state_size, generator=torch.Generator().manual_seed(2)
        )
        @ (linear.axes * linear.variance.sqrt()).T
    )
    found = flow_log_likelihood(model.velocity(free(model, 6), 1.0), states, tolerance=1e-6)
    covariance = (linear.axes * linear.variance) @ linear.axes.T
    law = torch.distributions.MultivariateNormal(linear.mean.double(), covariance.double())
    torch.testing.assert_close(found.double(), law.log_prob(states.double()), rtol=2e-3, atol=2e-2)


# As a generator; the contract of all is in test_contract


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
def test_guidance_of_the_velocity_is_the_one_convention(prediction: str, scale: float) -> None:
    model = trained("compositions", replace(TINY, prediction=prediction))
    requests = np.random.default_rng(0).uniform(7.0, 9.0, (5, 1))
    x = torch.randn(5, model.trained_network().state_size)
    t = torch.full((5,), 0.6)
    with torch.no_grad():
        base, conditional, found = (model.velocity(requests, s)(x, t) for s in (0.0, 1.0, scale))
    expected = base + scale * (conditional - base)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(base, conditional)


def goes_with(sampler: str, process: str) -> bool:
    if sampler in ("euler_maruyama", "predictor_corrector"):
        return process in ("vp", "subvp", "ve", "edm")
    return sampler not in ("edm", "langevin") or process in ("ve", "edm")


@pytest.mark.parametrize("process", PATHS)
def test_samplers_that_go_with_a_process_propose_designs(process: str) -> None:
    """With one trained network, the others are refused when the generator is made."""
    settings = replace(TINY, process=process, first_steps=5, head_first_steps=5)
    model = trained("compositions", settings)
    for sampler in SAMPLERS:
        asked = replace(settings, sampler=sampler)
        if not goes_with(sampler, process):
            message = f"sampler {sampler} does not go with process {process}; expected one of ddpm"
            with pytest.raises(InvalidCampaignError, match=message):
                untrained("compositions", asked)
            continue
        model.settings = asked
        found = proposals(model)
        assert len(found) == 8
        assert found == proposals(model)
        assert all(model.space.violations(c) == [] for c in found)


def test_before_it_is_trained_it_says_so() -> None:
    with pytest.raises(InvalidInputError, match="diffusion is not trained; call fit"):
        proposals(untrained("compositions"))


def test_all_edits_work_with_it() -> None:
    model = trained(BOTH)
    editor = Editor(model, steps=3)
    first, second = model.library.draw(2, rng=np.random.default_rng(3))
    rng = np.random.default_rng(0)
    image = first.microstructure
    assert image is not None
    damaged = np.zeros(image.shape, dtype=bool)
    damaged[4:9, 4:9] = True
    found = [
        *editor.frames(first, second, 4),
        *editor.variations(first, 2, strength=0.5, rng=rng),
        *editor.compositions_for(image, 2, rng=rng),
        *editor.microstructures_for(first, 2, rng=rng),
        *editor.repair(first, damaged, 2, rng=rng, resample=1),
    ]
    assert len(found) == 12
    for c in found:
        assert [v for v in model.space.violations(c) if "image is constant" not in v] == []
    whole = editor.extend(first, (image.shape[0] * 2, image.shape[1]), rng=rng)
    assert whole.shape == (64, 32)


# Keeping


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_proposes_bit_for_bit_the_same(kind: str, tmp_path: Path) -> None:
    model = trained(kind)
    digest, path = model.save(tmp_path)
    back = untrained(kind).load(path)
    assert isinstance(back, JointDiffusion)
    for guidance in (0.0, 2.0):
        assert proposals(back, guidance, 12) == proposals(model, guidance, 12)
    assert back.save(tmp_path / "again")[0] == digest


def test_what_the_weights_are_of_comes_from_the_checkpoint(tmp_path: Path) -> None:
    """Process and prediction with the sizes; how it is sampled from the campaign."""
    model = trained("compositions", replace(TINY, prediction="x0", process="vp"))
    _, path = model.save(tmp_path)
    back = untrained("compositions", replace(TINY, sampler="ddim", eta=0.5)).load(path)
    assert isinstance(back, JointDiffusion)
    assert (back.settings.prediction, back.settings.process) == ("x0", "vp")
    assert (back.settings.sampler, back.settings.eta) == ("ddim", 0.5)
    assert len(proposals(back)) == 8
    edm = untrained("compositions", replace(TINY, process="edm", sampler="edm"))
    with pytest.raises(InvalidCampaignError, match="sampler edm does not go with process vp"):
        edm.load(path)


def test_checkpoints_of_something_else_are_refused(tmp_path: Path) -> None:
    model = trained("compositions")
    _, path = model.save(tmp_path)
    space = model.space
    flow = JointFlow(space, model.library, model.targets, model.properties, TINY)
    with pytest.raises(InvalidInputError, match="has generator diffusion, this campaign has joi"):
        flow.load(path)
    tensors, card = checkpoint.load(path)
    sized = {**card, "settings": {**card["settings"], "depth": 3}}
    _, other = checkpoint.save(tmp_path, tensors, sized)
    with pytest.raises(InvalidInputError, match="is of another architecture: it has nothing for"):
        untrained("compositions").load(other)
    unknown = {k: v for k, v in card["settings"].items() if k != "process"}
    _, other = checkpoint.save(tmp_path, tensors, {**card, "settings": unknown})
    with pytest.raises(InvalidInputError, match="does not say its process"):
        untrained("compositions").load(other)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    _, path = trained("compositions").save(tmp_path)
    data = path.read_bytes()
    path.write_bytes(save(load(data)))
    with pytest.raises(InvalidInputError, match="does not match the hash in its name"):
        untrained("compositions").load(path)
    path.write_bytes(data[:-10])
    with pytest.raises(InvalidInputError, match="does not match the hash in its name"):
        untrained("compositions").load(path)


class KilledError(Exception):
    pass


def test_a_fit_that_was_killed_ends_with_the_same_weights(tmp_path: Path) -> None:
    """Killed in the middle of the diffusion's training; the state of step 20 is taken up."""
    model = untrained("compositions")
    records = libraries.scored(model.library.draw(40, rng=np.random.default_rng(0)))
    whole = model.fit(records, rng=np.random.default_rng(1))
    stopping = model.resumable(tmp_path / "runs" / "checkpoints" / "state")
    assert stopping.keep is not None
    stopping.keep = replace(stopping.keep, every_steps=10)

    def killing(stage: str, done: int, *_: Any, **__: Any) -> None:
        if stage == "diffusion" and done >= 20:
            raise KilledError

    with pytest.raises(KilledError):
        stopping.fit(records, rng=np.random.default_rng(1), progress=killing)
    steps = []

    def counting(stage: str, done: int, *_: Any, **__: Any) -> None:
        if stage == "diffusion":
            steps.append(done)

    resumed = stopping.fit(records, rng=np.random.default_rng(1), progress=counting)
    assert min(steps) >= 10
    assert resumed.save(tmp_path)[0] == whole.save(tmp_path)[0]


# Bad settings


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sampler": "predictor_corrector"}, "does not go with process cosine; expected one of"),
        ({"sampler": "edm", "process": "vp"}, "sampler edm does not go with process vp"),
        ({"process": "cosin"}, "settings.process is 'cosin'; expected linear or cosine or"),
        ({"prediction": "eps"}, "settings.prediction is 'eps'; expected epsilon or x0 or v"),
        ({"weighting": "snr"}, "settings.weighting is 'snr'; expected simple or min-snr"),
        ({"sampler": "plms"}, "settings.sampler is 'plms'; expected ddpm or ddim"),
        ({"sample_steps": 1001}, "sample_steps is 1001; process cosine has 1000 steps"),
        ({"process": "edm", "sample_steps": 1}, "sample_steps is 1; dpm_solver_pp of process edm"),
        ({"eta": 1.5}, "eta is 1.5; expected 0 (no noise) to 1 (ddpm)"),
        ({"network": "unet"}, "network is unet, but the campaign has no images; use dit"),
        ({"space": "pixel"}, "space is pixel, but the campaign has no images; use latent"),
        ({"vector_shift": 0}, "vector_shift is 0; expected above 0"),
        ({"training": {"precision": "fp8"}}, "training.precision is 'fp8'; expected float32 or"),
        ({"training": {"compile": 1}}, "training.compile is 1; expected true or false"),
        ({"training": {"channels_last": "yes"}}, "channels_last is 'yes'; expected true or false"),
        ({"training": {"pictures": 0}}, "training.pictures is 0; expected a whole number > 0"),
    ],
)
def test_settings_that_do_not_fit_are_named(given: dict[str, Any], message: str) -> None:
    space = libraries.SPACES["compositions"]
    with pytest.raises(InvalidCampaignError) as caught:
        registry.create(
            "diffusion",
            space=space,
            library=libraries.library(space),
            targets=libraries.targets(space),
            properties=libraries.properties(space),
            preset="tiny",
            settings=given,
        )
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
