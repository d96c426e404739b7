"""Walks between two real micrographs: do phase fraction and chord length move monotonically?

    python -m benchmarks.interpolation CAMPAIGN [--ledger URL] [--pairs N] [--frames M]

Pairs are designs of the held-out test spots, of a fixed seed, the first ones that differ by at
least ``APART`` in fraction and by the factor ``LONGER`` in mean chord length, so that there is a
way to go. The walks are ``Editor.frames`` of the campaign's trained flow; every frame is scored by
the campaign's simulators on its discrete image. Arms: nothing requested, along both paths; the two
quantities requested in even steps from end to end; and the same with the simulators' derivatives.

What is measured was fixed before the first walk. Of each walk and of either quantity q, the
fraction or the logarithm of the chord length, in the direction from the first end to the second:

rank    Spearman's correlation of q with the share of the second micrograph
step    the largest fall of q from a frame to any later one, in units of the noise
noise   standard deviation of q among frames at one share when the walk is drawn anew, nothing
        requested, ``REDRAWN`` times with noise of its own in place of the inversion, pooled over
        the shares

A walk is monotone within noise when its largest fall is at most ``2 sqrt(2)`` of the noise, which
95 % of the differences of two frames at one share are. The depth, the scale and the arms were
chosen on other pairs of the same spots (seed 20261121).
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from benchmarks.conditional_accuracy import last_generator
from benchmarks.report import RESULTS, write
from flows.assembly import open_session
from generators.editor import DEPTH, Editor
from generators.flow import JointFlow
from generators.interpolation import Path, evenly
from generators.steering import Steering
from interface.plots_micrographs import interpolation_figure
from loop.candidate import Candidate
from loop.library import Library
from loop.protocols import Differentiable, Simulator
from loop.round import evaluate

FloatArray = NDArray[np.float64]

FRACTION, CHORD = "gamma_prime_fraction", "precipitate_chord_length_px"
AXES = {FRACTION: "γ′ fraction", CHORD: "mean chord length of γ′ (px)"}
PAIRS, FRAMES, REDRAWN = 8, 9, 8
APART, LONGER = 0.15, 1.3
SEED = 20261122
SHOWN = 4  # walks drawn as strips
WITHIN = 2.0 * np.sqrt(2.0)
GUIDANCE = 2.0
ARMS: Mapping[str, Path] = {
    "linear": "linear",
    "slerp": "slerp",
    "slerp, requested": "slerp",
    "slerp, requested, derivatives": "slerp",
}


@dataclass(frozen=True, slots=True, eq=False)
class Walk:
    """Frames between two designs and what was simulated of them: name -> (m,)."""

    frames: Sequence[Candidate]
    values: dict[str, FloatArray]

    @property
    def images(self) -> NDArray[np.uint8]:
        return np.stack([c.microstructure for c in self.frames if c.microstructure is not None])


def quantity(name: str, values: FloatArray) -> FloatArray:
    """What is compared: chord lengths by their ratio."""
    return np.log(values) if name == CHORD else values


def ends(library: Library, pairs: int, simulators: Sequence[Simulator]) -> list[list[Candidate]]:
    """Pairs of designs on test spots that differ in fraction and chord length."""
    rng = np.random.default_rng(SEED)
    found: list[list[Candidate]] = []
    for _ in range(100 * pairs):
        pair = library.draw(2, rng=rng, split="test")
        first, second = (o.values for o in evaluate(simulators, pair))
        if not (first and second):
            continue
        change = second[FRACTION] - first[FRACTION]
        factor = np.log(second[CHORD] / first[CHORD])
        if abs(change) >= APART and abs(factor) >= np.log(LONGER) and change * factor > 0:
            found.append(pair)
        if len(found) == pairs:
            return found
    raise SystemExit(f"only {len(found)} of {pairs} pairs of test crops differ enough")


def scored(frames: Sequence[Candidate], simulators: Sequence[Simulator]) -> Walk:
    """The walk with its simulated values; NaN where a frame cannot be scored."""
    outcomes = evaluate(simulators, frames)
    return Walk(
        frames,
        {name: np.array([o.values.get(name, np.nan) for o in outcomes]) for name in AXES},
    )


def walk(
    flow: JointFlow,
    pair: Sequence[Candidate],
    arm: str,
    frames: int,
    depth: float,
    simulators: Sequence[Simulator],
) -> list[Candidate]:
    """Frames between two designs as an arm of ``ARMS`` makes them."""
    first, second = pair
    flow = copy.copy(flow)
    flow.models = tuple(s for s in simulators if isinstance(s, Differentiable))
    requests = steering = None
    if "requested" in arm:
        known = [o.values for o in evaluate(simulators, pair)]
        asked = [[v[k] if k in AXES else np.nan for k in flow.properties] for v in known]
        requests = evenly(asked[0], asked[1], frames)
        place = flow.properties.index(CHORD)  # in equal steps of its logarithm
        first_chord, last_chord = (np.log([row[place]]) for row in asked)
        requests[:, place] = np.exp(evenly(first_chord, last_chord, frames))[:, 0]
    if "derivatives" in arm:
        steering = Steering(composition_steps=0)  # the image alone decides on both
    editor = Editor(flow, guidance=GUIDANCE)
    return editor.frames(
        first,
        second,
        frames,
        path=ARMS[arm],
        depth=depth,
        requests=requests,
        steering=steering,
    )


def noise_of(redrawn: Sequence[FloatArray]) -> float:
    """Standard deviation within each share, pooled; curves (m,) whose ends are the same."""
    inner = np.stack(redrawn)[:, 1:-1]
    return float(np.sqrt(np.nanmean(np.nanvar(inner, axis=0, ddof=1))))


def largest_fall(curve: FloatArray) -> float:
    """From the highest point so far to any later one; 0 for a curve that never falls."""
    return float(np.max(np.maximum.accumulate(curve) - curve))


def judged(name: str, walk: Walk, redrawn: Sequence[Walk]) -> dict[str, Any]:
    """The statistics of one walk and one quantity."""
    curve = quantity(name, walk.values[name])
    known = np.isfinite(curve)
    rising = curve * np.sign(curve[-1] - curve[0])
    noise = noise_of([quantity(name, other.values[name]) for other in redrawn])
    fall = largest_fall(rising[known])
    return {
        "rank": float(spearmanr(np.arange(len(curve))[known], rising[known]).statistic),
        "noise": noise,
        "largest_fall": fall,
        "step": fall / noise,
        "monotone_within_noise": bool(fall <= WITHIN * noise),
        "strictly_monotone": bool(fall == 0.0),
        "change": float(abs(curve[-1] - curve[0])),
        "unscored": int((~known).sum()),
        "values": walk.values[name].tolist(),
    }


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Over the walks of one path and one quantity."""
    ranks = [row["rank"] for row in rows]
    steps = [row["step"] for row in rows]
    falls = [row["largest_fall"] / row["change"] for row in rows]
    return {
        "walks": len(rows),
        "monotone_within_noise": sum(row["monotone_within_noise"] for row in rows),
        "strictly_monotone": sum(row["strictly_monotone"] for row in rows),
        "rank_mean_and_least": [float(np.mean(ranks)), float(np.min(ranks))],
        "step_median_and_largest": [float(np.median(steps)), float(np.max(steps))],
        "fall_over_change_median_and_largest": [float(np.median(falls)), float(np.max(falls))],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("campaign")
    parser.add_argument("--ledger")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--depth", type=float, default=DEPTH)
    given = parser.parse_args()
    session = open_session(given.campaign, given.ledger)
    flow = last_generator(session)
    start = time.perf_counter()
    pairs = ends(session.library, given.pairs, session.simulators)
    result: dict[str, Any] = {"frames": given.frames, "depth": given.depth, "redrawn": REDRAWN}
    again = []
    for number, (a, b) in enumerate(pairs):
        streams = [np.random.default_rng([SEED, number, i]) for i in range(REDRAWN)]
        walks = [
            Editor(flow).frames(a, b, given.frames, path="linear", depth=given.depth, rng=rng)
            for rng in streams
        ]
        again.append([scored(frames, session.simulators) for frames in walks])
    drawn: list[Walk] = []
    for arm in ARMS:
        began = time.perf_counter()
        drawn = [
            scored(
                walk(flow, pair, arm, given.frames, given.depth, session.simulators),
                session.simulators,
            )
            for pair in pairs
        ]
        for name in AXES:
            rows = [judged(name, w, r) for w, r in zip(drawn, again, strict=True)]
            result[f"{arm}: {name}"] = {**summary(rows), "rows": rows}
            print(arm, name, summary(rows), flush=True)
        result[f"{arm}: seconds"] = round(time.perf_counter() - began, 1)
    result["seconds"] = round(time.perf_counter() - start, 1)
    interpolation_figure(
        [walk.images for walk in drawn[:SHOWN]],
        np.linspace(0, 1, given.frames),
        {label: [walk.values[name] for walk in drawn] for name, label in AXES.items()},
        RESULTS / "interpolation.png",
        logarithmic=(AXES[CHORD],),
        title="Between micrographs of held-out spots, every frame simulated",
    )
    print(write("interpolation", result, ("scipy",)))


if __name__ == "__main__":
    main()
