"""A small network, its data, and the training loop written out, for several tests."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from generators.training.loop import Average, Schedule, train

ROWS = 12
SCHEDULE = Schedule(45, 3e-2, warmup=5, ema=0.9)


def network() -> nn.Module:
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(1, 4, 3, padding=1), nn.SiLU(), nn.Conv2d(4, 4, 3, padding=1)]
    return nn.Sequential(*convolutions, nn.SiLU(), nn.Flatten(), nn.Linear(144, 2))


class Seen:
    """A Progress that remembers."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.losses: list[float] = []
        self.norms: list[float] = []

    def __call__(self, stage: str, done: int, total: int, **figures: float) -> None:
        self.stages.append(stage)
        if figures:
            self.losses.append(figures["loss"])
            self.norms.append(figures["gradient_norm"])


def mean_of(module: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    def loss(x: Tensor, y: Tensor) -> Tensor:
        return (module(x).float() - y).square().mean()

    return loss


def draw(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        x = torch.randn(ROWS, 1, 6, 6, generator=generator)
        yield x, torch.stack([x.mean((1, 2, 3)), x[:, 0, 0, 0]], 1)


def run(module: nn.Module, loss: Callable[..., Tensor] | None = None, **options: Any) -> float:
    given: dict[str, Any] = {"schedule": SCHEDULE, "stage": "net"} | options
    return train(module, loss or mean_of(module), draw(torch.Generator().manual_seed(1)), **given)


def weights(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()])


def by_hand(module: nn.Module, steps: int = SCHEDULE.steps) -> tuple[Average, list[float]]:
    """The loop without any option, written out: the averages, in ``module`` as well, and losses."""
    parameters = list(module.parameters())
    optimiser = torch.optim.AdamW(
        parameters, weight_decay=SCHEDULE.weight_decay, betas=(0.9, 0.99), fused=True
    )
    average = Average(module, SCHEDULE.ema)
    loss, losses = mean_of(module), []
    for step, batch in enumerate(itertools.islice(draw(torch.Generator().manual_seed(1)), steps)):
        optimiser.param_groups[0]["lr"] = SCHEDULE.rate(step)
        optimiser.zero_grad()
        value = loss(*batch)
        value.backward()
        nn.utils.clip_grad_norm_(parameters, SCHEDULE.clip)
        optimiser.step()
        average.update(module)
        losses.append(float(value.detach()))
    average.copy_to(module)
    return average, losses


def plain(module: nn.Module) -> float:
    """All steps ``by_hand``; the mean of the last losses, as ``train`` returns it."""
    return sum(by_hand(module)[1][-4:]) / 4
