"""A scientist's CSV of alloys: what is read, what is merged, what is refused and why."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from interface.alloy_headers import read_quantity
from interface.alloy_table import AlloyTable, read_alloys
from loop.errors import InvalidInputError

# Eight ternaries, so that each test may add what it is about.
EIGHT = [(0.10 + 0.01 * i, 0.40 - 0.01 * i, 0.50) for i in range(8)]
FORMULAS = [f"Al{a:.2f}Co{b:.2f}Ni{c:.2f}" for a, b, c in EIGHT]


def written(folder: Path, header: str, rows: list[str]) -> Path:
    path = folder / "table.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def plain(folder: Path, *more: str, header: str = "alloy,hardness (HV)") -> Path:
    return written(folder, header, [*(f"{f},{100 + i}" for i, f in enumerate(FORMULAS)), *more])


def read(path: Path, *wanted: str, **options: object) -> AlloyTable:
    return read_alloys(path, wanted or ("hardness_HV",), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("header", "name", "unit", "role"),
    [
        ("Yield strength (MPa)", "yield_strength_MPa", "MPa", "value"),
        ("hardness_HV", "hardness_HV", "HV", "value"),
        ("Density [g/cm³]", "density_g_per_cm3", "g/cm3", "value"),
        ("density (g cm-3)", "density_g_per_cm3", "g/cm3", "value"),
        ("Young's modulus, GPa", "youngs_modulus_GPa", "GPa", "value"),
        ("Elongation (%)", "elongation_percent", "percent", "value"),
        ("κ (W m⁻¹ K⁻¹)", "κ_W_per_mK", "W/mK", "value"),
        ("resistivity (µΩ·cm)", "resistivity_uohm_cm", "uohm cm", "value"),
        ("toughness (MPa·m^0.5)", "toughness_MPa_m05", "MPa m0.5", "value"),
        ("ratio (-)", "ratio", "1", "value"),
        ("hardness (HV) ±", "hardness_HV", "HV", "uncertainty"),
        ("Hardness std (HV)", "hardness_HV", "HV", "uncertainty"),
        ("hardness_HV_uncertainty", "hardness_HV", "HV", "uncertainty"),
        ("hardness_HV_spread", "hardness_HV", "HV", "spread"),
        ("hardness_HV_count", "hardness_HV", "HV", "count"),
    ],
)
def test_headers_say_quantity_unit_and_role(header: str, name: str, unit: str, role: str) -> None:
    found = read_quantity(header)
    assert (found.full, found.unit, found.role) == (name, unit, role)


def test_formulas_and_columns_of_elements_are_the_same_alloys(tmp_path: Path) -> None:
    by_formula = read(plain(tmp_path))
    rows = [f"{100 * a:.1f},{100 * b:.1f},bal.,{100 + i}" for i, (a, b, _) in enumerate(EIGHT)]
    header = "Al (at.%),Co (at.%),Ni (at.%),hardness (HV)"
    by_column = read(written(tmp_path, header, rows))
    assert by_formula.elements == by_column.elements == ("Al", "Co", "Ni")
    np.testing.assert_allclose(by_column.compositions, EIGHT, atol=1e-12)
    np.testing.assert_allclose(by_formula.compositions, EIGHT, atol=1e-12)
    np.testing.assert_array_equal(by_formula.values[:, 0], 100 + np.arange(8))
    assert by_formula.units == {"hardness_HV": "HV"}
    assert np.isnan(by_formula.uncertainty).all()


def test_weight_percent_becomes_atomic_by_the_atomic_masses(tmp_path: Path) -> None:
    # IUPAC 2021: Ti 47.867, Al 26.982, V 50.942
    rows = [f"Ti-{4 + 0.5 * i}Al-4V,{300 + i}" for i in range(8)]
    table = read(written(tmp_path, "alloy (wt%),hardness (HV)", rows))
    moles = {"Ti": 92 / 47.867, "Al": 4 / 26.982, "V": 4 / 50.942}
    share = [moles[e] / sum(moles.values()) for e in table.elements]
    np.testing.assert_allclose(table.compositions[0], share, rtol=2e-5)


def test_one_alloy_in_several_rows_is_merged_with_its_scatter(tmp_path: Path) -> None:
    table = read(plain(tmp_path, f"{FORMULAS[0]},110", f"{FORMULAS[0]},120"))
    assert len(table.values) == 8
    assert table.values[0, 0] == pytest.approx(110)  # of 100, 110, 120
    assert table.uncertainty[0, 0] == pytest.approx(10 / math.sqrt(3))  # s = 10, of the mean
    assert table.lines[0] == (2, 10, 11)
    assert "compositions by the column alloy" in table.notes
    assert any("1 alloy in several rows" in note and "100 to 120" in note for note in table.notes)


def test_uncertainties_from_a_column_from_the_cell_and_from_repeats(tmp_path: Path) -> None:
    header = "alloy,hardness (HV),± hardness (HV),hardness_HV_spread,hardness_HV_count"
    rows = [f"{f},100,,," for f in FORMULAS]
    rows[0] = f"{FORMULAS[0]},100,7,,"
    rows[1] = f"{FORMULAS[1]},100 ± 8,,,"
    rows[2] = f"{FORMULAS[2]},100,,12,4"
    table = read(written(tmp_path, header, rows))
    np.testing.assert_allclose(table.uncertainty[:4, 0], [7, 8, 6, np.nan])


def test_rows_without_the_property_are_left_aside_and_counted(tmp_path: Path) -> None:
    path = plain(tmp_path, "Al0.30Co0.20Ni0.50,", "Al0.31Co0.19Ni0.50,n/a")
    table = read(path)
    assert len(table.values) == 8
    assert "2 lack hardness_HV" in table.notes


def test_only_some_rows_and_labels_that_are_part_of_the_alloy(tmp_path: Path) -> None:
    header = "alloy,route,hardness (HV)"
    rows = [f"{f},CAST,{100 + i}" for i, f in enumerate(FORMULAS)]
    rows += [f"{f},ANNEAL,{200 + i}" for i, f in enumerate(FORMULAS)]
    path = written(tmp_path, header, rows)
    cast = read(path, only={"route": "CAST"})
    assert cast.values[:, 0].tolist() == [100.0 + i for i in range(8)]
    both = read(path, labels=["route"])
    assert both.labels["route"] == ("CAST",) * 8 + ("ANNEAL",) * 8
    merged = read(path)
    assert merged.values[:, 0].tolist() == [150.0 + i for i in range(8)]


def test_what_rounding_of_the_figures_explains_is_closed(tmp_path: Path) -> None:
    table = read(plain(tmp_path, "Al0.333Co0.333Ni0.333,300"))
    np.testing.assert_allclose(table.compositions[-1], 1 / 3)


@pytest.mark.parametrize(
    ("header", "row", "words"),
    [
        ("alloy,hardness (HV)", "Al0.5Co0.6,1", ["line 10", "sums to 1.1", "--normalise"]),
        ("alloy,hardness (HV)", "Alu0.5Co0.5,1", ["line 10", "column alloy", "element"]),
        ("alloy,hardness (HV)", "Ti-6Al-4V,1", ["line 10", "percent of what"]),
        ("alloy,hardness (HV)", "Ni 80 wt% Cr 20 at%,1", ["mixes weight and atomic"]),
        ("alloy,hardness (HV)", ",1", ["line 10, column alloy", "got nothing"]),
        ("alloy,hardness (HV)", 'AlNi,"1,5"', ["decimal comma"]),
        ("alloy,hardness (HV)", "AlNi,hard", ["line 10, column hardness (HV)", "a number"]),
        ("alloy,hardness (HV)", "AlNi,-5", ["outside the physical range"]),
        ("alloy,hardness (HV)", "AlNi,5 ± -1", ["uncertainty >= 0"]),
        ("alloy,hardness", "AlNi,5", ["does not say its unit", "hardness (MPa)"]),
        ("alloy,yield (MPa)", "AlNi,5", ["unknown property 'hardness_HV'"]),
        ("alloy,alloy", "AlNi,5", ["appears twice"]),
        ("id,hardness (HV)", "AlNi,5", ["no compositions", "--formula"]),
    ],
)
def test_what_cannot_be_used_is_named(
    tmp_path: Path, header: str, row: str, words: list[str]
) -> None:
    with pytest.raises(InvalidInputError) as refused:
        read(plain(tmp_path, row, header=header))
    for word in words:
        assert word in str(refused.value)


@pytest.mark.parametrize(
    ("header", "row", "words"),
    [
        ("Al (at.%),Co (wt%),hardness (HV)", "50,50,1", ["mixes weight and atomic percent"]),
        ("Al,Al (at.%),hardness (HV)", "50,50,1", ["both of Al"]),
        ("Al,Co,hardness (HV)", "50,50,1", ["percent of what"]),
        ("Al,Co,hardness (HV)", "0.3,1,1", ["sum to 1.3", "--normalise"]),
        ("Al,Co,hardness (HV)", "-0.3,1.3,1", ["share >= 0"]),
        ("Al (at.%),Co (at.%),hardness (HV)", "bal,bal,1", ["second element is the balance"]),
        ("Al (at.%),Co (at.%),hardness (HV)", "100,bal,1", ["leaves nothing to Co"]),
        ("Al (at.%),Xx (at.%),hardness (HV)", "50,50,1", ["unknown element 'Xx'"]),
        ("a:Al,b:Al,hardness (HV)", "1,1,1", ["both of Al"]),
        ("Al,Co,alloy,hardness (HV)", "1,0,Al,1", ["'alloy'", "columns of elements"]),
        ("alloy,C (wt%),hardness (HV)", "FeCr,0.4,1", ["'alloy'", "columns of elements"]),
    ],
)
def test_columns_of_elements_that_cannot_be_used_are_named(
    tmp_path: Path, header: str, row: str, words: list[str]
) -> None:
    with pytest.raises(InvalidInputError) as refused:
        read(written(tmp_path, header, [row] * 8))
    for word in words:
        assert word in str(refused.value)


def test_too_few_alloys_unknown_columns_and_values(tmp_path: Path) -> None:
    path = written(tmp_path, "alloy,route,hardness (HV)", ["AlNi,CAST,5"] * 9)
    with pytest.raises(
        InvalidInputError, match="1 different alloys, and proposals need at least 8"
    ):
        read(path)
    with pytest.raises(InvalidInputError, match="unknown column 'rout'; did you mean 'route'"):
        read(path, only={"rout": "CAST"})
    with pytest.raises(InvalidInputError, match="unknown value of route 'CST'; did you mean"):
        read(path, only={"route": "CST"})
    with pytest.raises(InvalidInputError, match="asked for twice"):
        read(path, "hardness_HV", "hardness (HV)")
