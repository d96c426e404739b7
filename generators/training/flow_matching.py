"""Training of the conditional joint flow on designs with property values.

Flow matching with classifier-free dropout: Lipman et al. 2023, Ho & Salimans 2022.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generators.dynamics.flow import interpolate, logit_normal_times, paired, target_velocity
from generators.dynamics.gaussian import GaussianVelocity
from generators.guiding import GuidingSettings
from generators.morphology import SketchSettings
from generators.networks.joint import JointNetwork
from generators.networks.mlp import VectorFlow
from generators.networks.regressor import RegressorSettings
from generators.training.checkpoint import torch_generator
from generators.training.loop import Schedule, train
from generators.training.pictures import Pictures
from generators.training.precision import TrainingSettings
from generators.training.resume import TrainingState
from generators.vae import VAESettings
from loop.errors import InvalidCampaignError
from loop.protocols import Progress

FloatArray = NDArray[np.float64]
GUIDES = ("classifier-free", "regressor")
HEAD_TIME_MEAN = 0.8  # later than the middle: that is where properties get exact


@dataclass(frozen=True, slots=True)
class FlowSettings:
    """Sizes and training lengths; see ``PRESETS`` in the registry.

    ``network``: a transformer ("dit") or, where there are images, a U-Net ("unet"). ``space``: of
    the images, "latent" of an autoencoder or "pixel". ``vector_shift`` k: compositions and process
    have k times the image's ratio of signal to noise amplitude, as if their time were
    k t/(1 + (k - 1) t); above 1 they are decided before the image. ``attend``: the network also
    looks at a token of each property (cross-attention). ``guide``: what leads samples of the joint
    state to a request, the network's own conditions or a ``regressor`` of noised states, which is
    then trained with it. ``guiding``: how the first goes with the share of noise. ``pairing``: rows
    that are shown without conditions are paired with their noise by optimal transport within the
    batch, which straightens the paths of the unconditional model; with conditions it would make
    the noise depend on them. Raises InvalidCampaignError for it beside a regressor, whose guidance
    takes the noise to be independent of the data. ``library_law``: images of which nothing is asked
    have phase fractions as often as the library's crops (``phase_law``).
    """

    network: str = field(default="dit", metadata={"choices": ("dit", "unet")})
    space: str = field(default="latent", metadata={"choices": ("latent", "pixel")})
    vector_shift: float = 1.0
    attend: bool = False
    guide: str = field(default=GUIDES[0], metadata={"choices": GUIDES})
    pairing: bool = False
    width: int = 96
    depth: int = 3
    heads: int = 4
    channels: int = 32  # of the convolutions around the transformer
    first_steps: int = 1100
    retrain_steps: int = 200
    batch: int = 128
    learning_rate: float = 3e-3
    retrain_rate: float = 1e-3
    dropout: float = 0.15  # share of rows without any condition, drawn from the library
    vector_weight: float = 1.0  # loss weight of compositions against the image latent
    focus: float = 0.5  # share of draws that follow the rank toward the targets
    focus_rank: int = 200
    sample_steps: int = 6  # of Heun's; twice as many where nothing is asked
    image_rows: int = 3000  # rows whose images train the transformer; all rows train the head
    plain_rows: int = 3000  # library designs that are shown without conditions
    head_width: int = 128
    head_depth: int = 4
    head_batch: int = 512
    head_rate: float = 6e-3
    head_first_steps: int = 1700
    head_retrain_steps: int = 350
    head_sample_steps: int = 20
    library_law: bool = True
    sketch: SketchSettings = field(default_factory=SketchSettings)
    guiding: GuidingSettings = field(default_factory=GuidingSettings)
    regressor: RegressorSettings = field(default_factory=RegressorSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    vae: VAESettings = field(default_factory=VAESettings)

    def __post_init__(self) -> None:
        if self.pairing and (self.guide == "regressor" or self.regressor.train):
            raise InvalidCampaignError(
                "generator.settings: pairing is true beside a regressor of noised states, which "
                "needs noise that is independent of the data; leave one of them out"
            )


def dimension_weights(network: JointNetwork, vector_weight: float) -> Tensor:
    """(state,) loss weights: the image latent counts 1 in all, the vectors ``vector_weight``.

    A plain mean would leave the few composition coordinates next to nothing beside the latent.
    """
    latent, vectors = network.latent_size, network.state_size - network.latent_size
    weights = torch.full((network.state_size,), 1.0 / network.state_size)
    if latent and vectors:
        weights[:latent] = 1.0 / latent
        weights[latent:] = vector_weight / vectors
    return weights


def draw_masks(
    n: int, asked: Tensor, generator: torch.Generator, widths: Sequence[int] = ()
) -> Tensor:
    """(n, k) which conditions a row shows: half as the campaign asks, half a random subset.

    None is empty, unless nothing is asked: rows without conditions are the library's.
    ``widths`` (k,): columns of each condition, shown or not together; the mask has them all.
    """
    k = len(asked)
    subset = torch.rand(n, k, generator=generator) < torch.rand(n, 1, generator=generator)
    as_asked = torch.rand(n, 1, generator=generator) < 0.5
    mask = torch.where(as_asked | ~subset.any(1, keepdim=True), asked, subset)
    return mask.repeat_interleave(torch.tensor(widths), dim=1) if len(widths) else mask


def shown_masks(
    asked: Tensor, known: Tensor, generator: torch.Generator, widths: Sequence[int] = ()
) -> Tensor:
    """(n, c) ``draw_masks`` for rows of which some conditions are ``known`` (n, c).

    A row that lacks all that it was to show shows what it has: without conditions, scored rows
    would draw the unconditional model to where designs were looked for.
    """
    mask = draw_masks(len(known), asked, generator, widths) & known
    return torch.where(mask.any(1, keepdim=True), mask, known) if bool(asked.any()) else mask


@dataclass(frozen=True)
class Rows:
    """What is learned from.

    ``states`` (n, d) with standardised ``conditions`` (n, k), NaN unknown, are drawn with
    ``weights`` (n,), and shown with some of their conditions. ``plain`` (m, d) are library designs,
    shown without: the unconditional model is that of the library, whatever the targets are.
    ``widths``: columns of each condition, see ``draw_masks``; none: one of each.
    """

    states: Tensor
    conditions: FloatArray
    weights: FloatArray
    plain: Tensor
    widths: tuple[int, ...] = ()


@dataclass(frozen=True)
class RunSettings:
    """``asked`` (k,): the properties with targets; ``fresh``: not trained before.

    ``keep``: where the states are kept from which a killed training goes on; None: nowhere.
    ``pictures``: samples that are drawn along the way.
    """

    asked: Sequence[bool]
    settings: FlowSettings
    fresh: bool
    device: str
    rng: np.random.Generator
    progress: Progress
    keep: TrainingState | None = None
    pictures: Pictures | None = None


class Draws:
    """Batches of indices, conditions and masks; conditioned rows first, plain rows after."""

    def __init__(self, rows: Rows, run: RunSettings, batch: int) -> None:
        self.generator = torch_generator(run.rng)
        self.known = torch.from_numpy(np.isfinite(rows.conditions))
        self.values = torch.from_numpy(np.nan_to_num(rows.conditions)).float()
        self.weights = torch.from_numpy(rows.weights / rows.weights.sum())
        self.asked, self.widths = torch.tensor(list(run.asked)), rows.widths
        self.batch = batch
        self.plain = round(run.settings.dropout * batch) if len(rows.plain) else 0
        self.plain_rows = len(rows.plain)
        some = self.known.any(1)
        if self.plain and bool(some.any()):  # what has no conditions would be one of the library's
            self.weights = torch.where(some, self.weights, 0.0)

    def __call__(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Conditioned rows, plain rows, values (b, k), masks (b, k)."""
        n, g = self.batch - self.plain, self.generator
        rows = torch.multinomial(self.weights, n, replacement=True, generator=g)
        plain = torch.randint(max(1, self.plain_rows), (self.plain,), generator=g)
        mask = shown_masks(self.asked, self.known[rows], g, self.widths)
        none = torch.zeros(self.plain, self.values.shape[1])
        return rows, plain, torch.cat([self.values[rows], none]), torch.cat([mask, none.bool()])


def paired_without(data: Tensor, noise: Tensor, conditioned: int) -> Tensor:
    """The noise (b, d) of a batch, that of its plain rows paired with these by ``paired``.

    The first ``conditioned`` rows keep theirs: they may show anything.
    """
    plain = paired(data[conditioned:], noise[conditioned:])
    return torch.cat([noise[:conditioned], plain])


def schedule_of(run: RunSettings) -> Schedule:
    """Of the network over the joint state."""
    s = run.settings
    if run.fresh:
        return Schedule(s.first_steps, s.learning_rate, ema=0.998)
    return Schedule(s.retrain_steps, s.retrain_rate, warmup=20, ema=0.99)


def train_flow(
    network: JointNetwork, linear: GaussianVelocity, rows: Rows, run: RunSettings
) -> float:
    """Train in place what the linear part of the velocity leaves over. Returns the final loss."""
    settings = run.settings
    draw = Draws(rows, run, settings.batch)
    scale = dimension_weights(network, settings.vector_weight).to(run.device)
    linear = linear.to(run.device)

    def batches() -> Iterator[tuple[Tensor, ...]]:
        b = settings.batch
        while True:
            index, plain, values, mask = draw()
            data = torch.cat([rows.states[index], rows.plain[plain]])
            t = logit_normal_times(b, generator=draw.generator)
            noise = torch.randn(b, network.state_size, generator=draw.generator)
            if settings.pairing:
                noise = paired_without(data, noise, len(index))
            yield tuple(x.to(run.device) for x in (data, noise, t, values, mask))

    def loss(data: Tensor, noise: Tensor, t: Tensor, y: Tensor, mask: Tensor) -> Tensor:
        x = interpolate(data, noise, t)
        with torch.autocast(x.device.type, enabled=False):  # the exact part is not to be rounded
            rest = target_velocity(data, noise) - linear(x, t)
        return ((network(x, t, y, mask) - rest).square() * scale).sum(1).mean()

    return train(
        network,
        loss,
        batches(),
        schedule_of(run),
        stage="joint flow",
        progress=run.progress,
        how=settings.training.computation(run.device),
        streams=(draw.generator,),
        keep=run.keep,
        pictures=run.pictures,
    )


def train_head(
    head: VectorFlow, rows: Rows, *, context: Tensor, plain_context: Tensor, run: RunSettings
) -> float:
    """Train the conditional of the vectors given image features, in place.

    ``context`` (n, f) and ``plain_context`` (m, f) are the features of the rows' images.
    Returns the final loss.
    """
    settings = run.settings
    draw = Draws(rows, run, settings.head_batch)

    def batches() -> Iterator[tuple[Tensor, ...]]:
        b = settings.head_batch
        while True:
            index, plain, values, mask = draw()
            data = torch.cat([rows.states[index], rows.plain[plain]])
            given = torch.cat([context[index], plain_context[plain]])
            t = logit_normal_times(b, generator=draw.generator, mean=HEAD_TIME_MEAN)
            noise = torch.randn(b, head.size, generator=draw.generator)
            yield tuple(x.to(run.device) for x in (data, noise, t, given, values, mask))

    def loss(
        data: Tensor, noise: Tensor, t: Tensor, given: Tensor, y: Tensor, mask: Tensor
    ) -> Tensor:
        predicted = head(interpolate(data, noise, t), t, given, y, mask)
        return (predicted - target_velocity(data, noise)).square().mean()

    schedule = (
        Schedule(settings.head_first_steps, settings.head_rate, ema=0.998)
        if run.fresh
        else Schedule(settings.head_retrain_steps, settings.head_rate / 4, warmup=20, ema=0.99)
    )
    return train(  # small, and meant to be exact: nothing to gain from half precision
        head,
        loss,
        batches(),
        schedule,
        stage="compositions",
        progress=run.progress,
        streams=(draw.generator,),
        keep=run.keep,
    )
