"""Conductivity and transport beside TauFactor and a sparse direct solver, interleaved.

    python -m benchmarks.simulators [--sizes 64 128 256] [--repeats N] [--out NAME] [--scaling]

Every arm sees the same images and runs in turn in one process on one thread, so that a slow spell
of the machine meets all of them; medians of wall and CPU seconds per image, ratios, and errors:

- transport: percolating images of one conductor and an insulator between two end faces; truth is
  the direct solution of the same finite-volume system. Rows without and with certified bounds,
  each with how many times faster it is than TauFactor and than the direct solution. TauFactor
  comes with the extra [peers]; it is left out, and the report says so, when it is not installed.
- checkerboards: the exact sqrt(k1 k2) beside every arm's value.
- periodic: two-phase images at contrast 10 and 100, with bounds and without, against a direct
  solution of the same bilinear elements (twice, primal and dual, for the bounds).
- growth, with ``--scaling`` alone: CPU seconds on grids n x n from 32 to 1024, over n^2 log n, with
  the exponent of n, and their plot in results/NAME_scaling.png.
- throughput: 128 x 128 at contrast 10, tolerance 1e-4, on one thread of the CPU, and in one batch
  on a GPU when there is one.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import spsolve

from benchmarks.report import RESULTS, write
from simulators.conductivity import effective_conductivity
from simulators.exact import checkerboard_conductivity
from simulators.percolation import percolating
from simulators.transport import through_transport
from simulators.verification import checkerboard

Labels = NDArray[np.int64]
FloatArray = NDArray[np.float64]
Arms = Mapping[str, Callable[[], float]]


def blobs(n: int, fraction: float, seed: int) -> Labels:
    """(n, n) labels, a periodic Gaussian field of 2 pixels' blur cut at a phase fraction."""
    noise = np.fft.rfft2(np.random.default_rng(seed).standard_normal((n, n)))
    q2 = np.fft.fftfreq(n)[:, None] ** 2 + np.fft.rfftfreq(n)[None, :] ** 2
    field = np.fft.irfft2(noise * np.exp(-8 * math.pi**2 * q2), s=(n, n))
    return (field > np.quantile(field, 1 - fraction)).astype(np.int64)


def channels(n: int, count: int) -> list[Labels]:
    """``count`` images (n, n) whose phase 1, 70 % of the pixels, leads from top to bottom."""
    found: list[Labels] = []
    seed = 0
    while len(found) < count:
        image = blobs(n, 0.7, seed)
        seed += 1
        if percolating(image > 0).any():
            found.append(image)
    return found


def raced(arms: Arms, repeats: int) -> dict[str, dict[str, float]]:
    """Run the arms in turn; medians of their seconds and the value each returns."""
    wall: dict[str, list[float]] = {name: [] for name in arms}
    cpu: dict[str, list[float]] = {name: [] for name in arms}
    values = {name: arm() for name, arm in arms.items()}  # warm
    for _ in range(repeats):
        for name, arm in arms.items():
            begun, busy = time.perf_counter(), time.process_time()
            arm()
            wall[name].append(time.perf_counter() - begun)
            cpu[name].append(time.process_time() - busy)
    return {
        name: {
            "value": values[name],
            "wall_s": float(np.median(wall[name])),
            "cpu_s": float(np.median(cpu[name])),
        }
        for name in arms
    }


def taufactor_tortuosity(image: Labels) -> float:
    """TauFactor's binary solver along the first axis, its default convergence."""
    solver = import_module("taufactor").Solver(image.astype(np.float64), device="cpu")
    with contextlib.redirect_stdout(io.StringIO()):
        solver.solve(verbose=False)
    return float(np.ravel(solver.tau)[0])


def taufactor_diffusivity(image: Labels, contrast: float) -> float:
    """TauFactor's multi-phase solver, phases 1 and ``contrast``."""
    peer = import_module("taufactor")
    solver = peer.MultiPhaseSolver(image + 1.0, {1: 1.0, 2: contrast}, device="cpu")
    with contextlib.redirect_stdout(io.StringIO()):
        solver.solve(verbose=False)
    return float(np.ravel(solver.D_eff)[0])


def direct_tortuosity(image: Labels) -> float:
    """Sparse direct solution of the finite volumes, as one would write it with scipy."""
    inside = percolating(image > 0)
    number = np.full(image.shape, -1)
    count = int(inside.sum())
    number[inside] = np.arange(count)
    pairs = []
    for low, high in ((number[:-1], number[1:]), (number[:, :-1], number[:, 1:])):
        both = (low >= 0) & (high >= 0)
        pairs.append(np.stack((low[both], high[both])))
    i, j = np.concatenate(pairs, axis=1)
    top, bottom = (row[row >= 0] for row in (number[0], number[-1]))
    diagonal = np.bincount(np.concatenate((i, j)), minlength=count).astype(float)
    diagonal[top] += 2
    diagonal[bottom] += 2
    own = np.arange(count)
    entries = np.concatenate((-np.ones(2 * len(i)), diagonal))
    places = (np.concatenate((i, j, own)), np.concatenate((j, i, own)))
    matrix = sparse.csc_array((entries, places), shape=(count, count))
    source = np.zeros(count)
    source[top] = 2
    u = spsolve(matrix, source)
    diffusivity = 2 * (1 - u[top]).sum() * image.shape[0] / image.shape[1]
    return float((image > 0).mean() / diffusivity)


ELEMENT = np.array([[4, -1, -1, -2], [-1, 4, -2, -1], [-1, -2, 4, -1], [-2, -1, -1, 4]]) / 6


def direct_energy(k: FloatArray) -> FloatArray:
    """(2, 2) energies of bilinear elements on (h, w) conductivities by a sparse direct solver."""
    h, w = k.shape
    number = np.arange(h * w).reshape(h, w)
    right = np.roll(number, -1, 1)
    nodes = np.stack((number, right, np.roll(number, -1, 0), np.roll(right, -1, 0)), axis=-1)
    nodes = nodes.reshape(-1, 4)
    entries = (k.reshape(-1, 1, 1) * ELEMENT).ravel()
    places = (np.repeat(nodes, 4, axis=1).ravel(), np.tile(nodes, (1, 4)).ravel())
    matrix = sparse.csc_array((entries, places), shape=(h * w, h * w))[1:, 1:]
    slopes = np.array([[-1, 1, -1, 1], [-1, -1, 1, 1]]).T / 2
    load = np.zeros((h * w, 2))
    np.add.at(load, nodes, k.reshape(-1, 1, 1) * slopes)
    u = spsolve(matrix.tocsc(), load[1:])
    result: FloatArray = (k.sum() * np.eye(2) - load[1:].T @ u) / (h * w)
    return result


def transport(n: int, repeats: int, peer: bool) -> dict[str, Any]:
    rows = []
    for image in channels(n, 3):
        arms: dict[str, Callable[[], float]] = {
            "own": partial(own_tortuosity, image, bounds=False),
            "own_with_bounds": partial(own_tortuosity, image, bounds=True),
            "scipy_direct": partial(direct_tortuosity, image),
        }
        if peer:
            arms["taufactor"] = partial(taufactor_tortuosity, image)
        rows.append(raced(arms, repeats))
    result = _compared(rows, "scipy_direct")
    for own in ("own", "own_with_bounds"):
        for other in ("taufactor", "scipy_direct"):
            if other in rows[0]:
                ratios = [row[other]["cpu_s"] / row[own]["cpu_s"] for row in rows]
                result[own][f"times_faster_than_{other}"] = float(np.median(ratios))
    return result


def own_tortuosity(image: Labels, *, bounds: bool) -> float:
    """At a tolerance of 1e-4: below what TauFactor's default convergence leaves."""
    found = through_transport(image[None], [0, 1], bounds=bounds, tolerance=1e-4)
    return float(found.tortuosity[0])


def _compared(rows: list[dict[str, dict[str, float]]], truth: str) -> dict[str, Any]:
    """Per arm: median seconds over the images, largest error, time relative to ``own``."""
    arms: dict[str, Any] = {}
    for name in rows[0]:
        arms[name] = {
            "wall_ms": 1e3 * float(np.median([row[name]["wall_s"] for row in rows])),
            "cpu_ms": 1e3 * float(np.median([row[name]["cpu_s"] for row in rows])),
            "relative_to_own": float(
                np.median([row[name]["cpu_s"] / row["own"]["cpu_s"] for row in rows])
            ),
            "largest_error": max(abs(row[name]["value"] / row[truth]["value"] - 1) for row in rows),
        }
    return arms


def boards(peer: bool) -> dict[str, Any]:
    """Checkerboards of 64 x 64: every arm's relative error, and the bounds."""
    rows: dict[str, Any] = {}
    for contrast in (10.0, 100.0):
        image = checkerboard(64)
        truth = checkerboard_conductivity(1, contrast)
        k = effective_conductivity(image, [1, contrast])
        through = through_transport(image, [1, contrast])
        row = {
            "own_error": abs(k.xx[0] / truth - 1),
            "own_bounds": [k.lower[0, 0, 0] / truth - 1, k.upper[0, 0, 0] / truth - 1],
            "finite_volumes_error": abs(through.diffusivity[0] / truth - 1),
        }
        if peer:
            row["taufactor_error"] = abs(taufactor_diffusivity(image[0], contrast) / truth - 1)
        rows[f"{contrast:g}"] = row
    return rows


def periodic(n: int, contrast: float, repeats: int, tolerance: float) -> dict[str, Any]:
    rows = []
    for seed in range(3):
        image = blobs(n, 0.5, seed)
        k = np.where(image > 0, contrast, 1.0)
        own = partial(own_upper, image, contrast, tolerance)
        arms: Arms = {
            "own": partial(own, dual=False),
            "own_with_bounds": partial(own, dual=True),
            "own_float32": partial(own, dual=False, dtype=torch.float32),
            "scipy_direct": partial(direct_upper, k, dual=False),
            "scipy_direct_with_bounds": partial(direct_upper, k, dual=True),
        }
        rows.append(raced(arms, repeats))
    return _compared(rows, "scipy_direct")


def own_upper(
    image: Labels,
    contrast: float,
    tolerance: float,
    *,
    dual: bool,
    dtype: torch.dtype = torch.float64,
) -> float:
    """Upper bound along x, which the direct solver has too."""
    found = effective_conductivity(
        image[None], [1, contrast], tolerance=tolerance, dual=dual, dtype=dtype
    )
    return float(found.upper[0, 0, 0])


def direct_upper(k: FloatArray, *, dual: bool) -> float:
    """The same by ``direct_energy``, with the dual problem solved as well on request."""
    upper = float(direct_energy(k)[0, 0])
    if dual:
        direct_energy(1 / k)
    return upper


SIZES = (32, 64, 128, 256, 512, 1024)
FITTED = 128  # smaller grids cost what calls cost


def growth(repeats: int) -> dict[str, Any]:
    """Least CPU seconds of ``repeats`` on grids of growing size, and over n^2 log n."""
    table: dict[str, Any] = {}
    for name in ("periodic, contrast 10", "transport", "transport with bounds"):
        seconds = []
        for n in SIZES:
            if name.startswith("transport"):
                solve = partial(own_tortuosity, channels(n, 1)[0], bounds="bounds" in name)
            else:
                solve = partial(own_upper, blobs(n, 0.5, 0), 10.0, 1e-4, dual=True)
            seconds.append(least(solve, repeats))
        law = [n * n * math.log(n) for n in SIZES]
        table[name] = {
            "sizes": SIZES,
            "cpu_s": seconds,
            "over_n2_log_n": [s / cost for s, cost in zip(seconds, law, strict=True)],
            "exponent_of_n": _exponent(seconds),
            "exponent_of_n2_log_n": _exponent(law),
        }
    return table


def _exponent(costs: list[float]) -> float:
    """Slope of log cost against log n from ``FITTED`` on."""
    first = SIZES.index(FITTED)
    return float(np.polyfit(np.log(SIZES[first:]), np.log(costs[first:]), 1)[0])


def least(solve: Callable[[], float], repeats: int) -> float:
    """CPU seconds of the fastest of ``repeats`` runs after a first."""
    solve()
    best = math.inf
    for _ in range(repeats):
        busy = time.process_time()
        solve()
        best = min(best, time.process_time() - busy)
    return best


def plotted(table: Mapping[str, Any], name: str) -> Path:
    """Seconds against the size of the grid, beside n^2 log n through the last point."""
    plt = import_module("matplotlib.figure")
    figure = plt.Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.subplots()
    for marker, (what, row) in zip("os^", table.items(), strict=True):
        n, s = np.array(row["sizes"], dtype=float), np.array(row["cpu_s"])
        label = f"{what}: n^{row['exponent_of_n']:.2f} from {FITTED}"
        (line,) = axes.loglog(n, s, marker, label=label)
        law = n**2 * np.log(n)
        axes.loglog(n, s[-1] * law / law[-1], ":", color=line.get_color())
    axes.set_xticks(SIZES, [str(n) for n in SIZES])
    axes.minorticks_off()
    axes.set_xlabel("n, pixels along a side")
    axes.set_ylabel("CPU seconds per image, one thread")
    axes.legend(title="dotted: n² log n")
    path = RESULTS / f"{name}_scaling.png"
    figure.savefig(path, dpi=120)
    return path


def throughput(repeats: int, count: int = 4096) -> dict[str, Any]:
    """Images per second of 128 x 128 at contrast 10 and a tolerance of 1e-4."""
    images = np.stack([blobs(128, 0.5, seed) for seed in range(256)])
    result = {"cpu, one thread": _per_second(images[:16], "cpu", repeats)}
    if torch.cuda.is_available():
        found = _per_second(np.concatenate([images] * (count // 256)), "cuda", repeats)
        result[f"{torch.cuda.get_device_name()}, batch of {count}"] = found
    return result


def _per_second(images: Labels, device: str, repeats: int) -> dict[str, float]:
    result = {}
    for dtype in (torch.float32, torch.float64):
        for dual in (False, True):
            seconds = []
            for _ in range(1 + repeats):  # the first warms the device and is not the least
                start = time.perf_counter()
                effective_conductivity(
                    images, [1, 10], tolerance=1e-4, device=device, dtype=dtype, dual=dual
                )
                seconds.append(time.perf_counter() - start)  # results are on the host by now
            name = f"{str(dtype).split('.')[1]}, {'with' if dual else 'without'} bounds"
            result[name] = len(images) / min(seconds)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tolerance", type=float, default=1e-6)
    parser.add_argument("--out", default="simulators")
    parser.add_argument("--scaling", action="store_true", help="only cost against grid size")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.scaling:
        table = growth(given.repeats)
        print(plotted(table, given.out))
        print(write(f"{given.out}_scaling", {"threads": 1, "growth": table}, ("scipy",)))
        return
    try:
        import_module("taufactor")
        peer = True
    except ImportError:
        print("taufactor is not installed and left out: pip install 'spinodal[peers]'")
        peer = False
    result: dict[str, Any] = {
        "threads": 1,
        "tolerance": given.tolerance,
        "transport": {str(n): transport(n, given.repeats, peer) for n in given.sizes},
        "checkerboards_64": boards(peer),
        "periodic": {
            f"{n}, contrast {contrast:g}": periodic(n, contrast, given.repeats, given.tolerance)
            for n in given.sizes
            for contrast in (10.0, 100.0)
        },
        "throughput": throughput(given.repeats),
    }
    print(result)
    print(write(given.out, result, ("scipy", "taufactor") if peer else ("scipy",)))


if __name__ == "__main__":
    main()
