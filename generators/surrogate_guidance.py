"""Guidance by the surrogate: its predictions as functions of phase fields and compositions.

What a campaign's surrogate has learned of its simulators takes their place in ``steering``
(``JointFlow.models``): regressor guidance (Dhariwal & Nichol 2021, section 4, with a regression in
the place of the classifier), here on the decoded design, by Gauss-Newton steps. No simulator is
called, and what comes out is as good as the surrogate is. On noised states guides a regressor of
its own (``noisy_regressor``).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from loop.errors import InvalidInputError
from loop.features import PER_PHASE, Features, ImageFeatures
from loop.surrogate import Surrogate


class SurrogateModel:
    """A fitted surrogate as a ``loop.protocols.Differentiable`` would give its properties.

    Raises InvalidInputError for a surrogate that is not fitted, and for designs with process
    variables: what guides moves images and compositions only.
    """

    def __init__(self, surrogate: Surrogate, features: Features) -> None:
        if surrogate.outputs is None:
            raise InvalidInputError("surrogate is not fitted; call fit(x, y) first")
        if features.space.labels:
            raise InvalidInputError(
                f"designs have labels ({', '.join(features.space.labels)}), which the surrogate "
                "cannot guide; leave its guidance out"
            )
        if features.space.process:
            raise InvalidInputError(
                f"designs have process variables ({', '.join(features.space.process)}), which the "
                "surrogate cannot guide; leave its guidance out"
            )
        self.surrogate = surrogate
        self.features = features
        self.scale = surrogate.outputs

    def properties_of(
        self, fields: Tensor | None, compositions: Tensor | None
    ) -> Mapping[str, Tensor]:
        """Posterior means (n,) by name, of phase fields (n, p, h, w) and compositions (n, p, e)."""
        center, spread = (
            torch.from_numpy(part) for part in (self.surrogate.center, self.surrogate.scale)
        )
        z = (design_features(self.features, fields, compositions) - center) / spread
        found = {}
        for j, (name, model) in enumerate(
            zip(self.surrogate.properties, self.surrogate.models, strict=True)
        ):
            cross: Tensor = model.kernel(z, model.x).to_dense()
            value = self.scale.mean[j] + self.scale.std[j] * (
                cross @ model.weights + model.constant
            )
            found[name] = value.exp() if self.scale.log[j] else value
        return found


def design_features(
    features: Features, fields: Tensor | None, compositions: Tensor | None
) -> Tensor:
    """``Features.combine`` of fields (n, p, h, w) and compositions (n, p, e): (n, d) float64.

    For fields of 0 and 1 these are the features of the label images.
    """
    parts = []
    if fields is not None and features.images is not None:
        parts.append(image_features(features.images, fields.double()))
    if compositions is not None:
        parts.append(compositions[:, :, 1:].flatten(1))
        if fields is not None and features.images is not None:
            overall = torch.einsum("np,npe->ne", fields.double().mean((2, 3)), compositions)
            parts.append(overall[:, 1:])
    return torch.cat(parts, dim=1)


def image_features(fitted: ImageFeatures, fields: Tensor) -> Tensor:
    """``ImageFeatures.transform`` of fields (n, p, h, w): (n, f)."""
    h, w = fields.shape[-2:]
    half = 0.5 / (h * w)
    columns, raw = [], []
    rows = torch.arange(-fitted.lag, fitted.lag + 1) % h
    lags = torch.arange(fitted.lag + 1) % w
    for phase in range(1, fitted.phases):
        inside = fields[:, phase]
        fraction = inside.mean((1, 2))
        ends = []
        for axis in (2, 1):
            before = inside.roll(1, axis)
            ends.append((inside * (1 - before) + (1 - inside) * before).mean((1, 2)))
        columns += [fraction, *ends]
        columns += [((fraction + half) / (end + half)).log() for end in ends]
        power = torch.fft.rfft2(inside).abs().square()
        pairs = torch.fft.irfft2(power, s=(h, w)) / (h * w)
        raw.append(pairs[:, rows][:, :, lags].flatten(1))
    assert len(columns) == PER_PHASE * (fitted.phases - 1)
    mean, axes = (torch.from_numpy(part).to(fields) for part in (fitted.mean, fitted.axes))
    components = (torch.cat(raw, dim=1) - mean) @ axes.T
    return torch.cat([torch.stack(columns, dim=1), components], dim=1)
