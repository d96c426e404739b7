"""Alloy descriptors against hand calculations, limits and invariances."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.descriptors import FINITE, GAS_CONSTANT, _pair_table, descriptors
from loop.errors import InvalidInputError

CANTOR = ("Co", "Cr", "Fe", "Mn", "Ni")
# Metals of every block that pymatgen knows all of.
METALS = ("Al", "Co", "Cr", "Cu", "Fe", "Hf", "Mo", "Nb", "Ni", "Ta", "Ti", "V", "W", "Zr")


def one(name: str, amounts: dict[str, float]) -> float:
    x = descriptors([list(amounts.values())], tuple(amounts), (name,))
    assert x.shape == (1, 1)
    return float(x[0, 0])


def test_equimolar_cocrfemnni_by_hand() -> None:
    alloy = dict.fromkeys(CANTOR, 1.0)
    assert one("mixing_entropy_J_per_molK", alloy) == pytest.approx(GAS_CONSTANT * math.log(5))
    # 9 + 6 + 8 + 7 + 10 valence electrons
    assert one("valence_electrons_per_atom", alloy) == pytest.approx(8.0)
    assert one("valence_electron_spread", alloy) == pytest.approx(math.sqrt(2.0))
    # Metallic radii in pm: Co 125, Cr 128, Fe 126, Mn 127, Ni 124; mean 126.
    assert one("mean_radius_pm", alloy) == pytest.approx(126.0)
    assert one("radius_mismatch_percent", alloy) == pytest.approx(100 * math.sqrt(2.0) / 126)
    # Pauling: 1.88, 1.66, 1.83, 1.55, 1.91; mean 1.766.
    off = [1.88 - 1.766, 1.66 - 1.766, 1.83 - 1.766, 1.55 - 1.766, 1.91 - 1.766]
    by_hand = math.sqrt(sum(d * d for d in off) / 5)
    assert one("mean_electronegativity", alloy) == pytest.approx(1.766)
    assert one("electronegativity_difference", alloy) == pytest.approx(by_hand)
    # K: 1768, 2180, 1811, 1519, 1728
    assert one("melting_temperature_K", alloy) == pytest.approx(9006 / 5)
    # GPa: 209, 279, 211, 198, 200
    assert one("youngs_modulus_GPa", alloy) == pytest.approx(1097 / 5)


def test_alnicocrfe_valence_counts_the_p_block_without_its_d_shell() -> None:
    alloy = dict.fromkeys(("Al", "Co", "Cr", "Fe", "Ni"), 1.0)
    assert one("valence_electrons_per_atom", alloy) == pytest.approx((3 + 9 + 6 + 8 + 10) / 5)
    assert one("valence_electrons_per_atom", {"Zn": 1.0, "Nd": 1.0}) == pytest.approx(7.5)


def test_density_adds_volumes() -> None:
    # Cu 63.546 g/mol in 7.11 cm3/mol, Ni 58.6934 in 6.59
    mass, volume = 0.25 * 63.546 + 0.75 * 58.6934, 0.25 * 7.11 + 0.75 * 6.59
    assert one("density_g_per_cm3", {"Cu": 1.0, "Ni": 3.0}) == pytest.approx(mass / volume)


@pytest.mark.parametrize("element", METALS)
def test_a_pure_element_has_no_mismatch(element: str) -> None:
    row = descriptors([[1.0, 0.0]], (element, "Fe" if element != "Fe" else "Ni"))[0]
    for name, value in zip(FINITE, row, strict=True):
        if name == "entropy_share":
            assert value == 1.0
        elif any(w in name for w in ("mismatch", "entropy", "enthalpy", "spread", "difference")):
            assert value == 0.0, name
        else:
            assert value > 0.0, name


@given(st.lists(st.floats(0.01, 1.0), min_size=5, max_size=5), st.permutations(range(5)))
def test_order_scale_and_absent_elements_change_nothing(
    amounts: list[float], order: list[int]
) -> None:
    plain = descriptors([amounts], CANTOR)
    shuffled = descriptors([[amounts[i] for i in order]], [CANTOR[i] for i in order])
    np.testing.assert_allclose(shuffled, plain, rtol=1e-12)
    np.testing.assert_allclose(descriptors([[7 * a for a in amounts]], CANTOR), plain, rtol=1e-12)
    # C has no Young's modulus in the tables: a column of zeros does not ask for it.
    more = descriptors([[*amounts, 0.0, 0.0]], (*CANTOR, "W", "C"))
    np.testing.assert_allclose(more, plain, rtol=1e-12)


@given(st.lists(st.floats(0.0, 1.0), min_size=5, max_size=5).filter(lambda v: sum(v) > 0.1))
def test_entropy_is_largest_where_all_are_equal(amounts: list[float]) -> None:
    found = descriptors([amounts], CANTOR, ("mixing_entropy_J_per_molK",))[0, 0]
    assert 0.0 <= found <= GAS_CONSTANT * math.log(5) * (1 + 1e-12)


def test_many_at_once_are_each_alone() -> None:
    x = np.random.default_rng(0).dirichlet(np.ones(len(METALS)), 20)
    together = descriptors(x, METALS)
    assert together.shape == (20, len(FINITE))
    for row, alone in zip(x, together, strict=True):
        np.testing.assert_allclose(descriptors(row[None], METALS)[0], alone, rtol=1e-12)
    assert descriptors(np.empty((0, 2)), ("Fe", "Ni")).shape == (0, len(FINITE))


def test_an_element_without_a_datum_is_refused_or_left_out() -> None:
    x, elements = [[0.1, 0.45, 0.45]], ("C", "Fe", "Ni")
    name = ("youngs_modulus_GPa",)
    with pytest.raises(InvalidInputError, match="element C has no Young's modulus"):
        descriptors(x, elements, name)
    found = descriptors(x, elements, name, missing="leave_out")
    assert found[0, 0] == pytest.approx((211 + 200) / 2)
    with pytest.raises(InvalidInputError, match="alloy number 0 consists of elements without"):
        descriptors([[1.0, 0.0]], ("C", "Fe"), name, missing="leave_out")


@pytest.mark.parametrize(
    ("x", "elements", "names", "said"),
    [
        ([[0.5, 0.5]], ("Fe",), ("mean_radius_pm",), r"shape \(1, 2\); expected \(n, 1\)"),
        ([0.5, 0.5], ("Fe", "Ni"), ("mean_radius_pm",), r"shape \(2,\)"),
        ([[0.5, 0.5]], ("Fe", "Xx"), ("mean_radius_pm",), "unknown element 'Xx'"),
        ([[0.5, 0.5]], ("Fe", "Ni"), ("mean_radius",), "did you mean 'mean_radius_pm'"),
        ([[0.0, 0.0]], ("Fe", "Ni"), ("mean_radius_pm",), "only zeros"),
        ([[-0.5, 1.5]], ("Fe", "Ni"), ("mean_radius_pm",), "expected amounts >= 0"),
    ],
)
def test_bad_input(x: object, elements: tuple[str, ...], names: tuple[str, ...], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        descriptors(x, elements, names)  # type: ignore[arg-type]


def kilojoules(formula: dict[str, float]) -> float:
    return one("mixing_enthalpy_kJ_per_mol", formula)


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        # Pairs of the table as printed: Co-Cr -4, Co-Fe -1, Co-Mn -5, Co-Ni 0, Cr-Fe -1, Cr-Mn 2,
        # Cr-Ni -7, Fe-Mn 0, Fe-Ni -2, Mn-Ni -8; 4 / 25 of their sum.
        (CANTOR, -4.16),
        (("Co", "Cr", "Fe", "Ni"), -3.75),
        (("Al", "Co", "Cr", "Fe", "Ni"), -12.32),
        (("Co", "Cr", "Cu", "Fe", "Ni"), 3.2),
        (("Mo", "Nb", "Ta", "W"), -6.5),
        (("Hf", "Nb", "Ta", "Ti", "Zr"), 2.72),
    ],
)
def test_mixing_enthalpies_of_known_alloys(elements: tuple[str, ...], expected: float) -> None:
    assert kilojoules(dict.fromkeys(elements, 1.0)) == pytest.approx(expected, abs=1e-12)


def test_mixing_enthalpy_of_a_pair_is_a_parabola() -> None:
    # Al-Ni -22 kJ/mol at 50 %
    for share in (0.1, 0.25, 0.5):
        expected = 4 * -22.0 * share * (1 - share)
        assert kilojoules({"Al": share, "Ni": 1 - share}) == pytest.approx(expected, rel=1e-12)


def test_omega_by_hand_and_where_it_is_infinite() -> None:
    alloy = dict.fromkeys(CANTOR, 1.0)
    disorder = 9006 / 5 * GAS_CONSTANT * math.log(5) / 1000
    assert one("omega", alloy) == pytest.approx(disorder / 4.16)
    assert one("entropy_share", alloy) == pytest.approx(disorder / (disorder + 4.16))
    for free in ({"Ni": 1.0}, {"Co": 0.5, "Ni": 0.5}):  # a pure element; a pair of 0 kJ/mol
        assert one("omega", free) == math.inf
        assert one("entropy_share", free) == 1.0
    # Its limit as well: S / |H| grows as -ln x.
    shares = [one("entropy_share", {"Ni": 1.0, "Al": 10.0**-k}) for k in (1, 4, 16, 64)]
    assert shares == sorted(shares)
    assert shares[-1] > 0.95


def test_the_table_of_pairs_is_whole() -> None:
    from pymatgen.core import Element

    table = _pair_table()
    assert len(table) == 70
    for symbol, row in table.items():
        assert Element(symbol).Z <= 83
        assert set(row) == set(table) - {symbol}
        assert all(table[other][symbol] == value for other, value in row.items())


def test_an_element_without_mixing_enthalpies_is_refused_or_left_out() -> None:
    x, elements, name = [[0.2, 0.4, 0.4]], ("U", "Al", "Ni"), ("mixing_enthalpy_kJ_per_mol",)
    with pytest.raises(InvalidInputError, match="element U has no mixing enthalpy in the table"):
        descriptors(x, elements, name)
    assert descriptors(x, elements, name, missing="leave_out")[0, 0] == pytest.approx(-22.0)
    with pytest.raises(InvalidInputError, match="alloy number 0 consists of elements without mix"):
        descriptors([[1.0, 0.0]], ("U", "Al"), name, missing="leave_out")
