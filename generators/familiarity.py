"""How usual a request or a design is beside what a generator learned from.

Requests: a kernel density of the learned property values, over just the properties that are asked;
a model follows what it has seen, and says nothing by itself of what it has not. Designs: the exact
likelihood of the flow (``dynamics.likelihood``), as a percentile among designs of the library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from torch import Tensor

from generators.dynamics.likelihood import (
    bits_per_dimension,
    exact_divergence,
    hutchinson,
    ode_log_likelihood,
)
from generators.flow import JointFlow
from generators.training.checkpoint import torch_generator
from loop.candidate import Candidate
from loop.errors import InvalidInputError

FloatArray = NDArray[np.float64]
LEAST_ROWS = 20  # of which a density is estimated
RIDGE = 1e-6  # of the covariance: properties that follow from one another leave it singular
SMOOTHING = 0.05  # share of noise: absent elements are exact zeros, a density over them is a spike
TOLERANCE = 1e-3  # of the integrator, relative
TOGETHER = 64  # designs integrated at once


@dataclass(frozen=True, eq=False)
class Conditions:
    """Property values (n, k) that a generator has learned from, NaN where one was not known."""

    values: FloatArray
    properties: tuple[str, ...]

    def log_density(self, requests: FloatArray) -> FloatArray:
        """(m,) log-density of requests (m, k) over what each asks, NaN entries left out.

        By Gaussian kernels as wide as Scott's rule says, in units of the learned values' spread
        (Scott 1992, section 6.3.2). NaN where nothing is asked or fewer than ``LEAST_ROWS`` rows
        know all that is.
        """
        return self._compared(requests)[0]

    def unusual(self, requests: FloatArray) -> NDArray[np.bool_]:
        """(m,) requests less likely than every one of the learned rows, itself left out."""
        found, least, _ = self._compared(requests)
        return found < least

    def warnings(self, requests: FloatArray) -> list[str]:
        """One sentence for each different request that is unusual, and why.

        Where fewer than ``LEAST_ROWS`` rows know what is asked there is no density to go by: then
        for each that asks for a value outside their range, or that no row knows all of.
        """
        # A NaN is not equal to itself.
        given = np.nan_to_num(np.atleast_2d(requests), nan=np.inf)
        different = np.unique(given, axis=0)
        different[np.isinf(different)] = np.nan
        found, least, rows = self._compared(different)
        said = []
        for request, density, lowest, n in zip(different, found, least, rows, strict=True):
            asked = np.flatnonzero(np.isfinite(request))
            words = " and ".join(f"{self.properties[j]} = {request[j]:.6g}" for j in asked)
            if n < LEAST_ROWS and len(asked):
                said += self._of_few(request, asked, words, int(n))
            if not density < lowest:
                continue
            said.append(
                f"nothing like {words} was in the training: log-density {density:.1f} beside "
                f"{lowest:.1f} of the least likely of {n} rows{self._beyond(request, asked)}; "
                "have what is proposed simulated before you trust it"
            )
        return said

    def _of_few(
        self, request: FloatArray, asked: NDArray[np.intp], words: str, n: int
    ) -> list[str]:
        """What can be said of a request by ``n`` rows, too few for a density."""
        if n == 0:
            together = " together" if len(asked) > 1 else ""
            return [
                f"nothing in the training tells of {words}: no row has "
                f"{' and '.join(self.properties[j] for j in asked)}{together}"
            ]
        if beyond := self._beyond(request, asked):
            return [
                f"nothing like {words} was in the training, of which only {n} rows tell{beyond}; "
                "have what is proposed simulated before you trust it"
            ]
        return []

    def _beyond(self, request: FloatArray, asked: NDArray[np.intp]) -> str:
        """Which of the asked values lie outside the learned range."""
        parts = []
        for j in asked:
            known = self.values[np.isfinite(self.values[:, j]), j]
            if known.size and not known.min() <= request[j] <= known.max():
                side, end = (
                    ("above", known.max()) if request[j] > known.max() else ("below", known.min())
                )
                parts.append(f"{self.properties[j]} is {side} all of them ({end:.6g})")
        return f" ({', '.join(parts)})" if parts else ""

    def _compared(self, requests: FloatArray) -> tuple[FloatArray, FloatArray, NDArray[np.int64]]:
        """Log-density of each request, the least of the learned rows', and how many those are."""
        requests = np.atleast_2d(requests)
        if requests.shape[1] != len(self.properties):
            raise InvalidInputError(
                f"requests have {requests.shape[1]} columns; expected {len(self.properties)}, one "
                "a property"
            )
        found = np.full(len(requests), np.nan)
        least = np.full(len(requests), np.nan)
        rows = np.zeros(len(requests), dtype=np.int64)
        patterns, kind = np.unique(np.isfinite(requests), axis=0, return_inverse=True)
        for i, asked in enumerate(patterns):
            here = kind.ravel() == i
            known = self.values[np.isfinite(self.values[:, asked]).all(1)][:, asked]
            rows[here] = len(known)
            if not asked.any() or len(known) < LEAST_ROWS:
                continue
            density = _Kernels(known)
            found[here] = density(requests[here][:, asked])
            least[here] = density.of_own().min()
        return found, least, rows


class _Kernels:
    """Gaussian kernels on rows (n, d), shaped as their covariance."""

    def __init__(self, rows: FloatArray) -> None:
        n, d = rows.shape
        self.mean, spread = rows.mean(0), rows.std(0)
        self.spread = np.where(spread > 0, spread, 1.0)
        z = (rows - self.mean) / self.spread
        covariance = np.atleast_2d(np.cov(z, rowvar=False)) + RIDGE * np.eye(d)
        self.axes = np.linalg.cholesky(np.linalg.inv(covariance))
        self.rows = z @ self.axes  # unit covariance
        self.width = n ** (-1 / (d + 4))
        # In units of the spread, so that densities of different properties can be compared.
        self.constant = np.linalg.slogdet(self.axes)[1] - d * np.log(
            self.width * np.sqrt(2 * np.pi)
        )

    def __call__(self, x: FloatArray) -> FloatArray:
        """Log-density (m,) of x (m, d)."""
        z = (x - self.mean) / self.spread @ self.axes
        return self._log_mean(-0.5 * cdist(z, self.rows, "sqeuclidean") / self.width**2)

    def of_own(self) -> FloatArray:
        """Log-density (n,) at each row under the kernels of the others."""
        exponents = -0.5 * cdist(self.rows, self.rows, "sqeuclidean") / self.width**2
        np.fill_diagonal(exponents, -np.inf)
        n = len(self.rows)
        return self._log_mean(exponents) + np.log(n / (n - 1))

    def _log_mean(self, exponents: FloatArray) -> FloatArray:
        most = exponents.max(1)
        total = np.exp(exponents - most[:, None]).mean(1)
        found: FloatArray = most + np.log(total) + self.constant
        return found


@torch.no_grad()
def log_likelihood(
    flow: JointFlow,
    designs: Sequence[Candidate],
    *,
    rng: np.random.Generator,
    requests: FloatArray | None = None,
    probes: int | None = 1,
) -> FloatArray:
    """(n,) log-density in nats of coded designs under the flow, noised by ``SMOOTHING``.

    The exact change of variables along the flow; its divergence by Hutchinson's ``probes``, or
    exactly (None), at one derivative a coordinate.
    ``requests``: (n, k) properties under which it is asked; None: without any. The image
    autoencoder's own error is not in it. Raises InvalidInputError before the first fit.
    """
    network = flow.trained_network()
    assert flow.code is not None
    if not designs:
        return np.zeros(0)
    asked = np.full((len(designs), len(flow.properties)), np.nan) if requests is None else requests
    source = torch_generator(rng)
    states = flow.code.states(list(designs))
    noise = torch.randn(states.shape, generator=source)
    blurred = ((1 - SMOOTHING) * states + SMOOTHING * noise).to(flow.device)
    found: list[Tensor] = []
    for start in range(0, len(states), TOGETHER):
        x = blurred[start : start + TOGETHER]
        found.append(
            ode_log_likelihood(
                flow.velocity(asked[start : start + TOGETHER], 1.0),
                x,
                data=1.0 - SMOOTHING,
                noise=0.0,
                divergence=exact_divergence
                if probes is None
                else hutchinson(x, source, probes=probes),
                tolerance=TOLERANCE,
            )
        )
    assert network.state_size == states.shape[1]
    nats: FloatArray = torch.cat(found).double().cpu().numpy()
    return nats


@dataclass(frozen=True, eq=False)
class Familiarity:
    """Log-likelihoods (m,) of reference designs, ascending, to judge others by."""

    flow: JointFlow
    reference: FloatArray

    @staticmethod
    def of(
        flow: JointFlow, reference: Sequence[Candidate], *, rng: np.random.Generator
    ) -> Familiarity:
        """Beside designs that the flow did not learn from, such as the library's held-out ones."""
        if not reference:
            raise InvalidInputError("familiarity needs reference designs; got none")
        return Familiarity(flow, np.sort(log_likelihood(flow, reference, rng=rng)))

    def percentile(self, designs: Sequence[Candidate], *, rng: np.random.Generator) -> FloatArray:
        """(n,) share in [0, 100] of reference designs that are less likely: 0 is like none."""
        found = log_likelihood(self.flow, designs, rng=rng)
        return 100.0 * np.searchsorted(self.reference, found) / len(self.reference)

    def bits_per_dimension(self) -> float:
        """Of the reference designs, in the mean; a density, so it may be negative."""
        size = self.flow.trained_network().state_size
        return float(bits_per_dimension(torch.from_numpy(self.reference), size).mean())
