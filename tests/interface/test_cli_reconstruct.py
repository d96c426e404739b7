"""``reconstruct``: pictures, label images and errors as a table, from a field or a generator."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner, Result

from flows import assembly
from interface.cli import app
from tests.campaigns import NAME, write_campaign
from tests.generators import test_flow


def call(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


@pytest.fixture
def image(in_scratch: Path) -> Path:
    """Four squares of 5 x 5 pixels in 16 x 16, as 0 and 1."""
    labels = np.zeros((16, 16), dtype=np.uint8)
    for y, x in ((0, 1), (2, 9), (8, 0), (9, 9)):
        labels[y : y + 5, x : x + 5] = 1
    path = in_scratch / "squares.png"
    Image.fromarray(labels).save(path)
    return path


def test_images_are_made_from_a_random_field(image: Path) -> None:
    words = ("-n", "3", "--pictures", "strip.png", "--output", "made", "--json")
    found = call("reconstruct", str(image), *words)
    assert found.exit_code == 0, found.output
    document = json.loads(found.stdout)
    assert document["start"] == "random-field"
    assert document["max_lag_px"] == 8
    assert len(document["images"]) == 3
    assert document["files"] == [f"made/squares_{i}.png" for i in (1, 2, 3)]
    given = np.asarray(Image.open(image))
    for row, file in zip(document["images"], document["files"], strict=True):
        made = np.asarray(Image.open(file))
        assert set(np.unique(made)) == {0, 1}
        assert made.sum() == given.sum()
        assert row["fraction_error"] == 0.0
        assert row["two_point_error"] <= row["start_error"]
        assert row["lineal_path_error"] >= 0.0
    strip = np.asarray(Image.open("strip.png"))
    assert strip.shape == (2 * 16 + 4, 4 * (2 * 16 + 4))
    assert set(np.unique(strip)) == {0, 128, 255}
    again = json.loads(call("reconstruct", str(image), "-n", "3", "--json").stdout)
    assert again["images"] == document["images"]
    other = call("reconstruct", str(image), "-n", "3", "--seed", "1", "--json")
    assert json.loads(other.stdout)["images"] != document["images"]


def test_the_other_phase_and_a_shorter_lag(image: Path) -> None:
    found = call("reconstruct", str(image), "--phase", "0", "--lag", "4")
    assert found.exit_code == 0, found.output
    assert "two_point_error" in found.stdout
    assert len([line for line in found.stdout.splitlines() if "0.60938" in line]) == 4


class Session:
    """A session whose campaign has a trained generator; its ledger opens and closes."""

    ledger = nullcontext()

    def __init__(self, place: object) -> None:
        self.place = place

    def latest(self, arm: str) -> object:
        assert arm == "loop"
        return test_flow.trained("image and compositions")


def test_images_are_made_from_a_trained_generator(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[str, str]] = []

    def open_session(campaign: Path, ledger: object) -> Session:
        opened.append((str(campaign), str(ledger)))
        return Session(ledger)

    monkeypatch.setattr(assembly, "open_session", open_session)
    write_campaign(Path(NAME))
    large = np.kron(np.asarray(Image.open(image)), np.ones((2, 2), dtype=np.uint8))
    Image.fromarray(large).save("large.png")
    found = call("reconstruct", "large.png", "-n", "2", "--campaign", NAME, "--json")
    assert found.exit_code == 0, found.output
    document = json.loads(found.stdout)
    assert document["start"] == "joint-flow"
    assert opened == [(NAME, f"runs/{NAME}/ledger.db")]
    assert [row["fraction_error"] for row in document["images"]] == [0.0, 0.0]
    refused = call("reconstruct", str(image), "--campaign", NAME)
    assert refused.exit_code == 2
    assert "of 16 x 16; the trained joint-flow makes 32 x 32" in refused.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--lag", "9"), "largest lag is 9 px; expected 1 to 8"),
        (("--lag", "0"), "largest lag is 0 px"),
        (("--phase", "7"), "--phase is '7'; expected one of the pixel values"),
        (("-n", "0"), "greater than or equal to 1"),
        (("--ledger", "runs/x.db"), "name it with --campaign too"),
        (("--pictures", "squares.png"), "squares.png exists already"),
        (("--output", "squares.png"), "is a file; expected a folder"),
        (("--output", "a/b"), "folder a does not exist"),
        (("--campaign", "nowhere"), "nowhere"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(
    image: Path, words: tuple[str, ...], message: str
) -> None:
    found = call("reconstruct", str(image), *words)
    assert found.exit_code == 2
    assert message in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1


@pytest.mark.usefixtures("in_scratch")
@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((16, 16), dtype=np.uint8), "has the one pixel value 0"),
        (np.arange(256, dtype=np.uint8).reshape(16, 16), "has 256 pixel values"),
        (np.zeros((16, 16, 3), dtype=np.uint8), "is in colour"),
    ],
)
def test_images_that_are_no_labels_are_refused(pixels: NDArray[np.uint8], message: str) -> None:
    Image.fromarray(pixels).save("bad.png")
    found = call("reconstruct", "bad.png")
    assert found.exit_code == 2
    assert message in found.stderr
    assert call("reconstruct", "missing.png").exit_code == 2


def test_no_file_is_replaced(image: Path) -> None:
    Path("made").mkdir()
    Path("made/squares_2.png").write_text("mine")
    found = call("reconstruct", str(image), "--output", "made")
    assert found.exit_code == 2
    assert "squares_2.png exists already" in found.stderr
    assert [p.name for p in Path("made").iterdir()] == ["squares_2.png"]
