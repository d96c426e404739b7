"""A laboratory as a simulator: asked, told, replayed; what is wrong with results is said."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from loop.candidate import Candidate
from loop.errors import InvalidCampaignError, InvalidInputError
from loop.space import DesignSpace
from simulators.contract import CHECKS, Check
from simulators.measured import Laboratory, Replay, create
from simulators.measured_files import Measurement

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


def results(candidate: Candidate, hardness: float = 1.5, **changes: Any) -> list[Measurement]:
    values = {"hardness_GPa": hardness, "resistivity_uOhm_cm": 2 * hardness}
    return [
        Measurement(
            **{
                "id": candidate.id,
                "property": name,
                "value": value,
                "unit": OUTPUTS[name],
                "uncertainty": 0.1,
                **changes,
            }
        )
        for name, value in values.items()
    ]


@pytest.fixture
def laboratory(tmp_path: Path) -> Laboratory:
    lab = Laboratory(OUTPUTS, tmp_path / "lab")
    lab.ask([A, B])
    return lab


# Asking


def test_the_work_list_holds_ids_and_recipes(laboratory: Laboratory) -> None:
    with laboratory.work_list.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["id"] for row in rows] == [A.id, B.id]
    for row, candidate in zip(rows, (A, B), strict=True):
        assert candidate.phase_compositions is not None
        made = [float(row[f"alloy:{e}"]) for e in ELEMENTS]
        assert made == candidate.phase_compositions[0].tolist()
        assert float(row["temperature_K"]) == 800.0


def test_nothing_is_asked_for_twice(laboratory: Laboratory) -> None:
    before = laboratory.work_list.read_text()
    assert laboratory.ask([B, A]) == []
    assert laboratory.work_list.read_text() == before
    assert laboratory.ask([C, A, C]) == [C.id]
    assert len(laboratory.pending()) == 6


def test_micrographs_are_written_beside_the_list(tmp_path: Path) -> None:
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4) % 2
    candidate = Candidate(phases=("a", "b"), microstructure=labels)
    lab = Laboratory(OUTPUTS, tmp_path)
    lab.ask([candidate])
    with lab.work_list.open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    with Image.open(tmp_path / row["image"]) as picture:
        np.testing.assert_array_equal(np.asarray(picture), labels)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    lab = Laboratory(OUTPUTS, tmp_path / "file")
    with pytest.raises(InvalidInputError, match=r"cannot write .*work\.csv"):
        lab.ask([A])
    assert lab.pending() == []


# Telling


def test_what_is_not_measured_fails_and_is_asked_for(laboratory: Laboratory) -> None:
    laboratory.tell(results(A))
    done, open_, new = laboratory.evaluate([A, B, C])
    assert dict(done.values) == {"hardness_GPa": 1.5, "resistivity_uOhm_cm": 3.0}
    assert done.diagnostics["standard_uncertainty"] == dict.fromkeys(OUTPUTS, 0.1)
    assert done.diagnostics["fidelity"] == "measured"
    assert open_.status == new.status == "failed"
    assert "not measured yet: hardness_GPa, resistivity_uOhm_cm" in open_.reason
    assert {id_ for id_, _, _ in laboratory.pending()} == {B.id, C.id}


def test_half_a_result_is_none(laboratory: Laboratory) -> None:
    laboratory.tell(results(A)[:1])
    (outcome,) = laboratory.evaluate([A])
    assert "not measured yet: resistivity_uOhm_cm;" in outcome.reason


def test_the_folder_is_all_that_lasts(laboratory: Laboratory) -> None:
    laboratory.tell(results(A, 1 / 3))
    again = Laboratory(OUTPUTS, laboratory.folder)
    assert again.version == laboratory.version
    assert again.pending() == laboratory.pending()
    assert again.evaluate([A])[0].values == laboratory.evaluate([A])[0].values


def test_the_version_tells_the_results(laboratory: Laboratory) -> None:
    versions = [laboratory.version]
    for measurement in results(A):
        laboratory.tell([measurement])
        versions.append(laboratory.version)
    assert len(set(versions)) == 3


def test_the_form_comes_back_filled_in(laboratory: Laboratory, tmp_path: Path) -> None:
    form = tmp_path / "form.csv"
    assert laboratory.write_form(form) == 4
    lines = form.read_text().splitlines()
    assert lines[1] == f"{A.id},hardness_GPa,,GPa,"
    lines[1] = f"{A.id},hardness_GPa,1.25,GPa,"  # the others stay empty: not measured yet
    form.write_text("\n".join(lines))
    assert laboratory.tell(form) == 1
    assert laboratory.write_form(form) == 3


numbers = st.floats(allow_nan=False, allow_infinity=False).filter(lambda v: abs(v) < 1e300)


@given(
    st.lists(
        st.tuples(
            st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3),
            numbers,
            numbers,
            st.none() | st.floats(0, 1e6),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_round_trip(drawn: list[tuple[list[float], float, float, float | None]]) -> None:
    """Asked, filled into the form, told from the file, read again: the very same numbers."""
    truth = {}
    candidates = []
    for i, (parts, hardness, resistivity, uncertainty) in enumerate(drawn):
        x = np.array(parts) / sum(parts)
        candidate = alloy(*x, temperature=300.0 + i)
        candidates.append(candidate)
        truth[candidate.id] = ((hardness, resistivity), uncertainty)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lab = Laboratory(OUTPUTS, folder / "lab")
        assert lab.ask(candidates) == list(truth)
        lab.write_form(folder / "form.csv")
        with (folder / "form.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        for row in rows:
            values, uncertainty = truth[row["id"]]
            row["value"] = repr(values[list(OUTPUTS).index(row["property"])])
            row["uncertainty"] = "" if uncertainty is None else repr(uncertainty)
        with (folder / "told.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        assert lab.tell(folder / "told.csv") == 2 * len(truth)
        for one in (lab, Laboratory(OUTPUTS, folder / "lab")):
            assert one.pending() == []
            for candidate, outcome in zip(candidates, one.evaluate(candidates), strict=True):
                values, uncertainty = truth[candidate.id]
                assert tuple(outcome.values.values()) == values
                told = outcome.diagnostics["standard_uncertainty"]
                assert set(told.values()) == {uncertainty}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "0" * 32}, r"result 1: id '0+' was not asked for \(2 are on .*work\.csv\)"),
        ({"property": "hardnes_GPa"}, "result 1: unknown property.*did you mean 'hardness_GPa'"),
        ({"unit": "HV"}, "result 1: hardness_GPa is in HV; expected GPa: convert"),
        ({"unit": ""}, "is in no unit; expected GPa"),
        ({"property": "hardness_GPa", "unit": "GPa"}, r"given twice \(first in result 1\)"),
    ],
)
def test_records_that_cannot_be_kept(
    laboratory: Laboratory, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        laboratory.tell(results(A, **change))
    assert not laboratory.results.exists()
    assert len(laboratory.pending()) == 4


def test_a_measurement_is_checked_when_it_is_made() -> None:
    with pytest.raises(InvalidInputError, match=r"uncertainty of hardness_GPa of .* is -0\.1"):
        results(A, uncertainty=-0.1)
    for value in (float("nan"), float("inf")):
        with pytest.raises(InvalidInputError, match="expected a finite number"):
            results(A, value)


def test_a_result_that_was_told_before(laboratory: Laboratory) -> None:
    laboratory.tell(results(A))
    kept = laboratory.results.read_bytes()
    with pytest.raises(InvalidInputError, match=r"told before, as 1\.5 GPa; leave the row out"):
        laboratory.tell(results(B) + results(A))
    assert laboratory.results.read_bytes() == kept
    assert laboratory.tell(results(B)) == 2


HEADER = "id,property,value,unit,uncertainty\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + '{a},hardness_GPa,"1,5",GPa,0.1\n', "line 2, column value: '1,5' has a decimal"),
        (HEADER + "{a},hardness_GPa,1,5,GPa,0.1\n", r"line 2: 6 fields.*use points, not commas"),
        (HEADER + "{a},hardness_GPa,1.5,GPa,-0.1\n", r"line 2, column uncertainty: got -0\.1"),
        (HEADER + "{a},hardness_GPa,1.5,GPa,0.1\n\n{a},hardness_GPa,1.6,GPa,\n", "line 4: .*twice"),
        (HEADER + "{a},hardness_GPa,1.5,MPa,0.1\n", "line 2: hardness_GPa is in MPa; expected GPa"),
        (HEADER + "xyz,hardness_GPa,1.5,GPa,0.1\n", "line 2: id 'xyz' was not asked for"),
        (HEADER + "{a},hardness_GPa,hard,GPa,\n", "column value: got 'hard'; expected a number"),
        (HEADER + "{a},hardness_GPa,inf,GPa,\n", "column value: got inf; expected a finite"),
        (HEADER + "{a},hardness_GPa,,GPa,0.1\n", "empty, but an uncertainty is given"),
        ("id,property,value\n", "lack the column 'unit'"),
        ("id,property,value,units\n", "unknown column 'units'; did you mean 'unit'"),
        ("id;property;value;unit\n", "separates columns by semicolons"),
        ("id,id,value,unit\n", "column 'id' appears twice"),
        ("", "is empty"),
        (HEADER + '{a},"hardness\n', "expected CSV"),
    ],
)
def test_files_that_cannot_be_kept(
    laboratory: Laboratory, tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "told.csv"
    path.write_text(text.replace("{a}", A.id))
    with pytest.raises(InvalidInputError, match=message):
        laboratory.tell(path)
    assert not laboratory.results.exists()


def test_a_file_that_is_not_there(laboratory: Laboratory, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no results at"):
        laboratory.tell(tmp_path / "told.csv")
    (tmp_path / "latin.csv").write_bytes(b"id,property\n\xff\xfe,1\n")
    with pytest.raises(InvalidInputError, match="cannot read results"):
        laboratory.tell(tmp_path / "latin.csv")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract_of_the_laboratory(check: Check, laboratory: Laboratory) -> None:
    laboratory.tell(results(A) + results(B, 2.5))
    check(laboratory, [A, B, C])


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
    assert second.diagnostics["standard_uncertainty"] == dict.fromkeys(OUTPUTS)
    assert first.diagnostics["standard_uncertainty"]["hardness_GPa"] == 0.05
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
        ("alloy:Ni", "alloy:Nickel", "Nickel"),
        ("0.7,0.2,0.1", "70,20,10", "these look like percentages"),
        (TABLE[TABLE.index("first") :], "", "has a header but no rows"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        replay(tmp_path, TABLE.replace(old, new, 1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"outputs": OUTPUTS}, "either folder .* or table"),
        ({"outputs": OUTPUTS, "folder": "a", "table": "b"}, "either folder .* or table"),
        ({"outputs": OUTPUTS, "folder": 3}, "as a path"),
        ({"folder": "a"}, "outputs is None; expected property = unit"),
        ({"outputs": {"hardness_GPa": ""}, "folder": "a"}, "expected property = unit"),
        ({"outputs": OUTPUTS, "foldr": "a"}, "did you mean 'folder'"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidCampaignError, match=message):
        create(space=SPACE, settings=settings)


def test_a_laboratory_from_settings(tmp_path: Path) -> None:
    made = create(space=SPACE, settings={"outputs": OUTPUTS, "folder": str(tmp_path)})
    assert isinstance(made, Laboratory)
    assert made.outputs == OUTPUTS


def test_files_that_contradict_each_other(laboratory: Laboratory) -> None:
    laboratory.tell(results(A))
    laboratory.work_list.write_text("id,alloy:Ag\n")
    with pytest.raises(InvalidInputError, match=r"results\.csv, line 2: id .* was not asked for"):
        Laboratory(OUTPUTS, laboratory.folder)
    laboratory.work_list.write_text("name\n")
    with pytest.raises(InvalidInputError, match="lacks the column 'id'"):
        Laboratory(OUTPUTS, laboratory.folder)
