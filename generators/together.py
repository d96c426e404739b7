"""A generator's fit by several processes of this machine, one a GPU (``training.processes``).

Each process has the generator and the records, draws the same batches and takes its share of them
(``training.distributed``); the first one's weights come back as a checkpoint.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch.multiprocessing.spawn import ProcessRaisedException

from generators.training import distributed
from generators.training.errors import TrainingError
from generators.training.precision import TrainingSettings
from loop.candidate import Record
from loop.errors import InvalidInputError
from loop.protocols import Progress

FAILED, METRICS = "failed.json", "metrics.json"
FIGURES = ("metrics", "figures")  # of the last fit, by whatever name a generator has them
STAYS = ("models",)  # simulators: training needs none, and they need not be sent


class _Settings(Protocol):
    @property
    def training(self) -> TrainingSettings: ...


class Shareable(Protocol):
    """What a generator needs so that several processes can fit it."""

    @property
    def settings(self) -> _Settings: ...

    device: str

    def fit(self, records: Sequence[Record], *, rng: np.random.Generator) -> Any: ...
    def save(self, folder: Path) -> tuple[str, Path]: ...
    def load(self, path: Path) -> Any: ...


Kind = TypeVar("Kind", bound=Shareable)


def is_shared(generator: Shareable) -> bool:
    """Whether its next fit is one for several processes, and this is not one of them."""
    return generator.settings.training.processes > 1 and distributed.size() == 1


def fit_together(
    generator: Kind, records: Sequence[Record], rng: np.random.Generator, progress: Progress
) -> Kind:
    """As ``fit``, up to the order of summation. On the CPU the threads are shared out.

    Raises InvalidInputError for fewer GPUs than processes, and what a fit raises.
    """
    processes = generator.settings.training.processes
    cuda = torch.device(generator.device).type == "cuda"
    if cuda and torch.cuda.device_count() < processes:
        raise InvalidInputError(
            f"generator.settings.training: processes is {processes}, but there are "
            f"{torch.cuda.device_count()} GPUs; expected at most one process for each"
        )
    light = copy.copy(generator)
    for name in STAYS:
        if hasattr(light, name):
            setattr(light, name, ())
    threads = max(1, torch.get_num_threads() // processes)
    progress(f"training in {processes} processes", 0, 1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        given = (light, list(records), rng, folder, threads)
        try:
            distributed.launch(_member, processes, *given, device=generator.device)
        except ProcessRaisedException:
            failed = folder / FAILED
            if not failed.exists():
                raise
            kind, text = json.loads(failed.read_text(encoding="utf-8"))
            raise (TrainingError if kind == TrainingError.__name__ else InvalidInputError)(
                text
            ) from None
        (path,) = folder.glob("*.safetensors")
        found: Kind = generator.load(path)
        figures = json.loads((folder / METRICS).read_text(encoding="utf-8"))
        for name, value in figures.items():
            setattr(found, name, value)
    progress(f"training in {processes} processes", 1, 1)
    return found


def _member(
    device: str,
    generator: Shareable,
    records: list[Record],
    rng: np.random.Generator,
    folder: Path,
    threads: int,
) -> None:
    """One process's part; the first one keeps what comes of it."""
    torch.set_num_threads(threads)
    generator.device = device
    first = distributed.rank() == 0
    try:
        found = generator.fit(records, rng=rng)
    except (InvalidInputError, TrainingError) as error:
        if first:
            said = json.dumps([type(error).__name__, str(error)])
            (folder / FAILED).write_text(said, encoding="utf-8")
        raise
    if first:
        figures = {name: getattr(found, name) for name in FIGURES if hasattr(found, name)}
        (folder / METRICS).write_text(json.dumps(figures), encoding="utf-8")
        found.save(folder)
