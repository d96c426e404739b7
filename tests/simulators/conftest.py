"""Small images and one thread for the simulators' tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

torch.set_num_threads(1)

ImageMaker = Callable[..., NDArray[np.uint8]]


@pytest.fixture(scope="session")
def random_images() -> ImageMaker:
    """make(n, shape, phases=2, blur=0.12, seed=0): (n, h, w) labels of blurred noise.

    ``blur`` 0 gives uncorrelated pixels. Every phase is present in every image.
    """

    def make(
        n: int, shape: tuple[int, int], *, phases: int = 2, blur: float = 0.12, seed: int = 0
    ) -> NDArray[np.uint8]:
        rng = np.random.default_rng(seed)
        h, w = shape
        q2 = np.fft.fftfreq(h)[:, None] ** 2 + np.fft.rfftfreq(w)[None, :] ** 2
        images: list[NDArray[np.uint8]] = []
        while len(images) < n:
            noise = np.fft.rfft2(rng.standard_normal(shape))
            field = np.fft.irfft2(noise * np.exp(-q2 * (20 * blur) ** 2), s=shape)
            cuts = np.quantile(field, np.sort(rng.uniform(0.15, 0.85, phases - 1)))
            image = np.digitize(field, cuts).astype(np.uint8)
            if len(np.unique(image)) == phases:
                images.append(image)
        return np.stack(images)

    return make
