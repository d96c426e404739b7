"""Edits of designs and micrographs with a campaign's trained generator, each scored if asked.

Nothing is added to the ledger.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows.proposal import Proposal, Wish, asked_values
from flows.propose import GUIDANCE, warnings_for
from flows.trained import trained_flow
from generators.editor import Editor
from generators.superresolution import refine as refined
from loop.candidate import Candidate, Origin
from loop.errors import InvalidInputError
from loop.feasible import within_constraints
from loop.images import downsample, read_labels, to_phases
from loop.round import evaluate, stage_rng
from loop.session import Session

FloatArray = NDArray[np.float64]


class Edits:
    """What can be done with the trained generator of the last round.

    ``wishes``, ``labels``: what designs shall have beside being like what is edited; ``guidance``:
    how strongly the generator is led to that. ``score``: have the simulators evaluate what comes
    of it. ``seed``: another one, other designs. Raises LedgerError when nothing is trained yet,
    InvalidInputError for a generator that cannot edit and labels that are not the space's.
    """

    def __init__(
        self,
        session: Session,
        *,
        wishes: Sequence[Wish] = (),
        labels: Mapping[str, str] | None = None,
        guidance: float = GUIDANCE,
        score: bool = False,
        seed: int = 0,
    ) -> None:
        self.session, self.score = session, score
        self.wishes, self.labels = tuple(wishes), dict(labels or {})
        self.editor = Editor(trained_flow(session, "edits"), guidance=guidance)
        self.rng = stage_rng(session.campaign.seed, "edit", seed, "designs")
        # Of its own, so that a wish leaves the noise of the designs as it is.
        self.asking = stage_rng(session.campaign.seed, "edit", seed, "requests")

    def vary(self, design: Candidate, n: int, strength: float) -> Proposal:
        """n designs like this one, within the campaign's constraints whether it is or not.

        ``strength`` from 0 (itself) to 1 (a new one).
        """
        if not 0 < strength <= 1:
            raise InvalidInputError(f"strength is {strength:g}; expected above 0, up to 1")
        asked = self._requests(n)
        found = self.editor.variations(
            design, n, strength=strength, rng=self.rng, requests=self._labelled(asked)
        )
        return self._new(found, asked)

    def repair(self, design: Candidate, damaged: NDArray[np.bool_], n: int) -> Proposal:
        """n designs in which the pixels ``damaged`` (h, w) are drawn anew."""
        asked = self._requests(n)
        labelled = self._labelled(asked)
        return self._found(
            self.editor.repair(design, damaged, n, rng=self.rng, requests=labelled), asked
        )

    def extend(self, design: Candidate, shape: tuple[int, int]) -> Proposal:
        """A design with a larger periodic image (H, W) that holds the given one in its corner.

        Raises InvalidInputError for wishes: properties are known of the campaign's images alone.
        """
        if self.wishes or self.labels:
            raise InvalidInputError("a larger image keeps its design; nothing can be asked of it")
        image = self.editor.extend(design, shape, rng=self.rng)
        details = {"edit": "extended", "of": [design.id]}
        origin = Origin(self.editor.flow.name, self.editor.guidance, details)
        larger = dataclasses.replace(design, microstructure=image, origin=origin)
        return self._found([larger], self._requests(1))

    def refine(self, coarse: FloatArray, n: int) -> Proposal:
        """n designs whose images, seen through blocks of pixels, are the coarse one.

        Their compositions meet the campaign's constraints.
        ``coarse``: (h', w') or (p − 1, h', w') fractions of the phases after the first.
        """
        asked = self._requests(n)
        found = refined(self.editor, coarse, n, rng=self.rng, requests=self._labelled(asked))
        return self._new(found, asked)

    def compose(self, image: NDArray[np.uint8], n: int) -> Proposal:
        """n designs with this label image (h, w), compositions and process drawn to go with it.

        Their compositions meet the campaign's constraints.
        """
        asked = self._requests(n)
        found = self.editor.compositions_for(image, n, rng=self.rng, requests=self._labelled(asked))
        return self._new(found, asked)

    def picture(self, design: Candidate, n: int) -> Proposal:
        """n designs with this one's compositions, process and labels, and images drawn for them.

        Its own image, where it has one, has no part in it.
        """
        asked = self._requests(n)
        found = self.editor.microstructures_for(
            design, n, rng=self.rng, requests=self._labelled(asked)
        )
        return self._found(found, asked)

    def read_image(self, path: Path) -> NDArray[np.uint8]:
        """A label image (h, w) as the campaign's own are read.

        Raises InvalidInputError for a file that is none and for labels that the campaign has not.
        """
        campaign = self.session.campaign
        phases, images = campaign.space.phases, campaign.images
        names = phases if images is None else images.labels
        labels = to_phases(path, read_labels(path), [phases.index(name) for name in names])
        return downsample(labels, 1 if images is None else images.downsample, len(phases))

    # Parts

    def _requests(self, n: int) -> FloatArray:
        """(n, k) what is asked for of properties, NaN where nothing."""
        return asked_values(n, self.wishes, self.session.properties, self.asking)

    def _labelled(self, asked: FloatArray) -> FloatArray:
        """(n, k + l) with the labels that are asked for, or (n, k) where none are."""
        return self.editor.flow.with_labels(asked, self.labels)

    def _new(self, designs: Sequence[Candidate], asked: FloatArray) -> Proposal:
        """Designs whose compositions are new, moved to what the constraints allow."""
        session = self.session
        designs = within_constraints(session.campaign.space, designs)
        return self._found(session.with_difference(designs), asked)

    def _found(self, designs: Sequence[Candidate], asked: FloatArray) -> Proposal:
        session = self.session
        outcomes = tuple(evaluate(session.simulators, designs)) if self.score else None
        return Proposal(
            properties=session.properties,
            wishes=self.wishes,
            designs=tuple(designs),
            requests=asked,
            outcomes=outcomes,
            warnings=tuple(warnings_for(session, asked)) if self.wishes else (),
            about={"generator": self.editor.flow.name, "guidance": self.editor.guidance},
        )
