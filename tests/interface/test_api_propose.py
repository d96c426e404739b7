"""Designs over HTTP: the same as on the command line, from this machine only."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI

from interface import api_propose
from interface.api import create_api
from loop.ledger import Ledger
from tests.campaigns import NAME
from tests.interface.test_api import ask, problem

PATH = f"/api/campaigns/{NAME}/propose"


@pytest.fixture
def ledger(plain_run: Path, in_scratch: Path) -> Iterator[Ledger]:
    shutil.copytree(plain_run, in_scratch, dirs_exist_ok=True)
    with Ledger.open(in_scratch / "runs" / NAME / "ledger.db", create=False) as opened:
        yield opened


def serving(ledger: Ledger, *, takes_results: bool = True) -> FastAPI:
    return create_api(ledger, takes_results=takes_results)


def post(app: FastAPI, **more: Any) -> Any:
    return ask(app, PATH, "POST", **more)


def test_designs_for_a_request(ledger: Ledger) -> None:
    wishes = {"density_g_per_cm3": 7.4, "gamma_prime_fraction": [0.4, 0.6]}
    answer = post(serving(ledger), json={"n": 2, "wishes": wishes, "score": True})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["campaign"], found["generator"], found["round"]) == (NAME, "joint-flow", 2)
    assert len(found["designs"]) == 2
    for design in found["designs"]:
        assert design["requested_density_g_per_cm3"] == 7.4
        assert 0.4 < design["requested_gamma_prime_fraction"] < 0.6
        image = np.array(design["microstructure"])
        assert image.shape == (16, 16)
        assert design["gamma_prime_fraction"] == pytest.approx(image.mean())
        assert design["gamma:Ni"] > 0


def test_further_conditions_and_their_place_in_the_document(ledger: Ledger) -> None:
    app = serving(ledger)
    further = [{"values": {"density_g_per_cm3": 7.8}, "weight": -0.5}]
    asked = {"n": 2, "wishes": {"density_g_per_cm3": 7.4}}
    led = post(app, json=asked | {"also": further})
    assert led.status_code == 200, led.text
    assert led.json()["also"] == [further[0] | {"labels": {}}]
    plain = post(app, json=asked).json()
    assert plain["also"] == []
    ids = {design["id"] for design in plain["designs"]}
    assert ids.isdisjoint(design["id"] for design in led.json()["designs"])
    schemas = app.openapi()["components"]["schemas"]
    assert set(schemas["ConditionIn"]["properties"]) == {"values", "labels", "weight"}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"n": 1000}, "n: input should be less than or equal to 256"),
        ({"wishes": {"densty_g_per_cm3": 8}}, "did you mean 'density_g_per_cm3'"),
        ({"wishes": {"density_g_per_cm3": [9, 8]}}, "the lower end first"),
        ({"guidence": 2}, "guidence: extra inputs are not permitted"),
        ({"also": [{"values": {"densty_g_per_cm3": 8}}]}, "did you mean 'density_g_per_cm3'"),
        ({"also": [{"weight": 20}]}, "also.0.weight: input should be less than or equal to 15"),
        ({"also": [{"weight": 1}]}, "asks for nothing; leave it out"),
        ({"steps": 2}, "says which student is to answer"),
        ({"student": True}, "has no student of any steps at guidance 2"),
    ],
)
def test_what_cannot_be_asked(ledger: Ledger, document: dict[str, Any], message: str) -> None:
    assert message in problem(post(serving(ledger), json=document), 400)


def test_where_it_does_not_answer(ledger: Ledger) -> None:
    app = serving(ledger)
    assert "loopback alone" in problem(post(serving(ledger, takes_results=False), json={}), 403)
    assert "expected application/json" in problem(post(app, data={"n": 1}), 415)
    large = b" " * (api_propose.LARGEST_BODY + 1)
    kind = {"content-type": "application/json"}
    assert "more than" in problem(post(app, content=large, headers=kind), 413)
    other = ask(app, "/api/campaigns/other/propose", "POST", json={})
    assert "other" in problem(other, 404)
    (Path("runs") / NAME / "started.json").write_text('{"campaign": "gone"}')
    assert "resume PATH" in problem(post(app, json={}), 409)
