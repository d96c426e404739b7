"""Mixing rules: limits, additivity, published values, elements that lack data."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

from loop.errors import InvalidInputError
from simulators import elemental
from simulators.elasticity import youngs_modulus
from simulators.elemental import (
    density,
    elastic_moduli,
    element_table,
    linde_coefficients,
    material_cost,
    thermal_conductivity,
)

SYMBOLS = ("Ni", "Al", "Cr", "Co", "Ti", "Mo", "W", "Ta", "Re")
PURE = np.eye(len(SYMBOLS))


def alloy(**fractions: float) -> np.ndarray:
    x = np.array([fractions.get(symbol, 0.0) for symbol in SYMBOLS])
    return x / x.sum()


@pytest.fixture(scope="module")
def table() -> elemental.ElementTable:
    return element_table(SYMBOLS)


def test_pure_elements_keep_their_tabulated_values(table: elemental.ElementTable) -> None:
    bulk, shear = elastic_moduli(PURE, table)
    np.testing.assert_allclose(bulk, table["bulk_modulus_GPa"], rtol=1e-12)
    np.testing.assert_allclose(youngs_modulus(bulk, shear), table["youngs_modulus_GPa"], rtol=1e-12)
    np.testing.assert_allclose(
        thermal_conductivity(PURE, table), table["thermal_conductivity_W_per_mK"], rtol=1e-12
    )
    np.testing.assert_allclose(material_cost(PURE, table), table["cost_USD_per_kg"], rtol=1e-12)


def test_densities_of_the_elements(table: elemental.ElementTable) -> None:
    """Measured, g/cm3 at room temperature (CRC Handbook of Chemistry and Physics)."""
    measured = [8.90, 2.70, 7.15, 8.86, 4.506, 10.2, 19.3, 16.4, 20.8]
    np.testing.assert_allclose(density(PURE, table), measured, rtol=0.02)


def test_shear_moduli_of_the_elements(table: elemental.ElementTable) -> None:
    """Measured, GPa; molybdenum's is misprinted in the table of rigidity moduli as 20."""
    measured = [76, 26, 115, 75, 44, 126, 161, 69, 178]
    np.testing.assert_allclose(elastic_moduli(PURE, table)[1], measured, rtol=0.08)


def test_density_by_hand(table: elemental.ElementTable) -> None:
    expected = (3 * 58.6934 + 26.9815386) / (3 * 6.59 + 10.0)
    assert density(alloy(Ni=3, Al=1), table) == pytest.approx(expected, rel=1e-9)


def test_moduli_lie_between_reuss_and_voigt(table: elemental.ElementTable) -> None:
    x = np.random.default_rng(0).dirichlet(np.ones(len(SYMBOLS)), (50, 2))
    volumes = x * table["molar_volume_cm3_per_mol"]
    volumes /= volumes.sum(-1, keepdims=True)
    bulk, _ = elastic_moduli(x, table)
    assert bulk.shape == (50, 2)
    moduli = table["bulk_modulus_GPa"]
    assert np.all(bulk < volumes @ moduli)
    assert np.all(bulk > 1 / (volumes @ (1 / moduli)))


def test_cost_is_by_mass(table: elemental.ElementTable) -> None:
    nickel, tungsten = 58.6934, 183.84
    prices = table["cost_USD_per_kg"]
    expected = (nickel * prices[0] + tungsten * prices[6]) / (nickel + tungsten)
    assert material_cost(alloy(Ni=1, W=1), table) == pytest.approx(expected, rel=1e-9)


def test_linde_coefficients(table: elemental.ElementTable) -> None:
    c = linde_coefficients(table["group"]) * 1e8  # in uOhm cm
    np.testing.assert_array_equal(c, c.T)
    np.testing.assert_array_equal(np.diag(c), 0)
    assert c[5, 6] == pytest.approx(35)  # Mo and W, one group
    assert c[0, 3] == pytest.approx(35 + 34.2)  # Ni and Co, neighbours
    assert c[0, 2] == pytest.approx(c[0, 7])  # Cr and Ta in Ni, both at the cap


def test_nichrome_has_its_published_resistivity_and_conductivity(
    table: elemental.ElementTable,
) -> None:
    """80Ni-20Cr by mass: 108 uOhm cm and 11.3 W/mK, from which the constants come."""
    x = alloy(Ni=80 / 58.6934, Cr=20 / 51.9961)
    disorder = 0.5 * x @ linde_coefficients(table["group"]) @ x
    nickel, chromium = 6.93e-8, 12.5e-8  # resistivities in pymatgen's table, Ohm m
    total = x[0] * nickel + x[2] * chromium + disorder
    assert total * 1e8 == pytest.approx(108, rel=0.01)
    assert thermal_conductivity(x, table) == pytest.approx(11.3, rel=0.02)


def test_chromel_comes_out_within_a_tenth(table: elemental.ElementTable) -> None:
    """Blind: 9.5 % Cr and 1 % Co by mass, tabulated with 68 ± 5 uOhm cm and 17.6 W/mK at 20 C.

    None of it went into the constants; the module claims no more than a quarter.
    """
    x = alloy(Ni=89.5 / 58.6934, Cr=9.5 / 51.9961, Co=1 / 58.9332)
    disorder = 0.5 * x @ linde_coefficients(table["group"]) @ x
    nickel, chromium, cobalt = 6.93e-8, 12.5e-8, 6.24e-8
    total = x[0] * nickel + x[2] * chromium + x[3] * cobalt + disorder
    assert total * 1e8 == pytest.approx(68, rel=0.1)
    assert thermal_conductivity(x, table) == pytest.approx(17.6, rel=0.1)


MATRIX = alloy(Ni=0.55, Cr=0.2, Co=0.15, Al=0.04, W=0.02, Mo=0.02, Re=0.02)
PRECIPITATE = alloy(Ni=0.65, Co=0.07, Cr=0.03, Al=0.15, Ti=0.06, Ta=0.03, W=0.01)


def test_phases_of_a_nickel_superalloy_conduct_poorly(table: elemental.ElementTable) -> None:
    """The matrix about as nichrome does, the ordered phase less well than its pure compound."""
    nichrome = thermal_conductivity(alloy(Ni=80 / 58.6934, Cr=20 / 51.9961), table)
    assert thermal_conductivity(MATRIX, table) == pytest.approx(nichrome, rel=0.2)
    aluminide = thermal_conductivity(alloy(Ni=0.75, Al=0.25), table, 0.8)
    assert nichrome < thermal_conductivity(PRECIPITATE, table, 0.8) < aluminide
    assert aluminide == pytest.approx(28, rel=0.05)  # what 0.8 was chosen for
    assert aluminide < 32.8  # measured on Ni3Ga, the best of its kind


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_the_least_certain_constant_hardly_matters(
    table: elemental.ElementTable, monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    """Linde's a, by 10 %, with a + 16 b kept as nichrome fixes it."""

    def both() -> np.ndarray:
        return thermal_conductivity(np.stack([MATRIX, PRECIPITATE]), table, [0.0, 0.8])

    before, a, b = both(), elemental.LINDE_A, elemental.LINDE_B
    monkeypatch.setattr(elemental, "LINDE_A", factor * a)
    monkeypatch.setattr(elemental, "LINDE_B", b + (1 - factor) * a / elemental.LINDE_CAP**2)
    changed = np.abs(both() / before - 1)
    assert np.all(changed > 0)
    assert np.all(changed < 0.003)


def test_order_scatters_less(table: elemental.ElementTable) -> None:
    x = alloy(Ni=0.75, Al=0.25)
    found = thermal_conductivity(np.stack([x] * 4), table, [0.0, 0.5, 0.8, 0.95])
    assert np.all(np.diff(found) > 0)
    # The disorder part of the resistance goes as 1 - S^2.
    ends = 1 / (thermal_conductivity(x, table, [0.0, 1.0]) - elemental.LATTICE_CONDUCTIVITY)
    half = 1 / (thermal_conductivity(x, table, math.sqrt(0.5)) - elemental.LATTICE_CONDUCTIVITY)
    assert half == pytest.approx(ends.mean(), rel=1e-12)


def test_alloying_lowers_conductivity(table: elemental.ElementTable) -> None:
    x = np.stack([alloy(Ni=1 - c, Cr=c) for c in (0.0, 0.01, 0.05, 0.2)])
    assert np.all(np.diff(thermal_conductivity(x, table)) < 0)


def test_arrays_of_any_rank(table: elemental.ElementTable) -> None:
    x = np.random.default_rng(1).dirichlet(np.ones(len(SYMBOLS)), (4, 3))
    for rule in (density, thermal_conductivity, material_cost):
        whole = rule(x, table)
        assert whole.shape == (4, 3)
        assert rule(x[2, 1], table) == pytest.approx(whole[2, 1], rel=1e-14)


def test_an_element_without_data_is_named() -> None:
    zirconium = element_table(("Ni", "Zr"))
    with pytest.raises(InvalidInputError, match=r"element Zr has no bulk modulus .*element_data"):
        elastic_moduli([0.5, 0.5], zirconium)
    assert density([0.5, 0.5], zirconium) > 6  # what it has still works
    given = element_table(("Ni", "Zr"), {"Zr": {"bulk_modulus_GPa": 91.1}})
    assert elastic_moduli([0.0, 1.0], given)[0] == pytest.approx(91.1)


def test_an_element_that_hardly_conducts_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"element S conducts .* holds for metals"):
        thermal_conductivity([0.5, 0.5], element_table(("Ni", "S")))


@pytest.mark.parametrize(
    ("symbols", "overrides", "message"),
    [
        (("Ni", "Xx"), {}, "unknown element 'Xx'"),
        (("Ni",), {"Al": {"bulk_modulus_GPa": 1.0}}, "unknown element 'Al'"),
        (("Ni",), {"Ni": {"bulk_modulus": 1.0}}, "did you mean 'bulk_modulus_GPa'"),
        (("Ni",), {"Ni": {"bulk_modulus_GPa": -1.0}}, "is -1.0; expected a number > 0"),
        (("Ni",), {"Ni": {"bulk_modulus_GPa": math.nan}}, "is nan; expected a number > 0"),
        (("Ni",), {"Ni": {"bulk_modulus_GPa": "hard"}}, "is 'hard'; expected a number > 0"),
    ],
)
def test_wrong_input_is_named(
    symbols: tuple[str, ...], overrides: dict[str, dict[str, float]], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        element_table(symbols, overrides)


def test_wrong_number_of_columns_is_named(table: elemental.ElementTable) -> None:
    with pytest.raises(InvalidInputError, match=r"expected .* for Ni, Al"):
        density([0.5, 0.5], table)


def test_impossible_moduli_are_named() -> None:
    stiff = element_table(("Ni",), {"Ni": {"youngs_modulus_GPa": 2000.0}})
    with pytest.raises(InvalidInputError, match="Young's modulus is not below 9 times"):
        elastic_moduli([1.0], stiff)


def test_without_pymatgen_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymatgen.core", None)
    with pytest.raises(InvalidInputError, match="pip install pymatgen"):
        elemental.tabulated.__wrapped__("Ni")
