"""A campaign on a schedule: one round a firing, served by the workflow engine until it is done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from prefect import flow
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import (
    ConcurrencyLimitConfig,
    ConcurrencyLimitStrategy,
    FlowRun,
    State,
    StateType,
)
from prefect.client.schemas.sorting import FlowRunSort
from prefect.runner import Runner
from prefect.states import Completed

from flows.campaign import ONE_AT_A_TIME, play_round, play_seeds, run_name
from flows.sessions import Key, held
from loop.errors import BusyError

WATCH_SECONDS = 1.0
POLL_SECONDS = 5.0
FAREWELL_SECONDS = 15
ENDED = (StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED)


@flow(
    name="one-round",
    flow_run_name=run_name,
    task_runner=ONE_AT_A_TIME,
    persist_result=False,
    validate_parameters=False,  # a served flow runs without the names in its annotations
)
def run_one_round(
    campaign: str, ledger: str | None = None, overrides: Mapping[str, Any] | None = None
) -> State[Any]:
    """The next round of every arm, unless the campaign is finished or a round is being run.

    Nothing happens while the campaign waits for measurements of which none has been told.
    """
    key = Key.of(campaign, ledger, overrides)
    session = held(key)
    with ExitStack() as claimed:
        try:
            claimed.enter_context(session.ledger.claim(session.campaign_id))
        except BusyError as busy:
            return Completed(name="Skipped", message=f"skipped: {busy}")
        if (waiting := session.waits()) is not None:
            return Completed(name="Waiting", message=waiting)
        reason = session.stop_reason()
        message = "nothing left to do"
        if reason is None:
            index = session.next_round()
            if not (play_seeds(key) and play_round(key, index)):
                return Completed(name="Waiting", message=session.wait())
            reason = session.stop_reason()
            message = f"round {index} is done"
        if reason is not None:
            session.ledger.finish(session.campaign_id, reason)
            message = f"{message}; finished, {reason}"
        return Completed(message=message)


def serve(
    name: str,
    parameters: Mapping[str, Any],
    *,
    every: timedelta | None = None,
    cron: str | None = None,
    finished: Callable[[], bool],
    tell: Callable[[str], None],
) -> None:
    """Fire `run_one_round` on a schedule until ``finished()``; blocks.

    ``finished`` is asked about once a second, in this process. ``tell`` is handed one line about
    every firing that has ended.
    """
    asyncio.run(_serve(name, parameters, every, cron, finished, tell))


async def _serve(
    name: str,
    parameters: Mapping[str, Any],
    every: timedelta | None,
    cron: str | None,
    finished: Callable[[], bool],
    tell: Callable[[str], None],
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
    async with get_client() as client:
        firings = _Firings(client, deployment, tell)
        while not serving.done():
            await asyncio.wait({serving}, timeout=WATCH_SECONDS)
            await firings.tell_new()
            if await asyncio.to_thread(finished):
                break
        # Stopping a runner cancels what it runs; the last round shall end as what it is.
        while not serving.done() and await firings.running():
            await asyncio.sleep(WATCH_SECONDS)
        await _processes_ended(runner)
        await firings.tell_new()
    if not serving.done():
        await runner.astop()
    await serving


async def _processes_ended(runner: Runner) -> None:
    """Wait for processes whose runs have ended: the runner calls a run cancelled that it kills.

    A run is completed a second or more before its process has gone. The runner shows what it
    still runs in a private part only; without it, this waits as long as that usually takes.
    """
    processes = getattr(runner, "_process_manager", None)
    for _ in range(FAREWELL_SECONDS):
        if processes is not None and not processes.flow_run_ids():
            return
        await asyncio.sleep(WATCH_SECONDS)


class _Firings:
    """The flow runs of the deployment that ended since this process began to serve it."""

    def __init__(
        self, client: PrefectClient, deployment: UUID, tell: Callable[[str], None]
    ) -> None:
        self._client = client
        self._deployment = deployment
        self._tell = tell
        self._since = datetime.now(UTC)
        self._told: set[UUID] = set()

    async def tell_new(self) -> None:
        for run in await self._in_states(ENDED):
            state = run.state
            if run.id in self._told or state is None or state.timestamp < self._since:
                continue
            self._told.add(run.id)
            self._tell(_line(state))

    async def running(self) -> bool:
        return bool(await self._in_states((StateType.PENDING, StateType.RUNNING)))

    async def _in_states(self, types: Sequence[StateType]) -> list[FlowRun]:
        return await self._client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                deployment_id=FlowRunFilterDeploymentId(any_=[self._deployment]),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(types))),
            ),
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
            limit=20,
        )


def _line(state: State[Any]) -> str:
    message = state.message or state.name or ""
    if state.type is StateType.CANCELLED:
        return "skipped: the round before is still being run"
    if state.type in (StateType.FAILED, StateType.CRASHED):
        return f"error: {message.removeprefix('Flow run encountered an exception: ')}"
    return message
