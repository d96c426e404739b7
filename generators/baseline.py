"""The dumb arms that always run beside the clever one: library draws and mutated designs."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from loop.candidate import Candidate, Origin, Record
from loop.composition import project_to_bounds
from loop.library import Library
from loop.process_labels import crossed_labels, moved_labels
from loop.protocols import Progress, silent
from loop.space import DesignSpace
from loop.targets import Targets

FloatArray = NDArray[np.float64]
LABEL_RATE = 0.1  # chance that a mutation gives a label another value


def moved_compositions(
    x: FloatArray, space: DesignSpace, step: float, rng: np.random.Generator
) -> FloatArray:
    """(p, e) compositions after Gaussian steps of a random size, feasible.

    The size is up to ``step`` of the width of the bounds. Elements that are absent stay absent,
    so that sparse alloys stay sparse.
    """
    low, high = space.bound_arrays()
    size = step * rng.random() * (high - low)
    moved = x + size * rng.standard_normal(x.shape)
    return project_to_bounds(moved, low, np.where((x == 0) & (low == 0), 0.0, high))


def moved_process(
    process: Mapping[str, float], space: DesignSpace, step: float, rng: np.random.Generator
) -> dict[str, float]:
    """Process variables after Gaussian steps of ``step`` times the width of their limits."""
    moved = {}
    for name, (least, most) in space.process.items():
        value = process[name] + step * (most - least) * rng.standard_normal()
        moved[name] = float(np.clip(value, least, most))
    return moved


class LibraryDraw:
    """Random designs of the library: a crop and a row of the composition table."""

    name = "library"

    def __init__(self, library: Library) -> None:
        self.library = library

    def fit(
        self, records: Sequence[Record], *, rng: np.random.Generator, progress: Progress = silent
    ) -> LibraryDraw:
        """Nothing to learn."""
        return LibraryDraw(self.library)

    def propose(
        self,
        n: int,
        targets: Targets | None = None,
        *,
        guidance: float = 0.0,
        rng: np.random.Generator,
    ) -> list[Candidate]:
        """n designs, whatever the targets."""
        return self.library.draw(n, rng=rng)


class Mutation:
    """Designs near the best known ones: compositions moved or crossed, images from the library.

    A parent is one of the ``elite`` records nearest to the targets. Compositions get Gaussian
    steps of a random size, up to ``step`` of the width of their bounds, and are projected back
    onto the bounds; with probability ``swap`` the image is another one of the library, and with
    probability ``cross`` the phases' compositions come from two parents, and so does a label,
    which now and then takes another value.
    """

    name = "mutation"

    def __init__(
        self,
        space: DesignSpace,
        library: Library,
        targets: Targets,
        *,
        elite: int = 60,
        step: float = 0.1,
        swap: float = 0.5,
        cross: float = 0.3,
    ) -> None:
        self.space, self.library, self.targets = space, library, targets
        self.elite, self.step, self.swap, self.cross = elite, step, swap, cross
        self.parents: list[Candidate] = []

    def fit(
        self, records: Sequence[Record], *, rng: np.random.Generator, progress: Progress = silent
    ) -> Mutation:
        """Take the records nearest to the targets as parents."""
        rows = [r for r in records if r.outcome.status == "ok"]
        rows.sort(key=lambda r: self.targets.distance(r.outcome.values))
        new = copy.copy(self)
        new.parents = [r.candidate for r in rows[: self.elite]]
        return new

    def propose(
        self,
        n: int,
        targets: Targets | None = None,
        *,
        guidance: float = 0.0,
        rng: np.random.Generator,
    ) -> list[Candidate]:
        """n mutated designs; without parents, n designs of the library."""
        fresh = self.library.draw(n, rng=rng)
        if not self.parents:
            return fresh
        return [self._child(other, rng) for other in fresh]

    def _child(self, other: Candidate, rng: np.random.Generator) -> Candidate:
        first, second = (self.parents[i] for i in rng.integers(len(self.parents), size=2))
        image = other.microstructure if rng.random() < self.swap else first.microstructure
        x = first.phase_compositions
        if x is not None and second.phase_compositions is not None:
            crossed = rng.random((len(x), 1)) < self.cross
            x = np.where(crossed, second.phase_compositions, x)
            x = moved_compositions(x, self.space, self.step, rng)
        labels, _ = crossed_labels(first.labels, second.labels, self.cross, rng)
        return Candidate(
            phases=self.space.phases,
            elements=self.space.elements,
            microstructure=image,
            phase_compositions=x,
            process=moved_process(first.process, self.space, self.step, rng),
            labels=moved_labels(labels, self.space, LABEL_RATE, rng),
            origin=Origin(self.name, None, {"parent": first.id}),
        )
