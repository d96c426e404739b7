"""What picks the next alloys of a table: random, genetic, BoTorch and BayBE as they come."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.peers import PeerProcess, quieten_peers
from benchmarks.replay_tables import Table
from generators.genetic import Genetic
from loop.candidate import Outcome, Record
from loop.library import Library
from loop.targets import Maximise, Targets

FloatArray = NDArray[np.float64]


class Method(Protocol):
    """The next rows of a table, from the rows that are measured; most promising first."""

    def __call__(self, measured: Sequence[int], q: int, seed: int) -> list[int]: ...


def left(table: Table, measured: Sequence[int]) -> NDArray[np.int64]:
    """Rows that are not measured."""
    return np.setdiff1d(np.arange(len(table.y)), measured)


class Random:
    """Any rows."""

    def __init__(self, table: Table) -> None:
        self.table = table

    def __call__(self, measured: Sequence[int], q: int, seed: int) -> list[int]:
        rows = np.random.default_rng([seed, len(measured)]).permutation(left(self.table, measured))
        return [int(i) for i in rows[:q]]


class Evolution:
    """The program's genetic algorithm; each child becomes the nearest row that is left."""

    def __init__(self, table: Table) -> None:
        library = Library(
            table.space, None, table.x[:, None], augment=False, outside=0, data_hash=table.data_hash
        )
        self.table = table
        self.genetic = Genetic(table.space, library, Targets((Maximise(table.property),)))

    def __call__(self, measured: Sequence[int], q: int, seed: int) -> list[int]:
        table = self.table
        records = [
            Record(
                table.candidates[i], Outcome("ok", {table.property: table.y[i]}), "table", "1", 0
            )
            for i in measured
        ]
        rng = np.random.default_rng([seed, len(measured)])
        open_ = left(table, measured).tolist()
        picked: list[int] = []
        for child in self.genetic.fit(records, rng=rng).propose(q, rng=rng):
            if open_:
                apart = np.linalg.norm(table.x[open_] - child.composition(), axis=1)
                picked.append(open_.pop(int(apart.argmin())))
        return picked


class BoTorch:
    """SingleTaskGP and qLogEI over the rows that are left, one pick after the other.

    As its documentation has it: inputs to the unit cube of the table, standardised outputs,
    hyperparameters by ``fit_gpytorch_mll``, ``optimize_acqf_discrete``. ``steps``: of L-BFGS-B at
    most; without a limit one fit took some 800 evaluations. Whether picks differ was not tried.
    """

    def __init__(self, table: Table, inputs: FloatArray, steps: int = 200) -> None:
        self.table, self.steps = table, steps
        self.x = torch.from_numpy(inputs[:, inputs.std(0) > 0])

    def __call__(self, measured: Sequence[int], q: int, seed: int) -> list[int]:
        from botorch.acquisition.logei import qLogExpectedImprovement
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import SingleTaskGP
        from botorch.models.transforms import Normalize, Standardize
        from botorch.optim import optimize_acqf_discrete
        from botorch.sampling import SobolQMCNormalSampler
        from gpytorch.mlls import ExactMarginalLogLikelihood

        x, d = self.x, self.x.shape[1]
        y = torch.from_numpy(self.table.y[list(measured)])[:, None]
        torch.manual_seed(seed)
        bounds = torch.stack([x.amin(0), x.amax(0)])
        with warnings.catch_warnings():
            quieten_peers()
            model = SingleTaskGP(
                x[list(measured)],
                y,
                input_transform=Normalize(d, bounds=bounds),
                outcome_transform=Standardize(1),
            )
            fit_gpytorch_mll(
                ExactMarginalLogLikelihood(model.likelihood, model),
                optimizer_kwargs={"options": {"maxiter": self.steps}},
            )
            sampler = SobolQMCNormalSampler(torch.Size([512]), seed=seed)
            acquisition = qLogExpectedImprovement(model, y.max(), sampler=sampler)
            open_ = left(self.table, measured)
            choices = x[torch.from_numpy(open_)]
            found, _ = optimize_acqf_discrete(acquisition, min(q, len(open_)), choices)
        picked: list[int] = []
        for row in found:  # rows may have equal inputs: each is taken once
            same = np.flatnonzero((choices == row).all(1).numpy())
            picked.append(next(int(open_[i]) for i in same if int(open_[i]) not in picked))
        return picked


class BayBE(PeerProcess):
    """The peer process of ``baybe_replay_peer`` on a table."""

    def __init__(self, python: Path, table: Table, inputs: FloatArray, kind: str) -> None:
        """``kind``: of the inputs, "composition" or "descriptors"."""
        super().__init__(python, "baybe_replay_peer.py")
        self.table = table
        self._answer({"table": inputs.tolist(), "inputs": kind})

    def __call__(self, measured: Sequence[int], q: int, seed: int) -> list[int]:
        rows = [int(i) for i in measured]
        values = self.table.y[rows].tolist()
        request = {"rows": rows, "y": values, "q": q, "seed": seed}
        picked: list[int] = self._answer(request)["picked"]
        return picked

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        found = self.ask(request)
        if "error" in found:
            raise RuntimeError(f"BayBE: {found['error']}")
        return found
