"""Guidance by the simulator: proposals moved until they have the properties asked for.

A sample of the flow is near what was asked, not at it. The simulator's own derivatives (its
adjoint, ``loop.protocols.Differentiable``) tell how its properties change with the image's latent
and with the compositions, and a few damped Gauss-Newton steps of least length bring it there. The
latent and the compositions are measured in standard deviations of the data, so the least step is
the most probable one under their Gaussian prior: the constraint by projection of N. Utkarsh et al.,
Physics-constrained flow matching (2025), taken at the end of the flow; damping as K. Levenberg,
Q. Appl. Math. 2, 164 (1944).

The image is decoded to labels before it is judged; backwards, labels stand for the decoder's
probabilities (straight-through, Y. Bengio et al., arXiv 1308.3432). What rounding to pixels leaves
over, the compositions take up at last, inside their bounds, absent elements staying absent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from generators.networks.labelling import most_probable
from generators.steering_steps import damped_step, jacobian_of, relative, residuals, whitened
from loop.composition import project_to_bounds
from loop.protocols import Differentiable

FloatArray = NDArray[np.float64]
Values = Callable[[Tensor | None, Tensor | None], Tensor]  # fields, compositions -> (n, k)
Decode = Callable[[Tensor, Tensor], Tensor]  # latents and which designs they are of -> logits
SOFTNESS = 2.0  # temperature of the probabilities that labels stand for, backwards
SHRINK = 0.25  # of the reach after a step that made it worse


@dataclass(frozen=True, slots=True)
class Steering:
    """``image_steps``, ``composition_steps``: simulator calls with gradient per design, at most.

    ``image_reach``, ``composition_reach``: length of the longest step, in standard deviations of
    the data (root of the sum of squares over the coordinates: about 30 lies between two images).
    ``image_close``, ``close``: relative error in every property that ends each part; the first is
    what a pixel or two of an image make. ``restarts``: how often a design that stays farther than
    ``missed`` is drawn anew, which a sampler does.
    """

    image_steps: int = 12
    composition_steps: int = 4
    image_reach: float = 12.0
    composition_reach: float = 6.0
    image_close: float = 1e-3
    close: float = 2e-4
    restarts: int = 2
    missed: float = 1e-3


@dataclass(frozen=True, slots=True)
class Steered:
    """``images``: (n, h, w) labels; ``compositions``: (n, p, e); ``calls``: (n,).

    ``errors``: (n,) relative, largest over the properties; 0 where nothing is asked.
    """

    images: NDArray[np.uint8] | None
    compositions: FloatArray | None
    calls: NDArray[np.int64]
    errors: FloatArray

    @staticmethod
    def join(parts: Sequence[Steered]) -> Steered:
        images = [part.images for part in parts if part.images is not None]
        compositions = [part.compositions for part in parts if part.compositions is not None]
        return Steered(
            np.concatenate(images) if images else None,
            np.concatenate(compositions) if compositions else None,
            np.concatenate([part.calls for part in parts]),
            np.concatenate([part.errors for part in parts]),
        )

    def replaced(self, rows: NDArray[np.intp], other: Steered) -> NDArray[np.bool_]:
        """Put those of ``other`` (m designs) that are nearer in the places ``rows`` (m,).

        Their calls are added in any case. Returns which were nearer.
        """
        nearer: NDArray[np.bool_] = other.errors < self.errors[rows]
        for mine, theirs in (
            (self.images, other.images),
            (self.compositions, other.compositions),
            (self.errors, other.errors),
        ):
            if mine is not None and theirs is not None:
                mine[rows[nearer]] = theirs[nearer]
        self.calls[rows] += other.calls
        return nearer


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of compositions: ``low``, ``high``: (p, e); ``std``: (p, e), of the data."""

    low: FloatArray
    high: FloatArray
    std: FloatArray

    def free(self, x: FloatArray) -> FloatArray:
        """(n, p, e) standard deviations of the elements that may change; 0 where absent."""
        spread: FloatArray = np.where((x > 0) & (self.high > self.low), self.std, 0.0)
        return spread

    def project(self, x: FloatArray, present: NDArray[np.bool_]) -> FloatArray:
        high = np.where(present, self.high, 0.0)
        reachable = high.sum(-1, keepdims=True) >= 1.0
        high = np.where(reachable, high, self.high)
        return project_to_bounds(x, np.broadcast_to(self.low, x.shape), high)


def steer(
    values: Values,
    requests: FloatArray,
    scales: FloatArray,
    *,
    latents: Tensor | None,
    decode: Decode | None,
    compositions: FloatArray | None,
    bounds: Bounds | None,
    settings: Steering,
) -> Steered:
    """Designs with the requested properties, near those that are given.

    ``values``: properties (n, k) of phase fields (n, p, h, w) and compositions (n, p, e), with
    gradients; both are given on the CPU, wherever latents are. ``requests``: (n, k), NaN where
    nothing is asked. ``scales``: (k,) what counts as a large difference of each property.
    ``latents``: (n, c, h', w'), of which ``decode`` turns some, with the numbers (m,) of their
    designs, to logits (m, p, h, w). A step that brings a design no nearer is taken back, so none
    ends farther from the request than it began, by the squares of its errors over ``scales``.
    """
    n = len(requests)
    x = None if compositions is None else compositions.copy()
    calls = np.zeros(n, dtype=np.int64)
    errors = np.zeros(n)
    labels: Tensor | None = None
    if latents is not None and decode is not None:
        labels = one_hot(decode(latents, torch.arange(n)))[0]
        if settings.image_steps:
            labels, x, search = _steer_images(
                values, requests, scales, latents, decode, x, bounds, settings
            )
            calls, errors = search.calls, search.error.numpy()
    if x is not None and bounds is not None and settings.composition_steps:
        fields = None if labels is None else labels.cpu().double()
        x, search = _steer_compositions(values, requests, scales, fields, x, bounds, settings)
        calls, errors = calls + search.calls, search.error.numpy()
    images = None if labels is None else labels.argmax(1).to(torch.uint8).cpu().numpy()
    return Steered(images, x, calls, errors)


def values_of(models: Sequence[Differentiable], properties: Sequence[str]) -> Values:
    """The properties of simulators as one function; NaN for those that none can differentiate."""

    def values(fields: Tensor | None, compositions: Tensor | None) -> Tensor:
        found = {
            name: column
            for model in models
            for name, column in model.properties_of(fields, compositions).items()
        }
        some = next(iter(found.values()))
        missing = torch.full_like(some.detach(), torch.nan)
        return torch.stack([found.get(name, missing) for name in properties], dim=1)

    return values


def one_hot(logits: Tensor, softness: float = SOFTNESS) -> tuple[Tensor, Tensor]:
    """Labels as fields (n, p, h, w) of 0 and 1, and the same with the probabilities' gradient."""
    hard = (
        functional.one_hot(most_probable(logits).long(), logits.shape[1])
        .permute(0, 3, 1, 2)
        .float()
    )
    if not (logits.requires_grad and torch.is_grad_enabled()):
        return hard, hard
    probability = (logits.float() / softness).softmax(1)
    # The difference is exactly zero, so the values are the labels'.
    return hard, hard + (probability - probability.detach())


class Search:
    """Best state so far of n designs, and which of them go on."""

    def __init__(self, n: int, reach: float) -> None:
        self.merit = torch.full((n,), torch.inf, dtype=torch.float64)
        self.reach = torch.full((n,), reach, dtype=torch.float64)
        self.error = torch.full((n,), torch.inf, dtype=torch.float64)  # relative, see Steered
        self.active = torch.ones(n, dtype=torch.bool)
        self.calls = np.zeros(n, dtype=np.int64)

    def judge(self, rows: Tensor, merit: Tensor, near: Tensor) -> Tensor:
        """Of the tried rows those that got better; the others try again with less reach."""
        self.calls[rows.numpy()] += 1
        better = merit < self.merit[rows]
        self.merit[rows] = torch.where(better, merit, self.merit[rows])
        self.reach[rows] = torch.where(better, self.reach[rows], SHRINK * self.reach[rows])
        self.active[rows] = ~near
        return better


def _steer_images(
    values: Values,
    requests: FloatArray,
    scales: FloatArray,
    latents: Tensor,
    decode: Decode,
    x: FloatArray | None,
    bounds: Bounds | None,
    settings: Steering,
) -> tuple[Tensor, FloatArray | None, Search]:
    """Best labels (n, p, h, w) and compositions after steps of latents and compositions."""
    n = len(requests)
    wanted, unit = torch.from_numpy(requests), torch.from_numpy(scales)
    search = Search(n, settings.image_reach)
    latents = latents.detach()
    best_z, best_x = latents.clone(), None if x is None else torch.from_numpy(x)
    trial_z, trial_x = best_z.clone(), None if best_x is None else best_x.clone()
    best_labels = one_hot(decode(latents, torch.arange(n)))[0]
    jacobians, errors = torch.zeros(0), torch.zeros(0)  # at the best
    for turn in range(settings.image_steps + 1):
        rows = torch.nonzero(search.active)[:, 0]
        if not len(rows):
            break
        z = trial_z[rows].requires_grad_()
        u = None if trial_x is None else trial_x[rows].requires_grad_()
        with torch.enable_grad():
            labels, through = one_hot(decode(z, rows))
            found = values(through.cpu().double(), u)
            inputs = [z] if u is None else [z, u]
            parts = jacobian_of(found, inputs)
        if u is not None and bounds is not None:
            spread = torch.from_numpy(bounds.free(u.detach().numpy()))
            parts[1] = whitened(parts[1], spread)
        found = found.detach().cpu()
        residual = residuals(found, wanted[rows], unit)
        error = relative(found, wanted[rows])
        better = search.judge(rows, residual.square().sum(1), error <= settings.image_close)
        kept = rows[better]
        search.error[kept] = error[better]
        best_z[kept], best_labels[kept] = z.detach()[better], labels[better]
        if best_x is not None and u is not None:
            best_x[kept] = u.detach()[better]
        jacobian = torch.cat([p.cpu() for p in parts], dim=2)
        asked = ~torch.isnan(wanted[rows])
        jacobian = jacobian / unit[:, None] * asked[..., None]
        if turn == 0:
            jacobians, errors = jacobian, residual
        else:
            jacobians[kept], errors[kept] = jacobian[better], residual[better]
        if turn == settings.image_steps:
            break
        move = damped_step(jacobians, errors, search.reach)
        size = latents[0].numel()
        trial_z = best_z + move[:, :size].reshape(best_z.shape).to(best_z)
        if best_x is not None and bounds is not None:
            trial_x = _moved(best_x, move[:, size:], bounds)
    return best_labels, None if best_x is None else best_x.numpy(), search


def _moved(x: Tensor, move: Tensor, bounds: Bounds) -> Tensor:
    """Compositions (n, p, e) after a whitened step (n, p e), inside the bounds."""
    before = x.numpy()
    after = before + bounds.free(before) * move.reshape(x.shape).numpy()
    return torch.from_numpy(bounds.project(after, before > 0))


def _steer_compositions(
    values: Values,
    requests: FloatArray,
    scales: FloatArray,
    fields: Tensor | None,
    x: FloatArray,
    bounds: Bounds,
    settings: Steering,
) -> tuple[FloatArray, Search]:
    """Best compositions (n, p, e) after steps at fixed images."""
    wanted, unit = torch.from_numpy(requests), torch.from_numpy(scales)
    search = Search(len(x), settings.composition_reach)
    best = torch.from_numpy(x.copy())
    trial = best.clone()
    k = requests.shape[1]
    jacobians = torch.zeros(len(x), k, best[0].numel(), dtype=torch.float64)
    errors = torch.zeros(len(x), k, dtype=torch.float64)
    for turn in range(settings.composition_steps + 1):
        rows = torch.nonzero(search.active)[:, 0]
        if not len(rows):
            break
        u = trial[rows].requires_grad_()
        with torch.enable_grad():
            found = values(None if fields is None else fields[rows], u)
            (jacobian,) = jacobian_of(found, [u])
        found = found.detach().cpu()
        residual = residuals(found, wanted[rows], unit)
        error = relative(found, wanted[rows])
        better = search.judge(rows, residual.square().sum(1), error <= settings.close)
        kept = rows[better]
        search.error[kept] = error[better]
        best[kept] = u.detach()[better]
        asked = ~torch.isnan(wanted[rows])
        jacobians[kept] = (jacobian.cpu() / unit[:, None] * asked[..., None])[better]
        errors[kept] = residual[better]
        if turn < settings.composition_steps:
            trial = _bounded(best, jacobians, errors, search.reach, bounds)
    return best.numpy(), search


def _bounded(
    x: Tensor, jacobian: Tensor, residual: Tensor, reach: Tensor, bounds: Bounds
) -> Tensor:
    """Compositions after the least step within the bounds.

    What a step would carry over a bound is put onto it and held, and the step is taken anew with
    the others, which take up what is missing.
    """
    low, high = torch.from_numpy(bounds.low), torch.from_numpy(bounds.high)
    start = x.clone()
    spread = torch.from_numpy(bounds.free(x.numpy()))
    moved = start
    for _ in range(x.shape[-1]):
        # The sum of a phase has to stay: what is on a bound moves the others the opposite way.
        norm = spread.square().sum(-1, keepdim=True).clamp_min(1e-30)
        given = (start - x) - spread.square() / norm * (start - x).sum(-1, keepdim=True)
        left = residual - (jacobian * given.flatten(1)[:, None]).sum(-1)
        step = damped_step(whitened(jacobian, spread), left, reach)
        moved = x + given + spread * step.reshape(x.shape)
        over = ((moved < low - 1e-15) | (moved > high + 1e-15)) & (spread > 0)
        if not bool(over.any()):
            break
        start = torch.where(over, moved.clamp(low, high), start)
        spread = torch.where(over, 0.0, spread)
    return torch.from_numpy(bounds.project(moved.numpy(), x.numpy() > 0))
