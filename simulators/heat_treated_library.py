"""``heat-treatment`` library: designs from alloys that unmix while they are held at a temperature.

For every field an alloy, a temperature and a time are drawn, and ``annealing`` makes the image.
More designs stand on the same image: alloys of other compositions, treated the same, which have
the same amounts of phases; their tie-lines are their own, and how the phases lie is taken from the
field. Images are periodic, and area fractions count as molar ones (equal molar volumes), as in
``annealing``.

The phases of a design lie between its whole composition z and the ends y of its tie-line, at
z + s (y - z): s says how far the field has unmixed. It is the least-squares fit to the median
composition of the pixels of each phase, at most 1. With ``phases = "equilibrium"`` s is 1.

The first phase of the space is the one richest in its first element, and so on. Settings: see
``heat_treated_settings``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from loop.errors import InvalidCampaignError, InvalidInputError
from loop.made_designs import MadeDesigns
from loop.protocols import Progress, silent
from loop.space import DesignSpace
from simulators.annealing import LEAST_WAVELENGTH, Material, anneal, check_resolution
from simulators.heat_treated_settings import WHERE, Table, parse_settings
from simulators.solution_settings import load_solution
from simulators.thermodynamics import equilibrium

FloatArray = NDArray[np.float64]

NAME = "heat-treatment"
VERSION = "2"  # raise it when the same settings would give other designs
FIELDS = 14  # of a part, annealed together
SPARE = 5  # one more is annealed for so many, as some come to nothing and few cost as much as many
TRIES = 400  # alloys looked at for one that is wanted
FUTILE = 20  # alloys annealed for one that unmixes


def create(
    *, space: DesignSpace, settings: Mapping[str, Any], seed: int = 0, device: str = "cpu"
) -> HeatTreatedLibrary:
    """The source for a design space; raises InvalidCampaignError for what cannot be used."""
    table = parse_settings(settings, space)
    try:
        solution = load_solution(table.solution, space.elements)
        material = Material(solution, table.gradient_energy_J_m2_per_mol, table.diffusion)
    except (InvalidCampaignError, InvalidInputError) as error:
        raise InvalidCampaignError(f"{WHERE}{error}") from None
    return HeatTreatedLibrary(space, table, material, seed, device)


@dataclass(frozen=True, slots=True)
class _Alloy:
    composition: FloatArray
    temperature: float
    time: float


@dataclass(frozen=True, slots=True)
class _Field:
    """An image (h, w), the ends of its alloy's tie-line (p, e), and how far it has unmixed."""

    alloy: _Alloy
    labels: NDArray[np.uint8]
    ends: FloatArray
    unmixed: float


class HeatTreatedLibrary:
    """Designs of the ``heat-treatment`` source; see the module's text."""

    name = NAME
    version = VERSION

    def __init__(
        self, space: DesignSpace, table: Table, material: Material, seed: int, device: str
    ) -> None:
        self.space, self.table, self.material = space, table, material
        self.seed, self.device = seed, device
        self.parts = -(-table.fields // FIELDS)
        self.ranges = np.array([table.compositions[e] for e in space.elements])
        self.low, self.high = space.bound_arrays()
        assert space.image_shape is not None
        self.shape = space.image_shape

    def identity(self) -> dict[str, Any]:
        """Settings, seed and space as JSON."""
        space, solution = self.space, self.material.solution
        return {
            "settings": self.table.model_dump(mode="json", exclude={"solution"}),
            # Not the path of a file, whose contents may change.
            "interactions": {"-".join(p): terms for p, terms in solution.interactions.items()},
            "seed": self.seed,
            "phases": space.phases,
            "elements": space.elements,
            "shape": self.shape,
            "process": dict(space.process),
            "bounds": [self.low.tolist(), self.high.tolist()],
        }

    def make(self, part: int, *, progress: Progress = silent) -> MadeDesigns:
        """Up to ``FIELDS`` images and the designs on them; the same for every call.

        Raises InvalidInputError where next to none of the alloys drawn gives a design, with the
        most frequent reason.
        """
        rng = np.random.default_rng([self.seed, part])
        wanted = min(FIELDS, self.table.fields - part * FIELDS)
        images: list[NDArray[np.uint8]] = []
        own: list[int] = []
        rows: list[FloatArray] = []
        process: list[tuple[float, float]] = []
        refused: Counter[str] = Counter()
        annealed = 0
        while len(images) < wanted:
            if annealed > FUTILE * wanted:
                raise InvalidInputError(_nothing(refused, len(images)))
            missing = wanted - len(images)
            alloys = [self._alloy(rng, refused) for _ in range(missing + missing // SPARE)]
            annealed += len(alloys)
            for field in self._annealed(alloys, rng, refused):
                if len(images) == wanted:
                    break
                found = self._designs(field, rng, refused)
                if found:
                    own += [len(images)] * len(found)
                    rows += found
                    process += [(field.alloy.temperature, field.alloy.time)] * len(found)
                    images.append(field.labels)
        names = list(self.space.process)
        order = [names.index(self.table.temperature), names.index(self.table.time)]
        return MadeDesigns(
            images=np.stack(images),
            image=np.array(own, dtype=np.int64),
            compositions=np.stack(rows),
            process=np.array(process)[:, np.argsort(order)],
            variables=tuple(names),
        )

    def _alloy(
        self, rng: np.random.Generator, refused: Counter[str], hold: _Alloy | None = None
    ) -> _Alloy:
        """A random alloy that unmixes from itself, in waves that the image resolves.

        ``hold``: keep temperature and time of this one.
        """
        for _ in range(TRIES):
            x = rng.uniform(self.ranges[:, 0], self.ranges[:, 1])
            x[0] = 1 - x[1:].sum()
            if hold is None:
                hottest = self.space.process[self.table.temperature]
                shortest, longest = self.space.process[self.table.time]
                t = rng.uniform(*hottest)
                drawn = math.exp(rng.uniform(math.log(shortest), math.log(longest)))
                alloy = _Alloy(x, t, min(max(drawn, shortest), longest))
            else:
                alloy = _Alloy(x, hold.temperature, hold.time)
            if not self.ranges[0, 0] <= x[0] <= self.ranges[0, 1]:
                refused[f"{self.space.elements[0]} as the rest is outside its range"] += 1
            elif self._wave_is_seen(alloy, refused):
                return alloy
        raise InvalidInputError(_nothing(refused, 0))

    def _wave_is_seen(self, alloy: _Alloy, refused: Counter[str]) -> bool:
        try:
            length = check_resolution(
                self.material, alloy.composition, alloy.temperature, self.table.spacing_m
            )
        except InvalidInputError:
            length = 0.0
        if length == 0:
            refused[
                f"its waves are shorter than {LEAST_WAVELENGTH:g} pixels: refine spacing_m"
            ] += 1
        elif math.isinf(length):
            refused["it mixes at its temperature"] += 1
        elif length > min(self.shape) / 2:
            refused["its waves are longer than half the image: enlarge library.patch"] += 1
        else:
            return True
        return False

    def _annealed(
        self, alloys: list[_Alloy], rng: np.random.Generator, refused: Counter[str]
    ) -> list[_Field]:
        """Fields of those that came out as phases of the space."""
        done = anneal(
            self.material,
            np.stack([a.composition for a in alloys]),
            np.array([a.temperature for a in alloys]),
            np.array([a.time for a in alloys]),
            shape=self.shape,
            spacing_m=self.table.spacing_m,
            seeds=[int(s) for s in rng.integers(2**31, size=len(alloys))],
            fluctuation=self.table.fluctuation,
            max_steps=self.table.max_steps,
            device=self.device,
            dtype=torch.float32,
        )
        kept = []
        for i, (alloy, rest) in enumerate(zip(alloys, done.rest, strict=True)):
            labels = done.labels[i]
            if not done.finished[i]:
                refused["its steps ran out: raise max_steps or shorten the time"] += 1
            elif len(rest.fractions) != len(self.space.phases):
                refused[f"it has {len(rest.fractions)} phases in equilibrium"] += 1
            elif not self._as_at_rest(labels, rest.fractions):
                refused["it had not unmixed: raise the time"] += 1
            else:
                unmixed = _unmixed(done.fractions[i], labels, alloy.composition, rest.compositions)
                if self.table.phases == "equilibrium":
                    unmixed = 1.0
                kept.append(_Field(alloy, labels, rest.compositions, unmixed))
        return kept

    def _designs(
        self, field: _Field, rng: np.random.Generator, refused: Counter[str]
    ) -> list[FloatArray]:
        """(p, e) of the phases of up to ``designs_per_field`` designs on one image."""
        shares = self._shares(field.labels)
        found: list[FloatArray] = []
        ends = field.ends
        for _ in range(3 * self.table.designs_per_field):
            if len(ends) == len(shares):
                # Along a tie-line its ends stay, so there is an alloy with the image's fractions.
                whole = shares @ ends
                phases = whole + field.unmixed * (ends - whole)
                found += [phases] if self._fits(whole, phases, refused) else []
            if len(found) == self.table.designs_per_field:
                break
            other = self._alloy(rng, refused, hold=field.alloy)
            rest = equilibrium(self.material.solution, other.composition, other.temperature)
            ends = rest.compositions
        return found

    def _fits(self, whole: FloatArray, phases: FloatArray, refused: Counter[str]) -> bool:
        """Whether the phases are in the space and the whole alloy in its ranges."""
        if np.any((phases < self.low) | (phases > self.high)):
            refused["its phases lie outside [space.bounds]"] += 1
        elif np.any((whole < self.ranges[:, 0]) | (whole > self.ranges[:, 1])):
            refused["it leaves the ranges of compositions with the image's phase fractions"] += 1
        else:
            return True
        return False

    def _as_at_rest(self, labels: NDArray[np.uint8], fractions: FloatArray) -> bool:
        shares = self._shares(labels)
        apart = float(np.abs(shares - fractions).max())
        return bool(shares.min() > 0 and apart <= self.table.fraction_tolerance)

    def _shares(self, labels: NDArray[np.uint8]) -> FloatArray:
        """(p,) area fractions of the phases."""
        counts = np.bincount(labels.ravel(), minlength=len(self.space.phases))
        shares: FloatArray = counts / labels.size
        return shares


def _unmixed(
    fractions: FloatArray, labels: NDArray[np.uint8], whole: FloatArray, ends: FloatArray
) -> float:
    """s of fields (e, h, w), see the module's text; pixels of the interfaces hardly move it."""
    median = np.stack([np.median(fractions[:, labels == p], axis=1) for p in range(len(ends))])
    apart = ends - whole
    return float(min(1.0, np.sum((median - whole) * apart) / np.sum(apart**2)))


def _nothing(refused: Counter[str], kept: int) -> str:
    ((reason, count),) = refused.most_common(1)
    return (
        f"library: of {kept + refused.total()} alloys drawn only {kept} gave a design; {count} "
        f"times {reason}. Change compositions, [space.process] or library.settings"
    )
