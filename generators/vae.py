"""Variational autoencoder of micrographs: labels to a standardised latent and back.

Kingma & Welling 2014; with the small KL weight of a latent-diffusion autoencoder (Rombach et
al. 2022) the latent is regularised, not a prior to sample from: the flow learns its density.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from generators.networks.autoencoder import Autoencoder, kl_to_standard_normal
from generators.training.checkpoint import torch_generator
from generators.training.loop import Schedule, train
from loop.library import Library
from loop.protocols import Progress, silent

CHUNK = 256
DETAIL = 9  # px, side of the neighbourhood in which a pixel is compared with the others
LEAST_SHARE = 0.15  # keeps the weight of a lone pixel finite


@dataclass(frozen=True, slots=True)
class VAESettings:
    """``kl_weight`` is per pixel: loss = cross-entropy per pixel + kl_weight · KL / pixels.

    The cross-entropy is a weighted mean, see ``detail_weights``.
    """

    latent_channels: int = 4
    width: int = 16
    steps: int = 260
    batch: int = 64
    learning_rate: float = 4e-3
    kl_weight: float = 0.05
    images: int = 8192  # distinct crops drawn for training


def detail_weights(labels: Tensor, phases: int) -> Tensor:
    """(b, h, w) weights of pixels: 1 / (``LEAST_SHARE`` + share of the own phase around them).

    A pixel in a wide region has a share of 1, one of a fine precipitate a fraction of it: with
    equal weights those few pixels cost next to nothing, and what is lost here is lost for good.
    """
    hot = functional.one_hot(labels.long(), phases).permute(0, 3, 1, 2).float()
    share = functional.avg_pool2d(hot, DETAIL, 1, DETAIL // 2, count_include_pad=False)
    own: Tensor = share.gather(1, labels.long()[:, None])[:, 0]
    return 1.0 / (LEAST_SHARE + own)


class ImageVAE:
    """A trained autoencoder with its per-channel latent standardisation."""

    def __init__(
        self, network: Autoencoder, mean: Tensor, std: Tensor, settings: VAESettings
    ) -> None:
        self.network = network
        self.mean = mean  # (c, 1, 1)
        self.std = std
        self.settings = settings

    @property
    def device(self) -> torch.device:
        return self.mean.device

    @staticmethod
    def fit(
        library: Library,
        settings: VAESettings,
        *,
        device: str,
        rng: np.random.Generator,
        progress: Progress = silent,
    ) -> ImageVAE:
        """Train on random crops of the library's training images."""
        phases = len(library.space.phases)
        images = torch.from_numpy(library.patches(settings.images, rng=rng))
        draws = torch_generator(rng)
        noise = torch_generator(rng, device)
        torch.manual_seed(int(rng.integers(2**63)))  # initial weights
        network = Autoencoder(
            phases, latent_channels=settings.latent_channels, width=settings.width
        ).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

        def batches() -> Iterator[tuple[Tensor, ...]]:
            while True:
                rows = torch.randint(len(images), (settings.batch,), generator=draws)
                yield (images[rows].to(device),)

        def loss(labels: Tensor) -> Tensor:
            with torch.autocast(labels.device.type, dtype=torch.bfloat16):
                mean, log_variance = network.encode(labels)
                epsilon = torch.randn(mean.shape, generator=noise, device=mean.device)
                logits = network.decode(mean + (0.5 * log_variance).exp() * epsilon)
            each = functional.cross_entropy(logits.float(), labels.long(), reduction="none")
            weights = detail_weights(labels, phases)
            reconstruction = (weights * each).sum() / weights.sum()
            kl = kl_to_standard_normal(mean.float(), log_variance.float()).sum((1, 2, 3)).mean()
            return reconstruction + settings.kl_weight * kl / labels[0].numel()

        schedule = Schedule(settings.steps, settings.learning_rate, ema=0.99)
        train(network, loss, batches(), schedule, stage="autoencoder", progress=progress)
        vae = ImageVAE(network, torch.zeros(1, 1, 1), torch.ones(1, 1, 1), settings)
        vae.mean, vae.std = vae.mean.to(device), vae.std.to(device)
        latents = vae.encode(images[: min(len(images), 2048)])
        vae.mean = latents.mean((0, 2, 3))[:, None, None]
        vae.std = latents.std((0, 2, 3))[:, None, None]
        return vae

    @torch.no_grad()
    def encode(self, labels: Tensor) -> Tensor:
        """(n, h, w) labels -> standardised posterior means (n, c, h/8, w/8), float32."""
        parts = []
        for chunk in labels.split(CHUNK):
            with torch.autocast(self.device.type, dtype=torch.bfloat16):
                mean, _ = self.network.encode(chunk.to(self.device))
            parts.append((mean.float() - self.mean) / self.std)
        return torch.cat(parts)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> NDArray[np.uint8]:
        """Standardised latents (n, c, h/8, w/8) -> labels (n, h, w)."""
        parts = []
        for chunk in latents.split(CHUNK):
            raw = chunk.to(self.device) * self.std + self.mean
            with torch.autocast(self.device.type, dtype=torch.bfloat16):
                parts.append(self.network.decode_labels(raw).cpu())
        return torch.cat(parts).numpy()

    def logits(self, latents: Tensor) -> Tensor:
        """Standardised latents (n, c, h/8, w/8) -> logits (n, p, h, w), float32, with gradient."""
        raw = latents.to(self.device) * self.std + self.mean
        return torch.cat([self.network.decode(chunk) for chunk in raw.split(CHUNK)]).float()

    def reconstruction_error(self, labels: NDArray[np.uint8]) -> float:
        """Fraction of pixels whose label changes on the way through the latent."""
        back = self.decode(self.encode(torch.from_numpy(labels)))
        return float(np.mean(back != labels))

    def tensors(self) -> dict[str, Tensor]:
        """Everything needed to rebuild, for a checkpoint."""
        weights = {f"vae.{k}": v for k, v in self.network.state_dict().items()}
        return {**weights, "vae_mean": self.mean, "vae_std": self.std}

    def card(self) -> dict[str, Any]:
        return asdict(self.settings)

    @staticmethod
    def restore(
        tensors: dict[str, Tensor], settings: VAESettings, phases: int, device: str
    ) -> ImageVAE:
        """Rebuild from ``tensors`` as written by ``tensors()``."""
        network = Autoencoder(
            phases, latent_channels=settings.latent_channels, width=settings.width
        )
        network.load_state_dict(
            {k.removeprefix("vae."): v for k, v in tensors.items() if k.startswith("vae.")}
        )
        network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        network.eval()
        return ImageVAE(
            network, tensors["vae_mean"].to(device), tensors["vae_std"].to(device), settings
        )
