"""The ``spinodal`` command: one module per group of commands, heavy imports inside them."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from interface import (
    cli_adapt,
    cli_edit,
    cli_interpolate,
    cli_laboratory,
    cli_make,
    cli_predict,
    cli_propose,
    cli_read,
    cli_reconstruct,
    cli_run,
    cli_schedule,
    cli_walk,
)
from interface.cli_common import DEBUG_VARIABLE, EXIT_USER, FLAG
from interface.output import harmless


class OneLineErrors(TyperGroup):
    """The commands; what is wrong with the words typed is told in one line, as all errors are."""

    def main(self, *args: Any, **given: Any) -> Any:
        """As ``TyperGroup.main``, which would frame such an error in a box of many lines."""
        words = args[0] if args else given.get("args")
        if not given.get("standalone_mode", True) or not words:  # without a word: the help
            return super().main(*args, **given)
        try:
            code = super().main(*args, **{**given, "standalone_mode": False})
        except Exception as error:
            if not hasattr(error, "format_message"):  # not one of the parser's
                raise
            context = getattr(error, "ctx", None)
            path = context.command_path if context else "spinodal"
            text = harmless(error.format_message()).replace("Value error, ", "").rstrip(".")
            text += f"{'' if text.endswith('?') else ';'} see {path} --help"
            print(f"error: {text[0].lower()}{text[1:]}", file=sys.stderr)
            sys.exit(getattr(error, "exit_code", EXIT_USER))
        sys.exit(code if isinstance(code, int) else 0)


app = typer.Typer(
    cls=OneLineErrors,
    name="spinodal",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Closed-loop generative design of materials: propose, simulate, learn, again.",
)

for group in (
    cli_run,
    cli_laboratory,
    cli_schedule,
    cli_read,
    cli_interpolate,
    cli_walk,
    cli_predict,
    cli_propose,
    cli_edit,
    cli_adapt,
    cli_reconstruct,
    cli_make,
):
    group.register(app)


# Read by the OpenMP runtime when torch is loaded. Threads that spin while they wait for one
# another make training several times slower as soon as anything else runs on the machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


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
