"""States near a design brought to what is asked of them, no further from it than they may be.

The stages of a proposal (``flow_stages``), each begun with what stands there and noised part of the
way alone (SDEdit, Meng et al. 2022): the statistics of the image, then compositions and process
given that image.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generators.editing import vary
from generators.flow import JointFlow

FloatArray = NDArray[np.float64]


@torch.no_grad()
def brought_nearby(
    flow: JointFlow,
    states: Tensor,
    asked: FloatArray,
    guidance: float,
    *,
    strength: float,
    source: torch.Generator,
) -> tuple[NDArray[np.uint8] | None, Tensor]:
    """Images (n, h, w), None without any, and vectors (n, v) of states (n, state) under requests.

    ``asked``: (n, k), or (n, k + l) with labels, NaN where nothing. ``strength``: share of the way
    to noise, 0 to 1; a requested fraction is met at any.
    """
    latent, vectors = flow.parts(states)
    images = None
    if latent is not None:
        near, settings = copy.copy(flow), flow.settings
        start = max(settings.sketch.start, 1.0 - strength)
        # At the end of its way there is nothing left to draw.
        sketch = replace(settings.sketch, start=min(start, math.nextafter(1.0, 0.0)))
        near.settings = replace(settings, sketch=sketch)
        images = near.sketched(latent, asked, guidance, source)[1]
    return images, _vectors(flow, images, vectors, asked, guidance, strength, source)


def _vectors(
    flow: JointFlow,
    images: NDArray[np.uint8] | None,
    vectors: Tensor,
    asked: FloatArray,
    guidance: float,
    strength: float,
    source: torch.Generator,
) -> Tensor:
    """Vectors (n, v) noised part of the way and taken back given the images and requests."""
    if flow.head is None:
        return vectors
    assert flow.code is not None
    vectors = flow.code.labelled(vectors, flow.asked_labels(asked))
    context = flow.code.context_of(images, vectors).to(flow.device)
    noise = torch.randn(vectors.shape, generator=source).to(flow.device)
    velocity = flow.head_led(context, asked, guidance)
    steps = flow.settings.head_sample_steps
    return flow.redrawn(
        images, vary(velocity, vectors, noise, steps, strength=strength), vectors, asked
    )
