"""From label images and phase properties to material fields on a device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import scipy.fft
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from loop.errors import InvalidInputError

FloatArray = NDArray[np.float64]

# Nodal values solved together: on a CPU they should stay in the cache, a GPU wants many.
VALUES_CPU = 2**16
VALUES_GPU = 2**23


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch in the calling thread alone, and as before afterwards.

    Fields this small are several times slower when threads share them, and sums would depend
    on the number of threads: results shall not.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def rfft2(field: Tensor) -> Tensor:
    """Real (..., h, w) -> complex (..., h, w // 2 + 1).

    On a CPU by scipy: torch's transforms there depend in the last bit on a thread count that all
    threads of the process share.
    """
    if field.device.type != "cpu":
        return torch.fft.rfft2(field)
    return torch.from_numpy(scipy.fft.rfft2(field.numpy(), workers=1))


def irfft2(spectrum: Tensor, shape: tuple[int, int]) -> Tensor:
    """Inverse of ``rfft2`` for fields of the given shape."""
    if spectrum.device.type != "cpu":
        return torch.fft.irfft2(spectrum, s=shape)
    return torch.from_numpy(scipy.fft.irfft2(spectrum.numpy(), s=shape, workers=1))


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
    image: NDArray[np.int64],
    values: list[FloatArray],
    *,
    systems: int,
    device: str,
    dtype: torch.dtype,
) -> Iterator[list[Tensor]]:
    """Fields (n', h, w) of each property, a few images at a time.

    ``image``: (n, h, w) labels. ``values``: (n, p) each. ``systems``: nodal values per pixel.
    Results do not depend on the chunks: every image is its own system.
    """
    limit = VALUES_CPU if torch.device(device).type == "cpu" else VALUES_GPU
    size = max(1, limit // (image.shape[1] * image.shape[2] * systems))
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
