"""What a surrogate expects, held against closed forms; and that nothing of it is recorded."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from flows.expectation import Expectation, NewValues, formula_of
from flows.predict import broken, predict
from loop.candidate import Candidate
from loop.errors import InvalidInputError, LedgerError
from loop.round import stage_rng
from loop.scaling import PropertyScale
from loop.session import Session
from loop.space import DesignSpace
from loop.summary import LOOP_ARM, SEED_ARM
from loop.surrogate import Surrogate
from loop.targets import Maximise, Minimise, Range, Targets, Value
from tests import libraries
from tests.loop.alloy_sessions import SPACE, Rule, session
from tests.loop.test_surrogate import closed_form, matern_plus_linear

SEEDS = 40


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """Forty alloys on record whose density is linear in the composition."""
    found = session(tmp_path_factory.mktemp("scored"), seeds=SEEDS)
    found.prepare()
    found.run_stage(SEED_ARM, 0)
    with found.ledger:
        yield found


def alloy(*fractions: float) -> Candidate:
    return Candidate(SPACE.phases, SPACE.elements, None, np.array([fractions]))


def alloys(n: int, seed: int) -> list[Candidate]:
    x = libraries.alloys(n, 1, np.random.default_rng(seed))
    return [Candidate(SPACE.phases, SPACE.elements, None, row) for row in x]


@pytest.fixture(scope="module")
def expected(scored: Session) -> Expectation:
    return predict(scored, alloys(12, 77))


def test_mean_and_deviation_are_those_of_the_process(
    scored: Session, expected: Expectation
) -> None:
    """Written out in numpy from the records: features, standardisation, kernel, posterior."""
    records = scored.records(LOOP_ARM, 1)
    assert expected.about["records"] == len(records) == SEEDS
    fitted = scored.surrogate(records, stage_rng(4, "propose", 0, "surrogate"))
    x = np.array([r.candidate.phase_compositions[0, 1:] for r in records])  # type: ignore[index]
    new = np.array([c.phase_compositions[0, 1:] for c in expected.designs])  # type: ignore[index]
    y = np.array([r.outcome.values["density"] for r in records])
    assert fitted.outputs is not None
    assert not fitted.outputs.log[0]
    (model,) = fitted.models
    matern, linear = model.kernel.matern, model.kernel.linear
    given = (
        matern.base_kernel.lengthscale.detach().numpy()[0],
        float(matern.outputscale.detach()),
        linear.variance.detach().numpy()[0] * np.ones(3),
    )
    z, z_new = ((a - x.mean(0)) / x.std(0) for a in (x, new))
    # The factor times its transpose is K + noise: the noise is what the kernel lacks.
    gram = (model.factor @ model.factor.T).numpy()
    noise = float(np.mean(np.diag(gram) - np.diag(matern_plus_linear(z, z, *given))))
    standard = (y - y.mean()) / y.std()
    mean, std = closed_form(z, standard, z_new, noise, model.constant, *given)
    assert expected.mean[:, 0] == pytest.approx(y.mean() + y.std() * mean, rel=1e-6)
    # The variance is a difference of numbers near 1 after division by noise of about 1e-6.
    assert (expected.std[:, 0] / y.std()) ** 2 == pytest.approx(std**2, rel=1e-6, abs=1e-7)
    reach = NormalDist().inv_cdf(0.95) * y.std() * np.sqrt(std**2 + noise)
    assert expected.high[:, 0] - expected.mean[:, 0] == pytest.approx(reach, rel=0.05)
    assert expected.mean[:, 0] - expected.low[:, 0] == pytest.approx(reach, rel=0.05)


def test_known_and_linear_alloys_are_predicted_near_their_values(
    scored: Session, expected: Expectation
) -> None:
    for design, mean in zip(expected.designs, expected.mean[:, 0], strict=True):
        assert mean == pytest.approx(libraries.rule(design)["density"], abs=0.02)
    records = scored.records(LOOP_ARM, 1)[:5]
    known = predict(scored, [r.candidate for r in records])
    for i, record in enumerate(records):
        value = record.outcome.values["density"]
        assert known.mean[i, 0] == pytest.approx(value, abs=0.02)
        assert known.remarks[i][0] == f"on record: density {value:.5g}"
        assert known.nearest[i] == record.candidate
        assert known.difference[i] == 0


def test_the_interval_has_the_probability_that_it_says(expected: Expectation) -> None:
    for j in range(len(expected.designs)):
        # Values of a rule scatter by next to the least noise allowed, 1e-6 of their variance.
        half = 0.5 * (expected.high[j, 0] - expected.low[j, 0]) / NormalDist().inv_cdf(0.95)
        middle = 0.5 * (expected.high[j, 0] + expected.low[j, 0])
        assert middle == pytest.approx(expected.mean[j, 0])
        assert expected.std[j, 0] < half < 2 * np.hypot(expected.std[j, 0], 1e-3)


def test_values_that_scatter_have_wider_intervals() -> None:
    """A noisy line: about nine in ten new values lie in their intervals."""
    rng = np.random.default_rng(6)
    x, x_new = rng.uniform(-1, 1, (80, 1)), rng.uniform(-1, 1, (400, 1))
    y, y_new = (50 + 4 * a + 3 * rng.standard_normal(a.shape) for a in (x, x_new))
    surrogate = Surrogate(("a",)).fit(x, y, rng=rng)
    prediction = surrogate.predict(x_new)
    low, high = surrogate.interval(prediction)
    new = NewValues.of(surrogate, prediction)
    each, _ = new.chances(Targets((Range("a", float(low[0, 0]), float(high[0, 0])),)))
    assert each[0, 0] == pytest.approx(0.9, rel=1e-6)
    # The standard error of a deviation from 80 values is 8 %; three of them.
    assert float(np.median(high - low)) == pytest.approx(2 * 1.645 * 3, rel=0.24)
    inside = float(((low < y_new) & (y_new < high)).mean())
    # 0.9 with the scatter of 400 draws (0.015), and 8 % of the width, which is 0.03; two of them.
    assert inside == pytest.approx(0.9, abs=0.07)
    assert float(((prediction.mean - low) / prediction.std).min()) > 1.645


def made(log: list[bool], mean: list[float], std: list[float]) -> NewValues:
    """One design, standardised 0 ± 1 on scales whose properties then have these moments."""
    n = len(log)
    scale = PropertyScale(np.array(log), np.array(mean), np.array(std))
    return NewValues(tuple("abc"[:n]), scale, np.zeros((1, n)), np.ones((1, n)))


def test_chances_are_those_of_the_normal_distribution() -> None:
    targets = Targets((Range("b", -3.0, 1.0), Value("a", 10.5, 0.75), Maximise("c", at_least=0.5)))
    for mean, std in (([11.0, -2.0, 0.3], [0.5, 3.0, 0.2]), ([8.0, 4.0, -1.0], [4.0, 1.5, 2.0])):
        each, together = made([False] * 3, mean, std).chances(targets)
        a, b, c = (NormalDist(m, s).cdf for m, s in zip(mean, std, strict=True))
        exact = [b(1.0) - b(-3.0), a(11.25) - a(9.75), 1 - c(0.5)]
        np.testing.assert_allclose(each[0], exact, rtol=1e-6)
        assert together[0] == pytest.approx(float(np.prod(exact)), rel=1e-6)


def test_a_property_learned_in_its_logarithm_is_lognormal() -> None:
    median, share = 9.0, 0.3  # the deviation of the logarithm
    new = made([True, False], [float(np.log(median)), 1.0], [share, 0.4])
    each, _ = new.chances(Targets((Minimise("a", at_most=12.0), Range("b", 0.5, 1.5))))
    assert each[0, 0] == pytest.approx(NormalDist(0, share).cdf(np.log(12.0 / median)))
    each, together = new.chances(Targets((Range("a", -2.0, -1.0), Range("b", 0.5, 1.5))))
    assert each[0, 0] == together[0] == pytest.approx(0.0, abs=1e-12)


def test_a_target_without_a_limit_has_no_chance() -> None:
    new = made([False, False], [0.5, 1.0], [1.0, 1.0])
    each, together = new.chances(Targets((Maximise("a"), Minimise("b", 0))))
    assert np.isnan(each[0, 0])
    assert together[0] == pytest.approx(NormalDist(1, 1).cdf(0))
    each, together = new.chances(Targets((Maximise("a"),)))
    assert np.isnan(each).all()
    assert np.isnan(together).all()


def test_rows_are_in_the_order_asked_and_the_answer_repeats(
    scored: Session, expected: Expectation
) -> None:
    back = predict(scored, expected.designs[::-1])
    assert [c.id for c in back.designs] == [c.id for c in expected.designs[::-1]]
    np.testing.assert_allclose(back.mean, expected.mean[::-1], rtol=1e-12)
    again = predict(scored, expected.designs)
    assert again.frame().equals(expected.frame())


def test_a_row_says_all_of_a_design(expected: Expectation) -> None:
    row = expected.frame().iloc[3]
    assert row["id"] == expected.designs[3].id
    assert row["formula"] == formula_of(expected.designs[3])
    assert row["predicted_density"] == expected.mean[3, 0]
    assert row["predicted_low_density"] < row["predicted_density"] < row["predicted_high_density"]
    assert row["chance_density"] == row["chance"]
    assert row["a:Al"] == expected.designs[3].composition()[1]
    assert "status" not in expected.frame().columns


def test_the_nearest_is_found_by_hand(scored: Session, expected: Expectation) -> None:
    known = [r.candidate for r in scored.records(LOOP_ARM, 1)]
    x = np.array([c.composition() for c in known])
    for i, design in enumerate(expected.designs):
        apart = np.abs(x - design.composition()).sum(1)
        assert expected.difference[i] == pytest.approx(apart.min(), abs=1e-12)
        assert expected.nearest[i] == known[int(apart.argmin())]


def test_what_is_remarked(scored: Session) -> None:
    far = alloy(0.42, 0.28, 0.3, 0.0)  # within the bounds, and no alloy of the library is near
    outside = alloy(0.3, 0.35, 0.3, 0.05)
    usual = alloy(0.72, 0.12, 0.16, 0.0)
    found = predict(scored, [far, outside, usual])
    assert found.remarks[0] == ("compositions are unlike the library's",)
    assert found.remarks[1] == (
        "Ni is 0.3, outside its bounds [0.4, 0.9]",
        "Al is 0.35, outside its bounds [0.02, 0.3]",
        "compositions are unlike the library's",
    )
    assert found.remarks[2] == ()
    space = DesignSpace(("a",), ("Ni", "Al", "Cr"), constraints=("at most 2 elements", "Al >= 0.1"))
    ternary = Candidate(("a",), space.elements, None, np.array([[0.7, 0.05, 0.25]]))
    assert broken(space, ternary) == [
        "breaks Al >= 0.1 (it is 0.05)",
        "breaks at most 2 elements (there are 3)",
    ]


def contents(path: Path) -> str:
    with sqlite3.connect(path) as connection:
        return "\n".join(connection.iterdump())


def test_simulators_are_asked_when_wanted_and_nothing_is_recorded(scored: Session) -> None:
    assert scored.ledger.path is not None
    before = contents(scored.ledger.path)
    designs = alloys(3, 5)
    found = predict(scored, designs, score=True)
    assert found.outcomes is not None
    frame = found.frame()
    assert list(frame["status"]) == ["ok"] * 3
    assert list(frame["density"]) == [libraries.rule(c)["density"] for c in designs]
    assert contents(scored.ledger.path) == before


def test_what_cannot_be_answered(scored: Session, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="got 0 designs"):
        predict(scored, [])
    others = [
        (Candidate(("b",), SPACE.elements, None, np.array([[1.0, 0, 0, 0]])), "phases b, expected"),
        (Candidate(("a",), ("Ni",), None, np.array([[1.0]])), "elements Ni, expected Ni, Al, Cr"),
        (dataclasses.replace(alloy(1.0, 0, 0, 0), labels={"route": "A"}), "labels route, expected"),
        (dataclasses.replace(alloy(1.0, 0, 0, 0), process={"T_K": 3.0}), "process variables T_K"),
    ]
    for design, message in others:
        with pytest.raises(InvalidInputError, match=message):
            predict(scored, [design])
    empty = session(tmp_path)
    with empty.ledger, pytest.raises(LedgerError, match="has no scored designs yet"):
        predict(empty, alloys(1, 0))


def test_too_few_records_are_too_few(tmp_path: Path) -> None:
    few = session(tmp_path, seeds=8, simulators=[Rule(broken=8.2)])  # the denser ones fail
    few.prepare()
    few.run_stage(SEED_ARM, 0)
    told = r"density has [1-7] scored values; expected at least 8"
    with few.ledger, pytest.raises(InvalidInputError, match=told):
        predict(few, alloys(1, 0))
