"""A laboratory as a simulator: pending until people have told, replayed from a table at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loop.candidate import Candidate
from loop.errors import InvalidCampaignError, InvalidInputError
from loop.laboratory import AWAITED, Consulting, Measurement
from loop.space import DesignSpace
from simulators.contract import CHECKS, Check
from simulators.measured import Laboratory, Replay, create
from simulators.registry import create as create_by_name

OUTPUTS = {"hardness_GPa": "GPa", "resistivity_uOhm_cm": "uOhm cm"}
ELEMENTS = ("Ag", "Cu", "Ni")
SPACE = DesignSpace(
    phases=("alloy",), elements=ELEMENTS, process={"temperature_K": (300.0, 1300.0)}
)


def alloy(*x: float, temperature: float = 800.0, elements: tuple[str, ...] = ELEMENTS) -> Candidate:
    return Candidate(
        phases=("alloy",),
        elements=elements,
        phase_compositions=np.array([x]),
        process={"temperature_K": temperature},
    )


A, B, C = alloy(0.7, 0.2, 0.1), alloy(0.5, 0.5, 0.0), alloy(0.5, 0.5, 0.0, temperature=900.0)


class Book:
    """A notebook in memory."""

    def __init__(self, *results: Measurement) -> None:
        self.results = results

    def measurements(self, ids: Sequence[str]) -> dict[str, dict[tuple[str, str], Measurement]]:
        found: dict[str, dict[tuple[str, str], Measurement]] = {}
        for m in self.results:
            if m.id in ids:
                found.setdefault(m.id, {})[m.property, m.unit] = m
        return found


def results(candidate: Candidate, hardness: float = 1.5) -> tuple[Measurement, Measurement]:
    """Of which the second has no uncertainty."""
    return (
        Measurement(candidate.id, "hardness_GPa", hardness, "GPa", 0.1),
        Measurement(candidate.id, "resistivity_uOhm_cm", 2 * hardness, "uOhm cm"),
    )


# Asking and telling


def test_what_is_told_is_ok_and_the_rest_is_pending() -> None:
    laboratory = Laboratory(OUTPUTS)
    assert isinstance(laboratory, Consulting)
    assert [o.status for o in laboratory.evaluate([A, B])] == ["pending", "pending"]
    laboratory.consult(Book(*results(A), results(B)[1]))
    done, half, none = laboratory.evaluate([A, B, C])
    assert dict(done.values) == {"hardness_GPa": 1.5, "resistivity_uOhm_cm": 3.0}
    assert dict(done.uncertainty) == {"hardness_GPa": 0.1}
    assert (half.status, half.reason) == ("pending", "not measured yet: hardness_GPa")
    assert half.diagnostics[AWAITED] == ["hardness_GPa"]
    assert none.diagnostics[AWAITED] == list(OUTPUTS)
    assert laboratory.fidelity == "measured"


def test_a_result_in_another_unit_is_none() -> None:
    book = Book(Measurement(A.id, "hardness_GPa", 150.0, "HV"), results(A)[1])
    (outcome,) = Laboratory(OUTPUTS, notebook=book).evaluate([A])
    assert outcome.reason == "not measured yet: hardness_GPa"


def test_the_version_tells_what_is_measured_and_not_what_was_found() -> None:
    first = Laboratory(OUTPUTS)
    assert Laboratory(OUTPUTS, notebook=Book(*results(A))).version == first.version
    assert Laboratory({"hardness_GPa": "HV"}).version != first.version


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract_of_the_laboratory(check: Check) -> None:
    book = Book(*results(A), *results(B, 2.5))
    check(Laboratory(OUTPUTS, {"hardness_GPa": (0.0, 20.0)}, book), [A, B, C])


def test_a_measurement_is_checked_when_it_is_made() -> None:
    with pytest.raises(InvalidInputError, match=r"uncertainty of hardness_GPa of .* is -0\.1"):
        Measurement(A.id, "hardness_GPa", 1.5, "GPa", -0.1)
    for value in (float("nan"), float("inf")):
        with pytest.raises(InvalidInputError, match="expected a finite number"):
            Measurement(A.id, "hardness_GPa", value, "GPa")


# Replaying

TABLE = (
    "name,alloy:Ag,alloy:Cu,alloy:Ni,temperature_K,hardness_GPa,hardness_GPa_uncertainty,"
    "resistivity_uOhm_cm\n"
    "first,0.7,0.2,0.1,800,1.5,0.05,2.5\n"
    "second,0.5,0.5,0,800,1.1,,1.9\n"
    "third,0.333333,0.333333,0.333334,800,2.1,0,4\n"
)


def replay(tmp_path: Path, text: str = TABLE, space: DesignSpace = SPACE) -> Replay:
    path = tmp_path / "table.csv"
    path.write_text(text)
    made = create(space=space, settings={"outputs": OUTPUTS, "table": str(path)})
    assert isinstance(made, Replay)
    return made


def test_replay_finds_designs_by_composition_and_process(tmp_path: Path) -> None:
    # The elements in another order, one more that is absent, and a third that is no decimal.
    other = alloy(0.1, 0.0, 0.7, 0.2, elements=("Ni", "Pd", "Ag", "Cu"))
    third = alloy(1 / 3, 1 / 3, 1 / 3)
    first, again, second, last = replay(tmp_path).evaluate([A, other, B, third])
    assert dict(first.values) == {"hardness_GPa": 1.5, "resistivity_uOhm_cm": 2.5}
    assert again.values == first.values
    assert dict(second.uncertainty) == {}
    assert dict(first.uncertainty) == {"hardness_GPa": 0.05}
    assert replay(tmp_path).fidelity == "measured"
    assert last.values["hardness_GPa"] == 2.1


def test_what_the_table_lacks_is_infeasible_with_the_nearest_row(tmp_path: Path) -> None:
    away, hot = replay(tmp_path).evaluate([alloy(0.69, 0.21, 0.1), C])
    assert away.status == hot.status == "infeasible"
    assert "nearest row, line 2, is 0.01 away in atomic fraction" in away.reason
    assert "line 3, has the composition, but not temperature_K = 900" in hot.reason


def test_replay_by_id(tmp_path: Path) -> None:
    labels = np.array([[0, 1]], dtype=np.uint8)
    candidate = Candidate(phases=("a", "b"), microstructure=labels)
    space = DesignSpace(phases=("a", "b"), image_shape=(1, 2))
    table = f"id,hardness_GPa,resistivity_uOhm_cm\n{candidate.id},1,2\n"
    found, missing = replay(tmp_path, table, space).evaluate(
        [candidate, Candidate(phases=("a", "b"), microstructure=1 - labels)]
    )
    assert found.values["resistivity_uOhm_cm"] == 2
    assert "is not among the 1 rows" in missing.reason
    with pytest.raises(InvalidInputError, match="lines 2 and 3 have the same id"):
        replay(tmp_path, table + table.splitlines()[1], space)
    with pytest.raises(InvalidInputError, match="no column 'id'"):
        replay(tmp_path, "hardness_GPa,resistivity_uOhm_cm\n1,2\n", space)


def test_candidates_of_another_space_fail(tmp_path: Path) -> None:
    gold = alloy(0.5, 0.5, elements=("Ag", "Au"))
    cold = Candidate(phases=("alloy",), elements=ELEMENTS, phase_compositions=A.phase_compositions)
    foreign, lacking = replay(tmp_path).evaluate([gold, cold])
    assert foreign.status == lacking.status == "failed"
    assert "contains Au" in foreign.reason
    assert "no process variable temperature_K" in lacking.reason


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract_of_the_replay(check: Check, tmp_path: Path) -> None:
    check(replay(tmp_path), [A, B, C])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("second,0.5,0.5,0,", "second,0.7,0.2,0.1,", "lines 2 and 3 are the same design"),
        ("temperature_K,", "temperature,", "lacks the column 'temperature_K'"),
        (",resistivity_uOhm_cm", ",resistance", "unknown column 'resistivity_uOhm_cm'"),
        ("800,1.5,", '800,"1,5",', "line 2, column hardness_GPa: '1,5' has a decimal comma"),
        (",0.05,", ",-0.05,", r"hardness_GPa_uncertainty: got -0\.05"),
        ("800,1.1,", "800,1100,", r"line 3, column hardness_GPa: 1100 is outside .* \[0, 120\]"),
        ("800,1.1,", "800,-1.1,", r"line 3, column hardness_GPa: -1\.1 is outside the physical"),
        ("alloy:Ni", "alloy:Nickel", "Nickel"),
        ("0.7,0.2,0.1", "70,20,10", "these look like percentages"),
        (TABLE[TABLE.index("first") :], "", "has a header but no rows"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        replay(tmp_path, TABLE.replace(old, new, 1))


def test_a_relative_table_lies_in_the_campaigns_folder(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(TABLE)
    made = create(space=SPACE, settings={"outputs": OUTPUTS, "table": "table.csv"}, folder=tmp_path)
    assert made.evaluate([A])[0].values["hardness_GPa"] == 1.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"outputs": OUTPUTS, "table": 3}, "table is 3; expected the path of a CSV file"),
        ({}, "outputs is None; expected property = unit"),
        ({"outputs": {"hardness_GPa": ""}}, "expected property = unit"),
        ({"outputs": OUTPUTS, "tabel": "a"}, "did you mean 'table'"),
        ({"outputs": OUTPUTS, "limits": 3}, "limits is 3; expected property = "),
        ({"outputs": OUTPUTS, "limits": {"hardnes": [0, 1]}}, "did you mean 'hardness_GPa'"),
        ({"outputs": OUTPUTS, "limits": {"hardness_GPa": [0]}}, r"expected \[least, greatest\]"),
        ({"outputs": OUTPUTS, "limits": {"hardness_GPa": [2, 1]}}, "the smaller number first"),
        ({"outputs": OUTPUTS, "limits": {"hardness_GPa": [True, 2]}}, r"expected \[least"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidCampaignError, match=message):
        create(space=SPACE, settings=settings)


def test_a_laboratory_from_settings() -> None:
    # What is given counts in the place of the usual limits, to both sides.
    settings = {"outputs": OUTPUTS, "limits": {"hardness_GPa": [0.5, float("inf")]}}
    made = create_by_name("measured", space=SPACE, settings=settings)
    assert isinstance(made, Laboratory)
    assert made.outputs == OUTPUTS
    assert made.limits == {
        "hardness_GPa": (0.5, math.inf),
        "resistivity_uOhm_cm": (0.0, math.inf),
    }


def test_a_process_of_its_own_has_no_ledger() -> None:
    with pytest.raises(InvalidCampaignError, match=r"take measured out of simulators\.timeout_s"):
        create_by_name("measured", space=SPACE, settings={"outputs": OUTPUTS}, timeout_s=60.0)
