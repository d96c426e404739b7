"""``predict``: what a campaign's surrogate expects of designs of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interface.answers import CampaignArgument, Score
from interface.cli_common import (
    FLAG,
    JsonOption,
    LedgerOption,
    guarded,
    new_file,
)
from interface.cli_read import Format, write_rows
from interface.interpolation_options import read_labels, read_process
from interface.output import print_json, print_table
from interface.sessions import NO_RECORDS, existing_place, recorded_session
from loop.errors import InvalidInputError

ENDINGS = (Format.csv, Format.json, Format.parquet)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(predict)


@guarded
def predict(
    campaign: CampaignArgument,
    alloys: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ALLOY]...",
            help='Compositions ("Al0.3CoCrFeNi", "Ti-6Al-4V wt%"), those of every phase ("gamma: '
            'Ni-20Cr at%; gamma_prime: Ni3Al"), or ids of the ledger.',
        ),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="A table of compositions, one row an alloy."),
    ] = None,
    process: Annotated[
        list[str] | None,
        typer.Option("--process", metavar="NAME=VALUE", help="Of alloys in words; repeatable."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="NAME=VALUE", help="Of alloys in words; repeatable."),
    ] = None,
    normalise: Annotated[
        bool, typer.Option("--normalise", metavar=FLAG, help="Scale fractions to a sum of 1.")
    ] = False,
    microstructures: Annotated[
        bool,
        typer.Option(
            "--microstructures",
            metavar=FLAG,
            help="The trained generator draws the micrographs that alloys in words lack.",
        ),
    ] = False,
    score: Score = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="A new .csv, .json or .parquet file."),
    ] = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """What the surrogate expects of alloys of your own, before anything is simulated or made.

    Expected value, one standard deviation and 90 % interval of every property, the chance of
    meeting the targets, the nearest alloy on record. Nothing is added to the ledger.
    """
    chosen = Format.json
    if output is not None:
        ending = new_file(output).suffix.lstrip(".").lower()
        if ending not in ENDINGS:
            raise InvalidInputError(
                f"--output is {output}; expected a name that ends in .csv, .json or .parquet"
            )
        chosen = Format(ending)
    given_process, given_labels = read_process(process or ()), read_labels(label or ())
    place = existing_place(campaign, ledger, NO_RECORDS)
    from flows.predict import predict as expected_of
    from interface.predicted import blocks_of, document, footnote, table_of
    from interface.predicting import read_designs

    with recorded_session(campaign, place) as session:
        designs = read_designs(
            session,
            alloys or (),
            table,
            process=given_process,
            labels=given_labels,
            normalise=normalise,
            draw=microstructures,
        )
        found = expected_of(session, designs, score=score)
    if output is not None:
        write_rows(lambda: document(found), found.frame(), output, chosen, as_json=as_json)
    elif as_json:
        print_json(document(found))
    else:
        blocks = blocks_of(found)
        if blocks is None:
            print_table(*table_of(found))
        for block in blocks or ():
            print(block.heading)
            print_table(block.columns, block.lines)
            print("\n".join(block.notes), end="\n\n")
        print(footnote(found))
