"""Paths between compositions by a trained generator, and what is simulated along them.

Every path is a list of designs in order; nothing is added to the ledger.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from flows.carried import carried_by_flow
from flows.latent_frames import LatentFrames, frames_between
from flows.trained import trained_frames
from generators.editor import DEPTH, Editor
from generators.flow import JointFlow
from generators.interpolation import Path as Way
from generators.joint_vae import JointVAE
from loop.campaign import Campaign
from loop.candidate import Candidate, Origin, Outcome
from loop.composition import FloatArray
from loop.errors import InvalidInputError, unknown_name
from loop.polytope import CompositionSet
from loop.projection import project, support_set
from loop.protocols import Simulator
from loop.round import evaluate, stage_rng
from loop.session import Session
from loop.space import DesignSpace
from simulators import registry


def simulators_of(campaign: Campaign) -> list[Simulator]:
    """The campaign's simulators, without a session: what people answer for is not known yet."""
    named = campaign.simulators
    return registry.create_all(
        named.use,
        space=campaign.space,
        settings=named.settings,
        device=campaign.compute.device,
        timeout_s=named.timeout_s,
        wires=named.wiring,
        folder=campaign.folder,
    )


# The trained generator


class Generated:
    """What the generator of a session's last round adds to paths.

    ``seed``: another one, other images. Raises LedgerError when nothing is trained yet,
    InvalidInputError for a generator that has no latent to go through.
    """

    def __init__(self, session: Session, *, guidance: float = 1.0, seed: int = 0) -> None:
        self.space = session.campaign.space
        self.generator = trained_frames(session, "paths through a generator")
        self.guidance = guidance
        self.seed, self._campaign_seed = seed, session.campaign.seed

    def with_microstructure(self, design: Candidate) -> Candidate:
        """The design with an image drawn to go with its compositions and process.

        The noise is the same on each call, so that images change along a path as compositions do.
        Raises InvalidInputError for a campaign without images, a design of other elements, and a
        generator that does not draw images for given compositions.
        """
        if self.space.image_shape is None:
            raise InvalidInputError(
                "this campaign's designs have no micrographs; leave --microstructures out"
            )
        if (design.phases, design.elements) != (self.space.phases, self.space.elements):
            raise InvalidInputError(
                f"design {design.id} has phases {', '.join(design.phases)} of "
                f"{', '.join(design.elements)}; expected {', '.join(self.space.phases)} of "
                f"{', '.join(self.space.elements)}"
            )
        rng = stage_rng(self._campaign_seed, "paths", self.seed, "microstructure")
        return self._editor().microstructures_for(design, 1, rng=rng)[0]

    def carried(self, before: Candidate, after: Candidate) -> Candidate:
        """``after`` with the image of ``before``, changed as its compositions were.

        With the same compositions comes the same image.
        """
        if before.microstructure is None:
            return after
        if isinstance(self.generator, JointVAE):
            return LatentFrames(self.generator).carried(before, after)
        return carried_by_flow(self._editor(), before, after)

    def between(
        self,
        first: Candidate,
        last: Candidate,
        n: int,
        spaces: Sequence[CompositionSet],
        *,
        path: Way = "slerp",
        depth: float = DEPTH,
    ) -> list[Candidate]:
        """n designs from ``first`` to ``last`` through the latent space, the ends as they are.

        Elements that both ends have are there all along, those that both lack nowhere, and where
        one comes or goes in between is the generator's to say. Compositions are moved to the
        nearest point of ``spaces``, one set a phase. Raises InvalidInputError, with the constraints
        that are broken, for an end that is not allowed.
        """
        for name, end in (("first", first), ("last", last)):
            broken = self.space.violations(end)
            x = end.phase_compositions
            if x is not None:
                told = zip(end.phases, spaces, x, strict=True)
                broken += [f"{phase}: {v}" for phase, s, row in told for v in s.violations(row)]
            if broken:
                raise InvalidInputError(
                    f"the {name} end is not allowed: {'; '.join(dict.fromkeys(broken))}; project "
                    "it onto the set, or widen the constraints"
                )
        generator = _without_vanishing(self.generator, first, last)
        designs = frames_between(
            generator, first, last, n, guidance=self.guidance, path=path, depth=depth
        )
        return [first, *(self._allowed(d, (first, last), spaces) for d in designs[1:-1]), last]

    def _editor(self) -> Editor:
        if isinstance(self.generator, JointVAE):
            raise InvalidInputError(
                f"the campaign's generator is {self.generator.name}, which does not draw the "
                "micrograph of given compositions; give two candidates of its ledger by id, or "
                "take joint-flow"
            )
        return Editor(self.generator, guidance=self.guidance)

    def _allowed(
        self, design: Candidate, ends: Sequence[Candidate], spaces: Sequence[CompositionSet]
    ) -> Candidate:
        x = design.phase_compositions
        if x is None:
            return design
        there = np.any(_present(ends), axis=0)
        y = np.zeros_like(x)
        for i, space in enumerate(spaces):
            kept = np.flatnonzero(there[i])
            part = support_set(space, tuple(map(int, kept)))
            if space.at_most is not None and space.at_most < len(kept):
                part = dataclasses.replace(part, at_most=space.at_most)
            y[i, kept] = project(x[i, kept], part)
        return dataclasses.replace(design, phase_compositions=y)


def _present(designs: Sequence[Candidate]) -> NDArray[np.bool_]:
    """(n, p, e) which elements designs have."""
    return np.stack([np.asarray(d.phase_compositions) > 0 for d in designs])


def _without_vanishing(
    generator: JointFlow | JointVAE, first: Candidate, last: Candidate
) -> JointFlow | JointVAE:
    """The generator with a coding that reads no element as absent which both ends have.

    A coordinate far below all that was learned means absent; ends of such amounts would lose
    the element beside them.
    """
    if generator.code is None or generator.code.compositions is None:
        return generator
    coding = generator.code.compositions
    both = np.all(_present((first, last)), axis=0)
    same = copy.copy(generator)
    same.code = dataclasses.replace(
        generator.code,
        compositions=dataclasses.replace(coding, absent=np.where(both, -np.inf, coding.absent)),
    )
    return same


def design_of(
    space: DesignSpace,
    compositions: FloatArray,
    process: Mapping[str, float],
    generated: Generated | None = None,
    *,
    labels: Mapping[str, str] = MappingProxyType({}),
) -> Candidate:
    """An end of a path from its compositions (p, e), process and labels.

    ``generated`` draws the image. Raises InvalidInputError for process variables and labels that
    are missing, unknown or out of range.
    """
    for name in process:
        if name not in space.process:
            raise InvalidInputError(
                "--process: " + unknown_name("process variable", name, space.process)
            )
    for name, (low, high) in space.process.items():
        if name not in process:
            raise InvalidInputError(
                f"designs of this campaign have {name}, {low:g} to {high:g}; give it with "
                f"--process {name}=VALUE"
            )
        if not low <= process[name] <= high:
            raise InvalidInputError(
                f"--process {name} is {process[name]:g}; expected {low:g} to {high:g}"
            )
    for name in labels:
        if name not in space.labels:
            raise InvalidInputError("--label: " + unknown_name("label", name, space.labels))
    for name, values in space.labels.items():
        if name not in labels:
            raise InvalidInputError(
                f"designs of this campaign have {name}, {', '.join(values)}; give it with "
                f"--label {name}=VALUE"
            )
        if labels[name] not in values:
            raise InvalidInputError(
                f"--label {name}: " + unknown_name("value", labels[name], values)
            )
    origin = Origin("interpolation")
    design = Candidate(
        space.phases, space.elements, None, compositions, process, origin, labels=labels
    )
    if space.image_shape is not None and generated is not None:
        return generated.with_microstructure(design)
    return design


def score(designs: Sequence[Candidate], simulators: Sequence[Simulator]) -> tuple[Outcome, ...]:
    """What the simulators find for each, in order."""
    return tuple(evaluate(simulators, designs))
