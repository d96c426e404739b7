"""``spinodal run`` and ``spinodal resume``."""

from __future__ import annotations

import json
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interface.cli_common import (
    EXIT_TERMINATED,
    FLAG,
    JsonOption,
    LedgerOption,
    StoppedError,
    chosen_ledger,
    default_ledger,
    from_here,
    guarded,
    option_for,
    overrides,
    place_beside,
    program,
    shown_place,
)
from interface.output import note, print_json, print_table, rows
from loop.errors import InvalidInputError, LedgerError

if TYPE_CHECKING:
    import pandas as pd

    from loop.candidate import Record
    from loop.protocols import Progress
    from loop.session import Session

GALLERY_SIZE = 12
STARTED_FILE = "started.json"
RESUMED_SETTINGS = ("rounds", "budget", "stop_hits", "stagnation_rounds", "control_arms")
ROUND_COLUMNS = {
    "round": "round",
    "arm": "arm",
    "evaluated": "scored",
    "hits": "hits",
    "hit_rate": "hits, %",
    "hits_total": "all hits",
    "distinct_hits_total": "distinct",
    "best_distance": "nearest",
    "evaluated_total": "all scored",
    "seconds": "time, s",
}

CampaignArgument = Annotated[
    str, typer.Argument(metavar="CAMPAIGN", help="A campaign.toml or the folder that has one.")
]
RoundsOption = Annotated[
    int | None, typer.Option("--rounds", metavar="N", help="Rounds in all, instead of the file's.")
]
BudgetOption = Annotated[
    int | None,
    typer.Option("--budget", metavar="N", help="Evaluations after the seeds, per arm."),
]
ArmsOption = Annotated[
    str | None,
    typer.Option(
        "--arms", metavar="A,B", help="Arms to run: loop, and of random, mutation, genetic."
    ),
]
PlainOption = Annotated[
    bool,
    typer.Option(
        "--plain", metavar=FLAG, help="Run in this process alone, without the workflow engine."
    ),
]
DeviceOption = Annotated[
    str | None, typer.Option("--device", metavar="DEVICE", help="cpu, cuda or cuda:N.")
]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", metavar="N", help="CPU threads to compute with.")
]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", metavar=FLAG, help="Show the workflow engine's log as well.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(run)
    app.command()(resume)


@guarded
def run(
    campaign: CampaignArgument,
    ledger: LedgerOption = None,
    rounds: RoundsOption = None,
    budget: BudgetOption = None,
    arms: ArmsOption = None,
    plain: PlainOption = False,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    verbose: VerboseOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run a campaign to its end; a campaign that was interrupted goes on where it stopped."""
    given = overrides(rounds=rounds, budget=budget, arms=arms, device=device, threads=threads)
    _check_is_path(campaign)
    _play(campaign, chosen_ledger(ledger), given, plain=plain, verbose=verbose, as_json=as_json)


@guarded
def resume(
    campaign: Annotated[
        str, typer.Argument(metavar="CAMPAIGN|NAME", help="A campaign file, folder or name.")
    ],
    ledger: LedgerOption = None,
    rounds: RoundsOption = None,
    budget: BudgetOption = None,
    plain: PlainOption = False,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    verbose: VerboseOption = False,
    as_json: JsonOption = False,
) -> None:
    """Go on with a campaign that is in the ledger, with the settings it was started with."""
    given = overrides(rounds=rounds, budget=budget, device=device, threads=threads)
    path, place, kept = _started(campaign, chosen_ledger(ledger))
    loop = {**kept, **given.get("loop", {})}
    _play(path, place, {**given, "loop": loop}, plain=plain, verbose=verbose, as_json=as_json)


def _check_is_path(campaign: str) -> None:
    if not Path(campaign).exists() and default_ledger(campaign).is_file():
        raise InvalidInputError(
            f"there is no campaign file {campaign}, but a campaign of that name has been run; "
            f"go on with it: spinodal resume {campaign}"
        )


def _started(campaign: str, ledger: str | None) -> tuple[str, str, dict[str, Any]]:
    """Path, ledger and length of a campaign that is on record."""
    from loop.campaign import load_campaign
    from loop.ledger import Ledger

    is_path = Path(campaign).exists()
    name = load_campaign(campaign).name if is_path else campaign
    place = ledger or str(default_ledger(name))
    if "://" not in place and not Path(place).is_file():
        raise LedgerError(
            f"no ledger at {place}, so there is nothing to resume; "
            f"start with: spinodal run {campaign if is_path else 'CAMPAIGN'}"
        )
    with Ledger.open(place, create=False) as opened:
        settings = opened.campaign_settings(opened.campaign_id(name))
        beside = place_beside(opened, name)
    if not is_path:
        campaign = _remembered_path(beside / STARTED_FILE, name)
    kept = {key: settings["loop"][key] for key in RESUMED_SETTINGS}
    return campaign, place, kept


def _remembered_path(file: Path, name: str) -> str:
    path: Path | None
    try:
        path = Path(json.loads(file.read_text())["campaign"])
    except (OSError, ValueError, KeyError, TypeError):
        path = None
    if path is None or not path.exists():
        gone = f" ({path} is gone)" if path else ""
        raise InvalidInputError(
            f"it is not known where the campaign file of {name} lies{gone}; "
            "give its path: spinodal resume PATH"
        )
    return str(path)


def remember_path(session: Session, campaign: str) -> None:
    """Note beside the ledger where the campaign file lies, so that its name is enough later."""
    file = place_beside(session.ledger, session.campaign.name) / STARTED_FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"campaign": str(Path(campaign).resolve())}) + "\n"
    if not file.is_file() or file.read_text() != text:
        file.write_text(text)


@contextmanager
def _stopping_tells_how_to_go_on(
    how: Callable[[], str],
) -> Iterator[Callable[[Progress], Progress]]:
    """Yields what makes a Progress raise again an interrupt that got lost.

    Python raises it wherever it is at that moment, and in a callback of a library (a destructor,
    an event loop) it is swallowed there: the run would go on as if nobody had pressed Ctrl-C.
    """
    asked = threading.Event()

    def terminated(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        raise StoppedError(f"terminated; {how()}", EXIT_TERMINATED)

    def interrupted(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        asked.set()
        raise KeyboardInterrupt

    def heeding(progress: Progress) -> Progress:
        def told(stage: str, done: int, total: int, **figures: float) -> None:
            if asked.is_set():
                raise KeyboardInterrupt
            progress(stage, done, total, **figures)

        return told

    before = signal.signal(signal.SIGTERM, terminated), signal.signal(signal.SIGINT, interrupted)
    try:
        yield heeding
    except KeyboardInterrupt:
        raise StoppedError(f"interrupted; {how()}") from None
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])


def _play(
    campaign: str,
    ledger: str | None,
    given: dict[str, dict[str, Any]],
    *,
    plain: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    from interface.progress import shown

    recorded = False

    def how() -> str:
        if not recorded:
            return "nothing had been begun"
        again = f"{program()} resume {shlex.quote(campaign)}"
        again += f" --ledger {shlex.quote(ledger)}" if ledger else ""
        return f"the ledger has everything up to here. Go on with: {again}"

    started = time.monotonic()
    with _stopping_tells_how_to_go_on(how) as heeding:
        from flows.assembly import open_session

        with shown() as progress:
            session = open_session(campaign, ledger, progress=heeding(progress), overrides=given)
            recorded = True
            try:
                reason = _play_to_the_end(session, campaign, given, plain=plain, verbose=verbose)
            except BaseException:
                session.ledger.close()
                raise
        with session.ledger:
            _report(session, reason, time.monotonic() - started, as_json=as_json)


def _play_to_the_end(
    session: Session, campaign: str, given: dict[str, Any], *, plain: bool, verbose: bool
) -> str | None:
    name = session.campaign.name
    reason = session.stop_reason()
    if reason is not None:
        if session.ledger.finished(session.campaign_id) is None:
            session.ledger.finish(session.campaign_id, reason)  # the run ended just before this
        note(f"{name} is finished: {reason}. To go on, raise --rounds or --budget")
        return reason
    if session.waits() is not None:  # nothing is started for that
        return None
    # A second run shall hear of it before anything is started for it.
    with session.ledger.claim(session.campaign_id):
        pass
    if len(session.ledger.rounds(session.campaign_id)):
        note(f"{name} goes on at round {session.next_round()}")
    remember_path(session, campaign)
    if session.ledger.finished(session.campaign_id) is not None:
        session.ledger.finish(session.campaign_id, None)  # it was given more rounds or budget
    if plain:
        session.run()
    else:
        from flows.launch import run_campaign

        home = place_beside(session.ledger, name) / "prefect"
        run_campaign(campaign, given, session, home=home, verbose=verbose)
    return session.stop_reason()


def _report(session: Session, reason: str | None, seconds: float, *, as_json: bool) -> None:
    from flows.best import best_records

    for remark in session.remarks():
        note(remark)
    name = session.campaign.name
    rounds = session.ledger.rounds(session.campaign_id)
    best = best_records(session.ledger, session.campaign_id, GALLERY_SIZE)
    picture = _draw_gallery(session, best, place_beside(session.ledger, name) / "gallery.png")
    waiting = session.waits()
    work = _write_work(session) if waiting else None
    if as_json:
        print_json(
            {
                "campaign": name,
                "ledger": shown_place(session.ledger),
                "reason": reason,
                "waiting": waiting,
                "work_list": from_here(work) if work else None,
                "seconds": seconds,
                "rounds": rows(rounds),
                "best": [record.candidate.id for record in best],
                "gallery": from_here(picture) if picture else None,
            }
        )
        return
    if len(rounds):
        print_rounds(rounds, title=f"Rounds of {name}")
    print(f"Stopped: {reason or waiting or 'not yet'}. {seconds:.0f} s.")
    if picture:
        print(f"Pictures of the best: {from_here(picture)}")
    if waiting:
        _print_waiting(session, work)
    else:
        _print_next(session, best)


def _write_work(session: Session) -> Path | None:
    """Where the work list lies; None where the laboratory is none that is asked."""
    from interface.laboratory import expectations, kept_work

    work = session.ledger.work(session.campaign_id)
    if not work:
        return None
    folder = place_beside(session.ledger, session.campaign.name) / "work"
    newest = max(round_ for w in work for _, round_ in w.rounds)
    expected = expectations(session.ledger, session.campaign_id, work)
    return kept_work(work, folder, newest, expected)


def _print_waiting(session: Session, work: Path | None) -> None:
    option = option_for(session.ledger)
    name = session.campaign.name
    print("Next:")
    if work is not None:
        file = shlex.quote(from_here(work))
        print(f"  fill in the work list {from_here(work)}")
        print(f"  {program()} tell {name} {file}{option}")
    print(f"  {program()} resume {name}{option}")


def print_rounds(rounds: pd.DataFrame, *, title: str) -> None:
    """The table of rounds, all arms side by side within each round."""
    columns = {key: name for key, name in ROUND_COLUMNS.items() if key in rounds.columns}
    lines = rows(rounds)
    for line in lines:
        if line.get("hit_rate") is not None:
            line["hit_rate"] = round(100 * line["hit_rate"], 1)
    print_table(columns, lines, title=title)


def _draw_gallery(session: Session, best: list[Record], path: Path) -> Path | None:
    if not best:
        return None
    from interface.plots import gallery

    return gallery(
        [record.candidate for record in best],
        [record.outcome.values for record in best],
        session.campaign.targets,
        path,
        title=f"Best candidates of {session.campaign.name}",
    )


def _print_next(session: Session, best: list[Record]) -> None:
    option = option_for(session.ledger)
    first = session.campaign.targets.properties[0]
    commands = [
        f'query "hit" --sort {first} --limit 10{option}',
        *(f"show {record.candidate.id[:8]}{option}" for record in best[:1]),
        f"serve{option}",
        f"export {session.campaign.name}-export{option}",
    ]
    print("Next:")
    for command in commands:
        print(f"  {program()} {command}")
