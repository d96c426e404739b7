"""What every test shares: one thread, a private workflow engine, repeatable random examples."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Before any test imports prefect: it reads its settings once, when it is imported.
os.environ.update(
    PREFECT_HOME=tempfile.mkdtemp(prefix="spinodal-prefect-"),
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    DO_NOT_TRACK="1",
    PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL="CRITICAL",
    MPLBACKEND="Agg",
)
for name in ("PREFECT_API_URL", "PREFECT_PROFILE", "SPINODAL_LEDGER", "SPINODAL_DEBUG"):
    os.environ.pop(name, None)
# Before torch starts its pools: two cores are shared by everything that a test starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,  # no test judges a time
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def plain_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the campaign ``tiny`` and its finished run, played without the engine."""
    from typer.testing import CliRunner

    from interface.cli import app
    from tests.campaigns import write_campaign

    folder = tmp_path_factory.mktemp("plain")
    write_campaign(folder / "tiny")
    with contextlib.chdir(folder):
        done = CliRunner().invoke(app, ["run", "tiny", "--plain"])
    assert done.exit_code == 0, done.output
    (folder / "printed.txt").write_text(done.stdout)
    return folder


@pytest.fixture
def in_scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory: commands put their runs/ under it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
