"""A genetic algorithm over designs: the evolutionary baseline beside the learned generators."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from generators.baseline import LABEL_RATE, moved_compositions, moved_process
from generators.evolution import (
    blend,
    blend_sparse,
    crowded_order,
    cut_mask,
    spread_factor,
    tournament,
)
from loop.candidate import Candidate, Origin, Record
from loop.composition import project_to_bounds
from loop.errors import InvalidCampaignError
from loop.library import Library
from loop.process_labels import crossed_labels, moved_labels
from loop.protocols import Progress, silent
from loop.space import DesignSpace
from loop.targets import Maximise, Minimise, Targets

FloatArray = NDArray[np.float64]
LabelArray = NDArray[np.uint8]
TRACE = 1e-6  # atomic fraction under which a crossed element is absent
PATIENCE = 12  # times that duplicates are replaced by further children


@dataclass(frozen=True, slots=True)
class GeneticSettings:
    """``selection``: "pareto", by fronts of the distances to the single targets, or "constrained".

    The latter takes values, ranges and thresholds as constraints: designs that violate them are
    ranked by the total distance, those that meet them by fronts of what is to be maximised or
    minimised (Deb et al. 2002, section VI). Of more than about three distances at once hardly a
    design dominates another, and "pareto" loses its aim.
    ``population``: records that are parents; ``eta``: SBX index, the larger the nearer to them.

    Shares of the children: ``cross`` blend compositions and process variables, ``mutate`` are
    moved after it by up to ``step`` of the bounds' width, ``cut`` have an image cut from both
    parents, ``immigrants`` have a random library design as their second parent.
    """

    selection: Literal["constrained", "pareto"] = field(
        default="constrained", metadata={"choices": ("constrained", "pareto")}
    )
    population: int = 30
    eta: float = 5.0
    step: float = 0.1
    cross: float = 0.7
    mutate: float = 0.8
    cut: float = 0.2
    immigrants: float = 0.1


class Genetic:
    """Children of the best records, NSGA-II (Deb et al. 2002) over the distances to the targets.

    Parents are the first ``population`` of all records by front and crowding, so the best are
    never lost, and are drawn by binary tournaments. Compositions and process variables are
    crossed by SBX and mutated, then projected onto the bounds: feasible, absent elements exactly
    0. Labels and images come from either parent; images may be cut and pasted from both. No child
    is a design that is on record or was proposed with it.
    """

    name = "genetic"

    def __init__(
        self,
        space: DesignSpace,
        library: Library,
        targets: Targets,
        settings: GeneticSettings | None = None,
    ) -> None:
        """Raises InvalidCampaignError for shares above 1."""
        self.space, self.library, self.targets = space, library, targets
        self.settings = settings or GeneticSettings()
        for name in ("cross", "mutate", "cut", "immigrants"):
            value = getattr(self.settings, name)
            if not 0 <= value <= 1:
                raise InvalidCampaignError(
                    f"generator.settings.{name} is {value:g}; expected a share from 0 to 1"
                )
        self.records: tuple[Record, ...] = ()
        self.known: frozenset[str] = frozenset()

    def fit(
        self, records: Sequence[Record], *, rng: np.random.Generator, progress: Progress = silent
    ) -> Genetic:
        """Keep the records to choose parents from; of one design the last that is ok counts."""
        rows = {r.candidate.id: r for r in records if r.outcome.status == "ok"}
        new = copy.copy(self)
        new.records = tuple(rows.values())
        new.known = frozenset(r.candidate.id for r in records)
        parents = new.parents(self.targets)
        progress("population", 1, 1, records=float(len(rows)), parents=float(len(parents)))
        return new

    def parents(self, targets: Targets) -> list[Candidate]:
        """The population for these targets, best first; records without their values are out."""
        scored = [
            r for r in self.records if all(name in r.outcome.values for name in targets.properties)
        ]
        if not scored:
            return []
        values = np.array([[r.outcome.values[k] for k in targets.properties] for r in scored])
        order = self._order(values.reshape(len(scored), -1), targets)
        return [scored[i].candidate for i in order[: self.settings.population]]

    def _order(self, values: FloatArray, targets: Targets) -> NDArray[np.int64]:
        """(n,) rows of property values (n, k) from best to worst."""
        if self.settings.selection == "pareto":
            return crowded_order(objectives(values, targets))
        ends = [i for i, t in enumerate(targets) if isinstance(t, Maximise | Minimise)]
        violation = np.sqrt(np.sum(targets.distances(values) ** 2, axis=1))
        order: NDArray[np.int64] = np.argsort(violation, kind="stable")
        met = np.flatnonzero(violation == 0)
        best = met[crowded_order(objectives(values, targets)[met][:, ends])]
        order[: len(met)] = best
        return order

    def propose(
        self,
        n: int,
        targets: Targets | None = None,
        *,
        guidance: float = 0.0,
        rng: np.random.Generator,
    ) -> list[Candidate]:
        """At most n children, none of them on record; without parents designs of the library.

        Selection is toward ``targets``, the campaign's where none are given; guidance does not
        count. Fewer than n where ``PATIENCE`` rounds of children brought nothing new.
        """
        parents = self.parents(self.targets if targets is None else targets)
        found: dict[str, Candidate] = {}
        for _ in range(PATIENCE):
            missing = n - len(found)
            if missing <= 0:
                break
            fresh = self.library.draw(missing, rng=rng)
            for child in self._children(parents, fresh, rng) if parents else fresh:
                if child.id not in self.known and len(found) < n:
                    found.setdefault(child.id, child)
        return list(found.values())

    def _children(
        self, parents: list[Candidate], fresh: list[Candidate], rng: np.random.Generator
    ) -> Iterator[Candidate]:
        """Two of each pair, one pair for each of the library designs ``fresh``."""
        for other in fresh:
            i, j = tournament(len(parents), 2, rng).tolist()
            first, second = parents[i], parents[j]
            if i == j or rng.random() < self.settings.immigrants:
                second = other
            yield from self._pair(first, second, rng)

    def _pair(
        self, first: Candidate, second: Candidate, rng: np.random.Generator
    ) -> list[Candidate]:
        compositions = self._crossed_compositions(first, second, rng)
        processes = self._crossed_process(first, second, rng)
        images = self._crossed_images(first.microstructure, second.microstructure, rng)
        labels = crossed_labels(first.labels, second.labels, 0.5, rng)
        origin = Origin(self.name, None, {"parents": [first.id, second.id]})
        children = []
        both = zip(compositions, processes, images, labels, strict=True)
        for x, process, image, given in both:
            rate = 0.0
            if rng.random() < self.settings.mutate:
                if x is not None:
                    x = moved_compositions(x, self.space, self.settings.step, rng)
                process = moved_process(process, self.space, self.settings.step, rng)
                rate = LABEL_RATE
            children.append(
                Candidate(
                    phases=self.space.phases,
                    elements=self.space.elements,
                    microstructure=image,
                    phase_compositions=x,
                    process=process,
                    labels=moved_labels(given, self.space, rate, rng),
                    origin=origin,
                )
            )
        return children

    def _spread(self, shape: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
        """SBX spread factors; 1, which leaves the parents as they are, where none are crossed."""
        crossed = rng.random() < self.settings.cross
        factors = spread_factor(rng.random(shape), self.settings.eta)
        return factors if crossed else np.ones(shape)

    def _crossed_compositions(
        self, first: Candidate, second: Candidate, rng: np.random.Generator
    ) -> tuple[FloatArray | None, FloatArray | None]:
        """One factor for each phase: a line through two compositions stays on the simplex."""
        a, b = first.phase_compositions, second.phase_compositions
        if a is None or b is None:
            return None, None
        spread = self._spread((len(a), 1), rng)
        if np.all(spread == 1):
            return a, b
        low, high = self.space.bound_arrays()
        one, other = (
            project_to_bounds(child, low, high, zero_below=TRACE)
            for child in blend_sparse(a, b, spread, rng)
        )
        return one, other

    def _crossed_process(
        self, first: Candidate, second: Candidate, rng: np.random.Generator
    ) -> tuple[dict[str, float], dict[str, float]]:
        names = list(self.space.process)
        if not names:
            return {}, {}
        limits = np.array(list(self.space.process.values()))
        a, b = (np.array([c.process[name] for name in names]) for c in (first, second))
        one, other = (
            dict(zip(names, np.clip(x, limits[:, 0], limits[:, 1]).tolist(), strict=True))
            for x in blend(a, b, self._spread((len(names),), rng))
        )
        return one, other

    def _crossed_images(
        self, first: LabelArray | None, second: LabelArray | None, rng: np.random.Generator
    ) -> tuple[LabelArray | None, LabelArray | None]:
        """Cut and pasted, or each parent's own in either order.

        Where a design is nothing but an image all are cut: the others would be duplicates.
        """
        if first is None or second is None:
            return None, None
        space = self.space
        alone = not space.elements and not space.process and not space.labels
        if not alone and rng.random() >= self.settings.cut:
            return (first, second) if rng.random() < 0.5 else (second, first)
        mask = cut_mask((first.shape[0], first.shape[1]), rng)
        pasted = np.where(mask, first, second), np.where(mask, second, first)
        if len(self.space.phases) == 1:
            return pasted
        # A cut may leave one phase only, which is no microstructure: then the parent's.
        one, other = (
            own if image.min() == image.max() else image
            for image, own in zip(pasted, (first, second), strict=True)
        )
        return one, other


def objectives(values: FloatArray, targets: Targets) -> FloatArray:
    """(n, k) property values -> (n, k) what is to be small, in units of each target's scale.

    The distance to values and ranges; properties to be improved without end count as they are.
    """
    found = targets.distances(values)
    for j, target in enumerate(targets):
        if isinstance(target, Maximise | Minimise):
            sign = -1.0 if isinstance(target, Maximise) else 1.0
            found[:, j] = sign * values[:, j] / target.scale
    return found
