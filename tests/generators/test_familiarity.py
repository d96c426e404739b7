"""What is usual beside what was learned: densities against scipy and the closed form."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy.stats import gaussian_kde, multivariate_normal

from generators.familiarity import SMOOTHING, Conditions, Familiarity, log_likelihood
from generators.flow import JointFlow
from loop.errors import InvalidInputError
from tests.generators.test_flow import trained

NAMES = ("youngs_modulus_GPa", "density_g_per_cm3", "gamma_prime_fraction")
RNG = np.random.default_rng(0)
ROOT = np.array([[5.0, 0.0, 0.0], [0.2, 0.1, 0.0], [0.0, 0.02, 0.05]])
VALUES = np.array([200.0, 8.3, 0.6]) + RNG.standard_normal((300, 3)) @ ROOT.T


def test_the_density_is_that_of_scipys_kernels() -> None:
    found = Conditions(VALUES, NAMES).log_density(VALUES[:20] + 0.01)
    expected = gaussian_kde(VALUES.T).logpdf((VALUES[:20] + 0.01).T)
    # In units of the spread, not of the properties; the ridge widens the kernels by a millionth.
    assert found == pytest.approx(expected + np.log(VALUES.std(0)).sum(), abs=2e-3)


def test_only_what_is_asked_counts() -> None:
    request = np.array([[205.0, np.nan, np.nan]])
    alone = Conditions(VALUES[:, :1], NAMES[:1]).log_density(request[:, :1])
    assert Conditions(VALUES, NAMES).log_density(request) == pytest.approx(alone, rel=1e-12)
    assert np.isnan(Conditions(VALUES, NAMES).log_density(np.full((1, 3), np.nan))).all()


def test_a_learned_row_is_usual_and_values_together_may_not_be() -> None:
    """Each value alone is seen every day; together they contradict the correlation."""
    conditions = Conditions(VALUES, NAMES)
    least = np.array([conditions.unusual(row[None])[0] for row in VALUES])
    assert not least.any()
    against = np.array([[VALUES[:, 0].max(), VALUES[:, 1].min(), np.nan]])
    assert conditions.unusual(against)[0]
    alone = np.array([[VALUES[:, 0].max(), np.nan, np.nan]])
    assert not conditions.unusual(alone)[0]
    (said,) = conditions.warnings(np.repeat(against, 4, axis=0))
    assert "youngs_modulus_GPa" in said
    assert "density_g_per_cm3" in said
    assert "above" not in said


def test_a_value_out_of_range_is_named_with_the_range() -> None:
    (said,) = Conditions(VALUES, NAMES).warnings(np.array([[260.0, np.nan, 0.6]]))
    assert f"youngs_modulus_GPa is above all of them ({VALUES[:, 0].max():.6g})" in said
    assert "gamma_prime_fraction is" not in said


def test_few_rows_tell_of_their_range_alone() -> None:
    few = VALUES.copy()
    few[10:, 2] = np.nan
    conditions = Conditions(few, NAMES)
    inside = few[:1].copy()
    assert np.isnan(conditions.log_density(inside))
    assert conditions.warnings(inside) == []
    (said,) = conditions.warnings(np.array([[few[0, 0], few[0, 1], 9.0]]))
    assert "of which only 10 rows tell" in said
    assert f"{NAMES[2]} is above all of them" in said
    few[:, 2] = np.nan
    (said,) = Conditions(few, NAMES).warnings(inside)
    assert said.endswith(f"no row has {' and '.join(NAMES)} together")
    with pytest.raises(InvalidInputError, match="2 columns; expected 3"):
        conditions.log_density(np.zeros((1, 2)))


@pytest.fixture(scope="module")
def linear() -> JointFlow:
    """A flow whose network says nothing, so that its density is the normal of its linear part."""
    flow = copy.copy(trained("compositions"))
    flow.network = copy.deepcopy(flow.trained_network())
    for layer in flow.network.vectors_out:
        for parameter in layer.parameters():
            torch.nn.init.zeros_(parameter)
    return flow


def test_the_likelihood_of_a_linear_flow_is_the_normal(linear: JointFlow) -> None:
    assert linear.code is not None
    assert linear.linear is not None
    designs = linear.library.draw(6, rng=np.random.default_rng(1))
    found = log_likelihood(linear, designs, rng=np.random.default_rng(2), probes=None)
    part, t = linear.linear, 1 - SMOOTHING
    axes = part.axes.double().numpy()
    rest = float(part.rest)
    size = len(part.mean)
    covariance = (
        rest * np.eye(size) + axes @ np.diag(part.variance.double().numpy() - rest) @ axes.T
    )
    normal = multivariate_normal(
        t * part.mean.double().numpy(), t**2 * covariance + SMOOTHING**2 * np.eye(size)
    )
    states = linear.code.states(designs)
    seed = int(np.random.default_rng(2).integers(2**63))
    noise = torch.randn(states.shape, generator=torch.Generator().manual_seed(seed))
    blurred = (t * states + SMOOTHING * noise).double().numpy()
    # The integrator holds 1e-3 a coordinate and for the density.
    assert found == pytest.approx(normal.logpdf(blurred), rel=2e-3, abs=0.05)


def test_the_library_is_usual_and_an_odd_design_is_not() -> None:
    flow = trained("image and compositions")
    rng = np.random.default_rng(5)
    usual = Familiarity.of(flow, flow.library.draw(24, rng=rng), rng=rng)
    own = usual.percentile(flow.library.draw(24, rng=rng), rng=rng)
    assert 25 < own.mean() < 75  # uniform: mean 50, standard error 29/√24 = 6
    noise = [
        type(c)(
            phases=c.phases,
            elements=c.elements,
            microstructure=rng.integers(0, 2, flow.space.image_shape or ()).astype(np.uint8),
            phase_compositions=c.phase_compositions,
            process=c.process,
            origin=c.origin,
        )
        for c in flow.library.draw(4, rng=rng)
    ]
    assert usual.percentile(noise, rng=rng).max() <= own.mean()
    with pytest.raises(InvalidInputError, match="reference designs"):
        Familiarity.of(flow, [], rng=rng)
