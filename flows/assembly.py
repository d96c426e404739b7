"""Wires campaign file, library, generators, simulators and ledger into a Session. No prefect."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from loop.campaign import Campaign, load_campaign
from loop.checks import check_outputs, check_targets
from loop.database import sqlite_path
from loop.ledger import Ledger
from loop.library import Library
from loop.made_designs import made_designs
from loop.protocols import Generator, Progress, silent
from loop.session import Session
from loop.summary import LOOP_ARM

VERSIONED = ("spinodal", "torch", "numpy", "botorch", "pymatgen", "prefect")
CONTROL_GENERATORS = {
    "random": "library",
    "mutation": "mutation",
    "genetic": "genetic",
    "bayesian": "bayesian",
}


def run_folder(campaign: Campaign) -> Path:
    """Where a campaign's ledger, checkpoints and pictures go by default."""
    return Path("runs") / campaign.name


def default_ledger(campaign: Campaign) -> Path:
    return run_folder(campaign) / "ledger.db"


def open_session(
    campaign_path: Path | str,
    ledger_url: str | Path | None = None,
    *,
    progress: Progress = silent,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> Session:
    """Read a campaign and open (or go on with) its run.

    Raises InvalidCampaignError, InvalidInputError or LedgerError, each before anything is written
    but for the parts of a library that is made. That takes as long as it takes, once.
    """
    import torch

    from generators import registry as generator_registry
    from simulators import registry as simulator_registry

    campaign = load_campaign(campaign_path, **dict(overrides or {}))
    torch.set_num_threads(campaign.compute.threads)
    device = campaign.compute.device
    generator_registry.check_device(device)
    named = campaign.simulators
    simulators = simulator_registry.create_all(
        named.use,
        space=campaign.space,
        settings=named.settings,
        device=device,
        timeout_s=named.timeout_s,
        wires=named.wiring,
        folder=campaign.folder,
    )
    properties = [name for s in simulators for name in s.outputs]
    check_outputs(simulators)  # both before a library or a ledger is made for it
    check_targets(campaign.targets, simulators)
    place = ledger_url if ledger_url is not None else default_ledger(campaign)
    library = open_library(campaign, library_folder(place, campaign), progress=progress)

    def make(name: str, settings: Mapping[str, Any]) -> Generator:
        return generator_registry.create(
            name,
            space=campaign.space,
            library=library,
            targets=campaign.targets,
            properties=properties,
            settings=settings,
            preset=campaign.generator.preset,
            device=device,
            simulators=simulators,
        )

    generators = {LOOP_ARM: make(campaign.generator.name, campaign.generator.settings)}
    for arm in campaign.loop.control_arms:
        generators[arm] = make(CONTROL_GENERATORS[arm], {})
    ledger = Ledger.open(place)
    try:
        return Session(
            campaign,
            ledger,
            library=library,
            generators=generators,
            simulators=simulators,
            checkpoints=checkpoint_folder(ledger, campaign),
            versions=installed_versions(),
            progress=progress,
        )
    except BaseException:
        ledger.close()
        raise


def open_library(campaign: Campaign, folder: Path, *, progress: Progress = silent) -> Library:
    """The campaign's library, read, or made where a simulator is to make it and has not yet.

    ``folder``: where made designs are kept. Raises InvalidCampaignError or InvalidInputError.
    """
    if campaign.library is None:
        return Library.load(campaign)
    from simulators import library_sources

    source = library_sources.create(
        campaign.library.source,
        space=campaign.space,
        settings=campaign.library.settings,
        seed=campaign.library.seed,
        device=campaign.compute.device,
    )
    return Library.of_made(campaign, made_designs(source, folder, progress=progress))


def library_folder(ledger: str | Path, campaign: Campaign) -> Path:
    """Where made designs are kept: beside a SQLite ledger, else in the run folder."""
    path = sqlite_path(ledger)
    return (path.parent if path is not None else run_folder(campaign)) / "library"


def installed_versions() -> dict[str, str]:
    """Versions of the packages that results may depend on, of those that are there."""
    found = {}
    for name in VERSIONED:
        with suppress(PackageNotFoundError):  # a computing machine needs no workflow engine
            found[name] = version(name)
    return found


def checkpoint_folder(ledger: Ledger, campaign: Campaign) -> Path:
    """Beside a SQLite ledger; under the run folder for a database server."""
    path = ledger.path
    return (path.parent if path is not None else run_folder(campaign)) / "checkpoints"
