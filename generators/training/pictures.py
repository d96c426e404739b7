"""Sample pictures while a network trains."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from generators.training.files import file_name, write_whole
from loop.errors import InvalidInputError

GAP = 2  # px between two pictures of a sheet


@dataclass(frozen=True, slots=True)
class Pictures:
    """``draw()`` gives images (n, h, w) as the averaged weights make them, every so many steps.

    They go into ``folder/STAGE-STEP.png``. ``draw`` may use any random numbers: those of the
    training go on as if it had not been called.
    Raises InvalidInputError for ``every`` < 1.
    """

    folder: Path
    draw: Callable[[], NDArray[Any]]
    every: int = 500

    def __post_init__(self) -> None:
        if self.every < 1:
            raise InvalidInputError(f"pictures every {self.every} steps; expected 1 or more")

    def due(self, done: int) -> bool:
        """Whether pictures are drawn after so many steps."""
        return done % self.every == 0

    def write(self, stage: str, done: int) -> Path:
        """Draw, write, and return the path."""
        path = self.folder / f"{file_name(stage)}-{done:06d}.png"
        data = io.BytesIO()
        Image.fromarray(sheet(self.draw())).save(data, "png")
        write_whole(path, data.getvalue())
        return path


def sheet(images: NDArray[Any]) -> NDArray[np.uint8]:
    """Images (n, h, w) side by side on a nearly square sheet, grey values 0 to 255.

    Phase labels (whole numbers) are spread evenly from black to white, grey values (floating
    point) from 0 to 1. Raises InvalidInputError for another shape and values that are not finite.
    """
    if images.ndim != 3 or not images.size:
        raise InvalidInputError(f"pictures have shape {images.shape}; expected (n, h, w)")
    if not np.isfinite(images).all():
        raise InvalidInputError("pictures have values that are not finite; look at their network")
    top = 1.0 if np.issubdtype(images.dtype, np.floating) else max(1, int(images.max()))
    grey = np.round(255 * np.clip(images / top, 0, 1)).astype(np.uint8)
    n, h, w = images.shape
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    found = np.full((rows * (h + GAP) - GAP, columns * (w + GAP) - GAP), 255, dtype=np.uint8)
    for i, image in enumerate(grey):
        y, x = (i // columns) * (h + GAP), (i % columns) * (w + GAP)
        found[y : y + h, x : x + w] = image
    return found
