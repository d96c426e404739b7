"""The surrogate as a simulator: it says what ``predict`` says, and a path can follow it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from flows.expected import Expected
from flows.monotone_designs import monotone_designs
from flows.predict import predict
from loop.candidate import Candidate
from loop.errors import InvalidInputError, LedgerError
from loop.monotone import moves_one_way
from loop.paths import positions, straight_path
from loop.polytope import CompositionSet
from loop.session import Session
from loop.summary import SEED_ARM
from tests import libraries
from tests.loop.alloy_sessions import SPACE, session


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """Alloys on record whose density is linear in the composition."""
    found = session(tmp_path_factory.mktemp("scored"), seeds=32)
    found.prepare()
    found.run_stage(SEED_ARM, 0)
    with found.ledger:
        yield found


def alloys(*rows: list[float]) -> list[Candidate]:
    return [Candidate(SPACE.phases, SPACE.elements, None, np.array([row])) for row in rows]


def test_it_expects_what_predict_expects(scored: Session) -> None:
    expected = Expected(scored)
    designs = alloys([0.7, 0.1, 0.2, 0.0], [0.5, 0.2, 0.25, 0.05], [0.9, 0.05, 0.05, 0.0])
    told = predict(scored, designs)
    assert expected.records == told.about["records"]
    assert tuple(expected.outputs) == told.properties
    for i, outcome in enumerate(expected.evaluate(designs)):
        assert outcome.status == "ok"
        for j, name in enumerate(told.properties):
            assert outcome.values[name] == pytest.approx(told.mean[i, j], rel=1e-12)
            assert outcome.uncertainty[name] == pytest.approx(told.std[i, j], rel=1e-12)
            ends = told.low[i, j], told.high[i, j]
            assert outcome.bounds[name] == pytest.approx(ends, rel=1e-12)
    assert expected.evaluate([]) == []


def test_a_path_is_mended_until_what_is_expected_moves_one_way(scored: Session) -> None:
    """Through a far richer alloy in between, density goes down and up again: mended, it rises."""
    expected = Expected(scored)
    ends = [[0.80, 0.10, 0.10, 0.0]], [[0.60, 0.07, 0.33, 0.0]]
    x = straight_path(*ends, positions(9))
    bend = 0.1 * np.sin(np.pi * positions(9))[1:-1, None]
    x[1:-1] += bend[..., None] * np.array([-1.0, 1.0, 0.0, 0.0])  # aluminium: lighter
    designs = [Candidate(SPACE.phases, SPACE.elements, None, row) for row in x]

    def densities(path: list[Candidate]) -> np.ndarray:
        return np.array([o.values["density"] for o in expected.evaluate(path)])

    assert not moves_one_way(densities(designs))
    space = CompositionSet.of(SPACE.elements, ["Al >= 0.05"])
    mended, found = monotone_designs(designs, "density", [expected], [space])
    assert moves_one_way(densities(mended))
    assert densities(mended) == pytest.approx(found.values, rel=1e-12)
    true = np.array([libraries.rule(c)["density"] for c in mended])
    assert true == pytest.approx(found.values, abs=0.05)
    assert [mended[0].id, mended[-1].id] == [designs[0].id, designs[-1].id]


def test_what_it_cannot_say(scored: Session, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = Candidate(("b",), SPACE.elements, None, np.array([[1.0, 0.0, 0.0, 0.0]]))
    with pytest.raises(InvalidInputError, match="phases b, expected"):
        Expected(scored).evaluate([other])
    with pytest.raises(InvalidInputError, match="unknown property 'hardness'"):
        monotone_designs(
            alloys([0.8, 0.1, 0.1, 0.0], [0.7, 0.1, 0.2, 0.0]), "hardness", [Expected(scored)], []
        )
    empty = session(tmp_path_factory.mktemp("empty"))
    with empty.ledger, pytest.raises(LedgerError, match="has no scored designs yet"):
        Expected(empty)
