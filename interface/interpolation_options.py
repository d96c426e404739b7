"""Options of ``interpolate`` that belong together: what goes with a path, and how it is made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from loop.errors import InvalidInputError

AITCHISON, TIE_LINE = "aitchison", "tie-line"


def check_path(path: str, zeros: float | None, within: bool, *, limited: bool) -> None:
    """Raise InvalidInputError for what does not go with the path between two ends.

    ``limited``: whether a campaign or constraints are given.
    """
    if zeros is not None and path != AITCHISON:
        raise InvalidInputError(f"--zeros is for --path aitchison; a {path} path may start at 0")
    if within and path != AITCHISON:
        raise InvalidInputError(
            f"--within is for --path aitchison; the path is {path}, and mixtures within the bounds "
            "are --path feasible"
        )
    if within and not limited:
        raise InvalidInputError(
            "--within has nothing to keep to; give limits with --constraint or --campaign"
        )


def check_tie_line(
    path: str,
    last: str | None,
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
    if monotone:
        raise InvalidInputError(
            "--monotone does not go with a tie-line, whose points are given by its two phases"
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
