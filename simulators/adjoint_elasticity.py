"""Effective stiffness as a differentiable function of the field, for guidance and fitting.

Self-adjoint, as in ``adjoint``: at the minimum the energy's derivative with respect to the
stiffness of a pixel is the product of strains that the fields already have there,

    d C*_ij / d C(x) = <e_i (x) e_j>_pixel / N,    d (C*^-1)_ij / d S(x) = <s_i (x) s_j>_pixel / N,

so a gradient costs no solve beyond those for the value. Values are as good as ``tolerance`` but
derivatives only as its square root: hence a small default.

Fields are (n, h, w, 6, 6) or (n, d, h, w, 6, 6) in Voigt's order. Isotropic ones are made from
fields of moduli by ``isotropic_field``; those may come from ``adjoint.labelled_field`` or, for a
geometric mean of two phases, from ``adjoint.soft_field``.

Source: M. P. Bendsoe and O. Sigmund, Topology Optimization, 2003, sections 1.2 and 2.10.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from loop.errors import InvalidInputError
from simulators.adjoint import MAX_ITERATIONS, TOLERANCE, GeometricMean
from simulators.adjoint_energies import LeastEnergies
from simulators.energies import Effort, Minimum
from simulators.fields import checked_labels, checked_range, one_thread
from simulators.stiffness_dual import stress_parts
from simulators.stiffness_energies import least_strain_energy, least_stress_energy
from simulators.stiffness_primal import Law, Voigt, law_of, strain_parts
from simulators.stiffness_tensors import ENTRIES, SIZE, Reference, isotropic_stiffness, middle

Parts = Callable[[Tensor], list[tuple[float, Voigt]]]


class FieldStiffness(NamedTuple):
    """``tensor``, ``lower``, ``upper``: (n, 6, 6) float64, differentiable; as in ``stiffness``.

    ``converged``: (n,) whether the energies met the tolerance.
    """

    tensor: Tensor
    lower: Tensor
    upper: Tensor
    converged: Tensor


def stiffness_of_field(
    c: Tensor, *, tolerance: float = TOLERANCE, max_iterations: int = MAX_ITERATIONS
) -> FieldStiffness:
    """Effective stiffness of periodic fields of stiffness matrices.

    ``c``: (n, h, w, 6, 6) or (n, d, h, w, 6, 6), positive definite, on any device; of a matrix
    that is not symmetric the symmetric part counts. Solved in float64. First derivatives only.
    Raises InvalidInputError for a wrong shape or value.
    """
    if c.ndim not in (5, 6) or c.shape[-2:] != (SIZE, SIZE) or not c.is_floating_point():
        raise InvalidInputError(
            f"field of shape {tuple(c.shape)} and type {c.dtype}; expected floating point "
            "(n, h, w, 6, 6) or (n, d, h, w, 6, 6)"
        )
    if c.numel() == 0 or not bool(torch.isfinite(c).all()):
        raise InvalidInputError("the field is empty or a stiffness of it is not finite; correct it")
    c = c.double()
    c = 0.5 * (c + c.mT)
    if c.ndim == 5:
        c = c[:, None]
    if bool(torch.linalg.cholesky_ex(c.detach()).info.any()):
        raise InvalidInputError(
            "a stiffness of the field is not positive definite; expected positive eigenvalues"
        )
    effort = Effort(tolerance, max_iterations)
    medium = _medium(c.detach())
    with one_thread():
        upper, first = _energies(least_strain_energy, strain_parts, c, medium, effort)
        soft, second = _energies(
            least_stress_energy, stress_parts, torch.linalg.inv(c), medium.dual(), effort
        )
        lower = torch.linalg.inv(soft)
        lower = 0.5 * (lower + lower.mT)
    return FieldStiffness(GeometricMean.apply(lower, upper), lower, upper, first & second)


def isotropic_field(bulk: Tensor, shear: Tensor) -> Tensor:
    """Moduli (...) > 0 -> stiffness (..., 6, 6), differentiable in both.

    Raises InvalidInputError for moduli that are not finite and > 0, or differ in shape.
    """
    if bulk.shape != shear.shape:
        raise InvalidInputError(
            f"bulk moduli of shape {tuple(bulk.shape)} and shear moduli of shape "
            f"{tuple(shear.shape)}; expected one shape"
        )
    for name, values in (("bulk", bulk), ("shear", shear)):
        if not bool((torch.isfinite(values) & (values > 0)).all()):
            raise InvalidInputError(f"a {name} modulus is not finite and > 0; correct it")
    both = isotropic_stiffness([1.0, 2.0], [1.0, 1.0])
    volume = torch.as_tensor(both[1] - both[0], dtype=bulk.dtype, device=bulk.device)
    shape = torch.as_tensor(both[0], dtype=bulk.dtype, device=bulk.device) - volume
    return bulk[..., None, None] * volume + shear[..., None, None] * shape


def labelled_stiffness(labels: ArrayLike, stiffness: Tensor) -> Tensor:
    """(n, ...) labels, (p, 6, 6) or (n, p, 6, 6) stiffness -> field, differentiable in it.

    Raises InvalidInputError for wrong shapes or labels.
    """
    image = checked_labels(labels, (2, 3))
    if stiffness.ndim == 3:
        stiffness = stiffness.expand(len(image), *stiffness.shape)
    if stiffness.ndim != 4 or len(stiffness) != len(image) or stiffness.shape[2:] != (SIZE, SIZE):
        raise InvalidInputError(
            f"stiffness has shape {tuple(stiffness.shape)}; expected (p, 6, 6) or "
            f"({len(image)}, p, 6, 6)"
        )
    checked_range(image, "stiffness", stiffness.shape[1])
    index = torch.as_tensor(image, device=stiffness.device)
    number = torch.arange(len(image), device=index.device).reshape(-1, *[1] * (index.ndim - 1))
    return stiffness[number, index]


def soft_stiffness(soft: Tensor, stiffness: Tensor, *, mean: str = "arithmetic") -> Tensor:
    """Field of two phases from a soft phase field, differentiable in both.

    ``soft``: (n, ...) in [0, 1], the share of the second phase in every pixel. ``stiffness``:
    (2, 6, 6). ``mean``: "arithmetic" of the stiffness or "harmonic" (of the compliance).
    Raises InvalidInputError for wrong shapes, values or names.
    """
    if stiffness.shape != (2, SIZE, SIZE):
        raise InvalidInputError(f"stiffness has shape {tuple(stiffness.shape)}; expected (2, 6, 6)")
    if not bool(((soft >= 0) & (soft <= 1)).all()):
        raise InvalidInputError("soft phase field leaves [0, 1]; clamp it or use a sigmoid")
    share = soft[..., None, None]
    if mean == "arithmetic":
        return stiffness[0] * (1 - share) + stiffness[1] * share
    if mean == "harmonic":
        compliance = torch.linalg.inv(stiffness)
        return torch.linalg.inv(compliance[0] * (1 - share) + compliance[1] * share)
    raise InvalidInputError(f"mean {mean!r}; expected arithmetic or harmonic")


def _components(c: Tensor) -> Tensor:
    """(n, d, h, w, 6, 6) -> (n, 21, d, h, w)."""
    return torch.stack([c[..., i, j] for i, j in ENTRIES], dim=1)


def _medium(c: Tensor) -> Reference:
    values = c.flatten(1, 3).cpu().numpy()
    return middle(values, np.full(values.shape[:2], 1 / values.shape[1]))


def _law(components: Tensor) -> Law:
    return law_of([part if bool(part.any()) else None for part in components.unbind(1)])


def _energies(
    principle: Callable[[Law, Reference, Effort], Minimum],
    parts_of: Parts,
    matrices: Tensor,
    medium: Reference,
    effort: Effort,
) -> tuple[Tensor, Tensor]:
    """Least energies (n, 6, 6) of fields (n, d, h, w, 6, 6), and whether they converged, (n,)."""
    energies, converged = LeastEnergies.apply(
        lambda components: principle(_law(components), medium, effort),
        partial(_slopes, parts_of),
        _components(matrices),
    )
    return energies, converged


def _slopes(parts_of: Parts, fields: Tensor, weights: Tensor) -> tuple[Tensor]:
    """Derivative (n, 21, d, h, w) by the components of the sum of weights_ij energy_ij."""
    shape = fields.shape[-3:]
    found = torch.zeros(len(fields), len(ENTRIES), *shape, dtype=fields.dtype, device=fields.device)
    for weight, vector in parts_of(fields):
        mixed = [
            None if part is None else torch.einsum("nij,nj...->ni...", weights, part)
            for part in vector
        ]
        for number, (a, b) in enumerate(ENTRIES):
            left, right = vector[a], mixed[b]
            if left is None or right is None:
                continue
            factor = weight if a == b else 2 * weight  # an entry stands for (a, b) and (b, a)
            found[:, number].add_((left * right).sum(1), alpha=factor)
    return (found / shape.numel(),)
