"""Design spaces and candidates that several tests evaluate."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from loop.candidate import Candidate
from loop.space import DesignSpace

PHASES = ("gamma", "gamma_prime")
ELEMENTS = ("Ni", "Al", "Cr", "Co", "Ti", "W")
ORDERED = {"order_parameters": {"gamma_prime": 0.8}}
MIDDLE = np.array([[0.6, 0.04, 0.2, 0.12, 0.01, 0.03], [0.68, 0.16, 0.03, 0.06, 0.06, 0.01]])


def superalloy(n: int = 24) -> DesignSpace:
    return DesignSpace(phases=PHASES, elements=ELEMENTS, image_shape=(n, n))


def superalloys(images: NDArray[np.uint8], seed: int = 0) -> list[Candidate]:
    """One candidate per image, its compositions scattered around MIDDLE."""
    rng = np.random.default_rng(seed)
    compositions = rng.dirichlet(np.ones(len(ELEMENTS)), (len(images), 2)) * 0.1 + 0.9 * MIDDLE
    return [
        Candidate(
            phases=PHASES,
            elements=ELEMENTS,
            microstructure=image,
            phase_compositions=x / x.sum(-1, keepdims=True),
        )
        for image, x in zip(images, compositions, strict=True)
    ]


COMPOSITE: dict[str, dict[str, Any]] = {
    "matrix": {
        "density_g_per_cm3": 1.2,
        "thermal_conductivity_W_per_mK": 0.2,
        "youngs_modulus_GPa": 3.0,
        "poissons_ratio": 0.35,
        "material_cost_USD_per_kg": 4.0,
    },
    "fibre": {
        "density_g_per_cm3": 1.8,
        "thermal_conductivity_W_per_mK": 12.0,
        "youngs_modulus_GPa": 230.0,
        "poissons_ratio": 0.2,
        "material_cost_USD_per_kg": 25.0,
    },
}


def composite(n: int = 16) -> DesignSpace:
    return DesignSpace(phases=("matrix", "fibre"), image_shape=(n, n))


def composites(images: NDArray[np.uint8]) -> list[Candidate]:
    return [Candidate(phases=("matrix", "fibre"), microstructure=image) for image in images]
