"""Training of the conditional joint diffusion on designs with property values.

Noise levels are drawn as the process has them, and the network learns what the exact prediction
for the data's Gaussian leaves over of ε, x_0 or v (Ho et al. 2020; Salimans & Ho 2022; Karras et
al. 2022), with classifier-free dropout (Ho & Salimans 2022).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor

from generators.denoiser import linear_prediction
from generators.dynamics.gaussian import GaussianVelocity
from generators.dynamics.parameterisation import Kind, min_snr_weight, noised, regression_target
from generators.dynamics.samplers import ORDER
from generators.dynamics.schedules import Level, rows_like
from generators.dynamics.stochastic import WEAK_ORDER
from generators.networks.joint import JointNetwork
from generators.processes import DIFFERENTIAL, PATHS, Process, straight_time
from generators.training.flow_matching import (
    Draws,
    FlowSettings,
    Rows,
    RunSettings,
    dimension_weights,
    schedule_of,
)
from generators.training.loop import train
from loop.errors import InvalidCampaignError

PREDICTIONS: tuple[Kind, ...] = ("epsilon", "x0", "v")
# Those of a velocity and those of a denoiser go with every process.
OF_VELOCITY = ("euler", "heun", "adaptive")
OF_DENOISER = ("ddpm", "ddim", "dpm_solver_pp")
OF_SDE = ("euler_maruyama", "predictor_corrector")
# Where the state is the data with noise added.
OF_NOISE = {"edm": ("ve", "edm"), "langevin": ("ve", "edm")}
SAMPLERS = (*OF_DENOISER, *OF_VELOCITY, *OF_NOISE, *OF_SDE)
assert set(SAMPLERS) <= {*ORDER, *WEAK_ORDER}


@dataclass(frozen=True, slots=True)
class DiffusionSettings(FlowSettings):
    """Those of the flow, and how the data are noised and denoised.

    ``process``: "linear", "cosine", "sigmoid" (1000 steps), "vp", "subvp", "ve" or "edm".
    ``prediction``: "epsilon", "x0" or "v", at unit scale. ``weighting`` of its squared error:
    "simple" or "min-snr". ``sampler``: see ``SAMPLERS``, in ``sample_steps`` steps; ``eta``: share
    of noise in "ddim"; ``churn``: S_churn of "edm" (Karras et al. 2022, algorithm 2); ``repeats``:
    steps of "langevin", which is annealed, at each level (Song & Ermon 2019, algorithm 1).
    """

    process: str = field(default="cosine", metadata={"choices": tuple(PATHS)})
    prediction: str = field(default="v", metadata={"choices": PREDICTIONS})
    weighting: str = field(default="simple", metadata={"choices": ("simple", "min-snr")})
    sampler: str = field(default="dpm_solver_pp", metadata={"choices": SAMPLERS})
    eta: float = 0.0
    churn: float = 0.0
    repeats: int = 20
    sample_steps: int = 20


def check_diffusion(settings: DiffusionSettings) -> None:
    """Raise InvalidCampaignError for a sampler that does not go with the process, and its steps."""
    process, sampler, steps = settings.process, settings.sampler, settings.sample_steps
    fits = DIFFERENTIAL if sampler in OF_SDE else OF_NOISE.get(sampler, tuple(PATHS))
    if process not in fits:
        others = [s for s in SAMPLERS if s not in OF_SDE and s not in OF_NOISE]
        raise InvalidCampaignError(
            f"generator.settings: sampler {sampler} does not go with process {process}; expected "
            f"one of {', '.join(others)}, or process {' or '.join(fits)}"
        )
    of_grid = sampler not in OF_VELOCITY
    if of_grid and process not in DIFFERENTIAL and steps > 1000:
        raise InvalidCampaignError(
            f"generator.settings: sample_steps is {steps}; process {process} has 1000 steps"
        )
    if of_grid and process == "edm" and steps < 2:
        raise InvalidCampaignError(
            f"generator.settings: sample_steps is {steps}; {sampler} of process edm needs 2 or more"
        )
    if settings.pairing:
        raise InvalidCampaignError(
            "generator.settings: pairing is true; a diffusion's noise is independent of the data, "
            "so leave it out or use joint-flow"
        )
    if settings.eta > 1:
        raise InvalidCampaignError(
            f"generator.settings: eta is {settings.eta:g}; expected 0 (no noise) to 1 (ddpm)"
        )


class DenoisingLoss:
    """Mean over a batch of the weighted squared error of ``prediction``."""

    def __init__(
        self, network: JointNetwork, linear: GaussianVelocity, settings: DiffusionSettings
    ) -> None:
        self.network, self.linear = network, linear
        self.kind = cast(Kind, settings.prediction)
        self.weighted = settings.weighting == "min-snr"
        device = str(linear.mean.device)
        self.scale = dimension_weights(network, settings.vector_weight).to(device)

    def __call__(
        self, data: Tensor, noise: Tensor, signal: Tensor, sigma: Tensor, y: Tensor, mask: Tensor
    ) -> Tensor:
        """Rows (b, state) noised to the levels ``signal``, ``sigma`` (b,) of unit scale."""
        with torch.autocast(data.device.type, enabled=False):  # the exact part is not rounded
            level = Level(signal, sigma)
            x = noised(data, noise, level)
            rest = regression_target(data, noise, level, self.kind)
            rest = rest - linear_prediction(self.linear, x, level, self.kind)
        error = (self.network(x, straight_time(level), y, mask) - rest).square()
        if self.weighted:
            error = rows_like(min_snr_weight(level, self.kind), x) * error
        return (error * self.scale).sum(1).mean()


def train_diffusion(
    network: JointNetwork, linear: GaussianVelocity, rows: Rows, run: RunSettings
) -> float:
    """Train in place what the linear part of the prediction leaves over. Returns the final loss."""
    settings = run.settings
    assert isinstance(settings, DiffusionSettings)
    draw, process = Draws(rows, run, settings.batch), Process(settings.process)
    loss = DenoisingLoss(network, linear.to(run.device), settings)

    def batches() -> Iterator[tuple[Tensor, ...]]:
        b = settings.batch
        while True:
            index, plain, values, mask = draw()
            data = torch.cat([rows.states[index], rows.plain[plain]])
            level = process.draw(b, draw.generator)
            noise = torch.randn(b, network.state_size, generator=draw.generator)
            yield tuple(x.to(run.device) for x in (data, noise, *level, values, mask))

    return train(
        network,
        loss,
        batches(),
        schedule_of(run),
        stage="diffusion",
        progress=run.progress,
        how=settings.training.computation(run.device),
        streams=(draw.generator,),
        keep=run.keep,
        pictures=run.pictures,
    )
