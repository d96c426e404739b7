"""DesignSpace: elements, phases, image size, bounds; validation and the surrogate's coordinates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from loop.candidate import Candidate, check_label, check_phase_names
from loop.constraints import sum_conflict
from loop.errors import InvalidCampaignError, InvalidInputError, unknown_name
from loop.polytope import CompositionSet

BOUND_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class DesignSpace:
    """What may be designed.

    ``phases``: names of the p phases; ``elements``: symbols of the e elements (may be empty for an
    image-only campaign); ``image_shape``: (h, w) or None for a composition-only campaign.
    ``bounds``: phase -> element -> (low, high) atomic fractions; an element without bounds may
    take [0, 1], an element with (0, 0) is absent. ``process``: variable -> (low, high).
    ``labels``: categorical variable -> the values it may take. ``constraints``: on the composition
    of a space with one phase, in words (``Ni + Co >= 0.5``, see ``loop.constraints``).
    ``phase_constraints``: phase -> such constraints, where there are several phases.
    """

    phases: tuple[str, ...]
    elements: tuple[str, ...] = ()
    image_shape: tuple[int, int] | None = None
    bounds: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    process: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    constraints: tuple[str, ...] = ()
    phase_constraints: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kind, names in (("phase", self.phases), ("element", self.elements)):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise InvalidCampaignError(f"{kind} {twice[0]} is listed twice; name each once")
        if not self.phases:
            raise InvalidCampaignError(
                "design space has no phases; list at least one in space.phases"
            )
        if not self.elements and self.image_shape is None:
            raise InvalidCampaignError(
                "design space has neither elements nor images; give at least one"
            )
        try:
            check_phase_names(self.phases)
        except InvalidInputError as error:
            raise InvalidCampaignError(f"space.phases: {error}") from None
        for phase, table in self.bounds.items():
            if phase not in self.phases:
                raise InvalidCampaignError(
                    "space.bounds: " + unknown_name("phase", phase, self.phases)
                )
            for element, (low, high) in table.items():
                if element not in self.elements:
                    raise InvalidCampaignError(
                        f"space.bounds.{phase}: " + unknown_name("element", element, self.elements)
                    )
                if not 0 <= low <= high <= 1:
                    raise InvalidCampaignError(
                        f"space.bounds.{phase}.{element} is ({low:g}, {high:g}); "
                        "expected 0 <= low <= high <= 1"
                    )
        for name, (low, high) in self.process.items():
            if not -math.inf < low <= high < math.inf:
                raise InvalidCampaignError(
                    f"space.process.{name} is ({low:g}, {high:g}); expected finite low <= high"
                )
        self._check_labels()
        if self.elements:
            for phase, low, high in zip(self.phases, *self.bound_arrays(), strict=True):
                told = sum_conflict(
                    self.elements, low.tolist(), high.tolist(), tolerance=BOUND_TOLERANCE
                )
                if told is not None:
                    raise InvalidCampaignError(f"space.bounds.{phase}: {told}")
        self._check_constraints()

    def _check_constraints(self) -> None:
        """Raises InvalidCampaignError for constraints of no phase, and those that leave nothing."""
        for phase in self.phase_constraints:
            if phase not in self.phases:
                raise InvalidCampaignError(
                    "space.constraints: " + unknown_name("phase", phase, self.phases)
                )
        if not self.constrained:
            return
        if not self.elements:
            raise InvalidCampaignError(
                "space.constraints are for designs with compositions, and this space has no "
                "elements; list them in space.elements, or leave the constraints out"
            )
        if self.constraints and len(self.phases) > 1:
            raise InvalidCampaignError(
                "space.constraints is a list, which is for designs of one phase; this space has "
                f"{', '.join(self.phases)}: give a table [space.constraints] with a list for each "
                f'phase that has any, such as {self.phases[0]} = ["{self.elements[0]} >= 0.1"]'
            )
        for phase in self.phases:
            try:
                self.allowed(phase)
            except InvalidInputError as error:
                raise InvalidCampaignError(f"{self.constraints_key(phase)}: {error}") from None

    @property
    def constrained(self) -> bool:
        """Whether any phase has constraints besides its bounds."""
        return bool(self.constraints) or any(self.phase_constraints.values())

    def constraints_of(self, phase: str) -> tuple[str, ...]:
        """The constraints of a phase besides its bounds, in words."""
        return (*self.constraints, *self.phase_constraints.get(phase, ()))

    def constraints_key(self, phase: str) -> str:
        """Where the constraints of a phase stand in a campaign file."""
        return "space.constraints" if len(self.phases) == 1 else f"space.constraints.{phase}"

    def allowed(self, phase: str | None = None) -> CompositionSet:
        """Compositions that bounds and constraints allow a phase (the first where none is named).

        Raises InvalidInputError for an unknown phase, constraints that cannot be read, and where
        nothing is allowed.
        """
        phase = self.phases[0] if phase is None else phase
        if phase not in self.phases:
            raise InvalidInputError(unknown_name("phase", phase, self.phases))
        limits = self.bounds.get(phase, {})
        bounds = tuple((e, *map(float, limits[e])) for e in self.elements if e in limits)
        return _allowed(self.elements, bounds, self.constraints_of(phase))

    def _check_labels(self) -> None:
        """Raises InvalidCampaignError for labels without values, with one twice, or misnamed."""
        for name, values in self.labels.items():
            try:
                check_label("space.labels: a name", name)
                for value in values:
                    check_label(f"space.labels.{name}: a value", value)
            except InvalidInputError as error:
                raise InvalidCampaignError(str(error)) from None
            if name in self.process:
                raise InvalidCampaignError(
                    f"{name} is in space.process and in space.labels; rename one of the two"
                )
            if not values:
                raise InvalidCampaignError(f"space.labels.{name} has no values; list at least one")
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise InvalidCampaignError(
                    f"space.labels.{name} lists {twice[0]!r} twice; list each value once"
                )

    def bound_arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lower and upper atomic fractions, each (p, e)."""
        low = np.zeros((len(self.phases), len(self.elements)))
        high = np.ones_like(low)
        for i, phase in enumerate(self.phases):
            for j, element in enumerate(self.elements):
                low[i, j], high[i, j] = self.bounds.get(phase, {}).get(element, (0.0, 1.0))
        return low, high

    def violations(self, candidate: Candidate) -> list[str]:
        """Why a candidate is not in this space; empty when it is."""
        found: list[str] = []
        if candidate.phases != self.phases:
            return [f"phases are {candidate.phases}, expected {self.phases}"]
        image = candidate.microstructure
        if (image is None) != (self.image_shape is None):
            found.append("has no image" if image is None else "has an image, none was expected")
        elif image is not None:
            if image.shape != self.image_shape:
                found.append(f"image has shape {image.shape}, expected {self.image_shape}")
            if len(self.phases) > 1 and image.min() == image.max():
                found.append(
                    f"image is constant: only {self.phases[int(image.flat[0])]} is present"
                )
        x = candidate.phase_compositions
        if (x is None) != (not self.elements):
            found.append("has no compositions" if x is None else "has compositions, none expected")
        elif x is not None:
            if candidate.elements != self.elements:
                found.append(f"elements are {candidate.elements}, expected {self.elements}")
            else:
                low, high = self.bound_arrays()
                outside = (x < low - BOUND_TOLERANCE) | (x > high + BOUND_TOLERANCE)
                for i, j in np.argwhere(outside):
                    found.append(
                        f"{self.phases[i]} has {self.elements[j]} = {x[i, j]:.4f}, outside "
                        f"[{low[i, j]:g}, {high[i, j]:g}]"
                    )
                for phase, row in zip(self.phases, x, strict=True):
                    if self.constraints_of(phase):
                        where = self.constraints_key(phase)
                        found += [f"{where}: {v}" for v in self.allowed(phase).violations(row)]
        for name, (least, most) in self.process.items():
            value = candidate.process.get(name)
            if value is None or not least <= value <= most:
                found.append(f"process {name} is {value}, outside [{least:g}, {most:g}]")
        for name, allowed in self.labels.items():
            label = candidate.labels.get(name)
            if label is None:
                found.append(f"label {name} is missing, expected one of {', '.join(allowed)}")
            elif label not in allowed:
                found.append(f"label {name} is {label!r}, expected one of {', '.join(allowed)}")
        found += [
            f"has a label {name}, none was expected"
            for name in candidate.labels
            if name not in self.labels
        ]
        return found


@lru_cache(maxsize=32)
def _allowed(
    elements: tuple[str, ...],
    bounds: tuple[tuple[str, float, float], ...],
    constraints: tuple[str, ...],
) -> CompositionSet:
    texts = [f"{low!r} <= {element} <= {high!r}" for element, low, high in bounds]
    return CompositionSet.of(elements, (*texts, *constraints))
