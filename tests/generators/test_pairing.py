"""Optimal-transport pairing of a flow's training: of rows without conditions alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch

from generators.dynamics.gaussian import GaussianVelocity
from generators.dynamics.samplers import heun, uniform_times
from generators.networks.dit import JointTransformer
from generators.networks.regressor import RegressorSettings
from generators.training.denoising import DiffusionSettings, check_diffusion
from generators.training.flow_matching import (
    FlowSettings,
    Rows,
    RunSettings,
    paired_without,
    train_flow,
)
from loop.errors import InvalidCampaignError
from loop.protocols import silent

SETTINGS = FlowSettings(
    width=16,
    depth=1,
    heads=2,
    channels=8,
    first_steps=200,
    batch=64,
    learning_rate=1e-2,
    dropout=0.9,
)


def test_rows_with_conditions_keep_their_noise() -> None:
    """The others have that of the least cost, of all orders of four."""
    draws = torch.Generator().manual_seed(0)
    data, noise = torch.randn(2, 7, 3, generator=draws)
    found = paired_without(data, noise, 3)
    assert torch.equal(found[:3], noise[:3])
    rest, plain = noise[3:], data[3:]

    def cost(order: tuple[int, ...]) -> float:
        return float((plain - rest[list(order)]).square().sum())

    best: tuple[int, ...] = min(ORDERS, key=cost)
    assert torch.equal(found[3:], rest[list(best)])
    assert torch.equal(paired_without(data, noise, 7), noise)


ORDERS = list(permutations(range(4)))


def trained(settings: FlowSettings) -> JointTransformer:
    torch.manual_seed(0)
    network = JointTransformer(
        latent_shape=None,
        vector_sizes=(1,),
        properties=1,
        width=settings.width,
        depth=settings.depth,
        heads=settings.heads,
        channels=settings.channels,
    )
    states = 2.0 * torch.randint(2, (400, 1), generator=torch.Generator().manual_seed(0)) - 1.0
    rows = Rows(states, np.zeros((400, 1)), np.ones(400), states)
    run = RunSettings([True], settings, True, "cpu", np.random.default_rng(0), silent)
    train_flow(network, UNIT, rows, run)
    return network


UNIT = GaussianVelocity(torch.zeros(1), torch.eye(1), torch.ones(1), torch.ones(1))


def test_pairing_straightens_the_unconditional_paths() -> None:
    """Data -1 or 1: one step of Euler's is nearer to where twenty of Heun's lead, by far."""
    gaps = []
    for pairing in (False, True):
        network = trained(replace(SETTINGS, pairing=pairing))
        x = torch.randn(300, 1, generator=torch.Generator().manual_seed(1))
        nothing = torch.zeros(300, 1)

        def velocity(
            x: torch.Tensor,
            t: torch.Tensor,
            network: JointTransformer = network,
            none: torch.Tensor = nothing,
        ) -> torch.Tensor:
            found: torch.Tensor = UNIT(x, t) + network(x, t, none, none.bool())
            return found

        with torch.no_grad():
            one = x + velocity(x, torch.zeros(300))
            many = heun(velocity, x, uniform_times(20))
        gaps.append(float((one - many).square().mean()))
    assert gaps[1] < 0.5 * gaps[0]


def test_pairing_is_refused_where_noise_has_to_be_independent() -> None:
    for given in ({"guide": "regressor"}, {"regressor": RegressorSettings(train=True)}):
        with pytest.raises(InvalidCampaignError, match="pairing is true beside a regressor"):
            FlowSettings(pairing=True, **given)
    with pytest.raises(InvalidCampaignError, match="leave it out or use joint-flow"):
        check_diffusion(DiffusionSettings(pairing=True))
