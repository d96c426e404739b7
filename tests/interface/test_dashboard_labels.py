"""Labels of designs on the page, in a real browser: to be made, in the filter, in the detail."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, expect

from loop.laboratory import Wanted
from loop.ledger import Ledger
from tests.interface.fixtures import HOSTILE, propose, start_campaign
from tests.interface.test_dashboard import browser, server

__all__ = ["browser", "server"]  # fixtures
ROUTES = ("CAST", "CAST", HOSTILE)


@pytest.fixture(scope="module")
def ledger_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign that waits for the hardness of three designs with labels."""
    path = tmp_path_factory.mktemp("page") / "ledger.db"
    with Ledger.open(path) as ledger:
        number = start_campaign(ledger)
        plain = propose("loop", 1, 3, np.random.default_rng(0))
        designs = [
            dataclasses.replace(design, labels={"processing": route})
            for design, route in zip(plain, ROUTES, strict=True)
        ]
        ledger.plan_batch(number, "loop", 1, designs)
        ledger.ask(number, {d.id: {"hardness_GPa": Wanted("GPa", 0.0, 20.0)} for d in designs})
        ledger.wait(number, "waiting for 3 measurements of 3 designs")
    return path


def test_labels_are_shown_where_process_variables_are(server: str, browser: Browser) -> None:
    page = browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    page.goto(server)
    panel = page.locator("section", has=page.get_by_role("heading", name="Laboratory"))
    expect(panel.locator("tr", has_text="Processing CAST")).to_have_count(2)
    expect(panel.locator("tr", has_text=f"Processing {HOSTILE}")).to_have_count(1)  # as text
    expect(page.locator(".sp-card")).to_have_count(24)  # seeds, without labels
    page.get_by_label("filter").fill("processing = 'CAST'")
    expect(page.locator(".sp-card")).to_have_count(2)
    page.locator(".sp-card").first.click()
    expect(page.locator(".sp-dialog")).to_contain_text("Processing: CAST")
    page.close()
    assert errors == []
