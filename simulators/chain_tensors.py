"""The chain as functions that can be differentiated, by image and by compositions.

Values are those of the chain to the tolerance of its solves. Backwards, the homogenisation costs
nothing more: both problems are self-adjoint. A pixel that is
shared between phases has the arithmetic mean of their conductivities and stiffnesses, and counts
as an edge with the probability that it differs from its neighbour.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from loop.errors import InvalidInputError
from simulators import elemental
from simulators import elemental_rules as rules
from simulators.adjoint import conductivity_of_phases
from simulators.chain_settings import (
    BULK,
    CHORD,
    CONDUCTIVITY,
    COST,
    DENSITY,
    INTERFACES,
    MODULUS,
    RATIO,
    SHEAR,
)
from simulators.elasticity import MAX_ITERATIONS, displacements, energies
from simulators.phases import PhaseModel

TOLERANCE = 1e-8  # derivatives are good to its square root


class ChainTensors:
    """Outputs of the chain of one design space as tensors."""

    def __init__(self, model: PhaseModel) -> None:
        self.model = model
        settings, space = model.settings, model.space
        self.outputs = settings.outputs
        self.precipitate = space.phases.index(settings.precipitate)
        bulk, shear = model.given_moduli()
        names = (DENSITY, CONDUCTIVITY, COST)
        self.given = {name: torch.from_numpy(model.given(name)) for name in names}
        self.given |= {BULK: torch.from_numpy(bulk), SHEAR: torch.from_numpy(shear)}
        self.columns: dict[str, Tensor] = {}
        table = model.table
        if table is not None:
            found = {
                name: table[name]
                for wanted, names in _COLUMNS.items()
                if wanted in model.rules
                for name in names
            }
            if MODULUS in model.rules:
                found["shear_modulus_GPa"] = elemental.shear_moduli(table)
            if CONDUCTIVITY in model.rules:
                found["electronic"] = elemental.electronic_conductivities(table)
                found["pairs"] = elemental.linde_resistances(table)
            self.columns = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in found.items()}

    def phases(self, compositions: Tensor | None, n: int) -> dict[str, Tensor]:
        """Properties (n, p) of the phases; 1 where nobody asks."""
        p = len(self.model.space.phases)
        found: dict[str, Tensor] = {}
        if self.model.rules:
            if compositions is None:
                raise InvalidInputError("designs have no phase compositions; the rules need them")
            found = self._by_rules(compositions)
        return {
            name: torch.where(
                torch.isnan(given), found.get(name, torch.ones(n, p, dtype=torch.float64)), given
            )
            for name, given in self.given.items()
        }

    def _by_rules(self, x: Tensor) -> dict[str, Tensor]:
        c, wanted = self.columns, self.model.rules
        found: dict[str, Tensor] = {}
        if DENSITY in wanted:
            found[DENSITY] = rules.density(
                x, c["molar_mass_g_per_mol"], c["molar_volume_cm3_per_mol"]
            )
        if CONDUCTIVITY in wanted:
            ordered = 1 - torch.from_numpy(self.model.order) ** 2
            electronic = rules.resistance(x, c["electronic"], c["pairs"], ordered)
            found[CONDUCTIVITY] = elemental.LATTICE_CONDUCTIVITY + 1 / electronic
        if COST in wanted:
            found[COST] = rules.cost(x, c["molar_mass_g_per_mol"], c["cost_USD_per_kg"])
        if MODULUS in wanted:
            volume = c["molar_volume_cm3_per_mol"]
            found[BULK] = rules.hill(x, volume, c["bulk_modulus_GPa"])
            found[SHEAR] = rules.hill(x, volume, c["shear_modulus_GPa"])
        return found

    def properties_of(
        self, fields: Tensor | None, compositions: Tensor | None
    ) -> Mapping[str, Tensor]:
        """See ``loop.protocols.Differentiable``; all outputs of the chain."""
        one = fields if fields is not None else compositions
        if one is None:
            raise InvalidInputError("designs have neither fields nor compositions; give one")
        n, p = len(one), len(self.model.space.phases)
        phases = self.phases(compositions, n)
        if fields is None:
            if p > 1:
                raise InvalidInputError(f"designs have {p} phases and no phase fields; give them")
            fields = torch.ones(n, 1, 1, 1, dtype=torch.float64)
        shares = fields.mean((2, 3))
        wanted, found = set(self.outputs), dict[str, Tensor]()
        density = (shares * phases[DENSITY]).sum(1)
        if DENSITY in wanted:
            found[DENSITY] = density
        if COST in wanted:
            found[COST] = (shares * phases[DENSITY] * phases[COST]).sum(1) / density
        if wanted & {CONDUCTIVITY, RATIO}:
            k = conductivity_of_phases(fields, phases[CONDUCTIVITY], tolerance=TOLERANCE).tensor
            found[CONDUCTIVITY] = 0.5 * (k[:, 0, 0] + k[:, 1, 1])
            found[RATIO] = k[:, 0, 0] / k[:, 1, 1]
        if MODULUS in wanted:
            c = _stiffness(fields, phases[BULK], phases[SHEAR])
            found[MODULUS] = (1 / torch.linalg.inv(c).diagonal(dim1=1, dim2=2)[:, :2]).mean(1)
        settings = self.model.settings
        found[settings.fraction_name] = shares[:, self.precipitate]
        if wanted & {CHORD, INTERFACES}:
            found |= self._edges(fields, shares)
        return {name: found[name] for name in self.outputs}

    def _edges(self, fields: Tensor, shares: Tensor) -> dict[str, Tensor]:
        """Chord length of the precipitate and interface density; periodic."""
        inside = fields[:, self.precipitate]
        ends, edges = [], []
        for axis in (1, 2):
            ends.append((inside * (1 - inside.roll(1, axis))).mean((1, 2)))
            same = (fields * fields.roll(1, axis + 1)).sum(1)
            edges.append((1 - same).mean((1, 2)))
        return {
            CHORD: 2 * shares[:, self.precipitate] / (ends[0] + ends[1]),
            INTERFACES: edges[0] + edges[1],
        }


def _stiffness(fields: Tensor, bulk: Tensor, shear: Tensor) -> Tensor:
    """Effective stiffness (n, 4, 4) as in ``elasticity``, of arithmetically mixed pixels."""
    lame, mu = (
        torch.einsum("np,np...->n...", values, fields) for values in (bulk - 2 * shear / 3, shear)
    )
    with torch.no_grad():
        u = displacements(lame.detach(), mu.detach(), TOLERANCE, MAX_ITERATIONS).fields
    return energies(u, lame, mu)


_COLUMNS: Mapping[str, tuple[str, ...]] = {
    DENSITY: ("molar_mass_g_per_mol", "molar_volume_cm3_per_mol"),
    COST: ("molar_mass_g_per_mol", "cost_USD_per_kg"),
    MODULUS: ("molar_volume_cm3_per_mol", "bulk_modulus_GPa"),
}
