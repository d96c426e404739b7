"""A trained flow with an adapter beside it; the flow's own weights are never touched."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from generators.dynamics.flow import Velocity, classifier_free
from generators.flow import JointFlow
from generators.networks.dit import JointTransformer
from generators.training.resume import seal
from loop.candidate import Record
from loop.errors import InvalidInputError
from loop.protocols import Progress, silent

FloatArray = NDArray[np.float64]
# States (b, n), times (b,), standardised properties (b, k) and their mask -> (b, n).
Network = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
BASE_ONLY = "an adapted flow is its base and an adapter: {}"


class AdaptedFlow(JointFlow):
    """``flow`` with the network's velocity v replaced by v + strength (v' - v), v' the adapted one.

    strength 0 is the flow's own network, bit for bit; 1 the adapter's own distribution; above 1
    what it changes is amplified, as in classifier-free guidance. Properties guide the network as
    they did before; the sketch, which knows the statistics of the library's images alone, and
    simulators, which steer decoded images, are left out.
    """

    def __init__(self, flow: JointFlow, adapted: Network, strength: float = 1.0) -> None:
        """Raises InvalidInputError as ``transformer_of`` and for a negative strength."""
        transformer_of(flow)
        if not strength >= 0:
            raise InvalidInputError(f"strength is {strength:g}; expected 0 or more")
        self.__dict__.update(flow.__dict__)
        self.models = ()
        self.sketch = None
        self.adapted = adapted
        self.strength = strength

    def under(self, y: Tensor, known: Tensor) -> Velocity:
        return classifier_free(
            super().under(y, known), lambda x, t: self.adapted(x, t, y, known), self.strength
        )

    def fit(
        self, records: Sequence[Record], *, rng: np.random.Generator, progress: Progress = silent
    ) -> NoReturn:
        """Raises InvalidInputError: the adapter fits one state of the base's weights."""
        raise InvalidInputError(BASE_ONLY.format("train the base, then adapt it anew"))

    def save(self, folder: Path) -> NoReturn:
        """Raises InvalidInputError: both are kept by themselves."""
        raise InvalidInputError(BASE_ONLY.format("keep the adapter with save_adapter"))

    def load(self, path: Path) -> NoReturn:
        """Raises InvalidInputError: both are kept by themselves."""
        raise InvalidInputError(BASE_ONLY.format("load the base, then the adapter"))


def transformer_of(flow: JointFlow) -> JointTransformer:
    """The network that adapters go with.

    Raises InvalidInputError for a flow that is not trained, another network and another generator.
    """
    network = flow.trained_network()
    if not isinstance(network, JointTransformer):
        raise InvalidInputError(
            'adapters are for the transformer; train the flow with network = "dit" under '
            "[generator.settings]"
        )
    if type(flow).velocity is not JointFlow.velocity:
        raise InvalidInputError(
            f"adapters are trained with the loss of joint-flow, {flow.name} has another; use a "
            "campaign whose generator is joint-flow"
        )
    return network


def base_hash(flow: JointFlow) -> str:
    """SHA-256 of all weights and scales that an adapter of this flow was trained beside."""
    network, code, linear = transformer_of(flow), flow.code, flow.linear
    assert code is not None
    assert linear is not None
    tensors = {f"flow.{k}": v for k, v in network.state_dict().items()}
    tensors |= {f"linear.{k}": v for k, v in vars(linear).items()}
    if code.vae is not None:
        tensors |= code.vae.tensors()
    return seal("", tensors)


def frozen(flow: JointFlow) -> JointTransformer:
    """A copy of the flow's network that wants no gradients; for training something beside it."""
    return copy.deepcopy(transformer_of(flow)).requires_grad_(False).eval()
