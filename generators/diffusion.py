"""Conditional diffusion over image, compositions and process at once.

All of the joint flow but how the state is noised and denoised: a process by name, what the network
predicts, and the sampler. The denoiser is also a velocity on the straight path, exactly, so that
editing, steering and likelihood work as with the flow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor

from generators.denoiser import Prediction
from generators.dynamics.flow import Velocity
from generators.dynamics.parameterisation import Kind, field_of
from generators.dynamics.samplers import (
    adaptive,
    ddim,
    ddpm,
    dpm_solver_pp,
    edm,
    euler,
    heun,
    standard_normal,
    stream_of,
)
from generators.dynamics.schedules import EDM, Level, every_row
from generators.dynamics.stochastic import (
    annealed_langevin,
    euler_maruyama,
    predictor_corrector,
)
from generators.flow import FloatArray, JointFlow
from generators.guiding import Rescaled
from generators.noisy_regressor import led_prediction
from generators.processes import Process
from generators.showing import with_pictures
from generators.training.denoising import (
    OF_SDE,
    OF_VELOCITY,
    DiffusionSettings,
    check_diffusion,
    train_diffusion,
)
from generators.training.flow_matching import Rows, RunSettings
from loop.library import Library
from loop.protocols import Differentiable
from loop.space import DesignSpace
from loop.targets import Targets

LANGEVIN = 0.1  # steps of annealed Langevin dynamics over σ², as Song & Ermon 2019 have them
VELOCITY_SAMPLERS: Mapping[str, Callable[..., Tensor]] = {
    "euler": euler,
    "heun": heun,
    "adaptive": adaptive,
}
SDE_SAMPLERS: Mapping[str, Callable[..., Tensor]] = {
    "euler_maruyama": euler_maruyama,
    "predictor_corrector": predictor_corrector,
}


class JointDiffusion(JointFlow):
    """Generator by denoising diffusion in the joint space."""

    name = "diffusion"
    settings: DiffusionSettings

    def __init__(
        self,
        space: DesignSpace,
        library: Library,
        targets: Targets,
        properties: Sequence[str],
        settings: DiffusionSettings,
        device: str = "cpu",
        models: Sequence[Differentiable] = (),
    ) -> None:
        """As ``JointFlow``; raises InvalidCampaignError also for settings that do not fit."""
        check_diffusion(settings)
        super().__init__(space, library, targets, properties, settings, device, models)

    def train_network(self, rows: Rows, run: RunSettings) -> float:
        """Train the network in place on coded rows; returns the final loss."""
        assert self.linear is not None
        run = with_pictures(self, run)
        return train_diffusion(self.trained_network(), self.linear, rows, run)

    def draw_levels(self, n: int, generator: torch.Generator) -> Level:
        """n levels of unit scale to train at, as the process has them."""
        return Process(self.settings.process).draw(n, generator)

    def prediction(self, requests: FloatArray, guidance: float) -> Prediction:
        """Of states (n, state) under requests (n, k), with classifier-free guidance.

        Guidance joins two predictions of the network; any other kind is affine in them at fixed
        state and level, so it is the same guidance in x_0, score or velocity.
        """
        assert self.linear is not None
        how, kind = self.settings.guiding, cast(Kind, self.settings.prediction)
        linear, process = self.linear.to(self.device), Process(self.settings.process)
        rest = self.led(self.under, requests, guidance, how)
        if how.rescale and guidance:
            asked = self.under(*self.conditions(requests))
            return Rescaled(rest, linear, kind, process, asked, how.rescale)
        return Prediction(rest, linear, kind, process)

    def velocity(self, requests: FloatArray, guidance: float) -> Velocity:
        """On the straight path: that of a flow with the same marginals."""
        return self.prediction(requests, guidance).velocity()

    def sample(self, noise: Tensor, requests: FloatArray, guidance: float) -> Tensor:
        """States (n, state) that the noise (n, state) becomes under requests (n, k).

        Samplers that draw take their stream from the noise, so one noise gives one sample.
        """
        request = self.leading(requests, guidance)
        if request is None:
            return draw_states(self.prediction(requests, guidance), noise, self.settings)
        free = self.prediction(requests, 0.0)
        return draw_states(led_prediction(free, request, guidance), noise, self.settings)


def draw_states(prediction: Prediction, noise: Tensor, settings: DiffusionSettings) -> Tensor:
    """Samples from standard normal noise (n, state) by ``settings.sampler``.

    They begin at the noisiest level of the process, where the state has the scale of data of unit
    variance with noise. Noise that a process leaves at its end is taken away by the denoiser (Song
    et al. 2021, appendix C; Tweedie). "adaptive" chooses its own steps.
    """
    process, steps, sampler = prediction.process, settings.sample_steps, settings.sampler
    path, denoise, drawing = process.path, prediction.denoiser(), standard_normal(stream_of(noise))
    signal, sigma = (float(part) for part in process.noisiest)
    x = math.hypot(signal, sigma) * noise
    if sampler in OF_VELOCITY:
        velocity = prediction.velocity()
        straight = torch.linspace(signal / (signal + sigma), 1, steps + 1).to(noise)
        return VELOCITY_SAMPLERS[sampler](velocity, x / (signal + sigma), straight)
    if sampler in OF_SDE:
        times = process.noisy_times(steps)
        score = field_of(denoise, "score", path)
        x = SDE_SAMPLERS[sampler](score, x, process.sde, times, noise=drawing)
    else:
        times = process.times(steps)
        if sampler == "ddpm":
            x = ddpm(denoise, x, path, times, noise=drawing)
        elif sampler == "ddim":
            x = ddim(denoise, x, path, times, eta=settings.eta, noise=drawing)
        elif sampler == "dpm_solver_pp":
            x = dpm_solver_pp(denoise, x, path, times)
        elif sampler == "langevin":
            times = process.noisy_times(steps)
            score, sigmas = (
                field_of(prediction.denoiser(EDM()), "score", EDM()),
                path.level(times).noise,
            )
            step, repeats = LANGEVIN * float(sigmas[-1]) ** 2, settings.repeats
            x = annealed_langevin(score, x, sigmas, step=step, repeats=repeats, noise=drawing)
        else:
            churn, sigmas = settings.churn, path.level(times).noise
            x = edm(prediction.denoiser(EDM()), x, sigmas, churn=churn, noise=drawing)
    last = times[-1:]
    return denoise(x, every_row(float(last), x)) if float(path.level(last).noise) > 0 else x
