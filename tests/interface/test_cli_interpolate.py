"""``spinodal interpolate``: what is written is the path, and scores are the simulators' own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner, Result

from interface import cli_interpolate
from interface.interpolation import between_candidates
from loop.campaign import load_campaign
from loop.candidate import Candidate
from loop.composition import aitchison_distance
from loop.errors import InvalidInputError
from loop.formula import read_composition
from loop.ledger import Ledger
from loop.paths import positions, straight_path
from simulators import registry
from tests.interface import fixtures

CAMPAIGN = """
[campaign]
name = "bulk"
[space]
phases = ["alloy"]
elements = ["Ni", "Al", "Cr"]
[space.bounds.alloy]
Ni = [0.5, 1.0]
[compositions]
file = "compositions.csv"
[targets.density_g_per_cm3]
range = [7.0, 8.0]
[simulators]
use = ["composite-chain"]
"""


@pytest.fixture
def campaign(tmp_path: Path) -> Path:
    folder = tmp_path / "bulk"
    folder.mkdir()
    (folder / "campaign.toml").write_text(CAMPAIGN)
    (folder / "compositions.csv").write_text("alloy:Ni,alloy:Al,alloy:Cr\n0.8,0.2,0\n")
    return folder


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"
    return fixtures.write_ledger(path, rounds=1, batch=6)


def call(*words: str) -> Result:
    app = typer.Typer()
    app.callback()(lambda: None)
    cli_interpolate.register(app)
    return CliRunner().invoke(app, ["interpolate", *words])


def test_a_line_between_two_formulas() -> None:
    done = call("Al0.3CoCrFeNi", "CoCrFeMnNi", "--steps", "5", "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    elements = document["elements"]
    assert elements == ["Al", "Co", "Cr", "Fe", "Ni", "Mn"]
    x = np.array([[p["compositions"]["alloy"][e] for e in elements] for p in document["points"]])
    a, b = (read_composition(text, elements) for text in ("Al0.3CoCrFeNi", "CoCrFeMnNi"))
    assert x == pytest.approx(straight_path(a, b, positions(5)), abs=1e-15)
    assert document["lengths"]["alloy"]["aitchison"] is None  # Mn comes and Al goes
    for point, row in zip(document["points"], x, strict=True):
        assert read_composition(point["texts"]["alloy"], elements) == pytest.approx(row, abs=1e-12)
    text = call("Al0.3CoCrFeNi", "CoCrFeMnNi", "--steps", "5").stdout
    assert "Mn" in text
    assert "0.23256" in text


def test_an_aitchison_path_has_the_length_of_its_distance() -> None:
    done = call("Ni80Al20", "Ni3Al2", "--path", "aitchison", "--steps", "9", "--json")
    document = json.loads(done.stdout)
    ends = [read_composition(text, ("Ni", "Al")) for text in ("Ni80Al20", "Ni3Al2")]
    expected = float(aitchison_distance(*ends))
    assert document["lengths"]["alloy"]["aitchison"] == pytest.approx(expected, rel=1e-12)


def test_a_feasible_path_keeps_the_constraints() -> None:
    words = ("NiCo", "AlCr", "--path", "feasible", "--steps", "9", "--json")
    document = json.loads(call(*words, "--constraint", "at most 2 elements").stdout)
    assert all(point["feasible"] for point in document["points"])
    assert all(
        sum(value > 0 for value in point["compositions"]["alloy"].values()) <= 2
        for point in document["points"]
    )
    document = json.loads(call("Ni", "Al", "--json", "--constraint", "Al <= 40 %").stdout)
    assert [p["feasible"] for p in document["points"]] == [i <= 4 for i in range(11)]
    assert document["points"][-1]["violations"] == ["Al <= 0.4 (it is 1)"]
    text = call("Ni", "Al", "--constraint", "Al <= 40 %").stdout
    assert "6 of 11 points are outside: Al <= 0.4" in text


def test_the_geodesic_is_kept_within_when_asked() -> None:
    """Too much of one element goes to the others in equal parts; other points stay."""
    words = ("Ni80Al10Cr10 at%", "Ni10Al80Cr10 at%", "--path", "aitchison", "--steps", "9")
    limit = ("--constraint", "Cr <= 12 %")

    def path(*more: str) -> tuple[np.ndarray, list[bool]]:
        points = json.loads(call(*words, *limit, *more, "--json").stdout)["points"]
        x = [list(point["compositions"]["alloy"].values()) for point in points]
        return np.array(x), [point["feasible"] for point in points]

    free, met = path()
    assert met == [True, True, False, False, False, False, False, True, True]
    kept, met = path("--within")
    assert all(met)
    over = np.maximum(free[:, 2] - 0.12, 0.0)
    expected = free + over[:, None] * np.array([0.5, 0.5, -1.0])
    np.testing.assert_allclose(kept, expected, rtol=0, atol=1e-12)
    assert np.array_equal(kept[[0, -1]], free[[0, -1]])


def test_files_hold_every_digit(tmp_path: Path) -> None:
    ends = ("Ti-6Al-4V wt%", "Ti")
    for ending, read in (("parquet", pd.read_parquet), ("csv", pd.read_csv)):
        file = tmp_path / f"path.{ending}"
        assert "7 rows written" in call(*ends, "--steps", "7", "-o", str(file)).stdout
        x = read(file)[["Ti", "Al", "V"]].to_numpy()
        a, b = (read_composition(text, ("Ti", "Al", "V")) for text in ends)
        expected = straight_path(a, b, positions(7))
        assert np.abs(x - expected).max() <= 1e-15
        assert np.all(x[-1, 1:] == 0)
    file = tmp_path / "path.json"
    assert json.loads(call(*ends, "-o", str(file), "--json").stdout)["rows"] == 11
    assert len(json.loads(file.read_text())["points"]) == 11
    assert call(*ends, "--format", "csv").stdout.startswith("t,Ti,Al,V\n")


def test_scores_are_the_simulators_own(campaign: Path) -> None:
    words = ("Ni80Al20", "Ni-20Cr at%", "--campaign", str(campaign), "--steps", "3", "--json")
    document = json.loads(call(*words, "--score").stdout)
    loaded = load_campaign(campaign)
    (simulator,) = registry.create_all(loaded.simulators.use, space=loaded.space)
    x = np.array([[[0.8, 0.2, 0.0]], [[0.8, 0.1, 0.1]], [[0.8, 0.0, 0.2]]])
    expected = simulator.evaluate([Candidate(("alloy",), ("Ni", "Al", "Cr"), None, p) for p in x])
    for point, outcome in zip(document["points"], expected, strict=True):
        assert point["outcome"]["status"] == "ok"
        assert point["outcome"]["values"] == pytest.approx(dict(outcome.values), rel=1e-9)
        assert point["feasible"]
    assert "outcome" not in json.loads(call(*words).stdout)["points"][0]
    shown = call("Ni80Al20", "Ni70Al30", "--campaign", str(campaign)).stdout.splitlines()[1]
    assert shown.split() == ["t", "Ni", "Al", "feasible", "id"]  # no point has chromium


@pytest.mark.parametrize("limit", ["constraints = ['Cr <= 0.1']", "bounds.alloy.Cr = [0.0, 0.1]"])
def test_points_outside_are_named_whether_bounds_or_constraints_say_so(
    campaign: Path, limit: str
) -> None:
    file = campaign / "campaign.toml"
    text = CAMPAIGN.replace("[space.bounds.alloy]\nNi = [0.5, 1.0]", limit)
    assert limit in text
    file.write_text(text)
    words = ("Ni80Al20", "Ni60Cr40", "--campaign", str(campaign), "--steps", "5")
    document = json.loads(call(*words, "--json").stdout)
    assert [p["feasible"] for p in document["points"]] == [True, True, False, False, False]
    assert "3 of 5 points are outside: Cr <= 0.1 (it is 0.2)" in call(*words).stdout


def test_every_phase_moves_between_two_candidates(ledger: Path) -> None:
    with Ledger.open(ledger, create=False) as opened:
        ids = opened.evaluations(limit=2)["id"].tolist()
        first, last = (opened.candidate(one) for one in ids)
    words = (ids[0][:12], ids[1][:12], "--ledger", str(ledger), "--steps", "4")
    done = call(*words, "--json")
    assert done.exit_code == 0, done.output
    assert "the micrographs differ" in done.stderr
    document = json.loads(done.stdout)
    assert document["points"][0]["id"] == first.id
    assert first.phase_compositions is not None
    assert last.phase_compositions is not None
    for i, phase in enumerate(fixtures.PHASES):
        x = [list(point["compositions"][phase].values()) for point in document["points"]]
        expected = straight_path(
            first.phase_compositions[i], last.phase_compositions[i], positions(4)
        )
        assert np.array_equal(x, expected)
    text = call(*words).stdout
    assert "γ′ at.%" in text


def test_process_variables_move_along() -> None:
    x = np.array([[0.5, 0.5]])
    a = Candidate(("alloy",), ("Ni", "Al"), None, x, {"temperature_K": 900.0})
    b = Candidate(("alloy",), ("Al", "Ni"), None, np.array([[0.3, 0.7]]), {"temperature_K": 1000.0})
    path = between_candidates(a, b, 3)
    assert [c.process["temperature_K"] for c in path.candidates] == [900.0, 950.0, 1000.0]
    assert path.compositions[-1].tolist() == [[0.7, 0.3]]  # the elements' order is the first one's
    assert path.candidates[-1].id == b.id
    other = Candidate(("ingot",), ("Ni", "Al"), None, x, {"temperature_K": 900.0})
    with pytest.raises(InvalidInputError, match="phases of the two candidates differ"):
        between_candidates(a, other, 3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("Fe0.5Ni0.6", "Fe"), "sums to 1.1; expected 1"),
        (("Nj3Al", "Fe"), "unknown element 'Nj'; did you mean"),
        (("Ti-6Al-4V", "Ti"), "does not say percent of what"),
        (("Ni", "Al", "--path", "aitchison"), "Ni is absent from one end only"),
        (("Ni", "Al", "--zeros", "0.001"), "--zeros is for --path aitchison"),
        (("Ni", "Al", "--within"), "mixtures within the bounds are --path feasible"),
        (("NiAl", "NiAl3", "--path", "aitchison", "--within"), "nothing to keep to"),
        (
            ("NiAl", "NiAl3", "--path", "aitchison", "--within", "--constraint", "Al <= 0.6"),
            "last composition is not allowed: Al <= 0.6",
        ),
        (("Ni", "Al", "--predict"), "--predict needs a surrogate"),
        (("Ni", "Al", "--score"), "--score needs simulators"),
        (
            ("Ni", "Al", "--path", "feasible", "--constraint", "Al <= 0.4"),
            "last composition is not",
        ),
        (("Ni", "Al", "--constraint", "Ni >= 0.6", "--constraint", "Ni <= 0.5"), "contradict"),
        (("Ni", "0123abcd"), "give two of one kind"),
        (("Ni", "Al", "-o", "path.txt"), "expected a name that ends in .csv"),
    ],
)
def test_bad_input(words: tuple[str, ...], message: str) -> None:
    done = call(*words)
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_formulas_are_no_designs_of_a_campaign_with_phases(campaign: Path) -> None:
    file = campaign / "campaign.toml"
    file.write_text(
        CAMPAIGN.replace('["alloy"]', '["alpha", "beta"]').replace("bounds.alloy", "bounds.alpha")
    )
    done = call("Ni80Al20", "Ni", "--campaign", str(campaign))
    assert done.exit_code == 2
    assert "2 phases (alpha, beta)" in done.stderr
    assert "two candidates of its ledger by id" in done.stderr


def test_a_campaign_without_images_has_no_microstructures(campaign: Path) -> None:
    done = call("Ni80Al20", "Ni", "--campaign", str(campaign), "--microstructures")
    assert done.exit_code == 2
    assert "designs of this campaign have no micrographs" in done.stderr
