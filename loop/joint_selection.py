"""A batch of a pool by its joint improvement: each design is picked for what it adds to the others.

Ranking by the improvement of single designs, with a kernel that keeps them apart, picks neighbours
of the best again and again: what one of them shows, the others would show, too. The joint posterior
knows that, so the batch is spread as far as the surrogate says that it pays, and no farther.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from loop.batch_acquisition import JointImprovement
from loop.candidate import Record
from loop.errors import InvalidInputError
from loop.scaling import PropertyScale
from loop.surrogate import Surrogate
from loop.targets import Targets

FloatArray = NDArray[np.float64]
SAMPLES = 128  # of the posterior


def joint_improvement_batch(
    x: FloatArray,
    surrogate: Surrogate,
    targets: Targets,
    records: Sequence[Record],
    q: int,
    *,
    rng: np.random.Generator,
) -> list[int]:
    """Indices of min(q, n) designs of a pool, features (n, d), the first adds most.

    ``batch_acquisition.JointImprovement`` of the targets to be maximised or minimised, where the
    others and the thresholds hold; ``records`` say what is to be improved on. Raises
    InvalidInputError where no target is to be maximised or minimised, where the surrogate lacks a
    target's property, and without a record that has all of them.
    """
    if not targets.objectives():
        raise InvalidInputError(
            "no target is to be maximised or minimised; use selection.greedy_batch for the others"
        )
    own = of_properties(surrogate, targets.properties)
    y = _values(records, targets)
    if not has_all(records, targets):
        raise InvalidInputError(
            f"no record has all of {', '.join(targets.properties)}; score some designs first"
        )
    q = min(q, len(x))
    if q == 0:
        return []
    acquisition = JointImprovement(own, targets, y, q, rng, samples=SAMPLES)
    return list(acquisition.greedy(x, acquisition.single(x), rng))


def has_all(records: Sequence[Record], targets: Targets) -> bool:
    """Whether some record has a value of every target, so that there is something to improve on."""
    return bool(np.isfinite(_values(records, targets)).all(1).any())


def _values(records: Sequence[Record], targets: Targets) -> FloatArray:
    """(n, k) values of the targets, NaN where a record lacks one."""
    rows = [[r.outcome.values.get(k, np.nan) for k in targets.properties] for r in records]
    return np.array(rows, dtype=np.float64).reshape(len(records), len(targets))


def of_properties(surrogate: Surrogate, properties: Sequence[str]) -> Surrogate:
    """The part of a fitted surrogate that predicts these properties, in their order."""
    missing = [name for name in properties if name not in surrogate.properties]
    if missing or surrogate.outputs is None:
        raise InvalidInputError(
            f"the surrogate predicts {', '.join(surrogate.properties) or 'nothing'}"
            f"{' and is not fitted' if surrogate.outputs is None else ''}; expected one fitted to "
            f"{', '.join(properties)}"
        )
    columns = [surrogate.properties.index(name) for name in properties]
    scale = surrogate.outputs
    return Surrogate(
        tuple(properties),
        surrogate.center,
        surrogate.scale,
        PropertyScale(scale.log[columns], scale.mean[columns], scale.std[columns]),
        [surrogate.models[j] for j in columns],
    )
