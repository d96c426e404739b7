"""Where a teacher walks for its student, and under which requests: no data is needed for it.

Requests are spread around known property values and the campaign's targets; paths begin at noise
and go with guidance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generators.dynamics.flow import Velocity
from generators.dynamics.steps import GaussianStep, PlainStep, steps_between
from generators.flow import JointFlow
from generators.labels import label_widths
from generators.requests import draw_requests
from generators.sketch import begun
from generators.student import JointStudent
from generators.training.checkpoint import torch_generator
from generators.training.distillation import Paths
from generators.training.flow_matching import draw_masks
from loop.protocols import Progress

FloatArray = NDArray[np.float64]
TOGETHER = 256  # paths that are walked at once, all at one guidance scale
SPREAD = 0.3  # of requests around known values, in differences of two of them
OWN = 0.25  # share of requests for the campaign's own targets
FREE = 0.1  # share without a request


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """``latents`` (n, c, h', w') that a teacher sampled, as it ``moved`` them, and the ``images``
    (n, h, w) of these.
    """

    latents: Tensor
    moved: Tensor
    images: NDArray[np.uint8]


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
        found, given = [], []
        for rows, scale in self._chunks():
            progress("teacher's paths", rows.start, len(self.requests))
            requests = self.requests[rows]
            noise = torch.randn(len(requests), size, generator=generator).to(flow.device)
            velocity = flow.velocity(requests, scale)
            rate = _less(velocity, step.linear) if isinstance(step, GaussianStep) else velocity
            found.append(_some(steps_between(step, rate, noise, times), every))
            given.append(self.student.scaled_conditions(requests, scale))
        return _paths(found, times[::every], given)

    @torch.no_grad()
    def images(self, ends: Tensor, generator: torch.Generator, progress: Progress) -> Drawn:
        """What the teacher makes of the images in the ``ends`` (n, state) of its paths."""
        latents, moved, images = [], [], []
        for rows, scale in self._chunks():
            progress("teacher's images", rows.start, len(ends))
            latent, _ = self.flow.parts(ends[rows].to(self.flow.device))
            assert latent is not None
            z, labels, _ = self.flow.sketched(latent, self.requests[rows], scale, generator)
            latents.append(latent.cpu())
            moved.append(z.cpu())
            images.append(labels)
        return Drawn(torch.cat(latents), torch.cat(moved), np.concatenate(images))

    @torch.no_grad()
    def statistics(
        self, latents: Tensor, grid: int, every: int, noises: int, generator: torch.Generator
    ) -> Paths:
        """``noises`` paths of the statistics of each image (n, c, h', w') that is asked for."""
        flow, sketch = self.flow, self.flow.sketch
        assert sketch is not None
        assert flow.code is not None
        assert flow.code.vae is not None
        settings = flow.settings.sketch
        times = torch.linspace(settings.start, 1.0, grid + 1, device=flow.device)
        found, given = [], []
        for rows, scale in self._chunks():
            requests = self.requests[rows]
            asked = np.flatnonzero(np.isfinite(requests).any(1))
            if not len(asked):
                continue
            own = sketch.morphology.of(
                flow.code.vae.decode(latents[rows][torch.from_numpy(asked)].to(flow.device))
            )
            own = own.to(flow.device).repeat_interleave(noises, dim=0)
            requests = np.repeat(requests[asked], noises, axis=0)
            rate = flow.led(sketch.under, requests, scale)
            begin = begun(own, settings, generator)
            found.append(_some(steps_between(PlainStep(), rate, begin, times), every))
            given.append((own[:, :0], *self.student.scaled_conditions(requests, scale)))
        return _paths(found, times[::every], given)

    @torch.no_grad()
    def vectors(
        self,
        ends: Tensor,
        images: NDArray[np.uint8] | None,
        grid: int,
        every: int,
        noises: int,
        generator: torch.Generator,
        progress: Progress,
    ) -> Paths:
        """``noises`` paths of the vectors for each of the ``ends`` (n, state), given its image."""
        flow = self.flow
        head, code = flow.head, flow.code
        assert head is not None
        assert code is not None
        times = torch.linspace(0.0, 1.0, grid + 1, device=flow.device)
        found, given = [], []
        for rows, scale in self._chunks():
            progress("teacher's compositions", rows.start, len(ends))
            _, vectors = flow.parts(ends[rows].to(flow.device))
            asked = self.requests[rows]
            some = None if images is None else images[rows]
            context = code.context_of(some, code.labelled(vectors, flow.asked_labels(asked)))
            requests = np.repeat(asked, noises, axis=0)
            context = context.to(flow.device).repeat_interleave(noises, dim=0)
            noise = torch.randn(len(requests), head.size, generator=generator).to(flow.device)
            rate = flow.head_led(context, requests, scale)
            found.append(_some(steps_between(PlainStep(), rate, noise, times), every))
            given.append((context, *self.student.scaled_conditions(requests, scale)))
        return _paths(found, times[::every], given)


def _some(states: Tensor, every: int) -> Tensor:
    """Every so many points of states (b, times, d), alone in memory."""
    return states[:, ::every].clone().cpu()


def _paths(found: list[Tensor], times: Tensor, given: Sequence[tuple[Tensor, ...]]) -> Paths:
    """Of all chunks: states (b, times, d) of each, and the conditions they went under."""
    conditions = tuple(torch.cat(parts).cpu() for parts in zip(*given, strict=True))
    return Paths(torch.cat(found), times.cpu(), conditions)


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
