"""Requested against simulated: what is asked for beside what the simulator finds in the samples.

    python -m benchmarks.conditional_accuracy CAMPAIGN [--ledger URL] [--minutes M] [--targets N]

Targets are the simulated properties of fresh library designs (held-out seed), so they lie inside
the training range, or one conductivity 10 to 25 % above the highest that the generator was trained
on. Every sample is scored by the simulator on its discrete image. Arms: classifier-free guidance of
several scales, and the simulator's derivatives on top of it (``generators.steering``). Diversity is
the mean distance in the surrogate's features between samples of one request, over that between the
nearest as many of 3,000 scored library designs. The generator is the one the campaign's last round
trained; ``--minutes`` trains it on for that long first, on the same records.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import write
from flows.assembly import open_session
from generators.flow import JointFlow
from generators.steering import Steering
from loop.candidate import Candidate
from loop.protocols import Differentiable
from loop.round import evaluate, stage_rng
from loop.session import Session
from loop.summary import LOOP_ARM

THREE = ("thermal_conductivity_W_per_mK", "density_g_per_cm3", "youngs_modulus_GPa")
FIVE = (*THREE, "conductivity_ratio", "gamma_prime_fraction")
BEYOND = "thermal_conductivity_W_per_mK"
DATA = 3000  # scored library designs that diversity is compared with
DRAWS = 3  # times as many library designs as a round learns from
TARGETS, SAMPLES, SCALES = 50, 8, (0.0, 1.0, 2.0, 3.0)
Requested = NDArray[np.float64]


def last_generator(session: Session) -> JointFlow:
    """The loop arm's generator of the last finished round."""
    generator = session.restored(LOOP_ARM, session.next_round() - 1)
    if not isinstance(generator, JointFlow):
        raise SystemExit("the campaign has no trained joint-flow; run it first")
    return generator


def train_on(session: Session, generator: JointFlow, minutes: float) -> JointFlow:
    """Longer training on library designs with the surrogate's predictions, about ``minutes``.

    The first short training is timed, and the long one gets the steps that fit into what is left.
    """
    end = time.monotonic() + 60 * minutes
    index = session.next_round()
    records = [r for r in session.records(LOOP_ARM, index) if r.outcome.status == "ok"]
    rng = stage_rng(session.campaign.seed, "benchmark", index, "fit")
    surrogate = session.surrogate(records, rng)
    learned = list(records)
    for _ in range(DRAWS):
        learned += session.unscored(records, surrogate, index, rng)
    trial = replace(generator.settings, focus=0.0, retrain_steps=100, head_retrain_steps=400)
    trained = copy.copy(generator)
    trained.settings = trial
    start = time.monotonic()
    trained = trained.fit(learned, rng=rng, progress=session.progress)
    times = (end - time.monotonic()) / (time.monotonic() - start)
    trained.settings = replace(
        trial,
        retrain_steps=max(1, int(times * trial.retrain_steps)),
        head_retrain_steps=max(1, int(times * trial.head_retrain_steps)),
        retrain_rate=trial.learning_rate / 2,
        head_rate=2 * trial.head_rate,  # a retraining takes a quarter of it
    )
    return trained.fit(learned, rng=rng, progress=session.progress)


def requests_for(session: Session, wanted: Requested, asked: Sequence[str]) -> Requested:
    """(n, k) requests of the named properties, NaN elsewhere, each ``SAMPLES`` times."""
    requests = np.full((len(wanted), len(session.properties)), np.nan)
    requests[:, [session.properties.index(k) for k in asked]] = wanted
    return np.repeat(requests, SAMPLES, axis=0)


def held_out(session: Session, targets: int, asked: Sequence[str]) -> Requested:
    """(targets, len(asked)) properties of fresh library designs."""
    rng = np.random.default_rng(20261121)
    outcomes = evaluate(session.simulators, session.library.draw(targets, rng=rng))
    return np.array([[o.values[k] for k in asked] for o in outcomes])


def beyond(session: Session, targets: int) -> Requested:
    """(targets, 1) conductivities 10 to 25 % above the highest record of the ledger."""
    records = session.records(LOOP_ARM, session.next_round())
    highest = max(r.outcome.values[BEYOND] for r in records if r.outcome.status == "ok")
    return highest * np.random.default_rng(1).uniform(1.10, 1.25, (targets, 1))


def scores(
    session: Session, requests: Requested, candidates: Sequence[Candidate], asked: Sequence[str]
) -> dict[str, Any]:
    """Median and 90th percentile of the relative errors, per property and joint (the largest)."""
    columns = [session.properties.index(k) for k in asked]
    outcomes = evaluate(session.simulators, candidates)
    ok = [i for i, o in enumerate(outcomes) if o.status == "ok"]
    values = np.array([[outcomes[i].values[k] for k in asked] for i in ok])
    error = np.abs(values / requests[ok][:, columns] - 1)
    joint = error.max(1)
    calls = [c.origin.details.get("simulator_gradients", 0) for c in candidates]
    return {
        "samples": len(candidates),
        "scored": len(ok),
        "simulator_calls_with_gradient_per_sample": float(np.mean(calls)),
        "median_relative_error": dict(zip(asked, np.median(error, 0).tolist(), strict=True)),
        "p90_relative_error": dict(zip(asked, np.quantile(error, 0.9, 0).tolist(), strict=True)),
        "joint_median": float(np.median(joint)),
        "joint_p90": float(np.quantile(joint, 0.9)),
        "within_1_percent": float(np.mean(joint <= 0.01)),
    }


class Diversity:
    """Spread of samples within a request beside that of the data at the same properties."""

    def __init__(self, session: Session, asked: Sequence[str]) -> None:
        rng = np.random.default_rng(3)
        designs = session.library.draw(DATA, rng=rng)
        outcomes = evaluate(session.simulators, designs)
        kept = [i for i, o in enumerate(outcomes) if o.status == "ok"]
        self.features = session.features
        self.x = self.features.transform([designs[i] for i in kept])
        self.scale = self.x.std(0) + 1e-12
        self.values = np.array([[outcomes[i].values[k] for k in asked] for i in kept])

    def ratio(self, wanted: Requested, candidates: Sequence[Candidate]) -> float:
        """Of the means over the requests ``wanted`` (targets, k), ``SAMPLES`` candidates each."""
        x = self.features.transform(list(candidates)) / self.scale
        spread = self.values.std(0)
        ours, data = [], []
        for i, request in enumerate(wanted):
            ours.append(_spread(x[i * SAMPLES : (i + 1) * SAMPLES]))
            distance = np.square((self.values - request) / spread).sum(1)
            data.append(_spread(self.x[np.argsort(distance)[:SAMPLES]] / self.scale))
        return float(np.mean(ours) / np.mean(data))


def _spread(x: NDArray[np.float64]) -> float:
    distance = np.sqrt(np.square(x[:, None] - x[None]).sum(-1))
    return float(distance[np.triu_indices(len(x), 1)].mean())


def accuracy(session: Session, generator: JointFlow, targets: int) -> dict[str, Any]:
    """All requests and arms, by name."""
    found: dict[str, Any] = {}
    models = tuple(s for s in session.simulators if isinstance(s, Differentiable))

    def arm(name: str, wanted: Requested, asked: Sequence[str], scale: float, guided: bool) -> None:
        generator.models = models if guided else ()
        requests = requests_for(session, wanted, asked)
        start = time.perf_counter()
        candidates = generator.generate(
            requests, guidance=scale, rng=np.random.default_rng(7), steering=Steering()
        )
        seconds = time.perf_counter() - start
        found[name] = scores(session, requests, candidates, asked)
        found[name]["seconds"] = round(seconds, 1)
        if len(asked) == len(FIVE):
            found[name]["diversity_over_data"] = diversity.ratio(wanted, candidates)
        print(name, found[name], flush=True)

    diversity = Diversity(session, FIVE)
    three, five = held_out(session, targets, THREE), held_out(session, targets, FIVE)
    for scale in SCALES:
        arm(f"three properties, s = {scale:g}", three, THREE, scale, False)
    for scale in (0.0, 1.0, 2.0):
        arm(f"five properties, s = {scale:g}", five, FIVE, scale, False)
    arm("five properties, s = 2, guided by the simulator", five, FIVE, 2.0, True)
    high = beyond(session, targets)
    arm("conductivity beyond the range, s = 2", high, (BEYOND,), 2.0, False)
    arm("conductivity beyond the range, s = 2, guided by the simulator", high, (BEYOND,), 2.0, True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("campaign")
    parser.add_argument("--ledger")
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--targets", type=int, default=TARGETS)
    given = parser.parse_args()
    session = open_session(given.campaign, given.ledger)
    generator = last_generator(session)
    result: dict[str, Any] = {
        "targets": given.targets,
        "samples": SAMPLES,
        "after the default run": accuracy(session, generator, given.targets),
    }
    if given.minutes:
        start = time.monotonic()
        generator = train_on(session, generator, given.minutes)
        result["further training, minutes"] = round((time.monotonic() - start) / 60, 1)
        result["after further training"] = accuracy(session, generator, given.targets)
    print(write("conditional_accuracy", result))


if __name__ == "__main__":
    main()
