"""Bounds on the conductance of one pixel image between its end faces, from trial fields.

Images are (s0, ...) diffusivities, 0 outside what percolates; potentials are 1 on the first face
of the first axis and 0 on the last; sides are closed or periodic; pixels are unit cubes.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

FloatArray = NDArray[np.float64]
Places = NDArray[np.int64]
Scalar = TypeVar("Scalar", bound=np.generic)

NEGLIGIBLE = 1e-9  # what a bound may lose because fluxes are not quite balanced


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
        self.pixels = np.flatnonzero(self.inside)
        count = len(self.pixels)
        number = np.full(k.shape, -1, dtype=np.int32)
        number[self.inside] = np.arange(count)
        low, high = _pairs(number, count, periodic)
        resistances = np.append(1 / k[self.inside], 0.0)
        graph = sparse.csr_array(
            (resistances[low] + resistances[high], (low, high)), shape=(count + 1, count + 1)
        )
        if resistances.max() > resistances[:-1].min():
            graph = minimum_spanning_tree(graph)
        parent = breadth_first_order(graph, count, directed=False)[1]
        self.parent = np.append(parent[:-1], count).astype(np.int64)
        self.axis, self.place, self.towards = self._faces(k.shape)

    def _faces(self, shape: tuple[int, ...]) -> tuple[NDArray[np.int8], Places, FloatArray]:
        """Of every pixel the face to its parent, and 1 where flux through it enters the pixel."""
        strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
        rooted = self.parent[:-1] == len(self.pixels)
        origin = np.append(self.pixels, 0)[self.parent[:-1]]
        step = np.where(rooted, 0, self.pixels - origin)
        first = np.minimum(self.pixels, origin)  # of the two, if they are not the root
        axes = np.zeros(len(self.pixels), dtype=np.int8)
        at_start = self.pixels < strides[0]
        place = self.pixels + np.where(at_start, 0, strides[0])
        towards = np.where(at_start, 1.0, -1.0)
        for axis, (size, stride) in enumerate(zip(shape, strides, strict=True)):
            if size == 1:
                continue
            outer = first // (size * stride) * stride  # the faces are one more along the axis
            wrapped = np.abs(step) == (size - 1) * stride if size > 2 and self.periodic else False
            inner = np.abs(step) == stride
            own = inner | wrapped
            axes[own] = axis
            # The face of a wrap is kept once, as the first.
            place[own] = (first + outer + np.where(inner, stride, 0))[own]
            towards[own] = np.where((step > 0) == inner, 1.0, -1.0)[own]
        return axes, place, towards

    def balance(self, flux: list[FloatArray]) -> None:
        """Change the fluxes, in place, so that no pixel gathers any."""
        excess = sum((np.diff(faces, axis=axis) for axis, faces in enumerate(flux)), np.zeros(1))
        gathered, above = np.append(excess[self.inside], 0.0), self.parent
        # Of all below: those less than 1, 2, 4, ... generations away.
        root = len(self.pixels)
        while np.any(above != root):
            gathered += np.bincount(above, gathered, root + 1)
            gathered[root] = 0.0
            above = above[above]
        change = self.towards * gathered[:-1]
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
    energy = _energy(k, flux, 1 / 4 if lumped else 1 / 12)
    return total**2 / energy if energy > 0 else 0.0


def thomson_of_potential(k: FloatArray, u: FloatArray, *, periodic: bool = False) -> float:
    """Lower bound on the conductance of the pixel image by the fluxes that ``u`` drives.

    Where they gather next to nothing, as those of a direct solution, they need not be balanced:
    currents of s in all can be led to the ends with an energy of at most s^2 R, and change the
    total by at most s; R, the greatest resistance from a pixel to the ends, is at most the number
    of the pixels over their least diffusivity.
    """
    flux = _fluxes(k, u, periodic)
    excess = sum((np.diff(faces, axis=axis) for axis, faces in enumerate(flux)), np.zeros(1))
    # Plus what rounding may hide of it.
    rounding = 4 * np.finfo(np.float64).eps * sum(float(np.abs(faces).sum()) for faces in flux)
    current = float(np.abs(excess).sum()) + rounding
    total = float(flux[0][0].sum())
    norm = math.sqrt(_energy(k, flux, 1 / 12))
    inside = k[k > 0]
    aside = current * math.sqrt(len(inside) / inside.min())
    if current + aside > NEGLIGIBLE * min(total, norm):
        Branches(k, periodic=periodic).balance(flux)
        return thomson_conductance(k, flux)
    return ((total - current) / (norm + aside)) ** 2


def _energy(k: FloatArray, flux: list[FloatArray], weight: float) -> float:
    """Sum over the pixels of resistivity times squared means plus weighted squared changes."""
    resistivity = np.divide(1.0, k, out=np.zeros_like(k), where=k > 0)
    energy = 0.0
    for axis, faces in enumerate(flux):
        low = part(faces, axis, 0, -1)
        high = part(faces, axis, 1, None)
        square = ((low + high) / 2) ** 2 + weight * (high - low) ** 2
        energy += float((resistivity * square).sum())
    return energy


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


def _pairs(
    number: NDArray[np.int32], count: int, periodic: bool
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Pixels below and above every face; ``number``: (s0, ...) of the conducting pixels, else -1.

    The number ``count`` stands for both end faces.
    """
    lows, highs = [], []
    for axis, size in enumerate(number.shape):
        last = part(number, axis, -1, None)
        before = after = np.full_like(last, count if axis == 0 else -1)
        if periodic and axis > 0 and size > 1:
            before = last  # the wrapping face is kept once, as the first
        low = np.concatenate((before, number), axis).ravel()
        high = np.concatenate((number, after), axis).ravel()
        used = (low >= 0) & (high >= 0)
        lows.append(low[used])
        highs.append(high[used])
    return np.concatenate(lows), np.concatenate(highs)
