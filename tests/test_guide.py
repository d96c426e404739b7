"""The guide's commands, read from its text and typed in order on a part of its table."""

from __future__ import annotations

import csv
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from interface.cli import app

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "guide" / "alloys.md"
TABLE = Path("examples") / "hea" / "mpea.csv"
ROWS = 40
NOT_TRIED = ("serve", "$EDITOR")  # a server does not end; an editor waits for somebody


def blocks(language: str) -> list[str]:
    """Fenced blocks of a language, in order."""
    text = GUIDE.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """What is typed: lines that start with a dollar, a backslash at the end goes on."""
    typed = []
    for block in blocks("console"):
        lines = re.sub(r"\\\n\s*", " ", block).splitlines()
        typed += [shlex.split(line[2:]) for line in lines if line.startswith("$ ")]
    return typed


def cut_down(source: Path, target: Path) -> None:
    """Some cast alloys of the table whose hardness is known, with every element that they have."""
    with source.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        rows = [r for r in reader if r["processing"] == "CAST" and r["hardness_HV"]]
    kept: list[dict[str, str]] = []
    seen: set[str] = set()
    for row in rows:
        elements = set(re.findall(r"[A-Z][a-z]?", row["formula"]))
        if len(kept) < ROWS or elements - seen:
            kept.append(row)
            seen |= elements
    target.parent.mkdir(parents=True)
    with target.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(kept)


def test_the_guide_can_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_down(ROOT / TABLE, tmp_path / TABLE)
    (tmp_path / "guide").mkdir()
    shutil.copy(ROOT / "guide" / "stand_in.py", tmp_path / "guide")
    monkeypatch.chdir(tmp_path)
    typed = commands()
    assert {words[1] for words in typed if words[0] == "spinodal"} >= {
        *("new", "run", "ask", "tell", "resume", "query", "interpolate", "serve")
    }
    for words in typed:
        if words[0] == "python":
            done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        elif words[0] == "spinodal" and words[1] not in NOT_TRIED:
            # The engine around the rounds has tests of its own.
            plain = ["--plain"] if words[1] in ("run", "resume") else []
            found = CliRunner().invoke(app, [*words[1:], *plain])
            assert found.exit_code == 0, f"{shlex.join(words)}\n{found.output}"
        else:
            assert words[1 if words[0] == "spinodal" else 0] in NOT_TRIED, words


def test_what_the_guide_shows_is_there() -> None:
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", GUIDE.read_text(encoding="utf-8"))
    assert pictures
    for name in pictures:
        picture = GUIDE.parent / name
        assert picture.read_bytes()[:4] == b"\x89PNG", name
        assert picture.stat().st_size < 200_000, name
    for block in blocks("toml"):
        tomllib.loads(block)
