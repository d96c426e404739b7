"""The workflow engine's tasks: each a few lines around one method of a Session.

Between tasks go a key, names and numbers, never arrays. Nothing is cached by the engine: what
has been done is in the ledger, and every method looks there first.
"""

from __future__ import annotations

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from flows.sessions import Key, held
from loop.errors import SpinodalError

RETRIES = 2
RETRY_SECONDS = [1.0, 10.0]


def worth_retrying(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001
    """Whether a failure may pass by itself; what the user has to mend does not."""
    return not isinstance(state.data, SpinodalError)


@task(name="prepare", cache_policy=NO_CACHE, persist_result=False)
def prepare(key: Key) -> None:
    """Put campaign and seed batch on record."""
    held(key).prepare()


@task(
    name="plan",
    task_run_name="plan-{arm}-{index}",
    cache_policy=NO_CACHE,
    persist_result=False,
)
def plan(key: Key, arm: str, index: int) -> int:
    """Fit, propose, select; returns the size of the batch."""
    return held(key).plan(arm, index)


@task(
    name="evaluate",
    task_run_name="evaluate-{arm}-{index}-{chunk}",
    retries=RETRIES,
    retry_delay_seconds=RETRY_SECONDS,
    retry_condition_fn=worth_retrying,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def evaluate(key: Key, arm: str, index: int, chunk: int) -> int:
    """Simulate one chunk of a batch; returns how many outcomes went into the ledger."""
    return held(key).evaluate(arm, index, chunk)


@task(
    name="finish-round",
    task_run_name="finish-{arm}-{index}",
    cache_policy=NO_CACHE,
    persist_result=False,
)
def finish_round(key: Key, arm: str, index: int) -> None:
    """Put the summary of a round on record."""
    held(key).finish_round(arm, index)
