"""Bilinear (Q1) finite elements on a periodic pixel grid, one element per pixel.

Pixel (i, j) has the nodes (i, j), (i, j+1), (i+1, j), (i+1, j+1), indices modulo (h, w). x runs
along the columns, y along the rows, the pixel is the unit of length. With local coordinates
-1/2 <= s, t <= 1/2 the gradient of a nodal field u inside a pixel is

    du/dx = gx + g t,    du/dy = gy + g s,

so three numbers per pixel, its *modes* (gx, gy, g), hold all of it and integrals of quadratic
forms are exact: <s^2> = <t^2> = 1/12, <s> = <t> = <s t> = 0. The twist g is what a one-point
rule drops and what then lets hourglass fields through.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

TWIST_WEIGHT = 1.0 / 12.0  # <s^2> over a pixel


class Modes(NamedTuple):
    """Gradient modes of nodal fields, each (..., h, w)."""

    x: Tensor
    y: Tensor
    twist: Tensor


def gradient(u: Tensor) -> Modes:
    """Nodal fields (..., h, w) -> modes of their gradient in every pixel."""
    u = torch.cat((u, u[..., :1]), -1)
    u = torch.cat((u, u[..., :1, :]), -2)
    difference = u[..., 1:] - u[..., :-1]
    total = u[..., 1:] + u[..., :-1]
    upper, lower = difference[..., :-1, :], difference[..., 1:, :]
    return Modes(
        x=(upper + lower).mul_(0.5),
        y=(total[..., 1:, :] - total[..., :-1, :]).mul_(0.5),
        twist=lower - upper,
    )


def divergence(modes: Modes) -> Tensor:
    """Adjoint of ``gradient``: modes (..., h, w) -> nodal fields (..., h, w)."""
    x, y, twist = (_padded_before(mode) for mode in modes)
    across = x[..., :-1] - x[..., 1:]
    along = (y[..., :-1] + y[..., 1:]).mul_(0.5)
    along += twist[..., :-1]
    along -= twist[..., 1:]
    nodal = (across[..., :-1, :] + across[..., 1:, :]).mul_(0.5)
    nodal += along[..., :-1, :]
    nodal -= along[..., 1:, :]
    return nodal


def _padded_before(field: Tensor) -> Tensor:
    field = torch.cat((field[..., -1:], field), -1)
    return torch.cat((field[..., -1:, :], field), -2)


class Symbols(NamedTuple):
    """Products of the gradient's Fourier multipliers on the rfft2 grid, each (h, w // 2 + 1).

    ``xx`` = |x|^2, ``yy`` = |y|^2, ``twist`` = |twist|^2, ``xy`` = conj(x) y (real).
    """

    xx: Tensor
    yy: Tensor
    twist: Tensor
    xy: Tensor


def symbols(shape: tuple[int, int], *, dtype: torch.dtype, device: torch.device) -> Symbols:
    """Fourier multipliers of ``gradient`` for periodic (h, w) grids."""
    h, w = shape
    qy = 2 * math.pi * torch.arange(h, dtype=torch.float64)[:, None] / h
    qx = 2 * math.pi * torch.arange(w // 2 + 1, dtype=torch.float64)[None, :] / w
    sy, sx = torch.sin(qy / 2) ** 2, torch.sin(qx / 2) ** 2
    table = (4 * sx * (1 - sy), 4 * sy * (1 - sx), 16 * sx * sy, torch.sin(qx) * torch.sin(qy))
    return Symbols(*(entry.to(device=device, dtype=dtype) for entry in table))
