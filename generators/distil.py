"""From a trained joint flow to its student: paths of the teacher, then lessons along them.

No data is needed: paths begin at noise, under requests spread around known property values and
the campaign's targets, and with guidance. The joint state and the vectors given an image are
distilled one after the other, the second for the images that the first's teacher ends with.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generators.dynamics.flow import Velocity
from generators.dynamics.steps import GaussianStep, PlainStep, steps_between
from generators.flow import JointFlow
from generators.labels import label_widths
from generators.requests import draw_requests
from generators.student import JointStudent, StudentSettings
from generators.training.checkpoint import torch_generator
from generators.training.distillation import (
    Lessons,
    Method,
    Paths,
    distil_paths,
    endpoint_error,
    grid_for,
)
from generators.training.flow_matching import FlowSettings, dimension_weights, draw_masks
from generators.training.loop import Schedule
from generators.training.resume import TrainingState
from loop.errors import InvalidInputError
from loop.protocols import Progress, silent

FloatArray = NDArray[np.float64]
TOGETHER = 256  # paths that are walked at once, all at one guidance scale
SPREAD = 0.3  # of requests around known values, in differences of two of them
OWN = 0.25  # share of requests for the campaign's own targets
FREE = 0.1  # share without a request
HELD_OUT = 1 / 16  # share of the paths that only measure


@dataclass(frozen=True, slots=True)
class Effort:
    """How much a distillation does. ``walk``: least steps of Heun's method of the teacher's paths.

    ``noises``: paths of the vectors for each image.
    """

    paths: int = 3072
    walk: int = 8
    steps: int = 500
    batch: int = 128
    rate: float = 1e-3
    noises: int = 6
    head_walk: int = 16
    head_steps: int = 1600
    head_batch: int = 512
    head_rate: float = 2e-3

    @staticmethod
    def suited(flow: FlowSettings) -> Effort:
        """In keeping with how the flow was trained."""
        return Effort(
            paths=max(2 * flow.batch, min(flow.image_rows, 24 * flow.batch)),
            walk=flow.sample_steps,
            steps=max(1, flow.first_steps // 2),
            batch=flow.batch,
            rate=flow.learning_rate / 3,
            head_walk=min(flow.head_sample_steps, 16),
            head_steps=max(1, 4 * flow.head_first_steps // 3),
            head_batch=flow.head_batch,
            head_rate=flow.head_rate / 3,
        )


def distil(
    flow: JointFlow,
    values: FloatArray,
    *,
    teacher: str,
    steps: int = 2,
    guidance: float | tuple[float, float] = 2.0,
    method: Method = "direct",
    head_steps: int = 4,
    rng: np.random.Generator,
    progress: Progress = silent,
    keep: TrainingState | None = None,
    effort: Effort | None = None,
    like: JointStudent | None = None,
) -> JointStudent:
    """A student of a trained ``flow`` with ``steps`` evaluations a design.

    ``values`` (m, k): known property values, NaN where unknown; requests are spread around them.
    ``teacher``: hash of the flow's checkpoint. ``guidance``: the scale it is to know, or the least
    and greatest. ``keep``: where a killed distillation finds its state again. ``like``: another
    student of the flow with the same scales and ``head_steps``, whose head is taken as it is.
    Raises InvalidInputError for an untrained flow, no known values, settings out of range and a
    ``like`` that is not.
    """
    scales = guidance if isinstance(guidance, tuple) else (guidance, guidance)
    settings = StudentSettings(steps, head_steps, scales, method)
    flow.trained_network()
    if values.ndim != 2 or values.shape[1] != len(flow.properties) or not len(values):
        raise InvalidInputError(
            f"distil got property values of shape {values.shape}; expected at least one row of "
            f"{len(flow.properties)} ({', '.join(flow.properties)})"
        )
    started = time.monotonic()
    effort = effort or Effort.suited(flow.settings)
    torch.manual_seed(int(rng.integers(2**63)))  # weights of what the flow does not have
    student = JointStudent.of(flow, settings, teacher)
    generator = torch_generator(rng)
    walks = Walks.of(flow, student, values, effort.paths, rng)
    network = student.trained_network()
    schedule = Schedule(effort.steps, effort.rate, warmup=min(50, effort.steps // 10), ema=0.99)
    grid = grid_for(steps, effort.walk)
    every = grid // steps if method == "direct" else 1  # that asks for the ends of segments alone
    paths = walks.states(grid, every, generator, progress)
    learned, held_out = paths.split(_held_out(paths))
    student.metrics = {"device": flow.device, "effort": asdict(effort)}
    rate, how = student.rate(), flow.settings.training.computation(flow.device)
    student.metrics["final_loss"] = distil_paths(
        rate,
        student.step(),
        learned,
        Lessons(method, steps, schedule, effort.batch),
        scale=dimension_weights(network, flow.settings.vector_weight).to(flow.device),
        device=flow.device,
        generator=generator,
        stage="student",
        progress=progress,
        keep=keep,
        how=how,
    )
    error = endpoint_error(student.step(), rate, held_out, steps, flow.device)
    student.metrics["endpoint_error"] = error
    if like is not None:
        _take_head(student, like)
    elif student.head is not None:
        ends, grid = paths.states[:, -1], grid_for(head_steps, effort.head_walk)
        paths = walks.vectors(ends, grid, grid // head_steps, effort.noises, generator, progress)
        learned, held_out = paths.split(_held_out(paths))
        size = student.head.size
        student.metrics["head_final_loss"] = distil_paths(
            student.head,
            PlainStep(),
            learned,
            Lessons(
                "direct",
                head_steps,
                replace(schedule, steps=effort.head_steps, learning_rate=effort.head_rate),
                effort.head_batch,
            ),
            scale=torch.full((size,), 1 / size, device=flow.device),
            device=flow.device,
            generator=generator,
            stage="student's compositions",
            progress=progress,
            keep=keep,
            how=how,
        )
        error = endpoint_error(PlainStep(), student.head, held_out, head_steps, flow.device)
        student.metrics["head_endpoint_error"] = error
    student.metrics["seconds"] = time.monotonic() - started
    return student


def _take_head(student: JointStudent, other: JointStudent) -> None:
    mine, theirs = student.lessons, other.lessons
    same = mine.guidance == theirs.guidance and mine.head_steps == theirs.head_steps
    if other.teacher != student.teacher or not same:
        raise InvalidInputError(
            "distil: the other student is of another teacher, or knows other scales or head_steps; "
            "leave it out"
        )
    student.head = other.head
    student.metrics |= {k: v for k, v in other.metrics.items() if k.startswith("head_")}


def _held_out(paths: Paths) -> int:
    return max(1, round(HELD_OUT * len(paths)))


@dataclass(frozen=True)
class Walks:
    """Where the teacher is to walk: ``requests`` (n, k), ``scales`` (n / ``TOGETHER``,)."""

    flow: JointFlow
    student: JointStudent
    requests: FloatArray
    scales: FloatArray

    @staticmethod
    def of(
        flow: JointFlow,
        student: JointStudent,
        values: FloatArray,
        n: int,
        rng: np.random.Generator,
    ) -> Walks:
        """n requests, see ``spread_requests``, and scales spread evenly over the student's."""
        low, high = student.lessons.guidance
        scales = rng.permutation(np.linspace(low, high, -(-n // TOGETHER)))
        return Walks(flow, student, spread_requests(flow, values, n, rng), scales)

    def _chunks(self) -> Iterator[tuple[slice, float]]:
        for number, scale in enumerate(self.scales):
            yield slice(number * TOGETHER, (number + 1) * TOGETHER), float(scale)

    @torch.no_grad()
    def states(
        self, grid: int, every: int, generator: torch.Generator, progress: Progress
    ) -> Paths:
        """Paths of the joint state in ``grid`` steps, the linear part exact; ``every`` so many
        points are kept.
        """
        flow, step = self.flow, self.student.step()
        size = flow.trained_network().state_size
        times = torch.linspace(0.0, 1.0, grid + 1, device=flow.device)
        found, conditions = [], []
        for rows, scale in self._chunks():
            progress("teacher's paths", rows.start, len(self.requests))
            requests = self.requests[rows]
            noise = torch.randn(len(requests), size, generator=generator).to(flow.device)
            velocity = flow.velocity(requests, scale)
            rate = _less(velocity, step.linear) if isinstance(step, GaussianStep) else velocity
            found.append(steps_between(step, rate, noise, times)[:, ::every].clone().cpu())
            conditions.append(self.student.scaled_conditions(requests, scale))
        y, known = (torch.cat(parts).cpu() for parts in zip(*conditions, strict=True))
        return Paths(torch.cat(found), times[::every].cpu(), (y, known))

    @torch.no_grad()
    def vectors(
        self,
        ends: Tensor,
        grid: int,
        every: int,
        noises: int,
        generator: torch.Generator,
        progress: Progress,
    ) -> Paths:
        """``noises`` paths of the vectors for the images of each of the ``ends`` (n, state)."""
        flow = self.flow
        head, code = flow.head, flow.code
        assert head is not None
        assert code is not None
        times = torch.linspace(0.0, 1.0, grid + 1, device=flow.device)
        found, given = [], []
        for rows, scale in self._chunks():
            progress("teacher's compositions", rows.start, len(ends))
            latent, vectors = flow.parts(ends[rows].to(flow.device))
            asked = self.requests[rows]
            images = None
            if latent is not None:
                _, images, _ = flow.sketched(latent, asked, scale, generator)
            context = code.context_of(images, code.labelled(vectors, flow.asked_labels(asked)))
            requests = np.repeat(asked, noises, axis=0)
            context = context.to(flow.device).repeat_interleave(noises, dim=0)
            noise = torch.randn(len(requests), head.size, generator=generator).to(flow.device)
            rate = flow.head_led(context, requests, scale)
            found.append(steps_between(PlainStep(), rate, noise, times)[:, ::every].clone().cpu())
            given.append((context, *self.student.scaled_conditions(requests, scale)))
        context, y, known = (torch.cat(parts).cpu() for parts in zip(*given, strict=True))
        return Paths(torch.cat(found), times[::every].cpu(), (context, y, known))


def _less(velocity: Velocity, linear: Velocity) -> Velocity:
    return lambda x, t: velocity(x, t) - linear(x, t)


def spread_requests(
    flow: JointFlow, values: FloatArray, n: int, rng: np.random.Generator
) -> FloatArray:
    """(n, k) requests: any subset of the properties of rows ``values`` (m, k), moved a little.

    A row is moved by a share of the difference of two others, which keeps what hangs together. A
    quarter asks for the campaign's targets instead, a tenth for nothing. In a space with labels
    (n, k + l): each is asked for in half of the others, of which a tenth asks for labels alone.
    """
    m = len(values)
    a, b, c = (values[rng.integers(m, size=n)] for _ in range(3))
    scale = flow.property_scale
    assert scale is not None
    z, za, zb = (scale.forward(part) for part in (a, b, c))
    moved = z + SPREAD * rng.standard_normal((n, 1)) * (za - zb)
    requests = scale.inverse(np.where(np.isfinite(moved), moved, z))
    asked = torch.tensor([k in flow.targets.properties for k in flow.properties])
    if not asked.any():
        asked = torch.ones_like(asked)
    mask = draw_masks(n, asked, torch_generator(rng)).numpy()
    requests = np.where(mask, requests, np.nan)
    kind = rng.random(n)
    if any(k in flow.properties for k in flow.targets.properties):
        own = draw_requests(n, flow.targets, flow.properties, flow.near, rng)
        requests[kind < OWN] = own[kind < OWN]
    requests[kind > 1 - FREE] = np.nan
    if not flow.space.labels:
        return requests
    widths = np.array(label_widths(flow.space))
    labels = rng.integers(widths, size=(n, len(widths))).astype(np.float64)
    labels[(rng.random(labels.shape) < 0.5) | (kind > 1 - FREE)[:, None]] = np.nan
    requests[rng.random(n) < FREE] = np.nan
    return np.concatenate([requests, labels], axis=1)
