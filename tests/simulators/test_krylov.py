"""Batched conjugate gradients against dense solves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from simulators.krylov import Solution, System, minimise, minimise_by_estimate, minimise_energy

N, L, M = 3, 2, 12


def systems(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((N, L, M, M))
    spread = np.array([1.0, 10.0, 300.0])[:, None, None]
    matrix = a @ a.swapaxes(-1, -2) / M + np.eye(M)
    matrix = matrix * (1 + (spread[..., None] - 1) * np.linspace(0, 1, M)[:, None] * np.eye(M))
    matrix = 0.5 * (matrix + matrix.swapaxes(-1, -2))
    return torch.as_tensor(matrix), torch.as_tensor(rng.standard_normal((N, L, M)))


def solve(
    matrix: torch.Tensor, force: torch.Tensor, *, tolerance: float = 1e-10, steps: int = 200
) -> Solution:
    least = torch.linalg.eigvalsh(matrix)[..., 0]
    return minimise_energy(
        lambda x: torch.einsum("nlij,nlj->nli", matrix, x),
        lambda r: r.clone(),
        force,
        energy=100 * torch.ones(N, L, dtype=torch.float64),
        coercivity=least,
        tolerance=tolerance,
        max_iterations=steps,
    )


def excess(matrix: torch.Tensor, force: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Relative excess of the energy 100 + x A x - 2 f x over its minimum."""
    best = 100 - (force * torch.linalg.solve(matrix, force)).sum(-1)
    value = 100 + torch.einsum("nli,nlij,nlj->nl", x, matrix, x) - 2 * (force * x).sum(-1)
    return (value - best) / value


def test_solutions_of_dense_systems() -> None:
    matrix, force = systems()
    found = solve(matrix, force, tolerance=1e-14)
    assert bool(found.converged.all())
    expected = torch.linalg.solve(matrix, force)
    torch.testing.assert_close(found.fields, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", [0, 1, 2, 5, 9])
def test_error_bounds_the_excess_energy_at_every_step(steps: int) -> None:
    matrix, force = systems()
    found = solve(matrix, force, steps=steps)
    true = excess(matrix, force, found.fields)
    assert bool((true <= found.error * (1 + 1e-9) + 1e-14).all())
    assert bool((found.iterations <= steps).all())


def test_the_cap_is_reported() -> None:
    matrix, force = systems()
    found = solve(matrix, force, steps=2)
    assert not bool(found.converged[2].any())
    assert bool((found.error[~found.converged] > 1e-10).all())


def test_systems_do_not_disturb_each_other() -> None:
    matrix, force = systems()
    together = solve(matrix, force)
    assert len(torch.unique(together.iterations)) > 1
    force[2] *= 1e3
    again = solve(matrix, force)
    assert torch.equal(together.fields[:2], again.fields[:2])
    assert torch.equal(together.iterations[:2], again.iterations[:2])


def test_no_force_is_solved_without_a_step() -> None:
    matrix, force = systems()
    force[0] = 0
    found = solve(matrix, force)
    assert torch.equal(found.fields[0], torch.zeros_like(found.fields[0]))
    assert int(found.iterations[0].max()) == 0
    assert bool(found.converged.all())
    assert bool(torch.isfinite(found.fields).all())


def system(matrix: torch.Tensor, force: torch.Tensor, kind: torch.dtype) -> System:
    a = matrix.to(kind)
    return System(
        lambda x: torch.einsum("nlij,nlj->nli", a, x),
        lambda r: r.clone(),
        force.to(kind),
        torch.full(force.shape[:2], 100.0, dtype=kind),
        torch.linalg.eigvalsh(matrix)[..., 0].to(kind),
    )


@pytest.mark.parametrize("tolerance", [1e-4, 1e-8, 1e-13])
def test_float32_iterations_reach_float64_accuracy(tolerance: float) -> None:
    matrix, force = systems()
    exact = system(matrix, force, torch.float64)
    rough = system(matrix, force, torch.float32)
    found = minimise(exact, rough, tolerance=tolerance, max_iterations=500)
    assert bool(found.converged.all())
    assert bool((excess(matrix, force, found.fields) <= tolerance + 1e-15).all())
    plain = minimise(exact, None, tolerance=tolerance, max_iterations=500)
    again = solve(matrix, force, tolerance=tolerance)
    assert torch.equal(plain.fields, again.fields)


def test_refinement_keeps_the_best_it_has_seen() -> None:
    matrix, force = systems()
    exact = system(matrix, force, torch.float64)
    broken = system(matrix, force, torch.float32)._replace(precondition=lambda r: 1e6 * r)
    broken = broken._replace(apply=lambda x: -1e-3 * x)
    found = minimise(exact, broken, tolerance=1e-10, max_iterations=20)
    assert not bool(found.converged.any())
    assert bool((excess(matrix, force, found.fields) <= found.error).all())
    start = minimise(exact, None, tolerance=1e-10, max_iterations=0)
    assert bool((found.error <= start.error * (1 + 1e-9)).all())


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-9])
@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_estimates_are_above_the_excess(seed: int, tolerance: float) -> None:
    """In well-conditioned systems, as preconditioning makes them, the fall is near geometric."""
    matrix, force = (part[:2] for part in systems(seed))
    of = system(matrix, force, torch.float64)
    found = minimise_by_estimate(*of[:3], energy=of.energy, tolerance=tolerance, max_iterations=500)
    assert bool(found.converged.all())
    assert bool((excess(matrix, force, found.fields) <= tolerance).all())
    early = minimise_by_estimate(*of[:3], energy=of.energy, tolerance=1e-12, max_iterations=3)
    assert not bool(early.converged.any())
    assert bool(torch.isinf(early.error).all())


def test_an_exact_preconditioner_needs_no_four_steps() -> None:
    """What is left after the first step is rounding; a certificate is asked all the same."""
    matrix, force = systems()
    of = system(matrix, force, torch.float64)
    inverse = torch.linalg.inv(matrix)
    asked: list[torch.Tensor] = []

    def certify(x: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        asked.append(which)
        return excess(matrix, force, x).abs()

    for certificate in (None, certify):
        found = minimise_by_estimate(
            of.apply,
            lambda r: torch.einsum("nlij,nlj->nli", inverse, r),
            force,
            energy=of.energy,
            tolerance=1e-12,
            max_iterations=50,
            certify=certificate,
        )
        assert bool(found.converged.all())
        assert int(found.iterations.max()) < 4
        assert bool((excess(matrix, force, found.fields) <= 1e-12).all())
    assert bool(torch.stack(asked).any(0).all())


def test_no_force_needs_no_estimate() -> None:
    matrix, force = systems()
    force[0] = 0
    of = system(matrix, force, torch.float64)
    found = minimise_by_estimate(*of[:3], energy=of.energy, tolerance=1e-8, max_iterations=500)
    assert bool(found.converged.all())
    assert int(found.iterations[0].max()) == 0
    assert bool(torch.isfinite(found.fields).all())
