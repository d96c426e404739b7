"""Training of a ControlNet branch (Zhang et al. 2023) on maps of phase fractions.

The maps are those of the images a flow was trained on, as means over windows of random size (from
one cell of the latent to the whole image, each side by itself), and the branch is told the size: a
coarse window leaves the structure inside it to the flow, a fine one does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from generators.adaptation_flow import frozen
from generators.adaptation_maps import Windows, fraction_maps, window_sizes
from generators.dynamics.flow import interpolate, logit_normal_times, target_velocity
from generators.flow import JointFlow
from generators.joint import stack_images
from generators.networks.control import ControlBranch
from generators.training.checkpoint import torch_generator
from generators.training.flow_matching import dimension_weights
from generators.training.loop import Schedule, train
from generators.training.resume import TrainingState
from loop.errors import InvalidInputError
from loop.protocols import Progress, silent


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """Training of a branch; ``images``: library designs whose maps are learned."""

    steps: int = 300
    batch: int = 64
    learning_rate: float = 2e-3
    images: int = 2000


def control(
    flow: JointFlow,
    settings: ControlSettings | None = None,
    *,
    rng: np.random.Generator,
    progress: Progress = silent,
    keep: TrainingState | None = None,
) -> ControlBranch:
    """A branch trained beside the flow on library images; the flow stays as it is.

    Zhang et al. 2023, equation 3: the flow's own loss with the map as one more condition.
    Raises InvalidInputError for a flow that is not trained, without images or with one phase, and
    for fewer images than a batch.
    """
    settings = settings or ControlSettings()
    network = frozen(flow)
    phases = len(flow.space.phases)
    if flow.space.image_shape is None:
        raise InvalidInputError("this flow has no images, so no map can steer it")
    if phases < 2:
        raise InvalidInputError("a map needs at least 2 phases; with one there is no fraction")
    if settings.batch > settings.images or settings.batch < 1 or settings.steps < 1:
        raise InvalidInputError(
            f"{settings.steps} steps with batches of {settings.batch} of {settings.images} images; "
            "expected at least one step and as many images as a batch has"
        )
    torch.manual_seed(int(rng.integers(2**63)))  # initial weights
    branch = ControlBranch(network, phases - 1 + 2).to(flow.device)
    assert flow.code is not None
    assert flow.linear is not None
    assert network.latent_shape is not None
    designs = flow.library.draw(settings.images, rng=rng)
    states = flow.code.states(designs)
    images = stack_images(designs).numpy()
    cell = images.shape[1] // network.latent_shape[1]
    maps = torch.from_numpy(fraction_maps(images, phases, cell)).float()
    windows = Windows(network.latent_shape[1:], window_sizes(network.latent_shape[1:]))
    scale = dimension_weights(network, flow.settings.vector_weight).to(flow.device)
    linear = flow.linear.to(flow.device)
    draws = torch_generator(rng)
    k = sum(flow.widths)

    def batches() -> Iterator[tuple[Tensor, ...]]:
        b = settings.batch
        while True:
            rows = torch.randint(len(states), (b,), generator=draws)
            hints = windows(maps[rows], draws)
            t = logit_normal_times(b, generator=draws)
            noise = torch.randn(b, network.state_size, generator=draws)
            yield tuple(x.to(flow.device) for x in (states[rows], noise, t, hints))

    def loss(data: Tensor, noise: Tensor, t: Tensor, hints: Tensor) -> Tensor:
        x = interpolate(data, noise, t)
        with torch.autocast(x.device.type, enabled=False):
            rest = target_velocity(data, noise) - linear(x, t)
        y = x.new_zeros(len(x), k)
        mask = torch.zeros_like(y, dtype=torch.bool)
        found = network(x, t, y, mask, branch(x, t, y, mask, hints))
        return ((found - rest).square() * scale).sum(1).mean()

    train(
        branch,
        loss,
        batches(),
        Schedule(settings.steps, settings.learning_rate, ema=0.99),
        stage="control branch",
        progress=progress,
        how=flow.settings.training.computation(flow.device),
        streams=(draws,),
        keep=keep,
    )
    return branch
