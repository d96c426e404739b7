"""One legible training loop: AdamW, warm-up and cosine decay, gradient clipping, EMA of weights.

How a step is computed (``precision``), by how many processes (``distributed``), what is kept for
a training that is killed (``resume``) and what is shown (``metrics``, ``pictures``) are options.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from generators.training import checkpoint
from generators.training.distributed import Shared
from generators.training.errors import TrainingError
from generators.training.gradients import gradients
from generators.training.metrics import MetricsFile, Watch
from generators.training.pictures import Pictures
from generators.training.precision import Computation
from generators.training.resume import Live, StatefulLoss, Stream, TrainingState, take_up
from loop.errors import InvalidInputError
from loop.protocols import Progress, silent


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
        parameters = [p.detach() for p in module.parameters()]
        # One kernel for all of them, where the device has it.
        torch._foreach_lerp_(list(self.shadow.values()), parameters, 1 - decay)

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        for name, parameter in module.named_parameters():
            parameter.copy_(self.shadow[name])

    def copy(self) -> dict[str, Tensor]:
        """The averaged weights as they are now."""
        return {k: v.clone() for k, v in self.shadow.items()}

    # Buffers, such as a codebook, are not averaged.

    @staticmethod
    def buffers(module: nn.Module) -> dict[str, Tensor]:
        """Those of a module as they are now."""
        return {k: v.detach().clone() for k, v in module.named_buffers()}

    @torch.no_grad()
    def put_back(self, module: nn.Module, buffers: dict[str, Tensor]) -> dict[str, Tensor]:
        """The averaged weights and these buffers into the module; returns them by their names."""
        self.copy_to(module)
        for name, buffer in module.named_buffers():
            buffer.copy_(buffers[name])
        kept = module.state_dict().keys()  # some buffers are made anew with a module
        return self.shadow | {k: v for k, v in buffers.items() if k in kept}

    @contextmanager
    def shown(self, module: nn.Module) -> Iterator[None]:
        """The averaged weights in evaluation mode; afterwards the module is as it was.

        The global random numbers are, too.
        """
        weights = {k: v.detach().clone() for k, v in module.named_parameters()}
        devices = {v.device for v in weights.values() if v.device.type == "cuda"}
        self.copy_to(module)
        module.eval()
        try:
            with torch.random.fork_rng(devices=list(devices)):
                yield
        finally:
            with torch.no_grad():
                for name, parameter in module.named_parameters():
                    parameter.copy_(weights[name])
            module.train()


def train(
    module: nn.Module,
    loss: Callable[..., Tensor],
    batches: Iterable[tuple[Tensor, ...]],
    schedule: Schedule,
    *,
    stage: str,
    progress: Progress = silent,
    how: Computation | None = None,
    streams: Sequence[Stream] = (),
    keep: TrainingState | None = None,
    pictures: Pictures | None = None,
) -> float:
    """Minimise ``loss(*batch)`` over ``schedule.steps`` batches; leaves the averaged weights.

    ``loss`` is a mean over the rows of a batch; all tensors of a batch have the same number of
    rows. With ``keep`` a training that was killed goes on where it was last kept: ``streams`` are
    the generators that batches and loss draw from, and batches keep nothing else from one to the
    next; without ``streams`` the batches already used are drawn again and thrown away.

    Where memory runs out, batches go through the network in twice as many parts from then on.
    Returns the mean loss over the last tenth of the steps. Raises TrainingError when the loss or
    the gradient is not finite or a single row needs too much memory, InvalidInputError for a
    damaged ``keep`` file, batches that end early and fewer rows than processes.
    """
    how = how or Computation()
    how.arrange(module)
    shared = Shared(module, how.compiled(loss))
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        parameters,
        lr=schedule.learning_rate,
        weight_decay=schedule.weight_decay,
        betas=(0.9, 0.99),
        fused=True,
    )
    average = Average(module, schedule.ema)
    kept_loss = loss if isinstance(loss, StatefulLoss) else None
    live = Live(module, average, optimiser, how, streams, kept_loss)
    watch = Watch(stage, schedule, live, progress if shared.rank == 0 else silent)
    module.train()
    iterator = iter(batches)
    kept = None
    if keep is not None:
        iterator, kept = take_up(keep, live, iterator, stage, (schedule, how))
        if keep.metrics is not None and shared.rank == 0:
            watch.metrics = MetricsFile(keep.metrics, kept.run, live.step)
    if start := live.step:
        watch.progress(stage, start, schedule.steps)
    good, buffers = average.copy() if watch.lazy else average.shadow, average.buffers(module)
    try:
        for step in range(start, schedule.steps):
            for group in optimiser.param_groups:
                group["lr"] = schedule.rate(step)
            if (batch := next(iterator, None)) is None:
                raise InvalidInputError(
                    f"{stage}: batches ended at step {step} of {schedule.steps}; draw them without "
                    "end or train for fewer steps"
                )
            if kept_loss is not None:
                kept_loss.step = step
            value = gradients(shared, live, batch, stage)
            norm = nn.utils.clip_grad_norm_(parameters, schedule.clip)
            watch.note(step, value, norm, len(batch[0]))
            keeping = kept is not None and shared.rank == 0 and kept.due(step + 1)
            if keeping or watch.due(step):
                watch.read()
                buffers = average.buffers(module)
                if watch.lazy:  # what follows is not looked at before the next reading
                    good = average.copy()
            live.scaler.step(optimiser)
            live.scaler.update()
            average.update(module)
            live.step = step + 1
            if pictures is not None and shared.rank == 0 and pictures.due(live.step):
                with average.shown(module):
                    pictures.write(stage, live.step)
            if kept is not None and keeping and live.step < schedule.steps:
                kept.save(live)
    except TrainingError as error:
        average.shadow = good
        weights = average.put_back(module, buffers)
        module.eval()
        if keep is None or shared.rank:
            raise
        card = {"stage": stage, "step": live.step, "stopped": str(error)}
        _, path = checkpoint.save(keep.folder, weights, card)
        raise TrainingError(f"{error}; the averaged weights before it are in {path}") from None
    average.copy_to(module)
    module.eval()
    if kept is not None and shared.rank == 0 and start < schedule.steps:
        kept.save(live)
    watch.progress(stage, schedule.steps, schedule.steps)
    return watch.final_loss
