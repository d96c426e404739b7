"""Uniform points within bounds, fixed ratios and bounds on sums of elements that do not overlap.

Elements in a fixed ratio move as one. The sums T of the groups (and what is left to the elements
of no group) are drawn first: their joint density is the product of the densities F(T) with which
independent uniform amounts have these sums (``truncated_simplex``), cut off at the group's bounds
and conditioned on the whole being 1. Then each group is a truncated simplex of its sum T. Nothing
is rejected, however small the polytope is among the compositions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loop.composition import FloatArray
from loop.polytope import CompositionSet
from loop.truncated_simplex import TruncatedSimplex

NODES = 4096  # of a sum's density over [0, 1]
LOCAL_NODES = 512  # of a sum's density given the sums before it
CHUNK = 4096  # points whose densities are looked at together
NARROW = 1e-6  # a sum that may vary less is no distribution to work with


@dataclass(frozen=True)
class _Block:
    """Places (in clusters) of a group, and between which values its sum may be."""

    places: NDArray[np.int64]
    low: float
    high: float
    simplex: TruncatedSimplex


class GroupedSimplex:
    """The map from the unit cube onto a set whose constraints are of this kind; see ``made``.

    ``dimension``: how many numbers a point takes.
    """

    def __init__(self, shares: FloatArray, blocks: Sequence[_Block]) -> None:
        self._shares = shares  # (clusters, e): x = z shares
        self._blocks = tuple(blocks)
        self.dimension = len(shares) - 1
        # Density of the sum of all blocks after i, on nodes over [0, 1], and its range.
        nodes = np.linspace(0.0, 1.0, NODES + 1)
        last = self._blocks[-1]
        # Between its ends the last density is taken as it is; only in a convolution do they cut.
        rest = [last.simplex.sum_density(np.clip(nodes, last.low, last.high))]
        self._least, self._most = [self._blocks[-1].low], [self._blocks[-1].high]
        for block in self._blocks[-2:0:-1]:
            after = rest[-1] if len(rest) > 1 else _truncated(last, nodes)
            one = np.convolve(_truncated(block, nodes), after)[: NODES + 1]
            rest.append(one / max(float(one.max()), 1e-300))
            self._least.append(self._least[-1] + block.low)
            self._most.append(self._most[-1] + block.high)
        self._rest = rest[::-1]
        self._least.reverse()
        self._most.reverse()

    @staticmethod
    def made(space: CompositionSet) -> GroupedSimplex | None:
        """The map of a set, or None where groups overlap, have weights, or fix a sum.

        ``at_most`` is left aside.
        """
        clusters = _clusters(space)
        if clusters is None:
            return None
        shares, low, high = clusters
        blocks, taken = [], np.zeros(len(shares), dtype=bool)
        ranges: dict[tuple[int, ...], tuple[float, float]] = {}
        for group in space.groups:
            weights = np.array([group.weights.get(e, 0.0) for e in space.elements])
            per_cluster = shares @ weights
            places = np.flatnonzero(per_cluster)
            w = per_cluster[places]
            if not len(places) or np.any(np.abs(w - w[0]) > 1e-12 * abs(w[0])):
                return None
            ends = sorted((group.low / w[0], group.high / w[0]))
            before = ranges.get(tuple(places.tolist()), (0.0, 1.0))
            ranges[tuple(places.tolist())] = (max(before[0], ends[0]), min(before[1], ends[1]))
        for members, (least, most) in ranges.items():
            places = np.array(members)
            if taken[places].any():
                return None
            taken[places] = True
            blocks.append((places, least, most))
        if not taken.all():
            blocks.append((np.flatnonzero(~taken), 0.0, 1.0))
        return GroupedSimplex._of_blocks(shares, low, high, blocks)

    @staticmethod
    def _of_blocks(
        shares: FloatArray,
        low: FloatArray,
        high: FloatArray,
        parts: Sequence[tuple[NDArray[np.int64], float, float]],
    ) -> GroupedSimplex | None:
        least = np.array([max(a, low[places].sum()) for places, a, _ in parts])
        most = np.array([min(b, high[places].sum()) for places, _, b in parts])
        # What the others need and can take limits a sum too.
        least, most = (
            np.maximum(least, 1.0 - (most.sum() - most)),
            np.minimum(most, 1.0 - (least.sum() - least)),
        )
        if len(parts) > 1 and np.any(most - least < NARROW):
            return None
        blocks = [
            _Block(
                places,
                float(a),
                float(b),
                TruncatedSimplex(low[places], high[places], (float(a), float(b))),
            )
            for (places, _, _), a, b in zip(parts, least, most, strict=True)
        ]
        return GroupedSimplex(shares, blocks)

    def points(self, uniform: FloatArray) -> FloatArray:
        """Compositions (n, e) of numbers in [0, 1], (n, dimension); uniform where those are."""
        parts = [self._some(uniform[i : i + CHUNK]) for i in range(0, len(uniform), CHUNK)]
        found = np.concatenate(parts) if parts else np.zeros((0, len(self._shares)))
        return found @ self._shares

    def _some(self, uniform: FloatArray) -> FloatArray:
        z = np.zeros((len(uniform), len(self._shares)))
        left, column = np.ones(len(uniform)), 0
        for i, block in enumerate(self._blocks):
            if i == len(self._blocks) - 1:
                total = left
            else:
                total = self._total(i, left, uniform[:, column])
                column += 1
            width = block.simplex.dimension
            z[:, block.places] = block.simplex.points(uniform[:, column : column + width], total)
            column += width
            left = left - total
        return z

    def _total(self, i: int, left: FloatArray, uniform: FloatArray) -> FloatArray:
        """The sum of block i, given what is left to it and those after it; (n,)."""
        block, rest = self._blocks[i], self._rest[i]
        n = len(left)
        left = left[:1] if i == 0 else left  # before the first sum all points are alike
        low = np.maximum(block.low, left - self._most[i])
        high = np.maximum(np.minimum(block.high, left - self._least[i]), low)
        t = np.linspace(0.0, 1.0, LOCAL_NODES + 1)
        sums = low[:, None] + (high - low)[:, None] * t
        after = np.interp(left[:, None] - sums, np.linspace(0.0, 1.0, NODES + 1), rest)
        density = block.simplex.sum_density(sums) * after
        cells = 0.5 * (density[:, 1:] + density[:, :-1])
        integral = np.cumsum(cells, axis=1)
        wanted = uniform * integral[:, -1]
        if i == 0:
            cell = np.searchsorted(integral[0], wanted)
        else:
            cell = (integral < wanted[:, None]).sum(axis=1)
        cell = np.minimum(cell, LOCAL_NODES - 1)
        rows = np.arange(n) if i else np.zeros(n, dtype=np.int64)
        over = wanted - (integral[rows, cell] - cells[rows, cell])
        f, rise = density[rows, cell], density[rows, cell + 1] - density[rows, cell]
        root = f + np.sqrt(np.maximum(f * f + 2.0 * rise * over, 0.0))
        share = np.divide(2.0 * over, root, out=np.array(uniform), where=root > 0)
        found: FloatArray = low + (high - low) * (cell + np.clip(share, 0.0, 1.0)) / LOCAL_NODES
        # Where the tables hold nothing any more the range is far in a tail: take it evenly.
        return np.where(integral[:, -1] > 0, found, low + (high - low) * uniform)


def _truncated(block: _Block, nodes: FloatArray) -> FloatArray:
    """A block's density on the nodes, 0 outside its range; cells that it cuts count in part."""
    half = 0.5 / NODES
    inside = np.minimum(nodes + half, block.high) - np.maximum(nodes - half, block.low)
    density: FloatArray = block.simplex.sum_density(np.clip(nodes, block.low, block.high))
    return density * np.clip(inside / (2 * half), 0.0, 1.0)


def _clusters(space: CompositionSet) -> tuple[FloatArray, FloatArray, FloatArray] | None:
    """Elements in fixed ratios as one: shares (c, e) with row sums 1, low and high (c,)."""
    amount: dict[str, dict[str, float]] = {e: {e: 1.0} for e in space.elements}
    for ratio in space.ratios:
        one, other = amount[ratio.first], amount[ratio.second]
        if one is other:
            return None  # a circle of ratios
        # Scaled so that first : second comes out as asked.
        scale = one[ratio.first] * ratio.second_amount / ratio.first_amount / other[ratio.second]
        joined = one | {e: scale * v for e, v in other.items()}
        for element in joined:
            amount[element] = joined
    unique = list({id(group): group for group in amount.values()}.values())
    shares = np.array([[g.get(e, 0.0) for e in space.elements] for g in unique])
    shares /= shares.sum(axis=1, keepdims=True)
    there = shares > 0
    safe = np.where(there, shares, 1.0)
    low = np.where(there, space.low / safe, 0.0).max(axis=1)
    high = np.where(there, space.high / safe, np.inf).min(axis=1)
    return shares, low, np.minimum(high, 1.0)
