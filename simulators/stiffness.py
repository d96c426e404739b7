"""Effective stiffness of periodic pixel and voxel images of anisotropic phases, with bounds.

Pixel images are cross-sections of columnar bodies in generalised plane strain: nothing varies
along z, three displacements, all six mean strains. Voxel images are three-dimensional.

Upper bound: least strain energy over compatible fields (bilinear, trilinear displacements). Lower
bound: the inverse of the least complementary energy over stresses that are in equilibrium at every
point (``stiffness_dual``). Both energies are integrated exactly for the image as it stands, so
both hold whatever the grid and however early the iteration stops, up to the rounding of float64, in
which they are evaluated. The point estimate is the geometric mean of the two matrices, which lies
between them and treats stiffness and compliance alike.

Solver: conjugate gradients preconditioned by the Green operator of a homogeneous, if need be
anisotropic medium on the same grid; condition number at most the contrast, whatever the grid.

Sources: as in ``conductivity``; R. Hill, J. Mech. Phys. Solids 11, 357 (1963); M. E. Gurtin, The
Linear Theory of Elasticity, 1972, section 34 (minimum principles).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from loop.errors import InvalidInputError
from simulators.conductivity import CONTRAST_FLOAT32
from simulators.energies import MAX_ITERATIONS, TOLERANCE, Effort
from simulators.fields import collect, field_chunks, one_thread
from simulators.stiffness_energies import least_strain_energy, least_stress_energy
from simulators.stiffness_primal import Law, law_of
from simulators.stiffness_tensors import ENTRIES, SIZE, Reference, checked_stiffness, reference
from simulators.tensors import fractions, geometric_mean

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EffectiveStiffness:
    """Effective stiffness of n images, in the unit of the phases' stiffness.

    ``tensor``, ``lower``, ``upper``: (n, 6, 6) in Voigt's order xx, yy, zz, yz, xz, xy with
    engineering shear; lower <= truth for the image <= upper as quadratic forms, hence on the
    diagonals. ``iterations``: (n,) the most of the solves. ``residual``: (n,) bound on the
    relative error that stopping early leaves in a bound. ``converged``: (n,) residual <= tolerance.
    """

    tensor: FloatArray
    lower: FloatArray
    upper: FloatArray
    iterations: NDArray[np.int64]
    residual: FloatArray
    converged: NDArray[np.bool_]

    @property
    def youngs(self) -> FloatArray:
        """(n, 3) Young's moduli along x, y, z of the estimate: uniaxial stress."""
        return _youngs(self.tensor)

    @property
    def youngs_lower(self) -> FloatArray:
        """(n, 3) lower bounds on ``youngs``."""
        return _youngs(self.lower)

    @property
    def youngs_upper(self) -> FloatArray:
        """(n, 3) upper bounds on ``youngs``."""
        return _youngs(self.upper)


def _youngs(stiffness: FloatArray) -> FloatArray:
    moduli: FloatArray = 1 / np.diagonal(np.linalg.inv(stiffness), axis1=1, axis2=2)[:, :3]
    return moduli


class Problem:
    """Checked images and their phases, scaled, a few images at a time.

    ``image``: (n, ...) labels. ``values``: (n, p, 6, 6), divided by ``size``, (n,) powers of two.
    ``medium``: ``Reference``.
    """

    def __init__(self, labels: ArrayLike, stiffness: ArrayLike, dtype: torch.dtype) -> None:
        self.image, values = checked_stiffness(labels, stiffness)
        own = values[np.arange(len(self.image)), self.image.reshape(len(self.image), -1)[:, 0]]
        # Powers of two: no rounding, and no overflow where squares are formed.
        self.size = np.exp2(np.rint(np.log2(np.trace(own, axis1=-2, axis2=-1) / SIZE)))
        self.values: FloatArray = values / self.size[:, None, None, None]
        self.medium = reference(self.image, self.values)
        contrast = float((self.medium.high / self.medium.low).max())
        if dtype == torch.float32 and contrast > CONTRAST_FLOAT32:
            raise InvalidInputError(
                f"stiffness of contrast {contrast:.3g} is beyond float32, which carries "
                f"{CONTRAST_FLOAT32:g}; use float64"
            )

    def chunks(self, matrices: FloatArray, device: str) -> Iterator[tuple[slice, Law]]:
        """Rows and fields (n', d, h, w) of (n, p, 6, 6) matrices of the phases."""
        image = self.image if self.image.ndim == 4 else self.image[:, None]
        there = [(i, j) for i, j in ENTRIES if np.any(matrices[:, :, i, j])]
        tables = [matrices[:, :, i, j] for i, j in there]
        done = 0
        # Nodal values per voxel: load cases times components.
        for fields in field_chunks(
            image, tables, systems=SIZE * SIZE, device=device, dtype=torch.float64
        ):
            rows = slice(done, done + len(fields[0]))
            done = rows.stop
            own = dict(zip(there, fields, strict=True))
            yield rows, law_of([own.get(entry) for entry in ENTRIES])

    def compliance(self) -> FloatArray:
        """Of the phases, (n, p, 6, 6)."""
        return _inverse(self.values)


def reuss_bound(image: NDArray[np.int64], values: FloatArray) -> FloatArray:
    """Inverse of the mean compliance, (n, 6, 6), of phases (n, p, 6, 6): uniform stress."""
    f = fractions(image, values.shape[1])
    return _inverse(np.einsum("np,npij->nij", f, _inverse(values)))


def rows_of(medium: Reference, rows: slice) -> Reference:
    """The media of some of the images."""
    return Reference(*(array[rows] for array in medium))


def effective_elasticity(
    labels: ArrayLike,
    stiffness: ArrayLike,
    *,
    tolerance: float = TOLERANCE,
    max_iterations: int = MAX_ITERATIONS,
    device: str = "cpu",
    dtype: torch.dtype = torch.float64,
    dual: bool = True,
) -> EffectiveStiffness:
    """Effective stiffness matrices of periodic label images.

    ``labels``: (n, h, w) or (n, d, h, w) integers < p. ``stiffness``: (p, 6, 6) or (n, p, 6, 6),
    symmetric and positive definite; ``stiffness_tensors`` builds those of isotropic and of cubic
    phases. ``tolerance``: relative, on the diagonal of the effective stiffness and compliance
    (what stopping early may cost it). ``dtype``: of the iterations; float32 is refined against
    float64 residuals, so tolerance and bounds mean the same. ``dual`` False saves half of the
    work: the estimate is then the upper bound, and the lower bound that of uniform stress (Reuss).
    Raises InvalidInputError for wrong shapes, labels or stiffness, and for a contrast above
    ``CONTRAST_FLOAT32`` in float32. Never raises for a solve that does not converge: see
    ``converged``; its bounds hold all the same.
    """
    problem = Problem(labels, stiffness, dtype)
    effort = Effort(tolerance, max_iterations, dtype)
    size = problem.size[:, None, None]
    with one_thread():
        upper, *primal = _primal(problem, effort, device)
        lower, *other = (
            _dual(problem, effort, device)
            if dual
            else (reuss_bound(problem.image, problem.values), *primal)
        )
    iterations, residual, converged = (
        np.maximum(primal[0], other[0]),
        np.maximum(primal[1], other[1]),
        np.minimum(primal[2], other[2]),
    )
    low, high = lower.astype(np.float64) * size, upper.astype(np.float64) * size
    return EffectiveStiffness(
        tensor=geometric_mean(low, high) if dual else high.copy(),
        lower=low,
        upper=high,
        iterations=iterations.astype(np.int64),
        residual=residual.astype(np.float64),
        converged=converged.astype(np.bool_),
    )


def _primal(problem: Problem, effort: Effort, device: str) -> list[NDArray[np.generic]]:
    """Upper bounds (n, 6, 6), then iterations, error, converged, (n,) each."""
    parts: list[tuple[Tensor, ...]] = []
    for rows, law in problem.chunks(problem.values, device):
        found = least_strain_energy(law, rows_of(problem.medium, rows), effort)
        parts.append((found.energies, *found[2:]))
    return collect(parts)


def _dual(problem: Problem, effort: Effort, device: str) -> list[NDArray[np.generic]]:
    """Lower bounds (n, 6, 6), then as ``_primal``."""
    parts: list[tuple[Tensor, ...]] = []
    medium = problem.medium.dual()
    for rows, law in problem.chunks(problem.compliance(), device):
        found = least_stress_energy(law, rows_of(medium, rows), effort)
        parts.append((found.energies, *found[2:]))
    compliance, *rest = collect(parts)
    return [_inverse(compliance.astype(np.float64)), *rest]


def lower_bound(
    labels: ArrayLike,
    stiffness: ArrayLike,
    *,
    tolerance: float = TOLERANCE,
    max_iterations: int = MAX_ITERATIONS,
    device: str = "cpu",
    dtype: torch.dtype = torch.float64,
) -> tuple[FloatArray, NDArray[np.int64], FloatArray, NDArray[np.bool_]]:
    """The lower bound of ``effective_elasticity`` alone, (n, 6, 6), and how the solve ended.

    Then ``iterations``, ``residual``, ``converged``, (n,) each. Raises as there.
    """
    problem = Problem(labels, stiffness, dtype)
    with one_thread():
        lower, iterations, residual, converged = _dual(
            problem, Effort(tolerance, max_iterations, dtype), device
        )
    return (
        lower.astype(np.float64) * problem.size[:, None, None],
        iterations.astype(np.int64),
        residual.astype(np.float64),
        converged.astype(np.bool_),
    )


def _inverse(matrices: FloatArray) -> FloatArray:
    inverse = np.linalg.inv(matrices)
    symmetric: FloatArray = 0.5 * (inverse + inverse.swapaxes(-1, -2))
    return symmetric
