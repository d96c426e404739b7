"""Thirty elements with constraints: walks, variations and proposals of a trained generator."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.assembly import open_session
from flows.edit import Edits
from flows.propose import propose
from flows.walk import walk
from tests import thirty_elements
from tests.thirty_elements import check


@pytest.mark.usefixtures("in_scratch")
def test_walks_variations_and_proposals_of_a_trained_generator() -> None:
    folder = thirty_elements.write_campaign(
        Path("campaign"), constraints=thirty_elements.SPARSE, generator="joint-flow"
    )
    text = (folder / "campaign.toml").read_text()
    settings = "[generator.settings]\nfirst_steps = 30\n\n[loop]"
    (folder / "campaign.toml").write_text(text.replace("[loop]", settings))
    session = open_session(folder, Path("ledger.db"))
    with session.ledger:
        session.run()
        space = session.campaign.space
        seeds = session.ledger.planned(session.campaign_id, "seed", 0)
        check(space, session.ledger.planned(session.campaign_id, "loop", 1))
        found = walk(session, seeds[0], seeds[1], 6)
        assert (found.designs[0], found.designs[-1]) == (seeds[0], seeds[1])
        check(space, found.designs)
        assert all(outcome.status == "ok" for outcome in found.outcomes)
        varied = Edits(session).vary(seeds[0], 5, 0.5).designs
        check(space, varied)
        for designs in (found.designs, varied):  # or nothing was put to the test
            assert any("moved_to_constraints" in c.origin.details for c in designs)
        check(space, propose(session, 5).designs)
