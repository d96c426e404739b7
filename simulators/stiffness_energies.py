"""Least energies of elastic images: of strains and, in equilibrium, of stresses, solved.

What ``stiffness`` turns into bounds and ``adjoint_elasticity`` into derivatives.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from simulators.energies import Effort, Minimum
from simulators.krylov import Solution, System, minimise
from simulators.stiffness_dual import stress_parts, stress_system
from simulators.stiffness_primal import (
    WHOLE,
    Block,
    Law,
    blocks,
    energies,
    sample,
    strain_parts,
    strain_system,
)
from simulators.stiffness_tensors import SIZE, Reference


def least_strain_energy(c: Law, medium: Reference, effort: Effort) -> Minimum:
    """Energies (n, 6, 6) of displacements with unit mean strains in float64 stiffness fields."""
    found = _solve(strain_system, c, medium, effort, lambda block: block.axes)
    return _minimum(energies(c, strain_parts(found.fields)), found)


def least_stress_energy(s: Law, medium: Reference, effort: Effort) -> Minimum:
    """Energies (n, 6, 6) of stresses with unit means in float64 compliance fields.

    ``medium``: of the compliances. Its inverse bounds the stiffness from below.
    """
    found = _solve(stress_system, s, medium, effort, lambda block: block.cases)
    return _minimum(energies(s, stress_parts(found.fields)), found)


def _solve(
    system: Callable[[Law, Tensor, Tensor, Block], System],
    law: Law,
    medium: Reference,
    effort: Effort,
    components: Callable[[Block], tuple[int, ...]],
) -> Solution:
    """Block by block; ``components``: of a block's unknowns. Fields (n, 6, c, d, h, w)."""
    first = sample(law)
    n, device = len(first), first.device

    def of(kind: torch.dtype, block: Block) -> System:
        entries = {id(entry): entry.to(kind) for row in law for entry in row if entry is not None}
        own = tuple(tuple(None if e is None else entries[id(e)] for e in row) for row in law)
        matrix = torch.as_tensor(medium.matrix, dtype=kind, device=device)
        low = torch.as_tensor(medium.low, dtype=kind, device=device)
        return system(own, matrix, low, block)

    all_of_them = components(WHOLE)
    fields = torch.zeros(
        n, SIZE, len(all_of_them), *first.shape[1:], dtype=first.dtype, device=device
    )
    error = torch.zeros(n, SIZE, dtype=first.dtype, device=device)
    iterations = torch.zeros(n, SIZE, dtype=torch.int64, device=device)
    converged = torch.ones(n, SIZE, dtype=torch.bool, device=device)
    for block in blocks(law):
        found = minimise(
            of(torch.float64, block),
            None if effort.dtype == torch.float64 else of(effort.dtype, block),
            tolerance=effort.tolerance,
            max_iterations=effort.max_iterations,
        )
        for number, case in enumerate(block.cases):
            for position, component in enumerate(components(block)):
                fields[:, case, component] = found.fields[:, number, position]
            error[:, case] = found.error[:, number]
            iterations[:, case] = found.iterations[:, number]
            converged[:, case] = found.converged[:, number]
    return Solution(fields, error, iterations, converged)


def _minimum(energy: Tensor, found: Solution) -> Minimum:
    return Minimum(
        energy,
        found.fields,
        found.iterations.amax(1),
        found.error.amax(1).clamp(min=0.0),  # rounding may leave -1e-17
        found.converged.all(1),
    )
