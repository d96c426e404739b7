"""Frames between two designs through the latent of what was trained: a flow or an autoencoder."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flows.carried import changed_pixels
from generators.editor import DEPTH, Editor
from generators.flow import JointFlow
from generators.interpolation import Path, between, shares
from generators.joint_vae import JointVAE
from loop.candidate import Candidate, Origin
from loop.errors import InvalidInputError

FloatArray = NDArray[np.float64]


def frames_between(
    generator: JointFlow | JointVAE,
    first: Candidate,
    last: Candidate,
    n: int,
    *,
    guidance: float,
    path: Path = "slerp",
    depth: float = DEPTH,
    requests: FloatArray | None = None,
) -> list[Candidate]:
    """n designs from ``first`` to ``last``, the ends exactly as they are.

    ``depth``: how far a flow inverts them; an autoencoder has its own latent. Raises as
    ``Editor.frames`` and ``LatentFrames.frames`` do.
    """
    if isinstance(generator, JointVAE):
        frames = LatentFrames(generator, guidance=guidance)
        return frames.frames(first, last, n, path=path, requests=requests)
    editor = Editor(generator, guidance=guidance)
    return editor.frames(first, last, n, path=path, depth=depth, requests=requests)


class LatentFrames:
    """What ``generators.editor.Editor`` is for a flow: both ends encoded, mixed, and decoded.

    The decoder returns no design to the last digit, and less of its image. What it misses of the
    ends is mixed along the same path and added, so that frames near an end are near it and the
    texture, which is most of what is missed, does not fade between two ends that share none of it.
    """

    def __init__(self, generator: JointVAE, *, guidance: float = 1.0) -> None:
        generator.trained_network()  # says so when there is nothing trained
        assert generator.code is not None
        self.generator, self.code, self.guidance = generator, generator.code, guidance

    @torch.no_grad()
    def frames(
        self,
        a: Candidate,
        b: Candidate,
        n: int,
        *,
        path: Path = "slerp",
        requests: FloatArray | None = None,
    ) -> list[Candidate]:
        """n designs from a to b, the ends exactly as they are.

        ``requests``: (n, k) property values to be met on the way, NaN where none; decoded with and
        without them, joined as ``JointVAE.generate`` does. Raises InvalidInputError for designs
        of another kind and requests of a wrong shape.
        """
        generator, network, code = self.generator, self.generator.trained_network(), self.code
        self._check(a, b)
        asked = generator.requests_for(n, requests)
        values, known = generator.conditions(asked)
        nothing = torch.zeros_like(known)
        states = code.states([a, b]).to(generator.device)
        ends, _ = network.encode(states, values[[0, -1]], nothing[[0, -1]])
        missed = states - network.decode(ends, values[[0, -1]], nothing[[0, -1]])
        share = shares(n)
        z = between(ends[0], ends[1], share, path)
        found = network.decode(z, values, nothing)
        if known.any() and self.guidance:
            found = found + self.guidance * (network.decode(z, values, known) - found)
        found = (found + between(missed[0], missed[1], share, path))[1:-1]
        if not len(found):
            return [a, b]
        shape, images, vectors = code.latent_shape, None, found
        if code.vae is not None and shape is not None:
            latent, vectors = found.tensor_split([math.prod(shape)], dim=1)
            images = code.vae.decode(latent.reshape(-1, *shape))
        details: dict[str, Any] = {"edit": "frames", "of": [a.id, b.id]}
        origins = [Origin(generator.name, self.guidance, details)] * len(found)
        return [a, *code.candidates(images, code.compositions_of(vectors), vectors, origins), b]

    @torch.no_grad()
    def carried(self, before: Candidate, after: Candidate) -> Candidate:
        """``after`` with the image of ``before``, changed by what the autoencoder changes in it.

        Both are encoded and decoded with that image, and their difference is added to it; pixels
        change where the decoded image does, so with the same compositions comes the same image.
        """
        network, code, shape = self.generator.trained_network(), self.code, self.code.latent_shape
        if before.microstructure is None or code.vae is None or shape is None:
            return after
        pair = [before, dataclasses.replace(after, microstructure=before.microstructure)]
        states = code.states(pair).to(self.generator.device)
        values, known = self.generator.conditions(
            np.full((2, len(self.generator.properties)), np.nan)
        )
        z, _ = network.encode(states, values, known)
        old, new = network.decode(z, values, known)
        both = torch.stack((states[0], states[0] + new - old))[:, : math.prod(shape)]
        decoded = code.vae.decode(both.reshape(2, *shape))
        image = changed_pixels(before.microstructure, *decoded)
        return dataclasses.replace(after, microstructure=image)

    def _check(self, *designs: Candidate) -> None:
        space = self.generator.space
        for design in designs:
            shape = None if design.microstructure is None else design.microstructure.shape
            given = design.phases, design.elements, shape
            if given != (space.phases, space.elements, space.image_shape):
                raise InvalidInputError(
                    f"design {design.id} has phases {', '.join(design.phases)} of "
                    f"{', '.join(design.elements) or 'no elements'} and an image of {shape}; "
                    f"expected {', '.join(space.phases)} of "
                    f"{', '.join(space.elements) or 'no elements'} and {space.image_shape}"
                )
