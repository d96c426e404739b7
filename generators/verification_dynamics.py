"""``spinodal verify generators``: schedules, samplers, guidance and likelihoods on Gaussian data.

For data N(m, s²) every denoiser is affine, so that the end of a sampler is affine in its start and
in each of its draws: ``law`` finds its mean and variance exactly, without sampling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from generators.dynamics.elbo import Variational, elbo, gaussian_decoder
from generators.dynamics.gaussian import GaussianVelocity
from generators.dynamics.guidance import compose, cosine_scale, guided_by, separately, together
from generators.dynamics.likelihood import flow_log_likelihood, log_normal, ode_log_likelihood
from generators.dynamics.objectives import denoising_loss
from generators.dynamics.parameterisation import (
    Denoiser,
    Field,
    Kind,
    denoiser_of,
    field_of,
    noised,
    posterior,
    probability_flow,
)
from generators.dynamics.samplers import (
    ORDER,
    Noise,
    adaptive,
    ddim,
    ddpm,
    dpm_solver_pp,
    edm,
)
from generators.dynamics.schedules import (
    EDM,
    VP,
    Path,
    Straight,
    cosine,
    linear,
    rho_sigmas,
)
from generators.dynamics.stochastic import WEAK_ORDER, euler_maruyama, langevin
from loop.verification import Case, absolute_case, relative_case

ROOM = "generators"
DOUBLE = torch.float64
M, S2 = 2.0, 0.25  # of the data, where nothing else is said
POSTERIOR = {  # of the linear schedule: weights of x_0 and x_t, variance
    1: (1.0, 0.0, 0.0),
    2: (0.54529, 0.45471, 5.4532e-5),
    100: (0.019076, 0.980896, 2.0346e-3),
    1000: (1.2835e-4, 0.98995, 0.0199999836),
}


def cases() -> list[Case]:
    """Every case, computed now on the CPU in float64; a few seconds."""
    return [
        *_schedules(),
        *_ancestral(),
        *_orders(),
        *_samples(),
        *_stochastic(),
        *_guidance(),
        *_losses(),
        *_likelihoods(),
    ]


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=DOUBLE)


def column(*values: float) -> Tensor:
    return numbers(*values)[:, None]


def gaussian_denoiser(path: Path, m: float = M, s2: float = S2) -> Denoiser:
    """E[x_0 | x] = (α s² x + σ² m)/(α² s² + σ²) for data N(m, s²), one time a batch."""

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        a, s = path.level(t[:1]).like(x)
        return (a * s2 * x + s.square() * m) / (a.square() * s2 + s.square())

    return denoise


def gaussian_score(path: Path, m: float = M, s2: float = S2) -> Field:
    """−(x − α m)/(α² s² + σ²)."""

    def score(x: Tensor, t: Tensor) -> Tensor:
        a, s = path.level(t).like(x)
        return -(x - a * m) / (a.square() * s2 + s.square())

    return score


def carried(path: Path, x: Tensor, start: float, end: float) -> Tensor:
    """Where the probability flow takes x: α m + √(v_end/v_start) (x − α m)."""
    a, s = path.level(numbers(start, end))
    v = a.square() * S2 + s.square()
    return a[1] * M + (v[1] / v[0]).sqrt() * (x - a[0] * M)


def law(
    run: Callable[[Tensor, Noise], Tensor], draws: int, mean: float, variance: float
) -> tuple[float, float]:
    """Exact mean and variance of what a sampler with ``draws`` draws makes of N(mean, variance)."""
    start = torch.zeros(draws + 2, 1, dtype=DOUBLE)
    start[1] = 1
    made = 0

    def impulse(x: Tensor) -> Tensor:
        nonlocal made
        z = torch.zeros_like(x)
        z[made + 2] = 1
        made += 1
        return z

    end = run(start, impulse)[:, 0]
    slopes = end[1:] - end[0]
    centre = float(end[0] + slopes[0] * mean)
    return centre, float(slopes[0] ** 2 * variance + slopes[1:].square().sum())


def drawing(
    sampler: Callable[..., Tensor], path: Path, times: Tensor
) -> Callable[[Tensor, Noise], Tensor]:
    return lambda x, z: sampler(x, path, times, noise=z)


def _schedules() -> Iterator[Case]:
    schedule, source = linear(), "Ho et al. 2020: 1e-4 to 0.02, T = 1000"
    last = float(schedule.alpha_bar[-1])
    terminal = 0.5 * (-last - math.log(1 - last) + last)
    for name, exact, found in (
        ("signal left by the linear schedule, squared", 4.036e-5, last),
        ("signal left by the linear schedule", 6.353e-3, math.sqrt(last)),
        ("terminal divergence of the linear schedule", 2.018e-5, terminal),
    ):
        yield relative_case(ROOM, name, exact, found, 1e-4, source)
    for t, printed in POSTERIOR.items():
        parts = posterior(schedule.level(numbers(t)), schedule.level(numbers(t - 1)))
        names = ("weight of x_0", "weight of x_t", "variance")
        for name, exact, part in zip(names, printed, parts, strict=True):
            what = f"posterior at t = {t}, {name}"
            # The figures are printed to five digits; at t = 1 they are exact.
            allowed = 5e-5 * exact
            yield absolute_case(ROOM, what, exact, float(part), allowed, source)
    beta = float(cosine().betas[-1])
    yield absolute_case(ROOM, "last beta, cosine", 0.999, beta, 1e-12, "Nichol & Dhariwal 2021")


def _ancestral() -> Iterator[Case]:
    schedule = linear()
    for s2, exact in ((0.25, 0.24613), (1.0, 0.99107), (4.0, 3.97478)):
        sampler = partial(ddpm, gaussian_denoiser(schedule, 0.0, s2))
        _, found = law(drawing(sampler, schedule, schedule.times()), 999, 0.0, 1.0)
        what = f"variance by the ancestral sampler, s² = {s2:g}"
        yield absolute_case(ROOM, what, exact, found, 5.1e-6, "optimal noise, T = 1000")


def _orders() -> Iterator[Case]:
    x = column(-100.0, 0.5, 60.0)
    path = EDM()
    denoise = gaussian_denoiser(path)
    for name, solve in (
        ("ddim", lambda t: ddim(denoise, x, path, t)),
        ("dpm_solver_pp", lambda t: dpm_solver_pp(denoise, x, path, t)),
        ("edm", lambda t: edm(denoise, x, t)),
    ):
        exact = carried(path, x, 80.0, 0.002)
        errors = [float((solve(rho_sigmas(n)) - exact).abs().max()) for n in (64, 512)]
        yield order_case(name, ORDER[name], errors, 8)
    sde, y = VP(), column(-1.0, 0.3, 1.5)
    velocity = probability_flow(gaussian_score(sde), sde)
    exact = carried(sde, y, 0.2, 1.0)
    errors = []
    for n in (16, 64):
        end = adaptive(velocity, y, numbers(0.2, 1.0), tolerance=1e6, longest_step=0.8 / n)
        errors.append(float((end - exact).abs().max()))
    yield order_case("adaptive", ORDER["adaptive"], errors, 4, 0.3)
    a, s = (float(part) for part in sde.level(numbers(1e-3)))
    errors = []
    for n in (64, 256):
        times = torch.linspace(1.0, 1e-3, n + 1, dtype=DOUBLE)
        first = sde.level(times[0])
        start = float(first.signal) * M, float(first.signal**2 * S2 + first.noise**2)
        sampler = partial(euler_maruyama, gaussian_score(sde))
        _, found = law(drawing(sampler, sde, times), n, *start)
        errors.append(abs(found - (a**2 * S2 + s**2)))
    yield order_case("euler_maruyama", WEAK_ORDER["euler_maruyama"], errors, 4)


def order_case(
    name: str, exact: int, errors: list[float], ratio: int, allowed: float = 0.15
) -> Case:
    found = math.log(errors[0] / errors[1]) / math.log(ratio)
    return absolute_case(ROOM, f"order of {name}", exact, found, allowed, "exact Gaussian flow")


def _samples() -> Iterator[Case]:
    schedule, noise = linear(), column(-1.2, 0.1, 0.9)
    grid, x0 = numbers(1000, 700, 333, 20, 1, 0), column(3.0, -1.0, 0.5)
    x = noised(x0, noise, schedule.level(grid[:1]))
    end = ddim(denoiser_of(lambda *_: noise, "epsilon", schedule), x, schedule, grid)
    worst = float((end - x0).abs().max())
    source = "Song, Meng & Ermon 2021"
    yield absolute_case(ROOM, "data from exact noise on a sub-grid", 0.0, worst, 1e-9, source)
    kinds: tuple[Kind, ...] = ("epsilon", "v", "score", "flow")
    denoise, times = gaussian_denoiser(schedule), schedule.times(40)
    expected = ddim(denoise, noise, schedule, times)
    worst = 0.0
    for kind in kinds:
        converted = denoiser_of(field_of(denoise, kind, schedule), kind, schedule)
        end = ddim(converted, noise, schedule, times)
        worst = max(worst, float((end - expected).abs().max()))
    source = "Salimans & Ho 2022"
    yield absolute_case(ROOM, "samples of converted predictions", 0.0, worst, 1e-9, source)
    path, x = VP(1.0, 1.0), column(3.1)
    velocity = probability_flow(gaussian_score(path), path)
    end = adaptive(velocity, x, numbers(0.0, 5.0), tolerance=1e-10)
    source = "Song et al. 2021: flow of N(2, 0.25), beta = 1, t = 5"
    yield absolute_case(ROOM, "end of a probability flow", 2.35860415, float(end), 1e-8, source)


def _stochastic() -> Iterator[Case]:
    times = torch.linspace(10.0, 0.0, 401, dtype=DOUBLE)
    _, found = law(
        lambda x, z: euler_maruyama(lambda y, _: -y, x, VP(1.0, 1.0), times, noise=z), 400, 0.0, 1.0
    )
    exact = 1 / (1 - 0.025 / 4)  # of (1 − h/2)² V + h = V
    what = "variance of the reverse SDE on N(0, 1)"
    yield relative_case(ROOM, what, exact, found, 1e-5, "Anderson 1982, steps of 0.025")
    _, found = law(
        lambda x, z: langevin(lambda y, _: -2 * y, x, 0.0, 0.2, 60, noise=z), 60, 0.0, 1.0
    )
    what = "variance of unadjusted Langevin dynamics"
    yield relative_case(ROOM, what, 0.625, found, 1e-9, "s²/(1 − η/(2 s²))")


def _guidance() -> Iterator[Case]:
    path, x, t = EDM(), column(-1.0, 0.4), numbers(0.7, 0.7)
    means, weights = (-0.5, 1.5, 4.0), [1.5, -0.7]
    fields = separately(*(gaussian_denoiser(path, m, S2) for m in means))
    found = compose(fields, weights)(x, t)
    mean = means[0] + sum(w * (m - means[0]) for w, m in zip(weights, means[1:], strict=True))
    exact = gaussian_denoiser(path, mean, S2)(x, t)
    worst = float((found - exact).abs().max())
    source = "Liu et al. 2022, equal variances"
    yield absolute_case(ROOM, "two conditions, one negative", 0.0, worst, 1e-12, source)

    def network(y: Tensor, s: Tensor, given: Tensor) -> Tensor:
        return torch.tanh(y * given + s[:, None])

    given = [column(-0.3, 0.8), column(1.0, 2.0)]
    joint = compose(together(network, *([g] for g in given)), [3.0])(x, t)
    base, conditional = (network(x, t, g) for g in given)
    worst = float((joint - (base + 3 * (conditional - base))).abs().max())
    yield absolute_case(ROOM, "joint batch against two passes", 0.0, worst, 1e-12, "two passes")
    scale = cosine_scale(Straight(), 1.0, 6.0)
    assert callable(scale)
    for name, time, exact_scale in (("noise", 0.0, 6.0), ("data", 1.0, 1.0)):
        what, found_scale = f"scheduled guidance at {name}", float(scale(numbers(time)))
        yield absolute_case(ROOM, what, exact_scale, found_scale, 1e-12, "strong at high noise")
    schedule, slope = linear(), 1.5
    guided = guided_by(gaussian_denoiser(schedule), lambda y: (slope * y).sum(1), 1.0, schedule)
    sampler = drawing(partial(ddpm, guided), schedule, schedule.times(250))
    found_mean, _ = law(sampler, 249, 0.0, 1.0)
    what = "mean under a linear energy"
    source = "N(m, s²) exp(c x) is N(m + c s², s²)"
    yield absolute_case(ROOM, what, M + slope * S2, found_mean, 0.02, source)


def _losses() -> Iterator[Case]:
    corners = torch.tensor([[1, 0], [-1, 0], [0, 1], [0, -1]], dtype=DOUBLE) * math.sqrt(2)
    x0, noise = M + math.sqrt(S2) * corners[:, :1], corners[:, 1:]  # exact for quadratics
    schedule, source = linear(), "Gaussian data, optimal prediction"
    times = torch.full((4,), 300)
    network = field_of(gaussian_denoiser(schedule), "epsilon", schedule)
    found = denoising_loss(network, "epsilon", schedule, x0, times, noise).mean()
    bar = float(schedule.alpha_bar[300])
    exact = bar * S2 / (bar * S2 + 1 - bar)
    yield relative_case(ROOM, "floor of the simple loss", exact, float(found), 1e-9, source)
    sigma = 0.5
    loss = denoising_loss(
        gaussian_score(EDM()), "score", EDM(), x0, torch.full((4,), sigma, dtype=DOUBLE), noise
    )
    exact = S2 / (sigma**2 * (S2 + sigma**2))
    what = "floor of denoising score matching"
    yield relative_case(ROOM, what, exact, float(loss.mean()), 1e-9, source)


def _likelihoods() -> Iterator[Case]:
    path, x = VP(1.0, 1.0), column(3.1)
    a, s = (float(part) for part in path.level(numbers(5.0)))
    found = ode_log_likelihood(
        probability_flow(gaussian_score(path), path),
        x,
        data=0.0,
        noise=5.0,
        log_prior=lambda y: log_normal(y, a * M, a**2 * S2 + s**2),
        tolerance=1e-9,
    )
    exact = float(log_normal(x, M, S2))
    source = "Song et al. 2021, section 4.3"
    what = "log-likelihood by a probability flow"
    yield absolute_case(ROOM, what, exact, float(found), 1e-7, source)

    velocity = GaussianVelocity(numbers(M), column(1.0), numbers(S2), numbers(1.0))
    found = flow_log_likelihood(velocity, x, tolerance=1e-8)
    yield absolute_case(
        ROOM, "log-likelihood by flow matching", exact, float(found), 1e-6, "Lipman et al. 2023"
    )
    yield _linear_vae()


def _linear_vae() -> Case:
    """x = W z + b + σ n with orthogonal columns of W: the exact posterior of z is diagonal."""
    w = torch.tensor([[1.0, 0.4], [0.5, -0.8], [-0.2, 0.0]], dtype=DOUBLE)
    w[2, 1] = (w[0, 0] * w[0, 1] + w[1, 0] * w[1, 1]) / 0.2
    b, sigma2, x = numbers(0.3, -0.1, 0.7), 0.3, numbers(1.0, -0.5, 0.2)
    m = (w.T @ w).diagonal() + sigma2

    def encode(y: Tensor) -> tuple[Tensor, Tensor]:
        mean = (y - b) @ w / m
        return mean, (sigma2 / m).log().expand_as(mean)

    eye = torch.eye(2, dtype=DOUBLE) * math.sqrt(2)
    points = torch.cat([eye, -eye])  # the mean of a quadratic over N(0, 1), exactly
    model = Variational(encode, gaussian_decoder(lambda z: z @ w.T + b, sigma2))
    found = -elbo(model, x.expand(4, 3), lambda _: points).total.mean()
    covariance = w @ w.T + sigma2 * torch.eye(3, dtype=DOUBLE)
    exact = torch.distributions.MultivariateNormal(b, covariance).log_prob(x)
    return absolute_case(
        ROOM, "bound of a linear VAE", float(exact), float(found), 1e-10, "Tipping & Bishop 1999"
    )
