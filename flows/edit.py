"""Edits of designs and micrographs with a campaign's trained generator, each scored if asked.

Nothing is added to the ledger.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flows.proposal import Proposal
from flows.trained import trained_flow
from generators.editor import Editor
from generators.superresolution import refine as refined
from loop.candidate import Candidate, Origin
from loop.errors import InvalidInputError
from loop.round import evaluate, stage_rng
from loop.session import Session

FloatArray = NDArray[np.float64]


class Edits:
    """What can be done with the trained generator of the last round.

    ``guidance``: of the generator; 1: as it learned. ``score``: have the simulators evaluate what
    comes of it. ``seed``: another one, other designs. Raises LedgerError when nothing is trained
    yet, InvalidInputError for a generator that cannot edit.
    """

    def __init__(
        self, session: Session, *, guidance: float = 1.0, score: bool = False, seed: int = 0
    ) -> None:
        self.session, self.score = session, score
        self.editor = Editor(trained_flow(session, "edits"), guidance=guidance)
        self.rng = stage_rng(session.campaign.seed, "edit", seed, "designs")

    def vary(self, design: Candidate, n: int, strength: float) -> Proposal:
        """n designs like this one; ``strength`` from 0 (itself) to 1 (a new one)."""
        if not 0 < strength <= 1:
            raise InvalidInputError(f"strength is {strength:g}; expected above 0, up to 1")
        return self._found(self.editor.variations(design, n, strength=strength, rng=self.rng))

    def repair(self, design: Candidate, damaged: NDArray[np.bool_], n: int) -> Proposal:
        """n designs in which the pixels ``damaged`` (h, w) are drawn anew."""
        return self._found(self.editor.repair(design, damaged, n, rng=self.rng))

    def extend(self, design: Candidate, shape: tuple[int, int]) -> Proposal:
        """A design with a larger periodic image (H, W) that holds the given one in its corner."""
        image = self.editor.extend(design, shape, rng=self.rng)
        details = {"edit": "extended", "of": [design.id]}
        origin = Origin(self.editor.flow.name, self.editor.guidance, details)
        return self._found([dataclasses.replace(design, microstructure=image, origin=origin)])

    def refine(self, coarse: FloatArray, n: int) -> Proposal:
        """n designs whose images, seen through blocks of pixels, are the coarse one.

        ``coarse``: (h', w') or (p − 1, h', w') fractions of the phases after the first.
        """
        return self._found(refined(self.editor, coarse, n, rng=self.rng))

    def _found(self, designs: Sequence[Candidate]) -> Proposal:
        session = self.session
        outcomes = tuple(evaluate(session.simulators, designs)) if self.score else None
        return Proposal(
            properties=session.properties,
            wishes=(),
            designs=tuple(designs),
            requests=np.full((len(designs), len(session.properties)), np.nan),
            outcomes=outcomes,
            warnings=(),
            about={"generator": self.editor.flow.name, "guidance": self.editor.guidance},
        )
