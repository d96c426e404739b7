"""The campaign as a flow, and one of its rounds as a flow: the same steps as ``Session.run``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect import flow, unmapped
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from flows import tasks
from flows.artifacts import HowFar, publish
from flows.sessions import Key, held
from loop.summary import SEED_ARM

# Chunks of a batch use the cores themselves; side by side they would only take turns.
ONE_AT_A_TIME: Any = ThreadPoolTaskRunner(max_workers=1)


def run_name() -> str:
    """Name of a flow run: that of the campaign's folder."""
    path = Path(str(flow_run.parameters.get("campaign", "campaign")))
    return path.parent.name if path.name == "campaign.toml" else path.name


@flow(
    name="campaign",
    flow_run_name=run_name,
    task_runner=ONE_AT_A_TIME,
    persist_result=False,
)
def run_campaign(
    campaign: str, ledger: str | None = None, overrides: Mapping[str, Any] | None = None
) -> str:
    """Play a campaign to its end, or until it has to wait; returns why it stopped.

    What is on record already is not done again. Raises SpinodalError when campaign or ledger
    cannot be used, or another run has the campaign.
    """
    key = Key.of(campaign, ledger, overrides)
    session = held(key)
    with session.ledger.claim(session.campaign_id):
        if (waiting := session.waits()) is not None:
            return waiting
        how_far = HowFar(session.campaign.name)
        if not play_seeds(key):
            return session.wait()
        while (reason := session.stop_reason()) is None:
            if not play_round(key, session.next_round(), how_far):
                return session.wait()
        session.ledger.finish(session.campaign_id, reason)
        publish(session)
    return reason


def play_seeds(key: Key) -> bool:
    """The scored library designs that all arms start from; whether all of them are scored."""
    session = held(key)
    tasks.prepare(key)
    evaluate_batch(key, SEED_ARM, 0)
    if not session.is_scored(SEED_ARM, 0):
        return False
    if not len(session.ledger.rounds(session.campaign_id, SEED_ARM)):
        tasks.finish_round(key, SEED_ARM, 0)
    return True


def play_round(key: Key, index: int, how_far: HowFar | None = None) -> bool:
    """One round of every arm that has not finished it; whether all have now.

    All arms ask for what they need before the round waits for any of it.
    """
    session = held(key)
    unfinished = session.unfinished_arms(index)
    for number, arm in enumerate(session.arms):
        if arm in unfinished:
            tasks.plan(key, arm, index)
            evaluate_batch(key, arm, index)
            if session.is_scored(arm, index):
                tasks.finish_round(key, arm, index)
        if how_far is not None:
            done = (index - 1) * len(session.arms) + number + 1
            how_far.show(done, session.campaign.loop.rounds * len(session.arms))
    publish(session)
    return not session.unfinished_arms(index)


def evaluate_batch(key: Key, arm: str, index: int) -> None:
    """Every chunk of a batch that still lacks outcomes."""
    session = held(key)
    chunks = session.chunks(arm, index)
    if not chunks:
        return
    stage = f"simulate {arm}"
    session.progress(stage, 0, len(chunks))
    futures = tasks.evaluate.map(unmapped(key), unmapped(arm), unmapped(index), chunks)
    for done, future in enumerate(futures, start=1):
        future.result()  # raises what the task raised
        session.progress(stage, done, len(chunks))
