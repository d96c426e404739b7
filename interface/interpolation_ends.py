"""The ends of a path in words: a composition, or those of every phase of a campaign's designs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from loop.composition import FloatArray
from loop.errors import InvalidInputError, unknown_name
from loop.formula import parse_composition, to_vector

if TYPE_CHECKING:
    from loop.space import DesignSpace

PHASE_FORM = "'gamma: Ni-20Cr at%; gamma_prime: Ni3Al'"


def end_compositions(
    texts: Sequence[str], space: DesignSpace, *, normalise: bool, drawn: bool
) -> list[FloatArray]:
    """(p, e) of each end: one composition, or ``phase: composition`` of every phase.

    ``drawn``: whether a generator draws the micrographs that designs of the space have.
    Raises InvalidInputError for what cannot be read, a phase that is missing, unknown or named
    twice, and for designs that compositions do not make.
    """
    if not space.elements:
        raise InvalidInputError(
            "designs of this campaign have no compositions; there is no path between formulas"
        )
    if space.image_shape is not None and not drawn:
        raise InvalidInputError(
            f"designs of this campaign have {_phases(space)} and a micrograph; a formula is no "
            "such design: give two candidates of its ledger by id, or have micrographs drawn with "
            f"--microstructures or --path generator for every phase's composition, {PHASE_FORM}"
        )
    return [_phase_rows(text, space, normalise) for text in texts]


def _phases(space: DesignSpace) -> str:
    return f"{len(space.phases)} phases ({', '.join(space.phases)})"


def _phase_rows(text: str, space: DesignSpace, normalise: bool) -> FloatArray:
    named: dict[str, str] = {}
    if ":" not in text and len(space.phases) == 1:
        named[space.phases[0]] = text
    elif ":" in text:
        for part in text.split(";"):
            phase, colon, amounts = (piece.strip() for piece in part.partition(":"))
            if not colon or not amounts:
                raise InvalidInputError(f"{part.strip()!r} is no phase and composition; {_form()}")
            if phase not in space.phases:
                raise InvalidInputError(unknown_name("phase", phase, space.phases))
            if phase in named:
                raise InvalidInputError(f"phase {phase} is given twice in {text!r}; keep one")
            named[phase] = amounts
    missing = [phase for phase in space.phases if phase not in named]
    if missing:
        raise InvalidInputError(
            f"designs of this campaign have {_phases(space)}; {text!r} has no "
            f"{', '.join(missing)}: {_form()}, or give two candidates of its ledger by id"
        )
    return np.stack(
        [
            to_vector(parse_composition(named[phase], normalise=normalise), space.elements)
            for phase in space.phases
        ]
    )


def _form() -> str:
    return f"write every phase's composition, as in {PHASE_FORM}"
