"""Flow matching along straight paths (Lipman et al. 2023; Liu et al. 2023, rectified flow).

One convention: t = 0 is noise, t = 1 is data, x_t = (1 − t) ε + t x_1, velocity v = x_1 − ε.
A ``Velocity`` is (b, ...), (b,) -> (b, ...) and knows nothing of conditions or autoencoders.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from generators.dynamics.guidance import classifier_free as classifier_free
from generators.dynamics.guidance import interval as interval
from generators.dynamics.schedules import rows_like
from loop.errors import InvalidInputError

Velocity = Callable[[Tensor, Tensor], Tensor]


def interpolate(data: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """x_t = (1 − t) ε + t x_1 for (b, ...), (b, ...), (b,)."""
    t = rows_like(t, data)
    return (1 - t) * noise + t * data


def target_velocity(data: Tensor, noise: Tensor) -> Tensor:
    """The conditional velocity dx_t/dt = x_1 − ε."""
    return data - noise


def logit_normal_times(
    n: int, *, generator: torch.Generator, mean: float = 0.0, scale: float = 1.0
) -> Tensor:
    """n times in (0, 1), the sigmoid of a normal: the middle has more (Esser et al. 2024, §3.1)."""
    return torch.sigmoid(mean + scale * torch.randn(n, generator=generator))


def paired(data: Tensor, noise: Tensor) -> Tensor:
    """The noise (b, ...) in the order that makes Σ ‖x_1 − ε‖² over the batch least.

    Optimal-transport pairing within a minibatch: straighter paths, the same marginals (Tong et al.
    2024; Pooladian et al. 2023). The assignment is exact, by ``scipy.optimize``. With conditions,
    pair only rows of one condition: across conditions the noise would come to depend on them.
    Raises InvalidInputError when the shapes differ.
    """
    if data.shape != noise.shape:
        raise InvalidInputError(
            f"data {tuple(data.shape)} and noise {tuple(noise.shape)}; expected equal shapes"
        )
    cost = torch.cdist(data.flatten(1).double(), noise.flatten(1).double()).square()
    _, order = linear_sum_assignment(cost.cpu().numpy())
    return noise[torch.from_numpy(order).to(noise.device)]
