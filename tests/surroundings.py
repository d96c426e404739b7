"""Surroundings that a test has to make first: a small disk, rights that do not surpass a user's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Set by the checks that a change has to pass: a test that is skipped has failed.
ALL = "SPINODAL_TEST_ALL"
NO_MOUNT = "no file system can be mounted here"  # a machine's right that nothing can install

_CALL = """\
import importlib, sys
module, name, argument = sys.argv[1:]
getattr(importlib.import_module(module), name)(argument)
print(name, "has returned")
"""


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[None]:
    """A file system of ``size`` (as in `mount -o size=…`) at an existing folder.

    Root mounts it, `ALL` lets sudo do so; elsewhere the test is skipped.
    """
    words = ["sudo", "-n"] if ALL in os.environ and os.geteuid() != 0 else []
    options = f"size={size},mode=0700,uid={os.geteuid()}"
    mount = [*words, "mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{NO_MOUNT}: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run([*words, "umount", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Take all the room that is left on a small disk."""
    with (folder / "filler").open("wb", buffering=0) as file:
        while shutil.disk_usage(folder).free:
            file.write(bytes(4096))


def call_with_ordinary_rights(function: Callable[[str], None], argument: str) -> None:
    """Call a function of a test module in a process in which the modes of files hold for root, too.

    Root without these capabilities is refused as any owner of a file is, and can still read the
    program, wherever that lies.
    """
    words = [sys.executable, "-c", _CALL]
    if os.geteuid() == 0:
        words = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *words]
    done = subprocess.run(
        [*words, function.__module__, function.__qualname__, argument],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{function.__qualname__} has returned\n"
