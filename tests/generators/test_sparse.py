"""Sparse compositions as coordinates: exact zeros, round trips, feasibility of what comes out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from generators.sparse import ABSENT, SparseCode
from loop.composition import project_to_bounds
from loop.space import DesignSpace

FloatArray = NDArray[np.float64]
NAMES = ("Al", "Co", "Cr", "Cu", "Fe", "Mn", "Mo", "Nb", "Ni", "Ti", "V", "Zr")


def sparse_alloys(n: int, e: int, rng: np.random.Generator, most: int = 5) -> FloatArray:
    """(n, 1, e) alloys of 2 to ``most`` of e elements."""
    x = np.zeros((n, 1, e))
    for row in x:
        there = rng.permutation(e)[: rng.integers(2, most + 1)]
        row[0, there] = rng.dirichlet(np.full(len(there), 3.0))
    return x


@st.composite
def spaces(draw: Any) -> tuple[DesignSpace, FloatArray, FloatArray]:
    """A space with bounds, data in it, and coordinates of any size to decode."""
    e = draw(st.integers(2, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    middle = rng.dirichlet(np.ones(e))
    low = np.where(rng.random(e) < 0.7, 0.0, middle * rng.random(e))
    high = np.minimum(1.0, middle + (1 - middle) * rng.random(e) * 0.6 + 1e-3)
    high = np.where((low == 0) & (rng.random(e) < 0.1), 0.0, high)
    if high.sum() < 1.0:
        high = np.ones(e)
    names = NAMES[:e]
    bounds = {"a": {k: (float(a), float(b)) for k, a, b in zip(names, low, high, strict=True)}}
    space = DesignSpace(("a",), names, None, bounds)
    raw = rng.dirichlet(np.ones(e), size=(30, 1))
    capped = np.where((rng.random(raw.shape) < 0.5) & (low == 0), 0.0, high)
    capped = np.where(capped.sum(-1, keepdims=True) > 1.01, capped, high)
    data = project_to_bounds(raw, np.broadcast_to(low, raw.shape), capped)
    z = rng.normal(size=(20, 1, 2 * e)) * draw(st.sampled_from([1.0, 10.0, 1e4, 1e9]))
    return space, data, z


@given(spaces())
def test_data_come_back_with_their_zeros(drawn: tuple[DesignSpace, FloatArray, FloatArray]) -> None:
    space, data, _ = drawn
    code = SparseCode.fit(data, space.bound_arrays()[0])
    z = code.encode(data)
    assert z.shape == (30, 1, code.size)
    back = code.decode(z, space)
    assert back == pytest.approx(data, abs=1e-9)
    assert np.array_equal(back == 0, data == 0)
    # Single precision is what states are kept in: no zero is lost, no amount is moved.
    single = code.decode(z.astype(np.float32).astype(np.float64), space)
    assert single == pytest.approx(data, abs=1e-5)
    assert np.array_equal(single == 0, data == 0)


@given(spaces())
def test_whatever_comes_out_is_feasible(drawn: tuple[DesignSpace, FloatArray, FloatArray]) -> None:
    """Sum 1 and bounds within 1e-9; exactly 0 where the presence is negative, where it can be."""
    space, data, z = drawn
    low, high = space.bound_arrays()
    code = SparseCode.fit(data, low)
    x = code.decode(z, space)
    assert x.sum(-1) == pytest.approx(np.ones((20, 1)), abs=1e-9)
    assert np.all((x >= low) & (x <= high))
    e = x.shape[-1]
    gone = (z[..., :e] < code.absent + 1.0) | (high == 0)
    reachable = np.where(gone, 0.0, high).sum(-1) >= 1.0
    assert np.array_equal(code.present(z, space)[reachable], ~gone[reachable])
    assert np.all(x[gone & reachable[..., None]] == 0.0)
    assert np.all(x[~code.present(z, space)] == 0.0)


@given(spaces())
def test_settled_coordinates_are_read_the_same(
    drawn: tuple[DesignSpace, FloatArray, FloatArray],
) -> None:
    space, data, z = drawn
    code = SparseCode.fit(data, space.bound_arrays()[0])
    settled = code.settled(z, space)
    e = z.shape[-1] // 2
    assert set(np.unique(settled[..., :e])) <= {ABSENT, 1.0}
    assert np.array_equal(settled[..., e:], z[..., e:])
    assert np.array_equal(code.settled(settled, space), settled)
    assert np.array_equal(code.decode(settled, space), code.decode(z, space))


def test_likeliest_others_fill_up_what_cannot_reach_one() -> None:
    """Of elements that are told to be there all but one are bound to 0.3: the next two come."""
    bounds = {"a": dict.fromkeys(NAMES[:5], (0.0, 0.4))}
    space = DesignSpace(("a",), NAMES[:5], None, bounds)
    code = SparseCode.fit(sparse_alloys(50, 5, np.random.default_rng(0)), space.bound_arrays()[0])
    z = np.zeros((2, 1, 10))
    z[:, 0, :5] = [[2.0, -0.1, -3.0, -0.2, -2.0], [-1.0, -2.0, -3.0, -4.0, -5.0]]
    there = code.present(z, space)[:, 0]
    assert there.tolist() == [[True, True, False, True, False], [True, True, True, False, False]]
    x = code.decode(z, space)[:, 0]
    assert x.sum(1) == pytest.approx([1.0, 1.0], abs=1e-12)
    assert np.array_equal(x > 0, there)


def test_coordinates_by_hand() -> None:
    """Al0.5CoCrFeNi and its parent: clr within the elements that are there, standardised."""
    elements = ("Al", "Co", "Cr", "Fe", "Ni", "Ti")
    amounts = np.array([[0.5, 1, 1, 1, 1, 0], [0, 1, 1, 1, 1, 0.0]])
    x = (amounts / amounts.sum(1, keepdims=True))[:, None]
    code = SparseCode.fit(x, np.zeros((1, 6)))
    z = code.encode(x)[:, 0]
    assert z[:, :6].tolist() == [[1, 1, 1, 1, 1, -1], [-1, 1, 1, 1, 1, -1]]
    logs = code.usual[0] + code.spread[0] * z[0, 6:]
    assert logs[:5] == pytest.approx(np.log(0.5) * np.array([0.8, -0.2, -0.2, -0.2, -0.2]))
    assert z[1, [6, 11]].tolist() == [0.0, 0.0]  # absent: the usual amount
    assert z[:, 11].tolist() == [0.0, 0.0]
    space = DesignSpace(("a",), elements, None)
    assert code.decode(z[:, None], space) == pytest.approx(x, abs=1e-12)


def test_amounts_of_common_elements_are_standardised() -> None:
    """Spreads of elements that n = 2,000 alloys have: 5 alloys' worth of the common one is little.

    The variance is (n s² + 5 c²)/(n + 5), so a standardised one is within 5/n (c²/s² + 1) of 1.
    """
    x = sparse_alloys(5000, 5, np.random.default_rng(1))
    code = SparseCode.fit(x, np.zeros((1, 5)))
    z = code.encode(x)[:, 0, 5:]
    there = x[:, 0] > 0
    for j in range(5):
        amounts = z[there[:, j], j]
        assert len(amounts) > 2000
        assert amounts.mean() == pytest.approx(0.0, abs=1e-9)
        assert amounts.var() == pytest.approx(1.0, abs=5 / 2000 * 3)


def test_an_element_of_one_alloy_and_one_of_none() -> None:
    x = np.pad(sparse_alloys(60, 4, np.random.default_rng(2), most=4), ((0, 0), (0, 0), (0, 2)))
    x[0, 0, 4] = 0.01
    x /= x.sum(-1, keepdims=True)
    code = SparseCode.fit(x, np.zeros((1, 6)))
    assert np.all(np.isfinite(code.usual))
    assert np.all(code.spread > 0)
    assert code.spread[0, 4] > 0.1  # of one alloy there is no spread of its own
    space = DesignSpace(("a",), NAMES[:6], None)
    assert np.array_equal(code.decode(code.encode(x), space) == 0, x == 0)


def test_required_elements_are_always_there() -> None:
    bounds = {"a": {"Al": (0.1, 0.5)}}
    space = DesignSpace(("a",), NAMES[:4], None, bounds)
    x = sparse_alloys(60, 4, np.random.default_rng(3))
    x[..., 0] = np.clip(x[..., 0], 0.15, 0.4)
    x /= x.sum(-1, keepdims=True)
    code = SparseCode.fit(x, space.bound_arrays()[0])
    z = np.random.default_rng(4).normal(size=(200, 1, 8))
    assert np.all(code.decode(z, space)[..., 0] >= 0.1)


def test_calibrated_elements_are_there_as_often_as_due() -> None:
    """Of n = 1,000 draws that are blurred towards absence: shares exact to one in n, order kept."""
    rng = np.random.default_rng(5)
    n, e = 1000, 6
    x = np.pad(sparse_alloys(n, e - 1, rng, most=4), ((0, 0), (0, 0), (0, 1)))
    code = SparseCode.fit(x, np.zeros((1, e)))
    z = code.encode(x)
    z[..., :e] = 0.6 * z[..., :e] - 0.2 + 0.3 * rng.normal(size=(n, 1, e))
    space = DesignSpace(("a",), NAMES[:e], None)
    shares = (x > 0).mean(0)
    new = code.calibrated(z, shares)
    wrong, right = ((z[..., :e] >= c.absent + 1).mean(0) - shares for c in (code, new))
    assert wrong[:, :5].max() < -0.02  # a present one is read as absent in 9 of 100
    assert np.abs(right).max() <= 1 / n + 1e-12
    assert np.array_equal(new.decode(code.encode(x), space) > 0, x > 0)
    again = new.settled(new.settled(z, space), space)
    assert np.array_equal(again, new.settled(z, space))


def test_calibration_goes_only_so_far_and_leaves_what_is_required() -> None:
    x = sparse_alloys(100, 4, np.random.default_rng(6))
    x[..., 0] += 0.1
    x /= x.sum(-1, keepdims=True)
    low = np.array([[0.05, 0.0, 0.0, 0.0]])
    code = SparseCode.fit(x, low)
    z = np.concatenate([np.full((50, 1, 4), 2.0), np.zeros((50, 1, 4))], axis=-1)
    new = code.calibrated(z, np.full((1, 4), 0.3))  # every draw says that all are there
    assert new.absent[0].tolist() == [-np.inf, -0.5, -0.5, -0.5]
    assert code.calibrated(-z, np.full((1, 4), 0.3)).absent[0, 1:].tolist() == [-1.5, -1.5, -1.5]
