"""Candidates as rows and back, bit for bit."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from loop.candidate import Candidate, Origin
from loop.errors import LedgerError
from loop.known_alloys import DIFFERENCE


def encode_image(image: NDArray[np.uint8]) -> bytes:
    """(h, w) uint8 labels as a greyscale PNG; equal images give equal bytes."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def decode_image(blob: bytes) -> NDArray[np.uint8]:
    """The (h, w) uint8 labels of `encode_image`."""
    with Image.open(io.BytesIO(blob), formats=["PNG"]) as image:
        labels: NDArray[np.uint8] = np.array(image, dtype=np.uint8)
    return labels


def candidate_row(candidate: Candidate) -> dict[str, Any]:
    """The row of the candidate table, without its key."""
    image, x = candidate.microstructure, candidate.phase_compositions
    height, width = (None, None) if image is None else image.shape
    return {
        "id": candidate.id,
        "phases": candidate.phases,
        "elements": candidate.elements,
        "height": height,
        "width": width,
        "microstructure": None if image is None else encode_image(image),
        "phase_compositions": None if x is None else x.astype("<f8").tobytes(),
        "process": dict(candidate.process),
        "labels": dict(candidate.labels) or None,
    }


def candidate_from_row(
    row: Mapping[str, Any], origin: Origin, elements: Sequence[str] | None = None
) -> Candidate:
    """The candidate of a row; ``elements`` asks for that order of columns.

    Raises LedgerError when the row does not give the candidate it was made from.
    """
    image = None
    try:
        if row["microstructure"] is not None:
            image = decode_image(row["microstructure"])
            if image.shape != (row["height"], row["width"]):
                raise ValueError(f"image has shape {image.shape}")
        names = tuple(row["elements"])
        x = None
        if row["phase_compositions"] is not None:
            x = np.frombuffer(row["phase_compositions"], dtype="<f8").astype(np.float64)
            x = x.reshape(len(row["phases"]), len(names))
            if elements is not None and tuple(elements) != names:
                x, names = _reordered(x, names, tuple(elements)), tuple(elements)
        candidate = Candidate(
            phases=tuple(row["phases"]),
            elements=names,
            microstructure=image,
            phase_compositions=x,
            process=row["process"],
            labels=row["labels"] or {},
            origin=origin,
        )
        if candidate.id != row["id"]:
            raise ValueError(f"content gives id {candidate.id}")
    except (ValueError, OSError, SyntaxError) as error:  # SyntaxError: what Pillow calls bad PNG
        raise LedgerError(
            f"candidate {row['id']} is damaged in the ledger ({error}); restore a copy of it"
        ) from error
    return candidate


def _reordered(
    x: NDArray[np.float64], old: tuple[str, ...], new: tuple[str, ...]
) -> NDArray[np.float64]:
    # An element that is missing on either side is absent from the design, or the ids would differ.
    columns = [
        x[:, old.index(name)] if name in old else np.zeros(len(x), dtype=np.float64) for name in new
    ]
    return np.stack(columns, axis=1)


def candidate_values(candidate: Candidate) -> dict[str, float]:
    """The numbers of a candidate that a filter may name.

    ``<phase>.fraction`` (area), ``x_<Element>`` (overall atomic fraction, lever rule),
    ``<phase>.<Element>`` (atomic fraction in the phase), ``process.<variable>``.
    """
    values: dict[str, float] = {}
    amounts_known = candidate.microstructure is not None or len(candidate.phases) == 1
    if candidate.microstructure is not None:
        for phase, amount in zip(candidate.phases, candidate.phase_fractions(), strict=True):
            values[f"{phase}.fraction"] = float(amount)
    if candidate.phase_compositions is not None:
        if amounts_known:
            for element, amount in zip(candidate.elements, candidate.composition(), strict=True):
                values[f"x_{element}"] = float(amount)
        for phase, row in zip(candidate.phases, candidate.phase_compositions, strict=True):
            for element, amount in zip(candidate.elements, row, strict=True):
                values[f"{phase}.{element}"] = float(amount)
    for name, value in candidate.process.items():
        values[f"process.{name}"] = value
    return values


def proposal_values(
    details: Mapping[str, Any], predicted: Mapping[str, Any] | None
) -> dict[str, tuple[str, float]]:
    """name -> (kind, value): what was asked of a proposal, what was predicted, how new it is.

    Ranges and other things that are not one finite number stay in the JSON only.
    """
    values: dict[str, tuple[str, float]] = {}
    requested = details.get("requested")
    if isinstance(requested, Mapping):
        for name, value in requested.items():
            if (number := _number(value)) is not None:
                values[f"requested_{name}"] = ("requested", number)
    for name, prediction in (predicted or {}).items():
        table = prediction if isinstance(prediction, Mapping) else {"mean": prediction}
        for key, prefix in (("mean", "predicted_"), ("std", "predicted_std_")):
            if (number := _number(table.get(key))) is not None:
                values[f"{prefix}{name}"] = ("predicted", number)
    if (number := _number(details.get(DIFFERENCE))) is not None:
        values[DIFFERENCE] = ("novelty", number)
    return values


def _number(value: Any) -> float | None:
    if isinstance(value, (bool, np.bool_)) or not isinstance(
        value, (int, float, np.integer, np.floating)
    ):
        return None
    number = float(value)
    return number if np.isfinite(number) else None
