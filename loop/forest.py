"""Random forest with a spread (L. Breiman, Machine Learning 45, 5, 2001), by scikit-learn.

The variance is that of the mixture of its leaves, by the law of total variance: the mean of the
variances within the leaves and the variance of the leaves' means between the trees. F. Hutter,
L. Xu, H. H. Hoos, K. Leyton-Brown, Artificial Intelligence 206, 79 (2014), arXiv:1211.0906,
section 4.3.2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestRegressor

from loop.property_models import FloatArray, NotFittedError, Predicted, Standard, checked

MIN_VARIANCE = 1e-6  # of a standardised value, where all leaves agree and are pure


class RandomForest:
    """``trees`` regression trees on bootstrap samples.

    ``features``: share of the features that each split looks at; ``leaf``: least rows of a leaf.
    Rows with a known uncertainty u weigh 1 / (1 + u^2 / variance of the values).
    """

    name = "random-forest"

    def __init__(self, trees: int = 200, features: float = 0.5, leaf: int = 2) -> None:
        self.trees, self.features, self.leaf = trees, features, leaf
        self._forest: Any = None
        self._scale: Standard | None = None

    def fit(
        self,
        x: FloatArray,
        y: FloatArray,
        *,
        rng: np.random.Generator,
        noise: FloatArray | None = None,
    ) -> RandomForest:
        x, y, uncertainty = checked(x, y, noise)
        new = RandomForest(self.trees, self.features, self.leaf)
        scale = new._scale = Standard.of(x, y)
        new._forest = RandomForestRegressor(
            n_estimators=self.trees,
            max_features=self.features,
            min_samples_leaf=self.leaf,
            random_state=int(rng.integers(2**31)),
            n_jobs=1,
        )
        weights = 1.0 / (1.0 + (uncertainty / scale.y_scale) ** 2)
        new._forest.fit(scale.features(x), (y - scale.y_mean) / scale.y_scale, weights)
        return new

    def predict(self, x: FloatArray) -> Predicted:
        """Mean of the trees, and the standard deviation of the mixture of their leaves."""
        if self._forest is None or self._scale is None:
            raise NotFittedError(self.name)
        leaves = self._forest.apply(self._scale.features(x))  # (n, trees)
        trees = [tree.tree_ for tree in self._forest.estimators_]
        means = np.stack([t.value[leaves[:, i], 0, 0] for i, t in enumerate(trees)])
        within = np.stack([t.impurity[leaves[:, i]] for i, t in enumerate(trees)])
        # Impurity is a difference of squares: rounding may leave it just below 0.
        variance = np.maximum(within, 0.0).mean(0) + means.var(0)
        return self._scale.predicted(means.mean(0), np.sqrt(np.maximum(variance, MIN_VARIANCE)))
