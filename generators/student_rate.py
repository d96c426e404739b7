"""What a student's network says of a flow: the rate beside the exact linear part of its steps.

That of a flow is its network. A diffusion's predicts noise, data or v at states of unit scale; here
it is turned, exactly, into the remaining velocity on the straight path that students walk.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from generators.denoiser import Prediction
from generators.diffusion import JointDiffusion
from generators.dynamics.gaussian import GaussianVelocity
from generators.dynamics.parameterisation import Kind
from generators.dynamics.schedules import rows_like
from generators.flow import JointFlow
from generators.networks.joint import JointNetwork
from generators.processes import Process, level_at


class StraightRate(nn.Module):
    """States (b, d) and times (b,) of the straight path, conditions -> (b, d).

    ``network`` is trained through it and keeps its own names.
    """

    def __init__(self, network: JointNetwork, linear: GaussianVelocity, kind: Kind, process: str):
        super().__init__()
        self.network = network
        self.linear, self.kind, self.process = linear, kind, Process(process)

    def forward(self, x: Tensor, t: Tensor, *conditions: Tensor) -> Tensor:
        prediction = Prediction(
            lambda state, tau: self.network(state, tau, *conditions),
            self.linear,
            self.kind,
            self.process,
        )
        return prediction.learned(x / rows_like(torch.hypot(t, 1 - t), x), level_at(t), "flow")


def rate_of(flow: JointFlow, network: JointNetwork) -> nn.Module:
    """The rate of a student of ``flow``, whose network is of the same kind."""
    if not isinstance(flow, JointDiffusion):
        return network
    assert flow.linear is not None
    kind = cast(Kind, flow.settings.prediction)
    return StraightRate(network, flow.linear, kind, flow.settings.process)
