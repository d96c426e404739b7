"""Paths between compositions by a trained generator, and by what is simulated along them.

Every path is a list of designs in order; nothing is added to the ledger.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray

from flows.trained import trained_flow
from generators.editor import DEPTH, Editor
from generators.flow import JointFlow
from generators.interpolation import Path as Way
from loop.campaign import Campaign
from loop.candidate import Candidate, Origin, Outcome, stack_compositions
from loop.composition import FloatArray
from loop.errors import InvalidInputError, unknown_name
from loop.monotone import Gradients, Monotone, Values, monotone_path
from loop.paths import positions
from loop.polytope import CompositionSet
from loop.projection import project, support_set
from loop.protocols import Differentiable, Simulator
from loop.round import evaluate, stage_rng
from loop.session import Session
from loop.space import DesignSpace
from simulators import registry


def simulators_of(campaign: Campaign) -> list[Simulator]:
    """The campaign's simulators, without a session."""
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
    InvalidInputError for a generator that cannot edit.
    """

    def __init__(self, session: Session, *, guidance: float = 1.0, seed: int = 0) -> None:
        self.space = session.campaign.space
        flow = trained_flow(session, "paths through a generator")
        self.editor = Editor(flow, guidance=guidance)
        self.seed, self._campaign_seed = seed, session.campaign.seed

    def with_microstructure(self, design: Candidate) -> Candidate:
        """The design with an image drawn to go with its compositions and process.

        The noise is the same on each call, so that images change along a path as compositions do.
        Raises InvalidInputError for a campaign without images and a design of other elements.
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
        found = self.editor.microstructures_for(design, 1, rng=rng)[0]
        # Process and labels are the design's own, to the last digit.
        return dataclasses.replace(found, process=design.process, labels=design.labels)

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
        editor = Editor(
            _without_vanishing(self.editor.flow, first, last), guidance=self.editor.guidance
        )
        designs = editor.frames(first, last, n, path=path, depth=depth)
        return [first, *(self._allowed(d, (first, last), spaces) for d in designs[1:-1]), last]

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


def _without_vanishing(flow: JointFlow, first: Candidate, last: Candidate) -> JointFlow:
    """The flow with a coding that reads no element as absent which both ends have.

    A coordinate far below all that was learned means absent; ends of such amounts would lose
    the element beside them.
    """
    if flow.code is None or flow.code.compositions is None:
        return flow
    coding = flow.code.compositions
    both = np.all(_present((first, last)), axis=0)
    same = copy.copy(flow)
    same.code = dataclasses.replace(
        flow.code,
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


# A property that moves one way


class _Scored:
    """One property of the designs of a path as a function of compositions and position."""

    def __init__(
        self, name: str, designs: Sequence[Candidate], simulators: Sequence[Simulator]
    ) -> None:
        self.name, self.designs, self.simulators = name, designs, simulators
        self.t = positions(len(designs))
        self.reason = ""
        self.model = next((s for s in simulators if name in s.outputs), None)

    def design(self, x: FloatArray, t: float) -> Candidate:
        """At compositions (p, e): the image of the nearest point, the process in between."""
        near = self.designs[int(np.abs(self.t - t).argmin())]
        process = {
            k: float(np.interp(t, self.t, [d.process[k] for d in self.designs]))
            for k in near.process
        }
        return dataclasses.replace(near, phase_compositions=x, process=process)

    def values(self, x: FloatArray, t: FloatArray) -> FloatArray:
        designs = [self.design(one, at) for one, at in zip(x, t.tolist(), strict=True)]
        outcomes = evaluate(self.simulators, designs)
        for outcome in outcomes:
            self.reason = self.reason or outcome.reason
        return np.array([outcome.values.get(self.name, math.nan) for outcome in outcomes])

    def gradients(self) -> Gradients | None:
        """The simulator's own, None where it has none by the compositions."""
        if not isinstance(self.model, Differentiable):
            return None
        x = np.stack([d.phase_compositions for d in self.designs[:1]])
        return self._slopes if self._found(x, self.t[:1]) is not None else None

    def _slopes(self, x: FloatArray, t: FloatArray) -> FloatArray:
        found = self._found(x, t)
        assert found is not None
        return found

    def _found(self, x: FloatArray, t: FloatArray) -> FloatArray | None:
        assert isinstance(self.model, Differentiable)
        given = torch.from_numpy(np.array(x)).requires_grad_()
        found = self.model.properties_of(self._fields(x, t), given).get(self.name)
        if found is None or not found.requires_grad:
            return None
        (slope,) = torch.autograd.grad(found.sum(), given, allow_unused=True)
        return None if slope is None else np.asarray(slope.numpy(), dtype=np.float64)

    def _fields(self, x: FloatArray, t: FloatArray) -> torch.Tensor | None:
        images = [self.design(a, b).microstructure for a, b in zip(x, t.tolist(), strict=True)]
        if any(image is None for image in images):
            return None
        labels = np.arange(len(self.designs[0].phases))[:, None, None]
        return torch.from_numpy(np.stack([image == labels for image in images]).astype(np.float64))


def monotone_designs(
    designs: Sequence[Candidate],
    name: str,
    simulators: Sequence[Simulator],
    spaces: Sequence[CompositionSet],
) -> tuple[list[Candidate], Monotone]:
    """The designs with compositions mended until the property moves one way (``monotone_path``).

    Images and process variables stay. Raises InvalidInputError for a property that no simulator
    has, a point without it, and where there is no such path nearby.
    """
    known = [output for simulator in simulators for output in simulator.outputs]
    if name not in known:
        raise InvalidInputError("--monotone: " + unknown_name("property", name, known))
    x = stack_compositions(designs)
    scored = _Scored(name, designs, simulators)
    values: Values = scored.values
    try:
        found = monotone_path(
            x,
            scored.t,
            values,
            spaces,
            gradients=scored.gradients(),
            joined=np.array([_same_image(a, b) for a, b in pairwise(designs)]),
            name=name,
        )
    except InvalidInputError as error:
        why = f": {scored.reason}" if scored.reason and "has no" in str(error) else ""
        raise InvalidInputError(f"{error}{why}") from None
    mended = [
        dataclasses.replace(design, phase_compositions=row) if moved else design
        for design, row, moved in zip(designs, found.path, found.moved, strict=True)
    ]
    return mended, found


def _same_image(a: Candidate, b: Candidate) -> bool:
    one, other = a.microstructure, b.microstructure
    if one is None or other is None:
        return one is other
    return one is other or np.array_equal(one, other)


def score(designs: Sequence[Candidate], simulators: Sequence[Simulator]) -> tuple[Outcome, ...]:
    """What the simulators find for each, in order."""
    return tuple(evaluate(simulators, designs))
