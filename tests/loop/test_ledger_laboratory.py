"""Work that is asked for and results that are told, in the ledger: all or none, once, for good."""

from __future__ import annotations

import contextlib
import math
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

import loop
from loop.candidate import Outcome
from loop.errors import InvalidInputError, LedgerError
from loop.laboratory import Measurement, Told, Wanted
from loop.ledger import Ledger
from loop.targets import Maximise, Targets
from tests.loop.ledger_fixtures import campaign, design

HARDNESS = Wanted("GPa", 0.0, 20.0)
STRAIN = Wanted("1", -math.inf, math.inf)
WANTED: Mapping[str, Wanted] = {"hardness_GPa": HARDNESS, "strain": STRAIN}
DESIGNS = [design(i) for i in range(4)]
A, B, C, _ = (d.id for d in DESIGNS)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger.db") as opened:
        asked(opened)
        yield opened


def asked(ledger: Ledger, name: str = "alloy") -> int:
    """A campaign with four planned designs, of which it asks for three."""
    number = campaign(ledger, name)
    ledger.plan_batch(number, "loop", 1, DESIGNS)
    ledger.ask(number, {d.id: WANTED for d in DESIGNS[:3]})
    return number


def result(id_: str = A, value: float = 1.5, **changes: Any) -> Measurement:
    given = {"id": id_, "property": "hardness_GPa", "value": value, "unit": "GPa"}
    return Measurement(**{**given, **changes})


def tell(ledger: Ledger, *results: Measurement, replace: bool = False) -> Told:
    named = [(f"row {i}", m) for i, m in enumerate(results, start=1)]
    return ledger.tell(1, named, replace=replace)


def test_the_work_list_in_the_order_of_asking(ledger: Ledger) -> None:
    ledger.ask(1, {A: WANTED, DESIGNS[3].id: {"strain": STRAIN}})  # the first is asked for already
    work = ledger.work(1)
    assert [w.candidate.id for w in work] == [d.id for d in DESIGNS]
    assert [w.candidate.elements for w in work] == [d.elements for d in DESIGNS]
    assert dict(work[0].wanted) == WANTED
    assert work[0].open == ("hardness_GPa", "strain")
    assert work[3].open == ("strain",)
    assert {w.rounds for w in work} == {(("loop", 1),)}
    assert ledger.open_requests(1) == {A: 2, B: 2, C: 2, DESIGNS[3].id: 1}
    with pytest.raises(LedgerError, match=f"candidate {design(99).id} is not in the ledger"):
        ledger.ask(1, {design(99).id: WANTED})


def test_what_is_told_is_there_exactly(ledger: Ledger) -> None:
    first, second = result(A, 1 / 3, uncertainty=0.01), result(B, 2.0)
    assert tell(ledger, first, second) == Told(new=2, same=0, replaced=0, scored=0)
    key = ("hardness_GPa", "GPa")
    assert ledger.measurements([A, B, C]) == {A: {key: first}, B: {key: second}}
    work = {w.candidate.id: w for w in ledger.work(1)}
    assert work[A].told == {"hardness_GPa": first}
    assert work[A].open == ("strain",)
    assert ledger.open_requests(1) == {A: 1, B: 1, C: 2}
    tell(ledger, result(A, -0.002, property="strain", unit="1"))
    assert [w.candidate.id for w in ledger.work(1)] == [B, C]
    assert [w.candidate.id for w in ledger.work(1, told=True)] == [A, B, C]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (result("0" * 32), r"row 2: id '0+' is not on the work list, which has 3 designs"),
        (result(DESIGNS[3].id), "row 2: id .* is not on the work list"),  # planned, not asked for
        (result(B, property="hardnes_GPa"), "row 2: unknown property.*did you mean 'hardness_GPa'"),
        (result(B, unit="MPa"), "row 2: hardness_GPa is in MPa; expected GPa: convert"),
        (result(B, unit=""), "is in no unit; expected GPa"),
        (result(B, -1.0), "row 2: hardness_GPa is -1, which is outside the physical range 0 to 20"),
        (result(B, 1500.0), "outside the physical range 0 to 20 GPa; correct the value or its"),
        (result(A, 1.6), r"row 2: hardness_GPa of .* is given twice, as 1\.5 GPa \(row 1\)"),
        (result(A, uncertainty=0.1), r"given twice, as 1\.5 GPa \(row 1\) and as 1\.5 ± 0\.1 GPa"),
    ],
)
def test_one_bad_result_and_none_is_kept(ledger: Ledger, wrong: Measurement, message: str) -> None:
    for replace in (False, True):
        with pytest.raises(InvalidInputError, match=message):
            tell(ledger, result(A), wrong, result(C), replace=replace)
    assert ledger.measurements([A, B, C]) == {}


def test_the_same_again_is_passed_over_and_another_needs_a_word(ledger: Ledger) -> None:
    tell(ledger, result(A, uncertainty=0.1))
    again = result(A, uncertainty=0.1)
    assert tell(ledger, again, again, result(B)) == Told(new=1, same=1, replaced=0, scored=0)
    with pytest.raises(
        InvalidInputError, match=r"told before as 1\.5 ± 0\.1 GPa, now 1\.6 GPa; .*--replace"
    ):
        tell(ledger, result(C), result(A, 1.6))
    assert C not in ledger.measurements([C])
    assert tell(ledger, result(A, 1.6), replace=True) == Told(0, 0, replaced=1, scored=0)
    assert ledger.measurements([A])[A]["hardness_GPa", "GPa"].value == 1.6
    ledger.add_outcomes(
        1, "loop", 1, [0], [Outcome("ok", {"hardness_GPa": 1.6})],
        simulator="measured", version="1", targets=Targets((Maximise("hardness_GPa"),)),
    )  # fmt: skip
    assert tell(ledger, result(A, 1.7), replace=True) == Told(0, 0, replaced=1, scored=1)
    assert ledger.records(1)[0].outcome.values == {"hardness_GPa": 1.6}


def test_a_design_is_measured_once_for_all_campaigns(ledger: Ledger) -> None:
    other = asked(ledger, "other")
    tell(ledger, result(A))
    assert ledger.open_requests(other)[A] == 1
    with pytest.raises(InvalidInputError, match="told before"):
        ledger.tell(other, [("row 1", result(A, 9.0))])
    frame = ledger.campaigns()
    assert frame["asked"].tolist() == [6, 6]
    assert frame["told"].tolist() == [1, 0]


def test_two_who_tell_at_once(ledger: Ledger) -> None:
    """Of two that differ exactly one is kept; those that are alike are there once."""
    outcomes: list[object] = []
    start = threading.Barrier(6)

    def one(value: float) -> None:
        with Ledger.open(ledger.url) as opened:
            start.wait()
            try:
                outcomes.append(tell(opened, result(A, value), result(B, 2.0)))
            except InvalidInputError as error:
                outcomes.append(str(error))

    threads = [threading.Thread(target=one, args=(v,)) for v in (1.0, 1.1, 1.2, 1.3, 1.4, 1.5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count(Told(2, 0, 0, 0)) == 1
    assert sum("told before" in str(o) for o in outcomes) == 5
    assert ledger.path is not None
    with contextlib.closing(sqlite3.connect(ledger.path)) as raw:
        assert raw.execute("SELECT count(*) FROM measurement").fetchone() == (2,)


def test_waiting_is_neither_finished_nor_going_on(ledger: Ledger) -> None:
    assert ledger.waiting(1) is None
    ledger.wait(1, "waiting for 6 measurements")
    ledger.wait(1, "waiting for 6 measurements")
    assert (ledger.finished(1), ledger.waiting(1)) == (None, "waiting for 6 measurements")
    assert ledger.campaigns()["waiting"].tolist() == ["waiting for 6 measurements"]
    ledger.finish(1, None)
    assert (ledger.finished(1), ledger.waiting(1)) == (None, None)
    ledger.finish(1, "budget")
    assert (ledger.finished(1), ledger.waiting(1)) == ("budget", None)


def test_fidelity_and_uncertainty_of_each_value(ledger: Ledger) -> None:
    both = Outcome("ok", {"hardness_GPa": 1.5, "cost": 3.0}, uncertainty={"hardness_GPa": 0.1})
    outcomes = [both, Outcome("ok", {"cost": 3.0}), Outcome.failed("broken")]
    about: Any = {"simulator": "a+b", "version": "1+1", "targets": Targets((Maximise("cost"),))}
    fidelity: Any = {"hardness_GPa": "measured", "cost": "simulated"}
    for _ in range(2):  # the same again is accepted
        ledger.add_outcomes(1, "loop", 1, [0, 1, 2], outcomes, fidelity=fidelity, **about)
    records = ledger.records(1)
    assert [r.fidelity for r in records] == ["mixed", "simulated", "mixed"]
    assert [dict(r.outcome.uncertainty) for r in records] == [{"hardness_GPa": 0.1}, {}, {}]
    frame = ledger.candidate_records(A).set_index("property")
    assert frame["value_fidelity"].to_dict() == fidelity
    assert frame["uncertainty"].dropna().to_dict() == {"hardness_GPa": 0.1}
    assert ledger.count(1, where="fidelity = 'mixed'") == 2
    assert ledger.fields(1)["uncertainty_hardness_GPa"] == "number"
    assert "uncertainty_cost" not in ledger.fields(1)
    for where, n in (("uncertainty_hardness_GPa > 0.05", 1), ("hardness_GPa < 0.5", 0)):
        assert ledger.count(1, where=where) == n
    column = ledger.evaluations(1, sort="uncertainty_hardness_GPa")["uncertainty_hardness_GPa"]
    assert column.tolist()[0] == 0.1
    assert column.isna().sum() == 3
    assert ledger.fidelities(1) == {"hardness_GPa": {"measured"}, "cost": {"simulated"}}
    other = Outcome("ok", dict(both.values), uncertainty={"hardness_GPa": 0.2})
    with pytest.raises(LedgerError, match="already has another outcome"):
        ledger.add_outcomes(1, "loop", 1, [0], [other], fidelity=fidelity, **about)


def test_what_is_pending_is_no_outcome(ledger: Ledger) -> None:
    with pytest.raises(InvalidInputError, match="is pending; leave its position out"):
        ledger.add_outcomes(
            1, "loop", 1, [0], [Outcome("pending", reason="not yet")],
            simulator="a", version="1", targets=Targets((Maximise("cost"),)),
        )  # fmt: skip


def test_a_ledger_of_before_is_brought_up_to_date(tmp_path: Path) -> None:
    """One that an earlier version of the program wrote keeps all it has."""
    path = tmp_path / "ledger.db"
    engine = create_engine(f"sqlite:///{path}")
    config = Config()
    (folder,) = loop.__path__
    config.set_main_option("script_location", str(Path(folder) / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    engine.dispose()
    values = {
        "campaign": (1, "alloy", 7, "5e77", "da7a", "2026-01-01T00:00:00.000+00:00"),
        "run_start": (1, 1, '{"loop":{}}', "{}", "2026-01-01T00:00:00.000+00:00"),
        "run_stop": (1, 1, "budget", "2026-01-01T00:00:01.000+00:00"),
        "batch": (1, 1, "loop", 1, 1, "{}", 1, "2026-01-01T00:00:00.000+00:00"),
        "candidate": (1, DESIGNS[0].id, *_row(DESIGNS[0])),
        "proposal": (1, 1, 0, 1, '["Ni","Al","Re"]', "library", None, "{}", None),
        "evaluation": (1, 1, 1, "s", "1", "simulated", "ok", "", "{}", 0.5, 0, "2026"),
        "property_value": (1, "modulus_GPa", 200.0, 199.0, 201.0),
    }
    with contextlib.closing(sqlite3.connect(path)) as raw, raw:
        for table, row in values.items():
            raw.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(row))})", row)
    with Ledger.open(path, create=False) as opened:
        assert opened.finished(1) == "budget"
        assert opened.waiting(1) is None
        (record,) = opened.records(1)
        assert record.candidate.id == DESIGNS[0].id
        assert dict(record.outcome.values) == {"modulus_GPa": 200.0}
        assert dict(record.outcome.bounds) == {"modulus_GPa": (199.0, 201.0)}
        assert (dict(record.outcome.uncertainty), record.fidelity) == ({}, "simulated")
        opened.ask(1, {A: WANTED})
        tell(opened, result(A))
        opened.wait(1, "waiting")
        assert opened.open_requests(1) == {A: 1}


def _row(candidate: Any) -> tuple[Any, ...]:
    from loop.ledger_rows import candidate_row
    from loop.tables import canonical_json

    row = candidate_row(candidate)
    return (
        canonical_json(row["phases"]), canonical_json(row["elements"]), row["height"],
        row["width"], row["microstructure"], row["phase_compositions"],
        canonical_json(row["process"]),
    )  # fmt: skip
