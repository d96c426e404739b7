"""Answers on small voxel grids by dense linear algebra, images and tensors for the tests.

Nothing here shares code with what it checks.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import spsolve

FloatArray = NDArray[np.float64]
Labels = NDArray[np.integer]

GAUSS = ((1 - 1 / np.sqrt(3)) / 2, (1 + 1 / np.sqrt(3)) / 2)
CORNERS = tuple(itertools.product((0, 1), repeat=3))  # (x, y, z)


def random_tensors(p: int, m: int, contrast: float, rng: np.random.Generator) -> FloatArray:
    """(p, m, m) symmetric tensors, eigenvalues log-uniform in [1, contrast], axes at random."""
    axes = np.linalg.qr(rng.standard_normal((p, m, m)))[0]
    values = contrast ** rng.uniform(0, 1, (p, m))
    tensors = np.einsum("pij,pj,pkj->pik", axes, values, axes)
    return 0.5 * (tensors + tensors.swapaxes(1, 2))


def layers(widths: list[int], m: int, axis: int) -> NDArray[np.int64]:
    """(1, ...) labels 0, 1, ... in layers normal to x (0), y (1) or z (2), 2 pixels elsewhere."""
    line = np.repeat(np.arange(len(widths)), widths)
    shape = [2] * m
    shape[m - 1 - axis] = len(line)
    reach = [1] * m
    reach[m - 1 - axis] = len(line)
    return np.broadcast_to(line.reshape(reach), shape)[None].astype(np.int64)


def sphere(n: int, radius: float) -> NDArray[np.int64]:
    """(1, n, n, n) labels, a sphere of the given radius (in cell sides) in the middle."""
    x2 = ((np.arange(n) + 0.5) / n - 0.5) ** 2
    return (x2[:, None, None] + x2[:, None] + x2 <= radius**2)[None].astype(np.int64)


def _gradients(x: float, y: float, z: float) -> FloatArray:
    """Derivatives (3, 8) of the trilinear shape functions at a point of the unit cube."""
    rows = np.empty((3, 8))
    point = (x, y, z)
    for number, corner in enumerate(CORNERS):
        value = [p if c else 1 - p for p, c in zip(point, corner, strict=True)]
        slope = [1 if c else -1 for c in corner]
        for axis in range(3):
            factors = [slope[a] if a == axis else value[a] for a in range(3)]
            rows[axis, number] = np.prod(factors)
    return rows


def direct_upper(labels: Labels, tensors: FloatArray) -> FloatArray:
    """(d, h, w) labels, (p, 3, 3) tensors -> (3, 3) by trilinear elements."""
    d, h, w = labels.shape
    number = np.arange(labels.size).reshape(d, h, w)
    nodes = np.stack(
        [np.roll(number, (-z, -y, -x), (0, 1, 2)).ravel() for x, y, z in CORNERS], axis=1
    )
    k = tensors[labels.ravel()]
    stiff, load = np.zeros((labels.size, 8, 8)), np.zeros((labels.size, 8, 3))
    for point in itertools.product(GAUSS, repeat=3):
        b = _gradients(*point)
        stiff += np.einsum("ai,vab,bj->vij", b, k, b) / 8
        load += np.einsum("ai,vab->vib", b, k) / 8
    matrix = np.zeros((labels.size, labels.size))
    np.add.at(matrix, (nodes[:, :, None], nodes[:, None, :]), stiff)
    force = np.zeros((labels.size, 3))
    np.add.at(force, nodes, load)
    u = np.linalg.solve(matrix[1:, 1:], force[1:])
    result: FloatArray = (k.sum(0) - force[1:].T @ u) / labels.size
    return result


def direct_lower(labels: Labels, tensors: FloatArray) -> FloatArray:
    """(d, h, w) labels, (p, 3, 3) tensors -> (3, 3) by divergence-free face fluxes, dense."""
    n = labels.size
    number = np.arange(n).reshape(labels.shape)
    rho = np.linalg.inv(tensors)[labels.ravel()]
    low = [np.arange(n) + c * n for c in range(3)]  # faces x, y, z
    high = [np.roll(number, -1, 2 - c).ravel() + c * n for c in range(3)]
    energy, divergence = np.zeros((3 * n, 3 * n)), np.zeros((n, 3 * n))
    load = np.zeros((3 * n, 3))
    for c in range(3):
        for one, other, share in ((low, low, 1 / 3), (high, high, 1 / 3)):
            np.add.at(energy, (one[c], other[c]), share * rho[:, c, c])
        np.add.at(energy, (low[c], high[c]), rho[:, c, c] / 6)
        np.add.at(energy, (high[c], low[c]), rho[:, c, c] / 6)
        np.add.at(divergence, (np.arange(n), high[c]), 1.0)
        np.add.at(divergence, (np.arange(n), low[c]), -1.0)
        for e in range(3):
            for one, other in itertools.product((low, high), repeat=2):
                if c != e:
                    np.add.at(energy, (one[c], other[e]), rho[:, c, e] / 4)
            for one in (low, high):
                np.add.at(load[:, e], one[c], rho[:, c, e] / 2)
    held = np.vstack((divergence, np.kron(np.eye(3), np.ones((1, n)))))
    free = np.linalg.svd(held)[2][np.linalg.matrix_rank(held) :].T
    x = free @ np.linalg.solve(free.T @ energy @ free, -free.T @ load)
    least = rho.sum(0) + load.T @ x + x.T @ load + x.T @ energy @ x
    result: FloatArray = np.linalg.inv(least / n)
    return result


def direct_transport(k: FloatArray, *, periodic: bool) -> float:
    """Conductance of (s0, ...) finite volumes between the end faces of the first axis.

    Insulating cells are held at potential 0 by a unit conductance of their own.
    """
    number = np.arange(k.size).reshape(k.shape)
    matrix = sparse.lil_array((k.size, k.size))
    source = np.zeros(k.size)
    for cell in np.ndindex(k.shape):
        i = int(number[cell])
        if k[cell] == 0:
            matrix[i, i] = 1.0
            continue
        for axis, step in itertools.product(range(k.ndim), (-1, 1)):
            other = list(cell)
            other[axis] += step
            if not 0 <= other[axis] < k.shape[axis]:
                if axis == 0:
                    matrix[i, i] += 2 * k[cell]
                    source[i] += 2 * k[cell] if step < 0 else 0.0
                    continue
                if not periodic or k.shape[axis] == 1:
                    continue
                other[axis] %= k.shape[axis]
            there = k[tuple(other)]
            if there > 0:
                link = 2 * k[cell] * there / (k[cell] + there)
                matrix[i, i] += link
                matrix[i, int(number[tuple(other)])] -= link
    u = spsolve(matrix.tocsc(), source).reshape(k.shape)
    return float((2 * k[0] * (1 - u[0])).sum())
