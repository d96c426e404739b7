"""``walk``: the ends as they are, scored designs between them, nothing written to the ledger."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from flows.assembly import open_session
from flows.walk import walk
from generators.editor import DEPTH
from interface.cli import app
from loop.errors import LedgerError
from loop.ledger import Ledger
from tests.campaigns import NAME, write_campaign

LEDGER = Path("runs") / NAME / "ledger.db"


def call(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


@pytest.fixture
def ends(plain_run: Path, in_scratch: Path) -> list[str]:
    """Two designs of a finished run that lies in the current directory."""
    shutil.copytree(plain_run, in_scratch, dirs_exist_ok=True)
    with Ledger.open(LEDGER, create=False) as ledger:
        frame = ledger.evaluations(ledger.campaign_id(), columns=("id", "status"))
    return [str(i) for i in frame.loc[frame["status"] == "ok", "id"].drop_duplicates()[:2]]


def test_a_walk_is_scored_and_drawn(ends: list[str]) -> None:
    with Ledger.open(LEDGER, create=False) as ledger:
        before = len(ledger.evaluations(ledger.campaign_id(), columns=("id",)))
    found = call("walk", NAME, *ends, "--steps", "5", "--picture", "strip.png", "--json")
    assert found.exit_code == 0, found.output
    designs = json.loads(found.stdout)["designs"]
    assert [d["t"] for d in designs] == [0, 0.25, 0.5, 0.75, 1]
    assert [designs[0]["id"], designs[-1]["id"]] == ends
    for design in designs:
        assert design["status"] == "ok", design
        assert design["density_g_per_cm3"] > 0
    strip = np.asarray(Image.open("strip.png"))
    assert strip.shape == (2 * 16 + 4, 5 * (2 * 16 + 4))
    assert set(np.unique(strip)) == {0, 128, 255}
    with Ledger.open(LEDGER, create=False) as ledger:
        assert len(ledger.evaluations(ledger.campaign_id(), columns=("id",))) == before


def test_a_walk_goes_as_deep_as_the_editor_does(ends: list[str]) -> None:
    """One default for the command, the flow and the benchmark behind README's picture."""
    words = ("walk", NAME, *ends, "--steps", "4", "--json")
    by_default, said, other = (
        [d["id"] for d in json.loads(call(*words, *more).stdout)["designs"]]
        for more in ((), ("--depth", str(DEPTH)), ("--depth", "0.8"))
    )
    assert by_default == said != other


def test_a_property_may_be_followed(ends: list[str]) -> None:
    found = call("walk", NAME, *ends, "--steps", "3", "--follow", "gamma_prime_fraction")
    assert found.exit_code == 0, found.output
    assert len([line for line in found.stdout.splitlines() if " ok " in line]) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("zz", "zz"), "no candidate has an id"),
        (("--follow", "gamma_prime_fractio"), "did you mean 'gamma_prime_fraction'"),
        (("--steps", "1"), "greater than or equal to 2"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(
    ends: list[str], words: tuple[str, ...], message: str
) -> None:
    given = words if words[0] == "zz" else (*ends, *words)
    found = call("walk", NAME, *given)
    assert found.exit_code == 2
    assert message in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1


def test_an_untrained_campaign_says_so(tmp_path: Path) -> None:
    campaign = write_campaign(tmp_path / "fresh")
    session = open_session(campaign, tmp_path / "ledger.db")
    with session.ledger:
        first, last = session.library.draw(2, rng=np.random.default_rng(0))
        with pytest.raises(LedgerError, match="no trained generator yet; run it first"):
            walk(session, first, last, 3)
