"""Training of a regressor of noised states on designs with property values.

The likelihood of the standardised properties given the noised state is made greatest, with a
Gaussian of learned mean and spread (Nix & Weigend 1994; Dhariwal & Nichol 2021, section 4, with a
regression in the place of the classifier).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from generators.dynamics.parameterisation import noised
from generators.dynamics.schedules import Level
from generators.networks.regressor import RegressorSettings
from generators.processes import straight_time
from generators.training.checkpoint import torch_generator
from generators.training.flow_matching import Rows, RunSettings
from generators.training.loop import Schedule, train

# x (b, d) of unit scale, times τ (b,), properties (b, k), which are known (b, k) -> (b,) in nats
LogLikelihood = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
Levels = Callable[[int, torch.Generator], Level]  # so many, of unit scale, as the process has them


def even_weights(n: int, kept: int, source: NDArray[np.intp]) -> NDArray[np.float64]:
    """Weights of ``kept`` of n rows and of copies of some, with which all n count alike.

    The likelihood is that of the states it is learned from, so these are not to be drawn as the
    conditional rows are, the nearest to the targets first. ``rows_to_encode`` keeps a third for
    certain and the others by chance: each counts by the inverse of its chance (Horvitz & Thompson
    1952). ``source`` (m,): of which kept row each further row is a copy.
    """
    chance = np.ones(kept)
    if kept < n:
        certain = kept // 3
        chance[certain:] = (kept - certain) / (n - certain)
    each = 1.0 / (chance * (1 + np.bincount(source, minlength=kept)))
    return np.concatenate([each, each[source]])


def train_regressor(
    network: nn.Module,
    log_likelihood: LogLikelihood,
    rows: Rows,
    run: RunSettings,
    settings: RegressorSettings,
    levels: Levels,
) -> float:
    """Train ``network``, of which ``log_likelihood`` is made, in place; returns the final loss.

    That is the mean negative log-likelihood in nats a property. ``rows.plain`` have no properties
    and are not looked at.
    """
    generator = torch_generator(run.rng)
    known = torch.from_numpy(np.isfinite(rows.conditions))
    values = torch.from_numpy(np.nan_to_num(rows.conditions)).float()
    weights = torch.from_numpy(rows.weights / rows.weights.sum())
    properties = max(1, values.shape[1])

    def batches() -> Iterator[tuple[Tensor, ...]]:
        b = settings.batch
        while True:
            index = torch.multinomial(weights, b, replacement=True, generator=generator)
            level = levels(b, generator)
            noise = torch.randn(b, rows.states.shape[1], generator=generator)
            x, tau = noised(rows.states[index], noise, level), straight_time(level)
            yield tuple(part.to(run.device) for part in (x, tau, values[index], known[index]))

    def loss(x: Tensor, tau: Tensor, y: Tensor, mask: Tensor) -> Tensor:
        return -log_likelihood(x, tau, y, mask).mean() / properties

    schedule = (
        Schedule(settings.first_steps, settings.rate, ema=0.998)
        if run.fresh
        else Schedule(settings.retrain_steps, settings.retrain_rate, warmup=20, ema=0.99)
    )
    return train(
        network,
        loss,
        batches(),
        schedule,
        stage="regressor",
        progress=run.progress,
        how=run.settings.training.computation(run.device),
        streams=(generator,),
        keep=run.keep,
    )
