"""Bounds on the conductance of one pixel image between its end faces, from trial fields.

Images are (s0, ...) diffusivities, 0 outside what percolates; potentials are 1 on the first face
of the first axis and 0 on the last; sides are closed or periodic; pixels are unit cubes.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

FloatArray = NDArray[np.float64]
Scalar = TypeVar("Scalar", bound=np.generic)


def dirichlet_conductance(k: FloatArray, u: FloatArray, *, periodic: bool = False) -> float:
    """Upper bound: energy of the multilinear potential through corner averages of ``u``.

    ``u``: (s0, ...) at the pixels' centres; averages are weighted by diffusivity. Exactly
    integrated: <s^2> = 1/12 over a pixel.
    """
    joined = [periodic and axis > 0 for axis in range(k.ndim)]
    total, weight = _to_corners(k * u, joined), _to_corners(k, joined)
    corners = np.divide(total, weight, out=np.zeros_like(total), where=weight > 0)
    corners[0], corners[-1] = 1.0, 0.0
    for axis, wrapped in enumerate(joined):
        if wrapped:
            corners = np.concatenate((corners, part(corners, axis, 0, 1)), axis)
    modes: dict[tuple[int, ...], FloatArray] = {(): corners}
    for axis in range(k.ndim):
        split: dict[tuple[int, ...], FloatArray] = {}
        for along, field in modes.items():
            low = part(field, axis, 0, -1)
            high = part(field, axis, 1, None)
            split[along] = (low + high) / 2
            split[(*along, axis)] = high - low
        modes = split
    energy = sum(
        len(along) * 12.0 ** (1 - len(along)) * float((k * field**2).sum())
        for along, field in modes.items()
        if along
    )
    return float(energy)


def _to_corners(field: FloatArray, joined: list[bool]) -> FloatArray:
    """Sums of the pixels around every corner, one more along axes that are not joined."""
    for axis, wrapped in enumerate(joined):
        if wrapped:
            field = field + np.roll(field, 1, axis)
        else:
            none = np.zeros_like(part(field, axis, 0, 1))
            field = np.concatenate((field, none), axis) + np.concatenate((none, field), axis)
    return field


class Branches:
    """Spanning tree of the conducting pixels, rooted in the end faces.

    It leads away what fluxes gather in a pixel, so that they are free of divergence to rounding
    whatever potential drives them. Where diffusivities differ it is the tree of least resistances.
    """

    def __init__(self, k: FloatArray, *, periodic: bool = False) -> None:
        self.inside = k > 0
        self.periodic = periodic
        count = int(self.inside.sum())
        number = np.full(k.shape, -1, dtype=np.int64)
        number[self.inside] = np.arange(count)
        faces = _faces(number, count, periodic)
        # Of several faces between the same two, one carries the correction.
        key = np.minimum(faces.low, faces.high) * (count + 1) + np.maximum(faces.low, faces.high)
        key, once = np.unique(key, return_index=True)
        faces = _Faces(*(column[once] for column in faces))
        resistances = np.append(1 / k[self.inside], 0.0)
        graph = sparse.csr_array(
            (resistances[faces.low] + resistances[faces.high], (faces.low, faces.high)),
            shape=(count + 1, count + 1),
        )
        if resistances.max() > resistances[:-1].min():
            graph = minimum_spanning_tree(graph)
        order, parent = breadth_first_order(graph, count, directed=False)
        rank = np.empty(count + 1, dtype=np.int64)
        rank[order] = np.arange(len(order))
        self.order = order
        self.above = rank[parent[order[1:]]]  # ranks of the parents, never falling
        self.levels = [0, 1]
        while self.levels[-1] < len(order):
            self.levels.append(1 + int(np.searchsorted(self.above, self.levels[-1])))
        nodes, parents = order[1:].astype(np.int64), parent[order[1:]].astype(np.int64)
        branch = np.minimum(nodes, parents) * (count + 1) + np.maximum(nodes, parents)
        used = np.searchsorted(key, branch)
        self.towards = np.where(faces.high[used] == nodes, 1.0, -1.0)
        self.axis, self.place = faces.axis[used], faces.place[used]

    def balance(self, flux: list[FloatArray]) -> None:
        """Change the fluxes, in place, so that no pixel gathers any."""
        excess = sum((np.diff(faces, axis=axis) for axis, faces in enumerate(flux)), np.zeros(1))
        gathered = np.append(excess[self.inside], 0.0)[self.order]
        # Level by level: a branch hands what it gathers to its parent.
        for start, stop in zip(self.levels[-2:0:-1], self.levels[:1:-1], strict=True):
            np.add.at(gathered, self.above[start - 1 : stop - 1], gathered[start:stop])
        change = self.towards * gathered[1:]
        for axis, field in enumerate(flux):
            own = self.axis == axis
            field.reshape(-1)[self.place[own]] += change[own]
            if self.periodic and axis > 0 and self.inside.shape[axis] > 1:
                np.moveaxis(field, axis, 0)[-1] = np.moveaxis(field, axis, 0)[0]


def balanced_fluxes(k: FloatArray, u: FloatArray, branches: Branches) -> list[FloatArray]:
    """Fluxes through the faces that ``u`` drives, free of divergence; one array per axis."""
    flux = _fluxes(k, u, branches.periodic)
    branches.balance(flux)
    return flux


def thomson_conductance(k: FloatArray, flux: list[FloatArray], *, lumped: bool = False) -> float:
    """Lower bound: Q^2 over the energy of balanced face fluxes, Q their total.

    On the conductance of the pixel image, each component of the flux linear along its own axis
    inside a pixel; ``lumped``: on that of the finite-volume scheme, constant in either half.
    """
    total = float(flux[0][0].sum())
    resistivity = np.divide(1.0, k, out=np.zeros_like(k), where=k > 0)
    weight = 1 / 4 if lumped else 1 / 12
    energy = 0.0
    for axis, faces in enumerate(flux):
        low = part(faces, axis, 0, -1)
        high = part(faces, axis, 1, None)
        square = ((low + high) / 2) ** 2 + weight * (high - low) ** 2
        energy += float((resistivity * square).sum())
    return total**2 / energy if energy > 0 else 0.0


def part(array: NDArray[Scalar], axis: int, start: int, stop: int | None) -> NDArray[Scalar]:
    """View of array[start:stop] along one axis."""
    return array[(slice(None),) * axis + (slice(start, stop),)]


def series(a: FloatArray, b: FloatArray) -> FloatArray:
    """Conductance between the centres of neighbouring pixels: 2 a b / (a + b), 0 for insulators."""
    total = a + b
    return np.divide(2 * a * b, total, out=np.zeros_like(total), where=total > 0)


def _fluxes(k: FloatArray, u: FloatArray, periodic: bool) -> list[FloatArray]:
    """Fluxes through the faces, one more along their axis than pixels; last = first if periodic."""
    result = []
    for axis in range(k.ndim):
        first, last = part(k, axis, 0, 1), part(k, axis, -1, None)
        u_first, u_last = part(u, axis, 0, 1), part(u, axis, -1, None)
        inner = series(part(k, axis, 0, -1), part(k, axis, 1, None)) * -np.diff(u, axis=axis)
        if axis == 0:
            ends = 2 * first * (1 - u_first), 2 * last * u_last
        elif periodic and k.shape[axis] > 1:
            ends = (series(first, last) * (u_last - u_first),) * 2
        else:
            ends = (np.zeros_like(first),) * 2
        result.append(np.concatenate((ends[0], inner, ends[1]), axis))
    return result


class _Faces(NamedTuple):
    """Faces between conducting pixels or of an end: flux from pixel ``low`` to pixel ``high``.

    One more pixel number than there are pixels stands for both end faces. ``axis``, ``place``:
    where the flux is kept.
    """

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    axis: NDArray[np.int64]
    place: NDArray[np.int64]


def _faces(number: NDArray[np.int64], count: int, periodic: bool) -> _Faces:
    """``number``: (s0, ...) of the conducting pixels, -1 elsewhere."""
    parts = []
    for axis, size in enumerate(number.shape):
        last = part(number, axis, -1, None)
        before = after = np.full_like(last, count if axis == 0 else -1)
        if periodic and axis > 0 and size > 1:
            before = last  # the wrapping face is kept once, as the first
        low = np.concatenate((before, number), axis).ravel()
        high = np.concatenate((number, after), axis).ravel()
        place = np.flatnonzero((low >= 0) & (high >= 0))
        parts.append((low[place], high[place], np.full(len(place), axis), place))
    return _Faces(*(np.concatenate(column) for column in zip(*parts, strict=True)))
