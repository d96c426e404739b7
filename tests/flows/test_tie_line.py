"""Tie-lines: both ends in equilibrium with each other, fractions by the lever rule."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from flows.tie_line import tie_line_of_campaign, tie_line_of_database
from interface import cli_interpolate
from loop.campaign import load_campaign
from loop.errors import InvalidInputError
from simulators.calphad import Database
from simulators.miscibility import binodal
from simulators.solution_settings import load_solution

TDB = Path(__file__).parents[1] / "data" / "thermodynamics" / "alni_dupin_2001.tdb"
ELEMENTS = ("Ni", "Al")
GAMMA, PRIME = "FCC_A1", "FCC_L12"
Z = np.array([0.82, 0.18])
SOLUTION = """
source = "Ag-Cu, fcc"
[interactions]
Ag-Cu = [[36061.88, -10.44288], [-4310.12, 0.0]]
"""
CAMPAIGN = """
[campaign]
name = "silver"
[space]
phases = ["alloy"]
elements = ["Ag", "Cu"]
[compositions]
file = "compositions.csv"
[targets.equilibrium_mismatch]
range = [0.0, 1.0]
[simulators]
use = ["phase-equilibrium"]
[simulators.settings.phase-equilibrium]
solution = "solution.toml"
temperature_K = 900.0
"""


def call(*words: str) -> Result:
    app = typer.Typer()
    app.callback()(lambda: None)
    cli_interpolate.register(app)
    return CliRunner().invoke(app, ["interpolate", *words])


def test_every_point_splits_into_the_same_two_phases() -> None:
    pytest.importorskip("pycalphad")
    line = tie_line_of_database(TDB, ELEMENTS, Z, 1273.0, 6)
    database = Database(TDB, ELEMENTS)
    direct = database.tie_line(GAMMA, PRIME, Z, 1273.0)
    assert line.phases == (GAMMA, PRIME)
    assert np.abs(line.compositions[[0, -1]] - direct.compositions).max() < 1e-8
    assert line.at == pytest.approx(direct.fractions[1], abs=1e-6)
    for x, fractions in zip(line.compositions[1:-1], line.fractions[1:-1], strict=True):
        rest = database.equilibrium(x, 1273.0)
        assert rest.phases == (GAMMA, PRIME)
        np.testing.assert_allclose(rest.fractions, fractions, atol=1e-5)
        np.testing.assert_allclose(rest.compositions, line.compositions[[0, -1]], atol=1e-7)
    overall = line.fractions @ line.compositions[[0, -1]]
    np.testing.assert_allclose(overall, line.compositions, rtol=0, atol=1e-15)


def test_phases_may_be_named_and_their_order_is_kept() -> None:
    pytest.importorskip("pycalphad")
    line = tie_line_of_database(TDB, ELEMENTS, Z, 1273.0, 3, phases=(PRIME, GAMMA))
    assert line.phases == (PRIME, GAMMA)
    assert line.compositions[0, 1] > line.compositions[-1, 1]
    assert line.at == pytest.approx(
        1 - tie_line_of_database(TDB, ELEMENTS, Z, 1273.0, 3).at, abs=1e-6
    )


def test_the_command_gives_fractions_and_draws(tmp_path: Path) -> None:
    pytest.importorskip("pycalphad")
    picture = tmp_path / "line.png"
    words = ("Ni82Al18", "--path", "tie-line", "--database", str(TDB), "--temperature", "1273")
    done = call(*words, "--steps", "5", "--json", "--picture", str(picture))
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["tie_line"]["phases"] == [GAMMA, PRIME]
    assert [p["fractions"][PRIME] for p in document["points"]] == [0, 0.25, 0.5, 0.75, 1]
    x = [p["compositions"]["alloy"]["Al"] for p in document["points"]]
    at = document["tie_line"]["at"]
    assert (1 - at) * x[0] + at * x[-1] == pytest.approx(0.18, abs=1e-7)
    assert picture.is_file()
    assert f"fraction:{PRIME}" in call(*words).stdout


def test_the_model_of_a_campaign(tmp_path: Path) -> None:
    """A solution of two elements: the ends are its common tangent's."""
    (tmp_path / "campaign.toml").write_text(CAMPAIGN)
    (tmp_path / "compositions.csv").write_text("alloy:Ag,alloy:Cu\n0.6,0.4\n0.5,0.5\n")
    (tmp_path / "solution.toml").write_text(SOLUTION)
    campaign = load_campaign(tmp_path)
    line = tie_line_of_campaign(campaign, np.array([0.6, 0.4]), None, 3)
    solution = load_solution(tomllib.loads(SOLUTION), ("Ag", "Cu"))
    ((low, high),) = binodal(solution, 900.0)
    np.testing.assert_allclose(line.compositions[[0, -1], 1], [low, high], atol=1e-9)
    assert line.temperature_K == 900.0
    done = call("Ag60Cu40 at%", "--path", "tie-line", "--campaign", str(tmp_path), "--score")
    assert done.exit_code == 0, done.output
    assert "#2" in done.stdout  # the two are one phase's, so they are numbered
    with pytest.raises(InvalidInputError, match="alone at this composition, so there is no tie"):
        tie_line_of_campaign(campaign, np.array([0.6, 0.4]), 3000.0, 3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("Ni82Al18", "Al", "--path", "tie-line"), "leave 'Al' out"),
        (("Ni82Al18",), "only one end is given"),
        (("Ni82Al18", "--path", "tie-line"), "name a TDB with --database"),
        (("Ni82Al18", "--path", "tie-line", "--database", "x.tdb"), "give --temperature K"),
        (("Ni", "Al", "--temperature", "900"), "--temperature is for --path tie-line"),
        (
            ("Ni82Al18", "--path", "tie-line", "--database", str(TDB), "--temperature", "1273",
             "--phases", "FCC_A1"),
            "expected two phases",
        ),
        (
            ("Ni95Al5", "--path", "tie-line", "--database", str(TDB), "--temperature", "1273"),
            "there is FCC_A1 alone at this composition",
        ),
    ],
)  # fmt: skip
def test_bad_input(words: tuple[str, ...], message: str) -> None:
    pytest.importorskip("pycalphad")
    done = call(*words)
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
