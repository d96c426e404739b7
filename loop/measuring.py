"""Properties that a simulator gives for every design and a laboratory measures for a few.

A design is simulated when its round is played, and recorded with the simulated values. Some of
those on record are planned once more, marked as to be measured; they are asked for, and what is
told becomes a second record of the design. There the property's name means the measured value,
and the simulated one stands beside it under ``simulated_<property>``, so that both are shown as
what they are. A design is judged by its measured values where it has any (``best_known``); the
surrogate learns from both (``rows_by_fidelity``, ``loop.multi_fidelity``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from loop.candidate import Candidate, Fidelity, Origin, Outcome, Record
from loop.errors import InvalidCampaignError, unknown_name
from loop.laboratory import Wanted, parts_of
from loop.protocols import Simulator

FloatArray = NDArray[np.float64]
SIMULATED_PREFIX = "simulated_"
MARK = "to_measure"  # among the details of an origin: the properties that are to be measured


@runtime_checkable
class Confirming(Protocol):
    """What a simulator offers besides when it measures what another one simulates.

    ``confirms``: property -> unit, none of them among its ``outputs``. ``per_round``: how many
    designs an arm has measured in a round. ``of_seeds``: how many of the seeds are.
    """

    name: str
    version: str
    confirms: Mapping[str, str]
    limits: Mapping[str, tuple[float, float]]
    per_round: int
    of_seeds: int

    def confirm(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        """As ``Simulator.evaluate``, of the properties in ``confirms``."""
        ...


class Confirmation:
    """A laboratory's measurements as those of an ordinary simulator."""

    fidelity: Fidelity = "measured"

    def __init__(self, laboratory: Confirming) -> None:
        self.name, self.version = laboratory.name, laboratory.version
        self.outputs: Mapping[str, str] = laboratory.confirms
        self.evaluate = laboratory.confirm


def confirming_of(simulators: Iterable[Simulator]) -> tuple[Confirming, ...]:
    """Those that measure what others simulate.

    Raises InvalidCampaignError for a property that no simulator gives, or gives in another unit,
    one that two laboratories measure, and a name that a measured design needs.
    """
    parts = parts_of(simulators)
    units = {name: unit for part in parts for name, unit in part.outputs.items()}
    found = tuple(part for part in parts if isinstance(part, Confirming) and part.confirms)
    seen: set[str] = set()
    for part in found:
        for name, unit in part.confirms.items():
            where = f"{part.name}: confirms: "
            if name not in units:
                raise InvalidCampaignError(where + unknown_name("simulated property", name, units))
            if units[name] != unit:
                raise InvalidCampaignError(
                    f"{where}{name} is in {unit}, but simulated in {units[name]}; measure it in "
                    "the same unit"
                )
            if name in seen:
                raise InvalidCampaignError(f"{where}{name} is measured by two; keep one of them")
            if SIMULATED_PREFIX + name in units:
                raise InvalidCampaignError(
                    f"{where}{SIMULATED_PREFIX}{name} is the name of a simulated {name} beside a "
                    "measured one; rename the property that is called so"
                )
            seen.add(name)
    return found


def wanted_again(laboratories: Iterable[Confirming]) -> dict[str, Wanted]:
    """Property -> what is asked of it."""
    anything = (float("-inf"), float("inf"))
    return {
        name: Wanted(unit, *laboratory.limits.get(name, anything))
        for laboratory in laboratories
        for name, unit in laboratory.confirms.items()
    }


def to_measure(candidate: Candidate, properties: Iterable[str]) -> Candidate:
    """The same design, marked as to be measured."""
    origin = candidate.origin
    details = {**origin.details, MARK: sorted(properties)}
    return replace(candidate, origin=Origin(origin.source, origin.guidance, details))


def is_marked(candidate: Candidate) -> bool:
    """Whether this proposal of a design is there to have it measured."""
    return MARK in candidate.origin.details


def joined(simulated: Outcome, measured: Outcome) -> Outcome:
    """Both outcomes of one design, each ok, as one: see the module's text."""
    names = set(measured.values)

    def kept(found: Mapping[str, float]) -> dict[str, float]:
        return {SIMULATED_PREFIX * (name in names) + name: v for name, v in found.items()}

    bounds = {SIMULATED_PREFIX * (k in names) + k: v for k, v in simulated.bounds.items()}
    return Outcome(
        "ok",
        {**measured.values, **kept(simulated.values)},
        {**bounds, **measured.bounds},
        {**simulated.diagnostics, **measured.diagnostics},
        uncertainty={**kept(simulated.uncertainty), **measured.uncertainty},
    )


def fidelities_of_measured(
    simulated: Mapping[str, Fidelity], properties: Iterable[str]
) -> dict[str, Fidelity]:
    """Property -> fidelity in the record of a measured design."""
    found = dict(simulated)
    for name in properties:
        found[SIMULATED_PREFIX + name] = simulated.get(name, "simulated")
        found[name] = "measured"
    return found


def is_measured(record: Record, name: str) -> bool:
    """Whether the property's value in this record is the measurement of a simulated one."""
    return SIMULATED_PREFIX + name in record.outcome.values


def best_known(records: Iterable[Record]) -> list[Record]:
    """One record a design, in the order of their first: a measured one, else the first.

    Where a design was to be measured and could not be, what was simulated stands.
    """
    found: dict[str, Record] = {}
    for record in records:
        old = found.get(record.candidate.id)
        if old is None or _has_measured(record) > _has_measured(old):
            found[record.candidate.id] = record
    return list(found.values())


def _has_measured(record: Record) -> bool:
    return any(is_measured(record, name) for name in record.outcome.values)


def rows_by_fidelity(
    records: Sequence[Record], x: FloatArray, properties: Sequence[str]
) -> tuple[FloatArray, FloatArray, FloatArray, NDArray[np.intp]]:
    """What a surrogate learns from records with features (n, d): x, y, uncertainties, levels.

    A design with a measured and a simulated value has a row for each; places without a value are
    NaN. Levels are places in ``multi_fidelity.ORDER``.
    """

    from loop.multi_fidelity import ORDER  # brings torch, which readers of records need not

    def numbers(found: Sequence[Mapping[str, float]], missing: float) -> FloatArray:
        return np.array([[row.get(k, missing) for k in properties] for row in found])

    again = {
        i: [k for k in properties if is_measured(r, k)]
        for i, r in enumerate(records)
        if any(is_measured(r, k) for k in properties)
    }
    values, deviations = [], []
    for record in records:
        values.append(_simulated(record, record.outcome.values, properties))
        deviations.append(_simulated(record, record.outcome.uncertainty, properties))
    for i, names in again.items():
        outcome = records[i].outcome
        values.append({k: outcome.values[k] for k in names})
        deviations.append({k: outcome.uncertainty.get(k, 0.0) for k in names})
    levels = np.full((len(values), len(properties)), ORDER.index("simulated"), dtype=np.intp)
    levels[len(records) :] = ORDER.index("measured")
    y, noise = numbers(values, np.nan), numbers(deviations, 0.0)
    return np.concatenate([x, x[list(again)]]), y, noise, levels


def _simulated(
    record: Record, found: Mapping[str, float], properties: Sequence[str]
) -> dict[str, float]:
    """Of values or uncertainties those of what was simulated, where there are both."""
    named = {k: SIMULATED_PREFIX * is_measured(record, k) + k for k in properties}
    return {k: found[name] for k, name in named.items() if name in found}


def as_measured(
    records: Sequence[Record], predicted: FloatArray, properties: Sequence[str], names: set[str]
) -> list[Record]:
    """Records to learn targets from: a value that was only simulated becomes what it would be.

    ``predicted``: (n, k) the surrogate's means at the highest fidelity, ``names``: properties of
    which it has learned more than one. A simulator that is off would otherwise teach a generator
    to meet the simulated property and miss the measured one. Such records are never stored.
    """
    found = []
    for record, row in zip(records, predicted, strict=True):
        means = {
            k: float(v)
            for k, v in zip(properties, row, strict=True)
            if k in names and k in record.outcome.values and not is_measured(record, k)
        }
        if means:
            values = {**record.outcome.values, **means}
            record = replace(record, outcome=Outcome("ok", values), fidelity="predicted")
        found.append(record)
    return found
