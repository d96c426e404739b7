"""Energy above the hull: pymatgen against hand calculation, and files as users bring them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loop.errors import InvalidInputError
from simulators.hull import EnergyHull

ENTRIES: list[tuple[str, float]] = [
    ("Al", -3.7),
    ("Ni", -5.5),
    ("Ni3Al", -5.50),
    ("NiAl", -5.20),
    ("NiAl3", -4.50),
]


def test_stable_and_unstable_compounds() -> None:
    """Tie-line Ni3Al-NiAl at Ni5Al3: atoms 4/8 from each, energy -5.35."""
    hull = EnergyHull(ENTRIES)
    assert hull.elements == ("Al", "Ni")
    assert hull.energy("Ni3Al") == pytest.approx(-5.5)
    assert hull.energy("Ni5Al3") == pytest.approx(-5.35)
    assert hull.decomposition("Ni5Al3") == pytest.approx({"AlNi3": 0.5, "AlNi": 0.5})
    assert hull.above("Ni5Al3", -5.30) == pytest.approx(0.05)
    assert hull.above("Ni5Al3", -5.40) == pytest.approx(-0.05)
    # NiAl3 lies at the mixture of NiAl and Al: 0.5 (-5.2) + 0.5 (-3.7) = -4.45 > -4.50.
    assert hull.above("NiAl3", -4.50) == pytest.approx(0.0, abs=1e-12)
    assert hull.energy({"Ni": 0.75, "Al": 0.25}) == pytest.approx(-5.5)


def test_files(tmp_path: Path) -> None:
    table = tmp_path / "entries.csv"
    table.write_text("composition,energy_eV_per_atom\n" + "\n".join(f"{f},{e}" for f, e in ENTRIES))
    assert EnergyHull.load(table).energy("Ni5Al3") == pytest.approx(-5.35)
    listed = tmp_path / "entries.json"
    computed = [
        {"composition": {"Al": 1}, "energy": -3.7},
        {"composition": {"Ni": 4}, "energy": -21.0, "correction": -1.0},
        {"composition": {"Ni": 3, "Al": 1}, "energy": -22.0, "correction": None},
    ]
    listed.write_text(json.dumps(computed))
    assert EnergyHull.load(listed).energy("Ni7Al") == pytest.approx(-5.5)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "no entries"),
        ([("Ni3Al", -5.5), ("Ni", -5.5)], "no pure Al"),
        ([("Ni", float("nan"))], "expected a finite number"),
        ([("Qq", -1.0)], "no composition"),
        ([("", -1.0)], "no composition"),
    ],
)
def test_wrong_entries_are_named(entries: list[tuple[str, float]], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        EnergyHull(entries)


def test_wrong_questions_are_named() -> None:
    hull = EnergyHull(ENTRIES)
    with pytest.raises(InvalidInputError, match="contains Cr, which the entries do not have"):
        hull.energy("NiCr")
    with pytest.raises(InvalidInputError, match="expected a finite number"):
        hull.above("Ni3Al", float("nan"))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "composition,energy\nNi,-5.5\n", "no column 'energy_eV_per_atom'"),
        ("a.csv", "composition,energy_eV_per_atom\nNi,much\n", "expected a finite number"),
        ("a.csv", "", "not a table"),
        ("a.json", "{", "not JSON"),
        ("a.json", '[{"formula": "Ni"}]', "entry 0 has no composition and energy"),
        ("a.json", '[{"composition": {"Ni": 1}, "energy": "x"}]', "expected a number in eV"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InvalidInputError, match=message):
        EnergyHull.load(path)
    with pytest.raises(InvalidInputError, match="cannot be read"):
        EnergyHull.load(tmp_path / ("absent" + path.suffix))
