"""Heat treatment of an alloy: composition, temperature and time in, microstructure out.

A solution that is quenched from above and held at a temperature where it does not mix unmixes and
coarsens. ``anneal`` follows it with ``phase_field``: G of the solution per mole, gradient energy
per mole, mobilities from tracer diffusivities (Darken), equal molar volumes. Inside, lengths are in
pixels and energies in R T, so that float32 does. The fields become phase labels by the nearest
equilibrium phase. ``realisability`` compares the outcome with a proposed image.

Sources: J. W. Cahn, Acta Metall. 9, 795 (1961); K. Thornton, J. Agren and P. W. Voorhees, Acta
Mater. 51, 5675 (2003).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from loop.errors import InvalidInputError, unknown_name
from simulators.free_energy import FLOOR, DarkenMobility, SolutionEnergy, darken_mobility
from simulators.phase_field import (
    MAX_STEPS,
    TOLERANCE,
    checked_matrices,
    evolve,
    fastest_wavelength,
)
from simulators.solution import GAS_CONSTANT, Solution
from simulators.thermodynamics import Equilibrium, equilibrium

FloatArray = NDArray[np.float64]

FLUCTUATION = 0.005  # standard deviation of a fraction from pixel to pixel after the quench
LEAST_WAVELENGTH = 8.0  # px of the fastest wave, below which interfaces are not resolved


@dataclass(frozen=True, slots=True)
class Material:
    """What ``anneal`` needs to know of an alloy.

    ``gradient_energy_J_m2_per_mol``: K of the independent fractions (all elements but the first),
    a number or (c - 1, c - 1): the energy per mole is G + K/2 |grad x|^2. For a regular solution
    of interaction L and nearest neighbours at distance a it is about L a^2 (J. W. Cahn and
    J. E. Hilliard, J. Chem. Phys. 28, 258, 1958).
    ``diffusion``: element -> (D0 in m2/s, Q in J/mol) of its tracer in the alloy, D0 exp(-Q / RT).
    Raises InvalidInputError for an element without diffusion data or values that are not > 0.
    """

    solution: Solution
    gradient_energy_J_m2_per_mol: ArrayLike  # noqa: N815
    diffusion: Mapping[str, tuple[float, float]]

    def __post_init__(self) -> None:
        for element in self.diffusion:
            if element not in self.solution.elements:
                raise InvalidInputError(
                    "diffusion: " + unknown_name("element", element, self.solution.elements)
                )
        for element in self.solution.elements:
            if element not in self.diffusion:
                raise InvalidInputError(
                    f"diffusion data of {element} are missing; give (D0 in m2/s, Q in J/mol)"
                )
            prefactor, barrier = self.diffusion[element]
            if not (0 < prefactor < math.inf and 0 <= barrier < math.inf):
                raise InvalidInputError(
                    f"diffusion of {element} is ({prefactor:g}, {barrier:g}); expected D0 > 0 in "
                    "m2/s and Q >= 0 in J/mol"
                )

    def diffusivities(self, temperature_K: ArrayLike) -> FloatArray:
        """(n,) -> tracer diffusivities (n, c), m2/s."""
        t = np.asarray(temperature_K, dtype=np.float64)[..., None]
        data = np.array([self.diffusion[e] for e in self.solution.elements])
        result: FloatArray = data[:, 0] * np.exp(-data[:, 1] / (GAS_CONSTANT * t))
        return result


@dataclass(frozen=True, slots=True)
class Microstructures:
    """n heat-treated alloys.

    ``fractions``: (n, c, h, w) atomic fractions. ``labels``: (n, h, w) uint8, place of the nearest
    phase of ``rest``, their equilibria. ``energies``: (n,) J/mol, gradients included. ``steps``:
    (n,). ``finished``: (n,) false where the steps ran out, whose fields are nan and labels 0.
    """

    fractions: FloatArray
    labels: NDArray[np.uint8]
    rest: tuple[Equilibrium, ...]
    energies: FloatArray
    steps: NDArray[np.int64]
    finished: NDArray[np.bool_]


def anneal(
    material: Material,
    compositions: ArrayLike,
    temperature_K: ArrayLike,
    time_s: ArrayLike,
    *,
    shape: tuple[int, int],
    spacing_m: float,
    seeds: Sequence[int],
    fluctuation: float = FLUCTUATION,
    local_mobility: bool = True,
    tolerance: float = TOLERANCE,
    max_steps: int = MAX_STEPS,
    floor: float = FLOOR,
    device: str = "cpu",
    dtype: torch.dtype = torch.float64,
) -> Microstructures:
    """Microstructures of n alloys after holding a homogeneous solution at a temperature.

    ``compositions``: (n, c) atomic fractions. ``temperature_K``, ``time_s``: (n,). ``shape``:
    (h, w) pixels of ``spacing_m``. ``seeds``: (n,), of the fluctuations each starts from, white
    noise of standard deviation ``fluctuation`` (less where an element is rarer than that).
    ``local_mobility``: mobility of the local composition, else that of the mean, which is cheaper
    and too fast inside nearly pure phases. ``floor``: see ``SolutionEnergy``.
    Raises InvalidInputError for wrong shapes and values and for a spacing that is too coarse for
    the waves that grow.
    """
    solution = material.solution
    x = np.atleast_2d(np.asarray(compositions, dtype=np.float64))
    n, c = len(x), len(solution.elements)
    t, duration = (
        _vector(name, v, n) for name, v in (("temperature_K", temperature_K), ("time_s", time_s))
    )
    x = np.array(solution.checked(x, t)[0])  # of its own: torch wants to write
    if np.any(duration <= 0) or not np.all(np.isfinite(duration)):
        raise InvalidInputError(f"time is {duration.min():g} s; expected finite values > 0")
    if len(seeds) != n or min(shape) < 4 or not (math.isfinite(spacing_m) and spacing_m > 0):
        raise InvalidInputError(
            f"{len(seeds)} seeds, shape {shape} and spacing {spacing_m:g} m; expected {n} seeds, "
            "at least 4 x 4 pixels and a spacing > 0"
        )
    rt = GAS_CONSTANT * t
    energy = SolutionEnergy(solution, t, floor=floor)
    stiff = checked_matrices(
        "gradient_energy", material.gradient_energy_J_m2_per_mol, n, c - 1, definite=True
    ) / (rt[:, None, None] * spacing_m**2)
    speeds = material.diffusivities(t)
    rate = speeds.max(1)  # time is counted in spacing^2 / D of the fastest
    relative = speeds / rate[:, None]
    uniform = darken_mobility(x, relative)
    alloys = [(x[i].tobytes(), float(t[i])) for i in range(n)]  # often the same with other seeds
    firsts = {alloy: i for i, alloy in reversed(list(enumerate(alloys)))}
    for i in firsts.values():
        check_resolution(material, x[i], float(t[i]), spacing_m)
    start = np.stack([_noisy(x[i], shape, fluctuation, seeds[i]) for i in range(n)])
    done = evolve(
        start,
        energy,
        times=(duration * rate / spacing_m**2)[:, None],
        gradient=stiff,
        mobility=DarkenMobility(relative) if local_mobility else uniform,
        tolerance=tolerance,
        max_steps=max_steps,
        device=device,
        dtype=dtype,
    )
    fields = done.fields[:, 0].astype(np.float64)
    fractions = np.concatenate((1 - fields.sum(1, keepdims=True), fields), axis=1)
    states = {own: equilibrium(solution, x[i], own[1]) for own, i in firsts.items()}
    rest = tuple(states[own] for own in alloys)
    return Microstructures(
        fractions=fractions,
        labels=np.stack([_labels(f, r.compositions) for f, r in zip(fractions, rest, strict=True)]),
        rest=rest,
        energies=done.energies[:, 0] * rt,
        steps=done.steps,
        finished=done.finished,
    )


def _vector(name: str, given: ArrayLike, n: int) -> FloatArray:
    values = np.asarray(given, dtype=np.float64)
    if values.shape not in ((), (n,)):
        raise InvalidInputError(f"{name} has shape {values.shape}; expected a number or ({n},)")
    return np.array(np.broadcast_to(values, (n,)))


def check_resolution(
    material: Material, composition: ArrayLike, temperature_K: float, spacing_m: float
) -> float:
    """Wavelength, px, that grows fastest in one alloy (c,) held at a temperature; inf: none grows.

    Raises InvalidInputError where pixels of ``spacing_m`` are too coarse for it.
    """
    x, t = material.solution.checked(composition, temperature_K)
    rt, temperature = GAS_CONSTANT * float(t), float(t)
    count = len(material.solution.elements) - 1
    stiff = checked_matrices(
        "gradient_energy", material.gradient_energy_J_m2_per_mol, 1, count, definite=True
    )[0] / (rt * spacing_m**2)
    mean = torch.as_tensor(np.array(x[1:])).reshape(1, -1, 1, 1)
    curvature = SolutionEnergy(material.solution, [temperature]).hessian(mean)[0, :, :, 0, 0]
    speeds = material.diffusivities(temperature)
    mobility = darken_mobility(x, speeds / speeds.max())
    wavelength = fastest_wavelength(curvature.numpy(), stiff, mobility)
    if wavelength < LEAST_WAVELENGTH:
        raise InvalidInputError(
            f"spacing_m is {spacing_m:g}, but the waves that grow fastest are {wavelength:.1f} "
            f"pixels long; expected at least {LEAST_WAVELENGTH:g}, take a spacing of "
            f"{spacing_m * wavelength / LEAST_WAVELENGTH:.3g} m or finer"
        )
    return wavelength


def _noisy(x: FloatArray, shape: tuple[int, int], fluctuation: float, seed: int) -> FloatArray:
    """(m, h, w) fields of the independent fractions with the exact means."""
    rng = np.random.default_rng(seed)
    scale = np.minimum(fluctuation, 0.2 * np.minimum(x[1:], x[0] if x[0] > 0 else 1.0))
    noise = rng.standard_normal((len(x) - 1, *shape)) * scale[:, None, None]
    field: FloatArray = x[1:, None, None] + noise - noise.mean((1, 2), keepdims=True)
    return field


def _labels(fractions: FloatArray, phases: FloatArray) -> NDArray[np.uint8]:
    """(c, h, w) fields, (p, c) phases -> place of the nearest phase."""
    distance = ((fractions[None] - phases[:, :, None, None]) ** 2).sum(1)
    return np.asarray(distance.argmin(0), dtype=np.uint8)
