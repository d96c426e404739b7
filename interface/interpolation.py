"""Paths between two compositions, between two candidates of a ledger, or along a tie-line."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from interface.interpolated import Interpolation, Mended
from interface.interpolation_ends import end_compositions
from loop.candidate import Candidate, Origin, stack_compositions
from loop.composition import FloatArray
from loop.constraints import Group
from loop.errors import InvalidInputError
from loop.formula import parse_composition, to_vector
from loop.paths import feasible_path, geodesic_path, positions, straight_path
from loop.polytope import CompositionSet

if TYPE_CHECKING:
    from flows.paths import Generated
    from loop.campaign import Campaign
    from loop.protocols import Simulator
    from loop.space import DesignSpace

LINE, AITCHISON, FEASIBLE, GENERATOR, TIE_LINE = (
    "line",
    "aitchison",
    "feasible",
    "generator",
    "tie-line",
)

__all__ = [
    "Interpolation",
    "along_tie_line",
    "between_candidates",
    "between_formulas",
    "made_monotone",
    "scored",
]


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
    process: Mapping[str, float] | None = None,
    labels: Mapping[str, str] | None = None,
    generated: Generated | None = None,
) -> Interpolation:
    """Path between two compositions in words; ``steps`` points, ends included.

    ``space``: a campaign's; its elements are taken, its bounds kept, and every point is one of
    its designs: with several phases an end names them all, ``gamma: Ni-20Cr at%; gamma_prime:
    Ni3Al``, with process variables they are in ``process``, with labels in ``labels``, and with
    images ``generated`` draws one for each point. Raises InvalidInputError for what cannot be
    read, an infeasible end of a feasible path, and designs that the words do not make.
    """
    if space is not None:
        from flows.paths import design_of

        designs = [
            design_of(space, x, process or {}, generated, labels=labels or {})
            for x in end_compositions(
                (first, last), space, normalise=normalise, drawn=generated is not None
            )
        ]
        return between_candidates(
            designs[0],
            designs[1],
            steps,
            kind,
            constraints=constraints,
            space=space,
            delta=delta,
            generated=generated,
            draw=generated is not None and space.image_shape is not None,
        )
    amounts = [parse_composition(text, normalise=normalise) for text in (first, last)]
    elements = tuple(dict.fromkeys([*amounts[0], *amounts[1]]))
    a, b = (to_vector(one, elements)[None] for one in amounts)
    sets = [_allowed("alloy", elements, constraints, None)]
    path = _moved(("alloy",), elements, a, b, steps, kind, sets, delta)
    return _judged(kind, ("alloy",), elements, path, sets, bounded=bool(constraints))


def between_candidates(
    first: Candidate,
    last: Candidate,
    steps: int,
    kind: str = LINE,
    *,
    constraints: Sequence[str] = (),
    space: DesignSpace | None = None,
    delta: float | None = None,
    generated: Generated | None = None,
    draw: bool = False,
) -> Interpolation:
    """Every phase along its own path between two candidates; ``steps`` points, ends included.

    Process variables move in a straight line, labels stay. The micrograph is the first one's
    throughout, so that only compositions change; the last point is then the last candidate only
    where both have the same. ``draw``: ``generated`` draws one for each point between the ends
    instead, which keep theirs. On the path of the generator, compositions, process and image come
    from it.
    Raises InvalidInputError where the two do not have the same phases, elements, process
    variables and labels, and as ``Generated`` does.
    """
    for what, one, other in (
        ("phases", first.phases, last.phases),
        ("elements", tuple(sorted(first.elements)), tuple(sorted(last.elements))),
        ("process variables", tuple(sorted(first.process)), tuple(sorted(last.process))),
        ("labels", _label_text(first), _label_text(last)),
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
    a, b = first.phase_compositions, last.phase_compositions[:, order]
    sets = [_allowed(phase, first.elements, constraints, space) for phase in first.phases]
    bounded = bool(constraints) or (space is not None and bool(space.bounds))
    candidates: list[Candidate] = []
    if kind == GENERATOR:
        if generated is None:
            raise InvalidInputError("the path of a generator needs a campaign that has been run")
        candidates = generated.between(first, last, steps, sets)
        path = stack_compositions(candidates)
        found = _judged(kind, first.phases, first.elements, path, sets, bounded=bounded)
        return dataclasses.replace(found, candidates=tuple(candidates))
    path = _moved(first.phases, first.elements, a, b, steps, kind, sets, delta)
    found = _judged(kind, first.phases, first.elements, path, sets, bounded=bounded)
    for t, x in zip(found.t.tolist(), path, strict=True):
        process = {k: (1 - t) * v + t * last.process[k] for k, v in first.process.items()}
        origin = Origin("interpolation", details={"t": t, "first": first.id, "last": last.id})
        image = None if draw and 0 < t < 1 else first.microstructure
        if draw and t == 1:
            image = last.microstructure
        design = Candidate(first.phases, first.elements, image, x, process, origin, first.labels)
        if draw and image is None:
            if generated is None:
                raise InvalidInputError("micrographs need a campaign that has been run")
            design = generated.with_microstructure(design)
        candidates.append(design)
    return dataclasses.replace(found, candidates=tuple(candidates))


def _label_text(candidate: Candidate) -> str:
    return ", ".join(f"{k} = {v}" for k, v in sorted(candidate.labels.items())) or "none"


def along_tie_line(
    text: str,
    steps: int,
    *,
    database: Path | None = None,
    temperature_K: float | None = None,
    phases: Sequence[str] = (),
    campaign: Campaign | None = None,
    constraints: Sequence[str] = (),
    normalise: bool = False,
) -> Interpolation:
    """From one phase in equilibrium to the other through an alloy in words; see ``flows.tie_line``.

    By the TDB ``database``, otherwise by the model of the campaign's ``phase-equilibrium``.
    ``phases``: two names of the database, these alone. Raises InvalidInputError where no database
    or temperature is given, and as those do.
    """
    from flows.tie_line import tie_line_of_campaign, tie_line_of_database

    amounts = parse_composition(text, normalise=normalise)
    space = None if campaign is None else campaign.space
    elements = tuple(amounts) if space is None else space.elements
    x = to_vector(amounts, elements)
    if phases and (len(phases) != 2 or database is None):
        raise InvalidInputError(
            f"--phases is {','.join(phases)!r}; expected two phases of the --database, as in P,Q"
        )
    if database is not None:
        if temperature_K is None:
            raise InvalidInputError("a tie-line needs its temperature; give --temperature K")
        pair = (phases[0], phases[1]) if phases else None
        line = tie_line_of_database(database, elements, x, temperature_K, steps, phases=pair)
    elif campaign is not None:
        line = tie_line_of_campaign(campaign, x, temperature_K, steps)
    else:
        raise InvalidInputError(
            "a tie-line needs a thermodynamic model; name a TDB with --database, or a campaign "
            "that uses phase-equilibrium with --campaign"
        )
    one = space is not None and len(space.phases) == 1
    phase = space.phases[0] if space is not None and one else "alloy"
    sets = [_allowed(phase, elements, constraints, space if one else None)]
    path = line.compositions[:, None]
    bounded = bool(constraints) or (one and space is not None and bool(space.bounds))
    found = _judged(TIE_LINE, (phase,), elements, path, sets, bounded=bounded)
    candidates: tuple[Candidate, ...] = ()
    treated = space is not None and (space.process or space.labels)
    if space is not None and one and not treated and space.image_shape is None:
        origin = Origin("interpolation", details={"tie_line": list(line.phases)})
        candidates = tuple(
            Candidate((phase,), elements, None, row, origin=origin) for row in found.compositions
        )
    return dataclasses.replace(found, tie_line=line, candidates=candidates)


def _moved(
    phases: tuple[str, ...],
    elements: tuple[str, ...],
    a: FloatArray,
    b: FloatArray,
    steps: int,
    kind: str,
    sets: Sequence[CompositionSet],
    delta: float | None,
) -> FloatArray:
    """(n, p, e) points of every phase's own path."""
    t = positions(steps)
    paths = []
    for phase, start, end, allowed in zip(phases, a, b, sets, strict=True):
        try:
            if kind == FEASIBLE:
                path = feasible_path(start, end, t, allowed)
            elif kind == AITCHISON:
                path = geodesic_path(start, end, t, delta=delta)
            elif kind == LINE:
                path = straight_path(start, end, t)
            else:
                raise InvalidInputError(f"a path of kind {kind} needs a campaign (--campaign DIR)")
        except InvalidInputError as error:
            text = _named(str(error), elements)
            raise InvalidInputError(f"{phase}: {text}" if len(phases) > 1 else text) from None
        paths.append(path)
    return np.stack(paths, axis=1)


def _judged(
    kind: str,
    phases: tuple[str, ...],
    elements: tuple[str, ...],
    path: FloatArray,
    sets: Sequence[CompositionSet],
    *,
    bounded: bool,
) -> Interpolation:
    """The points (n, p, e) with what they break."""
    met = np.ones(len(path), dtype=bool)
    broken = [list[str]() for _ in path]
    for i, (phase, allowed) in enumerate(zip(phases, sets, strict=True)):
        met &= allowed.is_feasible(path[:, i])
        for found, x in zip(broken, path[:, i], strict=True):
            found += [f"{phase}: {v}" if len(phases) > 1 else v for v in allowed.violations(x)]
    return Interpolation(
        kind,
        phases,
        elements,
        positions(len(path)),
        path,
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
    given = () if space is None else space.constraints
    return CompositionSet.of(elements, [*bounds, *given, *constraints])


# What is simulated


def made_monotone(
    path: Interpolation,
    name: str,
    simulators: Sequence[Simulator],
    *,
    constraints: Sequence[str] = (),
    space: DesignSpace | None = None,
) -> Interpolation:
    """The path with compositions mended until a property moves one way, its points within bounds.

    Raises as ``flows.paths.monotone_designs`` does, and InvalidInputError for a path whose points
    are no designs.
    """
    from flows.paths import monotone_designs

    _check_designs(path, "--monotone")
    sets = [_allowed(phase, path.elements, constraints, space) for phase in path.phases]
    designs, found = monotone_designs(path.candidates, name, simulators, sets)
    bounded = path.feasible is not None
    judged = _judged(path.kind, path.phases, path.elements, found.path, sets, bounded=bounded)
    mended = Mended(name, path.compositions, found.before, found.moved)
    return dataclasses.replace(judged, candidates=tuple(designs), mended=mended)


def scored(path: Interpolation, simulators: Sequence[Simulator]) -> Interpolation:
    """The path with what the simulators find for its points."""
    from flows.paths import score

    _check_designs(path, "--score")
    return dataclasses.replace(path, outcomes=score(path.candidates, simulators))


def _check_designs(path: Interpolation, option: str) -> None:
    if not path.candidates:
        raise InvalidInputError(
            f"{option} needs designs of the campaign, and a point of this path is a composition "
            "alone: designs have phases, images or process variables besides"
        )
