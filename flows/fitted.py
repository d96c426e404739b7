"""The surrogate of a campaign as it stands, fitted to all that was scored."""

from __future__ import annotations

from loop.candidate import Record
from loop.errors import LedgerError
from loop.round import stage_rng
from loop.session import Session
from loop.summary import LOOP_ARM
from loop.surrogate import Surrogate


def fitted_surrogate(session: Session) -> tuple[Surrogate, list[Record]]:
    """The surrogate and the records it was fitted to, one and the same for every question.

    Raises LedgerError where nothing has been scored yet.
    """
    records = session.records(LOOP_ARM, session.next_round())
    ok = [record for record in records if record.outcome.status == "ok"]
    if not ok:
        raise LedgerError(
            f"campaign {session.campaign.name!r} has no scored designs yet, so its surrogate knows "
            "nothing; run it first"
        )
    return session.surrogate(ok, stage_rng(session.campaign.seed, "propose", 0, "surrogate")), ok
