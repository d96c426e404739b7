"""Maps of local phase fractions: of images, by windows, requested, and how well they are met."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional

from loop.errors import InvalidInputError

FloatArray = NDArray[np.float64]
Axis = Literal["x", "y"]
ROUNDING = 1e-6


def fraction_maps(images: NDArray[np.uint8], phases: int, cell: int) -> FloatArray:
    """(n, h, w) labels -> (n, p - 1, h // cell, w // cell): fractions of all phases but the first.

    Means over blocks of ``cell`` px; rows and columns that fill no whole block are left out.
    Raises InvalidInputError for images smaller than a block.
    """
    n, h, w = images.shape
    rows, columns = h // cell, w // cell
    if not rows or not columns:
        raise InvalidInputError(f"images of {w} x {h} px have no window of {cell} x {cell} px")
    blocks = images[:, : rows * cell, : columns * cell].reshape(n, rows, cell, columns, cell)
    return np.stack([(blocks == p).mean((2, 4)) for p in range(1, phases)], axis=1)


def checked_map(fractions: ArrayLike, phases: int) -> FloatArray:
    """A requested map as (p - 1, h, w) float64; two phases may come as (h, w).

    Raises InvalidInputError for another shape, values that are no fractions and sums above 1.
    """
    found = np.asarray(fractions, dtype=np.float64)
    found = found[None] if found.ndim == 2 else found
    if found.ndim != 3 or len(found) != phases - 1 or not found.size:
        raise InvalidInputError(
            f"map of fractions has shape {np.shape(fractions)}; expected ({phases - 1}, h, w), "
            "one channel for each phase but the first"
        )
    if not np.isfinite(found).all():
        raise InvalidInputError("map of fractions has values that are not finite; give all of them")
    if found.min() < 0 or found.max() > 1 or found.sum(0).max() > 1 + ROUNDING:
        raise InvalidInputError(
            f"map of fractions goes from {found.min():g} to {found.max():g}, with sums up to "
            f"{found.sum(0).max():g}; expected fractions between 0 and 1 whose sum is at most 1"
        )
    return found


def gradient_map(
    first: float, last: float, shape: tuple[int, int], along: Axis = "x"
) -> FloatArray:
    """(1, h, w): from ``first`` at the left (top) edge to ``last`` at the right (bottom) edge.

    Values are those at the middle of each cell.
    """
    h, w = shape
    n = w if along == "x" else h
    line = first + (last - first) * (np.arange(n) + 0.5) / n
    return np.broadcast_to(line if along == "x" else line[:, None], (1, h, w)).copy()


def resampled(fractions: FloatArray, shape: tuple[int, int]) -> Tensor:
    """(m, h, w) at another resolution, float32: means where it gets coarser, else bilinear."""
    given = torch.from_numpy(fractions).float()[None]
    smaller = shape[0] <= given.shape[2] and shape[1] <= given.shape[3]
    if smaller:
        return functional.adaptive_avg_pool2d(given, shape)[0]
    found = functional.interpolate(given, size=shape, mode="bilinear", align_corners=False)
    return found[0]


def block_means(n: int, size: int, offset: int = 0) -> Tensor:
    """(n, n): what the mean over blocks of ``size`` makes of n numbers, one block after another.

    Blocks begin ``offset`` before the first number; what the edges leave of one is a block. A
    projection, so that a map of means is the conditional mean of itself, which a map smoothed by
    overlapping windows is not.
    """
    block = (torch.arange(n) + offset) // size
    same = (block[:, None] == block[None]).float()
    return same / same.sum(1, keepdim=True)


def window_sizes(cells: tuple[int, int]) -> list[int]:
    """1, 2, 4, ... up to the larger side: the windows that a branch knows, in cells."""
    return [2**i for i in range((max(cells) - 1).bit_length() + 1)]


class Windows:
    """Maps (b, m, h, w) as means over windows of random size and place, each side by itself."""

    def __init__(self, shape: tuple[int, int], sizes: Sequence[int]) -> None:
        self.sizes = torch.tensor(sizes)
        self.most = max(sizes)
        self.rows, self.columns = (
            torch.stack([block_means(n, s, o % s) for s in sizes for o in range(self.most)])
            for n in shape
        )

    def __call__(self, maps: Tensor, generator: torch.Generator) -> Tensor:
        """(b, m + 2, h, w): each row of ``maps`` through windows of its own, which it names."""
        b = len(maps)
        which = torch.randint(len(self.sizes), (2, b), generator=generator)
        place = which * self.most + torch.randint(self.most, (2, b), generator=generator)
        means = torch.einsum(
            "bij,bmjk,blk->bmil", self.rows[place[0]], maps, self.columns[place[1]]
        )
        return with_sizes(means, self.sizes[which[0]], self.sizes[which[1]])


def windowed(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(b, m + 2, h, w): maps (b, m, h, w) as means over windows of one size (rows, columns)."""
    rows, columns = (block_means(n, s) for n, s in zip(maps.shape[-2:], size, strict=True))
    means = torch.einsum("ij,bmjk,lk->bmil", rows, maps, columns)
    return with_sizes(means, *(torch.tensor([s]) for s in size))


def with_sizes(maps: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Maps (b, m, h, w) with two channels behind them: 1/s of the windows' sides (b,) in cells."""
    b, _, h, w = maps.shape
    sizes = torch.stack([1 / rows, 1 / columns], dim=1)[:, :, None, None].expand(b, 2, h, w)
    return torch.cat([maps, sizes.to(maps)], dim=1)


def map_error(images: NDArray[np.uint8], fractions: FloatArray, window: int = 16) -> float:
    """Root mean square of requested less found fractions over windows of ``window`` px.

    ``images`` (n, h, w), ``fractions`` (p - 1, ...) of any resolution. 0 means that every window
    of every image has what was requested.
    """
    found = fraction_maps(images, len(fractions) + 1, window)
    wanted = resampled(fractions, (found.shape[2], found.shape[3])).double().numpy()
    return float(np.sqrt(np.square(found - wanted).mean()))


def profile_error(
    images: NDArray[np.uint8], fractions: FloatArray, along: Axis = "x", window: int = 16
) -> float:
    """The same for the mean over all images and across ``along``: what is left of the trend."""
    found = fraction_maps(images, len(fractions) + 1, window)
    wanted = resampled(fractions, (found.shape[2], found.shape[3])).double().numpy()
    across = 2 if along == "x" else 3
    difference = found.mean((0, across)) - wanted.mean(across - 1)
    return float(np.sqrt(np.square(difference).mean()))
