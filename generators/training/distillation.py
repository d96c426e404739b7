"""Distillation of a flow into a student of a few long steps, each of one evaluation.

The student divides the path 0 → 1 into equal segments. Its field n(x, t) leads from anywhere in a
segment to the segment's end, f(x, t) = step(x, t, end, n(x, t)), where the linear part of the flow
is exact in the step (``dynamics.steps``) and f(x, end) = x by construction. It learns along paths
of the teacher, which are walked beforehand with guidance, so that the student needs a single
evaluation where a guided flow needs two (Meng et al. 2023, arXiv:2210.03142).

``direct``: f at the begin of a segment is to be the path's point at its end (Luhman & Luhman 2021,
arXiv:2101.02388, on segments); exact targets, once the paths are there. ``progressive``: two steps
become one, again and again, until the wanted number is left; the first two are the teacher's
(Salimans & Ho 2022, arXiv:2202.00512). ``consistency``: f at one point of a path is to be f at the
teacher's next, within a segment (Song et al. 2023, arXiv:2303.01469; of several segments Heek et
al. 2024, arXiv:2403.06807).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from generators.dynamics.flow import Velocity
from generators.dynamics.steps import Step
from generators.training.loop import Schedule, train
from generators.training.precision import Computation
from generators.training.resume import TrainingState
from loop.errors import InvalidInputError, unknown_name
from loop.protocols import Progress, silent

Method = Literal["direct", "progressive", "consistency"]
METHODS: tuple[Method, ...] = ("direct", "progressive", "consistency")
Network = Callable[..., Tensor]  # x (b, d), t (b,), then the conditions, each (b, ...)


# What a student is


def student_map(step: Step, field: Velocity, x: Tensor, t: Tensor, end: Tensor) -> Tensor:
    """f(x, t): states (b, d) at ``end`` (b,); x itself where t = end, whatever the field says."""
    return step(x, t, end, field(x, t))


def student_sample(
    step: Step, field: Velocity, noise: Tensor, steps: int, start: float = 0.0
) -> Tensor:
    """Data (b, d) of what is at time ``start``, by default noise, in ``steps`` evaluations."""
    x = noise
    times = torch.linspace(start, 1.0, steps + 1).to(x.device, x.dtype)
    for i in range(steps):
        x = student_map(step, field, x, times[i].expand(len(x)), times[i + 1].expand(len(x)))
    return x


# What it is to learn


def two_steps(step: Step, field: Velocity, x: Tensor, t: Tensor, end: Tensor) -> Tensor:
    """Where two steps of equal length of a teacher lead from t (b,) to ``end`` (b,)."""
    middle = (t + end) / 2
    return student_map(step, field, student_map(step, field, x, t, middle), middle, end)


def consistency_target(
    step: Step, field: Velocity, ahead: Tensor, t_ahead: Tensor, end: Tensor
) -> Tensor:
    """f at the teacher's next point (b, d), not to be differentiated; that point itself at 1."""
    with torch.no_grad():
        return student_map(step, field, ahead, t_ahead, end)


def distance(found: Tensor, target: Tensor, scale: Tensor) -> Tensor:
    """Mean over the rows of Σ scale (found − target)², for (b, d), (b, d), (d,)."""
    return ((found - target).square() * scale).sum(1).mean()


# Paths of the teacher


@dataclass(frozen=True)
class Paths:
    """Walks of a teacher: ``states`` (n, g + 1, d) at ``times`` (g + 1,), from noise to data.

    ``conditions``: what each went under, tensors (n, ...).
    """

    states: Tensor
    times: Tensor
    conditions: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.states)

    def split(self, held_out: int) -> tuple[Paths, Paths]:
        """All but the last ``held_out`` paths, and those."""
        cut = len(self) - held_out
        learned = tuple(part[:cut] for part in self.conditions)
        rest = tuple(part[cut:] for part in self.conditions)
        return (
            Paths(self.states[:cut], self.times, learned),
            Paths(self.states[cut:], self.times, rest),
        )


def grid_for(steps: int, least: int) -> int:
    """Steps of a teacher: at least ``least`` and a power of two times the student's, two or more.

    So that halving its steps comes to the student's.
    """
    return int(steps * 2 ** max(1, math.ceil(math.log2(max(least, 1) / steps))))


def endpoint_error(
    step: Step, network: Network, paths: Paths, steps: int, device: str = "cpu", batch: int = 256
) -> float:
    """Mean squared distance of the student's ends to the teacher's, over the ends' variance."""
    ends = paths.states[:, -1]
    squared = 0.0
    with torch.no_grad():
        for i in range(0, len(paths), batch):
            rows = slice(i, i + batch)
            field = _under(network, [part[rows].to(device) for part in paths.conditions])
            begin = paths.states[rows, 0].to(device)
            found = student_sample(step, field, begin, steps, float(paths.times[0]))
            squared += float((found.cpu() - ends[rows]).square().sum())
    spread = float((ends - ends.mean(0)).square().sum())
    return squared / spread if spread > 0 else 0.0


# Learning


@dataclass(frozen=True, slots=True)
class Lessons:
    """How a student learns, in batches of ``batch`` rows. ``schedule``: of the last stage.

    ``earlier``: share of its steps that each earlier stage of a progressive distillation gets.
    Raises InvalidInputError for an unknown method and fewer steps than 1.
    """

    method: Method
    steps: int
    schedule: Schedule
    batch: int
    earlier: float = 0.5

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InvalidInputError(unknown_name("method", self.method, METHODS))
        if self.steps < 1:
            raise InvalidInputError(f"a student of {self.steps} steps; expected at least 1")


def distil_paths(
    network: nn.Module,
    step: Step,
    paths: Paths,
    lessons: Lessons,
    *,
    scale: Tensor,
    device: str,
    generator: torch.Generator,
    stage: str,
    progress: Progress = silent,
    keep: TrainingState | None = None,
    how: Computation | None = None,
) -> float:
    """Train ``network``, x (b, d), t (b,), conditions -> n (b, d), in place along ``paths``.

    ``scale`` (d,): weights of the squared distance. ``how``: what suits the device, if not said.
    Returns the final loss. Raises
    InvalidInputError where the paths' grid does not fit the number of steps.
    """
    grid = len(paths.times) - 1
    if grid % lessons.steps:
        raise InvalidInputError(
            f"paths of {grid} steps for a student of {lessons.steps}; expected a multiple of that"
        )
    stages = [lessons.steps]
    if lessons.method == "progressive":
        stages = _halvings(grid, lessons.steps)
    final = math.nan
    how = how or Computation.suited(device)
    for number, steps in enumerate(stages):
        last = number == len(stages) - 1
        schedule = lessons.schedule
        if not last:
            schedule = replace(schedule, steps=max(1, round(lessons.earlier * schedule.steps)))
        if lessons.method == "consistency":
            batches = _neighbours(paths, steps, lessons.batch, generator, device)
            loss = _consistency_loss(network, step, scale)
        else:
            batches = _segments(paths, steps, number == 0, lessons.batch, generator, device)
            loss = _progressive_loss(network, step, scale)
            if number:
                batches = _taught(batches, step, _frozen(network))
        final = train(
            network,
            loss,
            batches,
            schedule,
            stage=stage if last else f"{stage}, {steps} steps",
            progress=progress,
            how=how,
            streams=(generator,),
            keep=keep,
        )
    return final


def _halvings(grid: int, steps: int) -> list[int]:
    """Numbers of steps from half the grid down to ``steps``."""
    stages = []
    at = grid
    while at > steps and at % 2 == 0:
        at //= 2
        stages.append(at)
    if not stages or stages[-1] != steps:
        raise InvalidInputError(
            f"paths of {grid} steps for a student of {steps}; expected a power of two times that"
        )
    return stages


Batches = Iterator[tuple[Tensor, ...]]


def _neighbours(
    paths: Paths, steps: int, batch: int, generator: torch.Generator, device: str
) -> Batches:
    """x, t, the next point and its time, the segment's end, and the conditions."""
    grid = len(paths.times) - 1
    while True:
        row = torch.randint(len(paths), (batch,), generator=generator)
        at = torch.randint(grid, (batch,), generator=generator)
        end = (at // (grid // steps) + 1) * (grid // steps)
        drawn = (
            paths.states[row, at],
            paths.times[at],
            paths.states[row, at + 1],
            paths.times[at + 1],
            paths.times[end],
            *(part[row] for part in paths.conditions),
        )
        yield tuple(part.to(device) for part in drawn)


def _segments(
    paths: Paths,
    steps: int,
    whole: bool,
    batch: int,
    generator: torch.Generator,
    device: str,
) -> Batches:
    """x at the begin of a segment, t, the segment's end, the path there, and the conditions."""
    length = (len(paths.times) - 1) // steps
    while True:
        row = torch.randint(len(paths), (batch,), generator=generator)
        at = torch.randint(steps, (batch,), generator=generator) * length
        drawn = (
            paths.states[row, at],
            paths.times[at],
            paths.times[at + length],
            paths.states[row, at + length] if whole else paths.states[row, at],
            *(part[row] for part in paths.conditions),
        )
        yield tuple(part.to(device) for part in drawn)


def _taught(batches: Batches, step: Step, teacher: nn.Module) -> Batches:
    """The same with two steps of the teacher as what is to be learned."""
    for x, t, end, _, *given in batches:
        with torch.no_grad():
            target = two_steps(step, _under(teacher, given), x, t, end)
        yield x, t, end, target, *given


def _under(network: Network, given: Sequence[Tensor]) -> Velocity:
    """The field of a network under conditions (b, ...)."""
    return lambda x, t: network(x, t, *given)


def _progressive_loss(network: nn.Module, step: Step, scale: Tensor) -> Callable[..., Tensor]:
    def loss(x: Tensor, t: Tensor, end: Tensor, target: Tensor, *given: Tensor) -> Tensor:
        rate = network(x, t, *given)
        with torch.autocast(x.device.type, enabled=False):  # the exact part is not to be rounded
            return distance(step(x, t, end, rate.float()), target, scale)

    return loss


def _consistency_loss(network: nn.Module, step: Step, scale: Tensor) -> Callable[..., Tensor]:
    def loss(
        x: Tensor, t: Tensor, ahead: Tensor, t_ahead: Tensor, end: Tensor, *given: Tensor
    ) -> Tensor:
        rate = network(x, t, *given)
        with torch.no_grad():
            after = network(ahead, t_ahead, *given)
        with torch.autocast(x.device.type, enabled=False):
            target = consistency_target(step, lambda *_: after.float(), ahead, t_ahead, end)
            return distance(step(x, t, end, rate.float()), target, scale)

    return loss


def _frozen(network: nn.Module) -> nn.Module:
    """A copy whose weights are no longer trained."""
    teacher = copy.deepcopy(network).eval()
    for parameter in teacher.parameters():
        parameter.requires_grad_(False)
    return teacher
