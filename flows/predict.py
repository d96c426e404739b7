"""What a campaign's surrogate expects of designs that somebody has in mind.

The surrogate is the one that ``propose --guide surrogate`` asks: fitted to all that the generative
arm knows. Nothing is added to the ledger, and the same question has the same answer until a round
adds records.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flows.expectation import LEVEL, Expectation, NewValues
from flows.fitted import fitted_surrogate
from loop.candidate import Candidate, Record, stack_compositions
from loop.errors import InvalidInputError
from loop.known_alloys import KnownAlloys
from loop.measuring import best_known
from loop.polytope import CompositionSet
from loop.round import evaluate
from loop.session import Session
from loop.space import BOUND_TOLERANCE, DesignSpace

FloatArray = NDArray[np.float64]
__all__ = ["LEVEL", "MOST_DESIGNS", "broken", "check_kind", "predict"]
MOST_DESIGNS = 10_000  # in one answer


def predict(session: Session, designs: Sequence[Candidate], *, score: bool = False) -> Expectation:
    """What the surrogate of a session's records expects of designs.

    ``score``: have the simulators evaluate them as well; what people measure is looked up.
    Raises LedgerError where nothing has been scored yet, InvalidInputError for a design that is
    not of the campaign's kind, none or more than 10,000 of them, and a property with fewer than 8
    scored values.
    """
    if not 1 <= len(designs) <= MOST_DESIGNS:
        raise InvalidInputError(
            f"got {len(designs)} designs; expected 1 to {MOST_DESIGNS} in one question"
        )
    name, space, targets = session.campaign.name, session.campaign.space, session.campaign.targets
    for design in designs:
        check_kind(design, space, name)
    surrogate, ok = fitted_surrogate(session)
    prediction = surrogate.predict(session.features.transform(designs))
    low, high = surrogate.interval(prediction, LEVEL)
    chances, chance = NewValues.of(surrogate, prediction).chances(targets)
    known = best_known(ok)
    nearest, difference = _nearest(designs, [r.candidate for r in known])
    return Expectation(
        properties=session.properties,
        targets=targets,
        designs=tuple(designs),
        mean=prediction.mean,
        std=prediction.std,
        low=low,
        high=high,
        chances=chances,
        chance=chance,
        nearest=nearest,
        difference=difference,
        remarks=_remarks(session, designs, known),
        outcomes=tuple(evaluate(session.simulators, designs)) if score else None,
        about={
            "campaign": name,
            "records": len(known),
            "interval": {"level": LEVEL, "kind": "gaussian", "of": "a new value, with its scatter"},
            "fidelity": dict(session.fidelity),
        },
    )


# What else is said of a design


def check_kind(design: Candidate, space: DesignSpace, campaign: str) -> None:
    """Raise InvalidInputError for a design that has not the parts of a campaign's designs.

    Bounds and constraints may be broken: what is expected there is a fair question.
    """
    image = design.microstructure
    for what, given, expected in (
        ("phases", ", ".join(design.phases), ", ".join(space.phases)),
        ("elements", ", ".join(design.elements), ", ".join(space.elements)),
        ("image", _size(None if image is None else image.shape), _size(space.image_shape)),
        ("process variables", ", ".join(sorted(design.process)), ", ".join(sorted(space.process))),
        ("labels", ", ".join(sorted(design.labels)), ", ".join(sorted(space.labels))),
    ):
        if given != expected:
            raise InvalidInputError(
                f"design {design.id[:8]} is none of campaign {campaign!r}: it has {what} "
                f"{given or 'none'}, expected {expected or 'none'}"
            )


def _size(shape: tuple[int, ...] | None) -> str:
    return "" if shape is None else " x ".join(map(str, shape))


def _nearest(
    designs: Sequence[Candidate], known: Sequence[Candidate]
) -> tuple[tuple[Candidate | None, ...], FloatArray]:
    """Of each design the known one of the nearest phase compositions, and how far it is."""
    n = len(designs)
    if designs[0].phase_compositions is None:
        return (None,) * n, np.full(n, np.nan)
    # Phases side by side: closed to sum 1 each weighs the same, so the sum is a mean over phases.
    alloys = KnownAlloys(stack_compositions(known).reshape(len(known), -1))
    found = alloys.nearest(stack_compositions(designs).reshape(n, -1))
    return tuple(known[i] for i in found.index), found.difference


def _remarks(
    session: Session, designs: Sequence[Candidate], known: Sequence[Record]
) -> tuple[tuple[str, ...], ...]:
    """What is on record, what designs break, and what the gate before a selection says."""
    space = session.campaign.space
    # The gate looks no further at a design that breaks something; here both are worth knowing.
    free = dataclasses.replace(space, bounds={}, constraints=(), phase_constraints={})
    gate = session.gate
    unlike = dataclasses.replace(gate, space=free).reasons(designs)
    records = {record.candidate.id: record for record in known}
    found = []
    for design, reason in zip(designs, unlike, strict=True):
        told = [_recorded(records[design.id], session)] if design.id in records else []
        found.append((*told, *broken(space, design), *([reason] if reason else [])))
    return tuple(found)


def _recorded(record: Record, session: Session) -> str:
    """``on record: hardness_HV 1183 ± 118``, of the targets."""
    values, uncertainty = record.outcome.values, record.outcome.uncertainty
    texts = [
        f"{k} {values[k]:.5g}" + (f" ± {uncertainty[k]:.2g}" if k in uncertainty else "")
        for k in session.campaign.targets.properties
        if k in values
    ]
    return f"on record: {', '.join(texts)}"


def broken(space: DesignSpace, design: Candidate) -> list[str]:
    """Bounds and constraints of a space that a design's compositions break, in words."""
    x = design.phase_compositions
    if x is None:
        return []
    low, high = space.bound_arrays()
    found = []
    for i, j in np.argwhere((x < low - BOUND_TOLERANCE) | (x > high + BOUND_TOLERANCE)):
        phase = f"{space.phases[i]}: " if len(space.phases) > 1 else ""
        found.append(
            f"{phase}{space.elements[j]} is {x[i, j]:.4g}, outside its bounds "
            f"[{low[i, j]:g}, {high[i, j]:g}]"
        )
    for phase, row in zip(space.phases, x, strict=True):
        if texts := space.constraints_of(phase):
            where = f"{phase}: " if len(space.phases) > 1 else ""
            kept = CompositionSet.of(space.elements, texts)
            found += [f"{where}breaks {text}" for text in kept.violations(row)]
    return found
