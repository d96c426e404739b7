"""Labels in the ledger: kept bit for bit, filtered as text, and added to ledgers without them."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from alembic import command
from alembic.config import Config
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine

import loop
from loop.candidate import Candidate, Outcome
from loop.errors import InvalidInputError, LedgerError
from loop.laboratory import Wanted
from loop.ledger import Ledger
from loop.ledger_rows import candidate_row
from loop.tables import canonical_json
from loop.targets import Maximise, Targets
from tests.loop.ledger_fixtures import campaign, design

TARGETS = Targets((Maximise("hardness_HV"),))


def alloy(share: float, labels: Mapping[str, str]) -> Candidate:
    x = np.array([[1.0 - share, share]])
    return Candidate(("alloy",), ("Ni", "Al"), None, x, {"time_h": 2.0}, labels=labels)


DESIGNS = [
    alloy(0.1, {"processing": "CAST"}),
    alloy(0.1, {"processing": "ANNEAL"}),
    alloy(0.2, {"processing": "CAST", "quench medium": "oil, 60 °C"}),
    alloy(0.3, {}),
]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger.db") as opened:
        number = campaign(opened)
        opened.plan_batch(number, "loop", 1, DESIGNS)
        outcomes = [Outcome("ok", {"hardness_HV": 100.0 + i}) for i in range(len(DESIGNS))]
        opened.add_outcomes(
            number, "loop", 1, range(len(DESIGNS)), outcomes,
            simulator="lab", version="1", targets=TARGETS,
        )  # fmt: skip
        yield opened


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    with Ledger.open(tmp_path_factory.mktemp("shared") / "ledger.db") as opened:
        campaign(opened)
        yield opened


texts = st.text(min_size=1, max_size=12).filter(lambda t: t.isprintable() and t == t.strip())


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    labels=st.dictionaries(st.sampled_from(["processing", "quench", "sup plier"]), texts),
    share=st.floats(0.01, 0.99),
)
def test_labels_survive_letter_by_letter(
    shared: Ledger, labels: dict[str, str], share: float
) -> None:
    index = len(shared.evaluations(1, columns=["id"]))  # a round that is still free
    made = alloy(share, labels)
    shared.plan_batch(1, "loop", index, [made])
    (back,) = shared.planned(1, "loop", index)
    assert (back.id, dict(back.labels)) == (made.id, labels)
    assert dict(shared.candidate(made.id).labels) == labels
    for name, value in labels.items():
        quoted = value.replace("'", "''")
        where = f"`{name}` = '{quoted}' and id = '{made.id}'"
        assert shared.count(1, where=where) == len(shared.evaluations(1, where=f"id = '{made.id}'"))


@pytest.mark.parametrize(
    ("where", "places"),
    [
        ("processing = 'CAST'", [0, 2]),
        ('processing != "CAST"', [1]),  # a design without the label matches neither
        ("not processing = 'CAST'", [1]),
        ("processing in ('ANNEAL', 'WROUGHT')", [1]),
        ("processing ~ 'C' and x_Al > 0.15", [2]),
        ("`quench medium` = 'oil, 60 °C'", [2]),
        ("processing = 'cast'", []),
    ],
)
def test_labels_are_text_fields_of_filters(ledger: Ledger, where: str, places: list[int]) -> None:
    found = ledger.evaluations(1, where=where)
    assert found["id"].tolist() == [DESIGNS[i].id for i in places]
    assert ledger.count(1, where=where) == len(places)


def test_labels_are_columns_and_sort(ledger: Ledger) -> None:
    fields = ledger.fields(1)
    assert (fields["processing"], fields["quench medium"]) == ("text", "text")
    assert fields["process.time_h"] == "number"
    frame = ledger.evaluations(1)
    assert frame["processing"].tolist()[:3] == ["CAST", "ANNEAL", "CAST"]
    assert frame["processing"].isna().tolist() == [False, False, False, True]
    assert frame["processing"].dtype == frame["arm"].dtype
    assert frame["process.time_h"].tolist() == [2.0] * 4
    few = ledger.evaluations(1, columns=["id", "processing"], sort="processing")
    assert list(few.columns) == ["id", "processing"]
    assert few["processing"].tolist()[:3] == ["ANNEAL", "CAST", "CAST"]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("procesing = 'CAST'", "unknown field 'procesing'; did you mean 'processing'"),
        ("processing = CAST", r"unknown field 'CAST'.*\(text goes in quotes\)"),
        ("processing > 3", "expected quoted text to compare with 'processing'"),
    ],
)
def test_filters_that_are_refused(ledger: Ledger, where: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        ledger.count(1, where=where)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("arm", "'arm' cannot name a label, the ledger uses it itself; rename it"),
        ("x_Al", "'x_Al' names a label and a number of the same designs; rename the label"),
        ("hardness_HV", "'hardness_HV' is already the name of a property value"),
    ],
)
def test_names_that_mean_something_else_are_refused(
    ledger: Ledger, name: str, message: str
) -> None:
    with pytest.raises(LedgerError, match=message):
        ledger.plan_batch(1, "loop", 2, [alloy(0.4, {name: "CAST"})])
    assert not ledger.is_planned(1, "loop", 2)


def test_work_lists_carry_them(ledger: Ledger) -> None:
    ledger.plan_batch(1, "loop", 2, [alloy(0.4, {"processing": "WROUGHT"})])
    (made,) = ledger.planned(1, "loop", 2)
    ledger.ask(1, {made.id: {"hardness_HV": Wanted("HV", 0.0, 2000.0)}})
    (work,) = ledger.work(1)
    assert dict(work.candidate.labels) == {"processing": "WROUGHT"}


@pytest.mark.parametrize("revision", ["0001", "0002"])
def test_a_ledger_without_labels_is_brought_up_to_date(tmp_path: Path, revision: str) -> None:
    """It keeps what it has, ids included, and takes designs with labels from then on."""
    path = tmp_path / "ledger.db"
    engine = create_engine(f"sqlite:///{path}")
    config = Config()
    (folder,) = loop.__path__
    config.set_main_option("script_location", str(Path(folder) / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()
    old = design(1)
    row = candidate_row(old)
    stored = [canonical_json(v) if isinstance(v, (dict, tuple)) else v for v in row.values()]
    begun = "2026-01-01T00:00:00.000+00:00"
    values = {
        "campaign": (1, "alloy", 7, "5e77", "da7a", begun),
        "run_start": (1, 1, '{"loop":{}}', "{}", begun),
        "batch": (1, 1, "loop", 1, 1, "{}", 1, begun),
        "candidate": (1, *stored[: list(row).index("labels")]),
        "candidate_value": (1, "process.temperature_K", old.process["temperature_K"]),
        "field": (1, 1, "process.temperature_K", "candidate"),
        "proposal": (1, 1, 0, 1, '["Ni","Al","Re"]', "library", None, "{}", None),
        "evaluation": (1, 1, 1, "s", "1", "simulated", "ok", "", "{}", 0.5, 0, "2026"),
    }
    with contextlib.closing(sqlite3.connect(path)) as raw, raw:
        for table, cells in values.items():
            raw.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(cells))})", cells)
    with Ledger.open(path, create=False) as opened:
        (record,) = opened.records(1)
        assert record.candidate.id == old.id
        assert dict(record.candidate.labels) == {}
        assert dict(record.candidate.process) == dict(old.process)
        np.testing.assert_array_equal(record.candidate.microstructure, old.microstructure)
        assert opened.count(1, where="process.temperature_K > 0") == 1
        opened.plan_batch(1, "loop", 2, DESIGNS)
        assert opened.count(1, where="processing = 'CAST'") == 2
