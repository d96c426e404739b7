"""A private workflow server: a child process on loopback that ends with the process it serves.

``python -m flows.server`` is the child. It is handed a listening socket (no port can be taken
in between) and the reading end of a pipe: when the parent is gone, killed or not, the pipe
closes and the server ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType

from flows.settings import HOME
from loop.errors import SpinodalError

START_SECONDS = 120.0
STOP_SECONDS = 10.0
LEAST_ROOM = 1_000_000  # bytes; its database alone needs several times as much
LOG_NAME = "server.log"


def check_reachable(url: str) -> None:
    """Raises SpinodalError when nothing answers at a server's address."""
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=10.0):
            pass
    except urllib.error.HTTPError:
        pass  # it answers; what it allows is between it and the engine
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise SpinodalError(
            f"no workflow server answers at PREFECT_API_URL {url} ({reason}); start it, unset the "
            "variable to use a private one, or run without: spinodal run --plain"
        ) from None


def check_room(home: Path) -> None:
    """Raises SpinodalError when a disk that a private server writes to is full.

    ``home``: folder of its log, and of its database unless the user has chosen PREFECT_HOME.
    """
    for folder in (home, Path(os.environ.get(HOME) or home).expanduser()):
        if folder.is_dir() and shutil.disk_usage(folder).free < LEAST_ROOM:
            raise SpinodalError(
                f"the disk is full at {folder}, where the workflow server keeps its state; free "
                "some space and resume, nothing that was recorded is lost"
            )


class PrivateServer:
    """Context manager around the child process; ``url`` is the address of its API."""

    def __init__(self, home: Path, *, services: bool) -> None:
        self._home = home
        self._services = services
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def __enter__(self) -> PrivateServer:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.url = f"http://127.0.0.1:{listening.getsockname()[1]}/api"
            root = str(Path(__file__).resolve().parent.parent)
            path = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH", "")) if p)
            services = "services" if self._services else "none"
            with (self._home / LOG_NAME).open("wb") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "flows.server", str(listening.fileno()), services],
                    env={**os.environ, "PYTHONPATH": path, "PREFECT_UI_ENABLED": "0"},
                    pass_fds=(listening.fileno(),),
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    # Ctrl-C is for the run; the server must outlive it to note how it ended.
                    start_new_session=True,
                )
        try:
            self._wait_until_healthy()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _wait_until_healthy(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            # Until the child accepts, the connection waits in the socket's queue.
            with (
                contextlib.suppress(urllib.error.URLError, OSError),
                urllib.request.urlopen(f"{self.url}/health", timeout=5.0) as response,
            ):
                if response.status == 200:
                    return
            time.sleep(0.05)
        check_room(self._home)  # the log would have had no room, either
        log = self._home / LOG_NAME
        last = log.read_text(errors="replace").strip().splitlines()[-1:] or ["no output"]
        raise SpinodalError(
            f"the workflow server did not start ({last[0]}); see {log}, "
            "or run without it: spinodal run --plain"
        )

    def stop(self) -> None:
        """End the child process; safe to call twice."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin:
            process.stdin.close()
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    os._exit(1)


def _serve(listening: int, *, services: bool) -> None:
    import uvicorn
    from prefect.server.api.server import create_app

    threading.Thread(target=_end_with_parent, daemon=True).start()
    app = create_app(ephemeral=not services, final=True)
    # A listening client (events) must not hold up the end.
    config = uvicorn.Config(app, log_level="error", lifespan="on", timeout_graceful_shutdown=2)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=listening)])


if __name__ == "__main__":
    _serve(int(sys.argv[1]), services=sys.argv[2] == "services")
