"""What a laboratory and the loop say to each other: work that is asked for, results that are told.

A simulator whose values people give answers ``pending`` until they have given them. The session
notes what it waits for in the ledger, people tell the ledger what they measured, and the
simulator looks there (``Consulting``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from loop.candidate import Candidate, Fidelity
from loop.errors import InvalidInputError
from loop.protocols import Simulator

AWAITED = "awaited"  # in a pending outcome's diagnostics: names of the properties to be measured
LARGEST_NUMBER = 1e300


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measured value of one candidate, with its standard uncertainty in the same unit.

    ``uncertainty``: one standard deviation (BIPM, Guide to the Expression of Uncertainty in
    Measurement, 2008); None: not known. Raises InvalidInputError for values that are not finite
    and a negative uncertainty.
    """

    id: str
    property: str
    value: float
    unit: str
    uncertainty: float | None = None

    def __post_init__(self) -> None:
        what = f"{self.property} of {self.id}"
        if not abs(self.value) <= LARGEST_NUMBER:
            raise InvalidInputError(f"{what} is {self.value}; expected a finite number")
        u = self.uncertainty
        if u is not None and not 0 <= u <= LARGEST_NUMBER:
            raise InvalidInputError(
                f"uncertainty of {what} is {u:g}; expected a finite number >= 0, or none where it "
                "is not known"
            )


@dataclass(frozen=True, slots=True)
class Wanted:
    """A property to be measured: its unit, and what is physically possible (may be infinite)."""

    unit: str
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Expected:
    """What a surrogate expected of a property when the design was planned.

    ``std``: one standard deviation of what would be measured. ``noise``: the part of it by which
    measurements scatter about the property itself; None: that part is not on record, and the
    deviation is that of the property alone.
    """

    mean: float
    std: float
    noise: float | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """One design of a work list: what is to be measured of it, and what has been told.

    ``rounds``: (arm, round) that wait for it or waited, in order.
    """

    candidate: Candidate
    wanted: Mapping[str, Wanted]
    told: Mapping[str, Measurement]
    rounds: tuple[tuple[str, int], ...]

    @property
    def open(self) -> tuple[str, ...]:
        """Properties that have not been told."""
        return tuple(name for name in self.wanted if name not in self.told)


@dataclass(frozen=True, slots=True)
class Told:
    """What became of results: how many are new, were told before alike, took another's place.

    ``scored``: of those replaced, how many had been scored with the earlier value; what was
    recorded then stays.
    """

    new: int
    same: int
    replaced: int
    scored: int


class Notebook(Protocol):
    """Where results are kept; the ledger is one."""

    def measurements(
        self, ids: Sequence[str]
    ) -> Mapping[str, Mapping[tuple[str, str], Measurement]]:
        """Candidate id -> (property, unit) -> newest result, of those that have any."""
        ...


@runtime_checkable
class Consulting(Protocol):
    """What a simulator offers besides the contract when its values are told by people."""

    outputs: Mapping[str, str]
    limits: Mapping[str, tuple[float, float]]  # physically possible values; a subset of outputs

    def consult(self, notebook: Notebook) -> None:
        """Look results up in ``notebook`` from now on."""
        ...


@runtime_checkable
class Knowing(Protocol):
    """What a simulator offers besides the contract when some designs were measured beforehand."""

    known: tuple[Candidate, ...]  # a campaign starts from them


def known_designs(simulators: Iterable[Simulator]) -> list[Candidate]:
    """The designs that simulators know beforehand, each once, in order."""
    parts = [part for part in parts_of(simulators) if isinstance(part, Knowing)]
    return list(dict.fromkeys(candidate for part in parts for candidate in part.known))


def parts_of(simulators: Iterable[Simulator]) -> list[Simulator]:
    """The simulators themselves, those that are joined into one (``parts``) one by one."""
    found: list[Simulator] = []
    for simulator in simulators:
        joined: Any = getattr(simulator, "parts", None)
        found += [simulator] if joined is None else parts_of(joined)
    return found


def laboratories(simulators: Iterable[Simulator]) -> tuple[Consulting, ...]:
    """Those that people answer for; what was told they look up in a ledger."""
    return tuple(part for part in parts_of(simulators) if isinstance(part, Consulting))


def fidelities(simulators: Iterable[Simulator]) -> dict[str, Fidelity]:
    """Property -> what its simulator declares as ``fidelity``; "simulated" where it declares none.

    Raises InvalidInputError for another word than simulated and measured.
    """
    found: dict[str, Fidelity] = {}
    for simulator in parts_of(simulators):
        fidelity: Any = getattr(simulator, "fidelity", "simulated")
        if fidelity not in ("simulated", "measured"):
            raise InvalidInputError(
                f"simulator {simulator.name} declares fidelity {fidelity!r}; expected "
                "'simulated' or 'measured'"
            )
        kind: Fidelity = fidelity
        found |= dict.fromkeys(simulator.outputs, kind)
    return found


def overall(found: Iterable[Fidelity]) -> Fidelity:
    """One word for several: themselves where they agree, "mixed" where they do not."""
    kinds = set(found)
    return kinds.pop() if len(kinds) == 1 else "mixed" if kinds else "simulated"


def wanted_of(laboratories: Iterable[Consulting]) -> dict[str, Wanted]:
    """Property -> what is wanted of it, over all laboratories."""
    anything = (float("-inf"), float("inf"))
    return {
        name: Wanted(unit, *laboratory.limits.get(name, anything))
        for laboratory in laboratories
        for name, unit in laboratory.outputs.items()
    }


def counted(n: int, what: str) -> str:
    """``"1 design"``, ``"2 designs"``."""
    return f"{n} {what}{'' if n == 1 else 's'}"
