"""One model of a property from values of several fidelities: predicted, simulated, measured.

Cheap values are many and off, dear ones few and right. The joint Gaussian process
(``kernels.Autoregressive``) takes each as what it is: a level is the one below it times a factor,
plus a discrepancy that is learned as a function of the design, plus a constant, plus noise of the
level's own; what is known of a value's uncertainty comes on top. It predicts at the highest level
that has values, or at any other; where the others are of no use to the highest, that one's values
are modelled alone. M. C. Kennedy, A. O'Hagan, Predicting the output from a complex
computer code when fast approximations are available, Biometrika 87, 1 (2000). Fitted as a BoTorch
model, by maximum a posteriori from the same start every time.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from loop.candidate import Fidelity
from loop.errors import InvalidInputError, unknown_name
from loop.property_models import NotFittedError, Predicted, Standard, checked
from loop.surrogate import FIT_ROWS, MIN_ROWS, Posterior, fit_kernel, search

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
ORDER: tuple[Fidelity, ...] = ("predicted", "simulated", "measured")  # ascending
STEPS = 60  # more change no prediction on test functions of 2 to 8 inputs
START_NOISE = 1e-2
MARGIN = 2.0  # nats over all values of the highest fidelity


class _AtLevel:
    """A kernel over (n, d + 1) that takes (n, d) as designs at one level.

    As the kernel of one property it can be called with designs alone by whoever differentiates
    the posterior mean (``generators.surrogate_guidance``).
    """

    def __init__(self, kernel: Any, level: int, d: int) -> None:
        self.kernel, self.level, self.d = kernel, level, d

    def __call__(self, a: Tensor, b: Tensor | None = None, diag: bool = False) -> Any:
        return self.kernel(self._full(a), None if b is None else self._full(b), diag=diag)

    def _full(self, x: Tensor) -> Tensor:
        return x if x.shape[-1] == self.d + 1 else with_level(x, self.level)


def with_level(x: Tensor, level: int | Tensor) -> Tensor:
    """(n, d) and a level, or one of each row -> (n, d + 1)."""
    column = torch.as_tensor(level, dtype=x.dtype).expand(len(x))
    return torch.cat([x, column[:, None]], 1)


class LevelPosterior(Posterior):
    """The exact posterior of one property at one level, from values of all levels.

    ``noise``: variance found of each level; ``scatter``: that of a new value at the level asked.
    Otherwise as ``Posterior``, for designs (m, d).
    """

    def __init__(
        self, x: Tensor, y: Tensor, known: Tensor, kernel: Any, noise: Tensor, offsets: Tensor
    ) -> None:
        """``x``: (n, d + 1) with levels last; ``known``: variances (n,) that were given."""
        level = x[:, -1].long()
        top = len(offsets) - 1
        self.noise, self.offsets = noise, offsets
        at = _AtLevel(kernel, top, x.shape[1] - 1)
        shifted = y - offsets[level] + offsets[top]
        super().__init__(x, shifted, at, known + noise[level], float(offsets[top]))
        given = [known[level == k] for k in range(top + 1)]
        self._scatters = [
            float(found) + (float(v.median()) if len(v) else 0.0)
            for found, v in zip(noise, given, strict=True)
        ]
        self.scatter = self._scatters[top]

    def at(self, level: int) -> LevelPosterior:
        """The same posterior, asked at another level."""
        other = copy.copy(self)
        other.kernel = _AtLevel(self.kernel.kernel, level, self.kernel.d)
        other.constant = float(self.offsets[level])
        other.scatter = self._scatters[level]
        return other


def fit_levels(
    x: Tensor, y: Tensor, known: Tensor, levels: int, steps: int = STEPS
) -> tuple[Any, Tensor, Tensor]:
    """Kernel, and noise variance and offset of each level (L,): maximum a posteriori.

    ``x``: (n, d + 1), the last column the level, 0 to L - 1. ``known``: variances (n,) that come
    below what noise is found. A search that fails ends with what it started from.
    """
    from botorch.models import SingleTaskGP
    from gpytorch.mlls import ExactMarginalLogLikelihood

    from loop.kernels import Autoregressive, LevelMean, LevelNoise, level_likelihood

    kernel = Autoregressive(x.shape[1] - 1, levels)
    noise = LevelNoise(x[:, -1].long(), known, levels, START_NOISE)
    likelihood = level_likelihood(noise)
    mean = LevelMean(levels)
    model = SingleTaskGP(
        x,
        y[:, None],
        covar_module=kernel,
        mean_module=mean,
        likelihood=likelihood,
        outcome_transform=None,
    )
    model.double()
    model.train()
    search(ExactMarginalLogLikelihood(likelihood, model), model, steps)
    model.eval()
    return kernel, noise.noise.detach(), mean.offsets.detach()


def joint_posterior(
    z: FloatArray,
    target: FloatArray,
    levels: IntArray,
    variance: FloatArray,
    *,
    rng: np.random.Generator,
    steps: int = STEPS,
) -> LevelPosterior:
    """From standardised features (n, d), values, levels 0 to L - 1 and variances (n,).

    At most ``FIT_ROWS`` rows decide the hyperparameters, for the most part of the higher levels:
    these are the few.
    """
    count = int(levels.max()) + 1
    rows = fit_rows(levels, rng)
    full = with_level(torch.from_numpy(z), torch.from_numpy(levels))
    y, known = torch.from_numpy(target), torch.from_numpy(variance)
    kernel, noise, offsets = fit_levels(full[rows], y[rows], known[rows], count, steps)
    return LevelPosterior(full, y, known, kernel, noise, offsets)


def measured_alone(
    joint: LevelPosterior,
    z: FloatArray,
    target: FloatArray,
    levels: IntArray,
    variance: FloatArray,
    *,
    rng: np.random.Generator,
    steps: int = STEPS,
) -> tuple[Posterior, float] | None:
    """A plain model of the highest level, and its noise, where that foretells its values better.

    A simulator that has nothing to do with what is measured would mislead the joint model. Both
    are judged by the log likelihood of each value of the highest level from all others
    (``left_out``), the plain one by ``MARGIN`` more. None otherwise, and with fewer than
    ``MIN_ROWS`` of these, which are no ground to judge on.
    """
    top = np.flatnonzero(levels == levels.max())
    if len(top) < MIN_ROWS:
        return None
    rows = rng.permutation(len(top))[:FIT_ROWS]
    x, y, known = (torch.from_numpy(a[top]) for a in (z, target, variance))
    kernel, level, constant = fit_kernel(x[rows], y[rows], steps, known[rows])
    alone = Posterior(x, y, kernel, level + known, constant)
    gain = left_out(alone).sum() - left_out(joint)[torch.from_numpy(top)].sum()
    return (alone, level) if float(gain) > MARGIN else None


def left_out(model: Posterior) -> Tensor:
    """(n,) log likelihood of each value given all others, at the hyperparameters found.

    Rasmussen & Williams 2006, eqs. 5.10 to 5.12.
    """
    precision = torch.cholesky_inverse(model.factor).diagonal()
    error = model.weights / precision
    return 0.5 * (precision.log() - error.square() * precision - math.log(2.0 * math.pi))


def fit_rows(levels: IntArray, rng: np.random.Generator, most: int = FIT_ROWS) -> IntArray:
    """At most ``most`` rows: of each level from the highest down up to half of what is left."""
    order = rng.permutation(len(levels))
    kept: list[int] = []
    for level in range(int(levels.max()), -1, -1):
        rows = order[levels[order] == level]
        left = most - len(kept)
        kept += rows[: left if level == 0 else left // 2].tolist()
    return np.array(kept, dtype=np.intp)


@dataclass(frozen=True)
class _Fitted:
    scale: Standard
    posterior: LevelPosterior
    alone: tuple[Posterior, float] | None  # of the highest level, see ``measured_alone``
    fidelities: tuple[Fidelity, ...]  # of the levels, ascending


class MultiFidelity:
    """A Gaussian process of one property over values of several fidelities.

    The counterpart of ``property_models.GaussianProcess`` for values that are not all alike. Of
    fewer than about five values of a fidelity the deviations come out too small: the factor
    between two fidelities is one number to it, not a distribution.
    """

    name = "multi-fidelity"

    def __init__(self, steps: int = STEPS) -> None:
        self.steps = steps
        self._fitted: _Fitted | None = None

    def fit(
        self,
        x: FloatArray,
        y: FloatArray,
        fidelity: Sequence[str],
        *,
        rng: np.random.Generator,
        noise: FloatArray | None = None,
    ) -> MultiFidelity:
        """A new model from features (n, d), values (n,) and the fidelity of each value.

        ``noise``: standard uncertainties (n,), 0 where none is known. A design may come several
        times. Raises InvalidInputError as ``property_models.checked``, and for words that are not
        in ``ORDER``, values all of one fidelity, and fewer than 8 of the lowest one.
        """
        x, y, uncertainty = checked(x, y, noise)
        kinds, levels = levels_of(fidelity, len(y))
        if len(kinds) < 2:
            raise InvalidInputError(
                f"all values are {kinds[0]}; expected several fidelities "
                "(one alone: property_models.GaussianProcess)"
            )
        scale = Standard.of(x, y)
        data = (
            scale.features(x),
            (y - scale.y_mean) / scale.y_scale,
            levels,
            (uncertainty / scale.y_scale) ** 2,
        )
        posterior = joint_posterior(*data, rng=rng, steps=self.steps)
        alone = measured_alone(posterior, *data, rng=rng, steps=self.steps)
        new = MultiFidelity(self.steps)
        new._fitted = _Fitted(scale, posterior, alone, kinds)
        return new

    def predict(self, x: ArrayLike, fidelity: str | None = None) -> Predicted:
        """Of a new value at features (m, d): of the highest fidelity, or the one given.

        The noise that was found at that fidelity is in the standard deviation. Raises
        InvalidInputError before ``fit``, for another d, and for a fidelity without values.
        """
        if self._fitted is None:
            raise NotFittedError(self.name)
        scale, kinds = self._fitted.scale, self._fitted.fidelities
        if fidelity is not None and fidelity not in kinds:
            raise InvalidInputError(unknown_name("fidelity", fidelity, kinds))
        level = len(kinds) - 1 if fidelity is None else list[str](kinds).index(fidelity)
        joint = self._fitted.posterior.at(level)
        model: Posterior = joint
        noise = float(joint.noise[level])
        if self._fitted.alone is not None and level == len(kinds) - 1:
            model, noise = self._fitted.alone
        parts = torch.from_numpy(scale.features(x)).split(4096)
        found = [model.predict(part) for part in parts]
        mean = np.concatenate([m.numpy() for m, _ in found]) if found else np.zeros(0)
        std = np.concatenate([s.numpy() for _, s in found]) if found else np.zeros(0)
        return scale.predicted(mean, np.sqrt(std**2 + noise))

    @property
    def fidelities(self) -> tuple[Fidelity, ...]:
        """Those of the values that were learned from, ascending."""
        if self._fitted is None:
            raise NotFittedError(self.name)
        return self._fitted.fidelities


def levels_of(fidelity: Sequence[str], n: int) -> tuple[tuple[Fidelity, ...], IntArray]:
    """The fidelities that n values have, ascending, and of each value its place among them.

    Raises InvalidInputError for another number of them and words that are not in ``ORDER``.
    """
    if len(fidelity) != n:
        raise InvalidInputError(f"{len(fidelity)} fidelities for {n} values; expected one each")
    for word in fidelity:
        if word not in ORDER:
            raise InvalidInputError(unknown_name("fidelity", str(word), ORDER))
    kinds = tuple(word for word in ORDER if word in fidelity)
    return kinds, np.array([list[str](kinds).index(word) for word in fidelity], dtype=np.intp)
