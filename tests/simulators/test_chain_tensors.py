"""The chain with derivatives: the same values, and slopes of finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from loop.candidate import Candidate
from loop.errors import InvalidInputError
from loop.protocols import Differentiable
from simulators.chain import CompositeChain, create
from tests.simulators.conftest import ImageMaker
from tests.simulators.designs import (
    COMPOSITE,
    ORDERED,
    composite,
    composites,
    superalloy,
    superalloys,
)


def one_hot(designs: list[Candidate]) -> Tensor:
    images = np.stack([d.microstructure for d in designs if d.microstructure is not None])
    return torch.from_numpy(np.stack([images == 0, images == 1], axis=1)).double()


def compositions(designs: list[Candidate]) -> Tensor:
    rows = [d.phase_compositions for d in designs if d.phase_compositions is not None]
    return torch.from_numpy(np.stack(rows))


@pytest.fixture
def designs(random_images: ImageMaker) -> list[Candidate]:
    return superalloys(random_images(3, (16, 16), seed=3))


@pytest.fixture(scope="module")
def chain() -> CompositeChain:
    return create(space=superalloy(16), settings={**ORDERED, "tolerance": 1e-9})


def test_values_are_those_of_the_chain(chain: CompositeChain, designs: list[Candidate]) -> None:
    found = chain.properties_of(one_hot(designs), compositions(designs))
    assert isinstance(chain, Differentiable)
    assert list(found) == list(chain.outputs)
    for i, outcome in enumerate(chain.evaluate(designs)):
        assert outcome.status == "ok"
        for name, value in outcome.values.items():
            assert float(found[name][i]) == pytest.approx(value, rel=1e-7), name


def test_given_phases_need_no_compositions(random_images: ImageMaker) -> None:
    chain = create(space=composite(), settings={"phase_properties": COMPOSITE, "tolerance": 1e-9})
    designs = composites(random_images(2, (16, 16)))
    found = chain.properties_of(one_hot(designs), None)
    for i, outcome in enumerate(chain.evaluate(designs)):
        for name, value in outcome.values.items():
            assert float(found[name][i]) == pytest.approx(value, rel=1e-7), name


def test_one_phase_needs_no_fields() -> None:
    from loop.space import DesignSpace

    space = DesignSpace(phases=("fcc",), elements=("Ni", "Cr"))
    chain = create(space=space, settings={})
    design = Candidate(
        phases=("fcc",), elements=("Ni", "Cr"), phase_compositions=np.array([[0.7, 0.3]])
    )
    found = chain.properties_of(None, compositions([design]))
    (outcome,) = chain.evaluate([design])
    for name, value in outcome.values.items():
        assert float(found[name][0]) == pytest.approx(value, rel=1e-8), name


def difference(
    chain: CompositeChain, fields: Tensor, x: Tensor, df: Tensor, dx: Tensor, step: float
) -> dict[str, Tensor]:
    """Central differences along a direction, of fourth order."""
    weights = {1: 8 / 12, -1: -8 / 12, 2: -1 / 12, -2: 1 / 12}
    total: dict[str, Tensor] = {}
    for k, weight in weights.items():
        with torch.no_grad():
            found = chain.properties_of(fields + k * step * df, x + k * step * dx)
        for name, value in found.items():
            total[name] = total.get(name, torch.zeros(())) + weight * value / step
    return total


@pytest.mark.parametrize("what", ["compositions", "fields"])
def test_slopes_are_those_of_finite_differences(
    chain: CompositeChain, designs: list[Candidate], what: str
) -> None:
    rng = torch.Generator().manual_seed(0)
    hard, x = one_hot(designs), compositions(designs)
    fields = 0.8 * hard + 0.2 * torch.rand(hard.shape, generator=rng).softmax(1).double()
    fields = fields / fields.sum(1, keepdim=True)
    df, dx = torch.zeros_like(fields), torch.zeros_like(x)
    if what == "compositions":
        dx = torch.randn(x.shape, generator=rng).double()
        dx = dx - dx.mean(-1, keepdim=True)
    else:
        df = torch.randn(fields.shape, generator=rng).double()
        df = df - df.mean(1, keepdim=True)
    step = 1e-3
    expected = difference(chain, fields, x, df, dx, step)
    fields.requires_grad_()
    x.requires_grad_()
    found = chain.properties_of(fields, x)
    for name, value in found.items():
        slopes = torch.autograd.grad(value.sum(), (fields, x), retain_graph=True, allow_unused=True)
        along = torch.zeros(len(x), dtype=torch.float64)
        for slope, direction in zip(slopes, (df, dx), strict=True):
            if slope is not None:
                along += (slope * direction).flatten(1).sum(1)
        # The solves end at 1e-8 of the energies, so their fields and slopes at about 1e-4 of it.
        scale = value.detach().abs() * (df.abs().max() + dx.abs().max())
        torch.testing.assert_close(along, expected[name], rtol=1e-5, atol=float(2e-6 * scale.max()))


def test_what_is_missing_is_named(chain: CompositeChain, designs: list[Candidate]) -> None:
    with pytest.raises(InvalidInputError, match="no phase compositions"):
        chain.properties_of(one_hot(designs), None)
    with pytest.raises(InvalidInputError, match="2 phases and no phase fields"):
        chain.properties_of(None, compositions(designs))
    with pytest.raises(InvalidInputError, match="neither fields nor compositions"):
        chain.properties_of(None, None)
    wired: Any = create(space=superalloy(16), settings=ORDERED, wired=["gamma.density_g_per_cm3"])
    with pytest.raises(InvalidInputError, match="by other simulators, whose derivatives"):
        wired.properties_of(one_hot(designs), compositions(designs))
