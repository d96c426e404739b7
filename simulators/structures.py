"""Periodic cells of cubic phases: random solid solutions on fcc and bcc, and ordered L1_2.

A composition is put on the sites of a supercell in whole atoms. Several cells, each with its own
seeded permutation of the sites, share the rounding: what one cell has too little of an element
the next gets more of, so that n cells of N atoms together miss the composition of e elements by
fewer than e atoms of n N on each sublattice.

L1_2 (Ni3Al): the corners of the fcc cube are one sublattice of 1/4 of the sites, the face centres
the other. The corners take the elements named as ``minority`` first; where these do not fill it,
the others follow in proportion; where they are more, the rest of them goes to the face centres.
The default ``MINORITY`` follows A. V. Ruban and H. L. Skriver, Phys. Rev. B 55, 856 (1997), for
nickel aluminide: early transition metals and silicon on the aluminium sites.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loop.errors import InvalidInputError, unknown_name

if TYPE_CHECKING:
    from ase import Atoms

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_FCC = ((0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0))
_BCC = ((0.0, 0.0, 0.0), (0.5, 0.5, 0.5))
# Sites of the conventional cube and the sublattice of each.
LATTICES: Mapping[str, tuple[tuple[tuple[float, float, float], ...], tuple[int, ...]]] = {
    "fcc": (_FCC, (0, 0, 0, 0)),
    "bcc": (_BCC, (0, 0)),
    "L1_2": (_FCC, (1, 0, 0, 0)),  # 1: the corners, which the minority elements take
}
NEAREST: Mapping[str, float] = {"fcc": 0.5**0.5, "bcc": 0.75**0.5, "L1_2": 0.5**0.5}
MINORITY = ("Al", "Si", "Ti", "V", "Zr", "Nb", "Mo", "Hf", "Ta", "W")
REFERENCES = ("fcc", "bcc", "hcp", "diamond")
EMPTY = 1e-12


@dataclass(frozen=True, slots=True)
class CubicCell:
    """``repeats``^3 conventional cubes of ``structure``, ``symbols`` in the order of ``sites``."""

    structure: str
    repeats: int
    symbols: tuple[str, ...]

    def sites(self) -> FloatArray:
        """Fractional coordinates of the undistorted sites, (n, 3)."""
        return _sites(self.structure, self.repeats)

    def atoms(self, a: float, fractional: FloatArray | None = None) -> Atoms:
        """ASE atoms with lattice parameter ``a`` (angstrom) of the conventional cube.

        ``fractional``: relaxed coordinates (n, 3); default the undistorted sites.
        """
        from ase import Atoms

        return Atoms(
            symbols=list(self.symbols),
            scaled_positions=self.sites() if fractional is None else fractional,
            cell=np.eye(3) * a * self.repeats,
            pbc=True,
        )

    def lattice_parameter(self, volume: float) -> float:
        """Side of the conventional cube for the volume of the whole cell, angstrom."""
        return float(np.cbrt(volume)) / self.repeats

    def content(self) -> dict[str, Any]:
        """What decides the cell, as JSON."""
        return {
            "structure": self.structure,
            "repeats": self.repeats,
            "symbols": list(self.symbols),
        }


def _sites(structure: str, repeats: int) -> FloatArray:
    basis = np.array(LATTICES[structure][0])
    corners = np.stack(np.meshgrid(*[np.arange(repeats)] * 3, indexing="ij"), -1).reshape(-1, 3)
    sites: FloatArray = (corners[:, None, :] + basis[None]).reshape(-1, 3) / repeats
    return sites


def check_structure(structure: str, where: str = "") -> None:
    """InvalidInputError, its text starting with ``where``, unless the structure is known."""
    if structure not in LATTICES:
        raise InvalidInputError(where + unknown_name("structure", structure, LATTICES))


def apportion(wanted: FloatArray, total: int) -> IntArray:
    """Whole numbers (e,) with the given total, nearest to ``wanted`` (e,), whose sum is total.

    Hamilton's method of largest remainders; of equal remainders the first wins. Entries below 0
    get 0.
    """
    amounts = np.maximum(wanted, 0.0)
    amounts = amounts * (total / amounts.sum())
    counts: IntArray = np.floor(amounts + EMPTY).astype(np.int64)
    order = np.argsort(counts - amounts, kind="stable")
    counts[order[: total - int(counts.sum())]] += 1
    return counts


def sublattices(
    structure: str, x: FloatArray, elements: Sequence[str], minority: Sequence[str]
) -> FloatArray:
    """Atomic fractions (s, e) on each sublattice of a structure for the composition x (e,).

    Raises InvalidInputError when an ordered structure has none of its minority elements.
    """
    if structure != "L1_2":
        return x[None]
    share = 0.25
    first = np.array([symbol in minority for symbol in elements])
    wanted = np.where(first, x, 0.0)
    if wanted.sum() <= EMPTY:
        raise InvalidInputError(
            f"L1_2 with {', '.join(e for e, v in zip(elements, x, strict=True) if v > 0)} has none "
            f"of the elements {', '.join(minority)} for its corners; name them in minority"
        )
    rest = x - wanted
    if wanted.sum() < share:
        corner = wanted + rest * ((share - wanted.sum()) / rest.sum())
    else:
        corner = wanted * (share / wanted.sum())
    face = np.maximum(x - corner, 0.0)
    return np.stack((face / face.sum(), corner / corner.sum()))


def cubic_cells(
    structure: str,
    x: FloatArray,
    elements: Sequence[str],
    *,
    repeats: int,
    samples: int,
    seed: int,
    minority: Sequence[str] = MINORITY,
) -> list[CubicCell]:
    """Cells of a phase of composition x (e,): ``samples`` seeded ones, or one where none is random.

    Elements are put in alphabetical order, so that the same design gives the same cells in
    whatever order its elements are listed. A phase without disorder (a pure element,
    stoichiometric Ni3Al) is one conventional cube, whatever ``repeats``.
    Raises InvalidInputError for an unknown structure or an empty minority sublattice.
    """
    check_structure(structure)
    order = sorted(range(len(elements)), key=lambda i: elements[i])
    names = np.array([elements[i] for i in order])
    fractions = sublattices(structure, x[order], list(names), minority)
    lattice = np.array(LATTICES[structure][1])
    if np.all(fractions.max(1) >= 1 - EMPTY):
        pure = names[fractions.argmax(1)]
        return [CubicCell(structure, 1, tuple(str(pure[s]) for s in lattice))]
    of_site = np.tile(lattice, repeats**3)
    carried = np.zeros_like(fractions)
    cells = []
    for sample in range(samples):
        rng = np.random.default_rng([seed, sample])
        symbols = np.empty(len(of_site), dtype=object)
        for s, shares in enumerate(fractions):
            sites = np.flatnonzero(of_site == s)
            wanted = shares * len(sites) + carried[s]
            counts = apportion(wanted, len(sites))
            carried[s] = wanted - counts
            symbols[rng.permutation(sites)] = np.repeat(names, counts)
        cells.append(CubicCell(structure, repeats, tuple(map(str, symbols))))
    return cells


def composition_of(cells: Sequence[CubicCell], elements: Sequence[str]) -> FloatArray:
    """Mean atomic fractions (e,) of cells of equal size."""
    symbols = [symbol for cell in cells for symbol in cell.symbols]
    return np.array([symbols.count(element) for element in elements]) / len(symbols)


def starting_parameter(structure: str, symbols: Sequence[str]) -> float:
    """Lattice parameter to start relaxing from, angstrom: elemental atomic volumes added up."""
    volumes = [_atomic_volume(symbol) for symbol in symbols]
    return float(np.cbrt(len(LATTICES[structure][0]) * sum(volumes) / len(volumes)))


def _atomic_volume(symbol: str) -> float:
    from ase.data import atomic_numbers, covalent_radii, reference_states

    state = reference_states[atomic_numbers[symbol]]
    if state is not None and state["symmetry"] in REFERENCES:
        atoms = reference_atoms(symbol)
        return float(atoms.get_volume()) / len(atoms)
    # Gases and oddly built elements: a ball of the covalent radius, about as dense as metals are.
    return float(4 / 3 * np.pi * (1.1 * covalent_radii[atomic_numbers[symbol]]) ** 3 / 0.74)


def reference_atoms(symbol: str, structure: str | None = None) -> Atoms:
    """A pure element in its own structure at room temperature (ASE's data), or in ``structure``.

    Raises InvalidInputError for an element whose own structure is none of ``REFERENCES``.
    """
    from ase.build import bulk
    from ase.data import atomic_numbers, covalent_radii, reference_states

    state = reference_states[atomic_numbers[symbol]] or {"symmetry": "unknown"}
    own = state["symmetry"]
    structure = structure or own
    if structure not in REFERENCES:
        raise InvalidInputError(
            f"the reference of {symbol} is {structure}, which is not among {', '.join(REFERENCES)};"
            f" name one in reference_structures.{symbol} or leave out the formation energy"
        )
    if structure == own:
        return bulk(symbol)
    return bulk(
        symbol, structure, a=_side(structure, float(covalent_radii[atomic_numbers[symbol]]))
    )


def _side(structure: str, radius: float) -> float:
    """Lattice parameter of touching atoms of the given radius, angstrom."""
    bond = 2 * radius
    sides = {"fcc": 2**0.5, "bcc": 2 / 3**0.5, "hcp": 1.0, "diamond": 4 / 3**0.5}
    return sides[structure] * bond
