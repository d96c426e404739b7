"""Answers by other means: textbook finite elements with a direct solver, counting one by one.

Nothing here shares code with what it checks. Closed forms that the program itself shows its user
are in ``simulators.exact``; they are checked against these.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import spsolve

FloatArray = NDArray[np.float64]
Labels = NDArray[np.integer]

GAUSS = (-1 / np.sqrt(3), 1 / np.sqrt(3))
CORNERS = ((-1, -1), (1, -1), (1, 1), (-1, 1))  # local (x, y), counter-clockwise


def _shape_gradients(x: float, y: float) -> FloatArray:
    """Derivatives (2, 4) of the bilinear shape functions of a unit square, x, y in [-1, 1]."""
    return np.array(
        [
            [2 * cx * (1 + cy * y) / 4 for cx, cy in CORNERS],
            [2 * cy * (1 + cx * x) / 4 for cx, cy in CORNERS],
        ]
    )


def _nodes(h: int, w: int) -> NDArray[np.int64]:
    """Nodes (h, w, 4) of every pixel in the order of CORNERS; y grows with the row."""
    i, j = np.indices((h, w))
    corners = [((i + (cy > 0)) % h) * w + (j + (cx > 0)) % w for cx, cy in CORNERS]
    return np.stack(corners, axis=-1)


def _minimised(
    stiffness: sparse.csc_array, load: FloatArray, mean: FloatArray, components: int
) -> FloatArray:
    """mean - load^T K^-1 load with the rigid translations held at node 0."""
    n = stiffness.shape[0]
    free = np.arange(components, n)
    solved = spsolve(stiffness[free][:, free].tocsc(), load[free])
    solved = solved.reshape(len(free), -1)
    result: FloatArray = mean - load[free].T @ solved
    return result


def direct_conductivity(labels: Labels, conductivities: FloatArray) -> FloatArray:
    """(h, w) labels, (p,) conductivities -> (2, 2) finite-element (primal) tensor."""
    k = np.asarray(conductivities, dtype=float)[labels]
    h, w = k.shape
    nodes = _nodes(h, w).reshape(-1, 4)
    element, force = np.zeros((4, 4)), np.zeros((4, 2))
    for x, y in itertools.product(GAUSS, GAUSS):
        b = _shape_gradients(x, y)
        element += b.T @ b / 4
        force += b.T / 4
    values = k.reshape(-1, 1, 1) * element
    rows, columns = np.repeat(nodes, 4, axis=1), np.tile(nodes, (1, 4))
    matrix = sparse.csc_array(
        (values.ravel(), (rows.ravel(), columns.ravel())), shape=(h * w, h * w)
    )
    load = np.zeros((h * w, 2))
    np.add.at(load, nodes, k.reshape(-1, 1, 1) * force)
    return _minimised(matrix, load, k.sum() * np.eye(2), 1) / (h * w)


def direct_stiffness(labels: Labels, bulk: FloatArray, shear: FloatArray) -> FloatArray:
    """(h, w) labels, (p,) moduli -> (4, 4) finite-element stiffness over (xx, yy, xy, zz)."""
    g = np.asarray(shear, dtype=float)
    lame = np.asarray(bulk, dtype=float) - 2 * g / 3
    c = np.zeros((len(g), 4, 4))  # Voigt matrices with engineering shear
    c[:, [0, 1, 3], [0, 1, 3]] = (lame + 2 * g)[:, None]
    for i, j in ((0, 1), (0, 3), (1, 3)):
        c[:, i, j] = c[:, j, i] = lame
    c[:, 2, 2] = g
    h, w = labels.shape
    nodes = _nodes(h, w).reshape(-1, 4)
    freedoms = np.stack((2 * nodes, 2 * nodes + 1), axis=-1).reshape(-1, 8)
    stiff, force = np.zeros((len(g), 8, 8)), np.zeros((len(g), 8, 4))
    for x, y in itertools.product(GAUSS, GAUSS):
        d = _shape_gradients(x, y)
        b = np.zeros((4, 8))
        b[0, 0::2], b[1, 1::2] = d[0], d[1]
        b[2, 0::2], b[2, 1::2] = d[1], d[0]
        stiff += np.einsum("ai,pab,bj->pij", b, c, b) / 4
        force += np.einsum("ai,pab->pib", b, c) / 4
    which = labels.ravel()
    n = 2 * h * w
    rows, columns = np.repeat(freedoms, 8, axis=1), np.tile(freedoms, (1, 8))
    matrix = sparse.csc_array((stiff[which].ravel(), (rows.ravel(), columns.ravel())), shape=(n, n))
    load = np.zeros((n, 4))
    np.add.at(load, freedoms, force[which])
    return _minimised(matrix, load, c[which].sum(0), 2) / (h * w)


def counted_two_point(a: FloatArray, b: FloatArray, *, periodic: bool) -> FloatArray:
    """Two-point correlation of (h, w) fields pair by pair, lags in the order of the FFT."""
    h, w = a.shape
    size = (h, w) if periodic else (2 * h - 1, 2 * w - 1)
    result = np.zeros(size)
    for dy, dx in np.ndindex(size):
        sy = dy if periodic or dy < h else dy - size[0]
        sx = dx if periodic or dx < w else dx - size[1]
        pairs = []
        for y, x in np.ndindex(h, w):
            v, u = y + sy, x + sx
            if periodic:
                pairs.append(a[y, x] * b[v % h, u % w])
            elif 0 <= v < h and 0 <= u < w:
                pairs.append(a[y, x] * b[v, u])
        result[dy, dx] = np.mean(pairs)
    return result


def counted_chords(inside: NDArray[np.bool_]) -> list[int]:
    """Lengths of all periodic chords along the last axis of (h, w); endless ones are left out."""
    lengths = []
    for row in inside:
        if row.all() or not row.any():
            continue
        start = int(np.argmin(row))  # a pixel outside: no chord wraps around it
        for value, run in itertools.groupby(np.roll(row, -start)):
            if value:
                lengths.append(len(list(run)))
    return lengths


def lurie_cherkaev(fraction: float, low: float, high: float) -> tuple[float, float]:
    """Limits of tr (K - low)^-1 and of tr (high - K)^-1 in two dimensions.

    They hold for every two-phase structure, isotropic or not; ``fraction`` is of the phase of
    conductivity ``high``. Source: K. A. Lurie and A. V. Cherkaev, Proc. R. Soc. Edinburgh A 99,
    71 (1984).
    """
    arithmetic = (1 - fraction) * low + fraction * high
    harmonic = 1 / ((1 - fraction) / low + fraction / high)
    return (
        1 / (arithmetic - low) + 1 / (harmonic - low),
        1 / (high - arithmetic) + 1 / (high - harmonic),
    )
