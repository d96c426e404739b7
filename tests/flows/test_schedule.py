"""A schedule that fires: one round a firing, nothing during a round, an end with the stop rule."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from flows.assembly import open_session
from tests.campaigns import found, write_campaign
from tests.flows.test_run import LEDGER, engine_rows, read_until, start


def test_two_firings_two_rounds_and_none_beside_a_run(plain_run: Path, tmp_path: Path) -> None:
    write_campaign(tmp_path / "tiny")
    session = open_session(tmp_path / "tiny", tmp_path / LEDGER)
    # Claimed, as by a run in which a round is being played.
    with session.ledger, session.ledger.claim(session.campaign_id):
        serving = start("schedule", "tiny", "--every", "10s", cwd=tmp_path)
        assert serving.stderr is not None
        try:
            read_until(serving.stderr, "tiny: one round every 10s")
            read_until(serving.stderr, "skipped: campaign 'tiny' is being run by process")
            # The firing beside the run added nothing.
            assert found(tmp_path / LEDGER) == []
            assert not session.ledger.is_planned(session.campaign_id, "seed", 0)
        except BaseException:
            serving.kill()
            serving.communicate()
            raise
    out, err = serving.communicate()
    assert serving.returncode == 0, err
    assert "Stopped: rounds: all 2 are done." in out
    assert "round 1 is done" in err
    assert "round 2 is done; finished, rounds: all 2 are done" in err
    assert found(tmp_path / LEDGER) == found(plain_run / LEDGER)

    names = [name for (name,) in engine_rows(tmp_path, "select state_name from flow_run")]
    counts = Counter(names)
    assert counts["Skipped"] >= 1
    # Each round had a firing of its own; those that came during a round were dropped.
    assert counts["Completed"] >= 2
    assert counts["Failed"] == counts["Crashed"] == 0
    # An engine that goes on without us fires nothing any more.
    assert engine_rows(tmp_path, "select name, paused from deployment") == [("tiny", 1)]
