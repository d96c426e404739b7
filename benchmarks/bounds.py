"""Do the bounds hold? Random images with a known or a fine-grid answer.

    python -m benchmarks.bounds [--cases N] [--seed S]

Every case draws its dimension, phases (two to four, isotropic or anisotropic, contrast 1 to 1e4),
morphology, precision and how early the solver is stopped. The answer is exact for laminates and
checkerboards; elsewhere it is the image refined two or four times, whose own bounds enclose the
truth of the same body. A case is lost when the difference between a bound and the answer has an
eigenvalue of the wrong sign beyond rounding.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.report import write
from simulators.conductivity import effective_conductivity
from simulators.exact import laminate_tensor

FloatArray = NDArray[np.float64]
ROUNDING = 1e-10  # of the largest eigenvalue
KINDS = ("image", "voxels", "laminate", "checkerboard")


@dataclass(frozen=True, slots=True)
class Found:
    """One case: ``margin`` >= 0 when the bounds hold; it and ``gap`` are relative to the upper."""

    kind: str
    anisotropic: bool
    stopped: bool
    contrast: float
    margin: float
    gap: float


def random_case(rng: np.random.Generator) -> Found:
    """Draw a case, bound it and compare with its answer."""
    kind = str(rng.choice(KINDS, p=[0.4, 0.3, 0.2, 0.1]))
    contrast = float(10 ** rng.uniform(0, 4))
    anisotropic = kind != "checkerboard" and bool(rng.integers(2))
    m = 3 if kind == "voxels" or (kind == "laminate" and rng.integers(2)) else 2
    phases = 2 if kind == "checkerboard" else int(rng.integers(2, 5))
    values = _phases(rng, phases, m, contrast, anisotropic)
    image, answer = _image(rng, kind, m, values, contrast)
    steps = int(rng.choice([1, 2, 4, 8, 2000]))
    dtype = torch.float32 if rng.integers(2) else torch.float64
    tolerance = float(10 ** rng.uniform(-8, -2))
    k = effective_conductivity(
        image, values, tolerance=tolerance, max_iterations=steps, dtype=dtype
    )
    lower, upper = k.lower[0], k.upper[0]
    size = float(np.linalg.eigvalsh(upper)[-1])
    margin = min(
        float(np.linalg.eigvalsh(high - low)[0])
        for low, high in ((lower, answer), (answer, upper), (lower, k.tensor[0]))
    )
    margin = min(margin, float(np.linalg.eigvalsh(upper - k.tensor[0])[0]))
    gap = float(np.trace(upper - lower) / np.trace(upper))
    return Found(kind, anisotropic, steps < 2000, contrast, margin / size, gap)


def _phases(
    rng: np.random.Generator, p: int, m: int, contrast: float, anisotropic: bool
) -> FloatArray:
    """(p,) or (p, m, m) with the extremes 1 and ``contrast`` among the eigenvalues."""
    size = rng.permutation(np.concatenate(([1.0, contrast], contrast ** rng.random(p - 2))))
    if not anisotropic:
        return size
    axes = np.linalg.qr(rng.standard_normal((p, m, m)))[0]
    inner = contrast ** rng.uniform(-0.25, 0.25, (p, m))
    tensors = np.einsum("pij,pj,pkj->pik", axes, size[:, None] * inner, axes)
    result: FloatArray = 0.5 * (tensors + tensors.swapaxes(1, 2))
    return result


def _image(
    rng: np.random.Generator, kind: str, m: int, values: FloatArray, contrast: float
) -> tuple[NDArray[np.int64], FloatArray]:
    """Labels (1, ...) and the tensor of the body, or one between its fine-grid bounds."""
    p = len(values)
    if kind == "checkerboard":
        half = np.arange(16) // 8
        return (half[:, None] ^ half)[None].astype(np.int64), np.sqrt(contrast) * np.eye(2)
    if kind == "laminate":
        axis, line = int(rng.integers(m)), rng.permutation(rng.integers(0, p, 9))
        reach, shape = [1] * m, [2] * m
        reach[m - 1 - axis] = shape[m - 1 - axis] = len(line)
        image = np.broadcast_to(line.reshape(reach), shape)[None].astype(np.int64)
        tensors = values if values.ndim == 3 else values[:, None, None] * np.eye(m)
        share = np.bincount(line, minlength=p) / len(line)
        return image, laminate_tensor(share, tensors, np.eye(m)[axis])
    n = int(rng.integers(5, 14)) if m == 2 else int(rng.integers(3, 7))
    shape = [n, *(int(s) for s in rng.integers(3, n + 1, m - 1))]
    field = np.fft.fftn(rng.standard_normal(shape))
    for axis, size in enumerate(shape):
        reach = [1] * m
        reach[axis] = size
        wave = np.fft.fftfreq(size).reshape(reach)
        field = field * np.exp(-float(rng.choice([0.0, 15.0])) * wave**2)
    real = np.fft.ifftn(field).real
    cuts = np.quantile(real, np.sort(rng.uniform(0.1, 0.9, p - 1)))
    image = np.digitize(real, cuts)[None].astype(np.int64)
    finer = image
    for axis in range(1, m + 1):
        finer = finer.repeat(4 if m == 2 else 2, axis)
    return image, effective_conductivity(finer, values, tolerance=1e-8).tensor[0]


def summary(found: list[Found]) -> dict[str, Any]:
    """Counts, violations and the spread of the gaps, per kind of case."""
    kinds = Counter((f.kind, f.anisotropic) for f in found)
    rows = {}
    for kind, anisotropic in sorted(kinds):
        own = [f for f in found if (f.kind, f.anisotropic) == (kind, anisotropic)]
        gaps = [f.gap for f in own if not f.stopped]
        rows[f"{kind}, {'anisotropic' if anisotropic else 'isotropic'}"] = {
            "cases": len(own),
            "stopped_early": sum(f.stopped for f in own),
            "violations": sum(f.margin < -ROUNDING for f in own),
            "least_margin": min(f.margin for f in own),
            "median_gap_when_converged": float(np.median(gaps)) if gaps else None,
        }
    return {
        "cases": len(found),
        "violations": sum(f.margin < -ROUNDING for f in found),
        "largest_contrast": max(f.contrast for f in found),
        "kinds": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    start = time.process_time()
    result = summary([random_case(rng) for _ in range(given.cases)])
    result["seed"], result["cpu_seconds"] = given.seed, time.process_time() - start
    print(result)
    print(write("bounds", result, ("scipy",)))


if __name__ == "__main__":
    main()
