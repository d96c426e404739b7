"""Conditional latent flow over image, compositions and process at once: the main generator.

A transformer denoises the joint state. Then, for the decoded, discrete image, one Gibbs step
draws the vectors (compositions, process) anew from their conditional given that image and the
same requested properties (Geman & Geman 1984): it leaves the joint distribution as it is and
takes up what the decoder rounded, so that requested values are met closely.

Training pairs are designs with property values, scored by a simulator or predicted by the
surrogate (a record says which). Rows near the targets are drawn more often; every row is replayed.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generators.dynamics.flow import Velocity, classifier_free
from generators.dynamics.samplers import heun, uniform_times
from generators.joint import (
    CompositionCode,
    Standardiser,
    stack_compositions,
    stack_images,
    stack_process,
)
from generators.networks.autoencoder import Autoencoder
from generators.networks.dit import PATCH, JointTransformer
from generators.networks.mlp import VectorFlow
from generators.requests import draw_requests
from generators.training import checkpoint
from generators.training.flow_matching import FlowSettings, train_flow, train_head
from generators.training.rows import drawing_weights, rows_to_encode
from generators.vae import ImageVAE
from loop.candidate import Candidate, Origin, Record
from loop.errors import InvalidCampaignError, InvalidInputError
from loop.features import ImageFeatures
from loop.library import Library
from loop.protocols import Progress, silent
from loop.scaling import PropertyScale
from loop.space import DesignSpace
from loop.targets import Targets

FloatArray = NDArray[np.float64]


class JointFlow:
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
    ) -> None:
        side = Autoencoder.factor * PATCH
        if space.image_shape is not None and any(length % side for length in space.image_shape):
            raise InvalidCampaignError(
                f"joint-flow got images of {space.image_shape[0]} x {space.image_shape[1]} pixels; "
                f"expected a multiple of {side} (images.patch)"
            )
        self.space = space
        self.library = library
        self.targets = targets
        self.properties = tuple(properties)
        self.settings = settings
        self.device = device
        self.vae: ImageVAE | None = None
        self.code: CompositionCode | None = None
        self.process_scale: Standardiser | None = None
        self.property_scale: PropertyScale | None = None
        self.network: JointTransformer | None = None
        self.head: VectorFlow | None = None
        self.image_features: ImageFeatures | None = None
        self.feature_scale: Standardiser | None = None
        self.near: FloatArray = np.zeros((0, len(self.properties)))  # values of the best rows

    # Fitting

    def fit(
        self, records: Sequence[Record], *, rng: np.random.Generator, progress: Progress = silent
    ) -> JointFlow:
        """A new generator trained on records; warm-started from this one where it is trained."""
        rows = [r for r in records if r.outcome.status == "ok"]
        if len(rows) < 2:
            raise InvalidInputError(
                f"joint-flow got {len(rows)} scored records; expected at least 2 to learn from"
            )
        new = copy.copy(self)
        candidates = [r.candidate for r in rows]
        values = np.array(
            [[r.outcome.values.get(k, np.nan) for k in self.properties] for r in rows]
        )
        fresh = self.network is None
        if fresh:
            new._prepare(candidates, values, rng, progress)
        else:
            new.network = copy.deepcopy(self.network)
            new.head = copy.deepcopy(self.head)
        assert new.property_scale is not None
        conditions = new.property_scale.forward(values)
        weights, nearest = drawing_weights(
            values, self.properties, self.targets, self.settings.focus, self.settings.focus_rank
        )
        new.near = values[nearest]
        rows_kept = rows_to_encode(weights, self.settings.image_rows, rng)
        states = new._states([candidates[i] for i in rows_kept])
        mirrored, source = new._mirrored([candidates[i] for i in rows_kept])
        states = torch.cat([states, mirrored])
        rows_kept = np.concatenate([rows_kept, rows_kept[source]])
        common: dict[str, Any] = {
            "asked": [k in self.targets.properties for k in self.properties],
            "settings": self.settings,
            "fresh": fresh,
            "device": self.device,
            "rng": rng,
            "progress": progress,
        }
        assert new.network is not None
        train_flow(
            new.network,
            states,
            conditions[rows_kept],
            weights[rows_kept] / weights[rows_kept].sum(),
            **common,
        )
        if new.head is not None:
            vectors = new._vectors(candidates)
            context = new._context(candidates)
            train_head(new.head, vectors, context, conditions, weights, **common)
        return new

    def _mirrored(self, candidates: list[Candidate]) -> tuple[Tensor, NDArray[np.intp]]:
        """States of mirror images of the first quarter of designs, and whose they are.

        Mirroring and half turns leave the properties along x and y as they are, so the few
        designs near the targets count fourfold. Only where the library's images are turned too.
        """
        none = torch.zeros(0, self.trained_network().state_size), np.zeros(0, dtype=np.intp)
        if self.vae is None or not self.library.augment:
            return none
        first = candidates[: len(candidates) // 4]
        if not first:
            return none
        images = stack_images(first)
        vectors = self._vectors(first)
        parts = [
            torch.cat([self.vae.encode(images.flip(axes)).flatten(1).cpu(), vectors], dim=1)
            for axes in ((1,), (2,), (1, 2))
        ]
        return torch.cat(parts), np.tile(np.arange(len(first)), len(parts))

    def _prepare(
        self,
        candidates: list[Candidate],
        values: FloatArray,
        rng: np.random.Generator,
        progress: Progress,
    ) -> None:
        """What is learned once: autoencoder, codes and scales."""
        space = self.space
        latent_shape: tuple[int, int, int] | None = None
        if space.image_shape is not None:
            self.vae = ImageVAE.fit(
                self.library, self.settings.vae, device=self.device, rng=rng, progress=progress
            )
            h, w = space.image_shape
            f = self.vae.network.factor
            latent_shape = (self.settings.vae.latent_channels, h // f, w // f)
        if space.elements:
            low, _ = space.bound_arrays()
            self.code = CompositionCode.fit(stack_compositions(candidates), low)
        if space.process:
            self.process_scale = Standardiser.fit(stack_process(candidates, tuple(space.process)))
        self.property_scale = PropertyScale.fit(values)
        torch.manual_seed(int(rng.integers(2**63)))  # initial weights
        self.network = self.make_network(latent_shape)
        if space.image_shape is not None and len(space.phases) > 1:
            images = stack_images(candidates).numpy()
            self.image_features = ImageFeatures.fit(images, len(space.phases))
            self.feature_scale = Standardiser.fit(self.image_features.transform(images[:4096]))
        self.head = self.make_head(self.network)

    def make_head(self, network: JointTransformer) -> VectorFlow | None:
        if not network.vector_sizes:
            return None
        s = self.settings
        context = 0 if self.feature_scale is None else len(self.feature_scale.mean)
        return VectorFlow(
            size=sum(network.vector_sizes),
            context=context,
            properties=len(self.properties),
            width=s.head_width,
            depth=s.head_depth,
        ).to(self.device)

    def make_network(self, latent_shape: tuple[int, int, int] | None) -> JointTransformer:
        space, s = self.space, self.settings
        sizes = (len(space.elements),) * len(space.phases) if space.elements else ()
        if space.process:
            sizes = (*sizes, len(space.process))
        return JointTransformer(
            latent_shape=latent_shape,
            vector_sizes=sizes,
            properties=len(self.properties),
            width=s.width,
            depth=s.depth,
            heads=s.heads,
        ).to(self.device)

    def _states(self, candidates: list[Candidate]) -> Tensor:
        """(n, state) of the joint state."""
        parts: list[Tensor] = []
        if self.vae is not None:
            parts.append(self.vae.encode(stack_images(candidates)).flatten(1).cpu())
        return torch.cat([*parts, self._vectors(candidates)], dim=1)

    def _vectors(self, candidates: list[Candidate]) -> Tensor:
        """(n, v) coded compositions and process variables; v may be 0."""
        parts: list[Tensor] = [torch.zeros(len(candidates), 0)]
        if self.code is not None:
            coded = self.code.encode(stack_compositions(candidates))
            parts.append(torch.from_numpy(coded).float().flatten(1))
        if self.process_scale is not None:
            process = stack_process(candidates, tuple(self.space.process))
            parts.append(torch.from_numpy(self.process_scale.forward(process)).float())
        return torch.cat(parts, dim=1)

    def _context(self, candidates: list[Candidate]) -> Tensor:
        """(n, f) standardised features of the candidates' images; f is 0 without images."""
        if self.image_features is None:
            return torch.zeros(len(candidates), 0)
        return self._image_context(stack_images(candidates).numpy())

    def _image_context(self, images: NDArray[np.uint8]) -> Tensor:
        assert self.image_features is not None
        assert self.feature_scale is not None
        features = self.image_features.transform(images)
        return torch.from_numpy(self.feature_scale.forward(features)).float()

    # Proposing

    def propose(
        self,
        n: int,
        targets: Targets | None = None,
        *,
        guidance: float,
        rng: np.random.Generator,
    ) -> list[Candidate]:
        """n candidates whose compositions are feasible; guidance 0 or no targets: unconditional."""
        if targets is None:
            requests = np.full((n, len(self.properties)), np.nan)
        else:
            requests = draw_requests(n, targets, self.properties, self.near, rng)
        return self.generate(requests, guidance=guidance, rng=rng)

    @torch.no_grad()
    def generate(
        self, requests: FloatArray, *, guidance: float, rng: np.random.Generator
    ) -> list[Candidate]:
        """One candidate per row of requested property values (n, k); NaN is not requested."""
        network = self.trained_network()
        assert self.property_scale is not None
        if not len(requests):
            return []
        known = torch.from_numpy(np.isfinite(requests)).to(self.device)
        y = torch.from_numpy(np.nan_to_num(self.property_scale.forward(requests))).float()
        y = y.to(self.device)
        source = checkpoint.torch_generator(rng)
        noise = torch.randn(len(requests), network.state_size, generator=source).to(self.device)
        states = []
        for start in range(0, len(requests), 256):
            rows = slice(start, start + 256)
            velocity = self._velocity(network, y[rows], known[rows], guidance)
            times = uniform_times(self.settings.sample_steps).to(self.device)
            states.append(heun(velocity, noise[rows], times))
        latent, vectors = torch.cat(states).split(
            [network.latent_size, network.state_size - network.latent_size], dim=1
        )
        images = None
        if self.vae is not None and network.latent_shape is not None:
            images = self.vae.decode(latent.reshape(-1, *network.latent_shape))
        if self.head is not None:
            context = torch.zeros(len(requests), 0)
            if self.image_features is not None and images is not None:
                context = self._image_context(images)
            noise = torch.randn(vectors.shape, generator=source).to(self.device)
            vectors = self._redraw(self.head, noise, context.to(self.device), y, known, guidance)
        return self._candidates(images, vectors, requests, guidance)

    def _redraw(
        self,
        head: VectorFlow,
        noise: Tensor,
        context: Tensor,
        y: Tensor,
        known: Tensor,
        guidance: float,
    ) -> Tensor:
        """Vectors (n, v) from their conditional given the image's features."""
        nothing = torch.zeros_like(known)
        velocity = classifier_free(
            lambda x, t: head(x, t, context, y, nothing),
            lambda x, t: head(x, t, context, y, known),
            guidance,
        )
        times = uniform_times(self.settings.head_sample_steps).to(self.device)
        return heun(velocity, noise, times)

    def _velocity(
        self, network: JointTransformer, y: Tensor, known: Tensor, guidance: float
    ) -> Velocity:
        nothing = torch.zeros_like(known)
        return classifier_free(
            lambda x, t: network(x, t, y, nothing),
            lambda x, t: network(x, t, y, known),
            guidance,
        )

    def trained_network(self) -> JointTransformer:
        if self.network is None:
            raise InvalidInputError("joint-flow is not trained; call fit(records) first")
        return self.network

    def _candidates(
        self,
        images: NDArray[np.uint8] | None,
        states: Tensor,
        requests: FloatArray,
        guidance: float,
    ) -> list[Candidate]:
        space = self.space
        vectors = states.split(list(self.trained_network().vector_sizes), dim=1)
        compositions = None
        if self.code is not None:
            coded = torch.stack(vectors[: len(space.phases)], dim=1).cpu().double().numpy()
            compositions = self.code.decode(coded, space)
        process: FloatArray | None = None
        if self.process_scale is not None:
            raw = self.process_scale.inverse(vectors[-1].cpu().double().numpy())
            limits = np.array(list(space.process.values()))
            process = np.clip(raw, limits[:, 0], limits[:, 1])
        found = []
        for i, row in enumerate(requests):
            asked = {
                k: float(v) for k, v in zip(self.properties, row, strict=True) if np.isfinite(v)
            }
            found.append(
                Candidate(
                    phases=space.phases,
                    elements=space.elements,
                    microstructure=None if images is None else images[i],
                    phase_compositions=None if compositions is None else compositions[i],
                    process={}
                    if process is None
                    else dict(zip(space.process, process[i].tolist(), strict=True)),
                    origin=Origin(self.name, guidance, {"requested": asked}),
                )
            )
        return found

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
