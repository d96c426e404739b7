"""``spinodal verify simulators``: anisotropic elasticity, its bounds, expansion and gradients."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from loop.verification import Case, absolute_case, relative_case
from simulators import stiffness_exact as exact
from simulators.adjoint import soft_field
from simulators.adjoint_elasticity import isotropic_field, stiffness_of_field
from simulators.conductivity import effective_conductivity
from simulators.stiffness import effective_elasticity
from simulators.stiffness_local import peak_stress, thermal_expansion
from simulators.stiffness_moduli import voigt_reuss_hill, zener_ratio
from simulators.stiffness_tensors import cubic_stiffness, isotropic_stiffness

ROOM = "simulators"
TIGHT = 1e-13
FloatArray = NDArray[np.float64]
Labels = NDArray[np.int64]
# Three directions, none along an axis.
EDGES = np.array([[2, 1, 2], [-2, 2, 1], [-1, -2, 2]]) / 3
NICKEL = (247.0, 153.0, 122.0)  # GPa
GRAINS = np.stack((cubic_stiffness(*NICKEL, EDGES), cubic_stiffness(*NICKEL, EDGES @ EDGES)))


def cases() -> list[Case]:
    """Every case, computed now on the CPU in float64; a few seconds."""
    return [*_laminates(), *_uniform(), *_inclusions(), *_bounds(), *_local(), *_gradients()]


def _layers(m: int, axis: int) -> Labels:
    """(1, ...) labels of two layers, 3 and 5 pixels thick, normal to x, y or z."""
    shape, reach = [2] * m, [1] * m
    shape[m - 1 - axis] = reach[m - 1 - axis] = 8
    line = np.repeat([0, 1], [3, 5]).reshape(reach)
    return np.broadcast_to(line, shape)[None].astype(np.int64)


def _worst(name: str, found: FloatArray, truth: FloatArray, allowed: float, source: str) -> Case:
    """The entry (6, 6) that is farthest off, in units of sqrt(truth_ii truth_jj)."""
    size = np.sqrt(np.outer(np.diag(truth), np.diag(truth)))
    i, j = np.unravel_index(np.abs((found - truth) / size).argmax(), truth.shape)
    return absolute_case(
        ROOM,
        name,
        float(truth[i, j] / size[i, j]),
        float(found[i, j] / size[i, j]),
        allowed,
        source,
    )


def _least(low: FloatArray, high: FloatArray) -> float:
    """Least eigenvalue of high - low by the norm of high, 0 when positive."""
    return min(float(np.linalg.eigvalsh(high - low).min() / np.linalg.norm(high)), 0.0)


def _laminates() -> Iterator[Case]:
    source = "Milton 2002, section 9.2"
    for m, contrast in ((2, 1e6), (3, 1.0), (3, 1e6)):
        phases = GRAINS * np.array([1.0, contrast]).reshape(2, 1, 1)
        for axis in range(m):
            truth = exact.laminate([3 / 8, 5 / 8], phases, np.eye(3)[axis])
            c = effective_elasticity(_layers(m, axis), phases, tolerance=TIGHT)
            for name, found in (("lower", c.lower), ("upper", c.upper)):
                yield _worst(
                    f"stiffness, crystal laminate, {m}-D, {contrast:g}:1, normal {'xyz'[axis]}, "
                    f"{name} bound, worst entry",
                    found[0],
                    truth,
                    1e-8,
                    source,
                )
    i = np.arange(64)
    diagonal = ((i[:, None] + i[None, :]) // 32 % 2)[None]
    phases = GRAINS * np.array([1.0, 10.0]).reshape(2, 1, 1)
    oblique = effective_elasticity(diagonal, phases, tolerance=1e-5).tensor[0]
    truth = exact.laminate([0.5, 0.5], phases, [1, 1, 0])
    yield _worst(
        "stiffness, crystal laminate at 45 degrees, 64 px, worst entry",
        oblique,
        truth,
        3e-2,
        source,
    )


def _uniform() -> Iterator[Case]:
    """Cubic grains under pressure strain alike, whatever their orientation."""
    for shape in ((1, 12, 12), (1, 6, 6, 6)):
        image = np.random.default_rng(0).integers(0, 2, shape)
        c = effective_elasticity(image, GRAINS, tolerance=TIGHT)
        bulk = (NICKEL[0] + 2 * NICKEL[1]) / 3
        for name, matrix in (("lower", c.lower), ("upper", c.upper)):
            yield relative_case(
                ROOM,
                f"bulk modulus of a cubic polycrystal, {len(shape) - 1}-D, {name} bound",
                bulk,
                float(voigt_reuss_hill(matrix[0]).bulk),
                1e-9,
                "Hill 1952",
            )
    zener = 2 * NICKEL[2] / (NICKEL[0] - NICKEL[1])
    crystal = cubic_stiffness(*NICKEL)
    yield relative_case(
        ROOM, "Zener ratio of nickel", zener, float(zener_ratio(crystal)), 1e-12, "its definition"
    )


def _inclusions() -> Iterator[Case]:
    x2 = ((np.arange(20) + 0.5) / 20 - 0.5) ** 2
    ball = (x2[:, None, None] + x2[:, None] + x2 <= 0.24**2)[None].astype(np.int64)
    f = float(ball.mean())
    for contrast in (0.05, 20.0):
        bulk, shear = (100.0, 100 * contrast), (60.0, 50 * contrast)
        c = effective_elasticity(ball, isotropic_stiffness(bulk, shear), tolerance=1e-4)
        found = voigt_reuss_hill(c.tensor[0])
        truth = exact.dilute_spheres(f, bulk, shear)
        low, high = exact.hashin_shtrikman([1 - f, f], bulk, shear)
        what = f"dilute spheres {contrast:g}:1, 20 voxels"
        yield relative_case(
            ROOM, f"bulk modulus, {what}", truth[0], float(found.bulk), 1e-2, "Eshelby 1957"
        )
        yield relative_case(
            ROOM, f"shear modulus, {what}", truth[1], float(found.shear), 1e-2, "Eshelby 1957"
        )
        k = float(found.bulk)
        yield relative_case(
            ROOM,
            f"bulk modulus, {what}, inside Hashin-Shtrikman",
            k,
            min(max(k, low[0]), high[0]),
            0.0,
            "Hashin, Shtrikman 1963",
        )


def _bounds() -> Iterator[Case]:
    rng = np.random.default_rng(1)
    worst = 0.0
    for shape in ((600, 4, 4), (400, 2, 3, 3)):
        images = rng.integers(0, 2, shape)
        n = len(images)
        bulk, shear = 10 ** rng.uniform(-2, 2, (n, 2)), 10 ** rng.uniform(-2, 2, n)
        c = effective_elasticity(images, isotropic_stiffness(bulk, shear[:, None]), tolerance=1e-3)
        f = images.reshape(n, -1).mean(1)
        for i in range(n):
            truth = exact.equal_shear([1 - f[i], f[i]], bulk[i], shear[i])
            worst = min(worst, _least(c.lower[i], truth), _least(truth, c.upper[i]))
    yield absolute_case(
        ROOM,
        "stiffness, equal shear moduli, bounds hold in 1000 random bodies",
        0.0,
        worst,
        1e-10,
        "Hill 1963",
    )
    phases = GRAINS * np.array([1.0, 30.0]).reshape(2, 1, 1)
    for shape in ((1, 5, 5), (1, 3, 3, 3)):
        image = finer = rng.integers(0, 2, shape)
        for axis in range(1, image.ndim):
            finer = finer.repeat(2, axis)
        fine = effective_elasticity(finer, phases)
        for steps in (3, 2000):
            c = effective_elasticity(image, phases, max_iterations=steps)
            inside = min(_least(c.lower[0], fine.tensor[0]), _least(fine.tensor[0], c.upper[0]))
            yield absolute_case(
                ROOM,
                f"stiffness, crystals, {image.ndim - 1}-D, bounds after {steps} steps hold the "
                "finer grid",
                0.0,
                inside,
                1e-10,
                "minimum principles",
            )
    image = rng.integers(0, 2, (1, 12, 12))
    shear = np.array([1.0, 50.0])
    c = effective_elasticity(image, isotropic_stiffness(2 * shear, shear), tolerance=TIGHT)
    k = effective_conductivity(image, shear, tolerance=TIGHT)
    for name, own, other in (("lower", c.lower, k.lower), ("upper", c.upper, k.upper)):
        yield relative_case(
            ROOM,
            f"stiffness, antiplane shear is conduction, {name} bound",
            float(other[0, 0, 0]),
            float(own[0, 4, 4]),
            1e-9,
            "Milton 2002, section 2.7",
        )
    bulk2, shear2 = (1.0, 100.0), (0.6, 60.0)
    gaps = []
    for n in (32, 64):
        half = np.arange(n) < n // 2
        fibre = (half[:, None] & half)[None].astype(np.int64)
        c = effective_elasticity(fibre, isotropic_stiffness(bulk2, shear2), tolerance=1e-7)
        gap = (c.upper - c.lower)[0]
        gaps.append(float(gap[0, 0] - gap[0, 1]))
    yield absolute_case(
        ROOM,
        "stiffness, order of the gap, square fibre 100:1",
        2 * exact.corner_exponent(bulk2, shear2),
        float(np.log2(gaps[0] / gaps[1])),
        0.02,
        "Bogy 1971",
    )


def _local() -> Iterator[Case]:
    phases = isotropic_stiffness([100.0, 900.0], [60.0, 400.0])
    alpha = np.array([1.0, 5.0])
    for shape in ((1, 10, 10), (1, 5, 5, 5)):
        image = np.random.default_rng(2).integers(0, 2, shape)
        f = float(image.mean())
        found = thermal_expansion(image, phases, alpha, tolerance=TIGHT).expansion[0]
        whole = effective_elasticity(image, phases, tolerance=TIGHT, dual=False).upper[0]
        truth = exact.levin_expansion(whole, phases, alpha, [1 - f, f])
        yield relative_case(
            ROOM,
            f"thermal expansion of two phases, {len(shape) - 1}-D, xx",
            float(truth[0, 0]),
            float(found[0, 0]),
            1e-6,
            "Levin 1967",
        )
    uniform = peak_stress(np.zeros((1, 4, 4, 4), dtype=np.int64), GRAINS, direction=[1, 2, 3])
    yield relative_case(
        ROOM,
        "peak von Mises stress of a uniform body per unit of tension",
        1.0,
        float(uniform.von_mises[0, -1]),
        1e-10,
        "uniform stress",
    )


def _gradients() -> Iterator[Case]:
    """Directional derivatives of the trace of the estimate against central differences."""
    rng = np.random.default_rng(0)
    for shape in ((1, 7, 6), (1, 4, 3, 4)):
        inputs = (
            torch.as_tensor(0.1 + 0.8 * rng.random(shape)),
            torch.tensor([1.0, 30.0], dtype=torch.float64),
            torch.tensor([0.6, 14.0], dtype=torch.float64),
        )

        def trace(s: torch.Tensor, k: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
            field = isotropic_field(soft_field(s, k), soft_field(s, g))
            return stiffness_of_field(field, tolerance=1e-14).tensor[0].trace()

        leaves = tuple(part.clone().requires_grad_() for part in inputs)
        slopes = torch.autograd.grad(trace(*leaves), leaves)
        names = ("a soft phase field", "the bulk moduli", "the shear moduli")
        for number, name in enumerate(names):
            way = torch.as_tensor(rng.standard_normal(slopes[number].shape)) * 0.1
            step = [torch.zeros_like(part) for part in inputs]
            step[number] = 1e-4 * way
            with torch.no_grad():
                above = trace(*(a + s for a, s in zip(inputs, step, strict=True)))
                below = trace(*(a - s for a, s in zip(inputs, step, strict=True)))
            yield relative_case(
                ROOM,
                f"stiffness, gradient with respect to {name}, {len(shape) - 1}-D",
                float(above - below) / 2e-4,
                float((slopes[number] * way).sum()),
                1e-5,
                "central differences",
            )
