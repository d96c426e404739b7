"""The joint model of several fidelities against its covariance and posterior written out."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from loop.errors import InvalidInputError
from loop.kernels import Autoregressive
from loop.multi_fidelity import (
    ORDER,
    LevelPosterior,
    MultiFidelity,
    fit_levels,
    fit_rows,
    left_out,
    levels_of,
    with_level,
)
from loop.property_models import GaussianProcess
from loop.surrogate import Posterior, Surrogate
from tests.loop.test_surrogate import LENGTHS, SCALE, SLOPES, made, matern_plus_linear

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
RATIOS, PARTS = np.array([0.8, 1.7]), np.array([[0.3, 0.05], [0.6, 1.2]])
NOISE, OFFSETS = np.array([0.001, 0.03, 0.2]), np.array([-0.4, 1.0, 0.3])


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def kernel_of(levels: int = 3) -> Autoregressive:
    """With given hyperparameters."""
    kernel = Autoregressive(3, levels).double()
    kernel.base = made(LENGTHS, SCALE, SLOPES)
    with torch.no_grad():
        kernel.ratios.copy_(torch.from_numpy(RATIOS[: levels - 1]))
    parts = torch.from_numpy(PARTS[:, : levels - 1])
    kernel.initialize(raw_parts=kernel.raw_parts_constraint.inverse_transform(parts))
    return kernel


def by_recursion(a: FloatArray, la: IntArray, b: FloatArray, lb: IntArray) -> FloatArray:
    """Cov(f_l(x), f_m(x')) by f_l = ρ_l f_{l-1} + g_l, one pair of values after the other.

    Kennedy & O'Hagan 2000, eq. 2; the g are independent of each other.
    """

    def own(level: int, x: FloatArray, y: FloatArray) -> float:
        smooth = matern_plus_linear(x[None], y[None], LENGTHS, SCALE, 0.0 * SLOPES)[0, 0]
        straight = float((x * SLOPES) @ y)
        if level == 0:
            return float(smooth + straight)
        return float(PARTS[0, level - 1] * smooth + PARTS[1, level - 1] * straight)

    def cov(x: FloatArray, i: int, y: FloatArray, j: int) -> float:
        if i < j:
            return cov(y, j, x, i)
        below = RATIOS[i - 1] * cov(x, i - 1, y, j) if i > 0 else 0.0
        if i != j:
            return below
        if i == 0:
            return own(0, x, y)
        return float(RATIOS[i - 1] ** 2 * cov(x, i - 1, y, i - 1) + own(i, x, y))

    return np.array([[cov(x, int(i), y, int(j)) for y, j in zip(b, lb, strict=True)]
                     for x, i in zip(a, la, strict=True)])  # fmt: skip


def test_the_covariance_is_the_recursion() -> None:
    draw = rng()
    a, b = draw.normal(size=(9, 3)), draw.normal(size=(6, 3))
    la, lb = np.arange(9) % 3, np.arange(6) // 2
    rows = [with_level(torch.from_numpy(x), torch.from_numpy(i)) for x, i in ((a, la), (b, lb))]
    kernel = kernel_of()
    with torch.no_grad():
        both = kernel(*rows).to_dense().numpy()
        diagonal = kernel(rows[0], diag=True).numpy()
        root = torch.linalg.eigvalsh(kernel(rows[0]).to_dense()).numpy()
    assert both == pytest.approx(by_recursion(a, la, b, lb), rel=1e-9)
    assert diagonal == pytest.approx(np.diag(by_recursion(a, la, a, la)), rel=1e-9)
    assert root.min() > 0


def data() -> tuple[FloatArray, IntArray, FloatArray, FloatArray, FloatArray]:
    draw = rng(1)
    x, y = draw.normal(size=(30, 3)), draw.normal(size=30)
    return x, np.arange(30) % 3, y, draw.uniform(0, 0.1, 30), draw.normal(size=(7, 3))


def posterior() -> LevelPosterior:
    x, levels, y, known, _ = data()
    full = with_level(torch.from_numpy(x), torch.from_numpy(levels))
    values, known_noise, noise, offsets = map(torch.from_numpy, (y, known, NOISE, OFFSETS))
    return LevelPosterior(full, values, known_noise, kernel_of(), noise, offsets)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_the_posterior_at_any_level_is_the_closed_form(level: int) -> None:
    """Rasmussen & Williams 2006, eqs. 2.25 and 2.26, with covariances and means by level."""
    x, levels, y, known, test = data()
    mean, std = posterior().at(level).predict(torch.from_numpy(test))
    at = np.full(7, level)
    gram: FloatArray = by_recursion(x, levels, x, levels) + np.diag(known + NOISE[levels])
    inverse = np.linalg.inv(gram)
    cross = by_recursion(test, at, x, levels)
    exact = OFFSETS[level] + cross @ inverse @ (y - OFFSETS[levels])
    assert mean.numpy() == pytest.approx(exact, rel=1e-8, abs=1e-9)
    prior = np.diag(by_recursion(test, at, test, at))
    exact_std = np.sqrt(prior - np.einsum("ij,jk,ik->i", cross, inverse, cross))
    assert std.numpy() == pytest.approx(exact_std, rel=1e-6)


def test_the_highest_level_is_asked_unless_another_is() -> None:
    test = torch.from_numpy(data()[-1])
    found = posterior()
    assert torch.equal(found.mean(test), found.at(2).mean(test))
    # As generators.surrogate_guidance differentiates it: designs alone against all rows.
    cross = found.kernel(test, found.x).to_dense()
    assert torch.allclose(cross @ found.weights + found.constant, found.mean(test), atol=1e-12)


def test_a_new_value_has_the_noise_of_its_level() -> None:
    """What was found of the level, and the middle one of the uncertainties known at it."""
    _, levels, _, known, _ = data()
    found = posterior()
    for level in range(3):
        middle = np.sort(known[levels == level])[(np.sum(levels == level) - 1) // 2]
        assert found.at(level).scatter == pytest.approx(NOISE[level] + middle)
    assert found.scatter == found.at(2).scatter


def test_levels_that_are_one_property_are_pooled() -> None:
    """ρ = 1, no discrepancy, one offset, one noise: a plain Gaussian process of all values."""
    x, levels, y, known, test = data()
    kernel = kernel_of()
    with torch.no_grad():
        kernel.ratios.fill_(1.0)
    kernel.initialize(raw_parts=torch.full((2, 2), -40.0))
    rows, values, at = (torch.from_numpy(a) for a in (x, y, test))
    noise = torch.full((3,), 0.01, dtype=torch.float64)
    one = LevelPosterior(
        with_level(rows, torch.from_numpy(levels)),
        values,
        torch.from_numpy(known),
        kernel,
        noise,
        torch.full((3,), 0.2, dtype=torch.float64),
    )
    plain = Posterior(
        rows, values, made(LENGTHS, SCALE, SLOPES), 0.01 + torch.from_numpy(known), 0.2
    )
    for found, exact in zip(one.predict(at), plain.predict(at), strict=True):
        assert found.numpy() == pytest.approx(exact.numpy(), rel=1e-8, abs=1e-9)


def truth(x: FloatArray) -> FloatArray:
    found: FloatArray = 300 + 40 * np.sin(3 * x[:, 0]) + 30 * x[:, 1] * x[:, 2]
    return found


def cheap(x: FloatArray) -> FloatArray:
    found: FloatArray = 0.5 * truth(x) + 20 * x[:, 1] + 100
    return found


def values(
    seed: int = 2, n: int = 60, m: int = 10, noise: float = 1.0
) -> tuple[FloatArray, FloatArray, list[str], FloatArray]:
    """n designs simulated, the first m measured as well: x, y, fidelity, uncertainty."""
    draw = rng(seed)
    x = draw.uniform(-1, 1, (n, 3))
    y = np.concatenate([cheap(x), truth(x[:m]) + noise * draw.normal(size=m)])
    known = np.concatenate([np.zeros(n), np.full(m, noise)])
    return np.vstack([x, x[:m]]), y, ["simulated"] * n + ["measured"] * m, known


@pytest.fixture(scope="module")
def fitted() -> MultiFidelity:
    x, y, fidelity, known = values()
    return MultiFidelity().fit(x, y, fidelity, noise=known, rng=rng())


def error(found: FloatArray, exact: FloatArray) -> float:
    return float(np.sqrt(np.mean((found - exact) ** 2)) / exact.std())


def test_few_measurements_correct_a_simulator_of_unknown_bias_and_scale(
    fitted: MultiFidelity,
) -> None:
    """Ten values fix a factor, a slope and a constant to about their noise, not the function."""
    x, y, _, known = values()
    test = rng(3).uniform(-1, 1, (400, 3))
    joint = fitted.predict(test)
    top = slice(60, None)
    alone = GaussianProcess().fit(x[top], y[top], noise=known[top], rng=rng()).predict(test)
    pooled = GaussianProcess().fit(x, y, noise=known, rng=rng()).predict(test)
    exact = truth(test)
    # Noise of 1 on ten values of a function with deviation 30: errors of a few per cent remain.
    assert error(joint.mean, exact) < 0.1
    assert error(alone.mean, exact) > 3 * error(joint.mean, exact)
    assert error(pooled.mean, exact) > 3 * error(joint.mean, exact)
    assert error(fitted.predict(test, "simulated").mean, cheap(test)) < 0.05  # 60 exact values
    assert fitted.fidelities == ("simulated", "measured")


def test_errors_are_of_the_predicted_size(fitted: MultiFidelity) -> None:
    """90 % intervals of new measurements; 400 designs of a smooth function are worth some 20.

    The binomial deviation of 0.9 at 20 is 0.067; four of them are allowed, above and below.
    """
    test = rng(4).uniform(-1, 1, (400, 3))
    p = fitted.predict(test)
    new = truth(test) + rng(5).normal(size=400)
    inside = np.abs(new - p.mean) <= 1.645 * np.hypot(p.std, 1.0)
    assert inside.mean() > 0.9 - 4 * 0.067


def test_the_same_values_give_the_same_model(fitted: MultiFidelity) -> None:
    x, y, fidelity, known = values()
    again = MultiFidelity().fit(x, y, fidelity, noise=known, rng=rng())
    test = rng(6).uniform(-1, 1, (20, 3))
    for kind in (None, *fitted.fidelities):
        assert np.array_equal(again.predict(test, kind).mean, fitted.predict(test, kind).mean)
        assert np.array_equal(again.predict(test, kind).std, fitted.predict(test, kind).std)


def test_noise_is_found_for_each_level() -> None:
    """Simulated values are exact, measured ones scatter, and nobody says how much.

    A variance that m values tell has relative standard error √(2/m); the model takes some of the
    40 for its line between the levels. Four such errors are allowed.
    """
    x, y, fidelity, _ = values(n=60, m=40, noise=6.0)
    model = MultiFidelity().fit(x, y, fidelity, rng=rng())
    assert model._fitted is not None
    found = model._fitted.posterior.noise.numpy() * model._fitted.scale.y_scale**2
    assert found[1] == pytest.approx(36.0, rel=4 * np.sqrt(2 / 40))
    assert found[0] < 0.1 * found[1]
    known = np.where(np.array(fidelity) == "measured", 6.0, 0.0)
    told = MultiFidelity().fit(x, y, fidelity, noise=known, rng=rng())
    assert told._fitted is not None
    on_top = told._fitted.posterior.noise.numpy() * told._fitted.scale.y_scale**2
    assert on_top[1] < 0.5 * found[1]


def test_three_levels() -> None:
    """Each predicted at its own level; the middle one helps the highest."""
    draw = rng(7)
    x = draw.uniform(-1, 1, (40, 3))
    rough = cheap(x) - 40 * x[:, 2]
    rows = np.vstack([x, x[:20], x[:8]])
    y = np.concatenate([rough, cheap(x[:20]), truth(x[:8])])
    fidelity = ["predicted"] * 40 + ["simulated"] * 20 + ["measured"] * 8
    model = MultiFidelity().fit(rows, y, fidelity, rng=rng())
    assert model.fidelities == ORDER
    test = rng(8).uniform(-1, 1, (200, 3))
    assert error(model.predict(test, "simulated").mean, cheap(test)) < 0.1
    assert error(model.predict(test).mean, truth(test)) < 0.4


@pytest.mark.parametrize("few", [1, 5])
def test_as_few_measurements_as_there_are(few: int) -> None:
    """One tells a constant; five a factor and a slope, and the deviations are of the right size."""
    x, y, fidelity, known = values(m=few)
    found = MultiFidelity().fit(x, y, fidelity, noise=known, rng=rng())
    test = rng(9).uniform(-1, 1, (300, 3))
    p = found.predict(test)
    assert np.all(p.std > 0)
    # The simulator itself, moved by one constant, explains a part; 1.0 is the mean alone.
    assert error(p.mean, truth(test)) < (1.0 if few == 1 else 0.15)
    if few == 5:
        assert np.mean(np.abs(p.mean - truth(test)) < 3 * p.std) > 0.9


def test_a_simulator_of_something_else_does_no_harm() -> None:
    """Of values that have nothing to do with each other the measured ones count alone."""
    x, y, fidelity, known = values(m=20)
    y[:60] = 300 + 50 * np.cos(4 * x[:60, 2]) + 40 * x[:60, 0] * x[:60, 1]
    model = MultiFidelity().fit(x, y, fidelity, noise=known, rng=rng())
    top = slice(60, None)
    alone = GaussianProcess(60).fit(x[top], y[top], noise=known[top], rng=rng())
    test = rng(11).uniform(-1, 1, (300, 3))
    found = error(model.predict(test).mean, truth(test))
    # The scales of values and features differ a little between the two: so may the errors.
    assert found < 1.2 * error(alone.predict(test).mean, truth(test))


def test_each_value_is_foretold_by_the_others() -> None:
    """Rasmussen & Williams 2006, eq. 5.12, against models made without the value."""
    x, levels, y, known, _ = data()
    full = with_level(torch.from_numpy(x), torch.from_numpy(levels))
    found = left_out(posterior())
    for i in range(0, 30, 4):
        rest = np.arange(30) != i
        values, known_noise, noise, offsets = map(
            torch.from_numpy, (y[rest], known[rest], NOISE, OFFSETS)
        )
        without = LevelPosterior(full[rest], values, known_noise, kernel_of(), noise, offsets).at(
            int(levels[i])
        )
        mean, std = without.predict(torch.from_numpy(x[i : i + 1]))
        total = float(std**2) + known[i] + NOISE[levels[i]]
        exact = -0.5 * (np.log(2 * np.pi * total) + (y[i] - float(mean)) ** 2 / total)
        assert float(found[i]) == pytest.approx(exact, rel=1e-6)


def test_rows_that_decide_the_hyperparameters() -> None:
    levels = np.array([0] * 500 + [1] * 100 + [2] * 7)
    kept = fit_rows(levels, rng(), most=60)
    assert len(set(kept.tolist())) == 60
    assert np.bincount(levels[kept]).tolist() == [27, 26, 7]
    assert len(fit_rows(levels[-20:] - 1, rng(), most=60)) == 20


def test_a_search_that_fails_ends_where_it_began() -> None:
    x, levels, y, known, _ = data()
    full = with_level(torch.from_numpy(x), torch.from_numpy(levels))
    kernel, noise, offsets = fit_levels(
        full, torch.from_numpy(y) * 1e200, torch.from_numpy(known), 3, 5
    )
    assert kernel.ratios.detach().numpy() == pytest.approx([1.0, 1.0])
    assert kernel.parts.detach().numpy() == pytest.approx(np.full((2, 2), 0.1), rel=1e-6)
    assert (noise.numpy() == pytest.approx(1e-2), offsets.tolist()) == (True, [0.0] * 3)


def test_the_surrogate_predicts_what_is_measured() -> None:
    """Columns of one fidelity are as without levels, one of two is the joint model."""
    x, y, _, known = values()
    other = np.concatenate([truth(x[:60, ::-1]), np.full(10, np.nan)])
    table, noise = np.column_stack([other, y]), np.column_stack([0 * known, known])
    levels = np.full((70, 2), ORDER.index("simulated"))
    levels[60:] = ORDER.index("measured")
    test = rng(10).uniform(-1, 1, (50, 3))
    names = ("other", "both")
    joint = Surrogate(names).fit(x, table, noise=noise, levels=levels, rng=rng())
    plain = Surrogate(names).fit(x, table, noise=noise, rng=rng())
    assert isinstance(joint.models[1], LevelPosterior)
    assert not isinstance(joint.models[0], LevelPosterior)
    found, without = joint.predict(test), plain.predict(test)
    assert np.array_equal(found.mean[:, 0], without.mean[:, 0])
    assert np.array_equal(found.std[:, 0], without.std[:, 0])
    assert error(found.mean[:, 1], truth(test)) < 0.1 < error(without.mean[:, 1], truth(test))
    assert np.allclose(joint.mean(test), found.mean)
    alike = copy.copy(levels)
    alike[:] = ORDER.index("measured")
    same = Surrogate(names).fit(x, table, noise=noise, levels=alike, rng=rng())
    assert np.array_equal(same.predict(test).mean, without.mean)


def test_what_cannot_be_learned_from_is_refused() -> None:
    x, y, fidelity, known = values()
    with pytest.raises(InvalidInputError, match="69 fidelities for 70 values"):
        levels_of(fidelity[1:], 70)
    with pytest.raises(InvalidInputError, match=r"unknown fidelity 'mesured'.*measured"):
        MultiFidelity().fit(x, y, [*fidelity[:-1], "mesured"], rng=rng())
    with pytest.raises(InvalidInputError, match="all values are simulated; expected several"):
        MultiFidelity().fit(x, y, ["simulated"] * 70, rng=rng())
    with pytest.raises(InvalidInputError, match="an uncertainty is below 0"):
        MultiFidelity().fit(x, y, fidelity, noise=-known, rng=rng())
    with pytest.raises(InvalidInputError, match="multi-fidelity is not fitted"):
        MultiFidelity().predict(x)
    with pytest.raises(InvalidInputError, match="multi-fidelity is not fitted"):
        assert MultiFidelity().fidelities


def test_what_cannot_be_predicted_is_refused(fitted: MultiFidelity) -> None:
    with pytest.raises(InvalidInputError, match="unknown fidelity 'predicted'"):
        fitted.predict(np.zeros((1, 3)), "predicted")
    with pytest.raises(InvalidInputError, match=r"features have shape \(1, 2\)"):
        fitted.predict(np.zeros((1, 2)))
    assert fitted.predict(np.zeros((0, 3))).mean.shape == (0,)
