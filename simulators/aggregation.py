"""Multigrid for one network of conductances on a CPU, its blocks split where nothing connects them.

Cells of one colour of the checkerboard (red) join cells of the other (black) only, and so do their
blocks on every coarser grid. Red cells are eliminated: with diagonals scaled to 1 and B the
couplings, the black ones solve (1 - T) v = r, T = B^T B, whose spectrum is in (0, 1]. Coarse cells
are those cells of a block of two along every axis that are joined inside it by links not much
weaker than their others: what an insulator parts in a block stays apart. A coarse link is the sum
of the links that cross, halved because blocks lie twice as far apart.

Sources: D. Braess, Computing 55, 379 (1995) (aggregation); M. Ries, U. Trottenberg and G. Winter,
Linear Algebra Appl. 49, 1 (1983) (multigrid on reduced systems).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import SuperLU, splu

FloatArray = NDArray[np.float64]
Numbers = NDArray[np.int32]

DIRECT = 2_000  # cells of the coarsest grid, which is factorised


class Graph(NamedTuple):
    """Conductances ``link`` (l,) between cells ``low`` and ``high`` (l,); ``ground``: (c,).

    ``place``: m arrays (c,) of integers >= 0, of linked cells neighbours along one axis; below
    2^20. Every cell is joined to the ground, by others if not by itself.
    """

    low: Numbers
    high: Numbers
    link: FloatArray
    ground: FloatArray
    place: tuple[Numbers, ...]

    def diagonal(self) -> FloatArray:
        """(c,) sums of the conductances of every cell."""
        count = len(self.ground)
        total = self.ground + np.bincount(self.low, self.link, count)
        total += np.bincount(self.high, self.link, count)
        return np.asarray(total, dtype=np.float64)

    def blocks(self) -> Numbers:
        """(c,) number of the coarse cell that every cell belongs to."""
        count = len(self.ground)
        key = np.zeros(count, dtype=np.int64)
        for place in self.place:
            key = (key << 20) + (place >> 1)
        together = key[self.low] == key[self.high]
        low, high = self.low[together], self.high[together]
        joined = sparse.csr_array((np.ones(len(low)), (low, high)), shape=(count, count))
        numbers: Numbers = connected_components(joined, directed=False)[1]
        return numbers

    def coarse(self, blocks: Numbers) -> Graph:
        """The graph of the blocks."""
        count = int(blocks.max()) + 1
        low, high = blocks[self.low], blocks[self.high]
        apart = low != high
        low, high = low[apart], high[apart]
        crossing = sparse.csr_array(
            (0.5 * self.link[apart], (np.minimum(low, high), np.maximum(low, high))),
            shape=(count, count),
        ).tocoo()
        coarse = []
        for fine in self.place:
            place = np.empty(count, dtype=np.int32)
            place[blocks] = fine >> 1
            coarse.append(place)
        ground = np.asarray(0.5 * np.bincount(blocks, self.ground, count), dtype=np.float64)
        return Graph(crossing.row, crossing.col, crossing.data, ground, tuple(coarse))


class Aggregation:
    """Symmetric V-cycles of one graph."""

    def __init__(self, graph: Graph) -> None:
        diagonal = graph.diagonal()
        red = np.asarray(sum(graph.place) & 1, dtype=np.bool_)
        self.red, self.black = np.flatnonzero(red), np.flatnonzero(~red)
        number = np.empty(len(red), dtype=np.int32)
        number[self.red] = np.arange(len(self.red))
        number[self.black] = np.arange(len(self.black))
        self.roots = np.sqrt(diagonal)
        turned = red[graph.high]
        rows = np.where(turned, graph.high, graph.low)
        columns = np.where(turned, graph.low, graph.high)
        scaled = graph.link / (self.roots[rows] * self.roots[columns])
        self.couplings = sparse.csr_array(
            (scaled, (number[rows], number[columns])), shape=(len(self.red), len(self.black))
        )
        self.adjoint = self.couplings.T
        self.black_roots = self.roots[self.black]
        blocks = graph.blocks()
        coarse = graph.coarse(blocks)
        self.blocks, self.count = blocks[self.black], len(coarse.ground)
        again = DIRECT < self.count < 0.8 * len(red)
        self.coarser = Aggregation(coarse) if again else factorised(coarse)

    def across(self, v: FloatArray) -> FloatArray:
        """T v of black values (b,)."""
        result: FloatArray = self.adjoint @ (self.couplings @ v)
        return result

    def cycle(self, r: FloatArray) -> FloatArray:
        """Approximate (1 - T)^-1 r, (b,) scaled black values."""
        left = self.across(r)
        left *= self.black_roots
        gathered = np.asarray(np.bincount(self.blocks, left, self.count), dtype=np.float64)
        correction: FloatArray = self.coarser.solve(gathered)[self.blocks]
        correction *= self.black_roots
        correction += r
        result = self.across(correction)
        result += r
        return result

    def reduced(self, currents: FloatArray) -> FloatArray:
        """Scaled black currents (b,) that stand for currents (c,) into all cells."""
        scaled = currents / self.roots
        result: FloatArray = scaled[self.black] + self.adjoint @ scaled[self.red]
        return result

    def complete(self, v: FloatArray, currents: FloatArray) -> FloatArray:
        """Potentials (c,) of all cells from scaled black ones: red ones are in balance."""
        u = np.empty(len(self.roots))
        u[self.black] = v
        u[self.red] = currents[self.red] / self.roots[self.red] + self.couplings @ v
        u /= self.roots
        return u

    def solve(self, currents: FloatArray) -> FloatArray:
        """One cycle: approximate potentials (c,) of the currents (c,)."""
        return self.complete(self.cycle(self.reduced(currents)), currents)


def factorised(graph: Graph) -> SuperLU:
    """Sparse factors of the operator; ``solve``: currents (c,) -> potentials (c,)."""
    count = len(graph.ground)
    own = np.arange(count, dtype=np.int32)
    matrix = sparse.csc_array(
        (
            np.concatenate((-graph.link, -graph.link, graph.diagonal())),
            (
                np.concatenate((graph.low, graph.high, own)),
                np.concatenate((graph.high, graph.low, own)),
            ),
        ),
        shape=(count, count),
    )
    # A symmetric M-matrix needs no pivoting.
    return splu(
        matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
