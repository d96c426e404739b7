"""A micrograph as the corner of a larger periodic one.

What is around the corner is drawn by overlapping windows of the flow. The corner's pixels are
given, and its latent is what the decoder makes them of beside the neighbours that it has now: where
an interface crosses the edge, the decoder draws it on, which pasted pixels alone would not.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from generators.dynamics.flow import Velocity
from generators.editing import fill, shifted, tiled
from generators.pixels import PixelCode
from generators.vae import ImageVAE

WRAP = 3  # cells beyond an edge that the decoder looks at
RESAMPLE = 2
ROUNDS = 2  # in which the surroundings are drawn anew about the corner, each in half the steps
STRENGTH = 0.6  # of those: how far back to noise
SETTLE, RATE = 20, 0.1  # steps of Adam by which given pixels' latent is found
UNKNOWN = -100  # the label of a pixel that may be anything
TETHER = 0.02  # weight of the mean square by which it moves, beside the cross-entropy of a pixel


def extended(
    code: ImageVAE | PixelCode,
    windows: Velocity,
    latent: Tensor,
    image: NDArray[np.uint8],
    shape: tuple[int, int],
    *,
    steps: int,
    source: torch.Generator,
) -> NDArray[np.uint8]:
    """(H, W) labels, periodic along the sides that are larger, with ``image`` (h, w) in the corner.

    ``windows``: velocity of latents (b, c, h/f, w/f), ``latent`` (1, c, h/f, w/f) that of the
    image. H and W are multiples of h and w. Along a side that stays as it is nothing wraps: the
    given image need not.
    """
    (h, w), (ch, cw) = image.shape, (latent.shape[-2], latent.shape[-1])
    size = ch * shape[0] // h, cw * shape[1] // w
    grows = shape[0] > h, shape[1] > w
    reach = tuple(WRAP * side for side in grows)
    strides = tuple(n // 2 if side else n for n, side in zip((ch, cw), grows, strict=True))
    whole = shifted(tiled(windows, (ch, cw), (strides[0], strides[1])), grows, source)

    corner = torch.zeros(1, 1, *size, device=latent.device)
    corner[..., :ch, :cw] = 1.0
    given = corner[0, 0] > 0
    # The outermost cells were encoded beside other neighbours than they will have.
    sound = given.clone()
    for axis in (0, 1):
        if grows[axis]:
            n = (ch, cw)[axis]
            sound.index_fill_(axis, torch.tensor([0, n - 1], device=latent.device), False)
    known = torch.zeros(1, latent.shape[1], *size, device=latent.device)
    known[..., :ch, :cw] = latent
    near = functional.max_pool2d(
        wrapped(corner, (reach[0], reach[1])), [2 * n + 1 for n in reach], 1
    )

    labels = torch.full((1, *shape), UNKNOWN)
    labels[0, :h, :w] = torch.tensor(image, dtype=torch.long)

    def met(z: Tensor) -> Tensor:
        return with_pixels(code, z, labels, near, (reach[0], reach[1]))

    z = met(fill(whole, known, sound, steps, generator=source, resample=RESAMPLE))
    for _ in range(ROUNDS):
        z = fill(
            whole,
            z,
            given,
            max(1, steps // 2),
            generator=source,
            resample=RESAMPLE,
            begin=z,
            strength=STRENGTH,
        )
        z = met(z)
    found: NDArray[np.uint8] = _decoded(code, z, (reach[0], reach[1])).argmax(1)[0].cpu().numpy()
    found = found.astype(np.uint8)
    found[:h, :w] = image
    return found


def wrapped(x: Tensor, reach: tuple[int, int]) -> Tensor:
    """States (..., h, w) with ``reach`` rows and columns of the other side beyond each edge."""
    (h, w), (down, along) = x.shape[-2:], reach
    rows = torch.arange(-down, h + down, device=x.device) % h
    columns = torch.arange(-along, w + along, device=x.device) % w
    return x[..., rows[:, None], columns]


def _decoded(code: ImageVAE | PixelCode, z: Tensor, reach: tuple[int, int]) -> Tensor:
    """Logits (n, p, H, W) of latents whose edges are decoded beside those across."""
    found = code.logits(wrapped(z, reach))
    down, along = (n * code.factor for n in reach)
    return found[..., down : found.shape[-2] - down, along : found.shape[-1] - along]


def with_pixels(
    code: ImageVAE | PixelCode,
    z: Tensor,
    labels: Tensor,
    near: Tensor,
    reach: tuple[int, int] = (0, 0),
) -> Tensor:
    """Latents near ``z`` (n, c, h, w) whose decoded images have the ``labels`` (n, H, W).

    Where these are ``UNKNOWN`` any will do; only latents where ``near`` is 1 move. Least
    cross-entropy of the known pixels by Adam, tethered to where it began. Pixels that are their own
    latent have nothing to be found.
    """
    if code.factor == 1:
        return z
    labels = labels.to(z.device)
    with torch.enable_grad():
        move = torch.zeros_like(z, requires_grad=True)
        optimiser = torch.optim.Adam([move], lr=RATE)
        for _ in range(SETTLE):
            logits = _decoded(code, z + near * move, reach)
            loss = functional.cross_entropy(logits, labels, ignore_index=UNKNOWN)
            optimiser.zero_grad()
            # The slope of the latent alone: the decoder's weights are to have none.
            (move.grad,) = torch.autograd.grad(loss + TETHER * move.square().mean(), move)
            optimiser.step()
    return (z + near * move).detach()
