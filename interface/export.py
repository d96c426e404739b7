"""A campaign as plain files: tables, label images, settings."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from interface.cli_common import new_file
from interface.output import json_text, plain, rows
from loop.errors import InvalidInputError
from loop.protocols import Progress, silent

if TYPE_CHECKING:
    import pandas as pd

    from loop.ledger_reader import LedgerReader

README = """Export of campaign {name} by spinodal.

evaluations.{ending}  one row per planned candidate: properties, distance, hit, origin
compositions.csv      atomic fractions, columns PHASE:ELEMENT, and labels; one row per candidate
images/ID.png         phase labels: pixel value v is phase v of [{phases}]
rounds.{ending}       one row per round and arm
settings.json         the campaign's settings as they were run, versions and data hash
"""


def export_campaign(
    ledger: LedgerReader,
    campaign: int,
    target: Path,
    *,
    where: str | None = None,
    format_: str = "csv",
    progress: Progress = silent,
) -> dict[str, int]:
    """Write an export into the new folder (or new .zip file) ``target``; returns counts.

    It is written beside and renamed when complete, so a target that exists is whole.
    Raises InvalidInputError when the target exists or the filter cannot be read.
    """
    new_file(target)
    zipped = target.suffix.lower() == ".zip"
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        folder = Path(scratch) / target.stem
        folder.mkdir()
        counts = _write(ledger, campaign, folder, where, format_, progress)
        finished = folder
        if zipped:
            finished = Path(scratch) / target.name
            _zip(folder, finished)
        if target.exists():  # a rename would replace a file
            raise InvalidInputError(f"{target} appeared meanwhile; choose another name")
        shutil.move(finished, target)
    return counts


def _write(
    ledger: LedgerReader,
    campaign: int,
    folder: Path,
    where: str | None,
    format_: str,
    progress: Progress,
) -> dict[str, int]:
    frame = ledger.evaluations(campaign, where=where)
    _table(frame, folder / f"evaluations.{format_}")
    rounds = ledger.rounds(campaign)
    _table(rounds, folder / f"rounds.{format_}")
    settings = ledger.campaign_settings(campaign)
    known = ledger.campaigns().set_index("id").loc[campaign]
    about = {
        "campaign": settings,
        "seed": plain(known["seed"]),
        "settings_hash": known["settings_hash"],
        "data_hash": known["data_hash"],
        "versions": ledger.campaign_versions(campaign),
        "filter": where,
    }
    (folder / "settings.json").write_text(json_text(about), encoding="utf-8")
    images = _designs(ledger, list(dict.fromkeys(frame["id"])), folder, progress)
    text = README.format(
        name=known["name"], ending=format_, phases=", ".join(settings["space"]["phases"])
    )
    (folder / "README.txt").write_text(text, encoding="utf-8")
    return {"evaluations": len(frame), "images": images, "rounds": len(rounds)}


def _designs(ledger: LedgerReader, ids: list[str], folder: Path, progress: Progress) -> int:
    """Label images and the table of compositions; returns how many images there are."""
    import pandas as pd

    table: list[dict[str, Any]] = []
    images = 0
    for done, candidate_id in enumerate(ids):
        if done % 50 == 0:
            progress("export designs", done, len(ids))
        candidate = ledger.candidate(candidate_id)
        if candidate.microstructure is not None:
            (folder / "images").mkdir(exist_ok=True)
            Image.fromarray(candidate.microstructure).save(
                folder / "images" / f"{candidate.id}.png"
            )
            images += 1
        x = candidate.phase_compositions
        if x is not None:
            fractions = {
                f"{phase}:{element}": float(x[i, j])
                for i, phase in enumerate(candidate.phases)
                for j, element in enumerate(candidate.elements)
            }
            table.append({"id": candidate.id, **fractions, **candidate.labels})
    progress("export designs", len(ids), len(ids))
    if table:
        pd.DataFrame(table).to_csv(folder / "compositions.csv", index=False)
    return images


def _table(frame: pd.DataFrame, path: Path) -> None:
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    else:
        path.write_text(json_text(rows(frame)), encoding="utf-8")


def _zip(folder: Path, path: Path) -> None:
    with zipfile.ZipFile(path, "x", compression=zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, Path(folder.name) / file.relative_to(folder))
