"""Batches of 8 compositions beside BoTorch's constrained optimisation and BayBE; feasible draws.

``python -m benchmarks.composition [--baybe-python FILE]`` writes ``results/composition.json``:

batches    fit and proposal together, interleaved, wall and CPU seconds; what every batch is worth
           to one referee (qLogEI by BoTorch, 2,048 samples, of BoTorch's own fitted model) and to
           the other (of our surrogate).
search     the proposal alone, all on one surrogate: value reached by us and by ``optimize_acqf``.
campaign   best value found by equal calls on a function whose optimum is known.
feasible   100,000 compositions of 30 elements with groups, the largest violation, seconds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.composition_methods import (
    OPTIMISER,
    Baybe,
    FloatArray,
    Q,
    botorch,
    botorch_model,
    landscape,
    optimised,
    ours,
    referee,
    same_surrogate,
    timed,
    whole,
)
from benchmarks.peers import quieten_peers
from benchmarks.report import write
from loop.formula import SYMBOLS
from loop.polytope import CompositionSet
from loop.sampling import sample, sobol
from loop.surrogate import Surrogate

SIZES = ((6, 50), (6, 200), (6, 500), (20, 50), (20, 200), (20, 500))
OURS_ONLY = ((30, 500),)
GROUPS = ("Ni + Co + Fe >= 0.5", "Al + Ti <= 0.2", "Cr:Cu = 2:1", "0.01 <= Mn <= 0.1")
CROSSING = ("Ni + Co >= 0.5", "Co + 2 Al >= 0.3", "Cr:Fe = 1:1", "Ni - Ti >= 0.2")


def arms(baybe: Baybe | None, peers: bool) -> dict[str, Callable[..., dict[str, Any]]]:
    """Name -> what gives compositions and seconds for records and a seed."""
    found: dict[str, Callable[..., dict[str, Any]]] = {
        "ours": lambda x, y, seed: timed(partial(ours, x, y, seed))
    }
    if peers:
        found["botorch"] = lambda x, y, seed: timed(partial(botorch, x, y, seed))
        if baybe is not None:
            found["baybe"] = baybe.batch
    return found


def compare_batches(
    e: int, n: int, seeds: Sequence[int], baybe: Baybe | None, *, peers: bool
) -> dict[str, Any]:
    """Median seconds, values by both referees, ratios; arms take turns."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for seed in seeds:
        space = whole(e)
        x = sample(space, n, np.random.default_rng(seed))
        value, _ = landscape(e, seed)
        y = value(x)
        surrogate = Surrogate(("y",)).fit(x, y, rng=np.random.default_rng(seed))
        referees = {
            "value_our_surrogate": referee(*same_surrogate(surrogate, x, y)),
            "value_botorch_model": referee(botorch_model(x, y), float(y.max())),
        }
        for name, run in arms(baybe, peers).items():
            row = run(x, y, seed)
            batch = row.pop("compositions", None)
            if batch is not None:
                batch = np.array(batch)
                row |= {key: judge(batch) for key, judge in referees.items()}
                row["largest_violation"] = violation(batch, space)
                row["best_of_batch"] = float(value(batch).max())
            rows.setdefault(name, []).append(row)
    return summary(rows) | {"parts": e, "records": n, "q": Q, "seeds": list(seeds)}


def summary(rows: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians over seeds of each arm, and how many times longer than ours each takes."""
    table: dict[str, Any] = {}
    for name, many in rows.items():
        done = [row for row in many if "error" not in row]
        table[name] = {
            key: float(np.max(values) if key == "largest_violation" else np.median(values))
            for key in (done[0] if done else {})
            for values in [[row[key] for row in done]]
        }
        errors = sorted({row["error"] for row in many if "error" in row})
        if errors:
            table[name] |= {"errors": errors, "failed": len(many) - len(done)}
    for name, row in table.items():
        if name != "ours" and "wall_s" in row:
            row["wall_over_ours"] = row["wall_s"] / table["ours"]["wall_s"]
            row["cpu_over_ours"] = row["cpu_s"] / table["ours"]["cpu_s"]
    return {"arms": table}


def compare_search(e: int, n: int, seeds: Sequence[int]) -> dict[str, Any]:
    """On one surrogate, ours: joint qLogEI reached by each, and seconds without the fit."""
    rows: list[dict[str, float]] = []
    for seed in seeds:
        x = sample(whole(e), n, np.random.default_rng(seed))
        y = landscape(e, seed)[0](x)
        surrogate = Surrogate(("y",)).fit(x, y, rng=np.random.default_rng(seed))
        model, best = same_surrogate(surrogate, x, y)
        judge = referee(model, best)
        own = timed(partial(ours, x, y, seed, surrogate))
        its = timed(partial(optimised, model, best, e, seed))
        rows.append(
            {
                "ours": judge(own["compositions"]),
                "optimize_acqf": judge(its["compositions"]),
                "ours_wall_s": own["wall_s"],
                "ours_cpu_s": own["cpu_s"],
                "optimize_acqf_wall_s": its["wall_s"],
                "optimize_acqf_cpu_s": its["cpu_s"],
            }
        )
    return {"parts": e, "records": n, "seeds": list(seeds), "rows": rows}


def compare_campaigns(e: int, seeds: Sequence[int], rounds: int, *, peers: bool) -> dict[str, Any]:
    """Distance of the best value to the known optimum, after every round of 8 calls."""
    table: dict[str, list[list[float]]] = {}
    for seed in seeds:
        space = whole(e)
        value, _ = landscape(e, seed)
        runs: dict[str, Callable[..., FloatArray]] = {
            "random": lambda x, _, s: sample(whole(x.shape[1]), Q, np.random.default_rng(s)),
            "ours": ours,
        }
        if peers:
            runs["botorch"] = botorch
        for name, propose in runs.items():
            x = sobol(space, 5 * Q, seed=seed)
            y = value(x)
            path = [float(-y.max())]
            for turn in range(rounds):
                x = np.concatenate([x, propose(x, y, 1000 * seed + turn)])
                y = value(x)
                path.append(float(-y.max()))
            table.setdefault(name, []).append(path)
    medians = {name: np.median(paths, axis=0).tolist() for name, paths in table.items()}
    return {
        "parts": e,
        "first_records": 5 * Q,
        "seeds": list(seeds),
        "median_regret_per_round": medians,
        "regret_after_the_last": {name: [p[-1] for p in paths] for name, paths in table.items()},
    }


def violation(x: FloatArray, space: CompositionSet) -> float:
    """The largest amount by which a constraint is broken."""
    values = x @ space.rows.matrix.T
    return float(
        max(
            (space.low - x).max(),
            (x - space.high).max(),
            np.abs(x.sum(1) - 1.0).max(),
            np.max(space.rows.low - values, initial=0.0),
            np.max(values - space.rows.high, initial=0.0),
            0.0,
        )
    )


def feasible_draws(n: int) -> list[dict[str, Any]]:
    """n compositions of 30 elements in four sets, a quarter each."""
    rows = []
    rng = np.random.default_rng(5)
    for name, constraints in (
        ("groups", GROUPS),
        ("groups, at most 6", (*GROUPS, "at most 6 elements")),
        ("crossing groups", CROSSING),
        ("crossing groups, at most 6", (*CROSSING, "at most 6 elements")),
    ):
        space = CompositionSet.of(SYMBOLS[2:32], constraints)
        row = timed(partial(sample, space, n // 4, rng))
        x = row.pop("compositions")
        rows.append(
            {
                "set": name,
                "constraints": list(constraints),
                "compositions": len(x),
                "feasible_within_1e-9": int(space.is_feasible(x, tolerance=1e-9).sum()),
                "largest_violation": violation(x, space),
                **row,
            }
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--baybe-python", type=Path, help="interpreter that has baybe")
    parser.add_argument("--seeds", type=int, default=3, help="of every comparison of batches")
    parser.add_argument("--search-seeds", type=int, default=5)
    parser.add_argument("--campaign-seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="20 parts and 500 records only")
    given = parser.parse_args(arguments)
    quieten_peers()
    baybe = Baybe(given.baybe_python) if given.baybe_python else None
    sizes = SIZES[-1:] if given.quick else SIZES
    compare_batches(6, 50, [0], None, peers=False)  # imports and tables are made once
    result: dict[str, Any] = {"optimiser_of_botorch": OPTIMISER, "batches": [], "search": []}
    seeds = range(given.seeds)
    for e, n in (*sizes, *OURS_ONLY):
        alone = (e, n) in OURS_ONLY
        result["batches"].append(compare_batches(e, n, seeds, baybe, peers=not alone))
        print(json.dumps(result["batches"][-1]), flush=True)
    for e, n in ((20, 500),) if given.quick else ((6, 200), (20, 500)):
        result["search"].append(compare_search(e, n, range(given.search_seeds)))
        print(json.dumps(result["search"][-1]), flush=True)
    result["campaign"] = compare_campaigns(
        20, range(given.campaign_seeds), given.rounds, peers=not given.quick
    )
    result["feasible"] = feasible_draws(4_000 if given.quick else 100_000)
    result["peer_versions"] = baybe.versions if baybe else {}
    if baybe is not None:
        baybe.close()
    print(write("composition", result))


if __name__ == "__main__":
    main()
