"""``spinodal schedule``: one round a firing, until the campaign is done."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from interface.cli_common import (
    JsonOption,
    LedgerOption,
    StoppedError,
    chosen_ledger,
    guarded,
    overrides,
    place_beside,
    shown_place,
)
from interface.cli_run import (
    ArmsOption,
    BudgetOption,
    CampaignArgument,
    DeviceOption,
    RoundsOption,
    ThreadsOption,
    VerboseOption,
    print_rounds,
    remember_path,
)
from interface.output import harmless, note, print_json, rows
from loop.errors import InvalidInputError

if TYPE_CHECKING:
    from loop.ledger import Ledger

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
SHORTEST = timedelta(seconds=5)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(schedule)


def parse_interval(text: str) -> timedelta:
    """``"1h"``, ``"90m"``, ``"1h30m"``, ``"20s"``, ``"2d"``.

    Raises InvalidInputError for anything else and for less than 5 s.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([smhd])", text)
    if not parts or re.sub(r"\d+(?:\.\d+)?\s*[smhd]|\s", "", text):
        raise InvalidInputError(f"--every is {text!r}; expected a time such as 30m, 1h or 1h30m")
    interval = timedelta(seconds=sum(float(number) * UNITS[unit] for number, unit in parts))
    if interval < SHORTEST:
        raise InvalidInputError(f"--every is {text!r}; expected at least 5s")
    if interval > timedelta(days=366):
        raise InvalidInputError(f"--every is {text!r}; expected at most 366d")
    return interval


def check_cron(text: str) -> str:
    """The five fields of a cron line.

    Raises InvalidInputError with what is wrong in them.
    """
    from cronsim import CronSim, CronSimError

    try:
        if len(text.split()) != 5:
            raise CronSimError("not five fields")
        CronSim(text, datetime.now(UTC))
    except CronSimError as error:
        raise InvalidInputError(
            f"--cron is {text!r} ({error}); expected minute hour day month weekday, "
            'as in "0 3 * * *" for every night at three'
        ) from None
    return text


@guarded
def schedule(
    campaign: CampaignArgument,
    every: Annotated[
        str | None, typer.Option("--every", metavar="TIME", help="Interval: 30m, 1h, 1h30m.")
    ] = None,
    cron: Annotated[
        str | None, typer.Option("--cron", metavar="LINE", help='Cron line: "0 3 * * *".')
    ] = None,
    ledger: LedgerOption = None,
    rounds: RoundsOption = None,
    budget: BudgetOption = None,
    arms: ArmsOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    verbose: VerboseOption = False,
    as_json: JsonOption = False,
) -> None:
    """Serve a campaign: one round at each firing, until its stop rule holds."""
    if (every is None) == (cron is None):
        raise InvalidInputError("expected either --every TIME or --cron LINE")
    interval = parse_interval(every) if every is not None else None
    line = check_cron(cron) if cron is not None else None
    given = overrides(rounds=rounds, budget=budget, arms=arms, device=device, threads=threads)
    from flows.assembly import open_session
    from flows.launch import serve_campaign

    session = open_session(campaign, chosen_ledger(ledger), overrides=given)
    with session.ledger as opened:
        name, number = session.campaign.name, session.campaign_id
        remember_path(session, campaign)
        reason = session.stop_reason()
        if reason is None:
            when = f"every {every}" if every else f"by cron {cron}"
            note(f"{name}: one round {when}; ledger {shown_place(opened)}; Ctrl-C ends the service")
            try:
                serve_campaign(
                    campaign,
                    opened,
                    given,
                    name=name,
                    every=interval,
                    cron=line,
                    finished=_watch(opened, number),
                    tell=_say,
                    home=place_beside(opened, name) / "prefect",
                    verbose=verbose,
                )
            except KeyboardInterrupt:
                raise StoppedError(
                    "the schedule has ended; the ledger has everything up to here"
                ) from None
            reason = opened.finished(number)
        if as_json:
            table = rows(opened.rounds(number))
            waiting = session.waits()
            print_json({"campaign": name, "reason": reason, "waiting": waiting, "rounds": table})
            return
        print_rounds(opened.rounds(number), title=f"Rounds of {name}")
        print(f"Stopped: {reason or session.waits() or 'not yet'}.")


def _say(line: str) -> None:
    note(f"{time.strftime('%H:%M:%S')}  {harmless(line)}")


def _watch(ledger: Ledger, campaign: int) -> Callable[[], bool]:
    """Says whether the campaign is finished, and tells of every round that was added."""
    told = set(_finished_rounds(ledger, campaign))

    def finished() -> bool:
        for key, line in _finished_rounds(ledger, campaign).items():
            if key not in told:
                told.add(key)
                _say(line)
        return ledger.finished(campaign) is not None

    return finished


def _finished_rounds(ledger: Ledger, campaign: int) -> dict[tuple[int, str], str]:
    lines = {}
    for row in rows(ledger.rounds(campaign)):
        text = f"round {row['round']} of {row['arm']}: {row.get('evaluated', 0)} evaluated"
        lines[row["round"], row["arm"]] = f"{text}, {row.get('hits', 0)} hits"
    return lines
