"""A training that is killed and goes on ends bit for bit as one that was not."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from generators.networks.mlp import VectorFlow
from generators.registry import PRESETS
from generators.training.flow_matching import Rows, RunSettings, train_head
from generators.training.loop import Schedule, train
from generators.training.precision import Computation
from generators.training.resume import Stepped, TrainingState, optimiser_tensors, restore_optimiser
from loop.errors import InvalidInputError
from loop.protocols import silent

pytestmark = pytest.mark.usefixtures("one_thread")

SCHEDULE = Schedule(40, 2e-2, warmup=5, ema=0.9)


class KilledError(Exception):
    """As if the process had ended here."""


def weights(module: nn.Module) -> Tensor:
    return torch.cat([t.detach().reshape(-1) for t in module.state_dict().values()])


def training(
    keep: TrainingState | None,
    *,
    stop_at: int | None = None,
    bits: Any = np.random.PCG64,
    seed: int = 3,
    factor: float = 1.0,
    **options: Any,
) -> tuple[float, Tensor]:
    """A network with dropout, batch norm and convolutions; batches from both libraries' streams.

    Noise is drawn inside the loss, too. Returns the final loss and all weights and buffers.
    """
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4),
        nn.Dropout(0.3),
        nn.Conv2d(4, 4, 3),
        nn.Flatten(),
        nn.Linear(16, 1),
    ).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    rng = np.random.Generator(bits(seed))
    noise = torch.Generator().manual_seed(seed)
    calls = itertools.count()

    def batches() -> Iterator[tuple[Tensor]]:
        while True:
            yield (torch.from_numpy(rng.normal(size=(8, 2, 6, 6))).float(),)

    def loss(x: Tensor) -> Tensor:
        if stop_at is not None and next(calls) == stop_at:
            raise KilledError
        y = module(x + 0.1 * torch.randn(x.shape, generator=noise))
        return factor * (y[:, 0] - x.mean((1, 2, 3))).square().mean()

    given: dict[str, Any] = {"schedule": SCHEDULE, "streams": (rng, noise)} | options
    final = train(module, loss, batches(), stage="A net", keep=keep, **given)
    return final, weights(module)


# Killed


@pytest.mark.parametrize("bits", [np.random.PCG64, np.random.MT19937, np.random.Philox])
def test_a_resumed_training_is_bit_equal(bits: Any, tmp_path: Path) -> None:
    """Killed at steps 23 and 28, kept at 20 and 25; the last attempt goes on from there."""
    expected = training(None, bits=bits)
    keep = TrainingState(tmp_path, every_steps=5)
    for stop_at in (23, 8):
        with pytest.raises(KilledError):
            training(keep, bits=bits, stop_at=stop_at)
    shown: list[int] = []

    def progress(stage: str, done: int, total: int, **figures: float) -> None:
        assert (stage, total) == ("A net", 40)
        shown.append(done if figures else -done)

    final, found = training(keep, bits=bits, progress=progress)
    assert (final, shown) == (expected[0], [-25, 39, -40])
    assert torch.equal(found, expected[1])
    assert [path.name[:6] for path in tmp_path.iterdir()] == ["a-net-"]


def test_a_finished_training_is_not_done_again(tmp_path: Path) -> None:
    """So that what follows it can be resumed; its streams end where they had ended."""
    folder = tmp_path / "a" / "b"
    keep = TrainingState(folder)
    expected = training(keep)
    again = training(keep, stop_at=0)
    assert again[0] == expected[0]
    assert torch.equal(again[1], expected[1])
    (path,) = folder.iterdir()
    (folder / f".{path.name}.12.part").touch()  # of a process that was killed while it wrote
    (folder / "other").touch()
    keep.clear()
    assert [path.name for path in folder.iterdir()] == ["other"]
    (folder / "other").unlink()
    keep.clear()
    assert not folder.exists()
    keep.clear()
    with pytest.raises(KilledError):
        training(keep, stop_at=0)


def test_the_global_stream_and_the_given_ones_end_where_they_would(tmp_path: Path) -> None:
    """What is drawn after a resumed training is what would have been drawn."""
    drawn = []
    for keep in (None, TrainingState(tmp_path, every_steps=10), TrainingState(tmp_path)):
        training(keep)
        drawn.append(torch.rand(3))
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], drawn[2])  # of the finished training that is only read


def test_without_streams_the_batches_are_drawn_again(tmp_path: Path) -> None:
    """A finite list of batches has a place of its own: the middle of an epoch."""
    rng = np.random.default_rng(0)
    given = [(torch.from_numpy(rng.normal(size=(4, 3))).float(),) for _ in range(40)]

    def attempt(keep: TrainingState | None, stop_at: int | None = None) -> Tensor:
        torch.manual_seed(0)
        module = nn.Linear(3, 1)
        calls = itertools.count()

        def loss(x: Tensor) -> Tensor:
            if next(calls) == stop_at:
                raise KilledError
            return (module(x)[:, 0] - x[:, 0]).square().mean()

        train(module, loss, iter(given), SCHEDULE, stage="list", keep=keep)
        return weights(module)

    expected = attempt(None)
    keep = TrainingState(tmp_path, every_steps=7)
    with pytest.raises(KilledError):
        attempt(keep, stop_at=25)
    assert torch.equal(attempt(keep), expected)


def test_the_scale_of_half_precision_is_kept(tmp_path: Path) -> None:
    """fp16 halves its scale where gradients overflow; a resumed training knows that."""
    given: dict[str, Any] = {"how": Computation("fp16"), "factor": 1e4}
    expected = training(None, **given)
    keep = TrainingState(tmp_path, every_steps=4)
    with pytest.raises(KilledError):
        training(keep, **given, stop_at=18)
    found = training(keep, **given)
    assert found[0] == expected[0]
    assert torch.equal(found[1], expected[1])


class Judged:
    """A loss with a weight that grows with the step and a judge that learns along."""

    def __init__(self, module: nn.Module, *, forgets: bool = False) -> None:
        self.module = module
        self.judge = nn.Linear(1, 1)
        self.optimiser = torch.optim.AdamW(self.judge.parameters(), lr=0.05)
        self.step = 0
        self.forgets = forgets
        self.stop_at = -1

    def __call__(self, x: Tensor) -> Tensor:
        if self.step == self.stop_at:
            raise KilledError
        y = self.module(x)
        self.optimiser.zero_grad()
        (self.judge(y.detach()) - x[:, :1]).square().mean().backward()
        self.optimiser.step()
        return (y - x[:, 1:]).square().mean() + 0.1 * self.step * self.judge(y).square().mean()

    def state(self) -> dict[str, Tensor]:
        if self.forgets:
            return {}
        moments = {f"moments.{k}": v for k, v in optimiser_tensors(self.optimiser).items()}
        return moments | dict(self.judge.state_dict())

    def restore(self, state: Mapping[str, Tensor]) -> None:
        if self.forgets:
            return
        self.judge.load_state_dict({k: state[k] for k in self.judge.state_dict()})
        start = "moments."
        moments = {k[len(start) :]: v for k, v in state.items() if k.startswith(start)}
        restore_optimiser(self.optimiser, moments)


@pytest.mark.parametrize("forgets", [False, True])
def test_what_a_loss_keeps_is_kept(forgets: bool, tmp_path: Path) -> None:
    """One that forgets its judge ends elsewhere; the step it is told, not counted."""

    def attempt(keep: TrainingState | None, stop_at: int = -1) -> Tensor:
        torch.manual_seed(0)
        module = nn.Linear(2, 1)
        loss = Judged(module, forgets=forgets)
        loss.stop_at = stop_at
        draws = torch.Generator().manual_seed(0)

        def batches() -> Iterator[tuple[Tensor]]:
            while True:
                yield (torch.randn(6, 2, generator=draws),)

        train(module, loss, batches(), SCHEDULE, stage="judged", streams=(draws,), keep=keep)
        return weights(module)

    expected = attempt(None)
    keep = TrainingState(tmp_path, every_steps=8)
    with pytest.raises(KilledError):
        attempt(keep, stop_at=20)
    assert torch.equal(attempt(keep), expected) != forgets


def test_a_loss_is_told_the_step(tmp_path: Path) -> None:
    told: list[int] = []
    module = nn.Linear(2, 1)

    def loss(step: int, x: Tensor) -> Tensor:
        told.append(step)
        if len(told) == 13:
            raise KilledError
        return module(x).square().mean()

    given = [(torch.ones(2, 2),)] * 40
    keep = TrainingState(tmp_path, every_steps=5)
    initial = {k: v.clone() for k, v in module.state_dict().items()}
    for _ in range(2):
        module.load_state_dict(initial)
        with contextlib.suppress(KilledError):
            train(module, Stepped(loss), iter(given), SCHEDULE, stage="told", keep=keep)
    assert told == [*range(13), *range(10, 40)]


CHILD = """\
import os, pathlib, signal, sys
import torch
from generators.training import resume
from tests.generators.test_training_resume import head

torch.set_num_threads(1)
save, left = resume.Kept.save, [3]
def killing(self, live):
    save(self, live)
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
resume.Kept.save = killing
head(resume.TrainingState(pathlib.Path(sys.argv[1]), every_steps=9))
"""


def head(keep: TrainingState | None) -> tuple[float, Tensor]:
    """The conditional of the vectors, trained as the joint flow does with the tiny preset."""
    rng = np.random.default_rng(0)
    states = torch.from_numpy(rng.normal(size=(60, 3))).float()
    rows = Rows(states, rng.normal(size=(60, 2)), np.full(60, 1 / 60), states[:30])
    torch.manual_seed(int(rng.integers(2**63)))
    network = VectorFlow(size=3, context=0, properties=2, width=32, depth=2)
    run = RunSettings(
        asked=[True, False],
        settings=replace(PRESETS["tiny"], head_first_steps=40),
        fresh=True,
        device="cpu",
        rng=rng,
        progress=silent,
        keep=keep,
    )
    none = torch.zeros(60, 0)
    final = train_head(network, rows, context=none, plain_context=none[:30], run=run)
    return final, weights(network)


def test_a_killed_process_is_taken_up_by_the_next(tmp_path: Path) -> None:
    """SIGKILL right after the third state was kept, at step 27 of 40."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    (path,) = tmp_path.iterdir()
    before = path.stat().st_mtime_ns
    found, expected = head(TrainingState(tmp_path)), head(None)
    assert found[0] == expected[0]
    assert torch.equal(found[1], expected[1])
    assert list(tmp_path.iterdir()) == [path]  # the same training
    assert path.stat().st_mtime_ns > before


# Another training, or a damaged file


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 4},
        {"schedule": Schedule(40, 1e-2, warmup=5, ema=0.9)},
        {"schedule": Schedule(41, 2e-2, warmup=5, ema=0.9)},
        {"how": Computation("bf16")},
    ],
)
def test_another_training_begins_anew(other: dict[str, Any], tmp_path: Path) -> None:
    keep = TrainingState(tmp_path, every_steps=10)
    training(keep)
    assert torch.equal(training(keep, **other)[1], training(None, **other)[1])
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("place", ["start", "header", "middle", "end", "cut", "empty"])
def test_a_damaged_state_is_named(place: str, tmp_path: Path) -> None:
    keep = TrainingState(tmp_path, every_steps=5)
    with pytest.raises(KilledError):
        training(keep, stop_at=12)
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    if place in ("cut", "empty"):
        data = data[:-1] if place == "cut" else bytearray()
    else:
        word = data.index(b'\\"step\\": 10') + 12  # of the state's figures
        data[{"start": 0, "header": word, "middle": len(data) // 2, "end": -1}[place]] ^= 1
    path.write_bytes(data)
    with pytest.raises(InvalidInputError, match=r"training state .* is damaged; remove it, and A"):
        training(keep)
    path.unlink()
    assert torch.equal(training(keep)[1], training(None)[1])


def test_intervals_are_checked(tmp_path: Path) -> None:
    wrong: list[dict[str, Any]] = [{"every_s": 0.0}, {"every_steps": 0}]
    for given in wrong:
        with pytest.raises(InvalidInputError, match="expected intervals above 0"):
            TrainingState(tmp_path, **given)


def test_a_time_may_be_the_interval(tmp_path: Path) -> None:
    """1e-9 s have gone by after every step; the file is the last one's when it stops."""
    keep = TrainingState(tmp_path, every_s=1e-9)
    with pytest.raises(KilledError):
        training(keep, stop_at=1)
    assert torch.equal(training(keep)[1], training(None)[1])


# Figures


def test_figures_are_kept_once_a_step(tmp_path: Path) -> None:
    """Lines of a killed training that its successor writes again are removed, others stay."""
    metrics = tmp_path / "run" / "metrics.jsonl"
    keep = TrainingState(tmp_path, every_steps=15, metrics=metrics)
    training(keep, seed=9)
    with pytest.raises(KilledError):
        training(keep, stop_at=25)
    with metrics.open("a") as file:
        file.write('{"run": "torn')
    training(keep)
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    runs = list(dict.fromkeys(line["run"] for line in lines))
    assert [(runs.index(line["run"]), line["step"]) for line in lines] == [
        *((0, step) for step in (0, 20, 39)),
        *((1, step) for step in (0, 20, 39)),
    ]
    for line in lines:
        assert line["stage"] == "A net"
        assert line["learning_rate"] == SCHEDULE.rate(line["step"])
        assert line["loss"] > 0
        assert line["gradient_norm"] > 0
        assert line["samples_per_s"] > 0
