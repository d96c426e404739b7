"""Properties of one cubic phase from an interatomic potential: lattice, energy, elasticity.

Everything holds at 0 K and zero pressure. A random solid solution is the mean over seeded
supercells (``structures``), each relaxed in its volume and its atoms with the cell kept cubic, as
the mean of the alloy is. The formation energy is taken against the elements in their own
structures, relaxed with the same potential, and by the atoms that the cells really hold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulators import structures
from simulators.atomistic_cache import ResultCache
from simulators.calculators import Potential
from simulators.elastic_constants import (
    POINTS,
    SPAN,
    STRAIN,
    CubicConstants,
    cubic_constants,
    equation_of_state,
)
from simulators.relaxation import AtomisticError, Relaxation, displacement, relax
from simulators.structures import CubicCell

FloatArray = NDArray[np.float64]
VERSION = "1"  # raise it when the same cell would get another result
# Of the nearest-neighbour distance: farther from its site an atom is not on that site any more.
LARGEST_DISPLACEMENT = 0.3
G_PER_CM3 = 1.66053906660  # one unified atomic mass unit per cubic angstrom (CODATA 2018)


@dataclass(frozen=True, slots=True)
class Estimate:
    """Mean over cells and its standard error; None for one cell, whose error is not known."""

    mean: float
    standard_error: float | None

    @staticmethod
    def of(values: Sequence[float]) -> Estimate:
        n = len(values)
        error = float(np.std(values, ddof=1) / math.sqrt(n)) if n > 1 else None
        return Estimate(float(np.mean(values)), error)


@dataclass(frozen=True, slots=True)
class Sampling:
    """Cells of a disordered phase: ``samples`` of ``repeats``^3 conventional cubes, from ``seed``.

    ``reference_structures``: element -> structure where the element's own is not to be taken.
    ``strain``: of the finite differences of the elastic constants.
    """

    repeats: int = 2
    samples: int = 2
    seed: int = 0
    relaxation: Relaxation = field(default_factory=Relaxation)
    strain: float = STRAIN
    reference_structures: Mapping[str, str] = field(default_factory=dict)


class Atomistics:
    """Properties of phases with one potential; results are kept in ``cache``.

    Methods raise AtomisticError for a calculation without an answer and InvalidInputError for
    elements that the potential does not cover.
    """

    def __init__(
        self,
        potential: Potential,
        sampling: Sampling | None = None,
        cache: ResultCache | None = None,
    ) -> None:
        self.potential = potential
        self.sampling = sampling or Sampling()
        self.cache = cache or ResultCache()

    def cells(
        self,
        structure: str,
        x: FloatArray,
        elements: Sequence[str],
        minority: Sequence[str] = structures.MINORITY,
    ) -> list[CubicCell]:
        """Cells of a phase of composition x (e,); see ``structures.cubic_cells``."""
        self.potential.check_elements(e for e, v in zip(elements, x, strict=True) if v > 0)
        return structures.cubic_cells(
            structure,
            x,
            elements,
            repeats=self.sampling.repeats,
            samples=self.sampling.samples,
            seed=self.sampling.seed,
            minority=minority,
        )

    def lattice_parameter(self, cells: Sequence[CubicCell]) -> Estimate:
        """Side of the conventional cube in angstrom, from the relaxed volume."""
        return Estimate.of([self._relaxed(cell)["lattice_parameter"] for cell in cells])

    def formation_energy(self, cells: Sequence[CubicCell]) -> Estimate:
        """Energy less that of the pure elements, eV per atom; negative where a phase forms."""
        values = []
        for cell in cells:
            references = [self.reference_energy(symbol) for symbol in cell.symbols]
            values.append(self._relaxed(cell)["energy"] - sum(references) / len(references))
        return Estimate.of(values)

    def elastic_constants(self, cells: Sequence[CubicCell]) -> dict[str, Estimate]:
        """``c11``, ``c12``, ``c44`` in GPa, mean over axes and cells."""
        found = [self._elastic(cell) for cell in cells]
        return {name: Estimate.of([c[name] for c in found]) for name in ("c11", "c12", "c44")}

    def shear_modulus(self, cells: Sequence[CubicCell]) -> Estimate:
        """Of a polycrystal of the phase in GPa (``CubicConstants.shear_modulus``)."""
        found = [CubicConstants(**self._elastic(cell)) for cell in cells]
        return Estimate.of([constants.shear_modulus for constants in found])

    def density(self, cells: Sequence[CubicCell]) -> Estimate:
        """In g/cm3, from the relaxed volume and the atoms that the cells really hold."""
        return Estimate.of([self._density(cell) for cell in cells])

    def _density(self, cell: CubicCell) -> float:
        atoms = cell.atoms(self._relaxed(cell)["lattice_parameter"])
        return float(atoms.get_masses().sum() / atoms.get_volume()) * G_PER_CM3

    def bulk_modulus(self, cells: Sequence[CubicCell]) -> Estimate:
        """In GPa, from a Birch-Murnaghan fit of the energy of relaxed cells."""
        return Estimate.of([self._equation_of_state(cell)["bulk_modulus"] for cell in cells])

    def reference_energy(self, symbol: str) -> float:
        """Energy of a pure element in eV per atom, its cell relaxed in size and shape.

        Raises InvalidInputError for an element without a simple structure of its own.
        """
        self.potential.check_elements([symbol])
        structure = self.sampling.reference_structures.get(symbol)
        atoms = structures.reference_atoms(symbol, structure)

        def compute() -> dict[str, Any]:
            steps = relax(atoms, self.potential, self.sampling.relaxation, "full")
            return {"energy": float(atoms.get_potential_energy()) / len(atoms), "steps": steps}

        content = self._content("reference", {"element": symbol, "structure": structure or "own"})
        return float(self.cache.get(content, compute)["energy"])

    def _content(self, kind: str, what: Mapping[str, Any]) -> dict[str, Any]:
        limits = self.sampling.relaxation
        return {
            "kind": kind,
            "version": VERSION,
            "potential": self.potential.identity(),
            "relaxation": {"force": limits.force, "max_steps": limits.max_steps},
            "what": dict(what),
        }

    def _relaxed(self, cell: CubicCell) -> dict[str, Any]:
        def compute() -> dict[str, Any]:
            a = structures.starting_parameter(cell.structure, cell.symbols)
            atoms = cell.atoms(a)
            steps = relax(atoms, self.potential, self.sampling.relaxation, "volume")
            volume = float(atoms.get_volume())
            a = cell.lattice_parameter(volume)
            fractional = np.asarray(atoms.get_scaled_positions(wrap=False), dtype=np.float64)
            moved = displacement(fractional, cell.sites(), a * cell.repeats)
            nearest = structures.NEAREST[cell.structure] * a
            if moved > LARGEST_DISPLACEMENT * nearest:
                raise AtomisticError(
                    f"{atoms.get_chemical_formula()}: an atom left its {cell.structure} site by "
                    f"{moved:.2f} angstrom; the structure is not stable with "
                    f"{self.potential.name!r}"
                )
            return {
                "lattice_parameter": a,
                "energy": float(atoms.get_potential_energy()) / len(atoms),
                "fractional": fractional.tolist(),
                "steps": steps,
                "largest_displacement": moved,
            }

        return self.cache.get(self._content("relaxed", cell.content()), compute)

    def _elastic(self, cell: CubicCell) -> dict[str, Any]:
        strain = self.sampling.strain

        def compute() -> dict[str, Any]:
            # One conventional cube has no disorder: it is cubic by symmetry.
            axes = (0,) if cell.repeats == 1 and _ordered(cell) else (0, 1, 2)
            found = cubic_constants(
                self._atoms(cell),
                self.potential,
                self.sampling.relaxation,
                strain=strain,
                axes=axes,
            )
            return {"c11": found.c11, "c12": found.c12, "c44": found.c44}

        content = self._content("elastic", {**cell.content(), "strain": strain})
        return self.cache.get(content, compute)

    def _equation_of_state(self, cell: CubicCell) -> dict[str, Any]:
        def compute() -> dict[str, Any]:
            found = equation_of_state(self._atoms(cell), self.potential, self.sampling.relaxation)
            return {
                "volume": found.volume,
                "energy": found.energy,
                "bulk_modulus": found.bulk_modulus,
                "derivative": found.derivative,
            }

        content = self._content(
            "equation of state", {**cell.content(), "span": SPAN, "points": POINTS}
        )
        return self.cache.get(content, compute)

    def _atoms(self, cell: CubicCell) -> Any:
        relaxed = self._relaxed(cell)
        return cell.atoms(relaxed["lattice_parameter"], np.array(relaxed["fractional"]))


def _ordered(cell: CubicCell) -> bool:
    """Whether every sublattice of the cell holds one element only."""
    lattice = structures.LATTICES[cell.structure][1] * cell.repeats**3
    pairs = set(zip(lattice, cell.symbols, strict=True))
    return len(pairs) == len(set(lattice))
