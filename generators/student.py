"""A student of a trained joint flow: the same designs in one to four evaluations of each network.

It takes a flow's place wherever designs are proposed; ``generators.distil`` makes one. The
guidance scale is an input of its networks, so that a guided step costs one evaluation, not two
(Meng et al. 2023, arXiv:2210.03142). Walks and edits need a velocity at every time, which a student
has not: they stay with the teacher. Images are moved to the statistics that are asked for by the
slopes of a network of its own (``slopes``).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from generators.dynamics.flow import Velocity
from generators.dynamics.gaussian import GaussianVelocity
from generators.dynamics.steps import GaussianStep, PlainStep, Step
from generators.flow import JointFlow
from generators.guiding import Also
from generators.morphology import Slopes
from generators.networks.mlp import VectorFlow
from generators.networks.statistics import StatisticsNetwork
from generators.sketch import begun, sketch_network
from generators.slopes import slopes_network, slopes_of
from generators.student_rate import rate_of
from generators.training.distillation import METHODS, Method, student_sample
from generators.training.flow_matching import FlowSettings
from loop.candidate import Record
from loop.errors import InvalidInputError, unknown_name
from loop.protocols import Progress, silent

FloatArray = NDArray[np.float64]
MOST_STEPS = 16
SKETCH_STEPS = 6  # of Heun's, of a student that has not learned the image's statistics
SCALE_MIDDLE = 2.0  # guidance scales are shown to the networks less this
SCALE = "guidance"  # of the condition that holds it, after the properties


@dataclass(frozen=True, slots=True)
class StudentSettings:
    """``steps`` of the joint state, ``sketch_steps`` of the image's statistics and ``head_steps``
    of the vectors given the image.

    ``guidance``: least and greatest scale that it can be asked for. ``method``: of the joint
    state; the others are always distilled directly.
    Raises InvalidInputError for steps below 1 or above 16, and scales out of order or below 0.
    """

    steps: int = 2
    head_steps: int = 4
    guidance: tuple[float, float] = (2.0, 2.0)
    method: Method = field(default="direct", metadata={"choices": METHODS})
    sketch_steps: int = 2

    def __post_init__(self) -> None:
        for name in ("steps", "head_steps", "sketch_steps"):
            steps = getattr(self, name)
            if not 1 <= steps <= MOST_STEPS:
                raise InvalidInputError(
                    f"student: {name} is {steps}; expected 1 to {MOST_STEPS} (1 to 4 are usual)"
                )
        low, high = self.guidance
        if not 0 < low <= high < np.inf:
            raise InvalidInputError(
                f"student: guidance from {low:g} to {high:g}; expected scales above 0, the least "
                "first (scale 0 is always there)"
            )
        if self.method not in METHODS:
            raise InvalidInputError("student: " + unknown_name("method", self.method, METHODS))


class JointStudent(JointFlow):
    """Generator of a few long steps; made by ``generators.distil.distil`` or ``load``."""

    name = "joint-student"

    lessons: StudentSettings
    flow: JointFlow  # its teacher
    teacher: str  # hash of the teacher's checkpoint
    sketcher: VectorFlow | None = None  # None: with the teacher's own
    statistics: StatisticsNetwork | None = None  # None: with the decoder's own slopes

    @staticmethod
    def of(flow: JointFlow, settings: StudentSettings, teacher: str) -> JointStudent:
        """A student whose networks are those of ``flow``: its steps are exponential Euler steps.

        ``teacher``: hash of the checkpoint of ``flow``. Raises InvalidInputError when that is not
        trained or is a student itself.
        """
        network = flow.trained_network()
        if isinstance(flow, JointStudent):
            raise InvalidInputError(
                f"{flow.name} is a student already; distil its teacher {flow.teacher[:12]}"
            )
        new = JointStudent(
            flow.space,
            flow.library,
            flow.targets,
            flow.properties,
            flow.settings,
            flow.device,
            flow.models,
        )
        for name in ("code", "property_scale", "linear", "near", "sketch"):
            setattr(new, name, getattr(flow, name))
        new.settings = _quicker(flow.settings)
        new.lessons, new.flow, new.teacher = settings, flow, teacher
        wider = widened(flow)
        assert flow.code is not None
        new.network = wider.make_network(flow.code)
        new.head = wider.make_head(flow.code)
        with_another_condition(network, new.network)
        if flow.head is not None and new.head is not None:
            with_another_condition(flow.head, new.head)
        if flow.sketch is not None:
            shape = new.network.latent_shape
            assert shape is not None
            properties, sizes = sum(wider.widths), flow.settings.sketch
            new.sketcher = sketch_network(flow.sketch.morphology, properties, sizes)
            new.sketcher.to(flow.device)
            with_another_condition(flow.sketch.network, new.sketcher)
            assert flow.code.vae is not None
            if flow.code.vae.factor > 1:  # pixels are not moved, see ``sketched``
                new.statistics = slopes_network(shape, flow.sketch.morphology).to(flow.device)
        return new

    # What a flow does in many evaluations

    def sample(self, noise: Tensor, requests: FloatArray, guidance: float) -> Tensor:
        rate = self.rate()
        y, known = self.scaled_conditions(requests, guidance)
        return student_sample(
            self.step(), lambda x, t: rate(x, t, y, known), noise, self.lessons.steps
        )

    def redraw(
        self,
        images: NDArray[np.uint8] | None,
        vectors: Tensor,
        requests: FloatArray,
        guidance: float,
        source: torch.Generator,
    ) -> Tensor:
        if self.head is None:
            return vectors
        assert self.code is not None
        vectors = self.code.labelled(vectors, self.asked_labels(requests))
        context, head = self.code.context_of(images, vectors).to(self.device), self.head
        noise = torch.randn(vectors.shape, generator=source).to(self.device)
        y, known = self.scaled_conditions(requests, guidance)
        found = student_sample(
            PlainStep(),
            lambda x, t: head(x, t, context, y, known),
            noise,
            self.lessons.head_steps,
        )
        return self.redrawn(images, found, vectors, requests)

    def wanted_statistics(
        self, own: Tensor, requests: FloatArray, guidance: float, source: torch.Generator
    ) -> Tensor:
        sketcher, sketch = self.sketcher, self.sketch
        if sketcher is None:
            return super().wanted_statistics(own, requests, guidance, source)
        assert sketch is not None
        settings = self.settings.sketch
        y, known = self.scaled_conditions(requests, guidance)
        found = student_sample(
            PlainStep(),
            lambda x, t: sketcher(x, t, x[:, :0], y, known),
            begun(own, settings, source),
            self.lessons.sketch_steps,
            settings.start,
        )
        return sketch.as_asked(found, requests, guidance)

    def slopes(self) -> Slopes | None:
        network = self.statistics
        return None if network is None else lambda latents: slopes_of(network, latents)

    def rate(self) -> nn.Module:
        """Its network as the rate of its steps; see ``student_rate``."""
        return rate_of(self.flow, self.trained_network())

    def step(self) -> Step:
        """The step whose linear part is that of the teacher."""
        if isinstance(self.linear, GaussianVelocity):
            return GaussianStep(self.linear.to(self.device))
        return PlainStep()

    def scaled_conditions(self, requests: FloatArray, guidance: float) -> tuple[Tensor, Tensor]:
        """Standardised requests (n, k + 1) with the guidance scale last, and which are asked.

        At scale 0, and where nothing is asked, none is. Raises InvalidInputError for a scale that
        the student has not learned.
        """
        low, high = self.lessons.guidance
        if guidance != 0 and not low <= guidance <= high:
            known = f"{low:g}" if low == high else f"{low:g} to {high:g}"
            raise InvalidInputError(
                f"the student has learned guidance {known} and 0; got {guidance:g}: ask for one "
                "of those, the teacher, or distil another"
            )
        y, known_mask = self.conditions(requests)
        known_mask = known_mask & (guidance != 0)
        some = known_mask.any(1, keepdim=True)
        scale = torch.where(some, guidance - SCALE_MIDDLE, 0.0).to(y)
        return torch.cat([y, scale], 1), torch.cat([known_mask, some], 1)

    # What a student cannot

    def velocity(self, requests: FloatArray, guidance: float) -> Velocity:
        """Raises InvalidInputError: a student knows long steps only."""
        raise InvalidInputError(
            "a student has no velocity to edit or walk with; use its teacher, the joint flow"
        )

    def with_also(self, conditions: Sequence[Also]) -> JointStudent:
        """Raises InvalidInputError for any: a student has learned one request at a time."""
        if conditions:
            raise InvalidInputError(
                "a student has learned one request at a time; ask its teacher for further "
                "conditions (no --student)"
            )
        return self

    def fit(
        self, records: Sequence[Record], *, rng: np.random.Generator, progress: Progress = silent
    ) -> JointFlow:
        """Raises InvalidInputError: a student learns from its teacher."""
        raise InvalidInputError(
            "a student learns from its teacher, not from records; train the joint flow and distil "
            "it again (spinodal distil CAMPAIGN)"
        )

    # Keeping

    def save(self, folder: Path) -> tuple[str, Path]:
        """Its own weights into ``folder/<sha256>.safetensors``; the rest is its teacher's."""
        from generators.student_files import save_student

        return save_student(self, folder)

    def load(self, path: Path) -> JointStudent:
        """Another student of the same teacher, from its checkpoint."""
        from generators.student_files import load_student

        return load_student(self.flow, path, teacher=self.teacher)


def _quicker(settings: FlowSettings) -> FlowSettings:
    """The image's statistics in fewer steps: from where they start, 6 of Heun's are as good."""
    sketch = settings.sketch
    fewer = min(sketch.sample_steps, SKETCH_STEPS)
    return replace(settings, sketch=replace(sketch, sample_steps=fewer))


def widened(flow: JointFlow) -> JointFlow:
    """A copy of a flow whose networks, once made, have one more condition."""
    new = copy.copy(flow)
    new.properties = (*flow.properties, SCALE)
    return new


@torch.no_grad()
def with_another_condition(teacher: nn.Module, student: nn.Module) -> None:
    """The teacher's weights in a network that is the same but for one more condition, the last.

    What is new begins at zero or where nothing looks at it, so that both give the same.
    """
    theirs = teacher.state_dict()
    for name, mine in student.state_dict().items():
        given = theirs[name]
        if given.shape == mine.shape:
            mine.copy_(given)
            continue
        mine.zero_()
        mine[tuple(slice(n) for n in given.shape)] = given
        if name.endswith(".weight") and mine.ndim == 3:  # (k, features, hidden): to be learned
            rest = mine[len(given) :]
            rest.copy_(torch.randn(rest.shape) / rest.shape[1] ** 0.5)
