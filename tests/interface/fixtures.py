"""A small campaign for tests of the interface: random blobs and random alloys in a real ledger.

Property values come from a plain closed-form rule of the design, so the ledger is consistent in
itself; they are no simulation and stand for none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from loop.candidate import Candidate, Origin, Outcome
from loop.ledger import Ledger
from loop.targets import Range, Targets, Value

PHASES = ("gamma", "gamma_prime")
ELEMENTS = ("Ni", "Al", "Cr", "Co", "Ti", "Mo", "W")
TARGETS = Targets(
    (
        Value("thermal_conductivity_W_per_mK", 11.2, 0.15),
        Range("density_g_per_cm3", 8.0, 8.2),
        Value("youngs_modulus_GPa", 198.0, 1.5),
        Range("gamma_prime_fraction", 0.48, 0.56),
    )
)
HOSTILE = "<img src=x onerror=\"console.error('script ran')\">"
NAME = "blobs"
_MEAN = np.array(
    [[0.52, 0.05, 0.20, 0.15, 0.01, 0.04, 0.03], [0.66, 0.14, 0.03, 0.06, 0.07, 0.01, 0.03]]
)


def blob_candidate(
    rng: np.random.Generator,
    *,
    side: int = 32,
    fraction: float | None = None,
    spread: float = 0.2,
    origin: Origin | None = None,
) -> Candidate:
    """A thresholded Gaussian field with alloy compositions around a common superalloy."""
    field = ndimage.gaussian_filter(rng.normal(size=(side, side)), 2.2, mode="wrap")
    fraction = float(rng.uniform(0.35, 0.65)) if fraction is None else fraction
    image = (field > np.quantile(field, 1 - fraction)).astype(np.uint8)
    x = _MEAN * rng.uniform(1 - spread, 1 + spread, _MEAN.shape)
    x[:, 5] *= rng.random() > 0.3
    return Candidate(
        PHASES,
        ELEMENTS,
        image,
        x / x.sum(1, keepdims=True),
        origin=origin or Origin("library"),
    )


def plausible_values(rng: np.random.Generator, spread: float = 1.0) -> dict[str, float]:
    """Property values scattered about the targets, ``spread`` tolerances wide."""
    return {
        target.name: 0.5 * (target.low + target.high) + spread * rng.normal() * target.scale
        for target in TARGETS
    }


def rule(candidate: Candidate) -> dict[str, float]:
    """Properties of a design, linear in its fraction and overall composition."""
    f = float(candidate.phase_fractions()[1])
    x = dict(zip(ELEMENTS, candidate.composition(), strict=True))
    return {
        "thermal_conductivity_W_per_mK": 11.2 + 14 * (0.115 - x["Cr"]) + 9 * (x["Al"] - 0.095),
        "density_g_per_cm3": 8.1 + 14 * (x["W"] - 0.03) - 7 * (x["Al"] - 0.095),
        "youngs_modulus_GPa": 198 + 45 * (f - 0.5) + 220 * (x["W"] - 0.03),
        "gamma_prime_fraction": f,
        "material_cost_USD_per_kg": 17.2 + 90 * x["Co"] + 40 * x["W"],
    }


def outcome_of(candidate: Candidate, rng: np.random.Generator) -> Outcome:
    """The rule, with bounds on one property; one in forty fails, with a reason that needs care."""
    if rng.random() < 0.025:
        return Outcome.failed(f"residual 3.1e-02 after 400 iterations {HOSTILE}", iterations=400)
    values = rule(candidate)
    k = values["thermal_conductivity_W_per_mK"]
    bounds = {"thermal_conductivity_W_per_mK": (k - 0.3, k + 0.4)}
    return Outcome("ok", values, bounds, {"iterations": 12, "residual": 1e-9})


def settings(name: str = NAME, rounds: int = 4, batch: int = 16) -> dict[str, Any]:
    """The settings that the interface reads, as a campaign file gives them."""
    return {
        "campaign": {"name": name, "seed": 5, "description": "Blobs for tests"},
        "space": {"phases": list(PHASES), "elements": list(ELEMENTS)},
        "targets": {
            "thermal_conductivity_W_per_mK": {"value": 11.2, "tolerance": 0.15},
            "density_g_per_cm3": {"range": [8.0, 8.2]},
            "youngs_modulus_GPa": {"value": 198.0, "tolerance": 1.5},
            "gamma_prime_fraction": {"range": [0.48, 0.56]},
        },
        "loop": {"rounds": rounds, "batch": batch, "seeds": 48},
    }


def propose(arm: str, round_: int, n: int, rng: np.random.Generator) -> list[Candidate]:
    """Library blobs; for the loop arm requests that come nearer to the targets by the round."""
    if arm in ("seed", "random"):
        return [blob_candidate(rng, fraction=float(rng.uniform(0.3, 0.47))) for _ in range(n)]
    quality = round_ if arm == "loop" else 0.5 * round_
    found = []
    for _ in range(n):
        fraction = float(np.clip(0.52 + rng.normal() * 0.16 / (1 + quality), 0.2, 0.8))
        draft = blob_candidate(rng, fraction=fraction, spread=0.25 / (0.4 + 0.6 * quality))
        requested = {
            t.name: rule(draft)[t.name] + 0.25 * float(rng.normal()) * t.scale for t in TARGETS
        }
        guidance = float(rng.choice([1.0, 2.0])) if arm == "loop" else None
        source = "joint-flow" if arm == "loop" else "mutation"
        details: Mapping[str, Any] = {"requested": requested} if arm == "loop" else {}
        found.append(
            Candidate(
                draft.phases,
                draft.elements,
                draft.microstructure,
                draft.phase_compositions,
                origin=Origin(source, guidance, details),
            )
        )
    return found


def add_batch(
    ledger: Ledger, campaign: int, arm: str, round_: int, n: int, *, evaluate: int | None = None
) -> None:
    """Plan one batch and evaluate its first ``evaluate`` designs (all by default)."""
    rng = np.random.default_rng([5, round_, *arm.encode()])
    candidates = propose(arm, round_, n, rng)
    predicted: list[dict[str, dict[str, float]] | None] = [
        {t.name: {"mean": rule(c)[t.name] + 0.1 * t.scale, "std": 0.3 * t.scale} for t in TARGETS}
        if arm == "loop"
        else None
        for c in candidates
    ]
    ledger.plan_batch(campaign, arm, round_, candidates, predicted=predicted)
    positions = list(range(n if evaluate is None else evaluate))
    outcomes = [outcome_of(candidates[i], rng) for i in positions]
    ledger.add_outcomes(
        campaign, arm, round_, positions, outcomes,
        simulator="blob-rule", version="1", targets=TARGETS,
    )  # fmt: skip
    if evaluate is None:
        ledger.add_round(campaign, arm, round_, {"arm": arm, "round": round_, "seconds": 1.5})


def start_campaign(ledger: Ledger, name: str = NAME, **changes: Any) -> int:
    """A campaign with its seeds scored."""
    campaign = ledger.ensure_campaign(
        name, seed=5, settings=settings(name, **changes), settings_hash=f"hash-of-{name}",
        data_hash="0" * 16, versions={"spinodal": "0.1.0"},
    )  # fmt: skip
    add_batch(ledger, campaign, "seed", 0, 48)
    return campaign


def write_ledger(
    path: Path, *, rounds: int = 4, batch: int = 16, arms: Sequence[str] = ("loop", "random")
) -> Path:
    """A finished campaign in a new ledger at ``path``."""
    with Ledger.open(path) as ledger:
        campaign = start_campaign(ledger, rounds=rounds, batch=batch)
        for round_ in range(1, rounds + 1):
            for arm in arms:
                add_batch(ledger, campaign, arm, round_, batch)
        ledger.finish(campaign, "rounds")
    return path
