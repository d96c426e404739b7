"""The training loop's parts in closed form, and flow matching against its least possible loss."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from generators.dynamics.flow import interpolate, target_velocity
from generators.dynamics.gaussian import GaussianVelocity
from generators.dynamics.samplers import heun, uniform_times
from generators.networks.dit import JointTransformer
from generators.networks.mlp import VectorFlow
from generators.registry import PRESETS
from generators.training.errors import TrainingError
from generators.training.flow_matching import (
    Rows,
    RunSettings,
    dimension_weights,
    draw_masks,
    train_flow,
    train_head,
)
from generators.training.loop import Average, Schedule, train
from generators.training.precision import Computation
from loop.protocols import silent


def four_sigma(rate: float, n: int) -> float:
    return 4 * math.sqrt(rate * (1 - rate) / n)


# Schedule and averages


def test_the_rate_rises_linearly_and_falls_as_a_cosine() -> None:
    schedule = Schedule(1000, 2e-3, warmup=50, floor=0.02)
    assert schedule.rate(0) == pytest.approx(2e-3 / 50)
    assert schedule.rate(24) == pytest.approx(1e-3)
    assert schedule.rate(49) == schedule.rate(50) == pytest.approx(2e-3)
    assert schedule.rate(525) == pytest.approx(2e-3 * (0.02 + 0.98 / 2))
    assert schedule.rate(1000) == schedule.rate(5000) == pytest.approx(0.02 * 2e-3)
    rates = [schedule.rate(i) for i in range(1000)]
    assert all(a < b for a, b in itertools.pairwise(rates[:50]))
    assert all(a > b for a, b in itertools.pairwise(rates[50:]))


def test_shorter_runs_than_the_warm_up_have_finite_rates() -> None:
    schedule = Schedule(10, 1e-3, warmup=50)
    assert all(0 < schedule.rate(i) <= 1e-3 for i in range(11))


@pytest.mark.parametrize("decay", [0.9, 0.999])
def test_average_is_the_debiased_recursion(decay: float) -> None:
    """With parameters p_i the shadow is s ← d_i s + (1 − d_i) p_i, d_i = min(d, (1+i)/(10+i))."""
    module = nn.Linear(2, 1, bias=False).double()
    with torch.no_grad():
        module.weight.fill_(100.0)
    average = Average(module, decay)
    shadow = 100.0
    for i in range(40):
        with torch.no_grad():
            module.weight.fill_(float(i))
        average.update(module)
        d = min(decay, (1 + i) / (10 + i))
        shadow = d * shadow + (1 - d) * i
    average.copy_to(module)
    assert module.weight.detach().numpy() == pytest.approx(np.full((1, 2), shadow))


def test_average_of_a_constant_forgets_the_start() -> None:
    """After n steps the start's weight is ∏ d_i = ∏ (1+i)/(10+i) = 9! n!/(n+9)!, not dⁿ."""
    module = nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        module.weight.fill_(1.0)
    average = Average(module, 0.999)
    with torch.no_grad():
        module.weight.zero_()
    for _ in range(30):
        average.update(module)
    left = math.factorial(9) * math.factorial(30) / math.factorial(39)
    assert float(average.shadow["weight"]) == pytest.approx(left, rel=1e-9)
    assert left < 1e-8 < 0.999**30


def batches(value: float = 1.0) -> Iterator[tuple[Tensor]]:
    while True:
        yield (torch.full((4, 2), value),)


def test_training_minimises_and_leaves_the_average_in_evaluation_mode() -> None:
    torch.manual_seed(0)
    line = nn.Linear(2, 1, bias=False)
    module = nn.Sequential(line, nn.Dropout(0.5))
    shown: list[tuple[int, int]] = []

    def progress(stage: str, done: int, total: int, **figures: float) -> None:
        assert stage == "line"
        assert figures or done == total
        shown.append((done, total))

    def loss(x: Tensor) -> Tensor:
        return (line(x) - 3.0).square().mean()

    final = train(
        module, loss, batches(), Schedule(300, 0.05, warmup=10), stage="line", progress=progress
    )
    assert not module.training
    assert float(line.weight.detach().sum()) == pytest.approx(3.0, abs=0.05)
    assert 0 <= final < 0.01
    assert shown[0] == (0, 300)
    assert shown[-1] == (300, 300)


def test_gradients_are_clipped() -> None:
    """What the last step left on the parameters has the norm that is allowed."""
    module = nn.Linear(2, 1)
    train(
        module,
        lambda x: 1e6 * module(x).sum(),
        batches(),
        Schedule(6, 1e-3, clip=0.5),
        stage="steep",
    )
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    norm = math.sqrt(sum(float(g.norm() ** 2) for g in gradients))
    assert norm == pytest.approx(0.5, rel=1e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_training(bad: float) -> None:
    module = nn.Linear(2, 1)
    with pytest.raises(
        TrainingError,
        match=r"flat: loss is (-?nan|-?inf) at step 0 of 5, learning rate 2e-05; lower the learn",
    ):
        train(module, lambda x: module(x).mean() * bad, batches(), Schedule(5, 1e-3), stage="flat")


# Conditions and weights


def test_masks_are_as_stated() -> None:
    """Shares by the rule: half as asked, else each with a common random chance."""
    n = 40_000
    asked = torch.tensor([True, False, True])
    mask = draw_masks(n, asked, torch.Generator().manual_seed(0)).numpy()
    # A random subset is any one of size m with chance 1/(k+1)/C(k, m); instead of an empty one
    # the row shows what is asked.
    empty, as_asked, full = 0.0, 0.5 + 0.5 / 4 + 0.5 / 4 / 3, 0.5 / 4
    found = {
        "empty": (~mask).all(1).mean(),
        "asked": (mask == asked.numpy()).all(1).mean(),
        "full": mask.all(1).mean(),
    }
    for name, rate in (("empty", empty), ("asked", as_asked), ("full", full)):
        assert found[name] == pytest.approx(rate, abs=four_sigma(rate, n)), name


@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_image_and_vectors_have_their_share_of_the_loss(weight: float) -> None:
    sizes: dict[str, Any] = {"properties": 1, "width": 8, "depth": 1, "heads": 1, "channels": 8}
    both = JointTransformer(latent_shape=(2, 4, 4), vector_sizes=(3, 2), **sizes)
    found = dimension_weights(both, weight)
    assert float(found[:32].sum()) == pytest.approx(1.0)
    assert float(found[32:].sum()) == pytest.approx(weight)
    for shape, vectors in (((2, 4, 4), ()), (None, (3, 2))):
        alone = JointTransformer(latent_shape=shape, vector_sizes=vectors, **sizes)
        assert float(dimension_weights(alone, weight).sum()) == pytest.approx(1.0)


# The least possible loss


def least_loss(t: Tensor, s: float) -> Tensor:
    """Var(x₁ − ε | x_t) = s²/(t² s² + (1 − t)²) per dimension, for data N(m, s²)."""
    return s**2 / (t**2 * s**2 + (1 - t) ** 2)


@pytest.mark.parametrize("s", [0.3, 1.0, 2.0])
def test_least_loss_is_that_of_the_exact_velocity(s: float) -> None:
    """n draws of a squared error of variance v² have a mean with standard error v²√(2/n)."""
    n, m = 40_000, 1.5
    draws = torch.Generator().manual_seed(0)
    data = m + s * torch.randn(n, 1, generator=draws, dtype=torch.float64)
    noise = torch.randn(n, 1, generator=draws, dtype=torch.float64)
    for time in (0.1, 0.5, 0.9):
        t = torch.full((n,), time, dtype=torch.float64)
        x = interpolate(data, noise, t)
        c = t * s**2 - (1 - t)
        velocity = m + (c / (t**2 * s**2 + (1 - t) ** 2))[:, None] * (x - t[:, None] * m)
        loss = float((velocity - target_velocity(data, noise)).square().mean())
        floor = float(least_loss(t[0], s))
        assert loss == pytest.approx(floor, abs=4 * floor * math.sqrt(2 / n))


@pytest.fixture(scope="module", params=["joint", "joint in bf16", "vector"])
def trained(request: pytest.FixtureRequest) -> tuple[Any, Tensor]:
    """A small network after short training on N(0, 0.5²) in three dimensions, and new data."""
    rng = np.random.default_rng(0)
    data = torch.from_numpy(0.5 * rng.normal(size=(6000, 3))).float()
    settings = replace(
        PRESETS["tiny"],
        first_steps=250,
        head_first_steps=250,
        batch=128,
        head_batch=128,
        learning_rate=3e-3,
    )
    run = RunSettings(
        asked=[True], settings=settings, fresh=True, device="cpu", rng=rng, progress=silent
    )
    given = np.full((3000, 1), np.nan), np.full(3000, 1 / 3000)
    torch.manual_seed(0)
    if request.param != "vector":
        joint = JointTransformer(
            latent_shape=None,
            vector_sizes=(3,),
            properties=1,
            width=32,
            depth=1,
            heads=2,
            channels=8,
        )
        # The linear part is that of other data: the network has something left to learn.
        linear = GaussianVelocity.fit(1.0 + 2.0 * torch.randn(500, 3))
        rows = Rows(data[:3000], *given, data[:3000])
        precision = "bf16" if "bf16" in request.param else "float32"
        with pytest.MonkeyPatch.context() as gpu:
            gpu.setattr(Computation, "suited", lambda _: Computation(precision))
            train_flow(joint, linear, rows, run)
        return (lambda x, t, y, mask: linear(x, t) + joint(x, t, y, mask)), data[3000:]
    head = VectorFlow(size=3, context=0, properties=1, width=32, depth=1)
    none = torch.zeros(3000, 0)
    rows = Rows(data[:3000], *given, data[:3000])
    train_head(head, rows, context=none, plain_context=none, run=run)
    return (lambda x, t, y, mask: head(x, t, torch.zeros(len(x), 0), y, mask)), data[3000:]


def test_rows_without_conditions_are_those_of_the_library() -> None:
    """Conditioned rows lie at +2, library rows at −2: without conditions samples lie at −2."""
    rng = np.random.default_rng(0)
    near, library = (torch.from_numpy(m + 0.3 * rng.normal(size=(500, 2))).float() for m in (2, -2))
    rows = Rows(near, np.zeros((500, 1)), np.ones(500), library)
    settings = replace(PRESETS["tiny"], first_steps=200, batch=64, learning_rate=3e-3, dropout=0.3)
    run = RunSettings(
        asked=[True], settings=settings, fresh=True, device="cpu", rng=rng, progress=silent
    )
    torch.manual_seed(0)
    network = JointTransformer(
        latent_shape=None,
        vector_sizes=(2,),
        properties=1,
        width=32,
        depth=1,
        heads=2,
        channels=8,
    )
    linear = GaussianVelocity.fit(library)
    train_flow(network, linear, rows, run)
    for shown, mean in ((True, 2.0), (False, -2.0)):
        mask, y = torch.full((200, 1), shown), torch.zeros(200, 1)

        def velocity(x: Tensor, t: Tensor, y: Tensor = y, mask: Tensor = mask) -> Tensor:
            learned: Tensor = network(x, t, y, mask)
            return linear(x, t) + learned

        with torch.no_grad():
            found = heun(
                velocity,
                torch.randn(200, 2, generator=torch.Generator().manual_seed(1)),
                uniform_times(10),
            )
        # Standard error of the mean 0.3/√200 = 0.02; the rest is for the short training.
        assert found.mean(0).numpy() == pytest.approx([mean, mean], abs=0.5)


def test_trained_loss_comes_near_its_floor_and_not_below(trained: tuple[Any, Tensor]) -> None:
    """On new data and at fixed times; below the floor by more than chance would be a bug."""
    network, data = trained
    n = len(data)
    draws = torch.Generator().manual_seed(3)
    for time in (0.2, 0.5, 0.8):
        t, noise = torch.full((n,), time), torch.randn(n, 3, generator=draws)
        nothing = torch.zeros(n, 1, dtype=torch.bool)
        with torch.no_grad():
            velocity = network(interpolate(data, noise, t), t, torch.zeros(n, 1), nothing)
        loss = float((velocity - target_velocity(data, noise)).square().mean())
        floor = float(least_loss(torch.tensor(time), 0.5))
        assert loss > floor * (1 - 4 * math.sqrt(2 / (3 * n)))
        assert loss < 1.25 * floor  # at the first time an untrained network has 3 times the floor


def test_losses_of_the_tiny_preset_are_as_recorded() -> None:
    """Examples of other versions can be repeated: a training keeps its random streams and steps.

    Recorded before the loop had options. Roundings of other processors grow to less than 1e-3 in
    40 steps; another stream or step changes the second digit.
    """
    rng = np.random.default_rng(0)
    states = torch.from_numpy(rng.normal(size=(60, 35))).float()
    rows = Rows(states, rng.normal(size=(60, 2)), np.full(60, 1 / 60), states[:30])
    losses: list[float] = []

    class Seen:
        def __call__(self, stage: str, done: int, total: int, **figures: float) -> None:
            if figures and done % 20 == 0:
                losses.append(figures["loss"])

    settings = replace(
        PRESETS["tiny"], first_steps=30, batch=32, head_first_steps=40, head_batch=64
    )
    run = RunSettings(
        asked=[True, False],
        settings=settings,
        fresh=True,
        device="cpu",
        rng=rng,
        progress=Seen(),
    )
    torch.manual_seed(0)
    network = JointTransformer(
        latent_shape=(2, 4, 4),
        vector_sizes=(3,),
        properties=2,
        width=32,
        depth=2,
        heads=2,
        channels=8,
    )
    final = train_flow(network, GaussianVelocity.fit(states), rows, run)
    head = VectorFlow(size=3, context=2, properties=2, width=32, depth=2)
    vectors = replace(rows, states=states[:, 32:], plain=states[:30, 32:])
    context = states[:, :2]
    head_final = train_head(head, vectors, context=context, plain_context=context[:30], run=run)
    assert losses == pytest.approx([3.133102, 3.204721, 1.940552, 1.755631], rel=1e-3)
    assert (final, head_final) == pytest.approx((3.138696, 1.655909), rel=1e-3)
