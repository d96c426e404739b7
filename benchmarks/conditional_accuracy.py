"""Requested against simulated: what is asked for beside what the simulator finds in the samples.

    python -m benchmarks.conditional_accuracy CAMPAIGN [--ledger URL] [--minutes M] [--scored N]
        [--targets N] [--samples K] [--guided-samples K] [--proposals N] [--seed S]

Targets are the simulated properties of fresh library designs (held-out seed), so they lie inside
the training range, ranges about them, or one conductivity 10 to 25 % above the highest that the
generator was trained on. Every sample is scored by the simulator on its discrete image. Arms:
classifier-free guidance of several scales, the same without the image's statistics
(``generators.sketch``) or with the phase fraction alone of them, and on top of it the derivatives
of the loop's surrogate or of the simulator (``generators.steering``). Diversity is the mean
distance in the surrogate's features between samples of one request, over that between the nearest
as many of 3,000 scored library designs. The generator is the one the campaign's last round
trained; ``--minutes`` trains it on for that long first, on the campaign's records and library
designs with the surrogate's predictions, or ``--scored`` of them with the simulator's own values.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import write
from flows.assembly import open_session
from generators.flow import JointFlow
from generators.requests import draw_requests
from generators.steering import Steering
from generators.surrogate_guidance import SurrogateModel
from loop.candidate import Candidate, Record
from loop.protocols import Differentiable
from loop.round import evaluate, stage_rng
from loop.session import Session
from loop.summary import LOOP_ARM
from loop.targets import Range, Targets

THREE = ("thermal_conductivity_W_per_mK", "density_g_per_cm3", "youngs_modulus_GPa")
FIVE = (*THREE, "conductivity_ratio", "gamma_prime_fraction")
BEYOND = "thermal_conductivity_W_per_mK"
DATA = 3000  # scored library designs that diversity is compared with
DRAWS = 3  # times as many library designs as a round learns from
TARGETS, SAMPLES, GUIDED_SAMPLES, SCALES = 100, 16, 4, (0.0, 1.0, 2.0, 3.0)
SEED = 20261121  # of the held-out targets
WIDTH = 0.5  # of a requested range, in standard deviations of the property
PROPOSALS = 1500  # for the hit rates
Requested = NDArray[np.float64]


def last_generator(session: Session) -> JointFlow:
    """The loop arm's generator of the last finished round."""
    generator = session.restored(LOOP_ARM, session.next_round() - 1)
    if not isinstance(generator, JointFlow):
        raise SystemExit("the campaign has no trained joint-flow; run it first")
    return generator


def known(session: Session) -> list[Record]:
    """What the campaign has scored well."""
    records = session.records(LOOP_ARM, session.next_round())
    return [r for r in records if r.outcome.status == "ok"]


def score(session: Session, n: int) -> list[Record]:
    """n fresh library designs with what the simulator says, those that it could score."""
    rng = stage_rng(session.campaign.seed, "benchmark", session.next_round(), "scored")
    designs = session.library.draw(n, rng=rng)
    found = zip(designs, evaluate(session.simulators, designs), strict=True)
    simulator, version = session.simulator, session.version
    return [Record(c, o, simulator, version, 0) for c, o in found if o.status == "ok"]


def train_on(
    session: Session, generator: JointFlow, minutes: float, scored: Sequence[Record]
) -> JointFlow:
    """Longer training on library designs, ``scored`` ones or with the surrogate's predictions.

    The first short training is timed, and the long one gets the steps that fit into what is left
    of ``minutes``.
    """
    end = time.monotonic() + 60 * minutes
    index = session.next_round()
    records = known(session)
    rng = stage_rng(session.campaign.seed, "benchmark", index, "fit")
    learned = [*records, *scored]
    if not scored:
        surrogate = session.surrogate(records, rng)
        for _ in range(DRAWS):
            learned += session.unscored(records, surrogate, index, rng)
    # The parts that follow requests closely have most of the time; each is timed.
    base = generator.settings
    trial = replace(
        base,
        focus=0.0,
        retrain_steps=40,
        head_retrain_steps=600,
        sketch=replace(base.sketch, retrain_steps=150),
    )
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
        sketch=replace(
            trial.sketch,
            retrain_steps=max(1, int(times * trial.sketch.retrain_steps)),
            rate=2 * trial.sketch.rate,
        ),
    )
    return trained.fit(learned, rng=rng, progress=session.progress)


def requests_for(
    session: Session, wanted: Requested, asked: Sequence[str], samples: int
) -> Requested:
    """(n, k) requests of the named properties, NaN elsewhere, each ``samples`` times."""
    requests = np.full((len(wanted), len(session.properties)), np.nan)
    requests[:, [session.properties.index(k) for k in asked]] = wanted
    return np.repeat(requests, samples, axis=0)


def held_out(session: Session, targets: int, asked: Sequence[str], seed: int) -> Requested:
    """(targets, len(asked)) properties of fresh library designs."""
    rng = np.random.default_rng(seed)
    outcomes = evaluate(session.simulators, session.library.draw(targets, rng=rng))
    return np.array([[o.values[k] for k in asked] for o in outcomes if o.status == "ok"])


def ranges(wanted: Requested, spread: Requested, seed: int) -> tuple[Requested, Requested]:
    """Lower and upper ends (targets, k) of ranges of ``WIDTH`` that have ``wanted`` inside."""
    width = WIDTH * spread
    low = wanted - width * np.random.default_rng(seed).uniform(0.0, 1.0, wanted.shape)
    return low, low + width


def beyond(session: Session, targets: int, scored: Sequence[Record]) -> Requested:
    """(targets, 1) conductivities 10 to 25 % above the highest that was learned from."""
    highest = max(r.outcome.values[BEYOND] for r in (*known(session), *scored))
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
        "calls_with_gradient_per_sample": float(np.mean(calls)),
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
        """Of the means over the requests ``wanted`` (targets, k), equally many candidates each."""
        samples = len(candidates) // len(wanted)
        x = self.features.transform(list(candidates)) / self.scale
        spread = self.values.std(0)
        ours, data = [], []
        for i, request in enumerate(wanted):
            ours.append(_spread(x[i * samples : (i + 1) * samples]))
            distance = np.square((self.values - request) / spread).sum(1)
            data.append(_spread(self.x[np.argsort(distance)[:samples]] / self.scale))
        return float(np.mean(ours) / np.mean(data))


def _spread(x: NDArray[np.float64]) -> float:
    distance = np.sqrt(np.square(x[:, None] - x[None]).sum(-1))
    return float(distance[np.triu_indices(len(x), 1)].mean())


@dataclass(frozen=True)
class Sizes:
    """``targets`` requests, ``samples`` of each, ``guided`` where a simulator or surrogate guides.

    ``proposals``: to the campaign's own targets.
    """

    targets: int
    samples: int
    guided: int
    proposals: int
    seed: int


class Arms:
    """Requests of every kind put to one generator; what came of them by name in ``found``."""

    def __init__(self, session: Session, generator: JointFlow, sizes: Sizes) -> None:
        self.session, self.sizes = session, sizes
        self.generator = generator
        self.models = tuple(s for s in session.simulators if isinstance(s, Differentiable))
        self.diversity = Diversity(session, FIVE)
        self.found: dict[str, Any] = {}

    def made(
        self, requests: Requested, scale: float, changed: dict[str, Any]
    ) -> tuple[list[Candidate], float]:
        """Candidates for requests (n, k) by the generator with some attributes changed; seconds."""
        generator = copy.copy(self.generator)
        generator.models = ()
        for name, value in changed.items():
            setattr(generator, name, value)
        start = time.perf_counter()
        rng = np.random.default_rng(7)
        # A surrogate's own errors are no reason to draw a design anew.
        again = Steering() if generator.models == self.models else Steering(restarts=0)
        candidates = generator.generate(requests, guidance=scale, rng=rng, steering=again)
        return candidates, time.perf_counter() - start

    def values(
        self, name: str, wanted: Requested, asked: Sequence[str], scale: float, **changed: Any
    ) -> None:
        """An arm of requested values (targets, len(asked))."""
        samples = self.sizes.guided if changed.get("models") else self.sizes.samples
        requests = requests_for(self.session, wanted, asked, samples)
        candidates, seconds = self.made(requests, scale, changed)
        self.found[name] = scores(self.session, requests, candidates, asked)
        self.found[name]["seconds"] = round(seconds, 1)
        if len(asked) == len(FIVE):
            self.found[name]["diversity_over_data"] = self.diversity.ratio(wanted, candidates)
        print(name, self.found[name], flush=True)

    def within(self, name: str, low: Requested, high: Requested, scale: float) -> None:
        """An arm of requested ranges (targets, len(FIVE)): the share of samples inside."""
        session, samples = self.session, self.sizes.samples
        rng = np.random.default_rng(11)
        requests = np.concatenate(
            [
                draw_requests(
                    samples,
                    Targets(tuple(Range(k, *ends) for k, *ends in zip(FIVE, a, b, strict=True))),
                    session.properties,
                    np.zeros((0, len(session.properties))),
                    rng,
                )
                for a, b in zip(low.tolist(), high.tolist(), strict=True)
            ]
        )
        candidates, seconds = self.made(requests, scale, {})
        outcomes = evaluate(session.simulators, candidates)
        inside = np.array(
            [
                [
                    o.status == "ok" and a <= o.values[k] <= b
                    for k, a, b in zip(FIVE, low[i // samples], high[i // samples], strict=True)
                ]
                for i, o in enumerate(outcomes)
            ]
        )
        self.found[name] = {
            "samples": len(candidates),
            "width_in_standard_deviations": WIDTH,
            "inside_all": float(inside.all(1).mean()),
            "inside": dict(zip(FIVE, inside.mean(0).tolist(), strict=True)),
            "seconds": round(seconds, 1),
        }
        print(name, self.found[name], flush=True)

    def hits(self) -> None:
        """Shares of proposals that meet all targets of the campaign, with guidance and without."""
        session, targets = self.session, self.session.campaign.targets
        self.generator.models = ()
        n = self.sizes.proposals
        rate: dict[float, float] = {}
        for scale in (0.0, 2.0):
            asked = targets if scale else None
            rng = np.random.default_rng(13)
            made = self.generator.propose(n, asked, guidance=scale, rng=rng)
            outcomes = evaluate(session.simulators, made)
            met = [o.status == "ok" and bool(targets.met(o.values)) for o in outcomes]
            rate[scale] = float(np.mean(met))
        # None among n: with 95 % confidence the rate is below 3 / n.
        least = max(rate[0.0], 3 / n)
        self.found["hits of all targets of the campaign"] = {
            "proposals": n,
            "hit_rate": {f"s = {scale:g}": value for scale, value in rate.items()},
            "over_unconditional_at_least": rate[2.0] / least,
        }
        print(self.found["hits of all targets of the campaign"], flush=True)


def accuracy(
    session: Session,
    generator: JointFlow,
    sizes: Sizes,
    *,
    brief: bool,
    scored: Sequence[Record] = (),
) -> dict[str, Any]:
    """Requests and arms, by name; ``brief``: five properties and the hits, without simulator.

    ``scored``: designs that the generator has learned from besides those of the ledger.
    """
    arms = Arms(session, generator, sizes)
    three, five = (held_out(session, sizes.targets, k, sizes.seed) for k in (THREE, FIVE))
    for scale in SCALES[:3] if brief else SCALES:
        arms.values(f"five properties, s = {scale:g}", five, FIVE, scale)
    if brief:
        arms.hits()
        return arms.found
    settings = generator.settings
    if generator.sketch is not None:
        arms.values("five properties, s = 2, image as sampled", five, FIVE, 2.0, sketch=None)
        alone = replace(settings, sketch=replace(settings.sketch, image_steps=0))
        name = "five properties, s = 2, image of the requested fraction"
        arms.values(name, five, FIVE, 2.0, settings=alone)
        longer = replace(settings, sketch=replace(settings.sketch, image_steps=10))
        name = "five properties, s = 2, 10 steps of the image"
        arms.values(name, five, FIVE, 2.0, settings=longer)
    for scale in (1.0, 2.0):
        arms.values(f"three properties, s = {scale:g}", three, THREE, scale)
    ends = ranges(five, arms.diversity.values.std(0), sizes.seed)
    for scale in (0.0, 1.0, 2.0):
        arms.within(f"ranges of five properties, s = {scale:g}", *ends, scale)
    arms.hits()
    high = beyond(session, sizes.targets, scored)
    arms.values("conductivity beyond the range, s = 2", high, (BEYOND,), 2.0)
    records = known(session)
    rng = stage_rng(session.campaign.seed, "benchmark", session.next_round(), "surrogate")
    surrogate = SurrogateModel(session.surrogate(records, rng), session.features)
    name = "five properties, s = 2, guided by the surrogate"
    arms.values(name, five, FIVE, 2.0, models=(surrogate,))
    guided = {"models": arms.models}
    name = "five properties, s = 2, guided by the simulator"
    arms.values(name, five, FIVE, 2.0, **guided)
    name = "conductivity beyond the range, s = 2, guided by the simulator"
    arms.values(name, high, (BEYOND,), 2.0, **guided)
    return arms.found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("campaign")
    parser.add_argument("--ledger")
    asked = {"targets": TARGETS, "samples": SAMPLES, "guided-samples": GUIDED_SAMPLES}
    for name, default in (asked | {"proposals": PROPOSALS, "seed": SEED, "scored": 0}).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--minutes", type=float, default=0.0)
    given = parser.parse_args()
    sizes = Sizes(given.targets, given.samples, given.guided_samples, given.proposals, given.seed)
    session = open_session(given.campaign, given.ledger)
    generator = last_generator(session)
    result: dict[str, Any] = {
        "targets": sizes.targets,
        "samples": sizes.samples,
        "samples guided by simulator or surrogate": sizes.guided,
        "seed": sizes.seed,
    }
    before = accuracy(session, generator, sizes, brief=given.minutes > 0)
    result["after the default run"] = before
    if given.minutes:
        start = time.monotonic()
        scored = score(session, given.scored) if given.scored else []
        result["library designs scored for it"] = len(scored)
        generator = train_on(session, generator, given.minutes, scored)
        result["further training, minutes"] = round((time.monotonic() - start) / 60, 1)
        result["after further training"] = accuracy(
            session, generator, sizes, brief=False, scored=scored
        )
    print(write("conditional_accuracy", result))


if __name__ == "__main__":
    main()
