"""``propose --guide``: what leads designs to what is asked of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from interface.cli import app
from tests.campaigns import NAME, write_campaign

REGRESSOR = """
[generator.settings.regressor]
train = true
width = 16
depth = 1
heads = 2
channels = 8
first_steps = 40
"""


def call(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def asked(*words: str) -> dict[str, Any]:
    found = call("propose", NAME, "-n", "3", *words, "--json")
    assert found.exit_code == 0, found.output
    document: dict[str, Any] = json.loads(found.stdout)
    return document


def ids(document: dict[str, Any]) -> list[str]:
    return [design["id"] for design in document["designs"]]


def test_a_regressor_is_trained_kept_and_leads(in_scratch: Path) -> None:
    folder = write_campaign(in_scratch / NAME, rounds=1, arms=(), more=REGRESSOR)
    text = (folder / "campaign.toml").read_text()
    for long, short in (("first_steps = 200", "first_steps = 30"), ("steps = 250", "steps = 60")):
        assert long in text
        text = text.replace(long, short)
    (folder / "campaign.toml").write_text(text)
    done = call("run", NAME, "--plain")
    assert done.exit_code == 0, done.output
    usual, led = asked(), asked("--guide", "regressor")
    assert "guide" not in usual
    assert (led["guide"], led["checkpoint"]) == ("regressor", usual["checkpoint"])
    assert led == asked("--guide", "regressor")
    assert ids(led) != ids(usual)
    assert ids(asked("--guide", "classifier-free")) == ids(usual)
    assert ids(asked("--guide", "regressor", "--guidance", "0")) == ids(asked("--guidance", "0"))


def test_derivatives_lead_where_they_are_asked_for(plain_run: Path, in_scratch: Path) -> None:
    """A density is met more closely by the simulators' own derivatives than by the network."""
    shutil.copytree(plain_run, in_scratch, dirs_exist_ok=True)
    wish = ("--set", "density_g_per_cm3=7.4", "--score")
    usual, exact = asked(*wish), asked(*wish, "--guide", "simulator")

    def worst(document: dict[str, Any]) -> float:
        return max(float(design["error_%"]) for design in document["designs"])

    assert worst(exact) < worst(usual)
    assert worst(exact) < 0.1  # designs that miss by more than 0.1 % are drawn anew
    learned = asked(*wish, "--guide", "surrogate")
    assert ids(learned) != ids(usual)
    assert ids(learned) != ids(exact)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--guide", "regressor"), "joint-flow has no regressor of noised states"),
        (("--guide", "regresor"), "'regresor' is not one of 'classifier-free', 'regressor'"),
    ],
)
def test_what_is_not_there_is_said_in_a_line(
    plain_run: Path, in_scratch: Path, words: tuple[str, ...], message: str
) -> None:
    shutil.copytree(plain_run, in_scratch, dirs_exist_ok=True)
    found = call("propose", NAME, *words)
    assert found.exit_code == 2
    assert message in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1
