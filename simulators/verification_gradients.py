"""``spinodal verify simulators``: gradients by the adjoint beside central differences."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from loop.verification import Case, relative_case
from simulators import exact
from simulators.adjoint import conductivity_of_field, conductivity_of_phases
from simulators.soft_fields import labelled_field

ROOM = "simulators"
STEP = 1e-5  # central differences are then good to about 1e-9
TIGHT = 1e-14  # of the energy: derivatives are as good as its root


def cases() -> list[Case]:
    """Every case, computed now on the CPU in float64; about a second."""
    return [*_laminates(), *_soft_phases()]


def _tensors(shape: tuple[int, ...], m: int, rng: np.random.Generator) -> Tensor:
    root = torch.as_tensor(rng.standard_normal((*shape, m, m)))
    return root @ root.mT + 0.2 * torch.eye(m, dtype=torch.float64)


def _laminates() -> Iterator[Case]:
    """Slopes of the closed form; layers of 2 and 3 pixels normal to x."""
    for m in (2, 3):
        rng = np.random.default_rng(m)
        phases, way = _tensors((2,), m, rng), 0.1 * _tensors((2,), m, rng)
        weights = _tensors((), m, rng)
        image = np.broadcast_to(np.array([0, 0, 1, 1, 1]), (1, *[1] * (m - 1), 5)).copy()
        given = phases.clone().requires_grad_()
        found = conductivity_of_field(labelled_field(image, given), tolerance=TIGHT)
        (slope,) = torch.autograd.grad((weights * found.tensor[0]).sum(), given)
        above, below = (
            exact.laminate_tensor([0.4, 0.6], (phases + step * way).numpy(), np.eye(m)[0])
            for step in (STEP, -STEP)
        )
        yield relative_case(
            ROOM,
            f"conductivity, gradient with respect to tensors of a laminate, {m}-D",
            float((weights.numpy() * (above - below)).sum() / (2 * STEP)),
            float((slope * way).sum()),
            1e-7,
            "Milton 2002, section 9.2",
        )


def _soft_phases() -> Iterator[Case]:
    """Three phases in every pixel, by the logits of their shares and by their properties."""
    for m, shape in ((2, (8, 9)), (3, (4, 5, 6))):
        for anisotropic in (False, True):
            rng = np.random.default_rng(10 + m)
            logits = torch.as_tensor(rng.standard_normal((1, 3, *shape)))
            phases = _tensors((3,), m, rng)
            phases = phases if anisotropic else phases[:, 0, 0]
            ways = (torch.as_tensor(rng.standard_normal(logits.shape)), 0.1 * phases**2)
            weights = _tensors((), m, rng)

            def functional(z: Tensor, k: Tensor, weights: Tensor = weights) -> Tensor:
                found = conductivity_of_phases(torch.softmax(z, 1), k, tolerance=TIGHT)
                return (weights * found.tensor[0]).sum()

            inputs = (logits.clone().requires_grad_(), phases.clone().requires_grad_())
            slopes = torch.autograd.grad(functional(*inputs), inputs)
            for number, name in enumerate(("soft shares", "the properties")):
                step = [torch.zeros_like(logits), torch.zeros_like(phases)]
                step[number] = STEP * ways[number]
                with torch.no_grad():
                    above = functional(logits + step[0], phases + step[1])
                    below = functional(logits - step[0], phases - step[1])
                kind = "anisotropic" if anisotropic else "isotropic"
                yield relative_case(
                    ROOM,
                    f"conductivity, gradient with respect to {name} of three {kind} phases, {m}-D",
                    float(above - below) / (2 * STEP),
                    float((slopes[number] * ways[number]).sum()),
                    1e-5,
                    "central differences",
                )
