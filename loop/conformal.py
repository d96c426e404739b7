"""Intervals that cover what they say, around any property model.

Split conformal (V. Vovk, A. Gammerman, G. Shafer, Algorithmic Learning in a Random World, 2005):
the model learns from a part of the data, and the residuals of the rest say how wide its intervals
must be. With exchangeable rows the coverage of a new one is at least 1 - alpha.

CV+ (R. F. Barber, E. J. Candès, A. Ramdas, R. J. Tibshirani, Ann. Stat. 49, 486, 2021,
doi:10.1214/20-AOS1965): residuals of K-fold cross-validation, each put around the prediction of the
model that did not see its row; nothing is held back. With exchangeable rows and folds of one size
the coverage is at least 1 - 2 alpha - sqrt(2/n) (their theorem 4), and about 1 - alpha in practice.

Residuals are divided by the predicted standard deviation (J. Lei, M. G'Sell, A. Rinaldo,
R. J. Tibshirani, L. Wasserman, J. Am. Stat. Assoc. 113, 1094, 2018,
doi:10.1080/01621459.2017.1307116, section 5.2), so that intervals are wide where the model says
that it does not know.

Rows of one group (a paper, a batch, a laboratory) are more alike than rows of two; what can be
taken as exchangeable are the groups. Groups stay whole: no fold shares one with another. A new row
is one of a group not seen, so that all groups weigh the same, however many rows they have: a
residual of one of K groups weighs 1 / ((K + 1) rows of its group), and 1 / (K + 1) is at infinity,
for the group that is yet to come (Y. Lee, R. F. Barber, R. Willett, "Distribution-free inference
with hierarchical data", ACM J. Data Sci., 2026, doi:10.1145/3786352, arXiv:2306.06342, eq. 6).
Without the infinity it is the pooling of distribution functions of R. Dunn, L. Wasserman,
A. Ramdas, J. Am. Stat. Assoc. 118, 2491, 2023, doi:10.1080/01621459.2022.2060112, which covers too
little where groups are few. Split conformal then covers a random row of a new group with at least
1 - alpha (theorem 1 of Lee et al.), and CV+ with one group a fold, their hierarchical jackknife+,
with at least 1 - 2 alpha. With ``weigh="rows"`` every row weighs the same, and a few large groups,
measured in one place on alloys of one kind, decide how wide the intervals of all others are.
"""

from __future__ import annotations

from collections import Counter
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
Weigh = Literal["groups", "rows"]


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


def row_weights(groups: Sequence[Hashable], weigh: Weigh = "groups") -> FloatArray:
    """Weights (n,) of residuals whose rows have these ``groups``; what lacks to 1 is at infinity.

    1 / ((K + 1) rows of the group) for K groups, or 1 / (n + 1) by rows.
    """
    if weigh == "rows":
        return np.full(len(groups), 1.0 / (len(groups) + 1))
    sizes = Counter(groups)
    return np.array([1.0 / ((len(sizes) + 1) * sizes[g]) for g in groups])


def weighted_bound(values: FloatArray, weights: FloatArray, alpha: float) -> FloatArray:
    """The least value of each column of (n, m) up to which the weights (n,) add to 1 - alpha;
    infinite where all of them together do not.
    """
    order = np.argsort(values, axis=0)
    # The tolerance is of rounding: 0.9 of 10 equal weights are 9 of them.
    enough = np.cumsum(weights[order], axis=0) >= 1.0 - alpha - 1e-9
    first = np.argmax(enough, axis=0)[None]
    found = np.take_along_axis(values, np.take_along_axis(order, first, 0), 0)[0]
    return np.where(enough[-1], found, np.inf)


@dataclass(frozen=True, slots=True)
class Held:
    """What one model says of the rows that it did not see: scores |residual| / std and their
    weights, (n_k,) each.
    """

    scores: FloatArray
    weights: FloatArray


def plus_interval(
    held: Sequence[Held], mean: FloatArray, std: FloatArray, alpha: float
) -> tuple[FloatArray, FloatArray]:
    """Ends (m,) of CV+; ``mean`` and ``std`` (k, m): of the k models at the new rows.

    Barber et al. 2021, arXiv:1905.02928, eq. 11, with the quantiles weighted and the residuals
    scaled.
    """
    reach = [h.scores[:, None] * s for h, s in zip(held, std, strict=True)]  # (n_k, m) each
    weights = np.concatenate([h.weights for h in held])
    lows = np.concatenate([m - r for m, r in zip(mean, reach, strict=True)])
    highs = np.concatenate([m + r for m, r in zip(mean, reach, strict=True)])
    return -weighted_bound(-lows, weights, alpha), weighted_bound(highs, weights, alpha)


class Conformal:
    """A model with conformal intervals of coverage 1 - ``alpha``.

    ``folds``: of CV+; split conformal calibrates on one of them. ``weigh``: whether all groups
    weigh the same or all rows.
    """

    def __init__(
        self,
        model: PropertyModel,
        *,
        alpha: float = 0.1,
        method: Method = "cv+",
        folds: int = 5,
        weigh: Weigh = "groups",
    ) -> None:
        """Raises InvalidInputError for an alpha outside (0, 1) or an unknown method or weight."""
        if not 0.0 < alpha < 1.0:
            raise InvalidInputError(f"alpha is {alpha}; expected a share between 0 and 1")
        if method not in ("split", "cv+"):
            raise InvalidInputError(f"method is {method!r}; expected 'split' or 'cv+'")
        if weigh not in ("groups", "rows"):
            raise InvalidInputError(f"weigh is {weigh!r}; expected 'groups' or 'rows'")
        self.model, self.alpha, self.method = model, alpha, method
        self.folds, self.weigh = folds, weigh
        self._parts: list[tuple[PropertyModel, Held]] = []

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
        new = Conformal(
            self.model, alpha=self.alpha, method=self.method, folds=self.folds, weigh=self.weigh
        )
        fold = group_folds(labels, self.folds, rng)
        calibrating = np.flatnonzero(fold == 0 if self.method == "split" else fold >= 0)
        weights = np.zeros(len(y))
        weights[calibrating] = row_weights([labels[i] for i in calibrating.tolist()], self.weigh)
        for k in range(self.folds if self.method == "cv+" else 1):
            out = fold == k
            given = None if known is None else known[~out]
            fitted = self.model.fit(x[~out], y[~out], rng=rng, noise=given)
            at = fitted.predict(x[out])
            held = Held(np.abs(y[out] - at.mean) / at.std, weights[out])
            new._parts.append((fitted, held))
        if self.method == "cv+":
            new.model = self.model.fit(x, y, rng=rng, noise=known)
        else:
            new.model = new._parts[0][0]
        return new

    def predict(self, x: ArrayLike, predicted: Predicted | None = None) -> Interval:
        """At features (m, d); the ends are infinite where there are too few groups for alpha.

        ``predicted``: what the model says there, where that is known already.
        """
        if not self._parts:
            raise InvalidInputError("conformal intervals are not fitted; call fit first")
        x = np.asarray(x, dtype=np.float64)
        centre = self.model.predict(x) if predicted is None else predicted
        own = [centre if self.method == "split" else fitted.predict(x) for fitted, _ in self._parts]
        low, high = plus_interval(
            [held for _, held in self._parts],
            np.stack([p.mean for p in own]),
            np.stack([p.std for p in own]),
            self.alpha,
        )
        return Interval(centre.mean, centre.std, low, high)
