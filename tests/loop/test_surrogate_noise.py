"""Known uncertainties in the surrogate: weights of the rows, and how far predictions are sure."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from loop.errors import InvalidInputError
from loop.scaling import PropertyScale
from loop.surrogate import Posterior, Prediction, Surrogate, fit_kernel
from tests.loop.test_surrogate import (
    LENGTHS,
    NAMES,
    SCALE,
    SLOPES,
    design_rows,
    made,
    matern_plus_linear,
    truth,
)

FloatArray = NDArray[np.float64]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_posterior_with_a_noise_of_each_row_equals_the_closed_form() -> None:
    """Rasmussen & Williams 2006, eqs. 2.25 and 2.26, with σ²I replaced by a diagonal matrix."""
    draw = rng()
    x, test, y = draw.normal(size=(25, 3)), draw.normal(size=(11, 3)), draw.normal(size=25)
    noise = draw.uniform(0.001, 2.0, 25)
    given = (LENGTHS, SCALE, SLOPES)
    with torch.no_grad():
        rows = torch.from_numpy(x), torch.from_numpy(y)
        posterior = Posterior(*rows, made(*given), torch.from_numpy(noise), 0.4)
    mean, std = posterior.predict(torch.from_numpy(test))
    inverse = np.linalg.inv(matern_plus_linear(x, x, *given) + np.diag(noise))
    cross = matern_plus_linear(test, x, *given)
    prior = np.diag(matern_plus_linear(test, test, *given))
    assert mean.numpy() == pytest.approx(0.4 + cross @ inverse @ (y - 0.4), rel=1e-8, abs=1e-9)
    exact = np.sqrt(prior - np.einsum("ij,jk,ik->i", cross, inverse, cross))
    assert std.numpy() == pytest.approx(exact, rel=1e-7)


def test_no_uncertainty_changes_nothing() -> None:
    x = design_rows(40, rng())
    y = truth(x)
    plain = Surrogate(NAMES).fit(x, y, rng=rng()).predict(x)
    zero = Surrogate(NAMES).fit(x, y, noise=np.zeros_like(y), rng=rng()).predict(x)
    np.testing.assert_array_equal(plain.mean, zero.mean)
    np.testing.assert_array_equal(plain.std, zero.std)


def test_uncertainties_are_in_the_units_of_the_property() -> None:
    """Also of one on a logarithmic scale, where d ln y = dy / y."""
    x = design_rows(60, rng())
    y = truth(x)
    noise = 0.01 * np.abs(y)
    noise[:30] = 0.0
    fitted = Surrogate(NAMES).fit(x, y, noise=noise, rng=rng())
    assert fitted.outputs is not None
    assert fitted.outputs.log.tolist() == [False, True, False]
    for j, model in enumerate(fitted.models):
        lower = model.factor
        diagonal = (lower @ lower.T).diagonal() - model.kernel(model.x, diag=True)
        extra = (diagonal - diagonal[:30].mean()).detach().numpy()
        relative = 1.0 if fitted.outputs.log[j] else np.abs(y[:, j])
        expected = (0.01 * relative / fitted.outputs.std[j]) ** 2 * np.ones(60)
        assert extra[30:] == pytest.approx(expected[30:], rel=1e-6, abs=1e-9)
        assert extra[:30] == pytest.approx(np.zeros(30), abs=1e-9)


@pytest.fixture(scope="module")
def rough() -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Rows, values of which every other one is ten times as uncertain, uncertainties, truth."""
    draw = np.random.default_rng(3)
    x = draw.uniform(-1, 1, (80, 1))
    exact = np.sin(3 * x)
    noise = np.where(np.arange(80)[:, None] % 2, 1.0, 0.05)
    return x, exact + noise * draw.normal(size=exact.shape), noise, exact


def test_uncertain_rows_count_for_less(
    rough: tuple[FloatArray, FloatArray, FloatArray, FloatArray],
) -> None:
    x, y, noise, _ = rough
    test = np.linspace(-0.9, 0.9, 50)[:, None]
    errors = {}
    for name, given in (("known", noise), ("ignored", None)):
        fitted = Surrogate(("y",)).fit(x, y, noise=given, rng=rng())
        prediction = fitted.predict(test)
        error = prediction.mean - np.sin(3 * test)
        errors[name] = float(np.sqrt((error**2).mean()))
        if name == "known":
            # 50 points of one smooth curve are about five independent ones: z² has mean 1 and
            # standard error √(2/5) = 0.63; four of them are allowed.
            z = error / prediction.std
            assert np.mean(z**2) < 1 + 4 * 0.63
    # The good half alone: 40 rows of 0.05 on a curve of about five degrees of freedom.
    assert errors["known"] < 3 * 0.05 * np.sqrt(5 / 40)
    assert errors["known"] < 0.5 * errors["ignored"]


def test_noise_that_is_known_is_not_found_again(
    rough: tuple[FloatArray, FloatArray, FloatArray, FloatArray],
) -> None:
    x, y, noise, _ = (torch.from_numpy(a) for a in rough)
    _, on_top, _ = fit_kernel(x, y[:, 0], 50, noise[:, 0] ** 2)
    _, alone, _ = fit_kernel(x, y[:, 0], 50)
    mean = float((noise**2).mean())
    # A variance that n rows tell has relative standard error √(2/n); four of them are allowed.
    assert alone == pytest.approx(mean, rel=4 * np.sqrt(2 / 40))
    assert on_top < 0.05 * mean


# New values


def known_model(log: bool, noise: float, y: FloatArray, x: FloatArray) -> Surrogate:
    """A surrogate of one property with the hyperparameters that its data are drawn with."""
    unit = PropertyScale(np.array([log]), np.array([1.5]), np.array([0.4]))
    with torch.no_grad():
        rows = torch.from_numpy(x), torch.from_numpy(y)
        posterior = Posterior(*rows, made(LENGTHS, SCALE, SLOPES), noise, 0.0)
    return Surrogate(("a",), np.zeros(3), np.ones(3), unit, [posterior])


@pytest.mark.parametrize("log", [False, True])
def test_nine_in_ten_new_values_lie_in_their_intervals(log: bool) -> None:
    """One new value of each of n functions drawn from the model: hits are binomial (n, 0.9).

    Within 4 standard errors √(0.09 / n); the interval of the property itself is far outside.
    """
    draw, n, noise = np.random.default_rng(8), 2000, 0.4
    points = draw.normal(size=(16, 3))
    covariance = matern_plus_linear(points, points, LENGTHS, SCALE, SLOPES) + noise * np.eye(16)
    values = draw.normal(size=(n, 16)) @ np.linalg.cholesky(covariance).T
    surrogate = known_model(log, noise, values[0, :15], points[:15])
    (model,), scale = surrogate.models, surrogate.outputs
    assert scale is not None
    one = surrogate.predict(points[15:])
    # Deviations are alike for all functions at one place; the means are linear in their values.
    with torch.no_grad():
        cross = model.kernel(torch.from_numpy(points[15:]), model.x).to_dense()
        weights = torch.cholesky_solve(torch.from_numpy(values[:, :15].T.copy()), model.factor)
    means = (cross @ weights).numpy().T
    assert one.noise is not None
    slope = scale.slope(means) / scale.slope(means[:1])
    predicted = Prediction(scale.inverse(means), one.std * slope, one.noise * slope)
    assert predicted.mean[0] == pytest.approx(one.mean[0])
    new, error = scale.inverse(values[:, 15:]), 4 * np.sqrt(0.09 / n)
    low, high = surrogate.interval(predicted)
    assert np.mean((low < new) & (new < high)) == pytest.approx(0.9, abs=error)
    low, high = surrogate.interval(Prediction(predicted.mean, predicted.std))
    assert np.mean((low < new) & (new < high)) < 0.9 - 2 * error


def test_the_noise_that_a_fit_finds_is_that_of_new_values() -> None:
    """Coverage at 400 new points after a fit to 150 noisy values of a known function.

    The deviation that is found has a relative standard error of 1 / √(2 · 150), and coverage
    changes by 2 · 1.645 φ(1.645) = 0.34 times that; with the binomial scatter, 4 of both.
    """
    draw, n, new, sigma = np.random.default_rng(6), 150, 400, 0.3
    x = draw.uniform(-1, 1, (n + new, 2))
    y = np.sin(3 * x[:, [0]]) + x[:, [1]] + sigma * draw.normal(size=(n + new, 1))
    surrogate = Surrogate(("a",)).fit(x[:n], y[:n], rng=rng())
    predicted = surrogate.predict(x[n:])
    assert predicted.noise is not None
    assert predicted.noise == pytest.approx(np.full((new, 1), sigma), rel=4 / np.sqrt(2 * n))
    assert predicted.of_new_values().std == pytest.approx(np.hypot(predicted.std, predicted.noise))
    low, high = surrogate.interval(predicted)
    error = 4 * np.hypot(np.sqrt(0.09 / new), 0.34 / np.sqrt(2 * n))
    assert np.mean((low < y[n:]) & (y[n:] < high)) == pytest.approx(0.9, abs=error)
    low, high = surrogate.interval(Prediction(predicted.mean, predicted.std))
    assert np.mean((low < y[n:]) & (y[n:] < high)) < 0.9 - 2 * error


def test_values_without_noise_are_as_sure_as_the_property() -> None:
    x = design_rows(40, rng())
    y = truth(x)[:, [2]]
    predicted = Surrogate(NAMES[2:]).fit(x, y, rng=rng()).predict(design_rows(50, rng()))
    assert predicted.noise is not None
    # It starts from a hundredth of the spread.
    assert (predicted.noise < 0.01 * y.std()).all()


def test_known_uncertainties_are_in_the_noise_of_new_values() -> None:
    """A value like those on record has their uncertainty, the middle one of them."""
    x, y = torch.zeros(4, 3).double(), torch.zeros(4).double()
    given = torch.tensor([0.1, 0.1, 0.3, 9.0]).double()
    with torch.no_grad():
        assert Posterior(x, y, made(LENGTHS, SCALE, SLOPES), given, 0.0).scatter == given[1]
        assert Posterior(x, y, made(LENGTHS, SCALE, SLOPES), 0.2, 0.0).scatter == pytest.approx(0.2)


def test_intervals_have_the_probability_asked() -> None:
    surrogate = known_model(True, 0.3, np.array([0.4, -0.2]), np.eye(3)[:2])
    predicted = surrogate.predict(np.zeros((1, 3)))
    low, high = surrogate.interval(predicted, 0.5)
    # Of the logarithm the ends are even about the median: quartiles at 0.6745 deviations.
    assert low[0, 0] * high[0, 0] == pytest.approx(predicted.mean[0, 0] ** 2)
    ratio = np.log(high / predicted.mean) * predicted.mean / predicted.of_new_values().std
    assert ratio[0, 0] == pytest.approx(0.67448975)
    for wrong in (0.0, 1.0, float("nan")):
        with pytest.raises(InvalidInputError, match="expected a number between 0 and 1"):
            surrogate.interval(predicted, wrong)
