"""Small campaigns on disk: real images and compositions of a few seconds' work a round."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from loop.ledger import Ledger

NAME = "tiny"
ELEMENTS = ("Ni", "Al", "Cr")
_GAMMA = np.array([0.70, 0.06, 0.24])
_PRIME = np.array([0.74, 0.22, 0.04])

TEXT = """
[campaign]
name = "{name}"
seed = 3

[space]
phases = ["gamma", "gamma_prime"]
elements = ["Ni", "Al", "Cr"]

[images]
folder = "labels"
labels = ["gamma", "gamma_prime"]
patch = 16

[compositions]
file = "compositions.csv"

[targets.density_g_per_cm3]
range = [7.25, 7.5]

[targets.gamma_prime_fraction]
range = [0.5, 0.65]

[simulators]
use = ["composite-chain"]

[generator]
preset = "tiny"

[generator.settings]
first_steps = 200

[generator.settings.vae]
steps = 250

[loop]
rounds = {rounds}
batch = {batch}
seeds = 48
library = 48
pool = 24
chunk = 3
control_arms = {arms}

[compute]
threads = 1
"""


def write_campaign(
    folder: Path,
    *,
    name: str = NAME,
    rounds: int = 2,
    batch: int = 6,
    arms: tuple[str, ...] = ("random",),
    more: str = "",
) -> Path:
    """A campaign folder of blobs and ternary alloys; returns the folder."""
    rng = np.random.default_rng(11)
    (folder / "labels").mkdir(parents=True)
    for i in range(3):
        field = ndimage.gaussian_filter(rng.normal(size=(48, 48)), 2.0, mode="wrap")
        image = (field > np.quantile(field, rng.uniform(0.4, 0.6))).astype(np.uint8)
        Image.fromarray(image).save(folder / "labels" / f"spot{i}.png")
    header = [f"{p}:{e}" for p in ("gamma", "gamma_prime") for e in ELEMENTS]
    lines = [",".join(header)]
    for _ in range(40):
        rows = [_normalised(mean * rng.uniform(0.85, 1.15, 3)) for mean in (_GAMMA, _PRIME)]
        lines.append(",".join(repr(float(v)) for row in rows for v in row))
    (folder / "compositions.csv").write_text("\n".join(lines) + "\n")
    controls = "[" + ", ".join(f'"{arm}"' for arm in arms) + "]"
    text = TEXT.format(name=name, rounds=rounds, batch=batch, arms=controls)
    (folder / "campaign.toml").write_text(text + more)
    return folder


def found(ledger: Path) -> list[tuple[object, ...]]:
    """Everything that a run has found, in order: what two equal runs have in common."""
    with Ledger.open(ledger, create=False) as opened:
        return [
            (
                record.arm,
                record.round,
                record.candidate.id,
                record.candidate.origin.source,
                record.outcome.status,
                tuple(sorted(record.outcome.values.items())),
            )
            for record in opened.records(opened.campaign_id())
        ]


def _normalised(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return x / x.sum()
