"""Long steps and students of Gaussian flows, whose maps are known in closed form."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from generators.dynamics.gaussian import GaussianVelocity
from generators.dynamics.samplers import adaptive
from generators.dynamics.schedules import Straight
from generators.dynamics.steps import GaussianStep, PlainStep, Step, steps_between
from generators.training.distillation import (
    METHODS,
    Lessons,
    Method,
    Paths,
    consistency_target,
    distance,
    distil_paths,
    endpoint_error,
    grid_for,
    student_map,
    student_sample,
    two_steps,
)
from generators.training.loop import Schedule
from loop.errors import InvalidInputError
from tests.generators.gaussians import DOUBLE, Gaussian, numbers, order

MEAN = numbers(2.0, -1.0, 0.5)
VARIANCES = (4.0, 0.01, 0.3)  # the last one is what is not among the axes


def gaussian() -> tuple[GaussianVelocity, Gaussian]:
    """N(m, S) in a turned basis, as a velocity and as the law that tests compare with."""
    turn, _ = torch.linalg.qr(torch.randn(3, 3, dtype=DOUBLE, generator=_random(1)))
    spread = numbers(*VARIANCES)
    velocity = GaussianVelocity(MEAN, turn[:, :2].contiguous(), spread[:2], spread[2:])
    return velocity, Gaussian(MEAN, turn @ torch.diag(spread) @ turn.T)


def _random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def states(n: int = 5, seed: int = 2) -> Tensor:
    return torch.randn(n, 3, dtype=DOUBLE, generator=_random(seed))


def times(t: float, x: Tensor) -> Tensor:
    return torch.full((len(x),), t, dtype=DOUBLE)


def nothing(x: Tensor, _: Tensor) -> Tensor:
    return torch.zeros_like(x)


@pytest.mark.parametrize(("t", "s"), [(0.0, 1.0), (0.0, 0.5), (0.3, 0.9), (0.8, 0.2)])
def test_without_a_rest_a_step_of_any_length_is_the_exact_map(t: float, s: float) -> None:
    velocity, law = gaussian()
    x = states()
    found = GaussianStep(velocity)(x, times(t, x), times(s, x), torch.zeros_like(x))
    torch.testing.assert_close(found, law.carried(Straight(), x, t, s))


def test_a_linear_rest_is_integrated_exactly() -> None:
    """Against an integrator of order 5 at tolerance 1e-11: over 0.8, its error is below 1e-8."""
    velocity, _ = gaussian()
    step, x, n, rise = GaussianStep(velocity), states(), states(seed=3), states(seed=4)

    def whole(y: Tensor, u: Tensor) -> Tensor:
        return velocity(y, u) + n + ((u - 0.1) / 0.8)[:, None] * rise

    exact = adaptive(whole, x, numbers(0.1, 0.9), tolerance=1e-11)
    t, s = times(0.1, x), times(0.9, x)
    torch.testing.assert_close(step(x, t, s, n, rise), exact, atol=1e-6, rtol=0)
    torch.testing.assert_close(step.rate(x, t, s, step(x, t, s, n)), n)


def test_the_teachers_walk_is_of_order_two() -> None:
    """Of a flow that is linear but for half of its velocity; all linear: exact in one step."""
    velocity, law = gaussian()
    x = states()
    exact = law.carried(Straight(), x, 0.0, 1.0)
    halved = GaussianVelocity(MEAN, velocity.axes, numbers(1.0, 1.0), numbers(1.0))

    def rest(y: Tensor, u: Tensor) -> Tensor:
        return velocity(y, u) - halved(y, u)

    steps, errors = [16, 32, 64, 128], []
    for n in steps:
        path = steps_between(
            GaussianStep(halved), rest, x, torch.linspace(0, 1, n + 1, dtype=DOUBLE)
        )
        errors.append(float((path[:, -1] - exact).abs().max()))
    assert order(errors, steps) == pytest.approx(2, abs=0.25)
    once = steps_between(GaussianStep(velocity), nothing, x, numbers(0.0, 1.0))
    torch.testing.assert_close(once[:, -1], exact)


def flow_map(law: Gaussian) -> Any:
    """The field whose plain step over a quarter of the path is exact, wherever it begins."""

    def field(x: Tensor, t: Tensor) -> Tensor:
        begin = float(t[0])
        return (law.carried(Straight(), x, begin, begin + 0.25) - x) / 0.25

    return field


def test_the_progressive_target_is_the_exact_two_step_map() -> None:
    velocity, law = gaussian()
    x = states()
    exact = law.carried(Straight(), x, 0.5, 1.0)
    t, s = times(0.5, x), times(1.0, x)
    torch.testing.assert_close(two_steps(GaussianStep(velocity), nothing, x, t, s), exact)
    torch.testing.assert_close(two_steps(PlainStep(), flow_map(law), x, t, s), exact)


@pytest.mark.parametrize("step", [PlainStep(), GaussianStep(gaussian()[0])], ids=["plain", "exact"])
def test_a_consistency_function_is_the_identity_at_the_end(step: Step) -> None:
    """Whatever the field says, and for its target, too: f(x, 1) = x up to rounding."""
    x = states()
    end = times(1.0, x)

    def anything(y: Tensor, _: Tensor) -> Tensor:
        return 1e6 * torch.sin(y)

    torch.testing.assert_close(student_map(step, anything, x, end, end), x, rtol=0, atol=1e-12)
    target = consistency_target(step, anything, x, end, end)
    torch.testing.assert_close(target, x, rtol=0, atol=1e-12)


def test_the_exact_consistency_function_has_no_loss() -> None:
    """f of any point of a path is the path's end, so neighbours agree."""
    velocity, law = gaussian()
    step, noise = GaussianStep(velocity), states()
    t, ahead, end = (times(u, noise) for u in (0.25, 0.5, 1.0))
    at, after = (law.carried(Straight(), noise, 0.0, u) for u in (0.25, 0.5))
    found = student_map(step, nothing, at, t, end)
    target = consistency_target(step, nothing, after, ahead, end)
    assert float(distance(found, target, torch.ones(3).double())) < 1e-24


class Affine(nn.Module):
    """n = A(t) x + b(t) with A and b free at each of the grid's times: no map here needs more."""

    def __init__(self, grid: int, size: int) -> None:
        super().__init__()
        self.grid = grid
        self.slope = nn.Parameter(torch.zeros(grid + 1, size, size))
        self.shift = nn.Parameter(torch.zeros(grid + 1, size))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        at = (t * self.grid).round().long()
        out: Tensor = torch.einsum("bij,bj->bi", self.slope[at], x) + self.shift[at]
        return out


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("method", METHODS)
def test_a_student_of_a_gaussian_reaches_the_exact_end(method: Method, steps: int) -> None:
    """Data N(m, diag(s²)) in 2-D by plain steps: the end of noise x is m + s x.

    A student's error is at most the teacher's (Heun's, measured) and, over its K segments, the
    defects √loss of each, stretched by what follows: the flow's own map, at most s/σ_min here. A
    progressive student adds the defects of the stages before, a consistency student one defect for
    each of the g/K neighbours.
    """
    mean, deviation = torch.tensor([1.0, -0.5]), torch.tensor([1.5, 0.6])
    velocity = GaussianVelocity(mean, torch.eye(2), deviation.square(), torch.ones(1))
    noise = torch.randn(1200, 2, generator=_random(0))
    grid = grid_for(steps, 8)
    states = steps_between(PlainStep(), velocity, noise, torch.linspace(0, 1, grid + 1))
    heun = float((states[:, -1] - (mean + deviation * noise)).square().sum(1).mean().sqrt())
    learned, held_out = Paths(states, torch.linspace(0, 1, grid + 1), ()).split(200)
    student = Affine(grid, 2)
    loss = distil_paths(
        student,
        PlainStep(),
        learned,
        Lessons(method, steps, Schedule(400, 5e-2, warmup=10, ema=0.98, floor=0.0), 128),
        scale=torch.ones(2),
        device="cpu",
        generator=_random(1),
        stage="student",
    )
    exact = mean + deviation * held_out.states[:, 0]
    with torch.no_grad():
        found = student_sample(PlainStep(), student, held_out.states[:, 0], steps)
    error = float((found - exact).square().sum(1).mean().sqrt())
    stretch = 1.5 / math.sqrt(0.36 / 1.36)  # the greatest s over the least σ_t, λ/(1 + λ) at best
    defects = {"direct": steps, "progressive": 2 * grid, "consistency": grid}[method]
    assert error <= heun + defects * stretch * math.sqrt(steps * max(loss, 1e-9)) + 1e-3
    assert error < 0.05
    measured = endpoint_error(PlainStep(), student, held_out, steps)
    assert measured < 0.05**2


def test_halving_comes_to_the_students_steps() -> None:
    assert [grid_for(k, 8) for k in (1, 2, 3, 4, 8)] == [8, 8, 12, 8, 16]
    paths = Paths(torch.zeros(4, 7, 2), torch.linspace(0, 1, 7), ())
    for method, steps, expected in (
        ("progressive", 2, "expected a power of two times that"),
        ("consistency", 4, "expected a multiple of that"),
    ):
        with pytest.raises(InvalidInputError, match=expected):
            distil_paths(
                Affine(6, 2),
                PlainStep(),
                paths,
                Lessons(method, steps, Schedule(1, 1e-3), 2),  # type: ignore[arg-type]
                scale=torch.ones(2),
                device="cpu",
                generator=_random(0),
                stage="student",
            )
    with pytest.raises(InvalidInputError, match="did you mean 'progressive'"):
        Lessons("progresive", 2, Schedule(1, 1e-3), 2)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="a student of 0 steps"):
        Lessons("direct", 0, Schedule(1, 1e-3), 2)
