"""The gradient of one step: parts of a batch add up, and memory that runs out halves the parts."""

from __future__ import annotations

import gc

import torch
from torch import Tensor

from generators.training.distributed import Shared
from generators.training.errors import TrainingError
from generators.training.precision import is_out_of_memory, split
from generators.training.resume import Live, MovingLoss


def gradients(shared: Shared, live: Live, batch: tuple[Tensor, ...], stage: str) -> Tensor:
    """Leave the gradient of a batch's mean loss on the parameters; returns that loss, detached.

    Without room for it the batch goes through in twice as many parts, and so do the next ones.
    Raises TrainingError when a single row is too much, or when several processes share the batch:
    the others would wait for this one.
    """
    rows, weight = shared.rows(batch)
    while True:
        try:
            return shared.mean(_accumulated(shared, live, rows, weight))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            # The message alone: the error's frames hold on to the tensors of the failed pass.
            cause = str(error).splitlines()[0]
        _more_parts(shared, live, len(rows[0]), stage, cause)
        live.optimiser.zero_grad(set_to_none=True)
        gc.collect()
        if live.device.type == "cuda":
            torch.cuda.empty_cache()


def _accumulated(shared: Shared, live: Live, rows: tuple[Tensor, ...], weight: float) -> Tensor:
    """The sum over the parts of their share of the loss and of its gradient."""
    live.optimiser.zero_grad(set_to_none=True)
    losses = []
    moving = live.loss if isinstance(live.loss, MovingLoss) else None
    if moving is not None:
        rows = moving.begin(rows, live.parts)
    parts = split(rows, min(live.parts, len(rows[0])))
    for i, (part, share) in enumerate(parts):
        with shared.silent(last=i == len(parts) - 1):
            with live.how.autocast(live.device):
                value = shared(*part) * (weight * share)
            live.scaler.scale(value).backward()
        losses.append(value.detach())
    live.scaler.unscale_(live.optimiser)
    if moving is not None:
        moving.end()
    return losses[0] if len(losses) == 1 else torch.stack(losses).sum()


def _more_parts(shared: Shared, live: Live, rows: int, stage: str, cause: str) -> None:
    parts = min(live.parts, rows)
    where = f"{stage}: out of memory at step {live.step} ({cause})"
    if parts == rows:
        raise TrainingError(
            f"{where} with one row at a time; choose a smaller network or smaller images, or a "
            "device with more memory"
        )
    if shared.size > 1:
        raise TrainingError(
            f"{where} in process {shared.rank} of {shared.size}; start it with a smaller batch or "
            f"with batches in {2 * parts} parts"
        )
    live.parts = min(2 * parts, rows)
