"""The gate before selection: is a proposal feasible, sensible and new?

A design may be feasible and yet odd: a speckled image, a γ phase with the chemistry of another
phase. Odd means farther from the library than held-out library designs are from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from loop.candidate import Candidate
from loop.features import ImageFeatures, configurations
from loop.scaling import NOTHING, spreads
from loop.space import DesignSpace

FloatArray = NDArray[np.float64]
NEIGHBOURS = 5
QUANTILE = 0.99
SLACK = 1.1  # proposals may lie a little farther out than the held-out designs reach


@dataclass(frozen=True)
class Support:
    """Mean distance to the nearest library rows, and how far held-out rows lie from them."""

    center: FloatArray
    scale: FloatArray
    tree: cKDTree
    limit: float

    @staticmethod
    def fit(rows: FloatArray, held_out: FloatArray) -> Support:
        center, scale = rows.mean(0), spreads(rows, NOTHING)
        tree = cKDTree((rows - center) / scale)
        support = Support(center, scale, tree, np.inf)
        limit = SLACK * float(np.quantile(support.distance(held_out), QUANTILE))
        return Support(center, scale, tree, limit)

    def distance(self, rows: FloatArray) -> FloatArray:
        """(n,) mean distance to the nearest library rows in standard deviations."""
        found, _ = self.tree.query((rows - self.center) / self.scale, k=NEIGHBOURS)
        mean: FloatArray = np.asarray(found).mean(1)
        return mean

    def inside(self, rows: FloatArray) -> NDArray[np.bool_]:
        return self.distance(rows) <= self.limit


@dataclass(frozen=True)
class Gate:
    """Feasible in the space, image and compositions inside the library's support."""

    space: DesignSpace
    image_features: ImageFeatures | None
    images: Support | None
    compositions: Support | None

    def _image_rows(self, images: NDArray[np.uint8]) -> FloatArray:
        assert self.image_features is not None
        columns = [self.image_features.transform(images)]
        columns += [
            np.sqrt(configurations((images == phase).astype(np.uint8)))
            for phase in range(1, len(self.space.phases))
        ]
        return np.concatenate(columns, axis=1)

    @staticmethod
    def fit(
        space: DesignSpace,
        image_features: ImageFeatures | None,
        images: NDArray[np.uint8] | None,
        held_out_images: NDArray[np.uint8] | None,
        compositions: FloatArray | None,
    ) -> Gate:
        """From library images (n, h, w), held-out ones, and compositions (n, p, e).

        Compositions are split in two halves: one is the support, the other sets its limit.
        """
        gate = Gate(space, image_features, None, None)
        image_support = composition_support = None
        if image_features is not None and images is not None and held_out_images is not None:
            image_support = Support.fit(gate._image_rows(images), gate._image_rows(held_out_images))
        if compositions is not None and len(compositions) >= 4 * NEIGHBOURS:
            flat = compositions.reshape(len(compositions), -1)
            composition_support = Support.fit(flat[::2], flat[1::2])
        return Gate(space, image_features, image_support, composition_support)

    def reasons(self, candidates: Sequence[Candidate]) -> list[str]:
        """Per candidate why it is turned away; empty for those that pass."""
        found = ["; ".join(self.space.violations(c)) for c in candidates]
        open_ = [i for i, reason in enumerate(found) if not reason]
        if not open_:
            return found
        if self.images is not None:
            images = [candidates[i].microstructure for i in open_]
            rows = self._image_rows(np.stack([a for a in images if a is not None]))
            for i, fine in zip(open_, self.images.inside(rows), strict=True):
                if not fine:
                    found[i] = "image is unlike the library's micrographs"
        if self.compositions is not None:
            parts = [candidates[i].phase_compositions for i in open_]
            rows = np.stack([x for x in parts if x is not None]).reshape(len(open_), -1)
            for i, fine in zip(open_, self.compositions.inside(rows), strict=True):
                if not fine:
                    found[i] = found[i] or "compositions are unlike the library's"
        return found
