"""Proposals onto what a space's constraints allow, whatever generator made them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from loop.candidate import Candidate, Origin
from loop.projection import project
from loop.space import DesignSpace


def within_constraints(space: DesignSpace, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates, those that break a constraint moved to the nearest composition that does not.

    Generators know of bounds and not of groups, ratios and "at most k elements". Of too many
    elements the smallest go, one after the other (``projection.project`` with no further search).
    How far a design was moved, in atomic fractions (Euclidean), is in its origin's details as
    ``moved_to_constraints``. Designs that do not fit the space in another way stay as they are.
    """
    if not space.constraints:
        return list(candidates)
    allowed = space.allowed()
    found = []
    for candidate in candidates:
        x = candidate.phase_compositions
        if x is None or candidate.phases != space.phases or candidate.elements != space.elements:
            found.append(candidate)
            continue
        nearest = project(x, allowed, nodes=0)
        if np.array_equal(nearest, x):
            found.append(candidate)
            continue
        details = dict(candidate.origin.details)
        details["moved_to_constraints"] = float(np.linalg.norm(nearest - x))
        origin = Origin(candidate.origin.source, candidate.origin.guidance, details)
        found.append(
            Candidate(
                phases=candidate.phases,
                elements=candidate.elements,
                microstructure=candidate.microstructure,
                phase_compositions=nearest,
                process=candidate.process,
                labels=candidate.labels,
                origin=origin,
            )
        )
    return found
