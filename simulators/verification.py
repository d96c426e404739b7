"""The simulators' part of ``spinodal verify``: computed figures beside exact answers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from loop.candidate import Candidate
from loop.space import DesignSpace
from loop.verification import Case, absolute_case, relative_case
from simulators import (
    elemental,
    exact,
    verification_atomistic,
    verification_elasticity,
    verification_gradients,
    verification_phase_field,
    verification_statistics,
    verification_thermodynamics,
    verification_transport,
)
from simulators.bounds import hashin_shtrikman
from simulators.conductivity import effective_conductivity
from simulators.correlation import (
    interface_density,
    mean_chord_length,
    mean_chord_lengths,
    two_point,
)
from simulators.elasticity import effective_stiffness, youngs_modulus
from simulators.registry import create

ROOM = "simulators"
TIGHT = 1e-12  # tolerance of the solver where the answer is exact on the grid
Labels = NDArray[np.int64]


def cases() -> list[Case]:
    """Every case, computed now on the CPU in float64; a few seconds."""
    own = [*_conductivity(), *_elasticity(), *_elements(), *_statistics(), *_chain()]
    others = (
        verification_transport,
        verification_elasticity,
        verification_gradients,
        verification_statistics,
        verification_thermodynamics,
        verification_phase_field,
        verification_atomistic,
    )
    return own + [case for room in others for case in room.cases()]


def _within(name: str, truth: float, low: float, high: float, slack: float, source: str) -> Case:
    """Passes when low <= truth <= high; the error is the relative distance outside."""
    nearest = min(max(truth, low), high)
    return relative_case(ROOM, name, truth, nearest, slack, source)


def stripes(n: int = 64, width: int = 8) -> Labels:
    """(1, n, n) labels, stripes of both phases, their normal along x."""
    return np.broadcast_to(np.arange(n) // width % 2, (1, n, n)).astype(np.int64)


def checkerboard(n: int = 64) -> Labels:
    """(1, n, n) labels, 2 x 2 squares."""
    half = np.arange(n) // (n // 2)
    return (half[:, None] ^ half[None, :])[None].astype(np.int64)


def disc(n: int = 128, radius: float = 0.3) -> Labels:
    """(1, n, n) labels, a disc of the given radius (in cell sides) in the middle."""
    x = (np.arange(n) + 0.5) / n - 0.5
    return (np.hypot(x[:, None], x[None, :]) <= radius).astype(np.int64)[None]


def blobs(n: int = 32, seed: int = 0) -> Labels:
    """(1, n, n) labels, a smooth random field cut at its median."""
    noise = np.fft.rfft2(np.random.default_rng(seed).standard_normal((n, n)))
    q2 = np.fft.fftfreq(n)[:, None] ** 2 + np.fft.rfftfreq(n)[None, :] ** 2
    smooth = np.fft.irfft2(noise * np.exp(-q2 / 0.02), s=(n, n))
    return (smooth > np.median(smooth)).astype(np.int64)[None]


def _conductivity() -> Iterator[Case]:
    for contrast in (10.0, 1e4):
        k = effective_conductivity(stripes(), [1, contrast], tolerance=TIGHT)
        across, along = exact.laminate_conductivity([0.5, 0.5], [1, contrast])
        what = f"conductivity, laminate {contrast:g}:1"
        yield relative_case(ROOM, f"{what}, across", across, k.xx[0], 1e-8, "harmonic mean")
        yield relative_case(ROOM, f"{what}, along", along, k.yy[0], 1e-8, "arithmetic mean")
    for contrast in (10.0, 100.0):
        k = effective_conductivity(checkerboard(), [1, contrast])
        truth = exact.checkerboard_conductivity(1, contrast)
        what = f"conductivity, checkerboard {contrast:g}:1"
        low, high = k.lower[0, 0, 0], k.upper[0, 0, 0]
        yield relative_case(ROOM, what, truth, k.xx[0], 1e-3, "Dykhne 1971")
        yield _within(f"{what}, inside its bounds", truth, low, high, 0.0, "Dykhne 1971")
    k = effective_conductivity(disc(), [1, 10])
    fraction = float(disc().mean())
    truth = exact.square_array_conductivity(fraction, 1, 10)
    yield relative_case(
        ROOM, "conductivity, square array of discs", truth, k.xx[0], 5e-3, "Perrins et al. 1979"
    )
    low, high = (float(b) for b in hashin_shtrikman([1 - fraction, fraction], [1, 10]))
    yield _within(
        "conductivity, inside Hashin-Shtrikman", k.xx[0], low, high, 0.0, "Hashin, Shtrikman 1962"
    )
    image = blobs()
    k = effective_conductivity(image, [1, 50])
    resistive = effective_conductivity(image, [1, 1 / 50])
    for i, name in ((0, "xx"), (1, "yy")):
        dual = k.tensor[0, i, i] / np.linalg.det(k.tensor[0])
        yield relative_case(
            ROOM,
            f"conductivity, duality {name}",
            dual,
            resistive.tensor[0, i, i],
            1e-10,
            "Keller 1964",
        )
    early = effective_conductivity(image, [1, 50], max_iterations=2)
    fine = effective_conductivity(image.repeat(4, 1).repeat(4, 2), [1, 50])
    yield _within(
        "conductivity, stopped early, finer grid inside its bounds",
        fine.xx[0],
        early.lower[0, 0, 0],
        early.upper[0, 0, 0],
        0.0,
        "Dirichlet and Thomson principles",
    )


def _elasticity() -> Iterator[Case]:
    bulk, shear = np.array([180.0, 40.0]), np.array([76.0, 12.0])
    uniform = effective_stiffness(np.zeros((1, 16, 16), dtype=np.int64), bulk[:1], shear[:1])
    young = float(youngs_modulus(bulk[0], shear[0]))
    yield relative_case(
        ROOM, "stiffness, uniform body, E", young, uniform.youngs[0, 0], 1e-10, "9KG/(3K+G)"
    )
    layers = effective_stiffness(stripes(), bulk, shear, tolerance=TIGHT)
    truth = exact.laminate_stiffness([0.5, 0.5], bulk, shear)
    for i, j, name in (
        (0, 0, "C_xx"),
        (1, 1, "C_yy"),
        (0, 1, "C_xy"),
        (2, 2, "G_xy"),
        (1, 3, "C_yz"),
    ):
        yield relative_case(
            ROOM,
            f"stiffness, laminate, {name}",
            truth[i, j],
            layers.upper[0, i, j],
            1e-8,
            "Backus 1962",
        )
    across = 1 / float(np.linalg.inv(truth)[0, 0])
    yield relative_case(
        ROOM, "stiffness, laminate, E across", across, layers.youngs[0, 0], 1e-8, "Backus 1962"
    )
    image = blobs().repeat(4, 1).repeat(4, 2)
    c = effective_stiffness(image, [100, 400], [50, 50]).upper[0]
    plane = float(c[0, 0] + c[1, 1] + 2 * c[0, 1]) / 4
    fractions = [1 - image.mean(), image.mean()]
    truth_bulk = exact.equal_shear_plane_bulk(fractions, np.array([100, 400]) + 50 / 3, 50)
    yield relative_case(
        ROOM, "stiffness, equal shear moduli, plane bulk", truth_bulk, plane, 5e-3, "Hill 1964"
    )
    yield _within(
        "stiffness, equal shear moduli, energy is above", truth_bulk, 0.0, plane, 0.0, "Hill 1964"
    )


def _elements() -> Iterator[Case]:
    table = elemental.element_table(["Ni", "Cr", "Al"])
    pure = np.eye(3)
    yield relative_case(
        ROOM,
        "density of nickel, g/cm3",
        8.908,
        elemental.density(pure, table)[0],
        2e-3,
        "CRC Handbook",
    )
    modulus = youngs_modulus(*elemental.elastic_moduli(pure, table))[0]
    yield relative_case(ROOM, "E of nickel, GPa", 200.0, modulus, 1e-9, "pymatgen")
    conductivity = elemental.thermal_conductivity(pure, table)[0]
    yield relative_case(ROOM, "conductivity of nickel, W/mK", 91.0, conductivity, 1e-9, "pymatgen")
    chromium = (20 / 51.9961) / (20 / 51.9961 + 80 / 58.6934)
    nichrome = elemental.thermal_conductivity([1 - chromium, chromium, 0.0], table)
    yield relative_case(
        ROOM, "conductivity of 80Ni-20Cr, W/mK", 11.3, float(nichrome), 0.02, "handbook value"
    )
    aluminide = elemental.thermal_conductivity([0.75, 0.0, 0.25], table, 0.8)
    yield relative_case(
        ROOM, "conductivity of Ni3Al, W/mK", 28.0, float(aluminide), 0.1, "Williams et al. 1985"
    )


def _statistics() -> Iterator[Case]:
    chords = mean_chord_lengths(stripes(width=8), 1)[0]
    yield absolute_case(ROOM, "chord length of stripes, px", 8.0, chords[0], 0.0, "by counting")
    squares = checkerboard(64)
    chord = float(mean_chord_length(squares, 1)[0])
    yield absolute_case(ROOM, "chord length of a checkerboard, px", 32.0, chord, 0.0, "by counting")
    edges = float(interface_density(squares)[0])
    yield absolute_case(ROOM, "interface density of a checkerboard", 2 / 32, edges, 0.0, "2 / side")
    s2 = two_point(squares.astype(np.float64))[0]
    for lag, truth in (((0, 0), 0.5), ((32, 32), 0.5), ((0, 32), 0.0), ((0, 16), 0.25)):
        yield absolute_case(
            ROOM, f"two-point of a checkerboard at {lag}", truth, s2[lag], 1e-12, "by counting"
        )


def _chain() -> Iterator[Case]:
    """The lever rule and the mass fractions through the whole chain."""
    density, cost, k = (8.0, 2.0), (10.0, 40.0), (10.0, 40.0)
    phases = ("matrix", "fibre")
    space = DesignSpace(phases=phases, image_shape=(16, 16))
    given = {
        phase: {
            "density_g_per_cm3": density[i],
            "material_cost_USD_per_kg": cost[i],
            "thermal_conductivity_W_per_mK": k[i],
        }
        for i, phase in enumerate(phases)
    }
    chain = create(
        "composite-chain", space=space, settings={"phase_properties": given, "tolerance": TIGHT}
    )
    image = np.zeros((16, 16), dtype=np.uint8)
    image[:, :4] = 1
    values = chain.evaluate([Candidate(phases=phases, microstructure=image)])[0].values
    across, along = exact.laminate_conductivity([0.75, 0.25], k)
    for name, truth in (
        ("fibre_fraction", 0.25),
        ("density_g_per_cm3", 6.5),
        ("material_cost_USD_per_kg", (6 * 10 + 0.5 * 40) / 6.5),
        ("thermal_conductivity_W_per_mK", 0.5 * (across + along)),
        ("conductivity_ratio", across / along),
    ):
        yield relative_case(
            ROOM, f"chain, {name}", truth, values[name], 1e-10, "lever rule, laminate"
        )
