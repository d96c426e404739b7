"""How names and numbers are written for people: property labels with units, targets, compositions.

Property names carry their unit (``youngs_modulus_GPa``); this is the one place that takes them
apart again, for the page, the API, the plots and the command line.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache

from loop.candidate import Candidate
from loop.targets import Maximise, Minimise, Range, Target, Value
from loop.units import UNITS

_WORDS: Mapping[str, str] = {
    "youngs": "Young’s",
    "poissons": "Poisson’s",
    "gamma prime": "γ′",
    "gamma": "γ",
    "alpha": "α",
    "beta": "β",
    "delta": "δ",
}
_ARMS: Mapping[str, str] = {
    "loop": "generative loop",
    "random": "random library",
    "mutation": "mutation + GP",
    "genetic": "genetic + GP",
    "bayesian": "Bayesian optimisation",
    "seed": "seed designs",
}
SIGNIFICANT = 4
TRACE = 0.0005  # atomic fraction below which an element is not written in the compact form


def inside_sentence(label: str) -> str:
    """A property's label with a small first letter, unless it is a person's name."""
    named = label.startswith(("Young", "Poisson"))
    return label if named else label[:1].lower() + label[1:]


@lru_cache(maxsize=512)
def split_property(name: str) -> tuple[str, str]:
    """``"youngs_modulus_GPa"`` -> ``("Young’s modulus", "GPa")``; unit "" when dimensionless."""
    tokens = name.split("_")
    for start in range(1, len(tokens)):
        unit = UNITS.get("_".join(tokens[start:]))
        if unit is not None:
            return _sentence(tokens[:start]), unit.printed
    return _sentence(tokens), ""


def _sentence(tokens: list[str]) -> str:
    text = phase_label("_".join(tokens))
    return text[:1].upper() + text[1:] if text[:1].isascii() else text


@lru_cache(maxsize=512)
def phase_label(name: str) -> str:
    """``"gamma_prime"`` -> ``"γ′"``; names that are no Greek letters only lose underscores."""
    text = f" {name.replace('_', ' ').strip()} "
    for word, written in _WORDS.items():
        text = text.replace(f" {word} ", f" {written} ")
    return text.strip()


def property_label(name: str) -> str:
    """``"Young’s modulus (GPa)"``."""
    label, unit = split_property(name)
    return f"{label} ({unit})" if unit else label


def arm_label(arm: str) -> str:
    """``"loop"`` -> ``"generative loop"``; arms that are not ours keep their name."""
    return _ARMS.get(arm, arm)


def _decimals(scale: float) -> int:
    """Decimals that show a tolerance to two digits: 0.1 -> 2, 2 -> 1, 40 -> 0."""
    return max(0, 1 - math.floor(math.log10(scale) + 1e-9))


def format_number(value: float | None, target: Target | None = None) -> str:
    """A property value with as many digits as its target resolves, otherwise four digits."""
    if value is None or not math.isfinite(value):
        return "–" if value is None or math.isnan(value) else "∞" if value > 0 else "−∞"
    if isinstance(target, (Value, Range)):
        text = f"{value:.{min(_decimals(target.scale), 8)}f}"
    else:
        text = f"{value:.{SIGNIFICANT}g}"
        if "e" in text and 1e-4 <= abs(value) < 1e7:
            text = f"{value:.0f}" if abs(value) >= 1 else f"{value:.6f}"
    return text.replace("-", "−")


def format_uncertain(mean: float | None, std: float | None) -> str:
    """``(7.3512, 0.031)`` -> ``"7.351 ± 0.031"``: as many digits as are sure."""
    if mean is None or not math.isfinite(mean):
        return ""
    if std is None or not math.isfinite(std) or std <= 0:
        return format_number(mean)
    decimals = min(_decimals(std), 6)
    if round(std, decimals) == 0:
        return format_number(mean)
    return f"{mean:.{decimals}f} ± {std:.{decimals}f}".replace("-", "−")


def target_text(target: Target) -> str:
    """A target without property and unit: ``190 ± 2``, ``8.0 to 8.2``, ``≥ 200``, ``maximise``."""

    def short(x: float) -> str:
        return f"{x:.6g}".replace("-", "−")

    if isinstance(target, Value):
        return f"{short(target.value)} ± {short(target.tolerance)}"
    if isinstance(target, Range):
        return f"{short(target.low)} to {short(target.high)}"
    if isinstance(target, Maximise):
        return "maximise" if target.at_least is None else f"≥ {short(target.at_least)}"
    return "minimise" if target.at_most is None else f"≤ {short(target.at_most)}"


def target_met(target: Target, value: float | None) -> bool | None:
    """Whether one value meets its target; None where there is nothing to judge.

    A maximise or minimise without a limit is never met or missed.
    """
    if value is None or not math.isfinite(value):
        return None
    if isinstance(target, Maximise) and target.at_least is None:
        return None
    if isinstance(target, Minimise) and target.at_most is None:
        return None
    return target.low <= value <= target.high


def composition_text(candidate: Candidate, *, most: int | None = None) -> list[tuple[str, str]]:
    """Per phase its label and ``fractions_text``; empty without compositions."""
    if candidate.phase_compositions is None:
        return []
    return [
        (
            phase_label(phase),
            fractions_text(dict(zip(candidate.elements, row.tolist(), strict=True)), most=most),
        )
        for phase, row in zip(candidate.phases, candidate.phase_compositions, strict=True)
    ]


def fractions_text(fractions: Mapping[str, float], *, most: int | None = None) -> str:
    """``{"Ni": 0.6, "Al": 0.4}`` -> ``"Ni 60.0  Al 40.0"`` in at.%, largest first.

    Elements below 0.05 at.% are left out, and those after the ``most`` largest.
    """
    order = sorted((e for e, x in fractions.items() if x >= TRACE), key=lambda e: -fractions[e])
    shown = order if most is None else order[:most]
    text = "  ".join(f"{element} {100 * fractions[element]:.1f}" for element in shown)
    return text + ("  …" if len(shown) < len(order) else "")


def short_id(candidate_id: str) -> str:
    """The first eight characters: enough to name a candidate to ``spinodal show``."""
    return candidate_id[:8]


def process_text(candidate: Candidate) -> list[tuple[str, str]]:
    """Per process variable (name with unit, value), then per categorical one (name, value)."""
    return treatment_text(candidate.process, candidate.labels)


def treatment_text(
    process: Mapping[str, float], labels: Mapping[str, str]
) -> list[tuple[str, str]]:
    """As ``process_text``, from the variables themselves."""
    numbers = [(property_label(k), format_number(v)) for k, v in sorted(process.items())]
    return numbers + [(property_label(k), v) for k, v in sorted(labels.items())]
