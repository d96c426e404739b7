"""Designs that a simulator made, where no micrographs exist: what a library keeps of them.

A source makes them in parts. Every part depends on the settings and its own number alone and is
written to a file of its own, so that making them may stop at any instant and go on, and ends with
the same designs. A second run reads the files.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from loop.errors import InvalidInputError, unknown_name
from loop.images import SPLITS
from loop.protocols import Progress, silent
from loop.space import BOUND_TOLERANCE, DesignSpace

FloatArray = NDArray[np.float64]

FORMAT = "1"  # of the files
HELD_OUT = 7  # every 7th image is for validation


@dataclass(frozen=True, slots=True, eq=False)
class MadeDesigns:
    """n designs on m <= n periodic images.

    ``images``: (m, h, w) uint8 phase labels. ``image``: (n,) place of the image of each design.
    ``compositions``: (n, p, e) of the phases. ``process``: (n, q), columns ``variables``.
    """

    images: NDArray[np.uint8]
    image: NDArray[np.int64]
    compositions: FloatArray
    process: FloatArray
    variables: tuple[str, ...]

    def __post_init__(self) -> None:
        for array in (self.images, self.image, self.compositions, self.process):
            array.setflags(write=False)

    @staticmethod
    def joined(parts: Sequence[MadeDesigns]) -> MadeDesigns:
        """All parts as one, in their order."""
        first = np.cumsum([0, *(len(part.images) for part in parts)])
        return MadeDesigns(
            images=np.concatenate([part.images for part in parts]),
            image=np.concatenate([p.image + start for p, start in zip(parts, first, strict=False)]),
            compositions=np.concatenate([part.compositions for part in parts]),
            process=np.concatenate([part.process for part in parts]),
            variables=parts[0].variables,
        )

    def rows(self, split: str) -> NDArray[np.int64]:
        """Places of the designs of a split; designs on one image are in one split."""
        if split not in SPLITS:
            raise InvalidInputError(unknown_name("split", split, SPLITS))
        held_out = self.image % HELD_OUT == HELD_OUT - 1
        chosen = {"train": ~held_out, "val": held_out, "test": np.zeros_like(held_out)}
        return np.flatnonzero(chosen[split])

    def digest(self) -> str:
        """SHA-256 over all of it."""
        found = hashlib.sha256(json.dumps(self.variables).encode())
        for array in (self.images, self.image, self.compositions, self.process):
            found.update(f"{array.dtype}{array.shape}".encode())
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    def check(self, space: DesignSpace) -> None:
        """Raises InvalidInputError where these are no designs of the space."""
        n, m = len(self.image), len(self.images)
        low, high = space.bound_arrays()
        limits = np.array(list(space.process.values())).reshape(-1, 2)
        expected = {
            "images": (self.images.shape[1:], space.image_shape),
            "compositions": (self.compositions.shape, (n, *low.shape)),
            "process variables": (self.variables, tuple(space.process)),
            "process values": (self.process.shape, (n, len(limits))),
        }
        for what, (found, wanted) in expected.items():
            if found != wanted:
                raise InvalidInputError(
                    f"made designs have {what} {found}; the design space expects {wanted}"
                )
        if n == 0 or self.image.min() < 0 or self.image.max() >= m:
            raise InvalidInputError(f"{n} made designs name images that are not among the {m}")
        outside = np.any(
            (self.compositions < low - BOUND_TOLERANCE)
            | (self.compositions > high + BOUND_TOLERANCE),
            axis=(1, 2),
        ) | np.any((self.process < limits[:, 0]) | (self.process > limits[:, 1]), axis=1)
        if outside.any():
            raise InvalidInputError(
                f"{int(outside.sum())} of {n} made designs lie outside [space.bounds] or "
                "[space.process]; widen them"
            )


class DesignSource(Protocol):
    """What makes designs. ``identity``: all that decides them, JSON-able."""

    name: str
    version: str
    parts: int

    def identity(self) -> Mapping[str, Any]: ...

    def make(self, part: int, *, progress: Progress = silent) -> MadeDesigns:
        """Part 0 <= part < parts; always the same. Raises InvalidInputError where it cannot."""
        ...


def source_hash(source: DesignSource) -> str:
    """What tells this library from others."""
    described = [FORMAT, source.name, source.version, source.parts, source.identity()]
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]


def made_designs(source: DesignSource, folder: Path, *, progress: Progress = silent) -> MadeDesigns:
    """The designs of a source, read from ``folder/HASH`` as far as they are there, else made.

    Two runs that want them at once make them once. Raises InvalidInputError for a file that is
    damaged or cannot be written, and what the source raises.
    """
    place = folder / source_hash(source)
    files = [place / f"part-{part:03d}.npz" for part in range(source.parts)]
    found = []
    try:
        place.mkdir(parents=True, exist_ok=True)
        with FileLock(place / "making.lock"):
            for part, file in enumerate(files):
                if not file.exists():
                    progress("make library", part, source.parts)
                    _write(file, source.make(part, progress=progress))
                    progress("make library", part + 1, source.parts)
                found.append(_read(file))
    except OSError as error:
        raise InvalidInputError(
            f"library {place} cannot be used: {error.strerror or error}; give a place that can be "
            "written, or more room"
        ) from None
    return MadeDesigns.joined(found)


def _write(file: Path, designs: MadeDesigns) -> None:
    """Beside, then renamed: a file is whole or not there."""
    beside = file.with_suffix(".writing")
    with beside.open("wb") as opened:
        np.savez_compressed(
            opened,
            images=designs.images,
            image=designs.image,
            compositions=designs.compositions,
            process=designs.process,
            variables=np.array(designs.variables, dtype=np.str_),
            digest=np.array(designs.digest()),
        )
        opened.flush()
        os.fsync(opened.fileno())
    beside.replace(file)


def _read(file: Path) -> MadeDesigns:
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as stored:
            designs = MadeDesigns(
                images=stored["images"],
                image=stored["image"],
                compositions=stored["compositions"],
                process=stored["process"],
                variables=tuple(str(name) for name in stored["variables"]),
            )
            whole = str(stored["digest"]) == designs.digest()
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile):
        whole = False
    if not whole:
        raise InvalidInputError(
            f"{file} is damaged; delete it, and the next run makes that part again"
        )
    return designs
