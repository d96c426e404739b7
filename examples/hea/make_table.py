"""Makes the tables of this example from the measurements in mpea.csv.

    python make_table.py [FOLDER]                 (default: the folder of this script)
    python make_table.py --original MPEA_dataset.csv [FOLDER]     makes mpea.csv, too

Written are
    alloys.csv        one row per composition, processing and test temperature: means, spreads
                      (standard deviations of the repeats) and counts, and the papers they are from
    hardness.csv      one row per composition, cast and tested at room temperature: the design space
                      of campaign.toml and the laboratory that is replayed
    left_out.csv      every row of mpea.csv, and every cell, that is in neither, and why

Same mpea.csv, same files, byte for byte. Run it in an environment in which spinodal is installed.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loop.errors import InvalidInputError
from loop.formula import formula_amounts, parse_composition
from simulators.measured_files import Rows, csv_text, read_number, read_rows, write_whole

HERE = Path(__file__).resolve().parent
UNKNOWN = "not stated"
ROOM_C = (15.0, 35.0)  # what counts as room temperature

# Column of mpea.csv -> column of the published table.
ORIGINAL: Mapping[str, str] = {
    "paper": "IDENTIFIER: Reference ID",
    "formula": "FORMULA",
    "processing": "PROPERTY: Processing method",
    "test": "PROPERTY: Type of test",
    "test_temperature_C": r"PROPERTY: Test temperature ($^\circ$C)",
    "hardness_HV": "PROPERTY: HV",
    "yield_strength_MPa": "PROPERTY: YS (MPa)",
    "elongation_percent": "PROPERTY: Elongation (%)",
    "density_g_per_cm3": "PROPERTY: Exp. Density (g/cm$^3$)",
    "density_calculated_g_per_cm3": "PROPERTY: Calculated Density (g/cm$^3$)",
    "doi": "REFERENCE: doi",
    "year": "REFERENCE: year",
}

PROCESSING = ("ANNEAL", "CAST", "OTHER", "POWDER", "WROUGHT")
TESTS = {"C": "compression", "T": "tension"}

# Column of alloys.csv -> least and greatest value that is possible.
PROPERTIES: Mapping[str, tuple[float, float]] = {
    "hardness_HV": (0.0, 12000.0),  # diamond ends the scale
    "yield_strength_MPa": (0.0, 10000.0),
    "elongation_tension_percent": (0.0, 1000.0),
    # Engineering strain in compression ends at 100 %; true strains may be larger.
    "elongation_compression_percent": (0.0, 1000.0),
    "density_g_per_cm3": (0.1, 25.0),
    "density_calculated_g_per_cm3": (0.1, 25.0),
}
ABSOLUTE_ZERO_C = -273.15


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row (``column`` empty) or a cell of mpea.csv that was not used."""

    line: int
    column: str
    text: str
    reason: str


@dataclass(slots=True)
class Alloy:
    """Measurements of one composition, processing and test temperature (None: not stated)."""

    composition: str
    processing: str
    temperature: float | None
    papers: set[int] = field(default_factory=set)
    tests: set[str] = field(default_factory=set)
    values: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


def extract(original: Path) -> str:
    """mpea.csv: the columns that are needed of the published table, cells unchanged."""
    table = read_rows(original, "table")
    for column in ORIGINAL.values():
        if column not in table.header:
            raise InvalidInputError(f"table {original} lacks the column {column!r}")
    rows = [[cells[column] for column in ORIGINAL.values()] for _, cells in table.rows]
    return csv_text([list(ORIGINAL), *rows])


def canonical(formula: str) -> str:
    """The formula as atomic fractions with six decimals, elements by alphabet."""
    x = parse_composition(formula)
    named = {element: round(value, 6) for element, value in x.items()}
    return "".join(f"{e}{named[e]:g}" for e in sorted(named) if named[e])


def _measured(table: Rows, line: int, cells: Mapping[str, str]) -> tuple[dict[str, float], str]:
    """The row's properties, and why some cell of it cannot be used (empty when all can)."""
    found: dict[str, float] = {}
    for column in ("hardness_HV", "yield_strength_MPa", "elongation_percent"):
        if not cells[column]:
            continue
        name = column
        if column == "elongation_percent":
            if cells["test"] not in TESTS:
                return found, f"{column}: test is {cells['test']!r}; expected C or T"
            name = f"elongation_{TESTS[cells['test']]}_percent"
        found[name] = read_number(cells[column], table.where(line, column))
    for column in ("density_g_per_cm3", "density_calculated_g_per_cm3"):
        if cells[column]:
            found[column] = read_number(cells[column], table.where(line, column))
    return found, ""


def _row(table: Rows, line: int, cells: Mapping[str, str]) -> tuple[Alloy, dict[str, float]]:
    """One row of mpea.csv; InvalidInputError for what cannot be read or is not possible."""
    processing = cells["processing"] or UNKNOWN
    if processing not in (*PROCESSING, UNKNOWN):
        raise InvalidInputError(
            f"processing is {processing!r}; expected one of {', '.join(PROCESSING)}, or nothing"
        )
    temperature = None
    if cells["test_temperature_C"]:
        temperature = read_number(
            cells["test_temperature_C"], table.where(line, "test_temperature_C")
        )
        if temperature < ABSOLUTE_ZERO_C:
            raise InvalidInputError(f"test temperature {temperature:g} °C is below absolute zero")
    values, problem = _measured(table, line, cells)
    if problem:
        raise InvalidInputError(problem)
    for name, value in values.items():
        low, high = PROPERTIES[name]
        if not low <= value <= high:
            raise InvalidInputError(
                f"{name} is {value:g}; expected a value from {low:g} to {high:g}"
            )
    if not values.keys() - {"density_calculated_g_per_cm3"}:
        raise InvalidInputError("nothing of what this example uses was measured")
    alloy = Alloy(canonical(cells["formula"]), processing, temperature)
    alloy.papers.add(int(read_number(cells["paper"], table.where(line, "paper"))))
    if cells["test"]:
        alloy.tests.add(TESTS.get(cells["test"], cells["test"]))
    return alloy, values


def merge(table: Rows) -> tuple[list[Alloy], list[LeftOut]]:
    """Alloys in the order of the file, and what was left out of them."""
    found: dict[tuple[str, str, float | None], Alloy] = {}
    left: list[LeftOut] = []
    seen: dict[tuple[object, ...], int] = {}
    for line, cells in table.rows:
        try:
            new, values = _row(table, line, cells)
        except InvalidInputError as error:
            left.append(LeftOut(line, "", cells["formula"], str(error)))
            continue
        key = (new.composition, new.processing, new.temperature)
        # A paper that gives one measurement twice has made it once.
        same = (*key, *sorted(new.papers), *sorted(new.tests), *sorted(values.items()))
        if same in seen:
            reason = f"the same measurement of the same paper as line {seen[same]}"
            left.append(LeftOut(line, "", cells["formula"], reason))
            continue
        seen[same] = line
        alloy = found.setdefault(key, new)
        alloy.papers |= new.papers
        alloy.tests |= new.tests
        for name, value in values.items():
            alloy.values[name].append(value)
    return list(found.values()), left


def _number(value: float) -> str:
    return format(value, ".6g")


def _figures(values: Sequence[float]) -> list[str]:
    """Mean, standard deviation of the repeats (none of a single one) and count."""
    if not values:
        return ["", "", ""]
    spread = _number(statistics.stdev(values)) if len(values) > 1 else ""
    return [_number(statistics.fmean(values)), spread, str(len(values))]


def alloys_csv(alloys: Iterable[Alloy]) -> str:
    header = ["composition", "processing", "test_temperature_C", "tests", "papers"]
    for name in PROPERTIES:
        header += [name, f"{name}_spread", f"{name}_count"]
    rows: list[list[str]] = []
    for alloy in alloys:
        temperature = "" if alloy.temperature is None else _number(alloy.temperature)
        row = [alloy.composition, alloy.processing, temperature]
        row += [";".join(sorted(alloy.tests)), ";".join(map(str, sorted(alloy.papers)))]
        for name in PROPERTIES:
            row += _figures(alloy.values.get(name, []))
        rows.append(row)
    return csv_text([header, *rows])


def at_room_temperature(alloy: Alloy) -> bool:
    """Tested at room temperature; a hardness without a temperature was."""
    return alloy.temperature is None or ROOM_C[0] <= alloy.temperature <= ROOM_C[1]


def hardness_csv(alloys: Iterable[Alloy]) -> str:
    """Cast alloys by composition: fractions, hardness, and its standard uncertainty.

    That is the standard deviation of the mean where there are repeats, and not known elsewhere.
    Nor where they are all the same: two papers that agree to a digit quote one measurement.
    """
    merged: dict[str, list[float]] = defaultdict(list)
    for alloy in alloys:
        if alloy.processing == "CAST" and at_room_temperature(alloy):
            merged[alloy.composition] += alloy.values.get("hardness_HV", [])
    merged = {text: values for text, values in merged.items() if values}
    amounts = {text: formula_amounts(text) for text in merged}
    elements = sorted({element for found in amounts.values() for element in found})
    header = ["name", *(f"alloy:{e}" for e in elements), "hardness_HV", "hardness_HV_uncertainty"]
    rows: list[list[str]] = []
    for text in sorted(merged):
        values = merged[text]
        uncertainty = ""
        if len(set(values)) > 1:
            uncertainty = _number(statistics.stdev(values) / math.sqrt(len(values)))
        fractions = [_number(amounts[text].get(e, 0.0)) for e in elements]
        rows.append([text, *fractions, _number(statistics.fmean(values)), uncertainty])
    return csv_text([header, *rows])


def left_out_csv(left: Iterable[LeftOut]) -> str:
    rows = [[str(item.line), item.text, item.reason] for item in left]
    return csv_text([["line_of_mpea", "formula", "reason"], *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes the tables of this example.")
    parser.add_argument("folder", nargs="?", type=Path, default=HERE)
    parser.add_argument("--original", type=Path, help="the published table")
    given = parser.parse_args()
    source = HERE / "mpea.csv"
    if given.original is not None:
        source = given.folder / "mpea.csv"
        write_whole(source, extract(given.original))
    alloys, left = merge(read_rows(source, "table"))
    write_whole(given.folder / "alloys.csv", alloys_csv(alloys))
    write_whole(given.folder / "hardness.csv", hardness_csv(alloys))
    write_whole(given.folder / "left_out.csv", left_out_csv(left))


if __name__ == "__main__":
    main()
