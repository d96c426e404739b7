"""A workflow server that fails during a run, or has no room: one line that tells what to mend."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from flows import launch, settings
from flows.server import LEAST_ROOM
from loop.errors import SpinodalError
from tests.flows.test_run import ROOT, environment
from tests.surroundings import fill, mounted


def run(home: Path) -> None:
    ledger: Any = SimpleNamespace(path=home.parent / "ledger.db")
    session: Any = SimpleNamespace(ledger=ledger, progress=lambda *_: None)
    launch.run_campaign("tiny", {}, session, home=home)


def schedule(home: Path) -> None:
    launch.serve_campaign(
        "tiny",
        SimpleNamespace(path=home.parent / "ledger.db"),  # type: ignore[arg-type]
        {},
        name="tiny",
        every=None,
        cron="* * * * *",
        finished=lambda: False,
        tell=print,
        home=home,
    )


def status_error() -> httpx.HTTPStatusError:
    request = httpx.Request("POST", "http://127.0.0.1:4200/api/artifacts/")
    response = httpx.Response(500, request=request, json={"exception_message": "Internal"})
    return httpx.HTTPStatusError("Server error '500'\nfor url", request=request, response=response)


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def engine(home: Path, **_: bool) -> Iterator[str]:
        home.mkdir()
        yield "http://127.0.0.1:4200/api"

    monkeypatch.setattr(launch, "engine", engine)
    monkeypatch.delenv("PREFECT_HOME")


@pytest.mark.usefixtures("no_server")
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (httpx.ConnectError("All connection attempts failed"), "All connection attempts failed"),
        (httpx.ReadTimeout(""), "ReadTimeout"),
        (status_error(), "Server error '500' for url"),
    ],
)
@pytest.mark.parametrize("how", [run, schedule])
def test_a_failure_is_told_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: httpx.HTTPError,
    told: str,
    how: Callable[[Path], None],
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("flows.campaign.run_campaign", fails)
    monkeypatch.setattr("flows.deployment.serve", fails)
    with pytest.raises(SpinodalError) as caught:
        how(tmp_path / "home")
    assert str(caught.value) == (
        f"the workflow server failed ({told}); the ledger has everything up to here: resume, or "
        "go on without it: spinodal resume --plain"
    )


@pytest.mark.usefixtures("no_server")
@pytest.mark.parametrize("whose", ["ours", "in a place of the user's", "the user's"])
def test_a_full_disk_is_blamed_where_it_is_the_server_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    home, chosen = tmp_path / "home", tmp_path / "chosen"
    chosen.mkdir()
    full = home if whose != "in a place of the user's" else chosen
    if whose == "in a place of the user's":
        monkeypatch.setenv("PREFECT_HOME", str(chosen))
    if whose == "the user's":
        monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")

    def usage(folder: Path) -> Any:
        return SimpleNamespace(free=LEAST_ROOM - (folder == full))

    def fails(**_: Any) -> None:
        raise status_error()

    monkeypatch.setattr(shutil, "disk_usage", usage)
    monkeypatch.setattr("flows.campaign.run_campaign", fails)
    with pytest.raises(SpinodalError) as caught:
        run(home)
    if whose == "the user's":
        assert str(caught.value).startswith("the workflow server failed (")
    else:
        assert str(caught.value) == (
            f"the disk is full at {full}, where the workflow server keeps its state; free some "
            "space and resume, nothing that was recorded is lost"
        )


def test_no_room_to_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_HOME")
    home = tmp_path / "home"
    home.mkdir()
    with (
        mounted(home, "1m"),
        pytest.raises(SpinodalError, match=f"^the disk is full at {home}, where"),
        settings.engine(home),
    ):
        pass


def flood(home: Path) -> None:
    """Play what fills the disk of its server. In a process without prefect so far."""

    def play(**_: Any) -> None:
        from prefect import flow, get_run_logger
        from prefect.artifacts import create_markdown_artifact

        @flow
        def filling() -> None:
            fill(home)
            # Each more than fits into the pages that its database has already.
            for _ in range(8):
                get_run_logger().info("x" * 900_000)
            create_markdown_artifact("x" * 8_000_000)

        filling()

    sys.modules["flows.campaign"] = SimpleNamespace(run_campaign=play)  # type: ignore[assignment]
    with pytest.raises(SpinodalError, match=f"^the disk is full at {home}, where"):
        run(home)
    print("told")


def test_room_that_runs_out(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    code = f"from pathlib import Path; from {__name__} import flood; flood(Path({str(home)!r}))"
    with mounted(home, "24m"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            check=False,
        )
    # Nor is there a word about the logs that could not be sent.
    assert (done.stdout, done.stderr) == ("told\n", "")
