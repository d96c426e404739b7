"""Energies, mobilities and beginnings for tests of the phase field."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulators.free_energy import PolynomialEnergy, darken_mobility
from simulators.phase_field import Evolution
from simulators.solution import GAS_CONSTANT, Solution

FloatArray = NDArray[np.float64]

WELL = PolynomialEnergy.double_well(5.0, 0.3, 0.7)  # that of PFHub 1a

IDEAL_TERNARY = GAS_CONSTANT * 1000.0
TERNARY = Solution(
    ("A", "B", "C"),
    {
        ("A", "B"): ((3.6 * IDEAL_TERNARY, 0.0),),
        ("A", "C"): ((3.2 * IDEAL_TERNARY, 0.0), (0.2 * IDEAL_TERNARY, 0.0)),
        ("B", "C"): ((3.8 * IDEAL_TERNARY, 0.0),),
    },
)
STIFF = np.array([[3.0, 1.2], [1.2, 2.5]])
MOBILE = darken_mobility([0.4, 0.3, 0.3], [1.0, 0.5, 2.0])


def noisy(
    shape: tuple[int, ...], means: list[float], size: float = 0.01, seed: int = 0
) -> FloatArray:
    """(n, m, h, w) white noise with exact means."""
    noise = np.random.default_rng(seed).normal(0, size, shape)
    noise -= noise.mean((2, 3), keepdims=True)
    return noise + np.array(means)[None, :, None, None]


def assert_lawful(found: Evolution, start: FloatArray) -> None:
    """Means kept and energy never up, both to rounding."""
    assert found.finished.all()
    eps = np.finfo(found.fields.dtype).eps
    drift = found.fields.astype(np.float64).mean((3, 4)) - start.mean((2, 3))[:, None]
    assert np.abs(drift).max() <= 8 * eps
    assert np.all(np.diff(found.energies, axis=1) <= 16 * eps * np.abs(found.energies[:, :1]))
    assert found.rise.max() <= 4 * eps
