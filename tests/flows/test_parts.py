"""Parts of the flows that need no server."""

from __future__ import annotations

import io
import os
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from prefect.client.schemas.objects import State
from prefect.states import Failed

from flows import settings, tasks
from flows.artifacts import GAP, SIDE, key_of, mosaic
from flows.launch import known_by_environment, parameters
from flows.sessions import LEDGER_VARIABLE, Key, held, hold, release
from interface.cli_schedule import check_cron, parse_interval
from loop.candidate import Candidate
from loop.errors import InvalidInputError, LedgerError, SpinodalError
from loop.ledger import Ledger
from tests.campaigns import write_campaign


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("20s", 20), ("30m", 1800), ("1h", 3600), ("1h30m", 5400), ("1.5h", 5400), ("2d", 172800)],
)
def test_intervals(text: str, seconds: float) -> None:
    assert parse_interval(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "soon", "1", "h", "1h x", "1s", "-1h", "9999d", "0s"])
def test_what_is_no_interval(text: str) -> None:
    with pytest.raises(InvalidInputError, match="--every"):
        parse_interval(text)


def test_cron_lines() -> None:
    for line in ("0 3 * * *", "*/15 * * * *", "0 9 * * MON-FRI"):
        assert check_cron(line) == line
    for line in ("", "0 3 * *", "60 * * * *", "0 3 * * * *", "@daily"):
        with pytest.raises(InvalidInputError, match="--cron"):
            check_cron(line)


def test_artifact_keys_are_what_the_engine_allows() -> None:
    assert key_of("rounds", "Ni_alloy.v2") == "rounds-ni-alloy-v2"
    assert key_of("best", "--A--") == "best-a"


def test_the_mosaic_shows_every_design() -> None:
    labels = [np.full((16, 16), i, dtype=np.uint8) for i in (0, 1, 2)]
    drawn = mosaic([Candidate(("a", "b", "c"), microstructure=image) for image in labels])
    assert drawn is not None
    with Image.open(io.BytesIO(drawn)) as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (SIDE, 3 * SIDE + 2 * GAP)
    centres = pixels[SIDE // 2, SIDE // 2 :: SIDE + GAP]
    assert centres.tolist() == [0, 127, 254]
    alloy = Candidate(("a",), ("Ni",), phase_compositions=np.ones((1, 1)))
    assert mosaic([alloy]) is None


def test_only_what_may_pass_is_tried_again() -> None:
    transient: State[Any] = Failed(data=OSError("no route to host"))
    mendable: State[Any] = Failed(data=LedgerError("disk is full"))
    assert tasks.worth_retrying(tasks.evaluate, None, transient)  # type: ignore[arg-type]
    assert not tasks.worth_retrying(tasks.evaluate, None, mendable)  # type: ignore[arg-type]
    assert tasks.evaluate.retries == tasks.RETRIES
    assert all(not task.persist_result for task in (tasks.plan, tasks.evaluate, tasks.prepare))


def test_the_user_s_own_settings_stay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PREFECT_HOME", raising=False)
    assert settings.environment(tmp_path)["PREFECT_HOME"] == str(tmp_path)
    assert settings.environment(tmp_path).get("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL") is None
    monkeypatch.delenv("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL")
    quiet = settings.environment(tmp_path)
    assert quiet["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] == "CRITICAL"
    assert "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL" not in settings.environment(
        tmp_path, verbose=True
    )
    monkeypatch.setenv("PREFECT_HOME", "/elsewhere")
    assert "PREFECT_HOME" not in settings.environment(tmp_path)


def test_a_server_of_the_user_s_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:  # answers 501, but answers
        threading.Thread(target=server.handle_request, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/api"
        monkeypatch.setenv("PREFECT_API_URL", address)
        with settings.engine(home) as url:
            assert url == address
    with pytest.raises(SpinodalError, match="no workflow server answers"), settings.engine(home):
        pass
    assert not home.exists()


def test_keys_travel_as_parameters(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        given = parameters("tiny", ledger, {"loop": {"rounds": 3}})
    assert given == {
        "campaign": str(Path("tiny").resolve()),
        "ledger": str(tmp_path / "ledger.db"),
        "overrides": {"loop": {"rounds": 3}},
    }
    assert Key.of(**given) == Key.of(**given)
    assert Key.of("tiny", None, {"b": 1, "a": 2}) == Key.of("tiny", None, {"a": 2, "b": 1})


def test_a_password_is_no_parameter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Server:
        """What is read of a ledger on a database server."""

        path = None
        url = "postgresql+psycopg://someone:secret@127.0.0.1/ledger"

    server: Any = Server()
    given = parameters(str(tmp_path), server, {})
    assert given["ledger"] is None
    assert "secret" not in repr(given)
    monkeypatch.delenv(LEDGER_VARIABLE, raising=False)
    for before in (None, "before"):
        if before is not None:
            monkeypatch.setenv(LEDGER_VARIABLE, before)
        with known_by_environment(server):
            assert os.environ[LEDGER_VARIABLE] == Server.url
        assert os.environ.get(LEDGER_VARIABLE) == before


def test_a_firing_is_skipped_for_another_run_and_for_nothing_else(tmp_path: Path) -> None:
    from flows.deployment import run_one_round

    write_campaign(tmp_path / "tiny")
    given = (str(tmp_path / "tiny"), str(tmp_path / "ledger.db"))
    key = Key.of(*given)
    session = held(key)
    lock = Path(f"{session.ledger.path}.campaign-{session.campaign_id}.lock")
    try:
        with session.ledger.claim(session.campaign_id):
            state = run_one_round.fn(*given)
        assert state.name == "Skipped"
        assert "is being run by process" in str(state.message)
        lock.unlink(missing_ok=True)
        lock.mkdir()  # the surroundings' fault: no lock can be taken here
        with pytest.raises(LedgerError, match=r"ledger\.db: "):
            run_one_round.fn(*given)
        assert not session.ledger.is_planned(session.campaign_id, "seed", 0)
    finally:
        release(key)
        session.ledger.close()


def test_a_session_is_opened_once_a_process(
    plain_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(plain_run)
    key = Key.of("tiny")
    session = held(key)
    try:
        assert held(key) is session
        assert session.stop_reason() is not None
        other = Key.of("tiny", None, {"loop": {"rounds": 9}})
        hold(other, session)
        assert held(other) is session
        release(other)
    finally:
        release(key)
        session.ledger.close()
