"""Pictures of designs while the network over the joint state is trained."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from generators.training.flow_matching import RunSettings
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
