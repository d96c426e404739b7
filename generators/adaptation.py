"""Few-shot adaptation: a trained flow learns micrographs of a new kind from a handful of images.

Ruiz et al. 2023 (DreamBooth), equation 2: the loss on the new images, shown with an identifier,
plus a loss that preserves what the model was without it. Here the identifier is a learned vector
added to the condition, the weights are low-rank adapters (Hu et al. 2022), and what is preserved
is the base's own velocity on library designs, with and without requested properties: the minimum
of the loss on its samples, with less noise. The flow itself is never changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from generators.adaptation_flow import AdaptedFlow, frozen
from generators.dynamics.flow import interpolate, logit_normal_times, target_velocity
from generators.flow import JointFlow
from generators.networks.adapters import inject
from generators.networks.dit import Control, JointTransformer
from generators.training.checkpoint import torch_generator
from generators.training.flow_matching import dimension_weights, draw_masks
from generators.training.loop import Schedule, train
from generators.training.resume import TrainingState
from loop.errors import InvalidInputError
from loop.images import SplitImages
from loop.library import Library
from loop.protocols import Progress, silent

FloatArray = NDArray[np.float64]
Labels = NDArray[np.uint8]
LEAST = 4  # images: fewer say nothing of how a kind of micrograph varies


@dataclass(frozen=True, slots=True)
class AdaptSettings:
    """``prior_weight``: λ of the preservation loss; half of a batch are its rows unless it is 0.

    ``views``: crops and mirror images of the new micrographs that are learned from. ``turned``:
    quarter turns too; not for micrographs whose directions matter.
    """

    rank: int = 8
    alpha: float = 8.0
    steps: int = 300
    batch: int = 64
    learning_rate: float = 1e-2
    prior_weight: float = 1.0
    prior_images: int = 500
    views: int = 500
    turned: bool = False


class Adapter(nn.Module):
    """What was learned: low-rank parts of a frozen network's layers, and the identifier (width,).

    ``network`` is a copy of the base's with the adapters in it.
    """

    def __init__(
        self,
        network: JointTransformer,
        *,
        rank: int,
        alpha: float,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.rank, self.alpha = rank, alpha
        self.network = network
        self.parts = inject(network, rank=rank, alpha=alpha, generator=generator)
        self.identifier = nn.Parameter(torch.zeros_like(network.position[0]))

    def forward(self, x: Tensor, t: Tensor, y: Tensor, mask: Tensor) -> Tensor:
        """Velocity of designs of the new kind, as ``JointTransformer``."""
        found: Tensor = self.network(x, t, y, mask, Control(condition=self.identifier))
        return found


class _Trained(nn.Module):
    """Only what is trained: averages and states of a training leave the frozen weights out."""

    def __init__(self, adapter: Adapter) -> None:
        super().__init__()
        self.parts = adapter.parts
        self.identifier = adapter.identifier


def adapt(
    flow: JointFlow,
    images: Sequence[ArrayLike] | NDArray[np.generic],
    settings: AdaptSettings | None = None,
    *,
    rng: np.random.Generator,
    progress: Progress = silent,
    keep: TrainingState | None = None,
) -> Adapter:
    """An adapter of the flow for label images (h, w) each, at least as large as its own.

    Compositions and process variables of the new kind are taken to be the library's.
    Raises InvalidInputError for a flow that is not trained or has no images, fewer than ``LEAST``
    images, ones that are too small or constant or whose values are no labels of the space.
    """
    settings = settings or AdaptSettings()
    network = frozen(flow)
    checked = check_images(flow, images)
    if settings.batch < 2 or min(settings.steps, settings.views, settings.prior_images) < 1:
        raise InvalidInputError(
            f"{settings.steps} steps with batches of {settings.batch} of {settings.views} views "
            f"and {settings.prior_images} library images; expected batches of 2 or more, and at "
            "least 1 of the others"
        )
    base = frozen(flow)
    draws = torch_generator(rng)
    adapter = Adapter(network, rank=settings.rank, alpha=settings.alpha, generator=draws).to(
        flow.device
    )
    assert flow.code is not None
    assert flow.linear is not None
    views = torch.from_numpy(_views(flow, checked, settings, rng))
    beside = flow.code.vectors(flow.library.draw(len(views), rng=rng))
    new = flow.code.with_latents(views, beside)
    prior = flow.code.states(flow.library.draw(settings.prior_images, rng=rng))
    scale = dimension_weights(network, flow.settings.vector_weight).to(flow.device)
    linear = flow.linear.to(flow.device)
    k = sum(flow.widths)
    preserved = settings.batch // 2 if settings.prior_weight > 0 else 0

    def batches() -> Iterator[tuple[Tensor, ...]]:
        b = settings.batch
        is_new = torch.arange(b) < b - preserved
        asked = torch.ones(k, dtype=torch.bool)
        while True:
            rows = torch.randint(len(new), (b - preserved,), generator=draws)
            others = torch.randint(len(prior), (preserved,), generator=draws)
            data = torch.cat([new[rows], prior[others]])
            t = logit_normal_times(b, generator=draws)
            noise = torch.randn(b, network.state_size, generator=draws)
            y = torch.randn(b, k, generator=draws)
            # Half of the preserved rows ask for something: what is asked for stays in force.
            some = (torch.rand(b, 1, generator=draws) < 0.5) & ~is_new[:, None]
            mask = draw_masks(b, asked, draws) & some
            order = torch.randperm(b, generator=draws)  # a batch in parts has both in each
            parts = (data, noise, t, y, mask, is_new)
            yield tuple(x[order].to(flow.device) for x in parts)

    def loss(
        data: Tensor, noise: Tensor, t: Tensor, y: Tensor, mask: Tensor, is_new: Tensor
    ) -> Tensor:
        x = interpolate(data, noise, t)
        with torch.autocast(x.device.type, enabled=False):
            rest = target_velocity(data, noise) - linear(x, t)
        with torch.no_grad():
            kept = base(x, t, y, mask)
        wanted = torch.where(is_new[:, None], rest, kept.to(rest.dtype))
        shown = Control(condition=is_new[:, None] * adapter.identifier)
        error = (network(x, t, y, mask, shown) - wanted).square() * scale
        weight = torch.where(is_new, 1.0, settings.prior_weight)
        return (error.sum(1) * weight).mean()

    train(
        _Trained(adapter),
        loss,
        batches(),
        Schedule(settings.steps, settings.learning_rate, warmup=20, ema=0.99),
        stage="adapter",
        progress=progress,
        how=flow.settings.training.computation(flow.device),
        streams=(draws,),
        keep=keep,
    )
    return adapter


def adapted(flow: JointFlow, adapter: Adapter, strength: float = 1.0) -> AdaptedFlow:
    """The flow proposing micrographs of the new kind; see ``AdaptedFlow`` for the strength."""
    return AdaptedFlow(flow, adapter, strength)


def check_images(
    flow: JointFlow, images: Sequence[ArrayLike] | NDArray[np.generic]
) -> list[Labels]:
    """The new micrographs as labels (h, w) each. Raises InvalidInputError, naming the image."""
    shape = flow.space.image_shape
    if shape is None:
        raise InvalidInputError("this flow makes no images, so none can be adapted to")
    phases = len(flow.space.phases)
    if len(images) < LEAST:
        raise InvalidInputError(
            f"{len(images)} new micrographs; expected at least {LEAST}, better 8 to 16"
        )
    found = []
    for i, image in enumerate(images):
        given = np.asarray(image)
        name = f"new micrograph {i + 1} of {len(images)}"
        if given.ndim != 2 or given.shape[0] < shape[0] or given.shape[1] < shape[1]:
            raise InvalidInputError(
                f"{name} has shape {given.shape}; expected labels (h, w) of at least {shape}"
            )
        if not np.issubdtype(given.dtype, np.number) or not np.isfinite(given).all():
            raise InvalidInputError(f"{name} has values that are no finite numbers")
        if given.min() < 0 or given.max() >= phases or np.any(given != np.rint(given)):
            raise InvalidInputError(
                f"{name} has values from {given.min():g} to {given.max():g}; expected the labels "
                f"0 to {phases - 1} of {', '.join(flow.space.phases)}: segment and relabel it"
            )
        if phases > 1 and given.min() == given.max():
            raise InvalidInputError(
                f"{name} is constant, all {flow.space.phases[int(given.flat[0])]}; give "
                "micrographs in which phases meet"
            )
        found.append(given.astype(np.uint8))
    return found


def _views(
    flow: JointFlow, images: Sequence[Labels], settings: AdaptSettings, rng: np.random.Generator
) -> Labels:
    """(n, h, w) random crops in which phases meet, mirrored or turned at random."""
    names = tuple(f"new micrograph {i + 1}" for i in range(len(images)))
    split = SplitImages(
        {"train": tuple(images), "val": (), "test": ()},
        {"train": names, "val": (), "test": ()},
        "new micrographs",
    )
    library: Library = replace(flow.library, split_images=split, augment=settings.turned, made=None)
    found = library.patches(settings.views, rng=rng)
    for axis in (1, 2):
        chosen = rng.random(len(found)) < 0.5
        found[chosen] = np.flip(found[chosen], axis)
    return found
