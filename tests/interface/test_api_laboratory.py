"""Work list and results over HTTP: what it hands out and takes, all or nothing, and from whom."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from interface.api import create_api
from interface.api_laboratory import LARGEST_BODY
from interface.views import campaign_info, state_text
from loop.laboratory import Wanted
from loop.ledger import Ledger
from tests.interface.fixtures import NAME, propose, start_campaign
from tests.interface.test_api import ask, problem, read

WANTED: Mapping[str, Wanted] = {"hardness_GPa": Wanted("GPa", 0.0, 20.0)}
RESULTS = f"/api/campaigns/{NAME}/results"
WORK = f"/api/campaigns/{NAME}/work"
CSV = {"content-type": "text/csv"}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A campaign that waits for the hardness of three designs with pictures."""
    import numpy as np

    with Ledger.open(tmp_path / "ledger.db") as opened:
        number = start_campaign(opened)
        designs = propose("loop", 1, 3, np.random.default_rng(0))
        opened.plan_batch(number, "loop", 1, designs)
        opened.ask(number, {d.id: WANTED for d in designs})
        opened.wait(number, "waiting for 3 measurements of 3 designs")
        yield opened


@pytest.fixture
def app(ledger: Ledger) -> FastAPI:
    return create_api(ledger)


def ids(app: FastAPI) -> list[str]:
    return [item["id"] for item in read(app, WORK)["items"]]


def results(*values: tuple[str, float], **more: Any) -> dict[str, Any]:
    rows = [{"id": i, "property": "hardness_GPa", "value": v, **more} for i, v in values]
    return {"results": rows}


def test_the_work_list(app: FastAPI) -> None:
    found = read(app, WORK)
    assert (found["campaign"], found["open"]) == (NAME, 3)
    assert found["waiting"] == "waiting for 3 measurements of 3 designs"
    for item in found["items"]:
        assert item["rounds"] == ["loop 1"]
        assert item["measure"][0]["unit"] == "GPa"
        assert ask(app, item["image"]).headers["content-type"] == "image/png"
        assert set(item["phase_compositions"]) == {"gamma", "gamma_prime"}
    (info,) = read(app, "/api/campaigns")
    assert (info["state"], info["waiting"]) == ("waiting", found["waiting"])
    assert "no campaign" not in problem(ask(app, "/api/campaigns/nine/work"), 404)


def test_the_list_as_a_file_goes_out_and_comes_back(app: FastAPI, ledger: Ledger) -> None:
    answer = ask(app, WORK, params={"format": "csv"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert f'filename="{NAME}-work.csv"' in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    for i, row in enumerate(rows[:2]):
        assert row["image"] == f"/api/candidates/{row['id']}/image.png?scale=1"
        row["hardness_GPa [GPa]"] = f"{i + 1} ± 0.5"
    stream = io.StringIO()
    writer = csv.DictWriter(stream, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    told = ask(app, RESULTS, "POST", content=stream.getvalue(), headers=CSV).json()
    assert (told["new"], told["same"], told["open"]) == (2, 0, 1)
    assert told["text"] == "2 new results kept; still open: 1 measurement"
    found = ledger.measurements([row["id"] for row in rows])
    assert [m["hardness_GPa", "GPa"].uncertainty for m in found.values()] == [0.5, 0.5]
    again = ask(app, RESULTS, "POST", content=stream.getvalue(), headers=CSV).json()
    assert (again["new"], again["same"]) == (0, 2)


def test_results_as_json(app: FastAPI, ledger: Ledger) -> None:
    first, second, _ = ids(app)
    document = results((first, 1.5), (second[:8], 2.5), uncertainty=0.25)
    assert ask(app, RESULTS, "POST", json=document).json()["new"] == 2
    key = ("hardness_GPa", "GPa")
    assert ledger.measurements([second])[second][key].value == 2.5
    different = results((first, 1.75))
    assert "told before" in problem(ask(app, RESULTS, "POST", json=different), 400)
    assert ask(app, RESULTS, "POST", json=different | {"replace": True}).json()["replaced"] == 1
    assert ledger.measurements([first])[first][key].uncertainty is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "0" * 32}, "results.1: id '00000"),
        ({"value": 50.0}, "results.1: hardness_GPa is 50, which is outside the physical range"),
        ({"unit": "MPa"}, "results.1: hardness_GPa is in MPa; expected GPa"),
        ({"property": "hardness"}, "did you mean 'hardness_GPa'"),
        ({"uncertainty": -1.0}, "results.1: uncertainty of hardness_GPa"),
        ({"value": "1,5"}, "results.1.value: input should be a valid number"),
        ({"valu": 1.0}, "results.1.valu: extra inputs are not permitted"),
    ],
)
def test_one_bad_result_and_none_is_kept(
    app: FastAPI, ledger: Ledger, change: dict[str, Any], message: str
) -> None:
    known = ids(app)
    document = results((known[0], 1.0), (known[1], 2.0))
    document["results"][1] |= change
    assert message in problem(ask(app, RESULTS, "POST", json=document), 400)
    assert ledger.measurements(known) == {}


def test_what_is_no_result(app: FastAPI) -> None:
    def told(content: str | bytes, kind: str = "application/json") -> Any:
        return ask(app, RESULTS, "POST", content=content, headers={"content-type": kind})

    assert "invalid JSON" in problem(told("{"), 400)
    assert "results: list should have at least 1 item" in problem(told('{"results": []}'), 400)
    assert "CSV is empty" in problem(told("", "text/csv"), 400)
    assert "cannot read results CSV" in problem(told(b"\xff\xfe,\n", "text/csv"), 400)
    assert "more than" in problem(told(b"," * (LARGEST_BODY + 1), "text/csv"), 413)
    # What a form of another site may send without asking first.
    for kind in ("text/plain", "multipart/form-data", "application/x-www-form-urlencoded", ""):
        assert "expected application/json or text/csv" in problem(told("{}", kind), 415)
    assert problem(ask(app, "/api/campaigns/nine/results", "POST", json={}), 404)


def test_an_open_server_takes_none(ledger: Ledger) -> None:
    app = create_api(ledger, takes_results=False)
    document = results((ids(app)[0], 1.0))
    assert "loopback alone" in problem(ask(app, RESULTS, "POST", json=document), 403)
    assert read(app, WORK)["open"] == 3


def test_the_description_has_both_forms(app: FastAPI) -> None:
    path = read(app, "/api/openapi.json")["paths"]["/api/campaigns/{name}/results"]["post"]
    content = path["requestBody"]["content"]
    assert set(content) == {"application/json", "text/csv"}
    item = content["application/json"]["schema"]["properties"]["results"]["items"]
    assert set(item["required"]) == {"id", "property", "value"}
    assert "$ref" not in str(content)


def test_the_state_in_words(ledger: Ledger) -> None:
    info = campaign_info(ledger)
    assert state_text(info).startswith("waiting for 3 measurements of 3 designs, newest entry")
    with ledger.claim(1):
        assert campaign_info(ledger).state == "in progress"
