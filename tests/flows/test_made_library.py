"""A campaign without data: its library is made at the first run and read at the next."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.assembly import library_folder, open_session
from loop.campaign import load_campaign
from loop.errors import InvalidCampaignError
from tests.made_libraries import NAME, write_campaign


def test_a_round_from_nothing(tmp_path: Path) -> None:
    folder, ledger = write_campaign(tmp_path / "tiny"), tmp_path / "run" / "ledger.db"
    stages: list[tuple[str, int, int]] = []

    def progress(stage: str, done: int, total: int, **_: float) -> None:
        stages.append((stage, done, total))

    with open_session(folder, ledger, progress=progress).ledger:
        assert stages == (made := [("make library", 0, 1), ("make library", 1, 1)])
    session = open_session(folder, ledger, progress=progress)
    assert stages == made  # not again
    with session.ledger as kept:
        assert session.library.coupled
        assert session.run() == "rounds: all 1 are done"
        records = kept.records(session.campaign_id)
        assert {r.arm for r in records} == {"seed", "loop", "random", "mutation"}
        assert all(r.outcome.status == "ok" for r in records)
        assert session.library.made is not None
        treatments = {tuple(row) for row in session.library.made.process.tolist()}
        for record in records:
            process = record.candidate.process
            assert session.campaign.space.violations(record.candidate) == []
            known = (process["temperature_K"], process["time_s"]) in treatments
            assert known or record.arm in ("loop", "mutation")  # these design it
        proposed = [r.candidate.process["time_s"] for r in records if r.arm == "loop"]
        assert len(set(proposed)) == len(proposed)


def test_where_made_designs_are_kept(tmp_path: Path) -> None:
    campaign = load_campaign(write_campaign(tmp_path / "tiny"))
    beside = library_folder(tmp_path / "run" / "ledger.db", campaign)
    assert beside == tmp_path / "run" / "library"
    assert library_folder(f"sqlite:///{tmp_path}/a.db", campaign) == tmp_path / "library"
    server = library_folder("postgresql://host/db", campaign)
    assert server == Path("runs") / NAME / "library"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('source = "heat-treatment"', 'source = "heat-treatmet"', "did you mean 'heat-treatment'"),
        ("patch = 32", "patch = 8", "library.patch is 8"),
        ("fields = 8", "fields = 0", "library.settings: fields is 0"),
        ("[targets.copper_rich_fraction]", "[targets.copper_rich]", "copper_rich_fraction"),
    ],
)
def test_what_is_refused_before_anything_is_made(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    folder = write_campaign(tmp_path / "tiny")
    text = (folder / "campaign.toml").read_text()
    assert old in text
    (folder / "campaign.toml").write_text(text.replace(old, new))
    with pytest.raises(InvalidCampaignError, match=message):
        open_session(folder, tmp_path / "run" / "ledger.db")
    assert not (tmp_path / "run").exists()
