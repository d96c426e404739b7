"""A new campaign folder from a user's own label images and compositions (``spinodal new``)."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loop.campaign import load_campaign
from loop.composition_table import read_compositions, table_names
from loop.errors import InvalidInputError, SpinodalError, unknown_name
from loop.images import list_images, read_index, read_labels, to_phases
from loop.library import Library

MAX_LABELS = 16
PATCHES = (64, 48, 32, 16)
BOUND_DECIMALS = 4
_LABELS, _TABLE, _INDEX, _CAMPAIGN = "labels", "compositions.csv", "index.csv", "campaign.toml"


@dataclass(frozen=True, slots=True)
class _Data:
    """What the given images and table say about the campaign."""

    phases: tuple[str, ...]
    elements: tuple[str, ...]
    labels: tuple[str, ...]  # phase of each pixel value; empty without images
    patch: int
    files: tuple[Path, ...]  # label images
    table: NDArray[np.float64] | None  # (n, p, e)


def new_campaign(
    folder: Path | str,
    *,
    images: Path | str | None = None,
    compositions: Path | str | None = None,
    index: Path | str | None = None,
    labels: Sequence[str] | None = None,
    simulators: Sequence[str] = ("composite-chain",),
    properties: Mapping[str, str] | None = None,
    seed: int = 1,
) -> Path:
    """Write ``folder/campaign.toml`` and copies of the data beside it; returns its path.

    ``images``: folder of label images; ``compositions``: CSV with columns PHASE:ELEMENT; at
    least one of them. ``index``: CSV with columns name, split. ``labels[v]``: phase of pixel
    value v; by default the phases of the table in order, or phase_0, phase_1, …
    ``properties``: what the simulators compute, property -> unit, listed as possible targets.

    Everything is read and checked as a run would do before anything appears under ``folder``;
    existing files are never replaced. Raises InvalidInputError.
    """
    folder = Path(folder).resolve()
    if folder.exists() and not folder.is_dir():
        raise InvalidInputError(f"{folder} is a file; give a new folder for the campaign")
    if images is None and compositions is None:
        raise InvalidInputError(
            "nothing to build a campaign from; give a folder of label images, a CSV of "
            "compositions, or both"
        )
    if index is not None and images is None:
        raise InvalidInputError("an image index was given without images; give their folder too")
    data = _inspect(images, compositions, labels)
    sources: dict[str, list[Path]] = {_LABELS: list(data.files)}
    if index is not None:
        read_index(Path(index), data.files)
        sources[_INDEX] = [Path(index)]
    if compositions is not None:
        sources[_TABLE] = [Path(compositions)]
    written = [name for name, files in sources.items() if files] + [_CAMPAIGN]
    for name in written:
        if (folder / name).exists():
            raise InvalidInputError(
                f"{folder / name} exists and is not replaced; give another folder, or remove it"
            )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-campaign-") as name:
            draft = Path(name)
            _copy(sources, draft)
            text = _campaign_text(folder.name, data, index is not None, simulators, seed)
            try:
                _write_checked(draft, text, data, properties or {})
            except SpinodalError as error:
                raise type(error)(str(error).replace(str(draft), str(folder))) from None
            move_into_place(draft, folder, written)
    except OSError as error:
        raise InvalidInputError(
            f"cannot write the campaign {folder}: {error.strerror or error}; "
            "check the place and its free space"
        ) from None
    return folder / _CAMPAIGN


def _inspect(
    images: Path | str | None, compositions: Path | str | None, labels: Sequence[str] | None
) -> _Data:
    phases: tuple[str, ...] = ()
    elements: tuple[str, ...] = ()
    table = None
    if compositions is not None:
        phases, elements = table_names(Path(compositions))
        table = read_compositions(Path(compositions), phases, elements)
    files: tuple[Path, ...] = ()
    patch, highest = 0, -1
    if images is not None:
        files = tuple(list_images(Path(images)))
        smallest = None
        for file in files:
            pixels = to_phases(file, read_labels(file), range(MAX_LABELS))
            highest = max(highest, int(pixels.max()))
            if smallest is None or min(pixels.shape) < smallest:
                smallest, culprit = min(pixels.shape), file
        patch = next((p for p in PATCHES if smallest is not None and p <= smallest), 0)
        if patch == 0:
            raise InvalidInputError(
                f"image {culprit} is {smallest} pixels wide or high; the smallest patch has "
                f"{PATCHES[-1]} x {PATCHES[-1]}; give larger images"
            )
    if labels is None and files:
        labels = phases or tuple(f"phase_{i}" for i in range(highest + 1))
    labels = tuple(labels or ())
    if files and len(labels) <= highest:
        raise InvalidInputError(
            f"the images have labels up to {highest} but only {len(labels)} phases are named "
            f"({', '.join(labels)}); name the phase of every label, such as "
            f"{','.join((*labels, *labels[-1:] * (highest + 1 - len(labels))))}"
        )
    for name in labels:
        if phases and name not in phases:
            raise InvalidInputError(
                "labels and compositions name different phases: "
                + unknown_name("phase", name, phases)
            )
    if files and not elements and len(set(labels)) < 2:
        raise InvalidInputError(
            "the images hold one phase only and there are no compositions, so there is nothing to "
            "design; give images with two phases, or compositions"
        )
    return _Data(
        phases=phases or tuple(dict.fromkeys(labels)),
        elements=elements,
        labels=labels if files else (),
        patch=patch,
        files=files,
        table=table,
    )


def toml_key(name: str) -> str:
    """A key of a TOML table, quoted where it has to be."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else quoted(name)


def quoted(text: str) -> str:
    """A TOML string."""
    return json.dumps(text, ensure_ascii=False)


def quoted_list(names: Sequence[str]) -> str:
    """A TOML list of strings."""
    return "[" + ", ".join(map(quoted, names)) + "]"


def _campaign_text(
    folder: str, data: _Data, indexed: bool, simulators: Sequence[str], seed: int
) -> str:
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", folder).strip("-_.") or "campaign"
    lines = [
        "# What may be designed, what it shall reach, and how long the loop may run.",
        "",
        "[campaign]",
        f"name = {quoted(name)}",
        f"seed = {seed}  # the same seed on the same machine gives the same run",
        "",
        "[space]",
        f"phases = {quoted_list(data.phases)}",
    ]
    if data.elements:
        lines.append(f"elements = {quoted_list(data.elements)}")
    examples = quoted_list([f"{' + '.join(data.elements[:2])} >= 0.5", "at most 5 elements"])
    if data.table is not None and len(data.phases) == 1:
        lines += [
            "# What every composition keeps to besides its bounds, in atomic fractions:",
            f"# constraints = {examples}",
        ]
    if data.table is not None:
        lines += [
            "",
            "# Lowest and highest atomic fraction of each element in the given compositions;",
            "# no design leaves them. [0.0, 0.0] keeps an element out.",
        ]
        scale = 10**BOUND_DECIMALS
        low = np.floor(data.table.min(axis=0) * scale + 1e-6) / scale
        high = np.minimum(np.ceil(data.table.max(axis=0) * scale - 1e-6) / scale, 1.0)
        for phase, lows, highs in zip(data.phases, low, high, strict=True):
            lines += [f"[space.bounds.{toml_key(phase)}]"]
            lines += [
                f"{element} = [{a}, {b}]"
                for element, a, b in zip(data.elements, lows, highs, strict=True)
            ]
            lines.append("")
        lines.pop()
    if data.table is not None and len(data.phases) > 1:
        lines += [
            "",
            "# What the compositions of a phase keep to besides their bounds, in atomic fractions:",
            "# [space.constraints]",
            f"# {toml_key(data.phases[0])} = {examples}",
        ]
    if data.files:
        lines += [
            "",
            "[images]",
            f"folder = {quoted(_LABELS)}",
            f"labels = {quoted_list(data.labels)}  # phase of pixel value 0, 1, …",
            f"patch = {data.patch}  # edge of the designed micrographs, in pixels",
            "# downsample = 2  # take the majority of 2 x 2 pixels, to see larger regions",
            f"index = {quoted(_INDEX)}"
            if indexed
            else '# index = "index.csv"  # columns name, split: which image is train, val, test',
        ]
    if data.table is not None:
        lines += ["", "[compositions]", f"file = {quoted(_TABLE)}"]
    lines += [
        "",
        "[simulators]",
        f"use = {quoted_list(simulators)}",
        "",
        "[loop]",
        "rounds = 5",
        "batch = 60  # evaluations a round",
        "seeds = 400  # library designs evaluated before the first round",
    ]
    return "\n".join(lines) + "\n"


def _targets_text(table: Mapping[str, str], properties: Mapping[str, str]) -> str:
    lines = [
        "",
        "# What a design shall reach: put your own targets here. Each is one of",
        "#   range = [low, high]          value = 12.0 with tolerance = 0.1",
        "#   maximise = true              minimise = true",
    ]
    if properties:
        lines.append("# Properties that can be asked for (the name carries the unit):")
        lines += [f"#   {name}" for name in properties]
    for name, setting in table.items():
        lines += ["", f"[targets.{toml_key(name)}]", setting]
    return "\n".join(lines) + "\n"


def _first_target(draft: Path, text: str, data: _Data) -> dict[str, str]:
    """A target that the data alone can set; the user's own come in its place."""
    if len(data.phases) > 1 and data.files:
        name = f"{data.phases[1]}_fraction"
        # Any target makes the file loadable; the fractions of real crops then replace it.
        placeholder = {name: "range = [0.0, 1.0]"}
        (draft / _CAMPAIGN).write_text(text + _targets_text(placeholder, {}), encoding="utf-8")
        library = Library.load(load_campaign(draft))
        crops = library.patches(500, rng=np.random.default_rng(0))
        low, high = np.quantile((crops == 1).mean(axis=(1, 2)), [0.75, 0.95])
        if round(float(low), 3) < round(float(high), 3):
            comment = "  # 75 to 95 % quantile over crops of the images"
            return {name: f"range = [{low:.3f}, {high:.3f}]{comment}"}
        return placeholder
    return {"density_g_per_cm3": "minimise = true"}


def _write_checked(draft: Path, text: str, data: _Data, properties: Mapping[str, str]) -> None:
    """Write the campaign file into the draft and load it as a run would."""
    text += _targets_text(_first_target(draft, text, data), properties)
    (draft / _CAMPAIGN).write_text(text, encoding="utf-8")
    Library.load(load_campaign(draft))


def _copy(sources: Mapping[str, Sequence[Path]], draft: Path) -> None:
    for name, files in sources.items():
        if name == _LABELS and files:
            (draft / name).mkdir()
        for file in files:
            shutil.copyfile(file, draft / name / file.name if name == _LABELS else draft / name)


def move_into_place(draft: Path, folder: Path, names: Sequence[str]) -> None:
    """Rename everything into place, the campaign file last; undone when one rename fails."""
    made = not folder.exists()
    folder.mkdir(exist_ok=True)
    moved: list[Path] = []
    try:
        for name in names:
            target = folder / name
            if target.exists():  # a rename would silently replace it
                raise InvalidInputError(f"{target} appeared meanwhile and is not replaced")
            (draft / name).rename(target)
            moved.append(target)
    except (OSError, SpinodalError):
        for target in moved:
            target.rename(draft / target.name)
        if made:
            folder.rmdir()
        raise
