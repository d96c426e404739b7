"""What surrounds the joint state of a flow: the image's statistics before, the vectors after.

Both are small networks that follow requests closely, where the network over the joint state does so
roughly: ``sketch`` draws what the image is to be like, and once it is, ``head`` draws compositions
and process anew given the discrete image. Without images it draws them given what is discrete in
the composition: which elements there are, and the labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generators.asked import Asked
from generators.coding import JointCode
from generators.dynamics.flow import Velocity
from generators.dynamics.samplers import heun, uniform_times
from generators.guiding import CONSTANT, Also, GuidingSettings, guide
from generators.joint import stack_images
from generators.morphology import Morphology, Slopes, matched
from generators.networks.labelling import most_probable
from generators.networks.mlp import VectorFlow
from generators.phase_law import AT_HAND, PhaseLaw
from generators.sketch import Sketch
from generators.training.flow_matching import FlowSettings, Rows, RunSettings
from loop.candidate import Candidate

FloatArray = NDArray[np.float64]


class Stages(Asked):
    """Of a flow with these parts; see ``JointFlow``."""

    settings: FlowSettings
    head: VectorFlow | None
    sketch: Sketch | None = None
    also: tuple[Also, ...] = ()  # conditions beside what is requested
    law: PhaseLaw | None = None  # of the library's phase fractions, once it was needed

    # Led by what is asked

    def led(
        self,
        under: Callable[[Tensor, Tensor], Velocity],
        requests: FloatArray,
        guidance: float,
        settings: GuidingSettings = CONSTANT,
    ) -> Velocity:
        """A network's prediction led to requests (n, k), and by the further conditions.

        ``under``: standardised conditions (n, c) and which there are -> the network under them.
        """
        y, known = self.conditions(requests)
        if not (self.also or known.any()):
            guidance = 0.0  # with and without the request are the same
        others = []
        for one in self.also:
            rows = np.broadcast_to(one.request, (len(requests), len(one.request)))
            others.append((under(*self.conditions(rows)), one.weight))
        free = under(y, torch.zeros_like(known))
        return guide(free, under(y, known), guidance, others, settings)

    def is_led(self, requests: FloatArray, guidance: float) -> Tensor:
        """(n,) whether anything leads samples under requests (n, k)."""
        _, known = self.conditions(requests)
        return (known.any(1) | bool(self.also)) & (guidance > 0)

    def free_rows(self, requests: FloatArray, guidance: float) -> Tensor:
        """Which of requests (n, k) ask for nothing, so that images follow the library's law.

        None where it is not known: without images, and of a flow that has left the library's.
        """
        free = ~self.is_led(requests, guidance)
        return torch.nonzero(free & (self.sketch is not None and self.settings.library_law))[:, 0]

    def library_law(self) -> PhaseLaw:
        """Of the phase fractions in the library's crops."""
        if self.law is None:
            self.law = PhaseLaw.of(self.library)
        return self.law

    # Before

    def make_sketch(self, images: NDArray[np.uint8], phases: int) -> Sketch:
        """The untrained flow of the statistics of images like these (n, h, w)."""
        morphology = Morphology.fit(images, phases)
        sketch = Sketch.create(morphology, sum(self.widths), self.settings.sketch)
        sketch.network.to(self.device)
        return sketch

    def train_sketch(
        self,
        candidates: Sequence[Candidate],
        plain: Sequence[Candidate],
        values: FloatArray,
        weights: FloatArray,
        run: RunSettings,
    ) -> float | None:
        """Train the sketch on designs with properties (n, k), drawn with ``weights`` (n,).

        A new one replaces it. ``plain``: library designs. Returns the final loss; None where
        images have nothing to sketch, for there are none or they have one phase.
        """
        assert self.code is not None
        assert self.property_scale is not None
        if self.code.features is None:
            return None
        images = stack_images(list(candidates)).numpy()
        if self.sketch is None:
            torch.manual_seed(int(run.rng.integers(2**63)))  # initial weights
            library = stack_images(list(plain)).numpy() if plain else images
            self.sketch = self.make_sketch(library, len(self.code.space.phases))
            run = replace(run, fresh=True)
        morphology = self.sketch.morphology
        others = torch.zeros(0, morphology.size)
        if plain:
            others = morphology.of(stack_images(list(plain)).numpy())
        conditions = self.learned_conditions(candidates, values)
        rows = Rows(morphology.of(images), conditions, weights, others, self.widths)
        self.sketch, loss = self.sketch.trained(rows, values, run, self.settings.sketch)
        return loss

    def sketched(
        self,
        latents: Tensor,
        requests: FloatArray,
        guidance: float,
        source: torch.Generator,
    ) -> tuple[Tensor, NDArray[np.uint8], Tensor | None]:
        """Sampled latents (n, c, h', w') with the statistics that requests (n, k) ask for.

        Those of which nothing is asked, or all without guidance, stay as they are.
        Returns the latents, their images (n, h, w), and the fractions (n, p - 1) that thresholds
        in the place of the most probable label hold; None where nothing is sketched.
        """
        assert self.code is not None
        assert self.code.vae is not None
        vae, sketch = self.code.vae, self.sketch
        rows = torch.nonzero(self.is_led(requests, guidance))[:, 0]
        if sketch is None or not len(rows):
            return latents, vae.decode(latents), None
        # Pixels that move one by one make noise; a latent moves interfaces.
        steps = self.settings.sketch.image_steps if vae.factor > 1 else 0
        slopes, decoded = self.slopes() if steps else None, None
        numbers = len(latents) * sketch.morphology.pixels * sketch.morphology.phases
        if slopes is not None and numbers <= AT_HAND:
            decoded = vae.logits(latents)
        images: NDArray[np.uint8] = (
            vae.decode(latents) if decoded is None else most_probable(decoded).cpu().numpy()
        )
        own = sketch.morphology.of(images).to(self.device)
        wanted = self.wanted_statistics(own, requests, guidance, source)
        latents = latents.clone()
        latents[rows], images[rows.cpu().numpy()] = matched(
            latents[rows],
            vae.logits,
            sketch.morphology,
            wanted[rows],
            steps=steps,
            slopes=slopes,
            decoded=None if decoded is None else decoded[rows],
        )
        own[rows] = wanted[rows]
        return latents, images, sketch.morphology.fractions(own)

    def wanted_statistics(
        self, own: Tensor, requests: FloatArray, guidance: float, source: torch.Generator
    ) -> Tensor:
        """Coordinates (n, m) that images with ``own`` (n, m) are to have under requests (n, k)."""
        assert self.sketch is not None
        velocity = self.led(self.sketch.under, requests, guidance)
        return self.sketch.draw(own, velocity, requests, guidance, self.settings.sketch, source)

    def slopes(self) -> Slopes | None:
        """Of the statistics of decoded images by their latent; None: those of the decoder."""
        return None

    # After

    def make_head(self, code: JointCode) -> VectorFlow | None:
        """The untrained conditional of the vectors given an image; None without vectors."""
        if not code.vector_sizes:
            return None
        s = self.settings
        return VectorFlow(
            size=sum(code.vector_sizes),
            context=code.context_size,
            properties=sum(self.widths),
            width=s.head_width,
            depth=s.head_depth,
        ).to(self.device)

    def head_led(self, context: Tensor, requests: FloatArray, guidance: float) -> Velocity:
        """Of vectors (n, v) whose conditional has a context (n, f), led to requests (n, k)."""
        assert self.head is not None
        head = self.head
        return self.led(
            lambda y, known: lambda x, t: head(x, t, context, y, known), requests, guidance
        )

    def redraw(
        self,
        images: NDArray[np.uint8] | None,
        vectors: Tensor,
        requests: FloatArray,
        guidance: float,
        source: torch.Generator,
    ) -> Tensor:
        """Vectors (n, v) from their conditional given images (n, h, w) and requests (n, k).

        Without images, given the elements and labels that ``vectors`` have, and these stay. Labels
        that are asked for are as asked. Without a network, because there are no vectors, those that
        are given.
        """
        if self.head is None:
            return vectors
        assert self.code is not None
        vectors = self.code.labelled(vectors, self.asked_labels(requests))
        context = self.code.context_of(images, vectors).to(self.device)
        noise = torch.randn(vectors.shape, generator=source).to(self.device)
        velocity = self.head_led(context, requests, guidance)
        times = uniform_times(self.settings.head_sample_steps).to(self.device)
        return self.redrawn(images, heun(velocity, noise, times), vectors, requests)

    def redrawn(
        self,
        images: NDArray[np.uint8] | None,
        found: Tensor,
        before: Tensor,
        requests: FloatArray,
    ) -> Tensor:
        """Vectors (n, v) ``found`` given what is discrete in the images or the vectors ``before``.

        That stays as it was, and labels are as they are asked for.
        """
        assert self.code is not None
        if images is None:
            found = self.code.as_decided(found, before)
        return self.code.labelled(found, self.asked_labels(requests))
