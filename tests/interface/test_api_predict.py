"""Expectations over HTTP and of designs with micrographs: the same as on the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from interface import api_predict
from interface.api import create_api
from interface.cli import app as commands
from loop.ledger import Ledger
from tests.campaigns import NAME
from tests.interface.test_api import ask, problem

PATH = f"/api/campaigns/{NAME}/predict"
ALLOY = "gamma: Ni70Al6Cr24 at%; gamma_prime: Ni74Al22Cr4 at%"


@pytest.fixture
def ledger(plain_run: Path, in_scratch: Path) -> Iterator[Ledger]:
    shutil.copytree(plain_run, in_scratch, dirs_exist_ok=True)
    with Ledger.open(in_scratch / "runs" / NAME / "ledger.db", create=False) as opened:
        yield opened


def post(ledger: Ledger, *, takes_results: bool = True, **more: Any) -> Any:
    return ask(create_api(ledger, takes_results=takes_results), PATH, "POST", **more)


def test_designs_by_id_as_the_command_says(ledger: Ledger) -> None:
    ids = list(ledger.evaluations(ledger.campaign_id(), where="arm = 'loop'")["id"][:3])
    answer = post(ledger, json={"designs": ids, "score": True})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["campaign"] == NAME
    assert found["fidelity"]["density_g_per_cm3"] == "simulated"
    assert [d["id"] for d in found["designs"]] == ids
    for design in found["designs"]:
        record = ledger.candidate_records(design["id"]).set_index("property")["value"]
        assert design["density_g_per_cm3"] == record["density_g_per_cm3"]
        off = abs(design["predicted_density_g_per_cm3"] - design["density_g_per_cm3"])
        assert off < 0.02  # of records that it was fitted to
        assert design["difference"] == 0
    typed = CliRunner().invoke(commands, ["predict", NAME, *ids, "--score", "--json"])
    assert typed.exit_code == 0, typed.output
    assert json.loads(typed.stdout) == found


def test_a_composition_needs_a_micrograph(ledger: Ledger) -> None:
    told = problem(post(ledger, json={"designs": [ALLOY]}), 400)
    assert "2 phases (gamma, gamma_prime) and a micrograph, which compositions do not say" in told
    drawn = post(ledger, json={"designs": [ALLOY], "microstructures": True, "score": True})
    assert drawn.status_code == 200, drawn.text
    (design,) = drawn.json()["designs"]
    assert design["gamma:Ni"] == pytest.approx(0.7)
    assert design["status"] == "ok"


@pytest.mark.parametrize(
    ("document", "status", "message"),
    [
        ({"designs": []}, 400, "designs: list should have at least 1 item"),
        ({"design": ["AgCu"]}, 400, "designs: field required"),
        (
            {"designs": ["gamma: NiW; gamma_prime: Ni3Al"], "microstructures": True},
            400,
            "W is not among the campaign's elements (Ni, Al, Cr)",
        ),
        ({"designs": ["ffff"]}, 404, "no candidate has an id"),
    ],
)
def test_what_cannot_be_asked(
    ledger: Ledger, document: dict[str, Any], status: int, message: str
) -> None:
    assert message in problem(post(ledger, json=document), status)


def test_where_it_does_not_answer(ledger: Ledger) -> None:
    document = {"designs": ["AgCu"]}
    assert "loopback alone" in problem(post(ledger, takes_results=False, json=document), 403)
    assert "expected application/json" in problem(post(ledger, data={"designs": "AgCu"}), 415)
    large = b" " * (api_predict.LARGEST_BODY + 1)
    kind = {"content-type": "application/json"}
    assert "more than" in problem(post(ledger, content=large, headers=kind), 413)
    other = ask(create_api(ledger), "/api/campaigns/other/predict", "POST", json=document)
    assert "other" in problem(other, 404)
    (Path("runs") / NAME / "started.json").write_text('{"campaign": "gone"}')
    assert "resume PATH" in problem(post(ledger, json=document), 409)
