"""Designs of a path whose compositions are mended until one of their properties moves one way."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch

from loop.candidate import Candidate, stack_compositions
from loop.composition import FloatArray
from loop.errors import InvalidInputError, unknown_name
from loop.monotone import Gradients, Monotone, monotone_path, moves_one_way
from loop.paths import positions
from loop.polytope import CompositionSet
from loop.protocols import Differentiable, Simulator
from loop.round import evaluate

Redraw = Callable[[Candidate, Candidate], Candidate]
TURNS = 6  # of mending compositions and drawing images for them


def monotone_designs(
    designs: Sequence[Candidate],
    name: str,
    simulators: Sequence[Simulator],
    spaces: Sequence[CompositionSet],
    *,
    redraw: Redraw | None = None,
) -> tuple[list[Candidate], Monotone]:
    """The designs with compositions mended until the property moves one way (``monotone_path``).

    ``simulators``: who says what it is; a surrogate in their place makes the expected value move
    one way (``flows.expected``). Process variables stay, and so do images unless ``redraw`` gives
    the image of a mended design, from the design as it was before any mending: another image has
    another property, so mending and drawing take turns until both agree.
    Raises InvalidInputError for a property that no simulator has, a point without it, where there
    is no such path nearby, and where images and compositions come to no agreement.
    """
    known = [output for simulator in simulators for output in simulator.outputs]
    if name not in known:
        raise InvalidInputError("--monotone: " + unknown_name("property", name, known))
    drawn = list(designs)
    first: Monotone | None = None
    for _ in range(TURNS):
        mended, found = _mended(drawn, name, simulators, spaces)
        first = first or found
        if redraw is None or not first.moved.any():
            return mended, found
        moved = np.sqrt(((found.path - stack_compositions(designs)) ** 2).sum(axis=(1, 2)))
        drawn = [
            redraw(before, design) if apart else design
            for before, design, apart in zip(designs, mended, moved, strict=True)
        ]
        values = _Scored(name, drawn, simulators).values(found.path, positions(len(drawn)))
        if moves_one_way(values):
            return drawn, Monotone(found.path, values, first.before, moved)
    raise InvalidInputError(
        f"{name} moves one way only with the micrographs of the compositions before they were "
        f"mended: those drawn for the mended ones changed it again, {TURNS} times over; take "
        "--path line without --microstructures, more --steps, or other ends"
    )


def _mended(
    designs: Sequence[Candidate],
    name: str,
    simulators: Sequence[Simulator],
    spaces: Sequence[CompositionSet],
) -> tuple[list[Candidate], Monotone]:
    """With the images as they are."""
    scored = _Scored(name, designs, simulators)
    try:
        found = monotone_path(
            stack_compositions(designs),
            scored.t,
            scored.values,
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


def _same_image(a: Candidate, b: Candidate) -> bool:
    one, other = a.microstructure, b.microstructure
    if one is None or other is None:
        return one is other
    return one is other or np.array_equal(one, other)
