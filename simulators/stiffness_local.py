"""What the strain fields tell beyond the effective stiffness: thermal expansion, peak stresses.

Both use the compatible fields of the upper bound, (bi/tri)linear displacements, with the strain at
the centre of every pixel or voxel, which is also its mean over it. Fields are wrong by the square
root of what energies are wrong by: hence a small default tolerance. Near corners between phases
the true stress has no bound; percentiles of it do, and settle on finer grids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from loop.errors import InvalidInputError
from simulators.energies import MAX_ITERATIONS, Effort
from simulators.fields import one_thread
from simulators.stiffness import Problem, rows_of
from simulators.stiffness_energies import least_strain_energy
from simulators.stiffness_moduli import unit_tension
from simulators.stiffness_primal import mean_strains
from simulators.stiffness_tensors import SIZE, to_strain, to_tensor
from simulators.tensors import fractions

FloatArray = NDArray[np.float64]

TOLERANCE = 1e-10
QUANTILES = (0.5, 0.9, 0.99, 1.0)


@dataclass(frozen=True, slots=True)
class ThermalExpansion:
    """Effective thermal expansion of n images, in the unit of the phases' expansion.

    ``expansion``: (n, 3, 3), strain per degree of a body without load. ``stress``: (n, 6), Voigt,
    minus the mean stress per degree of a body held fast, in units of stiffness times expansion.
    ``converged``: (n,).
    """

    expansion: FloatArray
    stress: FloatArray
    converged: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PeakStress:
    """Quantiles over the volume of the local stress per unit of applied uniaxial stress.

    ``von_mises``, ``principal``: (n, q), equivalent stress and greatest principal stress.
    ``von_mises_by_phase``, ``principal_by_phase``: (n, p, q), within each phase; NaN where a phase
    is absent. ``converged``: (n,).
    """

    quantiles: tuple[float, ...]
    von_mises: FloatArray
    principal: FloatArray
    von_mises_by_phase: FloatArray
    principal_by_phase: FloatArray
    converged: NDArray[np.bool_]


def thermal_expansion(
    labels: ArrayLike,
    stiffness: ArrayLike,
    expansion: ArrayLike,
    *,
    tolerance: float = TOLERANCE,
    max_iterations: int = MAX_ITERATIONS,
    device: str = "cpu",
) -> ThermalExpansion:
    """Effective expansion of periodic label images; labels and stiffness as in ``stiffness``.

    ``expansion``: (p,) or (p, 3, 3), thermal strain per degree, of any sign. By reciprocity the
    thermal stress is <e_i : C : alpha> with the strains e_i of the six load cases, and needs no
    solve of its own. For two phases it obeys Levin's relation up to the tolerance.
    Raises InvalidInputError for wrong shapes, labels, stiffness or expansions.
    Source: V. M. Levin, Mech. Solids 2, 58 (1967).
    """
    problem = Problem(labels, stiffness, torch.float64)
    alpha = np.asarray(expansion, dtype=np.float64)
    phases = problem.values.shape[1]
    if alpha.shape == (phases,):
        alpha = alpha[:, None, None] * np.eye(3)
    if alpha.shape != (phases, 3, 3) or not np.all(np.isfinite(alpha)):
        raise InvalidInputError(
            f"thermal expansion has shape {np.shape(expansion)}; expected ({phases},) or "
            f"({phases}, 3, 3), finite"
        )
    if not np.allclose(alpha, alpha.swapaxes(1, 2), rtol=1e-9, atol=0):
        raise InvalidInputError(
            "a thermal expansion is not symmetric; expected equal entries (i, j) and (j, i)"
        )
    strains = to_strain(alpha)
    # Only what differs from the mean is left to the fields: the rest is exact.
    mean = fractions(problem.image, phases) @ strains
    push = np.einsum("npij,npj->npi", problem.values, strains - mean[:, None])
    found, stress, converged = [], [], []
    with one_thread():
        for rows, fields, energies, done in _fields(problem, tolerance, max_iterations, device):
            tau = _of_phases(problem, push, rows)
            extra = np.einsum("niav,nav->ni", fields, tau) / tau.shape[-1]
            found.append(mean[rows] + np.linalg.solve(energies, extra[..., None])[..., 0])
            stress.append(np.einsum("nij,nj->ni", energies, found[-1]))
            converged.append(done)
    return ThermalExpansion(
        expansion=to_tensor(np.concatenate(found), strain=True),
        stress=np.concatenate(stress) * problem.size[:, None],
        converged=np.concatenate(converged),
    )


def peak_stress(
    labels: ArrayLike,
    stiffness: ArrayLike,
    *,
    direction: ArrayLike = (1.0, 0.0, 0.0),
    quantiles: Sequence[float] = QUANTILES,
    tolerance: float = TOLERANCE,
    max_iterations: int = MAX_ITERATIONS,
    device: str = "cpu",
) -> PeakStress:
    """Local stresses under uniaxial stress along ``direction``; labels as in ``stiffness``.

    ``quantiles``: in [0, 1], of the stress at the centres of pixels or voxels, each of which
    stands for the same volume. The mean of the stress over all of them is the applied one.
    Raises InvalidInputError for wrong shapes, labels, stiffness, quantiles or direction.
    """
    problem = Problem(labels, stiffness, torch.float64)
    wanted = np.asarray(quantiles, dtype=np.float64)
    if wanted.ndim != 1 or not wanted.size or not np.all((wanted >= 0) & (wanted <= 1)):
        raise InvalidInputError(
            f"quantiles {np.array2string(wanted, threshold=9)}; expected numbers from 0 to 1"
        )
    applied = unit_tension(direction)
    if applied.shape != (SIZE,):
        raise InvalidInputError(f"direction of shape {np.shape(direction)}; expected (3,)")
    n, p = problem.values.shape[:2]
    whole = np.full((2, n, len(wanted)), np.nan)
    each = np.full((2, n, p, len(wanted)), np.nan)
    converged = []
    with one_thread():
        for rows, strains, energies, done in _fields(problem, tolerance, max_iterations, device):
            load = np.linalg.inv(energies) @ applied
            local = np.einsum("niav,ni->nav", strains, load)
            converged.append(done)
            for offset, number in enumerate(range(rows.start, rows.stop)):
                image = problem.image[number].ravel()
                stress = np.einsum("vij,jv->vi", problem.values[number][image], local[offset])
                for kind, values in enumerate((von_mises(stress), principal(stress)[:, -1])):
                    whole[kind, number] = np.quantile(values, wanted)
                    for phase in np.unique(image):
                        each[kind, number, phase] = np.quantile(values[image == phase], wanted)
    return PeakStress(
        quantiles=tuple(float(q) for q in wanted),
        von_mises=whole[0],
        principal=whole[1],
        von_mises_by_phase=each[0],
        principal_by_phase=each[1],
        converged=np.concatenate(converged),
    )


def von_mises(stress: ArrayLike) -> FloatArray:
    """Equivalent stress (...) of Voigt stresses (..., 6): sqrt(3/2) the norm of the deviator."""
    s = np.asarray(stress, dtype=np.float64)
    xx, yy, zz, yz, xz, xy = np.moveaxis(s, -1, 0)
    normal = (xx - yy) ** 2 + (yy - zz) ** 2 + (zz - xx) ** 2
    result: FloatArray = np.sqrt(0.5 * normal + 3 * (yz**2 + xz**2 + xy**2))
    return result


def principal(stress: ArrayLike) -> FloatArray:
    """Principal stresses (..., 3), ascending, of Voigt stresses (..., 6)."""
    return np.linalg.eigvalsh(to_tensor(stress)).astype(np.float64)


def _fields(
    problem: Problem, tolerance: float, max_iterations: int, device: str
) -> Iterator[tuple[slice, FloatArray, FloatArray, NDArray[np.bool_]]]:
    """Rows; strains (n', 6, 6, v), load case before component, v voxels; energies; converged."""
    effort = Effort(tolerance, max_iterations)
    for rows, law in problem.chunks(problem.values, device):
        found = least_strain_energy(law, rows_of(problem.medium, rows), effort)
        strains = mean_strains(found.fields).flatten(3).cpu().numpy()
        yield rows, strains, found.energies.cpu().numpy(), found.converged.cpu().numpy()


def _of_phases(problem: Problem, table: FloatArray, rows: slice) -> FloatArray:
    """(n, p, 6) values of the phases -> their field (n', 6, v)."""
    labels = problem.image[rows].reshape(rows.stop - rows.start, -1)
    return np.stack([own[image].T for own, image in zip(table[rows], labels, strict=True)])
