"""A batch of compositions to evaluate next, from all records so far: fit, search, ascent.

The surrogate is fitted, a pool of feasible compositions (Sobol points and neighbours of the best)
is scored, several batches are picked from it greedily, and each is moved as a whole, all places at
once, up the gradient of the batch's joint acquisition, projected onto the feasible set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from loop.ascent import ascend
from loop.batch_acquisition import Acquisition, JointHits, JointImprovement
from loop.batch_candidates import candidates, projector, without_dust
from loop.composition import FloatArray
from loop.errors import InvalidInputError
from loop.polytope import CompositionSet
from loop.surrogate import MIN_ROWS, Prediction, Surrogate
from loop.targets import Targets

SINGLES, SINGLE_STEPS = 24, 20  # designs that climb alone
RESTARTS, AGAIN = 4, 2  # batches that climb, at first and once more
SAME = 1e-6  # compositions nearer than this in every element are one


@dataclass(frozen=True)
class BatchProposal:
    """What ``propose_batch`` found.

    ``compositions``: (q, e), feasible within 1e-9, absent elements exactly 0, all different from
    one another and from the records. ``prediction``: of each, in the order of the targets.
    ``value``: the joint acquisition. ``surrogate``: fitted, over all elements.
    """

    compositions: FloatArray
    prediction: Prediction
    value: float
    surrogate: Surrogate


def propose_batch(
    space: CompositionSet,
    x: ArrayLike,
    y: ArrayLike,
    targets: Targets,
    q: int,
    *,
    rng: np.random.Generator,
    noise: ArrayLike | None = None,
    diversity: float = 1.0,
    surrogate: Surrogate | None = None,
) -> BatchProposal:
    """The q compositions of ``space`` that are together worth most to evaluate next.

    ``x``: compositions (n, e) that were evaluated, ``y``: their properties (n, k) in the order of
    ``targets``, NaN where unknown; ``noise``: their standard uncertainties (n, k). With targets to
    maximise or minimise the acquisition is ``JointImprovement``, with values and ranges alone it
    is ``JointHits`` at this ``diversity`` (above 0). ``surrogate``: fitted before to these records
    with the compositions as features; left out, it is fitted here.
    Raises InvalidInputError for fewer than 8 records, shapes that do not agree, values that are
    not finite, and a set with too few compositions.
    """
    x, y, noise = _checked(space, x, y, targets, q, noise, diversity)
    if surrogate is None:
        surrogate = Surrogate(targets.properties).fit(x, y, rng=rng, noise=noise)
    elif surrogate.properties != targets.properties or len(surrogate.center) != space.size:
        raise InvalidInputError(
            f"the surrogate has {len(surrogate.center)} inputs and gives "
            f"{', '.join(surrogate.properties)}; expected {space.size} inputs, one per element, "
            f"and {', '.join(targets.properties)}"
        )
    acquisition: Acquisition
    if targets.objectives():
        acquisition = JointImprovement(surrogate, targets, y, q, rng)
    else:
        acquisition = JointHits(surrogate, targets, x, y, q, diversity)
    pool, quality = candidates(space, x, acquisition, rng)
    fresh = _unlike(pool, x)
    pool, quality = pool[fresh], quality[fresh]
    if len(pool) < q:
        raise InvalidInputError(
            f"only {len(pool)} compositions were found that meet all constraints and are not on "
            f"record; {q} were asked for: widen a constraint or ask for fewer"
        )
    best = _search(acquisition, space, pool, quality, rng)
    best = without_dust(_different(best, x, pool, quality), space)
    return BatchProposal(
        best, surrogate.predict(best), float(_values(acquisition, best[None])[0]), surrogate
    )


def _checked(
    space: CompositionSet,
    x: ArrayLike,
    y: ArrayLike,
    targets: Targets,
    q: int,
    noise: ArrayLike | None,
    diversity: float,
) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    k = len(targets)
    if k == 0:
        raise InvalidInputError("there are no targets; give at least one property to aim at")
    if q < 1:
        raise InvalidInputError(f"a batch of {q} was asked for; expected at least 1")
    if not diversity > 0:
        raise InvalidInputError(f"diversity is {diversity:g}; expected a number above 0")
    if x.ndim != 2 or x.shape[1] != space.size:
        raise InvalidInputError(
            f"compositions have shape {x.shape}; expected (n, {space.size}), one column per element"
        )
    y = y[:, None] if y.ndim == 1 and k == 1 else y
    if y.shape != (len(x), k):
        raise InvalidInputError(
            f"properties have shape {y.shape}; expected ({len(x)}, {k}): a row per composition, a "
            f"column for each of {', '.join(targets.properties)}"
        )
    if not np.isfinite(x).all():
        row = int(np.flatnonzero(~np.isfinite(x).all(1))[0])
        raise InvalidInputError(f"composition {row} has a value that is not finite; leave it out")
    if np.isinf(y).any():
        raise InvalidInputError("a property is infinite; expected a number, or NaN where unknown")
    fewest = int(np.isfinite(y).sum(0).min())
    if fewest < MIN_ROWS:
        raise InvalidInputError(
            f"{fewest} records are scored in every property; a batch needs at least {MIN_ROWS}: "
            "evaluate a first set: seeds of a campaign ([compositions] with a file or sample = "
            '"sobol"), or loop.sampling.sobol'
        )
    if noise is None:
        return x, y, None
    noise = np.asarray(noise, dtype=np.float64)
    noise = noise[:, None] if noise.ndim == 1 and k == 1 else noise
    if noise.shape != y.shape or not (np.isfinite(noise) & (noise >= 0)).all():
        raise InvalidInputError(
            f"noise has shape {noise.shape}; expected finite standard uncertainties of at least "
            f"0, {y.shape}, one for each property"
        )
    return x, y, noise


# Search


def _search(
    acquisition: Acquisition,
    space: CompositionSet,
    pool: FloatArray,
    quality: FloatArray,
    rng: np.random.Generator,
) -> FloatArray:
    """The best batch (q, e) that was found.

    First single designs climb, which finds the hills; of the pool and their tops batches are
    picked and climb as wholes, and what these reached is picked from and climbs once more.
    """

    def climbed(starts: FloatArray) -> FloatArray:
        return ascend(acquisition, starts, projector(space, starts))

    def more(pool: FloatArray, quality: FloatArray, found: FloatArray) -> tuple[Any, Any]:
        return np.concatenate([pool, found]), np.append(quality, acquisition.single(found))

    drawn = np.argsort(-quality - rng.gumbel(size=len(pool)), kind="stable")[:SINGLES]
    tops = ascend(
        lambda x: acquisition.alone(x[:, 0]),
        pool[drawn][:, None],
        projector(space, pool[drawn][:, None]),
        SINGLE_STEPS,
    )
    pool, quality = more(pool, quality, tops[:, 0])
    starts = np.stack([pool[acquisition.greedy(pool, quality, rng)] for _ in range(RESTARTS)])
    ends = climbed(starts)
    values = _values(acquisition, ends)
    pool, quality = more(pool, quality, ends.reshape(-1, space.size))
    starts = np.stack([pool[acquisition.greedy(pool, quality, rng)] for _ in range(AGAIN)])
    starts = np.concatenate([starts, ends[np.argsort(-values)[:1]]])
    ends = climbed(starts)
    best: FloatArray = ends[int(_values(acquisition, ends).argmax())]
    return best


@torch.no_grad()
def _values(acquisition: Callable[[Tensor], Tensor], x: FloatArray) -> FloatArray:
    found: FloatArray = acquisition(torch.from_numpy(x)).numpy()
    return found


def _unlike(x: FloatArray, others: FloatArray) -> NDArray[np.bool_]:
    """Which rows (n, e) are none of the others (m, e)."""
    if not len(others):
        return np.ones(len(x), dtype=bool)
    apart = [np.abs(row - others).max(1).min() > SAME for row in x]
    return np.array(apart, dtype=bool).reshape(len(x))


def _different(
    batch: FloatArray, records: FloatArray, pool: FloatArray, quality: FloatArray
) -> FloatArray:
    """The batch, with what is on record or there twice replaced by the best of the pool."""
    order = iter(np.argsort(-quality, kind="stable"))
    made: list[FloatArray] = []
    for row in batch:
        known = np.concatenate([records, np.reshape(made, (-1, len(row)))])
        while not _unlike(row[None], known)[0]:
            i = next(order, None)
            if i is None:
                raise InvalidInputError(
                    f"only {len(made)} compositions were found that meet all constraints and are "
                    f"not on record; {len(batch)} were asked for: widen a constraint or ask for "
                    "fewer"
                )
            row = pool[i]
        made.append(row)
    return np.stack(made)
