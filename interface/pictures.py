"""Microstructures as pictures, and the colours that all of the interface shares."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from loop.candidate import Candidate
from loop.errors import InvalidInputError

# Matrix pale, precipitates strong; told apart by lightness alone and by every common colour
# blindness (after P. Tol, "Colour schemes", SRON/EPS/TN/09-002, 2021, and M. Okabe & K. Ito).
PHASE_COLOURS: tuple[str, ...] = (
    "#E9E5DA",
    "#24527A",
    "#E08E2B",
    "#7A2E43",
    "#86C5AF",
    "#3B3B3B",
    "#C9B6E4",
    "#55752F",
)
ARM_COLOURS = {
    "loop": "#0B62A8",
    "random": "#8A8A8A",
    "mutation": "#D9822B",
    "seed": "#BDBDBD",
}
OTHER_ARM_COLOURS: tuple[str, ...] = ("#8C3B74", "#2F8F6B", "#A8741A")
MET = "#1B7F5C"
MISSED = "#B5482A"
INK = "#1F2933"
MUTED = "#66727F"
ACCENT = ARM_COLOURS["loop"]

LARGEST_SCALE = 16
LARGEST_SIDE = 4096  # px of a drawn picture


def phase_colour(index: int) -> str:
    """Colour of phase ``index``; the same in every picture. Repeats after eight phases."""
    return PHASE_COLOURS[index % len(PHASE_COLOURS)]


def arm_colour(arm: str) -> str:
    """Colour of an arm; arms that are not ours get a colour that depends on the name alone."""
    other = OTHER_ARM_COLOURS[sum(arm.encode()) % len(OTHER_ARM_COLOURS)]
    return ARM_COLOURS.get(arm, other)


def rgb(colour: str) -> tuple[int, int, int]:
    """``"#24527A"`` -> (36, 82, 122)."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def colour_image(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, w) phase labels -> (h, w, 3) colours."""
    table = np.array([rgb(phase_colour(i)) for i in range(256)], dtype=np.uint8)
    return table[labels]


def microstructure_png(candidate: Candidate, scale: int = 4) -> bytes:
    """The microstructure as a palette PNG: pixel value = phase label, each drawn scale x scale.

    Raises InvalidInputError for a candidate without image and for a picture beyond 4096 px.
    """
    labels = candidate.microstructure
    if labels is None:
        raise InvalidInputError(
            f"candidate {candidate.id} has no microstructure, so there is no picture of it"
        )
    if not 1 <= scale <= LARGEST_SCALE or scale * max(labels.shape) > LARGEST_SIDE:
        most = min(LARGEST_SCALE, LARGEST_SIDE // max(labels.shape))
        raise InvalidInputError(f"scale is {scale}; expected 1 to {max(most, 1)} for this picture")
    picture = Image.fromarray(np.kron(labels, np.ones((scale, scale), dtype=np.uint8)), mode="P")
    picture.putpalette([channel for i in range(256) for channel in rgb(phase_colour(i))])
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
