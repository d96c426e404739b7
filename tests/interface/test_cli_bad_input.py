"""Bad input by command: one line that says what came and how to mend it, exit code 2, no trace."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from interface.output import whole_file
from loop.ledger import Ledger
from tests.campaigns import NAME, found, write_campaign
from tests.interface.test_cli_run import LEDGER, call, refused
from tests.surroundings import mounted

LABELS = np.random.default_rng(0).integers(0, 2, (48, 48), dtype=np.uint8)
IMAGE = Path("tiny/labels/spot0.png")


@pytest.fixture
def tiny(in_scratch: Path) -> Path:
    """A small campaign in the current directory, and nothing else."""
    write_campaign(in_scratch / "tiny")
    return in_scratch


def assert_nothing_left(folder: Path) -> None:
    assert [path.name for path in folder.iterdir()] == ["tiny"]


def edited(name: str, old: str, new: str) -> None:
    file = Path("tiny") / name
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


# The campaign file


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("batch = 6", "bacth = 6", "[loop]: unknown key 'bacth'; did you mean 'batch'?"),
        ("[loop]", "[lop]", "unknown key 'lop'; did you mean 'loop'?"),
        ('"Al", "Cr"', '"Al", "Cz"', "space.elements: unknown element 'Cz'; did you mean 'C"),
        ('"Al", "Cr"', '"Al", "CR"', "unknown element 'CR'; did you mean 'Cr'?"),
        ("[targets.density_g_per_cm3]", "[targets.density]", "did you mean 'density_g_per_cm3'?"),
        ('["composite-chain"]', '["composit-chain"]', "did you mean 'composite-chain'?"),
        ('["composite-chain"]', "[]", "simulators.use is []; expected at least one entry"),
        ('preset = "tiny"', 'name = "joint-flo"', "did you mean 'joint-flow'?"),
        ("rounds = 2", "budget = 0", "loop.budget is 0: input should be greater than or equal to"),
        ("seed = 3", "seed = 9999999999999999999", "campaign.seed is 9999999999999999999"),
        ("[loop]", "[simulators.settings.chain]\n[loop]", "unknown simulator 'chain'"),
        ('labels = ["gamma", "gamma_prime"]', 'labels = ["gamma", "gamma"]', "one phase only"),
        ("patch = 16", "patch = 64", "has 48 x 48 pixels, smaller than the patch of 64 x 64"),
        ("patch = 16", "patch = 16\ndownsample = 9", "lower images.downsample or images.patch"),
        ('folder = "labels"', 'folder = "labls"', "labls does not exist"),
        ("patch = 16", 'patch = 16\nindex = "i.csv"', "i.csv: No such file or directory; expected"),
        ("[loop]", "[loop", "is not valid TOML"),
    ],
)
def test_settings(tiny: Path, old: str, new: str, message: str) -> None:
    edited("campaign.toml", old, new)
    assert message in refused("run", "tiny", "--plain")
    assert_nothing_left(tiny)


@pytest.mark.parametrize(
    ("property_", "target", "limit"),
    [
        ("gamma_prime_fraction", "range = [1.2, 1.5]", "it is 0 to 1 in every design"),
        ("density_g_per_cm3", "value = -1\ntolerance = 0.1", "it is 2.698"),  # aluminium's
        ("density_g_per_cm3", "range = [9.0, 9.5]", "8.906"),  # nickel's
        ("conductivity_ratio", "value = -1\ntolerance = 0.5", "it is 0."),
        ("youngs_modulus_GPa", "maximise = true\nat_least = 300", " GPa in every design"),
        ("thermal_conductivity_W_per_mK", "range = [300, 400]", "to 235.0"),  # aluminium's
        ("precipitate_chord_length_px", "minimise = true\nat_most = 0.5", "it is 1 to 255 px"),
    ],
)
def test_targets_beyond_physics(tiny: Path, property_: str, target: str, limit: str) -> None:
    text = Path("tiny/campaign.toml").read_text()
    start, end = text.index("[targets."), text.index("[simulators]")
    Path("tiny/campaign.toml").write_text(
        f"{text[:start]}[targets.{property_}]\n{target}\n{text[end:]}"
    )
    line = refused("run", "tiny", "--plain")
    assert f"target {property_}: " in line
    assert "is out of reach" in line
    assert limit in line
    assert line.endswith("ask within that or widen the space")
    assert_nothing_left(tiny)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: ["0.9", *x[1:]], "line 4: gamma sums to"),
        (lambda x: [str(100 * float(v)) for v in x], "look like percentages, divide by 100"),
        (lambda x: ["-0.1", *x[1:]], "line 4, column gamma:Ni: got -0.1; expected a fraction >= 0"),
        (lambda x: ["nan", *x[1:]], "line 4, column gamma:Ni: got nan; expected a finite fraction"),
        (lambda x: ["", *x[1:]], "line 4, column gamma:Ni: got nothing; expected a number"),
        (lambda x: ["much", *x[1:]], "line 4, column gamma:Ni: got 'much'; expected a number"),
        (lambda x: x[1:], "line 4: 5 fields, the header has 6"),
    ],
)
def test_compositions(tiny: Path, change: Callable[[list[str]], list[str]], message: str) -> None:
    table = Path("tiny/compositions.csv")
    lines = table.read_text().splitlines()
    lines[3] = ",".join(change(lines[3].split(",")))
    table.write_text("\n".join(lines) + "\n")
    assert message in refused("run", "tiny", "--plain")
    made = refused("new", "made", "--images", "tiny/labels", "--compositions", str(table))
    assert message in made
    assert_nothing_left(tiny)


# Images


def claiming(side: int) -> bytes:
    """A PNG of a few bytes whose header claims side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(kind, part) for kind, part in ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    )


def saved(pixels: NDArray[np.generic]) -> None:
    Image.fromarray(pixels).save(IMAGE)


def dangling() -> None:
    IMAGE.unlink()
    IMAGE.symlink_to("elsewhere.png")


def emptied() -> None:
    for file in IMAGE.parent.iterdir():
        file.unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda: IMAGE.write_bytes(b"no image"), "is not readable: not an image format"),
        (lambda: IMAGE.write_bytes(b""), "is not readable"),
        (lambda: IMAGE.write_bytes(IMAGE.read_bytes()[:90]), "is not readable"),
        (dangling, "is not readable: No such file or directory"),
        (lambda: saved(LABELS.astype(np.uint16)), "has depth I;16 (more than 8 bits)"),
        (lambda: saved(np.stack([255 * LABELS] * 3, axis=2)), "is in colour (mode RGB)"),
        (lambda: saved(255 * LABELS), "has pixel values 0, 255; expected labels 0 to "),
        (lambda: saved(LABELS[:8]), "give larger images"),
        (lambda: IMAGE.write_bytes(claiming(9_000)), "9000 x 9000 pixels; the limit is 80,000,000"),
        (lambda: IMAGE.write_bytes(claiming(60_000)), "pixels; the limit is 80,000,000"),
        (emptied, "holds no image"),
    ],
    ids=[
        "no image", "empty", "cut off", "dangling", "deep", "colour", "label", "small",
        "large", "bomb", "empty folder",
    ],
)  # fmt: skip
def test_images(tiny: Path, spoil: Callable[[], object], message: str) -> None:
    spoil()
    assert message in refused("run", "tiny", "--plain")
    assert message in refused("new", "made", "--images", "tiny/labels")
    assert_nothing_left(tiny)


# Words


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "tiny", "--budget", "0"], "--budget is 0; expected at least 1"),
        (["resume", "tiny", "--budget", "0"], "--budget is 0; expected at least 1"),
        (["schedule", "tiny", "--every", "1h", "--budget", "0"], "--budget is 0"),
        (["run", "tiny", "--budget", "some"], "invalid value for '--budget'"),
        (["run", "tiny", "--buget", "3"], "no such option: --buget"),
        (["run"], "missing argument 'CAMPAIGN'; see spinodal run --help"),
        (["qeury"], "no such command 'qeury'"),
        (["query", "--format", "xml"], "'xml' is not one of 'table', 'csv', 'json', 'parquet'"),
        (["verify", "everything"], "'everything' is not one of 'simulators'"),
        (["serve", "--port", "99999"], "invalid value for '--port'"),
    ],
)
def test_words(tiny: Path, words: list[str], message: str) -> None:
    line = refused(*words)
    assert line.startswith("error: ")
    assert message in line
    assert_nothing_left(tiny)


def test_without_a_word_the_help_is_shown() -> None:
    assert "Usage: " in call().output


# The ledger


def whole(ledger: Path) -> bool:
    with contextlib.closing(sqlite3.connect(ledger)) as raw:
        return bool(raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)])


@pytest.fixture
def finished(plain_run: Path, in_scratch: Path) -> Path:
    shutil.copytree(plain_run, in_scratch, dirs_exist_ok=True)
    return in_scratch


COMMANDS = (
    ["run", "tiny", "--plain"], ["resume", "tiny"], ["schedule", "tiny", "--every", "1h"],
    ["status"], ["rounds"], ["query", "hit"], ["show", "0"], ["export", "out"], ["serve"],
)  # fmt: skip


@pytest.mark.usefixtures("finished")
def test_a_ledger_of_a_newer_schema_is_left_alone() -> None:
    with contextlib.closing(sqlite3.connect(LEDGER)) as raw, raw:
        (table,) = raw.execute(
            "SELECT name FROM sqlite_master WHERE name LIKE '%version%' AND type = 'table'"
        ).fetchone()
        raw.execute(f"UPDATE {table} SET version_num = '0099'")
    before = LEDGER.read_bytes()
    for words in COMMANDS:
        line = refused(*words)
        assert "has schema '0099', newer than this program's" in line
        assert "pip install -U spinodal" in line
    assert LEDGER.read_bytes() == before


@pytest.mark.usefixtures("finished")
def test_a_second_run_is_told_who_runs_it() -> None:
    before = found(LEDGER)
    with Ledger.open(LEDGER) as first, first.claim(first.campaign_id()):
        for words in (
            ["run", "tiny", "--rounds", "3", "--plain"],
            ["run", "tiny", "--rounds", "3"],
            ["resume", "tiny", "--rounds", "3", "--plain"],
        ):
            line = refused(*words)
            assert f"campaign '{NAME}' is being run by process {os.getpid()} on" in line
            assert line.endswith("wait until it has finished, or end it and resume")
        assert call("query", "hit").exit_code == 0  # reading is always possible
    assert found(LEDGER) == before
    assert not (LEDGER.parent / "prefect").exists()
    assert whole(LEDGER)


# Interruptions


def test_ctrl_c_before_anything_was_begun(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import flows.assembly

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(flows.assembly, "open_session", interrupted)
    ended = call("run", "tiny")
    assert ended.exit_code == 130
    assert ended.stderr.strip() == "interrupted; nothing had been begun"
    assert_nothing_left(tiny)


def test_ctrl_c_in_a_plain_run_and_on(
    plain_run: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from simulators.chain import CompositeChain

    evaluate, calls = CompositeChain.evaluate, iter(range(99))

    def interrupted(self: CompositeChain, candidates: list[object]) -> object:
        if next(calls) == 5:
            raise KeyboardInterrupt
        return evaluate(self, candidates)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(CompositeChain, "evaluate", interrupted)
        ended = call("run", "tiny", "--plain")
    assert ended.exit_code == 130
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("interrupted; the ledger has everything up to here. Go on with: ")
    assert last.endswith("spinodal resume tiny")
    assert whole(LEDGER)
    begun = found(LEDGER)
    assert len(begun) == 5 * 3  # chunks of three
    assert begun == found(plain_run / LEDGER)[: len(begun)]
    assert sorted(path.name for path in tiny.iterdir()) == ["runs", "tiny"]


# A full disk


@pytest.fixture
def small_disk(in_scratch: Path) -> Iterator[Path]:
    """A file system of 400 kB as the current directory."""
    disk = in_scratch / "disk"
    disk.mkdir()
    with mounted(disk, "400k"), contextlib.chdir(disk):
        yield disk


def test_a_disk_that_fills_up(plain_run: Path, small_disk: Path) -> None:
    write_campaign(small_disk / "tiny")
    line = call("run", "tiny", "--plain")
    assert line.exit_code == 2
    told = [text for text in line.stderr.splitlines() if text.startswith("error: ")]
    assert len(told) == 1
    assert "the disk is full; free some space and resume, nothing that was recorded is" in told[0]
    assert whole(LEDGER)
    begun = found(LEDGER)
    assert begun == found(plain_run / LEDGER)[: len(begun)]
    assert not list(small_disk.rglob("*.part*"))


def half_written(path: Path) -> None:
    with whole_file(path) as draft:
        draft.write_text("half")
        raise KeyboardInterrupt


def test_a_file_is_written_whole_or_not_at_all(small_disk: Path) -> None:
    full = small_disk / "full.csv"
    with pytest.raises(OSError, match="No space left") as caught, whole_file(full) as draft:
        draft.write_bytes(bytes(500_000))
    assert caught.value.errno == errno.ENOSPC
    assert list(small_disk.iterdir()) == []
    full.write_text("before")
    with pytest.raises(KeyboardInterrupt):
        half_written(full)
    assert [path.name for path in small_disk.iterdir()] == ["full.csv"]
    assert full.read_text() == "before"
    with whole_file(full) as draft:
        draft.write_text("after")
    assert full.read_text() == "after"


@pytest.mark.usefixtures("finished")
def test_a_result_that_does_not_fit_leaves_nothing(small_disk: Path) -> None:
    (small_disk / "filled").write_bytes(bytes(390_000))
    ledger = str(small_disk.parent / LEDGER)
    for words in (
        ["query", "--output", "all.csv", "--ledger", ledger],
        ["export", "all", "--ledger", ledger],
        ["show", found(Path(ledger))[0][2], "--output", "one.png", "--ledger", ledger],
    ):
        line = refused(*map(str, words))
        assert "disk is full" in line or "No space left" in line
    assert [path.name for path in small_disk.iterdir()] == ["filled"]
