"""The discrete Cahn-Hilliard flow and one step of it, for ``phase_field``.

Coordinates: c = A d with A^T K A = 1 and A^-1 M A^-T = diag(rates), so that in Fourier space every
component of d has the stiff part -rates k^2 (s + k^2). States stay in Fourier space; the mean of
every fraction is the zeroth mode, which no term touches.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simulators.fields import irfft2, rfft2
from simulators.free_energy import FreeEnergy, Mobility

FloatArray = NDArray[np.float64]

STABILISATION = 0.75  # of the greatest curvature; see ``advance``
NEGLIGIBLE = 1e-5  # root mean square change of a fraction in one step that is none
GREATEST, LEAST, SAFETY = 1.2, 0.2, 0.8  # of one step over the one before
ROUNDING = 4.0  # units in the last place that the energy may be off


@dataclass(frozen=True, slots=True)
class Point:
    """The flow at n fields.

    ``modes``: d in Fourier space, (n, m, h, w // 2 + 1). ``slope``: its time derivative.
    ``energy``, ``scale``: mean free energy density and mean size of its terms, (n,).
    ``curvature``, ``mobility``: bounds, (n,), on the eigenvalues of the Hessian of f in d and 1;
    where the mobility varies, on those of the local M f'' and M in d.
    """

    modes: Tensor
    slope: Tensor
    curvature: Tensor
    mobility: Tensor
    energy: FloatArray
    scale: FloatArray

    def take(self, index: NDArray[np.int64]) -> Point:
        return replace(self, **{own.name: getattr(self, own.name)[index] for own in fields(self)})

    def where(self, kept: NDArray[np.bool_], other: Point) -> Point:
        """This where ``kept``, (n,), and the other elsewhere."""
        if kept.all():
            return self
        chosen: dict[str, Any] = {}
        for own in fields(self):
            a, b = getattr(self, own.name), getattr(other, own.name)
            mask = kept.reshape(-1, *[1] * (a.ndim - 1))
            if isinstance(a, Tensor):
                chosen[own.name] = torch.where(torch.as_tensor(mask, device=a.device), a, b)
            else:
                chosen[own.name] = np.where(mask, a, b)
        return Point(**chosen)


@dataclass(slots=True)
class State:
    """n systems at their own times; ``advance`` changes it.

    ``last``: the point before ``now``, ``step_before`` earlier in time, inf where there is none.
    """

    now: Point
    last: Point
    step_before: FloatArray
    time: FloatArray
    step: FloatArray
    steps: NDArray[np.int64]
    rejected: NDArray[np.int64]
    rise: FloatArray

    def take(self, index: NDArray[np.int64]) -> State:
        """The systems at ``index``."""
        return State(
            self.now.take(index),
            self.last.take(index),
            *(getattr(self, own.name)[index] for own in fields(self)[2:]),
        )


@dataclass(frozen=True, slots=True)
class Flow:
    """The right-hand side for n systems on one grid.

    ``basis``: A, (n, m, m). ``inverse``: A^-1. ``rates``: (n, m). ``k2``, ``weight``: squared
    wavenumbers and how often a mode of the half spectrum counts, (h, w // 2 + 1). ``kx``, ``ky``:
    wavenumbers of odd derivatives, without the Nyquist mode, which has no sign.
    """

    energy: FreeEnergy
    varying: Mobility | None
    basis: Tensor
    inverse: Tensor
    rates: Tensor
    k2: Tensor
    kx: Tensor
    ky: Tensor
    weight: Tensor
    shape: tuple[int, int]

    @staticmethod
    def build(
        energy: FreeEnergy,
        stiffness: FloatArray,
        transport: FloatArray,
        varying: Mobility | None,
        *,
        shape: tuple[int, int],
        spacing: float,
        device: torch.device,
        dtype: torch.dtype,
    ) -> Flow:
        """``stiffness``: K, ``transport``: M, (n, m, m) each (M at the mean where it varies)."""
        lower = np.linalg.cholesky(stiffness)
        rates, turn = np.linalg.eigh(lower.swapaxes(1, 2) @ transport @ lower)
        basis = np.linalg.inv(lower).swapaxes(1, 2) @ turn
        inverse = turn.swapaxes(1, 2) @ lower.swapaxes(1, 2)
        h, w = shape
        y = 2 * np.pi * np.fft.fftfreq(h, spacing)[:, None]
        x = 2 * np.pi * np.fft.rfftfreq(w, spacing)[None, :]
        odd_y, odd_x = y.copy(), x.copy()
        if h % 2 == 0:
            odd_y[h // 2] = 0
        if w % 2 == 0:
            odd_x[:, w // 2] = 0
        weight = np.full((h, w // 2 + 1), 2.0)
        weight[:, 0] = 1.0
        if w % 2 == 0:
            weight[:, -1] = 1.0

        def tensor(values: NDArray[np.floating]) -> Tensor:
            return torch.as_tensor(np.ascontiguousarray(values), device=device, dtype=dtype)

        return Flow(
            energy=energy.on(device, dtype),
            varying=None if varying is None else varying.on(device, dtype),
            basis=tensor(basis),
            inverse=tensor(inverse),
            rates=tensor(np.maximum(rates, 0.0)),
            k2=tensor(x**2 + y**2),
            kx=tensor(odd_x),
            ky=tensor(odd_y),
            weight=tensor(weight),
            shape=shape,
        )

    def take(self, index: NDArray[np.int64]) -> Flow:
        """The systems at ``index``."""
        device, dtype = self.basis.device, self.basis.dtype
        varying = self.varying
        return replace(
            self,
            energy=self.energy.take(index).on(device, dtype),
            varying=None if varying is None else varying.take(index).on(device, dtype),
            basis=self.basis[index],
            inverse=self.inverse[index],
            rates=self.rates[index],
        )

    def start(self, c: FloatArray) -> State:
        """State of the fields (n, m, h, w) at time 0."""
        tensor = torch.as_tensor(c, device=self.basis.device, dtype=self.basis.dtype)
        point = self.evaluate(rfft2(_apply(self.inverse, tensor)))
        # A tenth of the time in which the bulk energy alone could change a wave: M f''^2.
        rates = self.rates.amax(1)
        if self.varying is None:
            change = rates * point.curvature**2
        else:
            change = point.curvature**2 / rates.clamp(min=torch.finfo(rates.dtype).tiny)
        fastest = change.double().cpu().numpy()
        n = len(c)
        with np.errstate(divide="ignore"):
            step = np.where(fastest > 0, 0.1 / fastest, np.inf)
        return State(
            now=point,
            last=point,
            step_before=np.full(n, np.inf),
            time=np.zeros(n),
            step=step,
            steps=np.zeros(n, dtype=np.int64),
            rejected=np.zeros(n, dtype=np.int64),
            rise=np.zeros(n),
        )

    def fields(self, state: State) -> FloatArray:
        """The fractions (n, m, h, w)."""
        c = _apply(self.basis, irfft2(state.now.modes, self.shape))
        found: FloatArray = c.double().cpu().numpy()
        return found

    def evaluate(self, modes: Tensor) -> Point:
        """Time derivative, energy and bounds at d in Fourier space."""
        c = _apply(self.basis, irfft2(modes, self.shape))
        density, force = self.energy.evaluate(c)
        potential = rfft2(_apply(self.basis.mT, force)).add_(modes * self.k2)
        hessian = _congruent(self.basis, self.energy.hessian(c))
        if self.varying is None:
            curvature = _greatest(hessian)
            mobility = torch.ones_like(curvature)
            slope = potential.mul_(self.k2).mul_(-self.rates[..., None, None])
        else:
            local = _congruent(self.inverse.mT, self.varying.evaluate(c))
            curvature = _greatest(_product(local, hessian))
            mobility = _greatest(local)
            # The mobility at which the greatest curvature is no faster than M f'' anywhere.
            least = (curvature / _greatest(hessian)).clamp(max=mobility)
            slope = self._varying_slope(local, least, potential)
        points = self.shape[0] * self.shape[1]
        power = (modes.real**2 + modes.imag**2).sum(1) * (self.weight * self.k2)
        gradient = power.double().flatten(1).sum(1) / (2 * points**2)
        bulk = density.double().flatten(1)
        return Point(
            modes=modes,
            slope=slope,
            curvature=curvature,
            mobility=mobility,
            energy=(bulk.mean(1) + gradient).cpu().numpy(),
            scale=(bulk.abs().mean(1) + gradient).cpu().numpy(),
        )

    def _varying_slope(self, mobility: Tensor, least: Tensor, potential: Tensor) -> Tensor:
        """div M grad mu in d; Nyquist waves, which grad loses, by the mobility ``least``, (n,)."""
        lost = self.k2 - self.kx**2 - self.ky**2
        slope = potential * lost * -least[:, None, None, None]
        for k in (self.kx, self.ky):
            direction = irfft2(potential * (1j * k), self.shape)
            slope += rfft2(_apply_fields(mobility, direction)) * (1j * k)
        return slope

    def stiff(self, point: Point) -> Tensor:
        """Eigenvalues of the stiff part, (n, m, h, w // 2 + 1), <= 0."""
        s = (STABILISATION * point.curvature)[:, None, None, None]
        if self.varying is None:
            return -self.rates[..., None, None] * self.k2 * (s + self.k2)
        slow = -self.k2 * (s + point.mobility[:, None, None, None] * self.k2)
        return slow.expand(-1, self.rates.shape[1], -1, -1)

    def size(self, modes: Tensor) -> FloatArray:
        """Root mean square of A d over the field, (n,)."""
        c = _apply(self.basis, modes)
        power = (c.real**2 + c.imag**2).sum(1) * self.weight
        points = self.shape[0] * self.shape[1]
        found: FloatArray = power.double().flatten(1).sum(1).sqrt().cpu().numpy() / points
        return found


def advance(flow: Flow, state: State, until: FloatArray, tolerance: float) -> None:
    """One step of every system, at most to ``until``; a step that fails its tests is undone.

    Exponential Adams-Bashforth: the stiff part exactly, the rest N as the line through its last
    two values; after a rise of the energy as a constant. The error is what the new value of N
    would have changed.
    """
    now, last = state.now, state.last
    step = np.minimum(state.step, until - state.time)
    moving = step > 0

    def column(values: FloatArray) -> Tensor:
        tensor = torch.as_tensor(values, device=now.modes.device, dtype=flow.k2.dtype)
        return tensor[:, None, None, None]

    stiff = flow.stiff(now)
    first, second = _phi(stiff * column(step))
    second.mul_(column(step))
    drift = now.slope - last.slope - stiff * (now.modes - last.modes)
    drift.mul_(column(step / state.step_before))
    change = now.slope * first.mul_(column(step)) + drift * second
    point = flow.evaluate(now.modes + change)
    missed = (point.slope - now.slope - stiff * change - drift).mul_(second)
    error = flow.size(missed) / (tolerance * (flow.size(change) + NEGLIGIBLE))
    rise = (point.energy - now.energy) / np.maximum(now.scale, np.finfo(float).tiny)
    lower = rise <= ROUNDING * torch.finfo(flow.k2.dtype).eps
    accepted = moving & lower & (error <= 1)

    state.now, state.last = point.where(accepted, now), now.where(accepted, last)
    state.step_before = np.where(accepted, step, state.step_before)
    state.step_before[moving & ~lower] = np.inf
    state.rise = np.where(accepted, np.maximum(state.rise, rise), state.rise)
    # Exactly the end, not one rounding short of it.
    arrived = accepted & (step >= until - state.time)
    state.time = np.where(arrived, until, np.where(accepted, state.time + step, state.time))
    state.steps += accepted
    state.rejected += moving & ~accepted
    with np.errstate(divide="ignore", invalid="ignore"):
        # Against a history that no longer holds, the error falls with the step only.
        factor = np.clip(SAFETY / error ** np.where(accepted, 0.5, 1.0), LEAST, GREATEST)
    proposal = step * np.where(np.isfinite(error) & lower, factor, LEAST)
    # A step cut short by ``until`` says nothing against the longer one that was planned.
    proposal = np.where(accepted & (step < state.step), np.maximum(state.step, proposal), proposal)
    state.step = np.where(moving, proposal, state.step)


def _phi(z: Tensor) -> tuple[Tensor, Tensor]:
    """(e^z - 1) / z and (e^z - 1 - z) / z^2 for z <= 0."""
    small = z > -1e-2
    safe = torch.where(small, -1.0, z)
    first = torch.expm1(safe).div_(safe)
    second = (first - 1).div_(safe)
    series = 1 + z * (1 / 3 + z * (1 / 12 + z / 60))
    second = torch.where(small, 0.5 * series, second)
    return torch.where(small, 1 + z * (0.5 * series), first), second


def _apply(matrix: Tensor, field: Tensor) -> Tensor:
    """(n, m, m) times (n, m, ...) over the components."""
    if field.shape[1] == 1:
        return field * matrix.reshape(-1, 1, 1, 1)
    rows = [
        _sum([matrix[:, i, j, None, None] * field[:, j] for j in range(field.shape[1])])
        for i in range(field.shape[1])
    ]
    return torch.stack(rows, dim=1)


def _apply_fields(matrix: Tensor, field: Tensor) -> Tensor:
    """(n, m, m, h, w) times (n, m, h, w) over the components."""
    count = field.shape[1]
    rows = [_sum([matrix[:, i, j] * field[:, j] for j in range(count)]) for i in range(count)]
    return torch.stack(rows, dim=1)


def _congruent(basis: Tensor, matrix: Tensor) -> Tensor:
    """A^T H A of (n, m, m) and (n, m, m, h, w)."""
    if matrix.shape[1] == 1:
        return matrix * (basis**2).reshape(-1, 1, 1, 1, 1)
    return torch.einsum("nji,njkhw,nkl->nilhw", basis, matrix, basis)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a b of (n, m, m, h, w) each, pixel by pixel."""
    if a.shape[1] == 1:
        return a * b
    return torch.einsum("nijhw,njkhw->nikhw", a, b)


def _greatest(matrix: Tensor) -> Tensor:
    """Bound on the absolute eigenvalues over the field, (n,): the lesser of two norms."""
    if matrix.shape[1] == 1:
        return matrix.abs().flatten(1).amax(1)
    rows = matrix.abs().sum(2).amax(1)
    frobenius = matrix.square().sum((1, 2)).sqrt()
    return torch.minimum(rows, frobenius).flatten(1).amax(1)


def _sum(terms: list[Tensor]) -> Tensor:
    """Sum in the order given, so that a system's result does not depend on its batch."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
