"""The discrete Cahn-Hilliard flow that ``phase_field`` follows; ``spectral_step`` takes its steps.

Coordinates: c = A d with A^T K A = 1 and A^-1 M A^-T = diag(rates), so that in Fourier space every
component of d has the stiff part -rates k^2 (s + k^2). Where M varies every component has the same
stiff part, and d is c itself. States stay in Fourier space; the mean of
every fraction is the zeroth mode, which no term touches. Spectra are (n, m, h, w // 2 + 1, 2), the
last axis the real and the imaginary part: every factor is real, and real products are faster.
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

STABILISATION = 0.75  # of the greatest curvature: the least at which two old values are stable
VARYING = 2.0  # times as much where M varies: next to a pixel of great f'' is one of great M


@dataclass(frozen=True, slots=True)
class Point:
    """The flow at n fields.

    ``modes``: d in Fourier space. ``values``: c, (n, m, h, w). ``slope``: time derivative of
    ``modes``. ``energy``, ``scale``: mean free energy density and mean size of its terms, (n,).
    """

    modes: Tensor
    values: Tensor
    slope: Tensor
    energy: FloatArray
    scale: FloatArray


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the stiff part is made of, (n,) each.

    ``curvature``, ``mobility``: bounds on the eigenvalues of the Hessian of f in d and 1; where
    the mobility varies, on those of the local M f'' and M in d. ``slow``: a mobility that makes no
    wave faster than those are.
    """

    curvature: Tensor
    mobility: Tensor
    slow: Tensor


@dataclass(slots=True)
class State:
    """n systems at their own times; ``advance`` changes it.

    ``bends``: N, the slope less its stiff part, at each of the last two points less that at the
    point before it; ``changes``: d likewise. ``before``: how long these steps were, (2, n), inf
    where there was none. ``order``: of the next step. ``stiff``: the eigenvalues at the values of
    ``Flow.levels``; ``spread``: those of every mode.
    """

    now: Point
    bends: tuple[Tensor, Tensor]
    changes: tuple[Tensor, Tensor]
    before: FloatArray
    order: NDArray[np.int64]
    bounds: Bounds
    stiff: Tensor
    spread: Tensor
    rose: NDArray[np.bool_]
    time: FloatArray
    step: FloatArray
    steps: NDArray[np.int64]
    rejected: NDArray[np.int64]
    rise: FloatArray
    contrast: FloatArray

    def take(self, index: NDArray[np.int64]) -> State:
        """The systems at ``index``."""
        chosen: dict[str, Any] = {}
        for own in fields(self):
            value = getattr(self, own.name)
            if isinstance(value, tuple):
                chosen[own.name] = tuple(part[index] for part in value)
            elif isinstance(value, (Point, Bounds)):
                parts = {part.name: getattr(value, part.name)[index] for part in fields(value)}
                chosen[own.name] = replace(value, **parts)
            else:
                chosen[own.name] = value[:, index] if own.name == "before" else value[index]
        return State(**chosen)


@dataclass(frozen=True, slots=True)
class Flow:
    """The right-hand side for n systems on one grid.

    ``basis``: A, (n, m, m). ``inverse``: A^-1. ``stiffness``: K. ``softness``: K^-1. ``rates``:
    (n, m). ``k2``, ``weight``: squared wavenumbers and how often a mode of the half spectrum
    counts, (h, w // 2 + 1, 2). ``decline``: -rates k^2, of every mode. ``odd``: i k of derivatives
    along x and y, without the Nyquist mode, which has no sign; ``lost``: its k^2 along x and y.
    ``levels``: the u different k2, ``place``: which of them each number of a spectrum has.
    """

    energy: FreeEnergy
    varying: Mobility | None
    basis: Tensor
    inverse: Tensor
    stiffness: Tensor
    softness: Tensor
    rates: Tensor
    k2: Tensor
    decline: Tensor
    odd: tuple[Tensor, Tensor]
    lost: tuple[float, float]
    weight: Tensor
    levels: Tensor
    place: Tensor
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
        y = 2 * np.pi * np.fft.fftfreq(h, spacing)[:, None, None]
        x = 2 * np.pi * np.fft.rfftfreq(w, spacing)[None, :, None]
        odd_y, odd_x = y.copy(), x.copy()
        if h % 2 == 0:
            odd_y[h // 2] = 0
        if w % 2 == 0:
            odd_x[:, w // 2] = 0
        weight = np.full((h, w // 2 + 1, 1), 2.0)
        weight[:, 0] = 1.0
        if w % 2 == 0:
            weight[:, -1] = 1.0
        k2 = x**2 + y**2
        # The step's factors depend on k2 only, and there are far fewer of them than modes.
        _, first, place = np.unique(
            np.round(k2 / k2.max(), 12) if k2.max() else k2, return_index=True, return_inverse=True
        )

        def tensor(values: NDArray[np.floating]) -> Tensor:
            return torch.as_tensor(np.ascontiguousarray(values), device=device, dtype=dtype)

        rates, doubled = np.maximum(rates, 0.0), np.repeat(k2, 2, axis=2)
        complex_dtype = torch.complex64 if dtype == torch.float32 else torch.complex128
        odd = tuple(
            torch.as_tensor(1j * k[..., 0], device=device, dtype=complex_dtype)
            for k in (odd_x, odd_y)
        )
        return Flow(
            energy=energy.on(device, dtype),
            varying=None if varying is None else varying.on(device, dtype),
            basis=tensor(basis),
            inverse=tensor(inverse),
            stiffness=tensor(stiffness),
            softness=tensor(np.linalg.inv(stiffness)),
            rates=tensor(rates),
            k2=tensor(doubled),
            decline=tensor(-rates[..., None, None, None] * doubled),
            odd=(odd[0], odd[1]),
            lost=(float(x[0, -1, 0] ** 2), float(y[h // 2, 0, 0] ** 2)),
            weight=tensor(np.repeat(weight, 2, axis=2)),
            levels=tensor(k2.ravel()[first]),
            place=torch.as_tensor(np.repeat(place.ravel(), 2), device=device),
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
            stiffness=self.stiffness[index],
            softness=self.softness[index],
            rates=self.rates[index],
            decline=self.decline[index],
        )

    def start(self, c: FloatArray) -> State:
        """State of the fields (n, m, h, w) at time 0."""
        tensor = torch.as_tensor(c, device=self.basis.device, dtype=self.basis.dtype)
        modes = _forward(tensor if self.varying is not None else _apply(self.inverse, tensor))
        bounds = self.bounds(tensor)
        # A tenth of the time in which the bulk energy alone could change a wave: M f''^2.
        rates = self.rates.amax(1)
        if self.varying is None:
            change = rates * bounds.curvature**2
        else:
            change = bounds.curvature**2 / rates.clamp(min=torch.finfo(rates.dtype).tiny)
        fastest = change.double().cpu().numpy()
        n = len(c)
        with np.errstate(divide="ignore"):
            step = np.where(fastest > 0, 0.1 / fastest, np.inf)
        nothing = torch.zeros_like(modes)
        stiff = self.stiff(bounds)
        return State(
            now=self.evaluate(modes, bounds.slow),
            bends=(nothing, nothing),
            changes=(nothing, nothing),
            before=np.full((2, n), np.inf),
            order=np.full(n, 2),
            bounds=bounds,
            stiff=stiff,
            spread=self.spread(stiff),
            rose=np.zeros(n, dtype=np.bool_),
            time=np.zeros(n),
            step=step,
            steps=np.zeros(n, dtype=np.int64),
            rejected=np.zeros(n, dtype=np.int64),
            rise=np.zeros(n),
            contrast=self.contrast(modes),
        )

    def fields(self, state: State) -> FloatArray:
        """The fractions (n, m, h, w)."""
        found: FloatArray = state.now.values.double().cpu().numpy()
        return found

    def evaluate(self, modes: Tensor, slow: Tensor) -> Point:
        """Time derivative and energy at d in Fourier space; ``slow``: of ``Bounds``."""
        c = _backward(modes, self.shape)
        gradients = modes * self.k2
        if self.varying is None:
            c = _apply(self.basis, c)
        else:
            gradients = _apply(self.stiffness, gradients)
        density, force = self.energy.evaluate(c)
        power = (modes * gradients).mul_(self.weight)
        points = self.shape[0] * self.shape[1]
        gradient = power.flatten(1).sum(1, dtype=torch.float64) / (2 * points**2)
        bulk = density.flatten(1)
        sums = torch.stack(
            (bulk.sum(1, dtype=torch.float64), bulk.abs().sum(1, dtype=torch.float64))
        )
        found = sums.div_(points).add_(gradient).cpu().numpy()
        if self.varying is None:
            potential = _forward(_apply(self.basis.mT, force)).add_(gradients)
            slope = potential.mul_(self.decline)
        else:
            potential = _forward(force).add_(gradients)
            slope = self._varying_slope(self.varying, c, potential, slow)
        return Point(modes=modes, values=c, slope=slope, energy=found[0], scale=found[1])

    def _varying_slope(
        self, mobility: Mobility, c: Tensor, potential: Tensor, slow: Tensor
    ) -> Tensor:
        """div M grad mu; Nyquist waves, which grad loses, by the mobility ``slow``."""
        outer = torch.view_as_complex(potential)
        waves = torch.empty((len(c), 2, *outer.shape[1:]), dtype=outer.dtype, device=outer.device)
        for place, k in enumerate(self.odd):
            torch.mul(outer, k, out=waves[:, place])
        fluxes = rfft2(mobility.flux(c, irfft2(waves, self.shape)))
        total = (fluxes[:, 0] * self.odd[0]).addcmul_(fluxes[:, 1], self.odd[1])
        slope = torch.view_as_real(total)
        h, w = self.shape
        if w % 2 == 0:
            last = _apply(self.softness, potential[:, :, :, -1]) * slow[:, None, None, None]
            slope[:, :, :, -1].sub_(last, alpha=self.lost[0])
        if h % 2 == 0:
            last = _apply(self.softness, potential[:, :, h // 2]) * slow[:, None, None, None]
            slope[:, :, h // 2].sub_(last, alpha=self.lost[1])
        return slope

    def bounds(self, c: Tensor) -> Bounds:
        """The bounds at the fractions (n, m, h, w)."""
        hessian = _congruent(self.basis, self.energy.hessian(c))
        curvature = _greatest(hessian)
        if self.varying is None:
            return Bounds(curvature, torch.ones_like(curvature), torch.ones_like(curvature))
        local = _congruent(self.inverse.mT, self.varying.evaluate(c))
        mobility = _greatest(local)
        product = _greatest(_product(local, hessian))
        # Where the greatest curvature is no faster than M f'' is anywhere.
        return Bounds(product, mobility, (product / curvature).clamp(max=mobility))

    def stiff(self, bounds: Bounds) -> Tensor:
        """Eigenvalues of the stiff part at ``levels``, <= 0; (n, m, u), m = 1 where M varies."""
        s = (STABILISATION * bounds.curvature)[:, None, None]
        if self.varying is None:
            return -self.rates[..., None] * self.levels * (s + self.levels)
        return -self.levels * (VARYING * s + bounds.mobility[:, None, None] * self.levels)

    def spread(self, table: Tensor) -> Tensor:
        """(n, m, u) of the levels -> factors of a spectrum."""
        n, m, _ = table.shape
        return torch.gather(table, 2, self.place.expand(n, m, -1)).reshape(n, m, *self.k2.shape)

    def contrast(self, modes: Tensor) -> FloatArray:
        """Standard deviation of the fractions over the field, (n,)."""
        waves = modes.clone()
        waves[:, :, 0, 0] = 0
        return self.size(waves)

    def size(self, modes: Tensor) -> FloatArray:
        """Root mean square of the fractions over the field, (n,)."""
        plain = self.varying is not None or modes.shape[1] == 1
        c = modes if plain else _apply(self.basis, modes)
        power = (c * c).mul_(self.weight).flatten(1).sum(1)
        if self.varying is None and plain:
            power *= self.basis[:, 0, 0] ** 2
        points = self.shape[0] * self.shape[1]
        found: FloatArray = np.sqrt(power.double().cpu().numpy()) / points
        return found


def _forward(field: Tensor) -> Tensor:
    return torch.view_as_real(rfft2(field))


def _backward(modes: Tensor, shape: tuple[int, int]) -> Tensor:
    return irfft2(torch.view_as_complex(modes), shape)


def _apply(matrix: Tensor, field: Tensor) -> Tensor:
    """(n, m, m) times (n, m, ...) over the components."""
    ones = (1,) * (field.ndim - 2)
    count = field.shape[1]
    if count == 1:
        return field * matrix.reshape(-1, 1, *ones)
    return torch.matmul(matrix, field.flatten(2)).reshape(field.shape)


def _congruent(basis: Tensor, matrix: Tensor) -> Tensor:
    """A^T H A of (n, m, m) and (n, m, m, h, w)."""
    if matrix.shape[1] == 1:
        return matrix * (basis**2).reshape(-1, 1, 1, 1, 1)
    half = torch.stack([_apply(basis.mT, column) for column in matrix.unbind(2)], dim=2)
    return torch.stack([_apply(basis.mT, row) for row in half.unbind(1)], dim=1)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a b of (n, m, m, h, w) each, pixel by pixel."""
    rows = []
    for i in range(a.shape[1]):
        total = a[:, i, 0, None] * b[:, 0]
        for j in range(1, a.shape[1]):
            total = total.addcmul_(a[:, i, j, None], b[:, j])
        rows.append(total)
    return torch.stack(rows, dim=1)


def _greatest(matrix: Tensor) -> Tensor:
    """Bound on the absolute eigenvalues over the field, (n,): the lesser of two norms."""
    if matrix.shape[1] == 1:
        return matrix.abs().flatten(1).amax(1)
    rows = matrix.abs().sum(2).amax(1)
    frobenius = matrix.square().sum((1, 2)).sqrt()
    return torch.minimum(rows, frobenius).flatten(1).amax(1)
