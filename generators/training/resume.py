"""A training that was killed goes on where it was last kept, and ends with the same weights.

What is kept: weights, their averages, the optimiser's moments, and the state of every random
stream, in one safetensors file per stage, written beside, flushed and renamed. On the CPU a
resumed training is bit-equal to one that was not killed. Nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes
from torch import Tensor, nn

from generators.training.checkpoint import metadata_of
from generators.training.files import file_name, write_whole
from generators.training.precision import Computation
from loop.errors import InvalidInputError

if TYPE_CHECKING:
    from generators.training.loop import Average

Stream = torch.Generator | np.random.Generator
Batch = tuple[Tensor, ...]
ENDING = ".training.safetensors"
LEAST_PAUSE = 20.0  # of the time that the last write took: keeping costs at most 5 %


@dataclass(frozen=True, slots=True)
class TrainingState:
    """Keep a training's state in ``folder`` every ``every_s`` seconds, or every so many steps.

    ``metrics``: a file of JSON lines for the figures. Raises InvalidInputError for intervals
    that are not positive.
    """

    folder: Path
    every_s: float = 30.0
    every_steps: int | None = None
    metrics: Path | None = None

    def __post_init__(self) -> None:
        if not self.every_s > 0 or (self.every_steps is not None and self.every_steps < 1):
            raise InvalidInputError(
                f"training state is kept every {self.every_s} s and {self.every_steps} steps; "
                "expected intervals above 0"
            )

    def clear(self) -> None:
        """Remove the states; for when what was trained is safe in a checkpoint."""
        for pattern in (f"*{ENDING}", f".*{ENDING}.*.part"):  # a killed write leaves its draft
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it has other files, or never was made
            self.folder.rmdir()


@runtime_checkable
class StatefulLoss(Protocol):
    """A loss that keeps something from one step to the next: a warm-up, a discriminator.

    ``step`` is set before every step; a step in parts calls the loss once a part.
    """

    step: int

    def state(self) -> dict[str, Tensor]:
        """What it keeps besides ``step``."""
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Become what ``state`` gave, on the device where it works; in place."""
        ...


@runtime_checkable
class MovingLoss(StatefulLoss, Protocol):
    """A loss that moves something of its own once a step: a critic, a codebook.

    However many parts a step is in, ``begin`` comes before them and ``end`` after them.
    """

    def begin(self, batch: Batch, parts: int) -> Batch:
        """Of a batch, the rows that the loss is a mean over; they come in so many parts.

        Once more for the same step, with more parts, where memory ran out in between.
        """
        ...

    def end(self) -> None:
        """The gradients of all parts are there."""
        ...


class Stepped:
    """``loss(step, *batch)``, such as one with a warm-up, as a loss that a training can resume."""

    def __init__(self, loss: Callable[..., Tensor]) -> None:
        self.loss = loss
        self.step = 0

    def __call__(self, *batch: Tensor) -> Tensor:
        return self.loss(self.step, *batch)

    def state(self) -> dict[str, Tensor]:
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """The step is told anyway."""


@dataclass
class Live:
    """All that a training is between two steps."""

    module: nn.Module
    average: Average
    optimiser: torch.optim.Optimizer
    how: Computation
    streams: Sequence[Stream]
    loss: StatefulLoss | None = None
    step: int = 0
    tail: list[float] = field(default_factory=list)  # losses of the last tenth of the steps
    device: torch.device = field(init=False)
    scaler: torch.amp.GradScaler = field(init=False)
    parts: int = field(init=False)

    def __post_init__(self) -> None:
        self.device = self.optimiser.param_groups[0]["params"][0].device
        self.scaler = self.how.scaler(self.device)
        self.parts = self.how.parts

    def tensors(self) -> dict[str, Tensor]:
        """What changes from step to step, on the CPU."""
        found = self._network()
        found |= {f"average.{k}": v for k, v in self.average.shadow.items()}
        found |= {f"optimiser.{k}": v for k, v in optimiser_tensors(self.optimiser).items()}
        if self.loss is not None:
            found |= {f"loss.{k}": v for k, v in self.loss.state().items()}
        found |= self._random()
        return {k: v.detach().cpu().contiguous() for k, v in found.items()}

    def figures(self) -> dict[str, Any]:
        """The rest of it, as JSON has it."""
        return {
            "step": self.step,
            "averaged": self.average.steps,
            "parts": self.parts,
            "tail": self.tail,
            "scaler": self.scaler.state_dict(),
            "numpy": [
                s.bit_generator.state if isinstance(s, np.random.Generator) else None
                for s in self.streams
            ],
        }

    def restore(self, tensors: Mapping[str, Tensor], figures: Mapping[str, Any]) -> None:
        """Become what was kept. Layouts in memory stay those of this training."""
        with torch.no_grad():
            for name, mine in self._network().items():
                mine.copy_(tensors[name])
            for name, mine in self.average.shadow.items():
                mine.copy_(tensors[f"average.{name}"])
        restore_optimiser(self.optimiser, under("optimiser.", tensors))
        if self.loss is not None:
            self.loss.restore(under("loss.", tensors))
        for i, stream in enumerate(self.streams):
            if isinstance(stream, np.random.Generator):
                stream.bit_generator.state = figures["numpy"][i]
            else:
                stream.set_state(tensors[f"stream.{i}"])
        torch.set_rng_state(tensors["random.cpu"])
        if "random.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random.cuda"], self.device)
        self.step, self.parts = int(figures["step"]), int(figures["parts"])
        self.average.steps = int(figures["averaged"])
        self.tail[:] = figures["tail"]
        if figures["scaler"]:
            self.scaler.load_state_dict(figures["scaler"])

    def _network(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {f"weight.{k}": v for k, v in self.module.named_parameters()}
        return found | {f"buffer.{k}": v for k, v in self.module.named_buffers()}

    def _random(self) -> dict[str, Tensor]:
        found = {
            f"stream.{i}": stream.get_state()
            for i, stream in enumerate(self.streams)
            if isinstance(stream, torch.Generator)
        }
        found["random.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            found["random.cuda"] = torch.cuda.get_rng_state(self.device)
        return found

    def words(self) -> str:
        """``figures`` as text."""
        return json.dumps(self.figures(), default=np.ndarray.tolist, sort_keys=True)


class Kept:
    """The file of one training: the same data, settings and seed find it again."""

    def __init__(self, settings: TrainingState, stage: str, run: str) -> None:
        self.settings, self.stage, self.run = settings, stage, run
        self.path = settings.folder / f"{file_name(stage)}-{run}{ENDING}"
        self._kept_at = time.monotonic()
        self._pause = settings.every_s

    def due(self, step: int) -> bool:
        """Whether the state after ``step`` steps is to be kept."""
        if self.settings.every_steps is not None and step % self.settings.every_steps == 0:
            return True
        return time.monotonic() - self._kept_at >= self._pause

    def save(self, live: Live) -> None:
        """Replace the file by the present state."""
        started = time.monotonic()
        tensors, words = live.tensors(), live.words()
        metadata = {"state": words, "seal": seal(words, tensors)}
        write_whole(self.path, save_bytes(tensors, metadata=metadata))
        self._kept_at = time.monotonic()
        self._pause = max(self.settings.every_s, LEAST_PAUSE * (self._kept_at - started))

    def load_into(self, live: Live) -> bool:
        """Take up what was kept; whether there was anything.

        Raises InvalidInputError when the file is damaged.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return False
        try:
            tensors = load_bytes(data)
            metadata = metadata_of(data)
        except (SafetensorError, ValueError):
            tensors, metadata = {}, {}
        words = metadata.get("state", "")
        if metadata.get("seal") != seal(words, tensors):
            raise InvalidInputError(
                f"training state {self.path} is damaged; remove it, and {self.stage} is trained "
                "from its beginning"
            )
        live.restore(tensors, json.loads(words))
        return True


def take_up(
    keep: TrainingState,
    live: Live,
    batches: Iterator[Batch],
    stage: str,
    described: object,
) -> tuple[Iterator[Batch], Kept]:
    """The batches still to come and the file to keep; ``live`` becomes what is in it.

    The same initial weights, streams, first batch and ``described`` settings find their file
    again; anything else begins anew. Raises InvalidInputError when the file is damaged.
    """
    batch = next(batches, None)
    if batch is None:
        raise InvalidInputError(f"{stage}: there are no batches; draw them without end")
    begun = {k: v for k, v in live.tensors().items() if not k.startswith("random.")}
    begun |= {f"batch.{i}": tensor for i, tensor in enumerate(batch)}
    words = f"{stage} {described} {torch.__version__} {live.words()}"
    kept = Kept(keep, stage, seal(words, begun)[:16])
    if not kept.load_into(live):
        return itertools.chain([batch], batches), kept
    if not live.streams:
        return itertools.islice(batches, max(0, live.step - 1), None), kept
    return batches, kept


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Moments and step counts, named by the parameter's place and what they are."""
    return {
        f"{i}.{key}": value
        for i, parameter in enumerate(_parameters(optimiser))
        for key, value in optimiser.state.get(parameter, {}).items()
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The moments of ``optimiser_tensors``, each laid out in memory as its parameter.

    Step counts stay on the CPU unless the optimiser counts on its device.
    """
    counts_there = any(optimiser.defaults.get(k) for k in ("fused", "capturable"))
    for i, parameter in enumerate(_parameters(optimiser)):
        for key, value in under(f"{i}.", tensors).items():
            like = parameter if value.shape == parameter.shape else value
            device = parameter.device if key != "step" or counts_there else value.device
            mine = torch.empty_like(like, dtype=value.dtype, device=device)
            optimiser.state[parameter][key] = mine.detach().copy_(value)


def _parameters(optimiser: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix``, without it."""
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}


def seal(words: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of a text and of tensors with their names, types and shapes."""
    found = hashlib.sha256(words.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
