"""Draws compositions.csv: pairs of γ and γ′ compositions inside the ranges of ranges.toml.

    python make_compositions.py [FILE]      (default: compositions.csv beside this script)

γ′ is drawn first: solutes on the Al sublattice uniformly in their ranges, Al as what is missing
to a drawn total of that sublattice, then Cr and Co, Ni as the balance. γ follows from drawn
partition coefficients x_γ = k x_γ′ (uniform in log k), Ni again the balance. Pairs that leave a
range are drawn anew. Same ranges, same file, byte for byte.
"""

from __future__ import annotations

import math
import random
import sys
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PHASES = ("gamma", "gamma_prime")
SUBLATTICE = ("Al", "Ti", "Mo", "W", "Ta", "Re")
REFRACTORY = ("Mo", "W", "Ta", "Re")


def read_ranges(path: Path = HERE / "ranges.toml") -> dict[str, Any]:
    with path.open("rb") as file:
        return tomllib.load(file)


def _inside(x: dict[str, float], phase: str, elements: dict[str, Any]) -> bool:
    return all(
        elements[e][phase][0] <= value <= elements[e][phase][1]
        for e, value in x.items()
        if value != 0.0
    )


def _draw_pair(ranges: dict[str, Any], rng: random.Random) -> dict[str, dict[str, float]] | None:
    """One pair of compositions {phase: {element: fraction}}, or None if it left a range."""
    elements, designs = ranges["elements"], ranges["designs"]
    decimals = designs["decimals"]
    prime: dict[str, float] = {}
    for element, table in elements.items():
        if element not in ("Ni", "Al"):
            here = rng.random() < table["present"]
            drawn = rng.uniform(*table["gamma_prime"])
            prime[element] = round(drawn, decimals) if here else 0.0
    total = rng.uniform(*designs["sublattice"])
    prime["Al"] = round(total - sum(prime.get(e, 0.0) for e in SUBLATTICE), decimals)
    matrix: dict[str, float] = {}
    for element, value in prime.items():
        low, high = elements[element]["partition"]
        k = math.exp(rng.uniform(math.log(low), math.log(high)))
        matrix[element] = round(k * value, decimals)
    pair = {"gamma": matrix, "gamma_prime": prime}
    for phase, x in pair.items():
        x["Ni"] = round(1.0 - sum(x.values()), decimals)
        if not _inside(x, phase, elements):
            return None
    if sum(matrix[e] for e in REFRACTORY) > designs["refractory"]:
        return None
    return pair


def draw(ranges: dict[str, Any]) -> list[dict[str, dict[str, float]]]:
    """All pairs, in the order of the file."""
    # random.Random, not NumPy: its stream of random() is fixed by the language reference.
    rng = random.Random(ranges["designs"]["seed"])
    pairs: list[dict[str, dict[str, float]]] = []
    while len(pairs) < ranges["designs"]["count"]:
        pair = _draw_pair(ranges, rng)
        if pair is not None:
            pairs.append(pair)
    return pairs


def to_csv(pairs: list[dict[str, dict[str, float]]], ranges: dict[str, Any]) -> str:
    elements, decimals = list(ranges["elements"]), ranges["designs"]["decimals"]
    columns = [(phase, element) for phase in PHASES for element in elements]
    lines = [",".join(f"{phase}:{element}" for phase, element in columns)]
    for pair in pairs:
        values = (pair[phase][element] for phase, element in columns)
        lines.append(",".join(f"{v:.{decimals}f}" if v else "0" for v in values))
    return "\n".join(lines) + "\n"


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "compositions.csv"
    ranges = read_ranges()
    target.write_text(to_csv(draw(ranges), ranges), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
