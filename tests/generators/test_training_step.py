"""A step of the training loop: what the options leave as it is, and what they change."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from generators.training.errors import TrainingError
from generators.training.loop import Schedule, train
from generators.training.precision import (
    Computation,
    TrainingSettings,
    is_out_of_memory,
    split,
)
from generators.training.resume import TrainingState
from loop.errors import InvalidInputError
from tests.generators.small_trainings import Seen, mean_of, network, plain, run, weights

pytestmark = pytest.mark.usefixtures("one_thread")


def test_without_options_it_is_the_plain_loop_bit_for_bit(tmp_path: Path) -> None:
    """Nor does keeping its state change a training."""
    expected = network()
    final = plain(expected)
    for keep in (None, TrainingState(tmp_path, every_steps=7)):
        found = network()
        assert run(found, keep=keep) == final
        assert torch.equal(weights(found), weights(expected))


# Parts of a batch


@pytest.mark.parametrize("parts", [1, 2, 5, 12])
def test_parts_hold_all_rows_and_their_shares(parts: int) -> None:
    batch = torch.arange(12.0)[:, None], torch.arange(12)
    found = split(batch, parts)
    assert len(found) == parts
    assert torch.equal(torch.cat([x for (x, _), _ in found]), batch[0])
    assert all(torch.equal(x[:, 0], y.float()) for (x, y), _ in found)
    assert [share for _, share in found] == [len(x) / 12 for (x, _), _ in found]
    sizes = [len(x) for (x, _), _ in found]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("parts", [2, 5, 12, 40])
def test_a_step_in_parts_is_that_of_the_whole_batch(parts: int) -> None:
    """One step's gradient g: n terms summed in another order differ by n ε |g| at most, roughly.

    40 parts of 12 rows are 12 parts of one.
    """
    whole, divided = network(), network()
    one_step = Schedule(1, 1e-3, clip=math.inf)
    losses = [
        run(whole, schedule=one_step),
        run(divided, schedule=one_step, how=Computation(parts=parts)),
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    for a, b in zip(whole.parameters(), divided.parameters(), strict=True):
        assert a.grad is not None
        assert b.grad is not None
        bound = 1e-5 * float(a.grad.abs().max())
        assert torch.allclose(a.grad, b.grad, rtol=0, atol=bound)


def limited(module: nn.Module, most: int, failure: Exception) -> Callable[..., Tensor]:
    """A loss that has room for so many rows."""
    plain = mean_of(module)

    def loss(x: Tensor, y: Tensor) -> Tensor:
        if len(x) > most:
            raise failure
        return plain(x, y)

    return loss


@pytest.mark.parametrize(
    "failure",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
    ],
)
def test_memory_that_runs_out_halves_the_parts_and_the_training_goes_on(
    failure: RuntimeError,
) -> None:
    """12 rows, room for 3: 4 parts, from the first step on, and no batch is lost."""
    module, divided = network(), network()
    seen = Seen()
    found = run(module, limited(module, 3, failure), progress=seen)
    assert seen.stages[0] == "net, batch in 4 parts"
    assert found == run(divided, how=Computation(parts=4))
    assert torch.equal(weights(module), weights(divided))


def test_memory_for_less_than_a_row_stops_the_training() -> None:
    module = network()
    failure = torch.OutOfMemoryError("CUDA out of memory.")
    with pytest.raises(
        TrainingError, match=r"net: out of memory at step 0 \(CUDA out of memory\.\) with one row"
    ):
        run(module, limited(module, 0, failure))
    assert not module.training


def test_a_real_lack_of_memory_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_other_failures_are_not_taken_for_a_lack_of_memory() -> None:
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    module = network()
    with pytest.raises(RuntimeError, match="shapes cannot"):
        run(module, limited(module, 0, RuntimeError("shapes cannot be multiplied")))


# Precision, layout, compiler


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_float32_weights_as_well(precision: str) -> None:
    """The last losses agree within a tenth; the first within the rounding of its products.

    bf16 has 8 significant bits, fp16 has 11: products of two rounded numbers are off by 2⁻⁷
    relative at most, and with them a mean of squares by twice that. Gradients are clipped and
    shown as they are, not with the scale that fp16 needs.
    """
    losses, norms = [], []
    for name in ("float32", precision):
        module, seen = network(), Seen()
        run(module, how=Computation(name), progress=seen)
        losses.append(seen.losses)
        norms.append(seen.norms)
        assert {p.dtype for p in module.parameters()} == {torch.float32}
    full, half = losses
    assert half[0] == pytest.approx(full[0], rel=2 * 2**-7)
    assert half[0] != full[0]
    assert norms[1][0] == pytest.approx(norms[0][0], rel=0.05)
    assert half[-1] == pytest.approx(full[-1], rel=0.1)
    assert full[-1] < 0.2 * full[0]


def test_fp16_finds_the_scale_of_its_gradients() -> None:
    """Gradients of 1e6 times the loss overflow at the first scale, 65536; then they do not."""
    module = network()
    plain = mean_of(module)
    final = run(
        module, lambda x, y: 1e6 * plain(x, y), how=Computation("fp16"), schedule=Schedule(80, 3e-2)
    )
    assert final < 1e6 * 1.0
    assert weights(module).isfinite().all()


def test_fp16_gradients_that_never_are_finite_stop_the_training() -> None:
    module = nn.Linear(2, 1)

    def loss(x: Tensor) -> Tensor:
        return (module(x).sum() * 0).sqrt()  # d√u/du at 0 is infinite

    batches = itertools.repeat((torch.ones(3, 2),))
    with pytest.raises(TrainingError, match=r"steep: gradient norm is nan at step 25 of 99"):
        train(module, loss, batches, Schedule(99, 1e-3), stage="steep", how=Computation("fp16"))


def test_channels_last_and_a_compiler_leave_the_training_as_it_is() -> None:
    """Another order of summation alone: 45 steps of it end within 1e-3 of the weights."""
    expected = network()
    final = run(expected)
    for how in (Computation(channels_last=True), Computation(compiler="eager")):
        module = network()
        assert run(module, how=how) == pytest.approx(final, rel=1e-3)
        assert torch.allclose(weights(module), weights(expected), atol=1e-3)
        kernel = dict(module.named_parameters())["2.weight"]
        assert kernel.is_contiguous(memory_format=torch.channels_last) == how.channels_last


def test_the_processor_gets_plain_float32_by_default() -> None:
    assert Computation.suited("cpu") == Computation("float32", 1, None, False)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"precision": "fp61"}, "unknown precision 'fp61'; did you mean 'fp16'"),
        ({"parts": 0}, "a batch in 0 parts; expected 1 or more"),
    ],
)
def test_wrong_computations_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        Computation(**given)


@pytest.mark.parametrize("native", [True, False])
def test_half_precision_is_bf16_where_the_card_has_it(
    native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older card emulates bf16, and says that it supports it unless asked for less."""

    def supported(including_emulation: bool = True) -> bool:
        return native or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    how = Computation.suited("cuda")
    assert how == Computation("bf16" if native else "fp16", channels_last=True)
    assert TrainingSettings().computation("cuda") == how
    assert TrainingSettings(precision="float32").computation("cuda").precision == "float32"
