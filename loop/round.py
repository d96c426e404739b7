"""One round's decisions as plain functions: designs to learn from, a pool, a gate, a batch."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loop.candidate import Candidate, Outcome, Record
from loop.errors import SpinodalError
from loop.features import Features
from loop.joint_posterior import of_one_fidelity
from loop.joint_selection import has_all, joint_improvement_batch
from loop.laboratory import AWAITED
from loop.protocols import Generator, Simulator
from loop.selection import greedy_batch, log_expected_improvement, log_probability_of_hit
from loop.surrogate import Prediction, Surrogate
from loop.targets import Targets
from loop.validity import Gate

FloatArray = NDArray[np.float64]


def stage_rng(seed: int, arm: str, index: int, stage: str) -> np.random.Generator:
    """The random stream of one stage: it depends on nothing that a crash could change."""
    words = [seed, zlib.crc32(arm.encode()), index, zlib.crc32(stage.encode())]
    return np.random.default_rng(np.random.SeedSequence(words))


@dataclass(frozen=True)
class Batch:
    """What a round sends to the simulators, and the figures of how it was found.

    ``predicted``: as of ``predicted_rows``; empty without a surrogate.
    """

    candidates: list[Candidate]
    predicted: list[dict[str, dict[str, float]]]
    pool: int
    pool_valid: int
    turned_away: dict[str, int]


def propose_pool(
    generator: Generator,
    n: int,
    targets: Targets,
    guidance: Sequence[float],
    rng: np.random.Generator,
) -> list[Candidate]:
    """n proposals, shared evenly between the guidance scales."""
    shares = [n // len(guidance) + (i < n % len(guidance)) for i in range(len(guidance))]
    return [
        candidate
        for scale, share in zip(guidance, shares, strict=True)
        if share
        for candidate in generator.propose(share, targets, guidance=scale, rng=rng)
    ]


def valid_and_new(
    pool: Sequence[Candidate], gate: Gate, known: set[str]
) -> tuple[list[Candidate], dict[str, int]]:
    """Proposals that pass the gate, once each and not evaluated before; counts of the others."""
    turned_away: dict[str, int] = {}
    kept: list[Candidate] = []
    seen = set(known)
    for candidate, reason in zip(pool, gate.reasons(pool) if pool else [], strict=True):
        # Only the kind of reason is counted; the figures in it differ from one to the next.
        kind = reason.split(" = ")[0].split(":")[0] if reason else ""
        if not kind and candidate.id in seen:
            kind = "duplicate"
        if kind:
            turned_away[kind] = turned_away.get(kind, 0) + 1
            continue
        seen.add(candidate.id)
        kept.append(candidate)
    return kept, turned_away


def target_columns(
    prediction: Prediction, properties: Sequence[str], targets: Targets
) -> Prediction:
    """The prediction's columns in the order of the targets."""
    columns = [list(properties).index(name) for name in targets.properties]
    return Prediction(prediction.mean[:, columns], prediction.std[:, columns])


def select(
    pool: Sequence[Candidate],
    surrogate: Surrogate,
    features: Features,
    targets: Targets,
    records: Sequence[Record],
    *,
    size: int,
    diversity: float,
    rng: np.random.Generator,
) -> tuple[list[int], Prediction]:
    """Indices of the batch within the pool, and the prediction for all of the pool."""
    x = features.transform(pool)
    prediction = surrogate.predict(x)
    wanted = target_columns(prediction, surrogate.properties, targets)
    together = targets.objectives() and diversity > 0 and of_one_fidelity(surrogate)
    if together and has_all(records, targets):
        return joint_improvement_batch(x, surrogate, targets, records, size, rng=rng), prediction
    quality = log_probability_of_hit(wanted, targets)
    hits = [r for r in records if targets.met(r.outcome.values)]
    best = np.array([[r.outcome.values[k] for k in targets.properties] for r in hits])
    if targets.objectives():
        quality = quality + log_expected_improvement(wanted, targets, best, rng)
    scaled = (x - surrogate.center) / surrogate.scale
    taken = None
    if hits:
        taken = (
            features.transform([r.candidate for r in hits]) - surrogate.center
        ) / surrogate.scale
    # The correlation length of "a different design": half the typical distance of two designs.
    length = 0.5 * float(np.sqrt(2.0 * scaled.shape[1]))
    picked = greedy_batch(quality, scaled, size, diversity=diversity, length=length, taken=taken)
    return picked, prediction


def predicted_rows(
    prediction: Prediction, properties: Sequence[str], rows: Sequence[int]
) -> list[dict[str, dict[str, float]]]:
    """Per chosen row: property -> {"mean", "std"}, and "noise" where it is known."""
    parts = {"mean": prediction.mean, "std": prediction.std}
    if prediction.noise is not None:
        parts["noise"] = prediction.noise
    return [
        {
            name: {key: float(values[i, j]) for key, values in parts.items()}
            for j, name in enumerate(properties)
        }
        for i in rows
    ]


def evaluate(simulators: Sequence[Simulator], candidates: Sequence[Candidate]) -> list[Outcome]:
    """One outcome per candidate from all simulators together.

    Values are merged; a candidate that one simulator fails is failed, and one that another cannot
    know yet is pending: what it waits for is named in the diagnostics. A simulator that raises or
    breaks its contract (a value that is not finite, a property too few or too many) is asked
    again for one candidate at a time: only those that it cannot do are failed, with the reason.
    ``infeasible`` is what a simulator says itself.
    """
    merged: list[Outcome] = []
    if not candidates:
        return merged
    columns = [_guarded(simulator, candidates) for simulator in simulators]
    for outcomes in zip(*columns, strict=True):
        bad = next((o for o in outcomes if o.status in ("failed", "infeasible")), None)
        if bad is not None:
            merged.append(bad)
            continue
        waiting = [o for o in outcomes if o.status == "pending"]
        if waiting:
            reason = "; ".join(dict.fromkeys(o.reason for o in waiting))
            awaited = [name for o in waiting for name in o.diagnostics.get(AWAITED, ())]
            merged.append(Outcome("pending", diagnostics={AWAITED: awaited}, reason=reason))
            continue
        values: dict[str, float] = {}
        bounds: dict[str, tuple[float, float]] = {}
        diagnostics: dict[str, object] = {}
        uncertainty: dict[str, float] = {}
        for simulator, outcome in zip(simulators, outcomes, strict=True):
            values |= outcome.values
            bounds |= outcome.bounds
            uncertainty |= outcome.uncertainty
            if outcome.diagnostics:
                diagnostics[simulator.name] = dict(outcome.diagnostics)
        merged.append(Outcome("ok", values, bounds, diagnostics, uncertainty=uncertainty))
    return merged


def _guarded(simulator: Simulator, candidates: Sequence[Candidate]) -> list[Outcome]:
    try:
        outcomes = list(simulator.evaluate(candidates))
        if len(outcomes) == len(candidates) and all(isinstance(o, Outcome) for o in outcomes):
            return [_complete(simulator, outcome) for outcome in outcomes]
        problem = Outcome.failed(
            f"{simulator.name} returned {len(outcomes)} values for {len(candidates)} candidate; "
            "expected one Outcome each"
        )
    except SpinodalError as error:  # our own text, such as that of an Outcome that is not finite
        problem = Outcome.failed(f"{simulator.name}: {error}")
    except Exception as error:
        problem = Outcome.failed(f"{simulator.name} raised {type(error).__name__}: {error}")
    if len(candidates) == 1:
        return [problem]
    return [outcome for candidate in candidates for outcome in _guarded(simulator, [candidate])]


def _complete(simulator: Simulator, outcome: Outcome) -> Outcome:
    """The outcome, failed if it is ok without exactly the declared properties."""
    given, declared = set(outcome.values), set(simulator.outputs)
    if outcome.status != "ok" or given == declared:
        return outcome
    wrong = [f"no {name}" for name in sorted(declared - given)]
    wrong += [f"{name}, which it does not declare" for name in sorted(given - declared)]
    return Outcome.failed(f"{simulator.name} gave {'; '.join(wrong)}")


def predicted_records(
    candidates: Sequence[Candidate], values: FloatArray, properties: Sequence[str], index: int
) -> list[Record]:
    """Unscored designs with the surrogate's means (n, k), to learn from; never stored."""
    return [
        Record(
            candidate,
            Outcome("ok", dict(zip(properties, row.tolist(), strict=True))),
            "surrogate",
            "1",
            index,
            fidelity="predicted",
        )
        for candidate, row in zip(candidates, values, strict=True)
    ]
