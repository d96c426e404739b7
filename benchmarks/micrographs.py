"""Generated micrographs against those of held-out spots: statistics and a side-by-side picture.

    python -m benchmarks.micrographs CAMPAIGN [--ledger URL] [--n N]

Unconditional samples of the last round's generator beside crops of the test spots, and, as the
yardsticks, crops of the validation spots and of the training spots, which are all that the
generator has seen, beside the same. Errors are relative to the spread that
the real crops have: a two-point error is the root-mean-square difference of the mean S2(r) within
lag 16 over the mean S2(0); distributions are compared by their Wasserstein distance.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

from benchmarks.conditional_accuracy import last_generator
from benchmarks.report import RESULTS, write
from flows.assembly import open_session
from interface.plots import micrograph_comparison
from loop.statistics import precipitate_diameters, radial_power_spectrum, two_point_radial

FINE_PX = 12.0  # tertiary precipitates are 8-10 px across


def statistics(images: NDArray[np.uint8], reference: NDArray[np.uint8]) -> dict[str, Any]:
    """How far the precipitates of ``images`` are from those of ``reference``."""
    _, s2 = two_point_radial(images)
    _, s2_ref = two_point_radial(reference)
    difference = s2.mean(0)[:17] - s2_ref.mean(0)[:17]
    _, power = radial_power_spectrum(images)
    _, power_ref = radial_power_spectrum(reference)
    ratio = np.log(power.mean(0)) - np.log(power_ref.mean(0))
    sizes, sizes_ref = (
        np.concatenate([precipitate_diameters(image) for image in stack])
        for stack in (images, reference)
    )
    per_image = len(images), len(reference)
    return {
        "two_point_error_within_lag_16": float(np.sqrt(np.mean(difference**2)) / s2_ref.mean(0)[0]),
        "log_power_rms_difference": float(np.sqrt(np.mean(ratio**2))),
        "fraction_mean": [float(images.mean()), float(reference.mean())],
        "fraction_std": [
            float(images.mean((1, 2)).std()),
            float(reference.mean((1, 2)).std()),
        ],
        "fraction_wasserstein": float(
            wasserstein_distance(images.mean((1, 2)), reference.mean((1, 2)))
        ),
        "size_wasserstein_px": float(wasserstein_distance(sizes, sizes_ref)),
        "fine_precipitates_per_image": [
            float((sizes < FINE_PX).sum() / per_image[0]),
            float((sizes_ref < FINE_PX).sum() / per_image[1]),
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("campaign")
    parser.add_argument("--ledger")
    parser.add_argument("--n", type=int, default=512)
    given = parser.parse_args()
    session = open_session(given.campaign, given.ledger)
    generator = last_generator(session)
    rng = np.random.default_rng(11)
    requests = np.full((given.n, len(session.properties)), np.nan)
    made = generator.generate(requests, guidance=0.0, rng=rng)
    images = np.stack([c.microstructure for c in made if c.microstructure is not None])
    test = session.library.patches(given.n, rng=rng, split="test")
    other = session.library.patches(given.n, rng=rng, split="val")
    seen = session.library.patches(given.n, rng=rng)
    result = {
        "n": given.n,
        "generated against test spots": statistics(images, test),
        "validation spots against test spots": statistics(other, test),
        "training spots against test spots": statistics(seen, test),
        "generated against training spots": statistics(images, seen),
        "unique": len({c.id for c in made}),
    }
    print(result)
    RESULTS.mkdir(exist_ok=True)
    micrograph_comparison(test, images, RESULTS / "micrographs.png", title="Superalloy, 64 × 64 px")
    print(write("micrographs", result, ("scipy",)))


if __name__ == "__main__":
    main()
