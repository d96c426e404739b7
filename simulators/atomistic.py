"""``atomistic``: lattice parameters, misfit, formation energies and elasticity of the phases.

From an interatomic potential (``calculators``), at 0 K and zero pressure, each phase as a random
solid solution or ordered L1_2 (``structures``, ``atomistic_phases``). The image is not used.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loop.candidate import Candidate, Outcome
from loop.errors import InvalidCampaignError, InvalidInputError
from loop.space import DesignSpace
from simulators import structures
from simulators.atomistic_cache import ResultCache
from simulators.atomistic_phases import VERSION as PHASES_VERSION
from simulators.atomistic_phases import Atomistics, Estimate
from simulators.atomistic_settings import ELASTIC, MISFIT, Settings, parse_settings
from simulators.calculators import Potential, load_potential
from simulators.relaxation import AtomisticError
from simulators.structures import CubicCell

NAME = "atomistic"
VERSION = "1"  # raise it when the same candidate would get other values
FloatArray = NDArray[np.float64]


def lattice_misfit_percent(precipitate: float, matrix: float) -> float:
    """Misfit of two coherent cubic phases in per cent, from their lattice parameters.

    200 (a_p - a_m) / (a_p + a_m): the difference over the mean, positive where the precipitate is
    the larger (R. C. Reed, The Superalloys, Cambridge 2006, chapter 2).
    Raises InvalidInputError for a parameter that is not finite and > 0.
    """
    for name, value in (("precipitate", precipitate), ("matrix", matrix)):
        if not (math.isfinite(value) and value > 0):
            raise InvalidInputError(
                f"lattice parameter of the {name} is {value:g}; expected a finite value > 0"
            )
    return 200 * (precipitate - matrix) / (precipitate + matrix)


def create(
    *,
    space: DesignSpace,
    settings: Mapping[str, Any],
    device: str = "cpu",
    folder: Path | None = None,
) -> AtomisticSimulator:
    """The simulator for a design space; see ``atomistic_settings`` for the settings.

    ``folder``: where relative paths start, of the cache and of files that the calculator is made
    with; the current folder when not given.
    Raises InvalidCampaignError for settings that cannot be used and for pairs of elements whose
    mixing the calculator gets wrong (unless they are to be flagged), InvalidInputError for a
    calculator that is not installed, elements that it does not cover and a cache folder that cannot
    be made.
    """
    parsed = parse_settings(settings, space, folder)
    potential = load_potential(parsed.calculator, parsed.calculator_settings, device=device)
    return AtomisticSimulator(space, parsed, potential)


class AtomisticSimulator:
    """Properties of the candidates' phases; see ``atomistic_settings.PHASE_OUTPUTS`` for names.

    Every ok outcome's diagnostics state the calculator, the cells, the standard errors over cells,
    how far the cells' composition is from the candidate's, and every caution about the calculator.
    """

    name = NAME

    def __init__(self, space: DesignSpace, settings: Settings, potential: Potential) -> None:
        self.space = space
        self.settings = settings
        self.potential = potential
        self.atomistics = Atomistics(potential, settings.sampling, ResultCache(settings.cache))
        self.outputs: Mapping[str, str] = {name: settings.units[name] for name in settings.outputs}
        self._check_space()
        described = json.dumps(
            [PHASES_VERSION, potential.identity(), settings.identity()], sort_keys=True
        )
        self.version = f"{VERSION}-{hashlib.sha256(described.encode()).hexdigest()[:8]}"

    def _check_space(self) -> None:
        """Refuse at the start what would fail every candidate, or mislead."""
        _, high = self.space.bound_arrays()
        present = [
            [e for e, most in zip(self.space.elements, row, strict=True) if most > 0]
            for row in high
        ]
        used = sorted({symbol for symbols in present for symbol in symbols})
        self.potential.check_elements(used)
        if any(self.settings.wants(phase, "formation") for phase in self.space.phases):
            for symbol in used:
                structures.reference_atoms(
                    symbol, self.settings.sampling.reference_structures.get(symbol)
                )
        if self.settings.refuse_wrong_signs:
            for phase, symbols in zip(self.space.phases, present, strict=True):
                message = self._misjudged(phase, symbols)
                if message:
                    raise InvalidCampaignError(f"{NAME}: {message}")

    def _misjudged(self, phase: str, symbols: Sequence[str]) -> str:
        pairs = self.potential.misjudged(symbols)
        if not pairs:
            return ""
        named = ", ".join(f"{a}-{b}" for a, b in pairs)
        return (
            f"{phase} may hold {named}, whose enthalpy of mixing {self.potential.name!r} has with "
            "the wrong sign; take another calculator, bound an element of each pair to 0, or set "
            "wrong_signs = 'flag' to have it noted with every outcome"
        )

    def evaluate(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        """One outcome per candidate, in order; what cannot be evaluated fails with its reason."""
        return [self._evaluate(candidate) for candidate in candidates]

    def _evaluate(self, candidate: Candidate) -> Outcome:
        notes: dict[str, Any] = {
            "calculator": f"{self.potential.name} ({self.potential.version})",
            "temperature_K": 0,
        }
        try:
            compositions = self._compositions(candidate)
            cautions = self._cautions(candidate, compositions)
            if cautions:
                notes["cautions"] = cautions
            values: dict[str, float] = {}
            lattice: dict[str, Estimate] = {}
            for phase, x in zip(self.space.phases, compositions, strict=True):
                cells = self._cells(phase, x, candidate.elements)
                notes[phase] = _cell_notes(cells, x, candidate.elements)
                found = self._phase(phase, cells, lattice)
                values.update({name: estimate.mean for name, estimate in found.items()})
                notes[phase]["standard_errors"] = {
                    name: estimate.standard_error for name, estimate in found.items()
                }
            if MISFIT in self.outputs:
                a_p, a_m = lattice[self.settings.precipitate], lattice[self.settings.matrix]
                values[MISFIT] = lattice_misfit_percent(a_p.mean, a_m.mean)
                notes["misfit_standard_error_percent"] = misfit_error(a_p, a_m)
        except (InvalidInputError, AtomisticError) as error:
            return Outcome.failed(str(error), **notes)
        if self.atomistics.cache.problem:
            notes["cache"] = self.atomistics.cache.problem
        return Outcome("ok", {name: values[name] for name in self.outputs}, diagnostics=notes)

    def _compositions(self, candidate: Candidate) -> FloatArray:
        if candidate.phases != self.space.phases:
            raise InvalidInputError(
                f"phases are {', '.join(candidate.phases)}; expected {', '.join(self.space.phases)}"
            )
        if candidate.phase_compositions is None:
            raise InvalidInputError("candidate has no phase compositions")
        return candidate.phase_compositions

    def _cautions(self, candidate: Candidate, compositions: FloatArray) -> list[str]:
        """Remarks on the candidate; InvalidInputError where they are to be refused."""
        found: list[str] = []
        for phase, x in zip(self.space.phases, compositions, strict=True):
            symbols = [e for e, v in zip(candidate.elements, x, strict=True) if v > 0]
            message = self._misjudged(phase, symbols)
            if message and self.settings.refuse_wrong_signs:
                raise InvalidInputError(message)
            found += self.potential.cautions(symbols)
            elastic = any(self.settings.wants(phase, key) for key in ("bulk", "shear", *ELASTIC))
            if elastic and self.potential.elastic_caution:
                found.append(self.potential.elastic_caution)
        return list(dict.fromkeys(found))

    def _cells(self, phase: str, x: FloatArray, elements: Sequence[str]) -> list[CubicCell]:
        minority = self.settings.minority.get(phase, structures.MINORITY)
        return self.atomistics.cells(self.settings.structures[phase], x, elements, minority)

    def _phase(
        self, phase: str, cells: Sequence[CubicCell], lattice: dict[str, Estimate]
    ) -> dict[str, Estimate]:
        """Wanted outputs of one phase; its lattice parameter goes into ``lattice`` as well."""
        wants = self.settings.wants
        found: dict[str, Estimate] = {}
        in_misfit = MISFIT in self.outputs and phase in (
            self.settings.precipitate,
            self.settings.matrix,
        )
        name = wants(phase, "lattice")
        if name or in_misfit:
            lattice[phase] = self.atomistics.lattice_parameter(cells)
        if name:
            found[name] = lattice[phase]
        if name := wants(phase, "formation"):
            found[name] = self.atomistics.formation_energy(cells)
        if name := wants(phase, "bulk"):
            found[name] = self.atomistics.bulk_modulus(cells)
        if name := wants(phase, "shear"):
            found[name] = self.atomistics.shear_modulus(cells)
        if name := wants(phase, "density"):
            found[name] = self.atomistics.density(cells)
        elastic = {key: wants(phase, key) for key in ELASTIC}
        if any(elastic.values()):
            constants = self.atomistics.elastic_constants(cells)
            found.update({name: constants[key] for key, name in elastic.items() if name})
        return found


def _cell_notes(
    cells: Sequence[CubicCell], x: FloatArray, elements: Sequence[str]
) -> dict[str, Any]:
    realised = structures.composition_of(cells, elements)
    lost = [e for e, wanted, got in zip(elements, x, realised, strict=True) if wanted > got == 0]
    return {
        "structure": cells[0].structure,
        "atoms_per_cell": len(cells[0].symbols),
        "cells": len(cells),
        "largest_composition_error": float(np.abs(realised - x).max()),
        **({"elements_too_dilute_for_the_cells": lost} if lost else {}),
    }


def misfit_error(a_p: Estimate, a_m: Estimate) -> float | None:
    """Standard error of the misfit by error propagation; a cell without disorder has none."""
    if a_p.standard_error is None and a_m.standard_error is None:
        return None
    total = a_p.mean + a_m.mean
    by_p = 400 * a_m.mean / total**2 * (a_p.standard_error or 0.0)
    by_m = 400 * a_p.mean / total**2 * (a_m.standard_error or 0.0)
    return math.hypot(by_p, by_m)
