"""What a library reads: label images, the table of compositions and its labels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loop.campaign import Campaign
from loop.composition_table import read_compositions, read_labels_of_rows
from loop.errors import InvalidInputError, unknown_name
from loop.formula import check_symbol
from loop.images import (
    SPLITS,
    LabelImage,
    SplitImages,
    downsample,
    list_images,
    read_index,
    read_labels,
    split_by_name,
    to_phases,
)
from loop.process_labels import FREE, Codes
from loop.space import BOUND_TOLERANCE


def hash_files(files: Iterable[Path]) -> str:
    """SHA-256 over names and contents of files, in order of their names."""
    digest = hashlib.sha256()
    for file in sorted(files):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"{file.name} {content}\n".encode())
    return digest.hexdigest()


def load_images(campaign: Campaign, files: list[Path]) -> SplitImages | None:
    """The campaign's label images as phase images, None where it has none; notes the files.

    Raises InvalidInputError naming file and place.
    """
    settings = campaign.images
    if settings is None:
        return None
    phases = campaign.space.phases
    phase_of_label = [phases.index(name) for name in settings.labels]
    listed = list_images(campaign.folder / settings.folder)

    def read(path: Path) -> LabelImage:
        labels = to_phases(path, read_labels(path), phase_of_label)
        labels = downsample(labels, settings.downsample, len(phases))
        if min(labels.shape) < settings.patch:
            h, w = labels.shape
            after = (
                f" after downsampling by {settings.downsample}" if settings.downsample > 1 else ""
            )
            lower = "images.downsample or images.patch" if after else "images.patch"
            raise InvalidInputError(
                f"image {path} has {w} x {h} pixels{after}, smaller than the patch of "
                f"{settings.patch} x {settings.patch}; lower {lower} or give larger images"
            )
        files.append(path)
        return labels

    if settings.index is None:
        found = split_by_name([(path.name, read(path)) for path in listed], settings.patch)
        return checked_variety(found, phases)
    index = campaign.folder / settings.index
    by_split = read_index(index, listed)
    files.append(index)
    images = {split: tuple(map(read, by_split[split])) for split in SPLITS}
    found = SplitImages(
        images=images,
        names={split: tuple(path.name for path in by_split[split]) for split in SPLITS},
        note=f"by {index.name}: " + ", ".join(f"{len(images[s])} {s}" for s in SPLITS),
    )
    return checked_variety(found, phases)


def checked_variety(found: SplitImages, phases: Sequence[str]) -> SplitImages:
    """The images, when phases meet in some image of every split that has images."""
    for split, images in found.images.items() if len(phases) > 1 else ():
        if images and all(image.min() == image.max() for image in images):
            raise InvalidInputError(
                f"the {split} images ({', '.join(found.names[split][:3])}) show one phase only, "
                f"{phases[int(images[0].flat[0])]}; give images in which phases meet, or check "
                "images.labels and the split"
            )
    return found


def load_table(
    campaign: Campaign, files: list[Path]
) -> tuple[NDArray[np.float64] | None, Codes | None, int]:
    """Compositions (n, p, e) and label codes (n, l) of the rows that lie in the space.

    Codes are ``FREE`` in columns of labels that the table does not have. The number is that of
    the rows outside. Nothing where the campaign has no table; notes the files.
    Raises InvalidInputError naming file and place, and where no row lies in the space.
    """
    settings = campaign.compositions
    if settings is None:
        return None, None, 0
    space = campaign.space
    for element in space.elements:
        check_symbol(element, "space.elements")
    path = campaign.folder / settings.file
    table = read_compositions(path, space.phases, space.elements)
    texts = read_labels_of_rows(path, space.labels)
    files.append(path)
    low, high = space.bound_arrays()
    inside = np.all(
        (table >= low - BOUND_TOLERANCE) & (table <= high + BOUND_TOLERANCE), axis=(1, 2)
    )
    if not inside.any():
        raise InvalidInputError(
            f"compositions {path}: none of the {len(table)} rows lies within [space.bounds]; "
            "widen the bounds"
        )
    within = inside
    codes = np.full((len(table), len(space.labels)), FREE)
    for column, (name, values) in enumerate(space.labels.items()):
        if name not in texts:
            continue
        found = np.array([values.index(t) if t in values else FREE for t in texts[name]])
        if np.all(found[within] == FREE):
            first = texts[name][int(np.argmax(within))]
            raise InvalidInputError(
                f"compositions {path}, column {name}: no row has one of the values in "
                f"space.labels.{name}: " + unknown_name("value", first, values)
            )
        inside = inside & (found != FREE)
        codes[:, column] = found
    if not inside.any():
        raise InvalidInputError(
            f"compositions {path}: no row has values of all of {', '.join(texts)} that are in "
            "[space.labels]; list more values there"
        )
    kept, labels = table[inside], codes[inside]
    for array in (kept, labels):
        array.setflags(write=False)
    return kept, labels, int((~inside).sum())
