"""A small campaign for the ledger's tests. Run as a program it writes one until it is killed."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from loop.candidate import Candidate, Origin, Outcome
from loop.ledger import Ledger
from loop.targets import Targets, Value

PHASES = ("gamma", "gamma_prime")
ELEMENTS = ("Ni", "Al", "Re")
TARGETS = Targets((Value("modulus_GPa", 200.0, 5.0), Value("density_g_per_cm3", 8.0, 0.5)))
ROUNDS, BATCH, CHUNK = 400, 6, 2


def campaign(ledger: Ledger, name: str = "alloy", **changes: object) -> int:
    """A campaign with settings that do not matter."""
    given: dict[str, object] = {
        "seed": 7,
        "settings": {"loop": {"batch": BATCH, "rounds": 3}, "compute": {"threads": 1}},
        "settings_hash": "5e77",
        "data_hash": "da7a",
        "versions": {"spinodal": "0.1.0", "torch": "2.11.0"},
    }
    return ledger.ensure_campaign(name, **{**given, **changes})  # type: ignore[arg-type]


def design(seed: int, *, size: int = 8, source: str = "joint-flow") -> Candidate:
    """A candidate that depends on ``seed`` alone; one in four has no rhenium."""
    rng = np.random.default_rng(seed)
    x = rng.dirichlet(np.ones(3), size=2)
    if seed % 4 == 0:
        x[:, 2] = 0.0
        x /= x.sum(axis=1, keepdims=True)
    requested = {"modulus_GPa": 200.0 + seed % 3, "density_g_per_cm3": [7.5, 8.5]}
    return Candidate(
        phases=PHASES,
        elements=ELEMENTS,
        microstructure=rng.integers(0, 2, (size, size), dtype=np.uint8),
        phase_compositions=x,
        process={"temperature_K": 1200.0 + seed % 5},
        origin=Origin(source, float(seed % 3), {"requested": requested, "seed": seed}),
    )


def outcome(seed: int) -> Outcome:
    """ok, failed and infeasible; some without density; about one in ten hits."""
    rng = np.random.default_rng([seed, 1])
    if seed % 11 == 3:
        return Outcome.failed(f"residual of design {seed} is 0.1", residual=0.1)
    if seed % 11 == 5:
        return Outcome("infeasible", reason="Al above 0.9")
    values = {"modulus_GPa": rng.normal(200.0, 10.0)}
    if seed % 5:
        values["density_g_per_cm3"] = rng.normal(8.0, 0.5)
    return Outcome("ok", values, {"modulus_GPa": (100.0, 300.0)}, {"iterations": seed})


def prediction(seed: int) -> dict[str, dict[str, float]] | None:
    """A prediction for every other design."""
    return {"modulus_GPa": {"mean": 190.0 + seed, "std": 2.0}} if seed % 2 else None


def play(ledger: Ledger, rounds: int = ROUNDS, pause: float = 0.0) -> int:
    """What a run does, from wherever the ledger stands; returns the campaign's number."""
    number = campaign(ledger)
    with ledger.claim(number):
        for index in range(1, rounds + 1):
            seeds = [1000 * index + i for i in range(BATCH)]
            if not ledger.is_planned(number, "loop", index):
                ledger.plan_batch(
                    number,
                    "loop",
                    index,
                    [design(s) for s in seeds],
                    predicted=[prediction(s) for s in seeds],
                )
            left = ledger.pending(number, "loop", index)
            for start in range(0, len(left), CHUNK):
                part = left[start : start + CHUNK]
                evaluate(ledger, number, index, part, [seeds[i] for i in part])
                time.sleep(pause)
            ledger.add_round(number, "loop", index, {"evaluated": BATCH, "seconds": time.time()})
    return number


def evaluate(
    ledger: Ledger, number: int, index: int, positions: list[int], seeds: list[int]
) -> None:
    """Outcomes of some positions."""
    ledger.add_outcomes(
        number,
        "loop",
        index,
        positions,
        [outcome(s) for s in seeds],
        simulator="chain",
        version="1",
        targets=TARGETS,
    )


if __name__ == "__main__":
    with Ledger.open(Path(sys.argv[1])) as opened:
        print("open", flush=True)  # the parent waits for this line
        play(opened)
