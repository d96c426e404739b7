"""What leads samples of a flow to a request: its conditions, or a regressor of noised states."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generators.dynamics.flow import Velocity, logit_normal_times
from generators.dynamics.gaussian import GaussianVelocity
from generators.dynamics.schedules import Level
from generators.flow_stages import Stages
from generators.guiding import Also, check_also
from generators.networks.dit import PATCH
from generators.networks.joint import PIXEL_PATCH, JointNetwork
from generators.noisy_regressor import NoisyRegressor, Request
from generators.processes import level_at
from generators.training.flow_matching import GUIDES, Rows, RunSettings
from loop.errors import InvalidInputError, unknown_name

FloatArray = NDArray[np.float64]
ONE_REQUEST = (
    "a regressor of noised states leads to one request; leave the further conditions out, or let "
    "the network's own conditions lead (classifier-free)"
)


class Guided(Stages):
    """Of a flow that may have a ``regressor`` beside its network; see ``JointFlow``."""

    linear: GaussianVelocity | None
    regressor: NoisyRegressor | None = None

    @abstractmethod
    def trained_network(self) -> JointNetwork:
        """The network; raises InvalidInputError before the first fit."""

    def under(self, y: Tensor, known: Tensor) -> Velocity:
        """The network's part under standardised conditions (n, c), and which there are."""
        network = self.trained_network()
        return lambda x, t: network(x, t, y, known)

    def with_also(self, conditions: Sequence[Also]) -> Self:
        """A copy whose samples are led by further conditions too, each with its own weight.

        Raises InvalidInputError for conditions of another width, empty ones, and where a regressor
        leads, which knows of one request.
        """
        check_also(conditions, len(self.properties), len(self.space.labels))
        if conditions and self.settings.guide == "regressor":
            raise InvalidInputError(ONE_REQUEST)
        new = copy.copy(self)
        new.also = tuple(conditions)
        return new

    @property
    def patch(self) -> int:
        """Side of the squares of the image latent, or of the image, that are one token."""
        return PATCH if self.settings.space == "latent" else PIXEL_PATCH

    def draw_levels(self, n: int, generator: torch.Generator) -> Level:
        """n levels of unit scale to train at, as the network's own training draws them."""
        return level_at(logit_normal_times(n, generator=generator))

    def train_regressor(self, rows: Rows, run: RunSettings) -> float | None:
        """Train the regressor in place, a new one where there is none; the final loss.

        None, and no regressor any more, where the settings want none.
        """
        if not self.settings.regressor.train and self.settings.guide != "regressor":
            self.regressor = None
            return None
        assert self.linear is not None
        network = self.trained_network()
        self.regressor, loss = NoisyRegressor.fitted(
            self.regressor,
            rows,
            run,
            law=self.linear,
            levels=self.draw_levels,
            latent_shape=network.latent_shape,
            vector_sizes=network.vector_sizes,
            patch=self.patch,
        )
        return loss

    def leading(self, requests: FloatArray, guidance: float) -> Request | None:
        """What leads the unconditional model to requests (n, k); None: the network's conditions.

        Raises InvalidInputError when a regressor is to, and there is none.
        """
        if self.settings.guide != "regressor" or guidance == 0:
            return None
        if self.regressor is None:
            raise InvalidInputError(
                f"{self.name} has no regressor of noised states to be guided by; set train = true "
                "under [generator.settings.regressor] and train it in a further round"
            )
        return Request(self.regressor, *self.conditions(requests))

    def guided_by(self, guide: str) -> Self:
        """A copy whose samples are led to requests by one of ``GUIDES``.

        Raises InvalidInputError for another word, for a regressor that is not there, and for one
        beside further conditions.
        """
        if guide not in GUIDES:
            raise InvalidInputError(unknown_name("guide", guide, GUIDES))
        if guide == "regressor" and self.also:
            raise InvalidInputError(ONE_REQUEST)
        new = copy.copy(self)
        new.settings = replace(self.settings, guide=guide)
        self.trained_network()
        new.leading(np.full((1, len(self.properties)), np.nan), 1.0)
        return new
