"""The command as a process: entry points, what is loaded, pipes, signals, exit codes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.interface import fixtures

ROOT = Path(__file__).resolve().parents[2]
# Unbuffered, Python itself drops what a pipe did not take, and says nothing.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
ENVIRONMENT["PYTHONPATH"] = str(ROOT)
HEAVY = {"torch", "prefect", "nicegui", "fastapi", "pandas", "matplotlib", "botorch", "pymatgen"}


def run(*words: str, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env={**ENVIRONMENT, **env},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    path = tmp_path / "runs" / fixtures.NAME / "ledger.db"
    path.parent.mkdir(parents=True)
    fixtures.write_ledger(path, rounds=2, batch=12)
    return tmp_path


@pytest.mark.parametrize("module", ["spinodal", "interface"])
def test_both_modules_are_the_command(module: str) -> None:
    shown = run("-m", module, "--help")
    assert shown.returncode == 0, shown.stderr
    assert "Usage: spinodal " in shown.stdout
    for command in (
        "run", "resume", "status", "rounds", "query", "show", "new", "export", "verify",
        "schedule", "serve",
    ):  # fmt: skip
        assert re.search(rf"\b{command}\b", shown.stdout), command


def test_the_version_is_that_of_the_project() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert run("-m", "spinodal", "--version").stdout == f"spinodal {wanted}\n"


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from interface.cli import app\n"
        "for words in (['--help'], ['run', '--help'], ['query', '--help'], ['--version']):\n"
        "    app(args=words, prog_name='spinodal', standalone_mode=False)\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)\n"
    )
    done = run("-c", script)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "[]"


def test_usage_errors_end_with_2(tmp_path: Path) -> None:
    for words in (["fly"], ["run"], ["query", "--fast"], ["verify", "everything"]):
        done = run("-m", "spinodal", *words, cwd=tmp_path)
        assert done.returncode == 2, words
        assert done.stdout == ""
        assert "Traceback" not in done.stderr


def test_a_reader_that_goes_away_is_no_error(project: Path) -> None:
    # Larger than a pipe holds, so that the writer notices.
    words = " ".join([sys.executable, "-m", "spinodal", "query", "--json"])
    done = subprocess.run(
        ["bash", "-c", f"{words} | head -c 100; exit ${{PIPESTATUS[0]}}"],
        cwd=project,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 141
    assert done.stderr == ""
    assert len(done.stdout) == 100


def test_a_full_disk_is_one_line(project: Path) -> None:
    words = [sys.executable, "-m", "spinodal", "query", "--json"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            words,
            cwd=project,
            env=ENVIRONMENT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.startswith("error: the disk is full")
    assert len(done.stderr.splitlines()) == 1


def test_faults_are_one_line_and_debug_shows_where(project: Path) -> None:
    # A fault by construction: a ledger module that breaks when it is used.
    script = (
        "import sys, loop.ledger as l\n"
        "l.Ledger.campaigns = lambda self: 1 / 0\n"
        "from interface.cli import app\n"
        "app(args=sys.argv[1:], prog_name='spinodal')\n"
    )
    plain = run("-c", script, "status", cwd=project)
    assert plain.returncode == 1
    assert len(plain.stderr.splitlines()) == 1
    assert "ZeroDivisionError" in plain.stderr
    assert "SPINODAL_DEBUG=1" in plain.stderr
    for told in (
        run("-c", script, "--debug", "status", cwd=project),
        run("-c", script, "status", cwd=project, SPINODAL_DEBUG="1"),
    ):
        assert told.returncode == 1
        assert "Traceback" in told.stderr


def test_stdout_is_one_document(project: Path) -> None:
    for words in (["status"], ["rounds"], ["query", "hit"], ["export", "out"]):
        done = run("-m", "spinodal", *words, "--json", cwd=project)
        assert done.returncode == 0, done.stderr
        json.loads(done.stdout)
