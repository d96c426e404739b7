"""``spinodal verify simulators``: tensors, voxels, transport and gradients of conductivity."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from loop.verification import Case, absolute_case, relative_case
from simulators import exact
from simulators.adjoint import conductivity_of_field, soft_field
from simulators.bounds import hashin_shtrikman
from simulators.conductivity import effective_conductivity
from simulators.transport import through_transport

ROOM = "simulators"
TIGHT = 1e-12
# 19 links and 18 rings of 1 between the layers, 7/24 at either end, times 4 / 20.
SLANTED = (37 + 7 / 12) / 5
Labels = NDArray[np.int64]
# Three directions, none along an axis; eigenvalues 1, 2 and 5.
AXES = np.array([[2, 1, 2], [-2, 2, 1], [-1, -2, 2]]) / 3
CRYSTAL = AXES.T @ np.diag([1.0, 2.0, 5.0]) @ AXES


def cases() -> list[Case]:
    """Every case, computed now on the CPU in float64; a few seconds."""
    return [*_laminates(), *_voxels(), *_bounds(), *_transport(), *_gradients()]


def slanted_strip(length: int = 20) -> Labels:
    """(1, n, n + 1, n + 1) labels: a strip of 2 x 2 voxels that moves (1, 1) in every layer."""
    image = np.zeros((1, length, length + 1, length + 1), dtype=np.int64)
    for i in range(length):
        image[0, i, i : i + 2, i : i + 2] = 1
    return image


def _layers(m: int, axis: int) -> Labels:
    """(1, ...) labels of two layers, 3 and 5 pixels thick, normal to x, y or z."""
    shape, reach = [2] * m, [1] * m
    shape[m - 1 - axis] = reach[m - 1 - axis] = 8
    line = np.repeat([0, 1], [3, 5]).reshape(reach)
    return np.broadcast_to(line, shape)[None].astype(np.int64)


def _laminates() -> Iterator[Case]:
    source = "Milton 2002, section 9.2"
    for m, contrast in ((2, 1e6), (3, 1.0), (3, 1e6)):
        phases = np.stack((CRYSTAL, contrast * np.roll(CRYSTAL, (1, 1), (0, 1))))[:, :m, :m]
        for axis in range(m):
            truth = exact.laminate_tensor([3 / 8, 5 / 8], phases, np.eye(m)[axis])
            k = effective_conductivity(_layers(m, axis), phases, tolerance=TIGHT).tensor[0]
            size = np.sqrt(np.outer(np.diag(truth), np.diag(truth)))
            i, j = np.unravel_index(np.abs((k - truth) / size).argmax(), (m, m))
            what = f"anisotropic laminate, {m}-D, {contrast:g}:1, normal {'xyz'[axis]}"
            yield absolute_case(
                ROOM,
                f"conductivity, {what}, worst entry",
                float(truth[i, j] / size[i, j]),
                float(k[i, j] / size[i, j]),
                1e-8,
                source,
            )
    i = np.arange(128)
    diagonal = ((i[:, None] + i[None, :]) // 32 % 2)[None]
    truth = exact.laminate_tensor([0.5, 0.5], np.eye(2) * [[[1]], [[10]]], [1, 1])
    oblique = effective_conductivity(diagonal, [1, 10]).tensor[0]
    yield relative_case(
        ROOM,
        "conductivity, laminate at 45 degrees, 128 px, xx",
        truth[0, 0],
        oblique[0, 0],
        2e-2,
        source,
    )


def _voxels() -> Iterator[Case]:
    x2 = ((np.arange(24) + 0.5) / 24 - 0.5) ** 2
    ball = (x2[:, None, None] + x2[:, None] + x2 <= 0.22**2)[None].astype(np.int64)
    f = float(ball.mean())
    for contrast in (0.01, 10.0):
        k = effective_conductivity(ball, [1, contrast], tolerance=1e-5)
        truth = exact.maxwell_conductivity(f, 1, contrast)
        yield relative_case(
            ROOM,
            f"conductivity, dilute spheres {contrast:g}:1, 24 voxels",
            truth,
            k.xx[0],
            1e-2,
            "Maxwell 1873",
        )
        low, high = (float(b) for b in hashin_shtrikman([1 - f, f], [1, contrast], dimensions=3))
        inside = min(max(float(k.xx[0]), low), high)
        yield relative_case(
            ROOM,
            f"conductivity, spheres {contrast:g}:1, inside Hashin-Shtrikman",
            float(k.xx[0]),
            inside,
            0.0,
            "Hashin, Shtrikman 1962",
        )


def _bounds() -> Iterator[Case]:
    """Bounds of a coarse grid around those of a finer one: Loewner order, worst eigenvalue."""
    rng = np.random.default_rng(0)
    phases = np.stack((CRYSTAL, 40 * np.roll(CRYSTAL, (1, 1), (0, 1))))
    for m, given in ((2, phases[:, :2, :2]), (3, phases), (3, np.array([1.0, 1e4]))):
        image = rng.integers(0, 2, (1, *[5] * m))
        finer = image
        for axis in range(1, m + 1):
            finer = finer.repeat(2, axis)
        fine = effective_conductivity(finer, given)
        for steps in (3, 2000):
            k = effective_conductivity(image, given, max_iterations=steps)
            worst = min(
                float(np.linalg.eigvalsh(high - low).min())
                for low, high in ((k.lower[0], fine.tensor[0]), (fine.tensor[0], k.upper[0]))
            )
            kind = "isotropic" if given.ndim == 1 else "anisotropic"
            yield absolute_case(
                ROOM,
                f"conductivity, {kind}, {m}-D, bounds after {steps} steps hold the finer grid",
                0.0,
                min(worst, 0.0),
                1e-9,
                "Dirichlet and Thomson principles",
            )
    for contrast, board in ((10.0, True), (10.0, False)):
        gaps = []
        for n in (32, 64):
            half = np.arange(n) < n // 2
            joined = half[:, None] ^ half if board else half[:, None] & half
            k = effective_conductivity(joined[None].astype(np.int64), [1, contrast], tolerance=1e-8)
            gaps.append(float((k.upper - k.lower)[0, 0, 0]))
        yield absolute_case(
            ROOM,
            f"conductivity, order of the gap, {'checkerboard' if board else 'square inclusion'}",
            2 * exact.corner_exponent(contrast, checkerboard=board),
            float(np.log2(gaps[0] / gaps[1])),
            0.02,
            "Kellogg 1974",
        )


def _transport() -> Iterator[Case]:
    source = "TauFactor's test suite"
    strip = np.zeros((1, 20, 20, 20), dtype=np.int64)
    strip[:, :, :10, :10] = 1
    mixed = strip.copy()
    mixed[:, :, :10, 10:] = 2
    slab = np.ones((1, 20, 20, 20), dtype=np.int64)
    slab[:, :, 0] = 0
    for name, image, values, truth in (
        ("uniform block", slab, [0, 1], 1.0),
        ("straight strip", strip, [0, 1], 1.0),
        ("strips of 1 and 0.5", mixed, [0, 1, 0.5], 1.0),
        ("slanted strip 20 x 21 x 21", slanted_strip(), [0, 1], SLANTED),
    ):
        k = through_transport(image, values, tolerance=TIGHT)
        yield relative_case(ROOM, f"tortuosity, {name}", truth, k.tortuosity[0], 1e-8, source)
    blocked = np.zeros((1, 10, 50, 50), dtype=np.int64)
    blocked[:, :8, 25, 25] = 1
    k = through_transport(blocked, [0, 1])
    yield absolute_case(
        ROOM, "tortuosity, dead end, its inverse", 0.0, float(1 / k.tortuosity[0]), 0.0, source
    )
    layers = np.repeat([0, 1], [12, 20])[None, :, None] * np.ones((1, 1, 8), dtype=np.int64)
    k = through_transport(layers, [1.0, 50.0])
    series = 32 / (12 / 1.0 + 20 / 50.0)
    yield relative_case(
        ROOM, "diffusivity, layers in series", series, k.diffusivity[0], 1e-9, "harmonic mean"
    )
    yield relative_case(
        ROOM, "diffusivity, layers in series, lower bound", series, k.lower[0], 1e-9, "Thomson"
    )


def _gradients() -> Iterator[Case]:
    """Directional derivatives of the trace of the estimate against central differences."""
    rng = np.random.default_rng(0)
    for shape in ((1, 12, 10), (1, 5, 4, 6)):
        soft = torch.as_tensor(rng.random(shape))
        phases = torch.tensor([1.0, 30.0], dtype=torch.float64)
        ways = (torch.as_tensor(rng.standard_normal(shape)) * 0.1, torch.tensor([0.3, -2.0]))

        def trace(s: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
            found = conductivity_of_field(soft_field(s, p), tolerance=1e-14)
            return found.tensor[0].trace()

        inputs = (soft.clone().requires_grad_(), phases.clone().requires_grad_())
        slopes = torch.autograd.grad(trace(*inputs), inputs)
        for number, name in enumerate(("a soft phase field", "phase conductivities")):
            step = [torch.zeros_like(soft), torch.zeros_like(phases)]
            step[number] = ways[number].double() * 1e-5
            with torch.no_grad():
                above = trace((soft + step[0]).clamp(0, 1), phases + step[1])
                below = trace((soft - step[0]).clamp(0, 1), phases - step[1])
            difference = float(above - below) / 2e-5
            along = float((slopes[number] * ways[number]).sum())
            yield relative_case(
                ROOM,
                f"conductivity, gradient with respect to {name}, {soft.ndim - 1}-D",
                difference,
                along,
                1e-5,
                "central differences",
            )
