"""Compositions that are drawn in the place of a table: feasible, repeatable, independent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from loop.campaign import load_campaign
from loop.errors import InvalidCampaignError
from loop.known_alloys import known_alloys
from loop.library import Library

CAMPAIGN = """
[campaign]
name = "test"
[space]
phases = [{phases}]
elements = ["Ni", "Al", "Cr", "Co", "Fe"]
{space}
[compositions]
{compositions}
[targets.density_g_per_cm3]
minimise = true
[simulators]
use = ["composite-chain"]
"""
ONE = 'constraints = ["Ni + Co >= 0.4", "Fe:Cr = 2:1", "at most 4 elements"]\n'
ONE += "[space.bounds.alloy]\nAl = [0.02, 0.3]\n"
TWO = '[space.constraints]\na = ["Ni + Co >= 0.4"]\nb = ["Al >= 0.1", "at most 3 elements"]\n'


def written(folder: Path, compositions: str, space: str = ONE, phases: str = '"alloy"') -> Library:
    text = CAMPAIGN.format(phases=phases, space=space, compositions=compositions)
    (folder / "campaign.toml").write_text(text)
    return Library.load(load_campaign(folder))


@pytest.mark.parametrize("method", ["sobol", "uniform"])
def test_every_row_is_allowed_and_comes_again(tmp_path: Path, method: str) -> None:
    library = written(tmp_path, f'sample = "{method}"\nn = 200')
    assert library.table is not None
    assert library.table.shape == (200, 1, 5)
    assert library.space.allowed().is_feasible(library.table[:, 0]).all()
    assert (np.count_nonzero(library.table[:, 0], axis=1) <= 4).all()
    assert len(np.unique(library.table[:, 0], axis=0)) == 200
    for design in library.draw(300, rng=np.random.default_rng(0)):
        assert library.space.violations(design) == []
    again = written(tmp_path, f'sample = "{method}"\nn = 200')
    np.testing.assert_array_equal(again.table, library.table)
    assert again.data_hash == library.data_hash
    assert library.outside == 0


def test_whatever_decides_the_rows_is_in_the_hash(tmp_path: Path) -> None:
    given = [
        ('sample = "sobol"', ONE),
        ('sample = "uniform"', ONE),
        ('sample = "sobol"\nseed = 1', ONE),
        ('sample = "sobol"\nn = 999', ONE),
        ('sample = "sobol"', ONE.replace("0.4", "0.5")),
        ('sample = "sobol"', ONE.replace("0.3", "0.2")),
    ]
    hashes = {written(tmp_path, *one).data_hash for one in given}
    assert len(hashes) == len(given)
    # What is said at length is the same as what is left out.
    plain = written(tmp_path, 'sample = "sobol"')
    assert plain.data_hash == written(tmp_path, 'sample = "sobol"\nn = 1000\nseed = 0').data_hash


def test_phases_are_drawn_each_for_itself(tmp_path: Path) -> None:
    library = written(tmp_path, 'sample = "sobol"\nn = 1024', TWO, '"a", "b"')
    x = library.table
    assert x is not None
    for i, phase in enumerate(("a", "b")):
        assert library.space.allowed(phase).is_feasible(x[:, i]).all()
    # No rank correlation of independent columns is beyond 4 deviations of 1/sqrt(n).
    for j in range(5):
        for k in range(5):
            found = stats.spearmanr(x[:, 0, j], x[:, 1, k]).statistic
            assert abs(found) < 4 / np.sqrt(1024)


def test_uniform_rows_are_uniform(tmp_path: Path) -> None:
    """Without constraints an element's fraction has the Beta(1, e - 1) distribution."""
    for method in ("sobol", "uniform"):
        library = written(tmp_path, f'sample = "{method}"\nn = 2000', space="")
        assert library.table is not None
        for column in library.table[:, 0].T:
            assert stats.kstest(column, stats.beta(1, 4).cdf).pvalue > 1e-4


def test_drawn_compositions_are_no_known_alloys(tmp_path: Path) -> None:
    library = written(tmp_path, 'sample = "sobol"\nn = 50')
    assert library.sampled
    assert known_alloys(library) is None


@pytest.mark.parametrize(
    ("compositions", "words"),
    [
        ("", "neither file nor sample"),
        ('file = "x.csv"\nsample = "sobol"', "both file and sample"),
        ('file = "x.csv"\nn = 10000', r"compositions\.n goes with compositions\.sample"),
        ('sample = "sobl"', r"compositions\.sample is 'sobl'"),
        ('sample = "sobol"\nn = 3', r"compositions\.n is 3"),
        ('sample = "sobol"\nm = 3', r"\[compositions\]: unknown key 'm'"),
    ],
)
def test_what_cannot_be_drawn(tmp_path: Path, compositions: str, words: str) -> None:
    with pytest.raises(InvalidCampaignError, match=words):
        written(tmp_path, compositions)


def test_settings_of_a_campaign_with_a_table_are_what_they_were(tmp_path: Path) -> None:
    text = CAMPAIGN.format(phases='"alloy"', space="", compositions='file = "table.csv"')
    (tmp_path / "campaign.toml").write_text(text)
    assert load_campaign(tmp_path).settings["compositions"] == {"file": "table.csv"}
    text = text.replace('file = "table.csv"', 'sample = "uniform"')
    (tmp_path / "campaign.toml").write_text(text)
    kept = load_campaign(tmp_path).settings["compositions"]
    assert kept == {"sample": "uniform", "n": 1000, "seed": 0}
