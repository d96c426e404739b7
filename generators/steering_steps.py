"""A step of guidance by the simulator: least in length, towards the properties asked for.

Damped Gauss-Newton (K. Levenberg, Q. Appl. Math. 2, 164, 1944) for many designs at once, with
fewer properties than coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

DAMPING = tuple(10.0 ** -np.arange(8, -3, -1.0))  # from Gauss-Newton to steepest descent


def residuals(found: Tensor, requests: Tensor, scales: Tensor) -> Tensor:
    """(n, k) requested less found, over the scales; 0 where nothing is asked or known.

    Infinite where a property is, as the chord length of a phase without an end.
    """
    return torch.where(torch.isnan(requests - found), 0.0, (requests - found) / scales)


def damped_step(jacobian: Tensor, residual: Tensor, reach: Tensor) -> Tensor:
    """Least step d (n, m) with J d = r, damped until it is no longer than ``reach`` (n,).

    J: (n, k, m), r: (n, k). d = J' (J J' + a tr(J J')/k)^-1 r with the least a of ``DAMPING``.
    """
    # What is not finite has no slope to follow; the other properties still have.
    known = torch.isfinite(residual) & torch.isfinite(jacobian).all(2)
    jacobian = torch.where(known[..., None], jacobian, 0.0)
    residual = torch.where(known, residual, 0.0)
    gram = jacobian @ jacobian.transpose(1, 2)
    k = gram.shape[1]
    size = gram.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-30)
    eye = torch.eye(k, dtype=gram.dtype, device=gram.device)
    step = torch.zeros(jacobian.shape[0], jacobian.shape[2], dtype=gram.dtype, device=gram.device)
    done = torch.zeros(len(step), dtype=torch.bool, device=gram.device)
    for a in DAMPING:
        weights = torch.linalg.solve(gram + (a * size)[:, None, None] * eye, residual)
        trial = (jacobian.transpose(1, 2) @ weights[..., None])[..., 0]
        fits = trial.norm(dim=1) <= reach
        step = torch.where((fits & ~done)[:, None], trial, step)
        done |= fits
    shortened = trial * (reach / trial.norm(dim=1).clamp_min(1e-30))[:, None]
    return torch.where(done[:, None], step, shortened)


def jacobian_of(found: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Of (n, k) values by every input (n, ...): (n, k, m) each."""
    columns: list[list[Tensor]] = [[] for _ in inputs]
    for j in range(found.shape[1]):
        gradients: Sequence[Tensor | None] = [None] * len(inputs)
        if found[:, j].requires_grad:
            gradients = torch.autograd.grad(
                found[:, j].sum(), inputs, retain_graph=True, allow_unused=True
            )
        for column, gradient, given in zip(columns, gradients, inputs, strict=True):
            flat = torch.zeros_like(given) if gradient is None else gradient
            column.append(flat.flatten(1).double())
    return [torch.stack(column, dim=1) for column in columns]


def relative(found: Tensor, requests: Tensor) -> Tensor:
    """(n,) largest relative error of what is asked for and known; of a request 0, the error."""
    size = torch.where(requests == 0, 1.0, requests.abs())
    return torch.nan_to_num((found - requests).abs() / size, nan=0.0, posinf=torch.inf).amax(1)


def whitened(jacobian: Tensor, spread: Tensor) -> Tensor:
    """(n, k, p e) by atomic fractions -> by standard deviations, sums of each phase kept.

    ``spread``: (n, p, e). A change s z of the fractions keeps a phase's sum where z is orthogonal
    to s; the part along s is taken out of every row.
    """
    n, k = jacobian.shape[:2]
    rows = jacobian.reshape(n, k, *spread.shape[1:]) * spread[:, None]
    along = (rows * spread[:, None]).sum(-1, keepdim=True)
    norm = spread.square().sum(-1)[:, None, :, None].clamp_min(1e-30)
    return (rows - along / norm * spread[:, None]).reshape(n, k, -1)
