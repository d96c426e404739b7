"""Losses of the adversarial pair at their closed forms; its training resumes and stops well."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from generators.networks.gan import Critic, DesignGenerator, Layout, smoothed
from generators.training.adversarial import (
    OBJECTIVES,
    AdversarialLoss,
    Designs,
    GANRows,
    GANRun,
    JointGANSettings,
    critic_loss,
    gradient_penalty,
    maker_loss,
    r1_penalty,
    slopes,
    train_gan,
)
from generators.training.errors import TrainingError
from generators.training.loop import Schedule
from generators.training.resume import StatefulLoss, TrainingState
from generators.verification_baselines import dirac_eigenvalues, maker_slope
from loop.protocols import silent

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGES = Layout((2, 16, 16), 3)
SMALL = JointGANSettings(
    latent=6, local=2, channels=8, critic_channels=4, width=16, depth=1, first_steps=14, batch=6
)


def pair(layout: Layout = IMAGES, s: JointGANSettings = SMALL) -> tuple[DesignGenerator, Critic]:
    torch.manual_seed(0)
    network = DesignGenerator(
        layout,
        properties=2,
        latent=s.latent,
        local=s.local,
        channels=s.channels,
        width=s.width,
        depth=s.depth,
    )
    critic = Critic(layout, properties=2, channels=s.critic_channels, width=s.width, depth=s.depth)
    return network, critic


def designs(n: int, layout: Layout = IMAGES, seed: int = 0) -> Designs:
    draws = torch.Generator().manual_seed(seed)
    labels = torch.zeros(n, 0, dtype=torch.uint8)
    if layout.shape is not None:
        p, h, w = layout.shape
        labels = torch.randint(p, (n, h, w), generator=draws, dtype=torch.uint8)
    return Designs(labels, torch.randn(n, layout.vectors, generator=draws))


def weights(*modules: nn.Module) -> Tensor:
    return torch.cat([t.detach().reshape(-1) for m in modules for t in m.state_dict().values()])


# Closed forms


def test_wgan_is_the_difference_of_the_means() -> None:
    real, made = torch.tensor([1.0, 3.0]), torch.tensor([-1.0, 0.5])
    assert float(critic_loss("wgan-gp", real, made)) == pytest.approx(-0.25 - 2.0)
    assert float(maker_loss("wgan-gp", made)) == pytest.approx(0.25)


def test_non_saturating_is_that_of_goodfellow() -> None:
    real, made = torch.tensor([1.0, 3.0]), torch.tensor([-1.0, 0.5])
    sigmoid = torch.sigmoid
    exact = -sigmoid(real).log().mean() - (1 - sigmoid(made)).log().mean()
    assert float(critic_loss("non-saturating", real, made)) == pytest.approx(float(exact))
    assert float(maker_loss("non-saturating", made)) == pytest.approx(
        float(-sigmoid(made).log().mean())
    )


def test_the_generator_learns_most_where_the_critic_is_sure() -> None:
    """Slope −σ(−s): −1 where the critic is sure that it is made, where log(1 − D) has none."""
    assert maker_slope(-30.0) == pytest.approx(-1.0)
    assert maker_slope(0.0) == pytest.approx(-0.5)
    assert maker_slope(30.0) == pytest.approx(0.0, abs=1e-9)


def test_slopes_are_those_of_the_own_row() -> None:
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(4, 3, generator=draws, dtype=torch.float64)
    found = slopes(lambda s: (s**3).sum(1), x)
    assert found.detach().numpy() == pytest.approx((3 * x**2).numpy())
    assert not x.requires_grad


def test_penalties_of_a_linear_critic_and_their_gradient() -> None:
    """|w|² with gradient 2 w, and (|w| − 1)² with gradient 2 (|w| − 1) w / |w|."""
    w = torch.tensor([3.0, 4.0], dtype=torch.float64, requires_grad=True)
    real, made = torch.zeros(5, 2, dtype=torch.float64), torch.ones(5, 2, dtype=torch.float64)
    share = torch.linspace(0, 1, 5, dtype=torch.float64)[:, None]

    def judge(states: Tensor) -> Tensor:
        return states @ w

    r1 = r1_penalty(judge, real)
    assert r1.item() == pytest.approx(25.0)
    assert torch.autograd.grad(r1, w)[0].tolist() == pytest.approx([6.0, 8.0])
    penalty = gradient_penalty(judge, real, made, share)
    assert penalty.item() == pytest.approx(16.0)
    assert torch.autograd.grad(penalty, w)[0].tolist() == pytest.approx([4.8, 6.4])


def test_the_penalty_is_taken_between_real_and_made() -> None:
    """|∇ ½|x|²| is |x|: at share t of the way from 0 to (3, 4) it is 5 t."""
    real, made = torch.zeros(2, 2), torch.tensor([[3.0, 4.0]]).expand(2, 2)
    share = torch.tensor([[0.2], [0.6]])
    found = gradient_penalty(lambda x: 0.5 * x.square().sum(1), real, made, share)
    assert found.item() == pytest.approx((0.0 + 4.0) / 2, abs=1e-6)


def test_a_flat_critic_has_a_finite_penalty_gradient() -> None:
    w = torch.zeros(2, requires_grad=True)
    found = gradient_penalty(lambda x: x @ w, torch.zeros(3, 2), torch.ones(3, 2), torch.ones(3, 1))
    found.backward()
    assert found.item() == 1.0
    assert w.grad is not None
    assert bool(w.grad.isfinite().all())


@pytest.mark.parametrize("gamma", [0.0, 0.2, 0.9, 1.0, 1.7])
def test_the_dirac_gan_is_damped_by_r1(gamma: float) -> None:
    """−γ/2 ± √(γ²/4 − f'(0)²), f'(0) = ½: circles without R1, aperiodic from γ = 1 on."""
    root = np.sqrt(complex(gamma**2 / 4 - 0.25))
    exact = sorted([-gamma / 2 - root, -gamma / 2 + root], key=lambda v: (v.real, v.imag))
    assert np.array(dirac_eigenvalues(gamma)) == pytest.approx(np.array(exact), abs=1e-7)


# The state of a design


def test_states_go_there_and_back_and_their_distance_is_the_stated_one() -> None:
    network, critic = pair()
    loss = AdversarialLoss(network, critic, SMALL, Schedule(9, 1e-3), torch.Generator())
    data = designs(3)
    states = loss.real(*data)
    fields, vectors = IMAGES.split(states)
    assert fields is not None
    assert torch.equal(fields.argmax(1).to(torch.uint8), data.labels)
    assert fields.sum(1).numpy() == pytest.approx(np.ones((3, 16, 16)))
    assert vectors.numpy() == pytest.approx(data.vectors.numpy(), rel=1e-6)
    other = Designs(data.labels.clone(), data.vectors + torch.tensor([0.3, 0.0, 0.0]))
    other.labels[0, 0, :8] ^= 1
    squares = (loss.real(*other) - states).square().sum(1)
    assert float(squares[0]) == pytest.approx(2 * 8 / 256 + 0.03, rel=1e-5)
    assert float(squares[1]) == pytest.approx(0.03, rel=1e-5)


@pytest.mark.parametrize("layout", [IMAGES, Layout(None, 3), Layout((3, 24, 16), 0)])
def test_what_is_made_are_shares_of_phases_and_vectors(layout: Layout) -> None:
    network, critic = pair(layout)
    draws = torch.Generator().manual_seed(1)
    noise = torch.randn(5, network.noise, generator=draws)
    values, mask = torch.randn(5, 2, generator=draws), torch.ones(5, 2, dtype=torch.bool)
    states = network.fields(noise, values, mask)
    fields, vectors = layout.split(states)
    assert vectors.shape == (5, layout.vectors)
    assert (fields is None) == (layout.shape is None)
    if fields is not None:
        assert fields.shape == (5, *layout.shape)  # type: ignore[misc]
        assert fields.min().item() > 0
        assert fields.sum(1).detach().numpy() == pytest.approx(1.0, abs=1e-5)
    scores = critic(states, values, mask)
    assert scores.shape == (5,)
    # A row's score is its own, and a value that is not given does not count.
    assert critic(states[2:3], values[2:3], mask[2:3]).item() == pytest.approx(
        scores[2].item(), abs=1e-5
    )
    assert torch.equal(critic(states, values, ~mask), critic(states, values + 1, ~mask))
    assert not torch.equal(scores, critic(states, values + 1, mask))


def test_the_first_vectors_have_the_covariance_of_the_data() -> None:
    draws = torch.Generator().manual_seed(0)
    mixing = torch.randn(4, 4, generator=draws)
    rows = torch.randn(500, 4, generator=draws) @ mixing.T + 2.0
    network, _ = pair(Layout(None, 4))
    network.start(torch.zeros(0), rows, draws)
    noise = torch.randn(4000, network.noise, generator=draws)
    with torch.no_grad():
        _, made = network(noise, torch.zeros(4000, 2), torch.zeros(4000, 2, dtype=torch.bool))
    exact = torch.cov(rows.T, correction=0)
    error = (torch.cov(made.T) - exact).norm() / exact.norm()
    assert float(error) < 4 * (2 * 4 / 4000) ** 0.5  # 4 standard errors of a Wishart matrix
    assert float((made.mean(0) - rows.mean(0)).norm()) < 4 * float(exact.trace() / 4000) ** 0.5
    w = network.linear.weight.detach()
    assert (w @ w.T).numpy() == pytest.approx(exact.numpy(), rel=1e-4, abs=1e-5)


def test_the_first_images_have_the_phases_of_the_data() -> None:
    """More of what there is more of, no image like another, hardly one of a single phase."""
    layout = Layout((3, 32, 32), 0)
    draws = torch.Generator().manual_seed(0)
    shares = torch.tensor([0.5, 0.3, 0.2])
    labels = torch.multinomial(shares, 50 * 32 * 32, replacement=True, generator=draws)
    network, _ = pair(layout)
    network.start(labels.reshape(50, 32, 32), torch.zeros(50, 0), draws)
    noise = torch.randn(200, network.noise, generator=draws)
    with torch.no_grad():
        logits, _ = network(noise, torch.zeros(200, 2), torch.zeros(200, 2, dtype=torch.bool))
    assert logits is not None
    means = logits.mean((0, 2, 3))
    assert (means - means.mean()).numpy() == pytest.approx(
        (shares.log() - shares.log().mean()).numpy(), abs=0.2
    )
    made = logits.argmax(1)
    found = torch.bincount(made.flatten(), minlength=3) / made.numel()
    assert found[0] > found[1] > found[2] > 0.02
    assert len({tuple(image.flatten().tolist()) for image in made}) == 200
    assert int((made.amin((1, 2)) == made.amax((1, 2))).sum()) < 10


def test_smoothing_keeps_planes_and_halves_a_checkerboard_away() -> None:
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(8.0), indexing="ij")
    plane = (2 * y - 3 * x)[None, None]
    assert torch.equal(smoothed(plane)[..., 1:-1, 1:-1], plane[..., 1:-1, 1:-1])
    board = ((y + x) % 2)[None, None]
    assert torch.equal(smoothed(board)[..., 1:-1, 1:-1], torch.full((1, 1, 4, 6), 0.5))
    assert smoothed(plane).shape == plane.shape


# Training


def rows_of(layout: Layout, n: int = 40) -> GANRows:
    conditions = np.random.default_rng(0).normal(size=(n, 2))
    return GANRows(designs(n, layout), conditions, np.ones(n), designs(n, layout, 1))


def run_of(s: JointGANSettings, **given: Any) -> GANRun:
    rng = np.random.default_rng(3)
    return GANRun([True, False], s, True, "cpu", rng, given.pop("progress", silent), **given)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_each_moves_its_own_weights_alone(objective: Any) -> None:
    network, critic = pair()
    s = replace(SMALL, objective=objective)
    loss = AdversarialLoss(network, critic, s, Schedule(9, 1e-3), torch.Generator().manual_seed(0))
    assert isinstance(loss, StatefulLoss)
    before = weights(network), weights(critic)
    values, mask = torch.zeros(6, 2), torch.zeros(6, 2, dtype=torch.bool)
    value = loss(*designs(6), values, mask)
    value.backward()
    assert torch.equal(weights(network), before[0])
    assert not torch.equal(weights(critic), before[1])
    assert all(p.grad is None and p.requires_grad for p in critic.parameters())
    assert any(p.grad is not None and bool(p.grad.any()) for p in network.parameters())
    assert set(loss.figures) == {"critic", "penalty", "gap", "generator"}
    held = weights(critic)
    with torch.no_grad():  # a look at the loss is no step
        loss(*designs(6), values, mask)
    assert torch.equal(weights(critic), held)


def test_the_critic_takes_the_stated_number_of_steps_along_the_schedule() -> None:
    network, critic = pair()
    s = replace(SMALL, critic_steps=3, critic_rate=2.0)
    schedule = Schedule(40, 1e-3, warmup=10)
    loss = AdversarialLoss(network, critic, s, schedule, torch.Generator().manual_seed(0))
    loss.step = 4
    values, mask = torch.zeros(18, 2), torch.zeros(18, 2, dtype=torch.bool)
    loss(*designs(18), values, mask)
    counts = {float(state["step"]) for state in loss.optimiser.state.values()}
    assert counts == {3.0}
    assert loss.optimiser.param_groups[0]["lr"] == pytest.approx(2e-3 * 5 / 10)


class KilledError(Exception):
    """As if the process had ended here."""


@pytest.mark.parametrize(
    ("objective", "steps", "layout"),
    [("non-saturating", 1, IMAGES), ("wgan-gp", 2, IMAGES), ("wgan-gp", 1, Layout(None, 3))],
)
def test_a_resumed_training_is_bit_equal(
    objective: Any, steps: int, layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after 8 of 14 steps, kept at 6; both networks end as if nothing had been."""
    s = replace(SMALL, objective=objective, critic_steps=steps)

    def trained(keep: TrainingState | None) -> tuple[float, Tensor]:
        network, critic = pair(layout, s)
        final = train_gan(network, critic, rows_of(layout), run_of(s, keep=keep))
        return final, weights(network, critic)

    expected = trained(None)
    keep = TrainingState(tmp_path, every_steps=3)
    whole = AdversarialLoss.__call__

    def killed(self: AdversarialLoss, *batch: Tensor) -> Tensor:
        if self.step == 8:
            raise KilledError
        return whole(self, *batch)

    with monkeypatch.context() as patch:
        patch.setattr(AdversarialLoss, "__call__", killed)
        with pytest.raises(KilledError):
            trained(keep)
    found = trained(keep)
    assert found[0] == expected[0]
    assert torch.equal(found[1], expected[1])
    again = trained(keep)  # finished: what follows finds the same critic, too
    assert torch.equal(again[1], expected[1])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_loss_that_is_not_finite_stops_with_the_last_good_weights(
    objective: Any, tmp_path: Path
) -> None:
    """A scored vector is infinite where the critic's slope takes it: it stops at that step."""
    network, critic = pair(Layout(None, 3))
    rows = rows_of(Layout(None, 3))
    rows.scored.vectors[:4] = math.inf
    s = replace(SMALL, objective=objective, batch=2, first_steps=200, dropout=0.0)
    with pytest.raises(TrainingError, match=r"adversarial pair: loss is nan at step \d+ of 200"):
        train_gan(network, critic, rows, run_of(s, keep=TrainingState(tmp_path)))
    assert bool(weights(network).isfinite().all())
    assert not network.training


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_it_learns_a_law_that_is_not_normal(objective: Any) -> None:
    """Two lumps at ±1 of width 0.1, between them nothing: a normal would have 50 % there."""
    draws = torch.Generator().manual_seed(0)
    signs = torch.randint(2, (1000, 1), generator=draws) * 2.0 - 1.0
    vectors = signs + 0.1 * torch.randn(1000, 1, generator=draws)
    labels = torch.zeros(1000, 0, dtype=torch.uint8)
    data = Designs(labels, vectors)
    s = replace(
        SMALL,
        objective=objective,
        critic_steps=1 if objective == "non-saturating" else 2,
        width=24,
        batch=64,
        first_steps=250,
        learning_rate=2e-3,
        gp_weight=1.0,
        r1_weight=0.1,
        dropout=0.0,
    )
    layout = Layout(None, 1)
    network, critic = pair(layout, s)
    network.start(labels, vectors, draws)
    conditions = np.concatenate([signs.numpy(), np.full((1000, 1), np.nan)], axis=1)
    train_gan(network, critic, GANRows(data, conditions, np.ones(1000), data), run_of(s))
    noise = torch.randn(1000, network.noise, generator=draws)
    with torch.no_grad():
        asked = torch.tensor([True, False]).expand(1000, 2)
        _, right = network(noise, torch.tensor([1.0, 0.0]).expand(1000, 2), asked)
        _, left = network(noise, torch.tensor([-1.0, 0.0]).expand(1000, 2), asked)
    between = float((torch.cat([left, right]).abs() < 0.5).float().mean())
    assert between < 0.1
    assert float((right > 0).float().mean()) > 0.85
    assert float((left < 0).float().mean()) > 0.85
