"""A campaign that waits for people, under the workflow engine and on a schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.sessions import Key, held, release
from interface.cli import app
from loop.laboratory import Measurement
from loop.session import Session
from tests.flows.test_run import start
from tests.laboratories import fill_in, write_alloys

GIVEN = ("alloys", "ledger.db")


@pytest.fixture
def session(in_scratch: Path) -> Iterator[Session]:
    write_alloys(in_scratch / "alloys")
    key = Key.of(*GIVEN)
    yield held(key)
    held(key).ledger.close()
    release(key)


def measure(session: Session) -> None:
    """Tell what the work list asks for."""
    session.ledger.tell(
        session.campaign_id,
        [
            ("test", Measurement(w.candidate.id, "hardness_GPa", 1.0 + 0.01 * i, "GPa"))
            for i, w in enumerate(session.ledger.work(session.campaign_id))
        ],
    )


def test_a_firing_while_the_campaign_waits_does_nothing(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stages as plain functions: what is asked here is when they are called."""
    from flows import campaign, deployment, tasks

    calls: list[str] = []
    for name in ("prepare", "plan", "evaluate", "finish_round"):
        monkeypatch.setattr(tasks, name, _Plain(name, getattr(tasks, name).fn, calls))
    monkeypatch.setattr(campaign, "publish", lambda _: None)
    fire = deployment.run_one_round.fn
    first = fire(*GIVEN)
    assert (first.name, first.message) == ("Waiting", "waiting for 10 measurements of 10 designs")
    assert calls == ["prepare", "evaluate", "evaluate", "evaluate"]
    before = session.ledger.campaigns()
    calls.clear()
    again = fire(*GIVEN)
    assert (again.name, again.message) == (first.name, first.message)
    assert calls == []
    assert session.ledger.campaigns().equals(before)
    measure(session)
    second = fire(*GIVEN)
    assert second.message == "waiting for 6 measurements of 6 designs"
    assert [calls.count(name) for name in ("plan", "finish_round")] == [2, 1]
    measure(session)
    assert fire(*GIVEN).message == "round 1 is done"
    assert fire(*GIVEN).message == "waiting for 6 measurements of 6 designs"
    measure(session)
    assert fire(*GIVEN).message == "round 2 is done; finished, rounds: all 2 are done"


class _Plain:
    """A task without the engine: called, or mapped over its last argument."""

    def __init__(self, name: str, function: Callable[..., object], calls: list[str]) -> None:
        self.name, self.function, self.calls = name, function, calls

    def __call__(self, *given: object) -> object:
        self.calls.append(self.name)
        return self.function(*given)

    def map(self, *given: Any) -> list[_Done]:
        *same, each = given
        return [_Done(self(*(value.value for value in same), value)) for value in each]


@dataclass
class _Done:
    value: object

    def result(self) -> object:
        return self.value


def test_under_the_engine_it_waits_with_exit_code_zero(in_scratch: Path) -> None:
    write_alloys(in_scratch / "alloys", rounds=1)
    work = in_scratch / "runs" / "alloys" / "work"

    def plain(*words: str) -> str:
        done = CliRunner().invoke(app, list(words))
        assert done.exit_code == 0, done.output
        return done.stdout

    plain("run", "alloys", "--plain")
    assert fill_in(work / "round-0.csv", in_scratch / "told.csv") == 10
    plain("tell", "alloys", "told.csv")
    run = start("resume", "alloys", cwd=in_scratch)
    out, err = run.communicate()
    assert run.returncode == 0, err
    assert "Stopped: waiting for 6 measurements of 6 designs" in out
    assert fill_in(work / "round-1.csv", in_scratch / "told.csv") == 6
    plain("tell", "alloys", "told.csv")
    assert "Stopped: rounds: all 1 are done" in plain("resume", "alloys", "--plain")
