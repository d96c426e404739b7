"""Exact answers for ``spinodal verify composition``: coordinates, mixtures, bounds, words."""

from __future__ import annotations

import numpy as np

from loop.composition import (
    FloatArray,
    aitchison_distance,
    clr,
    decode,
    encode,
    helmert_basis,
    ilr,
    ilr_inverse,
    lever_rule,
    phase_fraction,
    present_ilr,
    present_ilr_inverse,
    project_to_bounds,
    replace_zeros,
)
from loop.composition_set_cases import cases as set_cases
from loop.formula import (
    atomic_fractions,
    canonical_text,
    from_formula,
    mass_fractions,
    parse_composition,
    read_composition,
    to_formula,
)
from loop.path_cases import cases as path_cases
from loop.paths import geodesic_path, straight_path
from loop.round_trip_cases import cases as round_trip_cases
from loop.verification import Case, absolute_case, relative_case

ROOM = "composition"
ELEMENTS = ("Ni", "Al", "Cr", "Co", "Ti", "Mo", "W", "Ta", "Re")


def cases() -> list[Case]:
    """All checks of the composition room; fixed inputs, so the same figures on every run."""
    rng = np.random.default_rng(20_030_401)
    x, y = rng.dirichlet(np.ones(9), size=(2, 200))
    return [
        *_coordinates(x, y),
        *_paths(x, y),
        *_mixtures(),
        *_bounds(rng),
        *_words(),
        *set_cases(),
        *path_cases(),
        *round_trip_cases(),
    ]


def _largest(name: str, error: FloatArray, allowed: float, source: str) -> Case:
    """A case whose exact answer is an error of 0."""
    return absolute_case(ROOM, name, 0.0, float(np.max(np.abs(error))), allowed, source)


def _coordinates(x: FloatArray, y: FloatArray) -> list[Case]:
    egozcue = "Egozcue et al. 2003, Math. Geol. 35, 279"
    basis = helmert_basis(9)
    # For two parts, the only coordinate is ln(x1 / x2) / sqrt 2.
    two = float(ilr(np.array([0.8, 0.2]))[0])
    apart = np.linalg.norm(ilr(x) - ilr(y), axis=1) - aitchison_distance(x, y)
    sparse = np.where(x < np.quantile(x, 0.3), 0.0, x)
    sparse /= sparse.sum(axis=1, keepdims=True)
    there = present_ilr_inverse(present_ilr(sparse))
    back = decode(encode(sparse))
    kept = float(np.mean((back == 0) == (sparse == 0)))
    return [
        relative_case(
            ROOM, "ilr of (0.8, 0.2)", np.log(4.0) / np.sqrt(2.0), two, 1e-14, "ln(x1/x2)/√2"
        ),
        _largest("Helmert basis orthonormal", basis @ basis.T - np.eye(8), 1e-14, egozcue),
        _largest("clr sums to 0", clr(x).sum(axis=1), 1e-12, "Aitchison 1982"),
        _largest("ilr keeps Aitchison distances", apart, 1e-12, egozcue),
        _largest("ilr and back", ilr_inverse(ilr(x)) - x, 1e-14, egozcue),
        _largest(
            "zero replacement keeps ratios",
            np.diff(np.log(replace_zeros(sparse, 1e-4)[sparse > 0] / sparse[sparse > 0]))
            * (np.diff(np.nonzero(sparse > 0)[0]) == 0),
            1e-12,
            "Martín-Fernández et al. 2003, Math. Geol. 35, 253",
        ),
        _largest("encode and back, with exact zeros", back - sparse, 1e-14, "round trip"),
        _largest("ilr of present elements and back", there - sparse, 1e-14, "round trip"),
        absolute_case(ROOM, "share of zeros that stay exactly 0", 1.0, kept, 0.0, "round trip"),
    ]


def _paths(x: FloatArray, y: FloatArray) -> list[Case]:
    t = np.linspace(0.0, 1.0, 33)
    path = geodesic_path(x[0], y[0], t)
    length = float(aitchison_distance(path[1:], path[:-1]).sum())
    straight = straight_path(x[0], y[0], t)
    steps = np.linalg.norm(np.diff(straight, axis=0), axis=1)
    ends = np.stack([path[0] - x[0], path[-1] - y[0]])
    # Halfway between (a, 1-a) and (1-a, a) both paths meet at (1/2, 1/2).
    half = geodesic_path(np.array([0.9, 0.1]), np.array([0.1, 0.9]), np.array([0.5]))
    return [
        relative_case(
            ROOM,
            "length of a geodesic",
            float(aitchison_distance(x[0], y[0])),
            length,
            1e-12,
            "Aitchison distance of its ends",
        ),
        relative_case(
            ROOM,
            "length of a straight path",
            float(np.linalg.norm(x[0] - y[0])),
            float(steps.sum()),
            1e-12,
            "Euclidean distance of its ends",
        ),
        _largest("ends of a geodesic", ends, 1e-14, "closed form"),
        absolute_case(ROOM, "middle of a symmetric geodesic", 0.5, float(half[0, 0]), 1e-15),
    ]


def _mixtures() -> list[Case]:
    nickel, aluminide = from_formula("Ni", ("Ni", "Al")), from_formula("Ni3Al", ("Ni", "Al"))
    overall = lever_rule(np.array([0.4, 0.6]), np.stack([nickel, aluminide]))
    # 3 x 58.6934 g Ni and 26.9815 g Al in a mole of Ni3Al (CIAAW standard atomic masses).
    share = 26.9815385 / (3 * 58.6934 + 26.9815385)
    mass = mass_fractions(aluminide, ("Ni", "Al"))
    return [
        absolute_case(ROOM, "Al in 60 % Ni3Al, 40 % Ni", 0.15, float(overall[1]), 1e-15, "0.6/4"),
        absolute_case(
            ROOM,
            "phase fraction of that mixture",
            0.6,
            phase_fraction(overall, nickel, aluminide),
            1e-14,
            "lever rule",
        ),
        relative_case(ROOM, "mass fraction of Al in Ni3Al", share, float(mass[1]), 1e-6, "CIAAW"),
        _largest(
            "mass fractions and back",
            atomic_fractions(mass, ("Ni", "Al")) - aluminide,
            1e-15,
            "round trip",
        ),
    ]


def _bounds(rng: np.random.Generator) -> list[Case]:
    low = np.array([0.38, 0.015, 0.05, 0.04, 0.0, 0.0, 0.0, 0.0, 0.0])
    high = np.array([0.70, 0.07, 0.30, 0.29, 0.03, 0.07, 0.04, 0.012, 0.06])
    x = rng.normal(1 / 9, 0.3, size=(500, 9))
    y = project_to_bounds(x, low, high)
    brucker = "Brucker 1984, Oper. Res. Lett. 3, 163"
    # KKT: x - y is one number λ per row where y is inside, at least λ at the upper bound and at
    # most λ at the lower one; so max over (y > low) of it <= min over (y < high) of it.
    gap = x - y
    least = np.where(y < high, gap, -np.inf).max(axis=1)
    most = np.where(y > low, gap, np.inf).min(axis=1)
    outside = np.maximum(np.maximum(low - y, y - high), 0.0)
    # Onto the simplex without upper bounds (0.9, 0.5, -0.2) goes to (0.7, 0.3, 0).
    known = project_to_bounds(np.array([0.9, 0.5, -0.2]), np.zeros(3), np.ones(3))
    return [
        absolute_case(ROOM, "projection of (0.9, 0.5, -0.2)", 0.7, float(known[0]), 1e-15, brucker),
        _largest("projection: sum 1", y.sum(axis=1) - 1.0, 1e-12, brucker),
        _largest("projection: inside the bounds", outside, 0.0, brucker),
        _largest("projection: KKT conditions", np.maximum(least - most, 0.0), 1e-12, brucker),
        _largest(
            "projection leaves what is inside",
            project_to_bounds(y, low, high) - y,
            1e-14,
            "idempotent",
        ),
    ]


def _words() -> list[Case]:
    rng = np.random.default_rng(7)
    x = rng.dirichlet(np.ones(9), size=50)
    back = np.array([from_formula(to_formula(row, ELEMENTS), ELEMENTS) for row in x])
    alloy = from_formula("Al0.3CoCrFeNi", ("Al", "Co", "Cr", "Fe", "Ni"))
    # 6 g Al, 4 g V and 90 g Ti over their standard atomic masses (CIAAW).
    moles = {"Ti": 90 / 47.867, "Al": 6 / 26.9815384, "V": 4 / 50.9415}
    titanium = parse_composition("Ti-6Al-4V wt%")["Al"]
    texts = [canonical_text(row, ELEMENTS, by_weight=True) for row in x]
    weighed = np.array([read_composition(text, ELEMENTS) for text in texts])
    return [
        relative_case(
            ROOM,
            "Al in Ti-6Al-4V by weight",
            moles["Al"] / sum(moles.values()),
            titanium,
            1e-6,
            "CIAAW",
        ),
        _largest("text by weight and back", weighed - x, 1e-12, "round trip"),
        relative_case(ROOM, "Al in Al0.3CoCrFeNi", 0.3 / 4.3, float(alloy[0]), 1e-15, "0.3/4.3"),
        _largest("formula and back", back - x, 1e-15, "round trip"),
    ]
