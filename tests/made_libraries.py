"""A campaign without data whose library the phase field makes in seconds: silver and copper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loop.space import DesignSpace

NAME = "tiny-contact"
PHASES = ("silver_rich", "copper_rich")
PROCESS = {"temperature_K": (960.0, 1000.0), "time_s": (200.0, 300.0)}

# Ag-Cu: F. H. Hayes et al., Z. Metallkd. 77, 749 (1986); the other figures suit small images.
SETTINGS: dict[str, Any] = {
    "fields": 8,
    "spacing_m": 1.4e-8,
    "gradient_energy_J_m2_per_mol": 7e-12,
    "fluctuation": 0.05,
    "fraction_tolerance": 0.2,
    "compositions": {"Ag": (0.4, 0.6), "Cu": (0.4, 0.6)},
    "diffusion": {"Ag": (7.9e-7, 184600.0), "Cu": (2.46e-6, 193000.0)},
    "solution": {
        "source": "Hayes et al. 1986",
        "interactions": {"Ag-Cu": [[33819.1, -8.1236], [-5601.9, 1.32997]]},
    },
}
TERNARY: dict[str, Any] = SETTINGS | {
    "fields": 2,
    "designs_per_field": 4,
    "compositions": {"Ag": (0.4, 0.6), "Cu": (0.3, 0.6), "Pd": (0.0, 0.1)},
    "diffusion": SETTINGS["diffusion"] | {"Pd": (1.9e-5, 237600.0)},
    "solution": {
        "source": "for tests",
        "interactions": {
            "Ag-Cu": [[33819.1, -8.1236], [-5601.9, 1.32997]],
            "Ag-Pd": [[-18000.0, 0.0]],
            "Cu-Pd": [[-40000.0, 0.0]],
        },
    },
}
SPACE = DesignSpace(PHASES, ("Ag", "Cu"), (32, 32), process=PROCESS)
TERNARY_SPACE = DesignSpace(PHASES, ("Ag", "Cu", "Pd"), (32, 32), process=PROCESS)

TEXT = """
[campaign]
name = "tiny-contact"
seed = 3

[space]
phases = ["silver_rich", "copper_rich"]
elements = ["Ag", "Cu"]

[space.process]
temperature_K = [960.0, 1000.0]
time_s = [200.0, 300.0]

[library]
source = "heat-treatment"
patch = 32

[library.settings]
fields = {fields}
spacing_m = 1.4e-8
gradient_energy_J_m2_per_mol = 7e-12
fluctuation = 0.05
fraction_tolerance = 0.2
compositions = {{ Ag = [0.4, 0.6], Cu = [0.4, 0.6] }}
diffusion = {{ Ag = [7.9e-7, 184600.0], Cu = [2.46e-6, 193000.0] }}

[library.settings.solution]
source = "Hayes et al. 1986"
interactions = {{ Ag-Cu = [[33819.1, -8.1236], [-5601.9, 1.32997]] }}

[targets.copper_rich_fraction]
range = [0.45, 0.5]

[simulators]
use = ["composite-chain"]

[simulators.settings.composite-chain]
outputs = ["copper_rich_fraction", "thermal_conductivity_W_per_mK"]

[generator]
preset = "tiny"

[generator.settings]
first_steps = 200

[generator.settings.vae]
steps = 250

[loop]
rounds = 1
batch = 4
seeds = 16
library = 32
pool = 24
control_arms = ["random", "mutation"]

[compute]
threads = 1
"""


def write_campaign(folder: Path, *, fields: int = 8) -> Path:
    """The campaign's folder."""
    folder.mkdir(parents=True)
    (folder / "campaign.toml").write_text(TEXT.format(fields=fields))
    return folder
