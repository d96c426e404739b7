"""The high-entropy-alloy example: its tables are what the script makes, and they agree."""

from __future__ import annotations

import csv
import importlib.util
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from loop.campaign import Campaign, load_campaign
from loop.candidate import Candidate
from loop.checks import check_outputs, check_targets
from loop.errors import InvalidInputError
from loop.formula import formula_amounts, parse_composition
from loop.library import Library
from simulators import registry
from simulators.measured_files import csv_text, parse_rows, read_rows

EXAMPLE = Path(__file__).parents[2] / "examples" / "hea"
TABLES = ("alloys.csv", "hardness.csv", "left_out.csv")


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("make_table", EXAMPLE / "make_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    monkeypatch.undo()


@pytest.fixture(scope="module")
def campaign() -> Campaign:
    return load_campaign(EXAMPLE)


def rows_of(name: str) -> list[dict[str, str]]:
    with (EXAMPLE / name).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_script_makes_the_committed_tables(script: ModuleType) -> None:
    alloys, left = script.merge(read_rows(EXAMPLE / "mpea.csv", "table"))
    made = (script.alloys_csv(alloys), script.hardness_csv(alloys), script.left_out_csv(left))
    for name, text in zip(TABLES, made, strict=True):
        assert (EXAMPLE / name).read_text(encoding="utf-8") == text, name


def test_every_row_is_in_a_table_or_among_those_left_out() -> None:
    raw, alloys, left = (rows_of(n) for n in ("mpea.csv", "alloys.csv", "left_out.csv"))
    assert len(raw) == 1545
    lines = [int(row["line_of_mpea"]) for row in left]
    assert len(set(lines)) == len(lines)
    assert all(row["reason"] for row in left)
    # Every row of the published table has a calculated density, so that it counts the rows.
    used = sum(int(row["density_calculated_g_per_cm3_count"] or 0) for row in alloys)
    assert used + len(left) == len(raw)
    for column in ("hardness_HV", "yield_strength_MPa"):
        kept = sum(int(row[f"{column}_count"] or 0) for row in alloys)
        gone = sum(bool(raw[line - 2][column]) for line in lines)
        assert kept + gone == sum(bool(row[column]) for row in raw)


def test_one_merged_alloy_by_hand() -> None:
    """Al0.5CoCrCuFeNi, cast: 300, 225 and 215 HV in three papers, 388 MPa in a fourth."""
    (merged,) = [
        row
        for row in rows_of("alloys.csv")
        if row["composition"] == "Al0.090909Co0.181818Cr0.181818Cu0.181818Fe0.181818Ni0.181818"
        and row["processing"] == "CAST"
        and row["test_temperature_C"] == "25"
    ]
    values = [300.0, 225.0, 215.0]
    assert merged["papers"] == "23;24;25;64"
    assert merged["hardness_HV_count"] == "3"
    assert float(merged["hardness_HV"]) == pytest.approx(statistics.fmean(values), rel=1e-5)
    assert float(merged["hardness_HV_spread"]) == pytest.approx(statistics.stdev(values), rel=1e-5)
    assert (merged["yield_strength_MPa"], merged["yield_strength_MPa_spread"]) == ("388", "")
    # A fourth hardness has no test temperature; the campaign takes it as one of room temperature.
    (design,) = [r for r in rows_of("hardness.csv") if r["name"] == merged["composition"]]
    values.append(160.0)
    assert float(design["hardness_HV"]) == pytest.approx(statistics.fmean(values), rel=1e-5)
    error = statistics.stdev(values) / 2
    assert float(design["hardness_HV_uncertainty"]) == pytest.approx(error, rel=1e-5)


def test_merged_rows_are_each_alloy_once() -> None:
    rows = rows_of("alloys.csv")
    keys = [(r["composition"], r["processing"], r["test_temperature_C"]) for r in rows]
    assert len(set(keys)) == len(keys)
    for row in rows:
        x = np.array(list(formula_amounts(row["composition"]).values()))
        assert x.sum() == pytest.approx(1.0, abs=1e-5)
        for column in ("hardness_HV", "yield_strength_MPa"):
            assert bool(row[column]) == (row[f"{column}_count"] not in ("", "0"))
            assert bool(row[f"{column}_spread"]) == (int(row[f"{column}_count"] or 0) > 1)


def one_row(script: ModuleType, **cells: str) -> str:
    """Why a table of one row, plain but for ``cells``, leaves it out; empty if it does not."""
    plain = dict.fromkeys(script.ORIGINAL, "") | {
        "paper": "1",
        "formula": "Fe1 Ni1",
        "test": "T",
        "hardness_HV": "200",
        "test_temperature_C": "25",
    }
    text = csv_text([list(plain), list((plain | cells).values())])
    alloys, left = script.merge(parse_rows(text.encode(), "mpea.csv", "table"))
    assert len(alloys) + len(left) == 1
    return "".join(item.reason for item in left)


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"hardness_HV": "200.5"}, ""),
        ({"formula": "Fe1 Xx1"}, "unknown element 'Xx'"),
        ({"formula": "Fe0.5 Ni0.6"}, "sums to 1.1"),
        ({"formula": "Fe90 at% Ni10 wt%"}, "mixes weight and atomic percent"),
        ({"hardness_HV": "200,5"}, "'200,5' has a decimal comma; use a point"),
        ({"hardness_HV": "200 HV"}, "got '200 HV'; expected a number"),
        ({"hardness_HV": "-200"}, "hardness_HV is -200; expected a value from 0 to 12000"),
        ({"hardness_HV": "nan"}, "expected a finite number"),
        ({"hardness_HV": ""}, "nothing of what this example uses was measured"),
        ({"processing": "FORGED"}, "processing is 'FORGED'; expected one of ANNEAL"),
        ({"test_temperature_C": "-300"}, "below absolute zero"),
        ({"test": "", "elongation_percent": "3"}, "test is ''; expected C or T"),
    ],
)
def test_rows_that_cannot_be_read_say_why(
    script: ModuleType, cells: dict[str, str], reason: str
) -> None:
    found = one_row(script, **cells)
    assert reason in found
    assert bool(found) == bool(reason)


def test_a_published_table_without_a_column(script: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "other.csv"
    file.write_text("FORMULA\nFe1\n")
    with pytest.raises(InvalidInputError, match="lacks the column 'IDENTIFIER: Reference ID'"):
        script.extract(file)


def test_formulas_come_back_as_they_were_written(script: ModuleType) -> None:
    known = {row["composition"] for row in rows_of("alloys.csv")}
    left = {row["line_of_mpea"] for row in rows_of("left_out.csv")}
    used = {r["formula"] for i, r in enumerate(rows_of("mpea.csv"), 2) if str(i) not in left}
    for formula in used:
        text = script.canonical(formula)
        assert text in known
        expected, found = parse_composition(formula), formula_amounts(text)
        assert found.keys() == expected.keys()
        assert max(abs(found[e] - expected[e]) for e in expected) < 1e-6


def test_campaign_replays_its_own_designs(campaign: Campaign) -> None:
    (simulator,) = registry.create_all(
        campaign.simulators.use,
        space=campaign.space,
        settings=campaign.simulators.settings,
        folder=campaign.folder,
    )
    check_outputs([simulator])
    check_targets(campaign.targets, [simulator])
    library = Library.load(campaign)
    assert library.table is not None
    rows = rows_of("hardness.csv")
    assert len(library.table) == len(rows) == campaign.loop.pool
    assert library.outside == 0
    candidates = [
        Candidate(
            phases=campaign.space.phases,
            elements=campaign.space.elements,
            phase_compositions=x,
        )
        for x in library.table
    ]
    outcomes = simulator.evaluate(candidates)
    assert [o.status for o in outcomes] == ["ok"] * len(rows)
    values = [o.values["hardness_HV"] for o in outcomes]
    assert values == [float(row["hardness_HV"]) for row in rows]
    # The target's threshold is the tenth value.
    assert sum(campaign.targets.met(o.values) for o in outcomes) == 10
    assert sorted(values)[-10] == campaign.targets.items[0].low
