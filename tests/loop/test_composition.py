"""The simplex: closed forms, isometries, round trips, optimality of the projection."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, minimize

from loop.composition import (
    Coordinates,
    aitchison_distance,
    balance_basis,
    closure,
    clr,
    clr_inverse,
    decode,
    encode,
    euclidean_distance,
    helmert_basis,
    ilr,
    ilr_inverse,
    lever_rule,
    phase_fraction,
    present_clr,
    present_clr_inverse,
    present_distance,
    present_ilr,
    present_ilr_inverse,
    project_to_bounds,
    replace_zeros,
)
from loop.composition_cases import cases
from loop.errors import InvalidInputError
from loop.paths import geodesic_path, straight_path
from loop.verification import all_passed

Floats = NDArray[np.float64]
SETTINGS = settings(deadline=None, max_examples=60)

amounts = hnp.arrays(np.float64, (3, 6), elements=st.floats(1e-4, 1.0))
sparse = hnp.arrays(
    np.float64, (4, 6), elements=st.one_of(st.just(0.0), st.floats(1e-3, 1.0))
).filter(lambda x: bool(np.all(x.sum(axis=1) > 0)))


def test_all_cases_pass() -> None:
    shown = cases()
    assert all_passed(shown), [case for case in shown if not case.passed]
    assert {case.room for case in shown} == {"composition"}
    assert len({case.name for case in shown}) == len(shown)


# Closure


@given(amounts, st.floats(1e-3, 1e3))
@SETTINGS
def test_closure_forgets_the_scale(x: Floats, scale: float) -> None:
    assert closure(x).sum(axis=-1) == pytest.approx(1.0, abs=1e-15)
    assert closure(scale * x) == pytest.approx(closure(x), rel=1e-14)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([0.5, -0.1], "has -0.1; expected amounts >= 0"),
        ([0.5, np.nan], "not finite"),
        ([np.inf, 1.0], "not finite"),
        ([[1.0, 0.0], [0.0, 0.0]], "only zeros"),
        (1.0, r"shape \(\)"),
        ([], r"shape \(0,\)"),
    ],
)
def test_what_is_no_composition(x: object, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        closure(np.array(x, dtype=np.float64))


# Log ratios


@given(amounts)
@SETTINGS
def test_clr_and_ilr_round_trips(x: Floats) -> None:
    expected = closure(x)
    assert clr_inverse(clr(x)) == pytest.approx(expected, rel=1e-12)
    assert ilr_inverse(ilr(x)) == pytest.approx(expected, rel=1e-12)
    assert np.abs(clr(x).sum(axis=-1)).max() < 1e-12


@given(amounts, amounts)
@SETTINGS
def test_ilr_is_an_isometry_in_every_basis(x: Floats, y: Floats) -> None:
    signs = [[1, 1, 1, -1, -1, -1], [1, -1, -1, 0, 0, 0], [0, 1, -1, 0, 0, 0]]
    signs += [[0, 0, 0, 1, 1, -1], [0, 0, 0, 1, -1, 0]]
    for basis in (helmert_basis(6), balance_basis(signs)):
        between = np.linalg.norm(ilr(x, basis) - ilr(y, basis), axis=-1)
        assert between == pytest.approx(aitchison_distance(x, y), abs=1e-11)


@given(amounts, amounts, amounts)
@SETTINGS
def test_aitchison_distance_is_invariant_under_perturbation(
    x: Floats, y: Floats, z: Floats
) -> None:
    """Multiplying both by the same factors (another unit for an element) changes nothing."""
    assert aitchison_distance(x * z, y * z) == pytest.approx(aitchison_distance(x, y), abs=1e-11)


def test_balances_are_scaled_log_ratios_of_geometric_means() -> None:
    x = np.array([0.5, 0.2, 0.2, 0.1])
    basis = balance_basis([[1, 1, -1, -1], [1, -1, 0, 0], [0, 0, 1, -1]])
    first = np.sqrt(2 * 2 / 4) * np.log(np.sqrt(0.5 * 0.2) / np.sqrt(0.2 * 0.1))
    expected = [first, np.log(0.5 / 0.2) / np.sqrt(2), np.log(0.2 / 0.1) / np.sqrt(2)]
    assert ilr(x, basis) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(
    ("signs", "message"),
    [
        ([[1, 1, -1], [1, -1, 1]], "not sequential"),
        ([[1, 1, 1], [1, -1, 0]], "lacks one of its groups"),
        ([[1, -1, 0]], r"expected \(e - 1, e\)"),
    ],
)
def test_bad_partitions(signs: list[list[int]], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        balance_basis(signs)


def test_log_ratios_refuse_zeros() -> None:
    with pytest.raises(InvalidInputError, match=r"element number 1 is 0.*encode"):
        ilr([0.5, 0.0, 0.5])
    with pytest.raises(InvalidInputError, match="at least two elements, got 1"):
        helmert_basis(1)
    with pytest.raises(InvalidInputError, match="not finite"):
        clr_inverse([0.0, np.nan])


# Zeros


@given(sparse)
@SETTINGS
def test_encoding_keeps_zeros_exactly(x: Floats) -> None:
    x = closure(x)
    coordinates = encode(x)
    assert coordinates.values.shape == (4, 5)
    assert np.all(np.isfinite(coordinates.values))
    back = decode(coordinates)
    assert np.array_equal(back == 0, x == 0)
    assert back == pytest.approx(x, rel=1e-11)


@given(sparse)
@SETTINGS
def test_present_elements_keep_their_ratios_and_absent_ones_stay_absent(x: Floats) -> None:
    x = closure(x)
    for there, back in ((present_clr, present_clr_inverse), (present_ilr, present_ilr_inverse)):
        coordinates = there(x)
        again = back(coordinates)
        assert np.array_equal(again == 0, x == 0)
        assert again == pytest.approx(x, rel=1e-12)
        assert np.array_equal(coordinates.present, x > 0)
    for row in x:
        part = row[row > 0]
        values = present_ilr(row).values
        if len(part) > 1:  # the coordinates are those of the sub-composition
            assert values[: len(part) - 1] == pytest.approx(ilr(part), abs=1e-12)
            assert present_clr(row).values[row > 0] == pytest.approx(clr(part), abs=1e-12)
        assert np.all(values[len(part) - 1 :] == 0)


def test_distance_of_alloys_with_absent_elements() -> None:
    a, b, c = [0.5, 0.5, 0.0], [0.8, 0.2, 0.0], [0.4, 0.4, 0.2]
    assert present_distance(a, b) == pytest.approx(np.log(4) / np.sqrt(2), rel=1e-14)
    assert present_distance(a, c) == np.inf
    # which is where the distance of ever smaller amounts goes
    near = [float(aitchison_distance(replace_zeros(a, d), c)) for d in (1e-3, 1e-9, 1e-27)]
    assert near[0] < near[1] < near[2]
    full = np.random.default_rng(1).dirichlet(np.ones(5), size=(2, 6))
    assert present_distance(*full) == pytest.approx(aitchison_distance(*full), rel=1e-12)
    with pytest.raises(InvalidInputError, match="name no element"):
        present_clr_inverse(Coordinates(np.zeros((1, 3)), np.zeros((1, 3), dtype=bool)))
    with pytest.raises(InvalidInputError, match="not finite"):
        present_ilr_inverse(Coordinates(np.full((1, 2), np.nan), np.ones((1, 3), dtype=bool)))


def test_replacement_closed_form() -> None:
    assert replace_zeros([0.75, 0.25, 0.0], 0.04) == pytest.approx([0.72, 0.24, 0.04], abs=1e-15)
    for delta in (0.0, -0.1, 0.5, np.nan):
        with pytest.raises(InvalidInputError, match="zero replacement is"):
            replace_zeros([1.0, 0.0, 0.0], delta)


# Mixtures and paths


@given(amounts, st.floats(0, 1))
@SETTINGS
def test_lever_rule_and_back(x: Floats, f: float) -> None:
    a, b = closure(x)[:2]
    assume(np.linalg.norm(a - b) > 1e-3)
    overall = lever_rule(np.array([1 - f, f]), np.stack([a, b]))
    assert overall.sum() == pytest.approx(1.0, abs=1e-14)
    assert phase_fraction(overall, a, b) == pytest.approx(f, abs=1e-11)


def test_lever_rule_in_batches() -> None:
    fractions = np.array([[0.5, 0.5], [1.0, 0.0]])
    x = np.array([[[1.0, 0.0], [0.5, 0.5]], [[0.2, 0.8], [1.0, 0.0]]])
    assert np.array_equal(lever_rule(fractions, x), [[0.75, 0.25], [0.2, 0.8]])


def test_overall_composition_off_the_tie_line() -> None:
    a, b = [0.9, 0.1, 0.0], [0.7, 0.3, 0.0]
    with pytest.raises(InvalidInputError, match="not between the phases"):
        phase_fraction([0.8, 0.1, 0.1], a, b)
    with pytest.raises(InvalidInputError, match="not between the phases"):
        phase_fraction([0.95, 0.05, 0.0], a, b)
    with pytest.raises(InvalidInputError, match="same composition"):
        phase_fraction(a, a, a)


@given(amounts)
@SETTINGS
def test_paths_have_their_ends_and_even_speed(x: Floats) -> None:
    a, b = closure(x)[:2]
    t = np.linspace(0, 1, 17)
    straight, geodesic = straight_path(a, b, t), geodesic_path(a, b, t)
    for path, distance in ((straight, euclidean_distance), (geodesic, aitchison_distance)):
        assert path[0] == pytest.approx(a, rel=1e-13)
        assert path[-1] == pytest.approx(b, rel=1e-13)
        assert path.sum(axis=-1) == pytest.approx(1.0, abs=1e-14)
        steps = distance(path[1:], path[:-1])
        assert steps == pytest.approx(np.full(16, float(distance(a, b)) / 16), abs=1e-11)


@given(amounts, amounts)
@SETTINGS
def test_each_path_is_the_shorter_in_its_own_metric(x: Floats, y: Floats) -> None:
    t = np.linspace(0, 1, 9)
    straight, geodesic = straight_path(x, y, t), geodesic_path(x, y, t)
    for distance, own, other in (
        (aitchison_distance, geodesic, straight),
        (euclidean_distance, straight, geodesic),
    ):
        length, longer = (distance(p[1:], p[:-1]).sum(axis=0) for p in (own, other))
        assert np.all(length <= longer + 1e-11)


def test_paths_and_zeros() -> None:
    a, b, c = np.array([0.5, 0.5, 0.0]), np.array([0.1, 0.9, 0.0]), np.array([0.4, 0.4, 0.2])
    t = np.linspace(0, 1, 5)
    assert np.all(geodesic_path(a, b, t)[:, 2] == 0.0)
    assert np.array_equal(straight_path(a, c, t)[[0, -1]], [a, c])
    with pytest.raises(InvalidInputError, match="element number 2 is absent from one end only"):
        geodesic_path(a, c, t)
    with pytest.raises(InvalidInputError, match="t lie outside"):
        straight_path(a, c, [1.5])


# Projection onto bounds


@st.composite
def bounded(draw: st.DrawFn) -> tuple[Floats, Floats, Floats]:
    e = draw(st.integers(2, 7))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    inside = rng.dirichlet(np.full(e, 0.5))
    low = np.where(rng.random(e) < 0.5, 0.0, inside * rng.random(e))
    high = np.where(rng.random(e) < 0.3, inside, inside + rng.random(e) * (1 - inside))
    x = rng.normal(1 / e, draw(st.sampled_from([0.05, 0.5, 20.0])), size=(5, e))
    return x, np.minimum(low, high), high


@given(bounded())
@SETTINGS
def test_projection_meets_the_kkt_conditions(case: tuple[Floats, Floats, Floats]) -> None:
    """y is the nearest point iff x - y >= λ where y > low and x - y <= λ where y < high."""
    x, low, high = case
    y = project_to_bounds(x, low, high)
    assert np.all((y >= low) & (y <= high))
    assert np.abs(y.sum(axis=-1) - 1).max() <= 1e-12
    gap = x - y
    for row in range(len(x)):
        # what is within 1e-12 of a bound counts as at it
        above = gap[row][y[row] > low + 1e-12]
        below = gap[row][y[row] < high - 1e-12]
        if above.size and below.size:
            assert below.max() <= above.min() + 1e-12 * max(1.0, np.abs(x).max())


def test_projection_agrees_with_a_general_optimiser() -> None:
    rng = np.random.default_rng(0)
    low, high = np.array([0.3, 0.0, 0.05, 0.0]), np.array([0.6, 0.2, 0.5, 0.25])
    start = low + (1 - low.sum()) * (high - low) / (high - low).sum()
    for x in rng.normal(0.25, 0.4, size=(8, 4)):

        def half_square(y: Floats, x: Floats = x) -> float:
            return float(0.5 * np.sum((y - x) ** 2))

        found = minimize(
            half_square,
            start,
            bounds=Bounds(low, high),
            constraints=LinearConstraint(np.ones((1, 4)), 1.0, 1.0),
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 200},
        )
        assert project_to_bounds(x, low, high) == pytest.approx(found.x, abs=1e-6)


def test_projection_closed_forms() -> None:
    zero, one = np.zeros(3), np.ones(3)
    assert project_to_bounds([0.9, 0.5, -0.2], zero, one) == pytest.approx([0.7, 0.3, 0.0])
    assert np.array_equal(project_to_bounds([5.0, -3.0, 1.0], zero, one), [1.0, 0.0, 0.0])
    assert np.array_equal(project_to_bounds([0.25, 0.25, 0.5], zero, one), [0.25, 0.25, 0.5])
    # bounds whose sums are exactly 1 leave no choice
    assert np.array_equal(project_to_bounds([0.2, 0.9, 0.1], zero, [0.5, 0.5, 0.0]), [0.5, 0.5, 0])
    assert np.array_equal(
        project_to_bounds([0.2, 0.9, 0.1], [0.25, 0.25, 0.5], one), [0.25, 0.25, 0.5]
    )


@given(bounded())
@SETTINGS
def test_projection_is_idempotent_and_batched(case: tuple[Floats, Floats, Floats]) -> None:
    x, low, high = case
    y = project_to_bounds(x, low, high)
    assert project_to_bounds(y, low, high) == pytest.approx(y, abs=1e-14)
    one_by_one = np.array([project_to_bounds(row, low, high) for row in x])
    assert np.array_equal(one_by_one, y)
    stacked = project_to_bounds(np.stack([x, x]), np.stack([low, low])[:, None], high)
    assert np.array_equal(stacked, np.stack([y, y]))


def test_projection_keeps_and_makes_exact_zeros() -> None:
    rng = np.random.default_rng(1)
    low, high = np.zeros(6), np.array([1.0, 0.9, 0.5, 0.3, 0.2, 0.0])
    x = np.abs(rng.normal(0, 0.1, size=(500, 6)))
    x[rng.random(x.shape) < 0.3] = 0.0
    x[:, 0] += 0.1
    kept = project_to_bounds(x, low, high, zero_below=0.0)
    assert np.all(kept[x == 0] == 0.0)
    assert np.all(kept[:, 5] == 0.0)
    trimmed = project_to_bounds(x, low, high, zero_below=0.02)
    assert not np.any((trimmed > 0) & (trimmed <= 0.02))
    assert np.abs(trimmed.sum(axis=1) - 1).max() <= 1e-12
    free = project_to_bounds(x, low, high)
    assert np.any(free[x == 0] > 0)  # without the threshold the nearest point fills zeros


def test_a_lower_bound_wins_over_the_threshold() -> None:
    y = project_to_bounds([1.2, 0.001, 0.0], [0.0, 0.005, 0.0], 1.0, zero_below=0.01)
    assert y == pytest.approx([0.995, 0.005, 0.0], abs=1e-15)
    assert y[1] == 0.005


def test_rows_that_need_their_small_elements_keep_them() -> None:
    y = project_to_bounds([0.0, 0.0, 0.0], 0.0, 0.5, zero_below=0.01)
    assert y == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize(
    ("x", "low", "high", "message"),
    [
        ([0.5, np.nan], 0.0, 1.0, "not finite"),
        ([0.5, 0.5], 0.6, 1.0, "no composition with sum 1"),
        ([0.5, 0.5], 0.0, 0.4, "no composition with sum 1"),
        ([0.5, 0.5], 0.5, 0.4, "0 <= low <= high"),
        ([0.5, 0.5], -0.5, 1.0, "0 <= low <= high"),
    ],
)
def test_projection_bad_input(x: list[float], low: float, high: float, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        project_to_bounds(x, low, high)


def test_projecting_nothing() -> None:
    assert project_to_bounds(np.zeros((0, 2, 3)), 0.0, 1.0).shape == (0, 2, 3)
