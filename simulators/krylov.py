"""Conjugate gradients for many small, independent, positive definite systems at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

# Of the energy's error in one round of refinement; beyond it float32 iterates on its own rounding.
REDUCTION = 1e-8
ROUNDING = 1e-30  # of the energy: an excess below it is the square of float64's rounding

Operator = Callable[[Tensor], Tensor]


class Solution(NamedTuple):
    """``fields``: (n, l, ...) iterates; ``error``, ``iterations``, ``converged``: (n, l).

    ``error`` is a bound on the relative excess of the energy over the minimum on this grid.
    """

    fields: Tensor
    error: Tensor
    iterations: Tensor
    converged: Tensor


class System(NamedTuple):
    """What ``minimise_energy`` asks for, in one precision; shapes as there.

    ``clean``: orthogonal projection onto the subspace of the iterates, if there is one.
    """

    apply: Operator
    precondition: Operator
    force: Tensor
    energy: Tensor
    coercivity: Tensor
    clean: Operator | None = None


def minimise(
    system: System, rough: System | None, *, tolerance: float, max_iterations: int
) -> Solution:
    """``minimise_energy`` of the system; with ``rough``, its float32 twin does the iterating.

    Iterative refinement: the residual, the energy and hence the error bound are those of
    ``system`` in its own precision, each correction is found in the precision of ``rough``. A
    system that rounding keeps from the tolerance comes back unconverged, its error stated.
    Source: N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2002, chapter 12.
    """
    if rough is None:
        return minimise_energy(
            *system[:3],
            energy=system.energy,
            coercivity=system.coercivity,
            tolerance=tolerance,
            max_iterations=max_iterations,
        )
    shape = system.force.shape[:2]
    one = (*shape, *([1] * (system.force.ndim - 2)))
    x = torch.zeros_like(system.force)
    kept = x
    iterations = torch.zeros(shape, dtype=torch.int64, device=x.device)
    best = torch.full(shape, torch.inf, dtype=x.dtype, device=x.device)

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).reshape(*shape, -1).sum(-1)

    while True:
        if system.clean is not None:
            x = system.clean(x)
        r = system.force - system.apply(x)
        if system.clean is not None:
            r = system.clean(r)
        energy = system.energy - dot(system.force, x) - dot(r, x)
        error = dot(r, system.precondition(r)) / (system.coercivity * energy)
        open_ = (error > tolerance) & (error < 0.9 * best) & (iterations < max_iterations)
        better = error < best
        kept = torch.where(better.reshape(one), x, kept)
        best = torch.where(better, error, best)
        if not bool(open_.any()):
            return Solution(kept, best, iterations, best <= tolerance)
        left = max_iterations - int(iterations.max())
        kind = rough.force.dtype
        reachable = float(error[open_].max()) * REDUCTION
        step = minimise_energy(
            rough.apply,
            rough.precondition,
            (r * open_.reshape(one)).to(kind),
            energy=energy.to(kind),
            coercivity=rough.coercivity,
            tolerance=max(tolerance, reachable),
            max_iterations=left,
        )
        x = kept + step.fields.to(x.dtype)
        iterations += step.iterations


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

    spare = torch.empty_like(force)  # fresh pages cost more than the arithmetic

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return torch.mul(a, b, out=spare).reshape(flat).sum(-1)

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


def minimise_by_estimate(
    apply: Operator,
    precondition: Operator,
    force: Tensor,
    *,
    energy: Tensor,
    tolerance: float,
    max_iterations: int,
    certify: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Solution:
    """``minimise_energy`` without a coercivity: the excess is estimated from the energy's fall.

    Step k lowers the energy by d_k; the excess before it is at least that and, while the fall is
    geometric, d_k / (1 - q), q the largest of the last three ratios d_k / d_(k-1). ``error`` is
    twice that, yet no bound, and needs four steps, or a residual of rounding. ``certify``:
    (iterates, which (n, l) are asked) -> bounds on their relative excess (n, l), asked when the
    estimate meets the tolerance and at the end; ``error`` is then its answer, and a system that it
    refuses goes on until the estimate is ten times lower still.
    A system without force is done at once.
    Sources: Z. Strakos and P. Tichy, Electron. Trans. Numer. Anal. 13, 56 (2002); Y. Notay, SIAM J.
    Sci. Comput. 22, 1444 (2000) (flexible conjugate gradients).
    """
    shape = force.shape[:2]
    one = (*shape, *([1] * (force.ndim - 2)))
    spare = torch.empty_like(force)

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return torch.mul(a, b, out=spare).reshape(*shape, -1).sum(-1)

    x = torch.zeros_like(force)
    r = force.clone()
    z = precondition(r)
    p = z.clone()
    rz = dot(r, z)
    energy = energy.clone()
    iterations = torch.zeros(shape, dtype=torch.int64, device=force.device)
    floor = ROUNDING * energy
    active = rz > floor
    error = torch.where(active, torch.inf, 0.0).to(force.dtype)
    falls: list[Tensor] = []
    target = torch.full_like(rz, tolerance)
    bound = error.clone()
    for _ in range(max_iterations):
        if not bool(active.any()):
            break
        q = apply(p)
        step = torch.where(active, rz / dot(p, q), 0.0)
        falls = [*falls[-3:], step * rz]
        energy -= falls[-1]
        x.addcmul_(step.reshape(one), p)
        r.addcmul_(step.reshape(one), q, value=-1)
        iterations += active
        if len(falls) == 4:
            ratios = torch.stack([b / a for a, b in itertools.pairwise(falls)])
            rate = ratios.amax(0).clamp(max=0.999)
            error = torch.where(active, 2 * falls[-1] / (1 - rate) / energy, error)
            # A fall of exactly 0 means that rounding is reached.
            ready = active & ((error <= target) | (falls[-1] <= 0))
            if certify is not None and bool(ready.any()):
                bound = torch.where(ready, certify(x, ready), bound)
                refused = ready & (bound > tolerance) & (falls[-1] > 0)
                target = torch.where(refused, 0.1 * error, target)
                ready = ready & ~refused
            active = active & ~ready
        z = precondition(r)
        # Flexible: right also for a preconditioner whose rounding is not symmetric.
        turn = -step * dot(z, q) / rz
        rz = torch.where(active, dot(r, z), rz)
        exact = active & ~(rz > floor)
        error = torch.where(exact, 0.0, error)
        if certify is not None and bool(exact.any()):
            bound = torch.where(exact, certify(x, exact), bound)
        active = active & ~exact
        p.mul_(torch.where(active, turn, 0.0).reshape(one)).add_(z)
    if certify is not None:
        error = torch.where(active, certify(x, active), bound) if bool(active.any()) else bound
    return Solution(x, error, iterations, error <= tolerance)
