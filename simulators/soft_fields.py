"""Conductivity fields from labels or soft phases, differentiable in phases and properties.

A soft phase field gives every pixel shares of the phases that sum to 1, as a softmax does. What a
mixed pixel conducts is a convention: layers along the flow (arithmetic mean of the tensors), across
it (harmonic mean), or the geometric mean between, which treats conductivities and resistivities
alike as duality does. At shares of 0 and 1 all three are the pixel image.
"""

from __future__ import annotations

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from loop.errors import InvalidInputError
from simulators.fields import checked_labels, checked_range

MEANS = ("arithmetic", "geometric", "harmonic")
SUM_TOLERANCE = 1e-5  # of the shares of a pixel: what a softmax in float32 keeps


def labelled_field(labels: ArrayLike, conductivities: Tensor) -> Tensor:
    """Field of the phases' conductivities, differentiable in them.

    ``labels``: (n, h, w) or (n, d, h, w). ``conductivities``: (p,) or (n, p) for a field of the
    labels' shape; (p, m, m) or (n, p, m, m) for one with (m, m) behind it.
    Raises InvalidInputError for wrong shapes or labels.
    """
    image = checked_labels(labels, (2, 3))
    phases = _per_image(conductivities, len(image), image.ndim - 1)
    checked_range(image, "conductivity", phases.shape[1])
    index = torch.as_tensor(image, device=phases.device)
    which = torch.arange(len(image), device=phases.device).reshape(-1, *[1] * (image.ndim - 1))
    return phases[which, index]


def soft_field(soft: Tensor, conductivities: Tensor, *, mean: str = "geometric") -> Tensor:
    """Field of two isotropic phases from a soft phase field, differentiable in both.

    ``soft``: (n, ...) in [0, 1], the share of the second phase in every pixel.
    ``conductivities``: (2,) or (n, 2), > 0. ``mean``: as in ``mixed_field``.
    Raises InvalidInputError for wrong shapes, values or names.
    """
    if conductivities.shape not in ((2,), (len(soft), 2)):
        raise InvalidInputError(
            f"conductivities have shape {tuple(conductivities.shape)}; expected (2,) or "
            f"({len(soft)}, 2)"
        )
    if not bool(((soft >= 0) & (soft <= 1)).all()):
        raise InvalidInputError("soft phase field leaves [0, 1]; clamp it or use a sigmoid")
    return mixed_field(torch.stack((1 - soft, soft), 1), conductivities, mean=mean)


def mixed_field(soft: Tensor, conductivities: Tensor, *, mean: str = "arithmetic") -> Tensor:
    """Field of any number of phases from soft phases, differentiable in both.

    ``soft``: (n, p, h, w) or (n, p, d, h, w), shares >= 0 that sum to 1 over the phases.
    ``conductivities``: as in ``labelled_field``. ``mean``: "arithmetic" K = sum s_i K_i,
    "harmonic" K^-1 = sum s_i K_i^-1, or, of isotropic phases, "geometric" ln K = sum s_i ln K_i.
    Returns (n, [d,] h, w), or (n, [d,] h, w, m, m) of anisotropic phases.
    Raises InvalidInputError for wrong shapes, shares or names.
    """
    if mean not in MEANS:
        raise InvalidInputError(f"mean {mean!r}; expected geometric, arithmetic or harmonic")
    shares = checked_shares(soft)
    phases = _per_image(conductivities, len(shares), shares.ndim - 2)
    if phases.shape[1] != shares.shape[1]:
        raise InvalidInputError(
            f"soft phases have {shares.shape[1]} phases, conductivities {phases.shape[1]}; "
            "give one conductivity a phase"
        )
    kind = torch.promote_types(shares.dtype, phases.dtype)
    shares, phases = shares.to(kind).flatten(2), phases.to(shares.device, kind)
    tensor = phases.ndim == 4
    if mean == "geometric" and tensor:
        raise InvalidInputError(
            "geometric mean of anisotropic phases is not offered; expected mean = 'arithmetic' or "
            "'harmonic'"
        )
    if mean == "harmonic":
        phases = torch.linalg.inv(phases) if tensor else 1 / phases
    elif mean == "geometric":
        phases = torch.log(phases)
    mixed = torch.einsum("np...,npx->nx...", phases, shares)
    if mean == "harmonic":
        mixed = torch.linalg.inv(mixed) if tensor else 1 / mixed
    elif mean == "geometric":
        mixed = torch.exp(mixed)
    return mixed.reshape(len(mixed), *soft.shape[2:], *phases.shape[2:])


def checked_shares(soft: Tensor) -> Tensor:
    """Soft phases (n, p, h, w) or (n, p, d, h, w) as they came.

    Raises InvalidInputError unless they are floating point, >= 0, and sum to 1 over the phases.
    """
    if soft.ndim not in (4, 5) or soft.numel() == 0 or not soft.is_floating_point():
        raise InvalidInputError(
            f"soft phases of shape {tuple(soft.shape)} and type {soft.dtype}; expected floating "
            "point (n, p, h, w) or (n, p, d, h, w), none empty"
        )
    if not bool((soft >= 0).all()):
        raise InvalidInputError("soft phases hold a share below 0 or nan; use a softmax over them")
    worst = float((soft.detach().sum(1) - 1).abs().max())
    if worst > SUM_TOLERANCE:
        raise InvalidInputError(
            f"soft phases sum to 1 only within {worst:.3g}; expected within {SUM_TOLERANCE:g}, as "
            "a softmax over axis 1 gives"
        )
    return soft


def _per_image(conductivities: Tensor, n: int, m: int) -> Tensor:
    """(n, p) or (n, p, m, m) of what may be given once for all images."""
    given = conductivities
    if given.ndim in (1, 3):
        given = given.expand(n, *given.shape)
    if given.ndim not in (2, 4) or len(given) != n or given.shape[2:] not in ((), (m, m)):
        raise InvalidInputError(
            f"conductivities have shape {tuple(conductivities.shape)}; expected (p,) or "
            f"({n}, p), or (p, {m}, {m}) or ({n}, p, {m}, {m}) of anisotropic phases"
        )
    return given
