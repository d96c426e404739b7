"""Compositions by Bayesian optimisation: the baseline that has a model and no generator.

A surrogate fitted to the records, and batches of compositions that climb its joint acquisition
over everything that the space allows (``loop.batches``).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from loop.batches import propose_batch
from loop.candidate import Candidate, Origin, Record
from loop.errors import InvalidCampaignError, InvalidInputError
from loop.library import Library
from loop.polytope import CompositionSet
from loop.protocols import Progress, silent
from loop.space import DesignSpace
from loop.surrogate import MIN_ROWS, Surrogate
from loop.targets import Targets

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class BayesianSettings:
    """``batch``: compositions that are searched together, best the campaign's ``loop.batch``.

    ``batches``: how many such batches are proposed at most, so that the selection has a choice and
    the gate may turn some away. Every batch takes those before it as measured, at what the
    surrogate predicts for them (the Kriging believer of Ginsbourger, Le Riche & Carraro 2010).
    ``within``: "library" keeps every element within the amounts, and the number of elements within
    the number, that the library's alloys have; "space" takes all that the campaign allows.
    ``diversity``: of the compositions of a batch, where no target is to be maximised or minimised.
    """

    batch: int = 8
    batches: int = 2
    within: Literal["library", "space"] = field(
        default="library", metadata={"choices": ("library", "space")}
    )
    diversity: float = 1.0


class Bayesian:
    """Batches of the largest joint acquisition: improvement, or hits that differ.

    For designs that are one composition and nothing else. Absent elements are exactly 0, bounds
    and constraints hold within 1e-9, and no proposal is a composition on record.
    """

    name = "bayesian"

    def __init__(
        self,
        space: DesignSpace,
        library: Library,
        targets: Targets,
        settings: BayesianSettings | None = None,
    ) -> None:
        """Raises InvalidCampaignError for a space with more than one composition a design, for
        settings out of range and where the library's range and the constraints leave nothing.
        """
        self.space, self.library, self.targets = space, library, targets
        self.settings = settings or BayesianSettings()
        others = [
            text
            for text, there in (
                ("has no elements", not space.elements),
                ("has images", space.image_shape is not None),
                (f"has {len(space.phases)} phases", len(space.phases) > 1),
                (f"has process variables ({', '.join(space.process)})", bool(space.process)),
                (f"has labels ({', '.join(space.labels)})", bool(space.labels)),
            )
            if there
        ]
        if others:
            raise InvalidCampaignError(
                f"generator.name is {self.name!r}, which designs the composition of one phase and "
                f"nothing else, but this space {' and '.join(others)}; use joint-flow, genetic or "
                "mutation"
            )
        if not self.settings.diversity > 0:
            raise InvalidCampaignError(
                "generator.settings.diversity is 0; expected a number above 0"
            )
        self.allowed = self._allowed()
        self.x: FloatArray = np.zeros((0, len(space.elements)))
        self.records: tuple[Record, ...] = ()
        self.surrogate: Surrogate | None = None

    def _allowed(self) -> CompositionSet:
        allowed, table = self.space.allowed(), self.library.table
        if self.settings.within == "space" or table is None or self.library.sampled:
            return allowed
        x = table[:, 0]
        most = int(np.count_nonzero(x, axis=1).max())
        bounds = {
            element: (max(low, float(least)), min(high, float(greatest)))
            for element, low, high, least, greatest in zip(
                allowed.elements, allowed.low, allowed.high, x.min(0), x.max(0), strict=True
            )
        }
        try:
            return CompositionSet(
                allowed.elements,
                bounds,
                allowed.groups,
                allowed.ratios,
                most if allowed.at_most is None else min(most, allowed.at_most),
            )
        except InvalidInputError as error:
            raise InvalidCampaignError(
                f"generator.settings.within is 'library', and then {error}; set it to 'space'"
            ) from None

    def fit(
        self, records: Sequence[Record], *, rng: np.random.Generator, progress: Progress = silent
    ) -> Bayesian:
        """Fit the surrogate of the targets' properties; of one design the last record counts.

        With fewer than 8 values of one of them nothing is fitted, and the library is drawn from.
        """
        rows = {r.candidate.id: r for r in records if r.outcome.status == "ok"}
        new = copy.copy(self)
        new.records = tuple(rows.values())
        new.x = np.array([r.candidate.composition() for r in new.records])
        new.x = new.x.reshape(len(new.records), len(self.space.elements))
        new.surrogate = new._fitted(self.targets, rng, progress)
        return new

    def _fitted(
        self, targets: Targets, rng: np.random.Generator, progress: Progress = silent
    ) -> Surrogate | None:
        y, noise = self._values(targets)
        if len(y) == 0 or np.isfinite(y).sum(0).min() < MIN_ROWS:
            return None
        fresh = Surrogate(targets.properties)
        return fresh.fit(self.x, y, rng=rng, noise=noise, progress=progress)

    def _values(self, targets: Targets) -> tuple[FloatArray, FloatArray]:
        """Values (n, k), NaN where unknown, and standard uncertainties, 0 where unknown."""
        names, shape = targets.properties, (len(self.records), len(targets))
        y = [[r.outcome.values.get(k, np.nan) for k in names] for r in self.records]
        noise = [[r.outcome.uncertainty.get(k, 0.0) for k in names] for r in self.records]
        return np.array(y).reshape(shape), np.array(noise).reshape(shape)

    def propose(
        self,
        n: int,
        targets: Targets | None = None,
        *,
        guidance: float = 0.0,
        rng: np.random.Generator,
    ) -> list[Candidate]:
        """At most n compositions, and at most ``batch`` times ``batches``; guidance does not count.

        Toward ``targets``, the campaign's where none are given. Before there are records to fit a
        surrogate to, designs of the library. Raises InvalidInputError where the space has too few
        compositions.
        """
        wanted = self.targets if targets is None else targets
        surrogate = self.surrogate
        if surrogate is None or surrogate.properties != wanted.properties:
            surrogate = self._fitted(wanted, rng)
        if surrogate is None or n == 0:
            return self.library.draw(n, rng=rng)
        settings = self.settings
        x, (y, noise) = self.x, self._values(wanted)
        found: list[Candidate] = []
        for number in range(settings.batches):
            q = min(settings.batch, n - len(found))
            if q == 0:
                break
            if number:
                surrogate = Surrogate(wanted.properties).fit(x, y, rng=rng, noise=noise)
            batch = propose_batch(
                self.allowed,
                x,
                y,
                wanted,
                q,
                rng=rng,
                noise=noise,
                diversity=settings.diversity,
                surrogate=surrogate,
            )
            found += [self._candidate(row, number) for row in batch.compositions]
            x = np.concatenate([x, batch.compositions])
            y = np.concatenate([y, batch.prediction.mean])
            noise = np.concatenate([noise, np.zeros_like(batch.prediction.mean)])
        return found

    def _candidate(self, x: FloatArray, number: int) -> Candidate:
        return Candidate(
            phases=self.space.phases,
            elements=self.space.elements,
            phase_compositions=x[None],
            origin=Origin(self.name, None, {"batch": number + 1}),
        )
