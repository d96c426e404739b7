"""The joint flow: conditions, guidance, warm start, checkpoints."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from generators.flow import JointFlow
from generators.registry import PRESETS
from loop.candidate import Candidate, Outcome, Record
from loop.errors import InvalidInputError
from loop.space import DesignSpace
from loop.targets import Range, Targets
from tests import libraries

KINDS = list(libraries.SPACES)
ELEMENTS = libraries.ELEMENTS
TINY = replace(PRESETS["tiny"], vae=replace(PRESETS["tiny"].vae, steps=30))


def untrained(kind: str, settings: Any = TINY) -> JointFlow:
    space = libraries.SPACES[kind]
    return JointFlow(
        space,
        libraries.library(space),
        libraries.targets(space),
        libraries.properties(space),
        settings,
    )


@cache
def trained(kind: str) -> JointFlow:
    flow = untrained(kind)
    designs = flow.library.draw(40, rng=np.random.default_rng(0))
    return flow.fit(libraries.scored(designs), rng=np.random.default_rng(1))


def proposals(flow: JointFlow, guidance: float = 2.0, n: int = 8) -> list[Candidate]:
    return flow.propose(n, flow.targets, guidance=guidance, rng=np.random.default_rng(2))


def test_before_it_is_trained_it_says_so() -> None:
    with pytest.raises(InvalidInputError, match="joint-flow is not trained; call fit"):
        proposals(untrained("compositions"))


def test_too_few_records_are_refused() -> None:
    flow = untrained("compositions")
    designs = flow.library.draw(5, rng=np.random.default_rng(0))
    failed = [Record(c, Outcome.failed("no"), "rule", "1", 0) for c in designs[1:]]
    with pytest.raises(InvalidInputError, match="got 1 scored records; expected at least 2"):
        flow.fit([*libraries.scored(designs[:1]), *failed], rng=np.random.default_rng(0))


@pytest.mark.parametrize("kind", KINDS)
def test_requests_are_kept_with_the_proposal(kind: str) -> None:
    flow = trained(kind)
    low, high = flow.targets.limits()
    for guidance in (0.0, 2.0):
        for c in proposals(flow, guidance):
            assert (c.origin.source, c.origin.guidance) == ("joint-flow", guidance)
            asked = np.array([c.origin.details["requested"][k] for k in flow.targets.properties])
            assert np.all((asked > low) & (asked < high))
    alone = flow.propose(3, None, guidance=1.0, rng=np.random.default_rng(0))
    assert [c.origin.details["requested"] for c in alone] == [{}] * 3


@pytest.mark.parametrize("kind", KINDS)
def test_at_guidance_zero_the_request_makes_no_difference(kind: str) -> None:
    flow = trained(kind)
    k = len(flow.properties)
    requests = [np.full((6, k), v) for v in (0.3, 9.0, np.nan)]
    found = [flow.generate(r, guidance=0.0, rng=np.random.default_rng(3)) for r in requests]
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_request_guidance_makes_no_difference(kind: str) -> None:
    flow = trained(kind)
    nothing = np.full((6, len(flow.properties)), np.nan)
    found = [flow.generate(nothing, guidance=s, rng=np.random.default_rng(3)) for s in (0.0, 1.0)]
    assert found[0] == found[1]


def test_the_null_is_not_a_requested_value() -> None:
    """A trained network must tell 'nothing asked' from any request."""
    flow = trained("compositions")
    found = {
        value: flow.generate(np.full((6, 1), value), guidance=1.0, rng=np.random.default_rng(3))
        for value in (np.nan, 7.5, 8.1, 8.7)
    }
    vectors = [
        np.stack([c.phase_compositions for c in v if c.phase_compositions is not None])
        for v in found.values()
    ]
    for i, first in enumerate(vectors):
        for second in vectors[i + 1 :]:
            assert not np.allclose(first, second, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_guided_velocity_is_that_of_one_joint_batch(kind: str, scale: float) -> None:
    """Of the trained transformer: both halves of a joint batch are two separate passes."""
    flow = trained(kind)
    network = flow.network
    assert network is not None
    assert flow.linear is not None
    draws = torch.Generator().manual_seed(0)
    k = len(flow.properties)
    x = torch.randn(5, network.state_size, generator=draws)
    requests = np.random.default_rng(0).uniform(0.1, 2.0, (5, k))
    y, _ = flow.conditions(requests)
    t, on = torch.full((5,), 0.6), torch.ones(5, k, dtype=torch.bool)
    with torch.no_grad():
        found = flow.velocity(requests, scale)(x, t)
        twice = [torch.cat([a, a]) for a in (x, t, y)]
        base, conditional = network(*twice, torch.cat([~on, on])).chunk(2)
        linear = flow.linear(x, t)
    expected = linear + base + scale * (conditional - base)
    size = float(expected.abs().max())
    assert found.numpy() == pytest.approx(expected.numpy(), abs=1e-5 * max(1.0, size))


@pytest.mark.parametrize("kind", KINDS)
def test_a_warm_start_changes_the_weights_and_keeps_the_scales(kind: str) -> None:
    old = trained(kind)
    before = proposals(old)
    designs = old.library.draw(40, rng=np.random.default_rng(5))
    new = old.fit(libraries.scored(designs), rng=np.random.default_rng(6))
    assert new.network is not old.network
    assert new.code is old.code
    assert new.property_scale is old.property_scale
    assert proposals(old) == before
    assert proposals(new) != before


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_proposes_bit_for_bit_the_same(kind: str, tmp_path: Path) -> None:
    flow = trained(kind)
    digest, path = flow.save(tmp_path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest == path.stem
    back = untrained(kind).load(path)
    for guidance in (0.0, 1.0, 3.0):
        assert proposals(back, guidance, 20) == proposals(flow, guidance, 20)
    assert back.save(tmp_path / "again")[0] == digest
    # And what is trained on from it is the same, too.
    more = libraries.scored(flow.library.draw(20, rng=np.random.default_rng(7)))
    first, second = (f.fit(more, rng=np.random.default_rng(8)) for f in (flow, back))
    assert first.save(tmp_path)[0] == second.save(tmp_path)[0]


def test_sizes_come_from_the_checkpoint_and_lengths_from_the_campaign(tmp_path: Path) -> None:
    _, path = trained("compositions").save(tmp_path)
    other = replace(PRESETS["tiny"], width=64, depth=3, head_width=16, sample_steps=9)
    back = untrained("compositions", other).load(path)
    assert (back.settings.width, back.settings.depth) == (TINY.width, TINY.depth)
    assert back.settings.sample_steps == 9
    assert len(proposals(back)) == 8


def test_a_checkpoint_of_another_campaign_is_refused(tmp_path: Path) -> None:
    flow = trained("compositions")
    _, path = flow.save(tmp_path)
    other = DesignSpace(("a",), ("Ni", "Al", "Cr", "Mo"))
    stranger = JointFlow(other, flow.library, flow.targets, flow.properties, TINY)
    with pytest.raises(InvalidInputError, match=r"has elements \['Ni', 'Al', 'Cr', 'Re'\]"):
        stranger.load(path)
    renamed = JointFlow(flow.space, flow.library, flow.targets, ("weight",), TINY)
    with pytest.raises(InvalidInputError, match=r"has properties \['density'\], this campaign has"):
        renamed.load(path)
    phase = JointFlow(DesignSpace(("b",), ELEMENTS), flow.library, flow.targets, ("density",), TINY)
    with pytest.raises(InvalidInputError, match=r"has phases \['a'\], this campaign has \['b'\]"):
        phase.load(path)


def test_rows_with_an_unknown_property_are_learned_from() -> None:
    flow = JointFlow(
        libraries.SPACES["compositions"],
        libraries.library(libraries.SPACES["compositions"]),
        Targets((Range("density", 8.0, 8.3),)),
        ("density", "hardness"),
        TINY,
    )
    designs = flow.library.draw(30, rng=np.random.default_rng(0))
    found = flow.fit(libraries.scored(designs), rng=np.random.default_rng(1))
    assert len(proposals(found)) == 8
