"""Property models: the process against its closed form, the ensemble and the forest on toys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from loop.ensemble import DeepEnsemble
from loop.errors import InvalidInputError
from loop.forest import RandomForest
from loop.property_models import MODELS, GaussianProcess, PropertyModel, create

FloatArray = NDArray[np.float64]


def smooth(n: int, noise: float, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    """Features (n, 3), of which the third says nothing, and noisy values of a smooth function."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-2.0, 2.0, (n, 3))
    return x, 300.0 + 50.0 * np.sin(x[:, 0]) + 30.0 * x[:, 1] + noise * rng.standard_normal(n)


def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def test_process_is_the_closed_form() -> None:
    x, y = smooth(40, 5.0)
    uncertainty = np.where(np.arange(40) % 2, 4.0, 0.0)
    model = GaussianProcess().fit(x, y, rng=rng(), noise=uncertainty)
    new = np.random.default_rng(2).uniform(-2, 2, (7, 3))
    found = model.predict(new)
    assert model.posterior is not None
    kernel: Any = model.posterior.kernel
    scale, centre = y.std(), y.mean()
    z, t = (x - x.mean(0)) / x.std(0), (new - x.mean(0)) / x.std(0)

    def k(a: FloatArray, b: FloatArray) -> FloatArray:
        """A linear plus a Matérn-5/2 kernel, Rasmussen & Williams eqs. 4.17 and 4.27."""
        base = kernel.matern.base_kernel
        lengths = base.lengthscale.detach().numpy()[0]
        r = np.sqrt((((a[:, None] - b[None]) / lengths) ** 2).sum(-1))
        amplitude = float(kernel.matern.outputscale.detach())
        matern = (1 + np.sqrt(5) * r + 5 * r**2 / 3) * np.exp(-np.sqrt(5) * r)
        slope = kernel.linear.variance.detach().numpy().reshape(-1)
        dense: FloatArray = amplitude * matern + (a * slope) @ b.T
        return dense

    gram = k(z, z) + np.diag(model.noise_variance + (uncertainty / scale) ** 2)
    target = (y - centre) / scale - model.posterior.constant
    cross = k(t, z)
    mean = cross @ np.linalg.solve(gram, target) + model.posterior.constant
    variance = np.diag(k(t, t) - cross @ np.linalg.solve(gram, cross.T)) + model.noise_variance
    np.testing.assert_allclose(found.mean, centre + scale * mean, rtol=1e-7)
    np.testing.assert_allclose(found.std, scale * np.sqrt(variance), rtol=1e-6)


def test_process_finds_the_noise_and_which_feature_says_nothing() -> None:
    x, y = smooth(150, 8.0)
    model = GaussianProcess().fit(x, y, rng=rng())
    found = np.sqrt(model.noise_variance) * y.std()
    # A standard deviation from about 140 degrees of freedom is known within 1/sqrt(280) = 6 %;
    # four of these.
    assert found == pytest.approx(8.0, rel=0.24)
    assert model.posterior is not None
    lengths = model.posterior.kernel.matern.base_kernel.lengthscale.detach().numpy()[0]
    assert lengths[2] > 2 * lengths[0]


def test_ensemble_sees_where_the_scatter_is() -> None:
    """Scatter of 2 for x < 0 and of 20 for x > 0: Lakshminarayanan et al. 2017, section 3.2."""
    drawn = np.random.default_rng(3)
    x = drawn.uniform(-1, 1, (600, 1))
    y = 10.0 * x[:, 0] + np.where(x[:, 0] < 0, 2.0, 20.0) * drawn.standard_normal(600)
    model = DeepEnsemble().fit(x, y, rng=rng())
    new = np.array([[-0.8], [-0.4], [0.4], [0.8]])
    std = model.predict(new).std
    # 300 values a side know a deviation within 4 %; the rest is what a smooth step costs and what
    # the few parameters learn of the scatter itself: a factor of 1.5 either way.
    assert np.all((std[:2] > 2.0 / 1.5) & (std[:2] < 2.0 * 1.8))
    assert np.all((std[2:] > 20.0 / 1.5) & (std[2:] < 20.0 * 1.5))


def test_ensemble_does_not_explain_what_is_known_as_noise() -> None:
    x, clean = smooth(200, 0.0)
    y = clean + 20.0 * np.random.default_rng(4).standard_normal(200)
    plain = DeepEnsemble().fit(x, y, rng=rng()).predict(x).std.mean()
    told = DeepEnsemble().fit(x, y, rng=rng(), noise=np.full(200, 20.0)).predict(x).std.mean()
    assert told < 0.8 * plain


def test_ensemble_disagrees_away_from_the_data() -> None:
    x, y = smooth(150, 2.0)
    model = DeepEnsemble().fit(x, y, rng=rng())
    near, far = model.predict(x[:20]).std.mean(), model.predict(6.0 * x[:20]).std.mean()
    assert far > 2 * near


def test_forest_variance_is_that_of_the_mixture_of_leaves() -> None:
    x, y = smooth(80, 5.0)
    model = RandomForest(trees=7).fit(x, y, rng=rng())
    new = x[:5] + 0.01
    found = model.predict(new)
    forest = model._forest
    z = (new - x.mean(0)) / x.std(0)
    means = np.stack([tree.predict(z) for tree in forest.estimators_])
    np.testing.assert_allclose(found.mean, y.mean() + y.std() * means.mean(0), rtol=1e-12)
    for i, row in enumerate(z):
        second = 0.0
        for tree in forest.estimators_:
            leaf = tree.apply(row[None])[0]
            second += tree.tree_.impurity[leaf] + tree.tree_.value[leaf, 0, 0] ** 2
        expected = second / 7 - means[:, i].mean() ** 2
        assert found.std[i] == pytest.approx(y.std() * np.sqrt(expected), rel=1e-8)


@pytest.mark.parametrize("name", MODELS)
def test_models_learn_a_smooth_function(name: str) -> None:
    x, y = smooth(200, 3.0)
    new, truth = smooth(100, 0.0, seed=9)
    found = create(name).fit(x, y, rng=rng()).predict(new)
    assert found.mean.shape == found.std.shape == (100,)
    assert np.all(found.std > 0)
    # Better than a plane, the best linear answer.
    plane = np.linalg.lstsq(np.c_[np.ones(200), x], y, rcond=None)[0]
    linear = np.sqrt(((np.c_[np.ones(100), new] @ plane - truth) ** 2).mean())
    limit = 1.6 * linear if name == "random-forest" else linear  # it answers in steps
    assert np.sqrt(((found.mean - truth) ** 2).mean()) < limit


@pytest.mark.parametrize("name", MODELS)
def test_same_stream_same_model_and_fit_leaves_the_old_one_alone(name: str) -> None:
    x, y = smooth(60, 3.0)
    empty = create(name)
    one, two = empty.fit(x, y, rng=rng()), empty.fit(x, y, rng=rng())
    np.testing.assert_array_equal(one.predict(x).mean, two.predict(x).mean)
    np.testing.assert_array_equal(one.predict(x).std, two.predict(x).std)
    with pytest.raises(InvalidInputError, match="is not fitted"):
        empty.predict(x)


@pytest.mark.parametrize("name", MODELS)
def test_units_of_the_value_and_of_features_do_not_matter(name: str) -> None:
    x, y = smooth(60, 3.0)
    # Powers of two change no rounding. 2^-50 is about 1e-15: creep rates, diffusivities.
    plain = create(name).fit(x, y, rng=rng()).predict(x)
    for of_features, of_values in ((8.0, 0.25), (2.0**-20, 2.0**-50)):
        scaled = of_features * x
        other = create(name).fit(scaled, of_values * y, rng=rng()).predict(scaled)
        np.testing.assert_allclose(other.mean, of_values * plain.mean, rtol=1e-6)
        np.testing.assert_allclose(other.std, of_values * plain.std, rtol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_constant_values_and_features_are_no_fault(name: str) -> None:
    x = np.random.default_rng(0).uniform(size=(30, 2))
    x[:, 1] = 4.0
    found = create(name).fit(x, np.full(30, 250.0), rng=rng()).predict(x)
    np.testing.assert_allclose(found.mean, 250.0, atol=1.0)
    assert np.isfinite(found.std).all()


Fit = Callable[[PropertyModel], object]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("x", "y", "noise", "said"),
    [
        (np.ones((5, 2)), np.ones(5), None, "got 5 rows"),
        (np.ones((9, 2)), np.ones(8), None, r"values \(8,\)"),
        (np.ones(9), np.ones(9), None, r"features have shape \(9,\)"),
        (np.full((9, 2), np.nan), np.ones(9), None, "row 0: a feature is not a finite"),
        (np.ones((9, 2)), np.full(9, np.inf), None, "row 0: a value is not a finite"),
        (np.ones((9, 2)), np.ones(9), np.full(9, -1.0), "uncertainty is below 0"),
        (np.ones((9, 2)), np.ones(9), np.ones(3), r"noise has shape \(3,\)"),
    ],
)
def test_bad_data(
    name: str, x: FloatArray, y: FloatArray, noise: FloatArray | None, said: str
) -> None:
    with pytest.raises(InvalidInputError, match=said):
        create(name).fit(x, y, rng=rng(), noise=noise)


@pytest.mark.parametrize("name", MODELS)
def test_features_of_another_width(name: str) -> None:
    x, y = smooth(20, 1.0)
    with pytest.raises(InvalidInputError, match=r"expected \(m, 3\), as fitted"):
        create(name).fit(x, y, rng=rng()).predict(x[:, :2])


def test_unknown_model() -> None:
    with pytest.raises(InvalidInputError, match="did you mean 'random-forest'"):
        create("random forest")


def test_ensemble_takes_nothing_from_the_global_stream() -> None:
    x, y = smooth(20, 1.0)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    DeepEnsemble(epochs=3).fit(x, y, rng=rng())
    assert torch.equal(before, torch.get_rng_state())
