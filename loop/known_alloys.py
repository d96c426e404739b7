"""How far an alloy is from those that are known: exactly, by composition.

Two distances, for neither says it all. The sum of absolute differences of the atomic fractions is
defined between any two alloys; half of it is the share of atoms that would have to be exchanged.
The Aitchison distance compares ratios of amounts and so has something to say of minor elements, but
only between alloys of the same elements: across different ones it is infinite.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist

from loop.composition import closure
from loop.errors import InvalidInputError

FloatArray = NDArray[np.float64]
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
