"""``run``, ``resume``, ``new`` and ``verify`` by command, without the workflow engine."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from flows.assembly import open_session
from interface.cli import app
from interface.cli_common import StoppedError, overrides
from interface.cli_run import _stopping_tells_how_to_go_on
from loop.errors import InvalidInputError
from loop.ledger import Ledger
from tests.campaigns import NAME, found, write_campaign

LEDGER = Path("runs") / NAME / "ledger.db"


PROGRAM = r"^(\S+ -m )?\S*spinodal "


def call(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def refused(*words: str) -> str:
    result = call(*words)
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.fixture
def started(plain_run: Path, in_scratch: Path) -> Path:
    """A copy of the finished run in the current directory."""
    shutil.copytree(plain_run, in_scratch, dirs_exist_ok=True)
    # It remembers where its campaign lay; the copy lies elsewhere.
    (LEDGER.parent / "started.json").write_text(
        json.dumps({"campaign": str(Path("tiny").resolve())})
    )
    return in_scratch


def test_a_run_ends_with_rounds_gallery_and_next_commands(plain_run: Path) -> None:
    printed = (plain_run / "printed.txt").read_text()
    with Ledger.open(plain_run / LEDGER, create=False) as ledger:
        rounds = ledger.rounds(ledger.campaign_id())
    assert list(zip(rounds["round"], rounds["arm"], strict=True)) == [
        (0, "seed"), (1, "loop"), (1, "random"), (2, "loop"), (2, "random"),
    ]  # fmt: skip
    table = printed.splitlines()
    for row in rounds.itertuples():
        cells = [str(row.round), row.arm, str(row.evaluated), str(row.hits)]
        assert any(line.split()[:4] == cells for line in table), cells
    with Image.open(plain_run / LEDGER.parent / "gallery.png") as picture:
        assert picture.format == "PNG"
    commands = [line.strip() for line in table[table.index("Next:") + 1 :]]
    assert len(commands) == 4
    assert all(re.match(PROGRAM, line) for line in commands)


@pytest.mark.usefixtures("started")
def test_the_next_commands_work() -> None:
    import shlex

    printed = Path("printed.txt").read_text().splitlines()
    for line in printed[printed.index("Next:") + 1 :]:
        words = shlex.split(re.sub(PROGRAM, "", line.strip()))
        if words[0] != "serve":  # it would not end
            assert call(*words, "--json").exit_code == 0, words


@pytest.mark.usefixtures("started")
def test_a_finished_campaign_says_why_and_changes_nothing() -> None:
    before = found(LEDGER)
    again = call("run", "tiny", "--json")
    assert again.exit_code == 0
    assert "is finished: rounds: all 2 are done" in again.stderr
    document = json.loads(again.stdout)
    assert document["reason"] == "rounds: all 2 are done"
    assert [row["round"] for row in document["rounds"]] == [0, 1, 1, 2, 2]
    assert found(LEDGER) == before


@pytest.mark.usefixtures("started")
def test_more_rounds_go_on_by_name_with_the_same_beginning() -> None:
    before = found(LEDGER)
    more = call("resume", NAME, "--rounds", "3", "--plain", "--json")
    assert more.exit_code == 0, more.output
    assert "goes on at round 3" in more.stderr
    after = found(LEDGER)
    assert [row for row in after if row[1] != 3] == before
    assert len(after) == len(before) + 2 * 6
    with Ledger.open(LEDGER, create=False) as ledger:
        assert ledger.finished(1) == "rounds: all 3 are done"
    # `resume` keeps to what the run was given; `run` to what the file says.
    assert json.loads(call("resume", "tiny", "--json").stdout)["reason"].startswith("rounds: all 3")


@pytest.mark.usefixtures("started")
def test_two_runs_at_once() -> None:
    with Ledger.open(LEDGER) as ledger, ledger.claim(ledger.campaign_id()):
        for words in (["--plain"], []):
            message = refused("resume", NAME, "--rounds", "3", *words)
            assert "is being run by process" in message
    assert len(found(LEDGER)) == 48 + 4 * 6


@pytest.mark.usefixtures("started")
def test_other_settings_need_another_name() -> None:
    message = refused("run", "tiny", "--arms", "loop", "--rounds", "3")
    assert "began with other settings" in message
    assert "control_arms" in message


@pytest.mark.usefixtures("started")
def test_resume_says_what_it_lacks() -> None:
    assert "did you mean 'tiny'" in refused("resume", "tyny", "--ledger", str(LEDGER))
    Path("tiny").rename("moved")
    assert "spinodal resume tiny" in refused("run", NAME)
    assert "is gone" in refused("resume", NAME)
    (LEDGER.parent / "started.json").unlink()
    assert "give its path" in refused("resume", NAME)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "none"], "no campaign file at none"),
        (["run", "tiny", "--budget", "0"], "--budget is 0; expected at least 1"),
        (["run", "tiny", "--rounds=-1"], "--rounds is -1"),
        (["run", "tiny", "--threads", "0"], "--threads is 0"),
        (["run", "tiny", "--arms", "randm,loop"], "did you mean 'random'"),
        (["run", "tiny", "--arms", "random"], "expected loop among them"),
        (["run", "tiny", "--device", "tpu"], "tpu"),
        (["resume", "tiny"], "nothing to resume; start with: spinodal run tiny"),
        (["resume", "none"], "no ledger at runs/none/ledger.db"),
        (["schedule", "tiny"], "either --every TIME or --cron LINE"),
        (["schedule", "tiny", "--every", "1h", "--cron", "0 3 * * *"], "either --every"),
        (["schedule", "tiny", "--every", "soon"], "--every is 'soon'"),
        (["schedule", "tiny", "--every", "1s"], "at least 5s"),
        (["schedule", "tiny", "--cron", "61 * * * *"], "--cron is '61 * * * *'"),
        (["schedule", "tiny", "--cron", "* * *"], "minute hour day month weekday"),
        (["new", "made"], "nothing to build a campaign from"),
        (["new", "made", "--images", "empty"], "empty"),
        (["serve", "--ledger", "none.db"], "none.db"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    in_scratch: Path, words: list[str], message: str
) -> None:
    write_campaign(in_scratch / "tiny")
    (in_scratch / "empty").mkdir()
    assert message in refused(*words)
    assert sorted(p.name for p in in_scratch.iterdir()) == ["empty", "tiny"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("[lop]\nrounds = 3\n", "did you mean 'loop'"),
        ("[targets.density]\nrange = [1, 2]\n", "did you mean 'density_g_per_cm3'"),
        ("[targets.youngs_modulus_GPa]\nvalue = 190\n", "value without tolerance"),
    ],
)
def test_a_bad_campaign_file_is_one_line(in_scratch: Path, more: str, message: str) -> None:
    write_campaign(in_scratch / "tiny", more=more)
    assert message in refused("run", "tiny")
    assert not (in_scratch / "runs").exists()


def test_only_given_options_override() -> None:
    assert overrides() == {}
    assert overrides(rounds=3, device="cuda") == {
        "loop": {"rounds": 3},
        "compute": {"device": "cuda"},
    }
    assert overrides(arms="mutation, loop") == {"loop": {"control_arms": ["mutation"]}}
    with pytest.raises(InvalidInputError):
        overrides(threads=0)


def test_new_writes_a_campaign_that_opens(plain_run: Path, in_scratch: Path) -> None:
    data = plain_run / "tiny"
    words = ["new", "mine", "--images", str(data / "labels")]
    words += ["--compositions", str(data / "compositions.csv")]
    made = call(*words, "--json")
    assert made.exit_code == 0, made.output
    document: dict[str, Any] = json.loads(made.stdout)
    assert document["name"] == "mine"
    with open_session(in_scratch / "mine").ledger:
        pass
    assert "youngs_modulus_GPa" in document["properties"]
    assert "is not replaced" in refused(*words)
    text = call("new", "other", *words[2:]).stdout
    assert "youngs_modulus_GPa" in text
    assert "spinodal run other" in text


def test_an_interrupt_that_got_lost_is_raised_at_the_next_step() -> None:
    """As when Ctrl-C meets a library's callback, where Python swallows what is raised."""
    told: list[str] = []

    def show(stage: str, done: int, total: int, **figures: float) -> None:
        told.append(f"{stage} {done}/{total} {figures}")

    def lost_then_next_step() -> None:
        with _stopping_tells_how_to_go_on(lambda: "go on") as heeding:
            progress = heeding(show)
            progress("before", 0, 1)
            with contextlib.suppress(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(1.0)
            progress("after", 0, 1)

    # A shell starts what it puts in the background with this signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(StoppedError, match="interrupted; go on"):
            lost_then_next_step()
        assert told == ["before 0/1 {}"]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
