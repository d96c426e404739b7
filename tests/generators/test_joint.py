"""The joint state's codes: round trips, exact zeros, feasibility of whatever comes out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from generators.joint import (
    GAP,
    CompositionCode,
    Standardiser,
    stack_images,
    stack_process,
)
from loop.candidate import Candidate, stack_compositions
from loop.composition import project_to_bounds
from loop.space import DesignSpace
from tests import libraries

FloatArray = NDArray[np.float64]
SPACE = libraries.SPACES["image and compositions"]
LOW, HIGH = SPACE.bound_arrays()
DATA = libraries.alloys(300, 2, np.random.default_rng(0))
CODE = CompositionCode.fit(DATA, LOW)


def test_data_come_back_with_their_zeros() -> None:
    back = CODE.decode(CODE.encode(DATA), SPACE)
    assert back == pytest.approx(DATA, abs=1e-9)
    assert np.array_equal(back == 0, DATA == 0)
    assert (DATA == 0).sum() > 100


def test_single_precision_keeps_the_zeros_too() -> None:
    back = CODE.decode(CODE.encode(DATA).astype(np.float32).astype(np.float64), SPACE)
    assert back == pytest.approx(DATA, abs=1e-6)
    assert np.array_equal(back == 0, DATA == 0)


def test_present_amounts_are_standardised() -> None:
    z = CODE.encode(DATA)
    for j in range(4):
        present = z[:, 0, j][DATA[:, 0, j] > 0]
        assert present.mean() == pytest.approx(0, abs=1e-9)
        assert present.std() == pytest.approx(1)


def test_absence_stands_apart_from_every_amount() -> None:
    z = CODE.encode(DATA)[:, :, 3]
    present = DATA[:, :, 3] > 0
    for phase in range(2):
        gap = z[present[:, phase], phase].min() - z[~present[:, phase], phase].max()
        assert gap == pytest.approx(GAP)
    assert np.all(np.isneginf(CODE.absent[:, :3]))  # these may not be absent


coordinates = arrays(
    np.float64,
    (5, 2, 4),
    elements=st.one_of(st.floats(-6, 6), st.floats(-1e9, 1e9), st.sampled_from([0.0, -3.0])),
)


@given(coordinates)
def test_whatever_comes_out_is_feasible(z: FloatArray) -> None:
    """Inside the bounds, sum 1 within 1e-9, and exactly 0 where the coordinate says absent."""
    x = CODE.decode(z, SPACE)
    assert x.sum(-1) == pytest.approx(np.ones((5, 2)), abs=1e-9)
    assert np.all(x >= LOW)
    assert np.all(x <= HIGH)
    # Here the other elements can always make up for what is absent.
    gone = z < CODE.absent + GAP / 2
    assert np.array_equal(x[gone], np.zeros(gone.sum()))
    for rows in x:
        candidate = Candidate(SPACE.phases, SPACE.elements, np.eye(32, dtype=np.uint8), rows)
        assert SPACE.violations(candidate) == []


@st.composite
def spaces(draw: Any) -> tuple[DesignSpace, FloatArray, FloatArray]:
    """A space with random bounds, data in it, and coordinates to decode."""
    e = draw(st.integers(2, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    middle = rng.dirichlet(np.ones(e))
    low = np.where(rng.random(e) < 0.5, 0.0, middle * rng.random(e))
    high = np.minimum(1.0, middle + (1 - middle) * rng.random(e) * 0.5 + 1e-3)
    names = tuple("ABCDEF"[:e])
    bounds = {"a": {n: (float(a), float(b)) for n, a, b in zip(names, low, high, strict=True)}}
    space = DesignSpace(("a",), names, None, bounds)
    raw = rng.dirichlet(np.ones(e), size=(30, 1))
    absent = (rng.random(raw.shape) < 0.3) & (low == 0)
    capped = np.where(absent, 0.0, high)
    capped = np.where(capped.sum(-1, keepdims=True) > 1.01, capped, high)
    data = project_to_bounds(raw, np.broadcast_to(low, raw.shape), capped)
    return space, data, rng.normal(size=(20, 1, e)) * draw(st.sampled_from([1.0, 10.0, 1e4]))


@given(spaces())
def test_feasible_in_any_space(drawn: tuple[DesignSpace, FloatArray, FloatArray]) -> None:
    space, data, z = drawn
    low, high = space.bound_arrays()
    code = CompositionCode.fit(data, low)
    back = code.decode(code.encode(data), space)
    assert back == pytest.approx(data, abs=1e-9)
    assert np.array_equal(back == 0, data == 0)
    x = code.decode(z, space)
    assert x.sum(-1) == pytest.approx(np.ones((20, 1)), abs=1e-9)
    assert np.all((x >= low) & (x <= high))
    gone = z < code.absent + GAP / 2
    possible = np.where(gone, 0.0, high).sum(-1) >= 1.0
    assert np.all(x[gone & possible[..., None]] == 0.0)


def test_an_element_that_never_occurs_and_one_that_never_varies() -> None:
    space = DesignSpace(("a",), ("Ni", "Al", "Cr"), None, {"a": {"Cr": (0.0, 0.1)}})
    data = np.zeros((20, 1, 3))
    data[..., 0], data[..., 1] = 0.75, 0.25
    code = CompositionCode.fit(data, space.bound_arrays()[0])
    assert np.all(np.isfinite(code.encode(data)))
    assert np.array_equal(code.decode(code.encode(data), space), data)


# Scales and stacks


@given(arrays(np.float64, (8, 3), elements=st.floats(-1e6, 1e6)))
def test_standardiser_round_trip(x: FloatArray) -> None:
    scale = Standardiser.fit(x)
    spread = max(1.0, float(np.abs(x).max()))
    assert scale.inverse(scale.forward(x)) == pytest.approx(x, abs=1e-9 * spread)


def test_standardised_columns() -> None:
    x = np.random.default_rng(1).normal(size=(100, 3)) * [1, 50, 0] + [0, 900, 7]
    z = Standardiser.fit(x).forward(x)
    assert z.mean(0) == pytest.approx(np.zeros(3), abs=1e-9)
    assert z.std(0) == pytest.approx([1, 1, 0])


def test_stacks_keep_the_order() -> None:
    space = DesignSpace(("a", "b"), ("Ni", "Al"), (16, 16), process={"t_s": (0, 1), "T_K": (0, 1)})
    rng = np.random.default_rng(2)
    designs = [
        Candidate(
            space.phases,
            space.elements,
            rng.integers(0, 2, (16, 16)).astype(np.uint8),
            rng.dirichlet([1, 1], size=2),
            {"T_K": float(i), "t_s": math.sqrt(i)},
        )
        for i in range(4)
    ]
    assert stack_compositions(designs).shape == (4, 2, 2)
    assert stack_images(designs).shape == (4, 16, 16)
    for i, c in enumerate(designs):
        assert np.array_equal(stack_compositions(designs)[i], c.phase_compositions)  # type: ignore[arg-type]
        assert np.array_equal(stack_images(designs)[i].numpy(), c.microstructure)  # type: ignore[arg-type]
    assert stack_process(designs, ("t_s", "T_K"))[2].tolist() == [math.sqrt(2), 2.0]
