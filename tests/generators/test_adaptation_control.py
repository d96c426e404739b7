"""Maps of phase fractions and designs that follow them."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from generators.adaptation_control import ControlSettings, control
from generators.adaptation_files import load_branch, save_branch
from generators.adaptation_flow import AdaptedFlow, base_hash, frozen
from generators.adaptation_graded import graded
from generators.adaptation_maps import (
    Axis,
    Windows,
    block_means,
    checked_map,
    fraction_maps,
    gradient_map,
    map_error,
    profile_error,
    resampled,
    window_sizes,
    windowed,
)
from generators.adaptation_settle import settled
from generators.dynamics.flow import Velocity
from generators.flow import FloatArray, JointFlow
from generators.networks.control import ControlBranch
from loop.candidate import Candidate
from loop.errors import InvalidInputError
from tests import libraries
from tests.generators.test_flow import TINY, trained, untrained

BOTH = "image and compositions"
SETTINGS = ControlSettings(steps=120, batch=32, learning_rate=1e-2, images=200)


@cache
def learned() -> JointFlow:
    """Of images alone, trained for long enough that there is something to steer."""
    vae = replace(TINY.vae, steps=120, learning_rate=6e-3)
    settings = replace(TINY, first_steps=150, plain_rows=300, learning_rate=6e-3, vae=vae)
    flow = untrained("image", settings)
    designs = flow.library.draw(100, rng=np.random.default_rng(0))
    return flow.fit(libraries.scored(designs), rng=np.random.default_rng(1))


@cache
def branch() -> ControlBranch:
    return control(learned(), SETTINGS, rng=np.random.default_rng(0))


def silent() -> ControlBranch:
    """One that was not trained."""
    return ControlBranch(frozen(trained(BOTH)), 3)


def images_of(designs: list[Candidate]) -> NDArray[np.uint8]:
    return np.stack([c.microstructure for c in designs if c.microstructure is not None])


# Maps


def test_a_map_is_the_means_of_blocks() -> None:
    image = np.zeros((1, 5, 9), dtype=np.uint8)
    image[0, :2, :2] = 1
    image[0, 2:4, 4:8] = 2
    found = fraction_maps(image, 3, 4)
    np.testing.assert_array_equal(found, [[[[0.25, 0.0]], [[0.0, 0.5]]]])
    with pytest.raises(InvalidInputError, match="9 x 5 px have no window of 6 x 6 px"):
        fraction_maps(image, 3, 6)


def test_a_gradient_has_its_ends_at_the_edges() -> None:
    along = gradient_map(0.3, 0.7, (2, 4))
    np.testing.assert_allclose(along, [[[0.35, 0.45, 0.55, 0.65]] * 2])
    np.testing.assert_array_equal(gradient_map(0.3, 0.7, (4, 2), "y")[0].T, along[0])
    np.testing.assert_allclose(resampled(along, (1, 2)).numpy(), [[[0.4, 0.6]]])
    finer = resampled(along, (2, 8)).numpy()
    np.testing.assert_allclose(finer[0, 0, 1:7], 0.325 + 0.05 * np.arange(1, 7), atol=1e-6)


def test_means_of_means_are_the_same_means() -> None:
    for size, offset in ((1, 0), (2, 0), (4, 3), (3, 1), (8, 5)):
        means = block_means(8, size, offset)
        torch.testing.assert_close(means @ means, means)
        torch.testing.assert_close(means.sum(0), torch.ones(8))
    assert torch.equal(block_means(8, 1), torch.eye(8))
    torch.testing.assert_close(
        block_means(4, 2) @ torch.arange(4.0), torch.tensor([0.5, 0.5, 2.5, 2.5])
    )


def test_every_window_keeps_the_mean_and_is_named() -> None:
    draws = torch.Generator().manual_seed(0)
    maps = torch.rand(64, 1, 4, 8, generator=draws)
    assert window_sizes((4, 8)) == [1, 2, 4, 8]
    found = Windows((4, 8), window_sizes((4, 8)))(maps, draws)
    torch.testing.assert_close(found[:, 0].mean((1, 2)), maps[:, 0].mean((1, 2)))
    for row, given in zip(found, maps, strict=True):
        rows, columns = 1 / row[1, 0, 0], 1 / row[2, 0, 0]
        assert {float(rows), float(columns)} <= {1.0, 2.0, 4.0, 8.0}
        if rows == columns == 1:
            torch.testing.assert_close(row[0], given[0])
    named = windowed(maps, (4, 2))
    torch.testing.assert_close(named[:, 0, 0], named[:, 0, 3])
    torch.testing.assert_close(named[:, 0, :, 0], named[:, 0, :, 1])
    assert float(named[0, 1, 0, 0]) == 0.25
    assert float(named[0, 2, 0, 0]) == 0.5


def test_what_is_requested_is_met_when_it_is_there() -> None:
    """Windows whose every other pixel is set have 0.5, those with a quarter 0.25."""
    image = np.zeros((1, 16, 32), dtype=np.uint8)
    image[:, :, :16:2] = 1
    image[:, ::2, 16::2] = 1
    wanted = np.array([[[0.5, 0.25]]])
    assert map_error(image, wanted, 16) == 0
    assert profile_error(image, wanted) == 0
    assert map_error(image, np.full((1, 1, 1), 0.5), 16) == pytest.approx(0.25 / np.sqrt(2))
    assert profile_error(image, np.full((1, 1, 1), 0.375), "y") == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((2, 4, 4)), r"shape \(2, 4, 4\); expected \(1, h, w\)"),
        (np.zeros(4), "expected"),
        (np.zeros((0, 4)), "expected"),
        (np.full((4, 4), np.nan), "not finite"),
        (np.full((4, 4), 1.5), "from 1.5 to 1.5"),
        (np.full((4, 4), -0.1), "between 0 and 1"),
    ],
)
def test_what_is_no_map(given: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        checked_map(given, 2)
    with pytest.raises(InvalidInputError, match=r"sums up to 1\.2"):
        checked_map(np.full((2, 1, 1), 0.6), 3)


# Designs


def test_an_untrained_branch_changes_no_design() -> None:
    flow = trained(BOTH)
    nothing = np.full((3, len(flow.properties)), np.nan)
    plain = AdaptedFlow(flow, frozen(flow), 0.0)
    ids = [c.id for c in plain.generate(nothing, guidance=0.0, rng=np.random.default_rng(1))]
    for strength in (0.0, 1.0, 3.0):
        found = graded(
            flow, silent(), gradient_map(0.2, 0.8, (4, 4)), 3,
            rng=np.random.default_rng(1), strength=strength, settle=0,
        )  # fmt: skip
        assert [c.id for c in found] == ids
        assert found[0].origin.details["graded"]["strength"] == strength


@pytest.mark.parametrize("guidance", [0.0, 1.0, 2.0])
@torch.no_grad()
def test_at_strength_zero_it_has_the_velocity_of_the_flow(guidance: float) -> None:
    flow = trained(BOTH)
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(5, flow.trained_network().state_size, generator=draws)
    t = torch.rand(5, generator=draws)
    requests = np.random.default_rng(0).uniform(0.1, 2.0, (5, len(flow.properties)))
    plain = AdaptedFlow(flow, lambda x, *_: torch.full_like(x, torch.nan), 0.0)
    expected = flow.velocity(requests, guidance)(x, t)
    assert torch.equal(plain.velocity(requests, guidance)(x, t), expected)
    # Between the two it is on the line through them.
    double = AdaptedFlow(flow, lambda *given: 2 * frozen(flow)(*given), 0.5)
    linear = flow.linear
    assert linear is not None
    rest = expected - linear(x, t)
    torch.testing.assert_close(double.velocity(requests, guidance)(x, t), linear(x, t) + 1.5 * rest)


def test_training_leaves_the_flow_alone() -> None:
    flow = trained(BOTH)
    before = base_hash(flow)
    control(flow, ControlSettings(steps=2, batch=4, images=8), rng=np.random.default_rng(0))
    assert base_hash(flow) == before


def test_designs_follow_the_map() -> None:
    """Trend and windows come nearer to what is asked than without the branch, on 24 designs."""
    wanted = gradient_map(0.2, 0.8, (32, 32))
    errors = []
    for strength in (0.0, 1.0, 2.0):
        found = graded(
            learned(), branch(), wanted, 24, rng=np.random.default_rng(1), window=(32, 8),
            strength=strength, settle=0,
        )  # fmt: skip
        images = images_of(found)
        errors.append((map_error(images, wanted, 8), profile_error(images, wanted, window=8)))
    windows, trend = zip(*errors, strict=True)
    assert windows[2] < windows[1] < windows[0]
    assert max(trend[1:]) < 0.7 * trend[0]


def test_a_gradient_may_go_down() -> None:
    images = images_of(
        graded(
            learned(), branch(), gradient_map(0.9, 0.1, (32, 32), "y"), 12,
            rng=np.random.default_rng(1), window=(8, 32), settle=0,
        )
    )  # fmt: skip
    assert images[:, :8].mean() > images[:, -8:].mean() + 0.2


def test_settled_designs_have_what_was_asked_for() -> None:
    """Of every design, not only in the mean: columns of 8 px within a few of their 256 pixels."""
    flow, wanted = learned(), gradient_map(0.3, 0.6, (32, 32))
    errors = []
    for steps in (0, 20):
        found = graded(
            flow, branch(), wanted, 8, rng=np.random.default_rng(1), window=(32, 8), settle=steps
        )
        columns = images_of(found).reshape(8, 32, 4, 8).mean((1, 3))
        errors.append(np.abs(columns - wanted[0, 0].reshape(4, 8).mean(1)).max(1))
    assert np.median(errors[1]) < 0.02 < 0.05 < np.median(errors[0])


def test_settling_moves_no_more_than_it_has_to() -> None:
    """A linear decoder: the shift of one channel that gives each half its fraction."""
    draws = torch.Generator().manual_seed(0)
    latents = torch.randn(3, 1, 16, 16, generator=draws)
    wanted = torch.tensor([[[0.25, 0.75]]]).repeat_interleave(16, 1).repeat_interleave(8, 2)

    def logits(z: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(z), 3 * z], dim=1)

    found = settled(latents, logits, wanted, (16, 8), steps=30)
    halves = (found > 0).float().reshape(3, 16, 2, 8).mean((1, 3))
    torch.testing.assert_close(halves, torch.tensor([[0.25, 0.75]] * 3), atol=2 / 128, rtol=0)
    moved = (found - latents).abs()
    near = latents.abs() < latents.abs().median()
    assert moved[near].mean() > moved[~near].mean()
    assert torch.equal(settled(latents, logits, wanted, (16, 8), steps=0), latents)


@pytest.mark.parametrize("shape", [(32, 80), (48, 32), (40, 70)])
def test_larger_images_are_put_together_of_windows(shape: tuple[int, int]) -> None:
    along: Axis = "x" if shape[1] > shape[0] else "y"
    wanted = gradient_map(0.1, 0.9, shape, along)
    found = graded(
        learned(), branch(), wanted, 4, rng=np.random.default_rng(1), shape=shape, settle=4
    )
    images = images_of(found)
    assert images.shape == (4, *shape)
    images = images if along == "x" else images.transpose(0, 2, 1)
    n = images.shape[2] // 3
    assert images[:, :, :n].mean() + 0.2 < images[:, :, -n:].mean()


def test_larger_images_have_compositions() -> None:
    flow = trained(BOTH)
    (found,) = graded(
        flow, silent(), np.full((2, 4), 0.5), 1, rng=np.random.default_rng(1), shape=(32, 64)
    )
    assert found.microstructure is not None
    assert found.microstructure.shape == (32, 64)
    assert found.phase_compositions is not None
    np.testing.assert_allclose(found.phase_compositions.sum(1), 1.0, atol=1e-9)


def test_properties_may_be_asked_for_besides() -> None:
    flow = trained(BOTH)
    found = graded(
        flow, silent(), np.full((4, 4), 0.5), 2, rng=np.random.default_rng(1),
        requests=np.full((2, 2), 0.5), guidance=2.0,
    )  # fmt: skip
    assert found[0].origin.details["requested"] == {"density": 0.5, "fraction": 0.5}
    assert found[0].origin.guidance == 2.0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"shape": (16, 64)}, "images of 64 x 16 px; this flow makes 32 x 32 and larger"),
        ({"window": (0.0, 16.0)}, "windows of 0 x 16 px"),
        ({"n": 0}, "0 designs"),
        ({"settle": -1}, "-1 steps; expected"),
        ({"strength": -1.0}, "strength is -1"),
        ({"requests": np.zeros((2, 9))}, r"requests have shape \(2, 9\)"),
        ({"requests": np.zeros((2, 2)), "shape": (32, 64)}, "were given for larger images"),
    ],
)
def test_what_cannot_be_graded(given: dict[str, Any], message: str) -> None:
    arguments = {"fractions": np.full((4, 4), 0.5), "n": 2, "rng": np.random.default_rng(0)}
    with pytest.raises(InvalidInputError, match=message):
        graded(trained(BOTH), silent(), **{**arguments, **given})


def test_what_cannot_be_trained() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(InvalidInputError, match="batches of 64 of 8 images"):
        control(trained(BOTH), ControlSettings(images=8), rng=rng)
    with pytest.raises(InvalidInputError, match="is not trained"):
        control(untrained(BOTH), rng=rng)
    with pytest.raises(InvalidInputError, match="has no images"):
        control(trained("compositions"), rng=rng)


def test_an_adapted_flow_is_not_trained_or_kept_itself(tmp_path: Path) -> None:
    flow = AdaptedFlow(trained(BOTH), frozen(trained(BOTH)))
    with pytest.raises(InvalidInputError, match="train the base, then adapt it anew"):
        flow.fit([], rng=np.random.default_rng(0))
    with pytest.raises(InvalidInputError, match="save_adapter"):
        flow.save(tmp_path)
    with pytest.raises(InvalidInputError, match="load the base"):
        flow.load(tmp_path)


def test_adapters_go_with_the_transformer_of_the_flow_alone() -> None:
    other = copy.copy(trained(BOTH))
    other.network = nn.Identity()  # type: ignore[assignment]
    with pytest.raises(InvalidInputError, match='train the flow with network = "dit"'):
        frozen(other)

    class Diffusion(JointFlow):
        name = "diffusion"

        def velocity(self, requests: FloatArray, guidance: float) -> Velocity:
            return super().velocity(requests, guidance)

    other = copy.copy(trained(BOTH))
    other.__class__ = Diffusion
    with pytest.raises(InvalidInputError, match="loss of joint-flow, diffusion has another"):
        base_hash(other)


# Keeping


def test_a_kept_branch_is_the_same_and_knows_its_base(tmp_path: Path) -> None:
    flow = learned()
    digest, path = save_branch(flow, branch(), tmp_path, metrics={"steps": 120})
    assert path.name == f"{digest}.safetensors"
    again = load_branch(flow, path)
    wanted = gradient_map(0.2, 0.8, (4, 4))
    found = [graded(flow, b, wanted, 2, rng=np.random.default_rng(1)) for b in (branch(), again)]
    assert found[0] == found[1]
    with pytest.raises(InvalidInputError, match=r"was trained beside weights \w{16}…, this flow"):
        load_branch(trained("image"), path)
