"""Trainings that break: the last good weights stay, and the step is named."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from generators.training import checkpoint
from generators.training.errors import TrainingError
from generators.training.loop import Schedule, train
from generators.training.metrics import Watch
from generators.training.resume import TrainingState
from loop.errors import InvalidInputError
from tests.generators.small_trainings import (
    SCHEDULE,
    Seen,
    by_hand,
    draw,
    mean_of,
    network,
    plain,
    run,
    weights,
)

pytestmark = pytest.mark.usefixtures("one_thread")


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
    average, _ = by_hand(good, 30)
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
    assert run(late, progress=seen) == plain(good)
    assert torch.equal(weights(late), weights(good))
    assert len(seen.losses) == 4  # of steps 0, 20, 40, 44

    module, good = network(), network()
    calls = itertools.count()

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return mean_of(module)(x, y) * (math.nan if next(calls) == 30 else 1.0)

    with pytest.raises(TrainingError, match="net: loss is nan at step 30 of 45"):
        run(module, loss)
    by_hand(good, 20)
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
    by_hand(good, 23)
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
