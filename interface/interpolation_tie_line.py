"""Paths along a tie-line, from one phase in equilibrium to the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from interface.interpolated import Interpolation
from interface.interpolation import TIE_LINE, allowed, judged, limited
from loop.candidate import stack_compositions
from loop.errors import InvalidInputError
from loop.formula import parse_composition, to_vector

if TYPE_CHECKING:
    from flows.tie_line_designs import FractionImages
    from loop.campaign import Campaign
    from loop.candidate import Candidate

NONE: Mapping[str, str] = MappingProxyType({})


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
    process: Mapping[str, float] | None = None,
    labels: Mapping[str, str] = NONE,
    images: Callable[[], FractionImages] | None = None,
    designs: bool = False,
) -> Interpolation:
    """From one phase in equilibrium to the other through an alloy in words; see ``flows.tie_line``.

    By the TDB ``database``, otherwise by the model of the campaign's ``phase-equilibrium``.
    ``phases``: two names of the database, these alone. ``designs``: the points are designs of the
    campaign, with ``process`` and ``labels``: of one phase each is an alloy, of two phases all have
    those of the line, and what ``images`` brings gives a micrograph of each fraction
    (``tie_line_designs``); it is called when all else is known to be right.
    Raises InvalidInputError where no database or temperature is given, for a campaign that has
    other designs, and as those do.
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
        line = tie_line_of_campaign(campaign, x, temperature_K, steps, process=process or {})
    else:
        raise InvalidInputError(
            "a tie-line needs a thermodynamic model; name a TDB with --database, or a campaign "
            "that uses phase-equilibrium with --campaign"
        )
    one = space is not None and len(space.phases) == 1
    phase = space.phases[0] if space is not None and one else "alloy"
    sets = [allowed(phase, elements, constraints, space if one else None)]
    bounded = limited(constraints, space if one else None)
    path = line.compositions[:, None]
    found = judged(TIE_LINE, (phase,), elements, path, sets, bounded=bounded)
    found = dataclasses.replace(found, tie_line=line)
    if not designs or campaign is None:
        return found
    if one:
        return dataclasses.replace(
            found, candidates=_alloys(found, campaign, process or {}, labels)
        )
    from flows.tie_line_designs import start_of

    start_of(line, campaign, process or {}, labels)  # or it says what is wrong
    if images is None:
        raise InvalidInputError("designs on this tie-line need images of its phases; give some")
    return _with_designs(found, campaign, images(), process or {}, labels)


def _alloys(
    path: Interpolation, campaign: Campaign, process: Mapping[str, float], labels: Mapping[str, str]
) -> tuple[Candidate, ...]:
    """A design of a campaign of one phase for every point."""
    from flows.paths import design_of
    from flows.tie_line_designs import process_on

    assert path.tie_line is not None
    if campaign.space.image_shape is not None:
        raise InvalidInputError(
            f"designs of campaign {campaign.name!r} are micrographs of one phase, and the alloys "
            "on a tie-line have two"
        )
    given = process_on(path.tie_line, campaign, process)
    return tuple(design_of(campaign.space, x, given, labels=labels) for x in path.compositions)


def _with_designs(
    path: Interpolation,
    campaign: Campaign,
    images: FractionImages,
    process: Mapping[str, float],
    labels: Mapping[str, str],
) -> Interpolation:
    """The path with designs of two phases, and what the campaign's bounds of these say of them."""
    from flows.tie_line_designs import designs_on

    assert path.tie_line is not None
    candidates = designs_on(path.tie_line, campaign, images, process, labels)
    found = dataclasses.replace(path, candidates=tuple(candidates))
    space = campaign.space
    if not limited((), space):
        return found
    sets = [allowed(phase, space.elements, (), space) for phase in space.phases]
    x = stack_compositions(candidates)
    inner = judged(TIE_LINE, space.phases, space.elements, x, sets, bounded=True)
    assert inner.feasible is not None
    met = inner.feasible if path.feasible is None else inner.feasible & path.feasible
    broken = tuple((*a, *b) for a, b in zip(path.violations, inner.violations, strict=True))
    return dataclasses.replace(found, feasible=met, violations=broken)
