"""Does a request get what it asks for? On alloys whose properties are known in closed form."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from generators.flow import JointFlow
from generators.registry import PRESETS
from loop.candidate import Candidate, Outcome, Record
from loop.targets import Range, Targets
from tests import libraries

FloatArray = NDArray[np.float64]
SPACE = libraries.SPACES["compositions"]
N = 200
PROPERTIES = ("density", "aluminium")
SETTINGS = replace(
    PRESETS["tiny"],
    first_steps=100,
    head_first_steps=400,
    batch=64,
    head_batch=128,
    learning_rate=2e-3,
)


def found(candidate: Candidate) -> dict[str, float]:
    assert candidate.phase_compositions is not None
    return {**libraries.rule(candidate), "aluminium": float(candidate.phase_compositions[0, 1])}


@cache
def trained() -> tuple[JointFlow, FloatArray]:
    """The flow after two seconds of training, and the values (m, 2) of its training designs."""
    library = libraries.library(SPACE, rows=1000)
    targets = Targets((Range("density", 8.0, 8.3), Range("aluminium", 0.1, 0.15)))
    designs = library.draw(600, rng=np.random.default_rng(0))
    records = [Record(c, Outcome("ok", found(c)), "rule", "1", 0) for c in designs]
    flow = JointFlow(SPACE, library, targets, PROPERTIES, SETTINGS)
    values = np.array([[r.outcome.values[k] for k in PROPERTIES] for r in records])
    return flow.fit(records, rng=np.random.default_rng(1)), values


@cache
def obtained(guidance: float, asked: tuple[bool, bool]) -> tuple[FloatArray, FloatArray]:
    """Requests (n, 2) taken from new library designs, and what the proposals have (n, 2)."""
    flow, values = trained()
    designs = flow.library.draw(N, rng=np.random.default_rng(2))
    requests = np.array([[found(c)[k] for k in PROPERTIES] for c in designs])
    given = np.where(asked, requests, np.nan)
    proposed = flow.generate(given, guidance=guidance, rng=np.random.default_rng(3))
    scale = values.std(0)
    got = np.array([[found(c)[k] for k in PROPERTIES] for c in proposed])
    return requests / scale, got / scale


def correlation(requests: FloatArray, got: FloatArray, j: int) -> float:
    return float(np.corrcoef(requests[:, j], got[:, j])[0, 1])


# Without a relation a correlation of n pairs has standard error 1/√n.
CHANCE = 4 / math.sqrt(N)


@pytest.mark.parametrize("j", [0, 1])
def test_without_guidance_a_request_is_not_heard(j: int) -> None:
    assert abs(correlation(*obtained(0.0, (True, True)), j)) < CHANCE


@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("j", [0, 1])
def test_with_guidance_requested_and_obtained_agree(guidance: float, j: int) -> None:
    assert correlation(*obtained(guidance, (True, True)), j) > 0.8


@pytest.mark.parametrize("j", [0, 1])
def test_the_error_falls_with_guidance(j: int) -> None:
    """Pair by pair, by more than five standard errors of the mean difference, and to a third."""
    errors = [np.abs(np.subtract(*obtained(s, (True, True))))[:, j] for s in (0.0, 1.0)]
    difference = errors[0] - errors[1]
    assert difference.mean() > 5 * difference.std() / math.sqrt(N)
    assert errors[1].mean() < errors[0].mean() / 3


@pytest.mark.parametrize("asked", [(True, False), (False, True)])
def test_any_subset_of_properties_may_be_asked_for(asked: tuple[bool, bool]) -> None:
    """What is asked for is met; the other one keeps the spread that it has given the first."""
    requests, got = obtained(1.0, asked)
    j = asked.index(True)
    assert correlation(requests, got, j) > 0.8
    other = 1 - j
    partial = np.corrcoef(requests[:, other], got[:, other])[0, 1]
    own = np.corrcoef(requests[:, j], requests[:, other])[0, 1]
    # It follows the request only as far as both properties hang together.
    assert abs(partial) < abs(own) + CHANCE
    assert got[:, other].std() > 0.5


def test_within_one_condition_designs_differ() -> None:
    """No collapse: proposals for one request scatter much as the library designs that meet it."""
    flow, values = trained()
    request = np.tile([8.1, np.nan], (100, 1))
    proposed = flow.generate(request, guidance=1.0, rng=np.random.default_rng(4))
    density, aluminium = np.array([[found(c)[k] for k in PROPERTIES] for c in proposed]).T
    meeting = values[np.abs(values[:, 0] - 8.1) < 0.05]
    assert len(meeting) > 30
    assert density.std() < 0.5 * values[:, 0].std()
    assert aluminium.std() > 0.4 * meeting[:, 1].std()
    assert len({c.id for c in proposed}) == 100
