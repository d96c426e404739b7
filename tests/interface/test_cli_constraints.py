"""Constraints that a table does not meet, and how far designs are from known alloys, by command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from interface.cli import app
from interface.views_candidates import campaign_columns, candidate_page
from loop.campaign import load_campaign
from loop.known_alloys import KnownAlloys
from loop.ledger import Ledger
from loop.library import Library

LEDGER = Path("runs/chromium/ledger.db")
ROWS = 60
CAMPAIGN = """
[campaign]
name = "chromium"
seed = 3

[space]
phases = ["alloy"]
elements = ["Ni", "Al", "Cr", "Co"]
{constraints}

[compositions]
file = "table.csv"

[targets.{target}]
minimise = true

[simulators]
{simulators}

[generator]
name = "genetic"

[loop]
rounds = 1
batch = 5
seeds = {seeds}
library = 40
pool = 60
control_arms = [{arms}]
"""
CHAIN = 'use = ["composite-chain"]\n[simulators.settings.composite-chain]\n'
CHAIN += 'outputs = ["density_g_per_cm3"]'
ASK = (
    'use = ["measured"]\n[simulators.settings.measured]\noutputs = { cost_USD_per_kg = "USD/kg" }\n'
)
ASK += 'table = "table.csv"\notherwise = "ask"'


def write(
    constraints: str = "",
    *,
    target: str = "density_g_per_cm3",
    simulators: str = CHAIN,
    seeds: int = 20,
    arms: tuple[str, ...] = (),
) -> None:
    """A campaign here, whose alloys have 1 to 12 % of Cr, and cobalt every second one."""
    Path("table.csv").write_text("\n".join(table()) + "\n")
    Path("campaign.toml").write_text(
        CAMPAIGN.format(
            constraints=f"constraints = {constraints}" if constraints else "",
            target=target,
            simulators=simulators,
            seeds=seeds,
            arms=", ".join(f'"{arm}"' for arm in arms),
        )
    )


def table() -> list[str]:
    lines = ["alloy:Ni,alloy:Al,alloy:Cr,alloy:Co,cost_USD_per_kg"]
    for i in range(ROWS):
        chromium, aluminium = 0.01 + 0.11 * i / (ROWS - 1), 0.05 + 0.2 * (i * 0.618 % 1)
        cobalt = 0.1 if i % 2 else 0.0
        nickel = 1 - chromium - aluminium - cobalt
        x = f"{nickel:.6f},{aluminium:.6f},{chromium:.6f},{cobalt}"
        lines.append(f"{x},{10 + 20 * aluminium + 30 * cobalt + 5 * chromium:.4f}")
    return lines


def call(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def played(*words: str) -> Result:
    found = call("run", "campaign.toml", "--plain", *words)
    assert found.exit_code == 0, found.output
    return found


@pytest.mark.usefixtures("in_scratch")
def test_constraints_that_no_row_meets_leave_nothing_in_the_ledger() -> None:
    write('["Cr >= 0.5", "Al <= 0.2"]')
    refused = call("run", "campaign.toml", "--plain")
    assert refused.exit_code == 2
    (line,) = refused.stderr.strip().splitlines()
    assert f"none of the {ROWS} rows" in line
    assert f"'Cr >= 0.5' turns away {ROWS}, 'Al <= 0.2' " in line
    assert not LEDGER.exists()
    write('["Cr >= 0.05", "Al <= 0.2"]')
    told = played("--json").stderr
    assert json.loads(call("rounds", "--json").stdout)["rounds"][-1]["evaluated"] == 5
    with Ledger.open(LEDGER, create=False) as ledger:
        number = ledger.campaign_id()
        space = load_campaign("campaign.toml").space
        for arm, index in (("seed", 0), ("loop", 1)):
            for design in ledger.planned(number, arm, index):
                assert space.violations(design) == []
    assert "were asked for (loop.seeds)" not in told


@pytest.mark.usefixtures("in_scratch")
def test_fewer_seeds_than_were_asked_for_are_said() -> None:
    write('["Cr >= 0.1"]', seeds=400)
    kept = Library.load(load_campaign("campaign.toml")).table
    assert kept is not None
    rows = len(kept)
    told = played("--json").stderr
    assert 8 <= rows < 20
    assert f"the library has {rows} valid designs for seeds, 400 were asked for" in told


@pytest.mark.usefixtures("in_scratch")
def test_known_alloys_that_break_constraints_are_what_a_campaign_starts_from() -> None:
    write('["Cr >= 0.15"]', target="cost_USD_per_kg", simulators=ASK, seeds=ROWS)
    played("--json")
    space = load_campaign("campaign.toml").space
    with Ledger.open(LEDGER, create=False) as ledger:
        number = ledger.campaign_id()
        seeds = ledger.planned(number, "seed", 0)
        asked = ledger.planned(number, "loop", 1)
    assert len(seeds) == ROWS
    assert all("Cr >= 0.15" in "".join(space.violations(design)) for design in seeds)
    assert len(asked) == 5
    for design in asked:
        assert space.violations(design) == []
        assert design.origin.details["difference_from_known"] >= 2 * 0.03 - 1e-9


@pytest.mark.usefixtures("in_scratch")
def test_how_far_designs_are_from_known_alloys_can_be_asked_and_is_shown() -> None:
    """Of every arm's designs, after they were moved to what the constraints allow."""
    write('["Cr + Al >= 0.2", "Ni:Co = 8:1"]', seeds=9, arms=("random", "bayesian"))
    Path("table.csv").write_text(
        "\n".join(
            [
                table()[0],
                *(f"{0.8 - i / 50},{0.1 + i * 9 / 400},0,{0.1 - i / 400},1" for i in range(1, 21)),
            ]
        )
        + "\n"
    )
    # Ni:Co = 8:1 holds in every row, Cr + Al >= 0.2 from the fifth on.
    library = Library.load(load_campaign("campaign.toml"))
    assert library.table is not None
    assert library.outside == 4
    played()
    known = KnownAlloys(library.table[:, 0])
    words = ("--columns", "id,arm,difference_from_known,x_Ni,x_Al,x_Cr,x_Co", "--json")
    rows: list[dict[str, Any]] = json.loads(call("query", "round = 1", *words).stdout)
    assert {row["arm"] for row in rows} == {"loop", "random", "bayesian"}
    x = np.array([[row[f"x_{e}"] for e in ("Ni", "Al", "Cr", "Co")] for row in rows])
    found = [row["difference_from_known"] for row in rows]
    assert found == pytest.approx(known.nearest(x).difference, abs=1e-12)
    assert all(d == 0 for row, d in zip(rows, found, strict=True) if row["arm"] == "random")
    assert max(found) > 0.001
    new = json.loads(call("query", "difference_from_known > 0.001", *words).stdout)
    assert len(new) == sum(d > 0.001 for d in found)
    one = max(rows, key=lambda row: row["difference_from_known"])
    d = one["difference_from_known"]
    shown = call("show", one["id"]).stdout
    assert (
        f"difference from the nearest known alloy: {d:.3g} ({50 * d:.3g} % of the atoms)" in shown
    )
    detail = json.loads(call("show", one["id"], "--json").stdout)["origin"]["details"]
    assert detail["difference_from_known"] == d
    # It is no property of a design, in the tables of the page neither.
    with Ledger.open(LEDGER, create=False) as ledger:
        columns = campaign_columns(ledger, ledger.campaign_id())
        page = candidate_page(ledger, None, where="difference_from_known > 0.001")
    assert columns.properties == ("density_g_per_cm3",)
    assert "difference_from_known" in columns.design
    assert page.total == len(new)
    assert all((item.design["difference_from_known"] or 0) > 0.001 for item in page.items)
