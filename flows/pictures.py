"""Label images side by side, as one grey picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

EDGE = 2  # px between images
GREY = 128


def side_by_side(
    images: Sequence[NDArray[np.uint8]], phases: int, *, scale: int = 2, columns: int | None = None
) -> NDArray[np.uint8]:
    """Label images (h, w) of ``phases`` as grey values (H, W), in rows of ``columns``; None: one.

    Every pixel becomes ``scale`` by ``scale`` pixels.
    """
    step = 255 / max(phases - 1, 1)
    grey = [np.kron(image, np.ones((scale, scale))) * step for image in images]
    framed = [np.pad(one, EDGE, constant_values=GREY) for one in grey]
    columns = len(framed) if columns is None else min(len(framed), columns)
    framed += [np.full_like(framed[0], GREY)] * (-len(framed) % columns)
    rows = [np.hstack(framed[i : i + columns]) for i in range(0, len(framed), columns)]
    return np.vstack(rows).round().astype(np.uint8)
