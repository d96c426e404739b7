"""Exact likelihood of a deterministic flow by the instantaneous change of variables.

Along dx/dt = v(x, t) the log-density changes by −div v (Chen et al. 2018; Grathwohl et al. 2019;
Song et al. 2021, section 4.3), so log p(x) = log p_end(x_end) + ∫ div v dt from data to noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from generators.dynamics.flow import Velocity
from generators.dynamics.ode import integrate
from loop.errors import InvalidInputError

# velocity, x (b, ...), t (b,) -> v (b, ...), div v (b,)
Divergence = Callable[[Velocity, Tensor, Tensor], tuple[Tensor, Tensor]]


def exact_divergence(velocity: Velocity, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """v and div v by one derivative a dimension."""
    with torch.enable_grad():
        state = x.detach().requires_grad_(True)
        v = velocity(state, t)
        columns = v.flatten(1).sum(0)
        trace = torch.zeros(len(x), dtype=x.dtype, device=x.device)
        for i in range(len(columns)):
            trace = trace + _gradient(columns[i], state).flatten(1)[:, i]
    return v.detach(), trace


def hutchinson(x: Tensor, generator: torch.Generator, *, probes: int = 1) -> Divergence:
    """div v estimated as the mean of uᵀ (∂v/∂x) u over random signs u, without bias.

    The probes are drawn here, for states shaped as x (b, ...), and kept: the integrand is then
    smooth, and one seed gives one answer (Hutchinson 1989; Grathwohl et al. 2019). The variance of
    an estimate is 2 Σ_{i≠j} S_ij² / probes, S the symmetric part of the Jacobian. Raises
    InvalidInputError for fewer than one probe and, when called, for states of another shape.
    """
    if probes < 1:
        raise InvalidInputError(f"{probes} probes; expected at least 1")
    drawn = torch.randint(2, (probes, *x.shape), generator=generator, device=generator.device)
    signs = (2 * drawn - 1).to(x)

    def divergence(velocity: Velocity, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        if x.shape != signs.shape[1:]:
            raise InvalidInputError(
                f"probes for states {tuple(signs.shape[1:])}, states {tuple(x.shape)}; draw the "
                "probes with hutchinson(x, ...) for the rows that are asked"
            )
        with torch.enable_grad():
            state = x.detach().requires_grad_(True)
            v = velocity(state, t)
            found = torch.zeros(len(x), dtype=x.dtype, device=x.device)
            for u in signs:
                found = found + (_gradient((u * v).sum(), state) * u).flatten(1).sum(1)
        return v.detach(), found / len(signs)

    return divergence


def _gradient(value: Tensor, state: Tensor) -> Tensor:
    """∂value/∂state; 0 where a field does not depend on the state at all."""
    if not value.requires_grad:
        return torch.zeros_like(state)
    (slope,) = torch.autograd.grad(value, state, retain_graph=True, materialize_grads=True)
    return slope


def log_normal(x: Tensor, mean: float = 0.0, variance: float = 1.0) -> Tensor:
    """log N(x; mean, variance I) of rows (b, ...), in nats, (b,)."""
    each = (x - mean).square() / variance + math.log(2 * math.pi * variance)
    return -0.5 * each.flatten(1).sum(1)


def ode_log_likelihood(
    velocity: Velocity,
    x: Tensor,
    *,
    data: float,
    noise: float,
    log_prior: Callable[[Tensor], Tensor] = log_normal,
    divergence: Divergence = exact_divergence,
    tolerance: float = 1e-5,
) -> Tensor:
    """log p(x) in nats (b,) of rows x (b, ...) that the velocity carries from noise to data.

    ``data`` and ``noise`` are the times at which it is data and ``log_prior``: 1 and 0 for flow
    matching, see ``flow_log_likelihood``; 0 (or a little above) and 1 for an SDE's probability
    flow. Raises InvalidInputError when the integrator gives up.
    """

    def derivative(t: Tensor, state: Sequence[Tensor]) -> Sequence[Tensor]:
        y = state[0]
        return divergence(velocity, y, t.to(y).expand(len(y)))

    start = [x, torch.zeros(len(x), dtype=x.dtype, device=x.device)]
    end, gathered = integrate(derivative, start, data, noise, tolerance=tolerance)
    return log_prior(end) + gathered


def flow_log_likelihood(
    velocity: Velocity,
    x: Tensor,
    *,
    divergence: Divergence = exact_divergence,
    tolerance: float = 1e-5,
) -> Tensor:
    """log p(x) in nats (b,) of a flow-matching velocity: noise at t = 0, data at t = 1."""
    return ode_log_likelihood(
        velocity, x, data=1.0, noise=0.0, divergence=divergence, tolerance=tolerance
    )


def bits_per_dimension(log_likelihood: Tensor, size: int, *, bin_width: float = 1.0) -> Tensor:
    """−log2 of the probability per dimension, from nats (b,).

    ``size``: dimensions of one row. ``bin_width``: of quantised data whose density was modelled
    (2/255 for 8-bit grey values scaled to [−1, 1]); 1 for probabilities and for densities as such.
    """
    return -(log_likelihood / size + math.log(bin_width)) / math.log(2)
