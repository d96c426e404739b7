"""A hundred cases of the benchmark that asks whether the bounds hold."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.bounds import KINDS, ROUNDING, Found, random_case, summary


@pytest.fixture(scope="module")
def found() -> list[Found]:
    rng = np.random.default_rng(1)
    return [random_case(rng) for _ in range(100)]


def test_bounds_hold_in_every_case(found: list[Found]) -> None:
    assert [f for f in found if f.margin < -ROUNDING] == []
    assert summary(found)["violations"] == 0


def test_the_cases_differ(found: list[Found]) -> None:
    assert {f.kind for f in found} == set(KINDS)
    assert max(f.contrast for f in found) > 5e3
    for name in ("anisotropic", "stopped"):
        assert 20 < sum(getattr(f, name) for f in found) < 90
    # Laminates that are solved to the end leave no gap, boards and blobs do.
    done = [f for f in found if not f.stopped]
    assert min(f.gap for f in done if f.kind == "laminate") < 1e-6
    assert min(f.gap for f in done if f.kind == "checkerboard") > 1e-3


def test_a_bound_that_is_lost_is_counted() -> None:
    lost = Found("image", False, False, 10.0, -1e-3, 0.1)
    kept = Found("image", False, True, 10.0, 0.0, 0.1)
    assert summary([lost, kept])["violations"] == 1
