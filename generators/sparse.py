"""Sparse compositions as coordinates: which elements, then how much of each.

Of thirty elements an alloy has five. Its composition is two things of different kinds: a set, and
ratios of amounts within it. Each element has two coordinates:

    presence   an analog bit, +1 there and -1 absent (T. Chen, R. Zhang, G. Hinton, Analog Bits,
               ICLR 2023), read by its sign
    amount     the centred log-ratio within the elements that are there (J. Aitchison, J. R. Stat.
               Soc. B 44, 139 (1982)), standardised by element; 0, the usual amount, where absent

An absent element comes back as exactly 0, whatever its amount says, and the amounts of the others
are closed to sum 1 by a softmax. What is left to do for the bounds is a projection.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from loop.composition import Coordinates, present_clr, present_clr_inverse, project_to_bounds
from loop.space import DesignSpace

FloatArray = NDArray[np.float64]
ABSENT = -1.0  # the presence coordinate of an element that is not there
POOLED = 5.0  # alloys' worth of the common spread in the spread of one element
LEAST_SPREAD = 0.05  # of log-ratios: amounts that never vary are known this well
FARTHEST = 0.5  # from 0, where presence may begin
MOST = 30.0  # standard deviations that an amount is taken to lie from the usual one


@dataclass(frozen=True)
class SparseCode:
    """Phase compositions (n, p, e) to coordinates (n, p, 2 e), presence first, and back.

    ``usual``, ``spread``: of the log-ratios of present amounts, (p, e). ``std``: of the present
    fractions themselves, (p, e). ``absent``: 1 below where presence begins, -1 before it is
    ``calibrated``; -inf where an element may not be absent.
    """

    usual: FloatArray
    spread: FloatArray
    std: FloatArray
    absent: FloatArray

    @staticmethod
    def fit(x: FloatArray, low: FloatArray) -> SparseCode:
        """From data (n, p, e) and lower bounds (p, e).

        Spreads of elements that few alloys have are drawn to the common one.
        """
        logs, present = present_clr(x)
        count = present.sum(0)
        usual = logs.sum(0) / np.maximum(count, 1)
        squares = np.where(present, (logs - usual) ** 2, 0.0).sum(0)
        common = squares.sum() / max(1, int(count.sum()))
        spread = np.sqrt((squares + POOLED * common) / (count + POOLED))
        mean = x.sum(0) / np.maximum(count, 1)
        variance = np.where(present, (x - mean) ** 2, 0.0).sum(0) / np.maximum(count, 1)
        return SparseCode(
            usual,
            np.maximum(spread, LEAST_SPREAD),
            np.where(variance > 1e-16, np.sqrt(np.maximum(variance, 1e-16)), 1.0),
            np.where(low == 0, ABSENT, -np.inf),
        )

    def calibrated(self, z: FloatArray, shares: FloatArray) -> SparseCode:
        """The code that reads coordinates z (n, p, 2 e) so that elements are there as often as due.

        ``shares``: of designs that have an element, (p, e). A model that is not sure whether an
        element is there draws a value between -1 and 1, more often for a rare one: read at 0, rare
        elements would be too rare. The place is at most ``FARTHEST`` from there.
        """
        bits = np.sort(z[..., : z.shape[-1] // 2], axis=0)
        n = len(bits)
        above = np.clip(np.round(n * (1.0 - shares)).astype(np.int64), 0, n)
        padded = np.concatenate([bits[:1] - 1.0, bits, bits[-1:] + 1.0])
        low, high = (np.take_along_axis(padded, (above + i)[None], 0)[0] for i in (0, 1))
        place = np.clip(0.5 * (low + high), -FARTHEST, FARTHEST)
        return replace(self, absent=np.where(np.isinf(self.absent), -np.inf, place + ABSENT))

    @property
    def size(self) -> int:
        """Coordinates of one phase."""
        return 2 * self.usual.shape[1]

    def encode(self, x: FloatArray) -> FloatArray:
        """(n, p, e) -> (n, p, 2 e)."""
        logs, present = present_clr(x)
        amounts = np.where(present, (logs - self.usual) / self.spread, 0.0)
        return np.concatenate([np.where(present, 1.0, ABSENT), amounts], axis=-1)

    def present(self, z: FloatArray, space: DesignSpace) -> NDArray[np.bool_]:
        """(n, p, e) which elements coordinates (n, p, 2 e) have.

        Where the upper bounds of these do not reach sum 1, the likeliest others as well.
        """
        _, high = space.bound_arrays()
        bits = z[..., : z.shape[-1] // 2]
        there = (bits >= self.absent + 1.0) & (high > 0)
        short = np.where(there, high, 0.0).sum(-1) < 1.0
        if short.any():
            rank = np.where(there, np.inf, np.where(high > 0, bits, -np.inf))[short]
            order = np.argsort(-rank, axis=-1, kind="stable")
            most = np.broadcast_to(high, bits.shape)[short]
            before = np.cumsum(np.take_along_axis(most, order, -1), -1)
            needed = np.concatenate([np.zeros((len(before), 1)), before[:, :-1]], -1) < 1.0
            more = np.zeros_like(needed)
            np.put_along_axis(more, order, needed, -1)
            there[short] |= more & (most > 0)
        return there

    def decode(self, z: FloatArray, space: DesignSpace) -> FloatArray:
        """Feasible compositions: inside the bounds, rows sum to 1, absent elements exactly 0."""
        low, high = space.bound_arrays()
        there = self.present(z, space)
        amounts = np.clip(z[..., z.shape[-1] // 2 :], -MOST, MOST)
        x = present_clr_inverse(Coordinates(self.usual + self.spread * amounts, there))
        return project_to_bounds(x, np.broadcast_to(low, x.shape), np.where(there, high, 0.0))

    def settled(self, z: FloatArray, space: DesignSpace) -> FloatArray:
        """The coordinates (n, p, 2 e) with presence as it is read: +1 or -1."""
        there = self.present(z, space)
        return np.concatenate([np.where(there, 1.0, ABSENT), z[..., z.shape[-1] // 2 :]], axis=-1)
