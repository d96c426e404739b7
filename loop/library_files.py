"""What a library holds: label images, the table of compositions and its labels, read or drawn."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
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
from loop.library_sampled import sampled_table
from loop.polytope import CompositionSet
from loop.process_labels import FREE, Codes
from loop.space import BOUND_TOLERANCE, DesignSpace


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
    the rows outside. Where a campaign starts from known alloys these may break constraints: they
    are data. Nothing where the campaign has no table; notes the files.
    Raises InvalidInputError naming file and place, and where no row lies in the space, or
    constraints leave fewer designs than a surrogate learns from.
    """
    settings = campaign.compositions
    if settings is None:
        return None, None, 0
    space = campaign.space
    for element in space.elements:
        check_symbol(element, "space.elements")
    if settings.file is None:
        drawn = sampled_table(campaign)
        return drawn, np.full((len(drawn), len(space.labels)), FREE), 0
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
    spared = campaign.starts_from_known
    breaks = {} if spared else broken_constraints(space, table)
    if breaks:
        allowed = inside & ~np.any(list(breaks.values()), axis=0)
        counts = {text: int((inside & broken).sum()) for text, broken in breaks.items()}
        if not allowed.any():
            raise InvalidInputError(
                f"compositions {path}: none of the {int(inside.sum())} rows within [space.bounds] "
                f"meets all of space.constraints: {_worst_first(counts)}; loosen them, add rows, "
                'or have compositions drawn ([compositions] sample = "sobol")'
            )
        inside = allowed
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
    if breaks:
        _check_enough(
            campaign,
            kept,
            labels,
            f"compositions {path}: of {len(table)} rows {_worst_first(counts)}",
        )
    for array in (kept, labels):
        array.setflags(write=False)
    return kept, labels, int((~inside).sum())


def broken_constraints(
    space: DesignSpace, table: NDArray[np.float64]
) -> dict[str, NDArray[np.bool_]]:
    """Of compositions (n, p, e), constraint in words -> (n,) which rows break it; all of them.

    With several phases the words begin with the phase's name.
    """
    found = {}
    for i, phase in enumerate(space.phases):
        for text in space.constraints_of(phase):
            one = CompositionSet.of(space.elements, (text,))
            words = text if len(space.phases) == 1 else f"{phase}: {text}"
            found[words] = ~one.is_feasible(table[:, i], tolerance=BOUND_TOLERANCE)
    return found


def _worst_first(counts: Mapping[str, int]) -> str:
    """``'Cr >= 0.5' turns away 257, 'at most 3 elements' 12``."""
    order = sorted((k for k in counts if counts[k]), key=lambda k: -counts[k])
    if not order:
        return "none breaks a constraint"
    texts = [f"{text!r} {counts[text]}" for text in order]
    texts[0] = f"{order[0]!r} turns away {counts[order[0]]}"
    return ", ".join(texts)


def _check_enough(
    campaign: Campaign, table: NDArray[np.float64], labels: Codes, found: str
) -> None:
    """Raises InvalidInputError where the rows left make fewer designs than a surrogate needs.

    With images or process variables there are always enough. ``found``: what turned others away.
    """
    from loop.surrogate import MIN_ROWS  # with torch, which reading a table can do without

    space = campaign.space
    if space.image_shape is not None or any(low < high for low, high in space.process.values()):
        return
    free = [
        len(v)
        for v, column in zip(space.labels.values(), labels.T, strict=True)
        if np.any(column == FREE)
    ]
    rows = np.concatenate([table.reshape(len(table), -1), labels], axis=1)
    designs = len(np.unique(rows, axis=0)) * math.prod(free)
    if designs < MIN_ROWS:
        raise InvalidInputError(
            f"{found}; what is left makes {designs} designs, and a surrogate learns from at least "
            f"{MIN_ROWS}: loosen space.constraints, add rows, or have compositions drawn "
            '([compositions] sample = "sobol")'
        )
