"""One round's decisions as plain functions."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from generators.baseline import LibraryDraw
from loop.candidate import Candidate, Origin, Outcome, Record
from loop.errors import InvalidInputError
from loop.features import Features
from loop.library import Library
from loop.protocols import Simulator
from loop.round import (
    evaluate,
    predicted_records,
    predicted_rows,
    propose_pool,
    select,
    stage_rng,
    target_columns,
    valid_and_new,
)
from loop.surrogate import Prediction, Surrogate
from loop.targets import Range, Targets, Value
from loop.validity import Gate
from tests import libraries

SPACE = libraries.SPACES["compositions"]


@pytest.fixture(scope="module")
def library() -> Library:
    return libraries.library(SPACE)


@pytest.fixture(scope="module")
def designs(library: Library) -> list[Candidate]:
    return library.draw(12, rng=np.random.default_rng(0))


# Random streams


def test_every_stage_has_its_own_stream() -> None:
    """Any change of seed, arm, round or stage gives other numbers; the same gives the same."""
    keys = list(itertools.product((0, 1, 2**40), ("loop", "random"), (0, 1), ("fit", "propose")))
    first = {key: tuple(stage_rng(*key).integers(2**62, size=4)) for key in keys}
    assert len(set(first.values())) == len(keys)
    assert first == {key: tuple(stage_rng(*key).integers(2**62, size=4)) for key in keys}


def test_streams_are_uncorrelated() -> None:
    """Between n normal draws the correlation has standard error 1/√n; five of them are allowed."""
    n = 2000
    streams = [
        stage_rng(3, arm, index, stage).normal(size=n)
        for arm in ("loop", "mutation")
        for index in (1, 2)
        for stage in ("fit", "select")
    ]
    correlation = np.corrcoef(streams) - np.eye(len(streams))
    assert np.abs(correlation).max() < 5 / math.sqrt(n)


# Pools


class Counted:
    """A generator that notes what it is asked for."""

    name = "counted"

    def __init__(self, library: Library) -> None:
        self.library = library
        self.asked: list[tuple[int, float]] = []

    def fit(self, records: Sequence[Record], **_: Any) -> Counted:
        return self

    def propose(
        self,
        n: int,
        targets: Targets | None = None,
        *,
        guidance: float,
        rng: np.random.Generator,
    ) -> list[Candidate]:
        self.asked.append((n, guidance))
        return LibraryDraw(self.library).propose(n, targets, guidance=guidance, rng=rng)


@pytest.mark.parametrize(
    ("n", "scales", "shares"),
    [
        (10, (1.0, 2.0), [(5, 1.0), (5, 2.0)]),
        (11, (0.0, 1.0, 3.0), [(4, 0.0), (4, 1.0), (3, 3.0)]),
        (1, (1.0, 2.0), [(1, 1.0)]),
    ],
)
def test_a_pool_is_shared_between_the_guidance_scales(
    library: Library, n: int, scales: tuple[float, ...], shares: list[tuple[int, float]]
) -> None:
    generator = Counted(library)
    pool = propose_pool(generator, n, libraries.TARGETS, scales, np.random.default_rng(0))
    assert len(pool) == n
    assert generator.asked == shares


def test_valid_and_new_keeps_each_design_once(designs: list[Candidate]) -> None:
    gate = Gate(SPACE, None, None, None)
    infeasible = [
        Candidate(("a",), SPACE.elements, None, np.array([[x, 0.02, 0.98 - x, 0.0]]))
        for x in (0.1, 0.2)
    ]
    elsewhere = Candidate(("a",), SPACE.elements, None, designs[0].phase_compositions)
    pool = [*designs[:4], designs[1], infeasible[0], designs[5], infeasible[1], elsewhere]
    kept, away = valid_and_new(pool, gate, {designs[2].id})
    assert kept == [designs[0], designs[1], designs[3], designs[5]]
    assert away == {"duplicate": 3, "a has Ni": 2}
    assert valid_and_new([], gate, set()) == ([], {})


# Selection


def test_target_columns_follow_the_targets() -> None:
    p = Prediction(np.array([[1.0, 2.0, 3.0]]), np.array([[0.1, 0.2, 0.3]]))
    targets = Targets((Value("c", 0, 1), Range("a", 0, 1)))
    found = target_columns(p, ("a", "b", "c"), targets)
    assert found.mean.tolist() == [[3.0, 1.0]]
    assert found.std.tolist() == [[0.3, 0.1]]


def test_select_takes_what_hits(library: Library) -> None:
    """On a linear property the surrogate knows the answer: the batch must lie in the target."""
    rng = np.random.default_rng(1)
    features = Features.fit(SPACE, None)
    records = libraries.scored(library.draw(60, rng=rng))
    x = features.transform([r.candidate for r in records])
    y = np.array([[r.outcome.values["density"]] for r in records])
    surrogate = Surrogate(("density",)).fit(x, y, rng=rng)
    targets = Targets((Range("density", 8.0, 8.2),))
    pool = library.draw(200, rng=rng)
    inside = [targets.met(libraries.rule(c)) for c in pool]
    assert 20 < sum(inside) < 180  # chance would give mixed batches
    for diversity in (0.0, 1.0):
        picked, prediction = select(
            pool, surrogate, features, targets, records, size=15, diversity=diversity, rng=rng
        )
        assert len(set(picked)) == 15
        assert all(inside[i] for i in picked)
        exact = np.array([libraries.rule(c)["density"] for c in pool])
        assert prediction.mean[:, 0] == pytest.approx(exact, abs=0.02)


def test_predictions_are_kept_by_name() -> None:
    p = Prediction(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[0.1, 0.2], [0.3, 0.4]]))
    assert predicted_rows(p, ("a", "b"), [1]) == [
        {"a": {"mean": 3.0, "std": 0.3}, "b": {"mean": 4.0, "std": 0.4}}
    ]
    noisy = Prediction(p.mean, p.std, np.full((2, 2), 0.5))
    assert predicted_rows(noisy, ("a", "b"), [0])[0]["b"] == {"mean": 2.0, "std": 0.2, "noise": 0.5}


def test_predicted_records_say_that_they_are(designs: list[Candidate]) -> None:
    records = predicted_records(designs[:2], np.array([[1.0], [2.0]]), ("a",), 3)
    assert [r.outcome.values["a"] for r in records] == [1.0, 2.0]
    assert {(r.fidelity, r.simulator, r.round) for r in records} == {("predicted", "surrogate", 3)}


# Evaluation


class Rule:
    """A simulator of one number; ``spoil`` may break it."""

    def __init__(
        self,
        name: str = "rule",
        spoil: Callable[[Sequence[Candidate], list[Any]], Any] = lambda _, found: found,
        **diagnostics: float,
    ) -> None:
        self.name = name
        self.version = "1"
        self.outputs: Mapping[str, str] = {name: "1"}
        self.spoil = spoil
        self.diagnostics = diagnostics

    def evaluate(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        found = []
        for c in candidates:
            value = float(c.composition() @ libraries.WEIGHTS)
            bounds = {self.name: (value - 1, value + 1)}
            found.append(Outcome("ok", {self.name: value}, bounds, self.diagnostics))
        spoiled: list[Outcome] = self.spoil(candidates, found)
        return spoiled


def test_outcomes_of_several_simulators_are_merged(designs: list[Candidate]) -> None:
    simulators = [Rule("first", iterations=3), Rule("second")]
    assert all(isinstance(s, Simulator) for s in simulators)
    for candidate, outcome in zip(designs, evaluate(simulators, designs), strict=True):
        value = float(candidate.composition() @ libraries.WEIGHTS)
        assert outcome.values == {"first": value, "second": value}
        assert set(outcome.bounds) == {"first", "second"}
        assert outcome.diagnostics == {"first": {"iterations": 3}}


def bad(candidate: Candidate) -> bool:
    """Designs that a broken simulator cannot do: those with rhenium."""
    assert candidate.phase_compositions is not None
    return bool(candidate.phase_compositions[0, 3] > 0)


def raises(candidates: Sequence[Candidate], found: list[Any]) -> list[Any]:
    if any(map(bad, candidates)):
        raise ZeroDivisionError("no volume")
    return found


def refuses(candidates: Sequence[Candidate], found: list[Any]) -> list[Any]:
    if any(map(bad, candidates)):
        raise InvalidInputError("rhenium is not in the table; leave it out")
    return found


def not_a_number(candidates: Sequence[Candidate], found: list[Any]) -> list[Any]:
    return [
        Outcome("ok", {"rule": math.nan}) if bad(c) else o
        for c, o in zip(candidates, found, strict=True)
    ]


def infinite(candidates: Sequence[Candidate], found: list[Any]) -> list[Any]:
    return [
        Outcome("ok", {"rule": -math.inf}) if bad(c) else o
        for c, o in zip(candidates, found, strict=True)
    ]


def shapeless_bounds(candidates: Sequence[Candidate], found: list[Any]) -> list[Any]:
    return [
        Outcome("ok", o.values, {"rule": (math.nan, 1.0)}) if bad(c) else o
        for c, o in zip(candidates, found, strict=True)
    ]


def not_the_declared(candidates: Sequence[Candidate], found: list[Any]) -> list[Any]:
    return [
        Outcome("ok", {"other": 1.0}) if bad(c) else o
        for c, o in zip(candidates, found, strict=True)
    ]


def says_so(candidates: Sequence[Candidate], found: list[Any]) -> list[Any]:
    return [
        Outcome("infeasible", reason="no such alloy") if bad(c) else o
        for c, o in zip(candidates, found, strict=True)
    ]


def too_short(candidates: Sequence[Candidate], found: list[Any]) -> list[Any]:
    return [o for c, o in zip(candidates, found, strict=True) if not bad(c)]


def too_long(candidates: Sequence[Candidate], found: list[Any]) -> list[Any]:
    return found + found if any(map(bad, candidates)) else found


def nothing(candidates: Sequence[Candidate], found: list[Any]) -> Any:
    return None if any(map(bad, candidates)) else found


def plain_numbers(candidates: Sequence[Candidate], found: list[Any]) -> list[Any]:
    return [1.0 if bad(c) else o for c, o in zip(candidates, found, strict=True)]


FAULTS = {
    raises: ("failed", "rule raised ZeroDivisionError: no volume"),
    refuses: ("failed", "rule: rhenium is not in the table; leave it out"),
    not_a_number: ("failed", "rule: outcome is ok but rule is nan"),
    infinite: ("failed", "rule: outcome is ok but rule is -inf"),
    shapeless_bounds: ("failed", "rule: bounds of rule are (nan, 1.0)"),
    not_the_declared: ("failed", "rule gave no rule; other, which it does not declare"),
    says_so: ("infeasible", "no such alloy"),
    too_short: ("failed", "rule returned 0 "),
    too_long: ("failed", "rule returned 2 "),
    nothing: ("failed", "rule raised TypeError"),
    plain_numbers: ("failed", "expected one Outcome each"),
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_a_broken_simulator_costs_only_the_designs_it_breaks_on(
    designs: list[Candidate], fault: Callable[..., Any]
) -> None:
    status, reason = FAULTS[fault]
    assert Counter(map(bad, designs)).keys() == {True, False}
    outcomes = evaluate([Rule(spoil=fault), Rule("other")], designs)
    for candidate, outcome in zip(designs, outcomes, strict=True):
        if bad(candidate):
            assert outcome.status == status
            assert reason in outcome.reason
        else:
            assert outcome == evaluate([Rule(), Rule("other")], [candidate])[0]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_outcomes_do_not_depend_on_the_chunks(
    designs: list[Candidate], fault: Callable[..., Any]
) -> None:
    simulators = [Rule(spoil=fault)]
    together = evaluate(simulators, designs)
    assert together == [evaluate(simulators, [c])[0] for c in designs]


def test_one_that_raises_is_asked_again_one_by_one(designs: list[Candidate]) -> None:
    """Once for all, then once each: nothing more, and nothing again for the good ones."""
    calls: list[int] = []

    def counted(candidates: Sequence[Candidate], found: list[Any]) -> list[Any]:
        calls.append(len(candidates))
        return raises(candidates, found)

    outcomes = evaluate([Rule(spoil=counted)], designs)
    assert calls == [len(designs)] + [1] * len(designs)
    assert [o.status == "failed" for o in outcomes] == [bad(c) for c in designs]
    calls.clear()
    good = [c for c in designs if not bad(c)]
    assert all(o.status == "ok" for o in evaluate([Rule(spoil=counted)], good))
    assert calls == [len(good)]


def test_an_interruption_is_not_taken_for_a_failure(designs: list[Candidate]) -> None:
    def interrupted(*_: Any) -> list[Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate([Rule(spoil=interrupted)], designs)


def test_nothing_to_evaluate() -> None:
    assert evaluate([Rule()], []) == []


def test_candidates_of_other_origins_are_one_design(designs: list[Candidate]) -> None:
    """What the pool's duplicates rest on."""
    c = designs[0]
    other = Candidate(c.phases, c.elements, None, c.phase_compositions, origin=Origin("x", 2.0))
    assert {other, c} == {c}
