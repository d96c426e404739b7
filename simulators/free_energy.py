"""Free energies and mobilities that drive the phase field, in torch.

Fields are (n, m, h, w): n systems, m independent fractions; the dependent one is what is left.
Every system has parameters of its own. Units are those of the caller, see ``phase_field``.
"""

from __future__ import annotations

from copy import copy
from typing import Protocol, Self, runtime_checkable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from loop.errors import InvalidInputError
from simulators.solution import (
    GAS_CONSTANT,
    Pair,
    Solution,
    excess,
    excess_gradient,
    excess_hessian,
)

FLOOR = 1e-3  # fraction below which ln x is continued by its parabola


class FreeEnergy(Protocol):
    """Bulk free energy density f(c) of n systems with m independent fractions."""

    @property
    def size(self) -> int | None:
        """n, or None where all systems share the parameters."""

    @property
    def components(self) -> int:
        """m."""

    def take(self, index: NDArray[np.int64]) -> Self:
        """The systems at ``index``, in that order."""

    def on(self, device: torch.device, dtype: torch.dtype) -> Self:
        """The same with its parameters on a device."""

    def evaluate(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """(n, m, h, w) -> density (n, h, w) and its derivatives df/dc_i, (n, m, h, w)."""

    def hessian(self, c: Tensor) -> Tensor:
        """(n, m, h, w) -> d2f / dc_i dc_j, (n, m, m, h, w)."""


@runtime_checkable
class Mobility(Protocol):
    """Mobility that depends on the fractions; ``size``, ``take`` and ``on`` as in FreeEnergy."""

    @property
    def size(self) -> int | None: ...

    def take(self, index: NDArray[np.int64]) -> Self: ...

    def on(self, device: torch.device, dtype: torch.dtype) -> Self: ...

    def evaluate(self, c: Tensor) -> Tensor:
        """(n, m, h, w) -> symmetric, nowhere negative definite, (n, m, m, h, w)."""

    def flux(self, c: Tensor, slopes: Tensor) -> Tensor:
        """``evaluate(c)`` times the slopes, (n, m, h, w) or in d directions (n, d, m, h, w)."""


class PolynomialEnergy:
    """f(c) = sum_k a_k (c - centre)^k for binaries (m = 1).

    ``coefficients``: (d + 1,) or (n, d + 1), lowest power first. A centre amid the wells keeps
    float32 from cancelling.
    """

    def __init__(self, coefficients: ArrayLike, centre: float = 0.0) -> None:
        table = np.asarray(coefficients, dtype=np.float64)
        if table.ndim not in (1, 2) or table.shape[-1] < 3 or not np.all(np.isfinite(table)):
            raise InvalidInputError(
                f"polynomial coefficients have shape {table.shape} or are not finite; expected "
                "(d + 1,) or (n, d + 1) with degree d of at least 2"
            )
        self.size = len(table) if table.ndim == 2 else None
        self.components = 1
        self.centre = centre
        self._table = table
        self._place(torch.device("cpu"), torch.float64)

    def _place(self, device: torch.device, dtype: torch.dtype) -> None:
        """Coefficients of f, f' and f''."""
        table = np.atleast_2d(self._table)
        self._derivatives: list[list[Tensor | None]] = []
        for _ in range(3):
            columns = [
                torch.as_tensor(np.array(own), device=device, dtype=dtype) for own in table.T
            ]
            # A power that no system has costs no addition.
            present = np.any(table, axis=0).tolist()
            self._derivatives.append(
                [
                    column.reshape(-1, 1, 1, 1) if own else None
                    for column, own in zip(columns, present, strict=True)
                ]
            )
            table = table[:, 1:] * np.arange(1, table.shape[1])

    @staticmethod
    def double_well(barrier: float, low: float, high: float) -> PolynomialEnergy:
        """barrier (c - low)^2 (high - c)^2, the wells at ``low`` and ``high``."""
        half = (high - low) / 2
        return PolynomialEnergy(
            barrier * np.array([half**4, 0, -2 * half**2, 0, 1.0]), centre=(low + high) / 2
        )

    def take(self, index: NDArray[np.int64]) -> PolynomialEnergy:
        if self.size is None:
            return self
        return PolynomialEnergy(self._table[index], self.centre)

    def on(self, device: torch.device, dtype: torch.dtype) -> PolynomialEnergy:
        moved = copy(self)
        moved._place(device, dtype)
        return moved

    def evaluate(self, c: Tensor) -> tuple[Tensor, Tensor]:
        u = c - self.centre
        return _horner(u, self._derivatives[0])[:, 0], _horner(u, self._derivatives[1])

    def hessian(self, c: Tensor) -> Tensor:
        return _horner(c - self.centre, self._derivatives[2])[:, None]


def _horner(u: Tensor, coefficients: list[Tensor | None]) -> Tensor:
    """Sum of the powers of u, lowest first; None is 0."""
    last = coefficients[-1]
    total = torch.zeros_like(u) if last is None else last.expand_as(u)
    for place, coefficient in enumerate(reversed(coefficients[:-1])):
        total = total * u if place == 0 else total.mul_(u)
        if coefficient is not None:
            total.add_(coefficient)
    return total


class SolutionEnergy:
    """G(x, T) of a (sub)regular solution, in units of ``unit_J_per_mol``.

    The fields are the fractions of ``solution.elements[1:]``. ``temperature_K``: (n,).
    ``unit_J_per_mol``: (n,) or a number; default R T of each system.
    x ln x is continued below ``floor`` by its parabola there, so that energy and potentials are
    defined for the small overshoots of a field and the curvature is bounded (as in M. I. M.
    Copetti and C. M. Elliott, Numer. Math. 63, 39, 1992). Phases purer than 1 - floor are
    therefore followed to within about ``floor`` in composition.
    """

    def __init__(
        self,
        solution: Solution,
        temperature_K: ArrayLike,
        *,
        unit_J_per_mol: ArrayLike | None = None,
        floor: float = FLOOR,
    ) -> None:
        temperature = np.atleast_1d(np.asarray(temperature_K, dtype=np.float64))
        pure = np.eye(len(solution.elements))[0]
        solution.checked(np.broadcast_to(pure, (len(temperature), len(pure))), temperature)
        unit = GAS_CONSTANT * temperature if unit_J_per_mol is None else unit_J_per_mol
        unit = np.broadcast_to(np.asarray(unit, dtype=np.float64), temperature.shape)
        if not 0 < floor < 0.1 or not np.all(unit > 0):
            raise InvalidInputError(
                f"floor is {floor:g} and the least unit {unit.min():g} J/mol; expected a floor "
                "between 0 and 0.1 and units > 0"
            )
        self.solution, self.floor = solution, floor
        self.size = len(temperature)
        self.components = len(solution.elements) - 1
        self._temperature, self._unit = temperature, unit
        self._place(torch.device("cpu"), torch.float64)

    def on(self, device: torch.device, dtype: torch.dtype) -> SolutionEnergy:
        moved = copy(self)
        moved._place(device, dtype)
        return moved

    def _place(self, device: torch.device, dtype: torch.dtype) -> None:
        def column(values: NDArray[np.float64]) -> Tensor:
            tensor = torch.as_tensor(np.ascontiguousarray(values), device=device, dtype=dtype)
            return tensor.reshape(-1, 1, 1)

        t, unit = self._temperature, self._unit
        self._ideal = column(GAS_CONSTANT * t / unit)
        count = self.components + 1
        # x_i x_j L^0_ij and x_i g_i together, 1/2 x P x + g x, whose slopes are linear.
        regular = np.zeros((count, count, len(t)))
        self._terms: dict[Pair, list[Tensor]] = {}
        for (i, j), own in self.solution.pair_terms().items():
            values = [(a + b * t) / unit for a, b in own]
            if values:
                regular[i, j] = regular[j, i] = values[0]
            if len(values) > 1:
                self._terms[i, j] = [column(np.zeros(len(t))), *map(column, values[1:])]
        self._regular = [[column(value) for value in row] for row in regular]
        self._pure = [column((a + b * t) / unit) for a, b in self.solution.reference_terms()]

    def take(self, index: NDArray[np.int64]) -> SolutionEnergy:
        return SolutionEnergy(
            self.solution,
            self._temperature[index],
            unit_J_per_mol=self._unit[index],
            floor=self.floor,
        )

    def evaluate(self, c: Tensor) -> tuple[Tensor, Tensor]:
        x = _all_fractions(c)
        parts = x.unbind(1)
        slopes = torch.empty_like(x)
        for i, own in enumerate(self._regular):
            slope = slopes[:, i]
            torch.mul(parts[0], own[0], out=slope)
            for part, factor in zip(parts[1:], own[1:], strict=True):
                slope.addcmul_(part, factor)
        density = 0.5 * (x * slopes).sum(1)
        for i, pure in enumerate(self._pure):
            slopes[:, i] += pure
            density.addcmul_(parts[i], pure)
        if self._terms:
            density += excess(parts, self._terms)
            for slope, more in zip(
                slopes.unbind(1), excess_gradient(parts, self._terms), strict=True
            ):
                slope += more
        # x ln y + y (r^2 - 1) / 2 with y the fraction, or the floor, and r = x / y.
        y = x.clamp(min=self.floor)
        log, ratio = torch.log(y), x / y
        ideal = self._ideal[:, None]
        slopes.addcmul_(log + ratio, ideal)
        beyond = (ratio * ratio).sub_(1).mul_(y).mul_(0.5)
        density.addcmul_(beyond.addcmul_(x, log).sum(1), self._ideal)
        return density, slopes[:, 1:] - slopes[:, :1]

    def hessian(self, c: Tensor) -> Tensor:
        x = _all_fractions(c)
        parts = x.unbind(1)
        count = len(parts)
        h = excess_hessian(parts, self._terms)
        for i in range(count):
            for j in range(count):
                h[i][j] = h[i][j] + self._regular[i][j]
        diagonal = self._ideal[:, None] / x.clamp(min=self.floor)
        for i in range(count):
            h[i][i] = h[i][i] + diagonal[:, i]
        rows = [
            torch.stack([h[i][j] - h[i][0] - h[0][j] + h[0][0] for j in range(1, count)], dim=1)
            for i in range(1, count)
        ]
        return torch.stack(rows, dim=1)


def _all_fractions(c: Tensor) -> Tensor:
    """(n, m, h, w) with the dependent fraction first, (n, m + 1, h, w)."""
    return torch.cat((1 - c.sum(1, keepdim=True), c), dim=1)


def darken_mobility(x: ArrayLike, diffusivities: ArrayLike) -> NDArray[np.float64]:
    """Mobility R T M of m = c - 1 independent fractions, in the unit of the diffusivities.

    ``x``: (..., c) fractions, ``diffusivities``: (..., c) tracer diffusivities; the answer is
    (..., m, m), M_kl = sum_i (delta_ki - x_k)(delta_li - x_l) x_i D_i / (R T), the first element
    dependent. For binaries x_A x_B (x_A D_B + x_B D_A) / (R T).
    Source: L. S. Darken, Trans. AIME 175, 184 (1948); J.-O. Andersson and J. Agren, J. Appl.
    Phys. 72, 1350 (1992).
    """
    fractions = np.asarray(x, dtype=np.float64)
    weight = fractions * np.asarray(diffusivities, dtype=np.float64)
    frame = np.eye(fractions.shape[-1])[1:] - fractions[..., 1:, None]
    result: NDArray[np.float64] = np.einsum("...ki,...i,...li->...kl", frame, weight, frame)
    return result


class DarkenMobility:
    """``darken_mobility`` of the local fractions; ``diffusivities``: (n, c)."""

    def __init__(self, diffusivities: ArrayLike) -> None:
        table = np.asarray(diffusivities, dtype=np.float64)
        if table.ndim != 2 or table.shape[1] < 2 or not np.all(np.isfinite(table) & (table > 0)):
            raise InvalidInputError(
                f"diffusivities have shape {table.shape} or a value that is not finite and > 0; "
                "expected (n, c)"
            )
        self.size = len(table)
        self._table = table
        self._diffusivities = torch.as_tensor(table)[..., None, None]

    def take(self, index: NDArray[np.int64]) -> DarkenMobility:
        return DarkenMobility(self._table[index])

    def on(self, device: torch.device, dtype: torch.dtype) -> DarkenMobility:
        moved = DarkenMobility(self._table)
        moved._diffusivities = self._diffusivities.to(device=device, dtype=dtype)
        return moved

    def _weights(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """Fractions x and x D of all elements, (n, m + 1, h, w) each."""
        # An overshoot below 0 would make the mobility negative.
        x = _all_fractions(c).clamp_(min=0.0)
        x /= x.sum(1, keepdim=True)
        return x, x * self._diffusivities

    def evaluate(self, c: Tensor) -> Tensor:
        x, weights = self._weights(c)
        drift = weights.sum(1)
        count = x.shape[1]
        rows = []
        for k in range(1, count):
            row = [
                x[:, k] * x[:, j] * drift - x[:, k] * weights[:, j] - x[:, j] * weights[:, k]
                for j in range(1, count)
            ]
            row[k - 1] = row[k - 1] + weights[:, k]
            rows.append(torch.stack(row, dim=1))
        return torch.stack(rows, dim=1)

    def flux(self, c: Tensor, slopes: Tensor) -> Tensor:
        """By the products that make the mobility, never the matrix."""
        x, weights = self._weights(c)
        if slopes.ndim == 5:
            x, weights = x[:, None], weights[:, None]
        first, own = x[..., 1:, :, :], weights[..., 1:, :, :]
        mean = (first * slopes).sum(-3, keepdim=True)
        fluxes = (slopes - mean).mul_(own)
        drift = fluxes.sum(-3, keepdim=True).addcmul_(weights[..., :1, :, :], mean, value=-1)
        return fluxes.addcmul_(first, drift, value=-1)
