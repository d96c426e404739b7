"""Effective modulus of real two-phase alloys from maps of the modulus at every pixel.

    python -m benchmarks.nanoindentation FOLDER

FOLDER holds maps as ``*.npz`` with ``E_GPa`` (h, w) and ``step_um``, such as those of Besharatloo &
Wheeler, J. Mater. Res. 36, 2198 (2021), doi:10.1557/s43578-021-00214-5 (data under CC BY 4.0).
Every pixel is a phase of its own. An indentation modulus is taken for Young's modulus; Poisson's
ratio is not measured and is given per material; the map is continued periodically and along its
normal. The homogenised modulus is the energy of the computed field, an upper bound for the map as
given; Reuss's and Voigt's averages bound any arrangement of the same pixels.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import write
from simulators.elasticity import effective_stiffness

POISSON = {"AlCu": 0.34, "Duplex": 0.29}  # handbook values of Al alloys and of duplex steel
OUTSIDE = 0.5  # per cent of the pixels at either end that are taken for failed indents


def cleaned(modulus: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float64], int]:
    """The map with missing and implausible pixels set to the median, and how many those are."""
    e = modulus.astype(np.float64)
    low, high = np.nanpercentile(e, [OUTSIDE, 100 - OUTSIDE])
    bad = ~np.isfinite(e) | (e < low) | (e > high)
    return np.where(bad, np.nanmedian(e), e), int(bad.sum())


def homogenised(name: str, e: NDArray[np.float64]) -> dict[str, Any]:
    """Moduli in GPa of the map (h, w) along x and y, with the averages."""
    nu = next(v for k, v in POISSON.items() if name.startswith(k))
    labels = np.arange(e.size).reshape(1, *e.shape)
    bulk, shear = e.ravel() / (3 * (1 - 2 * nu)), e.ravel() / (2 * (1 + nu))
    found = effective_stiffness(labels, bulk[None], shear[None], tolerance=1e-8, lower="energy")
    along_x, along_y = found.youngs[0].tolist()
    voigt, reuss = float(e.mean()), float(1 / (1 / e).mean())
    return {
        "poissons_ratio": nu,
        "voigt_GPa": voigt,
        "reuss_GPa": reuss,
        "homogenised_x_GPa": along_x,
        "homogenised_y_GPa": along_y,
        "certified_lower_GPa": float(found.youngs_lower[0]),
        "place_between_reuss_and_voigt": ((along_x + along_y) / 2 - reuss) / (voigt - reuss),
        "anisotropy_x_over_y": along_x / along_y,
        "converged": bool(found.converged[0]),
        "iterations": int(found.iterations[0]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    files = sorted(given.folder.glob("*.npz"))
    if not files:
        raise SystemExit(f"{given.folder} has no *.npz; give the folder with the maps")
    result: dict[str, Any] = {}
    for file in files:
        with np.load(file, allow_pickle=False) as data:
            e, replaced = cleaned(data["E_GPa"])
            step = float(data["step_um"])
        result[file.stem] = {
            "pixels": list(e.shape),
            "step_um": step,
            "pixels_replaced": replaced,
        } | homogenised(file.stem, e)
        print(file.stem, result[file.stem], flush=True)
    print(write("nanoindentation", result))


if __name__ == "__main__":
    main()
