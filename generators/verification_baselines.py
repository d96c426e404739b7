"""Exact answers for the adversarial and the evolutionary baseline.

Between two point masses a distance d apart the best critic of slope 1 falls by d from one to the
other: its loss is −W1 = −d and its penalty 0 (Gulrajani et al. 2017, proposition 1). In the
Dirac-GAN, data at 0, a generator at θ and the critic D(x) = ψ x, the gradient field of the game
at (0, 0) has the eigenvalues −γ/2 ± √(γ²/4 − 1/4) with R1 (Mescheder et al. 2018, section 4.1 and
lemma 4.2): without it, γ = 0, the two run in circles.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from torch import Tensor

from generators.evolution import (
    blend_sparse,
    crowding_distances,
    non_dominated_ranks,
    spread_factor,
)
from generators.training.adversarial import (
    Judge,
    critic_loss,
    gradient_penalty,
    maker_loss,
    r1_penalty,
)
from loop.verification import Case, absolute_case, relative_case

ROOM = "generators"
WEIGHTS = torch.tensor([0.6, -1.2, 2.0], dtype=torch.float64)


def linear_critic(weights: Tensor) -> Judge:
    """D(x) = w·x of states (b, d)."""
    return lambda states: states @ weights


def two_points(rows: int = 4) -> tuple[Tensor, Tensor, float]:
    """Real and made rows (rows, 3), all alike, and their distance."""
    real = torch.tensor([[0.5, -1.0, 2.0]], dtype=torch.float64).expand(rows, 3)
    step = torch.tensor([[1.0, 2.0, -2.0]], dtype=torch.float64)
    return real, real + step, float(step.norm())


def transport() -> tuple[float, float]:
    """(loss, penalty) of the best critic of slope 1 between two point masses."""
    real, made, distance = two_points()
    judge = linear_critic((real - made)[0] / distance)
    share = torch.linspace(0, 1, len(real), dtype=torch.float64)[:, None]
    loss = critic_loss("wgan-gp", judge(real), judge(made))
    return float(loss), float(gradient_penalty(judge, real, made, share))


def linear_penalties() -> tuple[float, float]:
    """(R1, gradient penalty) of a linear critic."""
    real, made, _ = two_points()
    share = torch.full((len(real), 1), 0.3, dtype=torch.float64)
    judge = linear_critic(WEIGHTS)
    return float(r1_penalty(judge, real)), float(gradient_penalty(judge, real, made, share))


def maker_slope(score: float) -> float:
    """d/ds of the non-saturating loss at a score."""
    s = torch.tensor([score], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(maker_loss("non-saturating", s), s)
    return float(slope)


def dirac_eigenvalues(gamma: float) -> tuple[complex, ...]:
    """Eigenvalues of the gradient field (−∂θ of the generator's loss, −∂ψ of the critic's).

    At the equilibrium of the Dirac-GAN, by automatic differentiation of the losses in use.
    """

    def field(point: Tensor) -> Tensor:
        theta, psi = point.unbind()

        def judge(states: Tensor) -> Tensor:
            return states[:, 0] * psi

        def moves(value: Tensor, along: Tensor) -> Tensor:
            return -torch.autograd.grad(value, along, create_graph=True)[0]

        real, made = torch.zeros(1, 1, dtype=torch.float64), theta.reshape(1, 1)
        critic = critic_loss("non-saturating", judge(real), judge(made))
        critic = critic + 0.5 * gamma * r1_penalty(judge, real)
        maker = maker_loss("non-saturating", judge(made))
        return torch.stack([moves(maker, theta), moves(critic, psi)])

    start = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    found = field(start)
    rows = [torch.autograd.grad(row, start, retain_graph=True)[0] for row in found]
    values = np.linalg.eigvals(torch.stack(rows).numpy()).astype(complex)
    return tuple(sorted(values.tolist(), key=lambda v: (v.real, v.imag)))


def brute_force_ranks(objectives: np.ndarray) -> np.ndarray:
    """(n,) fronts peeled off one after the other, all pairs compared; objectives (n, k)."""
    smaller = (objectives[:, None] <= objectives[None]).all(2)
    dominates = smaller & (objectives[:, None] < objectives[None]).any(2)
    ranks = np.full(len(objectives), -1)
    for rank in itertools.count():
        left = ranks < 0
        if not left.any():
            break
        ranks[left & ~(dominates & left[:, None]).any(0)] = rank
    return ranks


def misplaced() -> float:
    """How many of 300 rows, with ties, get another front than by comparing all pairs."""
    rng = np.random.default_rng(0)
    f = rng.integers(6, size=(300, 3)).astype(float)
    return float((non_dominated_ranks(f) != brute_force_ranks(f)).sum())


def mean_spread(eta: float, cells: int = 200000) -> float:
    """E β by the midpoint rule over the uniform number."""
    u = (np.arange(cells) + 0.5) / cells
    return float(spread_factor(u, eta).mean())


def moved_mean() -> float:
    """Largest difference between the mean of two children and that of their parents."""
    rng = np.random.default_rng(1)
    parents = rng.dirichlet(np.ones(5), size=(2, 3))
    parents[0, :, 2] = parents[1, 1:, 4] = 0.0
    spread = spread_factor(rng.random((3, 1)), 3.0)
    children = blend_sparse(parents[0], parents[1], spread, rng)
    return float(np.abs(sum(children) - parents.sum(0)).max() / 2)


def cases() -> list[Case]:
    """Every exact check of the baselines."""
    _, _, distance = two_points()
    loss, flat = transport()
    r1, penalty = linear_penalties()
    norm = float(WEIGHTS.norm())
    gulrajani, mescheder = "Gulrajani et al. 2017", "Mescheder et al. 2018"
    damped, circling = dirac_eigenvalues(0.6), dirac_eigenvalues(0.0)
    eta = 5.0
    # ½(η + 1) [∫_0^1 β^(η+1) dβ + ∫_1^∞ β^−(η+1) dβ]
    spread = 0.5 * (eta + 1) * (1 / (eta + 2) + 1 / eta)
    crowding = crowding_distances(np.array([[0.0, 4.0], [1.0, 2.0], [4.0, 0.0]]))
    return [
        relative_case(
            ROOM, "WGAN loss of the best critic of two points", -distance, loss, 1e-12, gulrajani
        ),
        absolute_case(ROOM, "its gradient penalty", 0.0, flat, 1e-12, gulrajani),
        relative_case(
            ROOM,
            "gradient penalty of a linear critic",
            (norm - 1) ** 2,
            penalty,
            1e-12,
            "(|w| - 1)^2",
        ),
        relative_case(ROOM, "R1 of a linear critic", norm**2, r1, 1e-12, "|w|^2"),
        relative_case(
            ROOM,
            "slope of the non-saturating loss at a score of -3",
            -1 / (1 + math.exp(-3)),
            maker_slope(-3.0),
            1e-12,
            "-sigmoid(-s), Goodfellow et al. 2014",
        ),
        relative_case(
            ROOM, "damping of the Dirac-GAN by R1", -0.3, damped[0].real, 1e-9, mescheder
        ),
        relative_case(
            ROOM, "frequency of the damped Dirac-GAN", 0.4, damped[1].imag, 1e-9, mescheder
        ),
        absolute_case(
            ROOM, "damping of the Dirac-GAN without R1", 0.0, circling[0].real, 1e-12, mescheder
        ),
        absolute_case(
            ROOM,
            "fronts of 300 rows against comparing all pairs",
            0.0,
            misplaced(),
            0.0,
            "Deb et al. 2002",
        ),
        relative_case(
            ROOM,
            "crowding in the middle of three",
            2.0,
            float(crowding[1]),
            1e-12,
            "Deb et al. 2002",
        ),
        relative_case(
            ROOM, "mean spread factor of SBX", spread, mean_spread(eta), 1e-3, "Deb & Agrawal 1995"
        ),
        absolute_case(
            ROOM, "mean of SBX children less their parents'", 0.0, moved_mean(), 1e-15, "symmetry"
        ),
    ]
