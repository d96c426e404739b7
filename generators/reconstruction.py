"""Images with given two-point statistics: from a trained generator's samples or a random field.

What is made first has the morphology: samples of a generator trained on such images, moved in
latent space (``latent_search``), or a cut Gaussian field of the same spectrum, which needs no
training (``spectral_field``). Then pixels on the interface are exchanged until the discrete image
has the statistics (``exchange``). The two-point function fixes neither connectivity nor the shape
of particles: what else such images have in common with the target has to be measured on them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from generators.exchange import Exchange, exchange
from generators.latent_search import ImagePrior, Search, search
from generators.spectral_field import SpectralField, cut
from generators.two_point_target import FloatArray, Labels, TwoPointTarget
from loop.errors import InvalidInputError

RANDOM_FIELD = "random-field"
PIXELS = 2**20  # of the images that are in memory as fields at a time
NEAR = 0.01  # an image that ends with a larger error is begun anew,
RESTARTS = 3  # so many times, and the best is kept


@dataclass(frozen=True, slots=True, eq=False)
class Reconstruction:
    """``images``: (n, h, w) uint8, 1 in the phase; ``errors``: (n,) two-point errors of them.

    ``start_errors``: (n,) before any pixel was exchanged. ``start``: what was begun with, the
    generator's name or ``random-field``. ``target``: what was asked.
    """

    images: Labels
    errors: FloatArray
    start_errors: FloatArray
    start: str
    target: TwoPointTarget

    @property
    def fraction_errors(self) -> FloatArray:
        """(n,) phase fraction less the one asked for."""
        found: FloatArray = self.images.mean((1, 2)) - self.target.fraction
        return found


def reconstruct(
    target: TwoPointTarget,
    n: int,
    *,
    rng: np.random.Generator,
    prior: ImagePrior | None = None,
    settings: Exchange | None = None,
    moves: Search | None = None,
) -> Reconstruction:
    """n images with the target's two-point function and phase fraction.

    ``prior``: a trained generator to begin with, else a Gaussian field. ``settings`` are those of
    the exchange of pixels, ``moves`` those of the search in latent space; its pool, of which the
    nearest is taken, holds for fields too. What ends farther than ``NEAR`` is begun anew. A target
    that no image has is approached as far as that leads: ``errors`` say how far.
    Raises InvalidInputError for n below 1 and a prior of images of another shape.
    """
    if n < 1:
        raise InvalidInputError(f"{n} images were asked for; expected at least 1")
    moves = moves or Search()
    field = target.field() if prior is None else None

    def begin(count: int) -> Labels:
        if prior is not None:
            return search(prior, target, count, rng=rng, settings=moves).images
        assert field is not None
        return _nearest_fields(field, target, count, moves.pool, rng)

    images, errors, start_errors = [], [], []
    together = max(1, PIXELS // target.two_point.size)
    for count in (min(together, n - done) for done in range(0, n, together)):
        begun = begin(count)
        made = exchange(begun, target, settings)
        before, after = target.errors(begun), target.errors(made)
        for _ in range(RESTARTS):
            # A local minimum: particles neither merge nor appear where pixels move along edges.
            stuck = np.flatnonzero(after > NEAR)
            if not len(stuck):
                break
            anew = begin(len(stuck))
            other = exchange(anew, target, settings)
            reached = target.errors(other)
            better = reached < after[stuck]
            kept = stuck[better]
            made[kept], after[kept] = other[better], reached[better]
            before[kept] = target.errors(anew)[better]
        images.append(made)
        errors.append(after)
        start_errors.append(before)
    return Reconstruction(
        np.concatenate(images),
        np.concatenate(errors),
        np.concatenate(start_errors),
        RANDOM_FIELD if prior is None else prior.name,
        target,
    )


def _nearest_fields(
    field: SpectralField, target: TwoPointTarget, n: int, pool: int, rng: np.random.Generator
) -> Labels:
    """n cut fields (n, h, w), each the nearest of ``pool`` by its two-point error."""
    fraction = target.pixels / target.two_point.size
    found = np.stack([cut(field.fields(n, rng), fraction) for _ in range(pool)])
    errors = np.stack([target.errors(images) for images in found])
    nearest: Labels = found[errors.argmin(0), np.arange(n)]
    return nearest
