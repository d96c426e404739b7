"""Property models on measured alloys: how far off, and do their intervals hold?

    python -m benchmarks.properties [--folds 5] [--seed 2026] [--properties NAME ...]

Hardness and yield strength at room temperature of ``examples/hea/alloys.csv`` (C. K. H. Borg et
al., Sci. Data 7, 430, 2020), 5-fold cross-validation by paper: all rows of a paper, and of papers
that share a merged row with it, are in one fold. The same by row shows what a random split
flatters: a paper measures series of alloys, and a row's neighbours tell its value. Intervals of
90 %: the model's own (mean ± 1.645 standard deviations) and CV+ conformal ones whose inner
folds keep papers whole as well (by row where the outer split is by row).

Features: atomic fractions, or descriptors (``loop.descriptors``), or both; each with the processing
label and, for the strength, the kinds of test as 0/1 columns.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm

from benchmarks.report import write
from loop.conformal import Conformal, Interval, group_folds, linked_groups
from loop.descriptors import descriptors
from loop.formula import formula_amounts
from loop.property_models import MODELS, create

FloatArray = NDArray[np.float64]
TABLE = Path(__file__).parents[1] / "examples" / "hea" / "alloys.csv"
ROOM_C = (15.0, 35.0)
ALPHA = 0.1
LEVELS = np.arange(0.05, 0.96, 0.05)
PROPERTIES = ("hardness_HV", "yield_strength_MPa")

# Per property the splits, and the feature sets that each is done with.
SPLITS: dict[str, dict[str, tuple[str, ...]]] = {
    "hardness_HV": {"paper": ("composition", "descriptors", "both"), "row": ("both",)},
    "yield_strength_MPa": {"paper": ("composition", "descriptors"), "row": ("descriptors",)},
}

# Figures of others, each read in the abstract named; none is of this data set split by paper.
PUBLISHED = (
    {
        "source": "U. M. R. Paturi et al., Crystals 15, 404 (2025), doi:10.3390/cryst15050404",
        "what": "hardness of AlCoCrCuFeNi alloys, neural network, 116 alloys to learn from",
        "R2": 0.9639,
        "split": "39 other alloys of the same collection of one alloy system",
    },
    {
        "source": "S. Lee et al., Accelerating High-Entropy Alloy Design via Machine Learning: "
        "Predicting Yield Strength from Composition (PMC12786949)",
        "what": "yield strength of high-entropy alloys from composition, gradient boosting",
        "R2": 0.85,
        "split": "not said in the abstract",
    },
)


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
    """Rows measured at room temperature; a hardness without a temperature counts as such.

    Noise: the repeats' standard deviation of the mean, 0 where there is one value.
    """
    with path.open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row[name]]
    if name == "hardness_HV":
        rows = [r for r in rows if not r["test_temperature_C"] or _room(r)]
    else:
        rows = [r for r in rows if r["test_temperature_C"] and _room(r)]
    amounts = [formula_amounts(row["composition"]) for row in rows]
    elements = tuple(sorted({e for found in amounts for e in found}))
    x = np.array([[found.get(e, 0.0) for e in elements] for found in amounts])
    kinds = sorted({row["processing"] for row in rows})
    labels = [[float(row["processing"] == kind) for kind in kinds] for row in rows]
    if name != "hardness_HV":
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


def predictions(
    model: str, data: Data, features: FloatArray, groups: Sequence[int], folds: int, seed: int
) -> Interval:
    """Out-of-fold predictions of all rows with conformal ends."""
    found = np.empty((4, len(data.y)))
    fold = group_folds(groups, folds, np.random.default_rng(seed))
    for k in range(folds):
        out = fold == k
        inner = [g for g, held in zip(groups, out, strict=True) if not held]
        rng = np.random.default_rng([seed, k])
        fitted = Conformal(create(model), alpha=ALPHA).fit(
            features[~out], data.y[~out], rng=rng, noise=data.noise[~out], groups=inner
        )
        p = fitted.predict(features[out])
        found[:, out] = np.stack([p.mean, p.std, p.low, p.high])
    return Interval(*found)


def figures(y: FloatArray, p: Interval, groups: Sequence[int], seed: int) -> dict[str, Any]:
    """Errors, calibration and intervals; units of the property where there are any.

    ``calibration_error``: mean distance of the observed from the nominal share of values inside
    the model's own central intervals of 5 to 95 % (V. Kuleshov, N. Fenner, S. Ermon, ICML 2018).
    ``coverage_range``: 95 % of bootstrap samples of the groups lie in it.
    """
    error = p.mean - y
    level = 2 * np.asarray(norm.cdf(np.abs(error) / p.std)) - 1
    observed = (level[:, None] <= LEVELS).mean(0)
    z = float(norm.ppf(1 - ALPHA / 2))
    inside = {
        "own": np.abs(error) <= z * p.std,
        "conformal": (p.low <= y) & (y <= p.high),
    }
    width = {"own": 2 * z * p.std, "conformal": p.high - p.low}
    return {
        "RMSE": float(np.sqrt((error**2).mean())),
        "MAE": float(np.abs(error).mean()),
        "R2": float(1 - (error**2).sum() / ((y - y.mean()) ** 2).sum()),
        "negative_log_likelihood": float(-np.mean(norm.logpdf(y, p.mean, p.std))),
        "calibration_error": float(np.abs(observed - LEVELS).mean()),
        "intervals_90": {
            kind: {
                "coverage": float(hit.mean()),
                "coverage_range": _range(hit, groups, seed),
                "mean_width": float(width[kind].mean()),
            }
            for kind, hit in inside.items()
        },
    }


def _range(hit: NDArray[np.bool_], groups: Sequence[int], seed: int) -> list[float]:
    number = np.unique(np.array(groups), return_inverse=True)[1]
    hits, sizes = np.bincount(number, weights=hit), np.bincount(number)
    drawn = np.random.default_rng(seed).integers(len(sizes), size=(2000, len(sizes)))
    shares = hits[drawn].sum(1) / sizes[drawn].sum(1)
    return [float(v) for v in np.quantile(shares, [0.025, 0.975])]


def study(
    name: str,
    splits: dict[str, tuple[str, ...]],
    folds: int,
    seed: int,
    found: dict[str, Any],
    keep: Callable[[], object],
) -> None:
    """All models, their figures into ``found``; ``keep`` is called after each.

    ``splits``: paper or row -> the feature sets it is done with.
    """
    data = load(name)
    found["rows"] = len(data.y)
    found["groups_of_papers"] = len(set(data.groups))
    found["largest_group"] = int(np.bincount(data.groups).max())
    found["standard_deviation"] = float(data.y.std())
    repeated = np.array([data.compositions.count(c) > 1 for c in data.compositions])
    found["rows_whose_composition_comes_again"] = int(repeated.sum())
    for split, sets in splits.items():
        groups = data.groups if split == "paper" else list(range(len(data.y)))
        found[f"by_{split}"] = {}
        for features in sets:
            matrix = FEATURES[features](data)
            for model in MODELS:
                started = time.process_time()
                p = predictions(model, data, matrix, groups, folds, seed)
                result = figures(data.y, p, groups, seed)
                result["cpu_s"] = round(time.process_time() - started, 1)
                found[f"by_{split}"].setdefault(features, {})[model] = result
                own, safe = (result["intervals_90"][k]["coverage"] for k in ("own", "conformal"))
                print(
                    f"{name} by {split}, {features}, {model}: RMSE {result['RMSE']:.0f}, "
                    f"R2 {result['R2']:.2f}, coverage {own:.3f} own, {safe:.3f} conformal, "
                    f"{result['cpu_s']} s",
                    flush=True,
                )
                keep()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--properties", nargs="+", choices=PROPERTIES, default=PROPERTIES)
    given = parser.parse_args()
    torch.set_num_threads(1)
    studies: dict[str, dict[str, Any]] = {name: {} for name in given.properties}
    result: dict[str, Any] = {
        "complete": False,  # until all of it is there: a run that was stopped keeps what it has
        "data": "examples/hea/alloys.csv",
        "folds": given.folds,
        "seed": given.seed,
        "properties": studies,
        "published": PUBLISHED,
    }

    def keep() -> Path:
        return write("properties", result, ("scikit-learn", "gpytorch", "pymatgen"))

    for name, found in studies.items():
        study(name, SPLITS[name], given.folds, given.seed, found, keep)
    result["complete"] = True
    print(keep())


if __name__ == "__main__":
    main()
