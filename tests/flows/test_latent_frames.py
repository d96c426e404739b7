"""Frames through a joint autoencoder: exact ends, feasible, even steps, an image that follows."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

import flows.paths
from flows.latent_frames import LatentFrames
from loop.candidate import Candidate, stack_compositions
from loop.errors import InvalidInputError
from loop.polytope import CompositionSet
from tests.generators.test_vae_joint import KINDS, fitted, library, untrained

N = 9


def ends(kind: str) -> list[Candidate]:
    return library(kind).draw(2, rng=np.random.default_rng(4))


@pytest.mark.parametrize("kind", KINDS)
def test_ends_are_exact_and_all_is_feasible(kind: str) -> None:
    generator, (a, b) = fitted(kind), ends(kind)
    found = LatentFrames(generator).frames(a, b, N)
    assert len(found) == N
    assert [found[0].id, found[-1].id] == [a.id, b.id]
    for design in found[1:-1]:
        broken = generator.space.violations(design)
        assert [text for text in broken if "image is constant" not in text] == []
        assert design.origin.details["of"] == [a.id, b.id]
    again = LatentFrames(generator).frames(a, b, N)
    assert [c.id for c in again] == [c.id for c in found]
    assert [c.id for c in LatentFrames(generator).frames(a, b, 2)] == [a.id, b.id]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "image"])
def test_no_step_is_a_jump(kind: str) -> None:
    """What the decoder misses of the ends is mixed in, so frames begin and end at them."""
    generator, (a, b) = fitted(kind), ends(kind)
    if a.phase_compositions is None:
        return
    x = stack_compositions(LatentFrames(generator).frames(a, b, 21, path="linear"))
    steps = np.abs(np.diff(x, axis=0)).max(axis=(1, 2))
    assert steps.max() < 0.5 * np.abs(x[0] - x[-1]).max()


def test_an_image_follows_its_compositions() -> None:
    kind = next(k for k in KINDS if library(k).space.image_shape and library(k).space.elements)
    frames, (a, b) = LatentFrames(fitted(kind)), ends(kind)
    same = frames.carried(a, a)
    assert same.id == a.id
    assert a.microstructure is not None
    moved = dataclasses.replace(a, phase_compositions=b.phase_compositions)
    found = frames.carried(a, moved)
    assert np.array_equal(found.phase_compositions, b.phase_compositions)  # type: ignore[arg-type]
    assert found.microstructure is not None
    assert found.microstructure.shape == a.microstructure.shape


def test_paths_of_a_campaign_that_trained_an_autoencoder(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = next(k for k in KINDS if library(k).space.image_shape and library(k).space.elements)
    generator, (a, b) = fitted(kind), ends(kind)
    monkeypatch.setattr(flows.paths, "trained_frames", lambda *_: generator)
    campaign = SimpleNamespace(space=generator.space, seed=3)
    generated = flows.paths.Generated(SimpleNamespace(campaign=campaign))  # type: ignore[arg-type]
    x = stack_compositions([a, b])
    most = float(x[:, :, 2].max()) + 0.001  # of chromium: the ends are within
    spaces = [CompositionSet.of(generator.space.elements, [f"Cr <= {most!r}"])] * 2
    found = generated.between(a, b, 5, spaces)
    assert [found[0].id, found[-1].id] == [a.id, b.id]
    for i, space in enumerate(spaces):
        assert space.is_feasible(stack_compositions(found)[:, i], tolerance=1e-9).all()
    assert generated.carried(found[1], found[1]).phase_compositions is not None
    with pytest.raises(InvalidInputError, match="vae, which does not draw the micrograph"):
        generated.with_microstructure(a)


def test_what_is_refused() -> None:
    kind = KINDS[0]
    with pytest.raises(InvalidInputError, match="fit"):
        LatentFrames(untrained(kind))
    other = Candidate(("b",), ("Ni",), None, np.array([[1.0]]))
    with pytest.raises(InvalidInputError, match="has phases b of Ni"):
        LatentFrames(fitted(kind)).frames(other, other, 3)
