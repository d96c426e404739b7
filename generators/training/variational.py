"""Training of the conditional variational autoencoder of joint states, and what it has learned.

The loss is the negative ELBO with β, warm-up and free bits (Kingma & Welling 2014; Higgins et al.
2017; Sønderby et al. 2016; Kingma et al. 2016); conditions are shown in random subsets, as to the
flow, so that any subset can be requested.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from generators.dynamics.elbo import Bound, Variational, elbo
from generators.dynamics.samplers import standard_normal
from generators.networks.vector_vae import VectorVAE
from generators.training.checkpoint import torch_generator
from generators.training.flow_matching import Rows, shown_masks
from generators.training.loop import Schedule, train
from generators.training.losses import active_units, free_bits, warm_up
from generators.training.pictures import Pictures
from generators.training.precision import TrainingSettings
from generators.training.resume import TrainingState
from generators.vae import VAESettings
from loop.protocols import Progress

STAGE = "joint autoencoder"


@dataclass(frozen=True, slots=True)
class JointVAESettings:
    """Sizes and training lengths; see ``PRESETS`` of generators/joint_vae.py.

    ``beta`` 1 makes it a model to sample from. ``noise``: share of the decoder's standard
    deviation that is drawn when proposing; 1 is the model's own distribution, 0 its mean, which
    keeps images smooth and requests closely. More ``latent`` numbers raise the bound, but designs
    from the prior then look less like the library's.
    """

    latent: int = 64
    width: int = 96
    channels: int = 32  # of the convolutions over the image latent
    depth: int = 2
    first_steps: int = 600
    retrain_steps: int = 200
    batch: int = 128
    learning_rate: float = 2e-3
    retrain_rate: float = 5e-4
    beta: float = 1.0
    kl_warmup: float = 100.0  # steps T of min(1, t/T)
    free_bits: float = 0.0  # nats of each latent number that cost nothing more
    noise: float = 0.0
    dropout: float = 0.5  # share of rows without any condition, drawn from the library
    focus: float = 0.5  # share of draws that follow the rank toward the targets
    focus_rank: int = 200
    image_rows: int = 3000  # scored rows that are learned from
    plain_rows: int = 6000  # library designs that are shown without conditions
    training: TrainingSettings = field(default_factory=TrainingSettings)
    vae: VAESettings = field(default_factory=VAESettings)


@dataclass(frozen=True)
class VAERun:
    """``asked`` (k,): the properties with targets; ``fresh``: not trained before.

    ``keep``: where the state is kept from which a killed training goes on; None: nowhere.
    ``pictures``: samples that are drawn along the way. ``jitter`` (d,): standard deviations of
    noise on the states, anew in each batch; None: none.
    """

    asked: Sequence[bool]
    settings: JointVAESettings
    fresh: bool
    device: str
    rng: np.random.Generator
    progress: Progress
    keep: TrainingState | None = None
    pictures: Pictures | None = None
    jitter: Tensor | None = None


class BoundLoss:
    """The negative bound per dimension of states (b, d) at ``step``, which the training sets.

    ``noise``: a stream on the network's device; ``warm``: the divergence counts in full at once.
    """

    def __init__(
        self,
        network: VectorVAE,
        settings: JointVAESettings,
        noise: torch.Generator,
        *,
        warm: bool = False,
    ) -> None:
        self.network, self.settings, self.noise, self.warm = network, settings, noise, warm
        self.step = 0

    def __call__(self, x: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        s, network = self.settings, self.network
        mean, log_variance = network.encode(x, values, mask)
        epsilon = torch.randn(mean.shape, generator=self.noise, device=mean.device)
        z = mean + (0.5 * log_variance).exp() * epsilon
        likelihood = network.log_likelihood(x, z, values, mask).mean()
        kl = free_bits(network.divergence(mean, log_variance, values, mask), s.free_bits)
        weight = s.beta * (1.0 if self.warm else warm_up(self.step, s.kl_warmup))
        return (weight * kl - likelihood) / network.size

    def state(self) -> dict[str, Tensor]:
        """Nothing: the step is all that it keeps."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """See ``state``."""


def train_vae(network: VectorVAE, rows: Rows, run: VAERun) -> float:
    """Train in place. Returns the final loss, nats per dimension of the state."""
    s = run.settings
    draws, noise = torch_generator(run.rng), torch_generator(run.rng, run.device)
    known = torch.from_numpy(np.isfinite(rows.conditions))
    conditions = torch.from_numpy(np.nan_to_num(rows.conditions)).float()
    weights = torch.from_numpy(rows.weights / rows.weights.sum())
    asked = torch.tensor(list(run.asked))
    plain = round(s.dropout * s.batch) if len(rows.plain) else 0

    def batches() -> Iterator[tuple[Tensor, ...]]:
        n = s.batch - plain
        while True:
            index = torch.multinomial(weights, n, replacement=True, generator=draws)
            other = torch.randint(max(1, len(rows.plain)), (plain,), generator=draws)
            mask = shown_masks(asked, known[index], draws, rows.widths)
            none = torch.zeros(plain, conditions.shape[1])
            data = torch.cat([rows.states[index], rows.plain[other]])
            if run.jitter is not None:
                data = data + run.jitter * torch.randn(data.shape, generator=draws)
            values = torch.cat([conditions[index], none])
            yield tuple(x.to(run.device) for x in (data, values, torch.cat([mask, none.bool()])))

    schedule = (
        Schedule(s.first_steps, s.learning_rate, ema=0.998)
        if run.fresh
        else Schedule(s.retrain_steps, s.retrain_rate, warmup=20, ema=0.99)
    )
    return train(
        network,
        BoundLoss(network, s, noise, warm=not run.fresh),
        batches(),
        schedule,
        stage=STAGE,
        progress=run.progress,
        how=s.training.computation(None),  # a bound is to be exact, unless asked otherwise
        streams=(draws, noise),
        keep=run.keep,
        pictures=run.pictures,
    )


@torch.no_grad()
def state_bound(network: VectorVAE, states: Tensor, noise: torch.Generator) -> Bound:
    """The evidence lower bound of states (n, d) without conditions, one draw, in nats."""
    values, mask = _nothing(network, states)
    model = Variational(
        lambda x: network.encode(x, values, mask),
        lambda x, z: network.log_likelihood(x, z, values, mask),
    )
    return elbo(model, states, standard_normal(noise))


@torch.no_grad()
def learned(network: VectorVAE, states: Tensor, noise: torch.Generator) -> dict[str, float]:
    """Figures over states (n, d) without conditions.

    ``elbo_nats`` and its parts, ``bits_per_dimension`` (of a density, so below zero where it is
    sharp), ``active_units``: how many of the ``latent_units`` follow the data. None active, or a
    ``kl_nats`` of 0, is a posterior that has collapsed.
    """
    bound = state_bound(network, states, noise)
    means, _ = network.encode(states, *_nothing(network, states))
    return {
        "elbo_nats": -float(bound.total.mean()),
        "kl_nats": float(bound.prior.mean()),
        "reconstruction_nats": float(bound.reconstruction.mean()),
        "bits_per_dimension": float(bound.bits_per_dimension(network.size).mean()),
        "active_units": float(active_units(means).sum()),
        "latent_units": float(network.latent),
    }


def _nothing(network: VectorVAE, states: Tensor) -> tuple[Tensor, Tensor]:
    """Values and mask of no condition, (n, k)."""
    values = states.new_zeros(len(states), len(network.level))
    return values, torch.zeros_like(values, dtype=torch.bool)
