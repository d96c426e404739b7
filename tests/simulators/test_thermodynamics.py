"""Solutions and their equilibria: closed forms, derivatives, a handbook's Ag-Cu, certificates."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.spatial import ConvexHull

from loop.errors import InvalidInputError
from simulators.miscibility import binodal, common_tangents, consolute_point, spinodal
from simulators.solution import GAS_CONSTANT, Solution
from simulators.thermodynamics import equilibrium, phase_mismatch

R = GAS_CONSTANT
# F. H. Hayes, H. L. Lukas, G. Effenberg and G. Petzow, Z. Metallkd. 77, 749 (1986).
SILVER_COPPER = Solution(
    ("Ag", "Cu"), {("Ag", "Cu"): ((36061.88, -10.44288), (-4310.12, 0.0))}, name="fcc"
)
TERNARY = Solution(
    ("A", "B", "C"),
    {
        ("A", "B"): ((26_000.0, -3.0), (1500.0, 0.5), (-800.0, 0.0)),
        ("C", "A"): ((21_000.0, 0.0), (-2000.0, 1.0)),
        ("B", "C"): ((30_000.0, 1.0),),
    },
    references={"B": (900.0, -1.0)},
)


def regular(interaction: float, c: int = 2) -> Solution:
    names = tuple("ABCDE"[:c])
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    return Solution(names, dict.fromkeys(pairs, ((interaction, 0.0),)))


def numeric(f, x: np.ndarray, h: float = 1e-6) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Central differences of f by the independent fractions, the first element taking the rest."""
    slopes = []
    for k in range(1, len(x)):
        step = np.zeros(len(x))
        step[k], step[0] = h, -h
        slopes.append((f(x + step) - f(x - step)) / (2 * h))
    return np.array(slopes)


# Solutions


def test_regular_solution_in_closed_form() -> None:
    x, t, w = 0.3, 800.0, 15_000.0
    g = regular(w).gibbs_energy([1 - x, x], t)
    ideal = R * t * (x * np.log(x) + (1 - x) * np.log(1 - x))
    assert g == pytest.approx(w * x * (1 - x) + ideal, rel=1e-14)
    mu = regular(w).chemical_potentials([1 - x, x], t)
    np.testing.assert_allclose(
        mu, [R * t * np.log(1 - x) + w * x**2, R * t * np.log(x) + w * (1 - x) ** 2], rtol=1e-13
    )
    curvature = regular(w).curvature([1 - x, x], t)
    assert curvature[0, 0] == pytest.approx(R * t / (x * (1 - x)) - 2 * w, rel=1e-13)


def test_derivatives_are_those_of_the_energy() -> None:
    rng = np.random.default_rng(0)
    for x in rng.dirichlet([2, 2, 2], 6):
        t = rng.uniform(500, 1500)
        mu = TERNARY.chemical_potentials(x, t)
        assert x @ mu == pytest.approx(float(TERNARY.gibbs_energy(x, t)), rel=1e-12)  # Euler
        slope = numeric(lambda y, t=t: TERNARY.gibbs_energy(y, t), x)
        np.testing.assert_allclose(slope, mu[1:] - mu[0], rtol=1e-6, atol=1e-3)
        twice = numeric(lambda y, t=t: np.diff(TERNARY.chemical_potentials(y, t)[[0, 1]]), x)
        curvature = TERNARY.curvature(x, t)
        np.testing.assert_allclose(curvature[0], twice[:, 0], rtol=1e-6)
        np.testing.assert_allclose(curvature, curvature.T, rtol=1e-12)


def test_order_of_the_elements_does_not_matter() -> None:
    turned = TERNARY.subset(("C", "A", "B"))
    x = np.array([0.2, 0.5, 0.3])
    np.testing.assert_allclose(
        turned.chemical_potentials(x[[2, 0, 1]], 900.0),
        TERNARY.chemical_potentials(x, 900.0)[[2, 0, 1]],
        rtol=1e-13,
    )


def test_absent_elements_and_subsets() -> None:
    x = np.array([0.4, 0.6, 0.0])
    assert TERNARY.gibbs_energy(x, 900.0) == pytest.approx(
        float(TERNARY.subset(("A", "B")).gibbs_energy(x[:2], 900.0)), rel=1e-14
    )
    assert TERNARY.chemical_potentials(x, 900.0)[2] == -np.inf


def test_many_at_once() -> None:
    x = np.random.default_rng(1).dirichlet([1, 1, 1], (4, 5))
    t = np.linspace(600, 1200, 4)[:, None]
    many = TERNARY.curvature(x, t)
    assert many.shape == (4, 5, 2, 2)
    np.testing.assert_allclose(many[2, 3], TERNARY.curvature(x[2, 3], 1000.0), rtol=1e-14)


# Miscibility gaps


@pytest.mark.parametrize("t", [20.0, 50.0, 200.0, 600.0, 1100.0, 1190.0, 1202.0])
def test_binodal_of_a_regular_solution(t: float) -> None:
    """R T ln((1 - x) / x) = w (1 - 2 x); fractions down to 1e-52."""
    w = 20_000.0
    ((low, high),) = binodal(regular(w), t)
    assert w * (1 - 2 * low) / (R * np.log((1 - low) / low)) == pytest.approx(t, rel=1e-12)
    assert high == pytest.approx(1 - low, abs=1e-10)
    ((inner, outer),) = spinodal(regular(w), t)
    assert inner * (1 - inner) == pytest.approx(R * t / (2 * w), rel=1e-12)
    assert low < inner < outer < high


def test_consolute_point_of_a_regular_solution() -> None:
    t, x = consolute_point(regular(20_000.0))
    assert t == pytest.approx(20_000 / (2 * R), rel=1e-12)
    assert x == pytest.approx(0.5, abs=1e-9)
    assert binodal(regular(20_000.0), t * 1.0001).shape == (0, 2)
    assert spinodal(regular(20_000.0), t * 1.0001).shape == (0, 2)
    assert consolute_point(regular(-5000.0))[0] == 0
    assert consolute_point(Solution(("A", "B"), {("A", "B"): ((0.0, 20.0),)}))[0] == np.inf


def test_consolute_point_of_a_subregular_solution() -> None:
    t, x = consolute_point(SILVER_COPPER)
    h = 1e-4
    below, above = spinodal(SILVER_COPPER, t * (1 - h)), spinodal(SILVER_COPPER, t * (1 + h))
    assert below.shape == (1, 2)
    assert above.shape == (0, 2)
    # The interval opens as a parabola, so its middle is within its width of the point.
    assert below[0, 0] < x < below[0, 1] < below[0, 0] + 0.02


def test_silver_copper_at_the_eutectic() -> None:
    """NIST's calculation from the same assessment: 8.27 and 92.53 mass % Cu at 779.1 C."""
    ((silver, copper),) = binodal(SILVER_COPPER, 779.1 + 273.15)
    masses = [100 * x * 63.546 / (x * 63.546 + (1 - x) * 107.8682) for x in (silver, copper)]
    np.testing.assert_allclose(masses, [8.27, 92.53], atol=0.005)


@pytest.mark.parametrize("t", [300.0, 500.0, 900.0, 1300.0])
def test_tangent_is_common_and_lies_below(t: float) -> None:
    line = common_tangents([SILVER_COPPER], t)[0]
    x = np.linspace(1e-6, 1 - 1e-6, 20_001)
    height = SILVER_COPPER.gibbs_energy(np.stack((1 - x, x), axis=1), t)
    plane = (1 - x) * line.potentials[0] + x * line.potentials[1]
    assert (height - plane).min() > -1e-9 * R * t
    for end in line.compositions:
        mu = SILVER_COPPER.chemical_potentials([1 - end, end], t)
        # R T ln(1 - x) with 1 - x of 1e-6 known to 1e-16.
        np.testing.assert_allclose(mu, line.potentials, rtol=1e-9, atol=1e-6)


def test_two_gaps_become_one() -> None:
    """Terms of second order: two gaps when hot; the middle phase is gone when cold."""
    solution = Solution(("A", "B"), {("A", "B"): ((9000.0, 0.0), (0.0, 0.0), (40_000.0, 0.0))})
    hot = binodal(solution, 900.0)
    assert hot.shape == (2, 2)
    np.testing.assert_allclose(hot[0], 1 - hot[1, ::-1], atol=1e-9)
    assert spinodal(solution, 300.0).shape == (2, 2)
    assert binodal(solution, 300.0).shape == (1, 2)


def test_ideal_lens_between_two_phases() -> None:
    """x = (e^a - 1) / (e^a - e^b) and x e^b, a and b the energies of melting over R T."""
    t = 1200.0
    liquid = Solution(("A", "B"), {}, {"A": (10_000.0, -10.0), "B": (12_000.0, -8.0)}, "liquid")
    solid = Solution(("A", "B"), {}, name="solid")
    a, b = (10_000 - 10 * t) / (R * t), (12_000 - 8 * t) / (R * t)
    poor = (np.exp(a) - 1) / (np.exp(a) - np.exp(b))
    (line,) = common_tangents([liquid, solid], t)
    np.testing.assert_allclose(line.compositions, [poor, poor * np.exp(b)], rtol=1e-10)
    assert line.phases == (0, 1)


def test_eutectic_has_three_phases_in_two_lines() -> None:
    liquid = Solution(("A", "B"), {}, {"A": (10_000.0, -10.0), "B": (12_000.0, -8.0)}, "liquid")
    solid = regular(25_000.0)
    warm = common_tangents([liquid, solid], 900.0)
    assert [line.phases for line in warm] == [(1, 0), (0, 1)]
    assert [line.phases for line in common_tangents([liquid, solid], 700.0)] == [(1, 1)]


# Equilibria of several components


def test_binary_equilibrium_is_the_lever_rule() -> None:
    low, high = binodal(SILVER_COPPER, 900.0)[0]
    rest = equilibrium(SILVER_COPPER, [0.6, 0.4], 900.0)
    assert rest.fractions[1] == pytest.approx((0.4 - low) / (high - low), rel=1e-12)
    np.testing.assert_allclose(rest.compositions[:, 1], [low, high], rtol=1e-12)
    assert len(equilibrium(SILVER_COPPER, [0.99, 0.01], 900.0).fractions) == 1
    assert equilibrium(SILVER_COPPER, [1.0, 0.0], 900.0).potentials[0] == 0.0


def test_symmetric_ternary_in_closed_form() -> None:
    """Equal interactions: phases (1 - 2y, y, y), R T ln((1 - 2y) / y) = w (1 - 3y)."""
    w, t = 30_000.0, 900.0
    y = brentq(lambda v: R * t * np.log((1 - 2 * v) / v) - w * (1 - 3 * v), 1e-9, 0.2)
    rest = equilibrium(regular(w, 3), [0.3, 0.36, 0.34], t)
    expected = sorted(set(permutations((1 - 2 * y, y, y))), reverse=True)
    assert len(rest.fractions) == 3
    found = rest.compositions[np.argsort(-rest.compositions @ [4, 2, 1])]
    np.testing.assert_allclose(found, expected, atol=1e-9)
    np.testing.assert_allclose(rest.fractions @ rest.compositions, [0.3, 0.36, 0.34], atol=1e-14)


@pytest.mark.parametrize("c", [3, 4])
def test_equilibria_are_certified(c: int) -> None:
    """Equal potentials, exact balances, and none of 10,000 states below the tangent plane."""
    rng = np.random.default_rng(c)
    t = 1000.0
    names = tuple("ABCD"[:c])
    phases = set()
    for _ in range(8):
        solution = Solution(
            names,
            {
                (a, b): ((rng.uniform(-1, 4.5) * R * t, 0.0), (rng.uniform(-0.5, 0.5) * R * t, 0.0))
                for i, a in enumerate(names)
                for b in names[i + 1 :]
            },
        )
        z = rng.dirichlet(np.ones(c))
        rest = equilibrium(solution, z, t)
        mu = solution.chemical_potentials(rest.compositions, t)
        np.testing.assert_allclose(mu / (R * t), np.tile(mu[0] / (R * t), (len(mu), 1)), atol=1e-10)
        np.testing.assert_allclose(rest.fractions @ rest.compositions, z, atol=1e-12)
        others = rng.dirichlet(np.full(c, 0.6), 10_000)
        heights = solution.gibbs_energy(others, t) - others @ rest.potentials
        assert heights.min() > -1e-8 * R * t
        phases.add(len(rest.fractions))
    assert len(phases) > 1


def test_energy_is_that_of_the_convex_hull() -> None:
    """Independent: scipy's hull over a fine grid of compositions, from above by its spacing."""
    t, n = 1000.0, 120
    solution = regular(2.8 * R * t, 3)
    grid = np.array([(i, j, n - i - j) for i in range(n + 1) for j in range(n + 1 - i)]) / n
    energies = solution.gibbs_energy(grid, t) / (R * t)
    hull = ConvexHull(np.column_stack((grid[:, 1:], energies)))
    lower = hull.equations[hull.equations[:, 2] < 0]
    for z in ([0.3, 0.36, 0.34], [0.5, 0.3, 0.2], [0.45, 0.45, 0.1]):
        height = (-(lower[:, :2] @ z[1:] + lower[:, 3]) / lower[:, 2]).max()
        energy = equilibrium(solution, z, t).energy / (R * t)
        assert -1e-9 < height - energy < 2e-3


def test_absent_elements_stay_absent() -> None:
    rest = equilibrium(TERNARY, [0.5, 0.0, 0.5], 700.0)
    np.testing.assert_array_equal(rest.compositions[:, 1], 0.0)
    assert np.isnan(rest.potentials[1])
    pair = equilibrium(TERNARY.subset(("A", "C")), [0.5, 0.5], 700.0)
    np.testing.assert_allclose(rest.compositions[:, [0, 2]], pair.compositions)


def test_mismatch_vanishes_at_equilibrium_only() -> None:
    rest = equilibrium(SILVER_COPPER, [0.6, 0.4], 900.0)
    none = phase_mismatch(SILVER_COPPER, rest.fractions, rest.compositions, 900.0)
    assert none.energy_J_per_mol < 1e-8
    assert none.composition < 1e-12
    assert none.missing == 0
    off = rest.compositions + np.array([[-0.03, 0.03], [0.01, -0.01]])
    some = phase_mismatch(SILVER_COPPER, rest.fractions, off, 900.0)
    assert some.energy_J_per_mol > 1
    assert some.composition == pytest.approx(0.03, rel=1e-9)
    mixed = phase_mismatch(SILVER_COPPER, [1.0], [[0.6, 0.4]], 900.0)
    assert mixed.missing == 1
    energy = float(SILVER_COPPER.gibbs_energy([0.6, 0.4], 900.0)) - rest.energy
    assert mixed.energy_J_per_mol == pytest.approx(energy, rel=1e-12)


# Bad input


@pytest.mark.parametrize(
    ("elements", "interactions", "message"),
    [
        (("A",), {}, "expected at least two"),
        (("A", "A"), {}, "each once"),
        (("A", "B"), {("A", "X"): ((1.0, 0.0),)}, "unknown element 'X'"),
        (("A", "B"), {("A", "A"): ((1.0, 0.0),)}, "one element only"),
        (("A", "B"), {("A", "B"): ((1.0, 0.0),), ("B", "A"): ((1.0, 0.0),)}, "given twice"),
        (("A", "B"), {("A", "B"): ((np.nan, 0.0),)}, "expected finite"),
        (("A", "B"), {("A", "B"): ((1.0,),)}, "expected finite"),
    ],
)
def test_wrong_solutions_are_named(elements, interactions, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidInputError, match=message):
        Solution(elements, interactions)


@pytest.mark.parametrize(
    ("x", "t", "message"),
    [
        ([0.5, 0.4], 900.0, "does not sum to 1"),
        ([1.5, -0.5], 900.0, "below 0"),
        ([0.2, 0.3, 0.5], 900.0, r"expected \(..., 2\) for Ag, Cu"),
        ([0.5, 0.5], 0.0, "expected finite values > 0"),
        ([0.5, 0.5], np.nan, "expected finite values > 0"),
    ],
)
def test_wrong_states_are_named(x: list[float], t: float, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        equilibrium(SILVER_COPPER, x, t)


def test_other_wrong_input_is_named() -> None:
    with pytest.raises(InvalidInputError, match="this needs two"):
        spinodal(TERNARY, 900.0)
    with pytest.raises(InvalidInputError, match="same two elements"):
        common_tangents([SILVER_COPPER, regular(1.0)], 900.0)
    with pytest.raises(InvalidInputError, match="expected one"):
        equilibrium(SILVER_COPPER, [[0.5, 0.5]], 900.0)
    with pytest.raises(InvalidInputError, match="do not sum to 1"):
        phase_mismatch(SILVER_COPPER, [0.5, 0.6], [[0.5, 0.5], [0.2, 0.8]], 900.0)
