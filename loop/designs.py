"""Unscored designs that carry the surrogate's predictions, chosen toward the targets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loop.candidate import Candidate, Origin
from loop.features import Features
from loop.library import Library
from loop.process_labels import drawn_codes, named_labels
from loop.space import DesignSpace
from loop.surrogate import Surrogate
from loop.targets import Targets

FloatArray = NDArray[np.float64]
SCREEN = 3  # combinations looked at per design kept


@dataclass(frozen=True)
class Bank:
    """Library images with their features, drawn once per campaign: (m, h, w) and (m, f).

    ``compositions``, ``process``: (m, p, e) and (m, q) of the same designs where they belong
    together, else None.
    """

    images: NDArray[np.uint8] | None
    image_part: FloatArray | None
    compositions: FloatArray | None = None
    process: FloatArray | None = None

    @staticmethod
    def draw(library: Library, features: Features, m: int, rng: np.random.Generator) -> Bank:
        if features.images is None:
            return Bank(None, None)
        if library.coupled:
            parts = library.parts(m, rng=rng)
            assert parts.images is not None
            part = features.image_part(parts.images)
            return Bank(parts.images, part, parts.compositions, parts.process)
        images = library.patches(m, rng=rng)
        return Bank(images, features.image_part(images))


def screened_designs(
    n: int,
    *,
    space: DesignSpace,
    library: Library,
    bank: Bank,
    features: Features,
    surrogate: Surrogate,
    targets: Targets,
    rng: np.random.Generator,
) -> tuple[list[Candidate], FloatArray]:
    """n designs and their predicted values (n, k): half at random, half nearest to the targets.

    Any image goes with any row of compositions and its labels, so ``SCREEN``·n combinations are
    looked at and only the kept ones are built. In a coupled library an image stays with its
    compositions and its process.
    """
    total = SCREEN * n
    images = rng.integers(len(bank.images), size=total) if bank.images is not None else None
    compositions: FloatArray | None
    if bank.process is not None:
        compositions = None if bank.compositions is None else bank.compositions[images]
        process = bank.process[images]
        labels = drawn_codes(space, total, rng)
    else:
        compositions, labels = library.alloys(total, rng=rng)
        limits = np.array(list(space.process.values())).reshape(-1, 2)
        process = rng.uniform(limits[:, 0], limits[:, 1], size=(total, len(limits)))
    part = bank.image_part[images] if bank.image_part is not None else None
    x = features.combine(part, compositions, process, labels)
    values = surrogate.mean(x)
    columns = [list(surrogate.properties).index(k) for k in targets.properties]
    distance = np.linalg.norm(targets.distances(values[:, columns]), axis=1)
    order = np.argsort(distance, kind="stable")
    near = order[: n // 2]
    kept = np.concatenate([near, rng.permutation(order[n // 2 :])[: n - len(near)]])
    candidates = [
        Candidate(
            phases=space.phases,
            elements=space.elements,
            microstructure=None
            if images is None or bank.images is None
            else bank.images[images[i]],
            phase_compositions=None if compositions is None else compositions[i],
            process=dict(zip(space.process, process[i].tolist(), strict=True)),
            labels=named_labels(space, labels[i]),
            origin=Origin("library"),
        )
        for i in kept
    ]
    return candidates, values[kept]
