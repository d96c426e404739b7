"""A round's line in the table, counted by hand from a ledger."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

from loop.candidate import Candidate, Outcome
from loop.features import Features
from loop.ledger import Ledger
from loop.summary import DISTINCT_RADIUS, RoundSummary, summarise
from loop.targets import Targets, Value
from tests import libraries

FloatArray = NDArray[np.float64]
SPACE = libraries.SPACES["compositions"]
TARGETS = Targets((Value("density", 7.7, 0.1),))
DESIGNS = libraries.library(SPACE).draw(40, rng=np.random.default_rng(0))
FEATURES = Features.fit(SPACE, None)


def outcomes(distances: Sequence[float | None]) -> list[Outcome]:
    """Densities that many tolerances beside the value; None fails."""
    return [
        Outcome.failed("did not converge")
        if d is None
        else Outcome("ok", {"density": 7.7 + (0.1 * (1 + d) if d else 0.05)})
        for d in distances
    ]


SEEDS: list[float | None] = [3.0, 2.0, None, 1.5, 4.0, 0.0, 2.5, 3.5]
PLAYED: dict[tuple[str, int], list[float | None]] = {
    ("seed", 0): SEEDS,
    ("loop", 1): [0.0, 1.0, None, 0.0],
    ("random", 1): [5.0, 0.0, 0.0, 0.0],
    ("loop", 2): [0.0, 0.5, 0.0, 2.0],
    ("random", 2): [9.0, 9.0, 9.0, 9.0],
    ("loop", 3): [],
}


@pytest.fixture(scope="module")
def batches() -> dict[tuple[str, int], list[Candidate]]:
    designs = iter(DESIGNS)
    return {key: [next(designs) for _ in d] for key, d in PLAYED.items()}


@pytest.fixture(scope="module")
def ledger(
    tmp_path_factory: pytest.TempPathFactory, batches: dict[tuple[str, int], list[Candidate]]
) -> Ledger:
    ledger = Ledger.open(tmp_path_factory.mktemp("summary") / "ledger.db")
    number = ledger.ensure_campaign(
        "counted", seed=0, settings={}, settings_hash="0", data_hash="0", versions={}
    )
    for (arm, index), distances in PLAYED.items():
        batch = batches[arm, index]
        predicted = None
        if arm == "loop":  # the prediction is 0.02 too high throughout
            values = [o.values.get("density", 7.7) for o in outcomes(distances)]
            predicted = [{"density": {"mean": v + 0.02, "std": 0.1}} for v in values]
        ledger.plan_batch(
            number,
            arm,
            index,
            batch,
            predicted=predicted,
            details={"pool": 30, "pool_valid": 20} if arm == "loop" else None,
        )
        ledger.add_outcomes(
            number,
            arm,
            index,
            range(len(batch)),
            outcomes(distances),
            simulator="rule",
            version="1",
            targets=TARGETS,
        )
    return ledger


def line(ledger: Ledger, arm: str, index: int) -> RoundSummary:
    return summarise(ledger, 1, arm, index, targets=TARGETS, features=FEATURES, seconds=1.5)


def test_counts_are_of_the_arm_alone(ledger: Ledger) -> None:
    second = line(ledger, "loop", 2)
    assert (second.evaluated, second.ok, second.hits, second.hit_rate) == (4, 4, 2, 0.5)
    assert (second.evaluated_total, second.hits_total) == (8, 4)
    assert (second.pool, second.pool_valid, second.seconds) == (30, 20, 1.5)
    first = line(ledger, "loop", 1)
    assert (first.evaluated, first.ok, first.hits) == (4, 3, 2)
    assert (first.evaluated_total, first.hits_total) == (4, 2)
    random = line(ledger, "random", 2)
    assert (random.hits, random.hits_total, random.evaluated_total) == (0, 3, 8)
    assert (random.pool, random.surrogate_nrmse) == (4, None)


def test_seeds_are_summarised_like_a_round(ledger: Ledger) -> None:
    seeds = line(ledger, "seed", 0)
    assert (seeds.evaluated, seeds.ok, seeds.hits, seeds.evaluated_total) == (8, 7, 1, 8)
    assert seeds.diversity == pytest.approx(1.0)
    assert seeds.hit_spread is None


def test_best_distance_counts_the_seeds_and_the_own_rounds(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        number = ledger.ensure_campaign(
            "best", seed=0, settings={}, settings_hash="0", data_hash="0", versions={}
        )
        played = {("seed", 0): [3.0, 2.0], ("loop", 1): [2.5], ("random", 1): [0.5]}
        designs = iter(DESIGNS)
        for (arm, index), distances in {**played, ("loop", 2): [1.0]}.items():
            batch = [next(designs) for _ in distances]
            ledger.plan_batch(number, arm, index, batch)
            ledger.add_outcomes(
                number,
                arm,
                index,
                range(len(batch)),
                outcomes(distances),
                simulator="rule",
                version="1",
                targets=TARGETS,
            )
        assert line(ledger, "loop", 1).best_distance == pytest.approx(2.0)
        assert line(ledger, "loop", 2).best_distance == pytest.approx(1.0)
        assert line(ledger, "random", 1).best_distance == pytest.approx(0.5)


def test_spread_is_relative_to_the_seeds(
    ledger: Ledger, batches: dict[tuple[str, int], list[Candidate]]
) -> None:
    seeds = FEATURES.transform(batches["seed", 0])

    def spread(designs: Sequence[Candidate]) -> float:
        z = (FEATURES.transform(designs) - seeds.mean(0)) / seeds.std(0)
        return float(pdist(z).mean())

    second = line(ledger, "loop", 2)
    typical = spread(batches["seed", 0])
    assert second.diversity == pytest.approx(spread(batches["loop", 2]) / typical)
    hits = [batches["loop", i][j] for i, j in ((1, 0), (1, 3), (2, 0), (2, 2))]
    assert second.hit_spread == pytest.approx(spread(hits) / typical)
    z = (FEATURES.transform(hits) - seeds.mean(0)) / seeds.std(0)
    kept: list[FloatArray] = []
    for row in z:
        if all(math.dist(row, other) > DISTINCT_RADIUS * math.sqrt(len(row)) for other in kept):
            kept.append(row)
    assert second.distinct_hits_total == len(kept) > 1


def test_error_of_the_surrogate_is_over_the_spread(ledger: Ledger) -> None:
    values = [o.values["density"] for o in outcomes(PLAYED["loop", 2])]
    assert line(ledger, "loop", 2).surrogate_nrmse == pytest.approx(0.02 / np.std(values))


def test_a_round_without_designs(ledger: Ledger) -> None:
    empty = line(ledger, "loop", 3)
    assert (empty.evaluated, empty.hits, empty.hit_rate, empty.hits_total) == (0, 0, 0.0, 4)
    assert (empty.diversity, empty.surrogate_nrmse) == (None, None)
    assert empty.best_distance == 0.0


def test_a_line_is_json(ledger: Ledger) -> None:
    for arm, index in PLAYED:
        for value in line(ledger, arm, index).as_dict().values():
            assert value is None or type(value) in (int, float, str)
            assert not isinstance(value, float) or math.isfinite(value)
