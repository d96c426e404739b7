"""Conditional adversarial generator over image, compositions and process at once: a baseline.

One pass of a convolutional generator from normal noise to the labels of every pixel and to the
coded vectors; no autoencoder is between it and the micrographs. Goodfellow et al. 2014; see
``training.adversarial`` for the objectives and ``networks.gan`` for the networks.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from generators.asked import CALIBRATED, Asked
from generators.coding import JointCode
from generators.joint import stack_images
from generators.networks.gan import FACTOR, Critic, DesignGenerator, Layout
from generators.networks.labelling import most_probable
from generators.settings import with_settings
from generators.showing import pictures_unasked
from generators.together import fit_together, is_shared
from generators.training.adversarial import (
    STAGE,
    Designs,
    GANRows,
    GANRun,
    JointGANSettings,
    train_gan,
)
from generators.training.checkpoint import torch_generator
from generators.training.losses import LAGS, two_point
from generators.training.pictures import Pictures
from generators.training.rows import drawing_weights, rows_to_encode, scored_rows
from loop.candidate import Candidate, Record
from loop.errors import InvalidCampaignError, unknown_name
from loop.library import Library
from loop.protocols import Progress, silent
from loop.scaling import PropertyScale
from loop.space import DesignSpace
from loop.targets import Targets

FloatArray = NDArray[np.float64]
HELD_OUT = 128  # designs that the figures of a fit are measured on
CHUNK_PIXELS = 256 * 64 * 64  # made at a time

PRESETS: Mapping[str, JointGANSettings] = {
    # Seconds, for tests: everything is there and nothing is good.
    "tiny": JointGANSettings(
        latent=16,
        local=4,
        channels=8,
        critic_channels=8,
        width=32,
        depth=1,
        first_steps=20,
        retrain_steps=6,
        batch=8,
        plain_rows=128,
    ),
    # Minutes on two cores.
    "cpu": JointGANSettings(),
    # Larger networks and longer training where one GPU is at hand.
    "gpu": JointGANSettings(
        latent=256,
        local=16,
        channels=64,
        critic_channels=64,
        width=512,
        depth=4,
        first_steps=20000,
        retrain_steps=3000,
        batch=128,
        learning_rate=5e-4,
        retrain_rate=2e-4,
        image_rows=65536,
        plain_rows=65536,
    ),
}


def joint_gan_settings(preset: str, settings: Mapping[str, Any]) -> JointGANSettings:
    """A preset with single settings replaced; raises InvalidCampaignError for unknown ones."""
    if preset not in PRESETS:
        raise InvalidCampaignError("generator: " + unknown_name("preset", preset, PRESETS))
    found = with_settings("generator.settings", PRESETS[preset], settings)
    if found.channels % 8:
        raise InvalidCampaignError(
            f"generator.settings: channels is {found.channels}; expected a multiple of 8"
        )
    return found


class JointGAN(Asked):
    """Generator by an adversarial pair over label images and coded vectors."""

    name = "gan"

    def __init__(
        self,
        space: DesignSpace,
        library: Library,
        targets: Targets,
        properties: Sequence[str],
        settings: JointGANSettings,
        device: str = "cpu",
    ) -> None:
        super().__init__(space, library, targets, properties, device, side=FACTOR)
        self.settings = settings
        self.network: DesignGenerator | None = None
        self.critic: Critic | None = None
        self.figures: dict[str, float] = {}  # of the last fit, see ``_learned``

    # Fitting

    def fit(
        self, records: Sequence[Record], *, rng: np.random.Generator, progress: Progress = silent
    ) -> JointGAN:
        """A new generator trained on records; warm-started from this one where it is trained.

        Figures on held-out library designs go to ``figures`` and ``progress``. Raises
        InvalidInputError for fewer than two scored records, TrainingError when a loss is not
        finite. By several processes where the settings say so (``together``).
        """
        if is_shared(self):
            return fit_together(self, records, rng, progress)
        candidates, values = scored_rows(self.name, records, self.properties)
        new = copy.copy(self)
        fresh = self.network is None
        if fresh:
            new.code = JointCode.of_vectors(self.space, candidates)
            new.property_scale = PropertyScale.fit(values)
        assert new.code is not None
        assert new.property_scale is not None
        conditions = new.learned_conditions(candidates, values)
        weights, nearest = drawing_weights(
            values, self.properties, self.targets, self.settings.focus, self.settings.focus_rank
        )
        new.near = values[nearest]
        kept = rows_to_encode(weights, self.settings.image_rows, rng)
        scored = _designs(new.code, [candidates[i] for i in kept])
        library = self.library.draw(self.settings.plain_rows, rng=rng, even=True)
        plain = _designs(new.code, library)
        torch.manual_seed(int(rng.integers(2**63)))  # initial weights
        if self.network is None or self.critic is None:
            new.network, new.critic = new.make_networks(new.code)
            new.network.to("cpu").start(*plain, torch_generator(rng))
            new.network.to(self.device)
        else:
            new.network, new.critic = copy.deepcopy(self.network), copy.deepcopy(self.critic)
        run = GANRun(
            asked=self.wanted(),
            settings=self.settings,
            fresh=fresh,
            device=self.device,
            rng=rng,
            progress=progress,
            keep=self.keep,
            pictures=new.pictures(),
        )
        rows = GANRows(scored, conditions[kept], weights[kept], plain, self.widths)
        train_gan(new.network, new.critic, rows, run)
        if fresh and new.code.sparse:
            new.code = new.code.calibrated(new.unconditional(CALIBRATED, rng), library)
        new.figures = new._learned(rng)
        steps = self.settings.first_steps if fresh else self.settings.retrain_steps
        progress(STAGE, steps, steps, **new.figures)
        return new

    def pictures(self) -> Pictures | None:
        """Of the images that are made while it is trained, where they are wanted."""
        return pictures_unasked(self, self.settings.training)

    def make_networks(self, code: JointCode) -> tuple[DesignGenerator, Critic]:
        """The untrained pair for designs of this coding."""
        s, shape = self.settings, self.space.image_shape
        layout = Layout(
            None if shape is None else (len(self.space.phases), *shape), sum(code.vector_sizes)
        )
        k = sum(self.widths)
        network = DesignGenerator(
            layout,
            properties=k,
            latent=s.latent,
            local=s.local,
            channels=s.channels,
            width=s.width,
            depth=s.depth,
        )
        critic = Critic(
            layout, properties=k, channels=s.critic_channels, width=s.width, depth=s.depth
        )
        return network.to(self.device), critic.to(self.device)

    @torch.no_grad()
    def _learned(self, rng: np.random.Generator) -> dict[str, float]:
        """Made designs, without conditions, against as many held-out ones of the library.

        ``critic_gap``: mean score of the held-out ones over that of the made ones.
        ``two_point_error``: root-mean-square difference of the phases' mean S2(r) within lag 16
        over the root mean square of S2(0).
        """
        network = self.trained_network()
        assert self.code is not None
        assert self.critic is not None
        designs = _designs(self.code, self.held_out(HELD_OUT, rng))
        nothing = np.full((HELD_OUT, len(self.properties)), np.nan)
        values, mask = self.conditions(nothing)
        noise = torch.randn(HELD_OUT, network.noise, generator=torch_generator(rng))
        logits, vectors = self._outputs(noise.to(self.device), values, mask, 0.0)
        fields = None if logits is None else _hot(logits.argmax(1), len(self.space.phases))
        held = None
        if fields is not None:
            held = _hot(designs.labels.to(self.device), len(self.space.phases))
        layout = network.layout
        real = layout.join(held, designs.vectors.to(self.device))
        made = layout.join(fields, vectors)
        gap = self.critic(real, values, mask).mean() - self.critic(made, values, mask).mean()
        figures = {"critic_gap": float(gap)}
        if fields is not None and held is not None:
            found, exact = (two_point(x).mean(0)[:, : LAGS + 1] for x in (fields, held))
            error = (found - exact).square().mean().sqrt() / exact[:, 0].square().mean().sqrt()
            figures["two_point_error"] = float(error)
        return figures

    @torch.no_grad()
    def unconditional(self, n: int, rng: np.random.Generator) -> Tensor:
        """(n, v) coded vectors without a request."""
        network = self.trained_network()
        values, mask = self.conditions(np.full((n, len(self.properties)), np.nan))
        noise = torch.randn(n, network.noise, generator=torch_generator(rng)).to(self.device)
        return self._outputs(noise, values, mask, 0.0)[1]

    # Proposing

    @torch.no_grad()
    def generate(
        self, requests: FloatArray, *, guidance: float, rng: np.random.Generator
    ) -> list[Candidate]:
        """One candidate per row of requests (n, k) or (n, k + l); NaN is not requested.

        An adversarial generator has no score to guide. Guidance s goes from what the noise gives
        without the request towards what the same noise gives with it and beyond:
        G(z, ∅) + s (G(z, c) − G(z, ∅)), of the logits and the coded vectors. So s = 0 is
        unconditional and s = 1 conditional, as everywhere.
        """
        network = self.trained_network()
        assert self.code is not None
        n = len(requests)
        if not n:
            return []
        values, known = self.conditions(requests)
        noise = torch.randn(n, network.noise, generator=torch_generator(rng)).to(self.device)
        logits, vectors = self._outputs(noise, values, known, guidance)
        images = None
        if logits is not None:
            images = most_probable(logits).cpu().numpy()
        vectors = self.code.labelled(vectors, self.asked_labels(requests))
        compositions = self.code.compositions_of(vectors)
        origins = self.origins(requests, guidance, compositions)
        return self.code.candidates(images, compositions, vectors, origins)

    def _outputs(
        self, noise: Tensor, values: Tensor, known: Tensor, guidance: float
    ) -> tuple[Tensor | None, Tensor]:
        """Guided logits (n, p, h, w) or None, and vectors (n, v), a few rows at a time."""
        network = self.trained_network()
        shape = network.layout.shape
        size = len(noise) if shape is None else max(1, CHUNK_PIXELS // math.prod(shape[1:]))
        logits: list[Tensor] = []
        vectors: list[Tensor] = []
        for z, y, mask in zip(*(x.split(size) for x in (noise, values, known)), strict=True):
            plain = network(z, y, torch.zeros_like(mask)) if guidance != 1 else None
            given = network(z, y, mask) if guidance else None
            image, vector = (_guided(plain, given, guidance, part) for part in (0, 1))
            assert vector is not None
            vectors.append(vector)
            if image is not None:
                logits.append(image)
        return torch.cat(logits) if logits else None, torch.cat(vectors)

    def trained_network(self) -> DesignGenerator:
        """The generator's network; raises InvalidInputError before the first fit."""
        if self.network is None:
            raise self.untrained()
        return self.network

    # Keeping

    def save(self, folder: Path) -> tuple[str, Path]:
        """Weights and scales into ``folder/<sha256>.safetensors``; returns hash and path."""
        from generators.gan_files import save_gan

        return save_gan(self, folder)

    def load(self, path: Path) -> JointGAN:
        """A trained copy of this generator from a checkpoint of the same campaign.

        Raises InvalidInputError when the checkpoint is another generator's or was made for other
        properties, phases, elements or sizes.
        """
        from generators.gan_files import load_gan

        return load_gan(self, path)


def _designs(code: JointCode, candidates: list[Candidate]) -> Designs:
    """Labels and coded vectors of candidates."""
    labels = torch.zeros(len(candidates), 0, dtype=torch.uint8)
    if code.space.image_shape is not None:
        labels = stack_images(candidates)
    return Designs(labels, code.vectors(candidates))


def _hot(labels: Tensor, phases: int) -> Tensor:
    """(n, h, w) labels to fields (n, p, h, w) of 0 and 1."""
    return functional.one_hot(labels.long(), phases).permute(0, 3, 1, 2).float()


def _guided(
    plain: tuple[Tensor | None, Tensor] | None,
    given: tuple[Tensor | None, Tensor] | None,
    guidance: float,
    part: int,
) -> Tensor | None:
    """One output (0: logits, 1: vectors) at a guidance; what does not count need not be there."""
    if plain is None or given is None:
        only = plain if given is None else given
        assert only is not None
        return only[part]
    start, end = plain[part], given[part]
    return None if start is None or end is None else start + guidance * (end - start)
