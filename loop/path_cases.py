"""Exact answers for ``spinodal verify composition``: paths on which a property moves one way."""

from __future__ import annotations

import numpy as np

from loop.composition import FloatArray
from loop.monotone import monotone_path
from loop.paths import positions, straight_path
from loop.polytope import CompositionSet
from loop.verification import Case, absolute_case

ROOM = "composition"
ELEMENTS = ("Ni", "Co", "Al", "Cr")
ENDS = np.array([[0.7, 0.1, 0.1, 0.1], [0.1, 0.5, 0.2, 0.2]])
SOURCE = "scored again"


def cases() -> list[Case]:
    """Monotone paths of properties in closed form; no random numbers."""
    return [*_nearest(), *_entropy()]


def _nearest() -> list[Case]:
    """The nearest point with w x = c is x + (c - w x) w / |w|², w less its mean."""
    weights = np.array([1.0, -2.0, 0.5, 3.0])
    x = straight_path(ENDS[0], ENDS[1], positions(3))[:, None]
    x[1, 0] = [0.15, 0.2, 0.25, 0.4]

    def linear(y: FloatArray, _: FloatArray) -> FloatArray:
        found: FloatArray = (y @ weights)[:, 0]
        return found

    found = monotone_path(x, positions(3), linear, [CompositionSet.of(ELEMENTS)])
    w = weights - weights.mean()
    moved = found.path[1, 0] - x[1, 0]
    off = float(np.abs(moved - w * (moved @ w) / (w @ w)).max())
    return [
        absolute_case(
            ROOM, "monotone path: a linear property is met by the least step", 0.0, off, 1e-12,
            "closed form",
        )
    ]  # fmt: skip


def _entropy() -> list[Case]:
    """Mixing entropy passes a greatest value on the straight line; around it, it need not."""
    space = CompositionSet.of(ELEMENTS, ["Ni + Co >= 0.35", "Cr <= 0.3"])
    t = positions(17)
    line = straight_path(ENDS[0], ENDS[1], t)[:, None]

    def entropy(y: FloatArray, _: FloatArray) -> FloatArray:
        found: FloatArray = -(y * np.log(np.where(y > 0, y, 1.0))).sum(axis=(1, 2))
        return found

    def slope(y: FloatArray, _: FloatArray) -> FloatArray:
        return -np.log(np.where(y > 0, y, 1.0)) - 1

    rows = []
    for words, gradients in (("with derivatives", slope), ("without", None)):
        found = monotone_path(line, t, entropy, [space], gradients=gradients)
        values = entropy(found.path, t)
        falls = float(np.maximum(-np.diff(values), 0.0).max())
        outside = float(np.sum(~space.is_feasible(found.path[:, 0])))
        ends = float(np.abs(found.path[[0, -1]] - line[[0, -1]]).max())
        name = f"monotone path, {words}"
        rows += [
            absolute_case(ROOM, f"{name}: largest step back", 0.0, falls, 0.0, SOURCE),
            absolute_case(ROOM, f"{name}: points outside", 0.0, outside, 0.0, SOURCE),
            absolute_case(ROOM, f"{name}: its ends", 0.0, ends, 0.0, "exact"),
        ]
    return rows
