"""What generated micrographs are held against: real ones of held-out spots, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

from loop.copies import best_agreement, unique_images
from loop.features import ImageFeatures
from loop.library import Library
from loop.quality import (
    agreement,
    frechet_of_samples,
    interval,
    novelty,
    two_point_curves,
    two_point_error,
    without_fraction,
)
from loop.statistics import precipitate_diameters, radial_power_spectrum
from simulators.correlation import mean_chord_length

FloatArray = NDArray[np.float64]
LabelImages = NDArray[np.uint8]

GRID = 16  # px between the crops that the test spots are known from
FINE_PX = 12.0  # tertiary precipitates are 8-10 px across
COPIED = 0.99  # share of equal pixels
STRUCTURED = 0.1  # of either phase, in samples that are looked for in the training micrographs
SEED = 20261121


@dataclass(frozen=True, slots=True, eq=False)
class Yardstick:
    """What samples are held against.

    ``reference``: S2 curves of the test spots, all crops. ``curves``: those of the training
    spots. ``test``: (n, h, w) random crops of the test spots; ``features``: of images, with the
    ``scale`` they are given in; ``known``: features (m, f) of crops of the training spots.
    """

    reference: FloatArray
    curves: FloatArray
    test: LabelImages
    features: ImageFeatures
    centre: FloatArray
    scale: FloatArray
    known: FloatArray
    training: Sequence[NDArray[np.uint8]]
    copies: int  # samples that are looked for in the training micrographs

    @staticmethod
    def of(library: Library, n: int, copies: int, rng: np.random.Generator) -> Yardstick:
        """From a library with training and test micrographs of two phases."""
        training = library.patches(8 * n, rng=rng)
        features = ImageFeatures.fit(training, 2)
        known = features.transform(training)
        centre, scale = known.mean(0), known.std(0) + 1e-12
        return Yardstick(
            two_point_curves(every_crop(library, "test") == 1),
            two_point_curves(every_crop(library, "train") == 1),
            library.patches(n, rng=rng, split="test"),
            features,
            centre,
            scale,
            (known - centre) / scale,
            library.images("train"),
            copies,
        )

    def row(self, many: LabelImages, rng: np.random.Generator) -> dict[str, Any]:
        """All columns of the table for samples (m, h, w).

        Two-point statistics are those of all, the others of as many as there are test crops.
        """
        curves, images = two_point_curves(many == 1), many[: len(self.test)]
        x, real = self.scaled(images), self.scaled(self.test)
        found = agreement(real, x)
        near = novelty(x, self.known, real)

        def mean_interval(values: FloatArray) -> tuple[float, float]:
            return interval(lambda v: float(v.mean()), values, rng=rng)

        fraction = images.mean((1, 2))
        structured = images[(fraction >= STRUCTURED) & (fraction <= 1 - STRUCTURED)]
        copied = best_agreement(structured[: self.copies], self.training)
        figures = found.figures()
        covariance, covariance_real = without_fraction(curves), without_fraction(self.reference)
        return {
            "two_point_error_within_lag_16": two_point_error(curves, self.reference),
            "two_point_error_interval": interval(
                lambda c: two_point_error(c, self.reference), curves, rng=rng, draws=200
            ),
            "two_point_error_against_training_spots": two_point_error(curves, self.curves),
            # The same of S2 - φ², image by image: the part that no bias of the fraction causes.
            "covariance_error": float(
                np.sqrt(np.mean(np.square(covariance - covariance_real))) / covariance_real[0, 0]
            ),
            "samples_for_two_point_statistics": len(curves),
            "fraction_of_all": [float(curves[:, 0].mean()), float(self.reference[:, 0].mean())],
            **distributions(images, self.test),
            **figures,
            "precision_interval": mean_interval(found.precise),
            "recall_interval": mean_interval(found.recalled),
            "density_interval": mean_interval(found.density),
            "coverage_interval": mean_interval(found.covered),
            "frechet_distance": frechet_of_samples(x, real),
            "unique": unique_images(images),
            "unique_up_to_shift_and_turn": unique_images(images, shifted=True, turned=True),
            "novelty_median": near.median,
            "novelty_too_near": near.too_near,
            "best_agreement_with_training_median": float(np.median(copied))
            if len(copied)
            else None,
            "best_agreement_with_training_max": float(copied.max(initial=0.0)),
            "copies": int((copied >= COPIED).sum()),
            "looked_for": len(copied),
        }

    def scaled(self, images: LabelImages) -> FloatArray:
        """(n, f) features in units of their spread over the training library."""
        found: FloatArray = (self.features.transform(images) - self.centre) / self.scale
        return found


def every_crop(library: Library, split: str) -> LabelImages:
    """All crops ``GRID`` px apart that show both phases, as the library draws them, not turned."""
    assert library.space.image_shape is not None
    windows = [
        np.lib.stride_tricks.sliding_window_view(image, library.space.image_shape)[::GRID, ::GRID]
        for image in library.images(split)
    ]
    crops = np.concatenate([w.reshape(-1, *w.shape[2:]) for w in windows])
    varied: LabelImages = crops[crops.min((1, 2)) != crops.max((1, 2))]
    return varied


def distributions(images: LabelImages, reference: LabelImages) -> dict[str, Any]:
    """Spectrum, fractions, chords and sizes of the precipitates beside those of ``reference``."""
    _, power = radial_power_spectrum(images)
    _, power_ref = radial_power_spectrum(reference)
    ratio = np.log(power.mean(0)) - np.log(power_ref.mean(0))
    fraction, fraction_ref = images.mean((1, 2)), reference.mean((1, 2))
    # An image that coding has left with one phase has no chord, or one without an end.
    chord, chord_ref = (
        lengths[np.isfinite(lengths)]
        for lengths in (mean_chord_length(stack, 1) for stack in (images, reference))
    )
    sizes, sizes_ref = (
        np.concatenate([precipitate_diameters(image) for image in stack])
        for stack in (images, reference)
    )
    return {
        "log_power_rms_difference": float(np.sqrt(np.mean(ratio**2))),
        "fraction_mean": [float(fraction.mean()), float(fraction_ref.mean())],
        "fraction_std": [float(fraction.std()), float(fraction_ref.std())],
        "fraction_wasserstein": float(wasserstein_distance(fraction, fraction_ref)),
        "chord_wasserstein_px": float(wasserstein_distance(chord, chord_ref)),
        "size_wasserstein_px": float(wasserstein_distance(sizes, sizes_ref)),
        "fine_precipitates_per_image": [
            float((sizes < FINE_PX).sum() / len(images)),
            float((sizes_ref < FINE_PX).sum() / len(reference)),
        ],
    }


def real_split(library: Library, yard: Yardstick, sizes: Sequence[int]) -> dict[str, Any]:
    """Two-point errors of real micrographs: of other ones without sampling noise, and the noise.

    "halves": between the two halves of the test micrographs, every way to halve them; "noise":
    median and 95th percentile for n random crops of the test spots beside all of them.
    """
    rng, every = np.random.default_rng(SEED), yard.reference
    noise = {
        f"noise_of_{n}_crops": np.quantile(
            [two_point_error(every[rng.integers(len(every), size=n)], every) for _ in range(300)],
            [0.5, 0.95],
        ).tolist()
        for n in sizes
    }
    curves = [
        two_point_curves(every_crop(one_test_image(library, image), "test") == 1)
        for image in library.images("test")
    ]
    halves = []
    for places in range(1, 2 ** (len(curves) - 1)):  # the last one always in the second half
        parts: tuple[list[FloatArray], list[FloatArray]] = ([], [])
        for i, curve in enumerate(curves):
            parts[0 if places >> i & 1 else 1].append(curve)
        if len(parts[0]) == len(curves) // 2:
            halves.append(two_point_error(*map(np.concatenate, parts)))
    return {
        "training_against_test_spots": two_point_error(yard.curves, every),
        "halves_of_the_test_micrographs": halves,
        **noise,
    }


def one_test_image(library: Library, image: NDArray[np.uint8]) -> Library:
    """The library with one test micrograph."""
    assert library.split_images is not None
    held = {**library.split_images.images, "test": (image,)}
    return replace(library, split_images=replace(library.split_images, images=held))
