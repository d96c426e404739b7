"""Sparse compositions of up to 30 elements come back within 1e-12 from wherever they were put."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from loop.ledger import Ledger
from loop.round_trip_cases import (
    ALLOWED,
    ELEMENTS,
    ROUTES,
    error_of,
    from_database,
    from_parquet,
    planned,
    sparse_compositions,
)

Floats = NDArray[np.float64]


@st.composite
def sparse(draw: st.DrawFn) -> Floats:
    """(1, 30) of 1 to 30 elements, amounts over nine decades, the others exactly 0."""
    present = draw(st.sets(st.integers(0, 29), min_size=1))
    x = np.zeros((1, 30))
    for i in present:
        x[0, i] = 10.0 ** draw(st.floats(-9.0, 0.0))
    return np.asarray(x / x.sum())


@pytest.mark.parametrize("route", ROUTES)
@given(sparse())
@settings(max_examples=60, deadline=None)
def test_through_text_and_log_ratios(route: str, x: Floats) -> None:
    assert error_of(ROUTES[route](x), x) <= ALLOWED


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    with Ledger.open(tmp_path_factory.mktemp("round_trips") / "ledger.db") as opened:
        yield opened


_rounds = iter(range(1, 1_000_000))


@given(st.lists(sparse(), min_size=1, max_size=4))
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_through_the_database_and_parquet(
    ledger: Ledger, tmp_path: Path, rows: list[Floats]
) -> None:
    x = np.concatenate(rows)
    round_ = next(_rounds)
    ids = planned(ledger, x, round_)
    assert error_of(from_database(ledger, round_), x) <= ALLOWED
    assert error_of(from_parquet(ledger, tmp_path / "table.parquet", ids), x) <= ALLOWED


def test_a_zero_that_came_back_as_something_is_an_error() -> None:
    x = sparse_compositions(3, np.random.default_rng(0))
    x[0, :2] = 0.0, 1e-6
    moved = x.copy()
    moved[0, 0] = 1e-300
    assert error_of(moved, x) == np.inf
    moved[0, :2] = 0.0, 0.0
    assert error_of(moved, x) == np.inf


def test_the_drawn_compositions_are_sparse_and_wide() -> None:
    x = sparse_compositions(200, np.random.default_rng(1))
    assert x.shape == (200, len(ELEMENTS))
    np.testing.assert_allclose(x.sum(1), 1.0, rtol=0, atol=1e-15 * 30)
    counts = (x > 0).sum(1)
    assert counts.min() == 1
    assert counts.max() == 30
    assert x[x > 0].min() < 1e-8
