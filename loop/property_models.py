"""Probabilistic models of one measured property: one interface, three kinds.

A model is fitted to features (n, d) and values (n,) and predicts the mean and the standard
deviation of a new measurement: what is uncertain about the property and the scatter of measuring
it, together. ``loop.conformal`` puts intervals with a coverage of their own around any of them.

    gaussian-process   here; a linear plus a Matérn-5/2 kernel with one length per feature
    deep-ensemble      ``loop.ensemble``
    random-forest      ``loop.forest``
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from loop.errors import InvalidInputError, unknown_name
from loop.scaling import NOTHING, spreads
from loop.surrogate import FIT_ROWS, MIN_ROWS, Posterior, fit_kernel

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Predicted:
    """Mean and standard deviation of a new measurement, (n,) each, in the property's unit."""

    mean: FloatArray
    std: FloatArray


class PropertyModel(Protocol):
    """A model of one property; ``fit`` gives a new object, the old one stays as it was."""

    @property
    def name(self) -> str:
        """As in ``MODELS``."""
        ...

    def fit(
        self,
        x: FloatArray,
        y: FloatArray,
        *,
        rng: np.random.Generator,
        noise: FloatArray | None = None,
    ) -> Self:
        """From features (n, d) and values (n,); ``noise``: standard uncertainties (n,), 0 where
        none is known. Raises InvalidInputError for data that cannot be learned from.
        """
        ...

    def predict(self, x: FloatArray) -> Predicted:
        """At features (m, d). Raises InvalidInputError before ``fit`` and for another d."""
        ...


@dataclass(frozen=True, slots=True)
class Standard:
    """Features and values to zero mean and unit variance; what is constant stays at unit scale."""

    x_mean: FloatArray
    x_scale: FloatArray
    y_mean: float
    y_scale: float

    @staticmethod
    def of(x: FloatArray, y: FloatArray) -> Standard:
        (unit,) = spreads(y[:, None])
        return Standard(x.mean(0), spreads(x, NOTHING), float(y.mean()), float(unit))

    def features(self, x: ArrayLike) -> FloatArray:
        """(m, d) standardised; InvalidInputError unless d is that of the data learned from."""
        given = np.asarray(x, dtype=np.float64)
        if given.ndim != 2 or given.shape[1] != len(self.x_mean):
            raise InvalidInputError(
                f"features have shape {given.shape}; expected (m, {len(self.x_mean)}), as fitted"
            )
        if not np.isfinite(given).all():
            raise InvalidInputError("a feature is not a finite number; leave its row out")
        z: FloatArray = (given - self.x_mean) / self.x_scale
        return z

    def predicted(self, mean: FloatArray, std: FloatArray) -> Predicted:
        """Standardised predictions in the property's unit."""
        return Predicted(self.y_mean + self.y_scale * mean, self.y_scale * std)


def checked(
    x: ArrayLike, y: ArrayLike, noise: ArrayLike | None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Data as float64 arrays (n, d), (n,), (n,); the noise zero where none was given.

    Raises InvalidInputError for shapes that do not fit, fewer than 8 rows, numbers that are not
    finite and uncertainties below 0.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] == 0 or y.shape != (len(x),):
        raise InvalidInputError(
            f"features have shape {x.shape} and values {y.shape}; expected (n, d) and (n,)"
        )
    if len(x) < MIN_ROWS:
        raise InvalidInputError(f"got {len(x)} rows to learn from; expected at least {MIN_ROWS}")
    uncertainty = np.zeros(len(x)) if noise is None else np.asarray(noise, dtype=np.float64)
    if uncertainty.shape != y.shape:
        raise InvalidInputError(f"noise has shape {uncertainty.shape}; expected {y.shape}")
    for what, values in (("feature", x), ("value", y), ("uncertainty", uncertainty)):
        bad = ~np.isfinite(values)
        if bad.any():
            row = int(np.argwhere(bad)[0][0])
            raise InvalidInputError(
                f"row {row}: a {what} is not a finite number; leave the row out"
            )
    if (uncertainty < 0).any():
        raise InvalidInputError("an uncertainty is below 0; expected standard deviations >= 0")
    return x, y, uncertainty


class NotFittedError(InvalidInputError):
    """A model that was asked before it learned."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not fitted; call fit(x, y, rng=...) first")


class GaussianProcess:
    """Exact Gaussian process, kernel and noise by maximum a posteriori (``surrogate.fit_kernel``).

    ``steps``: of L-BFGS at most; the few that do for exact simulators leave the noise of measured
    values several times too small. At most 256 random rows decide the hyperparameters, all rows the
    predictions. Rasmussen & Williams 2006, ch. 2 and 5.
    """

    name = "gaussian-process"

    def __init__(self, steps: int = 100) -> None:
        self.steps = steps
        self.posterior: Posterior | None = None
        self.noise_variance = 0.0  # found; of the standardised values
        self._scale: Standard | None = None

    def fit(
        self,
        x: FloatArray,
        y: FloatArray,
        *,
        rng: np.random.Generator,
        noise: FloatArray | None = None,
    ) -> GaussianProcess:
        x, y, uncertainty = checked(x, y, noise)
        new = GaussianProcess(self.steps)
        scale = new._scale = Standard.of(x, y)
        z, target = scale.features(x), (y - scale.y_mean) / scale.y_scale
        known = (uncertainty / scale.y_scale) ** 2
        rows = rng.permutation(len(y))[:FIT_ROWS]
        parts = (torch.from_numpy(a[rows]) for a in (z, target, known))
        x_fit, y_fit, noise_fit = parts
        kernel, level, constant = fit_kernel(x_fit, y_fit, self.steps, noise_fit)
        new.noise_variance = level
        new.posterior = Posterior(
            torch.from_numpy(z),
            torch.from_numpy(target),
            kernel,
            level + torch.from_numpy(known),
            constant,
        )
        return new

    def predict(self, x: FloatArray) -> Predicted:
        """The noise that was found is in the standard deviation."""
        if self.posterior is None or self._scale is None:
            raise NotFittedError(self.name)
        parts = torch.from_numpy(self._scale.features(x)).split(4096)
        found = [self.posterior.predict(part) for part in parts]
        mean = np.concatenate([m.numpy() for m, _ in found]) if found else np.zeros(0)
        std = np.concatenate([s.numpy() for _, s in found]) if found else np.zeros(0)
        return self._scale.predicted(mean, np.sqrt(std**2 + self.noise_variance))


def _ensemble() -> PropertyModel:
    from loop.ensemble import DeepEnsemble

    return DeepEnsemble()


def _forest() -> PropertyModel:
    from loop.forest import RandomForest  # scikit-learn is imported only where it is used

    return RandomForest()


MODELS: Mapping[str, Callable[[], PropertyModel]] = {
    "gaussian-process": GaussianProcess,
    "deep-ensemble": _ensemble,
    "random-forest": _forest,
}


def create(name: str) -> PropertyModel:
    """An unfitted model by name. Raises InvalidInputError for a name that is not in MODELS."""
    if name not in MODELS:
        raise InvalidInputError(unknown_name("property model", name, MODELS))
    return MODELS[name]()
