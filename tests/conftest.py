"""What every test shares: one thread, a private workflow engine, repeatable random examples."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings

from tests.surroundings import ALL, NO_MOUNT

# Before any test imports prefect: it reads its settings once, when it is imported.
PREFECT_HOME = tempfile.mkdtemp(prefix="spinodal-prefect-")
atexit.register(shutil.rmtree, PREFECT_HOME, ignore_errors=True)
os.environ.update(
    PREFECT_HOME=PREFECT_HOME,
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    DO_NOT_TRACK="1",
    PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL="CRITICAL",
    MPLBACKEND="Agg",
)
for name in ("PREFECT_API_URL", "PREFECT_PROFILE", "SPINODAL_LEDGER", "SPINODAL_DEBUG"):
    os.environ.pop(name, None)
# Before torch starts its pools: two cores are shared by everything that a test starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,  # no test judges a time
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeatable")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where all tests have to run, one that is skipped has failed."""
    return _unless_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a whole file of tests."""
    return _unless_skipped((yield))


def _unless_skipped(report: Report) -> Report:
    if report.skipped and ALL in os.environ and not hasattr(report, "wasxfail"):
        reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr
        if NO_MOUNT in str(reason):
            return report
        report.outcome = "failed"
        report.longrepr = f"{reason}\nWhere {ALL} is set, no test may be skipped."
    return report


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


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums in one order: equal trainings are then equal bit for bit."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
