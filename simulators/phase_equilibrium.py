"""``phase-equilibrium``: how far a candidate's phases are from equilibrium at its composition.

See ``phase_equilibrium_settings`` for the settings. Outputs, all of unit 1:

equilibrium_mismatch           greatest difference of an atomic fraction between a phase and the
                               phase of the same kind in equilibrium (``phase_matching``)
equilibrium_missing_phases     phases that are not in equilibrium, or are and are not proposed
<phase>_equilibrium_fraction   share of the atoms in that phase in equilibrium, 0 where it is none

The candidate's overall composition is the mean of its phases by area, which takes their volumes
per atom as equal (``Candidate.composition``). A campaign bounds the mismatch as a target.
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
from loop.errors import InvalidInputError
from loop.space import DesignSpace
from simulators.phase_equilibrium_settings import (
    FRACTION,
    MISMATCH,
    MISSING,
    NAME,
    TEMPERATURE,
    EquilibriumModel,
    Table,
    make_model,
    output_names,
    parse_settings,
)
from simulators.phase_matching import match_phases
from simulators.setting_paths import from_folder

VERSION = "1"  # raise it when the same candidate would get other values
FloatArray = NDArray[np.float64]


def create(
    *,
    space: DesignSpace,
    settings: Mapping[str, Any],
    device: str = "cpu",  # noqa: ARG001  nothing here is worth a device
    folder: Path | None = None,
) -> PhaseEquilibrium:
    """The simulator for a design space with compositions.

    ``folder``: where relative paths in the settings start.
    Raises InvalidCampaignError for settings or a space that cannot be used, InvalidInputError for
    a database that cannot be used or without pycalphad.
    """
    table = parse_settings(from_folder(settings, folder, "database", "solution"), space)
    return PhaseEquilibrium(space, table, make_model(table, space))


class PhaseEquilibrium:
    """Mismatch and phase fractions in equilibrium; the module says which outputs there are.

    Every ok outcome's diagnostics hold the temperature, the overall composition, and the phases
    in equilibrium with their fractions and compositions.
    """

    name = NAME

    def __init__(self, space: DesignSpace, table: Table, model: EquilibriumModel) -> None:
        self.space = space
        self.model = model
        self.temperature = table.temperature_K
        self.variable = table.temperature
        wanted = table.outputs or output_names(space)
        self.outputs: Mapping[str, str] = dict.fromkeys(wanted, "1")
        limits = dict.fromkeys(wanted, (0.0, 1.0))
        self.limits: Mapping[str, tuple[float, float]] = limits | (
            {MISSING: (0.0, math.inf)} if MISSING in wanted else {}
        )
        described = json.dumps(
            [
                space.phases,
                model.kinds,
                model.identity(),
                self.temperature or self.variable,
                sorted(wanted),
            ],
            sort_keys=True,
        )
        self.version = f"{VERSION}-{hashlib.sha256(described.encode()).hexdigest()[:8]}"

    def evaluate(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        """One outcome per candidate, in order; what cannot be evaluated fails with its reason."""
        return [self._evaluate(candidate) for candidate in candidates]

    def _evaluate(self, candidate: Candidate) -> Outcome:
        try:
            compositions = self._compositions(candidate)
            z = candidate.phase_fractions() @ compositions
            z /= z.sum()
            temperature = self._temperature(candidate)
            rest = self.model.at(z, temperature)
        except (InvalidInputError, ArithmeticError) as error:
            return Outcome.failed(str(error))
        found = match_phases(self.model.kinds, compositions, rest)
        values = {MISMATCH: found.mismatch, MISSING: float(found.missing)}
        for phase, partner in zip(self.space.phases, found.partners, strict=True):
            fraction = 0.0 if partner is None else float(rest.fractions[partner])
            values[FRACTION.format(phase=phase)] = min(1.0, fraction)
        elements = self.space.elements
        return Outcome(
            "ok",
            {name: values[name] for name in self.outputs},
            diagnostics={
                TEMPERATURE: temperature,
                "composition": dict(zip(elements, z.tolist(), strict=True)),
                "equilibrium": [
                    {
                        "phase": name,
                        "fraction": float(fraction),
                        "composition": dict(zip(elements, x.tolist(), strict=True)),
                    }
                    for name, fraction, x in zip(
                        rest.phases, rest.fractions, rest.compositions, strict=True
                    )
                ],
            },
        )

    def _compositions(self, candidate: Candidate) -> FloatArray:
        """(p, e) of a candidate whose phases are all there."""
        if candidate.phases != self.space.phases or candidate.elements != self.space.elements:
            raise InvalidInputError(
                f"phases are {', '.join(candidate.phases)} of {', '.join(candidate.elements)}; "
                f"expected {', '.join(self.space.phases)} of {', '.join(self.space.elements)}"
            )
        if candidate.phase_compositions is None:
            raise InvalidInputError("candidate has no phase compositions")
        for phase, share in zip(candidate.phases, candidate.phase_fractions(), strict=True):
            if share == 0:
                raise InvalidInputError(
                    f"{phase} is absent from the image: its composition has no say in the overall "
                    "one"
                )
        return candidate.phase_compositions

    def _temperature(self, candidate: Candidate) -> float:
        if self.temperature is not None:
            return self.temperature
        if self.variable not in candidate.process:
            raise InvalidInputError(f"candidate has no process variable {self.variable}")
        return candidate.process[self.variable]
