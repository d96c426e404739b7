"""What the unconditional model learns from: the library's designs, whatever was scored."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from generators.training.flow_matching import Draws, FlowSettings, Rows, RunSettings, shown_masks
from loop.protocols import silent

N, PLAIN, BATCH = 50, 20, 400


def draws(conditions: Any, asked: list[bool], dropout: float = 0.25) -> Draws:
    rows = Rows(
        torch.zeros(len(conditions), 2),
        conditions,
        np.full(len(conditions), 1 / len(conditions)),
        torch.ones(PLAIN, 2),
    )
    settings = FlowSettings(dropout=dropout)
    run = RunSettings(asked, settings, True, "cpu", np.random.default_rng(0), silent)
    return Draws(rows, run, BATCH)


def test_no_scored_row_is_shown_without_conditions() -> None:
    """Not even where the campaign asks for what a design was never measured for."""
    conditions = np.random.default_rng(1).normal(size=(N, 3))
    conditions[: N // 2, 0] = np.nan  # the one that is asked for
    conditions[:5] = np.nan
    draw = draws(conditions, [True, False, False])
    for _ in range(5):
        index, plain, values, mask = draw()
        assert (len(index), len(plain)) == (0.75 * BATCH, 0.25 * BATCH)
        assert bool(mask[: len(index)].any(1).all())
        assert not bool(mask[len(index) :].any())
        assert bool((index >= 5).all())  # of which nothing is known
        known = torch.from_numpy(np.isfinite(conditions))[index]
        assert not bool((mask[: len(index)] & ~known).any())
        assert bool(torch.isfinite(values).all())


def test_what_is_known_throughout_is_shown_as_before() -> None:
    """The masks of ``draw_masks``, from the same random numbers."""
    known = torch.ones(2000, 3, dtype=torch.bool)
    asked = torch.tensor([True, False, True])
    found = shown_masks(asked, known, torch.Generator().manual_seed(0))
    share = float((found == asked).all(1).float().mean())
    expected = 0.5 + 0.5 / 4 + 0.5 / 4 / 3  # as in test_training
    assert share == pytest.approx(expected, abs=4 * (expected * (1 - expected) / 2000) ** 0.5)


def test_without_a_library_or_a_target_rows_may_be_shown_without() -> None:
    """Nothing else would teach the unconditional model; nothing leads these rows anywhere."""
    nothing = draws(np.full((N, 1), np.nan), [True], dropout=0.0)
    index, plain, _, mask = nothing()
    assert (len(index), len(plain)) == (BATCH, 0)
    assert not bool(mask.any())
    _, _, _, mask = draws(np.zeros((N, 2)), [False, False], dropout=0.0)()
    assert float(mask.any(1).float().mean()) == pytest.approx(0.5 - 0.5 / 3, abs=0.1)
