"""Flow matching along straight paths (Lipman et al. 2023; Liu et al. 2023, rectified flow).

One convention: t = 0 is noise, t = 1 is data, x_t = (1 − t) ε + t x_1, velocity v = x_1 − ε.
A ``Velocity`` is (b, n), (b,) -> (b, n) and knows nothing of conditions or autoencoders.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]


def interpolate(data: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """x_t = (1 − t) ε + t x_1 for (b, n), (b, n), (b,)."""
    t = t[:, None]
    return (1 - t) * noise + t * data


def target_velocity(data: Tensor, noise: Tensor) -> Tensor:
    """The conditional velocity dx_t/dt = x_1 − ε."""
    return data - noise


def logit_normal_times(
    n: int, *, generator: torch.Generator, mean: float = 0.0, scale: float = 1.0
) -> Tensor:
    """n times in (0, 1), the sigmoid of a normal: the middle has more (Esser et al. 2024, §3.1)."""
    return torch.sigmoid(mean + scale * torch.randn(n, generator=generator))


def classifier_free(unconditional: Velocity, conditional: Velocity, scale: float) -> Velocity:
    """v_∅ + s (v_c − v_∅): s = 0 unconditional, 1 conditional, above amplified.

    Ho & Salimans 2022 print (1 + w) ε_c − w ε_∅; here s = 1 + w. The velocity is affine in ε at
    fixed x_t and t, so the same combination holds for it. s = 0 and 1 cost one evaluation.
    """
    if scale == 0.0:
        return unconditional
    if scale == 1.0:
        return conditional

    def guided(x: Tensor, t: Tensor) -> Tensor:
        base = unconditional(x, t)
        return base + scale * (conditional(x, t) - base)

    return guided


def interval(guided: Velocity, otherwise: Velocity, low: float, high: float) -> Velocity:
    """``guided`` for low <= t <= high, ``otherwise`` outside (Kynkäänniemi et al. 2024).

    All samples of a batch share one time, as the samplers give it.
    """

    def limited(x: Tensor, t: Tensor) -> Tensor:
        return guided(x, t) if low <= float(t[0]) <= high else otherwise(x, t)

    return limited
