"""The Gaussian-process surrogate against the posterior worked out separately."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from loop.errors import InvalidInputError
from loop.kernels import LinearPlusMatern
from loop.surrogate import FIT_ROWS, MIN_ROWS, Posterior, Surrogate, fit_kernel

FloatArray = NDArray[np.float64]


def matern_plus_linear(
    a: FloatArray, b: FloatArray, lengths: FloatArray, scale: float, slopes: FloatArray
) -> FloatArray:
    """Matérn 5/2 plus linear kernel, written out (Rasmussen & Williams 2006, eq. 4.17)."""
    r = np.sqrt((((a[:, None] - b[None]) / lengths) ** 2).sum(-1))
    matern = scale * (1 + math.sqrt(5) * r + 5 / 3 * r**2) * np.exp(-math.sqrt(5) * r)
    linear: FloatArray = matern + (a * slopes) @ b.T
    return linear


def closed_form(
    x: FloatArray, y: FloatArray, test: FloatArray, noise: float, constant: float, *given: object
) -> tuple[FloatArray, FloatArray]:
    """Mean and deviation of the function at ``test`` (ibid., eqs. 2.25 and 2.26)."""
    k = matern_plus_linear(x, x, *given) + noise * np.eye(len(x))  # type: ignore[arg-type]
    cross = matern_plus_linear(test, x, *given)  # type: ignore[arg-type]
    prior = matern_plus_linear(test, test, *given)  # type: ignore[arg-type]
    inverse = np.linalg.inv(k)
    mean = constant + cross @ inverse @ (y - constant)
    return mean, np.sqrt(np.diag(prior - cross @ inverse @ cross.T))


def made(lengths: FloatArray, scale: float, slopes: FloatArray) -> LinearPlusMatern:
    """The surrogate's kernel with given hyperparameters."""
    kernel = LinearPlusMatern(len(lengths)).double()
    kernel.matern.outputscale = torch.tensor(scale, dtype=torch.float64)
    kernel.matern.base_kernel.lengthscale = torch.from_numpy(lengths)[None]
    kernel.linear.variance = torch.from_numpy(slopes)[None]
    return kernel


LENGTHS, SCALE, SLOPES = np.array([0.7, 1.5, 3.0]), 1.3, np.array([0.2, 0.0001, 0.5])


def test_posterior_equals_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    x, test, y = rng.normal(size=(25, 3)), rng.normal(size=(11, 3)) * 2, rng.normal(size=25)
    given = (LENGTHS, SCALE, SLOPES)
    with torch.no_grad():
        posterior = Posterior(torch.from_numpy(x), torch.from_numpy(y), made(*given), 0.01, 0.4)
    mean, std = posterior.predict(torch.from_numpy(test))
    exact_mean, exact_std = closed_form(x, y, test, 0.01, 0.4, *given)
    assert mean.numpy() == pytest.approx(exact_mean, rel=1e-8, abs=1e-9)
    assert std.numpy() == pytest.approx(exact_std, rel=1e-7)
    assert posterior.mean(torch.from_numpy(test)).numpy() == pytest.approx(exact_mean, abs=1e-9)


def test_kernel_matrix_and_its_diagonal() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(7, 3)), rng.normal(size=(4, 3))
    kernel, given = made(LENGTHS, SCALE, SLOPES), (LENGTHS, SCALE, SLOPES)
    with torch.no_grad():
        both = kernel(torch.from_numpy(a), torch.from_numpy(b)).to_dense().numpy()
        diagonal = kernel(torch.from_numpy(a), diag=True).numpy()
    assert both == pytest.approx(matern_plus_linear(a, b, *given), rel=1e-9)
    assert diagonal == pytest.approx(np.diag(matern_plus_linear(a, a, *given)), rel=1e-9)


def test_z_scores_of_functions_from_the_prior_are_standard_normal() -> None:
    """Of n independent functions, mean z² is 1 within 4 standard errors √(2/n)."""
    rng, n, given = np.random.default_rng(1), 400, (LENGTHS, SCALE, SLOPES)
    points = rng.normal(size=(16, 3))
    root = np.linalg.cholesky(matern_plus_linear(points, points, *given) + 1e-10 * np.eye(16))
    functions = rng.normal(size=(n, 16)) @ root.T
    noise = 0.05
    observed = functions[:, :15] + math.sqrt(noise) * rng.normal(size=(n, 15))
    kernel = made(*given)
    x, test = torch.from_numpy(points[:15]), torch.from_numpy(points[15:])
    z = []
    for f, y in zip(functions, observed, strict=True):
        mean, std = Posterior(x, torch.from_numpy(y), kernel, noise, 0.0).predict(test)
        z.append((f[15] - float(mean)) / float(std))
    assert np.mean(z) == pytest.approx(0.0, abs=4 / math.sqrt(n))
    assert np.mean(np.square(z)) == pytest.approx(1.0, abs=4 * math.sqrt(2 / n))


def design_rows(n: int, rng: np.random.Generator) -> FloatArray:
    return rng.uniform(-1, 1, (n, 3)) * [1.0, 20.0, 0.01] + [5.0, 0.0, 3.0]


def truth(x: FloatArray) -> FloatArray:
    """A smooth, a skewed positive and a linear property of three inputs."""
    u = (x - [5.0, 0.0, 3.0]) / [1.0, 20.0, 0.01]
    smooth = 200 + 10 * np.sin(2 * u[:, 0]) + 5 * u[:, 1] * u[:, 2]
    skewed = np.exp(1.5 * u[:, 0] + u[:, 1])
    return np.column_stack([smooth, skewed, 8 + u @ [0.1, -0.2, 0.3]])


NAMES = ("smooth", "skewed", "linear")


@pytest.fixture(scope="module")
def fitted() -> tuple[Surrogate, FloatArray, FloatArray]:
    rng = np.random.default_rng(2)
    x = design_rows(60, rng)
    return Surrogate(NAMES).fit(x, truth(x), rng=np.random.default_rng(0)), x, truth(x)


def test_fitted_surrogate_is_the_closed_form_at_its_own_hyperparameters(
    fitted: tuple[Surrogate, FloatArray, FloatArray],
) -> None:
    surrogate, x, y = fitted
    test = design_rows(20, np.random.default_rng(3))
    found = surrogate.predict(test)
    z, z_test = ((rows - x.mean(0)) / x.std(0) for rows in (x, test))
    for j, model in enumerate(surrogate.models):
        column = np.log(y[:, j]) if NAMES[j] == "skewed" else y[:, j]
        matern, linear = model.kernel.matern, model.kernel.linear
        given = (
            matern.base_kernel.lengthscale.detach().numpy()[0],
            float(matern.outputscale.detach()),
            linear.variance.detach().numpy()[0] * np.ones(3),
        )
        # The factor times its transpose is K + noise: the noise is what the kernel lacks.
        gram = (model.factor @ model.factor.T).numpy()
        noise = float(np.mean(np.diag(gram) - np.diag(matern_plus_linear(z, z, *given))))
        centred = (column - column.mean()) / column.std()
        mean, std = closed_form(z, centred, z_test, noise, model.constant, *given)
        mean, unit = column.mean() + column.std() * mean, column.std()
        if NAMES[j] == "skewed":
            mean, unit = np.exp(mean), unit * np.exp(mean)
        assert found.mean[:, j] == pytest.approx(mean, rel=1e-6)
        # The variance is a difference of numbers near 1, and the condition of the matrix is about
        # 60 / MIN_NOISE: rounding is absolute, of 1e-8.
        assert (found.std[:, j] / unit) ** 2 == pytest.approx(std**2, rel=1e-6, abs=1e-7)


def test_a_known_function_is_learned_and_its_error_known(
    fitted: tuple[Surrogate, FloatArray, FloatArray],
) -> None:
    """On inputs of the same range: errors far below the spread, and of the predicted size.

    For z of unit variance, |z| > 3 has probability 0.0027; correlated errors make it vary, but
    one in twenty would mean that the deviations are too small. |z| > 1/4 has probability 0.8: one
    in five or fewer would mean that they are too large (of what a line explains they may be: the
    least noise is set by ``MIN_NOISE``).
    """
    surrogate, _, _ = fitted
    test = design_rows(400, np.random.default_rng(4))
    prediction, exact = surrogate.predict(test), truth(test)
    error = np.sqrt(((prediction.mean - exact) ** 2).mean(0)) / exact.std(0)
    assert np.all(error < 0.1)
    assert error[2] < 1e-3  # the linear kernel has it
    z = np.abs(prediction.mean - exact) / prediction.std
    assert np.all((z > 3).mean(0) < 0.05)
    assert (z[:, 0] > 0.25).mean() > 0.2


def test_predictions_of_positive_properties_are_positive(
    fitted: tuple[Surrogate, FloatArray, FloatArray],
) -> None:
    surrogate, _, _ = fitted
    far = design_rows(50, np.random.default_rng(5)) * 3
    assert np.all(surrogate.predict(far).mean[:, 1] > 0)


def test_mean_alone_equals_the_predicted_mean(
    fitted: tuple[Surrogate, FloatArray, FloatArray],
) -> None:
    surrogate, _, _ = fitted
    test = design_rows(4100, np.random.default_rng(6))  # more than one part of 4096
    both = surrogate.predict(test).mean
    assert surrogate.mean(test) == pytest.approx(both, rel=1e-9)
    assert both[4097:] == pytest.approx(surrogate.predict(test[4097:]).mean, rel=1e-9)


def test_deviation_shrinks_where_data_are(fitted: tuple[Surrogate, FloatArray, FloatArray]) -> None:
    surrogate, x, _ = fitted
    at_data = surrogate.predict(x).std[:, 0]
    far = surrogate.predict(design_rows(50, np.random.default_rng(7)) * 2).std[:, 0]
    assert at_data.max() < 0.2 * far.min()


def test_unknown_values_are_left_out() -> None:
    """A property's model is what it would be without the rows where it is unknown."""
    rng = np.random.default_rng(8)
    x = design_rows(30, rng)
    y = truth(x)[:, :1]
    gaps = y.copy()
    gaps[20:] = np.nan
    kept = Surrogate(("smooth",)).fit(x, gaps, rng=np.random.default_rng(0))
    assert len(kept.models[0].x) == 20
    assert kept.predict(x[:20]).mean == pytest.approx(y[:20], rel=1e-3)


def test_every_row_counts_though_few_decide_the_hyperparameters() -> None:
    rng = np.random.default_rng(9)
    x = design_rows(FIT_ROWS + 40, rng)
    surrogate = Surrogate(("smooth",)).fit(x, truth(x)[:, :1], rng=rng, steps=3)
    assert len(surrogate.models[0].x) == FIT_ROWS + 40


def test_the_same_stream_gives_the_same_surrogate() -> None:
    x = design_rows(FIT_ROWS + 10, np.random.default_rng(10))
    test = design_rows(5, np.random.default_rng(11))
    first, second = (
        Surrogate(("smooth",)).fit(x, truth(x)[:, :1], rng=np.random.default_rng(1), steps=5)
        for _ in range(2)
    )
    assert np.array_equal(first.predict(test).mean, second.predict(test).mean)
    assert np.array_equal(first.predict(test).std, second.predict(test).std)


def test_constant_inputs_and_outputs_do_no_harm() -> None:
    rng = np.random.default_rng(12)
    x = np.column_stack([rng.normal(size=20), np.full(20, 3.0)])
    y = np.column_stack([x[:, 0], np.full(20, 7.0)])
    prediction = Surrogate(("a", "b")).fit(x, y, rng=rng).predict(x)
    assert np.all(np.isfinite(prediction.std))
    assert prediction.mean == pytest.approx(y, abs=1e-2)


@pytest.mark.parametrize("kind", ["all different", "rows twice", "rows twice, other values", "one"])
@pytest.mark.parametrize("n", [MIN_ROWS, 12])
def test_few_rows_of_many_inputs(n: int, kind: str) -> None:
    """More inputs than rows, rows twice, values that contradict or do not vary: still finite."""
    rng = np.random.default_rng([n, len(kind)])
    x = np.column_stack([rng.normal(size=(n, 120)), np.full((n, 3), 2.0)])
    y = np.column_stack([x[:, 0] * 5 + 190, np.exp(3 * x[:, 1])])
    if kind.startswith("rows twice"):
        x[n // 2 :] = x[: n - n // 2]
        if kind == "rows twice":
            y[n // 2 :] = y[: n - n // 2]
    if kind == "one":
        y[:] = y[0]
    surrogate = Surrogate(("a", "b")).fit(x, y, rng=rng)
    found = surrogate.predict(np.concatenate([x, 3 * rng.normal(size=(40, x.shape[1]))]))
    assert np.all(np.isfinite(found.mean))
    assert np.all(np.isfinite(found.std))
    assert np.all(found.std >= 0)
    if kind == "one":
        assert found.mean == pytest.approx(np.broadcast_to(y[0], (n + 40, 2)), rel=1e-3)
    elif kind != "rows twice, other values":
        assert np.all(np.abs(found.mean[:n] - y) < 0.2 * y.std(0))


def starting_point(d: int) -> dict[str, float]:
    kernel = LinearPlusMatern(d)
    return {
        "scale": float(kernel.matern.outputscale.detach()),
        "length": float(kernel.matern.base_kernel.lengthscale.detach()[0, 0]),
        "slope": float(kernel.linear.variance.detach().flatten()[0]),
    }


@pytest.mark.parametrize("fault", ["squares overflow", "not positive definite", "parameters lost"])
def test_a_search_that_fails_ends_where_it_began(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(14)
    x, y = torch.from_numpy(rng.normal(size=(10, 4))), torch.from_numpy(rng.normal(size=10))
    if fault == "squares overflow":
        y = y * 1e200
    else:
        import botorch.optim.fit
        from linear_operator.utils.errors import NotPSDError

        def failing(mll: torch.nn.Module, **_: object) -> None:
            if fault == "not positive definite":
                raise NotPSDError("matrix not positive definite after repeatedly adding jitter")
            with torch.no_grad():
                for value in mll.parameters():
                    value.fill_(math.nan)

        monkeypatch.setattr(botorch.optim.fit, "fit_gpytorch_mll_scipy", failing)
    for _ in range(2):
        kernel, noise, constant = fit_kernel(x, y, 30)
        start = starting_point(4)
        assert float(kernel.matern.outputscale.detach()) == pytest.approx(start["scale"], rel=1e-6)
        lengths = kernel.matern.base_kernel.lengthscale.detach().numpy()
        assert lengths == pytest.approx(np.full((1, 4), start["length"]), rel=1e-6)
        slopes = kernel.linear.variance.detach().numpy().ravel()
        assert slopes == pytest.approx(np.full(4, start["slope"]), rel=1e-6)
        assert noise == pytest.approx(1e-4, rel=1e-6)
        assert constant == 0.0


def test_too_few_values_are_refused() -> None:
    x = design_rows(MIN_ROWS, np.random.default_rng(13))
    y = truth(x)[:, :1]
    y[0] = np.nan
    with pytest.raises(InvalidInputError, match=f"smooth has {MIN_ROWS - 1} scored values"):
        Surrogate(("smooth",)).fit(x, y, rng=np.random.default_rng(0))
    with pytest.raises(InvalidInputError, match="not fitted"):
        Surrogate(("smooth",)).predict(x)
