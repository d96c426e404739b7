"""Training of the conditional joint flow on designs with property values.

Flow matching with classifier-free dropout: Lipman et al. 2023, Ho & Salimans 2022.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generators.dynamics.flow import interpolate, logit_normal_times, target_velocity
from generators.networks.dit import JointTransformer
from generators.networks.mlp import VectorFlow
from generators.training.checkpoint import torch_generator
from generators.training.loop import Schedule, train
from generators.vae import VAESettings
from loop.protocols import Progress

FloatArray = NDArray[np.float64]
HEAD_TIME_MEAN = 0.3  # a little later than the middle: that is where properties get exact


@dataclass(frozen=True, slots=True)
class FlowSettings:
    """Sizes and training lengths; see ``PRESETS`` in the registry."""

    width: int = 128
    depth: int = 4
    heads: int = 4
    first_steps: int = 600
    retrain_steps: int = 130
    batch: int = 128
    learning_rate: float = 1e-3
    retrain_rate: float = 5e-4
    dropout: float = 0.12  # share of rows trained without any condition
    vector_weight: float = 1.0  # loss weight of compositions against the image latent
    focus: float = 0.5  # share of draws that follow the rank toward the targets
    focus_rank: int = 200
    sample_steps: int = 6
    image_rows: int = 3000  # rows whose images train the transformer; all rows train the head
    head_width: int = 128
    head_depth: int = 4
    head_batch: int = 512
    head_first_steps: int = 1200
    head_retrain_steps: int = 250
    head_sample_steps: int = 20
    vae: VAESettings = field(default_factory=VAESettings)


def dimension_weights(network: JointTransformer, vector_weight: float) -> Tensor:
    """(state,) loss weights: the image latent counts 1 in all, the vectors ``vector_weight``.

    A plain mean would leave the few composition coordinates next to nothing beside the latent.
    """
    latent, vectors = network.latent_size, network.state_size - network.latent_size
    weights = torch.full((network.state_size,), 1.0 / network.state_size)
    if latent and vectors:
        weights[:latent] = 1.0 / latent
        weights[latent:] = vector_weight / vectors
    return weights


def draw_masks(n: int, asked: Tensor, dropout: float, generator: torch.Generator) -> Tensor:
    """(n, k) which conditions a row shows: half as the campaign asks, half a random subset.

    A share ``dropout`` of the rows shows none.
    """
    k = len(asked)
    subset = torch.rand(n, k, generator=generator) < torch.rand(n, 1, generator=generator)
    as_asked = torch.rand(n, 1, generator=generator) < 0.5
    mask = torch.where(as_asked, asked, subset)
    return mask & (torch.rand(n, 1, generator=generator) >= dropout)


def train_flow(
    network: JointTransformer,
    states: Tensor,
    conditions: FloatArray,
    probabilities: FloatArray,
    *,
    asked: Sequence[bool],
    settings: FlowSettings,
    fresh: bool,
    device: str,
    rng: np.random.Generator,
    progress: Progress,
) -> float:
    """Train in place on states (n, state) with standardised conditions (n, k), NaN unknown.

    ``probabilities`` (n,): how often each row is drawn. ``asked`` (k,): the properties that the
    campaign has targets for. Returns the final loss.
    """
    draws = torch_generator(rng)
    known = torch.from_numpy(np.isfinite(conditions))
    values = torch.from_numpy(np.nan_to_num(conditions)).float()
    weights = torch.from_numpy(probabilities)
    wanted = torch.tensor(list(asked))
    scale = dimension_weights(network, settings.vector_weight).to(device)

    def batches() -> Iterator[tuple[Tensor, ...]]:
        b = settings.batch
        while True:
            rows = torch.multinomial(weights, b, replacement=True, generator=draws)
            t = logit_normal_times(b, generator=draws)
            noise = torch.randn(b, network.state_size, generator=draws)
            mask = draw_masks(b, wanted, settings.dropout, draws) & known[rows]
            batch = (states[rows], noise, t, values[rows], mask)
            yield tuple(x.to(device) for x in batch)

    def loss(data: Tensor, noise: Tensor, t: Tensor, y: Tensor, mask: Tensor) -> Tensor:
        predicted = network(interpolate(data, noise, t), t, y, mask)
        error = (predicted - target_velocity(data, noise)).square()
        return (error * scale).sum(1).mean()

    schedule = (
        Schedule(settings.first_steps, settings.learning_rate, ema=0.998)
        if fresh
        else Schedule(settings.retrain_steps, settings.retrain_rate, warmup=20, ema=0.99)
    )
    return train(network, loss, batches(), schedule, stage="joint flow", progress=progress)


def train_head(
    head: VectorFlow,
    vectors: Tensor,
    context: Tensor,
    conditions: FloatArray,
    probabilities: FloatArray,
    *,
    asked: Sequence[bool],
    settings: FlowSettings,
    fresh: bool,
    device: str,
    rng: np.random.Generator,
    progress: Progress,
) -> float:
    """Train the conditional of the vectors (n, v) given image features (n, f), in place.

    The other arguments are those of ``train_flow``. Returns the final loss.
    """
    draws = torch_generator(rng)
    known = torch.from_numpy(np.isfinite(conditions))
    values = torch.from_numpy(np.nan_to_num(conditions)).float()
    weights = torch.from_numpy(probabilities)
    wanted = torch.tensor(list(asked))

    def batches() -> Iterator[tuple[Tensor, ...]]:
        b = settings.head_batch
        while True:
            rows = torch.multinomial(weights, b, replacement=True, generator=draws)
            t = logit_normal_times(b, generator=draws, mean=HEAD_TIME_MEAN)
            noise = torch.randn(b, head.size, generator=draws)
            mask = draw_masks(b, wanted, settings.dropout, draws) & known[rows]
            batch = (vectors[rows], noise, t, context[rows], values[rows], mask)
            yield tuple(x.to(device) for x in batch)

    def loss(
        data: Tensor, noise: Tensor, t: Tensor, given: Tensor, y: Tensor, mask: Tensor
    ) -> Tensor:
        predicted = head(interpolate(data, noise, t), t, given, y, mask)
        return (predicted - target_velocity(data, noise)).square().mean()

    schedule = (
        Schedule(settings.head_first_steps, 2 * settings.learning_rate, ema=0.998)
        if fresh
        else Schedule(settings.head_retrain_steps, 2 * settings.retrain_rate, warmup=20, ema=0.99)
    )
    return train(head, loss, batches(), schedule, stage="compositions", progress=progress)
