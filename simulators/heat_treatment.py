"""``heat-treatment``: what a composition and its heat treatment would really give.

Each candidate's overall composition (lever rule) is quenched from above its miscibility gap and
held, by phase field and with several seeds (``annealing``); the candidate's image is compared with
the outcome by two-point statistics (``realisability``). Settings, its table in the campaign file:

interactions          pairs as "Ag-Cu" -> [[a, b], ...], L^v = a + b T in J/mol (``solution``)
gradient_energy_J_m2_per_mol    K, a number, for all elements but the first of the space; required
diffusion             element -> [D0 in m2/s, Q in J/mol], of every element of the space; required
pixel_size_nm         edge of a pixel; required
temperature_K, time_s  numbers, for a treatment that is not designed
temperature, time     names of the process variables to use instead, in K and in s; default
                      "temperature_K" and "time_s"
seeds                 how many images are re-created; default 3
mobility              "local" (default): of each pixel's composition; "mean": of the overall one
tolerance, max_steps  of ``phase_field``; default 0.05, 20000
outputs               names of the outputs wanted; default all

The phase of the space at place i is the equilibrium phase whose composition is next to the one
that the candidate proposes for it; both lists are matched as a whole.
"""

# ruff: noqa: N815  units in the names of settings keep their case
from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.optimize import linear_sum_assignment

from loop.candidate import Candidate, Outcome
from loop.errors import InvalidCampaignError, InvalidInputError, unknown_name
from loop.space import DesignSpace
from simulators.annealing import Material, Microstructures, anneal, check_resolution
from simulators.correlation import mean_chord_length
from simulators.realisability import realisability
from simulators.setting_tables import parse_table
from simulators.solution import Solution
from simulators.thermodynamics import Equilibrium, equilibrium

FloatArray = NDArray[np.float64]

NAME = "heat-treatment"
EXAMPLE = (
    'for silver and copper about interactions = {"Ag-Cu" = [[36000, -10.4]]}, '
    "gradient_energy_J_m2_per_mol = 2.3e-15, "
    "diffusion = {Ag = [4.5e-5, 182e3], Cu = [1.2e-4, 193e3]}, pixel_size_nm = 0.4"
)
VERSION = "2"  # raise it when the same candidate would get other values
DISTANCE = "realisability"


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    interactions: dict[str, list[list[float]]] = Field(min_length=1)
    gradient_energy_J_m2_per_mol: float = Field(gt=0, allow_inf_nan=False)
    diffusion: dict[str, list[float]]
    pixel_size_nm: float = Field(gt=0, allow_inf_nan=False)
    temperature_K: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    time_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    temperature: str | None = Field(default=None, min_length=1)
    time: str | None = Field(default=None, min_length=1)
    seeds: int = Field(default=3, ge=2, le=100)
    mobility: Literal["local", "mean"] = "local"
    tolerance: float = Field(default=0.05, gt=0, le=1)
    max_steps: int = Field(default=20_000, ge=1)
    outputs: list[str] | None = Field(default=None, min_length=1)


def create(
    *, space: DesignSpace, settings: Mapping[str, Any], device: str = "cpu"
) -> HeatTreatment:
    """The simulator for a space of images and of two elements or more.

    Raises InvalidCampaignError for settings or a space that cannot be used.
    """
    table = _parsed(settings, space)
    try:
        return HeatTreatment(space, table, device)
    except InvalidInputError as error:
        raise InvalidCampaignError(f"{NAME}: {error}") from None


def _parsed(settings: Mapping[str, Any], space: DesignSpace) -> _Table:
    table = parse_table(f"{NAME}: ", _Table, settings, example=EXAMPLE)
    if space.image_shape is None or len(space.phases) < 2 or len(space.elements) < 2:
        raise InvalidCampaignError(
            f"{NAME}: the space has {len(space.phases)} phases, {len(space.elements)} elements and "
            f"{'no ' if space.image_shape is None else ''}images; it needs images of two phases or "
            "more and two elements or more"
        )
    if min(space.image_shape) < 4:
        raise InvalidCampaignError(
            f"{NAME}: images are {space.image_shape}; expected at least 4 x 4 pixels"
        )
    for fixed, named in (("temperature_K", "temperature"), ("time_s", "time")):
        name = getattr(table, named)
        if getattr(table, fixed) is None:
            _check_name(f"{named}: ", "process variable", name or fixed, space.process)
            continue
        if name is not None:
            raise InvalidCampaignError(f"{NAME}: {fixed} and {named} are both given; keep one")
        if fixed in space.process:
            raise InvalidCampaignError(
                f"{NAME}: {fixed} is given, and is a process variable of the space; keep one"
            )
    for name in table.outputs or ():
        _check_name("outputs: ", "output", name, _units(space))
    return table


def _check_name(where: str, kind: str, name: str, known: Any) -> None:
    if name not in known:
        raise InvalidCampaignError(f"{NAME}: {where}" + unknown_name(kind, name, known))


def _units(space: DesignSpace) -> dict[str, str]:
    names = {DISTANCE: "1"}
    names |= {_fraction(phase): "1" for phase in space.phases}
    return names | {_chord(phase): "px" for phase in space.phases}


def _fraction(phase: str) -> str:
    return f"recreated_{phase}_fraction"


def _chord(phase: str) -> str:
    return f"recreated_{phase}_chord_length_px"


def _material(table: _Table, elements: tuple[str, ...]) -> Material:
    pairs: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for key, terms in table.interactions.items():
        names = tuple(part.strip() for part in key.split("-"))
        if len(names) != 2 or not all(len(term) == 2 for term in terms):
            raise InvalidInputError(
                f"interactions: {key!r} is {terms}; expected two elements as 'Ag-Cu' and pairs "
                "[a, b] of a + b T"
            )
        pairs[names[0], names[1]] = [(term[0], term[1]) for term in terms]
    for element, data in table.diffusion.items():
        if len(data) != 2:
            raise InvalidInputError(
                f"diffusion of {element} is {data}; expected [D0 in m2/s, Q in J/mol]"
            )
    count = len(elements) - 1
    return Material(
        Solution(elements, pairs),
        table.gradient_energy_J_m2_per_mol * np.eye(count),
        {element: (data[0], data[1]) for element, data in table.diffusion.items()},
    )


@dataclass(frozen=True, slots=True)
class _Treatment:
    """What one candidate is to go through.

    ``order``: (p,), which phase of ``rest`` each phase of the space is. ``mismatch``: greatest
    difference of an atomic fraction between the two.
    """

    image: NDArray[np.uint8]
    composition: FloatArray
    temperature: float
    time: float
    rest: Equilibrium
    order: NDArray[np.int64]
    mismatch: float
    seeds: list[int]


class HeatTreatment:
    """Re-created microstructures of the candidates, and how far the proposed ones are from them.

    Infeasible, with the reason: compositions that the held solution would keep as one phase, whose
    equilibrium has another number of phases than the space, or whose waves the pixels do not
    resolve. Failed: what cannot be evaluated, and an evolution that ran out of steps.
    """

    name = NAME

    def __init__(self, space: DesignSpace, table: _Table, device: str) -> None:
        self.space, self.device, self._table = space, device, table
        self.material = _material(table, space.elements)
        units = _units(space)
        self.outputs: Mapping[str, str] = {
            name: units[name] for name in dict.fromkeys(table.outputs or units)
        }
        described = json.dumps(
            [
                space.phases,
                space.elements,
                sorted(self.outputs),
                table.model_dump(exclude={"outputs"}),
            ],
            sort_keys=True,
        )
        self.version = f"{VERSION}-{hashlib.sha256(described.encode()).hexdigest()[:8]}"

    def evaluate(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        """One outcome per candidate, in order; a candidate's seeds are those of its content."""
        outcomes: list[Outcome | None] = []
        treatments: list[_Treatment] = []
        for candidate in candidates:
            try:
                found = self._treatment(candidate)
            except (InvalidInputError, ArithmeticError) as error:
                found = Outcome.failed(str(error))
            outcomes.append(found if isinstance(found, Outcome) else None)
            if isinstance(found, _Treatment):
                treatments.append(found)
        done = iter(self._annealed(treatments))
        return [next(done) if outcome is None else outcome for outcome in outcomes]

    def _treatment(self, candidate: Candidate) -> _Treatment | Outcome:
        space = self.space
        if candidate.phases != space.phases or candidate.elements != space.elements:
            raise InvalidInputError(
                f"phases are {', '.join(candidate.phases)} and elements "
                f"{', '.join(candidate.elements) or 'none'}; expected {', '.join(space.phases)} "
                f"and {', '.join(space.elements)}"
            )
        image, proposed = candidate.microstructure, candidate.phase_compositions
        if image is None or proposed is None:
            raise InvalidInputError(
                f"candidate has no {'microstructure' if image is None else 'phase_compositions'}; "
                "a heat treatment needs both"
            )
        if image.shape != space.image_shape:
            raise InvalidInputError(f"image has shape {image.shape}; expected {space.image_shape}")
        temperature = self._process(candidate, "temperature_K", "temperature")
        time = self._process(candidate, "time_s", "time")
        overall = candidate.composition()
        overall = overall / overall.sum()
        rest = equilibrium(self.material.solution, overall, temperature)
        if len(rest.fractions) == 1:
            return Outcome("infeasible", reason=f"one phase at {temperature:g} K: nothing unmixes")
        if len(rest.fractions) != len(space.phases):
            return Outcome(
                "infeasible",
                reason=f"{len(rest.fractions)} phases in equilibrium at {temperature:g} K, the "
                f"space has {len(space.phases)}",
            )
        try:
            wavelength = check_resolution(
                self.material, overall, temperature, self._table.pixel_size_nm * 1e-9
            )
        except InvalidInputError as error:
            return Outcome("infeasible", reason=str(error))
        if math.isinf(wavelength):
            return Outcome(
                "infeasible",
                reason=f"outside the spinodal at {temperature:g} K: the solution is stable against "
                "small fluctuations, and nucleation is not followed",
            )
        apart = np.abs(proposed[:, None] - rest.compositions[None]).sum(2)
        _, order = linear_sum_assignment(apart)
        mismatch = float(np.abs(proposed - rest.compositions[order]).max())
        # The process and the composition make the noise, not the image that is compared with it.
        digest = hashlib.sha256(
            json.dumps([np.round(overall, 12).tolist(), temperature, time]).encode()
        ).digest()
        first = int.from_bytes(digest[:6], "big")
        seeds = [first + i for i in range(self._table.seeds)]
        return _Treatment(image, overall, temperature, time, rest, order, mismatch, seeds)

    def _process(self, candidate: Candidate, fixed: str, named: str) -> float:
        value = getattr(self._table, fixed)
        if value is not None:
            return float(value)
        name = getattr(self._table, named) or fixed
        if name not in candidate.process:
            given = ", ".join(candidate.process) or "none"
            raise InvalidInputError(
                f"process variable {name} is missing; the candidate has {given}"
            )
        value = candidate.process[name]
        if value <= 0:
            raise InvalidInputError(f"process variable {name} is {value:g}; expected a value > 0")
        return float(value)

    def _annealed(self, treatments: list[_Treatment]) -> list[Outcome]:
        if not treatments:
            return []
        k = self._table.seeds
        done = anneal(
            self.material,
            np.repeat([own.composition for own in treatments], k, axis=0),
            np.repeat([own.temperature for own in treatments], k),
            np.repeat([own.time for own in treatments], k),
            shape=treatments[0].image.shape,
            spacing_m=self._table.pixel_size_nm * 1e-9,
            seeds=[seed for own in treatments for seed in own.seeds],
            local_mobility=self._table.mobility == "local",
            tolerance=self._table.tolerance,
            max_steps=self._table.max_steps,
            device=self.device,
            dtype=torch.float32,
        )
        return [
            self._compared(own, done, slice(i * k, (i + 1) * k)) for i, own in enumerate(treatments)
        ]

    def _compared(self, own: _Treatment, done: Microstructures, mine: slice) -> Outcome:
        steps = [int(count) for count in done.steps[mine]]
        if not done.finished[mine].all():
            return Outcome.failed(
                f"phase field ran out of its {self._table.max_steps} steps before {own.time:g} s; "
                "raise max_steps or shorten the treatment",
                steps=steps,
            )
        # From the places at equilibrium to those of the space.
        place = np.argsort(own.order).astype(np.uint8)
        images = place[done.labels[mine]]
        values: dict[str, float] = {}
        found = realisability(own.image, images, len(self.space.phases))
        values[DISTANCE] = found.distance
        for number, phase in enumerate(self.space.phases):
            share = float((images == number).mean())
            if not 0 < share < 1:
                return Outcome(
                    "infeasible",
                    reason=f"{phase} {'is absent from' if share == 0 else 'fills'} what "
                    f"{own.time:g} s at {own.temperature:g} K give: too short to unmix, or too few "
                    "pixels",
                    diagnostics={"steps": steps},
                )
            values[_fraction(phase)] = share
            # 2 area / chords over all images, so that one without any of the phase counts as such.
            lengths = [float(length) for length in mean_chord_length(images, number)]
            shares = [float((image == number).mean()) for image in images]
            chords = sum(
                share / length
                for share, length in zip(shares, lengths, strict=True)
                if math.isfinite(length)
            )
            if chords == 0:
                return Outcome(
                    "infeasible",
                    reason=f"{phase} has no chords in what {own.time:g} s at {own.temperature:g} K "
                    "give: it fills each image that has any",
                )
            values[_chord(phase)] = sum(shares) / chords
        return Outcome(
            "ok",
            {name: values[name] for name in self.outputs},
            diagnostics={
                "realisability_scatter": found.scatter,
                "equilibrium_fractions": [float(v) for v in own.rest.fractions[own.order]],
                "composition_mismatch": own.mismatch,
                "steps": steps,
                "seeds": own.seeds,
            },
        )
