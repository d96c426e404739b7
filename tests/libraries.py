"""Libraries in memory: blobs and random alloys, with a closed-form rule for their properties."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from loop.candidate import Candidate, Outcome, Record
from loop.images import SplitImages
from loop.library import Library
from loop.space import DesignSpace
from loop.targets import Range, Targets, Value

FloatArray = NDArray[np.float64]
ELEMENTS = ("Ni", "Al", "Cr", "Re")
WEIGHTS = np.array([8.9, 2.7, 7.2, 21.0])
PROPERTIES = ("density", "fraction")
BOUNDS = {"Ni": (0.4, 0.9), "Al": (0.02, 0.3), "Cr": (0.05, 0.4), "Re": (0.0, 0.1)}
TARGETS = Targets((Range("density", 8.0, 8.3), Value("fraction", 0.5, 0.02)))

SPACES = {
    "image and compositions": DesignSpace(
        ("a", "b"), ELEMENTS, (32, 32), {"a": BOUNDS, "b": BOUNDS}
    ),
    "image": DesignSpace(("a", "b"), (), (32, 32)),
    "compositions": DesignSpace(("a",), ELEMENTS, None, {"a": BOUNDS}),
    "process": DesignSpace(
        ("a",), ELEMENTS, None, {"a": BOUNDS}, process={"temperature_K": (900.0, 1100.0)}
    ),
}


def blobs(
    n: int, rng: np.random.Generator, *, side: int = 96, width: float = 3.0
) -> list[NDArray[np.uint8]]:
    """n thresholded Gaussian fields, (side, side) labels 0 and 1."""
    images = []
    for _ in range(n):
        field = ndimage.gaussian_filter(rng.normal(size=(side, side)), width, mode="wrap")
        images.append((field > np.quantile(field, rng.uniform(0.4, 0.6))).astype(np.uint8))
    return images


def alloys(n: int, phases: int, rng: np.random.Generator) -> FloatArray:
    """(n, p, 4) compositions inside BOUNDS; half of the rows lack the last element."""
    x = np.empty((n, phases, 4))
    x[..., 1] = rng.uniform(0.04, 0.2, (n, phases))
    x[..., 2] = rng.uniform(0.08, 0.25, (n, phases))
    x[..., 3] = rng.uniform(0.01, 0.08, (n, phases)) * (rng.random((n, phases)) < 0.5)
    x[..., 0] = 1.0 - x[..., 1:].sum(-1)
    return x


def library(space: DesignSpace, *, rows: int = 400, seed: int = 5) -> Library:
    """A library of a space: four blob images (one held out) and ``rows`` compositions."""
    rng = np.random.default_rng(seed)
    images = None
    if space.image_shape is not None:
        train, held_out = blobs(3, rng), blobs(1, rng)
        images = SplitImages(
            {"train": tuple(train), "val": tuple(held_out), "test": ()},
            {"train": ("0", "1", "2"), "val": ("3",), "test": ()},
            "made for tests",
        )
    table = alloys(rows, len(space.phases), rng) if space.elements else None
    return Library(space, images, table, augment=True, outside=0, data_hash="0" * 64)


def rule(candidate: Candidate) -> dict[str, float]:
    """Properties that are linear in the composition and in the image; what is absent gives none."""
    values = {}
    if candidate.phase_compositions is not None:
        values["density"] = float(candidate.composition() @ WEIGHTS)
    if candidate.microstructure is not None:
        values["fraction"] = float(candidate.phase_fractions()[1])
    return values


def scored(candidates: Sequence[Candidate]) -> list[Record]:
    """Records of the rule."""
    return [Record(c, Outcome("ok", rule(c)), "rule", "1", 0) for c in candidates]


def properties(space: DesignSpace) -> tuple[str, ...]:
    """The properties that the rule gives for designs of a space."""
    return tuple(
        name
        for name, there in zip(PROPERTIES, (space.elements, space.image_shape), strict=True)
        if there
    )


def targets(space: DesignSpace) -> Targets:
    """Those targets that the rule can be held against."""
    return Targets(tuple(t for t in TARGETS if t.name in properties(space)))
