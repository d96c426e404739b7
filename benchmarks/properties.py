"""Property models on measured alloys: how far off, and do their intervals hold?

    python -m benchmarks.properties [--repeats 5] [--folds 8] [--properties NAME ...] [--cache DIR]

Hardness, yield strength, elongation and density at room temperature of ``examples/hea/alloys.csv``
(C. K. H. Borg et al., Sci. Data 7, 430, 2020, doi:10.1038/s41597-020-00768-9). The rows are dealt
into folds by paper, several times anew: all rows of a paper, and of papers that share a merged row
with it, are in one fold. Once by row as well, as others do: that flatters, for a paper measures
series of alloys, and a row's neighbours tell its value.

Intervals of 90 %: the model's own (mean ± 1.645 standard deviations) and CV+ (``loop.conformal``),
all papers weighing the same or all rows. Fold j is predicted by the models without j and one other
fold, whose residuals they leave; the model without j and k serves both folds, so that one deal of
F folds takes F (F + 1) / 2 models. Nothing is chosen by these figures: what weighs the same was
decided by what is exchangeable (papers), the rest is as in ``loop``.

Coverage is the share of rows inside, all rows alike or all papers alike; a row's share is its mean
over the deals. Ranges: 95 % of bootstrap samples of the papers. Features: descriptors
(``loop.descriptors``), and errors alone with atomic fractions or both; each with the processing
label and, for strength, the kinds of test as 0/1 columns.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm

from benchmarks.published_properties import PUBLISHED
from benchmarks.report import write
from loop.conformal import Held, Weigh, group_folds, linked_groups, plus_interval, row_weights
from loop.descriptors import DESCRIPTORS, descriptors
from loop.formula import formula_amounts
from loop.property_models import MODELS, create

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
TABLE = Path(__file__).parents[1] / "examples" / "hea" / "alloys.csv"
ROOM_C = (15.0, 35.0)
ALPHA = 0.1
LEVELS = np.arange(0.05, 0.96, 0.05)
PROPERTIES = (
    "hardness_HV",
    "yield_strength_MPa",
    "elongation_tension_percent",
    "elongation_compression_percent",
    "density_g_per_cm3",
)
# What is measured the same whether or not a table says that the room was warm.
ROOM_UNLESS_SAID = ("hardness_HV", "density_g_per_cm3")


@dataclass(frozen=True)
class Data:
    """Rows of one property: fractions (n, e), labels (n, l), values and noise (n,), groups."""

    elements: tuple[str, ...]
    x: FloatArray
    labels: FloatArray
    y: FloatArray
    noise: FloatArray
    groups: list[int]
    compositions: list[str]


def load(name: str, path: Path = TABLE) -> Data:
    """Rows measured at room temperature; a hardness or density without one counts as such.

    Noise: the repeats' standard deviation of the mean, 0 where there is one value.
    """
    with path.open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row[name]]
    said = name not in ROOM_UNLESS_SAID
    rows = [r for r in rows if (_room(r) if r["test_temperature_C"] else not said)]
    amounts = [formula_amounts(row["composition"]) for row in rows]
    elements = tuple(sorted({e for found in amounts for e in found}))
    x = np.array([[found.get(e, 0.0) for e in elements] for found in amounts])
    kinds = sorted({row["processing"] for row in rows})
    labels = [[float(row["processing"] == kind) for kind in kinds] for row in rows]
    if name == "yield_strength_MPa":
        tests = ("compression", "tension")
        labels = [
            [*have, *(float(t in row["tests"].split(";")) for t in tests)]
            for have, row in zip(labels, rows, strict=True)
        ]
    noise = [
        float(row[f"{name}_spread"] or 0.0) / math.sqrt(float(row[f"{name}_count"])) for row in rows
    ]
    return Data(
        elements=elements,
        x=x / x.sum(1, keepdims=True),
        labels=np.array(labels),
        y=np.array([float(row[name]) for row in rows]),
        noise=np.array(noise),
        groups=linked_groups([row["papers"].split(";") for row in rows]),
        compositions=[row["composition"] for row in rows],
    )


def _room(row: dict[str, str]) -> bool:
    return ROOM_C[0] <= float(row["test_temperature_C"]) <= ROOM_C[1]


FEATURES: dict[str, Callable[[Data], FloatArray]] = {
    "composition": lambda d: np.hstack([d.x, d.labels]),
    "descriptors": lambda d: np.hstack([_described(d), d.labels]),
    "both": lambda d: np.hstack([d.x, _described(d), d.labels]),
}


def _described(data: Data) -> FloatArray:
    return descriptors(data.x, data.elements, missing="leave_out")


@dataclass(frozen=True)
class Deal:
    """Predictions (n, F) of one deal into F folds, and the fold of every row (n,).

    Column k of a row in fold j: of the model without j and k; column j: of the model without j.
    """

    fold: NDArray[np.int64]
    mean: FloatArray
    std: FloatArray

    def own(self) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation (n,) of the models that saw all other folds."""
        rows = np.arange(len(self.fold))
        return self.mean[rows, self.fold], self.std[rows, self.fold]


def deal(
    model: str,
    data: Data,
    features: FloatArray,
    groups: Sequence[int],
    folds: int,
    seed: int,
    *,
    pairs: bool = True,
) -> Deal:
    """The models of one deal; without ``pairs`` only those that leave out one fold."""
    fold = group_folds(groups, folds, np.random.default_rng(seed))
    mean, std = np.full((2, len(fold), folds), np.nan)
    for j in range(folds):
        for k in range(j, folds if pairs else j + 1):
            seen = (fold != j) & (fold != k)
            rng = np.random.default_rng([seed, j, k])
            fitted = create(model).fit(
                features[seen], data.y[seen], rng=rng, noise=data.noise[seen]
            )
            for rows, column in {(j, k), (k, j)}:
                at = fold == rows
                found = fitted.predict(features[at])
                mean[at, column], std[at, column] = found.mean, found.std
    return Deal(fold, mean, std)


def kept(
    folder: Path | None,
    model: str,
    data: Data,
    features: FloatArray,
    groups: Sequence[int],
    folds: int,
    seed: int,
) -> Deal:
    """``deal``, or what it gave when it was last asked the same with this folder."""
    if folder is None:
        return deal(model, data, features, groups, folds, seed)
    key = hashlib.sha256(repr((model, folds, seed, list(groups))).encode())
    for array in (features, data.y, data.noise):
        key.update(np.ascontiguousarray(array).tobytes())
    path = folder / f"{model}-{key.hexdigest()[:16]}.npz"
    if path.exists():
        with np.load(path) as found:
            return Deal(found["fold"], found["mean"], found["std"])
    made = deal(model, data, features, groups, folds, seed)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(path, fold=made.fold, mean=made.mean, std=made.std)
    return made


def intervals(
    y: FloatArray, made: Deal, groups: Sequence[int], weigh: Weigh
) -> tuple[FloatArray, FloatArray]:
    """Ends (n,) of CV+: as ``Conformal`` with F - 1 folds, for each fold from all others."""
    low, high = np.empty((2, len(y)))
    folds = made.mean.shape[1]
    for j in range(folds):
        test, rest = made.fold == j, np.flatnonzero(made.fold != j)
        weights = np.zeros(len(y))
        weights[rest] = row_weights([groups[i] for i in rest.tolist()], weigh)
        held, columns = [], [k for k in range(folds) if k != j]
        for k in columns:
            at = made.fold == k
            scores = np.abs(y[at] - made.mean[at, j]) / made.std[at, j]
            held.append(Held(scores, weights[at]))
        mean, std = made.mean[test][:, columns].T, made.std[test][:, columns].T
        low[test], high[test] = plus_interval(held, mean, std, ALPHA)
    return low, high


def errors(y: FloatArray, predicted: Sequence[FloatArray]) -> dict[str, float]:
    """Means over the deals, whose predictions (n,) are given; units of the property."""
    own = [mean - y for mean in predicted]
    spread = ((y - y.mean()) ** 2).mean()
    return {
        "RMSE": float(np.mean([np.sqrt((e**2).mean()) for e in own])),
        "MAE": float(np.mean([np.abs(e).mean() for e in own])),
        "R2": float(np.mean([1 - (e**2).mean() / spread for e in own])),
    }


def figures(
    y: FloatArray, made: Sequence[Deal], groups: Sequence[int], seed: int
) -> dict[str, Any]:
    """Errors, calibration and intervals over all deals.

    ``calibration_error``: mean distance of the observed from the nominal share of values inside
    the model's own central intervals of 5 to 95 % (V. Kuleshov, N. Fenner, S. Ermon, ICML 2018).
    """
    z = float(norm.ppf(1 - ALPHA / 2))
    likelihood, apart = [], []
    ends: dict[str, list[tuple[FloatArray, FloatArray]]] = {"own": []}
    for d in made:
        mean, std = d.own()
        likelihood.append(-float(np.mean(norm.logpdf(y, mean, std))))
        level = 2 * np.asarray(norm.cdf(np.abs(mean - y) / std)) - 1
        apart.append(float(np.abs((level[:, None] <= LEVELS).mean(0) - LEVELS).mean()))
        ends["own"].append((mean - z * std, mean + z * std))
        for weigh in get_args(Weigh) if len(set(groups)) < len(y) else ("rows",):
            found = intervals(y, d, groups, weigh)
            ends.setdefault(f"conformal_{weigh}_alike", []).append(found)
    return errors(y, [d.own()[0] for d in made]) | {
        "negative_log_likelihood": float(np.mean(likelihood)),
        "calibration_error": float(np.mean(apart)),
        "intervals_90": {kind: _coverage(y, many, groups, seed) for kind, many in ends.items()},
    }


def _coverage(
    y: FloatArray, ends: Sequence[tuple[FloatArray, FloatArray]], groups: Sequence[int], seed: int
) -> dict[str, Any]:
    """Shares inside, with their ranges, each deal's own, and the widths."""
    inside = np.array([(low <= y) & (y <= high) for low, high in ends])
    share = inside.mean(0)
    number = np.unique(np.array(groups), return_inverse=True)[1]
    sizes = np.bincount(number)
    hits = np.bincount(number, weights=share)
    drawn = np.random.default_rng(seed).integers(len(sizes), size=(4000, len(sizes)))
    by_rows = hits[drawn].sum(1) / sizes[drawn].sum(1)
    by_papers = (hits / sizes)[drawn].mean(1)
    widths = np.concatenate([high - low for low, high in ends])
    closed = np.isfinite(widths)  # with too few papers an interval has no end
    return {
        "coverage_rows": float(share.mean()),
        "coverage_rows_range": [float(v) for v in np.quantile(by_rows, [0.025, 0.975])],
        "coverage_papers": float((hits / sizes).mean()),
        "coverage_papers_range": [float(v) for v in np.quantile(by_papers, [0.025, 0.975])],
        "coverage_rows_each_deal": [float(v) for v in inside.mean(1)],
        "median_width": float(np.median(widths[closed])) if closed.any() else None,
        "mean_width": float(widths[closed].mean()) if closed.any() else None,
        "without_end": float(1.0 - closed.mean()),
    }


def study(
    name: str,
    given: argparse.Namespace,
    found: dict[str, Any],
    keep: Callable[[], object],
) -> None:
    """All models, their figures into ``found``; ``keep`` is called after each."""
    data = load(name)
    rows = len(data.y)
    found["rows"] = rows
    found["groups_of_papers"] = len(set(data.groups))
    found["largest_group"] = int(np.bincount(data.groups).max())
    found["standard_deviation"] = float(data.y.std())
    repeated = np.array([data.compositions.count(c) > 1 for c in data.compositions])
    found["rows_whose_composition_comes_again"] = int(repeated.sum())
    if name in DESCRIPTORS:  # density: what additive atomic volumes say, nothing learned
        rule = descriptors(data.x, data.elements, (name,), missing="leave_out")
        found["rule_of_mixtures"] = errors(data.y, [rule[:, 0]])
    matrix = FEATURES["descriptors"](data)
    for split, groups, repeats in (
        ("paper", data.groups, given.repeats),
        ("row", list(range(rows)), 1),
    ):
        found[f"by_{split}"] = {}
        for model in given.models:
            begun = time.perf_counter()
            asked = [
                (model, data, matrix, groups, given.folds, given.seed + i) for i in range(repeats)
            ]
            made = [kept(given.cache, *one) for one in asked]
            result = figures(data.y, made, groups, given.seed)
            result["seconds"] = time.perf_counter() - begun
            found[f"by_{split}"][model] = result
            cover = {
                kind: (round(row["coverage_rows"], 3), round(row["coverage_papers"], 3))
                for kind, row in result["intervals_90"].items()
            }
            print(name, split, model, f"R2 {result['R2']:.3f}", cover, flush=True)
            keep()
    found["by_paper_other_features"] = {}
    for features in ("composition", "both"):
        other = FEATURES[features](data)
        found["by_paper_other_features"][features] = {}
        for model in given.models:
            one = deal(model, data, other, data.groups, given.folds, given.seed, pairs=False)
            mean = one.own()[0]
            found["by_paper_other_features"][features][model] = errors(data.y, [mean])
        keep()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folds", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5, help="deals into folds by paper")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--properties", nargs="+", choices=PROPERTIES, default=PROPERTIES)
    parser.add_argument("--models", nargs="+", choices=tuple(MODELS), default=tuple(MODELS))
    parser.add_argument("--cache", type=Path, help="folder of predictions, to go on after a stop")
    given = parser.parse_args()
    torch.set_num_threads(1)
    studies: dict[str, dict[str, Any]] = {name: {} for name in given.properties}
    result: dict[str, Any] = {
        "complete": False,  # until all of it is there: a run that was stopped keeps what it has
        "data": "examples/hea/alloys.csv",
        "folds": given.folds,
        "repeats": given.repeats,
        "seed": given.seed,
        "properties": studies,
        "published": PUBLISHED,
    }

    def keep() -> Path:
        return write("properties", result, ("scikit-learn", "gpytorch", "pymatgen"))

    for name, found in studies.items():
        study(name, given, found, keep)
    result["complete"] = True
    print(keep())


if __name__ == "__main__":
    main()
