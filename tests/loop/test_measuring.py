"""Outcomes, records and rows of designs that are simulated and then measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from loop.candidate import Candidate, Origin, Outcome, Record
from loop.errors import InvalidCampaignError
from loop.laboratory import Wanted
from loop.measuring import (
    Confirmation,
    as_measured,
    best_known,
    confirming_of,
    fidelities_of_measured,
    is_marked,
    joined,
    rows_by_fidelity,
    to_measure,
    wanted_again,
)
from loop.multi_fidelity import ORDER

SIMULATED = Outcome(
    "ok",
    {"hardness_HV": 400.0, "cost": 2.0},
    {"hardness_HV": (390.0, 410.0), "cost": (1.0, 3.0)},
    {"chain": {"steps": 3}},
    uncertainty={"hardness_HV": 9.0, "cost": 0.5},
)
MEASURED = Outcome("ok", {"hardness_HV": 450.0}, uncertainty={"hardness_HV": 5.0})


def design(x: float, details: Mapping[str, Any] | None = None) -> Candidate:
    return Candidate(
        phases=("alloy",),
        elements=("Ni", "Al"),
        phase_compositions=np.array([[1 - x, x]]),
        origin=Origin("joint-flow", 2.0, details or {"requested": {"cost": 1.0}}),
    )


def record(candidate: Candidate, outcome: Outcome, index: int = 1) -> Record:
    kind: Any = "simulated" if outcome is SIMULATED else "mixed"
    return Record(candidate, outcome, "chain+measured", "1", index, fidelity=kind)


def test_a_marked_design_is_the_same_design() -> None:
    candidate = design(0.2)
    marked = to_measure(candidate, ["hardness_HV"])
    assert marked == candidate
    assert (is_marked(marked), is_marked(candidate)) == (True, False)
    assert (marked.origin.source, marked.origin.guidance) == ("joint-flow", 2.0)
    assert dict(marked.origin.details) == {
        "requested": {"cost": 1.0},
        "to_measure": ["hardness_HV"],
    }


def test_both_values_are_in_the_outcome_of_a_measured_design() -> None:
    both = joined(SIMULATED, MEASURED)
    assert dict(both.values) == {
        "hardness_HV": 450.0,
        "simulated_hardness_HV": 400.0,
        "cost": 2.0,
    }
    # The bounds are of what was simulated; the measured value need not lie in them.
    assert dict(both.bounds) == {"simulated_hardness_HV": (390.0, 410.0), "cost": (1.0, 3.0)}
    assert dict(both.uncertainty) == {
        "hardness_HV": 5.0,
        "simulated_hardness_HV": 9.0,
        "cost": 0.5,
    }
    assert dict(both.diagnostics) == {"chain": {"steps": 3}}
    kinds = fidelities_of_measured(
        {"hardness_HV": "simulated", "cost": "simulated"}, ["hardness_HV"]
    )
    assert kinds == {
        "hardness_HV": "measured",
        "simulated_hardness_HV": "simulated",
        "cost": "simulated",
    }


def test_the_best_known_record_of_each_design() -> None:
    a, b, c = design(0.1), design(0.2), design(0.3)
    again = to_measure(a, ["hardness_HV"])
    known = [
        record(a, SIMULATED, 0),
        record(b, SIMULATED, 0),
        record(again, joined(SIMULATED, MEASURED), 1),
        record(c, SIMULATED, 1),
        record(to_measure(b, ["hardness_HV"]), Outcome("infeasible", reason="cracked"), 2),
        record(a, SIMULATED, 3),
    ]
    assert best_known(known) == [known[2], known[1], known[3]]
    assert best_known([known[0], known[1]]) == [known[0], known[1]]


def test_rows_of_both_kinds() -> None:
    a, b = design(0.1), design(0.2)
    bare = Outcome("ok", {"hardness_HV": 300.0})
    records = [
        record(a, SIMULATED),
        record(b, joined(SIMULATED, MEASURED)),
        record(design(0.3), joined(bare, MEASURED)),
    ]
    x, y, noise, levels = rows_by_fidelity(
        records, np.array([[0.1], [0.2], [0.3]]), ("cost", "hardness_HV")
    )
    assert x.tolist() == [[0.1], [0.2], [0.3], [0.2], [0.3]]
    nan = np.nan
    np.testing.assert_array_equal(
        y, [[2.0, 400.0], [2.0, 400.0], [nan, 300.0], [nan, 450.0], [nan, 450.0]]
    )
    assert noise.tolist() == [[0.5, 9.0], [0.5, 9.0], [0.0, 0.0], [0.0, 5.0], [0.0, 5.0]]
    low, high = ORDER.index("simulated"), ORDER.index("measured")
    assert levels.tolist() == [[low, low]] * 3 + [[high, high]] * 2


def test_what_was_only_simulated_is_learned_as_it_would_be_measured() -> None:
    records = [record(design(0.1), SIMULATED), record(design(0.2), joined(SIMULATED, MEASURED))]
    predicted = np.array([[9.0, 470.0], [9.0, 480.0]])
    first, second = as_measured(records, predicted, ("cost", "hardness_HV"), {"hardness_HV"})
    assert (dict(first.outcome.values), first.fidelity) == (
        {"hardness_HV": 470.0, "cost": 2.0},
        "predicted",
    )
    assert second is records[1]
    assert as_measured(records, predicted, ("cost", "hardness_HV"), set()) == records


class Chain:
    name, version = "chain", "1"

    def __init__(self, outputs: Mapping[str, str]) -> None:
        self.outputs = outputs

    def evaluate(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        return [SIMULATED for _ in candidates]


class Lab(Chain):
    limits: Mapping[str, tuple[float, float]] = {"hardness_HV": (0.0, 3000.0)}
    per_round, of_seeds = 2, 3

    def __init__(self, confirms: Mapping[str, str]) -> None:
        super().__init__({})
        self.name, self.confirms = "lab", confirms

    def confirm(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        return [MEASURED for _ in candidates]


OUTPUTS = {"hardness_HV": "HV", "cost": "1"}


def test_who_measures_what_is_simulated() -> None:
    lab = Lab({"hardness_HV": "HV"})
    assert confirming_of([Chain(OUTPUTS), lab]) == (lab,)
    assert confirming_of([Chain(OUTPUTS), Lab({})]) == ()
    assert wanted_again([lab]) == {"hardness_HV": Wanted("HV", 0.0, 3000.0)}
    as_simulator = Confirmation(lab)
    assert (as_simulator.name, dict(as_simulator.outputs)) == ("lab", {"hardness_HV": "HV"})
    assert as_simulator.evaluate([design(0.1)]) == [MEASURED]


@pytest.mark.parametrize(
    ("simulators", "message"),
    [
        ([Chain(OUTPUTS), Lab({"hardnes_HV": "HV"})], "did you mean 'hardness_HV'"),
        ([Chain(OUTPUTS), Lab({"hardness_HV": "GPa"})], "is in GPa, but simulated in HV"),
        (
            [Chain(OUTPUTS), Lab({"cost": "1"}), Lab({"cost": "1"})],
            "cost is measured by two; keep one",
        ),
        (
            [Chain(OUTPUTS | {"simulated_cost": "1"}), Lab({"cost": "1"})],
            "simulated_cost is the name of a simulated cost beside a measured one",
        ),
    ],
)
def test_laboratories_that_do_not_fit_are_refused(simulators: list[Any], message: str) -> None:
    with pytest.raises(InvalidCampaignError, match=message):
        confirming_of(simulators)
