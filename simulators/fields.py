"""From label images and phase properties to material fields on a device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from loop.errors import InvalidInputError

FloatArray = NDArray[np.float64]

# Pixels solved together: on a CPU the working set should stay in the cache, a GPU wants much.
PIXELS_CPU = 4 * 64 * 64
PIXELS_GPU = 512 * 64 * 64


def checked_phases(
    labels: ArrayLike, properties: Mapping[str, ArrayLike]
) -> tuple[NDArray[np.int64], dict[str, FloatArray]]:
    """Label images as (n, h, w) int64 and each property as (n, p) float64, finite and > 0.

    Raises InvalidInputError for wrong shapes, types, labels or values.
    """
    image = np.asarray(labels)
    if image.ndim != 3 or image.size == 0:
        raise InvalidInputError(f"labels have shape {image.shape}; expected (n, h, w), none empty")
    if not np.issubdtype(image.dtype, np.integer):
        raise InvalidInputError(f"labels have type {image.dtype}; expected integers")
    checked: dict[str, FloatArray] = {}
    for name, given in properties.items():
        values = np.asarray(given, dtype=np.float64)
        if values.ndim == 1:
            values = np.broadcast_to(values, (len(image), len(values)))
        if values.ndim != 2 or len(values) != len(image):
            raise InvalidInputError(
                f"{name} has shape {values.shape}; expected (p,) or ({len(image)}, p)"
            )
        if image.min() < 0 or image.max() >= values.shape[1]:
            raise InvalidInputError(
                f"labels reach from {image.min()} to {image.max()} but {name} is given for "
                f"{values.shape[1]} phases; expected labels 0 to {values.shape[1] - 1}"
            )
        wrong = values[~(np.isfinite(values) & (values > 0))]
        if wrong.size:
            raise InvalidInputError(f"{name} {wrong[0]:g}; expected finite values > 0")
        checked[name] = np.array(values)
    return image.astype(np.int64), checked


def field_chunks(
    image: NDArray[np.int64], values: list[FloatArray], *, device: str, dtype: torch.dtype
) -> Iterator[list[Tensor]]:
    """Fields (n', h, w) of each property, a few images at a time.

    ``image``: (n, h, w) labels. ``values``: (n, p) each. Results do not depend on the chunks:
    every image is its own system.
    """
    limit = PIXELS_CPU if torch.device(device).type == "cpu" else PIXELS_GPU
    size = max(1, limit // (image.shape[1] * image.shape[2]))
    for start in range(0, len(image), size):
        index = torch.as_tensor(image[start : start + size], device=device)
        flat = index.flatten(1)
        yield [
            torch.gather(
                torch.as_tensor(table[start : start + size], device=device, dtype=dtype), 1, flat
            ).reshape(index.shape)
            for table in values
        ]


def collect(parts: list[tuple[Tensor, ...]]) -> list[NDArray[np.generic]]:
    """Tuples of tensors of successive chunks -> arrays over all images."""
    return [torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True)]
