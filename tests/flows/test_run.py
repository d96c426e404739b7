"""A campaign under the workflow engine, as a process: finds, artifacts, interruption, errors."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.campaigns import found, write_campaign

ROOT = Path(__file__).resolve().parents[2]
LEDGER = Path("runs") / "tiny" / "ledger.db"


def environment(home: Path) -> dict[str, str]:
    """As a user has it: no setting of the engine's, and a home folder of one's own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    return {**kept, "PYTHONPATH": str(ROOT), "HOME": str(home)}


def start(*words: str, cwd: Path) -> subprocess.Popen[str]:
    (cwd / "home").mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "spinodal", *words],
        cwd=cwd,
        env=environment(cwd / "home"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def read_until(lines: Iterable[str], text: str) -> None:
    """Read lines up to the first that holds the text."""
    seen = []
    for line in lines:
        seen.append(line)
        if text in line:
            return
    raise AssertionError(f"{text!r} did not come: {''.join(seen)}")


def engine_rows(cwd: Path, query: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(cwd / "runs" / "tiny" / "prefect" / "prefect.db")
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def test_interrupted_and_resumed_it_finds_what_the_plain_run_finds(
    plain_run: Path, tmp_path: Path
) -> None:
    write_campaign(tmp_path / "tiny")
    run = start("run", "tiny", cwd=tmp_path)
    assert run.stderr is not None
    read_until(run.stderr, "joint flow  200/200")
    run.send_signal(signal.SIGINT)
    out, err = run.communicate()
    assert run.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    last = err.strip().splitlines()[-1]
    assert last.startswith("interrupted; the ledger has everything up to here. Go on with: ")
    assert last.endswith("spinodal resume tiny")
    begun = found(tmp_path / LEDGER)
    assert 48 <= len(begun) < 72

    resumed = start("resume", "tiny", "--json", cwd=tmp_path)
    out, err = resumed.communicate()
    assert resumed.returncode == 0, err
    document = json.loads(out)
    assert document["reason"] == "rounds: all 2 are done"
    after = found(tmp_path / LEDGER)
    assert after == found(plain_run / LEDGER)
    assert set(begun) <= set(after)

    # The engine saw one run that ended early and one that went through.
    states = engine_rows(tmp_path, "select state_type from flow_run order by created")
    assert [state for (state,) in states][-1] == "COMPLETED"
    assert len(states) == 2
    kinds = engine_rows(tmp_path, "select key, type from artifact_collection order by key")
    assert kinds == [
        ("best-tiny", "image"),
        ("best-values-tiny", "markdown"),
        ("progress-tiny", "progress"),
        ("rounds-tiny", "table"),
    ]
    ((table,),) = engine_rows(
        tmp_path,
        "select data from artifact where key = 'rounds-tiny' order by created desc limit 1",
    )
    rows = json.loads(json.loads(table)) if table.startswith('"') else json.loads(table)
    assert [(row["round"], row["arm"]) for row in rows] == [
        (0, "seed"), (1, "loop"), (1, "random"), (2, "loop"), (2, "random"),
    ]  # fmt: skip
    tasks = {name for (name,) in engine_rows(tmp_path, "select name from task_run")}
    assert {"plan-loop-2", "evaluate-loop-2-0", "evaluate-loop-2-1", "finish-loop-2"} <= tasks
    # Nothing of the engine's is left in the user's home folder.
    assert not (tmp_path / "home" / ".prefect").exists()


def test_what_the_user_can_mend_is_one_line(tmp_path: Path) -> None:
    more = "\n[simulators.settings.composite-chain]\nmax_iterations = 1\n"
    write_campaign(tmp_path / "tiny", more=more)
    run = start("run", "tiny", cwd=tmp_path)
    out, err = run.communicate()
    assert run.returncode == 2
    assert out == ""
    assert "Traceback" not in err
    last = err.strip().splitlines()[-1]
    assert last.startswith("error: no evaluation so far was ok")
    assert {row[4] for row in found(tmp_path / LEDGER)} == {"failed"}
