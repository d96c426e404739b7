"""What every committed result says about where it came from."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _commit() -> str:
    """The commit, and whether anything but figures and pictures of runs differs from it."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parent,
        ).stdout.strip()

    changes = git(
        "status", "--porcelain", "--untracked-files=no", "--",
        ":(top)", ":(top,exclude)benchmarks/results",
    )  # fmt: skip
    return (git("describe", "--always") or "unknown") + ("-dirty" if changes else "")


def write(name: str, result: Mapping[str, Any], packages: tuple[str, ...] = ()) -> Path:
    """``results/NAME.json`` with the result, machine, versions, date and command."""
    run = sys.modules["__main__"].__spec__  # None where a benchmark's parts are used elsewhere
    module = run.name if run is not None else f"benchmarks.{name}"
    document = {
        "benchmark": name,
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d"),
        "command": " ".join(["python", "-m", module, *sys.argv[1:]]),
        "commit": _commit(),
        "machine": {
            "processor": _processor(),
            "instructions": torch.backends.cpu.get_cpu_capability(),  # a factor of two and more
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        },
        "versions": {p: version(p) for p in ("torch", "numpy", "botorch", *packages)},
        "result": result,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(document, indent=2) + "\n")
    return path
