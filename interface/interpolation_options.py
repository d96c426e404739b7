"""Options of ``interpolate`` that belong together: what goes with a path, and how it is made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from loop.errors import InvalidInputError

TIE_LINE = "tie-line"


def check_tie_line(
    path: str,
    last: str | None,
    microstructures: bool,
    monotone: str | None,
    database: Path | None,
    temperature: float | None,
    phases: str | None,
) -> None:
    """Raise InvalidInputError for what does not go with the path."""
    if path != TIE_LINE:
        if last is None:
            raise InvalidInputError(
                "only one end is given; expected two, A and B (a tie-line starts from A alone: "
                "--path tie-line)"
            )
        options = (("--database", database), ("--temperature", temperature), ("--phases", phases))
        for option, value in options:
            if value is not None:
                raise InvalidInputError(f"{option} is for --path tie-line; the path is {path}")
        return
    if last is not None:
        raise InvalidInputError(
            f"the ends of a tie-line are the phases that A splits into; leave {last!r} out"
        )
    for option, value in (("--microstructures", microstructures), ("--monotone", monotone)):
        if value:
            raise InvalidInputError(
                f"{option} does not go with a tie-line, whose points are given by its two phases"
            )


def read_process(given: Sequence[str]) -> dict[str, float]:
    """``temperature_K=1273`` -> {"temperature_K": 1273.0}."""
    found: dict[str, float] = {}
    for text in given:
        name, _, number = (part.strip() for part in text.partition("="))
        try:
            value = float(number)
        except ValueError:
            raise InvalidInputError(
                f"--process {text!r}; expected NAME=VALUE, as in temperature_K=1273"
            ) from None
        if name in found:
            raise InvalidInputError(f"--process names {name} twice; keep one")
        found[name] = value
    return found


def read_labels(given: Sequence[str]) -> dict[str, str]:
    """``processing=CAST`` -> {"processing": "CAST"}."""
    found: dict[str, str] = {}
    for text in given:
        name, sign, value = (part.strip() for part in text.partition("="))
        if not (name and sign and value):
            raise InvalidInputError(f"--label {text!r}; expected NAME=VALUE, as in processing=CAST")
        if name in found:
            raise InvalidInputError(f"--label names {name} twice; keep one")
        found[name] = value
    return found
