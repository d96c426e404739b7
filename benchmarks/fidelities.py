"""What cheap values are worth beside few measured ones: one model of both, against either.

    python -m benchmarks.fidelities [--seeds 10] [--measured 12] [--simulated 80]

Functions with known truth, each simulated by a cheaper version of itself and measured with a known
uncertainty (5 % of the truth's standard deviation) at a few designs that have been simulated too:

    branin     2 inputs; the simulator bends the valley (botorch AugmentedBranin, fidelity 0)
    hartmann   6 inputs; the simulator is almost right (AugmentedHartmann, fidelity 0)
    borehole   8 inputs; discrete levels, of them the truth and low fidelity 2
               (BoreholeMultiFidelity; Chen et al. 2024)
    currin     2 inputs; a moving average of the truth (Xiong, Qian & Wu 2013)
    biased     4 inputs; scale 0.6, a bias with the design and a constant, all unknown, and noise
    unrelated  4 inputs; a simulator that says nothing of the truth

Errors are in standard deviations of the truth; log likelihoods are of new measurements with the
known uncertainty, a design, in these units. Models:

    joint             loop.multi_fidelity, as the loop's surrogate uses it
    measured          property_models.GaussianProcess on the measured values alone
    pooled            the same on all values as if they were alike
    linear truncated  botorch SingleTaskMultiFidelityGP
    coregionalised    botorch MultiTaskGP, default priors
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm, qmc
from scipy.stats import t as student

from benchmarks.report import write
from loop.multi_fidelity import MultiFidelity
from loop.property_models import GaussianProcess

FloatArray = NDArray[np.float64]
Function = Callable[[FloatArray], FloatArray]
TEST = 500
PEER_STEPS = 60  # of L-BFGS at most, as many as the joint model takes
UNCERTAINTY = 0.05  # of a measurement, in standard deviations of the truth


@dataclass(frozen=True)
class Problem:
    """Truth and simulator on the unit cube of ``dimension`` inputs, (n, d) -> (n,)."""

    dimension: int
    truth: Function
    simulator: Function


def _botorch(name: str, true: float, cheap: float) -> Problem:
    from botorch.test_functions import multi_fidelity

    function = getattr(multi_fidelity, name)()
    low, high = function.bounds.double().numpy()
    d = function.dim - 1

    def at(level: float) -> Function:
        def values(u: FloatArray) -> FloatArray:
            x = low[:d] + u * (high[:d] - low[:d])
            full = np.column_stack([x, np.full(len(x), level)])
            found: FloatArray = function(torch.from_numpy(full)).double().numpy()
            return found

        return values

    return Problem(d, at(true), at(cheap))


def _currin(u: FloatArray) -> FloatArray:
    x, y = u[:, 0], np.maximum(u[:, 1], 1e-9)
    top = 2300 * x**3 + 1900 * x**2 + 2092 * x + 60
    found: FloatArray = (1 - np.exp(-0.5 / y)) * top / (100 * x**3 + 500 * x**2 + 4 * x + 20)
    return found


def _currin_cheap(u: FloatArray) -> FloatArray:
    """Mean over four neighbours at 0.05 (S. Xiong, P. Qian, J. Wu, Technometrics 55, 37, 2013)."""
    total = np.zeros(len(u))
    for dx, dy in ((0.05, 0.05), (0.05, -0.05), (-0.05, 0.05), (-0.05, -0.05)):
        total += _currin(np.column_stack([u[:, 0] + dx, np.maximum(u[:, 1] + dy, 0.0)]))
    return total / 4


def _alloy(u: FloatArray) -> FloatArray:
    found: FloatArray = np.sin(5 * u[:, 0]) + 2 * u[:, 1] * u[:, 2] - (u[:, 3] - 0.4) ** 2 + u[:, 1]
    return found


def _alloy_biased(u: FloatArray) -> FloatArray:
    noise = np.random.default_rng(zlib.crc32(u.tobytes())).normal(size=len(u))
    found: FloatArray = 0.6 * _alloy(u) + 0.8 * u[:, 0] - 0.5 * u[:, 3] + 1.5 + 0.02 * noise
    return found


def _other(u: FloatArray) -> FloatArray:
    found: FloatArray = np.cos(7 * u[:, 3]) + u[:, 2] ** 2 - 2 * u[:, 0] * u[:, 3]
    return found


def problems() -> dict[str, Problem]:
    """By name, see the module's text."""
    return {
        "branin": _botorch("AugmentedBranin", 1.0, 0.0),
        "hartmann": _botorch("AugmentedHartmann", 1.0, 0.0),
        "borehole": _botorch("BoreholeMultiFidelity", 0, 2),
        "currin": Problem(2, _currin, _currin_cheap),
        "biased": Problem(4, _alloy, _alloy_biased),
        "unrelated": Problem(4, _alloy, _other),
    }


@dataclass(frozen=True)
class Data:
    """What a model learns from and is judged by, in standard deviations of the truth.

    ``x``: (n, d), measured designs last; ``noise`` (n,); ``fidelity`` of each row.
    """

    x: FloatArray
    y: FloatArray
    noise: FloatArray
    fidelity: tuple[str, ...]
    test: FloatArray
    found: FloatArray  # (m,) new measurements at ``test``
    truth: FloatArray

    @property
    def top(self) -> NDArray[np.bool_]:
        return np.array([kind == "measured" for kind in self.fidelity])


def draw(problem: Problem, simulated: int, measured: int, seed: int) -> Data:
    """Sobol designs, the first of them measured too; test designs of their own."""
    d = problem.dimension
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # not a power of two
        designs = qmc.Sobol(d, rng=np.random.default_rng([seed, 1])).random(simulated)
    rng = np.random.default_rng([seed, 2])
    test = rng.uniform(size=(TEST, d))
    reference = problem.truth(np.random.default_rng(0).uniform(size=(4000, d)))
    center, spread = float(reference.mean()), float(reference.std())
    chosen = designs[:measured]
    truth = (problem.truth(test) - center) / spread
    values = (problem.truth(chosen) - center) / spread
    return Data(
        x=np.vstack([designs, chosen]),
        y=np.concatenate(
            [
                (problem.simulator(designs) - center) / spread,
                values + UNCERTAINTY * rng.normal(size=measured),
            ]
        ),
        noise=np.concatenate([np.zeros(simulated), np.full(measured, UNCERTAINTY)]),
        fidelity=("simulated",) * simulated + ("measured",) * measured,
        test=test,
        found=truth + UNCERTAINTY * rng.normal(size=TEST),
        truth=truth,
    )


Moments = tuple[FloatArray, FloatArray]  # mean and standard deviation at the test designs


def joint(data: Data, seed: int) -> Moments:
    rng = np.random.default_rng([seed, 3])
    model = MultiFidelity().fit(data.x, data.y, data.fidelity, noise=data.noise, rng=rng)
    p = model.predict(data.test, "measured")
    return p.mean, p.std


def measured(data: Data, seed: int) -> Moments:
    rows = data.top
    return _plain(data.x[rows], data.y[rows], data.noise[rows], data.test, seed)


def pooled(data: Data, seed: int) -> Moments:
    return _plain(data.x, data.y, data.noise, data.test, seed)


def _plain(x: FloatArray, y: FloatArray, noise: FloatArray, test: FloatArray, seed: int) -> Moments:
    rng = np.random.default_rng([seed, 3])
    p = GaussianProcess().fit(x, y, rng=rng, noise=noise).predict(test)
    return p.mean, p.std


def linear_truncated(data: Data, _seed: int) -> Moments:
    from botorch.models import SingleTaskMultiFidelityGP
    from botorch.models.transforms import Standardize

    level = data.top.astype(np.float64)
    x = torch.from_numpy(np.column_stack([data.x, level]))
    model = SingleTaskMultiFidelityGP(
        x,
        torch.from_numpy(data.y)[:, None],
        data_fidelities=[x.shape[1] - 1],
        outcome_transform=Standardize(1),
    )
    return _fitted(model, np.column_stack([data.test, np.ones(len(data.test))]))


def coregionalised(data: Data, _seed: int) -> Moments:
    from botorch.models import MultiTaskGP

    x = torch.from_numpy(np.column_stack([data.x, data.top.astype(np.float64)]))
    model = MultiTaskGP(
        x, torch.from_numpy(data.y)[:, None], task_feature=x.shape[1] - 1, output_tasks=[1]
    )
    return _fitted(model, np.column_stack([data.test, np.ones(len(data.test))]))


def _fitted(model: Any, test: FloatArray) -> Moments:
    """Fitted by the library's own routine; the posterior of the function itself, noise aside."""
    from botorch.fit import fit_gpytorch_mll
    from gpytorch.mlls import ExactMarginalLogLikelihood

    torch.manual_seed(0)
    mll = ExactMarginalLogLikelihood(model.likelihood, model)
    fit_gpytorch_mll(mll, optimizer_kwargs={"options": {"maxiter": PEER_STEPS}})
    with torch.no_grad():
        found = model.posterior(torch.from_numpy(test))
        mean, variance = found.mean[:, 0].numpy(), found.variance[:, 0].numpy()
    return mean, np.sqrt(np.maximum(variance, 1e-12))


MODELS: Mapping[str, Callable[[Data, int], Moments]] = {
    "joint": joint,
    "measured": measured,
    "pooled": pooled,
    "linear truncated": linear_truncated,
    "coregionalised": coregionalised,
}


def judged(data: Data, moments: Moments) -> dict[str, float]:
    """RMSE against the truth; mean log likelihood of new measurements; share within 90 %."""
    mean, std = moments
    total = np.hypot(std, UNCERTAINTY)
    z = np.abs(data.found - mean) / total
    return {
        "rmse": float(np.sqrt(np.mean((mean - data.truth) ** 2))),
        "log_likelihood": float(np.mean(norm.logpdf(data.found, mean, total))),
        "coverage_90": float((z <= norm.ppf(0.95)).mean()),
    }


def interval(values: FloatArray) -> dict[str, float]:
    """Mean over seeds with its 95 % interval (Student's t)."""
    n = len(values)
    half = float(student.ppf(0.975, n - 1)) * float(values.std(ddof=1)) / math.sqrt(n)
    mean = float(values.mean())
    return {"mean": mean, "low": mean - half, "high": mean + half}


def study(
    problem: Problem, names: tuple[str, ...], seeds: int, simulated: int, few: int
) -> dict[str, Any]:
    """Figures of each model, and of the joint model less each other one on the same seeds."""
    table: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for seed in range(seeds):
        data = draw(problem, simulated, few, seed)
        for name in names:
            started = time.process_time()
            figures = judged(data, MODELS[name](data, seed))
            table[name].append(figures | {"cpu_s": time.process_time() - started})
    found: dict[str, Any] = {}
    for name, rows in table.items():
        columns = {key: np.array([row[key] for row in rows]) for key in rows[0]}
        found[name] = {key: interval(values) for key, values in columns.items()}
        if name != "joint" and "joint" in table:
            for key in ("rmse", "log_likelihood"):
                less = np.array([row[key] for row in table["joint"]]) - columns[key]
                found[name][f"joint_less_this_{key}"] = interval(less)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--measured", type=int, default=12)
    parser.add_argument("--simulated", type=int, default=80)
    parser.add_argument("--problems", nargs="+", choices=list(problems()), default=list(problems()))
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--dry", action="store_true", help="print only")
    given = parser.parse_args()
    torch.set_num_threads(1)
    known = problems()
    result: dict[str, Any] = {
        "seeds": given.seeds,
        "measured": given.measured,
        "simulated": given.simulated,
        "uncertainty": UNCERTAINTY,
        "problems": {},
    }
    for name in given.problems:
        found = study(
            known[name], tuple(given.models), given.seeds, given.simulated, given.measured
        )
        result["problems"][name] = found
        for model, f in found.items():
            print(
                f"{name}, {model}: RMSE {_shown(f['rmse'])}, log likelihood "
                f"{_shown(f['log_likelihood'])}, coverage {f['coverage_90']['mean']:.2f}, "
                f"{f['cpu_s']['mean']:.1f} s",
                flush=True,
            )
    if not given.dry:
        print(write("fidelities", result, ("gpytorch",)))


def _shown(figure: Mapping[str, float]) -> str:
    return f"{figure['mean']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


if __name__ == "__main__":
    main()
