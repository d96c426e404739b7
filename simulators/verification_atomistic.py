"""Atomistic, strength and laboratory parts of ``spinodal verify simulators``."""

from __future__ import annotations

import importlib.util
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from loop.candidate import Candidate
from loop.laboratory import Measurement, wanted_of
from loop.ledger import Ledger
from loop.verification import Case, absolute_case, relative_case
from simulators.atomistic import lattice_misfit_percent
from simulators.atomistic_phases import Atomistics, Sampling
from simulators.calculators import load_potential
from simulators.elastic_constants import birch_murnaghan, cubic_constants, equation_of_state
from simulators.measured import Laboratory
from simulators.relaxation import Relaxation, relax
from simulators.strengthening import Material, orowan, strongly_coupled, weakly_coupled
from simulators.structures import CubicCell, cubic_cells

ROOM = "simulators"
TIGHT = Relaxation(force=1e-6)


def cases() -> list[Case]:
    """Every case, computed now; a few seconds. CHGNet's only where it is installed."""
    found = [*_structures(), *_emt(), *_formulas(), *_laboratory()]
    if importlib.util.find_spec("chgnet") is not None:
        found += _chgnet()
    return found


def _structures() -> Iterator[Case]:
    (cell,) = cubic_cells(
        "L1_2", np.array([0.75, 0.25]), ["Ni", "Al"], repeats=2, samples=2, seed=0
    )
    atoms = cell.atoms(3.57).repeat(2)
    distances = atoms.get_all_distances(mic=True)
    near = np.abs(distances - 3.57 / math.sqrt(2)) < 1e-9
    aluminium = np.array(atoms.get_chemical_symbols()) == "Al"
    yield absolute_case(
        ROOM, "L1_2, share of aluminium", 0.25, float(aluminium.mean()), 0.0, "by counting"
    )
    yield absolute_case(
        ROOM,
        "L1_2, nickel neighbours of aluminium",
        12.0,
        float(near[aluminium][:, ~aluminium].sum(1).mean()),
        0.0,
        "by counting",
    )


def _emt() -> Iterator[Case]:
    """Each figure beside one that only ASE's energies or its own tool made."""
    from ase.build import bulk
    from ase.calculators.emt import EMT
    from ase.stress import get_elasticity_tensor
    from ase.units import GPa

    potential = load_potential("emt")
    for symbol in ("Cu", "Al", "Ni"):
        atoms = CubicCell("fcc", 1, (symbol,) * 4).atoms(4.0 if symbol == "Al" else 3.6)
        relax(atoms, potential, TIGHT, "volume")
        a = float(atoms.cell[0, 0])
        volumes, energies = [], []
        for side in a * (1 + np.linspace(-0.003, 0.003, 7)):
            primitive = bulk(symbol, "fcc", a=float(side))
            primitive.calc = EMT()
            volumes.append(primitive.get_volume())
            energies.append(primitive.get_potential_energy())
        least = float(np.cbrt(4 * birch_murnaghan(volumes, energies).volume))
        yield relative_case(
            ROOM, f"EMT {symbol}, lattice parameter", least, a, 1e-5, "minimum of the energy"
        )
        c = cubic_constants(atoms, potential, TIGHT, strain=0.001)
        fit = equation_of_state(atoms, potential, TIGHT, span=0.01).bulk_modulus
        atoms.calc = EMT()
        tensor = get_elasticity_tensor(atoms, h=0.001) / GPa
        for name, truth, computed in (
            ("C11", tensor[0, 0, 0, 0], c.c11),
            ("C12", tensor[0, 0, 1, 1], c.c12),
            ("C44", tensor[1, 2, 1, 2], c.c44),
        ):
            yield relative_case(
                ROOM, f"EMT {symbol}, {name}", float(truth), computed, 1e-4, "ase.stress"
            )
        yield relative_case(
            ROOM,
            f"EMT {symbol}, bulk modulus of the equation of state",
            c.bulk_modulus,
            fit,
            0.01,
            "(C11 + 2 C12) / 3",
        )
    atomistics = Atomistics(potential, Sampling())
    pure = atomistics.cells("fcc", np.array([1.0]), ["Cu"])
    yield absolute_case(
        ROOM,
        "EMT Cu, formation energy of an element",
        0.0,
        atomistics.formation_energy(pure).mean,
        1e-6,
        "by definition",
    )


def _formulas() -> Iterator[Case]:
    misfit = lattice_misfit_percent(3.57, 3.59)
    truth = 200 * math.tanh(0.5 * math.log(3.57 / 3.59))
    yield relative_case(ROOM, "lattice misfit, %", truth, misfit, 1e-12, "Reed 2006")
    v = 50 * np.linspace(0.95, 1.06, 8)
    eta2 = (50 / v) ** (2 / 3)
    e = 9 * 50 / 16 * (eta2 - 1) ** 2 * (6 + 5.2 * (eta2 - 1) - 4 * eta2)
    found = birch_murnaghan(v, e)
    from ase.units import GPa

    yield relative_case(
        ROOM, "equation of state, bulk modulus", 1 / GPa, found.bulk_modulus, 1e-8, "Birch 1947"
    )
    yield relative_case(ROOM, "equation of state, dB/dP", 5.2, found.derivative, 1e-6, "Birch 1947")
    # A full diameter of boundary pulls at a pair with one particle every L: 2 r gamma = 2 tau b L.
    m = Material(shear_modulus=80.0, burgers_vector=0.25, apb_energy=0.2)
    f, r = 0.4, m.pair_width
    spacing = r * math.sqrt(2 * math.pi / (3 * f))
    force = 1e3 * 2 * r * 0.2 / (2 * 0.25 * spacing)
    strong = float(strongly_coupled(f, r, m))
    yield relative_case(
        ROOM, "strongly coupled pairs, peak", force, strong, 1e-12, "Huether, Reppich 1978"
    )
    # Friedel: one dislocation cuts at F / (b l), l = (2 T L^2 / F)^(1/2); the pair at half of it,
    # less the pull on the trailing one, gamma f / 2 b.
    r, tension = 10.0, 0.5 * 80 * 0.25**2
    force_at = 2 * r * 0.2
    spacing = r * math.sqrt(2 * math.pi / (3 * f))
    length = math.sqrt(2 * tension * spacing**2 / force_at)
    truth = 1e3 * (force_at / (0.25 * length) - 0.2 * f / 0.25) / 2
    weak = float(weakly_coupled(f, r, m))
    yield relative_case(ROOM, "weakly coupled pairs", truth, weak, 1e-12, "Brown, Ham 1971")
    disc = math.sqrt(2 / 3) * r
    gap = spacing - 2 * disc
    truth = 1e3 * 0.4 * 80 * 0.25 / (math.pi * math.sqrt(0.7)) * math.log(2 * disc / 0.25) / gap
    passing = float(orowan(f, r, m))
    yield relative_case(ROOM, "Orowan stress", truth, passing, 1e-12, "Martin 1980")


def _laboratory() -> Iterator[Case]:
    """A value that was asked for, told and read again is the value that was told."""
    candidate = Candidate(phases=("alloy",), elements=("Cu",), phase_compositions=np.ones((1, 1)))
    about: dict[str, Any] = {"settings": {}, "settings_hash": "", "data_hash": "", "versions": {}}
    with (
        tempfile.TemporaryDirectory() as folder,
        Ledger.open(Path(folder) / "ledger.db") as ledger,
    ):
        laboratory = Laboratory({"hardness_GPa": "GPa"}, notebook=ledger)
        campaign = ledger.ensure_campaign("laboratory", seed=0, **about)
        ledger.plan_batch(campaign, "loop", 1, [candidate])
        ledger.ask(campaign, {candidate.id: wanted_of([laboratory])})
        told = Measurement(candidate.id, "hardness_GPa", 1 / 3, "GPa", 0.01)
        ledger.tell(campaign, [("verification", told)])
        value = laboratory.evaluate([candidate])[0].values["hardness_GPa"]
    yield absolute_case(ROOM, "laboratory, asked and told", 1 / 3, value, 0.0, "round trip")


def _chgnet() -> Iterator[Case]:
    atomistics = Atomistics(load_potential("chgnet"), Sampling())
    cells = atomistics.cells("L1_2", np.array([0.75, 0.25]), ["Ni", "Al"])
    a = atomistics.lattice_parameter(cells).mean
    yield relative_case(
        ROOM, "CHGNet Ni3Al, lattice parameter", 3.57, a, 0.01, "experiment, room temperature"
    )
