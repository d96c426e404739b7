"""Phase field: PFHub 1a on several grids, coarsening, throughput, and py-pde on the same problem.

    python -m benchmarks.phase_field [--seeds N] [--repeats N] [--ends T ...] [--out NAME]

PFHub 1a (A. M. Jokisaari et al., Comput. Mater. Sci. 126, 139, 2017): free energy at the times of
the published curve up to t = 100, on grids from 100 to 200 and at several tolerances. Coarsening:
the exponent of the domain size over a decade of time, and its scatter over seeds. Throughput:
heat-treated images of 64 x 64, binary and of four elements.

Against py-pde (extra [peers]; without it that part is left out): the same start on the same grids
to the same end, one thread each, in turn in one process; medians of CPU seconds, compilation not
counted. py-pde runs its compiled (numba) explicit Euler, adaptive Euler and adaptive Runge-Kutta
at nine tenths of the step that the fourth derivative allows. Root mean square errors of the field
at the end: ``error`` against the spectral solution on the finest grid with a tolerance of 5e-4,
which counts space and time; ``error_of_time`` against the same discretisation with fine steps.
"""

from __future__ import annotations

import argparse
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
GRIDS = (100, 200)
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


def own_run(n: int, end: float, tolerance: float) -> FloatArray:
    found = evolve(
        pfhub_start(n),
        WELL,
        times=[end],
        gradient=2.0,
        mobility=5.0,
        spacing=200 / n,
        tolerance=tolerance,
    )
    field: FloatArray = found.fields[0, 0, 0].astype(np.float64)
    return field


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
    start = pde.ScalarField(grid, pfhub_start(n)[0])
    step = fraction * 2 / (5 * 2 * (8 * (n / 200) ** 2) ** 2)
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


def _off(a: FloatArray, b: FloatArray) -> float:
    return float(np.sqrt(np.mean((a - b) ** 2)))


def against_peer(end: float, repeats: int) -> dict[str, Any]:
    """Error and CPU seconds of both, and how much faster ours is at no greater error."""
    truth = own_run(GRIDS[-1], end, 5e-4)
    arms: dict[tuple[str, int, str], Callable[[], FloatArray]] = {}
    fine: dict[tuple[str, int], FloatArray] = {}
    for n in GRIDS:
        fine["own", n] = truth if n == GRIDS[-1] else own_run(n, end, 5e-4)
        for tolerance in TOLERANCES:
            arms["own", n, f"tolerance {tolerance:g}"] = lambda n=n, tolerance=tolerance: own_run(  # type: ignore[misc]
                n, end, tolerance
            )
        fine["py-pde", n] = peer_run(n, end, "Runge-Kutta", adaptive=False)()
        for solver, adaptive in (("Euler", False), ("Euler", True), ("Runge-Kutta", True)):
            if solver == "Runge-Kutta" and n * end > 4000:
                continue  # half a minute, and never the fastest
            name = f"{solver}, {'adaptive' if adaptive else 'fixed'}"
            arms["py-pde", n, name] = peer_run(n, end, solver, adaptive=adaptive)
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
            "cpu_s": float(np.median(seconds[code, n, settings])),
            "error": _off(fields[code, n, settings], truth[:: GRIDS[-1] // n, :: GRIDS[-1] // n]),
            "error_of_time": _off(fields[code, n, settings], fine[code, n]),
        }
        for code, n, settings in arms
    ]
    return {"end": end, "repeats": repeats, "rows": rows, "ratios": _ratios(rows)}


def _ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per run of py-pde: its time over that of our fastest run that is at least as exact."""
    found = []
    for row in rows:
        if row["code"] == "own":
            continue
        entry = {"grid": row["grid"], "settings": row["settings"]}
        for name, error, same in (
            ("same_grid", "error", True),
            ("any_grid", "error", False),
            ("same_grid_error_of_time", "error_of_time", True),
        ):
            times = [
                own["cpu_s"]
                for own in rows
                if own["code"] == "own"
                and own[error] <= row[error]
                and (own["grid"] == row["grid"] or not same)
            ]
            entry[name] = row["cpu_s"] / min(times) if times else None
        found.append(entry)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ends", type=float, nargs="+", default=[20.0, 100.0])
    parser.add_argument("--out", default="phase_field")
    given = parser.parse_args()
    torch.set_num_threads(1)
    peer = find_spec("pde") is not None
    if not peer:
        print("py-pde is not installed and left out: pip install 'spinodal[peers]'")
    result: dict[str, Any] = {
        "threads": 1,
        "py_pde": [against_peer(end, given.repeats) for end in given.ends] if peer else None,
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
