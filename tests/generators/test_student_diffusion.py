"""Students of the joint diffusion: what it predicts becomes the rate of long straight steps."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from generators.diffusion import JointDiffusion
from generators.distil import Effort, distil
from generators.student import JointStudent, StudentSettings
from generators.training.checkpoint import torch_generator
from tests import libraries
from tests.generators import made

KIND = "compositions"
TEACHER = "a" * 64
CASES = [("cosine", "epsilon"), ("vp", "v"), ("edm", "x0")]


@cache
def trained(process: str, prediction: str) -> JointDiffusion:
    flow = made.untrained("diffusion", KIND, process=process, prediction=prediction)
    assert isinstance(flow, JointDiffusion)
    designs = libraries.scored(flow.library.draw(40, rng=np.random.default_rng(0)))
    found = flow.fit(designs, rng=np.random.default_rng(1))
    assert isinstance(found, JointDiffusion)
    return found


def values(flow: JointDiffusion) -> Any:
    rules = [libraries.rule(c) for c in flow.library.draw(40, rng=np.random.default_rng(0))]
    return np.array([[row[k] for k in flow.properties] for row in rules])


@pytest.mark.parametrize(("process", "prediction"), CASES)
def test_before_its_first_lesson_it_is_the_teacher(process: str, prediction: str) -> None:
    """Its rate and the linear part are the teacher's velocity on the straight path."""
    flow = trained(process, prediction)
    fresh = JointStudent.of(flow, StudentSettings(guidance=(1.0, 3.0)), TEACHER)
    size = flow.trained_network().state_size
    x = torch.randn(6, size, generator=torch_generator(np.random.default_rng(0)))
    t = torch.linspace(0.05, 0.95, 6)
    asked = values(flow)[:6]
    asked[0] = np.nan
    assert flow.linear is not None
    with torch.no_grad():
        found = flow.linear(x, t) + fresh.rate()(x, t, *fresh.scaled_conditions(asked, 2.0))
        for row in range(6):  # a velocity has one time for all rows
            one = slice(row, row + 1)
            expected = flow.velocity(asked[one], 1.0)(x[one], t[one])
            torch.testing.assert_close(found[one], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("process", "prediction"), CASES)
def test_lessons_bring_it_nearer_to_the_teacher(process: str, prediction: str) -> None:
    flow, errors = trained(process, prediction), []
    for steps, rate in ((1, 0.0), (80, 1e-3)):
        effort = Effort(
            paths=256,
            walk=4,
            steps=steps,
            batch=32,
            rate=rate,
            noises=1,
            head_walk=4,
            head_steps=1,
            sketch_steps=1,
            slope_steps=1,
        )
        found = distil(
            flow, values(flow), teacher=TEACHER, rng=np.random.default_rng(4), effort=effort
        )
        errors.append(found.metrics["endpoint_error"])
    assert errors[1] < 0.5 * errors[0], errors
    designs = found.generate(values(flow)[:4], guidance=2.0, rng=np.random.default_rng(1))
    assert len({c.id for c in designs}) == 4
    assert all(flow.space.violations(c) == [] for c in designs)
