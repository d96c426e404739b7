"""The replay benchmark's figures against counts by hand, and its methods' manners."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.replay import area, calls_to, figures, hits_in_order, line
from benchmarks.replay_methods import BoTorch, Evolution, Method, Random
from benchmarks.replay_tables import Table
from loop.candidate import Candidate
from loop.space import DesignSpace

N, FIRST, BATCH = 40, 8, 4


@pytest.fixture(scope="module")
def table() -> Table:
    """Forty ternary alloys whose property is a hill; the ten best are rows 30 to 39."""
    x = np.random.default_rng(0).dirichlet(np.ones(3), size=N)
    y = -((x - np.array([0.6, 0.3, 0.1])) ** 2).sum(1)
    order = np.argsort(y)
    x, y = x[order], y[order]
    space = DesignSpace(("alloy",), ("Ni", "Al", "Cr"))
    designs = tuple(
        Candidate(phases=space.phases, elements=space.elements, phase_compositions=row[None])
        for row in x
    )
    return Table(
        folder=Path(),
        property="hardness_HV",
        x=x,
        described=x[:, :2],
        y=y,
        top=np.arange(N) >= 30,
        candidates=designs,
        space=space,
        batch=BATCH,
        seeds=FIRST,
        data_hash="0",
    )


def row_of(rows: list[int]) -> dict[str, object]:
    return {"rows": rows, "cpu_s": 1.0}


WORST_FIRST = list(range(N))
BEST_AFTER_THE_FIRST = [*range(FIRST), *range(N - 1, FIRST - 1, -1)]


def test_calls_are_counted_from_the_first_alloy(table: Table) -> None:
    assert [calls_to(table, WORST_FIRST, k) for k in (1, 5, 10)] == [31, 35, 40]
    assert [calls_to(table, BEST_AFTER_THE_FIRST, k) for k in (1, 5, 10)] == [9, 13, 18]
    assert calls_to(table, BEST_AFTER_THE_FIRST[:12], 4) == 12
    assert math.isinf(calls_to(table, BEST_AFTER_THE_FIRST[:12], 5))


def test_what_was_cut_off_counts_as_found_last(table: Table) -> None:
    """Of 12 calls that found 4, the other 6 are the last six of the table."""
    hits = hits_in_order(table, BEST_AFTER_THE_FIRST[:12])
    assert np.flatnonzero(hits).tolist() == [8, 9, 10, 11, *range(34, 40)]
    assert len(hits) == N


def test_area_under_the_share_found(table: Table) -> None:
    # 0.1 to 1.0 over ten calls and then 1: mean over 20 of (5.5 + 10) / 20.
    assert area(table, BEST_AFTER_THE_FIRST, 20) == pytest.approx(15.5 / 20)
    assert area(table, BEST_AFTER_THE_FIRST[:18], 20) == pytest.approx(15.5 / 20)
    assert area(table, WORST_FIRST, 20) == 0.0


def test_figures_beside_the_reference(table: Table) -> None:
    reference = {seed: row_of(WORST_FIRST) for seed in (0, 1)}
    runs = {0: row_of(BEST_AFTER_THE_FIRST[:18]), 1: row_of(BEST_AFTER_THE_FIRST[:12])}
    found = figures(table, runs, reference, 20)
    five, ten = found["levels"]["5"], found["levels"]["10"]
    assert five["calls"] == [13, None]
    assert (five["cut_off"], five["median_calls"]) == (1, None)
    # The first run needs 13 calls where the reference needs 35; the second had at most 35 left.
    assert five["acceleration"]["geometric_mean"] == pytest.approx(math.sqrt(35 / 13 * 35 / 35))
    low, high = five["acceleration"]["interval_of_the_geometric_mean"]
    assert (low, high) == (pytest.approx(1.0), pytest.approx(35 / 13))
    assert ten["acceleration"]["median"] == pytest.approx((40 / 18 + 1) / 2)
    assert found["found_after_batch_mean"] == [0, 4, 6, 7, 7, 7]
    assert found["best_is_found_after"] == 9
    assert "5: cut off" in line("any", found)
    same = figures(table, reference, reference, 20)
    assert same["levels"]["8"]["acceleration"]["interval_of_the_geometric_mean"] == [1, 1]
    assert same["enhancement"]["48"]["factor"] == 1


@pytest.mark.parametrize("name", ["random", "genetic", "botorch"])
def test_methods_pick_what_is_left_once_each(table: Table, name: str) -> None:
    made: dict[str, Callable[[], Method]] = {
        "random": lambda: Random(table),
        "genetic": lambda: Evolution(table),
        "botorch": lambda: BoTorch(table, table.x, steps=20),
    }
    method = made[name]()
    rows = [0, 1, 5, 9, 12, 17, 20, 23]
    picked = method(rows, BATCH, 3)
    assert picked == method(rows, BATCH, 3)
    assert len(set(picked) - set(rows)) == BATCH
    assert method(list(range(38)), BATCH, 3) in ([38, 39], [39, 38])
    if name == "botorch":  # a hill of two dimensions: it goes up
        assert table.y[picked].max() > table.y[23]
