"""The phase field's and the solutions' part of ``spinodal verify``."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from loop.verification import Case, absolute_case, relative_case
from simulators.free_energy import PolynomialEnergy, SolutionEnergy, darken_mobility
from simulators.miscibility import binodal, consolute_point
from simulators.phase_field import evolve, growth_rates
from simulators.solution import GAS_CONSTANT, Solution
from simulators.thermodynamics import equilibrium

FloatArray = NDArray[np.float64]

ROOM = "simulators"
# Free energy of PFHub benchmark 1a, (time, value, allowed error), as published by memphis
# (memphis-snl/memphis, BM_001); codes differ by about 2 %, and by up to 10 % around the drop at
# t = 10 to 20.
PFHUB_1A = (
    (2.0, 318.547, 0.03),
    (5.0, 316.416, 0.03),
    (10.0, 297.757, 0.1),
    (20.0, 209.220, 0.1),
    (30.0, 193.033, 0.03),
    (50.0, 164.842, 0.03),
    (70.0, 148.106, 0.03),
    (100.0, 135.221, 0.03),
)
PFHUB_SOURCE = "Jokisaari et al. 2017, result of memphis"
# F. H. Hayes, H. L. Lukas, G. Effenberg and G. Petzow, Z. Metallkd. 77, 749 (1986).
SILVER_COPPER = Solution(
    ("Ag", "Cu"), {("Ag", "Cu"): ((36061.88, -10.44288), (-4310.12, 0.0))}, name="fcc"
)


def cases() -> list[Case]:
    """Every case, computed now on the CPU; a few seconds."""
    return [*_solutions(), *_pfhub(), *_growth(), *_interface(), *_coarsening()]


def pfhub_start(n: int) -> FloatArray:
    """Initial field of PFHub benchmark 1a on n x n points of the 200 x 200 square, (1, n, n)."""
    y, x = np.indices((n, n)) * (200.0 / n)
    waves = (
        np.cos(0.105 * x) * np.cos(0.11 * y)
        + (np.cos(0.13 * x) * np.cos(0.087 * y)) ** 2
        + np.cos(0.025 * x - 0.15 * y) * np.cos(0.07 * x - 0.02 * y)
    )
    field: FloatArray = (0.5 + 0.01 * waves)[None]
    return field


def _solutions() -> Iterator[Case]:
    w, t = 20_000.0, 600.0
    regular = Solution(("A", "B"), {("A", "B"): ((w, 0.0),)})
    low = float(binodal(regular, t)[0, 0])
    at = w * (1 - 2 * low) / (GAS_CONSTANT * np.log((1 - low) / low))
    yield relative_case(
        ROOM, "regular solution, temperature of its binodal, K", t, float(at), 1e-12, "closed form"
    )
    yield relative_case(
        ROOM,
        "regular solution, consolute temperature, K",
        w / (2 * GAS_CONSTANT),
        consolute_point(regular)[0],
        1e-12,
        "w / 2R",
    )
    silver, copper = binodal(SILVER_COPPER, 779.1 + 273.15)[0]
    for name, x, truth in (("Ag", float(silver), 8.27), ("Cu", float(copper), 92.53)):
        mass = 100 * x * 63.546 / (x * 63.546 + (1 - x) * 107.8682)
        yield relative_case(
            ROOM,
            f"Ag-Cu at the eutectic, mass % Cu in ({name})",
            truth,
            mass,
            1e-3,
            "NIST, Hayes et al. 1986",
        )
    names = ("A", "B", "C")
    interactions = {("A", "B"): ((w, 0.0),), ("A", "C"): ((w, 0.0),), ("B", "C"): ((w, 0.0),)}
    rest = equilibrium(Solution(names, interactions), [0.3, 0.36, 0.34], t)
    y = float(rest.compositions[0, 1])
    at = w * (1 - 3 * y) / (GAS_CONSTANT * np.log((1 - 2 * y) / y))
    yield relative_case(
        ROOM, "three phases of a symmetric ternary, K", t, float(at), 1e-9, "closed form"
    )


def _pfhub() -> Iterator[Case]:
    n = 128
    start = pfhub_start(n)
    found = evolve(
        start,
        PolynomialEnergy.double_well(5.0, 0.3, 0.7),
        times=[time for time, _, _ in PFHUB_1A],
        gradient=2.0,
        mobility=5.0,
        spacing=200 / n,
    )
    for (time, value, allowed), energy in zip(PFHUB_1A, found.energies[0], strict=True):
        yield relative_case(
            ROOM,
            f"phase field, PFHub 1a, energy at t = {time:g}",
            value,
            float(energy) * 200**2,
            allowed,
            PFHUB_SOURCE,
        )
    drift = float(found.fields[0, -1].mean() - start.mean())
    yield absolute_case(ROOM, "phase field, mean composition kept", 0.0, drift, 1e-15, "no flux")
    yield absolute_case(
        ROOM,
        "phase field, greatest rise of the energy",
        0.0,
        max(0.0, float(found.rise[0])),
        1e-13,
        "gradient flow",
    )


def _growth() -> Iterator[Case]:
    """Small waves against the dispersion relation, binary and ternary."""
    n, a = 64, 1e-4
    wave = np.cos(2 * np.pi * 4 * np.arange(n) / n)
    k = 2 * np.pi * 4 / n
    energy = PolynomialEnergy.double_well(5.0, 0.3, 0.7)
    rate = float(growth_rates(k, -0.8, 2.0, 5.0)[0, 0])
    start = np.broadcast_to(0.5 + a * wave, (1, 4, n))
    found = evolve(start, energy, times=[2 / rate], gradient=2.0, mobility=5.0, tolerance=1e-4)
    grown = float((found.fields[0, 0, 0, 0] - 0.5) @ wave / (n / 2) / a)
    yield relative_case(
        ROOM, "phase field, growth rate, binary", rate, np.log(grown) * rate / 2, 1e-3, "Cahn 1961"
    )
    rt = GAS_CONSTANT * 1000.0
    solution = Solution(
        ("A", "B", "C"),
        {
            ("A", "B"): ((3.6 * rt, 0.0),),
            ("A", "C"): ((3.2 * rt, 0.0),),
            ("B", "C"): ((3.8 * rt, 0.0),),
        },
    )
    mean = np.array([0.4, 0.3, 0.3])
    stiff = np.array([[3.0, 1.2], [1.2, 2.5]])
    mobility = darken_mobility(mean, [1.0, 0.5, 2.0])
    curvature = solution.curvature(mean, 1000.0) / rt
    rates, shapes = np.linalg.eig(-(k**2) * mobility @ (curvature + k**2 * stiff))
    first = int(np.argmax(rates.real))
    rate, shape = float(rates[first].real), shapes[:, first].real
    start = (mean[1:, None, None] + a * shape[:, None, None] * wave * np.ones((1, 4, 1)))[None]
    found = evolve(
        start,
        SolutionEnergy(solution, [1000.0]),
        times=[2 / rate],
        gradient=stiff,
        mobility=mobility,
        tolerance=1e-4,
    )
    grown = float(
        ((found.fields[0, 0, :, 0] - mean[1:, None]) @ wave / (n / 2) / a) @ shape / (shape @ shape)
    )
    yield relative_case(
        ROOM,
        "phase field, growth rate, ternary",
        rate,
        np.log(grown) * rate / 2,
        1e-3,
        "de Fontaine 1973",
    )


def _interface() -> Iterator[Case]:
    """Energy of a flat interface of the double well, sqrt(2 K rho) (b - a)^3 / 6."""
    n, rho, stiff, spacing = 96, 5.0, 2.0, 0.75
    x = np.abs(np.arange(n) - n / 2 + 0.5) * spacing
    start = np.broadcast_to(0.3 + 0.4 * (x < 18), (1, 4, n))
    found = evolve(
        start,
        PolynomialEnergy.double_well(rho, 0.3, 0.7),
        times=[2000.0],
        gradient=stiff,
        mobility=5.0,
        spacing=spacing,
    )
    yield relative_case(
        ROOM,
        "phase field, energy of an interface",
        (2 * stiff * rho) ** 0.5 * 0.4**3 / 6,
        float(found.energies[0, 0]) * n * spacing / 2,
        1e-4,
        "Cahn, Hilliard 1958",
    )


def _coarsening() -> Iterator[Case]:
    n = 192
    rng = np.random.default_rng(0)
    start = rng.normal(0, 0.1, (2, n, n))
    start -= start.mean((1, 2), keepdims=True)
    times = np.geomspace(200, 2000, 8)
    found = evolve(
        start,
        PolynomialEnergy([0.25, 0, -0.5, 0, 0.25]),
        times=times,
        gradient=1.0,
        mobility=1.0,
        tolerance=0.05,
        dtype=torch.float32,
    )
    exponent = -float(np.polyfit(np.log(times), np.log(found.energies.mean(0)), 1)[0])
    yield absolute_case(
        ROOM, "phase field, coarsening exponent", 1 / 3, exponent, 0.05, "Lifshitz, Slyozov 1961"
    )
