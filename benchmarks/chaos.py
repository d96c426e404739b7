"""kill -9 at random instants, then resume: does the ledger end as an undisturbed one's?

    python -m benchmarks.chaos [--kills 10] [--seed 0]

A short campaign on the superalloy data is played once undisturbed and once in a process group
that is killed (SIGKILL) at ``--kills`` random instants and resumed each time. Then candidates,
origins, predictions, outcomes and hits of both ledgers are compared to the last bit.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import write
from loop.ledger import Ledger

EXAMPLE = Path(__file__).parents[1] / "examples" / "superalloy"
SHORT = {
    'preset = "cpu"': 'preset = "tiny"',
    "rounds = 5": "rounds = 4",
    "batch = 60": "batch = 20",
    "seeds = 400": "seeds = 60",
    "library = 12000": "library = 400",
    "pool = 1500": "pool = 200",
}


def short_campaign(folder: Path) -> Path:
    """A copy of the example with little training; every shortened key must be there."""
    shutil.copytree(EXAMPLE, folder)
    path = folder / "campaign.toml"
    text = path.read_text()
    for long, short in SHORT.items():
        if long not in text:
            raise SystemExit(f"{EXAMPLE / 'campaign.toml'} has no line {long!r}; mend SHORT")
        text = text.replace(long, short)
    path.write_text(text)
    return path


def start(campaign: Path, ledger: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "spinodal",
            "run",
            str(campaign),
            "--plain",
            "--ledger",
            str(ledger),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def content(ledger: Path) -> list[Any]:
    """Everything a campaign found, in order, without times."""
    with Ledger.open(ledger, create=False) as opened:
        campaign = opened.campaign_id()
        frame = opened.evaluations(campaign)
        frame = frame.drop(columns=["planned_at", "evaluated_at"])
        frame = frame.sort_values(["round", "arm", "position"])
        rows: list[Any] = frame.astype(object).where(frame.notna(), None).to_numpy().tolist()
        return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    with tempfile.TemporaryDirectory() as place:
        campaign = short_campaign(Path(place) / "campaign")
        calm, hit = Path(place) / "calm.db", Path(place) / "killed.db"
        begin = time.monotonic()
        if start(campaign, calm).wait() != 0:
            raise SystemExit("the undisturbed run failed")
        whole = time.monotonic() - begin
        kills: list[dict[str, float]] = []
        while True:
            process = start(campaign, hit)
            # Start-up takes a share of every attempt; later kills may find the run farther on.
            wait = float(rng.uniform(0.15, 0.75) * whole) if len(kills) < given.kills else None
            try:
                code = process.wait(timeout=wait)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                with sqlite3.connect(hit) as connection:
                    sound = connection.execute("pragma integrity_check").fetchone()[0]
                    done = connection.execute("select count(*) from evaluation").fetchone()[0]
                if sound != "ok":
                    raise SystemExit(f"ledger damaged after {wait:.1f} s: {sound}") from None
                kills.append({"after_s": round(float(wait or 0), 2), "evaluations": done})
                print(kills[-1], flush=True)
                continue
            if code != 0:
                raise SystemExit(f"a resumed run failed with exit code {code}")
            if len(kills) >= given.kills:
                break
            hit = hit.with_name(f"killed-{len(kills)}.db")  # finished early: kill a fresh one
        same = content(calm) == content(hit)
        result = {
            "kills": kills,
            "evaluations": len(content(calm)),
            "undisturbed_seconds": round(whole, 1),
            "identical": same,
        }
    print(write("chaos", result))
    if not same:
        raise SystemExit("the ledgers differ")


if __name__ == "__main__":
    main()
