"""Designs on a tie-line: phases in equilibrium, fractions by the lever rule, ready to be scored."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from typer.testing import CliRunner, Result

from flows.assembly import open_library
from flows.tie_line import TieLine, tie_line_of_campaign
from flows.tie_line_designs import FieldImages, designs_on, matched
from interface.cli import app
from loop.campaign import Campaign, load_campaign
from loop.errors import InvalidInputError

NAME = "contact"
SIDE = 16
CAMPAIGN = """
[campaign]
name = "contact"
seed = 3
[space]
phases = ["copper_rich", "silver_rich"]
elements = ["Ag", "Cu"]
[space.bounds.silver_rich]
Cu = [0.0, 0.3]
[space.process]
temperature_K = [900.0, 1000.0]
time_s = [100.0, 200.0]
[images]
folder = "labels"
labels = ["copper_rich", "silver_rich"]
patch = 16
[compositions]
file = "compositions.csv"
[targets.density_g_per_cm3]
range = [9.0, 10.0]
[simulators]
use = ["composite-chain", "phase-equilibrium"]
[simulators.settings.composite-chain]
outputs = ["density_g_per_cm3", "thermal_conductivity_W_per_mK"]
[simulators.settings.phase-equilibrium]
outputs = ["equilibrium_mismatch"]
[simulators.settings.phase-equilibrium.solution]
source = "Ag-Cu, fcc"
[simulators.settings.phase-equilibrium.solution.interactions]
Ag-Cu = [[36061.88, -10.44288], [-4310.12, 0.0]]
"""
WORDS = ("Ag60Cu40 at%", "--path", "tie-line", "--campaign", NAME, "--temperature", "950")


def write(folder: Path) -> Campaign:
    rng = np.random.default_rng(5)
    (folder / "labels").mkdir(parents=True)
    for i in range(3):
        field = ndimage.gaussian_filter(rng.normal(size=(48, 48)), 2.0, mode="wrap")
        image = (field > np.quantile(field, rng.uniform(0.4, 0.6))).astype(np.uint8)
        Image.fromarray(image).save(folder / "labels" / f"spot{i}.png")
    lines = ["copper_rich:Ag,copper_rich:Cu,silver_rich:Ag,silver_rich:Cu"]
    for _ in range(24):
        a, b = rng.uniform(0.02, 0.1), rng.uniform(0.85, 0.95)
        lines.append(f"{a!r},{1 - a!r},{b!r},{1 - b!r}")
    (folder / "compositions.csv").write_text("\n".join(lines) + "\n")
    (folder / "campaign.toml").write_text(CAMPAIGN)
    return load_campaign(folder)


@pytest.fixture
def campaign(in_scratch: Path) -> Campaign:
    return write(in_scratch / NAME)


def call(*words: str) -> Result:
    return CliRunner().invoke(app, ["interpolate", *words])


def points(*words: str) -> list[dict[str, Any]]:
    done = call(*words, "--json")
    assert done.exit_code == 0, done.output
    found: list[dict[str, Any]] = json.loads(done.stdout)["points"]
    return found


def line_of(campaign: Campaign) -> TieLine:
    return tie_line_of_campaign(campaign, np.array([0.6, 0.4]), 950.0, 7)


def test_phases_and_fractions_are_those_of_the_line(campaign: Campaign, tmp_path: Path) -> None:
    line = line_of(campaign)
    images = FieldImages(open_library(campaign, tmp_path), campaign, seed=0)
    designs = designs_on(line, campaign, images, {"time_s": 150.0}, {})
    # The model calls both phases the same; silver is where the composition says so.
    silver = int(line.compositions[-1, 0] > line.compositions[0, 0])
    assert matched(line, campaign, images.library) == (1 - silver, silver)
    for t, design in zip(line.t, designs, strict=True):
        fraction = t if silver else 1 - t
        exact = np.clip(np.round(fraction * SIDE**2), 1, SIDE**2 - 1) / SIDE**2
        assert design.phase_fractions()[1] == exact
        ends = line.compositions[[0, -1]][[1 - silver, silver]]
        assert np.array_equal(design.phase_compositions, ends)  # type: ignore[arg-type]
        assert campaign.space.violations(design) == []
        assert design.process == {"temperature_K": 950.0, "time_s": 150.0}
    overall = np.array([design.composition() for design in designs])
    assert np.abs(overall - line.compositions).max() <= 1.01 / SIDE**2  # a pixel at the ends
    again = designs_on(line, campaign, images, {"time_s": 150.0}, {})
    assert [d.id for d in again] == [d.id for d in designs]
    other = FieldImages(images.library, campaign, seed=1)
    assert designs_on(line, campaign, other, {"time_s": 150.0}, {})[3].id != designs[3].id


def test_the_line_may_name_its_phases_in_another_order(campaign: Campaign, tmp_path: Path) -> None:
    line = line_of(campaign)
    library = open_library(campaign, tmp_path)
    back = dataclasses.replace(line, compositions=line.compositions[::-1], phases=line.phases[::-1])
    assert matched(back, campaign, library) == matched(line, campaign, library)[::-1]


@pytest.mark.usefixtures("campaign")
def test_every_point_is_scored_and_in_equilibrium() -> None:
    found = points(*WORDS, "--process", "time_s=150", "--steps", "5", "--score")
    assert not Path("runs").exists()  # nothing is begun
    values = [point["outcome"]["values"] for point in found]
    assert max(v["equilibrium_mismatch"] for v in values) < 1e-6
    # Densities of phases by their share of the volume: a straight line in the fraction.
    f = np.clip(np.round(np.linspace(0, 1, 5) * SIDE**2), 1, SIDE**2 - 1) / SIDE**2
    density = np.array([v["density_g_per_cm3"] for v in values])
    slope = (density[-1] - density[0]) / (f[-1] - f[0])
    assert density == pytest.approx(density[0] + slope * (f - f[0]), rel=1e-9)
    assert all(point["feasible"] for point in found)


@pytest.mark.usefixtures("campaign")
def test_the_picture_shows_what_the_line_looks_like() -> None:
    words = (*WORDS, "--process", "time_s=150", "--steps", "4", "--microstructures")
    done = call(*words, "--picture", "line.png")
    assert done.exit_code == 0, done.output
    assert "micrographs: random fields with the library's two-point statistics" in done.stderr
    with Image.open("line.png") as drawn:
        height = drawn.size[1]
    assert call(*WORDS, "--steps", "4", "--picture", "plain.png").exit_code == 0
    with Image.open("plain.png") as plain:
        assert height > plain.size[1]  # the strip


def test_bounds_of_the_phases_are_said(campaign: Campaign, in_scratch: Path) -> None:
    file = in_scratch / NAME / "campaign.toml"
    file.write_text(CAMPAIGN.replace("Cu = [0.0, 0.3]", "Ag = [0.0, 0.89]"))
    assert campaign.space.bounds
    done = call(*WORDS, "--process", "time_s=150", "--steps", "3", "--microstructures")
    assert "3 of 3 points are outside: silver_rich: Ag <= 0.89" in done.stdout


@pytest.mark.usefixtures("campaign")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give it with --process time_s=VALUE"),
        (("--process", "time_s=150", "--process", "temperature_K=940"), "is that at 950 K"),
        (("--process", "time_s=15"), "expected 100 to 200"),
        (("--process", "time_s=150", "--label", "a=b"), "unknown label 'a'"),
        (("--process", "time_s=150", "--steps", "500"), "a generator makes at most 200"),
        (("--monotone", "density_g_per_cm3"), "--monotone does not go with a tie-line"),
    ],
)
def test_bad_input(words: tuple[str, ...], message: str) -> None:
    done = call(*WORDS, *words, "--score")
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_three_phases_are_none_of_a_line(campaign: Campaign, tmp_path: Path) -> None:
    images = FieldImages(open_library(campaign, tmp_path), campaign, seed=0)
    space = dataclasses.replace(campaign.space, phases=("a", "b", "c"), bounds={})
    other = dataclasses.replace(campaign, space=space)
    with pytest.raises(InvalidInputError, match="designs on a tie-line are micrographs"):
        designs_on(line_of(campaign), other, images, {"time_s": 150.0}, {})
