"""Where an interpolation finds a campaign's ledger, session and simulators."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from interface.cli_common import chosen_ledger, default_ledger
from interface.output import note
from interface.sessions import NO_RECORDS, existing_place, recorded_session, trained_session

if TYPE_CHECKING:
    from flows.tie_line_designs import FractionImages
    from loop.campaign import Campaign
    from loop.protocols import Simulator
    from loop.session import Session


def scoring_simulators(campaign: Campaign, ledger: str | None, held: ExitStack) -> list[Simulator]:
    """The campaign's simulators; what people told is looked up in its ledger, if there is one.

    ``held``: keeps that ledger open. Raises LedgerError for one that was named and is not there.
    """
    from flows.paths import simulators_of
    from loop.laboratory import laboratories
    from loop.ledger import Ledger

    simulators = simulators_of(campaign)
    asked = laboratories(simulators)
    place = chosen_ledger(ledger) or default_ledger(campaign.name)
    if asked and (chosen_ledger(ledger) or Path(place).is_file()):
        notebook = held.enter_context(Ledger.open(place, create=False))
        for laboratory in asked:
            laboratory.consult(notebook)
    return simulators


def asked_session(folder: Path, ledger: str | None, held: ExitStack, *, predict: bool) -> Session:
    """The campaign's session on a ledger that exists, kept open by ``held``.

    ``predict``: its surrogate is wanted, else its trained generator. Raises LedgerError where
    there is no such ledger.
    """
    if not predict:
        return held.enter_context(trained_session(folder, ledger))
    return held.enter_context(recorded_session(folder, existing_place(folder, ledger, NO_RECORDS)))


def fraction_images(
    folder: Path,
    campaign: Campaign,
    ledger: str | None,
    held: ExitStack,
    session: Session | None,
    *,
    guidance: float,
    seed: int,
) -> FractionImages:
    """Where micrographs of a tie-line's fractions come from, for designs of two phases.

    ``session``: where one is open already; otherwise that of the campaign's ledger, and without
    one the library alone. Nothing is begun here.
    """
    from flows.assembly import library_folder, open_library
    from flows.tie_line_designs import FieldImages, images_of
    from loop.database import sqlite_path

    place = chosen_ledger(ledger) or default_ledger(campaign.name)
    path = sqlite_path(place)
    if session is None and path is not None and not path.exists():
        library = open_library(campaign, library_folder(place, campaign), progress=_making)
        return FieldImages(library, campaign, seed=seed)
    if session is None:
        session = asked_session(folder, ledger, held, predict=False)
    return images_of(session, guidance=guidance, seed=seed)


def _making(stage: str, done: int, total: int, **_: float) -> None:
    """Says once that a library is made, which takes a while."""
    if done == 0:
        note(f"{stage}: {total} parts; this may take minutes, once, and a run will find them")
