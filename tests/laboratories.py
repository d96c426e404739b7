"""Campaigns on disk whose hardness people measure, and a laboratory that fills its lists in."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from interface.cli import app

ELEMENTS = ("Ag", "Cu", "Ni")
NAME = "alloys"

TEXT = """
[campaign]
name = "alloys"
seed = 1

[space]
phases = ["alloy"]
elements = ["Ag", "Cu", "Ni"]

[compositions]
file = "compositions.csv"

[targets.hardness_GPa]
range = [1.6, 1.8]

[simulators]
use = ["measured"]

[simulators.settings.measured]
outputs = {{ hardness_GPa = "GPa" }}
limits = {{ hardness_GPa = [0, 20] }}
{measured}

[generator]
name = "{generator}"
preset = "tiny"

[loop]
rounds = {rounds}
batch = 3
seeds = 10
library = 16
pool = 20
chunk = 4
control_arms = ["random"]

[compute]
threads = 1
"""


def hardness(fractions: dict[str, float]) -> float:
    """A rule that stands for the laboratory; GPa."""
    return 0.8 + 1.2 * fractions["Cu"] + 2.0 * fractions["Ni"]


def write_alloys(folder: Path, *, rounds: int = 2, table: bool = False) -> Path:
    """A campaign of ternary alloys; with ``table`` its measured table is replayed at once."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(4)
    rows = rng.dirichlet([4.0, 2.0, 2.0], 60)
    header = [f"alloy:{e}" for e in ELEMENTS]
    lines = [",".join(header)] + [",".join(map(repr, row.tolist())) for row in rows]
    (folder / "compositions.csv").write_text("\n".join(lines) + "\n")
    measured = ""
    if table:
        lines[0] += ",hardness_GPa,hardness_GPa_uncertainty"
        for i, row in enumerate(rows, start=1):
            value = hardness(dict(zip(ELEMENTS, row.tolist(), strict=True)))
            lines[i] += f",{value!r},0.01"
        (folder / "measured.csv").write_text("\n".join(lines) + "\n")
        # An absolute path: the test does not depend on where relative ones start.
        measured = f'table = "{(folder / "measured.csv").resolve()}"'
    generator = "library" if table else "mutation"
    text = TEXT.format(rounds=rounds, measured=measured, generator=generator)
    (folder / "campaign.toml").write_text(text)
    return folder


def fill_in(work: Path, target: Path, most: int | None = None) -> int:
    """The work list with the first ``most`` designs measured; returns how many."""
    with work.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    done = rows[:most]
    for row in done:
        value = hardness({e: float(row[f"alloy:{e}"]) for e in ELEMENTS})
        row["hardness_GPa [GPa]"] = f"{value!r} ± 0.01"
    with target.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return len(done)


def play_alloys(folder: Path, *words: str) -> None:
    """The alloys with their table played as the laboratory, run in ``folder`` with more ``words``.

    The campaign's file says one round.
    """
    write_alloys(folder / NAME, rounds=1, table=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done = CliRunner().invoke(app, ["run", NAME, "--plain", *words])
    assert done.exit_code == 0, done.output


def copy_played(played: Path, target: Path) -> None:
    """What was played, in another folder; its campaign stays where it was.

    The table's absolute path is among the settings.
    """
    shutil.copytree(played, target, dirs_exist_ok=True)
    shutil.rmtree(target / NAME)
    (target / NAME).symlink_to(played / NAME)
