"""Tables of measured alloys that a campaign is replayed on, and the campaign itself on them."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.assembly import open_session
from loop.candidate import Candidate, Record
from loop.descriptors import descriptors
from loop.formula import formula_amounts
from loop.session import Session
from loop.space import DesignSpace
from loop.summary import LOOP_ARM, SEED_ARM

FloatArray = NDArray[np.float64]
HEA = Path(__file__).parents[1] / "examples" / "hea"
ROOM_C = (15.0, 35.0)
TOP = 10

# The campaign of examples/hea on another table.
STRENGTH = """
[campaign]
name = "strength"

[space]
phases = ["alloy"]
elements = [{elements}]

[compositions]
file = "strength.csv"

[simulators]
use = ["measured"]

[simulators.settings.measured]
outputs = {{ yield_strength_MPa = "MPa" }}
table = "strength.csv"

[targets.yield_strength_MPa]
maximise = true
at_least = {threshold!r}

[generator]
name = "library"

[loop]
rounds = 10
batch = 8
seeds = 16
library = {rows}
pool = {rows}
guidance = [0.0]
control_arms = ["random"]
chunk = 8

[compute]
device = "cpu"
threads = 1
"""


def strength_campaign(folder: Path) -> Path:
    """Yield strengths at room temperature of the cast alloys of ``alloys.csv`` as a campaign.

    Rows of one composition that were tested at several temperatures of the range are merged.
    """
    merged: dict[str, list[float]] = defaultdict(list)
    with (HEA / "alloys.csv").open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            value, temperature = row["yield_strength_MPa"], row["test_temperature_C"]
            room = temperature and ROOM_C[0] <= float(temperature) <= ROOM_C[1]
            if value and room and row["processing"] == "CAST":
                merged[row["composition"]].append(float(value))
    amounts = {name: formula_amounts(name) for name in merged}
    found = {e for x in amounts.values() for e in x}
    elements = ["Ni", *sorted(found - {"Ni"})]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "strength.csv").open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow([*(f"alloy:{e}" for e in elements), "yield_strength_MPa"])
        for name, values in merged.items():
            x = np.array([amounts[name].get(e, 0.0) for e in elements])
            table.writerow([*map(repr, (x / x.sum()).tolist()), repr(float(np.mean(values)))])
    text = STRENGTH.format(
        elements=", ".join(f'"{e}"' for e in elements),
        threshold=sorted(float(np.mean(v)) for v in merged.values())[-TOP],
        rows=len(merged),
    )
    (folder / "campaign.toml").write_text(text, encoding="utf-8")
    return folder


@dataclass(frozen=True, eq=False)
class Table:
    """Alloys and what was measured of them, in the order of the campaign's table.

    ``x``: fractions (n, e); ``described``: descriptors (n, d); ``y``: (n,); ``top``: (n,) the ten
    largest; ``candidates``: the same as designs. The others are the campaign's.
    """

    folder: Path
    property: str
    x: FloatArray
    described: FloatArray
    y: FloatArray
    top: NDArray[np.bool_]
    candidates: tuple[Candidate, ...]
    space: DesignSpace
    batch: int
    seeds: int
    data_hash: str

    @staticmethod
    def of(folder: Path) -> Table:
        with session(folder, 0) as opened:
            compositions = opened.library.table
            assert compositions is not None
            space, library = opened.campaign.space, opened.library
            candidates = tuple(
                Candidate(phases=space.phases, elements=space.elements, phase_compositions=x)
                for x in compositions
            )
            (name,) = opened.properties
            (laboratory,) = opened.simulators
            y = np.array([o.values[name] for o in laboratory.evaluate(candidates)])
            settings = opened.campaign.loop
        x = compositions[:, 0]
        top = np.zeros(len(y), dtype=bool)
        top[np.argsort(-y, kind="stable")[:TOP]] = True
        return Table(
            folder,
            name,
            x,
            descriptors(x, space.elements, missing="leave_out"),
            y,
            top,
            candidates,
            space,
            settings.batch,
            settings.seeds,
            library.data_hash,
        )

    def rows(self, records: list[Record]) -> list[int]:
        """The rows that records are of."""
        number = {c.id: i for i, c in enumerate(self.candidates)}
        return [number[r.candidate.id] for r in records]


@contextmanager
def session(folder: Path, seed: int, targets: Mapping[str, Any] | None = None) -> Iterator[Session]:
    """The campaign with another seed, without control arms, its ledger thrown away afterwards.

    ``targets``: tables that replace those of the file.
    """
    overrides: dict[str, Mapping[str, Any]] = {
        "campaign": {"seed": seed},
        "loop": {"control_arms": []},
        "targets": targets or {},
    }
    with TemporaryDirectory() as place:
        opened = open_session(folder, Path(place) / "ledger.db", overrides=overrides)
        try:
            yield opened
        finally:
            opened.ledger.close()


def seed_rows(table: Table, seed: int) -> list[int]:
    """The rows that the campaign of this seed measures before its first round."""
    with session(table.folder, seed) as opened:
        opened.prepare()
        opened.run_stage(SEED_ARM, 0)
        return table.rows(opened.ledger.records(opened.campaign_id, arms=[SEED_ARM]))


def campaign_rows(
    table: Table, seed: int, rounds: int, targets: Mapping[str, Any] | None = None
) -> list[int]:
    """The rows that the program measures, seeds first, until the top ten are known.

    A whole campaign, ledger and all, by ``Session``: what ``spinodal run --plain`` plays.
    """
    with session(table.folder, seed, targets) as opened:
        opened.prepare()
        opened.run_stage(SEED_ARM, 0)
        measured = table.rows(opened.ledger.records(opened.campaign_id, arms=[SEED_ARM]))
        for index in range(1, rounds + 1):
            if table.top[measured].sum() == TOP:
                break
            opened.run_stage(LOOP_ARM, index)
            records = opened.ledger.records(
                opened.campaign_id, arms=[LOOP_ARM], rounds=range(index, index + 1)
            )
            measured += table.rows(records)
    return measured
