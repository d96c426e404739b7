"""``descriptors``: what the literature computes from a composition to tell alloys apart.

Settings, its table in the campaign file:

outputs     which of ``loop.descriptors.DESCRIPTORS``, of the whole design or, as
            ``<phase>_<descriptor>``, of one phase; default all of the whole design but omega
missing     "refuse" (default) or "leave_out": what to do with elements that the tables have no
            datum of; left out, the fractions of the others are closed to 1

Of a design of several phases the whole is its mean composition, phases by their area (which takes
volumes per atom as equal, ``Candidate.composition``). Formulas and sources: ``loop.descriptors``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from loop.candidate import Candidate, Outcome
from loop.descriptors import DESCRIPTORS, FINITE, GAS_CONSTANT, Missing, descriptors
from loop.errors import InvalidCampaignError, InvalidInputError, unknown_name
from loop.space import DesignSpace
from simulators.setting_tables import parse_table

NAME = "descriptors"
VERSION = "1"  # raise it when the same candidate would get other values
FloatArray = NDArray[np.float64]

# Weighted means of a datum of the pure elements, and of what a standard deviation is given.
MEANS = (
    "valence_electrons_per_atom",
    "mean_radius_pm",
    "mean_electronegativity",
    "melting_temperature_K",
    "molar_volume_cm3_per_mol",
    "density_g_per_cm3",
    "youngs_modulus_GPa",
)
SPREADS = {
    "valence_electron_spread": "valence_electrons_per_atom",
    "electronegativity_difference": "mean_electronegativity",
}
NOT_NEGATIVE = ("radius_mismatch_percent", "youngs_modulus_mismatch_percent", "omega")


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    outputs: list[str] | None = Field(default=None, min_length=1)
    missing: Literal["refuse", "leave_out"] = "refuse"


def create(
    *,
    space: DesignSpace,
    settings: Mapping[str, Any],
    device: str = "cpu",  # noqa: ARG001  nothing here is worth a device
) -> DescriptorSimulator:
    """The simulator for a design space with compositions.

    Raises InvalidCampaignError for settings or a space that cannot be used, and for an element of
    the space without a datum that an output needs.
    """
    table = parse_table(f"{NAME}: ", _Table, settings)
    if not space.elements:
        raise InvalidCampaignError(f"{NAME}: the space has no elements; list them in space")
    known = {name: ("", name) for name in DESCRIPTORS}
    if len(space.phases) > 1:
        known |= {
            f"{phase}_{name}": (phase, name) for phase in space.phases for name in DESCRIPTORS
        }
    for name in table.outputs or ():
        if name not in known:
            raise InvalidCampaignError(f"{NAME}: " + unknown_name("output", name, known))
    wanted = {name: known[name] for name in table.outputs or FINITE}
    whole = any(not phase for phase, _ in wanted.values())
    if whole and len(space.phases) > 1 and space.image_shape is None:
        raise InvalidCampaignError(
            f"{NAME}: the space has {len(space.phases)} phases and no images, so their amounts are "
            "unknown; add [images], or ask for outputs of single phases, such as "
            f"{space.phases[0]}_{FINITE[0]}"
        )
    return DescriptorSimulator(space, wanted, table.missing)


class DescriptorSimulator:
    """Descriptors of whole designs and of phases; the module says which there are."""

    name = NAME
    version = VERSION

    def __init__(
        self, space: DesignSpace, wanted: Mapping[str, tuple[str, str]], missing: Missing
    ) -> None:
        """``wanted``: output -> phase ("" of the whole design) and descriptor."""
        self.space, self.wanted, self.missing = space, dict(wanted), missing
        self.outputs: Mapping[str, str] = {
            name: DESCRIPTORS[kind] for name, (_, kind) in wanted.items()
        }
        self.limits = self._limits()

    def evaluate(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        """All outputs of every candidate; failed where an alloy has no element with the data."""
        return [self._of(candidate) for candidate in candidates]

    def _of(self, candidate: Candidate) -> Outcome:
        values: dict[str, float] = {}
        try:
            for phase in dict.fromkeys(phase for phase, _ in self.wanted.values()):
                names = [(out, kind) for out, (of, kind) in self.wanted.items() if of == phase]
                found = self._described(self._fractions(candidate, phase), [k for _, k in names])
                values |= {out: float(x) for (out, _), x in zip(names, found, strict=True)}
        except InvalidInputError as error:
            return Outcome("failed", reason=f"{NAME}: {error}")
        endless = [name for name, value in values.items() if not math.isfinite(value)]
        if endless:
            return Outcome(
                "failed", reason=f"{NAME}: {', '.join(endless)} is infinite for this design"
            )
        return Outcome("ok", values)

    def _fractions(self, candidate: Candidate, phase: str) -> FloatArray:
        if not phase:
            return candidate.composition()
        assert candidate.phase_compositions is not None
        found: FloatArray = candidate.phase_compositions[self.space.phases.index(phase)]
        return found

    def _described(self, fractions: FloatArray, kinds: Sequence[str]) -> FloatArray:
        row = fractions[None]
        return descriptors(row, self.space.elements, kinds, missing=self.missing)[0]

    def _limits(self) -> dict[str, tuple[float, float]]:
        """What no mixture of the space's elements can pass.

        A mean lies between its data, a density between those of the elements; a standard deviation
        is at most half their range (Popoviciu), the entropy at most that of equal parts.
        """
        elements = self.space.elements
        found: dict[str, tuple[float, float]] = {}
        for name, (_, kind) in self.wanted.items():
            if kind in MEANS or kind in SPREADS:
                data = self._pure(SPREADS.get(kind, kind))
                if kind in MEANS:
                    found[name] = (float(data.min()), float(data.max()))
                else:
                    found[name] = (0.0, float(data.max() - data.min()) / 2)
            elif kind == "mixing_entropy_J_per_molK":
                found[name] = (0.0, GAS_CONSTANT * math.log(len(elements)))
            elif kind == "entropy_share":
                found[name] = (0.0, 1.0)
            elif kind in NOT_NEGATIVE:
                found[name] = (0.0, math.inf)
            else:
                self._pure(kind)
        return found

    def _pure(self, kind: str) -> FloatArray:
        """Of the pure elements that have a datum, (m,)."""
        elements, found = self.space.elements, []
        for i, symbol in enumerate(elements):
            try:
                found.append(self._described(np.eye(len(elements))[i], [kind])[0])
            except InvalidInputError as error:
                if self.missing == "refuse":
                    raise InvalidCampaignError(
                        f"{NAME}: there is no {kind} with {symbol}: {error}".replace(
                            'pass missing="leave_out"', 'set missing = "leave_out"'
                        )
                    ) from None
        if not found:
            raise InvalidCampaignError(
                f"{NAME}: no element of the space has the data for {kind}; leave it out of outputs"
            )
        return np.array(found)
