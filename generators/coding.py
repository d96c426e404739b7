"""Designs to the rows a generator learns from, and back.

A row is the image latent, then the vectors: compositions, process variables, labels. Designs
without images have sparse compositions (``generators.sparse``): which elements there are and what
the labels are is decided first, and how much of each is drawn once that stands.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generators.joint import CompositionCode, Standardiser, stack_images, stack_process
from generators.labels import label_bits, label_codes_of, label_columns
from generators.pixels import PixelCode
from generators.sparse import SparseCode
from generators.training.precision import TrainingSettings
from generators.training.resume import TrainingState
from generators.vae import ImageVAE, VAESettings
from loop.candidate import Candidate, Origin, stack_compositions
from loop.features import ImageFeatures
from loop.library import Library
from loop.process_labels import FREE, Codes, label_codes, named_labels
from loop.protocols import Progress
from loop.space import DesignSpace

FloatArray = NDArray[np.float64]
SCALE_IMAGES = 4096  # images whose features set the scale of the features
JITTER = 0.25  # of +1 and -1: the sign is another's once in 30,000 times
AMOUNT_JITTER = 0.1  # of amounts, in their standard deviations


@dataclass(frozen=True)
class JointCode:
    """What is learned of the coding itself, once per campaign; a part without data is None.

    ``vae``: of the images, to a latent or as their pixels. ``vector_scale``: standard deviation of
    the coded vectors, of the image it is 1: noised together with the image, the vectors have so
    many times its ratio of signal to noise (Chen 2023, arXiv:2301.10972, section 2.2).
    """

    space: DesignSpace
    vae: ImageVAE | PixelCode | None
    compositions: CompositionCode | SparseCode | None
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
        """The coding of all but the images; these stay label images."""
        known, process = list(candidates), None
        compositions: CompositionCode | SparseCode | None = None
        if space.elements:
            low, _ = space.bound_arrays()
            kind = SparseCode if space.image_shape is None else CompositionCode
            compositions = kind.fit(stack_compositions(known), low)
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
        """Lengths of the vectors: one per phase composition, then process variables and labels."""
        space = self.space
        others = (len(space.process), label_columns(space))
        phases = () if self.compositions is None else (self.compositions.size,) * len(space.phases)
        return (*phases, *(size for size in others if size))

    @property
    def context_size(self) -> int:
        """Columns of ``context``."""
        if self.feature_scale is not None:
            return len(self.feature_scale.mean)
        return int(self.decisive.sum()) if self.space.image_shape is None else 0

    @property
    def decisive(self) -> NDArray[np.bool_]:
        """(v,) which coordinates of the vectors are read as one of two: presence and labels."""
        there = np.zeros(sum(self.vector_sizes), dtype=bool)
        if isinstance(self.compositions, SparseCode):
            size = self.compositions.size
            for phase in range(len(self.space.phases)):
                there[phase * size : phase * size + size // 2] = True
        labels = label_columns(self.space)
        there[len(there) - labels :] = True
        return there

    @property
    def jitter(self) -> Tensor | None:
        """(state,) standard deviations of noise that takes no design for another; None: none.

        A density over coordinates that are +1 or -1 has no upper bound; noised so, it has (B. Uria,
        I. Murray, H. Larochelle, RNADE, NeurIPS 2013, section 3; L. Theis et al., ICLR 2016).
        """
        if not self.decisive.any():
            return None
        amounts = np.zeros(len(self.decisive), dtype=bool)
        if isinstance(self.compositions, SparseCode):
            amounts[: self.compositions.size * len(self.space.phases)] = True
        vectors = np.where(self.decisive, JITTER, np.where(amounts, AMOUNT_JITTER, 0.0))
        image = np.zeros(math.prod(self.latent_shape or (0,)))
        return self.vector_scale * torch.from_numpy(np.concatenate([image, vectors])).float()

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
        """(n, v) coded compositions, process variables and labels; v may be 0.

        Raises InvalidInputError for a candidate without the labels of the space.
        """
        parts: list[Tensor] = [torch.zeros(len(candidates), 0)]
        if self.compositions is not None:
            coded = self.compositions.encode(stack_compositions(candidates))
            parts.append(torch.from_numpy(coded).float().flatten(1))
        if self.process is not None:
            process = stack_process(candidates, tuple(self.space.process))
            parts.append(torch.from_numpy(self.process.forward(process)).float())
        if self.space.labels:
            bits = label_bits(self.space, label_codes(self.space, candidates))
            parts.append(torch.from_numpy(bits).float())
        return self.vector_scale * torch.cat(parts, dim=1)

    def context(self, candidates: list[Candidate]) -> Tensor:
        """(n, f) what the vectors are drawn anew given: the images' features, or ``decided``."""
        if self.space.image_shape is None:
            return self.decided(self.vectors(candidates))
        if self.features is None:
            return torch.zeros(len(candidates), 0)
        return self.image_context(stack_images(candidates).numpy())

    def context_of(self, images: NDArray[np.uint8] | None, vectors: Tensor) -> Tensor:
        """(n, f) ``context`` of drawn images (n, h, w), or else of drawn vectors (n, v)."""
        return self.decided(vectors) if images is None else self.image_context(images)

    def image_context(self, images: NDArray[np.uint8]) -> Tensor:
        """(n, f) standardised features of label images (n, h, w)."""
        if self.features is None or self.feature_scale is None:
            return torch.zeros(len(images), 0)
        features = self.features.transform(images)
        return torch.from_numpy(self.feature_scale.forward(features)).float()

    # What is one of two

    @property
    def sparse(self) -> bool:
        """Whether compositions are coded as which elements, then how much."""
        return isinstance(self.compositions, SparseCode)

    def calibrated(self, vectors: Tensor, designs: Sequence[Candidate]) -> JointCode:
        """The coding that reads elements out of vectors (n, v) as often as ``designs`` have them.

        ``vectors``: of a trained model without any request; ``SparseCode.calibrated`` has the why.
        """
        if not isinstance(self.compositions, SparseCode) or not designs:
            return self
        shares = (stack_compositions(designs) > 0).mean(0)
        code = self.compositions.calibrated(self._phases(vectors), shares)
        return replace(self, compositions=code)

    def _phases(self, vectors: Tensor) -> FloatArray:
        """(n, p, k) coordinates of the phases in vectors (n, v)."""
        parts = self._split(vectors)[: len(self.space.phases)]
        found: FloatArray = torch.stack(parts, dim=1).cpu().double().numpy()
        return found

    def decided(self, vectors: Tensor) -> Tensor:
        """(n, f) which elements and labels vectors (n, v) say, +1 or -1 each."""
        chosen = torch.from_numpy(self.decisive).to(vectors.device)
        return self.settled(vectors)[:, chosen] / self.vector_scale

    def settled(self, vectors: Tensor) -> Tensor:
        """Vectors (n, v) whose presences and labels are +1 or -1, as they are read."""
        parts, phases = list(self._split(vectors)), len(self.space.phases)
        if isinstance(self.compositions, SparseCode):
            coded = self.compositions.settled(self._phases(vectors), self.space)
            whole = torch.from_numpy(coded).to(vectors)
            parts[:phases] = whole.unbind(1)
        if self.space.labels:
            bits = label_bits(self.space, self.label_codes_of(vectors))
            parts[-1] = torch.from_numpy(bits).to(vectors)
        return self.vector_scale * torch.cat(parts, dim=1) if parts else vectors

    def as_decided(self, vectors: Tensor, before: Tensor) -> Tensor:
        """Vectors (n, v) with the presences and labels of others, of which they were drawn."""
        chosen = torch.from_numpy(self.decisive).to(vectors.device)
        return torch.where(chosen, self.settled(before), vectors)

    def labelled(self, vectors: Tensor, codes: Codes) -> Tensor:
        """Vectors (n, v) with the labels of codes (n, l); where one is ``FREE``, their own."""
        if not self.space.labels or (codes == FREE).all():
            return vectors
        both = np.where(codes == FREE, self.label_codes_of(vectors), codes)
        bits = torch.from_numpy(label_bits(self.space, both)).to(vectors)
        rest = vectors[:, : vectors.shape[1] - bits.shape[1]]
        return torch.cat([rest, self.vector_scale * bits], dim=1)

    def label_codes_of(self, vectors: Tensor) -> Codes:
        """(n, l) labels that vectors (n, v) say: of each the likeliest value."""
        if not self.space.labels:
            return np.zeros((len(vectors), 0), dtype=np.int64)
        return label_codes_of(self.space, self._split(vectors)[-1].cpu().double().numpy())

    def compositions_of(self, vectors: Tensor) -> FloatArray | None:
        """(n, p, e) feasible compositions of coded vectors (n, v); None where there are none."""
        if self.compositions is None:
            return None
        return self.compositions.decode(self._phases(vectors), self.space)

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
        """Designs of images (n, h, w), compositions (n, p, e), and what else vectors (n, v) say."""
        space = self.space
        parts = self._split(vectors)
        process: FloatArray | None = None
        if self.process is not None:
            place = -2 if space.labels else -1
            raw = self.process.inverse(parts[place].cpu().double().numpy())
            limits = np.array(list(space.process.values()))
            process = np.clip(raw, limits[:, 0], limits[:, 1])
        labels = self.label_codes_of(vectors)
        return [
            Candidate(
                phases=space.phases,
                elements=space.elements,
                microstructure=None if images is None else images[i],
                phase_compositions=None if compositions is None else compositions[i],
                process={}
                if process is None
                else dict(zip(space.process, process[i].tolist(), strict=True)),
                labels=named_labels(space, labels[i]),
                origin=origin,
            )
            for i, origin in enumerate(origins)
        ]
