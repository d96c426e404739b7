"""Steering a field by conditions, from outside: two or more predictions become one.

One convention, f̃ = f_∅ + s (f_c − f_∅): s = 0 unconditional, 1 conditional, above amplified. Ho &
Salimans 2022 print (1 + w) ε_c − w ε_∅; here s = 1 + w. Every kind of prediction is affine in ε at
fixed x and t, so the same combination holds for each (velocity, ε, v, score, x̂_0).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from generators.dynamics.parameterisation import Field, Kind, convert
from generators.dynamics.schedules import Level, Path, rows_like
from loop.errors import InvalidInputError

Weight = float | Callable[[Tensor], Tensor]  # constant, or times (b,) -> (b,)
Fields = Callable[[Tensor, Tensor], Sequence[Tensor]]  # several predictions at one state
Conditional = Callable[..., Tensor]  # x (b, ...), t (b,), then the conditions, each (b, ...)


# Several predictions


def separately(*fields: Field) -> Fields:
    """One pass for each field."""
    return lambda x, t: [field(x, t) for field in fields]


def together(network: Conditional, *conditions: Sequence[Tensor]) -> Fields:
    """One joint batch: ``network(x, t, *condition)`` for each of the conditions at once.

    Each condition is a sequence of tensors (b, ...), for instance values and their mask. Equals
    ``separately`` for a network whose rows do not see each other (no batch norm).
    """
    joined = [torch.cat(parts) for parts in zip(*conditions, strict=True)]
    k = len(conditions)

    def fields(x: Tensor, t: Tensor) -> Sequence[Tensor]:
        return network(x.repeat(k, *[1] * (x.ndim - 1)), t.repeat(k), *joined).chunk(k)

    return fields


# Classifier-free guidance


def compose(fields: Fields, weights: Sequence[Weight], *, rescale: float = 0.0) -> Field:
    """f_0 + Σ w_i (f_i − f_0) of the first field and the others, each with its own weight.

    A negative weight leads away from its condition (Liu et al. 2022, arXiv:2206.01714). With
    ``rescale`` φ each row goes by a share φ toward the standard deviation of f_1, so that high
    weights do not inflate the contrast (Lin et al. 2024, equations 15–16); what that does depends
    on the kind of prediction, they print it for v.
    Raises InvalidInputError when weights do not match the fields or φ is outside [0, 1].
    """
    if not 0 <= rescale <= 1:
        raise InvalidInputError(f"rescale = {rescale:g}; expected 0 (off) to 1")

    def guided(x: Tensor, t: Tensor) -> Tensor:
        base, *others = fields(x, t)
        if len(others) != len(weights):
            raise InvalidInputError(
                f"{len(others)} conditions with {len(weights)} weights; expected one weight each"
            )
        result = base
        for weight, other in zip(weights, others, strict=True):
            result = result + _weight(weight, t, x) * (other - base)
        if rescale == 0 or not others:
            return result
        return matched_spread(result, others[0], rescale)

    return guided


def matched_spread(x: Tensor, reference: Tensor, share: float) -> Tensor:
    """x (b, ...) whose rows go by ``share``, 0 to 1, toward the standard deviation of another's."""
    ratio = _spread(reference) / _spread(x)
    return (share * ratio + (1 - share)) * x


def classifier_free(
    unconditional: Field, conditional: Field, scale: Weight, *, rescale: float = 0.0
) -> Field:
    """f_∅ + s (f_c − f_∅) with s constant or over time; constant 0 and 1 cost one evaluation.

    With the prediction under an unwanted condition in place of f_∅ it leads away from that.
    """
    if scale == 0.0:
        return unconditional
    if scale == 1.0:
        return conditional
    return compose(separately(unconditional, conditional), [scale], rescale=rescale)


def interval(guided: Field, otherwise: Field, low: float, high: float) -> Field:
    """``guided`` for low <= t <= high, ``otherwise`` outside (Kynkäänniemi et al. 2024).

    All samples of a batch share one time, as the samplers give it.
    """

    def limited(x: Tensor, t: Tensor) -> Tensor:
        return guided(x, t) if low <= float(t[0]) <= high else otherwise(x, t)

    return limited


# The scale over noise


def noise_share(level: Level) -> Tensor:
    """σ/(α + σ): 0 at data, 1 at pure noise; on the straight path 1 − t."""
    return level.noise / (level.signal + level.noise)


def cosine_scale(path: Path, low: float, high: float) -> Weight:
    """``high`` at pure noise, falling as a raised cosine of the noise share to ``low`` at data.

    Early on the image as a whole is settled, where guidance steers; late it would only distort.
    Some lecture notes print the reverse.
    """

    def scale(t: Tensor) -> Tensor:
        share = noise_share(path.level(t))
        return low + (high - low) * 0.5 * (1 - torch.cos(math.pi * share))

    return scale


def linear_scale(path: Path, low: float, high: float) -> Weight:
    """``high`` at pure noise, falling with the noise share to ``low`` at data."""
    return lambda t: low + (high - low) * noise_share(path.level(t))


# Guidance by a likelihood


def guided_by(
    field: Field,
    log_likelihood: Callable[[Tensor], Tensor],
    scale: Weight,
    path: Path,
    kind: Kind = "x0",
) -> Field:
    """The score plus s ∇_x log p(y | x̂_0(x)), as a field of the same kind: a denoiser by default.

    ``log_likelihood`` maps x̂_0 (b, ...) to (b,), in nats, by anything differentiable: an energy
    with its sign turned, a regressor, a simulator with an adjoint behind a decoder. It stands for
    log E[p(y | x_0) | x], which is exact where it is linear in x_0 and the data Gaussian, and where
    noise is low (Chung et al. 2023, diffusion posterior sampling). The field is differentiated
    too. At α = 0 the state says nothing of the data: there the field is left as it is.
    """

    def guided(x: Tensor, t: Tensor) -> Tensor:
        level = path.level(t)
        known = level.like(x).signal != 0
        with torch.enable_grad():
            state = x.detach().requires_grad_(True)
            value = field(state, t)
            # Of rows without signal the estimate is not used; any finite one will do.
            usable = Level(torch.where(level.signal != 0, level.signal, 1.0), level.noise)
            estimate = convert(value, state, usable, kind, "x0")
            (slope,) = torch.autograd.grad(log_likelihood(estimate).sum(), state)
        shift = torch.where(known, _per_score(usable.like(x), kind) * slope, 0.0)
        return value.detach() + _weight(scale, t, x) * shift

    return guided


def guided_by_noisy(
    field: Field,
    log_likelihood: Callable[[Tensor, Tensor], Tensor],
    scale: Weight,
    path: Path,
    kind: Kind = "x0",
) -> Field:
    """The score plus s ∇_x log p(y | x, t) of a classifier or regressor trained on noisy states.

    ``log_likelihood`` maps (b, ...), (b,) to (b,). In ε it is ε − s σ ∇ log p(y | x, t) (Dhariwal &
    Nichol 2021, algorithm 2). The field itself is not differentiated; at α = 0 it is left as it is.
    """

    def guided(x: Tensor, t: Tensor) -> Tensor:
        with torch.enable_grad():
            state = x.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(log_likelihood(state, t).sum(), state)
        level = path.level(t).like(x)
        shift = torch.where(level.signal != 0, _per_score(level, kind) * slope, 0.0)
        return field(x, t) + _weight(scale, t, x) * shift

    return guided


def _per_score(level: Level, kind: Kind) -> Tensor | float:
    """∂prediction/∂score at fixed x: Tweedie's σ²/α for x_0 and −σ for ε give the others."""
    signal, noise = level
    match kind:
        case "x0":
            return noise.square() / signal
        case "epsilon":
            return -noise
        case "v":
            return -noise * (signal.square() + noise.square()) / signal
        case "score":
            return 1.0
        case "flow":
            return noise * (signal + noise) / signal
    raise InvalidInputError(f"no guidance of {kind!r} by a likelihood; give a field of 'x0'")


def _weight(weight: Weight, t: Tensor, x: Tensor) -> Tensor | float:
    return rows_like(weight(t), x) if callable(weight) else weight


def _spread(x: Tensor) -> Tensor:
    """(b, 1, ..., 1) standard deviation of each row, above 0."""
    deviation = x.flatten(1).std(1, correction=0)
    return rows_like(deviation.clamp_min(torch.finfo(x.dtype).tiny), x)
