"""Peers beside the program: one that runs in an interpreter of its own, and their warnings."""

from __future__ import annotations

import json
import os
import subprocess
import warnings
from pathlib import Path
from typing import Any


def quieten_peers() -> None:
    """No warnings of BoTorch (data not standardised, an optimiser that starts again) and of the
    linear algebra under it (jitter on the diagonal): both go on from there by themselves.
    """
    from botorch.exceptions.warnings import BotorchWarning
    from linear_operator.utils.warnings import NumericalWarning

    for category in (BotorchWarning, NumericalWarning):
        warnings.simplefilter("ignore", category)


class PeerProcess:
    """A script of this folder under another interpreter: a JSON line for each that it is given.

    ``versions``: of its packages, its first line.
    """

    def __init__(self, python: Path, script: str) -> None:
        self.script = script
        self.process = subprocess.Popen(
            [str(python), str(Path(__file__).parent / script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.versions = self._read()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Its answer; {"error": …} where it could not."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the peer's process ended; run benchmarks/{self.script} by hand")
        found: dict[str, Any] = json.loads(line)
        return found

    def cpu_s(self) -> float:
        """Processor seconds of the process so far; 0 where the system does not tell."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.terminate()  # it has answered all, and an interpreter can be slow to end
