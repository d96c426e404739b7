"""Two-point statistics that designs are compared with: from label images or from a file.

A statistics file is JSON with the curves S2(r) of the phases at r = 0, 1, 2 … px:

    {"two_point": {"gamma": [0.42, 0.36, …], "gamma_prime": [0.58, 0.52, …]}}
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loop.errors import InvalidInputError, unknown_name
from loop.images import downsample, list_images, read_labels, to_phases
from loop.statistics import two_point_radial

FloatArray = NDArray[np.float64]
KEY = "two_point"
SUFFIX = ".json"


def read_reference(
    path: Path,
    *,
    phases: Sequence[str],
    lags: int,
    labels: Sequence[str] | None = None,
    factor: int = 1,
) -> FloatArray:
    """Mean S2(r) of every phase, (p, lags), r = 0 … lags - 1 px.

    ``path``: a statistics file (.json), a label image, or a folder of label images, which count
    alike. ``labels``: the phase of every pixel value, default ``phases`` in order. ``factor``:
    images are first made smaller by a majority vote over so many pixels squared.
    Raises InvalidInputError for a file that cannot be read or does not reach far enough.
    """
    if path.suffix.lower() == SUFFIX:
        return _read_statistics(path, phases, lags)
    names = list(phases if labels is None else labels)
    phase_of_label = [phases.index(name) for name in names]
    curves = []
    for file in list_images(path) if path.is_dir() else [path]:
        image = downsample(to_phases(file, read_labels(file), phase_of_label), factor, len(phases))
        if min(image.shape) // 2 + 1 < lags:
            raise InvalidInputError(
                f"reference image {file} is {image.shape[0]} x {image.shape[1]} pixels; two-point "
                f"statistics up to {lags - 1} px need at least {2 * (lags - 1)} on either side"
            )
        curves.append(two_point_curves(image, len(phases))[:, :lags])
    return np.mean(curves, axis=0, dtype=np.float64)


def two_point_curves(labels: NDArray[np.integer], phases: int) -> FloatArray:
    """S2(r) of every phase of one image (h, w), (phases, min(h, w) // 2 + 1), not periodic."""
    return two_point_radial(labels == np.arange(phases)[:, None, None])[1]


def write_statistics(path: Path, curves: FloatArray, phases: Sequence[str]) -> None:
    """Write the curves S2(r), (p, lags), of the named phases as a statistics file.

    Raises InvalidInputError when there is not one curve a phase, or a value leaves [0, 1].
    """
    table = {name: [float(v) for v in row] for name, row in zip(phases, curves, strict=False)}
    if len(curves) != len(phases):
        raise InvalidInputError(
            f"{len(curves)} curves for the phases {', '.join(phases)}; expected one each"
        )
    _checked(path, table, phases, 1)
    path.write_text(json.dumps({KEY: table}, indent=1) + "\n", encoding="utf-8")


def _read_statistics(path: Path, phases: Sequence[str], lags: int) -> FloatArray:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInputError(
            f"cannot read statistics file {path}: {error.strerror}; expected a JSON file"
        ) from None
    except ValueError as error:
        raise InvalidInputError(f"statistics file {path} is not JSON: {error}") from None
    table = content.get(KEY) if isinstance(content, dict) else None
    if not isinstance(table, dict):
        raise InvalidInputError(
            f"statistics file {path} lacks the table {KEY!r}; expected "
            '{"two_point": {"phase": [S2 at 0, 1, 2 … px]}}'
        )
    return _checked(path, table, phases, lags)[:, :lags]


def _checked(
    path: Path, table: Mapping[str, object], phases: Sequence[str], lags: int
) -> FloatArray:
    for name in table:
        if name not in phases:
            raise InvalidInputError(
                f"statistics file {path}: " + unknown_name("phase", name, phases)
            )
    rows = []
    for name in phases:
        row = table.get(name)
        numbers = isinstance(row, list) and all(
            isinstance(v, int | float) and not isinstance(v, bool) and 0 <= v <= 1 for v in row
        )
        if not isinstance(row, list) or not numbers or len(row) < lags:
            raise InvalidInputError(
                f"statistics file {path}: {KEY} of {name} is "
                f"{'missing' if row is None else 'not usable'}; expected at least {lags} numbers "
                f"from 0 to 1, S2 at 0 … {lags - 1} px"
            )
        rows.append(row)
    shortest = min(len(row) for row in rows)
    return np.array([row[:shortest] for row in rows], dtype=np.float64)
