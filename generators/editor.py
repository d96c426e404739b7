"""What one does with a trained joint flow besides proposing: edit designs and walk between them.

Every method returns designs that are ready to be scored; what they claim is for a simulator to say.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional

from generators.dynamics.flow import Velocity, interpolate
from generators.dynamics.samplers import heun
from generators.editing import fill, invert, times_between, vary
from generators.extension import UNKNOWN, WRAP, extended, with_pixels
from generators.flow import JointFlow
from generators.interpolation import Path, between, shares
from generators.nearby import brought_nearby
from generators.steering import Steering
from generators.steering_flow import steer_flow
from generators.training.checkpoint import torch_generator
from loop.candidate import Candidate, Origin
from loop.errors import InvalidInputError
from loop.process_labels import FREE, label_codes

FloatArray = NDArray[np.float64]
STEPS = 24
# Of the inversion before two designs are mixed. Deeper, fractions and chord lengths of the frames
# wander more; shallower, images are laid over each other (benchmarks/interpolation.py, --depth).
DEPTH = 0.5


class Editor:
    """Edits with one trained flow at one guidance scale, ``steps`` of Heun's method each way.

    Requests (n, k), or (n, k + l) with labels, are what designs are asked for beside being like
    what is edited, NaN where nothing; the guidance says how strongly, and without any it is moot.
    """

    def __init__(self, flow: JointFlow, *, guidance: float = 1.0, steps: int = STEPS) -> None:
        flow.trained_network()  # says so when there is nothing trained
        assert flow.code is not None
        self.flow, self.code = flow, flow.code
        self.guidance = guidance
        self.steps = steps

    # Paths

    @torch.no_grad()
    def frames(
        self,
        a: Candidate,
        b: Candidate,
        n: int,
        *,
        path: Path = "slerp",
        depth: float = DEPTH,
        requests: FloatArray | None = None,
        steering: Steering | None = None,
        rng: np.random.Generator | None = None,
    ) -> list[Candidate]:
        """n designs from a to b, the ends exactly as they are.

        Both are carried a share ``depth`` of the way back to noise, mixed there along ``path`` and
        brought forward again. ``requests``: (n, k) property values to be met on the way, NaN where
        none, such as ``evenly`` gives; ``steering``: how the flow's ``models`` bring the frames to
        them by their derivatives, by default not at all. ``rng``: noise of its own, one for both
        ends, takes the place of the inversion (Ho et al. 2020, figure 8), so that each call is
        another walk between the same ends. Raises InvalidInputError for designs of another kind,
        requests of a wrong shape, and steering without requests or models.
        """
        if steering is not None and (requests is None or not self.flow.models):
            raise InvalidInputError(
                "steering of frames was asked for without "
                + ("requests" if self.flow.models else "simulators that have derivatives")
                + "; give them or leave the steering out"
            )
        asked = self.flow.requests_for(n, requests)
        states = self._states([a, b])
        if rng is None:
            free = np.full((2, len(self.flow.properties)), np.nan)
            noise = invert(self.flow.velocity(free, 0.0), states, self.steps, depth=depth)
        else:
            drawn = torch.randn(states[:1].shape, generator=torch_generator(rng)).to(states)
            time = torch.full((2,), 1.0 - depth, device=states.device)
            noise = interpolate(states, drawn.expand_as(states), time)
        mixed = between(noise[0], noise[1], shares(n), path).to(states.dtype)
        velocity = self.flow.velocity(asked, self.guidance)
        times = times_between(1.0 - depth, 1.0, self.steps).to(states.device)
        details: dict[str, Any] = {"edit": "frames", "of": [a.id, b.id]}
        inner = heun(velocity, mixed, times)[1:-1]
        if not len(inner):
            return [a, b]
        if steering is None:
            return [a, *self._designs(inner, details), b]
        latent, vectors = self.flow.parts(inner)
        compositions = self.code.compositions_of(vectors)
        met = steer_flow(self.flow, asked[1:-1], latent, compositions, steering)
        # Frames say whose they are; what was asked of each lies between its ends.
        told = details | {"simulator_gradients": int(met.calls.sum())}
        origins = self.origins(self.flow.requests_for(len(inner), None), told)
        return [a, *self.code.candidates(met.images, met.compositions, vectors, origins), b]

    @torch.no_grad()
    def variations(
        self,
        design: Candidate,
        n: int,
        *,
        strength: float,
        rng: np.random.Generator,
        requests: FloatArray | None = None,
    ) -> list[Candidate]:
        """n designs like this one; ``strength`` 0 to 1 says how much of it is drawn anew.

        With requests each is then moved to what is asked of it (``nearby``), its image's statistics
        and its compositions as far as the strength allows.
        Raises InvalidInputError for requests of another shape.
        """
        asked, source = self.flow.requests_for(n, requests), torch_generator(rng)
        state = self._states([design]).expand(n, -1)
        noise = torch.randn(state.shape, generator=source).to(state.device)
        velocity = self.flow.velocity(asked, self.guidance)
        found = vary(velocity, state, noise, self.steps, strength=strength)
        details = {"edit": "variation", "of": [design.id], "strength": strength}
        if not np.isfinite(asked).any():
            return self._designs(found, details)
        images, vectors = brought_nearby(
            self.flow, found, asked, self.guidance, strength=strength, source=source
        )
        compositions = self.code.compositions_of(vectors)
        return self.code.candidates(images, compositions, vectors, self.origins(asked, details))

    # One part given another

    @torch.no_grad()
    def compositions_for(
        self,
        image: ArrayLike,
        n: int,
        *,
        rng: np.random.Generator,
        requests: FloatArray | None = None,
    ) -> list[Candidate]:
        """n designs with this image (h, w) and compositions drawn to go with it.

        Raises InvalidInputError for an image of another size, requests of another shape and a
        flow whose designs are images alone.
        """
        if self.flow.head is None:
            raise InvalidInputError(
                "designs of this flow are images alone; there is nothing to draw for one"
            )
        labels = np.asarray(image, dtype=np.uint8)
        images = np.repeat(self._image(labels)[None], n, axis=0)
        empty = torch.zeros(n, sum(self.code.vector_sizes), device=self.flow.device)
        asked = self.flow.requests_for(n, requests)
        vectors = self.flow.redraw(images, empty, asked, self.guidance, torch_generator(rng))
        compositions = self.code.compositions_of(vectors)
        origins = self.origins(asked, {"edit": "compositions"})
        return self.code.candidates(images, compositions, vectors, origins)

    @torch.no_grad()
    def microstructures_for(
        self,
        design: Candidate,
        n: int,
        *,
        rng: np.random.Generator,
        requests: FloatArray | None = None,
        resample: int = 2,
    ) -> list[Candidate]:
        """n designs with this one's compositions, process and labels, and images to go with them.

        The design need not have an image. Raises InvalidInputError for requests of another shape
        or for other labels than its own, and for a flow whose designs have no images.
        """
        vectors = self.code.vectors([design]).to(self.flow.device)
        network = self.flow.trained_network()
        size = network.latent_size
        if network.latent_shape is None or self.code.vae is None:
            raise InvalidInputError("designs of this flow have no images to draw")
        asked = self._kept_labels(design, self.flow.requests_for(n, requests))
        known = torch.cat([torch.zeros(1, size, device=vectors.device), vectors], dim=1)
        mask = torch.arange(known.shape[1], device=known.device) >= size
        found = fill(
            self.flow.velocity(asked, self.guidance),
            known.expand(n, -1),
            mask,
            self.steps,
            generator=torch_generator(rng),
            resample=resample,
        )
        latent, _ = self.flow.parts(found)
        assert latent is not None
        details = {"edit": "microstructure", "of": [design.id]}
        return self._with_images(design, self.code.vae.decode(latent), asked, details)

    # Images

    @torch.no_grad()
    def repair(
        self,
        design: Candidate,
        damaged: ArrayLike,
        n: int = 1,
        *,
        rng: np.random.Generator,
        requests: FloatArray | None = None,
        resample: int = 4,
    ) -> list[Candidate]:
        """n designs in which the pixels ``damaged`` (h, w) are drawn anew, all else as it is.

        Raises InvalidInputError for a mask of another shape, or one that leaves nothing, and for
        requests of another shape or for other labels than the design's own.
        """
        image = self._image(design.microstructure)
        mask = np.asarray(damaged, dtype=bool)
        if mask.shape != image.shape or mask.all():
            raise InvalidInputError(
                f"mask of damaged pixels has shape {mask.shape} with {int(mask.sum())} of them; "
                f"expected {image.shape}, and some that are not"
            )
        asked = self._kept_labels(design, self.flow.requests_for(n, requests))
        velocity, source = self.flow.velocity(asked, self.guidance), torch_generator(rng)
        state = self._states([design]).expand(n, -1)
        images = np.repeat(image[None], n, axis=0)
        # What the decoder draws beside sound pixels is to go on where they end.
        pixels = torch.from_numpy(np.where(mask, UNKNOWN, images.astype(np.int64)))
        near, _ = self.flow.parts((~self._sound(mask, WRAP, state.shape[1])).float()[None])
        for ring in (1, 0):
            # The encoder looks a little beyond its own cell, so what lies beside damage is not
            # known at first; once something sensible stands there, it is.
            known = self._sound(mask, ring, state.shape[1])
            found = fill(velocity, state, known, self.steps, generator=source, resample=resample)
            latent, vectors = self.flow.parts(found)
            assert self.code.vae is not None
            assert latent is not None
            assert near is not None
            latent = with_pixels(self.code.vae, latent, pixels, near)
            images = np.where(mask, self.code.vae.decode(latent), image).astype(np.uint8)
            labels = torch.from_numpy(images)
            state = self.code.with_latents(labels, vectors.cpu()).to(self.flow.device)
        return self._with_images(design, images, asked, {"edit": "repair", "of": [design.id]})

    def _sound(self, damaged: NDArray[np.bool_], ring: int, size: int) -> Tensor:
        """(state,) which coordinates are known: cells without damage, ``ring`` cells around."""
        shape = self.flow.trained_network().latent_shape
        assert shape is not None
        c, h, w = shape
        f = damaged.shape[0] // h
        touched = torch.from_numpy(damaged.reshape(h, f, w, f).max(axis=(1, 3))).float()[None, None]
        if ring:
            touched = functional.max_pool2d(touched, 2 * ring + 1, 1, ring)
        cells = (touched[0] == 0).expand(c, h, w).reshape(-1)
        rest = torch.ones(size - len(cells), dtype=torch.bool)
        return torch.cat([cells, rest]).to(self.flow.device)

    @torch.no_grad()
    def extend(
        self, design: Candidate, shape: tuple[int, int], *, rng: np.random.Generator
    ) -> NDArray[np.uint8]:
        """A larger image (H, W) whose top left corner is the design's own, to the pixel.

        It is periodic along the sides that are larger; along one that stays, it wraps there only
        as far as the given image does. H and W: multiples of the image's sides. Half a window
        overlaps the next. Compositions stay as they are. Raises InvalidInputError for other
        shapes and for the image's own.
        """
        image = self._image(design.microstructure)
        h, w = image.shape
        if shape[0] % h or shape[1] % w or min(shape) < 1 or tuple(shape) == (h, w):
            raise InvalidInputError(
                f"shape {shape[0]} x {shape[1]}; expected multiples of {h} and {w}, one of them "
                "larger"
            )
        latent, vectors = self.flow.parts(self._states([design]))
        assert latent is not None
        assert self.code.vae is not None
        source = torch_generator(rng)
        noise = torch.randn(vectors.shape, generator=source).to(vectors.device)
        windows = self._windows(vectors, noise)
        return extended(
            self.code.vae, windows, latent, image, shape, steps=self.steps, source=source
        )

    def _windows(self, vectors: Tensor, noise: Tensor) -> Velocity:
        """Velocity of image latents (b, c, h, w) beside given vectors (1, v)."""

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            beside = interpolate(vectors.expand(len(x), -1), noise.expand(len(x), -1), t)
            flow = self.flow.velocity(self.flow.requests_for(len(x), None), self.guidance)
            found, _ = self.flow.parts(flow(torch.cat([x.flatten(1), beside], dim=1), t))
            assert found is not None
            return found

        return velocity

    # Parts

    def _image(self, image: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
        expected = self.flow.space.image_shape
        if image is None or image.shape != expected or self.code.vae is None:
            got = "no image" if image is None else f"an image of {image.shape}"
            raise InvalidInputError(f"design has {got}; this flow edits images of {expected}")
        return image

    def _states(self, designs: Sequence[Candidate]) -> Tensor:
        space = self.flow.space
        for design in designs:
            if design.phases != space.phases or design.elements != space.elements:
                raise InvalidInputError(
                    f"design {design.id} has phases {', '.join(design.phases)} of "
                    f"{', '.join(design.elements) or 'no elements'}; expected "
                    f"{', '.join(space.phases)} of {', '.join(space.elements) or 'no elements'}"
                )
            if space.image_shape is not None:
                self._image(design.microstructure)
        return self.code.states(list(designs)).to(self.flow.device)

    def _kept_labels(self, design: Candidate, asked: FloatArray) -> FloatArray:
        """The requests, after a look whether they ask for labels that the design does not have."""
        own = label_codes(self.flow.space, [design])
        codes = self.flow.asked_labels(asked)
        for (name, values), code, there in zip(
            self.flow.space.labels.items(), codes.T, own[0], strict=True
        ):
            if ((code != FREE) & (code != there)).any():
                raise InvalidInputError(
                    f"{name} = {values[code[code != FREE][0]]} is asked for, but the design keeps "
                    f"its own, {values[there]}; leave it out, or vary the design"
                )
        return asked

    def origins(self, asked: FloatArray, details: Mapping[str, Any]) -> list[Origin]:
        """One for each row of requests, which it names where there are any."""
        if not np.isfinite(asked).any():
            return [Origin(self.flow.name, self.guidance, details)] * len(asked)
        return [self.flow.origin(row, self.guidance, **details) for row in asked]

    def _with_images(
        self,
        design: Candidate,
        images: NDArray[np.uint8],
        asked: FloatArray,
        details: Mapping[str, Any],
    ) -> list[Candidate]:
        """The design with other images (n, h, w), all else as it is to the last digit."""
        return [
            dataclasses.replace(design, microstructure=image, origin=origin)
            for image, origin in zip(images, self.origins(asked, details), strict=True)
        ]

    def _designs(self, states: Tensor, details: Mapping[str, Any]) -> list[Candidate]:
        """Designs of states (n, state) of which nothing was asked."""
        latent, vectors = self.flow.parts(states)
        images = None
        if latent is not None and self.code.vae is not None:
            images = self.code.vae.decode(latent)
        found = self.code.compositions_of(vectors)
        origins = self.origins(self.flow.requests_for(len(states), None), details)
        return self.code.candidates(images, found, vectors, origins)
