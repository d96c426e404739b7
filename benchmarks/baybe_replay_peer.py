"""BayBE on a table of alloys, behind a pipe, run by an interpreter of its own.

Started by ``benchmarks.replay``. One JSON request a line on stdin, one JSON answer a line on
stdout. {"table": [[...]], "inputs": "composition" or "descriptors"} sets the rows (n, d) among
which is chosen and is answered {}; {"rows": [...], "y": [...], "q": N, "seed": N} asks for q rows
beside those measured and is answered {"picked": [...]}, the most promising first where BayBE says
so. An error comes back as {"error": TEXT}. The first line is sent unasked and tells the versions.

Everything is as BayBE has it by default: a campaign with the two-phase recommender, which is its
Gaussian process with qLogEI once there are records; only that nothing is measured twice is set.
Compositions are numerical discrete
parameters, descriptors a custom encoding of the alloy (which leaves correlated columns out).
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from importlib.metadata import version
from typing import Any


class Table:
    """The rows to choose among as a search space of BayBE's."""

    def __init__(self, rows: list[list[float]], inputs: str) -> None:
        pandas, parameters = import_module("pandas"), import_module("baybe.parameters")
        spaces = import_module("baybe.searchspace")
        columns = [f"x{i:02d}" for i in range(len(rows[0]))]
        frame = pandas.DataFrame(rows, columns=columns)
        if inputs == "descriptors":
            frame.index = [f"alloy {i}" for i in range(len(rows))]
            one = parameters.CustomDiscreteParameter("alloy", frame)
            self.frame = pandas.DataFrame({"alloy": frame.index})
            self.space = one.to_searchspace()
        else:
            each = [
                parameters.NumericalDiscreteParameter(name, sorted(set(frame[name])))
                for name in columns
                if frame[name].nunique() > 1
            ]
            self.frame = frame[[p.name for p in each]]
            discrete = spaces.SubspaceDiscrete.from_dataframe(self.frame, each)
            self.space = spaces.SearchSpace(discrete=discrete)
        self.row_of = {tuple(values): i for i, values in enumerate(self.frame.to_numpy().tolist())}

    def pick(self, request: dict[str, Any]) -> list[int]:
        """Rows that the default recommender of a campaign with these records picks."""
        import_module("torch").manual_seed(request["seed"])
        import_module("numpy").random.seed(request["seed"])
        targets, baybe = import_module("baybe.targets"), import_module("baybe")
        campaign = baybe.Campaign(
            self.space,
            targets.NumericalTarget("y").to_objective(),
            allow_recommending_already_measured=False,
        )
        records = self.frame.iloc[request["rows"]].copy()
        records["y"] = request["y"]
        campaign.add_measurements(records)
        found = campaign.recommend(request["q"])[list(self.frame.columns)]
        return [self.row_of[tuple(values)] for values in found.to_numpy().tolist()]


def main() -> None:
    # The peer prints as it works: what it writes must not mix with the answers.
    with os.fdopen(os.dup(1), "w", buffering=1) as pipe:
        os.dup2(2, 1)
        import_module("torch").set_num_threads(1)
        packages = ("baybe", "botorch", "torch")
        print(json.dumps({name: version(name) for name in packages}), file=pipe)
        table: Table | None = None
        for line in sys.stdin:
            request = json.loads(line)
            found: dict[str, Any] = {}
            try:
                if "table" in request:
                    table = Table(request["table"], request["inputs"])
                else:
                    assert table is not None, "a table comes first"
                    found = {"picked": table.pick(request)}
            except Exception as error:  # what a peer cannot do is part of the comparison
                found = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(found), file=pipe)


if __name__ == "__main__":
    main()
