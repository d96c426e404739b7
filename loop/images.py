"""Label images of a campaign: reading with every check before use, downsampling, splitting.

A label image has one 8-bit channel (or a palette, whose indices count) whose pixel values name
phases. Grey micrographs are not segmented here; they are refused with a hint.
"""

from __future__ import annotations

import csv
import re
import struct
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from loop.errors import InvalidInputError, unknown_name

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif", ".pgm")
LOSSY_SUFFIXES = (".jpg", ".jpeg", ".webp")
MAX_PIXELS = 80_000_000  # above 8192 x 8192, below where Pillow suspects an attack by itself
HELD_OUT = 0.15  # share of the images (or of one image) for val, and again for test

LabelImage = NDArray[np.uint8]

_COLOUR_MODES = ("RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "LA", "PA", "La", "RGBa")


def list_images(folder: Path) -> list[Path]:
    """Image files directly in ``folder``, sorted by name.

    Raises InvalidInputError when the folder is missing, holds no image, or holds a lossy one.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise InvalidInputError(
            f"image folder {folder} {what}; expected a folder of label images (PNG)"
        )
    # A link that leads nowhere is no file, but is meant as one.
    entries = [f for f in folder.iterdir() if f.is_file() or f.is_symlink()]
    files = sorted(f for f in entries if not f.name.startswith("."))
    for file in files:
        if file.suffix.lower() in LOSSY_SUFFIXES:
            raise InvalidInputError(
                f"image {file} is {file.suffix[1:].upper()}, whose compression changes labels; "
                "save it as PNG"
            )
    images = [f for f in files if f.suffix.lower() in SUFFIXES]
    if not images:
        raise InvalidInputError(
            f"image folder {folder} holds no image ({len(files)} other files); expected label "
            f"images with suffix {', '.join(SUFFIXES)}"
        )
    return images


def read_labels(path: Path) -> LabelImage:
    """Pixel values of a label image, (h, w) uint8, as stored.

    Raises InvalidInputError for a file that cannot be read, is too large, has several pages,
    colour or more than 8 bits. The size is checked before any pixel is decoded.
    """
    try:
        with warnings.catch_warnings():
            # Pillow only warns between one and two times its limit; here the limit is a limit.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                _check_header(path, image)
                return np.array(image, dtype=np.uint8)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        claimed = re.search(r"\d+ pixels", str(error))
        raise InvalidInputError(
            _gigantic(path, claimed[0] if claimed else "too many pixels")
        ) from None
    except UnidentifiedImageError:
        raise InvalidInputError(
            f"image {path} is not readable: not an image format Pillow knows; save it as PNG"
        ) from None
    except InvalidInputError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, struct.error) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise InvalidInputError(
            f"image {path} is not readable: {reason}; save it again as PNG"
        ) from None


def _gigantic(path: Path, size: str) -> str:
    return (
        f"image {path} has {size}; the limit is {MAX_PIXELS:,} in all (more is not decoded); "
        "cut it into smaller images"
    )


def _check_header(path: Path, image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise InvalidInputError(_gigantic(path, f"{width} x {height} pixels"))
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise InvalidInputError(
            f"image {path} has {frames} pages; expected one; save each as its own file"
        )
    if image.mode in _COLOUR_MODES:
        raise InvalidInputError(
            f"image {path} is in colour (mode {image.mode}); expected labels 0, 1, … in one 8-bit "
            "channel; map each colour to its label and save as 8-bit greyscale PNG"
        )
    if image.mode not in ("L", "P", "1"):
        raise InvalidInputError(
            f"image {path} has depth {image.mode} (more than 8 bits); expected labels 0, 1, … in "
            "one 8-bit channel; save it as 8-bit greyscale PNG"
        )


def to_phases(path: Path, pixels: LabelImage, phase_of_label: Sequence[int]) -> LabelImage:
    """Pixel values -> phase numbers, (h, w) uint8; ``phase_of_label[v]`` is the phase of value v.

    Raises InvalidInputError for a pixel value that has no phase.
    """
    highest = int(pixels.max())
    if highest >= len(phase_of_label):
        values = np.unique(pixels)
        shown = ", ".join(map(str, values[:6])) + (", …" if len(values) > 6 else "")
        known = f"expected labels 0 to {len(phase_of_label) - 1} (images.labels names a phase each)"
        if len(values) > 16:
            hint = (
                "this looks like a grey micrograph; only label images are supported: segment it "
                "first and give the labels"
            )
        elif len(values) <= len(phase_of_label):
            hint = f"relabel them to 0 … {len(values) - 1}"
        else:
            hint = "relabel the image or add the missing labels to images.labels"
        raise InvalidInputError(f"image {path} has pixel values {shown}; {known}; {hint}")
    table = np.asarray(phase_of_label, dtype=np.uint8)
    phases: LabelImage = table[pixels]
    return phases


def downsample(labels: LabelImage, factor: int, n_labels: int) -> LabelImage:
    """Majority vote over factor x factor blocks, (h, w) -> (h // factor, w // factor).

    Ties go to the lower label; rows and columns that fill no whole block are cut off.
    """
    if factor == 1:
        return labels
    h, w = labels.shape[0] // factor, labels.shape[1] // factor
    blocks = labels[: h * factor, : w * factor].reshape(h, factor, w, factor)
    votes = np.stack([(blocks == label).sum(axis=(1, 3)) for label in range(n_labels)])
    return votes.argmax(axis=0).astype(np.uint8)


def read_index(path: Path, images: Sequence[Path]) -> dict[Split, list[Path]]:
    """Split of an index CSV with columns ``name`` (with or without suffix) and ``split``.

    Images that the index does not name are not used. Raises InvalidInputError for a missing
    column, a name without file, a name listed twice, an unknown split or no train image.
    """
    by_name = {file.name: file for file in images}
    stems = [file.stem for file in images]
    by_name |= {file.stem: file for file in images if stems.count(file.stem) == 1}
    found: dict[Split, list[Path]] = {split: [] for split in SPLITS}
    seen: set[Path] = set()
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            missing = {"name", "split"} - set(reader.fieldnames or ())
            if missing:
                raise InvalidInputError(
                    f"image index {path} lacks the column {sorted(missing)[0]!r}; expected columns "
                    "name and split (train, val or test)"
                )
            for row in reader:
                name, split = (row["name"] or "").strip(), (row["split"] or "").strip()
                if name not in by_name:
                    raise InvalidInputError(
                        f"image index {path}, line {reader.line_num}: "
                        + unknown_name("image", name, {file.name for file in images})
                    )
                if split not in SPLITS:
                    raise InvalidInputError(
                        f"image index {path}, line {reader.line_num}: "
                        + unknown_name("split", split, SPLITS)
                    )
                if by_name[name] in seen:
                    raise InvalidInputError(
                        f"image index {path}, line {reader.line_num}: {name} is listed twice; "
                        "one image belongs to one split"
                    )
                seen.add(by_name[name])
                found[split].append(by_name[name])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidInputError(
            f"cannot read image index {path}: {reason}; expected a CSV file with columns name, "
            "split"
        ) from None
    if not found["train"]:
        raise InvalidInputError(
            f"image index {path} names no train image; give at least one the split train"
        )
    return {split: sorted(files) for split, files in found.items()}


@dataclass(frozen=True, slots=True)
class SplitImages:
    """Phase images by split, each (h, w) uint8; ``names`` runs parallel; ``note`` says how."""

    images: Mapping[Split, tuple[LabelImage, ...]]
    names: Mapping[Split, tuple[str, ...]]
    note: str


def split_by_name(named: Sequence[tuple[str, LabelImage]], patch: int) -> SplitImages:
    """Deterministic split where no index is given.

    Three images or more: sorted by name, the last 15 % are test, those before them val, at
    least one each. One or two: each is cut along its longer side, 70 % train, 15 % val, 15 %
    test, if every piece still holds a patch; otherwise all is train, val and test are empty.
    """
    n = len(named)
    parts: dict[Split, list[tuple[str, LabelImage]]] = {split: [] for split in SPLITS}
    if n >= 3:
        held = max(1, round(HELD_OUT * n))
        parts["train"] = list(named[: n - 2 * held])
        parts["val"] = list(named[n - 2 * held : n - held])
        parts["test"] = list(named[n - held :])
        note = f"by file name: {n - 2 * held} train, {held} val, {held} test"
    elif all(int(HELD_OUT * max(image.shape)) >= patch for _, image in named):
        for name, image in named:
            axis = int(image.shape[1] >= image.shape[0])
            held = int(HELD_OUT * image.shape[axis])
            cuts = [image.shape[axis] - 2 * held, image.shape[axis] - held]
            for split, piece in zip(SPLITS, np.split(image, cuts, axis=axis), strict=True):
                parts[split].append((name, piece))
        note = "by region: 70 % of each image train, 15 % val, 15 % test"
    else:
        parts["train"] = list(named)
        note = "all train: too few and too small images to hold any back for val and test"
    return SplitImages(
        images={split: tuple(image for _, image in parts[split]) for split in SPLITS},
        names={split: tuple(name for name, _ in parts[split]) for split in SPLITS},
        note=note,
    )
