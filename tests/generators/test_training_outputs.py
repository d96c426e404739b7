"""What a training leaves: sample pictures, and files that are whole."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from generators.training.errors import TrainingError
from generators.training.files import file_name, write_whole
from generators.training.loop import Schedule, train
from generators.training.pictures import GAP, Pictures, sheet
from loop.errors import InvalidInputError

SCHEDULE = Schedule(25, 1e-2, warmup=5, ema=0.9)


def test_a_sheet_holds_every_image_at_its_place() -> None:
    """Labels 0, 1, 2 are black, grey (127.5 to the even 128) and white."""
    labels = np.arange(5 * 3 * 4).reshape(5, 3, 4).astype(np.uint8) % 3
    found = sheet(labels)
    assert found.shape == (2 * 3 + GAP, 3 * 4 + 2 * GAP)
    grey = np.array([0, 128, 255], dtype=np.uint8)[labels]
    for i, image in enumerate(grey):
        y, x = (i // 3) * (3 + GAP), (i % 3) * (4 + GAP)
        assert np.array_equal(found[y : y + 3, x : x + 4], image)
    assert (found[3 : 3 + GAP] == 255).all()
    assert (found[3 + GAP :, 2 * (4 + GAP) :] == 255).all()  # the free place


def test_grey_values_are_those_of_a_picture() -> None:
    found = sheet(np.array([[[-0.1, 0.0, 0.2, 1.0, 1.7]]]))
    assert found.tolist() == [[0, 0, 51, 255, 255]]


@pytest.mark.parametrize(
    "images", [np.zeros((2, 2)), np.zeros((0, 2, 2)), np.full((1, 1, 1), np.nan)]
)
def test_other_pictures_are_refused(images: NDArray[np.float64]) -> None:
    with pytest.raises(InvalidInputError, match="pictures have"):
        sheet(images)


def test_intervals_of_pictures_are_checked(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="pictures every 0 steps; expected 1 or more"):
        Pictures(tmp_path, lambda: np.zeros((1, 1, 1)), every=0)


def batches() -> Iterator[tuple[Tensor]]:
    generator = torch.Generator().manual_seed(1)
    while True:
        yield (torch.randn(8, 4, generator=generator),)


def test_pictures_show_the_averaged_weights_and_leave_the_training_alone(tmp_path: Path) -> None:
    """They draw from the global stream, which dropout uses, too; the training does not notice.

    A training that breaks at step 10 leaves the averages after 10 steps: those of the picture.
    """
    shown: list[tuple[Tensor, bool]] = []

    def training(*, pictures: bool = False, broken_at: int | None = None) -> Tensor:
        torch.manual_seed(0)
        line = nn.Linear(4, 4)
        module = nn.Sequential(nn.Dropout(0.5), line)
        calls = itertools.count()

        def loss(x: Tensor) -> Tensor:
            value = (module(x) - x).square().mean()
            return value * math.nan if next(calls) == broken_at else value

        def draw() -> NDArray[np.float32]:
            shown.append((line.weight.detach().clone(), module.training))
            return torch.rand(2, 3, 3).numpy()

        with contextlib.nullcontext() if broken_at is None else pytest.raises(TrainingError):
            train(
                module,
                loss,
                batches(),
                SCHEDULE,
                stage="A line",
                pictures=Pictures(tmp_path / "pictures", draw, every=10) if pictures else None,
            )
        return line.weight.detach().clone()

    assert torch.equal(training(), training(pictures=True))
    (first, mode), (second, _) = shown
    assert not mode
    assert torch.equal(first, training(broken_at=10))
    assert torch.equal(second, training(broken_at=20))
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == ["a-line-000010.png", "a-line-000020.png"]
    for name in names:
        with Image.open(tmp_path / "pictures" / name) as image:
            assert (image.size, image.mode) == ((6 + GAP, 3), "L")


def test_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    write_whole(path, b"one")
    write_whole(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(OSError, match="b"):
        write_whole(path / "c", b"three")
    assert file_name("Joint flow (256²)") == "joint-flow-256"
    assert file_name("²") == "training"
