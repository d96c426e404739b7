"""A microstructure in the terminal: two pixels a character."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from interface.pictures import phase_colour, rgb

HALVES = " ▀▄█"  # [upper + 2 * lower]
SHADES = " █▒░▓"


def _sampled(labels: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """(h, w) labels, at most ``width`` wide, with an even number of rows; nearest pixels."""
    h, w = labels.shape
    step = max(1.0, w / width)
    across, down = int(w / step), max(2, int(h / step) // 2 * 2)
    columns = np.minimum((np.arange(across) + 0.5) * (w / across), w - 1).astype(int)
    lines = np.minimum((np.arange(down) + 0.5) * (h / down), h - 1).astype(int)
    return labels[np.ix_(lines, columns)]


def _coloured(top: int, bottom: int) -> str:
    fore, back = (";".join(map(str, rgb(phase_colour(label)))) for label in (top, bottom))
    return f"\x1b[38;2;{fore};48;2;{back}m▀"


def half_blocks(labels: NDArray[np.uint8], *, colour: bool, width: int = 64) -> str:
    """The picture as lines of text, at most ``width`` characters wide.

    ``labels``: (h, w) phase labels. With ``colour`` every half character has its phase's 24-bit
    colour; without, phase 0 is blank and the second phase solid, and where there are more than
    two phases each character is shaded by the upper of its two pixels.
    """
    small = _sampled(labels, width)
    lines = []
    for top, bottom in zip(small[0::2], small[1::2], strict=True):
        pixels = [(int(t), int(b)) for t, b in zip(top, bottom, strict=True)]
        if colour:
            lines.append("".join(_coloured(t, b) for t, b in pixels) + "\x1b[0m")
        elif labels.max() <= 1:
            lines.append("".join(HALVES[t + 2 * b] for t, b in pixels))
        else:
            lines.append("".join(SHADES[t % len(SHADES)] for t, _ in pixels))
    return "\n".join(lines)
