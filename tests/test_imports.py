"""The arrows between the rooms, read from the source: imports inside functions count too."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.campaigns import found

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("loop", "generators", "simulators", "flows", "interface")
MAY_IMPORT = {
    "loop": {"loop"},
    "generators": {"generators", "loop"},
    "simulators": {"simulators", "loop"},
    "flows": {"flows", "generators", "simulators", "loop"},
    "interface": set(ROOMS),
}
# Engine, server and command line stay out of what runs on a bare computing machine.
ORCHESTRATION = {"prefect", "fastapi", "starlette", "uvicorn", "nicegui", "typer", "click", "rich"}
OWN_PROGRAM = {*ROOMS, "tests", "benchmarks", "examples", "spinodal"}


def imported_names(source: str, package: str) -> set[str]:
    """Full dotted names of every module that the source imports, relative ones resolved.

    ``package``: dotted name of the package that the module lies in. Strings handed to
    ``import_module`` count as imports.
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                parents = parents[: len(parents) - (node.level - 1)]
                base = ".".join([*parents, base]).rstrip(".")
            names.add(base)
        elif isinstance(node, ast.Call) and node.args:
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            target = node.args[0]
            if name in ("import_module", "__import__") and isinstance(target, ast.Constant):
                names.add(str(target.value))
    return names


def tops(path: Path) -> set[str]:
    package = ".".join(path.relative_to(ROOT).parent.parts)
    return {n.split(".")[0] for n in imported_names(path.read_text(encoding="utf-8"), package)}


def modules(room: str) -> list[Path]:
    found = sorted((ROOT / room).rglob("*.py"))
    assert found, f"no modules in {room}"
    return found


def wrong_arrows(room: str) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(room)
        for name in sorted((tops(path) & OWN_PROGRAM) - MAY_IMPORT[room])
    ]


@pytest.mark.parametrize("room", ROOMS)
def test_arrows_point_one_way(room: str) -> None:
    assert wrong_arrows(room) == []


def test_only_flows_imports_prefect() -> None:
    importers = {
        str(path.relative_to(ROOT))
        for room in ROOMS
        for path in modules(room)
        if "prefect" in tops(path)
    }
    assert importers, "nothing imports prefect: the check has lost its subject"
    assert {Path(name).parts[0] for name in importers} == {"flows"}


@pytest.mark.parametrize("room", ["loop", "generators", "simulators"])
def test_computing_rooms_know_no_orchestration(room: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(room)
        for name in sorted(tops(path) & ORCHESTRATION)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import flows.tasks as t", {"flows.tasks"}),
        ("def f():\n    from interface import cli", {"interface"}),
        ("from . import ledger", {"loop"}),
        ("from .parts import x", {"loop.parts"}),
        ("from ..generators import vae", {"generators"}),
        (
            "import importlib\nimportlib.import_module('prefect.flows')",
            {"importlib", "prefect.flows"},
        ),
        ("if TYPE_CHECKING:\n    from simulators import chain", {"simulators"}),
    ],
)
def test_the_reader_sees_every_kind_of_import(source: str, expected: set[str]) -> None:
    assert imported_names(source, "loop") == expected


def test_a_wrong_arrow_is_found() -> None:
    names = {n.split(".")[0] for n in imported_names("from simulators import chain", "generators")}
    assert names & OWN_PROGRAM - MAY_IMPORT["generators"] == {"simulators"}


BLOCKED = """
import importlib, importlib.abc, importlib.metadata, pathlib, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"{{name}} is absent in this test", name=name)

sys.meta_path.insert(0, Absent())
installed = importlib.metadata.version

def version(name):
    if name in {absent!r}:
        raise importlib.metadata.PackageNotFoundError(name)
    return installed(name)

importlib.metadata.version = version
sys.path.insert(0, {root!r})
"""
IMPORT_ALL = """
for room in ("loop", "generators", "simulators"):
    for path in sorted(pathlib.Path(room).rglob("*.py")):
        if "migrations" in path.parts or path.name == "__main__.py":
            continue  # loaded by the migration tool, inside its own context
        parts = path.with_suffix("").parts
        importlib.import_module(".".join(p for p in parts if p != "__init__"))
print("imported")
"""
RUN = """
from flows.assembly import open_session
session = open_session({campaign!r}, {ledger!r})
session.run()
print(session.stop_reason())
session.ledger.close()
"""


def without_engine(script: str) -> str:
    blocked = BLOCKED.format(absent=ORCHESTRATION, root=str(ROOT))
    done = subprocess.run(
        [sys.executable, "-c", blocked + script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_computing_rooms_import_with_the_engine_absent() -> None:
    assert without_engine(IMPORT_ALL) == "imported"


def test_a_campaign_runs_with_the_engine_absent(plain_run: Path, tmp_path: Path) -> None:
    """In a process where prefect cannot be imported, and finds the same."""
    ledger = tmp_path / "ledger.db"
    script = RUN.format(campaign=str(plain_run / "tiny"), ledger=str(ledger))
    assert without_engine(script) == "rounds: all 2 are done"
    assert found(ledger) == found(plain_run / "runs" / "tiny" / "ledger.db")
