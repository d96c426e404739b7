"""Conditional latent flow over image, compositions and process at once: the main generator.

A transformer denoises the joint state. Then a small flow draws the statistics that the image is to
have, starting from those it has (``sketch``), and the decoder is conditioned on them
(``morphology``). For the decoded, discrete image, one Gibbs step draws the vectors (compositions,
process) anew from their conditional given that image and the same requested properties (Geman &
Geman 1984): it leaves the joint distribution as it is and takes up what the decoder rounded, so
that requested values are met closely.

Training pairs are designs with property values, scored by a simulator or predicted by the
surrogate (a record says which). Rows near the targets are drawn more often; every row is replayed.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generators.asked import CALIBRATED
from generators.coding import JointCode
from generators.dynamics.flow import Velocity
from generators.dynamics.gaussian import GaussianVelocity
from generators.dynamics.samplers import ancestral, heun, uniform_times
from generators.guided import Guided
from generators.guiding import check_guiding, rescaled_velocity
from generators.joint import stack_images
from generators.networks.autoencoder import Autoencoder
from generators.networks.dit import PATCH
from generators.networks.joint import JointNetwork, joint_network
from generators.networks.mlp import VectorFlow
from generators.networks.regressor import check_regressor
from generators.noisy_regressor import led_velocity
from generators.phase_law import drawn_freely
from generators.showing import with_pictures
from generators.sketch import Sketch
from generators.steering import Steered, Steering
from generators.steering_flow import steer_flow
from generators.together import fit_together, is_shared
from generators.training import checkpoint
from generators.training.flow_matching import (
    FlowSettings,
    Rows,
    RunSettings,
    train_flow,
    train_head,
)
from generators.training.regression import even_weights
from generators.training.rows import drawing_weights, rows_to_encode, scored_rows
from loop.candidate import Candidate, Record
from loop.library import Library
from loop.protocols import Differentiable, Progress, silent
from loop.scaling import PropertyScale
from loop.space import DesignSpace
from loop.targets import Targets

FloatArray = NDArray[np.float64]
TOGETHER = 256  # designs of 64 x 64 cells that are denoised at once, larger ones fewer


def together(latent_shape: tuple[int, int, int] | None, most: int = TOGETHER) -> int:
    """How many designs with image latents (c, h, w) are denoised at once."""
    _, h, w = latent_shape or (0, 1, 1)
    return max(1, min(most, most * 64 * 64 // (h * w)))


class JointFlow(Guided):
    """Generator by conditional flow matching in the joint latent space."""

    name = "joint-flow"

    def __init__(
        self,
        space: DesignSpace,
        library: Library,
        targets: Targets,
        properties: Sequence[str],
        settings: FlowSettings,
        device: str = "cpu",
        models: Sequence[Differentiable] = (),
    ) -> None:
        """``models``: simulators whose derivatives guide what is proposed (``steering``).

        Raises InvalidCampaignError for settings and image sizes that do not go together.
        """
        check_regressor(settings.regressor)
        check_guiding(settings.guiding)
        side = Autoencoder.factor * PATCH
        super().__init__(space, library, targets, properties, device, side=side)
        self.settings = settings
        self.models = tuple(models)
        self.linear: GaussianVelocity | None = None
        self.network: JointNetwork | None = None
        self.head: VectorFlow | None = None
        self.sketch: Sketch | None = None
        self.metrics: dict[str, Any] = {}  # of the last fit, for the model card

    # Fitting

    def fit(
        self, records: Sequence[Record], *, rng: np.random.Generator, progress: Progress = silent
    ) -> JointFlow:
        """A new generator trained on records; warm-started from this one where it is trained.

        By several processes where the settings say so (``together``).
        """
        if is_shared(self):
            return fit_together(self, records, rng, progress)
        candidates, values = scored_rows(self.name, records, self.properties)
        new = copy.copy(self)
        fresh = self.network is None
        if fresh:
            new.code = self.make_code(candidates, rng, progress)
            new.property_scale = PropertyScale.fit(values)
            torch.manual_seed(int(rng.integers(2**63)))  # initial weights
            new.network = new.make_network(new.code)
            new.head = new.make_head(new.code)
        else:
            new.network = copy.deepcopy(self.network)
            new.head = copy.deepcopy(self.head)
        assert new.code is not None
        assert new.property_scale is not None
        conditions = new.learned_conditions(candidates, values)
        weights, nearest = drawing_weights(
            values, self.properties, self.targets, self.settings.focus, self.settings.focus_rank
        )
        new.near = values[nearest]
        kept = rows_to_encode(weights, self.settings.image_rows, rng)
        states = new.code.states([candidates[i] for i in kept])
        mirrored, source = new._mirrored([candidates[i] for i in kept])
        evenly = even_weights(len(candidates), len(kept), source)
        kept = np.concatenate([kept, kept[source]])
        plain = self.library.draw(self.settings.plain_rows, rng=rng, even=True)
        plain_states = new.code.states(plain)
        if new.linear is None:
            new.linear = GaussianVelocity.fit(plain_states)
        run = RunSettings(
            asked=self.wanted(),
            settings=self.settings,
            fresh=fresh,
            device=self.device,
            rng=rng,
            progress=progress,
            keep=self.keep,
        )
        assert new.network is not None
        started = time.monotonic()
        states = torch.cat([states, mirrored])
        rows = Rows(states, conditions[kept], weights[kept], plain_states, self.widths)
        loss = new.train_network(rows, run)
        new.metrics = {"final_loss": loss, "device": self.device, "rows": len(candidates)}
        if new.head is not None:
            vectors = plain_states[:, new.network.latent_size :]
            new.metrics["head_final_loss"] = train_head(
                new.head,
                Rows(new.code.vectors(candidates), conditions, weights, vectors, self.widths),
                context=new.code.context(candidates),
                plain_context=new.code.context(plain),
                run=run,
            )
        if fresh and new.code.sparse:
            new.code = new.code.calibrated(new.unconditional(CALIBRATED, rng), plain or candidates)
        sketched = new.train_sketch(candidates, plain, values, weights, run)
        if sketched is not None:
            new.metrics["sketch_final_loss"] = sketched
        even_rows = Rows(states, conditions[kept], evenly, plain_states)
        if (regressed := new.train_regressor(even_rows, run)) is not None:
            new.metrics["regressor_final_loss"] = regressed
        s, steps = self.settings, "first_steps" if fresh else "retrain_steps"
        new.metrics |= {"steps": getattr(s, steps), "seconds": time.monotonic() - started}
        return new

    def _mirrored(self, candidates: list[Candidate]) -> tuple[Tensor, NDArray[np.intp]]:
        """States of mirror images of the first quarter of designs, and whose they are.

        Mirroring and half turns leave the properties along x and y as they are, so the few
        designs near the targets count fourfold. Only where the library's images are turned too.
        """
        assert self.code is not None
        first = candidates[: len(candidates) // 4]
        if self.code.vae is None or not self.library.augment or not first:
            return torch.zeros(0, self.trained_network().state_size), np.zeros(0, dtype=np.intp)
        images, vectors = stack_images(first), self.code.vectors(first)
        axes = ((1,), (2,), (1, 2))
        states = torch.cat([self.code.with_latents(images.flip(axis), vectors) for axis in axes])
        return states, np.tile(np.arange(len(first)), len(axes))

    def make_code(
        self, candidates: Sequence[Candidate], rng: np.random.Generator, progress: Progress
    ) -> JointCode:
        """The coding of designs, learned once per campaign."""
        return JointCode.fit(
            self.space,
            self.library,
            candidates,
            self.settings.vae,
            device=self.device,
            rng=rng,
            progress=progress,
            keep=self.keep,
            training=self.settings.training,
            pixels=self.settings.space == "pixel",
            vector_scale=self.settings.vector_shift,
        )

    def train_network(self, rows: Rows, run: RunSettings) -> float:
        """Train the network in place on coded rows; returns the final loss."""
        assert self.linear is not None
        run = with_pictures(self, run)
        return train_flow(self.trained_network(), self.linear, rows, run)

    def make_network(self, code: JointCode) -> JointNetwork:
        """The untrained network for states of this coding."""
        s = self.settings
        return joint_network(
            s.network,
            latent_shape=code.latent_shape,
            vector_sizes=code.vector_sizes,
            properties=sum(self.widths),
            width=s.width,
            depth=s.depth,
            heads=s.heads,
            channels=s.channels,
            attend=s.attend,
            patch=self.patch,
        ).to(self.device)

    # Proposing

    @torch.no_grad()
    def generate(
        self,
        requests: FloatArray,
        *,
        guidance: float,
        rng: np.random.Generator,
        steering: Steering | None = None,
    ) -> list[Candidate]:
        """One candidate per row of requests (n, k) or (n, k + l); NaN is not requested.

        ``steering``: how the ``models`` guide it, by default as usual; not without any models.
        """
        self.trained_network()  # says so when there is nothing trained
        assert self.code is not None
        if not len(requests):
            return []
        source = checkpoint.torch_generator(rng)
        how = steering or Steering()
        made, vectors = self._drawn(requests, guidance, source, how)
        for _ in range(how.restarts if self.models else 0):
            rows = np.flatnonzero(made.errors > how.missed)
            if not len(rows):
                break
            again, others = self._drawn(requests[rows], guidance, source, how)
            nearer = made.replaced(rows, again)
            vectors[torch.from_numpy(rows[nearer])] = others[torch.from_numpy(nearer)]
        more = {"also": [one.about() for one in self.also]} if self.also else {}
        counts = [{"simulator_gradients": int(n)} if self.models else {} for n in made.calls]
        details = [more | one for one in counts]
        origins = self.origins(requests, guidance, made.compositions, details)
        return self.code.candidates(made.images, made.compositions, vectors, origins)

    def _drawn(
        self, requests: FloatArray, guidance: float, source: torch.Generator, steering: Steering
    ) -> tuple[Steered, Tensor]:
        """One design per request (n, k), guided by the ``models``, and their vectors (n, v)."""
        assert self.code is not None
        states = self.states(requests, guidance, source)
        free = self.free_rows(requests, guidance)
        drawn = drawn_freely(self, states[free], source) if len(free) else None
        if drawn is not None:
            states[free] = drawn[0]
        latent, vectors = self.parts(states)
        images = fractions = None
        if drawn is not None and len(free) == len(states):
            _, images, fractions = drawn
        elif latent is not None:
            latent, images, fractions = self.sketched(latent, requests, guidance, source)
            if drawn is not None and fractions is not None:
                images[free.cpu().numpy()], fractions[free] = drawn[1], drawn[2]
        vectors = self.redraw(images, vectors, requests, guidance, source)
        compositions = self.code.compositions_of(vectors)
        n = len(requests)
        made = Steered(images, compositions, np.zeros(n, dtype=np.int64), np.zeros(n))
        if self.models:
            values = self.asked_values(requests)
            made = steer_flow(self, values, latent, compositions, steering, fractions)
        return made, vectors

    def states(self, requests: FloatArray, guidance: float, source: torch.Generator) -> Tensor:
        """States (n, state) sampled under requests (n, k)."""
        network = self.trained_network()
        noise = torch.randn(len(requests), network.state_size, generator=source).to(self.device)
        size = together(network.latent_shape)
        states = [
            self.sample(noise[start : start + size], requests[start : start + size], guidance)
            for start in range(0, len(requests), size)
        ]
        return torch.cat(states)

    def sample(self, noise: Tensor, requests: FloatArray, guidance: float) -> Tensor:
        """States (n, state) that the noise (n, state) becomes under requests (n, k).

        Where nothing guides, in twice as many evaluations, for one costs half of a guided one.
        """
        steps = self.settings.sample_steps
        if guidance == 0 or not (np.isfinite(requests).any() or self.also):
            if self.trained_network().latent_shape is not None:
                return ancestral(self.velocity(requests, 0.0), noise, 4 * steps)
            steps, guidance = 2 * steps, 0.0
        times = uniform_times(steps).to(self.device)
        request = self.leading(requests, guidance)
        if request is None:
            return heun(self.velocity(requests, guidance), noise, times)
        free = self.velocity(requests, 0.0)
        return heun(led_velocity(free, request, guidance), noise, times)

    @torch.no_grad()
    def unconditional(self, n: int, rng: np.random.Generator) -> Tensor:
        """(n, v) vectors of samples without a request, before any are drawn anew."""
        size = self.trained_network().state_size
        noise = torch.randn(n, size, generator=checkpoint.torch_generator(rng)).to(self.device)
        free = np.full((n, len(self.properties)), np.nan)
        return self.parts(self.sample(noise, free, 0.0))[1]

    def parts(self, states: Tensor) -> tuple[Tensor | None, Tensor]:
        """(n, state) -> image latents (n, c, h, w), None without images, and vectors (n, v)."""
        network = self.trained_network()
        latent, vectors = states.split(
            [network.latent_size, network.state_size - network.latent_size], dim=1
        )
        shape = network.latent_shape
        return (None if shape is None else latent.reshape(-1, *shape)), vectors

    def velocity(self, requests: FloatArray, guidance: float) -> Velocity:
        """Of states (n, state) under requests (n, k), with classifier-free guidance."""
        assert self.linear is not None
        linear, how = self.linear.to(self.device), self.settings.guiding
        learned = self.led(self.under, requests, guidance, how)
        if how.rescale and guidance:
            asked = self.under(*self.conditions(requests))
            return rescaled_velocity(linear, learned, asked, how.rescale)
        # The linear part is the same with and without conditions.
        return lambda x, t: linear(x, t) + learned(x, t)

    def trained_network(self) -> JointNetwork:
        """The transformer; raises InvalidInputError before the first fit."""
        if self.network is None:
            raise self.untrained()
        return self.network

    # Keeping

    def save(self, folder: Path) -> tuple[str, Path]:
        """Weights and scales into ``folder/<sha256>.safetensors``; returns hash and path."""
        from generators.flow_files import save_flow

        return save_flow(self, folder)

    def load(self, path: Path) -> JointFlow:
        """A trained copy of this generator from a checkpoint of the same campaign.

        Raises InvalidInputError when the checkpoint was made for other properties, phases,
        elements or sizes.
        """
        from generators.flow_files import load_flow

        return load_flow(self, path)
