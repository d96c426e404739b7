"""The laboratory on the page, in a real browser: its list is taken away, results come in."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
from playwright.sync_api import Browser, expect

from loop.laboratory import Wanted
from loop.ledger import Ledger
from tests.interface.fixtures import HOSTILE, NAME, propose, start_campaign
from tests.interface.test_dashboard import browser, server

__all__ = ["browser", "server"]  # fixtures
WANTED = {"hardness_GPa": Wanted("GPa", 0.0, 20.0)}


@pytest.fixture(scope="module")
def ledger_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign that waits for the hardness of three designs."""
    path = tmp_path_factory.mktemp("page") / "ledger.db"
    with Ledger.open(path) as ledger:
        number = start_campaign(ledger)
        designs = propose("loop", 1, 3, np.random.default_rng(0))
        expected = {
            "hardness_GPa": {"mean": 7.3512, "std": 0.03, "noise": 0.04},
            "density_g_per_cm3": {"mean": 8.125, "std": 0.25, "noise": 0.1},
        }
        ledger.plan_batch(number, "loop", 1, designs, predicted=[expected] * 3)
        ledger.ask(number, {d.id: WANTED for d in designs})
        ledger.wait(number, "waiting for 3 measurements of 3 designs")
    return path


def test_the_list_goes_out_and_results_come_in(
    server: str, browser: Browser, ledger_path: Path, tmp_path: Path
) -> None:
    page = browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    page.goto(server)
    panel = page.locator("section", has=page.get_by_role("heading", name="Laboratory"))
    expect(page.locator(".sp-state")).to_contain_text("waiting for 3 measurements of 3 designs")
    expect(panel).to_contain_text("asked for: 3 measurements of 3 designs")
    expect(panel.locator("table tr")).to_have_count(4)
    expect(panel.locator("table")).to_contain_text("Hardness")
    expect(panel.get_by_role("cell", name="7.351 ± 0.050")).to_have_count(3)
    expect(panel).to_contain_text("± is one standard deviation of what would be measured")
    # Of designs that wait the gallery shows what is predicted, and says so.
    page.get_by_label("filter").fill('status = "pending"')
    cards = page.locator(".sp-card")
    expect(cards).to_have_count(3)
    expect(cards.first).to_contain_text("8.12 ± 0.25")
    expect(cards.first).to_contain_text("round 1, loop, predicted")
    expect(cards.first).to_contain_text("predicted ± is of the property itself")
    page.get_by_label("filter").fill("")

    link = panel.get_by_role("link", name="Work list (CSV)").get_attribute("href")
    assert link is not None
    with urlopen(f"{server.rstrip('/')}{link}") as answer:
        rows = list(csv.DictReader(io.StringIO(answer.read().decode())))
    values = ("1.5 ± 0.1", "2,5", "")
    for row, value in zip(rows, values, strict=True):
        row["hardness_GPa [GPa]"] = value

    def send(name: str) -> None:
        stream = io.StringIO()
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
        content = {"name": name, "mimeType": "text/csv", "buffer": stream.getvalue().encode()}
        panel.locator('input[type="file"]').set_input_files([content])

    status = panel.get_by_role("status")
    send(f"{HOSTILE.replace('/', '')}.csv")
    expect(status).to_contain_text("Nothing was kept.")
    expect(status).to_contain_text("'2,5' has a decimal comma; use a point")
    rows[1]["hardness_GPa [GPa]"] = "2.5"
    send("told.csv")
    expect(status).to_contain_text("2 new results kept; still open: 1 measurement")
    expect(panel).to_contain_text("asked for: 1 measurement of 1 design")
    expect(panel.locator("table tr")).to_have_count(2)
    with Ledger.open(ledger_path) as ledger:
        told = ledger.measurements([row["id"] for row in rows])
    values_told = [m["hardness_GPa", "GPa"].value for m in told.values()]
    assert values_told == [1.5, 2.5]

    panel.locator("a.sp-id").click()
    expect(page.locator(".sp-dialog")).to_contain_text(f"Candidate {rows[2]['id'][:8]}")
    page.keyboard.press("Escape")
    rows[2]["hardness_GPa [GPa]"] = "3"
    send("told.csv")
    expect(status).to_contain_text(f"nothing is open any more. Go on with: spinodal resume {NAME}")
    expect(panel).to_contain_text("nothing is asked for; all results have been told")
    page.screenshot(path=str(tmp_path / "page.png"))
    page.close()
    assert errors == []
