"""``correlation``: statistics of the image as properties that a campaign may ask for.

Settings, its table in the campaign file:

outputs     names of the outputs wanted, see below; default the mean chord length and the specific
            surface of every phase, and the distance where there is a reference
periodic    whether lines go on at the other side of the image, as effective properties take it to
            be; default true
reference   label image, folder of label images, or statistics file (``correlation_reference``);
            needed for two_point_distance; a relative path starts at the campaign's folder
labels      phases of the reference's pixel values 0, 1, …; default the space's phases in order
downsample  pixels of the reference, squared, that make one by majority; default 1

Outputs, PHASE a phase of the space, R a whole number of pixels:

PHASE_fraction                   area fraction
PHASE_chord_length_px            mean length of chords along rows and columns
PHASE_specific_surface_per_px    length of its boundary per area (``surface``)
PHASE_lineal_path_Rpx            probability that a segment of R px lies wholly in it, mean of
                                 rows and columns; R below the smaller side
PHASE_two_point_Rpx              probability that both ends of a segment of R px lie in it, mean
                                 over directions; R up to half the smaller side
two_point_distance               from the reference: root of the mean square, over phases and lags
                                 up to half the smaller side, of the difference of S2; never
                                 periodic, since micrographs are not
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from loop.candidate import Candidate, Outcome
from loop.errors import InvalidCampaignError, InvalidInputError, unknown_name
from loop.space import DesignSpace
from simulators import soft_statistics
from simulators.correlation import mean_chord_length, radial_mean, two_point
from simulators.correlation_paths import AXES, chord_counts, lineal_path
from simulators.correlation_reference import read_reference, two_point_curves
from simulators.setting_paths import from_folder
from simulators.setting_tables import parse_table
from simulators.soft_fields import checked_shares
from simulators.surface import specific_surface

NAME = "correlation"
VERSION = "1"  # raise it when the same candidate would get other values
DISTANCE = "two_point_distance"
FRACTION, CHORD, SURFACE = "fraction", "chord_length_px", "specific_surface_per_px"
LINEAL_PATH, TWO_POINT = "lineal_path", "two_point"
UNITS = {FRACTION: "1", CHORD: "px", SURFACE: "1/px", LINEAL_PATH: "1", TWO_POINT: "1"}
AT_DISTANCE = re.compile(rf"({LINEAL_PATH}|{TWO_POINT})_(\d+)px")
FloatArray = NDArray[np.float64]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    outputs: list[str] | None = Field(default=None, min_length=1)
    periodic: bool = True
    reference: str | None = Field(default=None, min_length=1)
    labels: list[str] | None = Field(default=None, min_length=1)
    downsample: int = Field(default=1, ge=1)


class _Wanted(NamedTuple):
    """One output: ``kind`` of ``UNITS`` of a phase (its number), at ``r`` px where it applies."""

    kind: str
    phase: int
    r: int = 0


def create(
    *,
    space: DesignSpace,
    settings: Mapping[str, Any],
    device: str = "cpu",  # noqa: ARG001  nothing here is worth a device
    folder: Path | None = None,
) -> Correlation:
    """The simulator for a design space with images.

    ``folder``: where relative paths in the settings start.
    Raises InvalidCampaignError for settings or a space that cannot be used, InvalidInputError for
    a reference that cannot.
    """
    table = parse_table(f"{NAME}: ", _Table, from_folder(settings, folder, "reference"))
    if space.image_shape is None:
        raise InvalidCampaignError(f"{NAME}: the space has no images; it needs images of phases")
    return Correlation(space, space.image_shape, table)


class Correlation:
    """Statistics of the phases in the candidates' images.

    ``reference``: (p, lags) two-point statistics compared with, or None.
    """

    name = NAME

    def __init__(self, space: DesignSpace, shape: tuple[int, int], table: _Table) -> None:
        self.space = space
        self.shape = shape
        self.periodic = table.periodic
        self.reference = _reference(space, shape, table)
        names = table.outputs
        if names is None:
            kinds = (CHORD, SURFACE)
            names = [f"{phase}_{kind}" for phase in space.phases for kind in kinds]
            names += [] if self.reference is None else [DISTANCE]
        self._wanted = {name: self._parsed(name) for name in names if name != DISTANCE}
        self._reach: dict[tuple[str, int], int] = {}  # of the curves, one for all their outputs
        for wanted in self._wanted.values():
            if wanted.kind in (LINEAL_PATH, TWO_POINT):
                key = (wanted.kind, wanted.phase)
                self._reach[key] = max(wanted.r, self._reach.get(key, 0))
        self._distance = DISTANCE in names
        if self._distance and self.reference is None:
            raise InvalidCampaignError(
                f"{NAME}: {DISTANCE} needs a reference; give reference = a label image, a folder "
                "of them or a statistics file"
            )
        self.outputs: Mapping[str, str] = {
            name: "1" if name == DISTANCE else UNITS[self._wanted[name].kind]
            for name in dict.fromkeys(names)
        }
        self.limits: Mapping[str, tuple[float, float]] = {
            name: (0.0, 1.0) for name, unit in self.outputs.items() if unit == "1"
        }
        curves = None if self.reference is None else self.reference.tolist()
        described = json.dumps(
            [space.phases, shape, sorted(self.outputs), self.periodic, curves], sort_keys=True
        )
        self.version = f"{VERSION}-{hashlib.sha256(described.encode()).hexdigest()[:8]}"

    def _parsed(self, name: str) -> _Wanted:
        phases = self.space.phases
        for number, phase in enumerate(phases):
            if not name.startswith(f"{phase}_"):
                continue
            kind = name.removeprefix(f"{phase}_")
            if kind in (FRACTION, CHORD, SURFACE):
                return _Wanted(kind, number)
            found = AT_DISTANCE.fullmatch(kind)
            if found is None:
                continue
            side = min(self.shape)
            greatest = side - 1 if found[1] == LINEAL_PATH else side // 2
            if int(found[2]) > greatest:
                raise InvalidCampaignError(
                    f"{NAME}: output {name!r} is beyond images of {self.shape[0]} x "
                    f"{self.shape[1]}; {found[1]} reaches to {greatest} px"
                )
            return _Wanted(found[1], number, int(found[2]))
        kinds = (FRACTION, CHORD, SURFACE, f"{LINEAL_PATH}_1px", f"{TWO_POINT}_1px")
        known = [f"{phase}_{kind}" for phase in phases for kind in kinds] + [DISTANCE]
        raise InvalidCampaignError(f"{NAME}: outputs: " + unknown_name("output", name, known))

    def evaluate(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        """One outcome per candidate, in order; what cannot be evaluated fails with its reason."""
        return [self._evaluate(candidate) for candidate in candidates]

    def _evaluate(self, candidate: Candidate) -> Outcome:
        try:
            image = self._image(candidate)
            curves = {
                (kind, phase): self._curve(image, kind, phase, reach)
                for (kind, phase), reach in self._reach.items()
            }
            values = {
                name: self._value(image, wanted, curves) for name, wanted in self._wanted.items()
            }
        except InvalidInputError as error:
            return Outcome.failed(str(error))
        if self._distance and self.reference is not None:
            gap = two_point_curves(image, len(self.space.phases)) - self.reference
            values[DISTANCE] = float(np.sqrt(np.mean(gap**2)))
        return Outcome("ok", values, diagnostics={"periodic": self.periodic})

    def properties_of(
        self,
        fields: Tensor | None,
        compositions: Tensor | None,
    ) -> Mapping[str, Tensor]:
        """All outputs with gradients, whatever the compositions; see ``Differentiable``.

        Not finite where ``evaluate`` fails: the chord length of a phase that is absent or fills
        the image. Raises InvalidInputError for fields that are not (n, p, h, w) shares.
        """
        shape = (len(self.space.phases), *self.shape)
        if fields is None or tuple(fields.shape[1:]) != shape:
            came = "no fields" if fields is None else f"fields of shape {tuple(fields.shape)}"
            raise InvalidInputError(f"{NAME}: {came}; expected (n, {', '.join(map(str, shape))})")
        soft = checked_shares(fields).double()
        of_phases: dict[str, Callable[[Tensor], Tensor]] = {
            FRACTION: soft_statistics.phase_fractions,
            CHORD: partial(soft_statistics.mean_chord_lengths, periodic=self.periodic),
            SURFACE: partial(soft_statistics.specific_surfaces, periodic=self.periodic),
        }
        tables = {
            kind: function(soft)
            for kind, function in of_phases.items()
            if any(wanted.kind == kind for wanted in self._wanted.values())
        }
        reach: dict[str, int] = {}
        for (kind, _), r in self._reach.items():
            reach[kind] = max(r, reach.get(kind, 0))
        if TWO_POINT in reach:
            tables[TWO_POINT] = soft_statistics.two_point_curves(soft, periodic=self.periodic)
        if LINEAL_PATH in reach:
            tables[LINEAL_PATH] = soft_statistics.lineal_paths(
                soft, reach[LINEAL_PATH], periodic=self.periodic
            )
        found = {}
        for name, (kind, phase, r) in self._wanted.items():
            column = tables[kind][:, phase]
            found[name] = column[:, r] if kind in reach else column
        if self._distance and self.reference is not None:
            curves = torch.as_tensor(self.reference)
            found[DISTANCE] = soft_statistics.two_point_distance(soft, curves)
        return found

    def _image(self, candidate: Candidate) -> NDArray[np.uint8]:
        if candidate.phases != self.space.phases:
            raise InvalidInputError(
                f"phases are {', '.join(candidate.phases)}; expected {', '.join(self.space.phases)}"
            )
        image = candidate.microstructure
        if image is None:
            raise InvalidInputError("candidate has no microstructure: it has no statistics")
        if image.shape != self.shape:
            raise InvalidInputError(f"image has shape {image.shape}; expected {self.shape}")
        return image

    def _value(
        self,
        image: NDArray[np.uint8],
        wanted: _Wanted,
        curves: Mapping[tuple[str, int], FloatArray],
    ) -> float:
        inside = image == wanted.phase
        if wanted.kind == FRACTION:
            return float(inside.mean())
        if wanted.kind == CHORD:
            return self._chord(image, wanted.phase)
        if wanted.kind == SURFACE:
            return float(specific_surface(inside, periodic=self.periodic))
        return float(curves[wanted.kind, wanted.phase][wanted.r])

    def _curve(self, image: NDArray[np.uint8], kind: str, phase: int, reach: int) -> FloatArray:
        """The statistic of a phase at 0 … ``reach`` px, or further."""
        inside = image == phase
        if kind == TWO_POINT:
            return radial_mean(two_point(inside, periodic=self.periodic), periodic=self.periodic)
        along_x, along_y = (
            lineal_path(inside, axis, longest=reach, periodic=self.periodic) for axis in AXES
        )
        return 0.5 * (along_x + along_y)

    def _chord(self, image: NDArray[np.uint8], phase: int) -> float:
        if self.periodic:
            length = float(mean_chord_length(image, phase))
        else:
            counts = [chord_counts(image, phase, axis, periodic=False) for axis in AXES]
            chords = sum(int(count.sum()) for count in counts)
            length = 2 * float((image == phase).sum()) / chords if chords else float("nan")
        if not np.isfinite(length):
            what = "fills" if length > 0 else "is absent from"
            raise InvalidInputError(f"{self.space.phases[phase]} {what} the image: no chords")
        return length


def _reference(space: DesignSpace, shape: tuple[int, int], table: _Table) -> FloatArray | None:
    if table.reference is None:
        for key in ("labels", "downsample"):
            if key in table.model_fields_set:
                raise InvalidCampaignError(
                    f"{NAME}: {key} is of a reference, and none is given; give one or drop it"
                )
        return None
    for name in table.labels or ():
        if name not in space.phases:
            raise InvalidCampaignError(
                f"{NAME}: labels: " + unknown_name("phase", name, space.phases)
            )
    return read_reference(
        Path(table.reference),
        phases=space.phases,
        lags=min(shape) // 2 + 1,
        labels=table.labels,
        factor=table.downsample,
    )
