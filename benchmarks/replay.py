"""Calls until the ten best alloys of a table are found: the loop beside random, genetic and peers.

    python -m benchmarks.replay [--seeds 10] [--only METHOD ...] [--baybe-python FILE]

The campaign of ``examples/hea`` played back: 257 cast alloys whose hardness is measured (or 267
yield strengths: ``--tables strength``). All methods begin with the same 16 alloys of a seed and
measure 8 a round until the ten best are found, or ``--calls`` after the first 16 are spent; random
goes on to the end of the table. Calls count from the first alloy of the first 16, in the order in
which a method names them within its batch.

loop                    the program as it is: ``Session`` on the campaign file, which names the
                        threshold of the ten best
loop-maximise           without the threshold, which the others are not told either
random, genetic         rows at random; the program's genetic algorithm, children to nearest rows
botorch, baybe          fractions as inputs
botorch-descriptors, baybe-descriptors     the descriptors of ``loop.descriptors`` as inputs

A run that ended before its tenth alloy is cut off: in medians it counts as later than all others
(null where that decides them), in factors as finding what it lacks last in the whole table, so that
the factor is a lower bound. Every run is kept in ``--folder``; a benchmark that was stopped goes on
there. Remove the folder when the program has changed.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.replay_methods import BayBE, BoTorch, Evolution, Method, Random
from benchmarks.replay_tables import (
    HEA,
    TOP,
    Table,
    campaign_rows,
    seed_rows,
    strength_campaign,
)
from benchmarks.report import write
from loop.metrics import acceleration_factor, enhancement_factor, hits_curve
from loop.quality import interval

LEVELS = (5, 8, 10)
BUDGETS = (48, 80, 112)  # calls at which the enhancement factor is taken
METHODS = (
    *("loop", "loop-maximise", "random", "genetic"),
    *("botorch", "botorch-descriptors", "baybe", "baybe-descriptors"),
)
DRAWS = 2000

Row = dict[str, Any]


class Runs:
    """Runs of all methods on one table, each kept in a file of its own as soon as it is done."""

    def __init__(self, table: Table, calls: int, folder: Path, python: Path | None) -> None:
        self.table, self.calls, self.folder, self.python = table, calls, folder, python
        self._made: dict[str, Method] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, name: str, seed: int) -> Row:
        """One run: ``rows`` in the order of their measurement, the first ones included.

        ``found``: how many of the ten best are among them after the first ones and every batch.
        """
        path = self.folder / f"{name}-{seed}.json"
        if path.exists():
            kept: Row = json.loads(path.read_text())
            if (kept["calls"], kept["data_hash"]) == (self.calls, self.table.data_hash):
                return kept
        if name not in ("loop", "loop-maximise"):
            self._method(name)  # a peer's start is no part of its first run
        begun, busy = time.perf_counter(), time.process_time() + self._peer_cpu(name)
        rows = self._rows(name, seed)
        table = self.table
        ends = [min(end, len(rows)) for end in self._ends(len(rows))]
        row = {
            "calls": self.calls,
            "data_hash": table.data_hash,
            "wall_s": round(time.perf_counter() - begun, 1),
            "cpu_s": round(time.process_time() + self._peer_cpu(name) - busy, 2),
            "rows": rows,
            "found": [int(table.top[rows[:end]].sum()) for end in ends],
            "best": [float(table.y[rows[:end]].max()) for end in ends],
        }
        made = self._made.get(name)
        if isinstance(made, BayBE):
            row["peer_versions"] = made.versions
        beside = path.with_suffix(".part")
        beside.write_text(json.dumps(row))
        beside.rename(path)
        return row

    def _ends(self, n: int) -> range:
        """Measurements after the first ones and after every batch, up to at least n."""
        first, batch = self.table.seeds, self.table.batch
        return range(first, n + batch, batch)

    def _rows(self, name: str, seed: int) -> list[int]:
        table = self.table
        rounds = -(-self.calls // table.batch)
        if name == "loop":
            return campaign_rows(table, seed, rounds)
        if name == "loop-maximise":
            return campaign_rows(table, seed, rounds, {table.property: {"maximise": True}})
        rows = seed_rows(table, seed)
        method = self._method(name)
        last = len(table.y) if name == "random" else len(rows) + rounds * table.batch
        while table.top[rows].sum() < TOP and len(rows) < last:
            picked = method(rows, table.batch, seed)
            if not picked or set(picked) & set(rows) or len(set(picked)) < len(picked):
                raise RuntimeError(f"{name} picked {picked}; expected rows not measured, once each")
            rows = rows + picked
        return rows

    def _method(self, name: str) -> Method:
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> Method:
        table = self.table
        kind, _, described = name.partition("-")
        inputs = table.described if described else table.x
        if kind == "random":
            return Random(table)
        if kind == "genetic":
            return Evolution(table)
        if kind == "botorch":
            return BoTorch(table, inputs)
        assert self.python is not None
        return BayBE(self.python, table, inputs, described or "composition")

    def _peer_cpu(self, name: str) -> float:
        made = self._made.get(name)
        return made.cpu_s() if isinstance(made, BayBE) else 0.0

    def close(self) -> None:
        """End the peers' processes."""
        for method in self._made.values():
            if isinstance(method, BayBE):
                method.close()
        self._made.clear()


# Figures


def hits_in_order(table: Table, rows: Sequence[int]) -> NDArray[np.bool_]:
    """(n,) whether each call found one of the ten best; rows never measured come last, hits last.

    What was cut off is so given the most calls that it can have needed.
    """
    measured = table.top[list(rows)]
    missing = int(table.top.sum() - measured.sum())
    rest = np.zeros(len(table.y) - len(rows), dtype=bool)
    rest[len(rest) - missing :] = True
    return np.concatenate([measured, rest])


def calls_to(table: Table, rows: Sequence[int], level: int) -> float:
    """Calls until ``level`` of the ten best are found; infinite where the run ended before."""
    reached = np.flatnonzero(hits_curve(table.top[list(rows)].tolist()) >= level)
    return float(reached[0] + 1) if reached.size else math.inf


def area(table: Table, rows: Sequence[int], calls: int) -> float:
    """Mean over the calls after the first ones of the share of the ten best that is found."""
    curve = np.cumsum(hits_in_order(table, rows)) / TOP
    mean: float = float(curve[table.seeds : table.seeds + calls].mean())
    return mean


def figures(table: Table, runs: Mapping[int, Row], reference: Mapping[int, Row], calls: int) -> Row:
    """One method over its seeds beside the reference's runs of the same seeds."""
    seeds = sorted(runs)
    rows = [runs[s]["rows"] for s in seeds]
    hits = [hits_in_order(table, r) for r in rows]
    others = [hits_in_order(table, reference[s]["rows"]) for s in seeds]
    areas = [area(table, r, calls) for r in rows]
    ends = range(table.seeds, table.seeds + calls + 1, table.batch)
    found: Row = {
        "seeds": len(seeds),
        "cpu_s_a_seed": float(np.mean([runs[s]["cpu_s"] for s in seeds])),
        "found_after_batch_mean": [float(np.mean([h[:end].sum() for h in hits])) for end in ends],
        "area_under_found_share": {"mean": float(np.mean(areas)), "interval": _interval(areas)},
        "best_is_found_after": _median([_first(table, r) for r in rows]),
        "levels": {},
        "enhancement": {},
    }
    for level in LEVELS:
        calls_ = [calls_to(table, r, level) for r in rows]
        pairs = list(zip(hits, others, strict=True))
        factors = [acceleration_factor(a.tolist(), b.tolist(), level) for a, b in pairs]
        found["levels"][str(level)] = {
            "calls": [None if math.isinf(c) else int(c) for c in calls_],
            "cut_off": sum(map(math.isinf, calls_)),
            "median_calls": _median(calls_),
            "acceleration": {
                "median": float(np.median(factors)),
                "geometric_mean": _geometric(np.array(factors)),
                "interval_of_the_geometric_mean": _interval(factors, _geometric),
            },
        }
    for budget in BUDGETS:
        counts = np.array(
            [[a[:budget].sum(), b[:budget].sum()] for a, b in zip(hits, others, strict=True)]
        )
        found["enhancement"][str(budget)] = {
            "found_mean": float(counts[:, 0].mean()),
            "factor": _enhanced(counts),
            "interval": _interval(counts, _enhanced),
        }
    return found


def _first(table: Table, rows: Sequence[int]) -> float:
    """Calls until the best alloy of all; infinite where the run ended before."""
    place = np.flatnonzero(np.array(rows) == int(table.y.argmax()))
    return float(place[0] + 1) if place.size else math.inf


def _median(calls: Sequence[float]) -> float | None:
    middle = float(np.median(calls))
    return None if math.isinf(middle) or math.isnan(middle) else middle


def _geometric(factors: NDArray[np.float64]) -> float:
    return float(np.exp(np.log(factors).mean()))


def _enhanced(counts: NDArray[np.int64]) -> float:
    """Of all seeds together: (n, 2) found by the method and by the reference."""
    ours, theirs = counts.sum(0)
    return enhancement_factor(int(ours), int(theirs))


def _interval(
    values: Any, statistic: Callable[..., float] = lambda v: float(np.mean(v))
) -> list[float]:
    """95 % over the seeds, which are drawn anew: method and reference of a seed stay together."""
    rng = np.random.default_rng(0)
    return list(interval(statistic, np.asarray(values), rng=rng, draws=DRAWS))


def line(name: str, row: Row) -> str:
    """One row of the table in words."""
    parts = [f"{name:20s} area {row['area_under_found_share']['mean']:.3f}"]
    for level, cell in row["levels"].items():
        low, high = cell["acceleration"]["interval_of_the_geometric_mean"]
        median = cell["median_calls"]
        parts.append(
            f"{level}: {'cut off' if median is None else f'{median:g} calls'} "
            f"×{cell['acceleration']['geometric_mean']:.2f} [{low:.2f}, {high:.2f}]"
        )
    return "; ".join([*parts, f"{row['cpu_s_a_seed']:.1f} s a seed, {row['seeds']} seeds"])


def study(kind: str, given: argparse.Namespace) -> Row:
    """All runs on one table and their figures."""
    folder = given.folder / kind
    table = Table.of(HEA if kind == "hardness" else strength_campaign(folder / "campaign"))
    runs = Runs(table, given.calls, folder, given.baybe_python)
    # Random is what the others are compared with, so it comes first.
    names = [name for name in METHODS if name in given.only and name != "random"]
    if given.baybe_python is None:
        names = [name for name in names if not name.startswith("baybe")]
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    done: dict[str, dict[int, Row]] = {}
    methods: dict[str, Row] = {}
    for name in ("random", *names):
        fewer = given.baybe_seeds if name.startswith("baybe") else None
        done[name] = {seed: runs.run(name, seed) for seed in seeds[:fewer]}
        methods[name] = figures(table, done[name], done["random"], given.calls)
        runs.close()
        print(line(name, methods[name]), flush=True)
    return {
        "property": table.property,
        "alloys": len(table.y),
        "tenth_value": float(table.y[table.top].min()),
        "data_hash": table.data_hash,
        "first_alloys": table.seeds,
        "batch": table.batch,
        "calls_after_the_first": given.calls,
        "seeds": list(seeds),
        "methods": methods,
        "found_after_batch": {
            name: {str(seed): row["found"] for seed, row in rows.items()}
            for name, rows in done.items()
        },
        "peer_versions": {
            name: version
            for rows in done.values()
            for row in rows.values()
            for name, version in row.get("peer_versions", {}).items()
        },
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    tables = ("hardness", "strength")
    parser.add_argument("--tables", nargs="+", choices=tables, default=tables[:1])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--calls", type=int, default=160, help="after the first 16, at most")
    parser.add_argument("--baybe-python", type=Path, help="interpreter that has baybe")
    parser.add_argument("--baybe-seeds", type=int, help="fewer, where time is short")
    parser.add_argument("--folder", type=Path, default=Path("runs/replay"))
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    result = {kind: study(kind, given) for kind in given.tables}
    print(write("replay", result))


if __name__ == "__main__":
    main()
