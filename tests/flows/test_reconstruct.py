"""Reading a phase from label images, and the lineal-path error in closed form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flows.reconstruct import (
    lineal_path_errors,
    read_campaign_phase,
    read_phase,
    reconstruct_image,
    trained_prior,
)
from loop.campaign import load_campaign
from loop.errors import InvalidInputError
from tests.campaigns import write_campaign


def save(path: Path, labels: list[list[int]]) -> Path:
    Image.fromarray(np.array(labels, dtype=np.uint8)).save(path)
    return path


def stripes(s: int) -> np.ndarray:
    return np.tile((np.arange(12) // s % 2).astype(np.uint8), (12, 1))


def test_lineal_paths_of_stripes() -> None:
    """Across stripes of width s: max(s − r, 0) / (2 s); along them 1/2."""
    r = np.arange(5)
    across = [np.maximum(s - r, 0) / (2 * s) for s in (3, 2)]
    exact = np.sqrt(np.mean((across[0] - across[1]) ** 2) / 2) / 0.5  # half of the values are along
    found = lineal_path_errors(np.stack([stripes(2), stripes(3)]), stripes(3), 4)
    np.testing.assert_allclose(found, [exact, 0.0], atol=1e-15)


def test_a_phase_of_a_binary_image_is_the_higher_value(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", [[0, 255], [255, 255]])
    np.testing.assert_array_equal(read_phase(path), [[0, 1], [1, 1]])
    np.testing.assert_array_equal(read_phase(path, "0"), [[1, 0], [0, 0]])


@pytest.mark.parametrize(
    ("labels", "phase", "message"),
    [
        ([[3, 3], [3, 3]], None, "has the one pixel value 3; a reconstruction needs two phases"),
        ([[0, 1], [2, 2]], None, r"has 3 pixel values \(0, 1, 2\); name the one"),
        ([[0, 1], [1, 1]], "2", "--phase is '2'; expected one of the pixel values .*: 0, 1"),
        ([[0, 1], [1, 1]], "gamma", "--phase is 'gamma'"),
    ],
)
def test_a_phase_that_cannot_be_told(
    tmp_path: Path, labels: list[list[int]], phase: str | None, message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        read_phase(save(tmp_path / "a.png", labels), phase)


def test_a_campaign_names_its_phases(tmp_path: Path) -> None:
    campaign = load_campaign(write_campaign(tmp_path / "tiny"))
    path = save(tmp_path / "a.png", [[0, 1], [1, 1]])
    for phase, index in ((None, 1), ("gamma_prime", 1), ("gamma", 0)):
        image, found = read_campaign_phase(path, campaign, phase)
        assert found == index
        np.testing.assert_array_equal(image, np.array([[0, 1], [1, 1]]) == index)
    with pytest.raises(InvalidInputError, match="did you mean 'gamma_prime'"):
        read_campaign_phase(path, campaign, "gamma_prim")
    with pytest.raises(InvalidInputError, match="pixel values 0, 7; expected labels 0 to 1"):
        read_campaign_phase(save(path, [[0, 7], [0, 0]]), campaign)


def test_the_table_and_the_strip() -> None:
    found = reconstruct_image(stripes(3), 2, rng=np.random.default_rng(0))
    assert found.found.target.max_lag == 6  # half a side
    frame = found.frame()
    assert list(frame["image"]) == [1, 2]
    assert (frame["two_point_error"] <= 0.012).all()
    assert (frame["fraction"] == 0.5).all()
    strip = found.strip()
    assert strip.shape == (2 * 12 + 4, 3 * (2 * 12 + 4))
    np.testing.assert_array_equal(strip[2:26:2, 2:26:2], 255 * stripes(3))


def test_a_generator_without_latents_is_no_start() -> None:
    class Session:
        def latest(self, arm: str) -> object:
            return type("Mutation", (), {"name": "mutation"})()

    with pytest.raises(InvalidInputError, match="generator is mutation; reconstructions start"):
        trained_prior(Session())  # type: ignore[arg-type]
