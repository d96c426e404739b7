"""Soft statistics: those of the label image at shares of 0 and 1, sum rules, gradients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from loop.errors import InvalidInputError
from loop.statistics import two_point_radial
from simulators import realisability, soft_statistics
from simulators.correlation import mean_chord_length, two_point
from simulators.correlation_paths import lineal_path
from simulators.soft_statistics import (
    lineal_paths,
    mean_chord_lengths,
    one_hot,
    phase_fractions,
    specific_surfaces,
    two_point_curves,
    two_point_distance,
    two_point_matrix,
)
from simulators.surface import specific_surface
from tests.simulators.conftest import ImageMaker


def shares(n: int, phases: int, shape: tuple[int, int], seed: int = 0) -> torch.Tensor:
    noise = np.random.default_rng(seed).standard_normal((n, phases, *shape))
    return torch.softmax(torch.as_tensor(noise), 1)


def test_hard_phases_are_the_label_image(random_images: ImageMaker) -> None:
    images = random_images(3, (12, 15), phases=3, seed=1)
    soft = one_hot(images, 3)
    assert soft.shape == (3, 3, 12, 15)
    found = (
        phase_fractions(soft),
        two_point_curves(soft),
        specific_surfaces(soft),
        lineal_paths(soft, 5),
        mean_chord_lengths(soft),
    )
    for phase in range(3):
        inside = images == phase
        np.testing.assert_allclose(found[0][:, phase], inside.mean((1, 2)), rtol=1e-12)
        np.testing.assert_allclose(found[1][:, phase], two_point_radial(inside)[1], atol=1e-12)
        np.testing.assert_allclose(found[2][:, phase], specific_surface(inside), rtol=1e-12)
        paths = [lineal_path(inside, axis, longest=5) for axis in ("x", "y")]
        np.testing.assert_allclose(found[3][:, phase], np.mean(paths, axis=0), rtol=1e-12)
        np.testing.assert_allclose(found[4][:, phase], mean_chord_length(images, phase))
        for other in range(3):
            np.testing.assert_allclose(
                two_point_matrix(soft)[:, phase, other],
                two_point(inside, images == other),
                atol=1e-14,
            )


@pytest.mark.parametrize("soft", [one_hot(np.arange(40).reshape(1, 5, 8) % 3, 3), None])
def test_sum_rules(soft: torch.Tensor | None) -> None:
    """Phases fill the space: rows and columns of S_ij sum to the fractions, all of it to 1."""
    given = shares(2, 4, (6, 7)) if soft is None else soft
    matrix, fractions = two_point_matrix(given), phase_fractions(given)
    torch.testing.assert_close(fractions.sum(1), torch.ones(len(given), dtype=torch.float64))
    for axis in (1, 2):
        torch.testing.assert_close(
            matrix.sum(axis), fractions[..., None, None].expand_as(matrix.sum(axis))
        )
    inside = two_point_matrix(given, periodic=False)
    torch.testing.assert_close(inside.sum((1, 2)), torch.ones_like(inside[:, 0, 0]))
    for found in (matrix, inside):
        back = torch.roll(found.flip((-2, -1)), (1, 1), (-2, -1))
        torch.testing.assert_close(found, back.transpose(1, 2))
    torch.testing.assert_close(matrix.mean((-2, -1)), fractions[:, :, None] * fractions[:, None, :])


def test_paths_fall_below_pairs() -> None:
    """A segment lies in a phase only if its ends do; two neighbours are both."""
    soft = shares(2, 3, (9, 8), seed=2)
    paths = lineal_paths(soft, 4)
    pairs = two_point_matrix(soft)
    for r in range(1, 5):
        ends = 0.5 * (pairs[..., 0, r] + pairs[..., r, 0]).diagonal(dim1=1, dim2=2)
        assert bool((paths[..., r] <= ends + 1e-14).all())
        assert bool((ends - paths[..., r] <= 1e-14).all()) == (r == 1)
    torch.testing.assert_close(paths[..., 0], phase_fractions(soft))
    assert bool((paths.diff(dim=-1) <= 0).all())


def test_distance_is_that_of_realisability(random_images: ImageMaker) -> None:
    images = random_images(5, (16, 16), seed=3)
    curves = two_point_curves(one_hot(images[1:], 2)).mean(0)
    found = two_point_distance(one_hot(images[:1], 2), curves)
    expected = realisability.two_point_distance(images[:1], images[1:], 2)
    assert float(found) == pytest.approx(expected, rel=1e-10)
    assert float(two_point_distance(one_hot(images[:1], 2), curves[:, :3])) != float(found)


STATISTICS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "fractions": phase_fractions,
    "two-point": two_point_matrix,
    "two-point inside": lambda s: two_point_matrix(s, periodic=False),
    "curves": two_point_curves,
    "distance": lambda s: two_point_distance(s, torch.full((3, 2), 0.1)),
    "chords": mean_chord_lengths,
    "chords inside": lambda s: mean_chord_lengths(s, periodic=False),
    "paths": lambda s: lineal_paths(s, 2),
    "paths inside": lambda s: lineal_paths(s, 2, periodic=False),
    "surface": specific_surfaces,
    "surface, rounded": lambda s: specific_surfaces(s, periodic=False, smoothing=0.1),
}


@pytest.mark.parametrize("name", STATISTICS)
def test_gradients(name: str) -> None:
    logits = torch.log(shares(2, 3, (4, 3), seed=4)).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: STATISTICS[name](torch.softmax(z, 1)), logits)


def test_a_descent_reaches_the_statistics_of_an_image(random_images: ImageMaker) -> None:
    """From noise to the two-point curves and the boundary of a given microstructure."""
    goal = one_hot(random_images(1, (20, 20), blur=0.2, seed=5), 2)
    curves, surface = two_point_curves(goal)[0], specific_surfaces(goal)
    logits = torch.log(shares(1, 2, (20, 20), seed=6)).requires_grad_()
    optimiser = torch.optim.Adam([logits], lr=0.3)
    start = float(two_point_distance(torch.softmax(logits.detach(), 1), curves))
    for _ in range(200):
        optimiser.zero_grad()
        soft = torch.softmax(logits, 1)
        loss = two_point_distance(soft, curves)[0] ** 2
        loss = loss + ((specific_surfaces(soft, smoothing=1e-3) - surface) ** 2).sum()
        loss.backward()
        optimiser.step()
    reached = torch.softmax(logits.detach(), 1)
    assert float(two_point_distance(reached, curves)) < 0.2 * start
    torch.testing.assert_close(specific_surfaces(reached), surface, rtol=0.03, atol=0.0)


def test_single_precision_stays_single() -> None:
    soft = shares(1, 2, (6, 6)).float().requires_grad_()
    for statistic in (phase_fractions, two_point_matrix, two_point_curves, specific_surfaces):
        found = statistic(soft)
        assert found.dtype == torch.float32
        (slope,) = torch.autograd.grad(found.sum(), soft)
        assert slope.dtype == torch.float32


def test_wrong_input_is_named() -> None:
    soft = shares(1, 2, (4, 4))
    for bad, message in (
        (soft[0], r"expected \(n, p, h, w\)"),
        (soft[:, :, None], r"expected \(n, p, h, w\)"),
        (2 * soft, "sum to 1 only within 1"),
        (soft - 1, "below 0"),
    ):
        for statistic in (phase_fractions, two_point_curves, specific_surfaces):
            with pytest.raises(InvalidInputError, match=message):
                statistic(bad)
    with pytest.raises(InvalidInputError, match=r"expected \(2, m\), m from 1 to 3"):
        two_point_distance(soft, torch.zeros(2, 4))
    with pytest.raises(InvalidInputError, match="expected labels 0 to 1"):
        soft_statistics.one_hot(np.full((1, 2, 2), 2), 2)
