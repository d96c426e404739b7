"""How a set of alloys looks beside another: elements, pairs of elements, descriptors, novelty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, wasserstein_distance

from loop.candidate import Candidate
from loop.descriptors import FINITE, descriptors
from loop.known_alloys import SAME, KnownAlloys
from loop.space import DesignSpace

FloatArray = NDArray[np.float64]
FEASIBLE = 1e-9  # sum and bounds
TRACE = 1e-6  # atomic fraction: present amounts below it would be zeros that are not exact
MOST = 40  # elements of one alloy


def valid(space: DesignSpace, designs: Sequence[Candidate]) -> dict[str, Any]:
    """Shares of designs that are in the space, feasible, and have no zero that is not exact.

    ``unique``: of different content, as their ids tell.
    """
    x = np.stack([design.composition() for design in designs])
    low, high = space.bound_arrays()
    outside = np.maximum(np.maximum(low[0] - x, x - high[0]).max(1), np.abs(x.sum(1) - 1))
    return {
        "in_space": float(np.mean([not space.violations(design) for design in designs])),
        "feasible_within_1e-9": float(np.mean(outside <= FEASIBLE)),
        "largest_violation": float(outside.max()),
        "zeros_exact": float(np.mean(((x == 0) | (x >= TRACE)).all(1))),
        "least_amount": float(x[x > 0].min()),
        "unique": len({design.id for design in designs}) / len(designs),
    }


class Reference:
    """Real alloys (n, e) that others are held against, and descriptors in units of their spread."""

    def __init__(self, x: FloatArray, elements: tuple[str, ...]) -> None:
        self.x, self.elements = x, elements
        self.described = self.descriptors(x)
        self.spread = self.described.std(0)

    def descriptors(self, x: FloatArray) -> FloatArray:
        """(n, d) of alloys."""
        return descriptors(x, self.elements, FINITE, missing="leave_out")

    def beside(self, x: FloatArray) -> dict[str, Any]:
        """How the distribution of alloys (m, e) differs from these.

        ``elements_per_alloy``, total variation distance of the counts; ``element_shares`` and
        ``pair_shares``, summed absolute differences of how often an element, or two together, are
        there, over the sum here; ``descriptors``, Wasserstein-1 distances over the standard
        deviation here.
        """
        counts = [np.bincount((y > 0).sum(1), minlength=MOST) / len(y) for y in (x, self.x)]
        ours, real = pair_shares(x), pair_shares(self.x)
        upper = np.triu_indices(len(self.elements), 1)
        described = self.descriptors(x)
        distances = {
            name: float(wasserstein_distance(described[:, j], self.described[:, j]) / spread)
            for j, (name, spread) in enumerate(zip(FINITE, self.spread, strict=True))
        }
        return {
            "elements_per_alloy": float(0.5 * np.abs(counts[0] - counts[1]).sum()),
            "mean_elements": float((x > 0).sum(1).mean()),
            "element_shares": float(
                np.abs(np.diag(ours) - np.diag(real)).sum() / np.diag(real).sum()
            ),
            "pair_shares": float(np.abs(ours - real)[upper].sum() / real[upper].sum()),
            "descriptors_mean": float(np.mean(list(distances.values()))),
            "descriptors": distances,
        }


def pair_shares(x: FloatArray) -> FloatArray:
    """(e, e) shares of alloys (n, e) that have two elements together; the diagonal: one."""
    there = (x > 0).astype(np.float64)
    return there.T @ there / len(x)


def novelty(x: FloatArray, known: FloatArray) -> dict[str, Any]:
    """How far alloys (m, e) are from known ones (n, e).

    ``difference``: to the nearest one, sum of absolute differences of atomic fractions.
    ``copies``: share of those within ``SAME``. ``elements_known``: share whose set of elements is a
    known alloy's; of these ``aitchison_median``. ``pair_never_seen``: share with two elements that
    no known alloy has together.
    """
    near = KnownAlloys(known).nearest(x)
    never = pair_shares(known) == 0
    strange = np.einsum("ni,ij,nj->n", (x > 0) * 1.0, never * 1.0, (x > 0) * 1.0) > 0
    same = near.aitchison[near.known_elements]
    return {
        "difference_quantiles": {
            f"{q:g}": float(np.quantile(near.difference, q)) for q in (0.1, 0.5, 0.9)
        },
        "copies": float(near.copies().mean()),
        "copies_within": SAME,
        "elements_known": float(near.known_elements.mean()),
        "aitchison_median": float(np.median(same)) if len(same) else None,
        "pair_never_seen": float(strange.mean()),
        "sets_of_elements": len(np.unique(x > 0, axis=0)) / len(x),
    }


def share(hits: NDArray[np.bool_]) -> dict[str, Any]:
    """Of hits (n,) how many, and the 95 % interval of the share (Wilson)."""
    k, n = int(hits.sum()), len(hits)
    ends = binomtest(k, n).proportion_ci(0.95, method="wilson")
    return {"hits": k, "of": n, "share": k / n, "interval_95": [float(ends.low), float(ends.high)]}
