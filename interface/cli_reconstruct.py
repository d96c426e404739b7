"""``reconstruct``: images with the two-point statistics of a given one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interface.cli_common import JsonOption, LedgerOption, default_ledger, guarded, new_file
from interface.output import note, print_frame, print_json, rows, whole_file
from loop.errors import InvalidInputError

MOST = 10_000


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(reconstruct)


@guarded
def reconstruct(
    image: Annotated[
        Path, typer.Argument(metavar="IMAGE", help="A label image, continued periodically.")
    ],
    count: Annotated[
        int, typer.Option("-n", "--count", metavar="N", min=1, max=MOST, help="Images to make.")
    ] = 4,
    campaign: Annotated[
        Path | None,
        typer.Option(
            "--campaign",
            metavar="CAMPAIGN",
            help="Start from the samples of its trained generator, not from a random field.",
        ),
    ] = None,
    phase: Annotated[
        str | None,
        typer.Option(
            "--phase",
            metavar="PHASE",
            help="Pixel value of the phase (with --campaign its name), against all others.",
        ),
    ] = None,
    lag: Annotated[
        int | None,
        typer.Option(
            "--lag", metavar="PX", help="Largest lag compared; otherwise 16, or half a side."
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Of what is drawn.")] = 0,
    pictures: Annotated[
        Path | None,
        typer.Option("--pictures", metavar="FILE.png", help="The given image and those made."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FOLDER", help="Label images, 1 in the phase and 0 elsewhere."
        ),
    ] = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Images with the two-point statistics of a given one, as pictures and as a table of errors.

    Two-point and lineal-path errors are over the phase's fraction. Two-point statistics leave open
    how a phase is connected: see the lineal-path error and the pictures.
    """
    if ledger is not None and campaign is None:
        raise InvalidInputError("--ledger is that of a campaign; name it with --campaign too")
    if pictures is not None:
        new_file(pictures)
    files = [] if output is None else _new_files(output, image, count)
    import numpy as np
    from PIL import Image

    from flows.reconstruct import (
        read_campaign_phase,
        read_phase,
        reconstruct_image,
        trained_prior,
    )

    rng = np.random.default_rng(seed)
    if campaign is None:
        given = read_phase(image, phase)
        found = reconstruct_image(given, count, rng=rng, max_lag=lag)
    else:
        from flows.assembly import open_session
        from interface.cli_common import chosen_ledger
        from loop.campaign import load_campaign

        loaded = load_campaign(campaign)
        given, index = read_campaign_phase(image, loaded, phase)
        session = open_session(campaign, chosen_ledger(ledger) or default_ledger(loaded.name))
        with session.ledger:
            prior = trained_prior(session, index)
        found = reconstruct_image(given, count, rng=rng, max_lag=lag, prior=prior)
    frame = found.frame()
    if pictures is not None:
        with whole_file(pictures) as draft:
            Image.fromarray(found.strip()).save(draft, format="PNG")
    if output is not None:
        output.mkdir(exist_ok=True)
        for file, labels in zip(files, found.found.images, strict=True):
            with whole_file(file) as draft:
                Image.fromarray(labels).save(draft, format="PNG")
    if as_json:
        print_json(
            {
                "start": found.found.start,
                "max_lag_px": found.found.target.max_lag,
                "fraction": found.found.target.fraction,
                "images": rows(frame),
                "pictures": None if pictures is None else str(pictures),
                "files": [str(file) for file in files],
            }
        )
        return
    print_frame(frame)
    if pictures is not None:
        note(f"the given image and those made: {pictures}")
    if output is not None:
        note(f"label images: {output}")


def _new_files(folder: Path, image: Path, count: int) -> list[Path]:
    """Where the images go; none of them may be there already."""
    if folder.exists() and not folder.is_dir():
        raise InvalidInputError(f"--output {folder} is a file; expected a folder")
    if not folder.parent.is_dir():
        raise InvalidInputError(f"folder {folder.parent} does not exist; create it first")
    width = len(str(count))
    files = [folder / f"{image.stem}_{i:0{width}}.png" for i in range(1, count + 1)]
    return [new_file(file) if folder.exists() else file for file in files]
