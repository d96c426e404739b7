"""What proposes batches of compositions in ``benchmarks.composition``, and what judges them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.peers import PeerProcess
from loop.batches import propose_batch
from loop.formula import SYMBOLS
from loop.polytope import CompositionSet
from loop.surrogate import Surrogate
from loop.targets import Maximise, Targets

FloatArray = NDArray[np.float64]
Q = 8
TARGETS = Targets((Maximise("y"),))
OPTIMISER = {"num_restarts": 10, "raw_samples": 512, "sequential": True}
REFEREE_SAMPLES = 2048


class Baybe(PeerProcess):
    """The peer process of ``baybe_peer``."""

    def __init__(self, python: Path) -> None:
        super().__init__(python, "baybe_peer.py")

    def batch(self, x: FloatArray, y: FloatArray, seed: int) -> dict[str, Any]:
        """q compositions with their seconds, or {"error": …}."""
        return self.ask({"x": x.tolist(), "y": y[:, 0].tolist(), "q": Q, "seed": seed})


def landscape(e: int, seed: int) -> tuple[Callable[[FloatArray], FloatArray], FloatArray]:
    """A quadratic with a full matrix, (n, e) -> (n, 1); its maximum 0 is at a sparse composition.

    Of the optimum's elements some are exactly absent, so it lies on a face of the simplex.
    """
    rng = np.random.default_rng(1000 + seed)
    optimum = rng.dirichlet(np.full(e, 0.5))
    optimum[optimum < 0.02] = 0.0
    optimum /= optimum.sum()
    a = rng.normal(size=(e, e))
    curvature = a @ a.T / e + 0.1 * np.eye(e)

    def value(x: FloatArray) -> FloatArray:
        apart = x - optimum
        return -np.einsum("ni,ij,nj->n", apart, curvature, apart)[:, None]

    return value, optimum


def timed(run: Callable[[], FloatArray]) -> dict[str, Any]:
    """Seconds and the compositions that came of it."""
    begun, busy = time.perf_counter(), time.process_time()
    found = run()
    return {
        "wall_s": time.perf_counter() - begun,
        "cpu_s": time.process_time() - busy,
        "compositions": found,
    }


def whole(e: int) -> CompositionSet:
    """The whole simplex of e elements."""
    return CompositionSet(SYMBOLS[2 : 2 + e])


# Arms


def ours(x: FloatArray, y: FloatArray, seed: int, surrogate: Surrogate | None = None) -> FloatArray:
    """``propose_batch`` on the whole simplex."""
    rng = np.random.default_rng(seed)
    space = whole(x.shape[1])
    return propose_batch(space, x, y, TARGETS, Q, rng=rng, surrogate=surrogate).compositions


def botorch_model(x: FloatArray, y: FloatArray) -> Any:
    """SingleTaskGP with its own priors, fitted in its documented way."""
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from gpytorch.mlls import ExactMarginalLogLikelihood

    model = SingleTaskGP(torch.from_numpy(x), torch.from_numpy(y))
    fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    return model


def optimised(model: Any, best: float, e: int, seed: int) -> FloatArray:
    """``optimize_acqf`` of qLogEI with the sum of 1 as its equality constraint."""
    from botorch.acquisition.logei import qLogExpectedImprovement
    from botorch.optim import optimize_acqf

    torch.manual_seed(seed)
    one = torch.ones(e, dtype=torch.float64)
    found, _ = optimize_acqf(
        qLogExpectedImprovement(model, best),
        torch.stack([0.0 * one, one]),
        q=Q,
        equality_constraints=[(torch.arange(e), one, 1.0)],
        **OPTIMISER,
    )
    array: FloatArray = found.detach().numpy()
    return array


def botorch(x: FloatArray, y: FloatArray, seed: int) -> FloatArray:
    """Its model and its optimiser."""
    return optimised(botorch_model(x, y), float(y.max()), x.shape[1], seed)


def same_surrogate(surrogate: Surrogate, x: FloatArray, y: FloatArray) -> tuple[Any, float]:
    """Our fitted surrogate as a BoTorch model, and the best record on its scale."""
    from botorch.models import SingleTaskGP
    from botorch.models.transforms.input import AffineInputTransform
    from gpytorch.constraints import GreaterThan
    from gpytorch.likelihoods import GaussianLikelihood
    from gpytorch.means import ConstantMean

    assert surrogate.outputs is not None
    posterior = surrogate.models[0]
    with torch.no_grad():  # what the factor has on its diagonal besides the kernel
        gram = posterior.factor @ posterior.factor.T
        kernel = posterior.kernel(posterior.x, posterior.x).to_dense()
        noise = float((gram - kernel).diagonal().mean().clamp_min(1e-6))
    likelihood = GaussianLikelihood(noise_constraint=GreaterThan(1e-7))
    mean = ConstantMean()
    mean.initialize(constant=posterior.constant)
    scaling = AffineInputTransform(
        x.shape[1],
        coefficient=torch.from_numpy(surrogate.scale)[None],
        offset=torch.from_numpy(surrogate.center)[None],
    )
    target = surrogate.outputs.forward(y)
    model = SingleTaskGP(
        torch.from_numpy(x),
        torch.from_numpy(target),
        covar_module=posterior.kernel,
        likelihood=likelihood,
        mean_module=mean,
        outcome_transform=None,
        input_transform=scaling,
    )
    model.double()
    likelihood.noise = noise
    model.eval()
    found = model.posterior(torch.from_numpy(x[:5])).mean.detach().numpy()
    if not np.allclose(surrogate.outputs.inverse(found), surrogate.predict(x[:5]).mean, atol=1e-4):
        raise RuntimeError("BoTorch's copy of the surrogate predicts something else")
    return model, float(target.max())


def referee(model: Any, best: float) -> Callable[[FloatArray], float]:
    """Joint qLogEI of a batch (q, e) by BoTorch's own Monte Carlo."""
    from botorch.acquisition.logei import qLogExpectedImprovement
    from botorch.sampling import SobolQMCNormalSampler

    sampler = SobolQMCNormalSampler(torch.Size([REFEREE_SAMPLES]), seed=7)
    acquisition = qLogExpectedImprovement(model, best, sampler=sampler)

    def value(x: FloatArray) -> float:
        with torch.no_grad():
            return float(acquisition(torch.from_numpy(np.array(x))[None]))

    return value
