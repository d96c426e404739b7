"""Reconstruction from two-point statistics beside MCRpy's FFTCorrelations, interleaved.

    python -m benchmarks.morphology [--mcrpy-python PYTHON] [--campaign CAMPAIGN --ledger URL]
                                    [--repeats N] [--crops N] [--iterations N]

Targets: MCRpy's own 64 x 64 examples (benchmarks/data/morphology) and crops of the superalloy's
test spots, which no generator saw. Arms, in turn on one thread each:

- mcrpy: 300 iterations of L-BFGS on its FFTCorrelations descriptor within lag 16, in a process of
  its own (PYTHON: an interpreter with mcrpy 0.2.0, tensorflow and numpy < 2; left out without it).
  Its result is a grey field; it is cut at 1/2 ("mcrpy") and, which is kinder, at the target's
  phase fraction ("mcrpy cut at the fraction").
- random field: training-free, a cut Gaussian field and exchanges of pixels.
- trained: samples of the campaign's trained generator (the nearest of a bank of 256, drawn once)
  moved in latent space, then exchanges; on the crops alone, which are of the kind it was trained
  on. Left out without --campaign.

Per target and arm: two-point error (root of the mean square over all lags |dy|, |dx| <= 16, over
the phase fraction, periodic), the difference in phase fraction, lineal-path error of the phase
within 16 px (same norm), effective conductivity at contrast 10 (Frobenius norm of the difference
of the tensors, relative), and seconds per image: one by one, and in a batch of 16. The phase is
that of pixel value 1, all statistics are of the discrete image.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.report import RESULTS, write
from flows.assembly import open_session
from flows.reconstruct import lineal_path_errors, trained_prior
from generators.latent_search import ImagePrior, SampleBank
from generators.reconstruction import reconstruct
from generators.spectral_field import cut
from generators.two_point_target import TwoPointTarget
from interface.plots_micrographs import micrograph_rows
from loop.images import list_images, read_labels
from simulators.conductivity import effective_conductivity

DATA = Path(__file__).parent / "data" / "morphology"
PEER = Path(__file__).with_name("mcrpy_peer.py")
LAG, CONTRAST, BATCH = 16, 10.0, 16
BANK = 256  # samples of the trained generator, drawn once
PUBLISHED = {"wall_s": 4.7, "two_point_error": 0.012, "fraction_error": 0.0053}
ASKED = {"two_point_error": 0.012, "fraction_error": 0.005, "times_faster": 10.0}
ONE_THREAD = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
Labels = NDArray[np.uint8]
FloatArray = NDArray[np.float64]
Scores = dict[str, list[float]]


class Peer:
    """MCRpy in its own interpreter, asked line by line."""

    def __init__(self, python: str, folder: Path) -> None:
        self.python, self.folder = python, folder
        self.process = subprocess.Popen(
            [python, "-I", str(PEER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **dict.fromkeys(ONE_THREAD, "1")},
            cwd=folder,
        )
        self.versions = self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(
                f"`{self.python} {PEER}` ended without an answer; run it by hand to see why"
            )
        found: dict[str, Any] = json.loads(line)
        return found

    def reconstruct(self, image: Labels, seed: int, iterations: int) -> tuple[FloatArray, Any]:
        """The field (h, w) and the seconds it took."""
        given, made = self.folder / "given.npy", self.folder / "made.npy"
        np.save(given, image.astype(np.int64))
        request = {
            "image": str(given),
            "output": str(made),
            "seed": seed,
            "lags": LAG + 1,  # its count includes lag 0
            "iterations": iterations,
        }
        assert self.process.stdin is not None
        print(json.dumps(request), file=self.process.stdin, flush=True)
        seconds = self._read()
        return np.load(made), seconds

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def timed(make: Callable[[], Labels]) -> tuple[Labels, float, float]:
    """Images, and wall and CPU seconds per image."""
    begun, busy = time.perf_counter(), time.process_time()
    images = make()
    n = len(images)
    return images, (time.perf_counter() - begun) / n, (time.process_time() - busy) / n


def conductivity(images: Labels) -> FloatArray:
    """(n, 2, 2) with conductivity 1 outside the phase and ``CONTRAST`` in it."""
    return effective_conductivity(images, [1.0, CONTRAST], tolerance=1e-4).tensor


def scores(images: Labels, image: Labels, target: TwoPointTarget) -> Scores:
    """Errors of reconstructions (n, h, w) of one target image."""
    k = conductivity(image[None])[0]
    gap = np.linalg.norm(conductivity(images) - k, axis=(1, 2)) / np.linalg.norm(k)
    return {
        "two_point_error": target.errors(images).tolist(),
        "fraction_error": np.abs(images.mean((1, 2)) - target.fraction).tolist(),
        "lineal_path_error": lineal_path_errors(images, image, LAG).tolist(),
        "conductivity_error": gap.tolist(),
    }


class Arms:
    """What every arm made of one target."""

    def __init__(self) -> None:
        self.scores: dict[str, Scores] = defaultdict(lambda: defaultdict(list))
        self.pictures: dict[str, Labels] = {}

    def add(self, arm: str, found: Scores, images: Labels, **seconds: float) -> None:
        self.pictures.setdefault(arm, images[0])
        for name, values in found.items():
            self.scores[arm][name] += values
        for name, value in seconds.items():
            self.scores[arm][name].append(value)

    def row(self) -> dict[str, Any]:
        """Means, worst cases of what is asked, medians of the seconds."""
        return {
            arm: {"images": len(found["two_point_error"])}
            | {k: float(np.median(v) if k.endswith("_s") else np.mean(v)) for k, v in found.items()}
            | {f"worst_{k}": max(found[k]) for k in ("two_point_error", "fraction_error")}
            for arm, found in self.scores.items()
        }


def compare(
    image: Labels, *, peer: Peer | None, prior: ImagePrior | None, repeats: int, iterations: int
) -> Arms:
    """All arms on one target, in turn."""
    target = TwoPointTarget.of_image(image, max_lag=LAG)
    arms = Arms()
    own = {"random field": None} | ({} if prior is None else {"trained": prior})
    for seed in range(repeats):
        if peer is not None:
            field, seconds = peer.reconstruct(image, seed, iterations)
            half = (field > 0.5).astype(np.uint8)[None]
            kind = cut(field[None], target.fraction)
            arms.add("mcrpy", scores(half, image, target), half, **seconds)
            arms.add("mcrpy cut at the fraction", scores(kind, image, target), kind, **seconds)
        for arm, start in own.items():
            for n, name in ((1, "{}_s"), (BATCH, "{}_in_batch_s")):
                rng = np.random.default_rng([seed, n])

                def make(n: int = n, rng: Any = rng, start: Any = start) -> Labels:
                    return reconstruct(target, n, rng=rng, prior=start).images

                images, wall, cpu = timed(make)
                seconds = {name.format("wall"): wall, name.format("cpu"): cpu}
                arms.add(arm, scores(images, image, target), images, **seconds)
    return arms


def summary(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Over the targets, per arm: means of the errors, the worst, and how much faster than MCRpy."""
    found: dict[str, Any] = {}
    for arm in dict.fromkeys(name for row in rows.values() for name in row):
        own = [row[arm] for row in rows.values() if arm in row]
        entry: dict[str, Any] = {"targets": len(own), "images": sum(r["images"] for r in own)}
        for key in own[0]:
            if key == "images":
                continue
            values = [r[key] for r in own]
            entry[key] = float(max(values) if key.startswith("worst") else np.mean(values))
        pairs = [(row["mcrpy"], row[arm]) for row in rows.values() if "mcrpy" in row and arm in row]
        for clock in ("wall", "cpu"):
            for kind in (f"{clock}_s", f"{clock}_in_batch_s"):
                if pairs and not arm.startswith("mcrpy") and kind in own[0]:
                    ratios = [peer[f"{clock}_s"] / mine[kind] for peer, mine in pairs]
                    name = f"times_faster_{kind.removesuffix('_s')}"
                    entry |= {name: float(np.median(ratios)), f"least_{name}": min(ratios)}
        found[arm] = entry
    return found


def targets_of(campaign: str | None, ledger: str | None, crops: int) -> tuple[Any, dict[str, Any]]:
    """The trained prior, if any, and name -> image (h, w) and whether it is the prior's kind."""
    found: dict[str, Any] = {}
    prior = None
    if campaign is not None:
        session = open_session(campaign, ledger)
        torch.set_num_threads(1)
        begun = time.process_time()
        prior = SampleBank(trained_prior(session), BANK, np.random.default_rng(0))
        print(f"bank of {BANK} samples: {time.process_time() - begun:.1f} s CPU", flush=True)
        rng = np.random.default_rng(20261121)
        patches = session.library.patches(8 * crops, rng=rng, split="test")
        mixed = [p for p in patches if 0.2 <= p.mean() <= 0.8]  # both phases have a say
        found |= {f"superalloy {i + 1}": (p, True) for i, p in enumerate(mixed[:crops])}
        session.ledger.close()
    found |= {path.stem: (read_labels(path), False) for path in list_images(DATA)}
    return prior, found


def draw(made: Sequence[Arms], images: Sequence[Labels]) -> Path:
    """The targets above what every arm made of them, one target a column."""
    arms = list(dict.fromkeys(name for one in made for name in one.pictures))
    rows = {"target": np.stack(images)}
    for arm in arms:
        rows[arm] = np.stack([one.pictures[arm] for one in made if arm in one.pictures])
    path = RESULTS / "morphology.png"
    return micrograph_rows(rows, path, title="Reconstructed from two-point statistics")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mcrpy-python", metavar="PYTHON")
    parser.add_argument("--campaign")
    parser.add_argument("--ledger")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--crops", type=int, default=4)
    parser.add_argument("--iterations", type=int, default=300)
    given = parser.parse_args()
    prior, targets = targets_of(given.campaign, given.ledger, given.crops)
    torch.set_num_threads(1)
    with ExitStack() as stack:
        peer = None
        if given.mcrpy_python is not None:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            peer = Peer(str(Path(given.mcrpy_python).absolute()), Path(folder))
            stack.callback(peer.close)
            peer.reconstruct(next(iter(targets.values()))[0], 0, 5)  # warm, as ours below
        first = TwoPointTarget.of_image(next(iter(targets.values()))[0])
        reconstruct(first, 1, rng=np.random.default_rng(0), prior=prior)
        rows: dict[str, Any] = {}
        made = []
        for name, (image, known) in targets.items():
            made.append(
                compare(
                    image,
                    peer=peer,
                    prior=prior if known else None,
                    repeats=given.repeats,
                    iterations=given.iterations,
                )
            )
            rows[name] = made[-1].row()
            for arm, row in rows[name].items():
                print(
                    f"{name:14}{arm:27}S2 {row['two_point_error']:.4f}  fraction "
                    f"{row['fraction_error']:.5f}  lineal path {row['lineal_path_error']:.4f}  k "
                    f"{row['conductivity_error']:.4f}  {row['wall_s']:.3f} s, CPU "
                    f"{row['cpu_s']:.3f} s",
                    flush=True,
                )
    result = {
        "asked": ASKED,
        "published_mcrpy": PUBLISHED,
        "lag_px": LAG,
        "iterations_mcrpy": given.iterations,
        "versions_mcrpy": None if peer is None else peer.versions,
        "threads": 1,
        "summary": {
            kind: summary({name: rows[name] for name, (_, own) in targets.items() if own == crop})
            for kind, crop in (("examples of MCRpy", False), ("superalloy crops", True))
        },
        "targets": rows,
    }
    print(json.dumps(result["summary"], indent=2))
    RESULTS.mkdir(exist_ok=True)
    draw(made, [image for image, _ in targets.values()])
    print(write("morphology", result, ("scipy",)))


if __name__ == "__main__":
    main()
