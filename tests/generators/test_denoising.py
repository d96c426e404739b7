"""Training of the diffusion: the denoiser that is learned is the one that is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from generators.denoiser import Prediction
from generators.dynamics.gaussian import GaussianVelocity
from generators.dynamics.parameterisation import Kind, min_snr_weight
from generators.dynamics.schedules import Level
from generators.networks.dit import JointTransformer
from generators.processes import Process, level_at
from generators.training.denoising import (
    PREDICTIONS,
    DenoisingLoss,
    DiffusionSettings,
    train_diffusion,
)
from generators.training.flow_matching import Rows, RunSettings
from generators.training.precision import TrainingSettings
from loop.protocols import silent

SETTINGS = DiffusionSettings(
    width=32, depth=2, heads=2, channels=8, first_steps=250, batch=256, learning_rate=4e-3
)
UNIT = GaussianVelocity(torch.zeros(1), torch.eye(1), torch.ones(1), torch.ones(1))


def network() -> JointTransformer:
    torch.manual_seed(0)
    return JointTransformer(
        latent_shape=None,
        vector_sizes=(1,),
        properties=1,
        width=SETTINGS.width,
        depth=SETTINGS.depth,
        heads=SETTINGS.heads,
        channels=SETTINGS.channels,
    )


def corners(n: int) -> Tensor:
    """-1 or 1: mean 0, variance 1."""
    return 2.0 * torch.randint(2, (n, 1), generator=torch.Generator().manual_seed(0)) - 1.0


def run(settings: DiffusionSettings) -> RunSettings:
    return RunSettings([True], settings, True, "cpu", np.random.default_rng(0), silent)


@pytest.mark.parametrize(
    ("prediction", "process", "weighting"),
    [
        ("epsilon", "linear", "simple"),
        ("x0", "ve", "min-snr"),
        ("v", "cosine", "simple"),
        ("epsilon", "vp", "min-snr"),
    ],
)
def test_it_learns_the_denoiser_of_two_points(
    prediction: Kind, process: str, weighting: str
) -> None:
    """E[x_0 | x] = tanh(α x/σ²); the linear part alone has α x at unit scale."""
    settings = replace(SETTINGS, prediction=prediction, process=process, weighting=weighting)
    data, made = corners(512), network()
    rows = Rows(data, np.full((512, 1), np.nan), np.full(512, 1 / 512), data)
    train_diffusion(made, UNIT, rows, run(settings))
    nothing = torch.zeros(2000, 1)
    learned = Prediction(
        lambda x, t: made(x, t, nothing, nothing.bool()), UNIT, prediction, Process(process)
    )
    stream = torch.Generator().manual_seed(1)
    for tau, share in ((0.5, 0.55), (0.65, 0.4), (0.75, 0.4)):
        level = level_at(torch.full((2000,), tau))
        x = level.signal[:, None] * corners(2000) + level.noise[:, None] * torch.randn(
            2000, 1, generator=stream
        )
        exact = torch.tanh(level.signal[:, None] * x / level.noise[:, None].square())
        with torch.no_grad():
            found = learned.at(x, level, "x0")
        error = (found - exact).square().mean().sqrt()
        linear = (level.signal[:, None] * x - exact).square().mean().sqrt()
        assert float(error) < share * float(linear)


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_the_loss_of_an_untrained_network_is_known(kind: Kind) -> None:
    """On N(0, 1): the variance of each kind given x, at its weight; five standard errors."""
    n = 40_000
    stream = torch.Generator().manual_seed(2)
    data, noise = (torch.randn(n, 1, generator=stream) for _ in range(2))
    level = level_at(torch.full((n,), 0.4))
    signal, sigma = (float(part[0]) for part in level)
    nothing = torch.zeros(n, 1)
    # x = α x_0 + σ ε says all but v, which is independent of it and has variance 1.
    variance = {"x0": sigma**2, "epsilon": signal**2, "v": 1.0}[kind]
    for weighting in ("simple", "min-snr"):
        settings = replace(SETTINGS, prediction=kind, weighting=weighting)
        loss = DenoisingLoss(network(), UNIT, settings)
        with torch.no_grad():
            found = float(loss(data, noise, *level, nothing, nothing.bool()))
        weight = 1.0
        if weighting == "min-snr":
            weight = float(min_snr_weight(Level(*(p[:1] for p in level)), kind))
        scatter = 5 * variance * math.sqrt(2 / n)
        assert found / weight == pytest.approx(variance, abs=scatter)


def test_how_it_is_computed_reaches_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half precision trains to another network, which still learns; fp32 is the default here."""
    data = corners(64)
    rows = Rows(data, np.full((64, 1), np.nan), np.full(64, 1 / 64), data)
    short = replace(SETTINGS, first_steps=8, batch=32)
    weights = []
    for precision in (None, "float32", "bf16"):
        made = network()
        train_diffusion(
            made, UNIT, rows, run(replace(short, training=TrainingSettings(precision=precision)))
        )
        weights.append(torch.cat([p.detach().flatten() for p in made.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    torch.testing.assert_close(weights[0], weights[2], rtol=0, atol=0.05)
    compilers: list[str] = []

    def compiled(loss: object, *, backend: str) -> object:
        compilers.append(backend)
        return loss

    monkeypatch.setattr(torch, "compile", compiled)
    train_diffusion(
        network(), UNIT, rows, run(replace(short, training=TrainingSettings(compile=True)))
    )
    assert compilers == ["inductor"]
