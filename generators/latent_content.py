"""What an autoencoder's latent holds of images: its evidence bound, units and codes in use."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generators.dynamics.elbo import Bound, Variational, categorical_decoder, elbo, gaussian_decoder
from generators.dynamics.samplers import standard_normal
from generators.training import losses
from generators.training.checkpoint import torch_generator
from generators.vae import ImageVAE
from loop.errors import InvalidInputError

FloatArray = NDArray[np.float64]


@torch.no_grad()
def evidence_bound(vae: ImageVAE, images: Tensor, rng: np.random.Generator) -> Bound:
    """The evidence lower bound of images (n, h, w) with one draw of the latent, in nats.

    In float32, so that it is that of the weights. Raises InvalidInputError with a codebook.
    """
    if vae.network.quantiser is not None:
        raise InvalidInputError("a quantised latent has no evidence lower bound; use kl")
    decoder = (
        gaussian_decoder(lambda z: vae.network.decode(z)[:, 0], vae.settings.deviation**2)
        if vae.network.phases is None
        else categorical_decoder(vae.network.decode)
    )
    noise = standard_normal(torch_generator(rng, str(vae.device)))
    model = Variational(vae.network.encode, decoder)
    pixels = images[0].numel()
    bounds = [elbo(model, x, noise) for x, *_ in vae.chunks(images, pixels, None)]
    return Bound(
        torch.cat([b.prior for b in bounds]),
        torch.cat([b.layers for b in bounds], dim=1),
        torch.cat([b.reconstruction for b in bounds]),
    )


def active_units(vae: ImageVAE, images: Tensor) -> float:
    """Share of latent numbers whose mean follows the images; 0: the posterior has collapsed."""
    raw = vae.encode(images) * vae.std
    return float(losses.active_units(raw).float().mean())


@torch.no_grad()
def code_use(vae: ImageVAE, images: Tensor) -> FloatArray:
    """(codes,) share of each entry of the codebook in images; exp(entropy) is the perplexity.

    Raises InvalidInputError without a codebook.
    """
    quantiser = vae.network.quantiser
    if quantiser is None:
        raise InvalidInputError("this autoencoder has no codebook; set vae.bottleneck to vq")
    raw = vae.encode(images) * vae.std + vae.mean
    counts = torch.bincount(quantiser(raw).indices.flatten(), minlength=vae.settings.codes)
    share: FloatArray = counts.cpu().double().numpy()
    return share / share.sum()
