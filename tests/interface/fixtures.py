"""A small campaign for tests of the interface: random blobs and random alloys, real outcomes.

The properties are a plain closed-form rule of the design, so the ledger is consistent in itself;
they are not a simulation and stand for none.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from loop.candidate import Candidate, Origin
from loop.targets import Range, Targets, Value

PHASES = ("gamma", "gamma_prime")
ELEMENTS = ("Ni", "Al", "Cr", "Co", "Ti", "Mo", "W")
TARGETS = Targets(
    (
        Value("thermal_conductivity_W_per_mK", 11.2, 0.15),
        Range("density_g_per_cm3", 8.0, 8.2),
        Value("youngs_modulus_GPa", 198.0, 1.5),
        Range("gamma_prime_fraction", 0.48, 0.56),
    )
)
_MEAN = np.array(
    [[0.52, 0.05, 0.20, 0.15, 0.01, 0.04, 0.03], [0.66, 0.14, 0.03, 0.06, 0.07, 0.01, 0.03]]
)


def blob_candidate(
    rng: np.random.Generator,
    *,
    side: int = 32,
    fraction: float | None = None,
    origin: Origin | None = None,
) -> Candidate:
    """A thresholded Gaussian field with alloy compositions around a common superalloy."""
    field = ndimage.gaussian_filter(rng.normal(size=(side, side)), 2.2, mode="wrap")
    fraction = float(rng.uniform(0.35, 0.65)) if fraction is None else fraction
    image = (field > np.quantile(field, 1 - fraction)).astype(np.uint8)
    x = _MEAN * rng.uniform(0.8, 1.2, _MEAN.shape)
    x[:, 5] *= rng.random() > 0.3
    return Candidate(
        PHASES,
        ELEMENTS,
        image,
        x / x.sum(1, keepdims=True),
        origin=origin or Origin("library"),
    )


def plausible_values(rng: np.random.Generator, spread: float = 1.0) -> dict[str, float]:
    """Property values scattered about the targets, ``spread`` tolerances wide."""
    return {
        target.name: 0.5 * (target.low + target.high) + spread * rng.normal() * target.scale
        for target in TARGETS
    }
