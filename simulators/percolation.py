"""Which pixels belong to a path from one end face to the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.csgraph import connected_components


def percolating(conducting: NDArray[np.bool_], *, periodic: bool = False) -> NDArray[np.bool_]:
    """Pixels (s0, ...) of the clusters that touch both ends of the first axis.

    Pixels are joined through faces, not through edges or corners; with ``periodic`` also across
    the sides (all axes but the first).
    """
    labels, count = ndimage.label(conducting)
    clusters = labels.astype(np.int64)
    if periodic and count > 1:
        clusters = _joined(clusters, count)
    spanning = np.intersect1d(clusters[0], clusters[-1])
    spanning = spanning[spanning > 0]
    result: NDArray[np.bool_] = np.isin(clusters, spanning)
    return result


def _joined(clusters: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The same with one number for clusters that meet across a side."""
    pairs = []
    for axis in range(1, clusters.ndim):
        first, last = np.take(clusters, 0, axis).ravel(), np.take(clusters, -1, axis).ravel()
        both = (first > 0) & (last > 0)
        pairs.append(np.stack((first[both], last[both])))
    i, j = np.concatenate(pairs, axis=1)
    graph = sparse.coo_array((np.ones(len(i)), (i, j)), shape=(count + 1, count + 1))
    _, member = connected_components(graph, directed=False)
    return np.where(clusters > 0, member[clusters].astype(np.int64) + 1, 0)
