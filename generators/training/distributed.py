"""Training by several processes, each with a share of every batch (torch's DDP).

All processes draw the same batches from the same streams and take their rows of them, so that a
step is the one that a single process would take, up to the order of summation. Li et al. 2020,
arXiv:2006.15704. gloo between CPUs, nccl between GPUs.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as group
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from generators.training.precision import split
from loop.errors import InvalidInputError


def size() -> int:
    """How many processes train together; 1 without a group."""
    return group.get_world_size() if group.is_available() and group.is_initialized() else 1


def rank() -> int:
    """This process among them, from 0; the first one writes files and shows progress."""
    return group.get_rank() if size() > 1 else 0


def row_weight(rows: int, device: torch.device) -> float:
    """Of the mean over this process's rows of a batch in the mean over the processes."""
    if size() == 1:
        return 1.0
    total = torch.tensor(float(rows), device=device)
    group.all_reduce(total)
    return rows * size() / float(total)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Gradients become their means over the processes: of what is trained beside the network."""
    if size() == 1:
        return
    for parameter in parameters:
        if parameter.grad is not None:
            group.all_reduce(parameter.grad)
            parameter.grad /= size()


@contextmanager
def torchrun_group(device: str) -> Iterator[str]:
    """The group that ``torchrun`` started this process for; yields this process's device.

    Without torchrun it yields ``device`` and does nothing. "cuda" becomes the card of this
    process. Raises InvalidInputError where there are fewer cards than processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    with _group(device, int(os.environ["LOCAL_RANK"])) as own:
        yield own


@contextmanager
def _group(device: str, local: int, **how: Any) -> Iterator[str]:
    cuda = torch.device(device).type == "cuda"
    if cuda:
        if local >= torch.cuda.device_count():
            raise InvalidInputError(
                f"process {local} of this machine has no GPU, there are "
                f"{torch.cuda.device_count()}; start at most one process per GPU"
            )
        device = f"cuda:{local}"
        torch.cuda.set_device(device)
    group.init_process_group("nccl" if cuda else "gloo", **how)
    try:
        yield device
    finally:
        group.destroy_process_group()


def launch(function: Callable[..., None], processes: int, *given: Any, device: str = "cpu") -> None:
    """Run ``function(device, *given)`` in so many new processes of this machine, as one group.

    ``function`` is importable by name. Raises torch's ProcessRaisedException when one fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        arguments = (function, processes, Path(folder) / "meeting", device, given)
        spawn(_member, arguments, nprocs=processes)


def _member(
    number: int,
    function: Callable[..., None],
    processes: int,
    meeting: Path,
    device: str,
    given: tuple[Any, ...],
) -> None:
    how = {"init_method": meeting.as_uri(), "rank": number, "world_size": processes}
    with _group(device, number, **how) as own:
        function(own, *given)


class _Objective(nn.Module):
    """A loss as a module: DDP has to see the parameters and the call that uses them."""

    def __init__(self, module: nn.Module, loss: Callable[..., Tensor]) -> None:
        super().__init__()
        self.module = module
        self.loss = loss

    def forward(self, *batch: Tensor) -> Tensor:
        return self.loss(*batch)


class Shared:
    """A loss whose gradients are averaged over the processes; the loss itself in a lone one."""

    def __init__(self, module: nn.Module, loss: Callable[..., Tensor]) -> None:
        self.size, self.rank = size(), rank()
        self.loss = loss
        self.parallel: DistributedDataParallel | None = None
        if self.size > 1:
            self.parallel = DistributedDataParallel(_Objective(module, loss))

    def __call__(self, *batch: Tensor) -> Tensor:
        value: Tensor = (self.parallel or self.loss)(*batch)
        return value

    def rows(self, batch: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], float]:
        """This process's rows of a batch and their weight in the mean of all gradients.

        Raises InvalidInputError when there are fewer rows than processes.
        """
        if self.size == 1:
            return batch, 1.0
        if len(batch[0]) < self.size:
            raise InvalidInputError(
                f"a batch of {len(batch[0])} rows is shared by {self.size} processes; expected a "
                "row for each: enlarge the batch or start fewer processes"
            )
        own, share = split(batch, self.size)[self.rank]
        return own, share * self.size  # DDP divides by the number of processes

    def silent(self, last: bool) -> AbstractContextManager[Any]:
        """Gradients of all but the last part stay in this process."""
        if self.parallel is None or last:
            return nullcontext()
        return self.parallel.no_sync()

    def mean(self, value: Tensor) -> Tensor:
        """The mean over the processes of a number on the training's device."""
        if self.size > 1:
            value = value.clone()
            group.all_reduce(value)
            value /= self.size
        return value
