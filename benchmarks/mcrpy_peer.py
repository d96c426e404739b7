"""MCRpy behind a pipe, run by an interpreter of its own: it needs TensorFlow and NumPy < 2.

Started by ``benchmarks.morphology``. One JSON request a line on stdin, one JSON answer a line on
stdout: {"image": FILE.npy, "output": FILE.npy, "seed": N, "lags": N, "iterations": N} reconstructs
the image (h, w) from its FFTCorrelations and writes the field (h, w) that came of it; the seconds
are those of ``mcrpy.reconstruct`` alone. The first line is sent unasked and tells the versions.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module
from importlib.metadata import version
from typing import Any


def answer(mcrpy: Any, numpy: Any, request: dict[str, Any]) -> dict[str, float]:
    """Reconstruct as requested, write the field, return the seconds it took."""
    numpy.random.seed(request["seed"])
    import_module("tensorflow").random.set_seed(request["seed"])
    common = {
        "descriptor_types": ["FFTCorrelations"],
        "limit_to": request["lags"],
        "use_multigrid_descriptor": False,
        "use_multiphase": False,
        "periodic": True,
    }
    image = numpy.load(request["image"])
    found = mcrpy.characterize(
        mcrpy.Microstructure(image), settings=mcrpy.CharacterizationSettings(**common)
    )
    settings = mcrpy.ReconstructionSettings(max_iter=request["iterations"], **common)
    begun, busy = time.perf_counter(), time.process_time()
    _, last = mcrpy.reconstruct(found, image.shape, settings=settings)
    seconds = {"wall_s": time.perf_counter() - begun, "cpu_s": time.process_time() - busy}
    numpy.save(request["output"], last.numpy().reshape(image.shape))
    return seconds


def main() -> None:
    # The peer prints as it works: what it writes must not mix with the answers.
    with os.fdopen(os.dup(1), "w", buffering=1) as pipe:
        os.dup2(2, 1)
        mcrpy, numpy = import_module("mcrpy"), import_module("numpy")
        packages = ("mcrpy", "tensorflow", "numpy")
        print(json.dumps({name: version(name) for name in packages}), file=pipe)
        for line in sys.stdin:
            print(json.dumps(answer(mcrpy, numpy, json.loads(line))), file=pipe)


if __name__ == "__main__":
    main()
