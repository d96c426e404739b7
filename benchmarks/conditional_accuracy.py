"""Requested against simulated: 50 targets × 8 samples at guidance 0, 1, 2, 3.

    python -m benchmarks.conditional_accuracy CAMPAIGN [--ledger URL] [--minutes M]

Targets are the simulated properties of fresh library designs (held-out seed), so they lie inside
the training range. Three properties are asked for at once; every sample is scored by the
simulator. The generator is the one the campaign's last round trained; ``--minutes`` trains it on
for that long first, on the same records (no further simulator calls).
"""

from __future__ import annotations

import argparse
import copy
import time
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.report import write
from flows.assembly import open_session
from generators.flow import JointFlow
from loop.round import evaluate, stage_rng
from loop.session import Session
from loop.summary import LOOP_ARM

ASKED = ("thermal_conductivity_W_per_mK", "density_g_per_cm3", "youngs_modulus_GPa")
DRAWS = 3  # times as many library designs as a round learns from
TARGETS, SAMPLES, SCALES = 50, 8, (0.0, 1.0, 2.0, 3.0)


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


def accuracy(session: Session, generator: JointFlow) -> dict[str, Any]:
    """Median and 90th percentile of the relative errors, per property and joint (the largest)."""
    rng = np.random.default_rng(20261121)
    held_out = evaluate(session.simulators, session.library.draw(TARGETS, rng=rng))
    columns = [session.properties.index(k) for k in ASKED]
    wanted = np.full((TARGETS, len(session.properties)), np.nan)
    wanted[:, columns] = [[o.values[k] for k in ASKED] for o in held_out]
    requests = np.repeat(wanted, SAMPLES, axis=0)
    found: dict[str, Any] = {}
    for scale in SCALES:
        candidates = generator.generate(requests, guidance=scale, rng=np.random.default_rng(7))
        outcomes = evaluate(session.simulators, candidates)
        ok = [i for i, o in enumerate(outcomes) if o.status == "ok"]
        values = np.array([[outcomes[i].values[k] for k in ASKED] for i in ok])
        error = np.abs(values / requests[ok][:, columns] - 1)
        joint = error.max(1)
        found[f"{scale:g}"] = {
            "scored": len(ok),
            "median_relative_error": dict(zip(ASKED, np.median(error, 0).tolist(), strict=True)),
            "joint_median": float(np.median(joint)),
            "joint_p90": float(np.quantile(joint, 0.9)),
        }
        print(scale, found[f"{scale:g}"], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("campaign")
    parser.add_argument("--ledger")
    parser.add_argument("--minutes", type=float, default=0.0)
    given = parser.parse_args()
    session = open_session(given.campaign, given.ledger)
    generator = last_generator(session)
    result: dict[str, Any] = {
        "targets": TARGETS,
        "samples": SAMPLES,
        "asked": ASKED,
        "after the default run": accuracy(session, generator),
    }
    if given.minutes:
        start = time.monotonic()
        generator = train_on(session, generator, given.minutes)
        result["further training, minutes"] = round((time.monotonic() - start) / 60, 1)
        result["after further training"] = accuracy(session, generator)
    print(write("conditional_accuracy", result))


if __name__ == "__main__":
    main()
