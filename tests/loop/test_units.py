"""One table of units: read from what people type, and printed for them."""

from __future__ import annotations

import pytest

from interface.alloy_headers import read_quantity
from interface.labels import property_label, split_property
from loop.errors import InvalidInputError
from loop.units import UNITS, unit_suffix


@pytest.mark.parametrize("suffix", UNITS)
def test_every_unit_is_read_and_printed(suffix: str) -> None:
    unit = UNITS[suffix]
    for text in (suffix, unit.typed, unit.printed):
        assert unit_suffix(text) == suffix
    assert split_property(f"some_quantity_{suffix}") == ("Some quantity", unit.printed)
    quantity = read_quantity(f"some quantity ({unit.printed})")
    assert (quantity.full, quantity.unit) == (f"some_quantity_{suffix}", unit.typed)
    assert read_quantity(f"some_quantity_{suffix}") == quantity


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("fracture_toughness_MPa_m05", "Fracture toughness (MPa√m)"),
        ("corrosion_rate_mm_per_year", "Corrosion rate (mm/year)"),
        ("resistivity_uohm_cm", "Resistivity (µΩ·cm)"),
        ("hardness_HRA", "Hardness (HRA)"),
        ("hardness_HK", "Hardness (HK)"),
        ("saturation_emu_per_g", "Saturation (emu/g)"),
        ("density_g_per_cm3", "Density (g/cm³)"),
        ("interface_density_per_px", "Interface density (1/px)"),
        ("poissons_ratio", "Poisson’s ratio"),
    ],
)
def test_the_page_shows_them(name: str, label: str) -> None:
    assert property_label(name) == label


def test_what_cannot_stand_in_a_name() -> None:
    assert [unit_suffix(text) for text in ("1", "-", "", " ")] == [""] * 4
    assert unit_suffix("N/mm2") == "N_per_mm2"
    with pytest.raises(InvalidInputError, match="cannot be part of a property's name"):
        unit_suffix("per (inch)3")
