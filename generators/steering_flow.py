"""Guidance by the simulators for the designs of a joint flow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from generators.steering import Bounds, Steered, Steering, steer, values_of

if TYPE_CHECKING:
    from generators.flow import JointFlow

FloatArray = NDArray[np.float64]
TOGETHER = 64  # designs, whose fields and gradients are in memory at once


def steer_flow(
    flow: JointFlow,
    requests: FloatArray,
    latents: Tensor | None,
    compositions: FloatArray | None,
    settings: Steering,
) -> Steered:
    """Images and compositions of n samples brought to their requests (n, k) by ``flow.models``.

    ``latents``: (n, c, h, w) standardised; ``compositions``: (n, p, e).
    """
    assert flow.code is not None
    assert flow.property_scale is not None
    scales = flow.property_scale.slope(np.zeros((1, len(flow.properties))))[0]
    bounds = None
    if flow.code.compositions is not None:
        low, high = flow.space.bound_arrays()
        bounds = Bounds(low, high, flow.code.compositions.std)
    vae = flow.code.vae
    parts = []
    for start in range(0, len(requests), TOGETHER):
        rows = slice(start, start + TOGETHER)
        parts.append(
            steer(
                values_of(flow.models, flow.properties),
                requests[rows],
                scales,
                latents=None if latents is None else latents[rows],
                decode=None if vae is None else vae.logits,
                compositions=None if compositions is None else compositions[rows],
                bounds=bounds,
                settings=settings,
            )
        )
    return Steered.join(parts)
