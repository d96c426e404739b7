"""Adversarial training of a generator of designs: alternating steps of critic and generator.

Objectives: "non-saturating" (Goodfellow et al. 2014, section 3) with the R1 penalty (Mescheder et
al. 2018), and "wgan-gp", the Wasserstein distance with a gradient penalty (Gulrajani et al. 2017).
Distances and slopes are those of ``networks.gan.Layout``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from generators.networks.gan import Critic, DesignGenerator
from generators.training.checkpoint import torch_generator
from generators.training.distributed import average_gradients, row_weight
from generators.training.flow_matching import shown_masks
from generators.training.loop import Schedule, train
from generators.training.losses import discriminator_loss, generator_loss
from generators.training.pictures import Pictures
from generators.training.precision import TrainingSettings, split
from generators.training.resume import (
    Batch,
    TrainingState,
    optimiser_tensors,
    restore_optimiser,
    under,
)
from loop.protocols import Progress

FloatArray = NDArray[np.float64]
STAGE = "adversarial pair"
OBJECTIVES = ("non-saturating", "wgan-gp")
Judge = Callable[[Tensor], Tensor]  # states (b, d) -> scores (b,)


@dataclass(frozen=True, slots=True)
class JointGANSettings:
    """Sizes and training lengths; see ``PRESETS`` of generators/gan.py.

    ``critic_steps`` of the critic for one of the generator: 1 is usual for "non-saturating", 5
    for "wgan-gp". ``r1_weight`` γ and ``gp_weight`` λ belong to one objective each.
    """

    objective: Literal["non-saturating", "wgan-gp"] = field(
        default="non-saturating", metadata={"choices": OBJECTIVES}
    )
    latent: int = 64
    local: int = 8  # channels of the noise of a place
    channels: int = 16  # of the generator at half resolution
    critic_channels: int = 16
    width: int = 96
    depth: int = 2
    first_steps: int = 800
    retrain_steps: int = 150
    batch: int = 32
    learning_rate: float = 1e-3
    retrain_rate: float = 4e-4
    critic_rate: float = 1.0  # learning rate of the critic over the generator's
    critic_steps: int = 1
    r1_weight: float = 0.1
    gp_weight: float = 10.0
    dropout: float = 0.5  # share of rows without any condition, drawn from the library
    focus: float = 0.5  # share of draws that follow the rank toward the targets
    focus_rank: int = 200
    image_rows: int = 3000  # scored rows that are learned from
    plain_rows: int = 6000  # library designs that are shown without conditions
    training: TrainingSettings = field(default_factory=TrainingSettings)


# The two games


def critic_loss(objective: str, real: Tensor, made: Tensor) -> Tensor:
    """What the critic minimises, of its scores (b,): the penalty is apart.

    Non-saturating: −log σ(real) − log(1 − σ(made)). WGAN: E[made] − E[real], the negative
    Wasserstein-1 distance where the critic is the best one of slope 1.
    """
    if objective == "wgan-gp":
        return made.mean() - real.mean()
    return discriminator_loss(real, made)


def maker_loss(objective: str, made: Tensor) -> Tensor:
    """What the generator minimises: −log σ(made), or −E[made]."""
    return -made.mean() if objective == "wgan-gp" else generator_loss(made)


def slopes(judge: Judge, states: Tensor) -> Tensor:
    """(b, d) gradients of the scores with regard to their own rows, themselves with gradient."""
    states = states.detach().requires_grad_(True)
    (found,) = torch.autograd.grad(judge(states).sum(), states, create_graph=True)
    return found


def r1_penalty(judge: Judge, real: Tensor) -> Tensor:
    """E |∇D|² over real rows (Mescheder et al. 2018, equation 9); times γ/2 in the loss."""
    return slopes(judge, real).square().sum(1).mean()


def gradient_penalty(judge: Judge, real: Tensor, made: Tensor, share: Tensor) -> Tensor:
    """E (|∇D| − 1)² at real + ``share`` (made − real), share (b, 1) uniform in [0, 1].

    Gulrajani et al. 2017, equation 3; times λ in the loss.
    """
    found = slopes(judge, torch.lerp(real, made, share))
    return (torch.linalg.vector_norm(found, dim=1) - 1.0).square().mean()


class AdversarialLoss:
    """The generator's loss of a batch at ``step``, after the steps of the critic.

    A ``MovingLoss`` like that of the image autoencoder: the training moves the generator, this
    moves the critic, by its own optimiser along the same schedule. A batch has ``critic_steps``
    times as many rows as the generator is judged on: each step of the critic sees its own. A batch
    in parts goes through the critic in as many, whose gradients add up before it steps. The
    critic's steps are in float32, for its penalty is a derivative.
    """

    def __init__(
        self,
        network: DesignGenerator,
        critic: Critic,
        settings: JointGANSettings,
        schedule: Schedule,
        noise: torch.Generator,
    ) -> None:
        """``noise``: a stream on the networks' device."""
        self.network, self.critic = network, critic
        self.settings, self.schedule, self.noise = settings, schedule, noise
        self.step = 0
        self.taken = 0  # steps of the critic within this one
        self.begun = False
        self.parts: dict[str, Tensor] = {}
        self.optimiser = torch.optim.Adam(
            critic.parameters(), lr=schedule.learning_rate, betas=(0.0, 0.99)
        )

    @property
    def figures(self) -> dict[str, float]:
        """The parts of the last loss."""
        return {name: float(part) for name, part in self.parts.items()}

    def state(self) -> dict[str, Tensor]:
        """Weights and moments of the critic."""
        found = {f"judge.{k}": v for k, v in optimiser_tensors(self.optimiser).items()}
        return found | {f"weight.{k}": v for k, v in self.critic.state_dict().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Become what ``state`` gave, in place."""
        self.critic.load_state_dict(under("weight.", state))
        restore_optimiser(self.optimiser, under("judge.", state))

    def begin(self, batch: Batch, parts: int) -> Batch:
        """The critic's steps with a batch, and the rows of the last: those of the generator.

        What the critic has stepped with is not stepped with again where memory runs out.
        """
        steps = list(torch.arange(len(batch[0])).chunk(self.settings.critic_steps))
        for mine in steps[self.taken :]:
            self._critic_step(tuple(column[mine] for column in batch), parts)
            self.taken += 1
        self.begun = True
        return tuple(column[steps[-1]] for column in batch)

    def end(self) -> None:
        """Be ready for the next batch."""
        self.taken, self.begun = 0, False

    def __call__(self, labels: Tensor, vectors: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """``labels`` (b, h, w), or (b, 0) without images; ``vectors`` (b, v), properties (b, k).

        Of the rows that ``begin`` gave; of a whole batch without, which the critic sees first if
        gradients are wanted.
        """
        if not self.begun and torch.is_grad_enabled():
            batch = self.begin((labels, vectors, values, mask), 1)
            self.end()
            return self._of_generator(*batch[2:])
        return self._of_generator(values, mask)

    def _of_generator(self, y: Tensor, known: Tensor) -> Tensor:
        self.critic.requires_grad_(False)  # the weights are not the generator's to move
        try:
            score = self.critic(self.made(y, known), y, known)
        finally:
            self.critic.requires_grad_(True)
        loss = maker_loss(self.settings.objective, score)
        self.parts["generator"] = loss.detach()
        return loss

    def real(self, labels: Tensor, vectors: Tensor) -> Tensor:
        """States (b, d) of designs of the data."""
        layout, fields = self.network.layout, None
        if layout.shape is not None:
            hot = functional.one_hot(labels.long(), layout.shape[0])
            fields = hot.permute(0, 3, 1, 2).to(vectors.dtype)
        return layout.join(fields, vectors)

    def made(self, values: Tensor, mask: Tensor) -> Tensor:
        """States (b, d) of designs from fresh noise."""
        return self.network.fields(self._drawn(values), values, mask)

    def _drawn(self, values: Tensor) -> Tensor:
        shape = (len(values), self.network.noise)
        return torch.randn(shape, generator=self.noise, device=values.device)

    def _critic_step(self, batch: Batch, parts: int) -> None:
        """One step of the critic; parts differ from the whole by the order of summation alone."""
        s, (_, _, values, _) = self.settings, batch
        noise, share = self._drawn(values), torch.zeros(len(values), 0, device=values.device)
        if s.objective == "wgan-gp":
            share = torch.rand(len(values), 1, generator=self.noise, device=values.device)
        for group in self.optimiser.param_groups:
            group["lr"] = s.critic_rate * self.schedule.rate(self.step)
        self.optimiser.zero_grad(set_to_none=True)
        figures: list[Tensor] = []
        whole = row_weight(len(values), values.device)
        for part, weight in split((*batch, noise, share), min(parts, len(values))):
            figures.append(weight * self._critic_part(part, whole * weight))
        average_gradients(self.critic.parameters())
        nn.utils.clip_grad_norm_(self.critic.parameters(), 10.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        found = torch.stack(figures).sum(0)
        self.parts = dict(zip(("critic", "penalty", "gap"), found, strict=True))

    def _critic_part(self, part: Batch, weight: float) -> Tensor:
        """Leave the gradient of a part of a batch; its loss, penalty and gap of scores (3,).

        ``part``: rows as ``__call__`` takes them, then the generator's noise and the places of the
        penalty between real and made.
        """
        labels, vectors, values, mask, noise, share = part
        s, real = self.settings, self.real(labels, vectors)
        with torch.no_grad():
            made = self.network.fields(noise, values, mask)

        def judge(states: Tensor) -> Tensor:
            found: Tensor = self.critic(states, values, mask)
            return found

        scores = judge(real), judge(made)
        loss = critic_loss(s.objective, *scores)
        if s.objective == "wgan-gp":
            penalty = gradient_penalty(judge, real, made, share)
            total = loss + s.gp_weight * penalty
        else:
            penalty = r1_penalty(judge, real)
            total = loss + 0.5 * s.r1_weight * penalty
        (weight * total).backward()
        gap = scores[0].mean() - scores[1].mean()
        return torch.stack([loss.detach(), penalty.detach(), gap.detach()])


# Training


class Designs(NamedTuple):
    """``labels`` (n, h, w) uint8, or (n, 0) without images; ``vectors`` (n, v)."""

    labels: Tensor
    vectors: Tensor


@dataclass(frozen=True)
class GANRows:
    """``scored`` designs with standardised ``conditions`` (n, k), NaN unknown, and how often each
    is drawn, ``weights`` (n,); ``plain``: library designs, shown without conditions. ``widths``:
    columns of each condition, see ``draw_masks``; none: one of each.
    """

    scored: Designs
    conditions: FloatArray
    weights: FloatArray
    plain: Designs
    widths: tuple[int, ...] = ()


@dataclass(frozen=True)
class GANRun:
    """``asked`` (k,): the properties with targets; ``fresh``: not trained before.

    ``keep``: where the state is kept from which a killed training goes on; None: nowhere.
    ``pictures``: samples that are drawn along the way.
    """

    asked: Sequence[bool]
    settings: JointGANSettings
    fresh: bool
    device: str
    rng: np.random.Generator
    progress: Progress
    keep: TrainingState | None = None
    pictures: Pictures | None = None


def train_gan(network: DesignGenerator, critic: Critic, rows: GANRows, run: GANRun) -> float:
    """Train both in place; the generator's weights are averaged. Returns its final loss.

    Raises TrainingError when a loss is not finite; the generator then has the last good weights.
    """
    s = run.settings
    draws, noise = torch_generator(run.rng), torch_generator(run.rng, run.device)
    known = torch.from_numpy(np.isfinite(rows.conditions))
    conditions = torch.from_numpy(np.nan_to_num(rows.conditions)).float()
    weights = torch.from_numpy(rows.weights / rows.weights.sum())
    asked = torch.tensor(list(run.asked))
    plain = len(rows.plain.vectors)
    size = s.batch * s.critic_steps
    without = round(s.dropout * size) if plain else 0

    def batches() -> Iterator[tuple[Tensor, ...]]:
        n = size - without
        while True:
            index = torch.multinomial(weights, n, replacement=True, generator=draws)
            other = torch.randint(max(1, plain), (without,), generator=draws)
            mask = shown_masks(asked, known[index], draws, rows.widths)
            none = torch.zeros(without, conditions.shape[1])
            order = torch.randperm(size, generator=draws)  # every step of the critic sees both
            whole = (
                torch.cat([rows.scored.labels[index], rows.plain.labels[other]]),
                torch.cat([rows.scored.vectors[index], rows.plain.vectors[other]]),
                torch.cat([conditions[index], none]),
                torch.cat([mask, none.bool()]),
            )
            yield tuple(x[order].to(run.device) for x in whole)

    schedule = (
        Schedule(s.first_steps, s.learning_rate, ema=0.995)
        if run.fresh
        else Schedule(s.retrain_steps, s.retrain_rate, warmup=20, ema=0.98)
    )
    critic.train()
    loss = AdversarialLoss(network, critic, s, schedule, noise)
    final = train(
        network,
        loss,
        batches(),
        schedule,
        stage=STAGE,
        progress=run.progress,
        how=s.training.computation(run.device),
        streams=(draws, noise),
        keep=run.keep,
        pictures=run.pictures,
    )
    critic.eval()
    return final
