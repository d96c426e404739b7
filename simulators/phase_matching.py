"""Proposed phases beside those of an equilibrium: which belongs to which, and how far apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from loop.errors import InvalidInputError
from simulators.thermodynamics import Equilibrium

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Matching:
    """p proposed phases beside q phases in equilibrium.

    ``partners``: (p,) place of the equilibrium phase of the same kind, None where there is none.
    ``mismatch``: the greatest difference of an atomic fraction between a phase and its partner; a
    phase without one, proposed or not, counts with the nearest on the other side, whatever its
    kind. 0 where proposal and equilibrium are the same. ``missing``: proposed phases that are not
    in equilibrium and equilibrium phases that were not proposed.
    """

    partners: tuple[int | None, ...]
    mismatch: float
    missing: int


def match_phases(kinds: Sequence[str], compositions: ArrayLike, rest: Equilibrium) -> Matching:
    """Pairs phases of the same kind so that their compositions are nearest.

    ``kinds``: (p,) names as in ``rest.phases``; several of one kind are a miscibility gap.
    ``compositions``: (p, e) atomic fractions of the phases that are there.
    Raises InvalidInputError for wrong shapes.
    """
    x = np.asarray(compositions, dtype=np.float64)
    if x.ndim != 2 or len(x) != len(kinds) or x.shape[1:] != rest.compositions.shape[1:]:
        raise InvalidInputError(
            f"{len(kinds)} kinds for compositions of shape {x.shape}; expected ({len(kinds)}, "
            f"{rest.compositions.shape[1]}), at least one"
        )
    apart: FloatArray = np.abs(x[:, None] - rest.compositions[None]).max(2)  # (p, q)
    partners: list[int | None] = [None] * len(kinds)
    for kind in dict.fromkeys(kinds):
        rows = np.array([i for i, own in enumerate(kinds) if own == kind])
        columns = np.array([j for j, own in enumerate(rest.phases) if own == kind], dtype=np.int64)
        for row, column in zip(
            *linear_sum_assignment(apart[np.ix_(rows, columns)]),
            strict=True,
        ):
            partners[int(rows[row])] = int(columns[column])
    alone = [i for i, partner in enumerate(partners) if partner is None]
    unasked = sorted(set(range(len(rest.phases))) - set(partners))
    distances = [apart[i, j] for i, j in enumerate(partners) if j is not None]
    distances += [apart[i].min() for i in alone] + [apart[:, j].min() for j in unasked]
    return Matching(tuple(partners), float(max(distances)), len(alone) + len(unasked))
