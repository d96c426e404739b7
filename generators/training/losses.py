"""Losses of autoencoders: divergence with a floor, and what a micrograph must keep.

The features are those of the field: two-point statistics and gradients. No network that was
trained elsewhere judges the pictures; a discriminator is trained here (networks/discriminator.py).
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from loop.errors import InvalidInputError

DETAIL = 9  # px, side of the neighbourhood in which a pixel is compared with the others
LEAST_SHARE = 0.15  # keeps the weight of a lone pixel finite
LAGS = 16  # px, how far apart the pairs of pixels are whose statistics must agree
ACTIVE = 0.01  # variance of a posterior mean above which its dimension says something


def warm_up(step: int, steps: float) -> float:
    """Weight of the divergence at a step, counted from 0: min(1, step/steps); 1 without steps.

    Sønderby et al. 2016, section 2.3; Bowman et al. 2016.
    """
    return min(1.0, step / steps) if steps > 0 else 1.0


def free_bits(kl: Tensor, least: float = 0.0) -> Tensor:
    """Sum over dimensions of max(``least``, mean over the rows), nats; ``kl`` (b, ...).

    Below the floor a dimension has no gradient: it may say that much for nothing, so that it is
    not given up early (Kingma et al. 2016, equation 15). With 0 it is the mean divergence.
    """
    if least == 0:
        return kl.sum(tuple(range(1, kl.ndim))).mean()
    return kl.mean(0).clamp_min(least).sum()


def active_units(means: Tensor, threshold: float = ACTIVE) -> Tensor:
    """Which latent dimensions follow the data: variance of E[z|x] over rows (n, ...) -> (...).

    Burda et al. 2016, section 5.3, with their threshold. All False: the posterior has collapsed.
    """
    return means.var(0, correction=0) > threshold


def detail_weights(labels: Tensor, phases: int) -> Tensor:
    """(b, h, w) weights of pixels: 1 / (``LEAST_SHARE`` + share of the own phase around them).

    A pixel in a wide region has a share of 1, one of a fine precipitate a fraction of it: with
    equal weights those few pixels cost next to nothing, and what is lost here is lost for good.
    """
    hot = functional.one_hot(labels.long(), phases).permute(0, 3, 1, 2).float()
    share = functional.avg_pool2d(hot, DETAIL, 1, DETAIL // 2, count_include_pad=False)
    own: Tensor = share.gather(1, labels.long()[:, None])[:, 0]
    return 1.0 / (LEAST_SHARE + own)


@lru_cache(maxsize=8)
def _shells(h: int, w: int) -> tuple[Tensor, Tensor, Tensor]:
    """Lags within half the smaller side: their places in the transform, radii and weights.

    A weight is 1 / (pairs of pixels at that lag · lags of that radius), float64.
    """
    y, x = np.fft.fftfreq(2 * h, 1 / (2 * h)), np.fft.fftfreq(2 * w, 1 / (2 * w))
    radius = np.rint(np.hypot(y[:, None], x[None, :])).astype(np.int64).ravel()
    pairs = ((h - np.abs(y))[:, None] * (w - np.abs(x))[None, :]).ravel()
    kept = np.flatnonzero(radius <= min(h, w) // 2)
    count = np.bincount(radius[kept])
    weight = 1.0 / (np.maximum(pairs[kept], 1.0) * count[radius[kept]])
    return torch.from_numpy(kept), torch.from_numpy(radius[kept]), torch.from_numpy(weight)


def two_point(fields: Tensor) -> Tensor:
    """Two-point probability S2(r) of fields (..., h, w): (..., m), r from 0 to half a side, px.

    The definition of ``loop.statistics.two_point_radial``: pairs inside the picture only, averaged
    over directions. By FFT, with gradient; fields between 0 and 1 are shares of a phase.
    """
    h, w = fields.shape[-2:]
    place, radius, weight = (part.to(fields.device) for part in _shells(h, w))
    spectrum = torch.fft.rfft2(fields, s=(2 * h, 2 * w))
    power = spectrum.real.square() + spectrum.imag.square()
    found = torch.fft.irfft2(power, s=(2 * h, 2 * w)).flatten(-2)[..., place]
    zero = found.new_zeros(*found.shape[:-1], min(h, w) // 2 + 1)
    return zero.index_add(-1, radius, found * weight.to(found.dtype))


def two_point_loss(found: Tensor, wanted: Tensor, lags: int = LAGS) -> Tensor:
    """Mean |ΔS2(r)| over the fields (..., h, w) and r = 0 ... ``lags`` (at most half a side)."""
    difference = two_point(found)[..., : lags + 1] - two_point(wanted)[..., : lags + 1]
    return difference.abs().mean()


def gradient_loss(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute error of the differences between neighbours along x and y; (..., h, w)."""
    error = found - wanted
    return error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()


def hard_fields(logits: Tensor) -> Tensor:
    """One-hot fields of the most probable labels, (b, p, h, w), with the gradient of the softmax.

    What judges them sees images as sharp as real ones; softness would give them away.
    """
    soft = logits.softmax(1)
    hard = functional.one_hot(soft.argmax(1), soft.shape[1]).permute(0, 3, 1, 2)
    return hard.to(soft.dtype) + soft - soft.detach()


def discriminator_loss(real: Tensor, made: Tensor) -> Tensor:
    """−log σ(real) − log(1 − σ(made)), means over logits of any shape (Goodfellow et al. 2014)."""
    return functional.softplus(-real).mean() + functional.softplus(made).mean()


def generator_loss(made: Tensor) -> Tensor:
    """−log σ(made): the non-saturating form, whose gradient lives where the other wins."""
    return functional.softplus(-made).mean()


def check_images(images: Tensor, phases: int | None, factor: int) -> None:
    """Raise InvalidInputError for images (n, h, w) that an autoencoder cannot take.

    ``phases``: of label images; None for grey images, floating point in [0, 1].
    """
    kind = "grey images in [0, 1]" if phases is None else f"labels of {phases} phases"
    if images.ndim != 3 or not len(images):
        raise InvalidInputError(
            f"images have shape {tuple(images.shape)}; expected (n, h, w) {kind}, n > 0"
        )
    h, w = images.shape[1:]
    if h % factor or w % factor:
        raise InvalidInputError(
            f"images are {h} x {w} pixels; expected multiples of {factor}: crop or pad them"
        )
    if images.is_floating_point() != (phases is None):
        raise InvalidInputError(
            f"images are {str(images.dtype).removeprefix('torch.')}; expected {kind}"
        )
    low, high = float(images.min()), float(images.max())
    most = 1.0 if phases is None else float(phases - 1)
    if not (low >= 0 and high <= most):  # also NaN
        raise InvalidInputError(
            f"images have values from {low:g} to {high:g}; expected {kind}, 0 to {most:g}"
        )


def _different(images: Tensor, enough: int) -> int:
    """How many different ones there are of images (n, h, w), counted up to ``enough``."""
    seen: set[bytes] = set()
    for image in images:
        seen.add(hashlib.sha256(image.contiguous().cpu().numpy().tobytes()).digest())
        if len(seen) >= enough:
            break
    return len(seen)


def check_training_images(images: Tensor, batch: int, phases: int | None) -> None:
    """Raise InvalidInputError for fewer images than a batch and for nothing but constant ones.

    Equal images count once: crops of few small micrographs are the same ones again and again.
    """
    if len(images) < batch:
        raise InvalidInputError(
            f"{len(images)} images for batches of {batch}; give more images or lower vae.batch"
        )
    flat = images.flatten(1)
    if phases != 1 and bool((flat.amin(1) == flat.amax(1)).all()):
        raise InvalidInputError(
            f"all {len(images)} images are constant, there is nothing to learn from them; check "
            "the labels or give images in which phases meet"
        )
    different = len(images) if phases == 1 else _different(images, batch)
    if different < batch:
        raise InvalidInputError(
            f"{different} different images among {len(images)} for batches of {batch}: crops of so "
            "few or so small micrographs repeat; give more or larger ones, make images.patch "
            "smaller, or lower vae.batch"
        )
