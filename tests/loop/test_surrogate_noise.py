"""Known uncertainties in the surrogate: weights of the rows, and how far predictions are sure."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from loop.surrogate import Posterior, Surrogate, fit_kernel
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
