"""How good generated micrographs are: one table over all generators, on held-out spots.

    python -m benchmarks.micrographs CAMPAIGN [--steps-scale S ...] [--only NAME ...] [--n N]
        [--seed N] [--out NAME]

Every generator learns from designs of the training spots' library, scored by the campaign's
simulators and without targets, and gives N unconditional samples. Above them in the table are as
many real crops of the training and the validation spots and of the test spots once more, measured
alike: what a difference from the test spots is worth that new real micrographs have too.

Two-point statistics of the test spots are those of all crops 16 px apart, so that only the samples
carry noise: fractions of crops of 64 px scatter by 0.25, and the mean S2 of 1,024 of them by
several per cent. It is therefore taken over ``--many`` samples; the error of as many real crops of
the very same spots stands beside it. Intervals are 95 % bootstraps over the samples. Features:
those of ``loop.features`` on the training library, in units of their spread there. A copy is a
sample of which 99 % of the pixels are those of one place of a training micrograph, in any
orientation; only samples with at least a tenth of either phase are looked for, since those of
nearly one phase are found anywhere.

Nothing is left out: the table says how many samples show one phase only. Free samples of the flow,
the diffusion and the student have the library's law of phase fractions (``phase_law``); what the
flow samples by itself stands beside it. That and DDPM's long way are judged by ``SLOW`` samples.
The student is distilled from the flow: its seconds come on top of the flow's. ``--steps-scale 4``
trains four times as long; several scales give several rows a generator.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from benchmarks.report import RESULTS, write
from benchmarks.yardstick import SEED, LabelImages, Yardstick, real_split
from generators import registry
from generators.diffusion import JointDiffusion
from generators.distil import distil
from generators.flow import JointFlow
from generators.student import JointStudent
from interface.plots_micrographs import micrograph_rows
from loop.campaign import Campaign, load_campaign
from loop.candidate import Candidate, Record
from loop.library import Library
from loop.protocols import Generator, Simulator
from loop.round import evaluate
from loop.targets import Targets
from simulators import registry as simulator_registry

NAMES = ("random-field", "vae", "gan", "diffusion", "joint-flow")
ANCESTRAL = 100  # steps of the DDPM sampler on the diffusion's network
SLOW = 8192  # samples of what stands beside
BATCH = 256  # designs a call, for the rate
REPEATS = 3
SHOWN = 12  # samples a row of the picture


# Generators


@dataclass(frozen=True, slots=True, eq=False)
class Workshop:
    """What all generators are made of: the campaign's data without its targets."""

    campaign: Campaign
    library: Library
    properties: Sequence[str]
    simulators: Sequence[Simulator]
    records: Sequence[Record]
    preset: str
    seed: int = SEED

    @staticmethod
    def of(path: str, records: int, preset: str = "cpu", seed: int = SEED) -> Workshop:
        """``records`` designs of the training spots are scored; ``seed``: of the trainings."""
        campaign = load_campaign(path)
        torch.set_num_threads(campaign.compute.threads)
        library = Library.load(campaign)
        named = campaign.simulators
        simulators = simulator_registry.create_all(
            named.use,
            space=campaign.space,
            settings=named.settings,
            device=campaign.compute.device,
            timeout_s=named.timeout_s,
            wires=named.wiring,
            folder=campaign.folder,
        )
        designs = library.draw(records, rng=np.random.default_rng(SEED), even=True)
        outcomes = evaluate(simulators, designs)
        scored = [
            Record(design, outcome, simulators[0].name, simulators[0].version, 0)
            for design, outcome in zip(designs, outcomes, strict=True)
        ]
        properties = [name for s in simulators for name in s.outputs]
        return Workshop(campaign, library, properties, simulators, scored, preset, seed)

    def untrained(self, name: str, scale: float) -> Generator:
        """A generator by name whose first training is ``scale`` times as long as usual."""
        made = registry.create(
            name,
            space=self.campaign.space,
            library=self.library,
            targets=Targets(()),
            properties=self.properties,
            preset=self.preset,
            device=self.campaign.compute.device,
        )
        settings = getattr(made, "settings", None)
        if settings is not None:
            cast(Any, made).settings = lengthened(settings, scale)
        return made

    def trained(self, name: str, scale: float) -> Generator:
        """Trained on the records."""
        rng = np.random.default_rng(self.seed)
        return self.untrained(name, scale).fit(self.records, rng=rng, progress=_shown)

    def student(self, flow: JointFlow, steps: int, folder: Path) -> JointStudent:
        """By consistency distillation of a trained flow, ``steps`` evaluations a design."""
        values = [[r.outcome.values.get(k, np.nan) for k in self.properties] for r in self.records]
        return distil(
            flow,
            np.array(values),
            teacher=flow.save(folder)[0],
            steps=steps,
            method="consistency",
            rng=np.random.default_rng(self.seed),
            progress=_shown,
        )


def lengthened(settings: Any, scale: float) -> Any:
    """A settings dataclass with the lengths of its first trainings multiplied, nested ones too."""
    changed: dict[str, Any] = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        if is_dataclass(value):
            changed[field.name] = lengthened(value, scale)
        elif field.name == "steps" or field.name.endswith("first_steps"):
            changed[field.name] = max(1, round(scale * value))
    return replace(settings, **changed)


def first_steps(settings: Any) -> int:
    """Gradient steps of all the first trainings in a settings dataclass."""
    total = 0
    for field in fields(settings) if settings is not None else ():
        value = getattr(settings, field.name)
        if is_dataclass(value):
            total += first_steps(value)
        elif field.name == "steps" or field.name.endswith("first_steps"):
            total += value
    return total


def modules(generator: Any) -> list[nn.Module]:
    """The networks of a generator, its image autoencoder among them."""
    code = getattr(generator, "code", None)
    vae = getattr(code, "vae", None)
    found = [*vars(generator).values(), getattr(vae, "network", None)]
    return [x for x in found if isinstance(x, nn.Module)]


def images_of(designs: Iterable[Candidate]) -> LabelImages:
    return np.stack([c.microstructure for c in designs if c.microstructure is not None])


def rate(draw: Callable[[int], Sequence[Candidate]]) -> dict[str, float]:
    """Designs per second, the best of ``REPEATS`` batches, and CPU milliseconds a design."""
    draw(8)
    seconds, processor = math.inf, math.inf
    for _ in range(REPEATS):
        start, spent = time.perf_counter(), time.process_time()
        draw(BATCH)
        seconds = min(seconds, time.perf_counter() - start)
        processor = min(processor, time.process_time() - spent)
    return {
        "samples_per_second": BATCH / seconds,
        "cpu_milliseconds_per_sample": 1000 * processor / BATCH,
    }


def measured(
    generator: Generator, yard: Yardstick, many: int, seconds: float
) -> tuple[dict[str, Any], LabelImages]:
    """The row of a trained generator, and the first of its samples."""
    rng = np.random.default_rng(SEED + 1)
    images = images_of(generator.propose(many, None, guidance=0.0, rng=rng))
    row = yard.row(images, rng)
    row |= {
        "of_one_phase": float((images.min((1, 2)) == images.max((1, 2))).mean()),
        "parameters": sum(p.numel() for m in modules(generator) for p in m.parameters()),
        "training_steps": first_steps(getattr(generator, "settings", None)),
        "training_seconds": round(seconds, 1),
        **rate(lambda k: generator.propose(k, None, guidance=0.0, rng=rng)),
    }
    return row, images[:SHOWN]


def reconstructed(generator: Generator, yard: Yardstick, library: Library, n: int) -> Any:
    """The columns for training crops that went through the autoencoder: its share of the errors."""
    vae = getattr(getattr(generator, "code", None), "vae", None)
    if vae is None:
        return None
    rng = np.random.default_rng(SEED + 2)
    crops = library.patches(n, rng=rng)
    found = yard.row(vae.decode(vae.encode(torch.from_numpy(crops))), rng)
    return {**found, "pixels_changed": vae.reconstruction_error(crops)}


# Table

HEADS = (
    ("two-point error", "two_point_error_within_lag_16", 100.0, "%"),
    ("without fraction", "covariance_error", 100.0, "%"),
    ("log power", "log_power_rms_difference", 1.0, ""),
    ("precision", "precision", 1.0, ""),
    ("recall", "recall", 1.0, ""),
    ("density", "density", 1.0, ""),
    ("coverage", "coverage", 1.0, ""),
    ("Fréchet", "frechet_distance", 1.0, ""),
    ("unique", "unique", 1.0, ""),
    ("one phase", "of_one_phase", 100.0, "%"),
    ("novelty", "novelty_median", 1.0, ""),
    ("copies", "copies", 1.0, ""),
    ("parameters", "parameters", 1.0, ""),
    ("training s", "training_seconds", 1.0, ""),
    ("samples/s", "samples_per_second", 1.0, ""),
)


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The main columns as a Markdown table."""
    lines = ["| | " + " | ".join(head for head, *_ in HEADS) + " |"]
    lines.append("|---" * (len(HEADS) + 1) + "|")
    for name, row in rows.items():
        cells = [
            f"{row[key] * factor:.3g}{unit}"
            if isinstance(row.get(key), float)
            else str(row.get(key, ""))
            for _, key, factor, unit in HEADS
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _shown(stage: str, done: int, total: int, **_: float) -> None:
    if done == total:
        print(f"{stage}: {total} steps", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("campaign")
    parser.add_argument("--n", type=int, default=1024)
    parser.add_argument("--many", type=int, default=32768)
    parser.add_argument("--records", type=int, default=3000)
    parser.add_argument("--copies", type=int, default=128)
    parser.add_argument("--steps-scale", type=float, nargs="+", default=[1.0])
    parser.add_argument("--only", nargs="+", choices=NAMES)
    parser.add_argument("--student-steps", type=int, nargs="*", default=[2])
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--seed", type=int, default=SEED, help="of the trainings")
    parser.add_argument("--out", default="micrographs")
    given = parser.parse_args()
    many = max(given.n, given.many)
    shop = Workshop.of(given.campaign, given.records, given.preset, given.seed)
    rng = np.random.default_rng(SEED)
    yard = Yardstick.of(shop.library, given.n, given.copies, rng)
    rows: dict[str, Any] = {}
    pictures = {"real, test spots": yard.test[:SHOWN]}
    for name, split in (("training", "train"), ("validation", "val"), ("test", "test")):
        crops = shop.library.patches(many, rng=rng, split=split)
        rows[f"real, {name} spots"] = yard.row(crops, rng)
    rows["real, test spots"].pop("copies", None)  # they cannot be: nothing was learned from them
    result = {
        "n": given.n,
        "records": given.records,
        "seed": given.seed,
        "real": real_split(shop.library, yard, (given.n, many)),
    }
    print(result, flush=True)

    def add(label: str, generator: Generator, seconds: float, samples: int) -> None:
        rows[label], pictures[label] = measured(generator, yard, samples, seconds)
        print(label, rows[label], flush=True)

    for scale in given.steps_scale:
        longer = "" if scale == 1.0 else f", {scale:g} times the steps"
        for name in given.only or [known for known in NAMES if known in registry.available()]:
            start = time.perf_counter()
            generator = shop.trained(name, scale)
            seconds = time.perf_counter() - start
            add(name + longer, generator, seconds, many)
            if isinstance(generator, JointDiffusion):
                slow = copy.copy(generator)
                slow.settings = replace(slow.settings, sampler="ddpm", sample_steps=ANCESTRAL)
                add(f"{name}, {ANCESTRAL} steps of DDPM{longer}", slow, seconds, min(many, SLOW))
            elif isinstance(generator, JointFlow):
                as_sampled = copy.copy(generator)
                as_sampled.settings = replace(generator.settings, library_law=False)
                label = f"{name}, fractions as sampled{longer}"
                add(label, as_sampled, seconds, min(many, SLOW))
                alone = reconstructed(generator, yard, shop.library, many)
                result[f"{name}{longer}: autoencoder alone, on training crops"] = alone
                for steps in given.student_steps:
                    with TemporaryDirectory() as folder:
                        start = time.perf_counter()
                        student = shop.student(generator, steps, Path(folder))
                        seconds = time.perf_counter() - start
                    add(f"consistency student, steps: {steps}{longer}", student, seconds, many)
    print(table(rows))
    RESULTS.mkdir(exist_ok=True)
    micrograph_rows(pictures, RESULTS / f"{given.out}.png", title="Superalloy, 64 × 64 px")
    print(write(given.out, result | {"rows": rows}, ("scipy",)))


if __name__ == "__main__":
    main()
