"""Paths between two states: straight, or along the sphere on which normal noise lies.

In many dimensions standard normal vectors have nearly one length; the straight line between two of
them passes through shorter ones, which a flow has never seen (T. White, arXiv 1609.04468).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from loop.errors import InvalidInputError, unknown_name

Path = Literal["linear", "slerp"]
PATHS: tuple[Path, ...] = ("linear", "slerp")
PARALLEL = 1e-6  # angle below which the sphere is as good as flat


def shares(frames: int) -> Tensor:
    """(frames,) from 0 to 1. Raises InvalidInputError for fewer than two."""
    if frames < 2:
        raise InvalidInputError(f"{frames} frames; expected at least 2, the two ends")
    return torch.linspace(0.0, 1.0, frames, dtype=torch.float64)


def evenly(a: ArrayLike, b: ArrayLike, frames: int) -> NDArray[np.float64]:
    """(frames, k) property values in equal steps from those of one design (k,) to another's.

    NaN where either is. Raises InvalidInputError for fewer than two frames.
    """
    s = shares(frames).numpy()[:, None]
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    found: NDArray[np.float64] = (1.0 - s) * x + s * y
    return found


def linear(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """(1 - s) a + s b of two states (...), at shares (n,): (n, ...)."""
    s = share.to(a).reshape(-1, *[1] * a.ndim)
    return (1 - s) * a + s * b


def slerp(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Spherical interpolation of two states (...) at shares (n,): (n, ...).

    sin((1 - s) w) / sin w a + sin(s w) / sin w b with the angle w between them (K. Shoemake,
    SIGGRAPH 1985). For two independent standard normal states every point is standard normal.
    """
    cosine = (a * b).sum() / (a.norm() * b.norm()).clamp_min(1e-30)
    angle = torch.arccos(cosine.double().clamp(-1.0, 1.0))
    if float(angle) < PARALLEL:
        return linear(a, b, share)
    s = share.to(angle)
    first, second = torch.sin((1 - s) * angle), torch.sin(s * angle)
    shape = (-1, *[1] * a.ndim)
    weights = (first / torch.sin(angle)).to(a), (second / torch.sin(angle)).to(a)
    return weights[0].reshape(shape) * a + weights[1].reshape(shape) * b


def between(a: Tensor, b: Tensor, share: Tensor, path: Path) -> Tensor:
    """States at shares (n,) of a path by name. Raises InvalidInputError for an unknown one."""
    if path not in PATHS:
        raise InvalidInputError(unknown_name("path", path, PATHS))
    return slerp(a, b, share) if path == "slerp" else linear(a, b, share)
