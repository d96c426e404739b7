"""The server behind ``spinodal serve``: the page at /, the HTTP API at /api, its docs at /docs.

It reads the ledger, and changes nothing but that results of a laboratory may be sent in while it
answers on loopback alone. It answers on loopback unless told otherwise, and needs
no network: every script, style and font comes from the installed packages.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import webbrowser
from collections.abc import Sequence

import uvicorn
from fastapi import FastAPI
from nicegui import run, ui

from interface.api import LOOPBACK, create_api
from interface.dashboard_data import Snapshots
from interface.dashboard_page import Page
from interface.dashboard_style import FAVICON, add_style, tag, text
from loop.errors import InvalidInputError, SpinodalError
from loop.ledger import Ledger

ANY = ("0.0.0.0", "::", "")
BUILD_SECONDS = 30.0  # a large ledger is read before the page is there, perhaps by a busy machine


def create_app(
    ledger: Ledger, *, hosts: Sequence[str] = LOOPBACK, takes_results: bool = True
) -> FastAPI:
    """Page and API over an open ledger. Once per process: NiceGUI keeps its pages globally.

    ``takes_results``: see ``create_api``.
    """
    app = create_api(ledger, hosts=hosts, takes_results=takes_results)
    snapshots = Snapshots(ledger)

    @ui.page("/", response_timeout=BUILD_SECONDS)
    async def index(campaign: str | None = None, candidate: str | None = None) -> None:
        try:
            snapshot = await run.io_bound(snapshots.get, campaign)
        except SpinodalError as error:
            _apologise(str(error))
            return
        if snapshot is None:  # the server stops
            return
        page = Page(ledger, snapshots, snapshot, takes_results=takes_results)
        page.build()
        if candidate:
            await page.show(candidate)

    ui.run_with(
        app,
        title="spinodal",
        favicon=FAVICON,
        language="en-US",
        tailwind=False,
        show_welcome_message=False,
        reconnect_timeout=10.0,
    )
    return app


def _apologise(message: str) -> None:
    add_style()
    with tag("main", "sp-main"):
        text("spinodal", "", "h1")
        text(message, "sp-note").props('role="alert"')
        text("Newest campaign", "sp-link", "a").props('href="/"')


def allowed_hosts(host: str) -> tuple[str, ...]:
    """Names by which a server bound to ``host`` may be addressed."""
    if host in LOOPBACK:
        return LOOPBACK
    names = {*LOOPBACK, host.lower()} - set(ANY)
    if host in ANY:
        own = socket.gethostname()
        names |= {own.lower(), socket.getfqdn().lower()}
        with contextlib.suppress(OSError):
            names |= {str(info[4][0]) for info in socket.getaddrinfo(own, None)}
    return tuple(sorted(names))


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises InvalidInputError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)  # who reads the address may ask at once, and waits in the queue
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidInputError(
            f"cannot serve on {host} port {port}: {reason}; choose another with --port or --host "
            "(--port 0 takes any free one)"
        ) from None
    return listener


def serve(ledger_url: str, host: str = "127.0.0.1", port: int = 8080, show: bool = False) -> None:
    """Serve page and API of a ledger until interrupted; ``port`` 0 takes a free one.

    Raises LedgerError when the ledger cannot be read, InvalidInputError for an address that is
    taken or not ours.
    """
    with Ledger.open(ledger_url, create=False) as ledger:
        app = create_app(ledger, hosts=allowed_hosts(host), takes_results=host in LOOPBACK)
        listener = bind(host, port)
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{listener.getsockname()[1]}/"
        if port == 0:
            print(f"page: {url}", file=sys.stderr, flush=True)
        if show:
            opener = threading.Timer(1.0, webbrowser.open, [url])
            opener.daemon = True
            opener.start()
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=3,  # open pages would keep it alive for ever
            )
        )
        with listener, contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
