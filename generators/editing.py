"""Editing with a trained flow, no training needed: invert, vary, fill in, extend.

Free functions on a ``Velocity`` and states (b, ...). Times run from 0, noise, to 1, data, as in
``dynamics.flow``; a state noised to time t is (1 - t) noise + t data. Small t is heavy noise: what
SDEdit calls t_edit is 1 - t here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from generators.dynamics.flow import Velocity, interpolate
from generators.dynamics.samplers import heun
from loop.errors import InvalidInputError

Sampler = Callable[[Velocity, Tensor, Tensor], Tensor]


def times_between(start: float, end: float, steps: int) -> Tensor:
    """(steps + 1,) equal steps from ``start`` to ``end``, either way within [0, 1].

    Raises InvalidInputError for times outside [0, 1] and fewer than one step.
    """
    if not (0 <= start <= 1 and 0 <= end <= 1) or steps < 1:
        raise InvalidInputError(
            f"times from {start:g} to {end:g} in {steps} steps; expected times between 0 (noise) "
            "and 1 (data) and at least one step"
        )
    return torch.linspace(start, end, steps + 1)


def invert(
    velocity: Velocity, data: Tensor, steps: int, *, depth: float = 1.0, sampler: Sampler = heun
) -> Tensor:
    """The state at time 1 - ``depth`` from which the flow leads to ``data``.

    The probability flow backwards (Song et al. 2021, section 4.3; DDIM inversion). Forth and back
    differ by the error of the sampler alone.
    """
    return sampler(velocity, data, times_between(1.0, 1.0 - depth, steps).to(data.device))


def vary(
    velocity: Velocity,
    data: Tensor,
    noise: Tensor,
    steps: int,
    *,
    strength: float,
    sampler: Sampler = heun,
) -> Tensor:
    """Noised to a share ``strength`` of the way and taken back: SDEdit (Meng et al. 2022).

    0 gives the data themselves, 1 a new sample.
    """
    t = 1.0 - strength
    times = times_between(t, 1.0, steps).to(data.device)
    return sampler(velocity, interpolate(data, noise, times[:1].expand(len(data))), times)


def fill(
    velocity: Velocity,
    known: Tensor,
    mask: Tensor,
    steps: int,
    *,
    generator: torch.Generator,
    resample: int = 4,
    begin: Tensor | None = None,
    strength: float = 1.0,
) -> Tensor:
    """Samples that agree with ``known`` where ``mask`` is true: RePaint (Lugmayr et al. 2022).

    ``mask`` broadcasts to ``known`` (b, ...). At every time the known part is the data noised to
    that level. Each step is taken ``resample`` times, noised back in between, so that the parts
    come to agree with each other. ``begin`` (b, ...): what stands in the unknown part now, noised
    to a share ``strength`` of the way as in ``vary``; otherwise it is drawn from noise alone.
    Raises InvalidInputError for a resample below one and a strength without ``begin``.
    """
    if resample < 1:
        raise InvalidInputError(f"resample is {resample}; expected at least 1")
    if begin is None and strength != 1:
        raise InvalidInputError(f"strength is {strength:g} without what it begins with; give both")
    times = times_between(1.0 - strength, 1.0, steps).to(known.device)

    def draw() -> Tensor:
        drawn = torch.randn(known.shape, generator=generator, dtype=known.dtype)
        return drawn.to(known.device)

    x = draw()
    if begin is not None:
        x = interpolate(begin, x, times[:1].expand(len(known)))
    for t, t_next in itertools.pairwise(times):
        for turn in range(resample):
            x = torch.where(mask, interpolate(known, draw(), t.expand(len(known))), x)
            x = heun(velocity, x, torch.stack((t, t_next)))
            if turn + 1 < resample:
                x = noised_back(x, float(t_next), float(t), draw())
    return torch.where(mask, known, x)


def noised_back(x: Tensor, late: float, early: float, noise: Tensor) -> Tensor:
    """A state of time ``late`` noised to the earlier time, with the right marginal.

    x_s = (s / t) x_t + sqrt((1 - s)^2 - (s (1 - t) / t)^2) noise, s < t: the signal shrinks to s
    and the noise grows to 1 - s.
    """
    share = early / late
    rest = (1 - early) ** 2 - (share * (1 - late)) ** 2
    return share * x + math.sqrt(max(rest, 0.0)) * noise


def tiled(velocity: Velocity, window: tuple[int, int], stride: tuple[int, int]) -> Velocity:
    """A velocity of fixed windows (b, c, h, w) on larger periodic states (b, c, H, W).

    The mean over all windows that see a place, wrapped around the edges (Bar-Tal et al. 2023,
    MultiDiffusion). ``stride`` has to divide H and W and be at most the window. The result moves
    along with a state that is rolled by whole strides.
    Raises InvalidInputError for states that do not fit.
    """
    h, w = window
    down, right = stride

    def whole(x: Tensor, t: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if height % down or width % right or height < h or width < w or down > h or right > w:
            raise InvalidInputError(
                f"state of {height} x {width} with windows of {h} x {w} every {down} x {right}; "
                "expected strides that divide the state and windows no larger than it"
            )
        total, count = torch.zeros_like(x), torch.zeros_like(x[:1, :1])
        places = [(top, left) for top in range(0, height, down) for left in range(0, width, right)]
        rolled = [x.roll((-top, -left), (-2, -1))[..., :h, :w] for top, left in places]
        found = velocity(torch.cat(rolled), t.repeat(len(places))).chunk(len(places))
        rows, columns = torch.arange(h, device=x.device), torch.arange(w, device=x.device)
        for (top, left), part in zip(places, found, strict=True):
            i, j = (rows + top) % height, (columns + left) % width
            total[..., i[:, None], j[None, :]] += part
            count[..., i[:, None], j[None, :]] += 1
        return total / count

    return whole


def shifted(velocity: Velocity, axes: tuple[bool, bool], generator: torch.Generator) -> Velocity:
    """A velocity of periodic states (b, c, H, W), seen from another random place at each call.

    Of ``tiled`` windows, so that their edges are nowhere in particular: a flow that learned
    windows takes their edges for those of an image. ``axes``: which of H and W are shifted.
    """

    def moved(x: Tensor, t: Tensor) -> Tensor:
        drawn = [int(torch.randint(n, (1,), generator=generator)) for n in x.shape[-2:]]
        places = [n if axis else 0 for n, axis in zip(drawn, axes, strict=True)]
        back = [-n for n in places]
        return velocity(x.roll(places, (-2, -1)), t).roll(back, (-2, -1))

    return moved
