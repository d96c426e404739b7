"""A path between two compositions as points and outcomes: as a frame, in words, as a document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from interface.labels import fractions_text, phase_label, short_id
from interface.output import cell
from loop.candidate import Candidate, Fidelity, Outcome
from loop.composition import FloatArray
from loop.formula import canonical_text
from loop.paths import path_length

if TYPE_CHECKING:
    import pandas as pd

    from flows.tie_line import TieLine


@dataclass(frozen=True, eq=False)
class Mended:
    """What was changed for a property to move one way.

    ``compositions``: (n, p, e) and ``values``: (n,) before; ``moved``: (n,) how far each point was
    moved, in atomic fractions (Euclidean). ``fidelity``: whether it was simulated, measured or
    predicted that the property moves one way.
    """

    name: str
    compositions: FloatArray
    values: FloatArray
    moved: FloatArray
    fidelity: Fidelity = "simulated"


@dataclass(frozen=True, eq=False)
class Predicted:
    """What a surrogate expects of every point, see ``flows.expected``.

    ``outcomes``: expected values, their standard deviations as uncertainty, and as bounds the
    central interval of probability ``level`` of a new value. ``records``: how many the surrogate
    learned from.
    """

    outcomes: tuple[Outcome, ...]
    records: int
    level: float

    def columns(self) -> dict[str, list[float]]:
        """Column -> (n,) as in the frame of ``predict``."""
        found: dict[str, list[float]] = {}
        for name in self.outcomes[0].values:
            found[f"predicted_{name}"] = [o.values[name] for o in self.outcomes]
            found[f"predicted_std_{name}"] = [o.uncertainty[name] for o in self.outcomes]
            found[f"predicted_low_{name}"] = [o.bounds[name][0] for o in self.outcomes]
            found[f"predicted_high_{name}"] = [o.bounds[name][1] for o in self.outcomes]
        return found

    def told(self) -> str:
        """How its columns are to be read, on one line."""
        return (
            f"predicted: by the surrogate of {self.records} records, with its Gaussian "
            f"{100 * self.level:.0f} % interval of a new value, scatter included"
        )


@dataclass(frozen=True, eq=False)
class Interpolation:
    """n points: ``t`` (n,), ``compositions`` (n, p, e), what may carry them besides.

    ``feasible`` (n,): whether each meets the bounds and constraints, None where there are none;
    ``violations``: what it breaks. ``candidates``: the designs that are scored; ``fidelity``: what
    the values of a property in ``outcomes`` are, simulated where it is not named. ``tie_line``: of
    whose phases each point holds a fraction. ``mended``: for a property that moves one way.
    ``predicted``: what the surrogate expects of the designs, if asked.
    """

    kind: str
    phases: tuple[str, ...]
    elements: tuple[str, ...]
    t: FloatArray
    compositions: FloatArray
    feasible: NDArray[np.bool_] | None
    violations: tuple[tuple[str, ...], ...]
    candidates: tuple[Candidate, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    tie_line: TieLine | None = None
    mended: Mended | None = None
    predicted: Predicted | None = None
    fidelity: Mapping[str, Fidelity] = field(default_factory=dict)

    def columns(self) -> list[str]:
        """Names of the composition columns: ``Ni``, or ``gamma:Ni`` with several phases."""
        if len(self.phases) < 2:
            return list(self.elements)
        return [f"{phase}:{element}" for phase in self.phases for element in self.elements]

    def fractions(self) -> dict[str, FloatArray]:
        """Column -> (n,) fraction of atoms in a phase of the tie-line; empty without one."""
        if self.tie_line is None:
            return {}
        names = self.tie_line.phases
        if names[0] == names[1]:  # a miscibility gap
            names = (f"{names[0]}#1", f"{names[1]}#2")
        return {f"fraction:{n}": f for n, f in zip(names, self.tie_line.fractions.T, strict=True)}

    def lengths(self) -> dict[str, dict[str, float]]:
        """Euclidean and Aitchison length of each phase's path; infinite where elements change."""
        return {
            phase: {
                "euclidean": path_length(self.compositions[:, i]),
                "aitchison": path_length(self.compositions[:, i], aitchison=True),
            }
            for i, phase in enumerate(self.phases)
        }

    def frame(self) -> pd.DataFrame:
        """One row a point: t, atomic fractions, feasible, what the simulators found and what the
        surrogate expects.
        """
        import pandas as pd

        table: dict[str, Any] = {"t": self.t}
        flat = self.compositions.reshape(len(self.t), -1)
        table |= {name: flat[:, i] for i, name in enumerate(self.columns())}
        table |= self.fractions()
        if self.mended is not None:
            table["moved"] = self.mended.moved
        if self.feasible is not None:
            table["feasible"] = self.feasible
        if self.candidates:
            table["id"] = [candidate.id for candidate in self.candidates]
        if self.outcomes:
            table["status"] = [outcome.status for outcome in self.outcomes]
            for name in dict.fromkeys(k for o in self.outcomes for k in o.values):
                table[name] = [o.values.get(name, np.nan) for o in self.outcomes]
                if any(name in o.bounds for o in self.outcomes):
                    ends = [o.bounds.get(name, (np.nan, np.nan)) for o in self.outcomes]
                    table[f"{name}_low"] = [end[0] for end in ends]
                    table[f"{name}_high"] = [end[1] for end in ends]
            if any(outcome.reason for outcome in self.outcomes):
                table["reason"] = [outcome.reason or None for outcome in self.outcomes]
        if self.predicted is not None:
            table |= self.predicted.columns()
        return pd.DataFrame(table)

    def shown(self) -> pd.DataFrame:
        """The frame as people read it: phases in words, bounds beside their value, short ids.

        Elements that no point has are left out.
        """
        frame = self.frame()
        if len(self.phases) > 1:
            for i, phase in enumerate(self.phases):
                texts = [
                    fractions_text(dict(zip(self.elements, row, strict=True)))
                    for row in self.compositions[:, i].tolist()
                ]
                frame.insert(1 + i, f"{phase_label(phase)} at.%", texts)
            frame = frame.drop(columns=self.columns())
        else:
            absent = (self.compositions == 0).all(axis=(0, 1))
            frame = frame.drop(
                columns=[e for e, no in zip(self.elements, absent, strict=True) if no]
            )
        for name in {name for o in self.outcomes for name in o.bounds}:
            ends = zip(frame[name], frame[f"{name}_low"], frame[f"{name}_high"], strict=True)
            frame[name] = [f"{cell(v)} [{cell(low)}, {cell(high)}]" for v, low, high in ends]
            frame = frame.drop(columns=[f"{name}_low", f"{name}_high"])
        for name in () if self.predicted is None else self.predicted.outcomes[0].values:
            kinds = ("", "low_", "high_", "std_")
            mean, low, high, std = (f"predicted_{kind}{name}" for kind in kinds)
            ends = zip(frame[mean], frame[low], frame[high], strict=True)
            frame[mean] = [f"{cell(v)} [{cell(a)}, {cell(b)}]" for v, a, b in ends]
            frame = frame.drop(columns=[low, high, std])
        if "id" in frame.columns:
            frame["id"] = [short_id(one) for one in frame["id"]]
        return frame

    def document(self) -> dict[str, Any]:
        """The same as JSON-able values, with the canonical text of every composition."""
        points = []
        for i, t in enumerate(self.t):
            rows = self.compositions[i]
            point: dict[str, Any] = {
                "t": float(t),
                "compositions": {
                    phase: dict(zip(self.elements, map(float, row), strict=True))
                    for phase, row in zip(self.phases, rows, strict=True)
                },
                "texts": {
                    phase: canonical_text(row, self.elements)
                    for phase, row in zip(self.phases, rows, strict=True)
                },
            }
            if self.feasible is not None:
                point["feasible"] = bool(self.feasible[i])
                point["violations"] = list(self.violations[i])
            if fractions := self.fractions():
                point["fractions"] = {
                    name.removeprefix("fraction:"): float(f[i]) for name, f in fractions.items()
                }
            if self.mended is not None:
                point["moved"] = float(self.mended.moved[i])
            if self.candidates:
                point["id"] = self.candidates[i].id
            if self.outcomes:
                outcome = self.outcomes[i]
                point["outcome"] = {
                    "status": outcome.status,
                    "values": outcome.values,
                    "bounds": outcome.bounds,
                    "uncertainty": outcome.uncertainty,
                    "reason": outcome.reason,
                }
            if self.predicted is not None:
                expected = self.predicted.outcomes[i]
                point["predicted"] = {
                    "values": expected.values,
                    "bounds": expected.bounds,
                    "uncertainty": expected.uncertainty,
                }
            points.append(point)
        more: dict[str, Any] = {}
        if self.tie_line is not None:
            line = self.tie_line
            more["tie_line"] = {
                "phases": list(line.phases),
                "temperature_K": line.temperature_K,
                "at": line.at,
            }
        if self.mended is not None:
            more["monotone"] = self.mended.name
            more["monotone_as"] = self.mended.fidelity
        if self.predicted is not None:
            more["predicted"] = {
                "records": self.predicted.records,
                "interval": {
                    "level": self.predicted.level,
                    "kind": "gaussian",
                    "of": "a new value, with its scatter",
                },
            }
        return more | {
            "path": self.kind,
            "phases": list(self.phases),
            "elements": list(self.elements),
            "lengths": self.lengths(),
            "points": points,
        }
