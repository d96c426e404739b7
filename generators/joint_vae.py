"""Conditional variational autoencoder over image, compositions and process at once.

The plain generator beside the flow: one pass of a decoder from a normal latent. Images come as
latents of the image autoencoder, so this is the second stage over ``JointCode`` states (Dai &
Wipf 2019, Diagnosing and enhancing VAE models). Properties condition encoder and decoder
(Sohn et al. 2015), any subset of them.
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

from generators.asked import CALIBRATED, Asked
from generators.coding import JointCode
from generators.networks.autoencoder import Autoencoder
from generators.networks.vector_vae import PrincipalComponents, VectorVAE
from generators.settings import with_settings
from generators.showing import pictures_unasked
from generators.together import fit_together, is_shared
from generators.training.checkpoint import torch_generator
from generators.training.flow_matching import Rows
from generators.training.pictures import Pictures
from generators.training.rows import drawing_weights, rows_to_encode, scored_rows
from generators.training.variational import (
    STAGE,
    JointVAESettings,
    VAERun,
    learned,
    state_bound,
    train_vae,
)
from generators.vae import VAESettings
from loop.candidate import Candidate, Record
from loop.errors import InvalidCampaignError, unknown_name
from loop.library import Library
from loop.protocols import Progress, silent
from loop.scaling import PropertyScale
from loop.space import DesignSpace
from loop.targets import Targets

FloatArray = NDArray[np.float64]
HELD_OUT = 256  # designs on which the bound is reported

PRESETS: Mapping[str, JointVAESettings] = {
    # Seconds, for tests: everything is there and nothing is good.
    "tiny": JointVAESettings(
        latent=16,
        width=32,
        channels=8,
        depth=1,
        first_steps=40,
        retrain_steps=15,
        batch=64,
        kl_warmup=10.0,
        plain_rows=256,
        vae=VAESettings(latent_channels=4, width=8, steps=20, batch=16, images=256),
    ),
    # Minutes on two cores, most of them for the image autoencoder.
    "cpu": JointVAESettings(),
    # Larger network and longer training where one GPU is at hand.
    "gpu": JointVAESettings(
        latent=256,
        width=512,
        channels=128,
        depth=6,
        first_steps=20000,
        retrain_steps=4000,
        batch=1024,
        learning_rate=5e-4,
        retrain_rate=2e-4,
        kl_warmup=2000.0,
        image_rows=65536,
        plain_rows=16384,
        vae=VAESettings(
            latent_channels=8, width=48, learning_rate=1e-3, steps=6000, batch=256, images=65536
        ),
    ),
}


def joint_vae_settings(preset: str, settings: Mapping[str, Any]) -> JointVAESettings:
    """A preset with single settings replaced; raises InvalidCampaignError for unknown ones."""
    if preset not in PRESETS:
        raise InvalidCampaignError("generator: " + unknown_name("preset", preset, PRESETS))
    found = with_settings("generator.settings", PRESETS[preset], settings)
    if found.vae.width % 8:
        raise InvalidCampaignError(
            f"generator.settings.vae: width is {found.vae.width}; expected a multiple of 8"
        )
    return found


class JointVAE(Asked):
    """Generator by a conditional variational autoencoder over the joint state."""

    name = "vae"

    def __init__(
        self,
        space: DesignSpace,
        library: Library,
        targets: Targets,
        properties: Sequence[str],
        settings: JointVAESettings,
        device: str = "cpu",
    ) -> None:
        super().__init__(space, library, targets, properties, device, side=Autoencoder.factor)
        self.settings = settings
        self.network: VectorVAE | None = None
        self.figures: dict[str, float] = {}  # of the last fit, see ``variational.learned``

    # Fitting

    def fit(
        self, records: Sequence[Record], *, rng: np.random.Generator, progress: Progress = silent
    ) -> JointVAE:
        """A new generator trained on records; warm-started from this one where it is trained.

        The bound and the active units on held-out library designs go to ``figures`` and
        ``progress``. By several processes where the settings say so (``together``).
        Raises InvalidInputError for fewer than two scored records.
        """
        if is_shared(self):
            return fit_together(self, records, rng, progress)
        candidates, values = scored_rows(self.name, records, self.properties)
        new = copy.copy(self)
        fresh = self.network is None
        if fresh:
            new.code = JointCode.fit(
                self.space,
                self.library,
                candidates,
                self.settings.vae,
                device=self.device,
                rng=rng,
                progress=progress,
                keep=self.keep,
                training=self.settings.training,
            )
            new.property_scale = PropertyScale.fit(values)
        assert new.code is not None
        assert new.property_scale is not None
        conditions = new.learned_conditions(candidates, values)
        weights, nearest = drawing_weights(
            values, self.properties, self.targets, self.settings.focus, self.settings.focus_rank
        )
        new.near = values[nearest]
        kept = rows_to_encode(weights, self.settings.image_rows, rng)
        states = new.code.states([candidates[i] for i in kept])
        library = self.library.draw(self.settings.plain_rows, rng=rng, even=True)
        plain = new.code.states(library)
        torch.manual_seed(int(rng.integers(2**63)))  # initial weights
        jitter = new.code.jitter
        if self.network is None:
            seen = plain if jitter is None else plain + jitter * torch.randn(plain.shape)
            linear = PrincipalComponents.fit(seen, self.settings.latent)
            new.network = new.make_network(new.code, linear.loadings.shape[1])
            new.network.start(linear)
            new.network.look(states, torch.from_numpy(conditions[kept]))
        else:
            new.network = copy.deepcopy(self.network)
        run = VAERun(
            asked=self.wanted(),
            settings=self.settings,
            fresh=fresh,
            device=self.device,
            rng=rng,
            progress=progress,
            keep=self.keep,
            pictures=new.pictures(),
            jitter=jitter,
        )
        rows = Rows(states, conditions[kept], weights[kept], plain, self.widths)
        train_vae(new.network, rows, run)
        if fresh and new.code.sparse:
            new.code = new.code.calibrated(new.unconditional(CALIBRATED, rng), library)
        held_out = new.code.states(self.held_out(HELD_OUT, rng)).to(self.device)
        new.figures = learned(new.network, held_out, torch_generator(rng, self.device))
        steps = self.settings.first_steps if fresh else self.settings.retrain_steps
        progress(STAGE, steps, steps, **new.figures)
        return new

    def pictures(self) -> Pictures | None:
        """Of the images that the prior makes while it is trained, where they are wanted."""
        return pictures_unasked(self, self.settings.training)

    def make_network(self, code: JointCode, latent: int) -> VectorVAE:
        """The untrained network for states of this coding."""
        s, image = self.settings, code.latent_shape
        return VectorVAE(
            size=sum(code.vector_sizes) + (math.prod(image) if image else 0),
            latent=latent,
            properties=sum(self.widths),
            width=s.width,
            depth=s.depth,
            image=image,
            channels=s.channels,
        ).to(self.device)

    @torch.no_grad()
    def unconditional(self, n: int, rng: np.random.Generator) -> Tensor:
        """(n, d) decoded states without a request; of designs without images, their vectors."""
        network = self.trained_network()
        values, mask = self.conditions(np.full((n, len(self.properties)), np.nan))
        z = torch.randn(n, network.latent, generator=torch_generator(rng)).to(self.device)
        return network.decode(z, values, mask)

    # Proposing

    @torch.no_grad()
    def generate(
        self, requests: FloatArray, *, guidance: float, rng: np.random.Generator
    ) -> list[Candidate]:
        """One candidate per row of requests (n, k) or (n, k + l); NaN is not requested.

        From the same noise come a design without and one with the request, z_∅ and z_c; the
        decoder's means of the two are joined as µ_∅ + s (µ_c − µ_∅), s the guidance: the convention
        of classifier-free guidance.
        """
        network = self.trained_network()
        assert self.code is not None
        if not len(requests):
            return []
        values, known = self.conditions(requests)
        source = torch_generator(rng)
        n = len(requests)
        z = torch.randn(n, network.latent, generator=source).to(self.device)
        blur = torch.randn(n, sum(self.widths), generator=source).to(self.device)
        noise = torch.randn(n, network.size, generator=source).to(self.device)
        nothing = torch.zeros_like(known)
        mean = network.decode(z, values, nothing) if guidance != 1 else torch.zeros_like(noise)
        if guidance:
            chosen = network.prior_draw(z, blur, values, known)
            mean = mean + guidance * (network.decode(chosen, values, known) - mean)
        states = mean + self.settings.noise * network.noise_variance.sqrt() * noise
        shape, images, vectors = self.code.latent_shape, None, states
        if self.code.vae is not None and shape is not None:
            latent, vectors = states.tensor_split([math.prod(shape)], dim=1)
            images = self.code.vae.decode(latent.reshape(-1, *shape))
        vectors = self.code.labelled(vectors, self.asked_labels(requests))
        compositions = self.code.compositions_of(vectors)
        origins = self.origins(requests, guidance, compositions)
        return self.code.candidates(images, compositions, vectors, origins)

    def log_likelihood_bound(
        self, candidates: list[Candidate], *, rng: np.random.Generator
    ) -> FloatArray:
        """(n,) lower bounds, one draw each, on the log-density of coded designs, in nats.

        Low against the library's own: unlike what was learned. The image autoencoder's error is
        not in it.
        """
        network = self.trained_network()
        assert self.code is not None
        if not candidates:
            return np.zeros(0)
        states = self.code.states(candidates).to(self.device)
        bound = state_bound(network, states, torch_generator(rng, self.device))
        found: FloatArray = -bound.total.double().cpu().numpy()
        return found

    def trained_network(self) -> VectorVAE:
        """The network; raises InvalidInputError before the first fit."""
        if self.network is None:
            raise self.untrained()
        return self.network

    # Keeping

    def save(self, folder: Path) -> tuple[str, Path]:
        """Weights and scales into ``folder/<sha256>.safetensors``; returns hash and path."""
        from generators.joint_vae_files import save_vae

        return save_vae(self, folder)

    def load(self, path: Path) -> JointVAE:
        """A trained copy of this generator from a checkpoint of the same campaign.

        Raises InvalidInputError when the checkpoint is another generator's or was made for other
        properties, phases, elements or sizes.
        """
        from generators.joint_vae_files import load_vae

        return load_vae(self, path)
