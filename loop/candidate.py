"""Candidate, Origin, Outcome and Record: what is proposed, where it came from, what was found.

All are frozen and validated when built; arrays are copied and made read-only, so that a value
can be shared between stages without a defensive copy.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from loop.errors import InvalidInputError

Status = Literal["ok", "infeasible", "failed", "pending"]
STATUSES: tuple[Status, ...] = ("ok", "infeasible", "failed", "pending")
Fidelity = Literal["predicted", "simulated", "measured", "mixed"]
SUM_TOLERANCE = 1e-9
ID_DECIMALS = 12
PHASE_SEPARATOR = "|"  # of the names that go into an id, so no name may contain it


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a candidate came from. Not part of the candidate's identity.

    ``source`` names the generator or table (``"library"``, ``"joint-flow"``, ``"measured"``);
    ``guidance`` is the guidance scale s, or None where none applies; ``details`` holds small
    JSON values such as the requested property values.
    """

    source: str
    guidance: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.source:
            raise InvalidInputError("origin has an empty source; name the generator or table")
        object.__setattr__(self, "details", MappingProxyType(dict(self.details)))

    def __reduce__(self) -> tuple[Any, ...]:
        """Between processes as the arguments it was made of: a mapping proxy does not travel."""
        return Origin, (self.source, self.guidance, dict(self.details))


def check_phase_names(phases: Sequence[str]) -> None:
    """Raises InvalidInputError for a name that is empty or would make two ids ambiguous."""
    for name in phases:
        if not name or PHASE_SEPARATOR in name:
            raise InvalidInputError(
                f"phase name {name!r} is empty or contains {PHASE_SEPARATOR!r}; rename the phase"
            )


def check_label(where: str, text: object) -> None:
    """Raises InvalidInputError unless a label's name or value can stand in a table or a filter.

    ``where`` begins the message: ``"label processing"``.
    """
    if not isinstance(text, str) or not text or not text.isprintable() or text != text.strip():
        raise InvalidInputError(
            f"{where} is {text!r}; expected text that is not empty, on one line, without spaces "
            "at its ends"
        )


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    array = np.array(array, order="C")  # a copy: the caller may go on changing its own
    array.setflags(write=False)
    return array


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """One design: a microstructure, the compositions of its phases, process variables, or a subset.

    ``microstructure``: phase labels, (h, w) uint8, every label < p, or None.
    ``phase_compositions``: atomic fractions, (p, e) float64, rows sum to 1 within 1e-9, absent
    elements exactly 0, or None.
    ``elements``: symbols of the columns. ``phases``: names of the rows (and of the labels).
    ``process``: process variables; names carry units (``temperature_K``).
    ``labels``: categorical variables (``processing``: ``CAST``); no name of a process variable.

    Raises InvalidInputError when a part has the wrong shape, type or values.
    """

    phases: tuple[str, ...]
    elements: tuple[str, ...] = ()
    microstructure: NDArray[np.uint8] | None = None
    phase_compositions: NDArray[np.float64] | None = None
    process: Mapping[str, float] = field(default_factory=dict)
    origin: Origin = Origin("unknown")
    labels: Mapping[str, str] = field(default_factory=dict)
    id: str = field(init=False)

    def __post_init__(self) -> None:
        if not self.phases:
            raise InvalidInputError("candidate has no phases; expected at least one phase name")
        check_phase_names(self.phases)
        if self.microstructure is None and self.phase_compositions is None:
            raise InvalidInputError(
                "candidate has neither microstructure nor phase_compositions; give at least one"
            )
        if self.microstructure is not None:
            object.__setattr__(self, "microstructure", self._checked_image(self.microstructure))
        if self.phase_compositions is not None:
            object.__setattr__(
                self, "phase_compositions", self._checked_compositions(self.phase_compositions)
            )
        process = {str(k): float(v) for k, v in self.process.items()}
        for name, value in process.items():
            if not math.isfinite(value):
                raise InvalidInputError(
                    f"process variable {name} is {value}; expected a finite number"
                )
        object.__setattr__(self, "process", MappingProxyType(process))
        for name, text in self.labels.items():
            check_label("the name of a label", name)
            check_label(f"label {name}", text)
            if name in process:
                raise InvalidInputError(
                    f"{name} is a label and a process variable of one candidate; rename one"
                )
        object.__setattr__(self, "labels", MappingProxyType(dict(self.labels)))
        object.__setattr__(self, "id", self._content_hash())

    def __reduce__(self) -> tuple[Any, ...]:
        parts = (self.microstructure, self.phase_compositions, dict(self.process), self.origin)
        return Candidate, (self.phases, self.elements, *parts, dict(self.labels))

    def _checked_image(self, image: NDArray[Any]) -> NDArray[np.uint8]:
        image = np.asarray(image)
        if image.ndim != 2 or image.size == 0:
            raise InvalidInputError(
                f"microstructure has shape {image.shape}; expected (h, w) phase labels"
            )
        if image.dtype != np.uint8:
            raise InvalidInputError(f"microstructure has type {image.dtype}; expected uint8 labels")
        if int(image.max()) >= len(self.phases):
            raise InvalidInputError(
                f"microstructure has label {int(image.max())} but there are only "
                f"{len(self.phases)} phases ({', '.join(self.phases)}); relabel the image"
            )
        return _frozen(image)

    def _checked_compositions(self, x: NDArray[Any]) -> NDArray[np.float64]:
        x = np.asarray(x, dtype=np.float64)
        expected = (len(self.phases), len(self.elements))
        if x.shape != expected:
            raise InvalidInputError(
                f"phase_compositions has shape {x.shape}; expected {expected}: "
                f"phases {', '.join(self.phases)} by elements {', '.join(self.elements)}"
            )
        for phase, row in zip(self.phases, x, strict=True):
            if not np.all(np.isfinite(row)):
                raise InvalidInputError(f"composition of {phase} has a value that is not finite")
            if np.any(row < 0):
                worst = int(np.argmin(row))
                raise InvalidInputError(
                    f"composition of {phase} has {self.elements[worst]} = {row[worst]:g}; "
                    "expected fractions >= 0"
                )
            if abs(float(row.sum()) - 1.0) > SUM_TOLERANCE:
                raise InvalidInputError(
                    f"composition of {phase} sums to {row.sum():.12g}; expected 1 within "
                    f"{SUM_TOLERANCE:g} (atomic fractions); normalise it first"
                )
        return _frozen(x + 0.0)  # + 0.0 turns -0.0 into 0.0, so equal designs hash equally

    def _content_hash(self) -> str:
        digest = hashlib.sha256()
        digest.update(PHASE_SEPARATOR.join(self.phases).encode())
        if self.microstructure is not None:
            digest.update(f"image{self.microstructure.shape}".encode())
            digest.update(self.microstructure.tobytes())
        if self.phase_compositions is not None:
            # Elements that no phase contains are not part of the design, nor is their order.
            order = sorted(range(len(self.elements)), key=lambda i: self.elements[i])
            rounded = np.round(self.phase_compositions, ID_DECIMALS)
            for i in order:
                if np.any(rounded[:, i] != 0):
                    digest.update(self.elements[i].encode())
                    digest.update(np.ascontiguousarray(rounded[:, i]).tobytes())
        for name in sorted(self.process):
            digest.update(f"{name}={self.process[name]!r}".encode())
        if self.labels:  # designs without any keep the id they have in ledgers
            digest.update(f"labels{json.dumps(dict(self.labels), sort_keys=True)}".encode())
        return digest.hexdigest()[:32]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Candidate) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def phase_fractions(self) -> NDArray[np.float64]:
        """Area fractions of the phases, (p,), sum 1.

        Raises InvalidInputError for a candidate without image that has several phases.
        """
        if self.microstructure is None:
            if len(self.phases) == 1:
                return np.ones(1)
            raise InvalidInputError(
                f"candidate {self.id} has {len(self.phases)} phases and no microstructure: "
                "its phase fractions are unknown"
            )
        counts = np.bincount(self.microstructure.ravel(), minlength=len(self.phases))
        return counts / self.microstructure.size

    def composition(self) -> NDArray[np.float64]:
        """Overall atomic fractions by the lever rule, (e,).

        Phase amounts are area fractions: the atomic volumes of the phases are taken as equal,
        which for coherent phases is within the misfit (below 1 %).
        """
        if self.phase_compositions is None:
            raise InvalidInputError(f"candidate {self.id} has no phase compositions")
        overall: NDArray[np.float64] = self.phase_fractions() @ self.phase_compositions
        return overall


def stack_compositions(candidates: Sequence[Candidate]) -> NDArray[np.float64]:
    """(n, p, e) phase compositions of candidates that all have them."""
    return np.stack([c.phase_compositions for c in candidates if c.phase_compositions is not None])


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a simulator (or a laboratory) found for one candidate.

    ``pending``: not known yet, and asked for; the candidate is to be handed in again later. It
    costs nothing and is never on record.
    ``values``: property name (with unit) to value, finite, only where status is ``ok``.
    ``bounds``: property to (low, high) that hold for the discrete image as given; a subset.
    ``diagnostics``: small JSON values (iterations, residual). ``reason``: required unless ok.
    ``uncertainty``: property to standard uncertainty (one standard deviation), in the property's
    unit; a subset of ``values``.
    """

    status: Status
    values: Mapping[str, float] = field(default_factory=dict)
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    uncertainty: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise InvalidInputError(f"outcome status {self.status!r}; expected one of {STATUSES}")
        if self.status == "ok":
            for name, value in self.values.items():
                if not math.isfinite(value):
                    raise InvalidInputError(f"outcome is ok but {name} is {value}; mark it failed")
        elif not self.reason:
            raise InvalidInputError(f"outcome is {self.status} without a reason; say why")
        elif self.values:
            raise InvalidInputError(f"outcome is {self.status} but carries values; drop them")
        for name, (low, high) in self.bounds.items():
            if not low <= high:
                raise InvalidInputError(
                    f"bounds of {name} are ({low}, {high}); expected low <= high"
                )
        for name, deviation in self.uncertainty.items():
            if name not in self.values or not 0 <= deviation < math.inf:
                raise InvalidInputError(
                    f"uncertainty of {name} is {deviation}; expected a finite number >= 0 of a "
                    "property that has a value"
                )
        object.__setattr__(
            self, "values", MappingProxyType({k: float(v) for k, v in self.values.items()})
        )
        object.__setattr__(
            self,
            "uncertainty",
            MappingProxyType({k: float(v) for k, v in self.uncertainty.items()}),
        )
        object.__setattr__(
            self,
            "bounds",
            MappingProxyType({k: (float(a), float(b)) for k, (a, b) in self.bounds.items()}),
        )
        object.__setattr__(self, "diagnostics", MappingProxyType(dict(self.diagnostics)))

    def __reduce__(self) -> tuple[Any, ...]:
        maps = (dict(self.values), dict(self.bounds), dict(self.diagnostics))
        return Outcome, (self.status, *maps, self.reason, dict(self.uncertainty))

    @staticmethod
    def failed(reason: str, **diagnostics: Any) -> Outcome:
        return Outcome("failed", reason=reason, diagnostics=diagnostics)


@dataclass(frozen=True, slots=True)
class Record:
    """One evaluation: candidate, who evaluated it, when in the campaign, and the outcome.

    ``arm``: which strategy asked for it (``"loop"``, ``"seed"``, or a control: ``"random"``).
    ``fidelity``: ``predicted`` (a surrogate's, never stored), ``simulated``, ``measured``, or
    ``mixed`` where some of its values are simulated and some measured.
    """

    candidate: Candidate
    outcome: Outcome
    simulator: str
    version: str
    round: int
    arm: str = "loop"
    fidelity: Fidelity = "simulated"
