"""One step in time of a Cahn-Hilliard flow: exponential Adams-Bashforth, its size and its order.

Sources as in ``phase_field``; M. Hochbruck and A. Ostermann, Acta Numer. 19, 209 (2010), section 2
(the functions phi).
"""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simulators.spectral_flow import Bounds, Flow, Point, State

FloatArray = NDArray[np.float64]

REFRESH = 5  # attempts between looks at the greatest curvature
NEGLIGIBLE = 1e-5  # root mean square change of a fraction in one step that is none
LITTLE = 3e-3  # of the contrast of the field, likewise, where the mobility varies
# Of the line, what is left out of waves that the stiff part damps by more than DAMPED in one step,
# where the mobility varies. Where the true damping is much weaker than the stiff part's, the whole
# line makes a wave almost undamped, and modes that M(c) mixes then grow; this costs no order.
DAMPING, DAMPED = 0.1, 0.1
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
    h, *f = factors[..., None, None].unbind(0)
    p1, p2, p3, *p4 = _phi(state.stiff * h, 4 if flow.varying is None else 3)

    change = now.slope * flow.spread(p1 * h)
    line = (p2 * f[0]).addcmul_(p3, f[1])
    lag = None
    if flow.varying is not None:
        z = state.stiff * -h
        lag = line * (DAMPING * z / (DAMPED + z))
        line -= lag
    change.addcmul_(state.bends[0], flow.spread(line))
    if (state.order == 3).any():
        change.addcmul_(state.bends[1], flow.spread((p2 * f[2]).addcmul_(p3, f[3])))
    point = flow.evaluate(now.modes + change, state.bounds.slow)
    bend = (point.slope - now.slope).addcmul_(change, state.spread, value=-1)
    size = flow.size(change) + NEGLIGIBLE
    if flow.varying is not None:
        size += LITTLE * state.contrast
    size *= tolerance
    missed = torch.addcmul(bend, state.bends[0], f[4][..., None, None], value=-1)
    errors = np.full((2, len(step)), np.inf)
    error = missed * flow.spread((p2 * f[7]).addcmul_(p3, f[8]))
    if lag is not None:
        error.addcmul_(state.bends[0], flow.spread(lag))
    errors[0] = flow.size(error) / size
    if flow.varying is None and np.isfinite(state.before[1]).any():
        for old, factor in zip(state.bends, f[5:7], strict=True):
            missed.addcmul_(old, factor[..., None, None], value=-1)
        third = (p2 * f[9]).addcmul_(p3, f[10]).addcmul_(p4[0], f[11])
        errors[1] = flow.size(missed.mul_(flow.spread(third))) / size
    errors[1][~np.isfinite(state.before[1])] = np.inf
    rise = (point.energy - now.energy) / np.maximum(now.scale, np.finfo(float).tiny)
    lower = rise <= ROUNDING * torch.finfo(flow.k2.dtype).eps
    accepted = moving & lower & (np.where(state.order == 3, errors[1], errors[0]) <= 1)

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
    rows = [
        _own_factors(*own)
        for own in zip(h.tolist(), *state.before.tolist(), state.order.tolist(), strict=True)
    ]
    return np.ascontiguousarray(np.array(rows).T)


def _own_factors(h: float, a: float, b: float, order: int) -> list[float]:
    """Those of one system; plain numbers, of which there are many and arrays cost more."""
    line = h / a
    known, both = math.isfinite(a), math.isfinite(b)
    a, b = a if known else 1.0, b if both else 1.0
    # d2 = bent D1 + less D2.
    bent = 1 / (a * (a + b)) if both else 0.0
    less = -1 / (b * (a + b)) if both else 0.0
    used = h * h if order == 3 else 0.0
    scale = h / ((h + a) * (h + a + b))
    return [
        h,
        h * line + used * bent * a,
        2 * used * bent * h,
        used * less * a,
        2 * used * less * h,
        line,
        h * (h + a) * bent,
        h * (h + a) * less,
        h * a / (h + a) if known else h,
        2 * h * h / (h + a) if known else 0.0,
        a * (a + b) * scale,
        2 * (2 * a + b) * h * scale,
        6 * h * h * scale,
    ]


def _renew(flow: Flow, state: State, moving: NDArray[np.bool_]) -> None:
    """Follow the field with the stiff part; the bends are of the rest and change with it.

    By the number of attempts, which a system shares with all that it runs with, or after a rise.
    """
    attempts = state.steps + state.rejected
    due = np.flatnonzero(moving & (((attempts > 0) & (attempts % REFRESH == 0)) | state.rose))
    if not due.size:
        return
    whole = len(due) == len(state.time)
    bounds = (flow if whole else flow.take(due)).bounds(state.now.values[due])
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
    if flow.varying is not None:
        state.contrast[due] = flow.contrast(state.now.modes[due])


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
        values=torch.where(mask[..., 0], point.values, now.values),
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


def _phi(z: Tensor, functions: int = 4) -> list[Tensor]:
    """phi_1 = (e^z - 1) / z and phi_(j + 1) = (phi_j - 1 / j!) / z up to ``functions``, z <= 0."""
    found = [torch.expm1(z).div_(z)]
    for factorial in (1.0, 2.0, 6.0)[: functions - 1]:
        found.append((found[-1] - 1 / factorial).div_(z))
    # Four quotients lose three digits of a correction near 0, where the levels begin.
    small = z > -0.1
    count = int(small.any(0).any(0).sum())
    small, near = small[..., :count], z[..., :count]
    series = near * (1 / math.factorial(9)) + 1 / math.factorial(8)
    for j in range(7, 0, -1):
        series = series.mul_(near).add_(1 / math.factorial(j))
        if j <= functions:
            own = found[j - 1][..., :count]
            own.copy_(torch.where(small, series, own))
    return found
