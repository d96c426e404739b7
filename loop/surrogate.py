"""Gaussian-process surrogate of the simulators, one independent BoTorch model per property."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from loop.errors import InvalidInputError
from loop.protocols import Progress, silent
from loop.scaling import NOTHING, PropertyScale, spreads

FloatArray = NDArray[np.float64]
FIT_ROWS = 256  # rows that decide the hyperparameters; all rows decide the predictions
MIN_ROWS = 8
MIN_NOISE = 1e-6  # variance, of a standardised output


@dataclass(frozen=True)
class Prediction:
    """Means and standard deviations, each (n, k), in the properties' units.

    ``noise``: (n, k) standard deviations of a value that is found about the property itself, as
    the records scatter; None where nothing is said of it.
    """

    mean: FloatArray
    std: FloatArray
    noise: FloatArray | None = None

    def of_new_values(self) -> Prediction:
        """Of values that are still to be found, a measurement's scatter in their deviations.

        The variances add up (Rasmussen & Williams 2006, below eq. 2.26); without ``noise`` this
        is the prediction itself.
        """
        if self.noise is None:
            return self
        return Prediction(self.mean, np.hypot(self.std, self.noise))


@dataclass
class Surrogate:
    """Exact Gaussian processes: a linear plus a Matérn-5/2 kernel with one length per input.

    Inputs and outputs are standardised (skewed positive outputs in the logarithm).
    Hyperparameters are found on at most ``FIT_ROWS`` rows, always from the same start, so that a
    resumed campaign finds the same surrogate. Of measured alloys by their compositions the 25
    steps leave the likelihood of others no lower than a search to its end, which fits lengths and
    slopes to chance.
    Rasmussen & Williams 2006, ch. 2, 4.2 and 5.
    """

    properties: tuple[str, ...]
    center: FloatArray = field(default_factory=lambda: np.zeros(0))
    scale: FloatArray = field(default_factory=lambda: np.zeros(0))
    outputs: PropertyScale | None = None
    models: list[Posterior] = field(default_factory=list)

    def fit(
        self,
        x: FloatArray,
        y: FloatArray,
        *,
        rng: np.random.Generator,
        noise: FloatArray | None = None,
        levels: NDArray[np.intp] | None = None,
        steps: int = 25,
        progress: Progress = silent,
    ) -> Surrogate:
        """A new surrogate from features (n, d) and property values (n, k), NaN where unknown.

        ``noise``: standard uncertainties of the values (n, k), 0 where none is known. They come
        on top of the noise that is found, which is the same for all rows. ``levels``: fidelity of
        each value (n, k), as its place in ``multi_fidelity.ORDER``. A property with values of
        several is learned from all of them by a joint model (``loop.multi_fidelity``), unless
        the lower ones are of no use to it, and predicted at the highest.
        Raises InvalidInputError when a property has fewer than 8 values.
        """
        from loop.multi_fidelity import joint_posterior, measured_alone  # made of what is here

        new = Surrogate(self.properties)
        new.center = x.mean(0)
        new.scale = spreads(x, NOTHING)
        z = (x - new.center) / new.scale
        known = np.isfinite(y)
        for name, count in zip(self.properties, known.sum(0), strict=True):
            if count < MIN_ROWS:
                raise InvalidInputError(
                    f"surrogate: {name} has {count} scored values; expected at least {MIN_ROWS}; "
                    "raise loop.seeds, or see with `spinodal query` why evaluations failed"
                )
        new.outputs = PropertyScale.fit(y)
        target = new.outputs.forward(y)
        variance = np.zeros_like(target)
        if noise is not None:  # to first order where a property is on a logarithmic scale
            variance = (noise / new.outputs.slope(np.where(known, target, 0.0))) ** 2
        for j in range(len(self.properties)):
            rows = np.flatnonzero(known[:, j])
            kinds = np.unique([] if levels is None else levels[rows, j])
            if levels is not None and len(kinds) > 1:
                data = (
                    z[rows],
                    target[rows, j],
                    np.searchsorted(kinds, levels[rows, j]),
                    variance[rows, j],
                )
                joint = joint_posterior(*data, rng=rng)
                alone = measured_alone(joint, *data, rng=rng)
                new.models.append(joint if alone is None else alone[0])
                progress("surrogate", j + 1, len(self.properties))
                continue
            subset = rng.permutation(rows)[:FIT_ROWS]
            x_fit, y_fit, noise_fit = (
                torch.from_numpy(a[subset]) for a in (z, target[:, j], variance[:, j])
            )
            kernel, level, constant = fit_kernel(x_fit, y_fit, steps, noise_fit)
            new.models.append(
                Posterior(
                    torch.from_numpy(z[rows]),
                    torch.from_numpy(target[rows, j]),
                    kernel,
                    level + torch.from_numpy(variance[rows, j]),
                    constant,
                )
            )
            progress("surrogate", j + 1, len(self.properties))
        return new

    def mean(self, x: FloatArray) -> FloatArray:
        """(n, k) posterior means only, for many designs."""
        outputs = self._outputs()
        z = torch.from_numpy((x - self.center) / self.scale)
        columns = [torch.cat([m.mean(part) for part in z.split(4096)]) for m in self.models]
        return outputs.inverse(torch.stack(columns, 1).numpy())

    def predict(self, x: FloatArray) -> Prediction:
        """Posterior of the noise-free properties at features (n, d), and the noise of values.

        Acquisition asks for the properties; what a measurement will show is ``of_new_values`` and
        ``interval`` of this. Of properties on a logarithmic scale: the median, and the deviations
        to first order.
        """
        outputs = self._outputs()
        z = torch.from_numpy((x - self.center) / self.scale)
        parts = [[m.predict(part) for part in z.split(4096)] for m in self.models]
        mean = np.stack([torch.cat([a for a, _ in rows]).numpy() for rows in parts], 1)
        std = np.stack([torch.cat([b for _, b in rows]).numpy() for rows in parts], 1)
        slope = outputs.slope(mean)
        noise = np.sqrt([m.scatter for m in self.models]) * slope
        return Prediction(outputs.inverse(mean), std * slope, noise)

    def interval(
        self, prediction: Prediction, probability: float = 0.9
    ) -> tuple[FloatArray, FloatArray]:
        """Ends (n, k) of the central intervals in which new values lie, in the properties' units.

        ``prediction``: of ``predict``. Exact where the process is Gaussian: of a property on a
        logarithmic scale the ends are unevenly about the median, and positive. Raises
        InvalidInputError for a probability that is not between 0 and 1.
        """
        if not 0.0 < probability < 1.0:
            raise InvalidInputError(
                f"probability of an interval is {probability}; expected a number between 0 and 1"
            )
        outputs = self._outputs()
        z = outputs.forward(prediction.mean)
        std = prediction.of_new_values().std / outputs.slope(z)
        reach = NormalDist().inv_cdf(0.5 + 0.5 * probability) * std
        return outputs.inverse(z - reach), outputs.inverse(z + reach)

    def _outputs(self) -> PropertyScale:
        if self.outputs is None:
            raise InvalidInputError("surrogate is not fitted; call fit(x, y) first")
        return self.outputs


class Posterior:
    """The exact posterior for one output, with a kernel and noise found by ``fit_kernel``.

    ``noise``: variance, of all rows or of each (n,). ``scatter``: that of a new value, the median
    of these: a few values that are hardly known say little of the others.
    Only what is asked for is computed: the library's posterior would also build the covariance
    between all test points, which for thousands of designs takes minutes.
    Rasmussen & Williams 2006, Algorithm 2.1.
    """

    def __init__(self, x: Tensor, y: Tensor, kernel: Any, noise: Tensor | float, constant: float):
        self.x, self.kernel, self.constant = x, kernel, constant
        self.scatter = float(torch.as_tensor(noise).median())
        with torch.no_grad():
            gram = self._kernel(x, x)
            gram.diagonal().add_(noise)
            self.factor = torch.linalg.cholesky(gram)
            self.weights = torch.cholesky_solve((y - constant)[:, None], self.factor)[:, 0]

    def _kernel(self, a: Tensor, b: Tensor) -> Tensor:
        dense: Tensor = self.kernel(a, b).to_dense()
        return dense

    @torch.no_grad()
    def mean(self, x: Tensor) -> Tensor:
        """(n, d) -> (n,)."""
        return self._kernel(x, self.x) @ self.weights + self.constant

    @torch.no_grad()
    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(n, d) -> mean and standard deviation of the noise-free function, each (n,)."""
        cross = self._kernel(x, self.x)
        prior = self.kernel(x, diag=True)
        explained = torch.linalg.solve_triangular(self.factor, cross.T, upper=False)
        variance = (prior - explained.square().sum(0)).clamp_min(1e-12)
        return cross @ self.weights + self.constant, variance.sqrt()


def fit_kernel(
    x: Tensor, y: Tensor, steps: int, known_noise: Tensor | None = None
) -> tuple[Any, float, float]:
    """Kernel, noise variance and constant mean: maximum a posteriori, ``steps`` L-BFGS steps.

    ``known_noise``: variance of each row (n,) that is known beforehand; the noise that is found
    comes on top. A search that fails or leaves the real numbers ends with what it started from.
    """
    from botorch.models import SingleTaskGP
    from gpytorch.constraints import GreaterThan
    from gpytorch.likelihoods import FixedNoiseGaussianLikelihood, GaussianLikelihood
    from gpytorch.mlls import ExactMarginalLogLikelihood

    from loop.kernels import LinearPlusMatern

    kernel = LinearPlusMatern(x.shape[1])
    known = torch.zeros_like(y) if known_noise is None else known_noise
    level = GreaterThan(MIN_NOISE)
    if bool((known > 0).any()):
        likelihood = FixedNoiseGaussianLikelihood(
            known.clamp_min(MIN_NOISE), learn_additional_noise=True, noise_constraint=level
        )
        found = likelihood.second_noise_covar
    else:
        likelihood = GaussianLikelihood(noise_constraint=level)
        found = likelihood.noise_covar
    model = SingleTaskGP(
        x, y[:, None], covar_module=kernel, likelihood=likelihood, outcome_transform=None
    )
    found.noise = 1e-4
    model.double()
    model.train()
    search(ExactMarginalLogLikelihood(likelihood, model), model, steps)
    model.eval()
    return kernel, float(found.noise.detach()), float(model.mean_module.constant.detach())


def search(mll: Any, model: Any, steps: int) -> None:
    """Maximise ``mll`` over the model's parameters by at most ``steps`` L-BFGS steps, in place.

    One that fails or leaves the real numbers ends with what it started from.
    """
    from botorch.exceptions.warnings import OptimizationWarning
    from botorch.optim.fit import fit_gpytorch_mll_scipy
    from linear_operator.utils.errors import NanError, NotPSDError
    from linear_operator.utils.warnings import NumericalWarning

    start = {name: value.detach().clone() for name, value in model.named_parameters()}
    failed = False
    with warnings.catch_warnings():
        # The step limit is meant: more steps than that change no prediction worth the time. The
        # jitter added to a singular matrix on the way is below the noise's lower limit.
        warnings.simplefilter("ignore", OptimizationWarning)
        warnings.simplefilter("ignore", NumericalWarning)
        try:
            fit_gpytorch_mll_scipy(mll, options={"maxiter": steps})
        except (NanError, NotPSDError):
            failed = True
    if failed or not all(torch.isfinite(value).all() for value in model.parameters()):
        model.load_state_dict(start, strict=False)  # what is not a parameter stays
