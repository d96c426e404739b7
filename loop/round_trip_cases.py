"""Sparse compositions of up to 30 elements there and back, for ``spinodal verify composition``:
through text, log ratios, the ledger's database and a parquet file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from loop.candidate import Candidate, Origin
from loop.composition import FloatArray, decode, encode, present_ilr, present_ilr_inverse
from loop.formula import SYMBOLS, canonical_text, read_composition
from loop.ledger import Ledger
from loop.verification import Case, absolute_case

ROOM = "composition"
ELEMENTS = SYMBOLS[2:32]
ALLOWED = 1e-12
PHASE = "alloy"


def sparse_compositions(n: int, rng: np.random.Generator) -> FloatArray:
    """(n, 30): 1 to 30 elements present, amounts down to about 1e-9, the others exactly 0."""
    x = np.zeros((n, len(ELEMENTS)))
    for row in x:
        present = rng.permutation(len(ELEMENTS))[: rng.integers(1, len(ELEMENTS) + 1)]
        row[present] = 10.0 ** rng.uniform(-9.0, 0.0, len(present))
    closed: FloatArray = x / x.sum(axis=1, keepdims=True)
    return closed


def through_text(x: FloatArray, *, by_weight: bool = False) -> FloatArray:
    """``canonical_text`` and ``read_composition`` of every row (n, 30)."""
    texts = [canonical_text(row, ELEMENTS, by_weight=by_weight) for row in x]
    return np.array([read_composition(text, ELEMENTS) for text in texts])


def planned(ledger: Ledger, x: FloatArray, round_: int = 1) -> list[str]:
    """Ids of the rows (n, 30), planned as designs of one phase: campaign ``verify``, arm loop."""
    designs = [
        Candidate((PHASE,), ELEMENTS, phase_compositions=row[None], origin=Origin("verify"))
        for row in x
    ]
    number = ledger.ensure_campaign(
        "verify", seed=0, settings={}, settings_hash="", data_hash="", versions={}
    )
    with ledger.claim(number):
        ledger.plan_batch(number, "loop", round_, designs)
    return [design.id for design in designs]


def from_database(ledger: Ledger, round_: int = 1) -> FloatArray:
    """The compositions (n, 30) of that round's designs."""
    found = ledger.planned(ledger.campaign_id("verify"), "loop", round_)
    return np.concatenate([x for x in (c.phase_compositions for c in found) if x is not None])


def from_parquet(ledger: Ledger, path: Path, ids: Sequence[str]) -> FloatArray:
    """The same from the table of evaluations, written to the parquet file ``path`` and read."""
    import pandas as pd

    ledger.evaluations(ledger.campaign_id("verify")).to_parquet(path, index=False)
    table = pd.read_parquet(path).drop_duplicates("id").set_index("id").loc[list(ids)]
    found: FloatArray = table[[f"{PHASE}.{e}" for e in ELEMENTS]].to_numpy(np.float64)
    return found


ROUTES: dict[str, Callable[[FloatArray], FloatArray]] = {
    "text": through_text,
    "text by weight": lambda x: through_text(x, by_weight=True),
    "log ratios of present elements": lambda x: present_ilr_inverse(present_ilr(x)),
    "log ratios with marked zeros": lambda x: decode(encode(x)),
}


def cases() -> list[Case]:
    """The largest error of each route; infinite where a zero came back as something else."""
    x = sparse_compositions(40, np.random.default_rng(30))
    back = {name: route(x) for name, route in ROUTES.items()}
    with (
        tempfile.TemporaryDirectory(prefix="spinodal-") as folder,
        Ledger.open(Path(folder) / "ledger.db") as ledger,
    ):
        ids = planned(ledger, x)
        back["the database"] = from_database(ledger)
        back["parquet"] = from_parquet(ledger, Path(folder) / "evaluations.parquet", ids)
    return [
        absolute_case(
            ROOM, f"30 elements through {name}", 0.0, error_of(found, x), ALLOWED, "round trip"
        )
        for name, found in back.items()
    ]


def error_of(found: FloatArray, x: FloatArray) -> float:
    """The largest difference; infinite unless exactly the same elements are exactly 0."""
    if not np.array_equal(found == 0.0, x == 0.0):
        return float("inf")
    return float(np.abs(found - x).max())
