"""Equilibria and hulls in ``spinodal verify simulators``: closed forms.

Those from a TDB are in the tests alone: pycalphad is an extra. Binodals and consolute points are
beside the phase field, which is made of them (``verification_phase_field``).
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from loop.candidate import Candidate
from loop.space import DesignSpace
from loop.verification import Case, absolute_case, relative_case
from simulators import energy_above_hull, phase_equilibrium
from simulators.energy_above_hull import ABOVE, EV
from simulators.hull import EnergyHull
from simulators.miscibility import common_tangents, spinodal
from simulators.phase_equilibrium_settings import FRACTION, MISMATCH
from simulators.solution import GAS_CONSTANT, Solution
from simulators.thermodynamics import equilibrium, phase_mismatch

ROOM = "simulators"
INTERACTION = 20_000.0  # J/mol
POOR = 0.1  # of a symmetric gap, the other end at 0.9
TABLE = {"source": "closed form", "interactions": {"Ag-Cu": [[INTERACTION, 0.0]]}}
PHASES = ("silver", "copper")


def cases() -> list[Case]:
    """Every case, computed now; well below a second but for pymatgen's import."""
    return [*_solutions(), *_mismatch(), *_lens(), *_hull(), *_above()]


def gap_temperature(x: float) -> float:
    """Temperature at which a regular solution's gap ends at x: R T ln((1 - x) / x) = w (1 - 2x)."""
    return INTERACTION * (1 - 2 * x) / (GAS_CONSTANT * math.log((1 - x) / x))


def _solutions() -> Iterator[Case]:
    t = gap_temperature(POOR)
    rt = GAS_CONSTANT * t
    solution = Solution(("A", "B"), {("A", "B"): ((INTERACTION, 0.0),)})
    low = float(spinodal(solution, t)[0, 0])
    truth = 0.5 - math.sqrt(0.25 - rt / (2 * INTERACTION))
    yield relative_case(
        ROOM, "regular solution, spinodal", truth, low, 1e-12, "x (1 - x) = RT / 2w"
    )
    mu = float(solution.chemical_potentials([0.7, 0.3], t)[1])
    truth = rt * math.log(0.3) + INTERACTION * 0.7**2
    yield relative_case(
        ROOM, "regular solution, chemical potential", truth, mu, 1e-12, "RT ln x + w (1 - x)^2"
    )
    rest = equilibrium(solution, [0.7, 0.3], t)
    yield relative_case(
        ROOM,
        "two phases of a regular solution, lever rule",
        0.25,
        rest.fractions[1],
        1e-10,
        "0.2 / 0.8",
    )
    truth = rt * math.log(0.9) + INTERACTION * 0.1**2  # of A at x = 0.1; of B the same at 0.9
    for i, name in enumerate(("A", "B")):
        yield relative_case(
            ROOM,
            f"two phases of a regular solution, potential of {name}",
            truth,
            float(rest.potentials[i]),
            1e-9,
            "closed form",
        )
    mixed = phase_mismatch(solution, [1.0], [[0.5, 0.5]], t).energy_J_per_mol
    truth = INTERACTION / 4 - rt * math.log(2) - truth
    yield relative_case(
        ROOM, "unmixing of a regular solution, J/mol", truth, mixed, 1e-9, "closed form"
    )


def _mismatch() -> Iterator[Case]:
    """Through the simulator: phases 0.02 from a gap whose ends are at 0.1 and 0.9."""
    space = DesignSpace(phases=PHASES, elements=("Ag", "Cu"), image_shape=(4, 4))
    simulator = phase_equilibrium.create(
        space=space, settings={"solution": TABLE, "temperature_K": gap_temperature(POOR)}
    )
    image = np.zeros((4, 4), dtype=np.uint8)
    image[:, :1] = 1
    for off in (0.0, 0.02):
        x = np.array([[0.9 - off, 0.1 + off], [0.1 + off, 0.9 - off]])
        candidate = Candidate(
            phases=PHASES, elements=("Ag", "Cu"), microstructure=image, phase_compositions=x
        )
        values = simulator.evaluate([candidate])[0].values
        yield absolute_case(
            ROOM, f"phases {off:g} off equilibrium", off, values[MISMATCH], 1e-10, "closed form"
        )
        share = (0.75 * (0.1 + off) + 0.25 * (0.9 - off) - 0.1) / 0.8
        found = values[FRACTION.format(phase="copper")]
        yield relative_case(
            ROOM, f"fraction in equilibrium of phases {off:g} off", share, found, 1e-9, "lever rule"
        )


def _lens() -> Iterator[Case]:
    """Ideal solid and liquid: x = (e^a - 1) / (e^a - e^b) and x e^b."""
    t = 1200.0
    liquid = Solution(("A", "B"), {}, {"A": (10_000.0, -10.0), "B": (12_000.0, -8.0)}, "liquid")
    (line,) = common_tangents([liquid, Solution(("A", "B"), {}, name="solid")], t)
    a, b = (c / (GAS_CONSTANT * t) for c in (10_000 - 10 * t, 12_000 - 8 * t))
    poor = (math.exp(a) - 1) / (math.exp(a) - math.exp(b))
    ends = (("liquidus", poor), ("solidus", poor * math.exp(b)))
    for (name, truth), x in zip(ends, line.compositions, strict=True):
        yield relative_case(ROOM, f"ideal solid and liquid, {name}", truth, x, 1e-10, "closed form")


def _hull() -> Iterator[Case]:
    """Between neighbours on the hull the energy is linear; NiAl2 here is not on it."""
    entries = [("Al", -3.7), ("Ni", -5.5), ("Ni3Al", -5.5), ("NiAl", -5.2), ("NiAl2", -4.1)]
    hull = EnergyHull(entries)
    yield relative_case(
        ROOM, "hull between Ni3Al and NiAl, eV/atom", -5.35, hull.energy("Ni5Al3"), 1e-12, "by hand"
    )
    yield relative_case(
        ROOM, "entry above the hull, eV/atom", 0.6, hull.above("NiAl2", -4.1), 1e-9, "by hand"
    )
    ternary = EnergyHull([("Cr", 0.0), ("Ni", 0.0), ("Al", 0.0), ("CrNiAl", -0.3)])
    found = ternary.energy({"Cr": 0.5, "Ni": 0.25, "Al": 0.25})
    yield relative_case(
        ROOM, "hull of a ternary compound and Cr, eV/atom", -0.225, found, 1e-12, "lever rule"
    )


def _above() -> Iterator[Case]:
    """Through the simulator: a regular solution over its elements and a compound AgCu."""
    space = DesignSpace(phases=("alloy",), elements=("Ag", "Cu"))
    with tempfile.TemporaryDirectory() as folder:
        entries = Path(folder) / "entries.csv"
        entries.write_text("composition,energy_eV_per_atom\nAg,-2.7\nCu,-3.7\nAgCu,-3.25\n")
        simulator = energy_above_hull.create(
            space=space, settings={"entries": str(entries), "solution": TABLE}
        )
    for x in (0.25, 0.5):
        candidate = Candidate(
            phases=("alloy",), elements=("Ag", "Cu"), phase_compositions=np.array([[1 - x, x]])
        )
        values = simulator.evaluate([candidate])[0].values
        truth = INTERACTION * x * (1 - x) / EV + 0.05 * 2 * x
        yield relative_case(
            ROOM,
            f"regular solution above the hull at {x:g}, eV/atom",
            truth,
            values[ABOVE],
            1e-12,
            "w x (1 - x) + 0.05 eV x 2x",
        )
