"""One step in time of a Cahn-Hilliard flow: exponential Adams-Bashforth, its size and its order.

Sources as in ``phase_field``; M. Hochbruck and A. Ostermann, Acta Numer. 19, 209 (2010), section 2
(the functions phi).
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simulators.spectral_flow import Bounds, Flow, Point, State

FloatArray = NDArray[np.float64]

REFRESH = 5  # attempts between looks at the greatest curvature
NEGLIGIBLE = 1e-5  # root mean square change of a fraction in one step that is none
GREATEST, LEAST, SAFETY = 1.2, 0.2, 0.8  # of one step over the one before
ROUNDING = 4.0  # units in the last place that the energy may be off


def advance(flow: Flow, state: State, until: FloatArray, tolerance: float) -> None:
    """One step of every system, at most to ``until``; a step that fails its tests is undone.

    Exponential Adams-Bashforth: the stiff part exactly, the rest N as the line or the parabola
    through its last two or three values, whichever allows the longer step; after a rise of the
    energy as a constant. The error is what one value of N more, the new one, would have changed.
    """
    now = state.now
    step = np.minimum(state.step, until - state.time)
    moving = step > 0
    _renew(flow, state, moving)
    factors = torch.as_tensor(_factors(state, step), device=flow.k2.device, dtype=flow.k2.dtype)
    h, first, last, line, parabola, second, third = torch.split(
        factors[..., None, None], [1, 2, 2, 1, 2, 2, 3]
    )

    def combined(*terms: tuple[Tensor, Tensor]) -> Tensor:
        table = terms[0][0] * terms[0][1]
        for own, factor in terms[1:]:
            table.addcmul_(own, factor)
        return flow.spread(table)

    phi = _phi(state.stiff * h[0])
    change = now.slope * combined((phi[0], h[0]))
    change.addcmul_(state.bends[0], combined(*zip(phi[1:3], first, strict=True)))
    if (state.order == 3).any():
        change.addcmul_(state.bends[1], combined(*zip(phi[1:3], last, strict=True)))
    point = flow.evaluate(now.modes + change, state.bounds.slow)
    bend = (point.slope - now.slope).addcmul_(change, state.spread, value=-1)
    size = tolerance * (flow.size(change) + NEGLIGIBLE)
    missed = torch.addcmul(bend, state.bends[0], line[0, ..., None, None], value=-1)
    errors = np.full((2, len(step)), np.inf)
    errors[0] = flow.size(missed * combined(*zip(phi[1:3], second, strict=True))) / size
    if flow.varying is None:
        for old, factor in zip(state.bends, parabola, strict=True):
            missed.addcmul_(old, factor[..., None, None], value=-1)
        errors[1] = flow.size(missed.mul_(combined(*zip(phi[1:4], third, strict=True)))) / size
    errors[1][~np.isfinite(state.before[1])] = np.inf
    rise = (point.energy - now.energy) / np.maximum(now.scale, np.finfo(float).tiny)
    lower = rise <= ROUNDING * torch.finfo(flow.k2.dtype).eps
    error = np.where(state.order == 3, errors[1], errors[0])
    accepted = moving & lower & (error <= 1)

    _keep(state, accepted, point, bend, change)
    state.before = np.where(accepted, [step, state.before[0]], state.before)
    state.before[:, moving & ~lower] = np.inf
    state.rose = moving & ~lower
    state.rise = np.where(accepted, np.maximum(state.rise, rise), state.rise)
    # Exactly the end, not one rounding short of it.
    arrived = accepted & (step >= until - state.time)
    state.time = np.where(arrived, until, np.where(accepted, state.time + step, state.time))
    state.steps += accepted
    state.rejected += moving & ~accepted
    with np.errstate(divide="ignore", invalid="ignore"):
        power = [np.where(accepted, own, 1.0) for own in (1 / 3, 1 / 4)]
        found = np.stack([SAFETY / own**p for own, p in zip(errors, power, strict=True)])
    found[np.isnan(found)] = 0
    state.order = np.where(moving, np.where(found[1] > found[0], 3, 2), state.order)
    state.order[state.rose] = 2
    proposal = step * np.where(lower, np.clip(found.max(0), LEAST, GREATEST), LEAST)
    # A step cut short by ``until`` says nothing against the longer one that was planned.
    proposal = np.where(accepted & (step < state.step), np.maximum(state.step, proposal), proposal)
    state.step = np.where(moving, proposal, state.step)


def _factors(state: State, h: FloatArray) -> FloatArray:
    """Factors (13, n) of one step of length h, in groups as ``advance`` takes them apart.

    N(t) = N0 + t d1 + t (t + a) d2 with a, b the last two steps, d1 = D1 / a, d2 = (d1 - D2 / b) /
    (a + b) from the bends D1 and D2, and the integral of exp(L (h - t)) t^j over the step is
    j! h^(j+1) phi_(j+1). Of phi_2 and phi_3 times D1 and D2; of the bends in the line and the
    parabola at the end; of phi_2 to phi_4 in what a wrong end value would have changed.
    """
    line = h / state.before[0]
    known, both = np.isfinite(state.before)
    a, b = np.where(np.isfinite(state.before), state.before, 1.0)
    # d2 = bent D1 + less D2.
    bent = np.where(both, 1 / (a * (a + b)), 0.0)
    less = np.where(both, -1 / (b * (a + b)), 0.0)
    used = np.where(state.order == 3, h**2, 0.0)
    scale = h / ((h + a) * (h + a + b))
    return np.stack(
        [
            h,
            h * line + used * bent * a,
            2 * used * bent * h,
            used * less * a,
            2 * used * less * h,
            line,
            h * (h + a) * bent,
            h * (h + a) * less,
            np.where(known, h * a / (h + a), h),
            np.where(known, 2 * h * h / (h + a), 0.0),
            a * (a + b) * scale,
            2 * (2 * a + b) * h * scale,
            6 * h**2 * scale,
        ]
    )


def _renew(flow: Flow, state: State, moving: NDArray[np.bool_]) -> None:
    """Follow the field with the stiff part; the bends are of the rest and change with it.

    By the number of attempts, which a system shares with all that it runs with, or after a rise.
    """
    attempts = state.steps + state.rejected
    due = np.flatnonzero(moving & (((attempts > 0) & (attempts % REFRESH == 0)) | state.rose))
    if not due.size:
        return
    whole = len(due) == len(state.time)
    bounds = (flow if whole else flow.take(due)).bounds(state.now.modes[due])
    index = torch.as_tensor(due, device=state.stiff.device)
    new = Bounds(
        *(
            getattr(state.bounds, own.name).index_copy(0, index, getattr(bounds, own.name))
            for own in fields(bounds)
        )
    )
    stiff = flow.stiff(new)
    spread = flow.spread(stiff)
    less = spread - state.spread
    state.bends = tuple(
        torch.addcmul(bend, change, less, value=-1)
        for bend, change in zip(state.bends, state.changes, strict=True)
    )  # type: ignore[assignment]
    state.bounds, state.stiff, state.spread = new, stiff, spread


def _keep(
    state: State, accepted: NDArray[np.bool_], point: Point, bend: Tensor, change: Tensor
) -> None:
    """Go on to the point where the step was accepted."""
    bends, changes = (bend, state.bends[0]), (change, state.changes[0])
    if accepted.all():
        state.now, state.bends, state.changes = point, bends, changes
        return
    if not accepted.any():
        return
    now = state.now
    mask = torch.as_tensor(accepted, device=bend.device).reshape(-1, 1, 1, 1, 1)
    state.now = Point(
        modes=torch.where(mask, point.modes, now.modes),
        slope=torch.where(mask, point.slope, now.slope),
        energy=np.where(accepted, point.energy, now.energy),
        scale=np.where(accepted, point.scale, now.scale),
    )
    state.bends = (
        torch.where(mask, bends[0], state.bends[0]),
        torch.where(mask, bends[1], state.bends[1]),
    )
    state.changes = (
        torch.where(mask, changes[0], state.changes[0]),
        torch.where(mask, changes[1], state.changes[1]),
    )


def _phi(z: Tensor) -> list[Tensor]:
    """phi_1 = (e^z - 1) / z and phi_(j + 1) = (phi_j - 1 / j!) / z up to phi_4, for z <= 0."""
    small = z > -0.1  # where four quotients lose three digits of a correction
    safe = torch.where(small, -1.0, z)
    found = [torch.expm1(safe).div_(safe)]
    for factorial in (1.0, 2.0, 6.0):
        found.append((found[-1] - 1 / factorial).div_(safe))
    near = torch.where(small, z, 0.0)
    series = torch.ones_like(z)
    for j in range(10, 4, -1):
        series = 1 + series * near / j
    series = series / 24
    found[3] = torch.where(small, series, found[3])
    for j, factorial in ((2, 6.0), (1, 2.0), (0, 1.0)):
        series = 1 / factorial + near * series
        found[j] = torch.where(small, series, found[j])
    return found
