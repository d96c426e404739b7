"""Variational autoencoder of micrographs: labels or grey values to a standardised latent and back.

Kingma & Welling 2014; with the small KL weight of a latent-diffusion autoencoder (Rombach et
al. 2022) the latent is regularised, not a prior to sample from: the flow learns its density.
With ``bottleneck`` vq the latent is rounded to a codebook (van den Oord et al. 2017); with
properties, encoder and decoder are conditional (Sohn et al. 2015).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generators.networks.autoencoder import Autoencoder
from generators.training.autoencoding import AutoencoderLoss
from generators.training.checkpoint import torch_generator
from generators.training.loop import Schedule, train
from generators.training.losses import check_images, check_training_images
from generators.training.precision import FORMATS, Computation, TrainingSettings, has_bf16
from generators.training.resume import TrainingState
from generators.training.shown import pictures_of
from loop.errors import InvalidInputError
from loop.library import Library
from loop.protocols import Progress, silent
from loop.scaling import PropertyScale

FloatArray = NDArray[np.float64]
CHUNK = 256  # images of 64 x 64 coded at a time, larger ones in proportion fewer
SHOWN = 8  # images whose reconstructions are drawn during training
CHUNK_PIXELS = CHUNK * 64 * 64


def usual_precision(device: str | torch.device) -> str:
    """Of encoder and decoder where nothing else is asked for: bf16 where the device has it."""
    return "bf16" if has_bf16(device) else "float32"


@dataclass(frozen=True, slots=True)
class VAESettings:
    """``kl_weight`` is per pixel: loss = cross-entropy per pixel + kl_weight · KL / pixels.

    The cross-entropy is a weighted mean, see ``detail_weights``, to the power ``detail``; with
    ``detail`` 0 and ``kl_weight`` 1 the loss is the negative ELBO per pixel. Grey images have a
    normal of standard ``deviation`` instead. The weights of features and discriminator are zero
    unless given; in use are 0.1 to 1 for the former and from 0.01 for the latter.
    """

    latent_channels: int = 4
    width: int = 16
    steps: int = 260
    batch: int = 64
    learning_rate: float = 4e-3
    kl_weight: float = 0.05
    images: int = 8192  # distinct crops drawn for training
    detail: float = 1.0
    deviation: float = 0.1
    kl_warmup: float = 0.0  # steps T of min(1, t/T)
    free_bits: float = 0.0  # nats of each latent number that cost nothing more
    bottleneck: Literal["kl", "vq"] = field(default="kl", metadata={"choices": ("kl", "vq")})
    codes: int = 512
    commitment: float = 0.25
    two_point_weight: float = 0.0
    gradient_weight: float = 0.0
    adversarial_weight: float = 0.0
    adversarial_start: float = 0.5  # share of the steps before the discriminator joins
    discriminator_rate: float = 1e-3
    discriminator_width: int = 32


def _together(pixels: int) -> int:
    """How many images of so many pixels are coded at once."""
    return max(1, min(CHUNK, CHUNK_PIXELS // pixels))


def _network(phases: int | None, settings: VAESettings, properties: int) -> Autoencoder:
    if settings.bottleneck not in ("kl", "vq"):
        raise InvalidInputError(f"vae.bottleneck is {settings.bottleneck!r}; expected kl or vq")
    return Autoencoder(
        phases,
        latent_channels=settings.latent_channels,
        width=settings.width,
        properties=properties,
        codes=settings.codes if settings.bottleneck == "vq" else 0,
    )


class ImageVAE:
    """A trained autoencoder with its per-channel latent standardisation."""

    def __init__(
        self,
        network: Autoencoder,
        mean: Tensor,
        std: Tensor,
        settings: VAESettings,
        scale: PropertyScale | None = None,
        precision: str | None = None,
    ) -> None:
        """``scale``: of the properties that condition it; None: without conditions.

        ``precision``: that is asked for of the products of encoder and decoder, see
        ``Computation``; None: what suits the device.
        """
        self.network = network
        self.mean = mean  # (c, 1, 1)
        self.std = std
        self.settings = settings
        self.scale = scale
        self.precision = precision
        self.how = Computation(precision or usual_precision(mean.device))
        self.figures: dict[str, float] = {}  # the parts of the last training loss

    @property
    def device(self) -> torch.device:
        return self.mean.device

    @property
    def channels(self) -> int:
        """Of the latent."""
        return self.settings.latent_channels

    @property
    def factor(self) -> int:
        """Pixels a side of one number of the latent."""
        return self.network.factor

    @staticmethod
    def fit(
        library: Library,
        settings: VAESettings,
        *,
        device: str,
        rng: np.random.Generator,
        progress: Progress = silent,
        keep: TrainingState | None = None,
        training: TrainingSettings | None = None,
    ) -> ImageVAE:
        """Train on random crops of the library's training images; see ``fit_images``."""
        phases = len(library.space.phases)
        images = torch.from_numpy(library.patches(settings.images, rng=rng))
        return ImageVAE.fit_images(
            images,
            settings,
            phases=phases,
            device=device,
            rng=rng,
            progress=progress,
            keep=keep,
            training=training,
        )

    @staticmethod
    def fit_images(
        images: Tensor,
        settings: VAESettings,
        *,
        phases: int | None,
        device: str,
        rng: np.random.Generator,
        properties: FloatArray | None = None,
        progress: Progress = silent,
        keep: TrainingState | None = None,
        training: TrainingSettings | None = None,
    ) -> ImageVAE:
        """Train on images (n, h, w): labels below ``phases``, or grey values in [0, 1] for None.

        ``properties`` (n, k), NaN unknown, make it conditional; random subsets of them are shown,
        so that any subset can be given later. Sides are multiples of 8. ``keep``: where the state
        is kept from which a killed training goes on; ``training``: how it is computed, and how
        often images and what becomes of them are drawn. Unless it says otherwise, products of
        encoder and decoder are in bfloat16 where the device has it, then and later.
        Raises InvalidInputError for images that are fewer than a batch, all constant, of another
        size or with other values; TrainingError when the loss is not finite.
        """
        check_images(images, phases, Autoencoder.factor)
        check_training_images(images, settings.batch, phases)
        if phases is None and not settings.deviation > 0:
            raise InvalidInputError(f"vae.deviation is {settings.deviation}; expected above 0")
        scale = None
        if properties is not None:
            if properties.shape[:1] != images.shape[:1] or properties.ndim != 2:
                raise InvalidInputError(
                    f"properties have shape {properties.shape} for {len(images)} images; "
                    "expected a row for each image, NaN where a value is unknown"
                )
            scale = PropertyScale.fit(properties)
        draws = torch_generator(rng)
        noise = torch_generator(rng, device)
        torch.manual_seed(int(rng.integers(2**63)))  # initial weights
        k = 0 if properties is None else properties.shape[1]
        network = _network(phases, settings, k).to(device)
        training = training or TrainingSettings()
        how = training.beside(Computation(usual_precision(device), channels_last=True))
        how.arrange(network)
        unit = torch.zeros(1, 1, 1, device=device), torch.ones(1, 1, 1, device=device)
        vae = ImageVAE(network, *unit, settings, scale, training.precision)
        values, known = vae._conditions(properties, len(images))

        def batches() -> Iterator[tuple[Tensor, ...]]:
            while True:
                rows = torch.randint(len(images), (settings.batch,), generator=draws)
                batch = (images[rows].to(device),)
                if values is None or known is None:
                    yield batch
                    continue
                b = settings.batch
                shown = torch.rand(b, k, generator=draws) < torch.rand(b, 1, generator=draws)
                yield *batch, values[rows.to(device)], known[rows.to(device)] & shown.to(device)

        def reconstructions() -> NDArray[Any]:
            given = None if properties is None else properties[:SHOWN]
            back = vae.decode(vae.encode(images[:SHOWN], given), given)
            return np.concatenate([images[:SHOWN].numpy().astype(back.dtype), back])

        loss = AutoencoderLoss(network, settings, noise, how.precision)
        schedule = Schedule(settings.steps, settings.learning_rate, ema=0.99)
        train(
            network,
            loss,
            batches(),
            schedule,
            stage="autoencoder",
            progress=progress,
            how=how,
            streams=(draws, noise),
            keep=keep,
            pictures=pictures_of(reconstructions, training, keep),
        )
        vae.figures = loss.figures
        first = slice(0, min(len(images), 2048))
        latents = vae.encode(images[first], None if properties is None else properties[first])
        vae.mean = latents.mean((0, 2, 3))[:, None, None]
        std = latents.std((0, 2, 3))[:, None, None]
        vae.std = torch.where(std > 0, std, torch.ones_like(std))
        return vae

    def _conditions(
        self, properties: FloatArray | None, n: int
    ) -> tuple[Tensor | None, Tensor | None]:
        """Standardised values (n, k) and which are known; None without conditions."""
        if self.scale is None:
            if properties is not None:
                raise InvalidInputError("properties were given; this autoencoder takes none")
            return None, None
        k = len(self.scale.mean)
        given = np.full((n, k), np.nan) if properties is None else np.asarray(properties)
        if given.shape != (n, k):
            raise InvalidInputError(
                f"properties have shape {given.shape}; expected ({n}, {k}), NaN where not known"
            )
        known = torch.from_numpy(np.isfinite(given)).to(self.device)
        values = torch.from_numpy(np.nan_to_num(self.scale.forward(given))).float()
        return values.to(self.device), known

    def chunks(
        self, x: Tensor, pixels: int, properties: FloatArray | None
    ) -> Iterator[tuple[Tensor, Tensor | None, Tensor | None]]:
        """Rows of x with their conditions, as many at a time as ``pixels`` an image allow."""
        values, known = self._conditions(properties, len(x))
        size = _together(pixels)
        for start in range(0, len(x), size):
            rows = slice(start, start + size)
            part = x[rows].to(self.device)
            if values is None or known is None:
                yield part, None, None
            else:
                yield part, values[rows], known[rows]

    @torch.no_grad()
    def encode(self, images: Tensor, properties: FloatArray | None = None) -> Tensor:
        """(n, h, w) images -> standardised posterior means (n, c, h/8, w/8), float32.

        ``properties`` (n, k) in their units, NaN unknown, for a conditional autoencoder.
        """
        parts = []
        for chunk, values, known in self.chunks(images, images[0].numel(), properties):
            with self.how.autocast(self.device):
                mean, _ = self.network.encode(chunk, values, known)
            parts.append((mean.float() - self.mean) / self.std)
        return torch.cat(parts)

    @torch.no_grad()
    def decode(self, latents: Tensor, properties: FloatArray | None = None) -> NDArray[Any]:
        """Standardised latents (n, c, h/8, w/8) -> labels uint8 or grey float32, (n, h, w)."""
        parts = []
        pixels = latents[0, 0].numel() * self.network.factor**2
        for chunk, values, known in self.chunks(latents, pixels, properties):
            raw = chunk * self.std + self.mean
            with self.how.autocast(self.device):
                parts.append(self.network.decode_images(raw, values, known).cpu())
        return torch.cat(parts).numpy()

    def logits(self, latents: Tensor) -> Tensor:
        """Standardised latents (n, c, h/8, w/8) -> logits (n, p, h, w), float32, with gradient."""
        raw = latents.to(self.device) * self.std + self.mean
        h, w = raw.shape[-2:]
        chunks = raw.split(_together(h * w * self.network.factor**2))
        return torch.cat([self.network.decode(chunk) for chunk in chunks]).float()

    def reconstruction_error(self, images: NDArray[Any]) -> float:
        """Fraction of labels that the way through the latent changes; of grey mean |error|."""
        back = self.decode(self.encode(torch.from_numpy(images)))
        if self.network.phases is None:
            return float(np.abs(back - images).mean())
        return float(np.mean(back != images))

    # Keeping

    def tensors(self) -> dict[str, Tensor]:
        """Everything needed to rebuild, for a checkpoint."""
        weights = {f"vae.{k}": v for k, v in self.network.state_dict().items()}
        found = {**weights, "vae_mean": self.mean, "vae_std": self.std}
        if self.precision is not None:
            found["vae_precision"] = torch.tensor(list(FORMATS).index(self.precision))
        if self.scale is not None:
            for key, array in asdict(self.scale).items():
                found[f"vae_scale_{key}"] = torch.from_numpy(np.ascontiguousarray(array))
        return found

    def card(self) -> dict[str, Any]:
        return asdict(self.settings)

    @staticmethod
    def restore(
        tensors: dict[str, Tensor], settings: VAESettings, phases: int | None, device: str
    ) -> ImageVAE:
        """Rebuild from ``tensors`` as written by ``tensors()``.

        Raises InvalidInputError when the weights are not of these settings.
        """
        scale = None
        if "vae_scale_mean" in tensors:
            parts = {k: tensors[f"vae_scale_{k}"].cpu().numpy() for k in ("log", "mean", "std")}
            scale = PropertyScale(**parts)
        network = _network(phases, settings, 0 if scale is None else len(scale.mean))
        weights = {k.removeprefix("vae."): v for k, v in tensors.items() if k.startswith("vae.")}
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise InvalidInputError(
                "the weights are of another autoencoder than its settings describe: "
                + " ".join(str(error).split())[:200]
            ) from None
        network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        network.eval()
        mean, std = tensors["vae_mean"].to(device), tensors["vae_std"].to(device)
        precision = None
        if "vae_precision" in tensors:
            precision = list(FORMATS)[int(tensors["vae_precision"])]
        return ImageVAE(network, mean, std, settings, scale, precision)
