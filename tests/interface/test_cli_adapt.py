"""``adapt`` and ``graded``: trained beside the generator, found again, refused in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import typer
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner, Result

from interface import cli_adapt
from interface.cli import OneLineErrors
from loop.ledger import Ledger
from tests import libraries
from tests.campaigns import NAME, write_campaign

LEDGER = Path("runs") / NAME / "ledger.db"
KEPT = LEDGER.parent / "checkpoints" / "adapters"
TRAINING = ("--images", "coarse", "--steps", "4")

app = typer.Typer(cls=OneLineErrors)
cli_adapt.register(app)


def call(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def scored() -> int:
    with Ledger.open(LEDGER, create=False) as ledger:
        return len(ledger.evaluations(ledger.campaign_id(), columns=("id",)))


def write_labels(folder: Path, images: list[NDArray[np.uint8]]) -> None:
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"new{i}.png")


@pytest.fixture
def run(plain_run: Path, in_scratch: Path) -> Path:
    """A finished run in the current directory, and a folder of coarser micrographs."""
    shutil.copytree(plain_run, in_scratch, dirs_exist_ok=True)
    blobs = libraries.blobs(5, np.random.default_rng(0), side=24, width=4.0)
    write_labels(in_scratch / "coarse", blobs)
    return in_scratch


@pytest.mark.usefixtures("run")
def test_an_adapter_is_trained_and_used_again() -> None:
    before = scored()
    found = call("adapt", NAME, *TRAINING, "-n", "3", "--pictures", "new.png", "--json")
    assert found.exit_code == 0, found.output
    answer = json.loads(found.stdout)
    assert [row["images"] for row in answer["statistics"]] == [
        "new micrographs",
        "library",
        "generator",
        "adapted",
    ]
    for row in answer["statistics"]:
        assert 0 < row["gamma_prime_fraction"] < 1
        assert row["gamma_prime_chord_x_px"] > 1
    assert answer["statistics"][0]["count"] == 5
    assert len(answer["designs"]) == 3
    assert np.asarray(Image.open("new.png")).shape == (36, 3 * 36)
    (path,) = KEPT.glob("*.safetensors")
    assert answer["path"] == str(path.absolute()) or Path(answer["path"]).samefile(path)
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["name"] == "coarse"
    assert card["metrics"] == {"images": 5, "steps": 4}
    assert not (KEPT / "training").exists()
    assert scored() == before

    again = call("adapt", NAME, "--name", "coarse", "-n", "3", "--score", "--json")
    assert again.exit_code == 0, again.output
    designs = json.loads(again.stdout)["designs"]
    assert [d["id"] for d in designs] == [d["id"] for d in answer["designs"]]
    assert {d["status"] for d in designs} == {"ok"}
    assert all(d["density_g_per_cm3"] > 0 for d in designs)
    assert list(KEPT.glob("*.safetensors")) == [path]
    table = call("adapt", NAME, "--name", "coarse", "-n", "2")
    assert "gamma_prime_chord_x_px" in table.stdout
    assert scored() == before

    taken = call("adapt", NAME, *TRAINING)
    assert taken.exit_code == 2
    assert "there is an adapter 'coarse' of this generator already" in taken.stderr
    other = call("adapt", NAME, "--name", "coarser")
    assert other.exit_code == 2
    assert "did you mean 'coarse'" in other.stderr


@pytest.mark.usefixtures("run")
def test_a_graded_design_keeps_its_branch() -> None:
    words = ("graded", NAME, "--from", "0.3", "--to", "0.7", "--size", "16x48")
    found = call(*words, "-n", "2", "--steps", "4", "--score", "--pictures", "a.png", "--json")
    assert found.exit_code == 0, found.output
    assert "root mean square of requested less found" in found.stderr
    answer = json.loads(found.stdout)
    rows = answer["statistics"]
    assert [row["x_px"] for row in rows] == ["0-16", "16-32", "32-48"]
    assert [round(row["requested"], 4) for row in rows] == [0.3667, 0.5, 0.6333]
    assert all(0 <= row["found"] <= 1 for row in rows)
    assert set(answer["errors"]) == {"windows", "windows_unguided", "trend", "trend_unguided"}
    assert [d["status"] for d in answer["designs"]] == ["ok", "ok"]
    assert np.asarray(Image.open("a.png")).shape == (2 * 16 + 4, 2 * (2 * 48 + 4))
    (path,) = KEPT.glob("*.safetensors")

    again = call(*words, "--along", "y", "--phase", "gamma")
    assert again.exit_code == 0, again.output
    assert "unguided" in again.stdout
    assert list(KEPT.glob("*.safetensors")) == [path]
    anew = call(*words, "--steps", "5")
    assert anew.exit_code == 0, anew.output
    assert list(KEPT.glob("*.safetensors")) != [path]
    assert len(list(KEPT.glob("*.safetensors"))) == 1


@pytest.mark.usefixtures("run")
def test_a_map_is_followed() -> None:
    """As an image or an array the same; with more asked besides, others."""
    grey = np.zeros((4, 4), dtype=np.uint8)
    grey[:2] = 204  # 0.8 above, 0.2 below
    grey[2:] = 51
    Image.fromarray(grey).save("map.png")
    np.save("map.npy", grey[None] / 255)
    words = ("graded", NAME, "-n", "2", "--steps", "20", "--window", "8", "--json")
    answers = []
    for more in (("map.png",), ("map.npy",), ("map.png", "--set", "density_g_per_cm3=7.4")):
        found = call(*words, "--map", *more)
        assert found.exit_code == 0, found.output
        answers.append(json.loads(found.stdout))
    ids = [[d["id"] for d in answer["designs"]] for answer in answers]
    assert ids[0] == ids[1] != ids[2]
    assert answers[2]["designs"][0]["requested_density_g_per_cm3"] == 7.4
    assert "guidance" not in answers[0]
    assert answers[2]["guidance"] == 2.0
    assert [row["requested"] for row in answers[0]["statistics"]] == [pytest.approx(0.5)]
    found = call(*words, "--map", "map.png", "--output", "graded.json")
    assert found.exit_code == 0, found.output
    images = [
        np.array(d["microstructure"])
        for d in json.loads(Path("graded.json").read_text())["designs"]
    ]
    above, below = (np.mean([i[rows].mean() for i in images]) for rows in (slice(8), slice(8, 16)))
    assert above > below + 0.3


GRADED = ("graded", NAME, "--from", "0.3", "--to", "0.7", "--steps", "1")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("adapt", NAME), "say what is new: --images FOLDER"),
        (("adapt", NAME, "--name", "a"), "no adapters yet; give micrographs"),
        (("adapt", NAME, "--name", "a", "--steps", "3"), "add --images FOLDER"),
        (("adapt", NAME, "--images", "nowhere"), "image folder nowhere does not exist"),
        (("adapt", NAME, "--images", "few"), "2 new micrographs; expected at least 4"),
        (("adapt", NAME, "--images", "small"), r"new micrograph 1 of 4 has shape (8, 8)"),
        (("adapt", NAME, "--images", "constant"), "is constant, all gamma"),
        (("adapt", NAME, "--images", "other"), "expected labels 0 to 1"),
        ((*GRADED[:3], "1.5", *GRADED[4:]), "fractions from 1.5 to 0.7; expected 0 to 1"),
        ((*GRADED, "--size", "12"), "--size is '12'; expected HxW in pixels"),
        ((*GRADED, "--size", "8x32"), "images of 32 x 8 px; this flow makes 16 x 16 and larger"),
        ((*GRADED, "--phase", "gamma_prim"), "did you mean 'gamma_prime'"),
        ((*GRADED, "--pictures", "a.jpg"), "expected a name that ends in .png"),
        (("graded", NAME), "say what to follow: --from X --to X, or --map FILE"),
        ((*GRADED, "--map", "few/new0.png"), "say what to follow"),
        (("graded", NAME, "--from", "0.3"), "give --from and --to"),
        (("graded", NAME, "--map", "nowhere.npy"), "not readable as an array of fractions"),
        (("graded", NAME, "--map", "few/new0.png", "--map", "few/new0.png"), "expected (1, h, w)"),
        ((*GRADED, "--guidance", "2"), "add --set PROPERTY=VALUE"),
        (
            (*GRADED, "--size", "16x32", "--set", "density_g_per_cm3=7.4"),
            "properties are known of 16 x 16 px alone",
        ),
    ],
)
def test_what_cannot_be_is_said_in_a_line(run: Path, words: tuple[str, ...], message: str) -> None:
    blob = libraries.blobs(1, np.random.default_rng(0), side=24)[0]
    write_labels(run / "few", [blob] * 2)
    write_labels(run / "small", [blob[:8, :8]] * 4)
    write_labels(run / "constant", [0 * blob] * 4)
    write_labels(run / "other", [3 * blob] * 4)
    found = call(*words)
    assert found.exit_code == 2, found.output
    assert message in found.stderr
    assert found.stderr.count("error:") == 1


def test_a_campaign_that_was_not_run_says_so(in_scratch: Path) -> None:
    write_campaign(in_scratch / NAME)
    found = call(*GRADED)
    assert found.exit_code == 2
    assert "has no trained generator yet" in found.stderr
