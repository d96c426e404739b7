"""What every simulator has to keep, as checks that a plug-in's author can run.

    from simulators.contract import CHECKS

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_contract(check):
        check(my_simulator, candidates)

``candidates``: at least two different ones, some of which the simulator can evaluate. A check
raises ContractError, which says what was broken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from loop.candidate import Candidate, Outcome
from loop.protocols import Limited, Simulator

RELATIVE = 1e-12  # batch against singles, run against run


class ContractError(AssertionError):
    """A simulator does not do what every simulator has to."""


Check = Callable[[Simulator, Sequence[Candidate]], None]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ContractError(message)


def _same(a: Outcome, b: Outcome) -> bool:
    if a.status != b.status or set(a.values) != set(b.values) or set(a.bounds) != set(b.bounds):
        return False
    pairs = [(a.values[k], b.values[k]) for k in a.values]
    pairs += [(x, y) for k in a.bounds for x, y in zip(a.bounds[k], b.bounds[k], strict=True)]
    return all(math.isclose(x, y, rel_tol=RELATIVE, abs_tol=1e-300) for x, y in pairs)


def _evaluate(simulator: Simulator, candidates: Sequence[Candidate]) -> list[Outcome]:
    n = len(candidates)  # before the simulator has the list in its hands
    outcomes = simulator.evaluate(candidates)
    _require(len(outcomes) == n, f"{len(outcomes)} outcomes for {n} candidates; expected one each")
    _require(
        all(isinstance(outcome, Outcome) for outcome in outcomes),
        "evaluate returned something that is not a loop.candidate.Outcome",
    )
    return outcomes


def check_identity(simulator: Simulator, candidates: Sequence[Candidate]) -> None:  # noqa: ARG001
    """It has a name and a version: the ledger keeps results under both."""
    for attribute in ("name", "version"):
        value = getattr(simulator, attribute, None)
        _require(isinstance(value, str) and value != "", f"{attribute} is {value!r}; expected text")


def check_units(simulator: Simulator, candidates: Sequence[Candidate]) -> None:
    """It declares outputs with units, and ok outcomes carry exactly these, finite."""
    outputs = dict(simulator.outputs)
    _require(bool(outputs), "outputs is empty; expected property -> unit")
    for name, unit in outputs.items():
        _require(isinstance(unit, str) and unit != "", f"{name} has no unit; '1' if it has none")
    outcomes = [o for o in _evaluate(simulator, candidates) if o.status == "ok"]
    _require(bool(outcomes), "no candidate came out ok; give some that can be evaluated")
    for outcome in outcomes:
        _require(
            set(outcome.values) == set(outputs),
            f"an outcome has {sorted(outcome.values)}; declared are {sorted(outputs)}",
        )


def check_bounds(simulator: Simulator, candidates: Sequence[Candidate]) -> None:
    """Bounds are of declared properties and hold the value."""
    for outcome in _evaluate(simulator, candidates):
        for name, (low, high) in outcome.bounds.items():
            _require(name in outcome.values, f"bounds of {name}, which has no value")
            value = outcome.values[name]
            _require(low <= value <= high, f"{name} = {value} lies outside ({low}, {high})")


def check_limits(simulator: Simulator, candidates: Sequence[Candidate]) -> None:
    """Where it states limits they are of declared properties and hold every value."""
    if not isinstance(simulator, Limited):
        return
    for name, (low, high) in simulator.limits.items():
        _require(name in simulator.outputs, f"limits of {name}, which is not among the outputs")
        _require(low <= high, f"limits of {name} are ({low}, {high}); expected low <= high")
    for outcome in _evaluate(simulator, candidates):
        for name, value in outcome.values.items():
            low, high = simulator.limits.get(name, (-math.inf, math.inf))
            _require(low <= value <= high, f"{name} = {value} lies outside ({low}, {high})")


def check_length(simulator: Simulator, candidates: Sequence[Candidate]) -> None:
    """As many outcomes as candidates, for none, one and several."""
    for n in (0, 1, len(candidates)):
        _evaluate(simulator, candidates[:n])


def check_order(simulator: Simulator, candidates: Sequence[Candidate]) -> None:
    """Outcomes come in the order of the candidates."""
    forth = _evaluate(simulator, candidates)
    back = _evaluate(simulator, candidates[::-1])
    differing = [o.values for o in forth if o.status == "ok"]
    _require(
        any(values != differing[0] for values in differing[1:]),
        "all candidates came out alike, which shows nothing of their order; give different ones",
    )
    for i, (a, b) in enumerate(zip(forth, back[::-1], strict=True)):
        _require(_same(a, b), f"candidate {i} comes out otherwise when the order is reversed")


def check_singles(simulator: Simulator, candidates: Sequence[Candidate]) -> None:
    """A candidate comes out the same in a batch, alone, and twice in one batch."""
    batch = _evaluate(simulator, candidates)
    for i, candidate in enumerate(candidates):
        alone = _evaluate(simulator, [candidate])
        twice = _evaluate(simulator, [candidate, candidate])
        _require(_same(batch[i], alone[0]), f"candidate {i} comes out otherwise alone")
        _require(_same(twice[0], twice[1]), f"candidate {i} comes out otherwise the second time")


def check_repeatable(simulator: Simulator, candidates: Sequence[Candidate]) -> None:
    """The same candidates come out the same again."""
    first, second = _evaluate(simulator, candidates), _evaluate(simulator, candidates)
    for i, (a, b) in enumerate(zip(first, second, strict=True)):
        _require(_same(a, b), f"candidate {i} comes out otherwise in a second run")


def check_input_unchanged(simulator: Simulator, candidates: Sequence[Candidate]) -> None:
    """The list and its candidates are as before, and a tuple does as well as a list."""
    given = list(candidates)
    arrays = [
        [None if a is None else np.array(a) for a in (c.microstructure, c.phase_compositions)]
        for c in candidates
    ]
    _evaluate(simulator, given)
    _evaluate(simulator, tuple(candidates))
    _require(
        len(given) == len(candidates)
        and all(a is b for a, b in zip(given, candidates, strict=True)),
        "evaluate changed the list it was given",
    )
    for candidate, before in zip(candidates, arrays, strict=True):
        after = (candidate.microstructure, candidate.phase_compositions)
        for old, new in zip(before, after, strict=True):
            same = (old is None) == (new is None) and (
                old is None or new is None or np.array_equal(old, new)
            )
            _require(same, f"evaluate changed candidate {candidate.id}")


CHECKS: tuple[Check, ...] = (
    check_identity,
    check_units,
    check_bounds,
    check_limits,
    check_length,
    check_order,
    check_singles,
    check_repeatable,
    check_input_unchanged,
)
