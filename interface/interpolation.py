"""Paths between two compositions, or between two candidates of a ledger."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from interface.interpolated import Interpolation
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
    "allowed",
    "between_candidates",
    "between_formulas",
    "judged",
    "limited",
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
    within: bool = False,
    normalise: bool = False,
    process: Mapping[str, float] | None = None,
    labels: Mapping[str, str] | None = None,
    generated: Generated | None = None,
) -> Interpolation:
    """Path between two compositions in words; ``steps`` points, ends included.

    ``space``: a campaign's; its elements are taken, its bounds kept, and every point is one of
    its designs: with several phases an end names them all, ``gamma: Ni-20Cr at%; gamma_prime:
    Ni3Al``, with process variables they are in ``process``, with labels in ``labels``, and with
    images ``generated`` draws one for each point. ``within``: the geodesic of an ``aitchison``
    path is kept within bounds and constraints (``loop.paths.feasible_path``). Raises
    InvalidInputError for what cannot be read, an infeasible end of a path that is kept within
    them, and designs that the words do not make.
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
            within=within,
            generated=generated,
            draw=generated is not None and space.image_shape is not None,
        )
    amounts = [parse_composition(text, normalise=normalise) for text in (first, last)]
    elements = tuple(dict.fromkeys([*amounts[0], *amounts[1]]))
    a, b = (to_vector(one, elements)[None] for one in amounts)
    sets = [allowed("alloy", elements, constraints, None)]
    path = _moved(("alloy",), elements, a, b, steps, kind, sets, delta, within)
    return judged(kind, ("alloy",), elements, path, sets, bounded=limited(constraints, None))


def between_candidates(
    first: Candidate,
    last: Candidate,
    steps: int,
    kind: str = LINE,
    *,
    constraints: Sequence[str] = (),
    space: DesignSpace | None = None,
    delta: float | None = None,
    within: bool = False,
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
        if one != other and what == "labels":
            raise InvalidInputError(
                f"labels of the two candidates differ: {one} and {other}; labels do not change "
                "along a path: give two with the same labels, or both compositions in words with "
                "--label NAME=VALUE"
            )
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
    sets = [allowed(phase, first.elements, constraints, space) for phase in first.phases]
    bounded = limited(constraints, space)
    candidates: list[Candidate] = []
    if kind == GENERATOR:
        if generated is None:
            raise InvalidInputError("the path of a generator needs a campaign that has been run")
        candidates = generated.between(first, last, steps, sets)
        path = stack_compositions(candidates)
        found = judged(kind, first.phases, first.elements, path, sets, bounded=bounded)
        return dataclasses.replace(found, candidates=tuple(candidates))
    path = _moved(first.phases, first.elements, a, b, steps, kind, sets, delta, within)
    found = judged(kind, first.phases, first.elements, path, sets, bounded=bounded)
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


def _moved(
    phases: tuple[str, ...],
    elements: tuple[str, ...],
    a: FloatArray,
    b: FloatArray,
    steps: int,
    kind: str,
    sets: Sequence[CompositionSet],
    delta: float | None,
    within: bool,
) -> FloatArray:
    """(n, p, e) points of every phase's own path."""
    t = positions(steps)
    paths = []
    for phase, start, end, kept in zip(phases, a, b, sets, strict=True):
        try:
            if kind == FEASIBLE:
                path = feasible_path(start, end, t, kept)
            elif kind == AITCHISON and within:
                path = feasible_path(start, end, t, kept, geodesic=True, delta=delta)
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


def judged(
    kind: str,
    phases: tuple[str, ...],
    elements: tuple[str, ...],
    path: FloatArray,
    sets: Sequence[CompositionSet],
    *,
    bounded: bool,
) -> Interpolation:
    """The points (n, p, e) with what they break; ``bounded``: whether anything limits them."""
    met = np.ones(len(path), dtype=bool)
    broken = [list[str]() for _ in path]
    for i, (phase, kept) in enumerate(zip(phases, sets, strict=True)):
        met &= kept.is_feasible(path[:, i])
        for found, x in zip(broken, path[:, i], strict=True):
            found += [f"{phase}: {v}" if len(phases) > 1 else v for v in kept.violations(x)]
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


def limited(constraints: Sequence[str], space: DesignSpace | None) -> bool:
    """Whether anything limits the compositions, so that there is something to say of points."""
    return bool(constraints) or (space is not None and bool(space.bounds or space.constrained))


def allowed(
    phase: str, elements: tuple[str, ...], constraints: Sequence[str], space: DesignSpace | None
) -> CompositionSet:
    """Compositions of a phase within a space and constraints in words; neither may be given.

    Raises InvalidInputError for constraints that cannot be read, and where nothing is allowed.
    """
    table = {} if space is None else space.bounds.get(phase, {})
    bounds = [Group({element: 1.0}, *ends).text for element, ends in table.items()]
    given = () if space is None else space.constraints_of(phase)
    return CompositionSet.of(elements, [*bounds, *given, *constraints])
