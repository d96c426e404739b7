"""What commands share that ask a trained generator: what is asked, the session, the answer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interface.cli_common import FLAG, new_file
from interface.labels import short_id
from interface.output import json_text, note, print_frame, print_json, rows, whole_file
from loop.errors import InvalidInputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from flows.proposal import Proposal, Wish
    from loop.candidate import Candidate
    from loop.session import Session

TABLES = (".csv", ".json")
PICTURES = (".png",)
ARRAY = ".npy"
WHITE = 255  # the grey value of a fraction of 1
_ID = re.compile(r"[0-9a-f]{4,32}")

# Options of such commands

CampaignArgument = Annotated[
    Path, typer.Argument(metavar="CAMPAIGN", help="A campaign that has been run.")
]
Number = Annotated[int, typer.Option("-n", metavar="N", min=1, max=4096, help="Designs.")]
Score = Annotated[
    bool, typer.Option("--score", metavar=FLAG, help="Have the simulators evaluate them.")
]
Output = Annotated[
    Path | None,
    typer.Option("--output", metavar="FILE.csv|json", help="The designs, as a new file."),
]
Pictures = Annotated[
    Path | None, typer.Option("--pictures", metavar="FILE.png", help="Their micrographs.")
]
Seed = Annotated[
    int, typer.Option("--seed", metavar="N", min=0, help="Another one: other designs.")
]
AlsoAsked = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PROPERTY=X|LOW..HIGH|LABEL=VALUE",
        help="What a property or label shall be besides; repeatable.",
    ),
]
OfAsked = Annotated[
    float | None,
    typer.Option(
        "--guidance",
        metavar="S",
        min=0.0,
        max=15.0,
        help="How strongly --set is followed, 1 to 3; 2 if not said.",
    ),
]


# What is asked


def named_wishes(wishes: Sequence[str]) -> dict[str, str]:
    """PROPERTY=WISH as typed with --set, each once; raises InvalidInputError for anything else."""
    found: dict[str, str] = {}
    for wish in wishes:
        name, equals, text = (part.strip() for part in wish.partition("="))
        if not (name and equals and text):
            raise InvalidInputError(
                f"--set {wish!r}: expected PROPERTY=VALUE or PROPERTY=LOW..HIGH"
            )
        if name in found:
            raise InvalidInputError(f"--set: {name} is asked for twice; say it once")
        found[name] = text
    return found


def asked_besides(
    session: Session, given: Sequence[str] | None, guidance: float | None
) -> dict[str, Any]:
    """``wishes`` and ``labels`` of --set, and ``guidance`` where it is said, as keywords.

    Raises InvalidInputError for a name that is neither a property nor a label, and for a guidance
    where nothing is asked that it could be of.
    """
    asked = named_wishes(given or ())
    if guidance is not None and not asked:
        raise InvalidInputError(
            "--guidance says how strongly --set is followed; add --set PROPERTY=VALUE, or leave it "
            "out"
        )
    found = properties_and_labels(session, asked)
    return found if guidance is None else found | {"guidance": guidance}


def properties_and_labels(session: Session, asked: Mapping[str, str]) -> dict[str, Any]:
    """What is asked by name as the keywords ``wishes`` and ``labels``.

    Raises InvalidInputError for a name that is neither a property nor a label.
    """
    from flows.proposal import read_wishes

    known = session.campaign.space.labels
    others = {name: text for name, text in asked.items() if name not in known}
    wishes: tuple[Wish, ...] = read_wishes(others, session.properties)
    return {
        "wishes": wishes,
        "labels": {name: text for name, text in asked.items() if name in known},
    }


def read_size(option: str, text: str) -> tuple[int, int]:
    """HxW in pixels; raises InvalidInputError that names the option."""
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.strip().isdigit() for part in parts):
        raise InvalidInputError(f"{option} is {text!r}; expected HxW in pixels, such as 128x128")
    return int(parts[0]), int(parts[1])


def read_fractions(paths: Sequence[Path]) -> NDArray[np.float64]:
    """(m, h, w) phase fractions: grey images, one a phase, 0 none and 255 all; or one .npy file.

    Sums that rounding to grey values took above 1 are scaled back. Raises InvalidInputError for
    files that cannot be read, or differ in size; what the values mean is for others to check.
    """
    import numpy as np

    from loop.images import read_labels

    arrays = [path for path in paths if path.suffix.lower() == ARRAY]
    if arrays and len(paths) > 1:
        raise InvalidInputError(f"{arrays[0]} has all phases; give it alone, or a PNG for each")
    if arrays:
        try:
            found = np.asarray(np.load(arrays[0], allow_pickle=False), dtype=np.float64)
        except (OSError, ValueError, EOFError) as error:
            raise InvalidInputError(
                f"{arrays[0]} is not readable as an array of fractions: "
                f"{' '.join(str(error).split())}; save it with numpy.save"
            ) from None
        if found.ndim not in (2, 3):
            raise InvalidInputError(
                f"{arrays[0]} has shape {found.shape}; expected (h, w), or (phases - 1, h, w)"
            )
        return found if found.ndim == 3 else found[None]
    images = [read_labels(path) for path in paths]
    for path, image in zip(paths, images, strict=True):
        if image.shape != images[0].shape:
            raise InvalidInputError(
                f"{path} has {image.shape[1]} x {image.shape[0]} px, {paths[0]} "
                f"{images[0].shape[1]} x {images[0].shape[0]}; expected one size"
            )
    grey = np.stack(images).astype(np.float64)
    total = grey.sum(0)
    rounded = (total > WHITE) & (total <= WHITE + 0.5 * len(images))
    fractions: NDArray[np.float64] = grey / np.where(rounded, total, WHITE)
    return fractions


def design_named(
    session: Session,
    text: str,
    process: Sequence[str] | None,
    labels: Sequence[str] | None,
    *,
    normalise: bool = False,
) -> Candidate:
    """A design of the ledger by its id, or one without an image from compositions in words.

    ``process``, ``labels``: NAME=VALUE, of the latter. Raises InvalidInputError for what cannot be
    read, LedgerError for an id that is not there.
    """
    from flows.paths import design_of
    from interface.interpolation_ends import end_compositions
    from interface.interpolation_options import read_labels, read_process

    if _ID.fullmatch(text.strip()):
        if process or labels:
            raise InvalidInputError(
                "--process and --label are for compositions in words; designs have their own"
            )
        return session.ledger.candidate(text.strip())
    space = session.campaign.space
    (compositions,) = end_compositions([text], space, normalise=normalise, drawn=True)
    return design_of(
        space, compositions, read_process(process or ()), labels=read_labels(labels or ())
    )


# The answer


def check_new_files(output: Path | None, pictures: Path | None) -> None:
    """Raise InvalidInputError for a file that is there already, or of another kind."""
    for path, endings in ((output, TABLES), (pictures, PICTURES)):
        if path is not None and new_file(path).suffix.lower() not in endings:
            raise InvalidInputError(f"{path}: expected a name that ends in {' or '.join(endings)}")


def answer(found: Proposal, output: Path | None, pictures: Path | None, as_json: bool) -> None:
    """Show designs and write them to new files where those are named."""
    for warning in found.warnings:
        note(f"warning: {warning}")
    document = {
        **found.about,
        "warnings": list(found.warnings),
        "designs": rows(found.table()),
        "pictures": None if pictures is None else str(pictures),
    }
    if output is not None:
        _write(found, document, output)
    drawn = pictures is not None and _draw(found, pictures)
    if as_json:
        print_json(document)
        return
    shown = found.frame()
    shown["id"] = [short_id(one) for one in shown["id"]]
    print_frame(shown)
    if output is not None:
        note(f"designs: {output}")
    if pictures is not None:
        note(f"micrographs: {pictures}" if drawn else "the designs have no micrographs")


def _write(found: Proposal, document: dict[str, Any], path: Path) -> None:
    """The table; JSON also has each design's image as rows of phase labels."""
    with whole_file(path) as draft:
        if path.suffix.lower() == ".csv":
            found.table().to_csv(draft, index=False)
            return
        designs = [
            row | {"phases": design.phases, "microstructure": design.microstructure}
            for row, design in zip(document["designs"], found.designs, strict=True)
        ]
        draft.write_text(json_text(document | {"designs": designs}), encoding="utf-8")


def _draw(found: Proposal, path: Path) -> bool:
    """Write the micrographs; whether there are any."""
    drawn = found.pictures()
    if drawn is None:
        return False
    from PIL import Image

    with whole_file(path) as draft:
        Image.fromarray(drawn).save(draft, format="PNG")
    return True
