"""From what a decoder says of every pixel to one image of phase labels."""

from __future__ import annotations

import torch
from torch import Tensor


def most_probable(logits: Tensor) -> Tensor:
    """The most probable label images (n, h, w), uint8, of logits (n, p, h, w) and two pixels up.

    With several phases, among the images in which at least two of them show: one phase alone is no
    microstructure, and libraries have no such crops. Pixels being independent given the logits,
    that is every pixel's own best label, but where all of these agree the pixel that loses least
    takes its second best. Leaving such images out instead would cut the law of phase fractions
    short at the end where one phase nearly fills the image.
    """
    labels = logits.argmax(1)
    flat = labels.flatten(1)
    alone = torch.nonzero(flat.amin(1) == flat.amax(1))[:, 0]
    if logits.shape[1] > 1 and len(alone):
        best = logits[alone].flatten(2).topk(2, dim=1)
        place = (best.values[:, 0] - best.values[:, 1]).argmin(1, keepdim=True)
        flat[alone, place[:, 0]] = best.indices[:, 1].gather(1, place)[:, 0]
    return flat.reshape(labels.shape).to(torch.uint8)
