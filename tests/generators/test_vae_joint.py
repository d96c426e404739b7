"""The joint autoencoder: exact before it is trained, conditional after, the same from a file."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from generators import verification_vae
from generators.joint_vae import PRESETS, JointVAE, joint_vae_settings
from generators.networks.autoencoder import kl_to_standard_normal
from generators.networks.vector_vae import LEAST_VARIANCE, PrincipalComponents, VectorVAE
from generators.training import checkpoint
from generators.training.flow_matching import Rows
from generators.training.variational import JointVAESettings, VAERun, learned, train_vae
from generators.verification_vae import linear_bound, linear_model
from loop.candidate import Candidate, Outcome, Record
from loop.errors import InvalidCampaignError, InvalidInputError
from loop.library import Library
from loop.protocols import silent
from loop.space import DesignSpace
from loop.targets import Range, Targets, Value
from loop.verification import all_passed
from tests import libraries

KINDS = list(libraries.SPACES)


@cache
def library(kind: str) -> Library:
    return libraries.library(libraries.SPACES[kind])


def untrained(kind: str, **given: Any) -> JointVAE:
    space = libraries.SPACES[kind]
    settings = joint_vae_settings("tiny", given)
    return JointVAE(
        space, library(kind), libraries.targets(space), libraries.properties(space), settings
    )


def records(kind: str, n: int = 200) -> list[Record]:
    return libraries.scored(library(kind).draw(n, rng=np.random.default_rng(0)))


@cache
def fitted(kind: str) -> JointVAE:
    return untrained(kind).fit(records(kind), rng=np.random.default_rng(1))


def ids(generator: JointVAE, n: int = 12, guidance: float = 1.0) -> list[str]:
    found = generator.propose(n, generator.targets, guidance=guidance, rng=np.random.default_rng(3))
    return [c.id for c in found]


# The linear part


def test_principal_components_are_the_maximum_likelihood() -> None:
    """Leading eigenvalues and trace of W Wᵀ + σ² are the sample's (equations 7 and 8)."""
    draws = torch.Generator().manual_seed(0)
    mixing = torch.randn(7, 7, generator=draws, dtype=torch.float64)
    rows = torch.randn(200, 7, generator=draws, dtype=torch.float64) @ mixing.T + 2.0
    found = PrincipalComponents.fit(rows, 3)
    covariance = torch.cov(rows.T, correction=0)
    model = found.loadings @ found.loadings.T + found.noise * torch.eye(7, dtype=torch.float64)
    exact, made = torch.linalg.eigvalsh(covariance), torch.linalg.eigvalsh(model)
    assert made[-3:].numpy() == pytest.approx(exact[-3:].numpy())
    assert float(made.sum()) == pytest.approx(float(exact.sum()))
    assert found.mean.numpy() == pytest.approx(rows.mean(0).numpy())
    gram = found.loadings.T @ found.loadings
    assert gram.numpy() == pytest.approx(gram.diag().diag().numpy(), abs=1e-9)


def test_few_rows_and_constant_columns() -> None:
    rows = torch.zeros(4, 5)
    rows[:, 0] = torch.arange(4.0)
    found = PrincipalComponents.fit(rows, 16)
    assert found.loadings.shape == (5, 3)
    assert found.noise == LEAST_VARIANCE
    assert bool(torch.isfinite(found.loadings).all())


def test_the_first_bound_is_the_likelihood_of_the_linear_model() -> None:
    bound, likelihood, gap = linear_bound()
    assert gap == 0.0
    assert bound == pytest.approx(likelihood, rel=1e-9)


@pytest.mark.parametrize(("shift", "widen"), [(0.4, 0.0), (0.0, 0.7), (-0.2, -1.0)])
def test_what_another_posterior_loses_is_its_divergence(shift: float, widen: float) -> None:
    bound, likelihood, gap = linear_bound(shift, widen)
    assert gap > 0.01
    assert likelihood - bound == pytest.approx(gap, rel=1e-9)
    network, _, rows = linear_model()
    values, mask = torch.zeros(4, 1).double(), torch.zeros(4, 1, dtype=torch.bool)
    with torch.no_grad():
        mean, log_variance = network.encode(rows, values, mask)
    std = (0.5 * log_variance).exp()
    q = Normal(mean + shift, std * np.exp(0.5 * widen))
    assert gap == pytest.approx(float(kl_divergence(q, Normal(mean, std)).sum(1).mean()))


def test_verification_passes_and_would_not_with_another_formula(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cases = verification_vae.cases()
    assert all_passed(cases)
    assert len({case.name for case in cases}) == len(cases) >= 7
    for name, wrong, fails in (
        ("free_bits", lambda kl, least: kl.clamp_min(least).sum(1).mean(), "free bits"),
        ("warm_up", lambda t, steps: min(1.0, (t + 1) / steps), "warm-up"),
        ("two_point", lambda x: x.mean((1, 2))[:, None].expand(-1, 13), "two-point"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(verification_vae, name, wrong)
            failed = [case.name for case in verification_vae.cases() if not case.passed]
        assert len(failed) == 1
        assert fails in failed[0]


# The prior of a request


def seeing() -> VectorVAE:
    """Three properties of five latents, seen by random weights."""
    torch.manual_seed(0)
    network = VectorVAE(size=6, latent=5, properties=3, width=8, depth=1).double()
    with torch.no_grad():
        network.sight.normal_()
        network.level.normal_()
        network.log_blur.uniform_(-2.0, 0.0)
    return network


def posterior(network: VectorVAE, y: Tensor, mask: Tensor) -> MultivariateNormal:
    """Of z given some of y = V z + a + r, by conditioning the joint normal."""
    v, blur = network.sight[mask], network.log_blur[mask].exp()
    gain = v.T @ torch.linalg.inv(v @ v.T + blur.diag())
    covariance = torch.eye(5, dtype=torch.float64) - gain @ v
    return MultivariateNormal(gain @ (y - network.level)[mask], 0.5 * (covariance + covariance.T))


@pytest.mark.parametrize("mask", [[True, False, True], [True, True, True], [False, False, False]])
def test_the_prior_of_a_request_is_the_conditioned_normal(mask: list[bool]) -> None:
    """Its draws are linear in their noise: mean and covariance are read off exactly."""
    network, known = seeing(), torch.tensor(mask)
    y = torch.tensor([0.3, -1.2, 0.8], dtype=torch.float64)
    with torch.no_grad():
        expected = posterior(network, y, known)
        steps = torch.cat([torch.zeros(1, 8), torch.eye(8)]).double()
        rows = known.expand(9, 3), torch.where(known, y, torch.nan).expand(9, 3)
        drawn = network.prior_draw(steps[:, :5], steps[:, 5:], rows[1], rows[0])
        q_mean, q_log = torch.randn(2, 1, 5, dtype=torch.float64)
        found = network.divergence(q_mean, q_log, rows[1][:1], rows[0][:1])
        q = MultivariateNormal(q_mean[0], q_log[0].exp().diag())
        exact = float(kl_divergence(q, expected))
        plain = kl_to_standard_normal(q_mean, q_log)
    jacobian = (drawn[1:] - drawn[0]).T
    assert drawn[0].numpy() == pytest.approx(expected.mean.numpy(), abs=1e-12)
    covariance = expected.covariance_matrix.numpy()
    assert (jacobian @ jacobian.T).numpy() == pytest.approx(covariance, abs=1e-12)
    assert float(found.sum()) == pytest.approx(exact, rel=1e-10)
    if not any(mask):
        assert found.numpy() == pytest.approx(plain.numpy(), abs=1e-12)


def test_a_linear_property_is_seen_as_it_is() -> None:
    """y = V z + r of the linear model's own latents, with gaps: V, a and R come back."""
    network, _, _ = linear_model(6, 2)
    draws = torch.Generator().manual_seed(1)
    z = torch.randn(20000, 2, generator=draws, dtype=torch.float64)
    blur = torch.randn(20000, 6, generator=draws, dtype=torch.float64)
    with torch.no_grad():
        states = network.mean + z @ network.loadings.T + network.noise_variance.sqrt() * blur
        y = 0.8 * z[:, 0] - 0.4 * z[:, 1] + 0.5 + 0.3 * torch.randn(20000, generator=draws).double()
        y[::3] = torch.nan
        network.look(states, y[:, None])
    assert network.sight.detach()[0].tolist() == pytest.approx([0.8, -0.4], abs=0.02)
    assert float(network.level.detach()) == pytest.approx(0.5, abs=0.02)
    assert float(network.log_blur.detach().exp()) == pytest.approx(0.09, abs=0.01)


# Training on a known law


def curved(n: int, seed: int) -> tuple[Tensor, NDArray[np.float64]]:
    """States on a bent sheet in six dimensions, and a property that fixes one of its directions."""
    rng = np.random.default_rng(seed)
    u, v = rng.normal(size=(2, n))
    clean = np.stack([u, v, np.sin(2 * u), u * v, np.cos(2 * v), u + v], axis=1)
    states = torch.from_numpy(clean + 0.05 * rng.normal(size=clean.shape)).float()
    return states, u[:, None]


SHEET = JointVAESettings(
    latent=4, width=48, depth=1, first_steps=400, batch=128, kl_warmup=50.0, learning_rate=5e-3
)


def trained_sheet(settings: JointVAESettings = SHEET) -> VectorVAE:
    states, conditions = curved(2000, 0)
    torch.manual_seed(0)
    network = VectorVAE(size=6, latent=4, properties=1, width=48, depth=1)
    network.start(PrincipalComponents.fit(states, 4))
    run = VAERun([True], settings, True, "cpu", np.random.default_rng(0), silent)
    train_vae(network, Rows(states, conditions, np.ones(2000), states), run)
    return network


@pytest.fixture(scope="module")
def sheet() -> VectorVAE:
    return trained_sheet()


def test_training_beats_the_best_linear_model_on_held_out_rows(sheet: VectorVAE) -> None:
    states, _ = curved(1000, 1)
    linear = PrincipalComponents.fit(curved(2000, 0)[0], 4)
    covariance = linear.loadings @ linear.loadings.T + linear.noise * torch.eye(6)
    density = torch.distributions.MultivariateNormal(linear.mean, covariance)
    found = learned(sheet, states, torch.Generator().manual_seed(0))
    assert found["elbo_nats"] > float(density.log_prob(states).mean()) + 0.5
    total = found["kl_nats"] + found["reconstruction_nats"]
    assert found["elbo_nats"] == pytest.approx(-total, rel=1e-5)
    assert found["bits_per_dimension"] == pytest.approx(total / 6 / np.log(2), rel=1e-5)


def test_the_posterior_has_not_collapsed(sheet: VectorVAE) -> None:
    """Two directions are there to be found; with the latents of other rows it is far off."""
    states, _ = curved(1000, 1)
    found = learned(sheet, states, torch.Generator().manual_seed(0))
    assert 2 <= found["active_units"] <= found["latent_units"] == 4
    values, mask = torch.zeros(1000, 1), torch.zeros(1000, 1, dtype=torch.bool)
    with torch.no_grad():
        z, log_variance = sheet.encode(states, values, mask)
        right = (sheet.decode(z, values, mask) - states).square().mean()
        wrong = (sheet.decode(z.roll(1, 0), values, mask) - states).square().mean()
    assert float(wrong) > 5 * float(right)
    divergence = 0.5 * (z.square() + log_variance.exp() - log_variance - 1).mean(0)
    assert int((divergence > 0.1).sum()) >= 2


def test_a_heavy_divergence_collapses_it_and_the_figures_say_so() -> None:
    heavy = trained_sheet(replace(SHEET, beta=100.0, kl_warmup=0.0, first_steps=150))
    found = learned(heavy, curved(500, 1)[0], torch.Generator().manual_seed(0))
    assert found["active_units"] == 0
    assert found["kl_nats"] < 0.05


def test_free_bits_keep_units_at_work() -> None:
    settings = replace(SHEET, beta=100.0, kl_warmup=0.0, first_steps=150, free_bits=1.0)
    found = learned(trained_sheet(settings), curved(500, 1)[0], torch.Generator().manual_seed(0))
    assert found["kl_nats"] > 2.0


def test_a_condition_fixes_what_it_says_and_leaves_the_rest(sheet: VectorVAE) -> None:
    """Given u, the first coordinate is u and the second is as wide as before."""
    draws = torch.Generator().manual_seed(2)
    z, blur = torch.randn(2000, 4, generator=draws), torch.randn(2000, 1, generator=draws)
    values, asked = torch.full((2000, 1), 0.7), torch.ones(2000, 1, dtype=torch.bool)
    with torch.no_grad():
        free = sheet.decode(z, values, ~asked)
        chosen = sheet.prior_draw(z, blur, values, asked)
        given = sheet.decode(chosen, values, asked)
    assert float(free[:, 0].std()) == pytest.approx(1.0, abs=0.25)
    assert float(given[:, 0].mean()) == pytest.approx(0.7, abs=0.1)
    assert float(given[:, 0].std()) < 0.3
    assert float(given[:, 1].std()) > 0.6


# The generator


@pytest.mark.parametrize("kind", KINDS)
def test_it_comes_back_from_a_file(kind: str, tmp_path: Path) -> None:
    """Bit-equal, in a generator of other training lengths, and it can be trained on."""
    generator = fitted(kind)
    digest, path = generator.save(tmp_path)
    back = untrained(kind, first_steps=7).load(path)
    assert (path.stem, back.settings.first_steps) == (digest, 7)
    assert back.figures == generator.figures
    for guidance in (0.0, 1.0, 2.0):
        assert ids(back, guidance=guidance) == ids(generator, guidance=guidance)
    assert back.save(tmp_path / "again")[1].stat().st_size > 0
    further = [g.fit(records(kind, 40), rng=np.random.default_rng(4)) for g in (back, generator)]
    assert ids(further[0]) == ids(further[1]) != ids(generator)
    assert json.dumps(checkpoint.load(path)[1]["figures"])


@pytest.mark.parametrize("kind", KINDS)
def test_figures_of_the_fit_are_reported(kind: str) -> None:
    seen: list[tuple[str, int, int, dict[str, float]]] = []

    def progress(stage: str, done: int, total: int, **figures: float) -> None:
        seen.append((stage, done, total, figures))

    new = untrained(kind).fit(records(kind, 60), rng=np.random.default_rng(1), progress=progress)
    stage, done, total, figures = seen[-1]
    assert (stage, done, figures) == ("joint autoencoder", total, new.figures)
    assert 0 < figures["active_units"] <= figures["latent_units"]
    assert all(np.isfinite(list(figures.values())))


def test_the_bound_tells_designs_from_scrambled_ones() -> None:
    kind = "compositions"
    rng = np.random.default_rng(0)
    generator = untrained(kind, first_steps=200).fit(records(kind), rng=rng)
    designs = library(kind).draw(100, rng=rng)
    strange = [
        Candidate(c.phases, c.elements, None, np.array([[0.4, 0.3, 0.2, 0.1]])) for c in designs[:5]
    ]
    usual = generator.log_likelihood_bound(designs, rng=rng)
    assert usual.shape == (100,)
    odd = generator.log_likelihood_bound(strange, rng=rng)
    assert odd.max() < np.quantile(usual, 0.05)
    assert generator.log_likelihood_bound([], rng=rng).shape == (0,)


def test_requests_move_the_proposals_and_guidance_moves_them_more() -> None:
    """Values and ranges; at guidance 0 they do not count."""
    kind = "compositions"
    generator = untrained(kind, first_steps=400, width=64, batch=128, focus=0.0).fit(
        records(kind, 400), rng=np.random.default_rng(0)
    )
    density = np.array([r.outcome.values["density"] for r in records(kind, 400)])
    low, high = np.quantile(density, [0.1, 0.9])

    def mean(targets: Targets | None, guidance: float) -> float:
        found = generator.propose(400, targets, guidance=guidance, rng=np.random.default_rng(1))
        return float(np.mean([libraries.rule(c)["density"] for c in found]))

    lower, upper = (
        Targets((Value("density", low, 0.01),)),
        Targets((Range("density", high, high + 0.1),)),
    )
    free = mean(None, 1.0)
    spread = float(density.std())
    assert free == pytest.approx(float(density.mean()), abs=0.3 * spread)
    assert mean(lower, 0.0) == mean(upper, 0.0) == pytest.approx(free, abs=0.3 * spread)
    assert mean(lower, 1.0) == pytest.approx(low, abs=0.5 * spread)
    assert mean(upper, 1.0) == pytest.approx(high, abs=0.5 * spread)
    assert mean(lower, 2.0) < mean(lower, 1.0) < free < mean(upper, 1.0) < mean(upper, 2.0)


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="vae is not trained; call fit"):
        untrained("image").propose(3, guidance=1.0, rng=np.random.default_rng(0))
    failed = Record(records("image", 1)[0].candidate, Outcome.failed("no"), "rule", "1", 0)
    with pytest.raises(InvalidInputError, match="vae got 1 scored records; expected at least 2"):
        untrained("image").fit([*records("image", 1), failed], rng=np.random.default_rng(0))
    with pytest.raises(InvalidInputError, match=r"200 images for batches of 201.*vae\.batch"):
        untrained("image", vae={"images": 200, "batch": 201}).fit(
            records("image", 9), rng=np.random.default_rng(0)
        )
    space = DesignSpace(("a", "b"), (), (20, 32))
    with pytest.raises(InvalidCampaignError, match=r"vae got images of 20 x 32.*multiple of 8"):
        JointVAE(space, library("image"), Targets(()), (), PRESETS["tiny"])
    _, path = fitted("compositions").save(tmp_path)
    with pytest.raises(InvalidInputError, match=r"has process \[\], this campaign has .'temp"):
        untrained("process").load(path)
    tensors, card = checkpoint.load(path)
    _, other = checkpoint.save(tmp_path, tensors, {**card, "generator": "joint-flow"})
    with pytest.raises(InvalidInputError, match="has generator joint-flow, this campaign has vae"):
        untrained("compositions").load(other)


@pytest.mark.parametrize(
    ("preset", "given", "message"),
    [
        ("tinny", {}, "unknown preset 'tinny'; did you mean 'tiny'"),
        ("tiny", {"betta": 1.0}, "generator.settings: unknown key 'betta'; did you mean 'beta'"),
        ("tiny", {"beta": -1}, "generator.settings.beta is -1; expected a number >= 0"),
        ("tiny", {"latent": 2.5}, "generator.settings.latent is 2.5; expected a whole number > 0"),
        ("tiny", {"vae": {"bottleneck": "v"}}, "settings.vae.bottleneck is 'v'; expected kl or vq"),
        ("tiny", {"vae": 3}, "generator.settings.vae is 3; expected a table"),
        ("tiny", {"vae": {"width": 12}}, "vae: width is 12; expected a multiple of 8"),
    ],
)
def test_settings_that_cannot_be_used(preset: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidCampaignError) as caught:
        joint_vae_settings(preset, given)
    assert message in str(caught.value)


def test_settings_replace_those_of_the_preset() -> None:
    found = joint_vae_settings("cpu", {"beta": 2, "vae": {"bottleneck": "vq", "codes": 64}})
    cpu = PRESETS["cpu"]
    assert (found.beta, found.vae.codes, found.vae.bottleneck) == (2, 64, "vq")
    assert found == replace(cpu, beta=2, vae=replace(cpu.vae, bottleneck="vq", codes=64))
