"""The image of a design after its compositions were changed: what follows by itself in a flow."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generators.dynamics.samplers import heun
from generators.editing import invert, times_between
from generators.editor import DEPTH, Editor
from generators.flow import JointFlow
from loop.candidate import Candidate

Labels = NDArray[np.uint8]


@torch.no_grad()
def carried_by_flow(
    editor: Editor, before: Candidate, after: Candidate, *, depth: float = DEPTH
) -> Candidate:
    """``after`` with the image of ``before``, changed as its compositions were.

    ``before`` is carried back toward noise as ``Editor.frames`` does; on the way forward the
    coordinates of its compositions are led to the new ones, and the image's follow by themselves.
    Pixels change where the decoded image does, so with the same compositions comes the same image.
    """
    flow, code, steps = editor.flow, editor.code, editor.steps
    if before.microstructure is None or code.vae is None:
        return after
    pair = [before, dataclasses.replace(after, microstructure=before.microstructure)]
    states = code.states(pair).to(flow.device)
    change = states[1:] - states[:1]
    velocity = flow.velocity(np.full((2, len(flow.properties)), np.nan), 0.0)
    # The first goes back to where it came from, and says where the vectors are on the way.
    both = invert(velocity, states[[0, 0]], steps, depth=depth)
    for t, t_next in pairwise(times_between(1.0 - depth, 1.0, steps).to(flow.device)):
        both[1:] = _led(flow, both, float(t) * change)
        both = heun(velocity, both, torch.stack((t, t_next)))
    latents, _ = flow.parts(both)
    assert latents is not None
    image = changed_pixels(before.microstructure, *code.vae.decode(latents))
    return dataclasses.replace(after, microstructure=image)


def changed_pixels(image: Labels, old: Labels, new: Labels) -> Labels:
    """An image (h, w) with the labels of ``new`` where that differs from ``old``, its own else."""
    return np.where(new == old, image, new)


def _led(flow: JointFlow, both: Tensor, change: Tensor) -> Tensor:
    """(1, state) the second of two states with the first one's vectors, changed; its own image."""
    size = flow.trained_network().latent_size
    return torch.cat([both[1:, :size], both[:1, size:] + change[:, size:]], dim=1)
