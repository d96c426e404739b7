"""Relaxing atoms at zero pressure with an ASE calculator."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from simulators.calculators import Potential

if TYPE_CHECKING:
    from ase import Atoms

FloatArray = NDArray[np.float64]
CellChange = Literal["none", "volume", "full"]


class AtomisticError(RuntimeError):
    """A calculation that has no answer: not converged, another structure, a calculator's fault."""


@dataclass(frozen=True, slots=True)
class Relaxation:
    """When a relaxation has come to rest.

    ``force``: greatest force on an atom, and greatest work of the cell's stress per atom for a
    strain of 1, in eV/angstrom and eV; ``max_steps``: of the optimiser.
    """

    force: float = 1e-3
    max_steps: int = 300


def relax(atoms: Atoms, potential: Potential, limits: Relaxation, cell: CellChange) -> int:
    """Relax ``atoms`` in place by BFGS; returns the number of steps taken.

    ``cell``: what may change besides the positions: nothing, the volume (the shape is kept), or
    all of the cell, in the coordinates of ASE's FrechetCellFilter.
    Raises AtomisticError where it does not come to rest or the calculator fails.
    """
    from ase.filters import FrechetCellFilter
    from ase.optimize import BFGS

    atoms.calc = potential.fresh()
    what = atoms.get_chemical_formula()
    try:
        with potential.hushed():
            free = (
                atoms
                if cell == "none"
                else FrechetCellFilter(atoms, hydrostatic_strain=cell == "volume")
            )
            optimiser = BFGS(free, logfile=None)
            converged = bool(optimiser.run(fmax=limits.force, steps=limits.max_steps))
            energy = float(atoms.get_potential_energy())
    except Exception as error:  # a calculator can fail in any way; the candidate has no answer
        raise AtomisticError(
            f"calculator {potential.name!r} failed on {what}: {type(error).__name__}: {error}"
        ) from error
    if not converged:
        raise AtomisticError(
            f"{what} has not come to rest after {optimiser.nsteps} steps of {potential.name!r} "
            f"(allowed: {limits.force:g} eV/angstrom)"
        )
    if not (math.isfinite(energy) and math.isfinite(atoms.get_volume())):
        raise AtomisticError(f"{potential.name!r} gives {what} the energy {energy}")
    return int(optimiser.nsteps)


def energy_and_stress(atoms: Atoms, potential: Potential) -> tuple[float, FloatArray]:
    """Energy in eV, and stress in GPa, (6,) over xx, yy, zz, yz, xz, xy, tension positive.

    ``atoms`` as ``relax`` left them, with their calculator.
    """
    from ase.units import GPa

    with potential.hushed():
        stress = np.asarray(atoms.get_stress(), dtype=np.float64) / GPa
        return float(atoms.get_potential_energy()), stress


def displacement(fractional: FloatArray, sites: FloatArray, side: float) -> float:
    """Greatest distance of an atom from its site, in the unit of the cubic cell's ``side``.

    Both (n, 3), fractional; a shift of all atoms together does not count.
    """
    shift = fractional - sites
    shift -= np.round(shift)
    shift -= shift.mean(0)
    return float(np.linalg.norm(shift, axis=1).max() * side)
