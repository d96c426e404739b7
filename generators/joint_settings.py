"""Settings of the joint flow and the joint diffusion: presets, and what a campaign changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from generators.morphology import SketchSettings
from generators.settings import with_settings
from generators.training.denoising import DiffusionSettings
from generators.training.flow_matching import FlowSettings
from generators.vae import VAESettings
from loop.errors import InvalidCampaignError, unknown_name
from loop.space import DesignSpace

Joint = TypeVar("Joint", bound=FlowSettings)

PRESETS: Mapping[str, FlowSettings] = {
    # Seconds, for tests: everything is there and nothing is good.
    "tiny": FlowSettings(
        width=32,
        depth=2,
        heads=2,
        channels=8,
        first_steps=30,
        retrain_steps=10,
        batch=32,
        plain_rows=256,
        sample_steps=4,
        head_width=32,
        head_depth=2,
        head_batch=64,
        head_first_steps=40,
        head_retrain_steps=15,
        head_sample_steps=6,
        sketch=SketchSettings(
            width=16,
            depth=2,
            batch=64,
            first_steps=30,
            retrain_steps=10,
            sample_steps=4,
            image_steps=1,
        ),
        vae=VAESettings(latent_channels=4, width=8, steps=20, batch=16, images=256),
    ),
    # Minutes on two cores.
    "cpu": FlowSettings(),
    # Larger network (above 50 million numbers, images to 256²) and longer training on one GPU.
    "gpu": FlowSettings(
        width=512,
        depth=12,
        heads=8,
        channels=128,
        first_steps=20000,
        retrain_steps=4000,
        batch=512,
        learning_rate=4e-4,
        retrain_rate=2e-4,
        sample_steps=25,
        image_rows=65536,
        plain_rows=16384,
        head_width=512,
        head_depth=6,
        head_batch=2048,
        head_rate=1e-3,
        head_first_steps=20000,
        head_retrain_steps=4000,
        head_sample_steps=40,
        sketch=SketchSettings(
            width=128, batch=2048, rate=2e-3, first_steps=8000, retrain_steps=2000, image_steps=8
        ),
        vae=VAESettings(
            latent_channels=8, width=48, learning_rate=1e-3, steps=6000, batch=256, images=65536
        ),
    ),
}

# As those of the flow; steps of a denoiser cost one evaluation, those of the flow two.
DIFFUSION_PRESETS: Mapping[str, DiffusionSettings] = {
    name: DiffusionSettings(
        **{
            field.name: getattr(preset, field.name)
            for field in fields(preset)
            if field.name != "sample_steps"
        },
        sample_steps={"tiny": 8, "cpu": 20, "gpu": 50}[name],
    )
    for name, preset in PRESETS.items()
}


def joint_settings(
    presets: Mapping[str, Joint], preset: str, settings: Mapping[str, Any], space: DesignSpace
) -> Joint:
    """A preset with single settings replaced; raises InvalidCampaignError for unfit ones."""
    if preset not in presets:
        raise InvalidCampaignError("generator: " + unknown_name("preset", preset, presets))
    found = with_settings("generator.settings", presets[preset], settings)
    if found.width % found.heads:
        raise InvalidCampaignError(
            f"generator.settings: width is {found.width} and heads is {found.heads}; "
            "expected a width that is a multiple of heads"
        )
    if found.vae.width % 8:
        raise InvalidCampaignError(
            f"generator.settings.vae: width is {found.vae.width}; expected a multiple of 8"
        )
    if found.vector_shift == 0:
        raise InvalidCampaignError("generator.settings: vector_shift is 0; expected above 0")
    if space.image_shape is None:
        for key, word in (("network", "unet"), ("space", "pixel")):
            if getattr(found, key) == word:
                raise InvalidCampaignError(
                    f"generator.settings: {key} is {word}, but the campaign has no images; use "
                    f"{getattr(PRESETS[preset], key)} or give images"
                )
    return found
