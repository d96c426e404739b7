"""Elastic constants and equation of state of cubic phases, from any ASE calculator.

Elastic constants. At zero pressure C_ij is the derivative of the Cauchy stress by the strain; it
is taken by central differences over +- ``strain``, after the atoms have relaxed in each strained
cell (clamped atoms would be too stiff). The error is of second order in the strain. A supercell of
a random solid solution is not quite cubic; the three equivalent axes are averaged.

Equation of state. F. Birch, Phys. Rev. 71, 809 (1947): to third order in the Eulerian strain the
energy is a cubic polynomial in V^(-2/3), so the fit is linear and its minimum is in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from loop.errors import InvalidInputError
from simulators.calculators import Potential
from simulators.relaxation import AtomisticError, Relaxation, energy_and_stress, relax

if TYPE_CHECKING:
    from ase import Atoms

FloatArray = NDArray[np.float64]
STRAIN = 0.005
SPAN = 0.02  # linear strain of the equation of state's outermost volumes
POINTS = 7


@dataclass(frozen=True, slots=True)
class CubicConstants:
    """C11, C12, C44 of a cubic crystal in GPa."""

    c11: float
    c12: float
    c44: float

    @property
    def bulk_modulus(self) -> float:
        """(C11 + 2 C12) / 3."""
        return (self.c11 + 2 * self.c12) / 3

    @property
    def shear_modulus(self) -> float:
        """Of a polycrystal without texture: mean of Voigt's and Reuss's average.

        R. Hill, Proc. Phys. Soc. A 65, 349 (1952).
        """
        c = self.c11 - self.c12
        voigt = (c + 3 * self.c44) / 5
        return 0.5 * (voigt + 5 * c * self.c44 / (4 * self.c44 + 3 * c))

    @property
    def zener_ratio(self) -> float:
        """2 C44 / (C11 - C12): 1 for an isotropic body."""
        return 2 * self.c44 / (self.c11 - self.c12)

    @property
    def stable(self) -> bool:
        """Born's criteria of a cubic crystal: C11 > |C12|, C11 + 2 C12 > 0, C44 > 0."""
        return self.c11 > abs(self.c12) and self.c11 + 2 * self.c12 > 0 and self.c44 > 0


@dataclass(frozen=True, slots=True)
class EquationOfState:
    """Minimum of the energy: ``volume`` and ``energy`` in the units of the fit, ``bulk_modulus``
    in GPa for eV and angstrom^3, and its derivative by the pressure.
    """

    volume: float
    energy: float
    bulk_modulus: float
    derivative: float


def _strained(atoms: Atoms, voigt: int, amount: float) -> Atoms:
    """A copy under the strain component xx, yy, zz, yz, xz or xy (tensorial), atoms carried along.

    The deformation is symmetric, so it does not rotate the crystal.
    """
    i, j = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))[voigt]
    deformation = np.eye(3)
    deformation[i, j] += amount
    if i != j:
        deformation[j, i] += amount
    strained = atoms.copy()
    strained.set_cell(np.asarray(atoms.cell) @ deformation, scale_atoms=True)
    return strained


def cubic_constants(
    atoms: Atoms,
    potential: Potential,
    limits: Relaxation,
    *,
    strain: float = STRAIN,
    axes: Sequence[int] = (0, 1, 2),
) -> CubicConstants:
    """C11, C12, C44 of a relaxed cubic cell whose cube edges lie along x, y, z.

    ``axes``: which of the equivalent directions to average over; one is enough where the cell is
    cubic by symmetry. Raises AtomisticError as ``relax`` does.
    """
    c11, c12, c44 = [], [], []
    for axis in axes:
        column = _stress_derivative(atoms, potential, limits, axis, strain)
        c11.append(column[axis])
        c12.append(0.5 * (column[:3].sum() - column[axis]))
        shear = _stress_derivative(atoms, potential, limits, 3 + axis, strain)
        c44.append(0.5 * shear[3 + axis])  # the tensorial strain is half the engineering strain
    return CubicConstants(*(float(np.mean(values)) for values in (c11, c12, c44)))


def _stress_derivative(
    atoms: Atoms, potential: Potential, limits: Relaxation, voigt: int, strain: float
) -> FloatArray:
    stresses = []
    for sign in (1.0, -1.0):
        strained = _strained(atoms, voigt, sign * strain)
        relax(strained, potential, limits, "none")
        stresses.append(energy_and_stress(strained, potential)[1])
    derivative: FloatArray = (stresses[0] - stresses[1]) / (2 * strain)
    return derivative


def birch_murnaghan(volumes: ArrayLike, energies: ArrayLike) -> EquationOfState:
    """Equation of state of at least four volumes (n,) in angstrom^3 and energies (n,) in eV.

    With x = V^(-2/3) and E = a + b x + c x^2 + d x^3 the minimum is the root of E'(x) with
    E''(x) > 0; there, by P = -dE/dV and B = -V dP/dV, B = (4/9) x^2 E'' / V and
    dB/dP = 4 + (2/3) x E''' / E''.
    Raises AtomisticError when the fit has no minimum among the volumes.
    """
    from ase.units import GPa

    v = np.asarray(volumes, dtype=np.float64)
    e = np.asarray(energies, dtype=np.float64)
    if v.ndim != 1 or v.shape != e.shape or len(v) < 4:
        raise InvalidInputError(
            f"equation of state got volumes {v.shape} and energies {e.shape}; expected (n,) each, "
            "n >= 4"
        )
    scale = float(v.mean()) ** (-2 / 3)
    fit = np.polynomial.Polynomial.fit(v ** (-2 / 3) / scale, e, 3).convert()
    slope, curve, third = fit.deriv(), fit.deriv(2), fit.deriv(3)
    roots = [float(r.real) for r in slope.roots() if abs(r.imag) < 1e-9 and curve(r.real) > 0]
    volume_of = [(float((x * scale) ** -1.5), x) for x in roots if x > 0]
    inside = [pair for pair in volume_of if v.min() <= pair[0] <= v.max()]
    if not inside:
        raise AtomisticError(
            f"energies have no minimum between {v.min():g} and {v.max():g} cubic angstrom; "
            "the cell was not at rest"
        )
    v0, x = inside[0]
    second, cubic = float(curve(x)), float(third(x))
    bulk = 4 / 9 * x**2 * second / v0
    derivative = 4 + 2 / 3 * x * cubic / second
    return EquationOfState(v0, float(fit(x)), bulk / GPa, derivative)


def equation_of_state(
    atoms: Atoms,
    potential: Potential,
    limits: Relaxation,
    *,
    span: float = SPAN,
    points: int = POINTS,
) -> EquationOfState:
    """Birch-Murnaghan fit of a relaxed cell, scaled by 1 - span to 1 + span along each side.

    The atoms relax at every volume. Raises AtomisticError as ``relax`` does, and InvalidInputError
    for fewer than four points or a span outside (0, 0.2).
    """
    if not 0 < span < 0.2 or points < 4:
        raise InvalidInputError(
            f"equation of state with span {span:g} and {points} points; expected 0 < span < 0.2 "
            "and at least 4"
        )
    volumes, energies = [], []
    for side in 1 + np.linspace(-span, span, points):
        scaled = atoms.copy()
        scaled.set_cell(np.asarray(atoms.cell) * side, scale_atoms=True)
        relax(scaled, potential, limits, "none")
        volumes.append(float(scaled.get_volume()))
        energies.append(energy_and_stress(scaled, potential)[0])
    found = birch_murnaghan(volumes, energies)
    if not math.isfinite(found.bulk_modulus):
        raise AtomisticError(f"equation of state of {atoms.get_chemical_formula()} is not finite")
    return found
