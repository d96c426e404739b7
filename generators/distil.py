"""From a trained joint flow to its student: paths of the teacher, then lessons along them.

The joint state, the image's statistics and the vectors given an image are distilled one after the
other, each for what the teacher made before. A small network learns how the statistics of a decoded
image change with its latent (``slopes``). No data is needed (``walks``).
"""

from __future__ import annotations

import time
from collections.abc import Sized
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from generators.dynamics.steps import PlainStep
from generators.flow import JointFlow
from generators.networks.mlp import VectorFlow
from generators.slopes import SlopeRows, learn_slopes, slope_error, slope_scales
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
from generators.training.flow_matching import FlowSettings, dimension_weights
from generators.training.loop import Schedule
from generators.training.resume import TrainingState
from generators.walks import Drawn, Walks
from loop.errors import InvalidInputError
from loop.protocols import Progress, silent

FloatArray = NDArray[np.float64]
HELD_OUT = 1 / 16  # share of the paths that only measure
MOST_SLOPES = 2048  # images whose statistics' slopes are learned


@dataclass(frozen=True, slots=True)
class Effort:
    """How much a distillation does. ``walk``: least steps of Heun's method of the teacher's paths.

    ``noises``: paths of the statistics and of the vectors for each image.
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
    sketch_steps: int = 800
    sketch_batch: int = 512
    sketch_rate: float = 1.5e-3
    slope_steps: int = 600
    slope_batch: int = 64
    slope_rate: float = 3e-3

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
            sketch_steps=max(1, 4 * flow.sketch.first_steps // 3),
            sketch_batch=flow.sketch.batch,
            sketch_rate=flow.sketch.rate / 3,
            slope_steps=max(1, flow.sketch.first_steps),
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
    sketch_steps: int = 2,
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
    student of the flow with the same scales, ``head_steps`` and ``sketch_steps``, from which all
    but the joint state is taken as it is.
    Raises InvalidInputError for an untrained flow, no known values, settings out of range and a
    ``like`` that is not.
    """
    scales = guidance if isinstance(guidance, tuple) else (guidance, guidance)
    settings = StudentSettings(steps, head_steps, scales, method, sketch_steps)
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
    schedule = _schedule(effort.steps, effort.rate, effort.steps)
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
        _take_others(student, like)
    else:
        course = Course(walks, effort, generator, progress, keep)
        course.others(student, paths.states[:, -1])
    student.metrics["seconds"] = time.monotonic() - started
    return student


@dataclass(frozen=True)
class Course:
    """The lessons beside those of the joint state."""

    walks: Walks
    effort: Effort
    generator: torch.Generator
    progress: Progress
    keep: TrainingState | None

    def others(self, student: JointStudent, ends: Tensor) -> None:
        """Teach what comes after the joint state, for ``ends`` (n, state) of the paths."""
        effort, walks = self.effort, self.walks
        drawn = None
        if student.code is not None and student.code.vae is not None:
            drawn = walks.images(ends, self.generator, self.progress)
        if drawn is not None and student.sketcher is not None:
            steps = student.lessons.sketch_steps
            grid = grid_for(steps, effort.walk)
            paths = walks.statistics(
                drawn.latents, grid, grid // steps, effort.noises, self.generator
            )
            schedule = _schedule(effort.sketch_steps, effort.sketch_rate, effort.steps)
            self.teach(
                student,
                "sketch",
                student.sketcher,
                paths,
                Lessons("direct", steps, schedule, effort.sketch_batch),
                "student's image statistics",
            )
        if drawn is not None and student.statistics is not None:
            self.slopes(student, student.statistics, drawn)
        if student.head is not None:
            steps = student.lessons.head_steps
            grid = grid_for(steps, effort.head_walk)
            images = None if drawn is None else drawn.images
            paths = walks.vectors(
                ends, images, grid, grid // steps, effort.noises, self.generator, self.progress
            )
            schedule = _schedule(effort.head_steps, effort.head_rate, effort.steps)
            self.teach(
                student,
                "head",
                student.head,
                paths,
                Lessons("direct", steps, schedule, effort.head_batch),
                "student's compositions",
            )

    def teach(
        self,
        student: JointStudent,
        name: str,
        network: VectorFlow,
        paths: Paths,
        lessons: Lessons,
        stage: str,
    ) -> None:
        """Train a small network along paths; its errors go into the student's metrics."""
        learned, held_out = paths.split(_held_out(paths))
        student.metrics[f"{name}_final_loss"] = distil_paths(
            network,
            PlainStep(),
            learned,
            lessons,
            scale=torch.full((network.size,), 1 / network.size, device=student.device),
            device=student.device,
            generator=self.generator,
            stage=stage,
            progress=self.progress,
            keep=self.keep,
            how=student.settings.training.computation(student.device),
        )
        error = endpoint_error(PlainStep(), network, held_out, lessons.steps, student.device)
        student.metrics[f"{name}_endpoint_error"] = error

    def slopes(self, student: JointStudent, network: nn.Module, drawn: Drawn) -> None:
        """Teach how statistics change with the latent, at sampled images and at moved ones."""
        assert student.sketch is not None
        assert student.code is not None
        assert student.code.vae is not None
        effort, vae = self.effort, student.code.vae
        both = torch.cat([drawn.latents, drawn.moved])
        some = torch.randperm(len(both), generator=self.generator)[:MOST_SLOPES]
        rows = SlopeRows.of(
            both[some].to(student.device), vae.logits, student.sketch.morphology, self.progress
        )
        learned, held_out = rows.split(_held_out(rows))
        student.metrics["slopes_final_loss"] = learn_slopes(
            network,
            learned,
            _schedule(effort.slope_steps, effort.slope_rate, effort.slope_steps),
            effort.slope_batch,
            device=student.device,
            generator=self.generator,
            stage="student's slopes",
            progress=self.progress,
            keep=self.keep,
        )
        student.metrics["slopes_error"] = slope_error(network, held_out, slope_scales(learned))


def _take_others(student: JointStudent, other: JointStudent) -> None:
    mine, theirs = student.lessons, other.lessons
    same = replace(mine, steps=theirs.steps, method=theirs.method) == theirs
    if other.teacher != student.teacher or not same:
        raise InvalidInputError(
            "distil: the other student is of another teacher, or knows other scales, head_steps or "
            "sketch_steps; leave it out"
        )
    student.head, student.sketcher = other.head, other.sketcher
    student.statistics = other.statistics
    named = ("head_", "sketch_", "slopes_")
    student.metrics |= {k: v for k, v in other.metrics.items() if k.startswith(named)}


def _held_out(rows: Sized) -> int:
    return max(1, round(HELD_OUT * len(rows)))


def _schedule(steps: int, rate: float, warm: int) -> Schedule:
    """Warmed up over a tenth of ``warm`` steps, 50 at most."""
    return Schedule(steps, rate, warmup=min(50, warm // 10), ema=0.99)
