"""Diffusive transport through images with fixed end faces: effective diffusivity and tortuosity.

Concentrations are held at the two end faces along one axis; the sides are closed, or periodic.
Phases of diffusivity 0 do not conduct. What does not reach from face to face through shared pixel
faces is left out first; an image where nothing does is blocked: diffusivity 0, tortuosity infinite.

The discretisation and the conventions are those of TauFactor: one unknown per pixel centre, the
harmonic mean between neighbours, half a pixel between an end face and the first centre, and the
tortuosity factor tau = D_mean / D_eff with D_mean the mean diffusivity of all pixels, connected or
not (the phase fraction for one conducting phase of diffusivity 1).

What is certified: the fluxes of that scheme, made free of divergence to rounding, are fluxes of the
pixel image itself, and potentials averaged to the pixels' corners are potentials of it; their
energies bound its effective diffusivity from below (Thomson) and above (Dirichlet, loose where
conductors touch at edges or corners only). The scheme's own value, which is what is reported, is
below the truth for the pixel image: bounds and estimate answer different questions, and the lower
bound is the better answer to the image's.

Sources: S. J. Cooper et al., SoftwareX 5, 203 (2016); S. Kench, I. Squires and S. J. Cooper,
J. Open Source Softw. 8, 5358 (2023).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from loop.errors import InvalidInputError
from simulators.fields import VALUES_CPU, VALUES_GPU, checked_labels, checked_range, one_thread
from simulators.percolation import percolating
from simulators.transport_bounds import (
    dirichlet_conductance,
    thomson_conductance,
    thomson_of_potential,
)
from simulators.transport_solver import potentials

FloatArray = NDArray[np.float64]

TOLERANCE = 1e-6
MAX_ITERATIONS = 1000


@dataclass(frozen=True, slots=True)
class Transport:
    """Transport along one axis of n images, in the unit of the phase diffusivities.

    ``diffusivity``, ``tortuosity``: (n,) of the finite-volume scheme. ``lower``, ``upper``: (n,)
    bounds on the diffusivity of the pixel image itself, nan when they were not asked for.
    ``mean``: (n,) mean of the phases. ``percolates``: (n,). ``iterations``: (n,), 0 where solved
    directly. ``residual``: (n,) bound on the relative error that stopping early leaves in the
    scheme's value, by its own dual (without ``bounds`` and with a single conducting diffusivity an
    estimate). ``converged``: (n,) residual <= tolerance.
    """

    diffusivity: FloatArray
    tortuosity: FloatArray
    lower: FloatArray
    upper: FloatArray
    mean: FloatArray
    percolates: NDArray[np.bool_]
    iterations: NDArray[np.int64]
    residual: FloatArray
    converged: NDArray[np.bool_]


def through_transport(
    labels: ArrayLike,
    diffusivities: ArrayLike,
    *,
    axis: int = 0,
    periodic: bool = False,
    bounds: bool = True,
    tolerance: float = TOLERANCE,
    max_iterations: int = MAX_ITERATIONS,
    device: str = "cpu",
) -> Transport:
    """Effective diffusivity and tortuosity along ``axis`` of the images.

    ``labels``: (n, h, w) or (n, d, h, w) integers < p. ``diffusivities``: (p,) or (n, p), finite
    and >= 0, 0 for an insulator. ``axis``: of an image, 0 its first. ``periodic``: sides are joined
    instead of closed. ``tolerance``: relative, on the effective diffusivity.
    Raises InvalidInputError for wrong shapes, labels, diffusivities or axis.
    """
    image = checked_labels(labels, (2, 3))
    values = _checked_diffusivities(image, diffusivities)
    if not 0 <= axis < image.ndim - 1:
        raise InvalidInputError(f"axis {axis}; expected 0 to {image.ndim - 2}")
    flat = image.reshape(len(image), -1)
    k = np.take_along_axis(values, flat, axis=1).reshape(image.shape)
    k = np.ascontiguousarray(np.moveaxis(k, axis + 1, 1))
    mean = k.reshape(len(k), -1).mean(1)
    n = len(k)
    inside = np.stack([percolating(one > 0, periodic=periodic) for one in k])
    percolates = np.asarray(inside.reshape(n, -1).any(1), dtype=np.bool_)
    k *= inside
    found = Transport(
        diffusivity=np.zeros(n),
        tortuosity=np.full(n, np.inf),
        lower=np.zeros(n) if bounds else np.full(n, np.nan),
        upper=np.zeros(n) if bounds else np.full(n, np.nan),
        mean=mean,
        percolates=percolates,
        iterations=np.zeros(n, dtype=np.int64),
        residual=np.zeros(n),
        converged=np.ones(n, dtype=np.bool_),
    )
    shape = np.array(k.shape[1:])
    to_diffusivity = shape[0] / np.prod(shape[1:])
    for rows in _chunks(percolates, k[0].size, device):
        size = k[rows].reshape(len(rows), -1).max(1)
        scaled = k[rows] / size.reshape(-1, *[1] * len(shape))
        with one_thread():
            solved = potentials(
                scaled,
                periodic=periodic,
                tolerance=tolerance,
                max_iterations=max_iterations,
                device=device,
                certified=bounds,
            )
        factor = size * to_diffusivity
        found.diffusivity[rows] = solved.conductance * factor
        found.iterations[rows] = solved.iterations
        found.residual[rows] = solved.error
        found.converged[rows] = solved.error <= tolerance
        if bounds:
            for i, row in enumerate(rows):
                one, u, flux = scaled[i], solved.u[i], solved.fluxes.get(i)
                if flux is None:
                    low = thomson_of_potential(one, u, periodic=periodic)
                else:
                    low = thomson_conductance(one, flux)
                found.lower[row] = factor[i] * low
                found.upper[row] = factor[i] * dirichlet_conductance(one, u, periodic=periodic)
    np.divide(mean, found.diffusivity, out=found.tortuosity, where=percolates)
    return found


def _checked_diffusivities(image: NDArray[np.int64], given: ArrayLike) -> FloatArray:
    values = np.asarray(given, dtype=np.float64)
    if values.ndim == 1:
        values = np.broadcast_to(values, (len(image), len(values)))
    if values.ndim != 2 or len(values) != len(image):
        raise InvalidInputError(
            f"diffusivity has shape {np.shape(given)}; expected (p,) or ({len(image)}, p)"
        )
    checked_range(image, "diffusivity", values.shape[1])
    wrong = values[~(np.isfinite(values) & (values >= 0))]
    if wrong.size:
        raise InvalidInputError(
            f"diffusivity {wrong[0]:g}; expected finite values >= 0, 0 for an insulator"
        )
    return values


def _chunks(percolates: NDArray[np.bool_], pixels: int, device: str) -> list[NDArray[np.int64]]:
    """Numbers of the images that are solved together."""
    limit = VALUES_CPU if torch.device(device).type == "cpu" else VALUES_GPU
    rows = np.flatnonzero(percolates)
    size = max(1, limit // pixels)
    return [rows[start : start + size] for start in range(0, len(rows), size)]
