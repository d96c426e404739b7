"""One legible training loop: AdamW, warm-up and cosine decay, gradient clipping, EMA of weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from loop.protocols import Progress, silent


class TrainingError(RuntimeError):
    """The loss stopped being finite; the weights are not usable."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """``steps`` optimiser steps at a peak rate, linear warm-up, cosine decay to ``floor``."""

    steps: int
    learning_rate: float
    warmup: int = 50
    floor: float = 0.02
    weight_decay: float = 1e-4
    clip: float = 1.0
    ema: float = 0.999

    def rate(self, step: int) -> float:
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        return self.learning_rate * (self.floor + (1 - self.floor) * cosine)


class Average:
    """Exponential moving average of a module's parameters, debiased over the first steps.

    With decay d the effective decay at step i is min(d, (1 + i) / (10 + i)), so that short runs
    are not dominated by the initial weights (as in the TensorFlow moving-average operator).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.shadow = {k: v.detach().clone() for k, v in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        for name, parameter in module.named_parameters():
            self.shadow[name].lerp_(parameter.detach(), 1 - decay)

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        for name, parameter in module.named_parameters():
            parameter.copy_(self.shadow[name])


def train(
    module: nn.Module,
    loss: Callable[..., Tensor],
    batches: Iterable[tuple[Tensor, ...]],
    schedule: Schedule,
    *,
    stage: str,
    progress: Progress = silent,
) -> float:
    """Minimise ``loss(*batch)`` over ``schedule.steps`` batches; leaves the averaged weights.

    Returns the mean loss over the last tenth of the steps.
    Raises TrainingError when the loss is not finite.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        parameters,
        lr=schedule.learning_rate,
        weight_decay=schedule.weight_decay,
        betas=(0.9, 0.99),
        fused=True,
    )
    average = Average(module, schedule.ema)
    module.train()
    tail: list[float] = []
    iterator = iter(batches)
    for step in range(schedule.steps):
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate(step)
        optimiser.zero_grad(set_to_none=True)
        value = loss(*next(iterator))
        value.backward()
        nn.utils.clip_grad_norm_(parameters, schedule.clip)
        optimiser.step()
        average.update(module)
        if step % 20 == 0 or step >= schedule.steps - max(1, schedule.steps // 10):
            current = float(value.detach())
            if not math.isfinite(current):
                raise TrainingError(
                    f"{stage}: loss is {current} at step {step}; lower the learning rate or "
                    "look for constant or non-finite training data"
                )
            if step >= schedule.steps - max(1, schedule.steps // 10):
                tail.append(current)
            progress(stage, step, schedule.steps, loss=current)
    average.copy_to(module)
    module.eval()
    progress(stage, schedule.steps, schedule.steps)
    return sum(tail) / max(1, len(tail))
