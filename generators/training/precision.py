"""How a training step is computed: number format, layout, compiler, parts of a batch.

Mixed precision: Micikevicius et al. 2018, arXiv:1710.03740. The weights, their averages and the
optimiser stay float32; only the products inside the loss are rounded.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from loop.errors import InvalidInputError, unknown_name

FORMATS = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def has_bf16(device: str | torch.device) -> bool:
    """Whether a device has fast products in bfloat16.

    A card that only emulates them is slower than in float32. So is a processor without AVX-512,
    where oneDNN has no convolution in bfloat16 and torch falls back to its slow one: ten times.
    """
    if torch.device(device).type == "cpu":
        known: bool = torch.backends.mkldnn.is_available() and (
            torch.ops.mkldnn._is_mkldnn_bf16_supported()
        )
        return known
    return torch.cuda.is_bf16_supported(including_emulation=False)


@dataclass(frozen=True, slots=True)
class Computation:
    """``precision``: "float32", "bf16" or "fp16" (with a loss scale that follows the gradients).

    ``parts``: a batch goes through the network in so many parts whose gradients add up; the step
    is that of the whole batch. ``compiler``: a back end of torch.compile such as "inductor", worth
    its minute of compiling in long trainings on a GPU; None: none. ``channels_last``: layout of
    convolution weights, faster with half precision on a GPU.
    Raises InvalidInputError for another precision and parts < 1.
    """

    precision: str = "float32"
    parts: int = 1
    compiler: str | None = None
    channels_last: bool = False

    def __post_init__(self) -> None:
        if self.precision not in FORMATS:
            raise InvalidInputError(unknown_name("precision", self.precision, FORMATS))
        if self.parts < 1:
            raise InvalidInputError(f"a batch in {self.parts} parts; expected 1 or more")

    @staticmethod
    def suited(device: str) -> Computation:
        """What pays on a device: plain float32 on the CPU, half precision on a GPU."""
        if torch.device(device).type == "cpu":
            return Computation()
        return Computation("bf16" if has_bf16(device) else "fp16", channels_last=True)

    def arrange(self, module: nn.Module) -> None:
        """Lay the weights out; before anything is made that follows their layout."""
        if self.channels_last:
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def compiled(self, loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """The loss, compiled where that is asked for, with the networks it calls."""
        if self.compiler is None:
            return loss
        compiled: Callable[..., Tensor] = torch.compile(loss, backend=self.compiler)
        return compiled

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """Inside it products of matrices and convolutions are in ``precision``."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(device.type, dtype=FORMATS[self.precision])

    def scaler(self, device: torch.device) -> torch.amp.GradScaler:
        """Keeps small gradients above fp16's least number; passes them through otherwise."""
        return torch.amp.GradScaler(device.type, enabled=self.precision == "fp16")


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How networks are trained; what is left at None is what suits the device.

    ``precision``: "float32", "bf16" or "fp16"; ``compile``: by torch.compile, worth its minute in
    long trainings on a GPU; ``channels_last``: layout of convolution weights; ``pictures``: samples
    are drawn every so many steps, 0: none; ``processes``: how many train together on this machine,
    one for each GPU.
    """

    precision: str | None = field(default=None, metadata={"choices": tuple(FORMATS)})
    compile: bool = False
    channels_last: bool | None = None
    pictures: int = 0
    processes: int = 1

    def computation(self, device: str | None) -> Computation:
        """These settings on a device; with None what is left open is plain float32."""
        return self.beside(Computation() if device is None else Computation.suited(device))

    def beside(self, suited: Computation) -> Computation:
        """These settings, what is left open being as in ``suited``."""
        return Computation(
            self.precision or suited.precision,
            compiler="inductor" if self.compile else None,
            channels_last=(
                suited.channels_last if self.channels_last is None else self.channels_last
            ),
        )


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch failed for want of memory, on whatever device."""
    words = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or any(
        phrase in words for phrase in ("out of memory", "can't allocate memory", "not enough mem")
    )


def split(batch: tuple[Tensor, ...], parts: int) -> list[tuple[tuple[Tensor, ...], float]]:
    """A batch in ``parts`` along its rows, each with its share of them; shares sum to 1.

    Every tensor has the same number of rows b, b >= ``parts``; sizes differ by at most one.
    """
    if parts == 1:
        return [(batch, 1.0)]
    rows = len(batch[0])
    columns = [tensor.tensor_split(parts) for tensor in batch]
    return [(part, len(part[0]) / rows) for part in zip(*columns, strict=True)]
