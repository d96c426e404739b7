"""Crystals, order of matrices and an independent solver for the tests of elasticity."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import spsolve
from scipy.spatial.transform import Rotation

from simulators.stiffness_tensors import cubic_stiffness

FloatArray = NDArray[np.float64]
AXES = "xyz"
PAIRS = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def rotation(seed: int) -> FloatArray:
    """(3, 3) at random."""
    return Rotation.random(rng=seed).as_matrix()


def triclinic(seed: int, size: float = 1.0) -> FloatArray:
    """(6, 6) positive definite without any symmetry, eigenvalues between about 1 and 10."""
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.standard_normal((6, 6)))
    c: FloatArray = size * (q * np.geomspace(1, 10, 6)) @ q.T
    return 0.5 * (c + c.T)


def crystals(contrast: float = 1.0) -> FloatArray:
    """(3, 6, 6): nickel and a triclinic crystal, turned; the second and third stiffer."""
    nickel = cubic_stiffness(247.0, 153.0, 122.0, rotation(1))
    iron = cubic_stiffness(231.0, 134.0, 116.0, rotation(2))
    return np.stack((nickel, contrast * iron, contrast * triclinic(3, 50.0)))


def assert_loewner(low: FloatArray, high: FloatArray, slack: float = 1e-10) -> None:
    """high - low has no negative eigenvalue beyond the slack, (n, 6, 6) each."""
    least = np.linalg.eigvalsh(high - low).min(-1)
    assert np.all(least >= -slack * np.linalg.norm(high, axis=(-2, -1)))


def relative(matrix: FloatArray, truth: FloatArray) -> float:
    """Greatest error of an entry (i, j) by sqrt(truth_ii truth_jj)."""
    size = np.sqrt(np.diagonal(truth, axis1=-2, axis2=-1))
    return float((np.abs(matrix - truth) / (size[..., :, None] * size[..., None, :])).max())


def finer(image: NDArray[np.integer], factor: int) -> NDArray[np.integer]:
    """Every pixel of (n, ...) becomes a block of equal ones."""
    for axis in range(1, image.ndim):
        image = image.repeat(factor, axis)
    return image


def layers(m: int, axis: int, counts: tuple[int, ...]) -> NDArray[np.int64]:
    """(1, ...) labels of layers normal to x, y or z, ``counts`` pixels thick."""
    shape, reach = [2] * m, [1] * m
    shape[m - 1 - axis] = reach[m - 1 - axis] = sum(counts)
    line = np.repeat(np.arange(len(counts)), counts).reshape(reach)
    return np.broadcast_to(line, shape)[None].astype(np.int64)


def direct_voxels(labels: NDArray[np.integer], stiffness: FloatArray) -> FloatArray:
    """(d, h, w) labels, (p, 6, 6) -> (6, 6) by assembled trilinear elements and a direct solver."""
    shape = labels.shape
    sides = list(itertools.product((0, 1), repeat=3))  # (x, y, z) of the eight nodes
    gauss = (0.5 - np.sqrt(1 / 12), 0.5 + np.sqrt(1 / 12))
    p = len(stiffness)
    stiff, force = np.zeros((p, 24, 24)), np.zeros((p, 24, 6))
    for point in itertools.product(gauss, repeat=3):
        b = np.zeros((6, 24))
        for node, corner in enumerate(sides):
            values = [x if side else 1 - x for x, side in zip(point, corner, strict=True)]
            signs = [1 if side else -1 for side in corner]
            d = [
                signs[0] * values[1] * values[2],
                values[0] * signs[1] * values[2],
                values[0] * values[1] * signs[2],
            ]
            for row, (i, j) in enumerate(PAIRS):
                b[row, 3 * node + i] += d[j]
                if i != j:
                    b[row, 3 * node + j] += d[i]
        stiff += np.einsum("ai,pab,bj->pij", b, stiffness, b) / 8
        force += np.einsum("ai,pab->pib", b, stiffness) / 8
    z, y, x = np.indices(shape)
    nodes = np.stack(
        [
            ((z + c[2]) % shape[0] * shape[1] + (y + c[1]) % shape[1]) * shape[2]
            + (x + c[0]) % shape[2]
            for c in sides
        ],
        axis=-1,
    ).reshape(-1, 8)
    freedoms = (3 * nodes[:, :, None] + np.arange(3)).reshape(-1, 24)
    which = labels.ravel()
    n = 3 * labels.size
    rows, columns = np.repeat(freedoms, 24, axis=1), np.tile(freedoms, (1, 24))
    matrix = sparse.csc_array((stiff[which].ravel(), (rows.ravel(), columns.ravel())), shape=(n, n))
    load = np.zeros((n, 6))
    np.add.at(load, freedoms, force[which])
    free = np.arange(3, n)
    solved = spsolve(matrix[free][:, free].tocsc(), load[free])
    result: FloatArray = (stiffness[which].sum(0) - load[free].T @ solved) / labels.size
    return result
