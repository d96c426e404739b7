"""The dumb arms that always run beside the clever one: library draws and mutated designs."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np

from loop.candidate import Candidate, Origin, Record
from loop.composition import project_to_bounds
from loop.library import Library
from loop.protocols import Progress, silent
from loop.space import DesignSpace
from loop.targets import Targets


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
    probability ``cross`` the phases' compositions come from two parents.
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
            low, high = self.space.bound_arrays()
            crossed = rng.random((len(x), 1)) < self.cross
            x = np.where(crossed, second.phase_compositions, x)
            size = self.step * rng.random() * (high - low)
            moved = x + size * rng.standard_normal(x.shape)
            # Elements that a parent lacks stay absent, so that sparse alloys stay sparse.
            x = project_to_bounds(moved, low, np.where((x == 0) & (low == 0), 0.0, high))
        process = {}
        for name, (least, most) in self.space.process.items():
            value = first.process[name] + self.step * (most - least) * rng.standard_normal()
            process[name] = float(np.clip(value, least, most))
        return Candidate(
            phases=self.space.phases,
            elements=self.space.elements,
            microstructure=image,
            phase_compositions=x,
            process=process,
            origin=Origin(self.name, None, {"parent": first.id}),
        )
