"""Exact answers for ``spinodal verify composition``: feasible sets, their points and paths."""

from __future__ import annotations

import numpy as np

from loop.composition import FloatArray
from loop.formula import SYMBOLS
from loop.grouped_simplex import GroupedSimplex
from loop.paths import feasible_path, geodesic_path, positions
from loop.polytope import CompositionSet, feasible_point
from loop.projection import project
from loop.sampling import sample, sobol
from loop.truncated_simplex import TruncatedSimplex
from loop.verification import Case, absolute_case

ROOM = "composition"
THIRTY = SYMBOLS[2:32]
GROUPS = ("Ni + Co + Fe >= 0.5", "Al + Ti <= 0.2", "Cr:Cu = 2:1", "0.01 <= Mn <= 0.1")


def cases() -> list[Case]:
    """Checks of feasible sets; fixed seeds, so the same figures on every run."""
    return [*_points(), *_uniform(), *_projection(), *_paths()]


def _outside(x: FloatArray, space: CompositionSet) -> float:
    """The largest amount by which a constraint is broken; infinite where too many are present."""
    values = x @ space.rows.matrix.T
    worst = [
        np.max(space.low - x),
        np.max(x - space.high),
        np.max(np.abs(x.sum(axis=1) - 1.0)),
        np.max(space.rows.low - values, initial=0.0),
        np.max(values - space.rows.high, initial=0.0),
    ]
    if space.at_most is not None and np.any((x != 0).sum(axis=1) > space.at_most):
        return float(np.inf)
    return float(max(*worst, 0.0))


def _points() -> list[Case]:
    rng = np.random.default_rng(20_030_402)
    groups = CompositionSet.of(THIRTY, GROUPS)
    sparse = CompositionSet.of(THIRTY, [*GROUPS, "at most 6 elements"])
    crossing = CompositionSet.of(THIRTY, ["Ni + Co >= 0.5", "Co + 2 Al >= 0.3", "Cr:Fe = 1:1"])
    found = [
        ("2,000 points of 30 elements with groups", sample(groups, 2000, rng), groups),
        ("2,000 of them with at most 6 elements", sample(sparse, 2000, rng), sparse),
        ("200 points where groups cross", sample(crossing, 200, rng, steps=40), crossing),
        ("512 Sobol points with groups", sobol(groups, 512, seed=1), groups),
    ]
    return [
        absolute_case(ROOM, f"{name}: farthest outside", 0.0, _outside(x, space), 1e-9)
        for name, x, space in found
    ]


def _uniform() -> list[Case]:
    rng = np.random.default_rng(20_030_403)
    capped = TruncatedSimplex(np.zeros(30), np.tile([0.02, 0.1, 0.9], 10))
    x = capped.points(rng.random((1000, 29)))
    spread = float(np.std(capped.log_density(x)))
    group = GroupedSimplex.made(CompositionSet.of(THIRTY[:5], ["Li + Be >= 0.5"]))
    assert group is not None
    # Midpoints of 2,000 equal parts of the first number: the mean of the sum by the midpoint rule.
    numbers = np.full((2000, 4), 0.5)
    numbers[:, 0] = (np.arange(2000) + 0.5) / 2000
    mean = float(group.points(numbers)[:, :2].sum(axis=1).mean())
    # The sum is Beta(2, 3) above 1/2: integrals of 12 t^2 (1 - t)^2 and of 12 t (1 - t)^2.
    exact = (0.4 - 0.2) / 0.3125
    return [
        absolute_case(
            ROOM, "uniform in 30 capped elements: spread of ln density", 0.0, spread, 1e-4
        ),
        absolute_case(
            ROOM, "mean of Li + Be >= 1/2 of 5 elements", exact, mean, 1e-5, "Beta(2, 3)"
        ),
    ]


def _projection() -> list[Case]:
    rng = np.random.default_rng(20_030_404)
    space = CompositionSet.of(THIRTY, GROUPS)
    x = rng.normal(1 / 30, 0.2, size=(40, 30))
    y = project(x, space)
    gains = []
    for one, nearest in zip(x, y, strict=True):
        away = one - nearest
        farthest = feasible_point(space.all_rows(), 30, objective=-away)
        gains.append(np.inf if farthest is None else away @ (farthest - nearest))
    known = project([0.1, 0.2, 0.4, 0.3], CompositionSet.of(THIRTY[:4], ["Li + Be >= 0.5"]))
    expected = np.array([0.2, 0.3, 0.3, 0.2])
    return [
        absolute_case(
            ROOM,
            "projection onto Li + Be >= 1/2",
            0.0,
            float(np.abs(known - expected).max()),
            1e-14,
            "closed form",
        ),
        absolute_case(
            ROOM, "projection with groups: farthest outside", 0.0, _outside(y, space), 1e-9
        ),
        absolute_case(
            ROOM,
            "projection with groups: no point is nearer",
            0.0,
            max(0.0, float(np.max(gains))),
            1e-6,  # what the linear programme keeps its own constraints to, times |x - y|
            "variational inequality",
        ),
    ]


def _paths() -> list[Case]:
    space = CompositionSet.of(THIRTY[:3], ["B <= 0.46"])
    a, b = np.array([0.5, 0.05, 0.45]), np.array([0.05, 0.5, 0.45])
    t = positions(21)
    free = geodesic_path(a, b, t)
    inside = feasible_path(a, b, t, space, geodesic=True)
    middle = 0.45 / (0.45 + 2 * np.sqrt(0.025))
    ends = float(np.abs(inside[[0, -1]] - np.stack([a, b])).max())
    return [
        absolute_case(
            ROOM, "middle of a geodesic of three", middle, float(free[10, 2]), 1e-15, "closed form"
        ),
        absolute_case(
            ROOM, "feasible geodesic: farthest outside", 0.0, _outside(inside, space), 1e-9
        ),
        absolute_case(ROOM, "feasible geodesic: its ends", 0.0, ends, 0.0, "exact"),
    ]
