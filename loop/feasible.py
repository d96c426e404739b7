"""Proposals onto what a space's constraints allow, whatever generator made them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from loop.candidate import Candidate, Origin
from loop.known_alloys import DIFFERENCE
from loop.projection import project
from loop.space import DesignSpace

MOVED = "moved_to_constraints"  # in an origin's details


def within_constraints(space: DesignSpace, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates, those that break a constraint moved to the nearest composition that does not.

    Generators know of bounds and not of groups, ratios and "at most k elements". Each phase is
    moved for itself. Of too many elements the smallest go, one after the other
    (``projection.project`` with no further search). How far a design was moved, in atomic fractions
    (Euclidean, over all phases), is in its origin's details as ``moved_to_constraints``; what these
    said of its difference from known alloys is left out, being that of another composition. Designs
    that do not fit the space in another way stay as they are.
    """
    found = list(candidates)
    if not space.constrained:
        return found
    rows = [
        i
        for i, c in enumerate(found)
        if c.phase_compositions is not None
        and c.phases == space.phases
        and c.elements == space.elements
    ]
    if not rows:
        return found
    given = np.stack([x for i in rows if (x := found[i].phase_compositions) is not None])
    nearest = given.copy()
    for j, phase in enumerate(space.phases):
        if space.constraints_of(phase):
            nearest[:, j] = project(given[:, j], space.allowed(phase), nodes=0)
    for i, old, new in zip(rows, given, nearest, strict=True):
        if np.array_equal(old, new):
            continue
        origin = found[i].origin
        details = {k: v for k, v in origin.details.items() if k != DIFFERENCE}
        details[MOVED] = float(np.linalg.norm(new - old))
        found[i] = dataclasses.replace(
            found[i],
            phase_compositions=new,
            origin=Origin(origin.source, origin.guidance, details),
        )
    return found
