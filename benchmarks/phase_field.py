"""Phase field: PFHub 1a on several grids, coarsening, throughput, and py-pde on the same problem.

    python -m benchmarks.phase_field [--seeds N] [--repeats N] [--ends T ...] [--out NAME]
        [--own-grids N ...] [--peer-grids N ...]

PFHub 1a (A. M. Jokisaari et al., Comput. Mater. Sci. 126, 139, 2017): free energy at the times of
the published curve up to t = 100, on grids from 100 to 200 and at several tolerances. Coarsening:
the exponent of the domain size over a decade of time, and its scatter over seeds. Throughput:
heat-treated images of 64 x 64, binary and of four elements.

Against py-pde (extra [peers]; without it that part is left out): the same start to the same end,
spectral on ``--own-grids`` and differences on ``--peer-grids``, one thread each, in turn in one
process; least CPU seconds of the repeats, compilation not counted. py-pde runs its compiled (numba)
explicit Euler, adaptive Euler and adaptive Runge-Kutta
at nine tenths of the step that the fourth derivative allows. Root mean square errors of the field
at the end: ``error`` against the spectral solution on 200 x 200 with a tolerance of 5e-4, which
counts space and time (fields are compared on 100 x 100 points, by their Fourier modes);
``error_of_time`` against the same discretisation with fine steps, where they are few.
``ratios``: cost of py-pde over ours at the same ``error``, on the lines through the fastest runs
of each in log-log, at the error levels which both reach.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.report import write
from simulators.annealing import Material, anneal
from simulators.free_energy import PolynomialEnergy
from simulators.phase_field import TOLERANCE, evolve
from simulators.solution import Solution
from simulators.verification_phase_field import PFHUB_1A, SILVER_COPPER, pfhub_start

FloatArray = NDArray[np.float64]
WELL = PolynomialEnergy.double_well(5.0, 0.3, 0.7)
TIMES = tuple(time for time, _, _ in PFHUB_1A)
FINEST, COMMON = 200, 100
OWN_GRIDS, PEER_GRIDS = (64, 96, 128), (100, 128, 200, 256)
LONGEST = 4e9  # grid points times steps of a run of py-pde, beyond which it is left out
TOLERANCES = (0.2, 0.05, 0.01, 0.002)


def pfhub(n: int, tolerance: float, times: tuple[float, ...] = TIMES) -> dict[str, Any]:
    """One run of PFHub 1a: energies, cost and what must hold."""
    start = pfhub_start(n)
    begun = time.perf_counter()
    found = evolve(
        start,
        WELL,
        times=times,
        gradient=2.0,
        mobility=5.0,
        spacing=200 / n,
        tolerance=tolerance,
    )
    return {
        "grid": n,
        "tolerance": tolerance,
        "energies": dict(zip(map(str, times), (found.energies[0] * 200**2).tolist(), strict=True)),
        "deviation_beyond_the_drop": deviation(found.energies[0] * 200**2, 0.03),
        "deviation_around_the_drop": deviation(found.energies[0] * 200**2, 0.1),
        "steps": int(found.steps[0]),
        "rejected": int(found.rejected[0]),
        "seconds": time.perf_counter() - begun,
        "greatest_relative_rise": max(0.0, float(found.rise[0])),
        "drift_of_the_mean": float(found.fields[0, -1].mean() - start.mean()),
    }


def deviation(energies: FloatArray, allowed: float) -> float:
    """Greatest relative deviation from the published curve at the times with this allowance."""
    return max(
        abs(float(energy) / value - 1)
        for energy, (_, value, own) in zip(energies, PFHUB_1A, strict=True)
        if own == allowed
    )


def coarsening(seeds: int, n: int = 192) -> dict[str, Any]:
    """Exponent of interface energy over energy, t = 200 to 2000, one per seed and of the mean."""
    fields = [np.random.default_rng(seed).normal(0, 0.1, (n, n)) for seed in range(seeds)]
    start = np.stack([field - field.mean() for field in fields])
    times = np.geomspace(200, 2000, 10)
    begun = time.perf_counter()
    found = evolve(
        start,
        PolynomialEnergy([0.25, 0, -0.5, 0, 0.25]),
        times=times,
        gradient=1.0,
        mobility=1.0,
        tolerance=0.05,
        dtype=torch.float32,
    )
    seconds = time.perf_counter() - begun
    logs = np.log(found.energies)
    each = [-float(np.polyfit(np.log(times), own, 1)[0]) for own in logs]
    mean = -float(np.polyfit(np.log(times), np.log(found.energies.mean(0)), 1)[0])
    return {
        "grid": n,
        "seeds": seeds,
        "exponent": mean,
        "exponents": each,
        "standard_error": float(np.std(each, ddof=1) / np.sqrt(seeds)) if seeds > 1 else None,
        "seconds": seconds,
    }


QUATERNARY = Solution(
    ("Ag", "Cu", "Ni", "Pd"),
    {
        ("Ag", "Cu"): ((34e3, -8.0),),
        ("Ag", "Ni"): ((60e3, 0.0),),
        ("Cu", "Ni"): ((10e3, 0.0),),
        ("Ag", "Pd"): ((-5e3, 0.0),),
        ("Cu", "Pd"): ((-15e3, 0.0),),
    },
)  # sizes as assessments give them; the time depends on little else than their number
DIFFUSION = {
    "Ag": (4.5e-5, 182e3),
    "Cu": (1.2e-4, 193e3),
    "Ni": (1e-4, 200e3),
    "Pd": (1e-4, 200e3),
}


def throughput(count: int = 4) -> dict[str, Any]:
    """CPU seconds per heat-treated image of 64 x 64, one thread, float32."""
    binary = {element: DIFFUSION[element] for element in ("Ag", "Cu")}
    alloys = {
        "Ag-Cu": (Material(SILVER_COPPER, 2.3e-15, binary), [0.6, 0.4], 0.3e-9),
        "Ag-Cu-Ni-Pd": (
            Material(QUATERNARY, 2e-15 * (np.eye(3) + 1), DIFFUSION),
            [0.5, 0.38, 0.06, 0.06],
            0.35e-9,
        ),
    }
    temperatures = np.linspace(900, 1000, count)
    table: dict[str, Any] = {}
    for name, (alloy, x, spacing) in alloys.items():
        for local in (True, False) if len(x) == 2 else (True,):
            begun = time.process_time()
            found = anneal(
                alloy,
                [x] * count,
                temperatures,
                200 * spacing**2 / alloy.diffusivities(temperatures).max(1),
                shape=(64, 64),
                spacing_m=spacing,
                seeds=range(count),
                local_mobility=local,
                tolerance=0.05,
                max_steps=3000,
                dtype=torch.float32,
            )
            seconds = time.process_time() - begun
            table[f"{name}, mobility {'local' if local else 'of the mean'}"] = {
                "images": count,
                "finished": int(found.finished.sum()),
                "cpu_s_per_image": seconds / count,
                "steps": found.steps.tolist(),
            }
    return table


def start_on(n: int) -> FloatArray:
    """The Fourier modes of the start on the finest grid, (n, n).

    The start jumps at the edges of the square, so that its values on another grid would be another
    start, by more than either code is wrong.
    """
    return resampled(pfhub_start(FINEST)[0], n)


def own_run(n: int, end: float, tolerance: float) -> FloatArray:
    found = evolve(
        start_on(n)[None],
        WELL,
        times=[end],
        gradient=2.0,
        mobility=5.0,
        spacing=200 / n,
        tolerance=tolerance,
    )
    field: FloatArray = found.fields[0, 0, 0].astype(np.float64)
    return field


def _longest_step(n: int) -> float:
    """The longest stable step of explicit Euler, of the fourth derivative."""
    return 2 / (5 * 2 * (8 * (n / 200) ** 2) ** 2)


def peer_run(
    n: int, end: float, solver: str, *, adaptive: bool, fraction: float = 0.9
) -> Callable[[], FloatArray]:
    """py-pde's compiled stepper; ``fraction`` of the longest stable explicit Euler step."""
    pde = import_module("pde")
    grid = pde.CartesianGrid([[0, 200], [0, 200]], [n, n], periodic=True)
    equation = pde.PDE(
        {"c": "5 * laplace(10 * (c - 0.3) * (0.7 - c) * (1 - 2 * c) - 2 * laplace(c))"}
    )
    # Points of the grid, not its cells' centres: the differences know no origin.
    start = pde.ScalarField(grid, start_on(n))
    step = fraction * _longest_step(n)
    kinds = {"Euler": pde.EulerSolver, "Runge-Kutta": pde.RungeKuttaSolver}
    settings = {"adaptive": True, "tolerance": 1e-3} if adaptive else {}
    stepper = kinds[solver](equation, backend="numba", **settings).make_stepper(start, dt=step)
    stepper(start.copy(), 0, 4 * step)  # compiles

    def run() -> FloatArray:
        field = start.copy()
        stepper(field, 0, end)
        data: FloatArray = np.array(field.data)
        return data

    return run


def resampled(field: FloatArray, n: int = COMMON) -> FloatArray:
    """A square periodic field on n x n points, by its Fourier modes."""
    size = len(field)
    keep = min(size, n)
    modes = np.fft.fftshift(np.fft.fft2(field))
    out = np.zeros((n, n), dtype=complex)
    waves = np.fft.fftfreq(size, 1 / size), np.fft.fftfreq(n, 1 / n)
    # Below the lesser Nyquist wave, whose phase one of the two grids does not know.
    own, other = (np.flatnonzero(np.abs(np.fft.fftshift(w)) < keep / 2) for w in waves)
    out[np.ix_(other, other)] = modes[np.ix_(own, own)]
    values: FloatArray = np.fft.ifft2(np.fft.ifftshift(out)).real * (n / size) ** 2
    return values


def _off(a: FloatArray, b: FloatArray) -> float:
    return float(np.sqrt(np.mean((resampled(a) - resampled(b)) ** 2)))


def against_peer(
    end: float, repeats: int, own_grids: tuple[int, ...], peer_grids: tuple[int, ...]
) -> dict[str, Any]:
    """Error and CPU seconds of both, and the ratio of their costs at equal error."""
    truth = own_run(FINEST, end, 5e-4)
    arms: dict[tuple[str, int, str], Callable[[], FloatArray]] = {}
    fine: dict[tuple[str, int], FloatArray] = {}
    for n in own_grids:
        fine["own", n] = own_run(n, end, 5e-4)
        for tolerance in TOLERANCES:
            arms["own", n, f"tolerance {tolerance:g}"] = lambda n=n, tolerance=tolerance: own_run(  # type: ignore[misc]
                n, end, tolerance
            )
    for n in peer_grids:
        work = n**2 * end / _longest_step(n)
        if work > LONGEST:
            print(f"py-pde on {n} x {n} to {end:g} would take {work:.2g} point steps: left out")
            continue
        for solver, adaptive in (("Euler", False), ("Euler", True), ("Runge-Kutta", True)):
            if solver == "Runge-Kutta" and work > LONGEST / 200:
                continue  # never the fastest, and compiling takes longer than running
            name = f"{solver}, {'adaptive' if adaptive else 'fixed'}"
            arms["py-pde", n, name] = peer_run(n, end, solver, adaptive=adaptive)
        if work <= LONGEST / 200:
            fine["py-pde", n] = peer_run(n, end, "Runge-Kutta", adaptive=False)()
    seconds: dict[tuple[str, int, str], list[float]] = {key: [] for key in arms}
    fields: dict[tuple[str, int, str], FloatArray] = {}
    for _ in range(repeats):
        for key, arm in arms.items():
            begun = time.process_time()
            fields[key] = arm()
            seconds[key].append(time.process_time() - begun)
    rows = [
        {
            "code": code,
            "grid": n,
            "settings": settings,
            "cpu_s": min(seconds[code, n, settings]),
            "error": _off(fields[code, n, settings], truth),
            "error_of_time": _off(fields[code, n, settings], fine[code, n])
            if (code, n) in fine
            else None,
        }
        for code, n, settings in arms
    ]
    for row in rows:
        print(
            f"t = {end:g}: {row['code']:7}{row['grid']:4} {row['settings']:21}"
            f"{row['cpu_s']:9.3f} s, error {row['error']:.2e}",
            flush=True,
        )
    ratios = cost_ratios(rows)
    for entry in ratios:
        print(f"t = {end:g}: error {entry['error']:.2e}, py-pde costs {entry['ratio']:.1f} times")
    kept = [
        {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        for row in rows
    ]
    return {"end": end, "repeats": repeats, "rows": kept, "ratios": ratios}


def _front(rows: list[dict[str, Any]], code: str) -> tuple[FloatArray, FloatArray]:
    """Logarithms of error and cost of the runs that no other of the code beats, least error first.

    One beats another that costs more and is better by less than a twentieth. Runs that blew up,
    as explicit steps beyond their limit of stability do, are left out.
    """
    points = sorted(
        (row["error"], row["cpu_s"])
        for row in rows
        if row["code"] == code and row["error"] is not None and math.isfinite(row["error"])
    )
    best = [
        (error, cost)
        for error, cost in points
        if not any(other <= 1.05 * error and less < cost for other, less in points)
    ]
    table = np.log(np.array(best))
    return table[:, 0], table[:, 1]


def cost_ratios(rows: list[dict[str, Any]], levels: int = 5) -> list[dict[str, float]]:
    """Cost of py-pde over ours at errors which both reach, least error first.

    Where one's error always is below the other's, at the other's least error: there the one that
    is too good is given the cost of its cheapest run.
    """
    if not any(row["code"] == "py-pde" for row in rows):
        return []
    fronts = {code: _front(rows, code) for code in ("own", "py-pde")}
    low = max(errors[0] for errors, _ in fronts.values())
    high = max(low, min(errors[-1] for errors, _ in fronts.values()))
    found = []
    for level in np.linspace(low, high, levels if high > low else 1):
        costs = {code: float(np.interp(level, *front)) for code, front in fronts.items()}
        found.append(
            {
                "error": float(np.exp(level)),
                "own_cpu_s": float(np.exp(costs["own"])),
                "peer_cpu_s": float(np.exp(costs["py-pde"])),
                "ratio": float(np.exp(costs["py-pde"] - costs["own"])),
            }
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ends", type=float, nargs="+", default=[20.0, 100.0])
    parser.add_argument("--own-grids", type=int, nargs="+", default=OWN_GRIDS)
    parser.add_argument("--peer-grids", type=int, nargs="+", default=PEER_GRIDS)
    parser.add_argument("--out", default="phase_field")
    given = parser.parse_args()
    torch.set_num_threads(1)
    peer = find_spec("pde") is not None
    if not peer:
        print("py-pde is not installed and left out: pip install 'spinodal[peers]'")
    result: dict[str, Any] = {
        "threads": 1,
        "py_pde": [
            against_peer(end, given.repeats, tuple(given.own_grids), tuple(given.peer_grids))
            for end in given.ends
        ]
        if peer
        else None,
        "pfhub_1a": [pfhub(n, TOLERANCE) for n in (100, 128, 200)]
        + [pfhub(128, tolerance) for tolerance in (0.1, 0.005)],
        "throughput": throughput(),
        "coarsening": coarsening(given.seeds) if given.seeds else None,
    }
    print(result)
    packages = ("scipy", "py-pde", "numba") if peer else ("scipy",)
    print(write(given.out, result, packages))


if __name__ == "__main__":
    main()
