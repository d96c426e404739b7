"""Generated alloys: are they valid, new and sensible, and do they have what was asked for?

    python -m benchmarks.alloys [--generators joint-flow diffusion vae] [--n 2000] [--asked 500]

Generators learn from ``examples/hea/alloys.csv`` (C. K. H. Borg et al., Sci. Data 7, 430, 2020):
compositions with the label of their processing, and hardness at room temperature where it was
measured. Four fifths of the papers are for learning; papers that share a merged row stay together.

Distributions of what is generated without a request are held against the papers left out, and the
training papers against the same ("real"): the papers differ so much from one another that this, and
not 0, is what new alloys have. Alloys that are nearer to the training papers than the real new ones
are have been learned by heart; ``novelty`` tells.

Hits are judged by a property model of all papers, those left out included, which the generators
have never seen; its own conformal interval is given with them. A hit: the judge's mean meets the
request and the label is the one that was asked for. ``likely``: the mean probability, by the
judge's predictive distribution, that a measurement would meet it; it allows for what the judge is
unsure of.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm

from benchmarks.alloy_figures import Reference, novelty, share, valid
from benchmarks.report import write
from generators.asked import Asked
from generators.registry import create as create_generator
from loop.candidate import Candidate, Outcome, Record
from loop.conformal import Conformal, Interval, group_folds, linked_groups
from loop.descriptors import descriptors
from loop.formula import formula_amounts
from loop.library import Library
from loop.process_labels import Codes, label_codes
from loop.property_models import MODELS, create
from loop.space import DesignSpace
from loop.targets import Maximise, Range, Target, Targets, Value

FloatArray = NDArray[np.float64]
TABLE = Path(__file__).parents[1] / "examples" / "hea" / "alloys.csv"
PROPERTY = "hardness_HV"
LABEL = "processing"
ROOM_C = (15.0, 35.0)
FOLDS = 5  # of the papers; one of them is left out
ALPHA = 0.1
GUIDANCE = (1.0, 2.0)
# Some hundred alloys are learned by heart where a network is as large, and trained as long, as for
# micrographs. Nothing is nearer to the target than anything else, and half of the rows are shown
# without a request: what is compared first is made without one.
SMALL: Mapping[str, Any] = {
    "focus": 0.0,
    "dropout": 0.4,
    "batch": 192,
    "width": 64,
    "depth": 2,
    "first_steps": 900,
    "sample_steps": 12,
    "head_width": 64,
    "head_depth": 3,
    "head_batch": 256,
    "head_first_steps": 600,
}
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "joint-flow": SMALL,
    "diffusion": {**SMALL, "sample_steps": 30},
    "vae": {"focus": 0.0, "latent": 16, "width": 64, "depth": 1, "first_steps": 150},
}
GENERATORS = tuple(SETTINGS)


@dataclass(frozen=True)
class Alloys:
    """n different pairs of composition (n, e) and label (n,): hardness, NaN unknown; groups."""

    elements: tuple[str, ...]
    x: FloatArray
    labels: NDArray[np.str_]
    hardness: FloatArray
    groups: NDArray[np.int64]

    def rows(self, chosen: NDArray[np.bool_]) -> Alloys:
        """Those of a mask (n,)."""
        return Alloys(
            self.elements,
            self.x[chosen],
            self.labels[chosen],
            self.hardness[chosen],
            self.groups[chosen],
        )


def load(path: Path = TABLE) -> Alloys:
    """One row for each composition and processing; hardness is the mean over its rows."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    groups = linked_groups([row["papers"].split(";") for row in rows])
    found: dict[tuple[str, str], list[int]] = {}
    for i, row in enumerate(rows):
        found.setdefault((row["composition"], row["processing"]), []).append(i)
    amounts = [formula_amounts(composition) for composition, _ in found]
    elements = tuple(sorted({symbol for one in amounts for symbol in one}))
    x = np.array([[one.get(symbol, 0.0) for symbol in elements] for one in amounts])
    hardness = []
    for members in found.values():
        known = [float(rows[i][PROPERTY]) for i in members if rows[i][PROPERTY] and _room(rows[i])]
        hardness.append(float(np.mean(known)) if known else np.nan)
    return Alloys(
        elements,
        x / x.sum(1, keepdims=True),
        np.array([label for _, label in found]),
        np.array(hardness),
        np.array([groups[members[0]] for members in found.values()]),
    )


def _room(row: Mapping[str, str]) -> bool:
    at = row["test_temperature_C"]
    return not at or ROOM_C[0] <= float(at) <= ROOM_C[1]


def space_of(alloys: Alloys) -> DesignSpace:
    """Each element up to the most of it that the alloys have, and the labels they have."""
    most = alloys.x.max(0)
    bounds = {k: (0.0, float(v)) for k, v in zip(alloys.elements, most, strict=True)}
    labels = tuple(sorted(set(alloys.labels.tolist())))
    return DesignSpace(("alloy",), alloys.elements, None, {"alloy": bounds}, labels={LABEL: labels})


def library_of(space: DesignSpace, alloys: Alloys) -> Library:
    """The alloys with their labels as what designs are drawn from."""
    codes = np.array([space.labels[LABEL].index(label) for label in alloys.labels.tolist()])
    return Library(
        space=space,
        split_images=None,
        table=alloys.x[:, None],
        augment=False,
        outside=0,
        data_hash="0" * 64,
        table_labels=codes[:, None],
    )


def records_of(space: DesignSpace, alloys: Alloys) -> list[Record]:
    """All of the alloys, with their hardness where it is known."""
    records = []
    for x, label, value in zip(alloys.x, alloys.labels.tolist(), alloys.hardness, strict=True):
        design = Candidate(space.phases, space.elements, None, x[None], labels={LABEL: label})
        values = {PROPERTY: float(value)} if np.isfinite(value) else {}
        records.append(Record(design, Outcome("ok", values), "table", "1", 0))
    return records


class Judge:
    """Hardness by a model of all papers: fractions, descriptors and the label as features."""

    def __init__(self, space: DesignSpace, alloys: Alloys, model: str, seed: int) -> None:
        self.space = space
        codes = np.array([[space.labels[LABEL].index(k)] for k in alloys.labels.tolist()])
        known = np.isfinite(alloys.hardness)
        self.model = Conformal(create(model), alpha=ALPHA).fit(
            self.features(alloys.x, codes)[known],
            alloys.hardness[known],
            rng=np.random.default_rng(seed),
            groups=alloys.groups[known].tolist(),
        )

    def features(self, x: FloatArray, codes: Codes) -> FloatArray:
        """(n, d) of alloys (n, e) and their labels (n, 1)."""
        hot = (codes == np.arange(len(self.space.labels[LABEL]))).astype(np.float64)
        described = descriptors(x, self.space.elements, missing="leave_out")
        return np.hstack([x, described, hot])

    def predict(self, designs: list[Candidate]) -> Interval:
        """Hardness of designs."""
        x = np.stack([design.composition() for design in designs])
        return self.model.predict(self.features(x, label_codes(self.space, designs)))

    @staticmethod
    def verdict(
        found: Interval, designs: list[Candidate], target: Target, label: str | None
    ) -> dict[str, Any]:
        """How many designs meet a target with a label, by what was ``found``: see the head."""
        right = np.array([label in (None, design.labels[LABEL]) for design in designs])
        hits = (found.mean >= target.low) & (found.mean <= target.high) & right
        ends = norm.cdf((np.array([[target.low], [target.high]]) - found.mean) / found.std)
        return {
            **share(hits),
            "likely": float(((ends[1] - ends[0]) * right).mean()),
            "mean_HV": float(found.mean.mean()),
            "conformal_90_width_HV": float((found.high - found.low).mean()),
            "conformal_90_meets": float(
                ((found.low <= target.high) & (found.high >= target.low) & right).mean()
            ),
        }


@dataclass(frozen=True)
class Request:
    """A target of the hardness, and a label where one is asked for."""

    name: str
    target: Target
    label: str | None = None


REQUESTS = (
    Request("300 ± 50", Value(PROPERTY, 300.0, 50.0)),
    Request("500 ± 50", Value(PROPERTY, 500.0, 50.0)),
    Request("700 ± 50", Value(PROPERTY, 700.0, 50.0)),
    Request("600 to 750", Range(PROPERTY, 600.0, 750.0)),
    Request("at least 700", Maximise(PROPERTY, at_least=700.0)),
    Request("at least 700, CAST", Maximise(PROPERTY, at_least=700.0), "CAST"),
    Request("250 to 350, WROUGHT", Range(PROPERTY, 250.0, 350.0), "WROUGHT"),
)


def study(
    name: str,
    train: Alloys,
    held_out: Alloys,
    space: DesignSpace,
    judge: Judge,
    given: argparse.Namespace,
) -> dict[str, Any]:
    """All figures of one generator."""
    targets = Targets((Range(PROPERTY, *np.nanquantile(train.hardness, [0.05, 0.95])),))
    generator = create_generator(
        name,
        space=space,
        library=library_of(space, train),
        targets=targets,
        properties=(PROPERTY,),
        preset=given.preset,
        settings=SETTINGS[name] if given.preset == "cpu" else {"focus": 0.0},
    )
    started = time.process_time()
    trained = cast(
        Asked, generator.fit(records_of(space, train), rng=np.random.default_rng([given.seed, 1]))
    )
    fitted = time.process_time()
    free = trained.propose(given.n, None, guidance=0.0, rng=np.random.default_rng([given.seed, 2]))
    drawn = time.process_time()
    x = np.stack([design.composition() for design in free])
    codes = label_codes(space, free)[:, 0]
    labels = np.bincount(codes, minlength=len(space.labels[LABEL])) / len(codes)
    result: dict[str, Any] = {
        "fit_cpu_s": round(fitted - started, 1),
        "designs_per_cpu_s": round(given.n / (drawn - fitted), 1),
        "unconditional": {
            "valid": valid(space, free),
            "beside_held_out": Reference(held_out.x, space.elements).beside(x),
            "beside_training": Reference(train.x, space.elements).beside(x),
            "novelty": novelty(x, train.x),
            "labels": dict(zip(space.labels[LABEL], labels.tolist(), strict=True)),
        },
        "requests": {},
    }
    _say(name, result)
    without_request = judge.predict(free)
    for i, request in enumerate(REQUESTS):
        without = judge.verdict(without_request, free, request.target, request.label)
        found: dict[str, Any] = {"unconditional": without}
        for scale in GUIDANCE:
            asked = trained.propose(
                given.asked,
                Targets((request.target,)),
                guidance=scale,
                rng=np.random.default_rng([given.seed, 3, i]),
                labels={LABEL: request.label} if request.label else None,
            )
            made = np.stack([design.composition() for design in asked])
            verdict = judge.verdict(judge.predict(asked), asked, request.target, request.label)
            new = novelty(made, train.x)
            usual = max(without["share"], 1 / given.n)  # no hit: at most about one in n
            found[f"guidance_{scale:g}"] = {
                **verdict,
                "times_unconditional": verdict["share"] / usual,
                "label_as_asked": float(
                    np.mean([request.label in (None, d.labels[LABEL]) for d in asked])
                ),
                "valid": valid(space, asked),
                "novelty": new,
            }
            print(
                f"  {request.name}, guidance {scale:g}: {verdict['share']:.3f} hits, "
                f"{without['share']:.3f} without, likely {verdict['likely']:.3f} and "
                f"{without['likely']:.3f}, copies {new['copies']:.3f}",
                flush=True,
            )
        result["requests"][request.name] = found
    return result


def _say(name: str, result: Mapping[str, Any]) -> None:
    free = result["unconditional"]
    whole, new = free["valid"], free["novelty"]
    held_out, training = free["beside_held_out"], free["beside_training"]
    print(
        f"{name}: fitted in {result['fit_cpu_s']} s; in space {whole['in_space']:.3f}, exact zeros "
        f"{whole['zeros_exact']:.3f}, unique {whole['unique']:.3f}; from the papers left out and "
        f"the others: descriptors {held_out['descriptors_mean']:.3f} and "
        f"{training['descriptors_mean']:.3f}, pairs {held_out['pair_shares']:.3f} and "
        f"{training['pair_shares']:.3f}; copies {new['copies']:.3f}, elements known "
        f"{new['elements_known']:.3f}, difference {new['difference_quantiles']['0.5']:.3f}",
        flush=True,
    )


def real(train: Alloys, held_out: Alloys) -> dict[str, Any]:
    """The training papers and those left out beside each other."""
    return {
        "beside_held_out": Reference(held_out.x, train.elements).beside(train.x),
        "beside_training": Reference(train.x, train.elements).beside(held_out.x),
        "novelty": novelty(held_out.x, train.x),
        "labels": {
            name: {
                str(label): float(np.mean(part.labels == label))
                for label in sorted(set(train.labels.tolist()) | set(held_out.labels.tolist()))
            }
            for name, part in (("training", train), ("held_out", held_out))
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--generators", nargs="+", choices=GENERATORS, default=GENERATORS)
    parser.add_argument("--n", type=int, default=2000, help="alloys without a request")
    parser.add_argument("--asked", type=int, default=500, help="alloys for each request")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--judge", choices=sorted(MODELS), default="random-forest")
    parser.add_argument("--preset", choices=("tiny", "cpu", "gpu"), default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(1)
    alloys = load()
    space = space_of(alloys)
    folds = group_folds(alloys.groups.tolist(), FOLDS, np.random.default_rng(given.seed))
    train, held_out = alloys.rows(folds != 0), alloys.rows(folds == 0)
    started = time.process_time()
    judge = Judge(space, alloys, given.judge, given.seed)
    print(f"judge fitted in {time.process_time() - started:.0f} s", flush=True)
    result: dict[str, Any] = {
        "complete": False,  # until all of it is there: a run that was stopped keeps what it has
        "data": "examples/hea/alloys.csv",
        "alloys": len(alloys.x),
        "with_hardness": int(np.isfinite(alloys.hardness).sum()),
        "training": {"alloys": len(train.x), "groups_of_papers": len(set(train.groups.tolist()))},
        "held_out": {
            "alloys": len(held_out.x),
            "groups_of_papers": len(set(held_out.groups.tolist())),
        },
        "judge": {"model": given.judge, "cpu_s": round(time.process_time() - started, 1)},
        "real": real(train, held_out),
        "settings": {name: dict(SETTINGS[name]) for name in given.generators},
        "generators": {},
    }
    for name in given.generators:
        result["generators"][name] = study(name, train, held_out, space, judge, given)
        write("alloys", result, ("scikit-learn", "pymatgen", "scipy"))
    result["complete"] = True
    print(write("alloys", result, ("scikit-learn", "pymatgen", "scipy")))


if __name__ == "__main__":
    main()
