"""A laboratory that starts from a table: known designs answer at once, people for the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from loop.candidate import Candidate
from loop.errors import InvalidCampaignError, InvalidInputError
from loop.laboratory import AWAITED, Consulting, Knowing, Measurement, known_designs
from loop.space import DesignSpace
from simulators import registry
from simulators.contract import CHECKS
from simulators.measured_known import KnownLaboratory

SPACE = DesignSpace(("alloy",), ("Al", "Ni"))
OUTPUTS = {"hardness_HV": "HV"}
TABLE = "alloy:Al,alloy:Ni,hardness_HV,hardness_HV_uncertainty\n0.25,0.75,300,10\n0.5,0.5,400,\n"


class Told:
    """A notebook that knows one design."""

    def __init__(self, candidate: Candidate, value: float) -> None:
        self.measurement = Measurement(candidate.id, "hardness_HV", value, "HV", 5.0)

    def measurements(
        self, ids: Sequence[str]
    ) -> Mapping[str, Mapping[tuple[str, str], Measurement]]:
        m = self.measurement
        return {m.id: {(m.property, m.unit): m}} if m.id in ids else {}


def alloy(al: float, **labels: str) -> Candidate:
    x = np.array([[al, 1 - al]])
    return Candidate(SPACE.phases, SPACE.elements, None, x, labels=labels)


def laboratory(
    folder: Path, text: str = TABLE, space: DesignSpace = SPACE, **more: object
) -> KnownLaboratory:
    (folder / "alloys.csv").write_text(text)
    settings = {"outputs": OUTPUTS, "table": "alloys.csv", "otherwise": "ask", **more}
    found = registry.create("measured", space=space, settings=settings, folder=folder)
    assert isinstance(found, KnownLaboratory)
    return found


def test_known_designs_answer_at_once_and_others_are_asked_for(tmp_path: Path) -> None:
    known, other, again = laboratory(tmp_path).evaluate([alloy(0.25), alloy(0.4), alloy(0.5)])
    assert (known.status, known.values, known.uncertainty) == (
        "ok",
        {"hardness_HV": 300.0},
        {"hardness_HV": 10.0},
    )
    assert other.status == "pending"
    assert other.diagnostics[AWAITED] == ["hardness_HV"]
    assert (again.values["hardness_HV"], dict(again.uncertainty)) == (400.0, {})


def test_what_people_have_told_is_taken_where_the_table_has_nothing(tmp_path: Path) -> None:
    found = laboratory(tmp_path)
    found.consult(Told(alloy(0.4), 350.0))
    assert found.evaluate([alloy(0.4)])[0].values == {"hardness_HV": 350.0}
    found.consult(Told(alloy(0.25), 999.0))
    assert found.evaluate([alloy(0.25)])[0].values == {"hardness_HV": 300.0}


def test_it_offers_its_designs_and_consults_and_is_measured(tmp_path: Path) -> None:
    found = laboratory(tmp_path)
    assert isinstance(found, Knowing)
    assert isinstance(found, Consulting)
    assert found.fidelity == "measured"
    assert known_designs([found, found]) == [alloy(0.25), alloy(0.5)]
    assert [c.origin.source for c in found.known] == ["measured", "measured"]
    for check in CHECKS:
        check(found, [alloy(0.25), alloy(0.5)])


def test_labels_and_process_variables_are_part_of_the_design(tmp_path: Path) -> None:
    space = DesignSpace(
        SPACE.phases, SPACE.elements, process={"t_K": (0, 2000)}, labels={"route": ("CAST", "ANN")}
    )
    text = "alloy:Al,alloy:Ni,t_K,route,hardness_HV\n0.5,0.5,900,CAST,1\n0.5,0.5,900,ANN,2\n"
    found = laboratory(tmp_path, text, space)
    assert [dict(c.labels) for c in found.known] == [{"route": "CAST"}, {"route": "ANN"}]
    assert [dict(c.process) for c in found.known] == [{"t_K": 900.0}] * 2
    values = [o.values["hardness_HV"] for o in found.evaluate(found.known)]
    assert values == [1.0, 2.0]


def test_the_version_changes_with_the_table(tmp_path: Path) -> None:
    first = laboratory(tmp_path).version
    assert laboratory(tmp_path).version == first
    assert laboratory(tmp_path, TABLE.replace("300", "301")).version != first


def test_settings_and_tables_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidCampaignError, match="otherwise is 'guess'; expected"):
        laboratory(tmp_path, otherwise="guess")
    with pytest.raises(InvalidCampaignError, match="give the table, or leave otherwise out"):
        registry.create("measured", space=SPACE, settings={"outputs": OUTPUTS, "otherwise": "ask"})
    with pytest.raises(InvalidInputError, match="no column id"):
        laboratory(tmp_path, "id,hardness_HV\nabc,1\n")
