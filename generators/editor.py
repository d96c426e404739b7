"""What one does with a trained joint flow besides proposing: edit designs and walk between them.

Every method returns designs that are ready to be scored; what they claim is for a simulator to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional

from generators.dynamics.flow import Velocity, interpolate
from generators.dynamics.samplers import heun
from generators.editing import fill, invert, tiled, times_between, vary
from generators.flow import JointFlow
from generators.interpolation import Path, between, shares
from generators.steering import Steering
from generators.steering_flow import steer_flow
from generators.training.checkpoint import torch_generator
from loop.candidate import Candidate, Origin
from loop.errors import InvalidInputError

FloatArray = NDArray[np.float64]
STEPS = 24
# Of the inversion before two designs are mixed. Deeper, fractions and chord lengths of the frames
# wander more; shallower, images are laid over each other (benchmarks/interpolation.py, --depth).
DEPTH = 0.5


class Editor:
    """Edits with one trained flow at one guidance scale, ``steps`` of Heun's method each way."""

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
        asked = self._requests(requests, n)
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
        origins = self._origins(len(inner), details | {"simulator_gradients": int(met.calls.sum())})
        return [a, *self.code.candidates(met.images, met.compositions, vectors, origins), b]

    @torch.no_grad()
    def variations(
        self, design: Candidate, n: int, *, strength: float, rng: np.random.Generator
    ) -> list[Candidate]:
        """n designs like this one; ``strength`` 0 to 1 says how much of it is drawn anew."""
        state = self._states([design]).expand(n, -1)
        noise = torch.randn(state.shape, generator=torch_generator(rng)).to(state.device)
        velocity = self.flow.velocity(self._requests(None, n), self.guidance)
        found = vary(velocity, state, noise, self.steps, strength=strength)
        return self._designs(found, {"edit": "variation", "of": [design.id], "strength": strength})

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
        """n designs with this image (h, w) and compositions drawn to go with it."""
        labels = np.asarray(image, dtype=np.uint8)
        images = np.repeat(self._image(labels)[None], n, axis=0)
        empty = torch.zeros(n, sum(self.code.vector_sizes), device=self.flow.device)
        asked = self._requests(requests, n)
        vectors = self.flow.redraw(images, empty, asked, self.guidance, torch_generator(rng))
        compositions = self.code.compositions_of(vectors)
        origins = self._origins(n, {"edit": "compositions"})
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
        """n designs with this one's compositions and process, and images drawn to go with them."""
        vectors = self.code.vectors([design]).to(self.flow.device)
        size = self.flow.trained_network().latent_size
        known = torch.cat([torch.zeros(1, size, device=vectors.device), vectors], dim=1)
        mask = torch.arange(known.shape[1], device=known.device) >= size
        velocity = self.flow.velocity(self._requests(requests, n), self.guidance)
        found = fill(
            velocity,
            known.expand(n, -1),
            mask,
            self.steps,
            generator=torch_generator(rng),
            resample=resample,
        )
        details = {"edit": "microstructure", "of": [design.id]}
        kept = None if design.phase_compositions is None else design.phase_compositions
        return self._designs(found, details, compositions=kept)

    # Images

    @torch.no_grad()
    def repair(
        self,
        design: Candidate,
        damaged: ArrayLike,
        n: int = 1,
        *,
        rng: np.random.Generator,
        resample: int = 4,
    ) -> list[Candidate]:
        """n designs in which the pixels ``damaged`` (h, w) are drawn anew, the others as they are.

        Raises InvalidInputError for a mask of another shape, or one that leaves nothing.
        """
        image = self._image(design.microstructure)
        mask = np.asarray(damaged, dtype=bool)
        if mask.shape != image.shape or mask.all():
            raise InvalidInputError(
                f"mask of damaged pixels has shape {mask.shape} with {int(mask.sum())} of them; "
                f"expected {image.shape}, and some that are not"
            )
        asked = self._requests(None, n)
        velocity, source = self.flow.velocity(asked, self.guidance), torch_generator(rng)
        state = self._states([design]).expand(n, -1)
        images = np.repeat(image[None], n, axis=0)
        for ring in (1, 0):
            # The encoder looks a little beyond its own cell, so what lies beside damage is not
            # known at first; once something sensible stands there, it is.
            known = self._sound(mask, ring, state.shape[1])
            found = fill(velocity, state, known, self.steps, generator=source, resample=resample)
            latent, vectors = self.flow.parts(found)
            assert self.code.vae is not None
            assert latent is not None
            images = np.where(mask, self.code.vae.decode(latent), image).astype(np.uint8)
            labels = torch.from_numpy(images)
            state = self.code.with_latents(labels, vectors.cpu()).to(self.flow.device)
        origins = self._origins(n, {"edit": "repair", "of": [design.id]})
        compositions = design.phase_compositions
        repeated = None if compositions is None else np.repeat(compositions[None], n, axis=0)
        return self.code.candidates(images, repeated, vectors, origins)

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
        """A larger periodic image (H, W) that holds the design's own in its top left corner.

        H and W: multiples of the image's sides. Half a window overlaps the next. Its compositions
        stay as they are. Raises InvalidInputError for other shapes.
        """
        image = self._image(design.microstructure)
        h, w = image.shape
        if shape[0] % h or shape[1] % w or min(shape[0] // h, shape[1] // w) < 1:
            raise InvalidInputError(f"shape {shape}; expected multiples of {h} and {w}")
        latent, vectors = self.flow.parts(self._states([design]))
        assert latent is not None
        assert self.code.vae is not None
        ch, cw = latent.shape[-2:]
        size = ch * shape[0] // h, cw * shape[1] // w
        known = torch.zeros(1, latent.shape[1], *size, device=latent.device)
        known[..., :ch, :cw] = latent
        mask = torch.zeros(size, dtype=torch.bool, device=latent.device)
        # The outermost cells were encoded beside other neighbours than they will have.
        mask[1 : ch - 1, 1 : cw - 1] = True
        source = torch_generator(rng)
        noise = torch.randn(vectors.shape, generator=source).to(vectors.device)
        whole = tiled(self._windows(vectors, noise), (ch, cw), (ch // 2, cw // 2))
        found = fill(whole, known, mask, self.steps, generator=source)
        return np.asarray(self.code.vae.decode(found)[0])

    def _windows(self, vectors: Tensor, noise: Tensor) -> Velocity:
        """Velocity of image latents (b, c, h, w) beside given vectors (1, v)."""

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            beside = interpolate(vectors.expand(len(x), -1), noise.expand(len(x), -1), t)
            flow = self.flow.velocity(self._requests(None, len(x)), self.guidance)
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

    def _requests(self, requests: FloatArray | None, n: int) -> FloatArray:
        shape = (n, len(self.flow.properties))
        if requests is None:
            return np.full(shape, np.nan)
        if requests.shape != shape:
            raise InvalidInputError(f"requests have shape {requests.shape}; expected {shape}")
        return requests

    def _origins(self, n: int, details: Mapping[str, Any]) -> list[Origin]:
        return [Origin(self.flow.name, self.guidance, details)] * n

    def _designs(
        self, states: Tensor, details: Mapping[str, Any], *, compositions: FloatArray | None = None
    ) -> list[Candidate]:
        """Designs of states (n, state); ``compositions`` (p, e) instead of those in the states."""
        latent, vectors = self.flow.parts(states)
        images = None
        if latent is not None and self.code.vae is not None:
            images = self.code.vae.decode(latent)
        found = self.code.compositions_of(vectors)
        if compositions is not None:
            found = np.repeat(compositions[None], len(states), axis=0)
        return self.code.candidates(images, found, vectors, self._origins(len(states), details))
