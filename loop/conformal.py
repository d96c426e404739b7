"""Intervals that cover what they say, around any property model.

Split conformal (V. Vovk, A. Gammerman, G. Shafer, Algorithmic Learning in a Random World, 2005):
the model learns from a part of the data, and the residuals of the rest say how wide its intervals
must be. With exchangeable rows (or groups of one row) the coverage of a new one is at least
1 - alpha.

CV+ (R. F. Barber, E. J. Candès, A. Ramdas, R. J. Tibshirani, Ann. Stat. 49, 486, 2021): residuals
of K-fold cross-validation, each put around the prediction of the model that did not see its row;
nothing is held back. Coverage at least 1 - 2 alpha up to sqrt(2/n) (their theorem 4), and about
1 - alpha in practice.

Residuals are divided by the predicted standard deviation (J. Lei et al., J. Am. Stat. Assoc. 113,
1094, 2018, section 5.2), so that intervals are wide where the model says that it does not know.

Rows of one group (a paper, a batch, a laboratory) are more alike than rows of two. Groups stay
whole: no fold shares one with another. All rows of the held-out groups are pooled (the first of
the methods of R. Dunn, L. Wasserman, A. Ramdas, J. Am. Stat. Assoc. 118, 2491, 2023, asymptotic in
the number of groups), so that the coverage is that of rows of groups not seen.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from loop.errors import InvalidInputError
from loop.property_models import Predicted, PropertyModel

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Method = Literal["split", "cv+"]


@dataclass(frozen=True, slots=True)
class Interval:
    """Prediction with its interval, (n,) each, in the property's unit; ends may be infinite."""

    mean: FloatArray
    std: FloatArray
    low: FloatArray
    high: FloatArray


def group_folds(groups: Sequence[Hashable], k: int, rng: np.random.Generator) -> IntArray:
    """Fold 0 to k - 1 of every row, (n,); rows of one group are in one fold.

    Groups in random order, the largest first, each to the fold with the fewest rows.
    Raises InvalidInputError for k below 2 or more folds than groups.
    """
    numbers: dict[Hashable, int] = {}
    member = np.array([numbers.setdefault(g, len(numbers)) for g in groups], dtype=np.int64)
    if not 2 <= k <= len(numbers):
        raise InvalidInputError(
            f"cannot make {k} folds of {len(numbers)} groups; expected from 2 to as many as groups"
        )
    sizes = np.bincount(member)
    shuffled = rng.permutation(len(sizes))
    filled = np.zeros(k, dtype=np.int64)
    fold = np.empty(len(sizes), dtype=np.int64)
    for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        fold[group] = np.argmin(filled)
        filled[fold[group]] += sizes[group]
    return fold[member]


def linked_groups(labels: Sequence[Sequence[Hashable]]) -> list[int]:
    """Groups of rows that have several labels each: rows that share one are in one group.

    A row merged from two papers joins all rows of both. Numbered in order of first mention.
    Raises InvalidInputError for a row without labels.
    """
    parent: dict[Hashable, Hashable] = {}

    def root(label: Hashable) -> Hashable:
        while parent[label] != label:
            parent[label] = parent[parent[label]]
            label = parent[label]
        return label

    for row, names in enumerate(labels):
        if not names:
            raise InvalidInputError(f"row {row} has no label; give the group it belongs to")
        for name in names:
            parent.setdefault(name, name)
            parent[root(name)] = root(names[0])
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(root(names[0]), len(numbers)) for names in labels]


def quantile_rank(n: int, alpha: float) -> int:
    """ceil((1 - alpha)(n + 1)): which of n sorted scores bounds a new one; above n means none."""
    return math.ceil((1.0 - alpha) * (n + 1) - 1e-9)


class Conformal:
    """A model with conformal intervals of coverage 1 - ``alpha``.

    ``folds``: of CV+; split conformal calibrates on one of them.
    """

    def __init__(
        self,
        model: PropertyModel,
        *,
        alpha: float = 0.1,
        method: Method = "cv+",
        folds: int = 5,
    ) -> None:
        """Raises InvalidInputError for an alpha outside (0, 1) or an unknown method."""
        if not 0.0 < alpha < 1.0:
            raise InvalidInputError(f"alpha is {alpha}; expected a share between 0 and 1")
        if method not in ("split", "cv+"):
            raise InvalidInputError(f"method is {method!r}; expected 'split' or 'cv+'")
        self.model, self.alpha, self.method, self.folds = model, alpha, method, folds
        self._parts: list[tuple[PropertyModel, FloatArray]] = []  # with the scores it leaves

    def fit(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        rng: np.random.Generator,
        noise: ArrayLike | None = None,
        groups: Sequence[Hashable] | None = None,
    ) -> Conformal:
        """A new object from features (n, d) and values (n,); ``groups``: label of every row.

        Without groups every row is one. Raises InvalidInputError as the model does, and for
        another number of labels or fewer groups than folds.
        """
        x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        labels: Sequence[Hashable] = range(len(y)) if groups is None else groups
        if len(labels) != len(y) or len(x) != len(y):
            raise InvalidInputError(
                f"got {len(x)} rows of features, {len(y)} values and {len(labels)} groups; "
                "expected as many of each"
            )
        known = None if noise is None else np.asarray(noise, dtype=np.float64)
        new = Conformal(self.model, alpha=self.alpha, method=self.method, folds=self.folds)
        fold = group_folds(labels, self.folds, rng)
        for k in range(self.folds if self.method == "cv+" else 1):
            out = fold == k
            given = None if known is None else known[~out]
            fitted = self.model.fit(x[~out], y[~out], rng=rng, noise=given)
            held = fitted.predict(x[out])
            new._parts.append((fitted, np.sort(np.abs(y[out] - held.mean) / held.std)))
        if self.method == "cv+":
            new.model = self.model.fit(x, y, rng=rng, noise=known)
        else:
            new.model = new._parts[0][0]
        return new

    def predict(self, x: ArrayLike, predicted: Predicted | None = None) -> Interval:
        """At features (m, d); the ends are infinite where there are too few residuals for alpha.

        ``predicted``: what the model says there, where that is known already.
        """
        if not self._parts:
            raise InvalidInputError("conformal intervals are not fitted; call fit first")
        x = np.asarray(x, dtype=np.float64)
        centre = self.model.predict(x) if predicted is None else predicted
        lows, highs = [], []
        for fitted, scores in self._parts:
            own = centre if self.method == "split" else fitted.predict(x)
            reach = scores[:, None] * own.std  # (residuals, m)
            lows.append(own.mean - reach)
            highs.append(own.mean + reach)
        return Interval(
            centre.mean,
            centre.std,
            -_bound(-np.concatenate(lows), self.alpha),
            _bound(np.concatenate(highs), self.alpha),
        )


def _bound(values: FloatArray, alpha: float) -> FloatArray:
    """The value of rank ``quantile_rank`` of each column of (n, m); infinite where n is less."""
    rank = quantile_rank(len(values), alpha)
    if rank > len(values):
        return np.full(values.shape[1], np.inf)
    found: FloatArray = np.partition(values, rank - 1, axis=0)[rank - 1]
    return found
