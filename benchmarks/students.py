"""Students of a few steps beside their teacher: as exact, how much faster?

    python -m benchmarks.students CAMPAIGN [--ledger URL] [--steps K ...] [--targets N] [--method M]

The teacher is the generator that the campaign's last round trained, at guidance 2; its students
are distilled here, one for each number of steps, and share all but the network of the joint state.
All get the same requests (three properties of fresh library designs, as in
``conditional_accuracy``) and the same noise, and the simulator scores every sample. Two-point
statistics are those of samples without a request, beside held-out micrographs; the error of as many
training crops stands beside it. Rates are of whole designs, decoding included, arms in turn, the
median of several calls; evaluations are counted in the networks, per design. "50 steps" is the
teacher's network with as many evaluations as a 50-step sampler takes, guided.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from benchmarks.conditional_accuracy import THREE, Requested, scores
from benchmarks.report import write
from flows.assembly import open_session
from flows.propose import known_values, trained
from generators.distil import distil
from generators.flow import JointFlow
from generators.student import JointStudent
from generators.training.distillation import METHODS
from interface.progress import shown
from loop.protocols import Progress
from loop.quality import LAG, two_point_curves, two_point_error
from loop.round import evaluate
from loop.session import Session

FloatArray = NDArray[np.float64]
Images = NDArray[np.uint8]
STEPS = (1, 2, 4)
TARGETS, SAMPLES = 50, 8
GUIDANCE = 2.0
SEED = 20261121  # of the held-out targets
TOGETHER, REPEATS = 256, 5  # designs a timed call, calls
IMAGES = 2048  # for the two-point statistics
LONG = 25  # of Heun's steps: 50 evaluations


def requests_of(session: Session, targets: int) -> Requested:
    """(targets ``SAMPLES``, k) requests of the three properties of fresh library designs."""
    designs = session.library.draw(targets, rng=np.random.default_rng(SEED))
    found = [o.values for o in evaluate(session.simulators, designs) if o.status == "ok"]
    requests = np.full((len(found), len(session.properties)), np.nan)
    for name in THREE:
        requests[:, session.properties.index(name)] = [values[name] for values in found]
    return np.repeat(requests, SAMPLES, axis=0)


def counted(
    generator: JointFlow, call: Callable[[Requested], Any], requests: Requested
) -> dict[str, float]:
    """Evaluations a design of each network in a call for requests (n, k), guided ones twice."""
    found = {"state": 0, "image statistics": 0, "compositions": 0}
    sketch = generator.sketch.network if generator.sketch is not None else None
    if isinstance(generator, JointStudent):
        sketch = generator.sketcher
    networks: dict[str, nn.Module | None] = dict(
        zip(found, (generator.network, sketch, generator.head), strict=True)
    )
    handles = []
    for name, network in networks.items():
        if network is not None:

            def count(_: Any, given: tuple[Any, ...], __: Any, name: str = name) -> None:
                found[name] += len(given[0])

            handles.append(network.register_forward_hook(count))
    call(requests)
    for handle in handles:
        handle.remove()
    return {name: rows / len(requests) for name, rows in found.items()}


def measured(
    session: Session, arms: Mapping[str, JointFlow], targets: int, progress: Progress
) -> dict[str, Any]:
    """Every arm's errors, two-point error, evaluations and rate."""
    requests = requests_of(session, targets)
    nothing = np.full((IMAGES, len(session.properties)), np.nan)
    split = "test" if session.library.has_images("test") else "val"
    rng = np.random.default_rng(1)
    shape = session.campaign.space.image_shape
    assert shape is not None
    lag = min(LAG, min(shape) // 2)

    def curves(images: Images) -> FloatArray:
        return two_point_curves(images == 1, lag)

    reference = curves(session.library.patches(4 * IMAGES, rng=rng, split=split))
    result: dict[str, Any] = {}
    for done, (name, generator) in enumerate(arms.items()):
        progress("measure", done, len(arms))

        def designs(rows: Requested, generator: JointFlow = generator) -> Any:
            return generator.generate(rows, guidance=GUIDANCE, rng=np.random.default_rng(7))

        images = np.stack([c.microstructure for c in designs(nothing)])
        few = requests[: min(len(requests), TOGETHER)]
        result[name] = {
            **scores(session, requests, designs(requests), THREE),
            "two_point_error": two_point_error(curves(images), reference),
            "evaluations": counted(generator, designs, few),
        }
        print(name, result[name], flush=True)
    training = curves(session.library.patches(IMAGES, rng=rng))
    result["two_point_error_of_training_crops"] = two_point_error(training, reference)
    rows = np.resize(requests, (TOGETHER, requests.shape[1]))
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(REPEATS):
        for name, generator in arms.items():
            start = time.perf_counter()
            generator.generate(rows, guidance=GUIDANCE, rng=np.random.default_rng(8))
            seconds[name].append(time.perf_counter() - start)
    for name, found in seconds.items():
        result[name]["samples_per_second"] = TOGETHER / float(np.median(found))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("campaign")
    parser.add_argument("--ledger")
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS)
    parser.add_argument("--targets", type=int, default=TARGETS)
    parser.add_argument("--method", choices=METHODS, default="direct")
    given = parser.parse_args()
    session = open_session(given.campaign, given.ledger)
    teacher, kept = trained(session)
    if not isinstance(teacher, JointFlow):
        raise SystemExit("the campaign has no trained joint-flow; run it first")
    teacher.models = ()  # what the network knows by itself
    long = copy.copy(teacher)
    long.settings = replace(teacher.settings, sample_steps=LONG)
    arms: dict[str, JointFlow] = {"teacher": teacher, "teacher, 50 steps": long}
    lessons: dict[str, Any] = {}
    with shown() as progress:
        first: JointStudent | None = None
        for steps in given.steps:
            student = distil(
                teacher,
                known_values(session),
                teacher=kept.sha256,
                steps=steps,
                guidance=GUIDANCE,
                method=given.method,
                rng=np.random.default_rng(steps),
                progress=progress,
                like=first,
            )
            first = first or student
            name = f"student, {steps} step{'s' if steps > 1 else ''}"
            arms[name], lessons[name] = student, student.metrics
        result = measured(session, arms, given.targets, progress)
    result["distillation"] = {"method": given.method, **lessons}
    result["requests"] = {"targets": given.targets, "samples": SAMPLES, "guidance": GUIDANCE}
    print(write("students", result))


if __name__ == "__main__":
    main()
