"""What tests of the loop share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loop.ledger import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An empty one, in folders that are made with it."""
    with Ledger.open(tmp_path / "runs" / "alloy" / "ledger.db") as opened:
        yield opened
