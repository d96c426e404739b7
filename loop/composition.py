"""The simplex of compositions: closure, log-ratio coordinates, distances, bounds.

Arrays of compositions have the elements last, shape (..., e); rows are atomic fractions with
sum 1 where not said otherwise. Symbols and formulas follow Aitchison (1982) J. R. Stat. Soc. B
44, 139 and Egozcue et al. (2003) Math. Geol. 35, 279. An absent element is exactly 0. Log ratios
refuse it unless the caller says what is meant: the sub-composition of the elements that are there
(``present_clr``, ``present_ilr``: which elements, then how much) or a small amount in its place
(``replace_zeros``, ``encode``). Either way it comes back as exactly 0.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from loop.errors import InvalidInputError

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


def closure(x: ArrayLike) -> FloatArray:
    """Non-negative amounts (..., e) divided by their sum.

    Raises InvalidInputError for negative or non-finite amounts and for a row of zeros.
    """
    x = _amounts(x)
    total = x.sum(axis=-1, keepdims=True)
    if np.any(total <= 0):
        raise InvalidInputError("a composition has only zeros; give at least one amount above 0")
    closed: FloatArray = x / total
    return closed


def _amounts(x: ArrayLike) -> FloatArray:
    x = np.asarray(x, dtype=np.float64)
    if x.ndim == 0 or x.shape[-1] == 0:
        raise InvalidInputError(
            f"composition has shape {x.shape}; expected elements last, (..., e)"
        )
    if not np.all(np.isfinite(x)):
        raise InvalidInputError("a composition has a value that is not finite; give numbers >= 0")
    if np.any(x < 0):
        raise InvalidInputError(f"a composition has {x.min():g}; expected amounts >= 0")
    return x


def _positive(x: ArrayLike) -> FloatArray:
    x = _amounts(x)
    if np.any(x == 0):
        absent = int(np.argwhere(x == 0)[0][-1])
        raise InvalidInputError(
            f"log ratios need amounts above 0, but element number {absent} is 0; drop absent "
            "elements, or use present_ilr, replace_zeros or encode, which keep count of them"
        )
    return x


# Log-ratio coordinates


def clr(x: ArrayLike) -> FloatArray:
    """Centred log ratio ln(x_i / g(x)), g the geometric mean; (..., e) -> (..., e), sum 0."""
    logs = np.log(_positive(x))
    centred: FloatArray = logs - logs.mean(axis=-1, keepdims=True)
    return centred


def clr_inverse(z: ArrayLike) -> FloatArray:
    """exp(z) closed to sum 1: softmax, (..., e) -> (..., e). Any constant in z drops out."""
    z = np.asarray(z, dtype=np.float64)
    if not np.all(np.isfinite(z)):
        raise InvalidInputError("log-ratio coordinates are not finite")
    powers = np.exp(z - z.max(axis=-1, keepdims=True))
    inverse: FloatArray = powers / powers.sum(axis=-1, keepdims=True)
    return inverse


def helmert_basis(e: int) -> FloatArray:
    """Orthonormal ilr basis, (e - 1, e): row i compares the mean of the first i parts with part i.

    Rows sqrt(i / (i + 1)) (1/i, …, 1/i, -1, 0, …), Egozcue et al. (2003) eq. 18.
    """
    if e < 2:
        raise InvalidInputError(f"ilr needs at least two elements, got {e}")
    basis = np.zeros((e - 1, e))
    for i in range(1, e):
        basis[i - 1, :i] = 1.0 / i
        basis[i - 1, i] = -1.0
        basis[i - 1] *= np.sqrt(i / (i + 1))
    return basis


def balance_basis(signs: ArrayLike) -> FloatArray:
    """Orthonormal ilr basis of a sequential binary partition, (e - 1, e).

    ``signs[i]`` has +1 for the group above, -1 for the group below and 0 for the parts not
    involved in balance i. Egozcue & Pawlowsky-Glahn (2005) Math. Geol. 37, 795, eq. 2.
    Raises InvalidInputError when the rows are no sequential binary partition.
    """
    signs = np.asarray(signs)
    if signs.ndim != 2 or signs.shape[0] != signs.shape[1] - 1:
        raise InvalidInputError(f"partition has shape {signs.shape}; expected (e - 1, e)")
    up, down = signs > 0, signs < 0
    r, s = up.sum(axis=1, keepdims=True), down.sum(axis=1, keepdims=True)
    if np.any(r == 0) or np.any(s == 0):
        raise InvalidInputError("a balance lacks one of its groups; give +1 and -1 in every row")
    basis: FloatArray = np.where(up, np.sqrt(s / (r * (r + s))), 0.0) - np.where(
        down, np.sqrt(r / (s * (r + s))), 0.0
    )
    if not np.allclose(basis @ basis.T, np.eye(len(basis)), atol=1e-12):
        raise InvalidInputError(
            "partition is not sequential: each row must split one group that an earlier row made"
        )
    return basis


def ilr(x: ArrayLike, basis: FloatArray | None = None) -> FloatArray:
    """Isometric log ratio, (..., e) -> (..., e - 1); the Helmert basis where none is given."""
    z = clr(x)
    basis = helmert_basis(z.shape[-1]) if basis is None else basis
    coordinates: FloatArray = z @ basis.T
    return coordinates


def ilr_inverse(y: ArrayLike, basis: FloatArray | None = None) -> FloatArray:
    """Composition of ilr coordinates, (..., e - 1) -> (..., e)."""
    y = np.asarray(y, dtype=np.float64)
    basis = helmert_basis(y.shape[-1] + 1) if basis is None else basis
    return clr_inverse(y @ basis)


# Exact zeros


def replace_zeros(x: ArrayLike, delta: float) -> FloatArray:
    """Multiplicative replacement: zeros become ``delta``, the others keep their ratios; sum 1.

    Martín-Fernández, Barceló-Vidal & Pawlowsky-Glahn (2003) Math. Geol. 35, 253, eq. 4.
    """
    x = closure(x)
    absent = x == 0
    taken = delta * absent.sum(axis=-1, keepdims=True)
    if not delta > 0 or np.any(taken >= 1):
        raise InvalidInputError(
            f"zero replacement is {delta:g}; expected above 0 and, times the number of absent "
            "elements, below 1"
        )
    replaced: FloatArray = np.where(absent, delta, x * (1.0 - taken))
    return replaced


class Coordinates(NamedTuple):
    """ilr coordinates (..., e - 1) and which elements are there, (..., e)."""

    values: FloatArray
    present: BoolArray


def encode(x: ArrayLike, *, delta: float = 1e-4, basis: FloatArray | None = None) -> Coordinates:
    """ilr coordinates of a composition that may have exact zeros, with the mask that keeps them.

    Absent elements enter as ``delta`` (an atomic fraction), so that all compositions share one
    space; ``decode`` returns them as exactly 0 and the others exact to rounding.
    """
    x = closure(x)
    return Coordinates(ilr(replace_zeros(x, delta), basis), x > 0)


def decode(coordinates: Coordinates, basis: FloatArray | None = None) -> FloatArray:
    """Inverse of ``encode``, (..., e)."""
    return closure(np.where(coordinates.present, ilr_inverse(coordinates.values, basis), 0.0))


# The sub-composition of the elements that are there


def present_clr(x: ArrayLike) -> Coordinates:
    """clr within the elements that are there, (..., e) -> (..., e); 0 where one is absent.

    The sub-composition keeps all ratios (Aitchison 1982), so nothing is lost or made up: which
    elements is in ``present``, how much in ``values``. ``present_clr_inverse`` undoes it.
    """
    x = closure(x)
    present = x > 0
    logs = np.log(np.where(present, x, 1.0))
    mean = logs.sum(axis=-1, keepdims=True) / present.sum(axis=-1, keepdims=True)
    return Coordinates(np.where(present, logs - mean, 0.0), present)


def present_clr_inverse(coordinates: Coordinates) -> FloatArray:
    """Inverse of ``present_clr``, (..., e); absent elements are exactly 0."""
    return _softmax_of(coordinates.values, coordinates.present)


def _softmax_of(values: FloatArray, present: BoolArray) -> FloatArray:
    values = np.asarray(values, dtype=np.float64)
    present = np.asarray(present, dtype=np.bool_)
    if not present.any(axis=-1).all():
        raise InvalidInputError("coordinates name no element that is there; name at least one")
    if not np.all(np.isfinite(values[present])):
        raise InvalidInputError("log-ratio coordinates are not finite")
    values = np.where(present, values, -np.inf)
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    inverse: FloatArray = powers / powers.sum(axis=-1, keepdims=True)
    return inverse


def present_ilr(x: ArrayLike) -> Coordinates:
    """ilr within the elements that are there, (..., e) -> values (..., e - 1), present (..., e).

    With k elements there, the first k - 1 values are their Helmert coordinates, taken in the
    order of the columns, and the others 0. ``present_ilr_inverse`` undoes it.
    """
    centred, present = present_clr(x)
    e = present.shape[-1]
    order = np.argsort(~present, axis=-1, kind="stable")  # what is there moves to the left
    packed = np.take_along_axis(centred, order, axis=-1)
    values = packed @ helmert_basis(e).T
    kept = np.arange(1, e) < present.sum(axis=-1, keepdims=True)
    return Coordinates(np.where(kept, values, 0.0), present)


def present_ilr_inverse(coordinates: Coordinates) -> FloatArray:
    """Inverse of ``present_ilr``, (..., e); absent elements are exactly 0."""
    present = np.asarray(coordinates.present, dtype=np.bool_)
    e = present.shape[-1]
    packed = np.asarray(coordinates.values, dtype=np.float64) @ helmert_basis(e)
    order = np.argsort(~present, axis=-1, kind="stable")
    centred = np.empty_like(packed)
    np.put_along_axis(centred, order, packed, axis=-1)
    return _softmax_of(centred, present)


# Distances and mixtures


def present_distance(x: ArrayLike, y: ArrayLike) -> FloatArray:
    """Aitchison distance of compositions that may have exact zeros, (...,).

    Between alloys of the same elements it is that of their sub-compositions. Where an element is
    absent from one of the two it is infinite: the limit as its amount goes to 0. Use
    ``euclidean_distance``, or ``replace_zeros`` first, where a finite figure is wanted.
    """
    a, in_a = present_clr(x)
    b, in_b = present_clr(y)
    same = np.all(in_a == in_b, axis=-1)
    distance: FloatArray = np.where(same, np.linalg.norm(a - b, axis=-1), np.inf)
    return distance


def aitchison_distance(x: ArrayLike, y: ArrayLike) -> FloatArray:
    """|clr x - clr y|, (...,): insensitive to scale. Zeros: see ``present_distance``."""
    distance: FloatArray = np.linalg.norm(clr(x) - clr(y), axis=-1)
    return distance


def euclidean_distance(x: ArrayLike, y: ArrayLike) -> FloatArray:
    """|x - y| of the closed compositions, (...,); zeros are welcome."""
    distance: FloatArray = np.linalg.norm(closure(x) - closure(y), axis=-1)
    return distance


def lever_rule(fractions: ArrayLike, compositions: ArrayLike) -> FloatArray:
    """Overall composition of phase amounts (..., p), sum 1, and compositions (..., p, e)."""
    f = np.asarray(fractions, dtype=np.float64)
    overall: FloatArray = np.einsum("...p,...pe->...e", f, np.asarray(compositions, dtype=float))
    return overall


def phase_fraction(overall: ArrayLike, a: ArrayLike, b: ArrayLike) -> float:
    """Fraction f of phase b in ``overall`` = (1 - f) a + f b, each (e,).

    Raises InvalidInputError when a and b are equal or the overall composition is off the tie line
    between them by more than 1e-6.
    """
    overall, a, b = closure(overall), closure(a), closure(b)
    tie = b - a
    length = float(tie @ tie)
    if length == 0:
        raise InvalidInputError("both phases have the same composition; any fraction fits")
    f = float((overall - a) @ tie) / length
    off = float(np.linalg.norm(overall - a - f * tie))
    if off > 1e-6 or not -1e-9 <= f <= 1 + 1e-9:
        raise InvalidInputError(
            f"overall composition is not between the phases (fraction {f:.6g}, off the tie line "
            f"by {off:.3g}); check the three compositions"
        )
    return min(max(f, 0.0), 1.0)


# Bounds


def project_to_bounds(
    x: ArrayLike, low: ArrayLike, high: ArrayLike, *, zero_below: float | None = None
) -> FloatArray:
    """Nearest point (Euclidean) of {low <= x <= high, sum x = 1} to each row, (..., e) -> (..., e).

    ``low`` and ``high`` broadcast against x. Given ``zero_below``, elements with low 0 that come
    or end at or under it are exactly 0 and the nearest such point is taken (rows that could not
    reach sum 1 without them keep them). Result: inside the bounds, sum 1 within 1e-12.

    The minimiser is clip(x - λ, low, high) with the λ that makes the sum 1; its sum falls
    piecewise linearly with breakpoints x - high and x - low, so λ is found by sorting
    (Brucker 1984, Oper. Res. Lett. 3, 163).
    Raises InvalidInputError for non-finite x and for bounds that admit no composition.
    """
    x = np.asarray(x, dtype=np.float64)
    if not np.all(np.isfinite(x)):
        raise InvalidInputError("cannot project a composition with a value that is not finite")
    low = np.broadcast_to(np.asarray(low, dtype=np.float64), x.shape)
    high = np.broadcast_to(np.asarray(high, dtype=np.float64), x.shape)
    if np.any(low < 0) or np.any(low > high):
        raise InvalidInputError("composition bounds need 0 <= low <= high")
    if np.any(low.sum(axis=-1) > 1 + 1e-12) or np.any(high.sum(axis=-1) < 1 - 1e-12):
        raise InvalidInputError("no composition with sum 1 lies within the bounds; widen them")
    shape = x.shape
    x, low, high = (array.reshape(-1, shape[-1]) for array in (x, low, high))
    if zero_below is None:
        return _project(x, low, high).reshape(shape)
    absent = (x <= zero_below) & (low == 0)
    result = _project(x, low, _without(absent, high))
    for _ in range(shape[-1]):  # each turn makes at least one more element absent, or ends
        more = (result > 0) & (result <= zero_below) & (low == 0) & ~absent
        if not more.any():
            break
        absent |= more
        result = _project(x, low, _without(absent, high))
    return result.reshape(shape)


def _without(absent: BoolArray, high: FloatArray) -> FloatArray:
    capped: FloatArray = np.where(absent, 0.0, high)
    reachable = capped.sum(axis=-1, keepdims=True) >= 1.0
    return np.where(reachable, capped, high)


def _project(x: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
    n, e = x.shape
    points = np.concatenate([x - high, x - low], axis=1)
    # Between breakpoints the sum falls with slope -(number of elements strictly inside).
    enters = np.concatenate([np.ones((n, e)), -np.ones((n, e))], axis=1)
    order = np.argsort(points, axis=1, kind="stable")
    points = np.take_along_axis(points, order, axis=1)
    inside = np.cumsum(np.take_along_axis(enters, order, axis=1), axis=1)
    falls = np.cumsum(inside[:, :-1] * np.diff(points, axis=1), axis=1)
    sums = high.sum(axis=1, keepdims=True) - np.concatenate([np.zeros((n, 1)), falls], axis=1)
    # Last breakpoint whose sum is still at least 1; the wanted λ lies right of it.
    left = np.maximum((sums >= 1.0).sum(axis=1) - 1, 0)[:, None]
    slope = np.maximum(np.take_along_axis(inside, left, axis=1), 1.0)
    shift = np.take_along_axis(points, left, axis=1)
    shift = shift + (np.take_along_axis(sums, left, axis=1) - 1.0) / slope
    result = np.clip(x - shift, low, high)
    rows = np.arange(n)
    for _ in range(2):  # what rounding left goes to the element farthest inside its bounds
        rest = 1.0 - result.sum(axis=1)
        one = np.minimum(high - result, result - low).argmax(axis=1)
        result[rows, one] = np.clip(result[rows, one] + rest, low[rows, one], high[rows, one])
    return result
