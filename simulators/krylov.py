"""Conjugate gradients for many small, independent, positive definite systems at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Operator = Callable[[Tensor], Tensor]


class Solution(NamedTuple):
    """``fields``: (n, l, ...) iterates; ``error``, ``iterations``, ``converged``: (n, l).

    ``error`` is a bound on the relative excess of the energy over the minimum on this grid.
    """

    fields: Tensor
    error: Tensor
    iterations: Tensor
    converged: Tensor


def minimise_energy(
    apply: Operator,
    precondition: Operator,
    force: Tensor,
    *,
    energy: Tensor,
    coercivity: Tensor,
    tolerance: float,
    max_iterations: int,
) -> Solution:
    """Minimise energy + (x, A x) - 2 (force, x) from x = 0, every system (n, l) on its own.

    ``apply`` and ``precondition`` map (n, l, ...) to (n, l, ...): A and the inverse of M.
    ``force``: (n, l, ...). ``energy``: (n, l), the functional at x = 0.
    ``coercivity``: (n, l) > 0, a lower bound on the eigenvalues of M^-1 A.

    Because A >= coercivity M, the excess of the energy over its minimum, (r, A^-1 r), is at
    most (r, M^-1 r) / coercivity, which conjugate gradients carry along anyway. A system is
    converged, and from then on left alone, when that bound is <= tolerance times the energy; so
    the tolerance is on the quantity that is asked for and not on an iterate.
    """
    shape = force.shape[:2]
    flat = (*shape, -1)
    one = (*shape, *([1] * (force.ndim - 2)))

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).reshape(flat).sum(-1)

    x = torch.zeros_like(force)
    r = force.clone()
    z = precondition(r)
    p = z.clone()
    rz = dot(r, z)
    energy = energy.clone()
    iterations = torch.zeros(shape, dtype=torch.int64, device=force.device)
    active = rz > tolerance * coercivity * energy
    for _ in range(max_iterations):
        if not bool(active.any()):
            break
        q = apply(p)
        # A finished system steps by exactly 0; its 0 / 0 never reaches the iterate.
        step = torch.where(active, rz / dot(p, q), 0.0)
        energy -= step * rz
        step = step.reshape(one)
        x.addcmul_(step, p)
        r.addcmul_(step, q, value=-1)
        z = precondition(r)
        rz, previous = torch.where(active, dot(r, z), rz), rz
        p.mul_(torch.where(active, rz / previous, 0.0).reshape(one)).add_(z)
        iterations += active
        active = active & (rz > tolerance * coercivity * energy)
    error = rz / (coercivity * energy)
    return Solution(x, error, iterations, error <= tolerance)
