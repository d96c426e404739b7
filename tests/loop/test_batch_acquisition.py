"""Joint acquisitions: closed forms, finite differences, and the same posterior as the surrogate."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from loop.batch_acquisition import JointHits, JointImprovement, log_hits
from loop.errors import InvalidInputError
from loop.formula import SYMBOLS
from loop.joint_posterior import JointPosterior, cholesky
from loop.polytope import CompositionSet
from loop.sampling import sample
from loop.selection import log_expected_improvement, log_probability_of_hit
from loop.surrogate import Surrogate
from loop.targets import Maximise, Minimise, Range, Targets

FloatArray = NDArray[np.float64]
E = 6
SPACE = CompositionSet(SYMBOLS[10 : 10 + E])


def records(n: int = 40) -> tuple[FloatArray, FloatArray]:
    """Compositions and two properties, the second on a logarithmic scale."""
    x = sample(SPACE, n, np.random.default_rng(0))
    first = np.sin(6 * x[:, 0]) + x[:, 1] ** 2
    second = np.exp(8 * x[:, 2] ** 2 + 4 * x[:, 3])
    return x, np.column_stack([first, second])


def fitted(columns: tuple[int, ...] = (0, 1)) -> tuple[Surrogate, FloatArray, FloatArray]:
    x, y = records()
    names = tuple("ab"[j] for j in columns)
    y = y[:, list(columns)]
    return Surrogate(names).fit(x, y, rng=np.random.default_rng(1)), x, y


def test_marginals_are_those_of_the_surrogate() -> None:
    surrogate, _, _ = fitted()
    assert surrogate.outputs is not None
    assert surrogate.outputs.log.tolist() == [False, True]
    x = sample(SPACE, 12, np.random.default_rng(2))
    posterior = JointPosterior(surrogate)
    mean, covariance = posterior.moments(torch.from_numpy(x).reshape(3, 4, E))
    expected = surrogate.predict(x)
    assert posterior.values(mean).reshape(12, 2).numpy() == pytest.approx(expected.mean, rel=1e-9)
    std = covariance.diagonal(dim1=-2, dim2=-1).sqrt().reshape(2, 12).T
    slope = surrogate.outputs.slope(mean.reshape(12, 2).numpy())
    assert std.numpy() * slope == pytest.approx(expected.std, rel=1e-6)
    back = posterior.standardised(posterior.values(mean))
    assert back.numpy() == pytest.approx(mean.numpy(), abs=1e-12)


def test_the_joint_covariance_is_what_conditioning_says() -> None:
    """Twice the covariance of a and b is var(a) + var(b) - var(a - b); here by a record more.

    Given a noise-free value at a, the variance at b falls by cov² / var(a).
    """
    surrogate, _, _ = fitted((0,))
    model = surrogate.models[0]
    z = torch.cat([model.x, torch.full((1, E), 0.3, dtype=torch.float64)])
    gram = model._kernel(z, z).detach()
    noise = (model.factor @ model.factor.T - gram[:-1, :-1]).diagonal()
    after = torch.cat([noise, torch.zeros(1, dtype=torch.float64)])
    b = torch.full((1, E), -0.2, dtype=torch.float64)
    cross = model._kernel(b, z).detach()
    given = cross @ torch.linalg.solve(gram + after.diag(), cross.T)
    variance = model._kernel(b, b).detach() - given
    both = torch.cat([z[-1:], b]) * torch.from_numpy(surrogate.scale)
    both = both + torch.from_numpy(surrogate.center)
    _, covariance = JointPosterior(surrogate).moments(both[None])
    (v, c), (_, w) = covariance[0, 0]
    assert float(w - c**2 / v) == pytest.approx(float(variance), rel=1e-6)


def test_one_design_is_worth_its_expected_improvement() -> None:
    """Against the closed form; 2,048 Sobol samples are within 2 % where the chance is not tiny."""
    surrogate, _, y = fitted((0,))
    targets = Targets((Maximise("a"),))
    at = sample(SPACE, 200, np.random.default_rng(3))
    rng = np.random.default_rng(4)
    acquisition = JointImprovement(surrogate, targets, y, 1, rng, samples=2048)
    found = acquisition(torch.from_numpy(at)[:, None]).numpy()
    exact = log_expected_improvement(surrogate.predict(at), targets, y, rng) - np.log(y.std())
    likely = exact > np.log(0.01)
    assert likely.sum() >= 5
    assert found[likely] == pytest.approx(exact[likely], abs=0.02)
    alone = acquisition.alone(torch.from_numpy(at)).numpy()
    assert alone == pytest.approx(found, abs=1e-12)


def test_the_probability_of_a_hit_is_the_closed_form() -> None:
    surrogate, x, y = fitted((0,))
    targets = Targets((Range("a", 0.8, 1.2),))
    at = sample(SPACE, 50, np.random.default_rng(5))
    acquisition = JointHits(surrogate, targets, x, y, 2, 1.0)
    exact = log_probability_of_hit(surrogate.predict(at), targets)
    assert acquisition.single(at) == pytest.approx(exact, abs=1e-12)
    assert acquisition.alone(torch.from_numpy(at)).detach().numpy() == pytest.approx(
        exact, rel=1e-5
    )


def test_open_sides_and_logarithmic_scales_have_derivatives() -> None:
    surrogate, _, _ = fitted()
    targets = Targets((Maximise("a", at_least=0.5), Range("b", 2.0, 4.0)))
    mean = torch.zeros((1, 2), dtype=torch.float64, requires_grad=True)
    value = log_hits(JointPosterior(surrogate), targets, mean, torch.ones_like(mean))
    (gradient,) = torch.autograd.grad(value.sum(), mean)
    assert torch.isfinite(value).all()
    assert torch.isfinite(gradient).all()
    # Not above 0, a property on a logarithmic scale has no chance, and that too is a number.
    below = Targets((Maximise("a"), Range("b", -2.0, -1.0)))
    worst = log_hits(JointPosterior(surrogate), below, mean, torch.ones_like(mean))
    assert float(worst) < -20


def _differences(value: Callable[[Tensor], Tensor], x: Tensor, step: float = 1e-6) -> FloatArray:
    found = np.zeros(x.numel())
    for i in range(x.numel()):
        shift = torch.zeros(x.numel(), dtype=torch.float64)
        shift[i] = step
        up, down = (value(x + sign * shift.reshape(x.shape)) for sign in (1.0, -1.0))
        found[i] = float((up - down).detach().sum()) / (2 * step)
    return found


@pytest.mark.parametrize("kind", ["improvement", "threshold", "two objectives", "hits"])
def test_gradients_are_finite_differences(kind: str) -> None:
    """Central differences of 1e-6: rounding of 1e-16 over it, relative to the largest part."""
    surrogate, x, y = fitted()
    rng = np.random.default_rng(6)
    acquisition: JointImprovement | JointHits
    if kind == "hits":
        wanted = Targets((Range("a", 0.7, 1.0), Range("b", 2.0, 4.0)))
        acquisition = JointHits(surrogate, wanted, x, y, 3, 1.0)
    else:
        wanted = {
            "improvement": Targets((Maximise("a"), Range("b", 0.0, 1e9))),
            "threshold": Targets((Minimise("a"), Range("b", 2.0, 4.0))),
            "two objectives": Targets((Maximise("a"), Minimise("b"))),
        }[kind]
        acquisition = JointImprovement(surrogate, wanted, y, 3, rng, samples=64)
    for value, shape in ((acquisition, (2, 3, E)), (acquisition.alone, (4, E))):
        at = torch.from_numpy(rng.dirichlet(np.ones(E), size=shape[:-1])).requires_grad_()
        (gradient,) = torch.autograd.grad(value(at).sum(), at)
        expected = _differences(value, at.detach())
        scale = float(np.abs(expected).max())
        assert gradient.numpy().ravel() == pytest.approx(expected, abs=1e-4 * scale)


def test_the_greedy_batch_is_near_the_best_pair() -> None:
    """Of all 66 pairs of 12 designs; greedy is within 1 - 1/e of the best, exchanges go further."""
    surrogate, _, y = fitted((0,))
    rng = np.random.default_rng(7)
    pool = sample(SPACE, 12, rng)
    acquisition = JointImprovement(surrogate, Targets((Maximise("a"),)), y, 2, rng, samples=2048)
    pairs = list(combinations(range(12), 2))
    with torch.no_grad():
        values = acquisition(torch.from_numpy(np.stack([pool[list(p)] for p in pairs]))).numpy()
        picked = acquisition.greedy(pool, acquisition.single(pool), rng)
        reached = acquisition(torch.from_numpy(pool[list(picked)])[None]).numpy()[0]
    assert len(set(picked)) == 2
    assert reached > values.max() + np.log(1 - 1 / np.e)


def test_coinciding_points_have_a_factor() -> None:
    surrogate, _, y = fitted((0,))
    same = torch.full((1, 4, E), 1.0 / E, dtype=torch.float64)
    _, covariance = JointPosterior(surrogate).moments(same)
    factor = cholesky(covariance)
    assert (factor @ factor.mT - covariance).abs().max() < 1e-4 * covariance.max()
    acquisition = JointImprovement(
        surrogate, Targets((Maximise("a"),)), y, 4, np.random.default_rng(8)
    )
    assert torch.isfinite(acquisition(same)).all()


def test_what_is_not_fitted_is_said() -> None:
    with pytest.raises(InvalidInputError, match="not fitted"):
        JointPosterior(Surrogate(("a",)))
    with pytest.raises(InvalidInputError, match="covariance is not finite"):
        cholesky(torch.full((1, 2, 2), torch.nan, dtype=torch.float64))
