"""A campaign over thirty elements with group constraints and no table of compositions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from loop.candidate import Candidate
from loop.space import DesignSpace

NAME = "thirty"
ELEMENTS = (
    "Ni", "Co", "Cr", "Fe", "Al", "Ti", "Nb", "Mo", "W", "Ta",
    "Re", "V", "Mn", "Cu", "Zr", "Hf", "Si", "Mg", "Zn", "Sn",
    "Ag", "Pd", "Pt", "Ru", "Rh", "Ir", "Au", "Y", "Sc", "La",
)  # fmt: skip
GROUPS = ("Ni + Co + Fe >= 0.4", "Cr + Al + Ti <= 0.35", "Nb:Ta = 2:1")
SPARSE = (*GROUPS[:2], "at most 6 elements")

TEXT = """
[campaign]
name = "thirty"
seed = 5

[space]
phases = ["alloy"]
elements = [{elements}]
constraints = [{constraints}]

[space.bounds.alloy]
Re = [0.0, 0.02]
Ni = [0.1, 1.0]

[compositions]
sample = "sobol"
n = 150

[targets.density_g_per_cm3]
range = [8.4, 8.5]

[simulators]
use = ["composite-chain"]

[simulators.settings.composite-chain]
outputs = ["density_g_per_cm3"]

[generator]
name = "{generator}"
preset = "tiny"

[loop]
rounds = 1
batch = 6
seeds = 40
library = 40
pool = 40
control_arms = [{arms}]

[compute]
threads = 1
"""


def write_campaign(
    folder: Path,
    *,
    constraints: tuple[str, ...] = GROUPS,
    generator: str = "genetic",
    arms: tuple[str, ...] = (),
) -> Path:
    """The campaign in a folder; returns that."""
    folder.mkdir(parents=True, exist_ok=True)

    def listed(names: tuple[str, ...]) -> str:
        return ", ".join(f'"{name}"' for name in names)

    text = TEXT.format(
        elements=listed(ELEMENTS),
        constraints=listed(constraints),
        generator=generator,
        arms=listed(arms),
    )
    (folder / "campaign.toml").write_text(text)
    return folder


def check(space: DesignSpace, designs: Sequence[Candidate]) -> None:
    """All constraints and bounds within 1e-9, absent elements exactly 0."""
    rows = [c.phase_compositions for c in designs]
    x = np.stack([row for row in rows if row is not None])
    assert x.shape == (len(designs), 1, 30)
    assert space.allowed().is_feasible(x[:, 0], tolerance=1e-9).all()
    assert x.min() >= 0
    for design in designs:
        assert space.violations(design) == []
