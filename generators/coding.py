"""Designs to the rows a generator learns from, and back: image latent, compositions, process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generators.joint import CompositionCode, Standardiser, stack_images, stack_process
from generators.pixels import PixelCode
from generators.training.precision import TrainingSettings
from generators.training.resume import TrainingState
from generators.vae import ImageVAE, VAESettings
from loop.candidate import Candidate, Origin, stack_compositions
from loop.features import ImageFeatures
from loop.library import Library
from loop.protocols import Progress
from loop.space import DesignSpace

FloatArray = NDArray[np.float64]
SCALE_IMAGES = 4096  # images whose features set the scale of the features


@dataclass(frozen=True)
class JointCode:
    """What is learned of the coding itself, once per campaign; a part without data is None.

    ``vae``: of the images, to a latent or as their pixels. ``vector_scale``: standard deviation of
    the coded vectors, of the image it is 1: noised together with the image, the vectors have so
    many times its ratio of signal to noise (Chen 2023, arXiv:2301.10972, section 2.2).
    """

    space: DesignSpace
    vae: ImageVAE | PixelCode | None
    compositions: CompositionCode | None
    process: Standardiser | None
    features: ImageFeatures | None
    feature_scale: Standardiser | None
    vector_scale: float = 1.0

    @staticmethod
    def fit(
        space: DesignSpace,
        library: Library,
        candidates: Sequence[Candidate],
        settings: VAESettings,
        *,
        device: str,
        rng: np.random.Generator,
        progress: Progress,
        keep: TrainingState | None = None,
        training: TrainingSettings | None = None,
        pixels: bool = False,
        vector_scale: float = 1.0,
    ) -> JointCode:
        """Autoencoder from the library, or its ``pixels``, scales from the candidates."""
        vae: ImageVAE | PixelCode | None = None
        features = feature_scale = None
        if space.image_shape is not None:
            vae = (
                PixelCode.fit(library, device=device, rng=rng)
                if pixels
                else ImageVAE.fit(
                    library,
                    settings,
                    device=device,
                    rng=rng,
                    progress=progress,
                    keep=keep,
                    training=training,
                )
            )
            if len(space.phases) > 1:
                images = library.patches(SCALE_IMAGES, rng=rng)
                features = ImageFeatures.fit(images, len(space.phases))
                feature_scale = Standardiser.fit(features.transform(images))
        return replace(
            JointCode.of_vectors(space, candidates),
            vae=vae,
            features=features,
            feature_scale=feature_scale,
            vector_scale=vector_scale,
        )

    @staticmethod
    def of_vectors(space: DesignSpace, candidates: Sequence[Candidate]) -> JointCode:
        """The coding of compositions and process variables alone; images stay label images."""
        known, compositions, process = list(candidates), None, None
        if space.elements:
            low, _ = space.bound_arrays()
            compositions = CompositionCode.fit(stack_compositions(known), low)
        if space.process:
            process = Standardiser.fit(stack_process(known, tuple(space.process)))
        return JointCode(space, None, compositions, process, None, None)

    @property
    def latent_shape(self) -> tuple[int, int, int] | None:
        """(c, h, w) of the image latent."""
        if self.vae is None or self.space.image_shape is None:
            return None
        h, w = self.space.image_shape
        return self.vae.channels, h // self.vae.factor, w // self.vae.factor

    @property
    def vector_sizes(self) -> tuple[int, ...]:
        """Lengths of the vectors: one per phase composition, then the process variables."""
        space = self.space
        sizes = (len(space.elements),) * len(space.phases) if space.elements else ()
        return (*sizes, len(space.process)) if space.process else sizes

    def states(self, candidates: list[Candidate]) -> Tensor:
        """(n, state): the standardised image latent and the vectors."""
        vectors = self.vectors(candidates)
        if self.vae is None:
            return vectors
        return self.with_latents(stack_images(candidates), vectors)

    def with_latents(self, images: Tensor, vectors: Tensor) -> Tensor:
        """(n, state) of label images (n, h, w) and coded vectors (n, v)."""
        assert self.vae is not None
        return torch.cat([self.vae.encode(images).flatten(1).cpu(), vectors], dim=1)

    def vectors(self, candidates: list[Candidate]) -> Tensor:
        """(n, v) coded compositions and process variables; v may be 0."""
        parts: list[Tensor] = [torch.zeros(len(candidates), 0)]
        if self.compositions is not None:
            coded = self.compositions.encode(stack_compositions(candidates))
            parts.append(torch.from_numpy(coded).float().flatten(1))
        if self.process is not None:
            process = stack_process(candidates, tuple(self.space.process))
            parts.append(torch.from_numpy(self.process.forward(process)).float())
        return self.vector_scale * torch.cat(parts, dim=1)

    def context(self, candidates: list[Candidate]) -> Tensor:
        """(n, f) standardised features of the candidates' images; f is 0 without images."""
        if self.features is None:
            return torch.zeros(len(candidates), 0)
        return self.image_context(stack_images(candidates).numpy())

    def image_context(self, images: NDArray[np.uint8]) -> Tensor:
        """(n, f) standardised features of label images (n, h, w)."""
        if self.features is None or self.feature_scale is None:
            return torch.zeros(len(images), 0)
        features = self.features.transform(images)
        return torch.from_numpy(self.feature_scale.forward(features)).float()

    def compositions_of(self, vectors: Tensor) -> FloatArray | None:
        """(n, p, e) feasible compositions of coded vectors (n, v); None where there are none."""
        if self.compositions is None:
            return None
        parts = self._split(vectors)
        coded = torch.stack(parts[: len(self.space.phases)], dim=1).cpu().double().numpy()
        return self.compositions.decode(coded, self.space)

    def _split(self, vectors: Tensor) -> tuple[Tensor, ...]:
        """(n, v) -> one (n, size) each of unit scale."""
        return (vectors / self.vector_scale).split(list(self.vector_sizes), dim=1)

    def candidates(
        self,
        images: NDArray[np.uint8] | None,
        compositions: FloatArray | None,
        vectors: Tensor,
        origins: Sequence[Origin],
    ) -> list[Candidate]:
        """Designs of images (n, h, w), compositions (n, p, e) and the process in vectors (n, v)."""
        space = self.space
        parts = self._split(vectors)
        process: FloatArray | None = None
        if self.process is not None:
            raw = self.process.inverse(parts[-1].cpu().double().numpy())
            limits = np.array(list(space.process.values()))
            process = np.clip(raw, limits[:, 0], limits[:, 1])
        return [
            Candidate(
                phases=space.phases,
                elements=space.elements,
                microstructure=None if images is None else images[i],
                phase_compositions=None if compositions is None else compositions[i],
                process={}
                if process is None
                else dict(zip(space.process, process[i].tolist(), strict=True)),
                origin=origin,
            )
            for i, origin in enumerate(origins)
        ]
