"""Direct solution of plane networks of conductances: red-black reduction, banded Cholesky.

Cells of one colour of the checkerboard join cells of the other only. One colour is eliminated cell
by cell; what is left are half the unknowns in row order with the half-bandwidth of one row, which
LAPACK factorises in blocks. For grids that are narrow one way this is faster than sparse
factorisations, whose blocks are small, and its cost does not depend on the conductances.

Source: G. H. Golub and C. F. Van Loan, Matrix Computations, 2013, sections 4.3 and 11.5.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpbtrf, dpbtrs

FloatArray = NDArray[np.float64]


def solvable(shape: tuple[int, int], *, wrapped: bool) -> bool:
    """Whether ``solve`` takes the grid: rings of cells must have two colours."""
    return not wrapped or (shape[1] >= 4 and shape[1] % 2 == 0)


def operations(shape: tuple[int, int], *, wrapped: bool) -> float:
    """Multiplications of the factorisation of a grid (h, w)."""
    h, w = shape if wrapped or shape[0] >= shape[1] else shape[::-1]
    return 0.5 * h * float(w) ** 3


def solve(
    down: FloatArray,
    across: FloatArray,
    wrap: FloatArray | None,
    ground: FloatArray,
    source: FloatArray,
) -> FloatArray:
    """Potentials (h, w) that the currents ``source`` (h, w) drive; 0 in cells without conductance.

    ``down``: (h - 1, w) conductances between the rows, ``across``: (h, w - 1) between the columns,
    ``wrap``: (h, 1) between the last column and the first, or None; ``ground``: (h, w) to
    potential 0. Every cell that conducts is joined to the ground, by others if not by itself; with
    ``wrap``, w is even and at least 4. Raises numpy's LinAlgError when rounding hides that.
    """
    h, w = ground.shape
    if wrap is None and w > h:  # the band is as wide as a row
        turned = solve(across.T, down.T, None, ground.T, source.T)
        return np.ascontiguousarray(turned.T)
    even = w + w % 2
    north, south, west, east, diagonal, current = np.zeros((6, h, even))
    south[:-1, :w], north[1:, :w] = down, down
    east[:, : w - 1], west[:, 1:w] = across, across
    if wrap is not None:
        east[:, -1:], west[:, :1] = wrap, wrap
    diagonal[:, :w], current[:, :w] = ground, source
    diagonal += north
    diagonal += south
    diagonal += west
    diagonal += east
    place = _places(h, even)
    links = [side.ravel()[place.red] for side in (north, south, west, east)]
    resistance = diagonal.ravel()[place.red]
    np.divide(1.0, resistance, out=resistance, where=resistance > 0)
    scaled = [link * resistance for link in links]
    # What a red cell leaves between its four neighbours, and of its current.
    changes = [-links[a] * scaled[b] for a, b in _PAIRS]
    changes += [-a * b for a, b in zip(links, scaled, strict=True)]
    half = h * even // 2
    band = np.bincount(place.keys, np.concatenate(changes, axis=None), half * (even + 1))
    band = band.reshape(half, even + 1)
    band[:, 0] += diagonal.ravel()[place.black]
    band[:, 0][diagonal.ravel()[place.black] <= 0] = 1.0  # empty
    red_current = current.ravel()[place.red]
    moved = np.concatenate([link * red_current for link in scaled], axis=None)
    load = current.ravel()[place.black] + np.bincount(place.neighbours, moved, half)
    factor, wrong = dpbtrf(band.T, lower=1, overwrite_ab=1)
    if wrong:
        raise np.linalg.LinAlgError("a part of the network is not joined to the ground")
    black, _ = dpbtrs(factor, load, lower=1, overwrite_b=1)
    red = red_current * resistance
    for number, link in zip(place.neighbours.reshape(4, -1), scaled, strict=True):
        red += link * black[number]
    u = np.empty(h * even)
    u[place.black], u[place.red] = black, red
    return u.reshape(h, even)[:, :w]


_PAIRS = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))


class _Places:
    """Where the cells of a grid (h, w) stand, w even; for grids whose sides may be joined.

    ``red``, ``black``: places of the cells in the grid, row by row. ``neighbours``: (4 r,) numbers
    of the black cells above, below, left and right of the red ones, any cell where there is none.
    ``keys``: places in the band's lower half, column by column, of the pairs of those neighbours,
    then of the neighbours themselves.
    """

    def __init__(self, h: int, w: int) -> None:
        row, column = np.divmod(np.arange(h * w, dtype=np.intp), w)
        odd = (row + column) % 2 == 1
        self.red, self.black = np.flatnonzero(odd), np.flatnonzero(~odd)
        number = np.empty(h * w, dtype=np.intp)
        number[self.black] = np.arange(len(self.black))
        i, j = row[self.red], column[self.red]
        beside = (
            (np.maximum(i - 1, 0), np.where(i > 0, j, j - 1)),
            (np.minimum(i + 1, h - 1), np.where(i < h - 1, j, j - 1)),
            (i, j - 1),
            (i, j + 1),
        )
        found = [number[a * w + b % w] for a, b in beside]
        self.neighbours = np.concatenate(found)
        keys = []
        for a, b in (*_PAIRS, *((a, a) for a in range(4))):
            low, high = np.minimum(found[a], found[b]), np.maximum(found[a], found[b])
            keys.append(low * (w + 1) + (high - low))
        self.keys = np.concatenate(keys)


@lru_cache(maxsize=8)
def _places(h: int, w: int) -> _Places:
    return _Places(h, w)
