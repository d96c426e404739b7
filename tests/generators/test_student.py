"""Students of the joint flow: what they cost, what they were taught, how they are kept."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from generators.distil import Effort, distil
from generators.dynamics.steps import GaussianStep
from generators.student import JointStudent, StudentSettings
from generators.student_files import load_student, networks, register, registered
from generators.training import checkpoint
from generators.training.checkpoint import torch_generator
from generators.training.distillation import METHODS, Method
from generators.training.resume import TrainingState
from generators.walks import spread_requests
from loop.errors import InvalidInputError
from tests import libraries
from tests.generators.test_flow import KINDS, trained, untrained

BOTH = "image and compositions"
TEACHER = "a" * 64
LITTLE = Effort(
    paths=64,
    walk=2,
    steps=6,
    batch=16,
    noises=2,
    head_walk=4,
    head_steps=8,
    head_batch=32,
    sketch_steps=6,
    sketch_batch=32,
    slope_steps=4,
    slope_batch=16,
)


def values(kind: str) -> Any:
    flow = trained(kind)
    designs = flow.library.draw(40, rng=np.random.default_rng(0))
    rules = [libraries.rule(c) for c in designs]
    return np.array([[row[k] for k in flow.properties] for row in rules])


def student_of(kind: str, **given: Any) -> JointStudent:
    given = {"effort": LITTLE} | given
    rng = np.random.default_rng(4)
    return distil(trained(kind), values(kind), teacher=TEACHER, rng=rng, **given)


@cache
def student(kind: str = BOTH, method: Method = "direct") -> JointStudent:
    return student_of(kind, method=method)


def requests(kind: str, n: int = 6) -> Any:
    return values(kind)[:n]


def weights(found: JointStudent) -> torch.Tensor:
    every = networks(found).values()
    return torch.cat([p.detach().reshape(-1) for n in every for p in n.parameters()])


@pytest.mark.parametrize("kind", KINDS)
def test_designs_in_a_few_evaluations(kind: str) -> None:
    found = student(kind)
    calls = {"network": 0, "head": 0, "sketcher": 0}
    handles = []
    for name in calls:
        network = getattr(found, name)
        if network is not None:

            def count(*_: Any, name: str = name) -> None:
                calls[name] += 1

            handles.append(network.register_forward_hook(count))
    rng = np.random.default_rng(1)
    designs = found.generate(requests(kind), guidance=2.0, rng=rng)
    for handle in handles:
        handle.remove()
    assert calls == {
        "network": 2,
        "head": 4 if found.head is not None else 0,
        "sketcher": 2 if found.sketch is not None else 0,
    }
    assert len({c.id for c in designs}) == 6
    for c in designs:
        assert found.space.violations(c) == []
        assert (c.origin.source, c.origin.guidance) == ("joint-student", 2.0)
    assert len(found.propose(5, found.targets, guidance=2.0, rng=rng)) == 5


@torch.no_grad()
def test_before_its_first_lesson_it_is_the_teacher() -> None:
    """The networks give the same for the same request, whatever the scale that is shown."""
    flow = trained(BOTH)
    fresh = JointStudent.of(flow, StudentSettings(guidance=(1.0, 3.0)), TEACHER)
    theirs, mine = flow.trained_network(), fresh.trained_network()
    x = torch.randn(6, theirs.state_size, generator=torch_generator(np.random.default_rng(0)))
    t = torch.linspace(0, 1, 6)
    asked = requests(BOTH)
    asked[0] = np.nan
    y, known = flow.conditions(asked)
    for scale in (1.0, 2.5):
        found = mine(x, t, *fresh.scaled_conditions(asked, scale))
        torch.testing.assert_close(found, theirs(x, t, y, known), atol=1e-6, rtol=1e-5)
    assert isinstance(fresh.step(), GaussianStep)


def test_with_nothing_asked_the_scale_makes_no_difference() -> None:
    found = student()
    nothing = np.full((4, len(found.properties)), np.nan)
    ids = []
    for rows, scale in ((nothing, 0.0), (nothing, 2.0), (requests(BOTH, 4), 0.0)):
        designs = found.generate(rows, guidance=scale, rng=np.random.default_rng(1))
        ids.append([c.id for c in designs])
    assert ids[0] == ids[1] == ids[2]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_brings_it_nearer_to_the_teacher(method: Method) -> None:
    """The end points of the held-out paths, before and after; figures go into the model card."""
    effort = Effort(
        paths=256, walk=4, steps=60, batch=32, noises=2, head_walk=4, head_steps=60, head_batch=64
    )
    none = Effort(
        paths=256,
        walk=4,
        steps=1,
        batch=32,
        rate=0,
        noises=2,
        head_walk=4,
        head_steps=1,
        head_rate=0,
    )
    kind, errors = "compositions", []
    for much in (none, effort):
        found = student_of(kind, method=method, steps=1, guidance=(1.0, 3.0), effort=much)
        errors.append((found.metrics["endpoint_error"], found.metrics["head_endpoint_error"]))
    assert errors[1][0] < errors[0][0]
    assert errors[1][1] < errors[0][1]


def test_an_interrupted_distillation_ends_as_one_that_was_not(tmp_path: Path) -> None:
    """Bit for bit, from wherever it was stopped: in the second stage of the state, or the head."""

    class StoppedError(Exception):
        pass

    whole = weights(student_of("compositions", method="progressive"))
    keep = TrainingState(tmp_path / "state", every_steps=2)
    for stop in ("student", "student's compositions"):

        def progress(stage: str, done: int, total: int, stop: str = stop, **_: float) -> None:
            if stage == stop and 2 < done < total:
                raise StoppedError

        with pytest.raises(StoppedError):
            student_of("compositions", method="progressive", keep=keep, progress=progress)
    resumed = student_of("compositions", method="progressive", keep=keep)
    assert torch.equal(weights(resumed), whole)


def test_the_image_statistics_are_those_of_the_teacher() -> None:
    """Lessons bring what it asks of an image nearer to what its teacher would ask."""
    kind, errors = "image", []
    for much in (0.0, 2e-3):
        effort = Effort(
            paths=256,
            walk=4,
            steps=1,
            batch=16,
            noises=4,
            sketch_steps=200,
            sketch_batch=128,
            sketch_rate=much,
            slope_steps=1,
            slope_batch=8,
        )
        found = student_of(kind, effort=effort, guidance=(1.0, 3.0))
        errors.append(found.metrics["sketch_endpoint_error"])
    assert errors[1] < 0.7 * errors[0]


def test_a_requested_fraction_is_met_to_the_pixel() -> None:
    found = student("image")
    asked = np.linspace(0.35, 0.65, 12)[:, None]
    designs = found.generate(asked, guidance=2.0, rng=np.random.default_rng(0))
    made = np.stack([c.microstructure for c in designs if c.microstructure is not None])
    assert np.abs(made.mean((1, 2)) - asked[:, 0]).max() <= 0.5 / made[0].size + 1e-7


def test_a_student_from_before_statistics_were_distilled_is_read(tmp_path: Path) -> None:
    """It draws them with its teacher's network, and moves images by the decoder's own slopes."""
    _, path = student("image").save(tmp_path)
    tensors, card = checkpoint.load(path)
    card["settings"].pop("sketch_steps")
    old = {k: v for k, v in tensors.items() if not k.startswith(("sketch.", "statistics."))}
    _, before = checkpoint.save(tmp_path, old, card)
    back = load_student(trained("image"), before, teacher=TEACHER)
    assert back.sketcher is None
    assert back.slopes() is None
    asked = np.linspace(0.35, 0.65, 12)[:, None]
    designs = back.generate(asked, guidance=2.0, rng=np.random.default_rng(0))
    made = np.stack([c.microstructure for c in designs if c.microstructure is not None])
    assert np.abs(made.mean((1, 2)) - asked[:, 0]).max() <= 0.5 / made[0].size + 1e-7


def test_requests_are_subsets_of_what_is_known() -> None:
    flow = trained(BOTH)
    known = values(BOTH)
    asked = spread_requests(flow, known, 4000, np.random.default_rng(0))
    free = np.isnan(asked).all(1).mean()
    assert 0.08 < free < 0.12  # a tenth: 4000 draws have a standard deviation of 0.5 %
    given = asked[np.isfinite(asked)]
    assert np.isfinite(given).all()
    width = np.ptp(known, axis=0)
    inside = (asked > known.min(0) - width) & (asked < known.max(0) + width)
    assert inside[np.isfinite(asked)].mean() > 0.95


def test_it_is_kept_and_found_again(tmp_path: Path) -> None:
    found = student()
    digest, path = found.save(tmp_path)
    card = json.loads(path.with_suffix(".json").read_text())
    assert (card["generator"], card["teacher"]) == ("joint-student", TEACHER)
    assert card["settings"]["guidance"] == [2.0, 2.0]
    assert card["metrics"]["endpoint_error"] >= 0
    again = load_student(trained(BOTH), path, teacher=TEACHER)
    for scale in (0.0, 2.0):
        pair = [
            [c.id for c in one.generate(requests(BOTH), guidance=scale, rng=rng)]
            for one, rng in ((found, np.random.default_rng(3)), (again, np.random.default_rng(3)))
        ]
        assert pair[0] == pair[1]
    assert again.load(path).teacher == TEACHER
    assert registered(tmp_path, TEACHER) == []
    register(tmp_path, found, "b" * 64)
    register(tmp_path, found, digest)
    listed = register(tmp_path, found, "b" * 64)
    assert [one.sha256 for one in registered(tmp_path, TEACHER)] == [digest, "b" * 64]
    one = registered(tmp_path, TEACHER)[0]
    assert one.settings == found.lessons
    assert one.serves(2.0, None)
    assert one.serves(0.0, 2)
    assert not one.serves(3.0, None)
    assert not one.serves(2.0, 4)
    listed.write_text("[]")
    with pytest.raises(InvalidInputError, match="is not a list of students; remove it"):
        registered(tmp_path, TEACHER)
    with pytest.raises(InvalidInputError, match="is of the generator aaaaaaaaaaaa, not of bbbb"):
        load_student(trained(BOTH), path, teacher="b" * 64)
    with pytest.raises(InvalidInputError, match=r"checkpoint .* has properties"):
        load_student(trained("compositions"), path, teacher=TEACHER)
    _, other = trained(BOTH).save(tmp_path)
    with pytest.raises(InvalidInputError, match="has generator joint-flow"):
        load_student(trained(BOTH), other, teacher=TEACHER)


def test_what_a_student_cannot_is_said() -> None:
    found = student()
    with pytest.raises(InvalidInputError, match="has learned guidance 2 and 0; got 3"):
        found.generate(requests(BOTH), guidance=3.0, rng=np.random.default_rng(0))
    with pytest.raises(InvalidInputError, match="no velocity to edit or walk with"):
        found.velocity(requests(BOTH), 2.0)
    with pytest.raises(InvalidInputError, match="learns from its teacher, not from records"):
        found.fit([], rng=np.random.default_rng(0))
    with pytest.raises(InvalidInputError, match="is a student already"):
        distil(found, values(BOTH), teacher=TEACHER, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": 0}, "steps is 0; expected 1 to 16"),
        ({"head_steps": 99}, "head_steps is 99"),
        ({"guidance": (3.0, 1.0)}, "guidance from 3 to 1"),
        ({"guidance": 0.0}, "guidance from 0 to 0"),
        ({"method": "progresive"}, "did you mean 'progressive'"),
    ],
)
def test_settings_out_of_range(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        student_of("compositions", **given)


def test_what_cannot_be_distilled() -> None:
    with pytest.raises(InvalidInputError, match="is not trained"):
        distil(untrained(BOTH), values(BOTH), teacher=TEACHER, rng=np.random.default_rng(0))
    with pytest.raises(InvalidInputError, match="expected at least one row of 2"):
        distil(trained(BOTH), np.zeros((0, 2)), teacher=TEACHER, rng=np.random.default_rng(0))


def test_all_but_the_state_may_be_shared() -> None:
    first = student(BOTH)
    second = student_of(BOTH, steps=1, like=first)
    for name in ("head", "sketcher", "statistics"):
        assert getattr(first, name) is not None
        assert getattr(second, name) is getattr(first, name)
    for name in ("head_endpoint_error", "sketch_endpoint_error", "slopes_error"):
        assert second.metrics[name] == first.metrics[name]
    assert second.lessons.steps == 1
    first = student("compositions")
    with pytest.raises(InvalidInputError, match="knows other scales, head_steps or"):
        student_of("compositions", like=first, guidance=3.0)
