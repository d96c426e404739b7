"""Few-shot adaptation: toward the new micrographs, and nothing else moves."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from generators.adaptation import Adapter, AdaptSettings, adapt, adapted
from generators.adaptation_control import ControlSettings, control
from generators.adaptation_files import (
    load_adapter,
    load_branch,
    save_adapter,
    save_branch,
)
from generators.adaptation_flow import AdaptedFlow, base_hash, frozen
from generators.flow import JointFlow
from generators.networks.adapters import adapters_of
from generators.training.resume import TrainingState
from loop.errors import InvalidInputError
from simulators.correlation import mean_chord_lengths
from tests import libraries
from tests.generators.test_adaptation_control import learned
from tests.generators.test_flow import trained, untrained

BOTH = "image and compositions"
SETTINGS = AdaptSettings(
    rank=8, alpha=8.0, steps=300, batch=32, learning_rate=2e-2, prior_images=100, views=200
)


def stretched(n: int = 6) -> list[NDArray[np.uint8]]:
    """Blobs twice as long along x as they are in the library."""
    blobs = libraries.blobs(n, np.random.default_rng(7), side=48)
    return [np.repeat(image[:, :24], 2, axis=1) for image in blobs]


@cache
def elongated() -> Adapter:
    return adapt(learned(), stretched(), SETTINGS, rng=np.random.default_rng(0))


def samples(flow: JointFlow, n: int = 32) -> NDArray[np.uint8]:
    nothing = np.full((n, len(flow.properties)), np.nan)
    found = flow.generate(nothing, guidance=0.0, rng=np.random.default_rng(4))
    return np.stack([c.microstructure for c in found if c.microstructure is not None])


def elongation(images: NDArray[np.uint8]) -> float:
    """Mean chord along x over that along y."""
    chords = mean_chord_lengths(images, 1)
    x, y = chords[np.isfinite(chords).all(1)].mean(0)
    return float(x / y)


def plain(flow: JointFlow) -> JointFlow:
    """The flow's network by itself."""
    return AdaptedFlow(flow, frozen(flow), 0.0)


def test_before_training_it_is_the_flow_bit_for_bit() -> None:
    flow = trained(BOTH)
    adapter = Adapter(frozen(flow), rank=2, alpha=2.0)
    assert len(adapters_of(adapter.network)) > 20
    expected = samples(plain(flow))
    for strength in (0.0, 1.0, 2.0):
        np.testing.assert_array_equal(samples(adapted(flow, adapter, strength)), expected)


def test_proposals_become_like_the_new_micrographs() -> None:
    """Elongated, at strength 2 a third of the way or more; at strength 0 nothing moves."""
    flow = learned()
    before = base_hash(flow)
    first = samples(plain(flow))
    adapter = elongated()
    start, wanted = elongation(first), elongation(np.stack([i[:32, :32] for i in stretched()]))
    assert wanted > 1.5 * start
    once, twice = (elongation(samples(adapted(flow, adapter, s))) for s in (1.0, 2.0))
    assert start + 0.1 * (wanted - start) < once < twice
    assert twice > start + (wanted - start) / 3
    assert base_hash(flow) == before
    np.testing.assert_array_equal(samples(plain(flow)), first)
    np.testing.assert_array_equal(samples(adapted(flow, adapter, 0.0)), first)


def test_without_the_identifier_the_prior_is_preserved() -> None:
    """The same adapted weights, not asked for the new kind, stay nearer to the flow's own."""
    flow, adapter = learned(), elongated()
    start, new = (elongation(samples(one)) for one in (plain(flow), adapted(flow, adapter)))
    kept = elongation(samples(AdaptedFlow(flow, adapter.network)))
    assert abs(kept - start) < 0.5 * abs(new - start)


def test_only_adapters_and_identifier_have_learned() -> None:
    flow, adapter = learned(), elongated()
    weights = flow.trained_network().state_dict()
    frozen_ones = {
        name.replace(".layer.", "."): value
        for name, value in adapter.network.state_dict().items()
        if not name.endswith((".up", ".down"))
    }
    assert frozen_ones.keys() == weights.keys()
    assert all(torch.equal(frozen_ones[k], weights[k]) for k in weights)
    assert bool(adapter.identifier.abs().sum() > 0)


def test_a_kept_adapter_is_the_same_and_knows_its_base(tmp_path: Path) -> None:
    flow, adapter = learned(), elongated()
    digest, path = save_adapter(flow, adapter, tmp_path, name="long", metrics={"images": 6})
    assert path.name == f"{digest}.safetensors"
    again = load_adapter(flow, path)
    assert torch.equal(again.identifier, adapter.identifier)
    np.testing.assert_array_equal(samples(adapted(flow, again)), samples(adapted(flow, adapter)))
    with pytest.raises(InvalidInputError, match=r"trained beside weights \w{16}…, this flow has"):
        load_adapter(trained("image"), path)
    with pytest.raises(InvalidInputError, match="generator joint-flow adapter, this campaign has"):
        load_branch(flow, path)
    few = ControlSettings(steps=1, batch=2, images=2)
    _, branch = save_branch(flow, control(flow, few, rng=np.random.default_rng(0)), tmp_path)
    with pytest.raises(InvalidInputError, match="generator joint-flow control branch"):
        load_adapter(flow, branch)
    damaged = tmp_path / f"{digest[::-1]}.safetensors"
    damaged.write_bytes(path.read_bytes())
    with pytest.raises(InvalidInputError, match="does not match the hash"):
        load_adapter(flow, damaged)


class StopError(Exception):
    """The process was killed."""


def test_a_killed_training_goes_on_where_it_was(tmp_path: Path) -> None:
    flow, few = trained(BOTH), replace(SETTINGS, steps=8, prior_images=20, views=20)
    whole = adapt(flow, stretched(), few, rng=np.random.default_rng(0))
    keep = TrainingState(tmp_path, every_steps=3)

    def killed(stage: str, done: int, total: int, **figures: float) -> None:
        if done >= 4:
            raise StopError(f"{stage} {done}/{total}, {len(figures)} figures")

    with pytest.raises(StopError):
        adapt(flow, stretched(), few, rng=np.random.default_rng(0), keep=keep, progress=killed)
    assert list(tmp_path.iterdir())
    again = adapt(flow, stretched(), few, rng=np.random.default_rng(0), keep=keep)
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def bad(change: Any) -> list[Any]:
    images: list[Any] = list(stretched())
    images[2] = change(images[2])
    return images


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (stretched()[:3], "3 new micrographs; expected at least 4"),
        (bad(lambda i: i[:20]), r"new micrograph 3 of 6 has shape \(20, 48\)"),
        (bad(lambda i: i[None]), r"shape \(1, 48, 48\); expected labels \(h, w\)"),
        (bad(lambda i: 0 * i), "new micrograph 3 of 6 is constant, all a"),
        (bad(lambda i: 2 * i), "values from 0 to 2; expected the labels 0 to 1 of a, b"),
        (bad(lambda i: 0.5 * i), "expected the labels 0 to 1"),
        (bad(lambda i: np.where(i, np.nan, 0)), "no finite numbers"),
        (bad(lambda i: i.astype(str)), "no finite numbers"),
    ],
)
def test_images_that_say_nothing_are_refused(images: list[Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        adapt(trained(BOTH), images, SETTINGS, rng=np.random.default_rng(0))


def test_flows_that_cannot_be_adapted_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(InvalidInputError, match="is not trained; call fit"):
        adapt(untrained(BOTH), stretched(), SETTINGS, rng=rng)
    with pytest.raises(InvalidInputError, match="makes no images"):
        adapt(trained("compositions"), stretched(), SETTINGS, rng=rng)
    with pytest.raises(InvalidInputError, match="rank 0"):
        adapt(trained(BOTH), stretched(), replace(SETTINGS, rank=0), rng=rng)
    with pytest.raises(InvalidInputError, match="batches of 1"):
        adapt(trained(BOTH), stretched(), replace(SETTINGS, batch=1), rng=rng)
