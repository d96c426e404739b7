"""A library's rows and the constraints of its space: left aside, counted, or spared as data."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from loop.campaign import load_campaign
from loop.errors import InvalidInputError
from loop.library import Library
from loop.made_designs import MadeDesigns
from loop.space import DesignSpace
from tests import libraries

ELEMENTS = ("Ni", "Al", "Cr")
CAMPAIGN = """
[campaign]
name = "test"
[space]
phases = [{phases}]
elements = ["Ni", "Al", "Cr"]
{space}
[compositions]
file = "table.csv"
[targets.density_g_per_cm3]
minimise = true
[simulators]
use = ["composite-chain"]
{more}
"""


def table(n: int, *phases: str) -> str:
    """n rows with 1 %, 2 %, … of Cr and half as much Al in every phase."""
    header = ",".join(f"{p}:{e}" for p in phases for e in ELEMENTS)
    rows = [f"{1 - 0.015 * i:.3f},{0.005 * i:.3f},{0.01 * i:.2f}" for i in range(1, n + 1)]
    return "\n".join([header, *(",".join([row] * len(phases)) for row in rows)]) + "\n"


def load(
    folder: Path,
    space: str,
    *,
    rows: int = 40,
    phases: tuple[str, ...] = ("alloy",),
    more: str = "",
) -> Library:
    named = ", ".join(f'"{p}"' for p in phases)
    text = CAMPAIGN.format(phases=named, space=space, more=more)
    (folder / "campaign.toml").write_text(text)
    (folder / "table.csv").write_text(table(rows, *phases))
    return Library.load(load_campaign(folder))


def test_rows_that_break_a_constraint_are_left_aside(tmp_path: Path) -> None:
    library = load(tmp_path, 'constraints = ["Cr >= 0.2", "Ni + Cr >= 0.8"]')
    assert library.outside == 19
    assert library.table is not None
    assert library.table[:, 0, 2] == pytest.approx(np.arange(20, 41) / 100)
    for design in library.draw(60, rng=np.random.default_rng(0)):
        assert library.space.violations(design) == []


def test_no_row_is_left(tmp_path: Path) -> None:
    """40 rows: Cr from 1 to 40 %, Al from 0.5 to 20 %."""
    with pytest.raises(InvalidInputError) as caught:
        load(tmp_path, 'constraints = ["Al >= 0.15", "Cr >= 0.5", "Ni >= 0.1"]')
    assert "none of the 40 rows within [space.bounds] meets all of space.constraints" in str(
        caught.value
    )
    assert "'Cr >= 0.5' turns away 40, 'Al >= 0.15' 29;" in str(caught.value)


def test_fewer_designs_are_left_than_a_surrogate_needs(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"'Cr >= 0\.34' turns away 33; .* makes 7 designs"):
        load(tmp_path, 'constraints = ["Cr >= 0.34"]')
    assert load(tmp_path, 'constraints = ["Cr >= 0.33"]').outside == 32
    # Every row makes as many designs as a free label has values, and any number with a process.
    for more in ('[space.labels]\nroute = ["CAST", "WROUGHT"]', "[space.process]\nT = [1.0, 2.0]"):
        assert load(tmp_path, f'constraints = ["Cr >= 0.34"]\n{more}').outside == 33


def test_without_constraints_a_small_table_is_as_good_as_before(tmp_path: Path) -> None:
    assert load(tmp_path, "", rows=3).outside == 0


def test_known_alloys_may_break_constraints(tmp_path: Path) -> None:
    more = '[simulators.settings.composite-chain]\notherwise = "ask"'
    library = load(tmp_path, 'constraints = ["Cr >= 0.5"]', more=more)
    assert library.outside == 0
    assert library.table is not None
    assert len(library.table) == 40


def test_each_phase_has_constraints_of_its_own(tmp_path: Path) -> None:
    space = '[space.constraints]\na = ["Cr >= 0.2"]\nb = ["Cr <= 0.3"]'
    library = load(tmp_path, space, phases=("a", "b"))
    assert library.table is not None
    assert library.table[:, 1, 2] == pytest.approx(np.arange(20, 31) / 100)
    with pytest.raises(InvalidInputError, match=r"'a: Cr >= 0\.5' turns away 40, 'b: Cr"):
        load(tmp_path, space.replace("0.2", "0.5"), phases=("a", "b"))


def test_made_designs_that_break_a_constraint_are_left_aside(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    images = np.stack(libraries.blobs(14, rng, side=32))
    chromium = np.linspace(0.05, 0.3, 14)
    x = np.stack([1 - chromium - 0.1, np.full(14, 0.1), chromium], axis=1)
    made = MadeDesigns(
        images, np.arange(14), np.stack([x, x], axis=1), np.zeros((14, 0)), variables=()
    )
    load(tmp_path, "", phases=("a", "b"))
    campaign = load_campaign(tmp_path)

    def library(limit: float) -> Library:
        space = DesignSpace(
            ("a", "b"), ELEMENTS, (32, 32), phase_constraints={"b": (f"Cr >= {limit}",)}
        )
        return Library.of_made(dataclasses.replace(campaign, space=space), made)

    found = library(0.15)
    assert found.outside == int((chromium < 0.15).sum())
    assert found.data_hash == made.digest()
    for split in ("train", "val"):
        for design in found.draw(20, rng=rng, split=split):
            assert found.space.violations(design) == []
    with pytest.raises(InvalidInputError, match=r"'b: Cr >= 0\.5' turns away 14"):
        library(0.5)
