"""Simulators that hand values to each other, wired as the campaign says.

    [simulators]
    use = ["atomistic", "composite-chain"]

    [simulators.wiring.composite-chain]      # input = output of another simulator
    "gamma.bulk_modulus_GPa" = "gamma_bulk_modulus_GPa"

Inputs and outputs are joined only where their units are the same word. A simulator takes inputs
when its factory has the keyword ``wired`` (the names of those it will be given) and what it makes
is ``Wirable``; ``TakesInputs`` makes it so.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Protocol, runtime_checkable

from loop.candidate import Candidate, Outcome
from loop.checks import check_outputs
from loop.errors import InvalidCampaignError, InvalidInputError, unknown_name
from loop.protocols import Limited, Simulator
from loop.round import evaluate

Wires = Mapping[str, Mapping[str, str]]  # simulator -> input -> output of another one


@runtime_checkable
class Wirable(Protocol):
    """What a simulator that takes inputs offers besides the contract.

    ``inputs``: name -> unit of those it was made to be given. ``evaluate_given`` takes their
    values, one mapping a candidate, and is otherwise as ``evaluate``.
    """

    inputs: Mapping[str, str]

    def evaluate_given(
        self, candidates: Sequence[Candidate], given: Sequence[Mapping[str, float]]
    ) -> list[Outcome]: ...


class TakesInputs(ABC):
    """A simulator that may have been made to be given inputs, some or none; it is ``Wirable``.

    One of this kind says what its ``inputs`` are and what comes of candidates with them.
    """

    inputs: Mapping[str, str]

    def evaluate(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        """One outcome per candidate, in order; what cannot be evaluated fails with its reason.

        Raises InvalidInputError when it was made to be given inputs (``evaluate_given``).
        """
        return self.evaluate_given(candidates, [{}] * len(candidates))

    def evaluate_given(
        self, candidates: Sequence[Candidate], given: Sequence[Mapping[str, float]]
    ) -> list[Outcome]:
        """As ``evaluate``, with the inputs of each candidate, name -> value.

        Raises InvalidInputError unless there is one mapping a candidate with exactly the inputs.
        """
        check_inputs(given, self.inputs, candidates)
        return self._outcomes(candidates, given)

    @abstractmethod
    def _outcomes(
        self, candidates: Sequence[Candidate], given: Sequence[Mapping[str, float]]
    ) -> list[Outcome]:
        """One outcome per candidate, each with exactly its inputs."""


class _Fed:
    """One simulator with the values that it is given, as an ordinary simulator."""

    def __init__(self, simulator: Simulator, given: Mapping[str, Mapping[str, float]]) -> None:
        self.name, self.version = simulator.name, simulator.version
        self.outputs = simulator.outputs
        self._simulator = simulator
        self._given = given  # by the candidate's id: what is asked again comes alone

    def evaluate(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        assert isinstance(self._simulator, Wirable)
        return self._simulator.evaluate_given(candidates, [self._given[c.id] for c in candidates])


class Wired:
    """Several simulators that hand values to each other, as one.

    ``wires``: simulator -> input -> output. Raises InvalidCampaignError for a simulator that takes
    no inputs, an output that none gives, units that differ, and wires that run in a circle.
    """

    def __init__(self, simulators: Sequence[Simulator], wires: Wires) -> None:
        check_outputs(simulators)
        givers = {output: s for s in simulators for output in s.outputs}
        named = {s.name: s for s in simulators}
        for name, inputs in wires.items():
            for wanted, output in inputs.items():
                _check_wire(named[name], wanted, output, givers)
        self.wires = {name: dict(inputs) for name, inputs in wires.items()}
        before = {
            name: {givers[output].name for output in wires.get(name, {}).values()} for name in named
        }
        try:
            order = list(TopologicalSorter(before).static_order())
        except CycleError as error:
            circle = " -> ".join(reversed(error.args[1]))
            raise InvalidCampaignError(
                f"simulators.wiring runs in a circle: {circle}; take out one of these wires"
            ) from None
        self._stages = [named[name] for name in order]
        self.parts = tuple(simulators)  # see loop.laboratory.parts_of
        self.name = "+".join(s.name for s in simulators)
        self.outputs: Mapping[str, str] = {k: u for s in simulators for k, u in s.outputs.items()}
        self.limits: Mapping[str, tuple[float, float]] = {
            k: v for s in simulators if isinstance(s, Limited) for k, v in s.limits.items()
        }
        described = hashlib.sha256(json.dumps(self.wires, sort_keys=True).encode()).hexdigest()
        self.version = "+".join([*(s.version for s in simulators), described[:8]])

    def evaluate(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        """One outcome per candidate; one that a simulator cannot do goes no further."""
        values: list[dict[str, float]] = [{} for _ in candidates]
        bounds: list[dict[str, tuple[float, float]]] = [{} for _ in candidates]
        notes: list[dict[str, object]] = [{} for _ in candidates]
        uncertainty: list[dict[str, float]] = [{} for _ in candidates]
        ended: dict[int, Outcome] = {}
        for simulator in self._stages:
            alive = [i for i in range(len(candidates)) if i not in ended]
            asked: Simulator = simulator
            if inputs := self.wires.get(simulator.name):
                asked = _Fed(
                    simulator,
                    {
                        candidates[i].id: {k: values[i][output] for k, output in inputs.items()}
                        for i in alive
                    },
                )
            for i, outcome in zip(
                alive, evaluate([asked], [candidates[i] for i in alive]), strict=True
            ):
                if outcome.status != "ok":
                    ended[i] = outcome
                    continue
                values[i] |= outcome.values
                bounds[i] |= outcome.bounds
                notes[i] |= outcome.diagnostics
                uncertainty[i] |= outcome.uncertainty
        return [
            ended.get(i) or Outcome("ok", values[i], bounds[i], notes[i], "", uncertainty[i])
            for i in range(len(candidates))
        ]


def _check_wire(
    simulator: Simulator, wanted: str, output: str, givers: Mapping[str, Simulator]
) -> None:
    where = f"simulators.wiring.{simulator.name}: "
    if not isinstance(simulator, Wirable):
        raise InvalidCampaignError(f"{where}{simulator.name} takes no inputs; take its wires out")
    if wanted not in simulator.inputs:
        raise InvalidCampaignError(where + unknown_name("input", wanted, simulator.inputs))
    if output not in givers:
        raise InvalidCampaignError(f"{where}{wanted}: " + unknown_name("output", output, givers))
    unit, given = simulator.inputs[wanted], givers[output].outputs[output]
    if unit != given:
        raise InvalidCampaignError(
            f"{where}{wanted} is in {unit}, but {output} of {givers[output].name} is in {given}; "
            "wire an output of the same unit"
        )


def connect(simulators: Sequence[Simulator], wires: Wires) -> list[Simulator]:
    """The simulators of a campaign, those that are wired to each other joined into one.

    It stands where the first of them stood. Raises InvalidCampaignError, see ``Wired``.
    """
    wires = {name: inputs for name, inputs in wires.items() if inputs}
    if not wires:
        return list(simulators)
    givers = {output: s.name for s in simulators for output in s.outputs}
    joined = set(wires) | {
        givers[output]
        for inputs in wires.values()
        for output in inputs.values()
        if output in givers
    }
    one = Wired([s for s in simulators if s.name in joined], wires)
    first = next(s.name for s in simulators if s.name in joined)
    return [
        one if s.name == first else s for s in simulators if s.name == first or s.name not in joined
    ]


def check_inputs(
    given: Sequence[Mapping[str, float]], inputs: Mapping[str, str], candidates: Sequence[Candidate]
) -> None:
    """Raises InvalidInputError unless there is one mapping a candidate with exactly the inputs."""
    if len(given) != len(candidates):
        raise InvalidInputError(
            f"inputs of {len(given)} candidates were given for {len(candidates)}; expected one each"
        )
    for one in given:
        if set(one) != set(inputs):
            raise InvalidInputError(
                f"inputs {sorted(one)} were given; expected {sorted(inputs)}, as wired"
            )
