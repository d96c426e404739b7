"""From label images and phase properties to material fields on a device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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


def rfft3(field: Tensor) -> Tensor:
    """Real (..., d, h, w) -> complex (..., d, h, w // 2 + 1), with the backends of ``rfft2``."""
    if field.device.type != "cpu":
        return torch.fft.rfftn(field, dim=(-3, -2, -1))
    return torch.from_numpy(scipy.fft.rfftn(field.numpy(), axes=(-3, -2, -1), workers=1))


def irfft3(spectrum: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Inverse of ``rfft3`` for fields of the given shape."""
    if spectrum.device.type != "cpu":
        return torch.fft.irfftn(spectrum, s=shape, dim=(-3, -2, -1))
    axes = (-3, -2, -1)
    return torch.from_numpy(scipy.fft.irfftn(spectrum.numpy(), s=shape, axes=axes, workers=1))


def one_by_one(function: Callable[[Tensor, Tensor], Tensor], u: Tensor, k: Tensor) -> Tensor:
    """``function(u, k)`` of nodal fields u (n, l, h, w) and their material k (n, 1, h, w).

    On a CPU field by field where they are large: the temporaries then stay small, and memory that
    is asked for afresh costs more than the arithmetic.
    """
    if u.device.type != "cpu" or u.numel() <= VALUES_CPU:
        return function(u, k)
    result = torch.empty_like(u)
    for i in range(len(u)):
        for j in range(u.shape[1]):
            result[i, j] = function(u[i : i + 1, j : j + 1], k[i : i + 1])[0, 0]
    return result


def checked_labels(labels: ArrayLike, dimensions: tuple[int, ...] = (2,)) -> NDArray[np.int64]:
    """Label images as (n, h, w) or (n, d, h, w) int64, of one of the given dimensions.

    Raises InvalidInputError for a wrong shape or type.
    """
    image = np.asarray(labels)
    if image.ndim - 1 not in dimensions or image.size == 0:
        shapes = {2: "(n, h, w)", 3: "(n, d, h, w)"}
        expected = " or ".join(shapes[dimension] for dimension in dimensions)
        raise InvalidInputError(f"labels have shape {image.shape}; expected {expected}, none empty")
    if not np.issubdtype(image.dtype, np.integer):
        raise InvalidInputError(f"labels have type {image.dtype}; expected integers")
    return image.astype(np.int64)


def checked_range(image: NDArray[np.int64], name: str, phases: int) -> None:
    """Raises InvalidInputError when a label has no phase."""
    if image.min() < 0 or image.max() >= phases:
        raise InvalidInputError(
            f"labels reach from {image.min()} to {image.max()} but {name} is given for "
            f"{phases} phases; expected labels 0 to {phases - 1}"
        )


def checked_phases(
    labels: ArrayLike, properties: Mapping[str, ArrayLike], *, dimensions: tuple[int, ...] = (2,)
) -> tuple[NDArray[np.int64], dict[str, FloatArray]]:
    """Label images as ``checked_labels`` and each property as (n, p) float64, finite and > 0.

    Raises InvalidInputError for wrong shapes, types, labels or values.
    """
    image = checked_labels(labels, dimensions)
    checked: dict[str, FloatArray] = {}
    for name, given in properties.items():
        values = np.asarray(given, dtype=np.float64)
        if values.ndim == 1:
            values = np.broadcast_to(values, (len(image), len(values)))
        if values.ndim != 2 or len(values) != len(image):
            raise InvalidInputError(
                f"{name} has shape {values.shape}; expected (p,) or ({len(image)}, p)"
            )
        checked_range(image, name, values.shape[1])
        wrong = values[~(np.isfinite(values) & (values > 0))]
        if wrong.size:
            raise InvalidInputError(f"{name} {wrong[0]:g}; expected finite values > 0")
        checked[name] = np.array(values)
    return image, checked


def checked_tensors(
    labels: ArrayLike, name: str, given: ArrayLike
) -> tuple[NDArray[np.int64], FloatArray]:
    """Label images (n, h, w) or (n, d, h, w) and a symmetric positive property of their phases.

    ``given``: (p,) or (n, p) for isotropic phases, (p, m, m) or (n, p, m, m) for anisotropic ones,
    m = 2 or 3 as the images have dimensions. Returns (n, p) or (n, p, m, m) float64.
    Raises InvalidInputError for wrong shapes, types or labels, and for values that are not finite,
    symmetric and positive definite.
    """
    values = np.asarray(given, dtype=np.float64)
    if values.ndim <= 2:
        image, checked = checked_phases(labels, {name: values}, dimensions=(2, 3))
        return image, checked[name]
    image = checked_labels(labels, (2, 3))
    m = image.ndim - 1
    if values.ndim == 3:
        values = np.broadcast_to(values, (len(image), *values.shape))
    if values.ndim != 4 or len(values) != len(image) or values.shape[2:] != (m, m):
        raise InvalidInputError(
            f"{name} has shape {np.shape(given)}; expected (p,), (p, {m}, {m}), ({len(image)}, p) "
            f"or ({len(image)}, p, {m}, {m}) for {m}-dimensional images"
        )
    checked_range(image, name, values.shape[1])
    if not np.all(np.isfinite(values)):
        raise InvalidInputError(f"{name} holds a value that is not finite; correct it")
    turned = values.swapaxes(-1, -2)
    size = np.abs(values).max((-2, -1))
    skew = np.abs(values - turned).max((-2, -1)) > 1e-12 * size
    if skew.any():
        phase = int(np.argwhere(skew)[0, -1])
        raise InvalidInputError(
            f"{name} of phase {phase} is not symmetric; expected equal entries (i, j) and (j, i)"
        )
    values = 0.5 * (values + turned)
    least = np.linalg.eigvalsh(values)[..., 0]
    if np.any(least <= 0):
        phase = int(np.argwhere(least <= 0)[0, -1])
        raise InvalidInputError(
            f"{name} of phase {phase} has the eigenvalue {least[least <= 0][0]:g}; "
            "expected a positive definite tensor"
        )
    return image, values


def field_chunks(
    image: NDArray[np.int64],
    values: list[FloatArray],
    *,
    systems: int,
    device: str,
    dtype: torch.dtype,
) -> Iterator[list[Tensor]]:
    """Fields (n', h, w) or (n', d, h, w) of each property, a few images at a time.

    ``image``: (n, h, w) or (n, d, h, w) labels. ``values``: (n, p) each.
    ``systems``: nodal values per pixel.
    Results do not depend on the chunks: every image is its own system.
    """
    limit = VALUES_CPU if torch.device(device).type == "cpu" else VALUES_GPU
    size = max(1, limit // (image[0].size * systems))
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
