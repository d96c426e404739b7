"""What all commands share: options, where the ledger is, and how errors end."""

from __future__ import annotations

import errno
import functools
import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer

from interface.output import harmless
from loop.errors import InvalidInputError, LedgerError, SpinodalError, unknown_name

if TYPE_CHECKING:
    from loop.ledger import Ledger

P = ParamSpec("P")
R = TypeVar("R")

LEDGER_VARIABLE = "SPINODAL_LEDGER"
DEBUG_VARIABLE = "SPINODAL_DEBUG"
RUNS = Path("runs")

FLAG = ""  # a flag takes no value; typer would print <bool> after it

EXIT_BUG = 1
EXIT_USER = 2
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
EXIT_PIPE = 141

LedgerOption = Annotated[
    str | None,
    typer.Option(
        "--ledger",
        metavar="PATH|URL",
        help=f"Ledger file or database URL; otherwise ${LEDGER_VARIABLE}, "
        "otherwise the only runs/*/ledger.db.",
    ),
]
JsonOption = Annotated[
    bool,
    typer.Option("--json", metavar=FLAG, help="One JSON document on stdout, progress on stderr."),
]
CampaignOption = Annotated[
    str | None,
    typer.Option(
        "--campaign", metavar="NAME", help="Campaign in the ledger; otherwise the latest."
    ),
]


class StoppedError(Exception):
    """Ctrl-C or a termination signal; the text says what to do next."""

    def __init__(self, text: str, code: int = EXIT_INTERRUPTED) -> None:
        super().__init__(text)
        self.code = code


def _fail(message: str, code: int, as_json: bool) -> typer.Exit:
    line = harmless(message)
    print(f"error: {line}", file=sys.stderr, flush=True)
    try:
        if as_json:
            print(json.dumps({"error": line, "exit_code": code}, ensure_ascii=False))
        sys.stdout.flush()
    except OSError:  # it may be stdout itself that cannot be written
        _drop_stdout()
    return typer.Exit(code)


def _explain_os_error(error: OSError) -> str:
    place = f" at {error.filename}" if error.filename else ""
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full{place}; free some space and run the same command again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission{place} ({reason}); choose a place that you may write to"
    return f"{reason}{place}"


def _drop_stdout() -> None:
    # The reader has gone; what Python still holds back must not raise once more at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def guarded(command: Callable[P, R]) -> Callable[P, R]:
    """A command whose errors end as one line on stderr and a stable exit code.

    2: something the user can mend; 130: interrupted; 141: the reader of a pipe went away;
    1: a fault of the program (SPINODAL_DEBUG=1 shows where).
    """

    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        as_json = bool(kwargs.get("as_json"))
        try:
            result = command(*args, **kwargs)
            sys.stdout.flush()
            return result
        except SpinodalError as error:
            if os.environ.get(DEBUG_VARIABLE):
                raise
            raise _fail(str(error), EXIT_USER, as_json) from None
        except StoppedError as error:
            print(f"\n{error}", file=sys.stderr, flush=True)
            raise typer.Exit(error.code) from None
        except KeyboardInterrupt:
            print("\ninterrupted", file=sys.stderr, flush=True)
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except BrokenPipeError:
            _drop_stdout()
            raise typer.Exit(EXIT_PIPE) from None
        except OSError as error:
            if os.environ.get(DEBUG_VARIABLE):
                raise
            raise _fail(_explain_os_error(error), EXIT_USER, as_json) from None
        except typer.Exit:
            raise
        except Exception as error:
            if os.environ.get(DEBUG_VARIABLE):
                raise
            text = f"{type(error).__name__}: {error}"
            hint = f"this is a fault of the program; {DEBUG_VARIABLE}=1 shows where it happened"
            raise _fail(f"{text} ({hint})", EXIT_BUG, as_json) from None

    return wrapper


def default_ledger(name: str) -> Path:
    """Where a campaign's ledger is unless something else is asked for."""
    return RUNS / name / "ledger.db"


def chosen_ledger(option: str | None) -> str | None:
    """The ledger that was asked for by option or environment."""
    return option or os.environ.get(LEDGER_VARIABLE) or None


def find_ledger(option: str | None, campaign: str | None = None) -> str:
    """Path or URL of an existing ledger.

    Raises LedgerError when there is none, or more than one to choose from.
    """
    chosen = chosen_ledger(option)
    if chosen:
        return chosen
    if campaign and default_ledger(campaign).is_file():
        return str(default_ledger(campaign))
    found = sorted(RUNS.glob("*/ledger.db"))
    if len(found) == 1:
        return str(found[0])
    if found:
        raise LedgerError(
            f"there are {len(found)} ledgers ({', '.join(map(str, found))}); "
            f"choose one with --ledger or {LEDGER_VARIABLE}"
        )
    raise LedgerError(
        "no ledger in runs/ under this folder; start a campaign with `spinodal run CAMPAIGN` "
        f"or name a ledger with --ledger or {LEDGER_VARIABLE}"
    )


def open_ledger(option: str | None, campaign: str | None = None) -> Ledger:
    """The ledger to read; it must exist."""
    from loop.ledger import Ledger

    return Ledger.open(find_ledger(option, campaign), create=False)


def place_beside(ledger: Ledger, name: str) -> Path:
    """Folder for what a campaign leaves behind besides the ledger: pictures, engine state."""
    return ledger.path.parent if ledger.path else RUNS / name


def shown_place(ledger: Ledger) -> str:
    """The ledger's path from here, or its URL without the password."""
    if ledger.path is None:
        from sqlalchemy import make_url

        return make_url(ledger.url).render_as_string(hide_password=True)
    return from_here(ledger.path)


def from_here(path: Path) -> str:
    """A path as one types it: relative when it lies under the current folder."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def program() -> str:
    """What one types to call this program again: a script outside PATH needs its path."""
    if shutil.which("spinodal"):
        return "spinodal"
    script = Path(sys.argv[0])
    if script.name == "spinodal" and script.is_file():
        return shlex.quote(from_here(script.absolute()))
    return f"{shlex.quote(from_here(Path(sys.executable)))} -m spinodal"


def option_for(ledger: Ledger) -> str:
    """What a further command needs to find this ledger; empty when it finds it by itself."""
    place = shown_place(ledger)
    try:
        found = find_ledger(None)
    except LedgerError:
        found = ""
    return "" if place == found else f" --ledger {shlex.quote(place)}"


def new_file(path: Path) -> Path:
    """``path``, when nothing is there yet; results never replace what a user has."""
    if path.exists():
        raise InvalidInputError(f"{path} exists already; choose another name or remove it")
    if not path.parent.is_dir():
        raise InvalidInputError(f"folder {path.parent} does not exist; create it first")
    return path


def overrides(
    *,
    rounds: int | None = None,
    budget: int | None = None,
    arms: str | None = None,
    device: str | None = None,
    threads: int | None = None,
) -> dict[str, dict[str, Any]]:
    """Options of a run as the campaign keys that they replace; only those given.

    Raises InvalidInputError for a number below 1 and for an unknown arm.
    """
    for option, number in (("--rounds", rounds), ("--budget", budget), ("--threads", threads)):
        if number is not None and number < 1:
            raise InvalidInputError(f"{option} is {number}; expected at least 1")
    loop: dict[str, Any] = {"rounds": rounds, "budget": budget}
    if arms is not None:
        loop["control_arms"] = _control_arms(arms)
    given: Mapping[str, dict[str, Any]] = {
        "loop": {k: v for k, v in loop.items() if v is not None},
        "compute": {
            k: v for k, v in {"device": device, "threads": threads}.items() if v is not None
        },
    }
    return {section: keys for section, keys in given.items() if keys}


def _control_arms(arms: str) -> list[str]:
    known = ("loop", "random", "mutation", "genetic", "bayesian")
    names = [name.strip() for name in arms.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise InvalidInputError("--arms: " + unknown_name("arm", name, known))
    if "loop" not in names:
        raise InvalidInputError(
            f"--arms is {arms!r}; expected loop among them, the others are its controls "
            "(--arms loop,random)"
        )
    return [name for name in names if name != "loop"]
