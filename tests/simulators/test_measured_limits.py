"""Physical limits of measured quantities: by name and unit, in whatever unit they come."""

from __future__ import annotations

import math

import pytest

from interface.alloy_headers import read_quantity
from loop.space import DesignSpace
from simulators.measured import create
from simulators.measured_limits import usual_limits

SPACE = DesignSpace(phases=("alloy",), elements=("Ag", "Cu"))
INF = math.inf


@pytest.mark.parametrize(
    ("header", "outside", "inside"),
    [
        ("hardness (HV)", (51_200, -1, 12_001), (0, 512, 10_000)),
        ("microhardness (HK)", (51_200, -1), (700,)),
        ("hardness (HRC)", (101, -1), (62,)),
        ("hardness (HRB)", (131,), (110,)),
        ("hardness (GPa)", (512, -1), (5.0, 100)),
        ("Vickers hardness (MPa)", (512_000,), (5_000,)),
        ("density (g/cm³)", (78.5, 0, -1, 0.01), (0.3, 2.7, 22.6)),
        ("density [kg m⁻³]", (78_500, 7.85), (7_850,)),
        ("Young's modulus (GPa)", (210_000, -1), (210, 1_200)),
        ("shear modulus (MPa)", (8e7,), (80_000,)),
        ("Yield strength (MPa)", (-1, 1e6), (0, 350, 5_000)),
        ("UTS_MPa", (-1, 1e6), (900,)),
        ("Ultimate (GPa)", (-1, 900), (0.9,)),
        ("porosity (%)", (-5, 101), (0, 3, 100)),
        ("porosity (vol.%)", (-5, 101), (3,)),
        ("porosity (1)", (-0.1, 1.1, 3), (0.03,)),
        ("gamma prime fraction (1)", (-0.1, 1.1), (0.6,)),
        ("gamma prime fraction (%)", (-0.1, 101), (60,)),
        ("solidus (°C)", (-400, -273.2), (-273.15, 1_300)),
        ("solidus (K)", (-1,), (0, 1_600)),
        ("Poisson's ratio (1)", (-1.1, 0.6, 30), (-0.7, 0.3, 0.5)),
        ("fracture toughness (MPa m^1/2)", (-1, 5_000), (500,)),
        ("elongation (%)", (-1,), (0, 1_000)),
        ("lattice misfit (%)", (), (-0.3, 0.3)),
        ("hardness change (HV)", (), (-100, 100)),
        ("formation energy (kJ/mol)", (), (-100, 100)),
        ("interface density (1/px)", (-1,), (0, 0.01)),
    ],
)
def test_limits(header: str, outside: tuple[float, ...], inside: tuple[float, ...]) -> None:
    quantity = read_quantity(header)
    low, high = usual_limits(quantity.full, quantity.unit)
    for value in outside:
        assert not low <= value <= high, (value, low, high)
    for value in inside:
        assert low <= value <= high, (value, low, high)


@pytest.mark.parametrize(
    ("name", "unit", "limits"),
    [
        ("hardness_GPa", "GPa", (0.0, 120.0)),
        ("gamma_prime_fraction", "1", (0.0, 1.0)),
        ("solidus", "K", (0.0, INF)),
        ("solidus", "°C", (-273.15, INF)),
        ("density", "g/cm^3", (0.05, 25.0)),
        ("density", "g cm-3", (0.05, 25.0)),
        ("density", "ounces per (inch)3", (0.0, INF)),
        ("lattice_misfit_percent", "percent", (-INF, INF)),
        ("formation_energy_kJ_per_mol", "kJ/mol", (-INF, INF)),
    ],
)
def test_of_a_campaign_and_its_own_count_in_their_place(
    name: str, unit: str, limits: tuple[float, float]
) -> None:
    made = create(space=SPACE, settings={"outputs": {name: unit}})
    assert made.limits.get(name, (-INF, INF)) == limits
    own = {"outputs": {name: unit}, "limits": {name: [-1e9, 1e9]}}
    assert create(space=SPACE, settings=own).limits[name] == (-1e9, 1e9)


def test_units_of_one_quantity_have_the_same_limits() -> None:
    """12,000 HV are 117.7 GPa (1 kgf/mm2 = 9.80665 MPa)."""
    (_, kgf), (_, pascal) = usual_limits("hardness", "HV"), usual_limits("hardness", "GPa")
    assert kgf * 9.80665e-3 == pytest.approx(pascal, rel=0.02)
    for name in ("youngs_modulus", "yield_strength", "hardness"):
        for unit, factor in (("MPa", 1e3), ("kPa", 1e6), ("Pa", 1e9)):
            assert usual_limits(name, unit)[1] == factor * usual_limits(name, "GPa")[1]
