"""Labels (categorical variables such as a processing route) as whole numbers and as features.

Code j of a label stands for value j of ``DesignSpace.labels``; columns are in the space's order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from loop.candidate import Candidate
from loop.errors import InvalidInputError, unknown_name
from loop.space import DesignSpace

Codes = NDArray[np.int64]
FREE = -1  # the code of a label that is not given


def label_codes(space: DesignSpace, candidates: Sequence[Candidate]) -> Codes:
    """(n, l) codes of the labels of candidates.

    Raises InvalidInputError for a label that is missing or has a value that is not the space's.
    """
    codes = np.empty((len(candidates), len(space.labels)), dtype=np.int64)
    for column, (name, values) in enumerate(space.labels.items()):
        for row, candidate in enumerate(candidates):
            value = candidate.labels.get(name)
            if value not in values:
                problem = (
                    f"the label {name} is missing"
                    if value is None
                    else f"label {name}: " + unknown_name("value", value, values)
                )
                raise InvalidInputError(f"candidate {candidate.id}: {problem}")
            codes[row, column] = values.index(value)
    return codes


def named_labels(space: DesignSpace, codes: Codes) -> dict[str, str]:
    """The labels of one design from its codes (l,)."""
    return {
        name: values[code]
        for (name, values), code in zip(space.labels.items(), codes.tolist(), strict=True)
    }


def drawn_codes(
    space: DesignSpace, n: int, rng: np.random.Generator, known: Codes | None = None
) -> Codes:
    """(n, l) codes: ``known`` ones (n, l) where these are not ``FREE``, others equally likely.

    A space without labels takes nothing from ``rng``.
    """
    codes = np.full((n, len(space.labels)), FREE) if known is None else known.copy()
    for column, values in enumerate(space.labels.values()):
        free = codes[:, column] == FREE
        if free.any():
            codes[free, column] = rng.integers(len(values), size=int(free.sum()))
    return codes


def one_hot(space: DesignSpace, codes: Codes) -> NDArray[np.float64]:
    """(n, l) codes -> (n, Σ (values - 1)): a column for each value of a label but the first.

    The first follows from the others.
    """
    columns = [
        codes[:, column, None] == np.arange(1, len(values))
        for column, values in enumerate(space.labels.values())
    ]
    return np.concatenate([np.zeros((len(codes), 0)), *columns], axis=1)


def crossed_labels(
    first: Mapping[str, str], second: Mapping[str, str], share: float, rng: np.random.Generator
) -> tuple[dict[str, str], dict[str, str]]:
    """Labels of two children: each changes places between the parents with chance ``share``."""
    one, other = dict(first), dict(second)
    for name in first:
        if name in second and rng.random() < share:
            one[name], other[name] = second[name], first[name]
    return one, other


def moved_labels(
    labels: Mapping[str, str], space: DesignSpace, rate: float, rng: np.random.Generator
) -> dict[str, str]:
    """Labels of the space, each with chance ``rate`` another of its values, equally likely.

    A value that is not among the space's, or missing, is replaced too.
    """
    moved: dict[str, str] = {}
    for name, values in space.labels.items():
        value = labels.get(name)
        others = [other for other in values if other != value]
        if value is None or value not in values or (others and rng.random() < rate):
            value = others[int(rng.integers(len(others)))]
        moved[name] = value
    return moved
