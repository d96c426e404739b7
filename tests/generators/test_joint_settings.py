"""Presets and settings of flow and diffusion, and that they reach what they are for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from generators import registry
from generators.coding import JointCode
from generators.dynamics.flow import interpolate
from generators.flow import JointFlow
from generators.joint_settings import DIFFUSION_PRESETS, PRESETS
from generators.joint_vae import JointVAE, joint_vae_settings
from generators.networks.joint import PIXEL_PATCH, joint_network
from generators.networks.mlp import count_parameters
from generators.training.flow_matching import FlowSettings
from generators.training.precision import Computation, TrainingSettings
from generators.vae import ImageVAE, VAESettings
from loop.errors import InvalidCampaignError
from loop.protocols import silent
from tests import libraries

BOTH = "image and compositions"


def made(name: str, kind: str, settings: Mapping[str, Any]) -> JointFlow:
    space = libraries.SPACES[kind]
    found = registry.create(
        name,
        space=space,
        library=libraries.library(space),
        targets=libraries.targets(space),
        properties=libraries.properties(space),
        preset="tiny",
        settings=settings,
    )
    assert isinstance(found, JointFlow)
    return found


def network_of(s: FlowSettings, kind: str, side: int) -> torch.nn.Module:
    """On the device without memory: of images of ``side`` px, two phases of nine elements."""
    latent = s.vae.latent_channels, side // 8, side // 8
    with torch.device("meta"):
        return joint_network(
            kind,
            latent_shape=latent if s.space == "latent" else (1, side, side),
            vector_sizes=(9, 9),
            properties=6,
            width=s.width,
            depth=s.depth,
            heads=s.heads,
            channels=s.channels,
            patch=2 if s.space == "latent" else PIXEL_PATCH,
        )


@pytest.mark.parametrize("presets", [PRESETS, DIFFUSION_PRESETS])
@pytest.mark.parametrize("kind", ["dit", "unet"])
def test_the_gpu_preset_is_large_and_takes_images_to_256(
    presets: Mapping[str, FlowSettings], kind: str
) -> None:
    assert count_parameters(network_of(presets["gpu"], kind, 256)) >= 50e6
    for side in (64, 128, 256):
        network = network_of(presets["gpu"], kind, side)
        size = 8 * (side // 8) ** 2 + 18
        with torch.device("meta"):
            found = network(
                torch.zeros(2, size),
                torch.zeros(2),
                torch.zeros(2, 6),
                torch.zeros(2, 6, dtype=torch.bool),
            )
        assert found.shape == (2, size)
    in_pixels = replace(presets["gpu"], space="pixel")
    assert count_parameters(network_of(in_pixels, kind, 256)) >= 50e6
    assert count_parameters(network_of(presets["cpu"], "dit", 64)) < 2e6


@pytest.mark.parametrize("side", [64, 128, 256, 512])
def test_the_autoencoder_takes_images_from_64_to_512(side: int) -> None:
    """One step on a small batch, and the way there and back."""
    rng = np.random.default_rng(side)
    images = torch.from_numpy((rng.random((2, side, side)) < 0.4).astype(np.uint8))
    settings = VAESettings(latent_channels=2, width=8, steps=1, batch=2, images=2)
    vae = ImageVAE.fit_images(images, settings, phases=2, device="cpu", rng=rng)
    latents = vae.encode(images)
    assert latents.shape == (2, 2, side // 8, side // 8)
    assert float(latents.std()) == pytest.approx(1.0, abs=0.05)
    assert vae.decode(latents).shape == (2, side, side)


def test_defaults_of_the_diffusion_are_those_of_the_flow() -> None:
    for name, preset in PRESETS.items():
        for key in ("width", "depth", "first_steps", "vae", "training", "network", "space"):
            assert getattr(DIFFUSION_PRESETS[name], key) == getattr(preset, key)


def test_settings_of_a_campaign_reach_the_generator() -> None:
    given = {
        "process": "vp",
        "sampler": "predictor_corrector",
        "training": {"precision": "bf16", "channels_last": False, "compile": True, "pictures": 7},
    }
    found = made("diffusion", BOTH, given).settings
    expected = TrainingSettings("bf16", compile=True, channels_last=False, pictures=7)
    assert found.training == expected
    assert expected.computation("cpu") == Computation("bf16", compiler="inductor")
    assert TrainingSettings().computation("cpu") == Computation.suited("cpu")
    half = TrainingSettings("fp16", channels_last=True).computation("cpu")
    assert half == Computation("fp16", channels_last=True)


# Vectors with a noising of their own


def test_shifted_vectors_have_so_many_times_the_signal() -> None:
    """The vectors at time t are noised as at k t/(1 + (k − 1) t); both ends are as before."""
    space = libraries.SPACES["process"]
    library = libraries.library(space)
    designs = library.draw(3000, rng=np.random.default_rng(0))
    settings = VAESettings()
    codes = {
        k: JointCode.fit(
            space,
            library,
            designs,
            settings,
            device="cpu",
            rng=np.random.default_rng(0),
            progress=silent,
            vector_scale=k,
        )
        for k in (1.0, 3.0)
    }
    plain, shifted = (codes[k].vectors(designs) for k in (1.0, 3.0))
    torch.testing.assert_close(shifted, 3 * plain)
    noise = torch.randn(plain.shape, generator=torch.Generator().manual_seed(1))
    for time in (0.0, 0.2, 0.7, 1.0):
        t = torch.full((len(plain),), time)
        own = 3 * time / (1 + 2 * time)
        scale = 1 + 2 * time  # between the two: the same state but for its unit
        expected = scale * interpolate(plain, noise, torch.full_like(t, own))
        torch.testing.assert_close(interpolate(shifted, noise, t), expected, rtol=1e-5, atol=1e-5)
    # At noise nothing is left of the data, and at data all of it comes back.
    assert torch.equal(interpolate(shifted, noise, torch.zeros(len(plain))), noise)
    back = codes[3.0].candidates(
        None,
        codes[3.0].compositions_of(shifted),
        shifted,
        [design.origin for design in designs],
    )
    for found, design in zip(back[:200], designs[:200], strict=True):
        assert found.phase_compositions is not None
        assert design.phase_compositions is not None
        np.testing.assert_allclose(found.phase_compositions, design.phase_compositions, atol=1e-6)
        temperature = design.process["temperature_K"]
        assert found.process["temperature_K"] == pytest.approx(temperature, rel=1e-5)


@pytest.mark.parametrize("name", ["joint-flow", "diffusion"])
def test_a_generator_with_shifted_vectors_is_kept_with_its_shift(name: str, tmp_path: Path) -> None:
    model = made(name, "process", {"vector_shift": 2.5})
    records = libraries.scored(model.library.draw(300, rng=np.random.default_rng(0)))
    model = model.fit(records, rng=np.random.default_rng(1))
    assert model.code is not None
    spread = model.code.vectors([r.candidate for r in records])[:, -1].std()  # the process variable
    assert float(spread) == pytest.approx(2.5, rel=1e-2)

    def proposals(generator: JointFlow) -> list[str]:
        rng = np.random.default_rng(2)
        return [c.id for c in generator.propose(16, model.targets, guidance=1.0, rng=rng)]

    _, path = model.save(tmp_path)
    back = made(name, "process", {}).load(path)
    assert back.settings.vector_shift == 2.5
    assert proposals(back) == proposals(model)


# Pictures and figures of a training


@pytest.mark.parametrize("name", ["joint-flow", "diffusion"])
def test_pictures_lie_beside_the_metrics(name: str, tmp_path: Path) -> None:
    run, stage = tmp_path / "run", name.replace("joint-flow", "joint flow")
    model = made(name, BOTH, {"training": {"pictures": 10}})
    records = libraries.scored(model.library.draw(40, rng=np.random.default_rng(0)))
    kept = model.resumable(run / "checkpoints" / "training")
    found = kept.fit(records, rng=np.random.default_rng(1))
    pictures = sorted(p.name for p in (run / "pictures").iterdir())
    autoencoder = [f"autoencoder-{step:06d}.png" for step in (10, 20)]
    assert pictures == [*autoencoder, *(f"{name}-{step:06d}.png" for step in (10, 20, 30))]
    sheet = np.asarray(Image.open(run / "pictures" / f"{name}-000030.png"))
    side = 4 * 32 + 3 * 2  # 16 images and the gaps between them
    assert sheet.shape == (side, side)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {line["stage"] for line in lines} >= {"autoencoder", stage, "compositions"}
    # Looking on does not change what is learned, nor does it where nothing is kept.
    plain = made(name, BOTH, {}).fit(records, rng=np.random.default_rng(1))
    for mine, other in zip(
        found.trained_network().parameters(), plain.trained_network().parameters(), strict=True
    ):
        assert torch.equal(mine, other)


def test_training_settings_of_the_autoencoder_as_generator(tmp_path: Path) -> None:
    """Its precision is float32 unless it is given: on every device the bound is exact."""
    space = libraries.SPACES["image"]
    base = joint_vae_settings("tiny", {"training": {"pictures": 20}})
    assert base.training.computation(None) == Computation()
    half = joint_vae_settings("tiny", {"training": {"precision": "bf16"}})
    assert half.training.computation(None) == Computation("bf16")
    library, targets = libraries.library(space), libraries.targets(space)
    model = JointVAE(space, library, targets, libraries.properties(space), base)
    records = libraries.scored(library.draw(40, rng=np.random.default_rng(0)))
    run = tmp_path / "run"
    model.resumable(run / "checkpoints" / "training").fit(records, rng=np.random.default_rng(1))
    found = sorted(path.name for path in (run / "pictures").iterdir())
    assert found == [
        "autoencoder-000020.png",
        *(f"joint-autoencoder-0000{n}.png" for n in (20, 40)),
    ]


def test_words_for_unknown_settings_name_the_place() -> None:
    with pytest.raises(
        InvalidCampaignError, match=r"generator\.settings\.training: unknown key 'precison'"
    ):
        made("joint-flow", "compositions", {"training": {"precison": "bf16"}})
    with pytest.raises(
        InvalidCampaignError, match=r"settings\.network is 'resnet'; expected dit or unet"
    ):
        made("joint-flow", BOTH, {"network": "resnet"})
