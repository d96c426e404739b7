"""``edit``: variations, repairs, larger and finer micrographs, as they are typed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from interface.cli import app
from loop.ledger import Ledger
from tests.campaigns import NAME

LEDGER = Path("runs") / NAME / "ledger.db"
SIDE = 16


def call(*words: str) -> Result:
    return CliRunner().invoke(app, ["edit", *words])


@pytest.fixture
def design(plain_run: Path, in_scratch: Path) -> str:
    """A design of a finished run that lies in the current directory."""
    shutil.copytree(plain_run, in_scratch, dirs_exist_ok=True)
    with Ledger.open(LEDGER, create=False) as ledger:
        frame = ledger.evaluations(ledger.campaign_id(), columns=("id", "status"))
    return str(frame.loc[frame["status"] == "ok", "id"].iloc[0])


def image_of(one: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    with Ledger.open(LEDGER, create=False) as ledger:
        image = ledger.candidate(one).microstructure
    assert image is not None
    return image


def written(*words: str) -> list[dict[str, Any]]:
    found = call(*words, "--output", "designs.json")
    assert found.exit_code == 0, found.output
    document = json.loads(Path("designs.json").read_text())
    Path("designs.json").unlink()
    designs: list[dict[str, Any]] = document["designs"]
    return designs


def test_variations_are_scored_and_drawn(design: str) -> None:
    found = call("vary", NAME, design, "-n", "3", "--score", "--pictures", "three.png", "--json")
    assert found.exit_code == 0, found.output
    designs = json.loads(found.stdout)["designs"]
    assert len({d["id"] for d in designs} | {design}) == 4
    assert all(d["status"] == "ok" and d["density_g_per_cm3"] > 0 for d in designs)
    assert np.asarray(Image.open("three.png")).shape == (2 * SIDE + 4, 3 * (2 * SIDE + 4))


def test_a_repair_leaves_the_sound_pixels_alone(design: str) -> None:
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
    mask[:8, :8] = 255
    Image.fromarray(mask).save("mask.png")
    for one in written("repair", NAME, design, "mask.png", "-n", "2"):
        kept = np.array(one["microstructure"])[mask == 0]
        np.testing.assert_array_equal(kept, image_of(design)[mask == 0])
    Image.fromarray(mask[:5]).save("small.png")
    refused = call("repair", NAME, design, "small.png")
    assert refused.exit_code == 2
    assert "mask of damaged pixels has shape (5, 16)" in refused.output


def test_a_micrograph_grows(design: str) -> None:
    (one,) = written("extend", NAME, design, "--size", "32x16")
    assert np.array(one["microstructure"]).shape == (32, 16)
    for size, why in (("20x16", "multiples of"), ("big", "expected HxW")):
        refused = call("extend", NAME, design, "--size", size)
        assert refused.exit_code == 2
        assert why in refused.output


def test_a_coarse_micrograph_gets_fine(design: str) -> None:
    coarse = image_of(design).reshape(SIDE // 8, 8, SIDE // 8, 8).mean((1, 3))
    Image.fromarray((255 * coarse).round().astype(np.uint8)).save("coarse.png")
    for one in written("refine", NAME, "coarse.png", "-n", "2"):
        assert np.array(one["microstructure"]).shape == (SIDE, SIDE)
    Image.fromarray(np.zeros((3, 3), dtype=np.uint8)).save("odd.png")
    refused = call("refine", NAME, "odd.png")
    assert refused.exit_code == 2
    assert "divides 16 x 16 by one whole factor" in " ".join(refused.output.split())
