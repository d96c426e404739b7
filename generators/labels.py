"""Labels as analog bits: a coordinate for each value, +1 for the one that it is and -1 else.

T. Chen, R. Zhang, G. Hinton, Analog Bits, ICLR 2023, with one bit a value, read by the largest:
values of a label have no order, and no two are nearer to each other than others.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from loop.process_labels import FREE, Codes
from loop.space import DesignSpace

FloatArray = NDArray[np.float64]


def label_widths(space: DesignSpace) -> tuple[int, ...]:
    """How many values each label has."""
    return tuple(len(values) for values in space.labels.values())


def label_columns(space: DesignSpace) -> int:
    """Coordinates of all labels together."""
    return sum(label_widths(space))


def label_bits(space: DesignSpace, codes: Codes) -> FloatArray:
    """Codes (n, l) -> (n, b) coordinates +1 and -1; NaN for a label that is ``FREE``."""
    parts = [np.zeros((len(codes), 0))]
    for column, width in zip(codes.T, label_widths(space), strict=True):
        bits = np.where(column[:, None] == np.arange(width), 1.0, -1.0)
        parts.append(np.where((column == FREE)[:, None], np.nan, bits))
    return np.concatenate(parts, axis=1)


def label_codes_of(space: DesignSpace, bits: FloatArray) -> Codes:
    """(n, b) coordinates -> codes (n, l): of each label the value with the largest."""
    ends = np.cumsum((0, *label_widths(space)))
    codes = np.empty((len(bits), len(space.labels)), dtype=np.int64)
    for column, (start, end) in enumerate(pairwise(ends)):
        codes[:, column] = bits[:, start:end].argmax(1)
    return codes
