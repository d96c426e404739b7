"""What a whole batch is worth: log expected improvement, or hits that differ from one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from loop.joint_posterior import JointPosterior, cholesky
from loop.scaling import spreads
from loop.selection import greedy_batch, log_probability_of_hit
from loop.surrogate import Surrogate
from loop.targets import Maximise, Targets

FloatArray = NDArray[np.float64]
SAMPLES = 512
FEWER = 128  # samples where many designs are compared
EXCHANGES = 2
AUGMENTATION = 0.05  # share of the plain sum in Chebyshev's weighted minimum
SHORTLIST = 192  # designs among which the first batch is picked
TAU_IMPROVEMENT, TAU_BATCH = 1e-6, 1e-2  # smoothing, in standardised units (Ament et al. 2023)
FAR = 1e8  # standard deviations to a limit that is not there
EDGE = 0.01  # smoothing of a threshold, in spreads of the property


class Acquisition(Protocol):
    """What is to be large, for batches and for single designs."""

    def __call__(self, x: Tensor) -> Tensor:
        """Batches (r, q, e) -> (r,), differentiable."""
        ...

    def alone(self, x: Tensor) -> Tensor:
        """Designs (n, e) -> (n,) what each alone is worth, differentiable."""
        ...

    def single(self, x: FloatArray) -> FloatArray:
        """The same, where no derivative is needed."""
        ...

    def greedy(
        self, pool: FloatArray, quality: FloatArray, rng: np.random.Generator
    ) -> Sequence[int]:
        """A good batch of a pool (n, e) whose ``single`` is known: indices, different ones."""
        ...


class JointImprovement:
    """log E[max over the batch of the improvement], where the other targets hold.

    By quasi-Monte Carlo over the joint posterior with smooth maxima, so that it has a gradient
    where the improvement itself underflows: qLogEI of Ament et al. 2023 (arXiv 2310.20708), with
    the thresholds as its fat-tailed constraints. Improvement counts in spreads of the property.
    Several objectives are made one by augmented Chebyshev weights (Knowles 2006, IEEE Trans.
    Evol. Comput. 10, 50), q random ones at once: the value is the mean over them, so the batch
    is drawn along the front.
    """

    def __init__(
        self,
        surrogate: Surrogate,
        targets: Targets,
        y: FloatArray,
        q: int,
        rng: np.random.Generator,
        samples: int = SAMPLES,
    ) -> None:
        """``y``: (n, k) values of the records, NaN where unknown, in the order of ``targets``."""
        self.posterior, self.q = JointPosterior(surrogate), q
        spread = spreads(y)
        self.columns = [j for j, t in enumerate(targets) if t in targets.objectives()]
        items = [targets.items[j] for j in self.columns]
        sign = np.array([1.0 if isinstance(t, Maximise) else -1.0 for t in items])
        self.unit = torch.from_numpy(sign / spread[self.columns])
        m = len(self.columns)
        self.weights = torch.from_numpy(rng.dirichlet(np.ones(m), size=q if m > 1 else 1))
        directed = y[:, self.columns] * self.unit.numpy()
        self.base = torch.from_numpy(np.nanmin(directed, axis=0))  # the worst counts as 0
        scored = ~np.isnan(y).any(1)
        met = scored & (np.nan_to_num(targets.distances(y), nan=np.inf).sum(1) == 0)
        merit = self.scalars(torch.from_numpy(y[scored]))
        # Where nothing meets the thresholds so far everything that does is an improvement.
        zero = torch.zeros(len(self.weights), dtype=torch.float64)
        self.incumbent = merit[torch.from_numpy(met[scored])].amax(0) if met.any() else zero
        low, high = targets.limits()
        self.limits = [
            (j, sense, float(limit), float(EDGE * spread[j]))
            for sense, ends in ((1.0, low), (-1.0, high))
            for j, limit in enumerate(ends)
            if np.isfinite(limit)
        ]
        self.normal = sobol_normal(samples, (q, len(targets)), rng)

    def scalars(self, y: Tensor) -> Tensor:
        """Properties (..., k) -> (..., l): the objectives as one number, for every weight."""
        directed = y[..., self.columns] * self.unit - self.base
        if len(self.columns) == 1:
            return directed
        weighted = directed[..., None, :] * self.weights
        one: Tensor = weighted.amin(-1) + AUGMENTATION * weighted.sum(-1)
        return one

    def log_improvement(self, y: Tensor) -> Tensor:
        """Properties (..., k) -> (..., l) log of the improvement, where the limits hold."""
        from botorch.utils.safe_math import log_fatmoid, log_fatplus

        log: Tensor = log_fatplus(self.scalars(y) - self.incumbent, tau=TAU_IMPROVEMENT)
        for j, sense, limit, edge in self.limits:
            log = log + log_fatmoid(sense * (y[..., j, None] - limit), tau=edge)
        return log

    def __call__(self, x: Tensor) -> Tensor:
        from botorch.utils.safe_math import fatmax, logmeanexp

        log = self.log_improvement(self.posterior.samples(x, self.normal))
        value: Tensor = logmeanexp(fatmax(log, dim=2, tau=TAU_BATCH), dim=0).mean(-1)
        return value

    def alone(self, x: Tensor) -> Tensor:
        """(n,) log expected improvement of each design, by the weights in turn."""
        from botorch.utils.safe_math import logmeanexp

        y = self.posterior.samples(x[:, None], self.normal[:, :1])[:, :, 0]
        each: Tensor = logmeanexp(self.log_improvement(y), dim=0)
        rows = torch.arange(len(x))
        return each[rows, rows % each.shape[1]]

    @torch.no_grad()
    def single(self, x: FloatArray) -> FloatArray:
        """(n,) log expected improvement of each design, the best over the weights."""
        from botorch.utils.safe_math import logmeanexp

        found = []
        for part in torch.from_numpy(x).split(1024):
            y = self.posterior.samples(part[:, None], self.normal[:FEWER, :1])[:, :, 0]
            found.append(logmeanexp(self.log_improvement(y), dim=0).amax(-1))
        return torch.cat(found).numpy()

    @torch.no_grad()
    def greedy(
        self, pool: FloatArray, quality: FloatArray, rng: np.random.Generator
    ) -> Sequence[int]:
        """Each pick adds most to E[max], by samples that all of a shortlist share.

        The greedy batch of a submodular function is within 1 - 1/e of the best one (Wilson, Hutter
        & Deisenroth 2018); then every pick in turn is exchanged for what adds most to the others.
        Half of the shortlist are the best, half drawn in favour of the better.
        """
        from botorch.utils.safe_math import logmeanexp

        m = min(SHORTLIST, len(pool))
        order = np.argsort(-quality, kind="stable")
        rest = order[m // 2 :]
        drawn = quality[rest] + rng.gumbel(size=len(rest))
        rest = rest[np.argsort(-drawn, kind="stable")]
        chosen = np.concatenate([order[: m // 2], rest[: m - m // 2]])
        normal = torch.from_numpy(rng.standard_normal((FEWER, m, self.normal.shape[2])))
        y = self.posterior.samples(torch.from_numpy(pool[chosen])[None], normal)
        log = self.log_improvement(y)[:, 0]
        picked: list[int] = []
        for _ in range(1 + EXCHANGES):
            for place in range(min(self.q, m)):
                others = picked[:place] + picked[place + 1 :]
                total = log
                if others:
                    total = torch.maximum(log, log[:, others].amax(1, keepdim=True))
                total = logmeanexp(total, dim=0).mean(-1)
                total[others] = -torch.inf
                picked[place : place + 1] = [int(total.argmax())]
        return [int(i) for i in chosen[picked]]


class JointHits:
    """Sum of the log probabilities that every target is met, and how much the batch differs.

    The log-determinant of the kernel that ``selection.greedy_batch`` maximises: 2 · quality /
    diversity summed, plus log det of the Gaussian correlation between the designs given those
    that are hits already.
    """

    def __init__(
        self,
        surrogate: Surrogate,
        targets: Targets,
        x: FloatArray,
        y: FloatArray,
        q: int,
        diversity: float,
    ) -> None:
        """``x`` (n, e) and ``y`` (n, k): the records. ``diversity`` above 0."""
        self.surrogate, self.targets, self.q, self.diversity = surrogate, targets, q, diversity
        self.posterior = JointPosterior(surrogate)
        met = np.nan_to_num(targets.distances(y), nan=np.inf).sum(1) == 0
        self.length = 0.5 * float(np.sqrt(2.0 * x.shape[1]))
        self.taken = self._scaled(x[met])
        basis: list[FloatArray] = []
        for row in self.taken:  # as in greedy_batch: a spread subset
            if len(basis) == 4 * q:
                break
            if all(np.exp(-0.5 * ((b - row) ** 2).sum() / self.length**2) <= 0.99 for b in basis):
                basis.append(row)
        self.basis = torch.from_numpy(np.reshape(basis, (-1, x.shape[1])))
        gram = self._correlation(self.basis, self.basis)
        self.factor = torch.linalg.cholesky(gram + 1e-6 * torch.eye(len(basis)))

    def _scaled(self, x: FloatArray) -> FloatArray:
        z: FloatArray = (x - self.surrogate.center) / self.surrogate.scale
        return z

    def _correlation(self, a: Tensor, b: Tensor) -> Tensor:
        squared = (a[..., :, None, :] - b[..., None, :, :]).square().sum(-1)
        return torch.exp(-0.5 * squared / self.length**2)

    def alone(self, x: Tensor) -> Tensor:
        """(n,) log probability of a hit."""
        return self._hits(x[:, None])[:, 0]

    def _hits(self, x: Tensor) -> Tensor:
        mean, covariance = self.posterior.moments(x)
        std = covariance.diagonal(dim1=-2, dim2=-1).movedim(0, -1).clamp_min(1e-12).sqrt()
        return log_hits(self.posterior, self.targets, mean, std)

    def __call__(self, x: Tensor) -> Tensor:
        total = self._hits(x).sum(-1)
        z = (x - self.posterior.center) / self.posterior.scale
        gram = self._correlation(z, z)
        if len(self.basis):
            cross = self._correlation(z, self.basis)
            solved = torch.linalg.solve_triangular(self.factor, cross.mT, upper=False)
            gram = gram - solved.mT @ solved
        apart = 2.0 * cholesky(gram).diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return 2.0 * total / self.diversity + apart

    def single(self, x: FloatArray) -> FloatArray:
        """(n,) log probability of a hit."""
        return log_probability_of_hit(self.surrogate.predict(x), self.targets)

    def greedy(
        self, pool: FloatArray, quality: FloatArray, rng: np.random.Generator
    ) -> Sequence[int]:
        """``selection.greedy_batch``, of a random half of the pool beside the best."""
        best = np.argsort(-quality, kind="stable")[:SHORTLIST]
        chosen = np.union1d(best, np.flatnonzero(rng.random(len(pool)) < 0.5))
        picked = greedy_batch(
            quality[chosen],
            self._scaled(pool[chosen]),
            self.q,
            diversity=self.diversity,
            length=self.length,
            taken=self.taken,
        )
        return [int(i) for i in chosen[picked]]


def log_hits(posterior: JointPosterior, targets: Targets, mean: Tensor, std: Tensor) -> Tensor:
    """(..., k) moments of standardised properties -> (...) log P(every target met), differentiable.

    Exact on logarithmic scales, on which the limits are moved instead of the property.
    """
    from botorch.utils.probability.utils import log_prob_normal_in

    low, high = (torch.from_numpy(ends) for ends in targets.limits())
    low, high = posterior.standardised(low), posterior.standardised(high)
    total = torch.zeros_like(mean[..., 0])
    for j in range(len(targets)):
        if low[j] == -torch.inf and high[j] == torch.inf:
            continue
        # An open side is a number far out: the derivative of infinity is none.
        a, b = (
            (end - mean[..., j]) / std[..., j]
            if torch.isfinite(end)
            else torch.full_like(std[..., j], FAR * float(torch.sign(end)))
            for end in (low[j], high[j])
        )
        b = torch.maximum(b, a + 1e-6)  # narrower, and the two probabilities cancel
        total = total + log_prob_normal_in(a, b)
    return total


def sobol_normal(samples: int, shape: tuple[int, ...], rng: np.random.Generator) -> Tensor:
    """(samples, *shape) standard normal numbers, scrambled Sobol."""
    from scipy.special import ndtri
    from scipy.stats import qmc

    width = int(np.prod(shape))
    engine = qmc.Sobol(width, scramble=True, rng=rng)
    uniform = np.clip(engine.random(samples), 2.0**-54, 1.0 - 2.0**-53)
    return torch.from_numpy(ndtri(uniform).reshape(samples, *shape))
