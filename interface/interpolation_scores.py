"""What simulators and the surrogate say of the designs of a path."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from interface.interpolated import Interpolation, Mended, Predicted
from interface.interpolation import allowed, judged
from loop.errors import InvalidInputError

if TYPE_CHECKING:
    from flows.expected import Expected
    from flows.monotone_designs import Redraw
    from loop.candidate import Fidelity
    from loop.protocols import Simulator
    from loop.space import DesignSpace


def made_monotone(
    path: Interpolation,
    name: str,
    simulators: Sequence[Simulator],
    *,
    constraints: Sequence[str] = (),
    space: DesignSpace | None = None,
    redraw: Redraw | None = None,
) -> Interpolation:
    """The path with compositions mended until a property moves one way, its points within bounds.

    ``simulators``: the surrogate (``flows.expected.Expected``) in their place makes what is
    expected move one way. ``redraw``: draws the micrograph of a mended design. Raises as
    ``flows.monotone_designs`` does, and InvalidInputError for a path whose points are no designs.
    """
    from flows.monotone_designs import monotone_designs

    _check_designs(path, "--monotone")
    sets = [allowed(phase, path.elements, constraints, space) for phase in path.phases]
    designs, found = monotone_designs(path.candidates, name, simulators, sets, redraw=redraw)
    bounded = path.feasible is not None
    mended = judged(path.kind, path.phases, path.elements, found.path, sets, bounded=bounded)
    kind = next(_fidelity(s) for s in simulators if name in s.outputs)
    what = Mended(name, path.compositions, found.before, found.moved, kind)
    return dataclasses.replace(mended, candidates=tuple(designs), mended=what)


def scored(path: Interpolation, simulators: Sequence[Simulator]) -> Interpolation:
    """The path with what the simulators find for its points."""
    from flows.paths import score
    from loop.laboratory import fidelities

    _check_designs(path, "--score")
    outcomes = score(path.candidates, simulators)
    return dataclasses.replace(path, outcomes=outcomes, fidelity=fidelities(simulators))


def predicted(path: Interpolation, surrogate: Expected) -> Interpolation:
    """The path with what the campaign's surrogate expects of its points."""
    from flows.expected import LEVEL

    _check_designs(path, "--predict")
    outcomes = tuple(surrogate.evaluate(path.candidates))
    return dataclasses.replace(path, predicted=Predicted(outcomes, surrogate.records, LEVEL))


def _fidelity(simulator: Simulator) -> Fidelity:
    kind: Fidelity = getattr(simulator, "fidelity", "simulated")
    return kind


def _check_designs(path: Interpolation, option: str) -> None:
    if not path.candidates:
        raise InvalidInputError(
            f"{option} needs designs of the campaign, and a point of this path is a composition "
            "alone: designs have phases, images or process variables besides"
        )
