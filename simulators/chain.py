"""``composite-chain``: composition -> phase properties -> effective properties of the image.

Phase properties come from ``elemental`` or from the settings; the image is taken as periodic and
as the cross-section of a columnar body, and homogenised by ``conductivity`` and ``elasticity``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from loop.candidate import Candidate, Outcome
from loop.errors import InvalidInputError
from loop.space import DesignSpace
from simulators.chain_settings import (
    CHORD,
    CONDUCTIVITY,
    COST,
    DENSITY,
    INPUTS,
    INTERFACES,
    MODULUS,
    RATIO,
    Settings,
    parse_settings,
)
from simulators.chain_tensors import ChainTensors
from simulators.conductivity import Conductivity, effective_conductivity
from simulators.correlation import interface_density, mean_chord_length
from simulators.elasticity import Stiffness, effective_stiffness, youngs_modulus
from simulators.limits import output_limits
from simulators.phases import PhaseModel, PhaseProperties
from simulators.wiring import TakesInputs

NAME = "composite-chain"
VERSION = "1"  # raise it when the same candidate would get other values
MAX_CONTRAST = 1e10  # of one property between phases; beyond it float64 has too few digits left

Image = NDArray[np.uint8]


def create(
    *,
    space: DesignSpace,
    settings: Mapping[str, Any],
    device: str = "cpu",
    wired: Collection[str] = (),
) -> CompositeChain:
    """The chain for a design space; see ``chain_settings`` for settings and inputs (``wired``).

    Raises InvalidCampaignError for settings that cannot be used, InvalidInputError for an element
    without the data that an output needs, or a device that is not there.
    """
    parsed = parse_settings(settings, space, wired)
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise InvalidInputError(
            f"device {device!r} cannot be used: {first}; set compute.device to 'cpu'"
        ) from None
    return CompositeChain(space, parsed, device)


class CompositeChain(TakesInputs):
    """Effective properties of candidates; see ``outputs`` for names and units.

    ``thermal_conductivity_W_per_mK``: mean of k_xx and k_yy; ``conductivity_ratio``: k_xx / k_yy,
    x along the columns; ``youngs_modulus_GPa``: mean of E_x and E_y (uniaxial stress; upper bound
    by energy, lower bound Reuss); ``<phase>_fraction``: area fraction of the precipitate phase;
    ``precipitate_chord_length_px``: mean length of all its chords along x and y;
    ``interface_density_per_px``: pixel edges between phases per area; density and cost: by area
    fraction and by mass. ``limits``: what no design of the space can pass.
    """

    name = NAME

    def __init__(self, space: DesignSpace, settings: Settings, device: str = "cpu") -> None:
        self.space = space
        self.settings = settings
        self.device = device
        self.phases = PhaseModel(space, settings)
        self.outputs: Mapping[str, str] = {name: settings.units[name] for name in settings.outputs}
        self.inputs: Mapping[str, str] = {
            key: INPUTS[key.split(".")[1]][0] for key in sorted(settings.wired)
        }
        self.limits: Mapping[str, tuple[float, float]] = output_limits(self.phases)
        # The ledger reuses outcomes by candidate and version, so the version tells the settings.
        described = json.dumps(settings.identity(space), sort_keys=True)
        self.version = f"{VERSION}-{hashlib.sha256(described.encode()).hexdigest()[:8]}"

    def _outcomes(
        self, candidates: Sequence[Candidate], given: Sequence[Mapping[str, float]]
    ) -> list[Outcome]:
        outcomes: dict[int, Outcome] = {}
        groups: dict[tuple[int, ...], list[tuple[int, Image, PhaseProperties]]] = {}
        for position, (candidate, values) in enumerate(zip(candidates, given, strict=True)):
            try:
                self._check(candidate)
                phases = self.phases.properties(candidate, values)
                _check_contrast(phases, self.space.phases)
            except InvalidInputError as error:
                outcomes[position] = Outcome.failed(str(error))
                continue
            image = candidate.microstructure
            if image is None:
                outcomes[position] = self._uniform(phases)
            else:
                groups.setdefault(image.shape, []).append((position, image, phases))
        for group in groups.values():
            positions, images, properties = zip(*group, strict=True)
            found = self._homogenise(np.stack(images), PhaseProperties.stack(properties))
            outcomes.update(zip(positions, found, strict=True))
        return [outcomes[position] for position in range(len(candidates))]

    def properties_of(
        self, fields: Tensor | None, compositions: Tensor | None
    ) -> Mapping[str, Tensor]:
        """The outputs with gradients; see ``loop.protocols.Differentiable``.

        Raises InvalidInputError when it was made to be given inputs, or designs lack what the
        outputs need.
        """
        if self.inputs:
            raise InvalidInputError(
                f"{NAME} is given {', '.join(self.inputs)} by other simulators, whose derivatives "
                "are not known"
            )
        return ChainTensors(self.phases).properties_of(fields, compositions)

    def _check(self, candidate: Candidate) -> None:
        """InvalidInputError when the candidate lacks what the outputs need."""
        if candidate.phases != self.space.phases:
            raise InvalidInputError(
                f"phases are {', '.join(candidate.phases)}; expected {', '.join(self.space.phases)}"
            )
        image = candidate.microstructure
        if len(self.space.phases) == 1:
            return
        if image is None:
            raise InvalidInputError(
                f"candidate has {len(self.space.phases)} phases and no microstructure"
            )
        if image.min() == image.max():
            only = self.space.phases[int(image.flat[0])]
            raise InvalidInputError(f"image is constant: only {only} is present")
        wanted = self.settings.precipitate
        if CHORD in self.outputs and not np.any(image == self.space.phases.index(wanted)):
            raise InvalidInputError(f"{wanted} is absent from the image: it has no chord length")

    def _uniform(self, phases: PhaseProperties) -> Outcome:
        """A candidate without image has one phase, and its properties are the phase's."""
        found = {
            CONDUCTIVITY: phases.conductivity,
            DENSITY: phases.density,
            COST: phases.cost,
            MODULUS: youngs_modulus(phases.bulk, phases.shear),
        }
        return Outcome("ok", {name: float(found[name][0]) for name in self.outputs})

    def _homogenise(self, labels: Image, phases: PhaseProperties) -> list[Outcome]:
        """Outcomes of (n, h, w) images with (n, p) properties of their phases, in their order."""
        settings = self.settings
        n, p = len(labels), len(self.space.phases)
        tables: dict[str, NDArray[np.float64]] = {}
        bounds: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
        solves: list[tuple[str, Conductivity | Stiffness]] = []
        flat = labels.reshape(n, -1)
        fractions = np.stack([(flat == phase).mean(1) for phase in range(p)], axis=1)
        mass = fractions * phases.density
        tables[DENSITY] = mass.sum(1)
        tables[COST] = (mass * phases.cost).sum(1) / tables[DENSITY]
        index = self.space.phases.index(settings.precipitate)
        tables[settings.fraction_name] = fractions[:, index]
        tables[CHORD] = mean_chord_length(labels, index)
        tables[INTERFACES] = interface_density(labels)
        if CONDUCTIVITY in self.outputs or RATIO in self.outputs:
            k = effective_conductivity(
                labels,
                phases.conductivity,
                tolerance=settings.tolerance,
                max_iterations=settings.max_iterations,
                device=self.device,
            )
            solves.append(("conductivity", k))
            tables[CONDUCTIVITY] = 0.5 * (k.xx + k.yy)
            tables[RATIO] = k.xx / k.yy
            low, high = (np.diagonal(t, axis1=1, axis2=2) for t in (k.lower, k.upper))
            bounds[CONDUCTIVITY] = (low.mean(1), high.mean(1))
            bounds[RATIO] = (low[:, 0] / high[:, 1], high[:, 0] / low[:, 1])
        if MODULUS in self.outputs:
            c = effective_stiffness(
                labels,
                phases.bulk,
                phases.shear,
                tolerance=settings.tolerance,
                max_iterations=settings.max_iterations,
                device=self.device,
                lower=settings.modulus_bound,
            )
            solves.append(("elasticity", c))
            tables[MODULUS] = c.youngs.mean(1)
            bounds[MODULUS] = (c.youngs_lower, tables[MODULUS])
        return [self._outcome(i, tables, bounds, solves) for i in range(n)]

    def _outcome(
        self,
        i: int,
        tables: Mapping[str, NDArray[np.float64]],
        bounds: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]],
        solves: Sequence[tuple[str, Conductivity | Stiffness]],
    ) -> Outcome:
        diagnostics: dict[str, Any] = {}
        failures = []
        for kind, solve in solves:
            residual, iterations = float(solve.residual[i]), int(solve.iterations[i])
            diagnostics[f"{kind}_residual"] = residual if math.isfinite(residual) else None
            diagnostics[f"{kind}_iterations"] = iterations
            if not solve.converged[i]:
                failures.append(
                    f"{kind} solve not converged after {iterations} iterations: error bound "
                    f"{residual:.2g}, allowed {self.settings.tolerance:.2g}"
                )
        values = {name: float(tables[name][i]) for name in self.outputs}
        failures += [f"{k} is {v}" for k, v in values.items() if not math.isfinite(v)]
        if failures:
            return Outcome.failed("; ".join(failures), **diagnostics)
        # Where both bounds and the value coincide, rounding may put them in the wrong order.
        limits = {
            name: (min(float(low[i]), values[name]), max(float(high[i]), values[name]))
            for name, (low, high) in bounds.items()
            if name in self.outputs
        }
        return Outcome("ok", values, limits, diagnostics)


def _check_contrast(phases: PhaseProperties, names: Sequence[str]) -> None:
    for what, values in phases.positive():
        for name, value in zip(names, values, strict=True):
            if not (math.isfinite(value) and value > 0):
                raise InvalidInputError(f"{what} of {name} is {value:g}; expected > 0 and finite")
        contrast = float(values.max() / values.min())
        if contrast > MAX_CONTRAST:
            raise InvalidInputError(
                f"{what} differs by a factor of {contrast:.2g} between phases; "
                f"at most {MAX_CONTRAST:.0e} can be computed"
            )
