"""What a network may predict, and how each prediction is turned into any other.

At x = α x_0 + σ ε (``Level``) each kind is linear in x_0 and ε, so one prediction and x together
give both. Symbols as in the papers:

    x0       the data (a denoiser)                       Karras et al. 2022
    epsilon  the noise                                   Ho et al. 2020
    v        α ε − σ x_0                                 Salimans & Ho 2022
    score    ∇ log p(x) = −ε/σ                           Song et al. 2021; Vincent 2011
    flow     x_0 − ε, dx/dt on the straight path         Lipman et al. 2023
    mean     E[x_s | x, x_0] of a less noisy level s     Ho et al. 2020, equation 7
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from generators.dynamics.schedules import SDE, Level, Path, rows_like
from loop.errors import InvalidInputError, unknown_name

Kind = Literal["x0", "epsilon", "v", "score", "flow", "mean"]
KINDS: tuple[Kind, ...] = get_args(Kind)

Denoiser = Callable[[Tensor, Tensor], Tensor]  # (b, ...), (b,) -> E[x_0 | x] (b, ...)
Field = Callable[[Tensor, Tensor], Tensor]  # a prediction of any kind, same shapes


class Posterior(NamedTuple):
    """q(x_s | x_t, x_0) = N(of_x0 · x_0 + of_x · x_t, variance), each as the levels."""

    of_x0: Tensor
    of_x: Tensor
    variance: Tensor


def posterior(level: Level, previous: Level) -> Posterior:
    """From level t to the less noisy ``previous`` level s; at σ_s = 0 it is (α_s, 0, 0).

    With r = α_t/α_s and σ²_{t|s} = σ_t² − r² σ_s² (Kingma et al. 2021, appendix A; for DDPM Ho et
    al. 2020, equation 7).
    """
    ratio = level.signal / previous.signal
    kept = previous.noise.square() / level.noise.square()  # σ_s²/σ_t²
    lost = 1 - ratio.square() * kept  # σ²_{t|s}/σ_t²
    return Posterior(previous.signal * lost, ratio * kept, lost * previous.noise.square())


def noised(x0: Tensor, epsilon: Tensor, level: Level) -> Tensor:
    """x = α x_0 + σ ε, (b, ...)."""
    signal, noise = level.like(x0)
    return signal * x0 + noise * epsilon


def convert(
    value: Tensor,
    x: Tensor,
    level: Level,
    source: Kind,
    target: Kind,
    *,
    previous: Level | None = None,
) -> Tensor:
    """The prediction ``value`` (b, ...) of kind ``source`` at state x as kind ``target``.

    ``previous``: the level s of ``mean``. Raises InvalidInputError where x and the prediction do
    not determine what is asked: at σ = 0, x alone gives x_0 and nothing gives ε; at α = 0 the
    reverse.
    """
    for kind in (source, target):
        if kind not in KINDS:
            raise InvalidInputError(unknown_name("parameterisation", kind, KINDS))
    if source == target:
        return value
    signal, noise = level.like(x)
    given = source
    if source == "score":
        value, source = -noise * value, "epsilon"
    if target == "score":
        _determined(noise, source, target)
        return -convert(value, x, level, source, "epsilon", previous=previous) / noise
    if source == target:
        return value
    of_x0, of_noise, of_x = _coefficients(source, level, previous, x)
    value = value - of_x * x
    determinant = noise * of_x0 - signal * of_noise
    _determined(determinant, given, target)
    x0 = (noise * value - of_noise * x) / determinant
    if target == "x0":
        return x0
    epsilon = (of_x0 * x - signal * value) / determinant
    of_x0, of_noise, of_x = _coefficients(target, level, previous, x)
    return of_x0 * x0 + of_noise * epsilon + of_x * x


def regression_target(x0: Tensor, epsilon: Tensor, level: Level, kind: Kind) -> Tensor:
    """What a network of this kind is to predict for data and noise (b, ...)."""
    if kind == "score":
        noise = level.like(x0).noise
        _determined(noise, "epsilon", kind)
        return -epsilon / noise
    of_x0, of_noise, _ = _coefficients(kind, level, None, x0)
    return of_x0 * x0 + of_noise * epsilon


def tweedie(x: Tensor, score: Tensor, level: Level) -> Tensor:
    """E[x_0 | x] = (x + σ² score)/α (Robbins 1956; Efron 2011)."""
    return convert(score, x, level, "score", "x0")


def denoiser_of(network: Field, kind: Kind, path: Path) -> Denoiser:
    """A network of any kind but ``mean`` as E[x_0 | x]."""
    return lambda x, t: convert(network(x, t), x, path.level(t), kind, "x0")


def field_of(denoise: Denoiser, kind: Kind, path: Path) -> Field:
    """A denoiser as a prediction of another kind but ``mean``: a score, a flow velocity."""
    return lambda x, t: convert(denoise(x, t), x, path.level(t), "x0", kind)


def probability_flow(score: Field, sde: SDE) -> Field:
    """dx/dt = f x − g² score/2, with the marginals of the SDE (Song et al. 2021, equation 13)."""

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        f, g = Level(sde.drift(t), sde.diffusion(t)).like(x)
        return f * x - 0.5 * g.square() * score(x, t)

    return velocity


# Weights of losses


def elbo_weight(level: Level, previous: Level, kind: Kind) -> Tensor:
    """Weight on ‖target − prediction‖² that makes the loss the ELBO's KL at t, in nats, (b,).

    ½ (SNR_s − SNR_t) on x_0; on ε it is β_t²/(2 σ̃_t² α_t (1 − ᾱ_t)) (Kingma et al. 2021, equation
    13; Ho et al. 2020, equation 12). Raises InvalidInputError at σ_s = 0: that term is the
    likelihood of the data, which needs a decoder.
    """
    if bool((previous.noise == 0).any()):
        raise InvalidInputError(
            "the weight of the step to a level without noise is infinite; that step is the "
            "likelihood term, give times from 2 on"
        )
    of_x0, _ = _errors(level, kind)
    return 0.5 * (previous.snr - level.snr) * of_x0.square()


def min_snr_weight(level: Level, kind: Kind, gamma: float = 5.0) -> Tensor:
    """min(SNR, γ) on x_0, min(SNR, γ)/SNR on ε, min(SNR, γ)/(SNR + 1) on v (Hang et al. 2023)."""
    of_x0, of_noise = _errors(level, kind)
    return torch.minimum(of_noise.square(), gamma * of_x0.square())


def _errors(level: Level, kind: Kind) -> tuple[Tensor, Tensor]:
    """|∂x_0/∂prediction| and |∂ε/∂prediction| at fixed x, (b,) each; their ratio is σ/α."""
    signal, noise = level
    match kind:
        case "x0":
            return torch.ones_like(noise), signal / noise
        case "epsilon":
            return noise / signal, torch.ones_like(noise)
        case "v":
            square = signal.square() + noise.square()
            return noise / square, signal / square
        case "score":
            return noise.square() / signal, noise
        case "flow":
            return noise / (signal + noise), signal / (signal + noise)
        case _:
            raise InvalidInputError(f"no loss weight for {kind!r}; predict 'x0' instead")


def _coefficients(
    kind: Kind, level: Level, previous: Level | None, x: Tensor
) -> tuple[Tensor | float, Tensor | float, Tensor | float]:
    """(A, B, C) of prediction = A x_0 + B ε + C x."""
    signal, noise = level.like(x)
    match kind:
        case "x0":
            return 1.0, 0.0, 0.0
        case "epsilon":
            return 0.0, 1.0, 0.0
        case "v":
            return -noise, signal, 0.0
        case "flow":
            return 1.0, -1.0, 0.0
        case "mean" if previous is not None:
            of_x0, of_x, _ = posterior(level, previous)
            return rows_like(of_x0, x), 0.0, rows_like(of_x, x)
    raise InvalidInputError(
        f"{kind!r} was given without the level that it is the mean of; pass previous=..."
    )


def _determined(divisor: Tensor, source: str, target: str) -> None:
    if bool((divisor == 0).any()):
        raise InvalidInputError(
            f"{source!r} does not determine {target!r} at a level without noise or without "
            "signal; leave that level out or predict 'v' or 'flow'"
        )
