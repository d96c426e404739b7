"""A campaign on a schedule: one round a firing, served by the workflow engine until it is done."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import (
    ConcurrencyLimitConfig,
    ConcurrencyLimitStrategy,
    State,
    StateType,
)
from prefect.runner import Runner
from prefect.states import Completed

from flows.campaign import ONE_AT_A_TIME, play_round, play_seeds
from flows.sessions import Key, held
from loop.errors import LedgerError, SpinodalError

WATCH_SECONDS = 1.0
POLL_SECONDS = 5.0


@flow(
    name="one-round",
    flow_run_name="{campaign}",
    task_runner=ONE_AT_A_TIME,
    persist_result=False,
)
def run_one_round(
    campaign: str, ledger: str | None = None, overrides: Mapping[str, Any] | None = None
) -> State[Any]:
    """The next round of every arm, unless the campaign is finished or a round is being run."""
    try:
        return _one_round(Key.of(campaign, ledger, overrides))
    except SpinodalError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        raise


def _one_round(key: Key) -> State[Any]:
    session = held(key)
    with ExitStack() as claimed:
        try:
            claimed.enter_context(session.ledger.claim(session.campaign_id))
        except LedgerError as busy:
            print(f"skipped: {busy}", file=sys.stderr, flush=True)
            return Completed(name="Skipped", message=str(busy))
        reason = session.stop_reason()
        if reason is None:
            play_seeds(key)
            index = session.next_round()
            play_round(key, index)
            reason = session.stop_reason()
            message = f"round {index} is done"
        else:
            message = "nothing left to do"
        if reason is not None:
            session.ledger.finish(session.campaign_id, reason)
            message = f"{message}; finished: {reason}"
        return Completed(message=message)


def serve(
    name: str,
    parameters: Mapping[str, Any],
    *,
    every: timedelta | None = None,
    cron: str | None = None,
    finished: Callable[[], bool],
) -> None:
    """Fire `run_one_round` on a schedule until ``finished()``; blocks.

    ``finished`` is asked about once a second, in this process.
    """
    asyncio.run(_serve(name, parameters, every, cron, finished))


async def _serve(
    name: str,
    parameters: Mapping[str, Any],
    every: timedelta | None,
    cron: str | None,
    finished: Callable[[], bool],
) -> None:
    poll = POLL_SECONDS if every is None else min(POLL_SECONDS, every.total_seconds() / 2)
    runner = Runner(name=name, query_seconds=poll, pause_on_shutdown=True)
    deployment = await runner.aadd_flow(
        run_one_round,
        name=name,
        interval=every,
        cron=cron,
        parameters=dict(parameters),
        # A firing during a round is dropped, not queued behind it.
        concurrency_limit=ConcurrencyLimitConfig(
            limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW
        ),
    )
    serving = asyncio.create_task(runner.start())
    while not serving.done():
        await asyncio.wait({serving}, timeout=WATCH_SECONDS)
        if await asyncio.to_thread(finished):
            break
    if not serving.done():
        await _last_run_has_ended(deployment)
        await runner.astop()
    await serving


async def _last_run_has_ended(deployment: Any) -> None:
    """Stopping a runner cancels what it runs; the last round shall end as what it is."""
    running = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[deployment]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING])),
    )
    async with get_client() as client:
        while await client.read_flow_runs(flow_run_filter=running):
            await asyncio.sleep(WATCH_SECONDS)
