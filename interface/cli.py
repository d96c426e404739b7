"""The ``spinodal`` command: one module per group of commands, heavy imports inside them."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from interface import cli_make, cli_read, cli_run, cli_schedule
from interface.cli_common import DEBUG_VARIABLE, FLAG

app = typer.Typer(
    name="spinodal",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Closed-loop generative design of materials: propose, simulate, learn, again.",
)

for group in (cli_run, cli_schedule, cli_read, cli_make):
    group.register(app)


def version() -> str:
    """The installed version, or a note that this is a source tree which is not installed."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("spinodal")
    except PackageNotFoundError:
        return "unknown (not installed; run `pip install -e .` in the source folder)"


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"spinodal {version()}")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[  # noqa: ARG001 - its callback has acted already
        bool,
        typer.Option(
            "--version",
            metavar=FLAG,
            callback=_print_version,
            is_eager=True,
            help="Show the version and exit.",
        ),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", metavar=FLAG, help=f"Show tracebacks (as {DEBUG_VARIABLE}=1 does)."
        ),
    ] = False,
) -> None:
    if debug:
        os.environ[DEBUG_VARIABLE] = "1"


def main() -> None:
    """Entry point of the script and of ``python -m``."""
    # Not argv[0]: `python -m` would show a path into the package.
    app(args=sys.argv[1:], prog_name="spinodal")
