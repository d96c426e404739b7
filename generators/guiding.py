"""How far a request leads the joint state at each noise level, and conditions beside the request.

    f = f_∅ + s(τ) (f_c − f_∅) + Σ w_i (f_i − f_∅)

c is what is asked, i are further conditions with weights of their own, below 0 to lead away (Liu et
al. 2022, arXiv:2206.01714). Networks know the times τ of the straight path, whatever the process
(``generators.processes``), so the share of noise is 1 − τ for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from generators.denoiser import Prediction
from generators.dynamics.flow import Velocity
from generators.dynamics.guidance import (
    Weight,
    classifier_free,
    compose,
    cosine_scale,
    interval,
    linear_scale,
    matched_spread,
    separately,
)
from generators.dynamics.parameterisation import Field, Kind, convert
from generators.dynamics.schedules import Level, Straight, rows_like
from loop.errors import InvalidCampaignError, InvalidInputError

FloatArray = NDArray[np.float64]
SCHEDULES = ("constant", "linear", "cosine")
LEAST_NOISE = 1e-3  # a state with less is its own estimate, which says nothing of the velocity


@dataclass(frozen=True, slots=True)
class GuidingSettings:
    """How classifier-free guidance of the joint state goes with the share of noise, 1 to 0.

    ``schedule``: the scale that is asked for at every noise level ("constant"), or at pure noise
    and from there to ``at_data`` without noise. ``least_noise``, ``most_noise``: shares between
    which it acts; outside the scale is 1 (Kynkäänniemi et al. 2024, arXiv:2404.07724).
    ``rescale``: how far, 0 to 1, the spread of each estimate of the data is brought back to that at
    scale 1 (Lin et al. 2024, arXiv:2305.08891, equations 15-16, there of v).
    """

    schedule: str = field(default=SCHEDULES[0], metadata={"choices": SCHEDULES})
    at_data: float = 1.0
    least_noise: float = 0.0
    most_noise: float = 1.0
    rescale: float = 0.0

    def scale(self, guidance: float) -> Weight:
        """s(τ) for the scale that is asked for."""
        if self.schedule == "constant" or guidance == self.at_data:
            return guidance
        shape = cosine_scale if self.schedule == "cosine" else linear_scale
        return shape(Straight(), self.at_data, guidance)


CONSTANT = GuidingSettings()


def check_guiding(settings: GuidingSettings) -> None:
    """Raise InvalidCampaignError for shares of noise out of order and a rescale above 1."""
    where = "generator.settings.guiding"
    if not settings.least_noise < settings.most_noise <= 1:
        raise InvalidCampaignError(
            f"{where}: from least_noise = {settings.least_noise:g} to most_noise = "
            f"{settings.most_noise:g}; expected shares of noise, 0 to 1, the least first"
        )
    if settings.rescale > 1:
        raise InvalidCampaignError(
            f"{where}: rescale is {settings.rescale:g}; expected 0 (off) to 1"
        )


@dataclass(frozen=True, eq=False, slots=True)
class Also:
    """A condition beside the request: a row (k,) or (k + l,) as requests have them, its weight.

    Below 0 the weight leads away from it. ``name``: what is said of it in a design's origin.
    """

    request: FloatArray
    weight: float
    name: str = ""

    def about(self) -> dict[str, Any]:
        """For a design's origin."""
        return {"condition": self.name, "weight": self.weight}


def check_also(conditions: Sequence[Also], properties: int, labels: int) -> None:
    """Raise InvalidInputError for rows of another width, empty ones and weights not finite."""
    for one in conditions:
        row = one.request
        if row.ndim != 1 or len(row) not in (properties, properties + labels):
            raise InvalidInputError(
                f"a further condition has shape {row.shape}; expected ({properties},), one value a "
                "property" + (f", or ({properties + labels},) with the labels" if labels else "")
            )
        if not np.isfinite(row).any():
            raise InvalidInputError("a further condition asks for nothing; leave it out")
        if not np.isfinite(one.weight):
            raise InvalidInputError(
                f"a further condition has weight {one.weight:g}; expected a finite number"
            )


def guide(
    free: Field,
    asked: Field,
    guidance: float,
    others: Sequence[tuple[Field, float]] = (),
    settings: GuidingSettings = CONSTANT,
) -> Field:
    """The prediction led from ``free`` to ``asked`` and by ``others`` with their weights.

    All are of states and times τ. Guidance 0 is ``free``. ``settings.rescale`` is not in it, see
    ``rescaled_velocity`` and ``Rescaled``.
    """
    if guidance == 0:
        return free
    scale = settings.scale(guidance)
    if others:
        fields, weights = zip(*others, strict=True)
        led = compose(separately(free, asked, *fields), [scale, *weights])
    else:
        led = classifier_free(free, asked, scale)
    if (settings.least_noise, settings.most_noise) == (0, 1):
        return led
    return interval(led, asked, 1 - settings.most_noise, 1 - settings.least_noise)


def rescaled_velocity(linear: Velocity, led: Velocity, asked: Velocity, share: float) -> Velocity:
    """linear + led on the straight path, its estimates x + (1 − τ) v with the spread of ``asked``.

    ``share``: how far, see ``GuidingSettings``; at 0 and where both are equal it is linear + led.
    """

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        left = rows_like((1 - t).clamp_min(LEAST_NOISE), x)
        known = linear(x, t)
        estimate, reference = (x + left * (known + part(x, t)) for part in (led, asked))
        return (matched_spread(estimate, reference, share) - x) / left

    return velocity


@dataclass(frozen=True)
class Rescaled(Prediction):
    """The same over any process; ``asked``: the network's part at scale 1, as ``rest``."""

    asked: Field
    share: float

    def at(self, x: Tensor, level: Level, wanted: Kind) -> Tensor:
        level = Level(level.signal, level.noise.clamp_min(LEAST_NOISE))
        plain = Prediction(self.asked, self.linear, self.kind, self.process)
        estimate = matched_spread(
            Prediction.at(self, x, level, "x0"), plain.at(x, level, "x0"), self.share
        )
        return convert(estimate, x, level, "x0", wanted)
