"""Where an image's latent is to go for other statistics, told by a small network.

A decoder's own Jacobian costs a decoding backwards for every statistic of every image. A network
over the latent alone learns the statistics of decoded images together with their derivatives
(Sobolev training: W. M. Czarnecki et al., NeurIPS 2017, arXiv:1706.04859), and its Jacobian costs
next to nothing. It only says where to go: what a step brought is judged on the decoded image
(``morphology.matched``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from generators.morphology import CHUNK_PIXELS, Morphology
from generators.networks.statistics import StatisticsNetwork
from generators.steering import one_hot
from generators.steering_steps import jacobian_of
from generators.training.loop import Schedule, train
from generators.training.resume import TrainingState
from loop.protocols import Progress, silent

WIDTH, DEPTH = 32, 3


@dataclass(frozen=True, slots=True)
class SlopeRows:
    """``latents`` (n, c, h, w), the statistics (n, m) of their images, ``jacobians`` (n, m, d)."""

    latents: Tensor
    statistics: Tensor
    jacobians: Tensor

    def __len__(self) -> int:
        return len(self.latents)

    def split(self, held_out: int) -> tuple[SlopeRows, SlopeRows]:
        """All but the last ``held_out`` rows, and those."""
        cut = len(self) - held_out
        parts = (self.latents, self.statistics, self.jacobians)
        return SlopeRows(*(x[:cut] for x in parts)), SlopeRows(*(x[cut:] for x in parts))

    @staticmethod
    def of(
        latents: Tensor,
        logits: Callable[[Tensor], Tensor],
        morphology: Morphology,
        progress: Progress = silent,
    ) -> SlopeRows:
        """By decoding latents (n, c, h', w'): backwards too, once for each statistic."""
        size = max(1, CHUNK_PIXELS // morphology.pixels)
        found, jacobians = [], []
        for start in range(0, len(latents), size):
            progress("slopes of the decoder", start, len(latents))
            z = latents[start : start + size].clone().requires_grad_()
            with torch.enable_grad():
                raw = logits(z)
                hard, _ = one_hot(raw.detach())
                _, statistics = morphology.held(raw, hard.mean((2, 3))[:, 1:])
                (jacobian,) = jacobian_of(statistics, [z])
            found.append(statistics.detach().cpu())
            jacobians.append(jacobian.float().cpu())
        return SlopeRows(latents.cpu(), torch.cat(found), torch.cat(jacobians))


def slopes_network(latent_shape: tuple[int, int, int], morphology: Morphology) -> StatisticsNetwork:
    """The untrained network for latents (c, h, w)."""
    return StatisticsNetwork(
        channels=latent_shape[0], outputs=morphology.size, width=WIDTH, depth=DEPTH
    )


def slopes_of(network: nn.Module, latents: Tensor) -> Tensor:
    """(n, m, d) Jacobians of the network's statistics by latents (n, c, h, w)."""
    with torch.enable_grad():
        z = latents.detach().clone().requires_grad_()
        (jacobian,) = jacobian_of(network(z), [z])
    return jacobian


def slope_error(network: nn.Module, rows: SlopeRows, scales: tuple[Tensor, Tensor]) -> float:
    """Mean of |error|² / (|slope|² + ``size``) over images and statistics; see ``slope_scales``."""
    step, size = 256, scales[1].cpu()
    total = 0.0
    for start in range(0, len(rows), step):
        exact = rows.jacobians[start : start + step]
        latents = rows.latents[start : start + step].to(scales[1].device)
        wrong = (slopes_of(network, latents).float().cpu() - exact).square().sum(2)
        total += float((wrong / (exact.square().sum(2) + size)).mean(1).sum())
    return total / len(rows)


def slope_scales(rows: SlopeRows) -> tuple[Tensor, Tensor]:
    """(m,) variances of the statistics, and (m,) medians of the squared lengths of their slopes.

    Images of nearly one phase have far longer slopes, which would make up most of a mean.
    """
    spread = rows.statistics.var(0, unbiased=False).clamp_min(1e-12)
    return spread, rows.jacobians.square().sum(2).median(0).values.clamp_min(1e-12)


def learn_slopes(
    network: nn.Module,
    rows: SlopeRows,
    schedule: Schedule,
    batch: int,
    *,
    device: str,
    generator: torch.Generator,
    stage: str,
    progress: Progress = silent,
    keep: TrainingState | None = None,
) -> float:
    """Train ``network`` in place; returns the final loss.

    That is the squared error of the statistics over their variance and that of their slopes, over
    the root of (|slope|² + size) size, see ``slope_scales``.
    """
    spread, size = (x.to(device) for x in slope_scales(rows))

    def batches() -> Iterator[tuple[Tensor, ...]]:
        while True:
            index = torch.randint(len(rows), (batch,), generator=generator)
            signs = 2.0 * torch.randint(2, (batch, len(size)), generator=generator) - 1.0
            parts = (rows.latents, rows.statistics, rows.jacobians)
            yield (*(part[index].to(device) for part in parts), signs.to(device))

    def loss(latents: Tensor, statistics: Tensor, jacobians: Tensor, signs: Tensor) -> Tensor:
        z = latents.requires_grad_()
        found = network(z)
        values = ((found - statistics).square() / spread).mean()
        # One random sum of the statistics has the mean squared error of all their slopes. Between
        # relative and absolute errors: the longest slopes count more, but not alone.
        weights = signs / ((jacobians.square().sum(2) + size) * size).sqrt().sqrt()
        (slope,) = torch.autograd.grad((weights * found).sum(), z, create_graph=True)
        wrong = slope.flatten(1) - (weights[..., None] * jacobians).sum(1)
        return values + wrong.square().sum(1).mean() / len(size)

    return train(
        network,
        loss,
        batches(),
        schedule,
        stage=stage,
        progress=progress,
        streams=(generator,),
        keep=keep,
    )
