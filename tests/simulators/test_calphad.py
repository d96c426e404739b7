"""Equilibria from a TDB: our own tangents, tangents on pycalphad's energies, published figures."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar, root

from loop.errors import InvalidInputError
from simulators.calphad import Database
from simulators.miscibility import binodal, common_tangents
from simulators.phase_matching import match_phases
from simulators.solution import GAS_CONSTANT, Solution
from simulators.thermodynamics import Equilibrium, equilibrium, phase_mismatch
from tests.simulators.test_thermodynamics import SILVER_COPPER

# N. Dupin, I. Ansara and B. Sundman, Calphad 25, 279 (2001), as pycalphad distributes it.
NICKEL_ALUMINIUM = Path(__file__).parents[1] / "data" / "thermodynamics" / "alni_dupin_2001.tdb"
# SILVER_COPPER once more, in the words of a TDB, with the liquid of the same assessment.
TDB = """
ELEMENT VA VACUUM 0 0 0 !
ELEMENT AG FCC_A1 107.8682 0 0 !
ELEMENT CU FCC_A1 63.546 0 0 !
TYPE_DEFINITION % SEQ * !
PHASE FCC_A1 % 2 1 1 !
CONSTITUENT FCC_A1 :AG,CU:VA: !
PARAMETER G(FCC_A1,AG:VA;0) 298.15 0; 3000 N !
PARAMETER G(FCC_A1,CU:VA;0) 298.15 0; 3000 N !
PARAMETER G(FCC_A1,AG,CU:VA;0) 298.15 +36061.88-10.44288*T; 3000 N !
PARAMETER G(FCC_A1,AG,CU:VA;1) 298.15 -4310.12; 3000 N !
PHASE LIQUID % 1 1 !
CONSTITUENT LIQUID :AG,CU: !
PARAMETER G(LIQUID,AG;0) 298.15 +11025.076-8.891021*T; 3000 N !
PARAMETER G(LIQUID,CU;0) 298.15 +12964.735-9.511904*T; 3000 N !
PARAMETER G(LIQUID,AG,CU;0) 298.15 +17323.4-4.46819*T; 3000 N !
PARAMETER G(LIQUID,AG,CU;1) 298.15 +1654.38-2.35285*T; 3000 N !
"""
LIQUID = Solution(
    ("Ag", "Cu"),
    {("Ag", "Cu"): ((17323.4, -4.46819), (1654.38, -2.35285))},
    {"Ag": (11025.076, -8.891021), "Cu": (12964.735, -9.511904)},
    name="liquid",
)
GAMMA, PRIME = "FCC_A1", "FCC_L12"


@pytest.fixture
def tdb(tmp_path: Path) -> Path:
    path = tmp_path / "agcu.tdb"
    path.write_text(TDB)
    return path


@pytest.fixture
def silver(tdb: Path) -> Database:
    pytest.importorskip("pycalphad")
    return Database(tdb, ["Ag", "Cu"])


@pytest.fixture(scope="module")
def nickel() -> Database:
    pytest.importorskip("pycalphad")
    return Database(NICKEL_ALUMINIUM, ["Ni", "Al"])


# Beside our own equilibria


@pytest.mark.parametrize("t", [700.0, 900.0, 1000.0])
def test_tie_lines_are_those_of_the_solution(silver: Database, t: float) -> None:
    """pycalphad and our common tangent, two programs, one assessment.

    pycalphad's gas constant is 8.3145 J/(mol K), 4.5e-6 more than the exact one: an energy of
    mixing of up to R T ln 2 moves by 0.03 J/mol, a potential at x = 0.01 by R T ln 100 of it.
    """
    rest = silver.tie_line("FCC_A1", "FCC_A1", [0.6, 0.4], t)
    own = equilibrium(SILVER_COPPER, [0.6, 0.4], t)
    assert rest.phases == ("FCC_A1", "FCC_A1")
    np.testing.assert_allclose(rest.compositions[:, 1], binodal(SILVER_COPPER, t)[0], atol=1e-5)
    np.testing.assert_allclose(rest.fractions, own.fractions, atol=1e-5)
    np.testing.assert_allclose(rest.potentials, own.potentials, atol=0.5)
    assert rest.energy == pytest.approx(own.energy, abs=0.03)


def test_solid_and_liquid(silver: Database) -> None:
    """At 1150 K solid and liquid on both sides, as from our common tangents."""
    lines = common_tangents([LIQUID, SILVER_COPPER], 1150.0)
    assert [line.phases for line in lines] == [(1, 0), (0, 1)]
    for line in lines:
        middle = sum(line.compositions) / 2
        rest = silver.equilibrium([1 - middle, middle], 1150.0)
        assert set(rest.phases) == {"FCC_A1", "LIQUID"}
        np.testing.assert_allclose(rest.compositions[:, 1], line.compositions, atol=1e-5)


def test_mismatch_as_for_the_solution(silver: Database) -> None:
    x = np.array([[0.9, 0.1], [0.05, 0.95]])
    found = match_phases(
        ["FCC_A1", "FCC_A1"], x, silver.equilibrium(np.array([0.7, 0.3]) @ x, 900.0)
    )
    own = phase_mismatch(SILVER_COPPER, [0.7, 0.3], x, 900.0)
    assert found.mismatch == pytest.approx(own.composition, abs=1e-5)
    assert found.missing == own.missing == 0


@pytest.mark.parametrize(
    ("z", "phases"), [([0.3, 0.36, 0.34], 3), ([0.5, 0.45, 0.05], 2), ([0.97, 0.01, 0.02], 1)]
)
def test_ternary_as_for_the_solution(tmp_path: Path, z: list[float], phases: int) -> None:
    """Three elements, not in alphabetical order as pycalphad has them: three, two, one phase."""
    pytest.importorskip("pycalphad")
    elements = ("Ni", "Ag", "Cu")
    terms = {
        ("Ag", "Cu"): ((30_000.0, -3.0), (1_500.0, 0.0)),
        ("Ag", "Ni"): ((34_000.0, 0.0), (-2_000.0, 1.0)),
        ("Cu", "Ni"): ((25_000.0, -1.0),),
    }
    lines = [f"ELEMENT {e.upper()} FCC_A1 1 0 0 !" for e in ("Va", *elements)]
    lines += ["TYPE_DEFINITION % SEQ * !", "PHASE FCC_A1 % 1 1 !"]
    lines += ["CONSTITUENT FCC_A1 :AG,CU,NI: !"]
    for (a, b), pair in terms.items():
        lines += [
            f"PARAMETER G(FCC_A1,{a.upper()},{b.upper()};{v}) 298.15 {c:+}{d:+}*T; 3000 N !"
            for v, (c, d) in enumerate(pair)
        ]
    path = tmp_path / "ternary.tdb"
    path.write_text("\n".join(lines))
    rest = Database(path, elements).equilibrium(z, 1000.0)
    own = equilibrium(Solution(elements, terms, name="FCC_A1"), z, 1000.0)
    assert rest.phases == own.phases == ("FCC_A1",) * phases
    np.testing.assert_allclose(rest.compositions, own.compositions, atol=2e-5)
    np.testing.assert_allclose(rest.fractions, own.fractions, atol=2e-4)
    np.testing.assert_allclose(rest.potentials, own.potentials, atol=0.5)


# Beside common tangents on the energies of the phases, by other means than pycalphad's


def energies(t: float) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """G of gamma and gamma prime at x_Al, J per mole of atoms.

    The database's expressions as functions of the site fractions; the order of gamma prime at its
    composition of least energy is found by scipy.
    """
    pycalphad, symengine = (pytest.importorskip(name) for name in ("pycalphad", "symengine"))
    content = pycalphad.Database(str(NICKEL_ALUMINIUM))

    def molar(phase: str) -> Callable[[list[float]], float]:
        model = pycalphad.Model(content, ["AL", "NI", "VA"], phase)
        sites = sorted(model.site_fractions, key=str)  # by sublattice, then by species
        energy = symengine.Lambdify([pycalphad.variables.T, *sites], [model.GM])
        return lambda y: float(energy([t, *y])[0])

    gamma, prime = molar(GAMMA), molar(PRIME)

    def disordered(x: float) -> float:
        return gamma([x, 1 - x, 1.0])

    def ordered(x: float) -> float:
        """x = 3/4 of the first sublattice's aluminium and 1/4 of the second's."""

        def at(second: float) -> float:
            first = (4 * x - second) / 3
            return prime([first, 1 - first, second, 1 - second, 1.0])

        # Ordered, so beyond x + 0.2; as full as the first sublattice allows.
        best = minimize_scalar(
            at,
            bounds=(x + 0.2, min(1.0, 4 * x) - 1e-9),
            method="bounded",
            options={"xatol": 1e-10},
        )
        return float(best.fun)

    return disordered, ordered


def slope(g: Callable[[float], float], x: float, h: float = 1e-4) -> float:
    """Fourth order: the error is of the fifth derivative, below 1e-9 of the slope here."""
    return (8 * (g(x + h) - g(x - h)) - (g(x + 2 * h) - g(x - 2 * h))) / (12 * h)


@pytest.mark.parametrize("t", [900.0, 1273.0])
def test_tie_line_is_the_common_tangent(nickel: Database, t: float) -> None:
    """Chemical potentials G - x G' and G + (1 - x) G' of both phases, equal where scipy says."""
    disordered, ordered = energies(t)
    rest = nickel.tie_line(GAMMA, PRIME, [0.82, 0.18], t)

    def potentials(g: Callable[[float], float], x: float) -> NDArray[np.float64]:
        return g(x) + slope(g, x) * np.array([-x, 1 - x])

    def unequal(x: NDArray[np.float64]) -> NDArray[np.float64]:
        both = potentials(disordered, float(x[0])) - potentials(ordered, float(x[1]))
        return both / (GAS_CONSTANT * t)

    solved = root(unequal, [0.13, 0.235], tol=1e-8)
    assert np.abs(unequal(solved.x)).max() < 1e-6
    np.testing.assert_allclose(rest.compositions[:, 1], solved.x, atol=1e-7)
    for g, x in ((disordered, solved.x[0]), (ordered, solved.x[1])):
        np.testing.assert_allclose(potentials(g, float(x)), rest.potentials, atol=1e-3)
    # No state of either phase lies below the tangent.
    for x in np.linspace(0.02, 0.3, 8):
        plane = (1 - x) * rest.potentials[0] + x * rest.potentials[1]
        assert disordered(float(x)) > plane - 1e-3


# Published figures and laws that need none


def test_melting_points_of_the_elements(nickel: Database) -> None:
    """933.47 K and 1728 K: A. T. Dinsdale, Calphad 15, 317 (1991)."""
    for z, t in (([0.0, 1.0], 933.47), ([1.0, 0.0], 1728.0)):
        assert nickel.equilibrium(z, t - 0.5).phases == (GAMMA,)
        assert nickel.equilibrium(z, t + 0.5).phases == ("LIQUID",)


def test_phase_rule_lever_rule_and_potentials(nickel: Database) -> None:
    """At given T and P two elements allow two phases; amounts balance; G = sum z mu."""
    rng = np.random.default_rng(0)
    seen = set()
    for x, t in zip(rng.uniform(0.02, 0.98, 40), rng.uniform(500, 1800, 40), strict=True):
        z = np.array([1 - x, x])
        rest = nickel.equilibrium(z, t)
        assert 1 <= len(rest.phases) <= 2
        np.testing.assert_allclose(rest.fractions @ rest.compositions, z, atol=1e-7)
        if len(rest.phases) == 2:
            a, b = rest.compositions[:, 1]
            assert rest.fractions[0] == pytest.approx((b - x) / (b - a), abs=1e-5)
        assert rest.energy == pytest.approx(float(z @ rest.potentials), rel=1e-8)
        assert np.all(np.diff(rest.compositions[:, 0]) <= 0)
        seen |= set(rest.phases)
    assert {GAMMA, PRIME, "BCC_B2", "AL3NI1", "LIQUID"} <= seen


def test_tie_line_does_not_depend_on_where_it_is_crossed(nickel: Database) -> None:
    ends = [nickel.tie_line(PRIME, GAMMA, [1 - x, x], 1273.0).compositions for x in (0.17, 0.22)]
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-9)
    assert ends[0][0, 1] > ends[0][1, 1]  # in the order of the arguments


def test_results_do_not_depend_on_what_came_before(nickel: Database) -> None:
    fresh = Database(NICKEL_ALUMINIUM, ["Ni", "Al"]).equilibrium([0.82, 0.18], 1273.0)
    nickel.equilibrium([0.3, 0.7], 700.0)
    again = nickel.equilibrium([0.82, 0.18], 1273.0)
    np.testing.assert_array_equal(again.compositions, fresh.compositions)
    np.testing.assert_array_equal(again.fractions, fresh.fractions)


def test_order_of_the_elements(tdb: Path, silver: Database) -> None:
    turned = Database(tdb, ["Cu", "Ag"]).equilibrium([0.4, 0.6], 900.0)
    rest = silver.equilibrium([0.6, 0.4], 900.0)
    np.testing.assert_allclose(turned.compositions[::-1, ::-1], rest.compositions, atol=1e-7)
    np.testing.assert_allclose(turned.potentials[::-1], rest.potentials, rtol=1e-7)
    assert turned.compositions[0, 0] > turned.compositions[1, 0]


def test_phases_may_be_chosen(silver: Database) -> None:
    assert silver.phases == ("FCC_A1", "LIQUID")
    assert set(silver.equilibrium([0.6, 0.4], 1400.0).phases) == {"LIQUID"}
    only = silver.equilibrium([0.6, 0.4], 1400.0, phases=["FCC_A1"])
    assert set(only.phases) == {"FCC_A1"}


def test_pure_and_dilute(silver: Database) -> None:
    rest = silver.equilibrium([1.0, 0.0], 900.0)
    np.testing.assert_array_equal(rest.compositions, [[1.0, 0.0]])
    assert rest.energy == pytest.approx(0.0, abs=1e-6)
    assert np.isnan(rest.potentials[1])
    for x in (1e-7, 1e-12):
        assert silver.equilibrium([1 - x, x], 900.0).phases == ("FCC_A1",)


# Which phase belongs to which


def test_matching_by_kind_then_by_composition() -> None:
    rest = Equilibrium(
        ("a", "a", "b"),
        np.array([0.3, 0.3, 0.4]),
        np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]),
        np.zeros(2),
        0.0,
    )
    same = match_phases(["b", "a", "a"], rest.compositions[[2, 1, 0]], rest)
    assert (same.partners, same.mismatch, same.missing) == ((2, 1, 0), 0.0, 0)
    near = match_phases(["b", "a", "a"], [[0.25, 0.75], [0.58, 0.42], [0.89, 0.11]], rest)
    assert near.partners == (2, 1, 0)
    assert near.mismatch == pytest.approx(0.05)
    # One is not there, one was not proposed: each beside the nearest of the other side.
    other = match_phases(["c", "a", "a"], [[0.3, 0.7], [0.6, 0.4], [0.9, 0.1]], rest)
    assert other.partners == (None, 1, 0)
    assert other.mismatch == pytest.approx(0.1)
    assert other.missing == 2
    with pytest.raises(InvalidInputError, match=r"expected \(1, 2\)"):
        match_phases(["a"], [[0.5, 0.5], [0.4, 0.6]], rest)


# Bad input


def test_the_extra_is_named(tdb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycalphad", None)
    with pytest.raises(InvalidInputError, match=r"pip install 'spinodal\[calphad\]'"):
        Database(tdb, ["Ag", "Cu"])


@pytest.mark.parametrize(
    ("elements", "phases", "message"),
    [
        (["Ag", "Ni"], None, "unknown element 'Ni'; known: Ag, Cu"),
        (["Ag", "Ag"], None, "each once"),
        (["Ag", "Cu"], ["FCC"], "did you mean 'FCC_A1'"),
        (["Ag", "Cu"], [], "no phase is left"),
    ],
)
def test_wrong_names_are_named(
    tdb: Path, elements: list[str], phases: list[str] | None, message: str
) -> None:
    pytest.importorskip("pycalphad")
    with pytest.raises(InvalidInputError, match=message):
        Database(tdb, elements, phases)


def test_wrong_files_are_named(tmp_path: Path) -> None:
    pytest.importorskip("pycalphad")
    with pytest.raises(InvalidInputError, match="cannot be read: No such file"):
        Database(tmp_path / "absent.tdb", ["Ag"])
    other = tmp_path / "other.tdb"
    other.write_text("this is no database")
    with pytest.raises(InvalidInputError, match=r"other\.tdb"):
        Database(other, ["Ag"])
    cut = tmp_path / "cut.tdb"
    shutil.copy(NICKEL_ALUMINIUM, cut)
    cut.write_text(cut.read_text()[:2000])
    with pytest.raises(InvalidInputError, match=r"cut\.tdb"):
        Database(cut, ["Ni", "Al"])


def test_wrong_states_are_named(silver: Database, nickel: Database) -> None:
    with pytest.raises(InvalidInputError, match=r"expected \(2,\)"):
        silver.equilibrium([1.0], 900.0)
    with pytest.raises(InvalidInputError, match="does not sum to 1"):
        silver.equilibrium([0.5, 0.4], 900.0)
    with pytest.raises(InvalidInputError, match="temperature is 0"):
        silver.equilibrium([0.5, 0.5], 0.0)
    with pytest.raises(InvalidInputError, match="pressure is -1"):
        silver.equilibrium([0.5, 0.5], 900.0, pressure_Pa=-1)
    with pytest.raises(InvalidInputError, match="can hold NI alone"):
        nickel.equilibrium([1.0, 0.0], 900.0, phases=["AL3NI1"])
    with pytest.raises(InvalidInputError, match="no tie-line between FCC_A1 and FCC_L12"):
        nickel.tie_line(GAMMA, PRIME, [0.95, 0.05], 1273.0)
    with pytest.raises(ArithmeticError, match="pycalphad"):
        nickel.equilibrium([0.5, 0.5], 900.0, phases=["AL3NI1"])
