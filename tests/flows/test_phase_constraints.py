"""Constraints of several phases: from the campaign file to every design that is planned."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from flows.assembly import open_session
from loop.errors import InvalidInputError
from tests.campaigns import write_campaign

CONSTRAINTS = """
[space.constraints]
gamma = ["Ni + Cr >= 0.94"]
gamma_prime = ["Ni + Al >= 0.96", "at most 3 elements"]
"""


def campaign(folder: Path, constraints: str = CONSTRAINTS) -> Path:
    """Blobs and ternary alloys, a quarter of which meets the constraints; a genetic algorithm."""
    write_campaign(folder, rounds=1, arms=("random", "mutation"))
    text = (folder / "campaign.toml").read_text()
    text = re.sub(
        r"\[generator\].*?\[loop\]",
        '[generator]\nname = "genetic"\n\n[loop]',
        text,
        flags=re.DOTALL,
    )
    (folder / "campaign.toml").write_text(text.replace("[images]", f"{constraints}\n[images]"))
    return folder


def test_every_arm_keeps_the_constraints_of_every_phase(tmp_path: Path) -> None:
    session = open_session(campaign(tmp_path / "c"), tmp_path / "ledger.db")
    with session.ledger:
        session.run()
        space, library = session.campaign.space, session.library
        number = session.campaign_id
        planned = {arm: session.ledger.planned(number, arm, 1) for arm in session.arms}
        seeds = session.ledger.planned(number, "seed", 0)
    assert library.table is not None
    assert len(library.table) == 40 - library.outside < 30
    assert {arm: len(designs) for arm, designs in planned.items()} == {
        "loop": 6, "random": 6, "mutation": 6,
    }  # fmt: skip
    designs = [*seeds, *(c for found in planned.values() for c in found)]
    for design in designs:
        assert space.violations(design) == []
    x = np.stack([c.phase_compositions for c in designs if c.phase_compositions is not None])
    assert x[:, 0, 1].max() <= 0.06 + 1e-9
    assert x[:, 1, 2].max() <= 0.04 + 1e-9
    assert any("moved_to_constraints" in c.origin.details for c in planned["loop"])


def test_the_message_names_the_phase(tmp_path: Path) -> None:
    folder = campaign(tmp_path / "c", CONSTRAINTS.replace("0.96", "0.999"))
    with pytest.raises(InvalidInputError, match=r"'gamma_prime: Ni \+ Al >= 0\.999' turns away 40"):
        open_session(folder, tmp_path / "ledger.db")
    assert not (tmp_path / "ledger.db").exists()
