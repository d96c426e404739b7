"""Images as they are, for diffusion in pixel space: the coding that learns nothing.

It has the interface of the image autoencoder (``generators.vae.ImageVAE``), so that one generator
works over either.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from generators.networks.labelling import most_probable
from loop.errors import InvalidInputError
from loop.library import Library

SCALE_IMAGES = 1024  # images that set the scale of the channels
# Logits of a clean pixel are ± this: sure enough of its label, and gradients still pass.
SHARPNESS = 2.0


class PixelCode:
    """Labels (n, h, w) as standardised one-hot fields (n, c, h, w), and back without any loss.

    Two phases are one channel, -1 or 1 before it is standardised, more are one channel each.
    """

    factor = 1  # pixels a side of one number of the code

    def __init__(self, phases: int, mean: Tensor, std: Tensor) -> None:
        """``mean``, ``std``: (c, 1, 1) of the channels."""
        self.phases = phases
        self.mean, self.std = mean, std

    @staticmethod
    def fit(library: Library, *, device: str, rng: np.random.Generator) -> PixelCode:
        """The scale from random crops of the library's training images."""
        images = torch.from_numpy(library.patches(SCALE_IMAGES, rng=rng))
        return PixelCode.of_images(images, len(library.space.phases), device)

    @staticmethod
    def of_images(images: Tensor, phases: int, device: str) -> PixelCode:
        """The scale from labels (n, h, w). Raises InvalidInputError for fewer than two phases."""
        if phases < 2:
            raise InvalidInputError(
                f"images of {phases} phase have nothing to learn; expected at least 2 phases"
            )
        share = torch.bincount(images.flatten(), minlength=phases).double() / images.numel()
        share = share[1:] if phases == 2 else share
        std = 2 * (share * (1 - share)).sqrt()
        std = torch.where(std > 0, std, torch.ones_like(std))
        parts = (part.float()[:, None, None].to(device) for part in (2 * share - 1, std))
        return PixelCode(phases, *parts)

    @property
    def device(self) -> torch.device:
        return self.mean.device

    @property
    def channels(self) -> int:
        """Of the code."""
        return 1 if self.phases == 2 else self.phases

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """(n, h, w) labels -> (n, c, h, w) float32."""
        labels = images.to(self.device).long()
        if self.phases == 2:
            fields = (2.0 * labels - 1.0)[:, None]
        else:
            fields = 2.0 * functional.one_hot(labels, self.phases).permute(0, 3, 1, 2) - 1.0
        return (fields - self.mean) / self.std

    @torch.no_grad()
    def decode(self, latents: Tensor) -> NDArray[Any]:
        """(n, c, h, w) -> labels (n, h, w) uint8: the nearest phase, see ``most_probable``."""
        labels: NDArray[Any] = most_probable(self.logits(latents)).cpu().numpy()
        return labels

    def logits(self, latents: Tensor) -> Tensor:
        """(n, c, h, w) -> logits (n, p, h, w), float32, with gradient."""
        fields = latents.to(self.device) * self.std + self.mean
        if self.phases == 2:
            fields = torch.cat([-fields, fields], dim=1)
        return SHARPNESS * fields

    def reconstruction_error(self, images: NDArray[Any]) -> float:
        """Fraction of labels that coding changes: none."""
        back = self.decode(self.encode(torch.from_numpy(images)))
        return float(np.mean(back != images))

    # Keeping

    def tensors(self) -> dict[str, Tensor]:
        """Everything needed to rebuild, for a checkpoint."""
        return {"pixel_mean": self.mean, "pixel_std": self.std}

    @staticmethod
    def restore(tensors: dict[str, Tensor], phases: int, device: str) -> PixelCode:
        """Rebuild from ``tensors`` as written by ``tensors()``."""
        parts = (tensors[f"pixel_{name}"].to(device) for name in ("mean", "std"))
        return PixelCode(phases, *parts)
