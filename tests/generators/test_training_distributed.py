"""Several processes take the steps of one."""

from __future__ import annotations

import itertools
import math
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from generators.training import distributed
from generators.training.adversarial import AdversarialLoss
from generators.training.distributed import Shared, launch, torchrun_group
from generators.training.loop import Schedule, train
from generators.training.precision import Computation
from generators.training.resume import TrainingState
from loop.errors import InvalidInputError
from tests.generators.test_adversarial import SMALL, designs, pair

ROWS = 7  # over two processes: 4 and 3
STEPS = 30


class Net(nn.Module):
    """Called by another name than forward, as autoencoders are."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Sequential(nn.Linear(3, 8), nn.SiLU(), nn.Linear(8, 2))

    def encode(self, x: Tensor) -> Tensor:
        found: Tensor = self.inner(x)
        return found


def batches(rows: int) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    while True:
        x = torch.randn(rows, 3, generator=generator)
        yield x, x[:, :2] * x[:, 1:]


def training(steps: int, parts: int = 1, keep: Path | None = None) -> tuple[nn.Module, float]:
    """Without clipping, so that gradients are what they are."""
    torch.set_num_threads(1)
    net = Net()
    final = train(
        net,
        lambda x, y: (net.encode(x) - y).square().mean(),
        batches(ROWS),
        Schedule(steps, 1e-2, warmup=5, clip=math.inf, ema=0.9),
        stage="net",
        how=Computation(parts=parts),
        keep=None if keep is None else TrainingState(keep, every_steps=10),
    )
    return net, final


def adversaries(steps: int = 3) -> tuple[nn.Module, nn.Module]:
    """Generator and critic, which is trained beside it, on the rows that are this process's."""
    network, critic = pair()
    schedule = Schedule(steps, 1e-2, warmup=1)
    loss = AdversarialLoss(network, critic, SMALL, schedule, torch.Generator().manual_seed(0))
    values = torch.randn(ROWS, 2, generator=torch.Generator().manual_seed(1))
    batch = (*designs(ROWS), values, values > 0)
    train(network, loss, itertools.repeat(batch), schedule, stage="pair")
    return network, critic


def member(device: str, folder: Path) -> None:
    """What each of the processes does."""
    assert device == "cpu"
    found: dict[str, Tensor] = {}
    for name, steps, parts in (("one", 1, 1), ("parts", 1, 2), ("all", STEPS, 1)):
        net, final = training(steps, parts, folder / "kept" if name == "all" else None)
        found |= {f"{name}.{k}": v.detach() for k, v in net.named_parameters()}
        found |= {
            f"{name}.grad.{k}": p.grad for k, p in net.named_parameters() if p.grad is not None
        }
        found[f"{name}.final"] = torch.tensor(final)
    for name, module in zip(("generator", "critic"), adversaries(), strict=True):
        found |= {f"{name}.{k}": v.detach().contiguous() for k, v in module.named_parameters()}
    save_file(found, folder / f"{distributed.rank()}-of-{distributed.size()}")
    try:
        Shared(net, nn.Identity()).rows((torch.zeros(1, 3),))
    except InvalidInputError as error:
        assert "a batch of 1 rows is shared by 2 processes" in str(error)  # noqa: PT017
    else:
        raise AssertionError("a row for each process is needed")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Tensor]]]:
    folder = tmp_path_factory.mktemp("ranks")
    launch(member, 2, folder)
    return folder, [load_file(folder / f"{rank}-of-2") for rank in range(2)]


def test_both_processes_have_the_same_weights(
    ranks: tuple[Path, list[dict[str, Tensor]]],
) -> None:
    first, second = ranks[1]
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


@pytest.mark.parametrize("name", ["one", "parts"])
def test_the_gradient_is_that_of_the_whole_batch(
    ranks: tuple[Path, list[dict[str, Tensor]]], name: str
) -> None:
    """Of 7 rows shared as 4 and 3: sums in another order, off by some float32 roundings."""
    net, final = training(1)
    found = ranks[1][0]
    assert float(found[f"{name}.final"]) == pytest.approx(final, rel=1e-6)
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None
        bound = 1e-6 * float(parameter.grad.abs().max())
        assert torch.allclose(found[f"{name}.grad.{key}"], parameter.grad, rtol=0, atol=bound), key


def test_a_training_ends_where_a_single_process_does(
    ranks: tuple[Path, list[dict[str, Tensor]]],
) -> None:
    """Adam's first steps follow the sign of a gradient: roundings grow to 1e-4 in 30 steps."""
    net, final = training(STEPS)
    found = ranks[1][0]
    assert float(found["all.final"]) == pytest.approx(final, rel=1e-3)
    for key, parameter in net.named_parameters():
        assert torch.allclose(found[f"all.{key}"], parameter, atol=1e-4), key


def test_the_first_process_alone_keeps_the_state(
    ranks: tuple[Path, list[dict[str, Tensor]]],
) -> None:
    """Any number of processes may go on from it: here it is finished, and one reads it."""
    folder = ranks[0] / "kept"
    (path,) = folder.iterdir()
    before = path.stat().st_mtime_ns
    net, final = training(STEPS, keep=folder)
    assert path.stat().st_mtime_ns == before
    assert final == pytest.approx(float(ranks[1][0]["all.final"]), rel=1e-6)
    assert torch.equal(net.inner[0].weight, ranks[1][0]["all.inner.0.weight"])  # type: ignore


def test_alone_there_is_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with torchrun_group("cpu") as device:
        assert device == "cpu"
        assert (distributed.rank(), distributed.size()) == (0, 1)


def as_torchrun_starts_it(number: int, port: int, folder: Path) -> None:
    os.environ |= {
        "WORLD_SIZE": "2",
        "RANK": str(number),
        "LOCAL_RANK": str(number),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    with torchrun_group("cpu") as device:
        shared = Shared(nn.Linear(1, 1), nn.Identity())
        mean = shared.mean(torch.tensor(float(number)))
        (folder / f"{distributed.rank()}").write_text(f"{device} {float(mean)}")
    assert distributed.size() == 1


def test_the_group_of_torchrun_is_joined(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(as_torchrun_starts_it, (port, tmp_path), nprocs=2)  # type: ignore
    assert [(tmp_path / str(rank)).read_text() for rank in range(2)] == ["cpu 0.5"] * 2


def test_more_processes_than_cards_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in {"WORLD_SIZE": "1000", "RANK": "999", "LOCAL_RANK": "999"}.items():
        monkeypatch.setenv(key, value)
    with (
        pytest.raises(InvalidInputError, match=r"process 999 of this machine has no GPU, there"),
        torchrun_group("cuda"),
    ):
        pass
