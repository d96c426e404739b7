"""Which images are the same up to a shift and a turn, and how much of an image was seen before.

The share of equal pixels at every placement of an image within another comes from one
cross-correlation by FFT, and is exact: it counts pixels, so it is rounded to a whole number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from loop.errors import InvalidInputError

FloatArray = NDArray[np.float64]
LabelImages = NDArray[np.uint8]
TOGETHER = 32  # images correlated at once


def orientations(
    image: NDArray[np.uint8], *, turned: bool = True, quarters: bool | None = None
) -> list[NDArray[np.uint8]]:
    """The images that turns and mirrors make of one (h, w), itself first; one if not ``turned``.

    ``quarters``: turns by 90° as well, 8 in all instead of 4; by default where they keep the shape.
    """
    if not turned:
        return [image]
    if quarters is None:
        quarters = image.shape[0] == image.shape[1]
    rotated = [np.rot90(image, k) for k in ((0, 1, 2, 3) if quarters else (0, 2))]
    return [*rotated, *(x[:, ::-1] for x in rotated)]


def best_agreement(
    images: LabelImages,
    wholes: Sequence[NDArray[np.uint8]],
    *,
    periodic: bool = False,
    turned: bool = True,
) -> FloatArray:
    """(n,) largest share of equal pixels of images (n, h, w) laid anywhere in any of ``wholes``.

    ``wholes``: label images (H, W) at least as large. ``turned``: in any orientation too.
    ``periodic``: the wholes continue at their edges, so that a shifted image of the same size is
    found. 1: the image is in one of them. Raises InvalidInputError for no images or wholes, and
    wholes smaller than the images.
    """
    stack = np.asarray(images)
    if stack.ndim != 3 or len(wholes) == 0:
        raise InvalidInputError(
            f"images have shape {stack.shape} and there are {len(wholes)} to compare with; "
            "expected (n, h, w) and at least one"
        )
    h, w = stack.shape[1:]
    best = np.zeros(len(stack))
    labels = max([int(stack.max(initial=0)), *(int(x.max()) for x in wholes)]) + 1
    # The wholes are turned, not the images: that is done once.
    views = [
        view for whole in wholes for view in orientations(whole, turned=turned, quarters=h == w)
    ]
    for size in sorted({view.shape for view in views}):
        if size[0] < h or size[1] < w:
            raise InvalidInputError(
                f"images of {h} x {w} were given to be found in one of {size[0]} x {size[1]}; "
                "expected one that is at least as large"
            )
        spectra = [_spectrum(view, labels, size) for view in views if view.shape == size]
        places = size if periodic else (size[0] - h + 1, size[1] - w + 1)
        for start in range(0, len(stack), TOGETHER):
            rows = slice(start, start + TOGETHER)
            mine = np.conj(_spectrum(stack[rows], labels, size))
            for spectrum in spectra:
                count = _count(spectrum[None] * mine, size, h * w, labels)
                found = count[:, : places[0], : places[1]].max((1, 2))
                best[rows] = np.maximum(best[rows], found)
    return best / (h * w)


def _spectrum(
    image: NDArray[np.uint8], labels: int, size: tuple[int, int]
) -> NDArray[np.complex64]:
    """(..., p, H, W/2 + 1) spectra of the padded codes of labels (..., h, w).

    Two labels are coded -1 and 1, so that one correlation is pixels that agree less those that do
    not; more are coded by their indicators.
    """
    if labels <= 2:
        code = (2.0 * image - 1.0)[..., None, :, :].astype(np.float32)
    else:
        code = np.stack([image == p for p in range(labels)], axis=-3).astype(np.float32)
    found: NDArray[np.complex64] = fft.rfft2(code, size)
    return found


def _count(
    product: NDArray[np.complex64], size: tuple[int, int], pixels: int, labels: int
) -> FloatArray:
    """(n, H, W) pixels that agree at each placement, from spectra (n, p, H, W/2 + 1)."""
    total = fft.irfft2(product.sum(1), size)
    agree = np.rint(0.5 * (total + pixels) if labels <= 2 else total)
    return agree.astype(np.float64)


def unique_images(images: LabelImages, *, shifted: bool = False, turned: bool = False) -> int:
    """How many different ones are among images (n, h, w).

    ``shifted``: those that a periodic shift makes of each other count once; ``turned``: those that
    turns and mirrors do as well. Raises InvalidInputError for images of another shape.
    """
    stack = np.ascontiguousarray(images, dtype=np.uint8)
    if stack.ndim != 3:
        raise InvalidInputError(f"images have shape {stack.shape}; expected (n, h, w)")
    if not shifted:
        return len(
            {min(x.tobytes() for x in orientations(image, turned=turned)) for image in stack}
        )
    # Shifted copies have one autocorrelation, but not the other way round: those that share it
    # are compared pixel by pixel.
    found: dict[bytes, list[NDArray[np.uint8]]] = {}
    for image, key in zip(stack, _shift_keys(stack, turned), strict=True):
        known = found.setdefault(key, [])
        if not known or best_agreement(image[None], known, periodic=True, turned=turned)[0] < 1.0:
            known.append(image)
    return sum(map(len, found.values()))


def _shift_keys(stack: LabelImages, turned: bool) -> Iterator[bytes]:
    """What shifted copies have in common: counts of equal labels at every periodic lag."""
    labels = int(stack.max(initial=0)) + 1
    for image in stack:
        inside = np.stack([image == p for p in range(1, max(labels, 2))]).astype(np.float64)
        power = np.abs(fft.rfft2(inside)) ** 2
        lags = np.rint(fft.irfft2(power, image.shape)).astype(np.int32)
        views = [lags]
        if turned:
            views = [np.stack(view) for view in zip(*map(_centred_turns, lags), strict=True)]
        yield min(np.ascontiguousarray(view).tobytes() for view in views)


def _centred_turns(lags: NDArray[np.int32]) -> list[NDArray[np.int32]]:
    """Orientations of a periodic map about its lag 0, which stays in the corner."""
    found = [lags, np.roll(lags[:, ::-1], 1, axis=1)]  # a half turn leaves it as it is
    if lags.shape[0] == lags.shape[1]:
        found += [view.T for view in found]
    return found
