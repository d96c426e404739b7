"""Paths between two compositions, or between two candidates of a ledger, as points and outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from interface.labels import fractions_text, phase_label, short_id
from interface.output import cell
from loop.candidate import Candidate, Origin, Outcome
from loop.composition import FloatArray
from loop.constraints import Group
from loop.errors import InvalidInputError
from loop.formula import canonical_text, parse_composition, to_vector
from loop.paths import feasible_path, geodesic_path, path_length, positions, straight_path
from loop.polytope import CompositionSet

if TYPE_CHECKING:
    import pandas as pd

    from loop.campaign import Campaign
    from loop.space import DesignSpace

LINE, AITCHISON, FEASIBLE = "line", "aitchison", "feasible"


@dataclass(frozen=True, eq=False)
class Interpolation:
    """n points: ``t`` (n,), ``compositions`` (n, p, e), what may carry them besides.

    ``feasible`` (n,): whether each meets the bounds and constraints, None where there are none;
    ``violations``: what it breaks. ``candidates``: the designs that are scored.
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

    def columns(self) -> list[str]:
        """Names of the composition columns: ``Ni``, or ``gamma:Ni`` with several phases."""
        if len(self.phases) < 2:
            return list(self.elements)
        return [f"{phase}:{element}" for phase in self.phases for element in self.elements]

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
        """One row a point: t, atomic fractions, feasible, and what the simulators found."""
        import pandas as pd

        table: dict[str, Any] = {"t": self.t}
        flat = self.compositions.reshape(len(self.t), -1)
        table |= {name: flat[:, i] for i, name in enumerate(self.columns())}
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
        return pd.DataFrame(table)

    def shown(self) -> pd.DataFrame:
        """The frame as people read it: phases in words, bounds beside their value, short ids."""
        frame = self.frame()
        if len(self.phases) > 1:
            for i, phase in enumerate(self.phases):
                texts = [
                    fractions_text(dict(zip(self.elements, row, strict=True)))
                    for row in self.compositions[:, i].tolist()
                ]
                frame.insert(1 + i, f"{phase_label(phase)} at.%", texts)
            frame = frame.drop(columns=self.columns())
        for name in {name for o in self.outcomes for name in o.bounds}:
            ends = zip(frame[name], frame[f"{name}_low"], frame[f"{name}_high"], strict=True)
            frame[name] = [f"{cell(v)} [{cell(low)}, {cell(high)}]" for v, low, high in ends]
            frame = frame.drop(columns=[f"{name}_low", f"{name}_high"])
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
            if self.candidates:
                point["id"] = self.candidates[i].id
            if self.outcomes:
                outcome = self.outcomes[i]
                point["outcome"] = {
                    "status": outcome.status,
                    "values": outcome.values,
                    "bounds": outcome.bounds,
                    "reason": outcome.reason,
                }
            points.append(point)
        return {
            "path": self.kind,
            "phases": list(self.phases),
            "elements": list(self.elements),
            "lengths": self.lengths(),
            "points": points,
        }


def between_formulas(
    first: str,
    last: str,
    steps: int,
    kind: str = LINE,
    *,
    constraints: Sequence[str] = (),
    space: DesignSpace | None = None,
    delta: float | None = None,
    normalise: bool = False,
) -> Interpolation:
    """Path between two compositions in words; ``steps`` points, ends included.

    ``space``: a campaign's; its elements are taken, its bounds kept, and its one phase makes
    every point a candidate. Raises InvalidInputError for what cannot be read, an infeasible end of
    a feasible path, and a space whose designs are more than one composition.
    """
    ends = [parse_composition(text, normalise=normalise) for text in (first, last)]
    elements = tuple(dict.fromkeys([*ends[0], *ends[1]])) if space is None else space.elements
    if space is not None:
        _check_one_composition(space)
    phase = "alloy" if space is None else space.phases[0]
    a, b = (to_vector(amounts, elements)[None] for amounts in ends)
    made = _moved((phase,), elements, a, b, steps, kind, constraints, space, delta)
    if space is None:
        return made
    candidates = tuple(
        Candidate(space.phases, elements, None, x, origin=Origin("interpolation", details={"t": t}))
        for t, x in zip(made.t.tolist(), made.compositions, strict=True)
    )
    return _with(made, candidates=candidates)


def _check_one_composition(space: DesignSpace) -> None:
    more = []
    if len(space.phases) > 1:
        more.append(f"{len(space.phases)} phases ({', '.join(space.phases)})")
    if space.image_shape is not None:
        more.append("a micrograph")
    if space.process:
        more.append(f"process variables ({', '.join(space.process)})")
    if more or not space.elements:
        what = " and ".join(more) or "no compositions"
        raise InvalidInputError(
            f"designs of this campaign have {what}; a formula is no such design: give two "
            "candidates of its ledger by id"
        )


def between_candidates(
    first: Candidate,
    last: Candidate,
    steps: int,
    kind: str = LINE,
    *,
    constraints: Sequence[str] = (),
    space: DesignSpace | None = None,
    delta: float | None = None,
) -> Interpolation:
    """Every phase along its own path between two candidates; ``steps`` points, ends included.

    Process variables move in a straight line. The micrograph is the first one's throughout, so
    that only compositions change; the last point is then the last candidate only where both have
    the same. Raises InvalidInputError where the two do not have the same phases, elements and
    process variables.
    """
    for what, one, other in (
        ("phases", first.phases, last.phases),
        ("elements", tuple(sorted(first.elements)), tuple(sorted(last.elements))),
        ("process variables", tuple(sorted(first.process)), tuple(sorted(last.process))),
    ):
        if one != other:
            raise InvalidInputError(
                f"{what} of the two candidates differ: {one} and {other}; give two of one campaign"
            )
    if first.phase_compositions is None or last.phase_compositions is None:
        raise InvalidInputError(
            "candidates of this campaign have no compositions; there is no path between them"
        )
    order = [last.elements.index(element) for element in first.elements]
    ends = (first.phase_compositions, last.phase_compositions[:, order])
    made = _moved(first.phases, first.elements, *ends, steps, kind, constraints, space, delta)
    candidates = []
    for t, x in zip(made.t.tolist(), made.compositions, strict=True):
        process = {k: (1 - t) * v + t * last.process[k] for k, v in first.process.items()}
        origin = Origin("interpolation", details={"t": t, "first": first.id, "last": last.id})
        candidates.append(
            Candidate(first.phases, first.elements, first.microstructure, x, process, origin)
        )
    return _with(made, candidates=tuple(candidates))


def _moved(
    phases: tuple[str, ...],
    elements: tuple[str, ...],
    a: FloatArray,
    b: FloatArray,
    steps: int,
    kind: str,
    constraints: Sequence[str],
    space: DesignSpace | None,
    delta: float | None,
) -> Interpolation:
    t = positions(steps)
    bounded = bool(constraints) or (space is not None and bool(space.bounds))
    paths, met, broken = [], np.ones(steps, dtype=bool), [list[str]() for _ in t]
    for phase, start, end in zip(phases, a, b, strict=True):
        allowed = _allowed(phase, elements, constraints, space)
        try:
            if kind == FEASIBLE:
                path = feasible_path(start, end, t, allowed)
            elif kind == AITCHISON:
                path = geodesic_path(start, end, t, delta=delta)
            else:
                path = straight_path(start, end, t)
        except InvalidInputError as error:
            text = _named(str(error), elements)
            raise InvalidInputError(f"{phase}: {text}" if len(phases) > 1 else text) from None
        paths.append(path)
        met &= allowed.is_feasible(path)
        for found, x in zip(broken, path, strict=True):
            found += [f"{phase}: {v}" if len(phases) > 1 else v for v in allowed.violations(x)]
    return Interpolation(
        kind,
        phases,
        elements,
        t,
        np.stack(paths, axis=1),
        met if bounded else None,
        tuple(map(tuple, broken)),
    )


def _named(text: str, elements: Sequence[str]) -> str:
    """``element number 2`` of an array -> its symbol, and what to do about it here."""
    text = text.replace(
        "take the straight path or replace zeros first",
        "take the path `line`, or say at which fraction it enters (--zeros 0.001)",
    )
    for i in reversed(range(len(elements))):
        text = text.replace(f"element number {i} ", f"{elements[i]} ")
    return text


def _allowed(
    phase: str, elements: tuple[str, ...], constraints: Sequence[str], space: DesignSpace | None
) -> CompositionSet:
    table = {} if space is None else space.bounds.get(phase, {})
    bounds = [Group({element: 1.0}, *ends).text for element, ends in table.items()]
    return CompositionSet.of(elements, [*bounds, *constraints])


def scored(path: Interpolation, campaign: Campaign) -> Interpolation:
    """The path with what the campaign's simulators find for its points."""
    from loop.round import evaluate
    from simulators import registry

    named = campaign.simulators
    simulators = registry.create_all(
        named.use,
        space=campaign.space,
        settings=named.settings,
        device=campaign.compute.device,
        timeout_s=named.timeout_s,
        wires=named.wiring,
    )
    return _with(path, outcomes=tuple(evaluate(simulators, path.candidates)))


def _with(path: Interpolation, **changes: Any) -> Interpolation:
    from dataclasses import replace

    return replace(path, **changes)
