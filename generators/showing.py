"""Pictures of designs while the network over the joint state is trained."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from generators.asked import Asked
from generators.joint import stack_images
from generators.training.flow_matching import RunSettings
from generators.training.pictures import Pictures
from generators.training.precision import TrainingSettings
from generators.training.shown import pictures_of

if TYPE_CHECKING:
    from generators.flow import JointFlow

SHOWN = 16  # designs a picture


def with_pictures(generator: JointFlow, run: RunSettings) -> RunSettings:
    """The same run, whose training draws the images that one noise becomes, nothing requested.

    As it was where there are no images or ``training.pictures`` is 0.
    """
    code, network = generator.code, generator.trained_network()
    vae = None if code is None else code.vae
    if vae is None:
        return run
    stream = torch.Generator().manual_seed(0)
    noise = torch.randn(SHOWN, network.state_size, generator=stream).to(run.device)
    free = np.full((SHOWN, len(generator.properties)), np.nan)

    @torch.no_grad()
    def draw() -> NDArray[Any]:
        latents, _ = generator.parts(generator.sample(noise, free, 0.0))
        assert latents is not None
        return vae.decode(latents)

    return replace(run, pictures=pictures_of(draw, run.settings.training, run.keep))


def pictures_unasked(generator: Asked, training: TrainingSettings) -> Pictures | None:
    """Of the images that a generator makes without a request, of one noise; None as above."""
    if generator.space.image_shape is None:
        return None
    free = np.full((SHOWN, len(generator.properties)), np.nan)

    def draw() -> NDArray[Any]:
        found = generator.generate(free, guidance=0.0, rng=np.random.default_rng(0))
        return stack_images(found).numpy()

    return pictures_of(draw, training, generator.keep)
