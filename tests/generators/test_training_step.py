"""A step of the training loop: what the options leave as it is, and what stops a training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from generators.training import checkpoint
from generators.training.errors import TrainingError
from generators.training.loop import Average, Schedule, train
from generators.training.metrics import Watch
from generators.training.precision import (
    Computation,
    TrainingSettings,
    is_out_of_memory,
    split,
)
from generators.training.resume import TrainingState
from loop.errors import InvalidInputError

ROWS = 12
SCHEDULE = Schedule(45, 3e-2, warmup=5, ema=0.9)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums in one order: equal trainings are then equal bit for bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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


# The plain loop


def plain(module: nn.Module, schedule: Schedule) -> float:
    """The loop without any option, written out."""
    parameters = list(module.parameters())
    optimiser = torch.optim.AdamW(
        parameters, lr=1.0, weight_decay=schedule.weight_decay, betas=(0.9, 0.99), fused=True
    )
    average = Average(module, schedule.ema)
    loss, losses = mean_of(module), []
    for step, batch in enumerate(itertools.islice(draw(torch.Generator().manual_seed(1)), 45)):
        optimiser.param_groups[0]["lr"] = schedule.rate(step)
        optimiser.zero_grad()
        value = loss(*batch)
        value.backward()
        nn.utils.clip_grad_norm_(parameters, schedule.clip)
        optimiser.step()
        average.update(module)
        losses.append(float(value.detach()))
    average.copy_to(module)
    return sum(losses[-4:]) / 4


def test_without_options_it_is_the_plain_loop_bit_for_bit(tmp_path: Path) -> None:
    """Nor does keeping its state change a training."""
    expected = network()
    final = plain(expected, SCHEDULE)
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


# What is not finite


def averaged(module: nn.Module, steps: int) -> Average:
    """The averages after so many of the training's steps, in ``module`` as well."""
    average = Average(module, SCHEDULE.ema)
    optimiser = torch.optim.AdamW(
        module.parameters(), weight_decay=SCHEDULE.weight_decay, betas=(0.9, 0.99), fused=True
    )
    batches = draw(torch.Generator().manual_seed(1))
    for step, batch in enumerate(itertools.islice(batches, steps)):
        optimiser.param_groups[0]["lr"] = SCHEDULE.rate(step)
        optimiser.zero_grad()
        mean_of(module)(*batch).backward()
        nn.utils.clip_grad_norm_(module.parameters(), SCHEDULE.clip)
        optimiser.step()
        average.update(module)
    average.copy_to(module)
    return average


@pytest.mark.parametrize("bad", [math.nan, math.inf, "gradient"])
def test_the_last_good_weights_stay(bad: float | str, tmp_path: Path) -> None:
    """A loss that breaks at step 30 leaves the averages after 30 steps, in the module and kept."""
    module, good = network(), network()
    calls = itertools.count()
    plain = mean_of(module)

    def loss(x: Tensor, y: Tensor) -> Tensor:
        value = plain(x, y)
        if next(calls) < 30:
            return value
        # √ has the value 0 and an infinite slope there.
        return value + (0 * value).sqrt() if isinstance(bad, str) else value * bad

    what = "gradient norm is nan" if isinstance(bad, str) else f"loss is {bad}"
    with pytest.raises(TrainingError) as caught:
        run(module, loss, keep=TrainingState(tmp_path))
    said = str(caught.value)
    assert said.startswith(f"net: {what} at step 30 of 45, learning rate 0.00")
    assert "; lower the learning rate or look for constant or non-finite training data; " in said
    assert not module.training
    average = averaged(good, 30)
    assert torch.equal(weights(module), weights(good))
    kept, card = checkpoint.load(Path(said.rpartition(" in ")[2]))
    assert card["step"] == 30
    assert torch.equal(kept["2.weight"], average.shadow["2.weight"])


class Lazy(Watch):
    """It reads now and then, as on a GPU."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.lazy = True


def test_figures_that_are_read_late_name_the_step_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Broken at step 30, read at step 40: the averages of the reading at step 20 stay."""
    monkeypatch.setattr("generators.training.loop.Watch", Lazy)
    seen, late, good = Seen(), network(), network()
    assert run(late, progress=seen) == plain(good, SCHEDULE)
    assert torch.equal(weights(late), weights(good))
    assert len(seen.losses) == 4  # of steps 0, 20, 40, 44

    module, good = network(), network()
    calls = itertools.count()

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return mean_of(module)(x, y) * (math.nan if next(calls) == 30 else 1.0)

    with pytest.raises(TrainingError, match="net: loss is nan at step 30 of 45"):
        run(module, loss)
    averaged(good, 20)
    assert torch.equal(weights(module), weights(good))


def test_a_training_that_breaks_right_after_it_was_resumed_leaves_what_was_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Killed at step 25, kept at 23, broken at 30, read at 40: the averages after 23 steps."""
    monkeypatch.setattr("generators.training.loop.Watch", Lazy)
    keep = TrainingState(tmp_path, every_steps=23)
    for breaks, expected in ((25, KeyboardInterrupt), (7, TrainingError)):
        module = network()
        calls = itertools.count()

        def loss(
            x: Tensor, y: Tensor, module: nn.Module = module, calls: Any = calls, last: int = breaks
        ) -> Tensor:
            bad = next(calls) == last
            if bad and last == 25:
                raise KeyboardInterrupt
            return mean_of(module)(x, y) * (math.nan if bad else 1.0)

        with pytest.raises(expected):
            run(module, loss, keep=keep)
    good = network()
    averaged(good, 23)
    assert torch.equal(weights(module), weights(good))


def test_batches_that_end_early_are_named() -> None:
    module = network()
    batches = itertools.islice(draw(torch.Generator()), 3)
    with pytest.raises(InvalidInputError, match=r"net: batches ended at step 3 of 45; draw them"):
        train(module, mean_of(module), batches, SCHEDULE, stage="net")


class Remembering(nn.Module):
    """A line and a mean of what it saw, which is no parameter, as a codebook is not."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(2, 1)
        self.register_buffer("seen", torch.zeros(2))
        self.register_buffer("made", torch.ones(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        self.seen.lerp_(x.mean(0), 0.5)
        found: Tensor = self.line(x)
        return found


@pytest.mark.parametrize("lazy", [False, True])
def test_buffers_are_put_back_with_the_last_good_weights(
    lazy: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Broken at step 5: as after step 4, or where it was last read, after step 0."""
    if lazy:
        monkeypatch.setattr("generators.training.loop.Watch", Lazy)
    module, expected = Remembering(), Remembering()
    rows = [torch.full((3, 2), math.nan if i == 5 else 1.0 + i) for i in range(30)]
    with torch.no_grad():
        for x in rows[: 1 if lazy else 5]:
            expected(x)

    def loss(x: Tensor) -> Tensor:
        return module(x).square().mean()

    batches = ((x,) for x in rows)
    keep = TrainingState(tmp_path, every_s=1e9)
    with pytest.raises(TrainingError, match="line: loss is nan at step 5 of 30") as caught:
        train(module, loss, batches, Schedule(30, 1e-3), stage="line", keep=keep)
    assert torch.equal(module.seen, expected.seen)
    kept, _ = checkpoint.load(Path(str(caught.value).rpartition(" in ")[2]))
    assert set(kept) == {"line.weight", "line.bias", "seen"}  # what load_state_dict takes
    assert torch.equal(kept["seen"], expected.seen)


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
