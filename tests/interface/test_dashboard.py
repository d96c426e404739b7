"""The page in a real browser: it shows the ledger, filters, opens a candidate, follows a run.

Needs chromium (`apt-get install chromium`) and fails without it: a page nobody has opened is
not tested.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from interface.api import LOOPBACK
from interface.dashboard import allowed_hosts, bind, serve
from loop.errors import InvalidInputError, LedgerError
from loop.ledger import Ledger
from tests.interface.fixtures import HOSTILE, NAME, add_batch, start_campaign, write_ledger

ROOT = Path(__file__).parents[2]
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
HOSTILE_NAME = f"running {HOSTILE}"
expect.set_options(timeout=20_000)  # for slow machines; nothing here judges speed


@pytest.fixture(scope="module")
def ledger_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign left behind (round 1 half evaluated) beside the newest, which is finished."""
    path = tmp_path_factory.mktemp("page") / "ledger.db"
    with Ledger.open(path) as ledger:
        campaign = start_campaign(ledger, HOSTILE_NAME)
        add_batch(ledger, campaign, "loop", 1, 12, evaluate=5)
    return write_ledger(path, rounds=3, batch=12, arms=("loop", "random", "mutation"))


@pytest.fixture(scope="module")
def server(ledger_path: Path) -> Iterator[str]:
    """`serve` in a process of its own, as the command line starts it."""
    code = f"from interface.dashboard import serve; serve({str(ledger_path)!r}, port=0)"
    with subprocess.Popen(
        [sys.executable, "-W", "error::ResourceWarning", "-c", code],
        cwd=ROOT, stderr=subprocess.PIPE, text=True,
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST")},
    ) as process:  # fmt: skip
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.fullmatch(r"page: (http://127\.0\.0\.1:\d+)/\n", line)
        if found is None:
            process.kill()
            pytest.fail(f"the server did not start: {line}{process.stderr.read()}")
        yield found[1]
        process.terminate()
        left = process.stderr.read()
        process.wait(timeout=20)
    assert "Traceback" not in left, left


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.fail("no chromium on this machine; install it: apt-get install -y chromium")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser, server: str) -> Iterator[Page]:
    """A window of 1280 px; afterwards: no console error and no request beyond the server."""
    del server
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    opened.set_default_timeout(20_000)
    said: list[str] = []
    asked: list[str] = []
    context.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    context.on("weberror", lambda error: said.append(str(error.error)))
    context.on("request", lambda request: asked.append(request.url))
    opened.on("websocket", lambda websocket: asked.append(websocket.url))
    yield opened
    context.close()
    assert said == []
    hosts = {urlsplit(url).hostname for url in asked if not url.startswith(("data:", "blob:"))}
    assert hosts == {"127.0.0.1"}


def _open(page: Page, url: str) -> None:
    page.goto(url)
    page.wait_for_selector(".sp-card")


def test_the_page_shows_rounds_targets_and_candidates(page: Page, server: str) -> None:
    _open(page, f"{server}/")
    expect(page.locator("h1")).to_have_text(NAME)
    expect(page.locator(".sp-state")).to_have_text("finished · rounds")
    expect(page.locator(".nicegui-echart canvas")).to_have_count(4)
    with urlopen(f"{server}/api/campaigns") as answer:
        assert answer.status == 200
    tiles = dict(
        zip(
            page.locator(".sp-tile .label").all_inner_texts(),
            page.locator(".sp-tile .value").all_inner_texts(),
            strict=True,
        )
    )
    assert tiles["Round"] == "3"
    assert tiles["Evaluated"] == str(48 + 9 * 12)
    for text in ("Density", "8 to 8.2", "11.2 ± 0.15", "W m⁻¹ K⁻¹", "198 ± 1.5", "GPa"):
        expect(page.locator(".sp-two")).to_contain_text(text)
    expect(page.locator(".sp-card")).to_have_count(24)
    expect(page.locator(".sp-card").first).to_contain_text(", simulated")
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 1280
    drawn = page.locator(".nicegui-echart canvas").evaluate_all(
        "all => all.map(c => { const p = c.getContext('2d').getImageData(0, 0, c.width, c.height)"
        ".data; let n = 0; for (let i = 3; i < p.length; i += 4) n += p[i] > 0; return n; })"
    )
    assert min(drawn) > 2000  # pixels: lines, marks and labels are there


def test_the_numbers_are_those_of_the_ledger(page: Page, server: str, ledger_path: Path) -> None:
    with Ledger.open(ledger_path, create=False) as ledger:
        frame = ledger.evaluations(ledger.campaign_id(NAME))
    _open(page, f"{server}/")
    of_loop = frame[(frame["arm"] == "loop") & frame["hit"].fillna(False)]
    hits = page.locator(".sp-tile", has_text="Different hits").locator(".value")
    expect(hits).to_have_text(str(of_loop["id"].nunique()))
    table = page.locator("table", has_text="Hits of evaluated designs")
    for round_ in (1, 2, 3):
        row = table.locator("tr").nth(round_ + 1).locator("td").all_inner_texts()
        batch = frame[frame["round"] == round_]
        counts = [batch.loc[batch["arm"] == a, "hit"].sum() for a in ("loop", "random", "mutation")]
        assert row == [str(round_), "", *(f"{n} of 12" for n in counts)]


def test_the_gallery_filters_and_says_what_is_wrong(
    page: Page, server: str, ledger_path: Path
) -> None:
    _open(page, f"{server}/")
    box = page.get_by_label("filter")
    where = "gamma_prime_fraction > 0.5 and hit"
    with Ledger.open(ledger_path, create=False) as ledger:
        number = ledger.campaign_id(NAME)
        matching = set(ledger.evaluations(number, where=where)["id"])
        failed = ledger.count(number, where='status = "failed"')
        hits = ledger.evaluations(number, where="hit")["id"].nunique()
    assert 0 < len(matching) < hits < 24
    assert failed > 0
    box.fill(where)
    expect(page.locator(".sp-card")).to_have_count(len(matching))
    shown = page.locator(".sp-card").evaluate_all("cards => cards.map(c => c.dataset.id)")
    assert set(shown) == matching
    box.fill("densty_g_per_cm3 > 8")
    alert = page.get_by_text("did you mean 'density_g_per_cm3'")
    expect(alert).to_be_visible()
    below = alert.bounding_box()
    field = box.bounding_box()
    assert below is not None
    assert field is not None
    assert 0 < below["y"] - field["y"] < 80  # right under the box
    box.fill("")
    expect(page.locator(".sp-card")).to_have_count(24)
    expect(alert).to_have_count(0)
    page.get_by_text("hits only").click()
    expect(page.locator(".sp-card")).to_have_count(hits)
    expect(page.locator(".sp-card", has_text="distance")).to_have_count(0)
    page.get_by_text("hits only").click()
    expect(page.locator(".sp-card")).to_have_count(24)
    box.fill('status = "failed"')
    expect(page.locator(".sp-card")).to_have_count(failed)
    expect(page.locator(".sp-card").first).to_contain_text(HOSTILE)  # as text
    assert page.locator('img[src="x"]').count() == 0


def test_a_candidate_opens_with_everything_known_of_it(
    page: Page, server: str, ledger_path: Path
) -> None:
    _open(page, f"{server}/")
    page.get_by_label("filter").fill('hit and arm = "loop"')
    page.wait_for_function("document.querySelectorAll('.sp-card').length < 24")
    card = page.locator(".sp-card").first
    id_ = str(card.get_attribute("data-id"))
    with Ledger.open(ledger_path, create=False) as ledger:
        design = ledger.candidate(id_)
    card.click()
    dialog = page.get_by_role("dialog").locator(".sp-dialog")
    expect(dialog).to_contain_text(id_)
    expect(dialog).to_contain_text("simulated by blob-rule 1")
    assert design.phase_compositions is not None
    for value in 100 * design.phase_compositions.ravel():
        expect(dialog).to_contain_text(f"{value:.2f}" if value else "0")
    for words in ("at.%", "bounds", "requested", "predicted", "W m⁻¹ K⁻¹", "11.2 ± 0.15"):
        expect(dialog).to_contain_text(words)
    expect(dialog.locator(".met[aria-label='target met']")).to_have_count(4)
    image = dialog.locator("img")
    expect(image).to_be_visible()
    page.wait_for_function("document.querySelector('.sp-dialog img').naturalWidth >= 512")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_a_run_is_followed_and_names_stay_text(page: Page, server: str, ledger_path: Path) -> None:
    _open(page, f"{server}/")
    page.get_by_label("campaign").click()
    page.get_by_role("option", name=HOSTILE_NAME).click()
    expect(page.locator("h1")).to_have_text(HOSTILE_NAME)
    state = page.locator(".sp-state")
    expect(state).to_contain_text("not running, newest entry")
    with Ledger.open(ledger_path, create=False) as ledger:
        with ledger.claim(ledger.campaign_id(HOSTILE_NAME)):
            expect(state).to_contain_text("in progress, newest entry")
        expect(state).to_contain_text("`spinodal resume` takes it up")
    evaluated = page.locator(".sp-tile", has_text="Evaluated").locator(".value")
    expect(evaluated).to_have_text("53")
    assert page.locator('img[src="x"]').count() == 0
    page.get_by_label("filter").fill('status = "pending"')
    expect(page.locator(".sp-card")).to_have_count(7)
    expect(page.locator(".sp-card").first).to_contain_text("waiting for evaluation")
    with Ledger.open(ledger_path, create=False) as ledger:
        add_batch(ledger, ledger.campaign_id(HOSTILE_NAME), "loop", 2, 6)
    expect(evaluated).to_have_text("59")
    expect(page.locator("table", has_text="Hits of evaluated designs")).to_contain_text("of 6")


def test_a_narrow_window_needs_no_sideways_scrolling(page: Page, server: str) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    _open(page, f"{server}/")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.locator(".sp-card").first.click()
    expect(page.locator(".sp-dialog")).to_be_visible()
    box = page.locator(".sp-dialog").bounding_box()
    assert box is not None
    assert box["width"] <= 400


def test_what_is_not_there_is_said(page: Page, server: str) -> None:
    page.goto(f"{server}/?campaign=blobz")
    expect(page.get_by_role("alert")).to_contain_text("did you mean 'blobs'")
    _open(page, f"{server}/?candidate=ffffffff")
    expect(page.get_by_text("no candidate has an id")).to_be_visible()


def test_the_api_description_works_without_a_network(page: Page, server: str) -> None:
    page.goto(f"{server}/docs")
    expect(page.locator(".opblock")).to_have_count(10)
    page.locator(".opblock", has_text="/api/health").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".responses-table.live-responses-table")).to_contain_text('"status": "ok"')


def test_addresses() -> None:
    assert allowed_hosts("127.0.0.1") == LOOPBACK
    assert "10.1.2.3" in allowed_hosts("10.1.2.3")
    everywhere = allowed_hosts("0.0.0.0")
    assert socket.gethostname().lower() in everywhere
    assert "0.0.0.0" not in everywhere


def test_an_address_that_cannot_be_had(tmp_path: Path, ledger_path: Path) -> None:
    with bind("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InvalidInputError, match=f"cannot serve on 127.0.0.1 port {port}"):
            bind("127.0.0.1", port)
    for host, number in (("no.such.host.invalid", 0), ("127.0.0.1", 70_000)):
        with pytest.raises(InvalidInputError, match="cannot serve on"):
            bind(host, number)
    with pytest.raises(LedgerError, match="no ledger"):
        serve(str(tmp_path / "none.db"))
    assert ledger_path.is_file()
