"""BayBE behind a pipe, run by an interpreter of its own, so that it brings its own packages.

Started by ``benchmarks.composition``. One JSON request a line on stdin, one JSON answer a line on
stdout: {"x": [[...]], "y": [...], "q": N, "seed": N} asks for q compositions that promise more
than the records (n, e) and (n,); the seconds are those of ``recommend`` and what it needs. An
error comes back as {"error": TEXT}. The first line is sent unasked and tells the versions.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module
from importlib.metadata import version
from typing import Any


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """The q recommendations of the default Bayesian recommender on the continuous simplex."""
    import_module("torch").manual_seed(request["seed"])
    baybe = {
        name: import_module(f"baybe.{name}")
        for name in ("parameters", "constraints", "searchspace", "targets", "recommenders")
    }
    e = len(request["x"][0])
    names = [f"x{i:02d}" for i in range(e)]
    records = import_module("pandas").DataFrame(request["x"], columns=names)
    records["y"] = request["y"]
    begun, busy = time.perf_counter(), time.process_time()
    space = baybe["searchspace"].SearchSpace.from_product(
        [baybe["parameters"].NumericalContinuousParameter(n, bounds=(0, 1)) for n in names],
        [baybe["constraints"].ContinuousLinearConstraint(names, "=", [1.0] * e, 1.0)],
    )
    target = baybe["targets"].NumericalTarget("y")
    found = (
        baybe["recommenders"]
        .BotorchRecommender()
        .recommend(request["q"], space, target.to_objective(), records)
    )
    return {
        "wall_s": time.perf_counter() - begun,
        "cpu_s": time.process_time() - busy,
        "compositions": found[names].to_numpy().tolist(),
    }


def main() -> None:
    # The peer prints as it works: what it writes must not mix with the answers. It goes to stderr
    # with its warnings, which whoever started this process leaves unread.
    with os.fdopen(os.dup(1), "w", buffering=1) as pipe:
        os.dup2(2, 1)
        packages = ("baybe", "botorch", "torch")
        print(json.dumps({name: version(name) for name in packages}), file=pipe)
        for line in sys.stdin:
            try:
                found = answer(json.loads(line))
            except Exception as error:  # what a peer cannot do is part of the comparison
                found = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(found), file=pipe)


if __name__ == "__main__":
    main()
