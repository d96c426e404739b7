"""A campaign file is refused before a ledger is made for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.assembly import open_session
from loop.errors import InvalidCampaignError
from simulators import registry
from tests.campaigns import write_campaign

USE = 'use = ["composite-chain"]'
TWINS = 'use = ["composite-chain", "twin"]'
SETTINGS = """
[simulators.settings.composite-chain]
outputs = ["density_g_per_cm3", "gamma_prime_fraction"]

[simulators.settings.twin]
outputs = ["{name}"]
"""


def opened(folder: Path, name: str) -> tuple[str, ...]:
    """The properties of a campaign with a second simulator that gives ``name``."""
    path = write_campaign(folder / "c", more=SETTINGS.format(name=name)) / "campaign.toml"
    path.write_text(path.read_text().replace(USE, TWINS))
    session = open_session(path, folder / "ledger.db")
    session.ledger.close()
    return session.properties


def test_two_simulators_of_one_property_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twice = {**registry.BUILT_IN, "twin": registry.BUILT_IN["composite-chain"]}
    monkeypatch.setattr(registry, "BUILT_IN", twice)
    with pytest.raises(InvalidCampaignError, match="both give density_g_per_cm3; let only one"):
        opened(tmp_path, "density_g_per_cm3")
    assert not (tmp_path / "ledger.db").exists()
    (tmp_path / "other").mkdir()
    assert opened(tmp_path / "other", "material_cost_USD_per_kg") == (
        "density_g_per_cm3",
        "gamma_prime_fraction",
        "material_cost_USD_per_kg",
    )
