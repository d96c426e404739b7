"""Latents moved until their decoded, discrete images have the requested local fractions.

A branch makes designs follow a map roughly; what is left is small, and moving the interfaces a
little meets it. Labels count, not probabilities: forward they are exact, backward the slope is
that of the softmax (straight-through, Bengio et al. 2013, arXiv:1308.3432).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from generators.adaptation_maps import block_means

TOGETHER = 32  # images of 64 x 64 decoded with gradient at a time, larger ones in proportion fewer
FARTHEST = 0.3  # that a number of the latent goes in one step, in its standard deviations
SOFTNESS = 1.0  # of the softmax, in logits: pixels near an interface know of it
TINY = 1e-12


def settled(
    latents: Tensor,
    logits: Callable[[Tensor], Tensor],
    wanted: Tensor,
    size: tuple[int, int],
    *,
    steps: int,
) -> Tensor:
    """Latents (n, c, h, w) near the given ones whose images have ``wanted`` (m, h, w) fractions.

    ``logits``: (b, c, h, w) -> (b, m + 1, H, W), H and W multiples of h and w. ``size``: cells of
    the windows over which fractions are compared. A step is Polyak's (1987, section 5.3) for the
    least error 0, error/‖slope‖² times the slope: it moves what is nearest to an interface and
    leaves the rest. Of ``steps`` of them each design keeps the best; with 0 they are as they were.
    """
    if steps < 1:
        return latents
    pixels = latents.shape[2] * latents.shape[3]
    together = max(1, TOGETHER * 64 // max(pixels, 64))
    return torch.cat([_settled(z, logits, wanted, size, steps) for z in latents.split(together)])


def _settled(
    latents: Tensor,
    logits: Callable[[Tensor], Tensor],
    wanted: Tensor,
    size: tuple[int, int],
    steps: int,
) -> Tensor:
    rows, columns = (
        block_means(n, s).to(latents) for n, s in zip(wanted.shape[-2:], size, strict=True)
    )
    best, least = latents.clone(), latents.new_full((len(latents),), torch.inf)
    with torch.enable_grad():
        x = latents.clone().requires_grad_()
        for step in range(steps + 1):
            found = _fractions(logits(x), wanted.shape[-2:])
            found = torch.einsum("ij,nmjk,lk->nmil", rows, found, columns)
            error = (found - wanted).square().sum((1, 2, 3))
            better = error.detach() < least
            best[better] = x.detach()[better]
            least = torch.minimum(least, error.detach())
            if step < steps:
                (slope,) = torch.autograd.grad(error.sum(), x)
                length = slope.square().sum((1, 2, 3)).clamp_min(TINY)
                move = (error.detach() / length)[:, None, None, None] * slope
                x = (x.detach() - move.clamp(-FARTHEST, FARTHEST)).requires_grad_()
    return best


def _fractions(logits: Tensor, cells: torch.Size) -> Tensor:
    """(n, m, h, w) of all phases but the first, per cell, with the slope of the softmax."""
    soft = (logits / SOFTNESS).softmax(1)
    hard = functional.one_hot(logits.argmax(1), logits.shape[1]).permute(0, 3, 1, 2).to(soft)
    straight = (hard + soft - soft.detach())[:, 1:]
    return functional.adaptive_avg_pool2d(straight, (cells[0], cells[1]))
