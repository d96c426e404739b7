"""Parts of the joint state: phase compositions beside an image, and process variables, coded.

Compositions of designs without images are coded as in ``generators.sparse``. Beside an image one
enters as standardised atomic fractions. Absent elements are exact zeros in the data; a density over
them would be a spike, so absence is written as a value set apart below the smallest present amount,
and read back as exactly zero. The way back ends with the Euclidean projection onto the bounds and
the simplex, so every composition is feasible.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from loop.candidate import Candidate
from loop.composition import project_to_bounds
from loop.scaling import NOTHING, spreads
from loop.space import DesignSpace

FloatArray = NDArray[np.float64]
GAP = 1.0  # distance between "absent" and the smallest present amount, in standard deviations


@dataclass(frozen=True)
class CompositionCode:
    """Phase compositions (n, p, e) to standardised coordinates (n, p, e) and back.

    ``mean``, ``std``: of the present amounts, (p, e); ``absent``: the coordinate that says absent,
    -inf where an element may not be absent.
    """

    mean: FloatArray
    std: FloatArray
    absent: FloatArray

    @property
    def size(self) -> int:
        """Coordinates of one phase."""
        return self.mean.shape[1]

    @staticmethod
    def fit(x: FloatArray, low: FloatArray) -> CompositionCode:
        """From data (n, p, e) and lower bounds (p, e)."""
        present = x > 0
        count = present.sum(0)
        mean = np.where(present, x, 0).sum(0) / np.maximum(count, 1)
        variance = np.where(present, (x - mean) ** 2, 0).sum(0) / np.maximum(count, 1)
        std = np.where(variance > 1e-16, np.sqrt(np.maximum(variance, 1e-16)), 1.0)
        least = np.where(present, (x - mean) / std, np.inf).min(0)
        least = np.where(np.isfinite(least), least, 0.0)
        absent = np.where(low == 0, least - GAP, -np.inf)
        return CompositionCode(mean, std, absent)

    def encode(self, x: FloatArray) -> FloatArray:
        z = (x - self.mean) / self.std
        coded: FloatArray = np.where((x == 0) & np.isfinite(self.absent), self.absent, z)
        return coded

    def decode(self, z: FloatArray, space: DesignSpace) -> FloatArray:
        """Feasible compositions: inside the bounds, rows sum to 1, absent elements exactly 0."""
        low, high = space.bound_arrays()
        gone = z < self.absent + GAP / 2
        capped = np.where(gone, 0.0, high)
        reachable = capped.sum(-1, keepdims=True) >= 1.0
        capped = np.where(reachable, capped, high)
        x = np.where(gone, 0.0, self.mean + self.std * z)
        return project_to_bounds(x, np.broadcast_to(low, x.shape), capped)


@dataclass(frozen=True)
class Standardiser:
    """Zero mean and unit variance per column, (n, k); constant columns are left at unit scale."""

    mean: FloatArray
    std: FloatArray

    @staticmethod
    def fit(x: FloatArray) -> Standardiser:
        """From rows (n, k)."""
        return Standardiser(x.mean(0), spreads(x, NOTHING))

    def forward(self, x: FloatArray) -> FloatArray:
        z: FloatArray = (x - self.mean) / self.std
        return z

    def inverse(self, z: FloatArray) -> FloatArray:
        x: FloatArray = self.mean + self.std * z
        return x


def stack_images(candidates: list[Candidate]) -> Tensor:
    """(n, h, w) uint8 labels of candidates that all have images."""
    images = [c.microstructure for c in candidates]
    return torch.from_numpy(np.stack([image for image in images if image is not None]))


def stack_process(candidates: list[Candidate], names: tuple[str, ...]) -> FloatArray:
    """(n, q) process variables in the order of ``names``."""
    return np.array([[c.process[name] for name in names] for c in candidates])
