"""Statistics of soft phase fields (n, p, h, w), differentiable, so that they can guide generation.

A soft phase field gives every pixel shares of the p phases that sum to 1; for shares of 0 and 1
each function is the statistic of the label image. All tensors, on any device, first and higher
derivatives; lengths in pixels.
"""

from __future__ import annotations

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from loop.errors import InvalidInputError
from simulators.correlation import radial_mean, two_point
from simulators.correlation_paths import lineal_path
from simulators.fields import checked_labels, checked_range
from simulators.soft_fields import checked_shares
from simulators.surface import specific_surface


def one_hot(labels: ArrayLike, phases: int) -> Tensor:
    """Labels (n, h, w) < ``phases`` -> shares of 0 and 1, (n, phases, h, w) float64."""
    image = checked_labels(labels)
    checked_range(image, "one_hot", phases)
    return torch.nn.functional.one_hot(torch.as_tensor(image), phases).movedim(-1, 1).double()


def phase_fractions(soft: Tensor) -> Tensor:
    """Area fractions, (n, p)."""
    return _flat(soft).mean((-2, -1))


def two_point_matrix(soft: Tensor, *, periodic: bool = True) -> Tensor:
    """All two-point correlations S_ij(r) = mean of s_i(x) s_j(x + r), (n, p, p, h, w).

    (n, p, p, 2 h - 1, 2 w - 1) when not periodic; lags as ``correlation.two_point``. Sums over j
    and over i are phase fractions at every lag when periodic; S_ij(r) = S_ji(-r).
    """
    shares = _flat(soft)
    n, p, h, w = shares.shape
    first = shares[:, :, None].expand(n, p, p, h, w)
    return two_point(first, first.transpose(1, 2), periodic=periodic)


def two_point_curves(soft: Tensor, *, periodic: bool = False) -> Tensor:
    """Autocorrelation of every phase by distance, (n, p, min(h, w) // 2 + 1).

    Averaged over directions (``correlation.radial_mean``); not periodic, it is
    ``loop.statistics.two_point_radial``.
    """
    return radial_mean(two_point(_flat(soft), periodic=periodic), periodic=periodic)


def two_point_distance(soft: Tensor, curves: Tensor, *, periodic: bool = False) -> Tensor:
    """Distance of every field's two-point statistics from given ones, (n,).

    ``curves``: (p, m), S2 of the phases at 0 … m - 1 px, m at most min(h, w) // 2 + 1. Root of the
    mean square over phases and lags, as ``realisability.two_point_distance``. Where it vanishes it
    has a kink, and passes the gradient 0.
    """
    own = two_point_curves(soft, periodic=periodic)
    if curves.ndim != 2 or len(curves) != own.shape[1] or not 0 < curves.shape[1] <= own.shape[2]:
        raise InvalidInputError(
            f"curves have shape {tuple(curves.shape)}; expected ({own.shape[1]}, m), m from 1 to "
            f"{own.shape[2]}"
        )
    gap = own[..., : curves.shape[1]] - curves.to(own)
    square = (gap**2).mean((-2, -1))
    away = square > 0
    return torch.where(away, torch.where(away, square, 1.0).sqrt(), 0.0)


def lineal_paths(soft: Tensor, longest: int, *, periodic: bool = True) -> Tensor:
    """Lineal path of every phase, mean of x and y, (n, p, longest + 1); ``correlation_paths``."""
    shares = _flat(soft)
    along_x = lineal_path(shares, "x", longest=longest, periodic=periodic)
    return 0.5 * (along_x + lineal_path(shares, "y", longest=longest, periodic=periodic))


def mean_chord_lengths(soft: Tensor, *, periodic: bool = True) -> Tensor:
    """Mean length of all chords of every phase along x and y together, (n, p) in px.

    2 area / chords, a chord begun counting by the height that the share rises: for label images
    ``correlation.mean_chord_length``, or, not periodic, with chords cut by the edge as they are
    seen. inf where a phase fills the image, nan where it is absent.
    """
    shares = _flat(soft)
    chords = torch.zeros_like(shares[..., 0, 0])
    for axis in (-1, -2):
        if periodic:
            before = torch.roll(shares, 1, axis)
        else:
            n = shares.shape[axis]
            before = torch.cat(
                (torch.zeros_like(shares.narrow(axis, 0, 1)), shares.narrow(axis, 0, n - 1)), axis
            )
        chords = chords + torch.relu(shares - before).sum((-2, -1))
    return 2 * shares.sum((-2, -1)) / chords


def specific_surfaces(soft: Tensor, *, periodic: bool = True, smoothing: float = 0.0) -> Tensor:
    """Boundary length of every phase per area, (n, p) in 1/px; ``surface.specific_surface``."""
    return specific_surface(_flat(soft), periodic=periodic, smoothing=smoothing)


def _flat(soft: Tensor) -> Tensor:
    if soft.ndim != 4:
        raise InvalidInputError(f"soft phases of shape {tuple(soft.shape)}; expected (n, p, h, w)")
    return checked_shares(soft)
