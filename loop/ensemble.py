"""Deep ensemble: networks that each predict a mean and a variance, trained from several starts.

B. Lakshminarayanan, A. Pritzel, C. Blundell, "Simple and Scalable Predictive Uncertainty Estimation
using Deep Ensembles", NIPS 2017, without its optional adversarial examples (section 2.3): the
Gaussian negative log-likelihood of section 2.2.1, eq. 1, and the members' mixture by its mean and
variance (section 2.4).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

from loop.property_models import FloatArray, NotFittedError, Predicted, Standard, checked

MIN_VARIANCE = 1e-4  # of a standardised value: keeps the likelihood of a repeated row finite


class DeepEnsemble:
    """``members`` networks of two hidden layers, all trained at once as one batch of matrices.

    ``width`` of the layers; ``epochs`` over the whole data; ``decay``: weight decay per step
    relative to the rate (decoupled, Loshchilov & Hutter 2019). Known uncertainties of values are
    added to the predicted variance while learning, so that the network explains the rest.
    """

    name = "deep-ensemble"

    def __init__(
        self,
        members: int = 5,
        width: int = 64,
        epochs: int = 200,
        rate: float = 5e-3,
        decay: float = 0.05,
    ) -> None:
        self.members, self.width, self.epochs = members, width, epochs
        self.rate, self.decay = rate, decay
        self._weights: list[Tensor] = []
        self._scale: Standard | None = None

    def fit(
        self,
        x: FloatArray,
        y: FloatArray,
        *,
        rng: np.random.Generator,
        noise: FloatArray | None = None,
    ) -> DeepEnsemble:
        x, y, uncertainty = checked(x, y, noise)
        new = DeepEnsemble(self.members, self.width, self.epochs, self.rate, self.decay)
        scale = new._scale = Standard.of(x, y)
        z = torch.from_numpy(scale.features(x)).float()
        target = torch.from_numpy((y - scale.y_mean) / scale.y_scale).float()
        known = torch.from_numpy((uncertainty / scale.y_scale) ** 2).float()
        seed = torch.Generator().manual_seed(int(rng.integers(2**62)))
        new._weights = weights = self._start(z.shape[1], seed)
        for weight in weights:
            weight.requires_grad_(True)
        optimiser = torch.optim.AdamW(weights, lr=self.rate, weight_decay=self.decay)
        # Rate to zero along a cosine: the result does not depend on where the last step fell.
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.epochs)
        for _ in range(self.epochs):
            optimiser.zero_grad()
            mean, variance = _forward(weights, z)
            total = variance + known
            loss = 0.5 * (total.log() + (target - mean) ** 2 / total).mean(1).sum()
            loss.backward()
            optimiser.step()
            schedule.step()
        for weight in weights:
            weight.requires_grad_(False)
        return new

    def _start(self, d: int, seed: torch.Generator) -> list[Tensor]:
        """Weights (m, in, out) and biases (m, 1, out) of the three layers."""
        weights: list[Tensor] = []
        for size, out in ((d, self.width), (self.width, self.width), (self.width, 2)):
            matrix = torch.randn(self.members, size, out, generator=seed) / math.sqrt(size)
            weights += [matrix, torch.zeros(self.members, 1, out)]
        return weights

    def predict(self, x: FloatArray) -> Predicted:
        """Mean and standard deviation of the members' mixture."""
        if self._scale is None:
            raise NotFittedError(self.name)
        mean, variance = _forward(self._weights, torch.from_numpy(self._scale.features(x)).float())
        spread = mean.var(0, correction=0) + variance.mean(0)
        return self._scale.predicted(mean.mean(0).double().numpy(), spread.sqrt().double().numpy())


def _forward(weights: list[Tensor], z: Tensor) -> tuple[Tensor, Tensor]:
    """(n, d) -> mean and variance of each member, (m, n) each."""
    w1, b1, w2, b2, w3, b3 = weights
    hidden = silu(z @ w1 + b1)
    hidden = silu(hidden @ w2 + b2)
    out = hidden @ w3 + b3
    return out[..., 0], softplus(out[..., 1]) + MIN_VARIANCE
