"""Limits that no design of a space can pass, whatever its compositions and its image.

Means over the elements (density, Voigt and Reuss moduli, thermal resistance, cost) are ratios of
linear functions of the composition; their extremes within the bounds of the space are exact, by
W. Dinkelbach, Management Science 13, 492 (1967). A body of several phases lies between them:

conductivity    between the least and the greatest of the phases (Wiener bounds)
ratio k_xx/k_yy at most (c + 1)^2 / 4c for phases that differ by a factor c: arithmetic over
                harmonic mean (L. V. Kantorovich, Uspekhi Mat. Nauk 3, 89, 1948)
Young's modulus at least the softest phase's (Reuss), at most that of the greatest bulk and the
                greatest shear modulus (Voigt)
density, cost   between the least and the greatest of the phases (means by volume and by mass)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulators import elemental
from simulators.chain_settings import (
    CHORD,
    CONDUCTIVITY,
    COST,
    DENSITY,
    INPUTS,
    INTERFACES,
    MODULUS,
    NEEDS,
    RATIO,
)
from simulators.elasticity import youngs_modulus
from simulators.phases import PhaseModel

FloatArray = NDArray[np.float64]
Limits = tuple[float, float]

SLACK = 1e-6  # relative, for rounding and for fractions a space.BOUND_TOLERANCE out of bounds
SOLVER_SLACK = 10.0  # times the tolerance of the solves


@dataclass(frozen=True, slots=True)
class Compositions:
    """Atomic fractions (e,) of one phase: low <= x <= high, sum 1."""

    low: FloatArray
    high: FloatArray

    def most(self, gains: FloatArray) -> FloatArray:
        """The composition (e,) of the greatest x @ gains: fill up in order of the gains."""
        x = self.low.copy()
        left = 1.0 - x.sum()
        for i in np.argsort(-gains, kind="stable"):
            step = max(min(self.high[i] - self.low[i], left), 0.0)
            x[i] += step
            left -= step
        return x

    def mean(self, values: FloatArray, weights: FloatArray) -> Limits:
        """Extremes of (x * weights) @ values / (x @ weights); weights > 0."""

        def of(x: FloatArray) -> float:
            return float((x * weights) @ values / (x @ weights))

        found = []
        for sign in (-1.0, 1.0):
            best, new = -sign * math.inf, of(self.most(sign * weights * values))
            while sign * (new - best) > 1e-14 * abs(new):  # ends: each is a better vertex
                best, new = new, of(self.most(sign * weights * (values - new)))
            found.append(best)
        return found[0], found[1]

    def pairs(self, coefficients: FloatArray) -> float:
        """Bound on sum_{i<j} c_ij x_i x_j: of n elements at most max c (1 - 1/n) / 2."""
        there = np.flatnonzero(self.high > 0)
        largest = float(coefficients[np.ix_(there, there)].max(initial=0.0))
        return largest * 0.5 * (1 - 1 / len(there))


def output_limits(model: PhaseModel) -> dict[str, Limits]:
    """Output -> (least, greatest) for the outputs that the model's settings ask for."""
    space, settings = model.space, model.settings
    several = len(space.phases) > 1
    found: dict[str, Limits] = {}
    # What other simulators give has limits that are not known here.
    known = [
        name
        for name in settings.outputs
        if not any(INPUTS[key.split(".")[1]][1] in NEEDS.get(name, ()) for key in settings.wired)
    ]
    for name in (DENSITY, CONDUCTIVITY, COST):
        if name in known:
            phases = _of_phases(model, name)
            found[name] = float(phases[:, 0].min()), float(phases[:, 1].max())
    if RATIO in known:
        contrast = _contrast(_of_phases(model, CONDUCTIVITY))
        ratio = (contrast + 1) ** 2 / (4 * contrast)
        found[RATIO] = 1 / ratio, ratio
    if MODULUS in known:
        bulk, shear = _moduli(model)
        softest = youngs_modulus(bulk[:, 0], shear[:, 0]).min()
        found[MODULUS] = float(softest), float(youngs_modulus(bulk[:, 1].max(), shear[:, 1].max()))
    slack = SLACK + (SOLVER_SLACK * settings.tolerance if several else 0.0)
    found = {name: (low / (1 + slack), high * (1 + slack)) for name, (low, high) in found.items()}
    if space.image_shape is not None:
        h, w = space.image_shape
        counted = {
            settings.fraction_name: (0.0, 1.0),
            # From single pixels to all of the image but one pixel, or but one row.
            CHORD: (1.0, float(max(h * w - 1, 2 * h, 2 * w))),
            INTERFACES: (0.0, 2.0),  # two edges a pixel
        }
        found |= {name: both for name, both in counted.items() if name in settings.outputs}
    return found


def _contrast(phases: FloatArray) -> float:
    """The greatest ratio between two different phases, from (p, 2) limits."""
    ratios = phases[:, 1][:, None] / phases[:, 0][None, :]
    np.fill_diagonal(ratios, 1.0)
    return float(ratios.max())


def _compositions(model: PhaseModel) -> list[Compositions]:
    return [Compositions(low, high) for low, high in zip(*model.space.bound_arrays(), strict=True)]


def _of_phases(model: PhaseModel, name: str) -> FloatArray:
    """(p, 2) limits of a property of each phase; those given in the settings are exact."""
    rows = []
    for phase, order, inside in zip(
        model.space.phases, model.order, _compositions(model), strict=True
    ):
        given = model.settings.given(phase, name)
        rows.append((given, given) if given is not None else _by_rule(model, name, inside, order))
    return np.array(rows, dtype=np.float64)


def _by_rule(model: PhaseModel, name: str, inside: Compositions, order: float) -> Limits:
    """Limits of density, conductivity or cost by the rules of ``elemental``."""
    table = model.table
    assert table is not None  # a property that is not given is computed
    if name == DENSITY:
        volumes = table["molar_volume_cm3_per_mol"]
        return inside.mean(table["molar_mass_g_per_mol"] / volumes, volumes)
    if name == COST:
        return inside.mean(table["cost_USD_per_kg"], table["molar_mass_g_per_mol"])
    metallic = table["thermal_conductivity_W_per_mK"] - elemental.LATTICE_CONDUCTIVITY
    least, most = inside.mean(1 / metallic, np.ones(len(metallic)))
    disorder = (1 - order**2) * inside.pairs(elemental.linde_coefficients(table["group"]))
    most += disorder / (elemental.LORENZ * elemental.TEMPERATURE_K)
    lattice = elemental.LATTICE_CONDUCTIVITY
    return lattice + 1 / most, lattice + 1 / least


def _moduli(model: PhaseModel) -> tuple[FloatArray, FloatArray]:
    """(p, 2) limits of the bulk and of the shear modulus of each phase."""
    bulk, shear = (np.stack([given, given], axis=1) for given in model.given_moduli())
    for i, inside in enumerate(_compositions(model)):
        if np.isnan(bulk[i, 0]):
            assert model.table is not None
            volumes = model.table["molar_volume_cm3_per_mol"]
            k, young = model.table["bulk_modulus_GPa"], model.table["youngs_modulus_GPa"]
            bulk[i] = _hill(inside, k, volumes)
            shear[i] = _hill(inside, 3 * k * young / (9 * k - young), volumes)
    return bulk, shear


def _hill(inside: Compositions, modulus: FloatArray, volumes: FloatArray) -> Limits:
    """Limits of the mean of Voigt's and Reuss's average: the means of their limits."""
    voigt = inside.mean(modulus, volumes)
    soft, stiff = inside.mean(1 / modulus, volumes)
    return 0.5 * (voigt[0] + 1 / stiff), 0.5 * (voigt[1] + 1 / soft)
