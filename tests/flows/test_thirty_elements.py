"""Thirty elements with group constraints: whatever an arm or a generator proposes is allowed."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from typer.testing import CliRunner

from generators import registry
from interface.cli import app
from loop.campaign import Campaign, load_campaign
from loop.candidate import Outcome, Record
from loop.feasible import within_constraints
from loop.ledger import Ledger
from loop.library import Library
from tests import thirty_elements
from tests.thirty_elements import check

LEDGER = Path("runs") / thirty_elements.NAME / "ledger.db"
SMALL = {"first_steps": 30}


@cache
def world(constraints: tuple[str, ...]) -> tuple[Campaign, Library]:
    """The campaign and its compositions, which take a second or more to draw."""
    with TemporaryDirectory() as folder:
        written = thirty_elements.write_campaign(Path(folder), constraints=constraints)
        campaign = load_campaign(written)
        return campaign, Library.load(campaign)


@pytest.mark.usefixtures("in_scratch")
@pytest.mark.parametrize("constraints", [thirty_elements.GROUPS, thirty_elements.SPARSE])
def test_a_plain_round_of_every_baseline(constraints: tuple[str, ...]) -> None:
    folder = thirty_elements.write_campaign(
        Path("campaign"), constraints=constraints, arms=("random", "mutation", "bayesian")
    )
    found = CliRunner().invoke(app, ["run", str(folder), "--plain", "--json"])
    assert found.exit_code == 0, found.output
    campaign = load_campaign(folder)
    with Ledger.open(LEDGER, create=False) as ledger:
        number = ledger.campaign_id()
        planned = {arm: ledger.planned(number, arm, 1) for arm in ("loop", "random", "mutation")}
        planned["bayesian"] = ledger.planned(number, "bayesian", 1)
        planned["seed"] = ledger.planned(number, "seed", 0)
        rounds = ledger.rounds(number)
    assert {arm: len(designs) for arm, designs in planned.items()} == {
        "loop": 6,
        "random": 6,
        "mutation": 6,
        "bayesian": 6,
        "seed": 40,
    }
    for designs in planned.values():
        check(campaign.space, designs)
    assert (rounds["evaluated"] == [40, 6, 6, 6, 6]).all()
    assert "difference_from_known" not in planned["loop"][0].origin.details


@pytest.mark.parametrize("name", ["genetic", "mutation", "library", "joint-flow", "diffusion"])
@pytest.mark.parametrize("constraints", [thirty_elements.GROUPS, thirty_elements.SPARSE])
def test_all_of_a_pool_is_allowed(name: str, constraints: tuple[str, ...]) -> None:
    """A pool as ``Learning._propose`` takes it from a generator, none of it thrown away."""
    campaign, library = world(constraints)
    generator = registry.create(
        name,
        space=campaign.space,
        library=library,
        targets=campaign.targets,
        properties=campaign.targets.properties,
        preset="tiny",
        settings=SMALL if name in ("joint-flow", "diffusion") else {},
    )
    rng = np.random.default_rng(2)
    weights = rng.uniform(2.0, 20.0, 30)
    records = [
        Record(
            c,
            Outcome("ok", {"density_g_per_cm3": float(c.composition() @ weights)}),
            "rule",
            "1",
            0,
        )
        for c in library.draw(60, rng=rng)
    ]
    fitted = generator.fit(records, rng=rng)
    pool = fitted.propose(60, campaign.targets, guidance=1.0, rng=rng)
    assert len(pool) == 60
    check(campaign.space, within_constraints(campaign.space, pool))
