"""How far an alloy is from those that are known: exactly, by composition.

Two distances, for neither says it all. The sum of absolute differences of the atomic fractions is
defined between any two alloys; half of it is the share of atoms that would have to be exchanged.
The Aitchison distance compares ratios of amounts and so has something to say of minor elements, but
only between alloys of the same elements: across different ones it is infinite.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from loop.candidate import Candidate, Origin
from loop.composition import closure
from loop.errors import InvalidInputError

if TYPE_CHECKING:
    from loop.library import Library

FloatArray = NDArray[np.float64]
# In an origin's details, and a field of filters: to the nearest known alloy, the sum of absolute
# differences of atomic fractions, 0 to 2.
DIFFERENCE = "difference_from_known"
MOST_KNOWN = 20_000  # alloys of a library that every design is compared with
CHUNK = 1024  # alloys compared at once
SAME = 0.01  # sum of absolute differences: half a percent of the atoms, as alloys are weighed in


@dataclass(frozen=True, slots=True, eq=False)
class Nearest:
    """Of n alloys the nearest of the known ones.

    ``index`` (n,): its row. ``difference`` (n,): sum of absolute differences of atomic fractions,
    0 to 2. ``aitchison`` (n,): distance to the nearest known alloy of the same elements, infinite
    where there is none. ``known_elements`` (n,): whether there is one.
    """

    index: NDArray[np.int64]
    difference: FloatArray
    aitchison: FloatArray

    @property
    def known_elements(self) -> NDArray[np.bool_]:
        return np.isfinite(self.aitchison)

    def copies(self, within: float = SAME) -> NDArray[np.bool_]:
        """(n,) whether fewer than ``within`` / 2 of the atoms differ from a known alloy's."""
        return self.difference <= within


class KnownAlloys:
    """Compositions (m, e) that others are compared with."""

    def __init__(self, compositions: ArrayLike) -> None:
        """Amounts are closed to sum 1. Raises InvalidInputError for none, or another shape."""
        x = np.asarray(compositions, dtype=np.float64)
        if x.ndim != 2 or not len(x):
            raise InvalidInputError(
                f"known alloys have shape {x.shape}; expected (m, e) with at least one row"
            )
        self.x = closure(x)
        self._members = _by_elements(self.x)

    def nearest(self, compositions: ArrayLike) -> Nearest:
        """Of alloys (n, e). Raises InvalidInputError for another number of elements."""
        from scipy.spatial.distance import cdist

        given = np.asarray(compositions, dtype=np.float64)
        if given.ndim != 2 or given.shape[1] != self.x.shape[1]:
            raise InvalidInputError(
                f"alloys have shape {given.shape}; expected (n, {self.x.shape[1]}), one column per "
                "element as in the known alloys"
            )
        if not len(given):
            return Nearest(np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0))
        x = closure(given)
        index = np.empty(len(x), dtype=np.int64)
        difference = np.empty(len(x))
        for start in range(0, len(x), CHUNK):
            rows = slice(start, start + CHUNK)
            found = cdist(x[rows], self.x, "cityblock")
            index[rows] = found.argmin(1)
            difference[rows] = found.min(1)
        aitchison = np.full(len(x), np.inf)
        for elements, members in _by_elements(x).items():
            known = self._members.get(elements)
            if known is not None:
                there = np.array(elements)
                mine, theirs = _clr(x[members][:, there]), _clr(self.x[known][:, there])
                aitchison[members] = cdist(mine, theirs).min(1)
        return Nearest(index, difference, aitchison)


def known_alloys(library: Library) -> KnownAlloys | None:
    """The alloys of a library, where they tell designs apart and comparing is cheap.

    None for designs with images or several phases, for compositions that were drawn (nobody made
    those) and for more than ``MOST_KNOWN`` of them.
    """
    space, table = library.space, library.table
    if space.image_shape is not None or len(space.phases) != 1 or table is None or library.sampled:
        return None
    return KnownAlloys(table[:, 0]) if 0 < len(table) <= MOST_KNOWN else None


def with_difference(candidates: Sequence[Candidate], known: KnownAlloys | None) -> list[Candidate]:
    """The candidates of one phase, each with how far it is from a known alloy in its origin.

    Its details get ``difference_from_known``, in the place of what they said before. As they are
    without known alloys.
    """
    if known is None or not candidates:
        return list(candidates)
    x = np.array([c.phase_compositions[0] for c in candidates if c.phase_compositions is not None])
    if len(x) != len(candidates):
        return list(candidates)
    differences = known.nearest(x).difference.tolist()
    return [
        dataclasses.replace(
            c,
            origin=Origin(
                c.origin.source, c.origin.guidance, {**c.origin.details, DIFFERENCE: difference}
            ),
        )
        for c, difference in zip(candidates, differences, strict=True)
    ]


def _by_elements(x: FloatArray) -> dict[tuple[int, ...], list[int]]:
    """Rows of compositions (n, e) by the places of their elements."""
    found: dict[tuple[int, ...], list[int]] = {}
    for row, present in enumerate(x > 0):
        found.setdefault(tuple(np.flatnonzero(present).tolist()), []).append(row)
    return found


def _clr(x: FloatArray) -> FloatArray:
    logs = np.log(x)
    centred: FloatArray = logs - logs.mean(-1, keepdims=True)
    return centred
