"""The adversarial generator: designs of the space, requests, the same from a file."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from generators.gan import PRESETS, JointGAN, joint_gan_settings
from generators.training import checkpoint
from loop.candidate import Candidate, Outcome, Record
from loop.errors import InvalidCampaignError, InvalidInputError
from loop.images import SplitImages
from loop.learning import Resumable
from loop.library import Library
from loop.protocols import Generator
from loop.space import DesignSpace
from loop.targets import Range, Targets, Value
from tests import libraries

KINDS = list(libraries.SPACES)


@cache
def library(kind: str) -> Library:
    return libraries.library(libraries.SPACES[kind])


def untrained(kind: str, **given: Any) -> JointGAN:
    space = libraries.SPACES[kind]
    settings = joint_gan_settings("tiny", given)
    return JointGAN(
        space, library(kind), libraries.targets(space), libraries.properties(space), settings
    )


def records(kind: str, n: int = 60, seed: int = 0) -> list[Record]:
    return libraries.scored(library(kind).draw(n, rng=np.random.default_rng(seed)))


@cache
def fitted(kind: str) -> JointGAN:
    return untrained(kind).fit(records(kind), rng=np.random.default_rng(1))


def ids(generator: JointGAN, n: int = 12, guidance: float = 1.0, seed: int = 3) -> list[str]:
    rng = np.random.default_rng(seed)
    return [c.id for c in generator.propose(n, generator.targets, guidance=guidance, rng=rng)]


# What every generator owes


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_a_generator_that_can_be_resumed(kind: str) -> None:
    for generator in (untrained(kind), fitted(kind)):
        assert isinstance(generator, Generator)
        assert isinstance(generator, Resumable)


@pytest.mark.parametrize("guidance", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("kind", KINDS)
def test_proposals_are_designs_of_the_space(kind: str, guidance: float) -> None:
    space = libraries.SPACES[kind]
    for targets in (libraries.targets(space), None):
        for n in (0, 1, 9):
            found = fitted(kind).propose(
                n, targets, guidance=guidance, rng=np.random.default_rng(4)
            )
            assert len(found) == n
            for candidate in found:
                wrong = [v for v in space.violations(candidate) if "image is constant" not in v]
                assert wrong == []
                assert candidate.origin.source == "gan"
                assert candidate.origin.guidance == guidance
                x = candidate.phase_compositions
                assert x is None or np.abs(x.sum(1) - 1).max() <= 1e-9


@pytest.mark.parametrize("kind", [k for k in KINDS if libraries.SPACES[k].elements])
def test_absent_elements_are_exactly_absent(kind: str) -> None:
    found = fitted(kind).propose(60, guidance=1.0, rng=np.random.default_rng(5))
    last = np.array([c.phase_compositions[:, -1] for c in found])  # type: ignore[index]
    assert (last == 0).any()
    assert (last > 0).any()
    assert not ((last > 0) & (last < 1e-9)).any()


@pytest.mark.parametrize("kind", KINDS)
def test_streams_and_objects_are_kept_apart(kind: str) -> None:
    """The same stream, the same fit and proposals; what was fitted before stays as it was."""
    old = fitted(kind)
    before = ids(old), ids(old, guidance=2.0)
    assert ids(old) == before[0] != ids(old, seed=4)
    again = untrained(kind).fit(records(kind), rng=np.random.default_rng(1))
    assert ids(again) == before[0]
    new = old.fit(records(kind, seed=5), rng=np.random.default_rng(2))
    assert new.critic is not old.critic
    assert ids(new) != before[0]
    assert (ids(old), ids(old, guidance=2.0)) == before


def test_three_phases_and_sides_that_differ() -> None:
    space = DesignSpace(("a", "b", "c"), (), (16, 24))
    rng = np.random.default_rng(0)
    images = tuple(np.digitize(rng.normal(size=(40, 48)), [-0.5, 0.5]).astype("u1") for _ in "12")
    split = SplitImages({"train": images, "val": (), "test": ()}, {"train": ("1", "2")}, "made")
    made = Library(space, split, None, augment=False, outside=0, data_hash="0" * 64)
    scored = [
        Record(c, Outcome("ok", {"c_fraction": float(c.phase_fractions()[2])}), "r", "1", 0)
        for c in made.draw(20, rng=rng)
    ]
    settings = joint_gan_settings("tiny", {"first_steps": 4})
    generator = JointGAN(space, made, Targets(()), ("c_fraction",), settings)
    found = generator.fit(scored, rng=rng).propose(8, guidance=0.0, rng=rng)
    assert {c.microstructure.shape for c in found if c.microstructure is not None} == {(16, 24)}
    assert len({c.id for c in found}) == 8


# Requests


@pytest.mark.parametrize("kind", ["image and compositions", "process"])
def test_guidance_is_a_line_through_both_outputs(kind: str) -> None:
    """s = 0 is the unconditional output, 1 the conditional one, 2 as far again, bit for bit of
    what the formula says.
    """
    generator = fitted(kind)
    network = generator.trained_network()
    k = len(generator.properties)
    draws = torch.Generator().manual_seed(0)
    noise = torch.randn(5, network.noise, generator=draws)
    values, mask = torch.randn(5, k, generator=draws), torch.ones(5, k, dtype=torch.bool)
    with torch.no_grad():
        out = [generator._outputs(noise, values, mask, s) for s in (0.0, 1.0, 2.0)]
        plain = network(noise, values, ~mask)
        given = network(noise, values, mask)
    for part in (0, 1):
        found = [o[part] for o in (*out, plain, given)]
        there = [x for x in found if x is not None]
        assert len(there) == (0 if part == 0 and generator.space.image_shape is None else 5)
        if not there:
            continue
        u, c, far, exact_u, exact_c = there
        assert torch.equal(u, exact_u)
        assert torch.equal(c, exact_c)
        assert torch.equal(far, u + 2.0 * (c - u))


def test_rows_made_in_parts_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = fitted("image")
    whole = ids(generator, n=7, guidance=2.0)
    monkeypatch.setattr("generators.gan.CHUNK_PIXELS", 3 * 32 * 32)
    assert ids(generator, n=7, guidance=2.0) == whole


def test_requests_move_the_proposals() -> None:
    """Values and ranges; at guidance 0 they do not count."""
    kind = "compositions"
    given = records(kind, 400)
    generator = untrained(
        kind, first_steps=250, batch=48, learning_rate=2e-3, focus=0.0, dropout=0.25
    ).fit(given, rng=np.random.default_rng(0))
    density = np.array([r.outcome.values["density"] for r in given])
    low, high = np.quantile(density, [0.1, 0.9])

    def mean(targets: Targets | None, guidance: float) -> float:
        found = generator.propose(400, targets, guidance=guidance, rng=np.random.default_rng(1))
        return float(np.mean([libraries.rule(c)["density"] for c in found]))

    lower = Targets((Value("density", low, 0.01),))
    upper = Targets((Range("density", high, high + 0.1),))
    free, spread = mean(None, 1.0), float(density.std())
    assert free == pytest.approx(float(density.mean()), abs=0.3 * spread)
    assert mean(lower, 0.0) == mean(upper, 0.0) == pytest.approx(free, abs=0.3 * spread)
    assert mean(lower, 1.0) < free - 0.4 * spread
    assert mean(upper, 1.0) > free + 0.4 * spread
    assert mean(lower, 2.0) < mean(lower, 1.0)
    assert mean(upper, 2.0) > mean(upper, 1.0)


# Keeping


@pytest.mark.parametrize("kind", KINDS)
def test_it_comes_back_from_a_file(kind: str, tmp_path: Path) -> None:
    """Bit-equal, in a generator of other training lengths, and it can be trained on."""
    generator = fitted(kind)
    digest, path = generator.save(tmp_path)
    back = untrained(kind, first_steps=7).load(path)
    assert (path.stem, back.settings.first_steps) == (digest, 7)
    assert back.figures == generator.figures
    for guidance in (0.0, 1.0, 2.0):
        assert ids(back, guidance=guidance) == ids(generator, guidance=guidance)
    further = [g.fit(records(kind, 40), rng=np.random.default_rng(4)) for g in (back, generator)]
    assert ids(further[0]) == ids(further[1]) != ids(generator)
    assert checkpoint.load(path)[1]["data_hash"] == library(kind).data_hash


@pytest.mark.parametrize("kind", ["image", "compositions"])
def test_figures_of_the_fit_are_reported(kind: str) -> None:
    seen: list[tuple[str, int, int, dict[str, float]]] = []

    def progress(stage: str, done: int, total: int, **figures: float) -> None:
        seen.append((stage, done, total, figures))

    new = untrained(kind).fit(records(kind), rng=np.random.default_rng(1), progress=progress)
    stage, done, total, figures = seen[-1]
    assert (stage, done, figures) == ("adversarial pair", total, new.figures)
    assert set(figures) == {"critic_gap"} | ({"two_point_error"} if kind == "image" else set())
    assert all(np.isfinite(list(figures.values())))


def test_a_fit_that_was_killed_goes_on(tmp_path: Path) -> None:
    """The state of the training is kept, found again and removed when it is not needed."""
    kind = "image"
    start = untrained(kind).resumable(tmp_path / "training" / "a")
    first = start.fit(records(kind), rng=np.random.default_rng(1))
    assert list((tmp_path / "training" / "a").iterdir())
    again = start.fit(records(kind), rng=np.random.default_rng(1))
    assert ids(first) == ids(again) == ids(fitted(kind))
    again.trained()
    assert not (tmp_path / "training" / "a").exists()


# What cannot be used


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="gan is not trained; call fit"):
        untrained("image").propose(3, guidance=1.0, rng=np.random.default_rng(0))
    failed = Record(records("image", 1)[0].candidate, Outcome.failed("no"), "rule", "1", 0)
    with pytest.raises(InvalidInputError, match="gan got 1 scored records; expected at least 2"):
        untrained("image").fit([*records("image", 1), failed], rng=np.random.default_rng(0))
    space = DesignSpace(("a", "b"), (), (20, 32))
    with pytest.raises(InvalidCampaignError, match=r"gan got images of 20 x 32.*multiple of 8"):
        JointGAN(space, library("image"), Targets(()), (), PRESETS["tiny"])
    _, path = fitted("compositions").save(tmp_path)
    with pytest.raises(InvalidInputError, match=r"has process \[\], this campaign has .'temp"):
        untrained("process").load(path)
    tensors, card = checkpoint.load(path)
    _, other = checkpoint.save(tmp_path, tensors, {**card, "generator": "vae"})
    with pytest.raises(InvalidInputError, match="has generator vae, this campaign has gan"):
        untrained("compositions").load(other)
    wide = {**card, "settings": {**card["settings"], "width": 40}}
    _, other = checkpoint.save(tmp_path, tensors, wide)
    with pytest.raises(InvalidInputError, match="is of another architecture"):
        untrained("compositions").load(other)


@pytest.mark.parametrize(
    ("preset", "given", "message"),
    [
        ("tinny", {}, "unknown preset 'tinny'; did you mean 'tiny'"),
        ("tiny", {"latnt": 1}, "generator.settings: unknown key 'latnt'; did you mean 'latent'"),
        ("tiny", {"objective": "gan"}, "is 'gan'; expected non-saturating or wgan-gp"),
        ("tiny", {"critic_steps": 0}, "critic_steps is 0; expected a whole number > 0"),
        ("tiny", {"channels": 12}, "channels is 12; expected a multiple of 8"),
    ],
)
def test_settings_that_cannot_be_used(preset: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidCampaignError) as caught:
        joint_gan_settings(preset, given)
    assert message in str(caught.value)


def test_an_empty_request_gives_nothing() -> None:
    found: list[Candidate] = fitted("image").generate(
        np.zeros((0, 1)), guidance=1.0, rng=np.random.default_rng(0)
    )
    assert found == []
