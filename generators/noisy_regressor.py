"""Guidance by a regressor of noised states: p(y | x_t) for the joint state, at every noise level.

Bayes' rule for scores, ∇ log p(x_t | y) = ∇ log p(x_t) + ∇ log p(y | x_t) (Song et al. 2021,
section 5; Dhariwal & Nichol 2021, section 4.1), with the regression of standardised properties on
the noised state in the place of a classifier. It is the exact p(y | x_t) of the data's Gaussian
(``dynamics.readout``) and what a network adds to its mean and its spread. Both additions are in
proportion to the signal: pure noise says nothing, and the gradient stays finite there.

States are coded and noised as those of the generator, each part with its own ratio of signal to
noise (``JointCode.vector_scale``); times τ are those of the straight path with the image's ratio.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from generators.denoiser import Prediction
from generators.dynamics.flow import Velocity
from generators.dynamics.gaussian import GaussianVelocity
from generators.dynamics.guidance import guided_by_noisy
from generators.dynamics.parameterisation import Kind
from generators.dynamics.readout import GaussianReadout
from generators.dynamics.schedules import Level, rows_like
from generators.networks.regressor import RegressorSettings, StateRegressor
from generators.processes import level_at, straight_time
from generators.training.card import load_weights
from generators.training.flow_matching import Rows, RunSettings
from generators.training.regression import Levels, train_regressor

LEAST_TIME = 1e-3  # the regressor is asked there where a state is noisier
# Standard deviation, of properties of unit variance, below which no regressor is trusted: without
# it a property that the state determines would pull without bound as the noise goes.
LEAST_SPREAD = 0.02
MOST_LOG = 4.0  # of what the network makes of the spread, either way


class NoisyRegressor:
    """p(y | x_t) of standardised properties (b, k): normal, with a full covariance."""

    def __init__(self, readout: GaussianReadout, network: StateRegressor) -> None:
        self.readout = readout
        self.network = network

    @staticmethod
    def create(
        readout: GaussianReadout,
        settings: RegressorSettings,
        *,
        latent_shape: tuple[int, int, int] | None,
        vector_sizes: tuple[int, ...],
        patch: int,
        device: str,
    ) -> NoisyRegressor:
        """Untrained: the exact one of the Gaussian alone."""
        network = StateRegressor(
            latent_shape=latent_shape,
            vector_sizes=vector_sizes,
            outputs=2 * len(readout.offset),
            width=settings.width,
            depth=settings.depth,
            heads=settings.heads,
            channels=settings.channels,
            patch=patch,
        )
        return NoisyRegressor(readout.to(device), network.to(device))

    def trained(
        self, rows: Rows, run: RunSettings, settings: RegressorSettings, levels: Levels
    ) -> tuple[NoisyRegressor, float]:
        """A copy trained on ``rows`` of coded states, and the final loss (nats a property)."""
        new = copy.copy(self)
        new.network = copy.deepcopy(self.network)
        loss = train_regressor(new.network, new.log_likelihood, rows, run, settings, levels)
        return new, loss

    @staticmethod
    def fitted(
        old: NoisyRegressor | None,
        rows: Rows,
        run: RunSettings,
        *,
        law: GaussianVelocity,
        levels: Levels,
        latent_shape: tuple[int, int, int] | None,
        vector_sizes: tuple[int, ...],
        patch: int,
    ) -> tuple[NoisyRegressor, float]:
        """A new one, or ``old`` trained on, whose readout stays; and the final loss."""
        settings = run.settings.regressor
        if old is None:
            y, weights = (torch.from_numpy(part) for part in (rows.conditions, rows.weights))
            torch.manual_seed(int(run.rng.integers(2**63)))  # initial weights
            old = NoisyRegressor.create(
                GaussianReadout.fit(law, rows.states, y, weights),
                settings,
                latent_shape=latent_shape,
                vector_sizes=vector_sizes,
                patch=patch,
                device=run.device,
            )
            run = replace(run, fresh=True)
        return old.trained(rows, run, settings, levels)

    def moments(self, x: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (b, k) and covariance (b, k, k) at states x (b, d) of unit scale, times (b,)."""
        level = level_at(tau)
        found = self.network(x, tau).float()
        with torch.autocast(x.device.type, enabled=False):  # the exact part is not rounded
            scale = rows_like(level.signal + level.noise, x)
            mean, covariance = self.readout(x / scale, tau)
            signal = rows_like(level.signal, mean)
            shift, log_spread = (signal * found).chunk(2, dim=1)
            spread = (MOST_LOG * torch.tanh(log_spread / MOST_LOG)).exp()
            covariance = spread[:, :, None] * covariance * spread[:, None]
            least = torch.full_like(mean, LEAST_SPREAD**2).diag_embed()
            return mean + shift, covariance + least

    def log_likelihood(self, x: Tensor, tau: Tensor, y: Tensor, known: Tensor) -> Tensor:
        """log p(y | x_t) (b,) in nats of the ``known`` (b, k) ones of y (b, k); 0 of none."""
        mean, covariance = self.moments(x, tau)
        with torch.autocast(x.device.type, enabled=False):
            both = known[:, :, None] & known[:, None]
            eye = torch.eye(y.shape[1], dtype=mean.dtype, device=mean.device)
            # A normal's marginal is its block; the others become independent ones that are met.
            root, _ = torch.linalg.cholesky_ex(torch.where(both, covariance, eye))
            error = torch.where(known, y - mean, 0.0)[..., None]
            error = torch.linalg.solve_triangular(root, error, upper=False)[..., 0]
            size = known.sum(1) * math.log(2 * math.pi)
            log_root = root.diagonal(dim1=1, dim2=2).log().sum(1)
            return -0.5 * (error.square().sum(1) + size) - log_root

    # Keeping

    def tensors(self) -> dict[str, Tensor]:
        """Everything needed to rebuild besides the Gaussian, for a checkpoint."""
        readout = {f"readout.{k}": getattr(self.readout, k) for k in ("offset", "slope", "rest")}
        return {f"regressor.{k}": v for k, v in self.network.state_dict().items()} | readout

    @staticmethod
    def restore(
        tensors: Mapping[str, Tensor],
        law: GaussianVelocity,
        settings: RegressorSettings,
        *,
        latent_shape: tuple[int, int, int] | None,
        vector_sizes: tuple[int, ...],
        patch: int,
        path: Path,
        device: str,
    ) -> NoisyRegressor | None:
        """Rebuilt from ``tensors()``; None from a checkpoint of a generator that had none.

        Raises InvalidInputError for weights of other sizes.
        """
        if "readout.offset" not in tensors:
            return None
        parts = (tensors[f"readout.{k}"] for k in ("offset", "slope", "rest"))
        found = NoisyRegressor.create(
            GaussianReadout(law, *parts),
            settings,
            latent_shape=latent_shape,
            vector_sizes=vector_sizes,
            patch=patch,
            device=device,
        )
        load_weights(found.network, tensors, "regressor.", path)
        found.network.eval()
        return found


# Guidance


@dataclass(frozen=True)
class Request:
    """Standardised properties y (n, k) of which the ``known`` (n, k) are asked of n samples."""

    regressor: NoisyRegressor
    y: Tensor
    known: Tensor

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """log p(y | x) (n,) at states of unit scale and times of the straight path."""
        return self.regressor.log_likelihood(x, t.clamp_min(LEAST_TIME), self.y, self.known)

    def on_straight_path(self, x: Tensor, t: Tensor) -> Tensor:
        """The same at states (1 − t) ε + t x_1."""
        t = t.clamp_min(LEAST_TIME)
        return self(x / rows_like(torch.hypot(t, 1 - t), x), t)


class _Unit:
    """States of unit scale by the time τ of the straight path."""

    def level(self, t: Tensor) -> Level:
        return level_at(t.clamp_min(LEAST_TIME))


class _Straight:
    """The straight path but for the first moment, where a likelihood has its limit."""

    def level(self, t: Tensor) -> Level:
        t = t.clamp_min(LEAST_TIME)
        return Level(t, 1 - t)


def led_velocity(velocity: Velocity, request: Request, scale: float) -> Velocity:
    """An unconditional velocity on the straight path led to a request.

    ``scale``: 0 the velocity itself, 1 Bayes' rule, above amplified.
    """
    if scale == 0.0 or not bool(request.known.any()):
        return velocity
    return guided_by_noisy(velocity, request.on_straight_path, scale, _Straight(), "flow")


@dataclass(frozen=True)
class _Led(Prediction):
    request: Request
    strength: float

    def at(self, x: Tensor, level: Level, wanted: Kind) -> Tensor:
        def free(state: Tensor, _: Tensor) -> Tensor:
            return Prediction.at(self, state, level, wanted)

        led = guided_by_noisy(free, self.request, self.strength, _Unit(), wanted)
        return led(x, straight_time(level).to(x))


def led_prediction(prediction: Prediction, request: Request, scale: float) -> Prediction:
    """An unconditional prediction over any process led to a request; ``scale`` as above."""
    if scale == 0.0 or not bool(request.known.any()):
        return prediction
    kept = prediction
    return _Led(kept.rest, kept.linear, kept.kind, kept.process, request, scale)
