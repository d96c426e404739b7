"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import re
from pathlib import Path


def write_whole(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, whose folder is made where it lacks.

    Written beside, flushed to disk, then renamed: a crash leaves the old file or the new one.
    Raises OSError, and then leaves nothing beside.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)  # the rename itself must survive a power cut
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def file_name(text: str) -> str:
    """``text`` in letters, digits and dashes: "joint flow" is "joint-flow"."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "training"
