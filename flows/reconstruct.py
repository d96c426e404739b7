"""Images with the two-point statistics of a given one, and how near they come to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flows.pictures import side_by_side
from generators.latent_search import LatentGenerator, TrainedPrior
from generators.reconstruction import Reconstruction, reconstruct
from generators.two_point_target import MAX_LAG, TwoPointTarget
from loop.campaign import Campaign
from loop.errors import InvalidCampaignError, InvalidInputError, unknown_name
from loop.images import downsample, read_labels, to_phases
from loop.session import Session
from loop.summary import LOOP_ARM
from simulators.correlation_paths import AXES, lineal_path

FloatArray = NDArray[np.float64]
Labels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Reconstructed:
    """A target image (h, w), 1 in the phase, and its reconstructions."""

    image: Labels
    found: Reconstruction

    def frame(self) -> pd.DataFrame:
        """One row an image: its two-point error, that of its start, fraction, fraction error,
        lineal-path error.
        """
        return pd.DataFrame(
            {
                "image": np.arange(1, len(self.found.images) + 1),
                "two_point_error": self.found.errors,
                "start_error": self.found.start_errors,
                "fraction": self.found.images.mean((1, 2)),
                "fraction_error": self.found.fraction_errors,
                "lineal_path_error": lineal_path_errors(
                    self.found.images, self.image, self.found.target.max_lag
                ),
            }
        )

    def strip(self, scale: int = 2) -> Labels:
        """The target and then the reconstructions side by side as grey values (h, w)."""
        return side_by_side((self.image, *self.found.images), 2, scale=scale)


def lineal_path_errors(images: Labels, target: Labels, longest: int) -> FloatArray:
    """(n,) errors of the lineal path of the phase, images (n, h, w) against a target (h, w).

    Root of the mean square over r = 0 … ``longest`` px along x and y, over the target's fraction;
    both periodic.
    """
    gaps = []
    for axis in AXES:
        own = lineal_path(images.astype(np.float64), axis, longest=longest)
        gaps.append(own - lineal_path(target.astype(np.float64), axis, longest=longest))
    found: FloatArray = np.sqrt(np.mean(np.concatenate(gaps, -1) ** 2, -1)) / target.mean()
    return found


def reconstruct_image(
    image: Labels,
    n: int,
    *,
    rng: np.random.Generator,
    max_lag: int | None = None,
    prior: TrainedPrior | None = None,
) -> Reconstructed:
    """n images with the two-point statistics of ``image`` (h, w), 1 in the phase.

    ``max_lag``: in px, by default 16 or half the smaller side. Raises InvalidInputError for an
    image of one phase, and for a prior of images of another size.
    """
    lag = min(MAX_LAG, min(image.shape) // 2) if max_lag is None else max_lag
    target = TwoPointTarget.of_image(image, max_lag=lag)
    return Reconstructed(image, reconstruct(target, n, rng=rng, prior=prior))


def read_phase(path: Path, phase: str | None = None) -> Labels:
    """A label image as (h, w) of 0 and 1: where the pixels have the value ``phase``.

    By default the higher of two values. Raises InvalidInputError for an image that cannot be read
    as labels, of one value, of more than two where none is named, and without the one named.
    """
    pixels = read_labels(path)
    values = [int(v) for v in np.unique(pixels)]
    shown = ", ".join(map(str, values[:6])) + (", …" if len(values) > 6 else "")
    if len(values) < 2:
        raise InvalidInputError(
            f"image {path} has the one pixel value {shown}; a reconstruction needs two phases"
        )
    if phase is None:
        if len(values) > 2:
            raise InvalidInputError(
                f"image {path} has {len(values)} pixel values ({shown}); name the one that is the "
                f"phase, against all others, with --phase (a grey micrograph: segment it first)"
            )
        phase = str(values[-1])
    if phase not in map(str, values):
        raise InvalidInputError(
            f"--phase is {phase!r}; expected one of the pixel values of {path}: {shown}"
        )
    return (pixels == int(phase)).astype(np.uint8)


def read_campaign_phase(
    path: Path, campaign: Campaign, phase: str | None = None
) -> tuple[Labels, int]:
    """As ``read_phase``, of an image as the campaign takes them, and which phase it is.

    ``phase``: a name, by default the campaign's second. Raises InvalidInputError, and
    InvalidCampaignError for a campaign without images or of one phase.
    """
    phases, images = campaign.space.phases, campaign.images
    if campaign.space.image_shape is None or len(phases) < 2:
        raise InvalidCampaignError(
            f"campaign {campaign.name!r} has no images of two phases; reconstruct without it"
        )
    if phase is not None and phase not in phases:
        raise InvalidInputError("--phase: " + unknown_name("phase", phase, phases))
    index = 1 if phase is None else phases.index(phase)
    labels = list(phases) if images is None else images.labels
    factor = 1 if images is None else images.downsample
    found = to_phases(path, read_labels(path), [phases.index(name) for name in labels])
    return (downsample(found, factor, len(phases)) == index).astype(np.uint8), index


def trained_prior(session: Session, phase: int = 1) -> TrainedPrior:
    """The campaign's trained generator as the start of reconstructions.

    Raises LedgerError when nothing is trained yet, InvalidInputError for a generator that has no
    latent space of images.
    """
    generator = session.latest(LOOP_ARM)
    if not isinstance(generator, LatentGenerator):
        raise InvalidInputError(
            f"the campaign's generator is {generator.name}; reconstructions start from one with "
            "decoded latents (joint-flow, vae), or without --campaign from a random field"
        )
    return TrainedPrior(generator, phase)
