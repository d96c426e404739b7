"""Guidance by the simulators for the designs of a joint flow."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from generators.morphology import thresholds
from generators.steering import Bounds, Decode, Steered, Steering, steer, values_of

if TYPE_CHECKING:
    from generators.flow import JointFlow

FloatArray = NDArray[np.float64]
TOGETHER = 64  # designs of 64 x 64 pixels, whose fields and gradients are in memory at once


def steer_flow(
    flow: JointFlow,
    requests: FloatArray,
    latents: Tensor | None,
    compositions: FloatArray | None,
    settings: Steering,
    fractions: Tensor | None = None,
) -> Steered:
    """Images and compositions of n samples brought to their requests (n, k) by ``flow.models``.

    ``latents``: (n, c, h, w) standardised; ``compositions``: (n, p, e). ``fractions``:
    (n, p - 1) that images keep to the pixel (``morphology.thresholds``).
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
    h, w = flow.space.image_shape or (1, 1)
    size = max(1, min(TOGETHER, TOGETHER * 64 * 64 // (h * w)))
    for start in range(0, len(requests), size):
        rows = slice(start, start + size)
        parts.append(
            steer(
                values_of(flow.models, flow.properties),
                requests[rows],
                scales,
                latents=None if latents is None else latents[rows],
                decode=None if vae is None else _decoder(vae.logits, fractions, rows),
                compositions=None if compositions is None else compositions[rows],
                bounds=bounds,
                settings=settings,
            )
        )
    return Steered.join(parts)


def _decoder(logits: Callable[[Tensor], Tensor], fractions: Tensor | None, chunk: slice) -> Decode:
    """Logits of latents; with ``fractions`` (n, p - 1), of the ``chunk`` those that give them."""
    if fractions is None:
        return lambda z, _: logits(z)
    held = fractions[chunk]

    def decode(z: Tensor, rows: Tensor) -> Tensor:
        raw = logits(z)
        return raw + thresholds(raw.detach(), held[rows.to(held.device)])

    return decode
