"""``edit``: variations, repairs, larger and finer micrographs, parts for parts, as typed."""

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


FRACTION = "gamma_prime_fraction"


def test_variations_may_be_asked_for_more(design: str) -> None:
    """The errors are of what the simulators find of the images; a pixel is 1/256."""
    words = ("vary", NAME, design, "-n", "4", "--strength", "0.6", "--score", "--json")
    plain, asked, range_asked = (
        json.loads(call(*words, *more).stdout)
        for more in ((), ("--set", f"{FRACTION}=0.62"), ("--set", f"{FRACTION}=0.45..0.6"))
    )
    assert [d["error_%"] for d in asked["designs"]] == pytest.approx([0] * 4, abs=100 / 256)
    assert all(d[f"requested_{FRACTION}"] == 0.62 for d in asked["designs"])
    assert len({d[f"requested_{FRACTION}"] for d in range_asked["designs"]}) == 4
    assert f"requested_{FRACTION}" not in plain["designs"][0]
    assert asked["guidance"] == 2.0
    stronger = call(*words, "--set", f"{FRACTION}=0.62", "--guidance", "4")
    assert json.loads(stronger.stdout)["guidance"] == 4.0
    far = call(*words, "--set", "density_g_per_cm3=19")
    assert "warning:" in far.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--guidance", "3"), "--guidance says how strongly --set is followed; add --set"),
        (("--set", "gamma_prime_fractio=0.5"), "did you mean 'gamma_prime_fraction'"),
        (("--set", FRACTION), "expected PROPERTY=VALUE"),
        (("--set", f"{FRACTION}=0.5", "--set", f"{FRACTION}=0.6"), "is asked for twice"),
        (("--set", f"{FRACTION}=high"), "expected a number, or a range"),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_line(
    design: str, words: tuple[str, ...], message: str
) -> None:
    found = call("vary", NAME, design, *words)
    assert found.exit_code == 2
    assert message in found.stderr
    assert found.stderr.count("error:") == 1


def test_a_repair_leaves_the_sound_pixels_alone(design: str) -> None:
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
    mask[:8, :8] = 255
    Image.fromarray(mask).save("mask.png")
    for one in written("repair", NAME, design, "mask.png", "-n", "2"):
        kept = np.array(one["microstructure"])[mask == 0]
        np.testing.assert_array_equal(kept, image_of(design)[mask == 0])
    led = written("repair", NAME, design, "mask.png", "-n", "2", "--set", f"{FRACTION}=0.6")
    for one in led:
        kept = np.array(one["microstructure"])[mask == 0]
        np.testing.assert_array_equal(kept, image_of(design)[mask == 0])
        assert one[f"requested_{FRACTION}"] == 0.6
    Image.fromarray(mask[:5]).save("small.png")
    refused = call("repair", NAME, design, "small.png")
    assert refused.exit_code == 2
    assert "mask of damaged pixels has shape (5, 16)" in refused.output


def test_a_micrograph_grows_around_itself(design: str) -> None:
    (one,) = written("extend", NAME, design, "--size", "32x32")
    found = np.array(one["microstructure"])
    np.testing.assert_array_equal(found[:SIDE, :SIDE], image_of(design))
    down, along = found != np.roll(found, -1, 0), found != np.roll(found, -1, 1)
    inside = np.concatenate([down[:-1].ravel(), along[:, :-1].ravel()]).mean()
    assert (down[-1].mean() + along[:, -1].mean()) / 2 <= 2 * inside
    for size, why in (("20x16", "multiples of"), ("16x16", "larger"), ("big", "expected HxW")):
        refused = call("extend", NAME, design, "--size", size)
        assert refused.exit_code == 2
        assert why in refused.output


def test_a_coarse_micrograph_gets_fine(design: str) -> None:
    coarse = image_of(design).reshape(SIDE // 8, 8, SIDE // 8, 8).mean((1, 3))
    Image.fromarray((255 * coarse).round().astype(np.uint8)).save("coarse.png")
    np.save("coarse.npy", (255 * coarse).round()[None] / 255)
    for one, same in zip(
        written("refine", NAME, "coarse.png", "-n", "2", "--set", "density_g_per_cm3=7.4"),
        written("refine", NAME, "coarse.npy", "-n", "2", "--set", "density_g_per_cm3=7.4"),
        strict=True,
    ):
        assert np.array(one["microstructure"]).shape == (SIDE, SIDE)
        assert one["requested_density_g_per_cm3"] == 7.4
        assert one["id"] == same["id"]
    Image.fromarray(np.zeros((3, 3), dtype=np.uint8)).save("odd.png")
    refused = call("refine", NAME, "odd.png")
    assert refused.exit_code == 2
    assert "divides 16 x 16 by one whole factor" in " ".join(refused.output.split())
    two = call("refine", NAME, "coarse.png", "coarse.png")
    assert "expected fractions of 1 phases" in " ".join(two.output.split())


def test_a_composition_for_an_image(design: str) -> None:
    """By file or by design the same, and scored with the fraction that the image has."""
    labels = image_of(design)
    Image.fromarray(labels).save("labels.png")
    words = ("-n", "3", "--score")
    by_file, by_id = (written("compose", NAME, given, *words) for given in ("labels.png", design))
    assert [d["id"] for d in by_file] == [d["id"] for d in by_id]
    for one in by_file:
        np.testing.assert_array_equal(one["microstructure"], labels)
        assert one[FRACTION] == pytest.approx(labels.mean())
    assert len({d["gamma:Al"] for d in by_file}) == 3
    wished = written("compose", NAME, design, "-n", "3", "--set", "density_g_per_cm3=7.3")
    assert wished[0]["requested_density_g_per_cm3"] == 7.3
    Image.fromarray(np.full((SIDE, SIDE), 7, dtype=np.uint8)).save("other.png")
    Image.fromarray(labels[:8]).save("small.png")
    for given, why in (
        ("other.png", "expected labels 0 to 1"),
        ("small.png", "this flow edits images of (16, 16)"),
        ("nowhere.png", "No such file"),
        ("zz", "no candidate has an id"),
    ):
        refused = call("compose", NAME, given)
        assert refused.exit_code == 2, refused.output
        assert why in refused.output


def test_a_picture_for_a_composition(design: str) -> None:
    with Ledger.open(LEDGER, create=False) as ledger:
        given = ledger.candidate(design).phase_compositions
    assert given is not None
    found = written("picture", NAME, design, "-n", "3", "--set", f"{FRACTION}=0.5", "--score")
    assert len({d["id"] for d in found}) == 3
    for one in found:
        columns = [f"{p}:{e}" for p in ("gamma", "gamma_prime") for e in ("Ni", "Al", "Cr")]
        assert [one[c] for c in columns] == pytest.approx(given.ravel(), abs=1e-12)
        assert one["status"] == "ok"
    words = "gamma: Ni-24Cr-6Al at%; gamma_prime: Ni74Al22Cr4"
    for one in written("picture", NAME, words, "-n", "2"):
        assert one["gamma:Cr"] == pytest.approx(0.24)
        assert np.array(one["microstructure"]).shape == (SIDE, SIDE)
    for given_words, more, why in (
        ("gamma: Ni3Al", (), "has no gamma_prime"),
        (words, ("--process", "temperature_K=3"), "unknown process variable"),
        (design, ("--label", "processing=CAST"), "are for compositions in words"),
    ):
        refused = call("picture", NAME, given_words, *more)
        assert refused.exit_code == 2, refused.output
        assert why in " ".join(refused.output.split())
