"""The surrogate in the place of a simulator: its own values, and slopes that are theirs."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from generators.joint import stack_images
from generators.surrogate_guidance import SurrogateModel, design_features
from loop.candidate import Candidate, stack_compositions
from loop.errors import InvalidInputError
from loop.features import Features
from loop.surrogate import Surrogate
from tests import libraries

KINDS = ("image and compositions", "image", "compositions")


@cache
def fitted(kind: str) -> tuple[SurrogateModel, list[Candidate]]:
    space = libraries.SPACES[kind]
    library = libraries.library(space)
    rng = np.random.default_rng(0)
    images = library.patches(60, rng=rng) if space.image_shape else None
    features = Features.fit(space, images)
    designs = library.draw(60, rng=rng)
    names = libraries.properties(space)
    y = np.array([[libraries.rule(c)[k] for k in names] for c in designs])
    surrogate = Surrogate(names).fit(features.transform(designs), y, rng=rng)
    return SurrogateModel(surrogate, features), library.draw(8, rng=rng)


def parts(designs: list[Candidate], kind: str) -> tuple[Tensor | None, Tensor | None]:
    space = libraries.SPACES[kind]
    fields = compositions = None
    if space.image_shape:
        labels = stack_images(designs).long()
        fields = functional.one_hot(labels, 2).permute(0, 3, 1, 2).double()
    if space.elements:
        compositions = torch.from_numpy(stack_compositions(designs))
    return fields, compositions


@pytest.mark.parametrize("kind", KINDS)
def test_of_labels_they_are_the_features_and_predictions(kind: str) -> None:
    model, designs = fitted(kind)
    given = parts(designs, kind)
    x = model.features.transform(designs)
    found = design_features(model.features, *given).numpy()
    np.testing.assert_allclose(found, x, rtol=1e-9, atol=1e-12)
    predicted = model.surrogate.mean(x)
    values = model.properties_of(*given)
    assert tuple(values) == model.surrogate.properties
    for name, column in zip(values, predicted.T, strict=True):
        np.testing.assert_allclose(values[name].detach().numpy(), column, rtol=1e-9)


def test_slopes_are_those_of_finite_differences() -> None:
    model, designs = fitted("image and compositions")
    fields, x = parts(designs[:2], "image and compositions")
    assert fields is not None
    assert x is not None
    draws = torch.Generator().manual_seed(0)
    soft = 0.05 + 0.9 * fields
    along = torch.randn(soft.shape, generator=draws, dtype=torch.float64)
    across = torch.randn(x.shape, generator=draws, dtype=torch.float64)

    def value(step: Tensor) -> Tensor:
        found = model.properties_of(soft + step * along, x + step * across)
        return torch.stack(list(found.values()), dim=1)

    step = torch.zeros((), dtype=torch.float64, requires_grad=True)
    exact = torch.autograd.functional.jacobian(value, step)
    h = 1e-5
    with torch.no_grad():
        central = (value(torch.tensor(h)) - value(torch.tensor(-h))) / (2 * h)
    np.testing.assert_allclose(exact.numpy(), central.numpy(), rtol=1e-4, atol=1e-6)


def test_process_variables_and_unfitted_surrogates_are_refused() -> None:
    model, _ = fitted("compositions")
    with pytest.raises(InvalidInputError, match=r"process variables \(temperature_K\)"):
        SurrogateModel(model.surrogate, Features.fit(libraries.SPACES["process"], None))
    with pytest.raises(InvalidInputError, match="surrogate is not fitted"):
        SurrogateModel(Surrogate(("density",)), model.features)
