"""Labels of a library: columns of the table belong to its rows, others take any value."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from loop.campaign import load_campaign
from loop.designs import Bank, screened_designs
from loop.errors import InvalidInputError
from loop.features import Features
from loop.library import Library
from loop.surrogate import Surrogate
from loop.targets import Range, Targets

CAMPAIGN = """
[campaign]
name = "test"
[space]
phases = ["alloy"]
elements = ["Ni", "Al"]
[space.labels]
processing = ["CAST", "ANNEAL"]
quench = ["air", "oil", "water"]
[compositions]
file = "table.csv"
[targets.hardness_HV]
maximise = true
[simulators]
use = ["measured"]
"""
ROWS = "alloy:Ni,processing,alloy:Al,remark\n0.9,CAST,0.1,\n0.8,ANNEAL,0.2,\n0.7,CAST,0.3,old\n"
ROUTE = {0.9: "CAST", 0.8: "ANNEAL", 0.7: "CAST"}


def write(folder: Path, rows: str = ROWS) -> Library:
    (folder / "campaign.toml").write_text(CAMPAIGN)
    (folder / "table.csv").write_text(rows)
    return Library.load(load_campaign(folder))


def test_a_column_belongs_to_its_row_and_the_rest_is_drawn(tmp_path: Path) -> None:
    library = write(tmp_path)
    designs = library.draw(300, rng=np.random.default_rng(0))
    for design in designs:
        assert library.space.violations(design) == []
        assert design.phase_compositions is not None
        assert design.labels["processing"] == ROUTE[float(design.phase_compositions[0, 0])]
    drawn = [d.labels["quench"] for d in designs]
    for value in ("air", "oil", "water"):  # 100 expected, deviation 8.2, four of them
        assert drawn.count(value) == pytest.approx(100, abs=33)
    assert designs == library.draw(300, rng=np.random.default_rng(0))
    codes = library.parts(5, rng=np.random.default_rng(1)).labels
    assert codes.shape == (5, 2)
    assert codes.dtype == np.int64


def test_rows_with_other_labels_are_left_aside(tmp_path: Path) -> None:
    library = write(tmp_path, ROWS + "0.6,POWDER,0.4,\n")
    assert library.outside == 1
    assert library.table is not None
    assert library.table[:, 0, 0].tolist() == [0.9, 0.8, 0.7]


def test_an_empty_cell_names_its_place(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidInputError, match="line 3, column processing: got nothing; expected the value"
    ):
        write(tmp_path, ROWS.replace("0.8,ANNEAL", "0.8,"))


def test_a_table_whose_labels_are_all_others(tmp_path: Path) -> None:
    rows = ROWS.replace("CAST", "cast").replace("ANNEAL", "anneal")
    with pytest.raises(
        InvalidInputError,
        match=r"column processing: no row has one of the values in space\.labels\.processing: "
        r"unknown value 'cast'",
    ):
        write(tmp_path, rows)


def test_a_table_without_a_row_that_has_all_its_labels(tmp_path: Path) -> None:
    rows = "alloy:Ni,alloy:Al,processing,quench\n0.9,0.1,CAST,sand\n0.8,0.2,WROUGHT,oil\n"
    with pytest.raises(
        InvalidInputError, match=r"no row has values of all of processing, quench that are in"
    ):
        write(tmp_path, rows)


def test_screened_designs_keep_rows_and_labels_together(tmp_path: Path) -> None:
    """And the surrogate sees the labels: the property is one of the route alone."""
    library = write(tmp_path)
    features = Features.fit(library.space, None)
    rng = np.random.default_rng(2)
    known = library.draw(40, rng=rng)
    y = np.array([[400.0 if d.labels["processing"] == "ANNEAL" else 200.0] for d in known])
    noisy = y + rng.normal(size=y.shape)
    surrogate = Surrogate(("hardness_HV",)).fit(features.transform(known), noisy, rng=rng)
    designs, values = screened_designs(
        40,
        space=library.space,
        library=library,
        bank=Bank.draw(library, features, 8, rng),
        features=features,
        surrogate=surrogate,
        targets=Targets((Range("hardness_HV", 380.0, 420.0),)),
        rng=rng,
    )
    for design, value in zip(designs, values[:, 0].tolist(), strict=True):
        assert design.phase_compositions is not None
        route = design.labels["processing"]
        assert route == ROUTE[float(design.phase_compositions[0, 0])]
        assert value == pytest.approx(400.0 if route == "ANNEAL" else 200.0, abs=20.0)
    assert [d.labels["processing"] for d in designs[:20]] == ["ANNEAL"] * 20  # the nearest half
