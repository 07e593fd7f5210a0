"""Runs before they start: their ids, who may start now, and why the others wait."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from controller import digest
from controller.model.run import Phase, Run, Trigger
from controller.model.workflow import ConcurrencyPolicy, Json, OnInterrupt, Workflow

ID_DIGITS = 10


def run_id(source: str, workflow: str, identity: str) -> str:
    """Return the id of the run that a trigger starts: the same trigger, the same id."""
    digits = digest.of_value([source, workflow, identity]).removeprefix("sha256:")
    return f"{workflow}-{digits[:ID_DIGITS]}"


def manual_run(
    source: str,
    workflow: str,
    *,
    key: str,
    now: datetime,
    params: Mapping[str, Json] | None = None,
    fresh: bool = False,
    spec: str = "",
) -> Run:
    """Return a Pending run that a person asked for; `key` tells one wish from another."""
    identity = f"manual:{key}"
    return Run(
        id=run_id(source, workflow, identity),
        source=source,
        workflow=workflow,
        trigger=Trigger.MANUAL,
        identity=identity,
        params=params or {},
        fresh=fresh,
        spec=spec,
        created_at=now,
    )


def interrupted_rerun(lost: Run, workflow: Workflow, now: datetime) -> Run | None:
    """Return the one new run that answers an interrupted run's trigger; None when none shall."""
    if lost.rerun_of is not None or workflow.on_interrupt is not OnInterrupt.RERUN:
        return None
    identity = f"interrupted:{lost.id}"
    return replace(
        lost,
        id=run_id(lost.source, lost.workflow, identity),
        identity=identity,
        phase=Phase.PENDING,
        reason="",
        message="",
        rerun_of=lost.id,
        instance=None,
        inputs={},
        versions={},
        outputs={},
        not_before=None,
        created_at=now,
        started_at=None,
        finished_at=None,
    )


@dataclass(frozen=True, slots=True)
class Choice:
    """Runs to start now, in order; why each other one waits; when a wait ends by itself."""

    start: tuple[Run, ...]
    waiting: Mapping[str, str]  # run id -> reason
    wake_at: datetime | None


def claimable(
    pending: Iterable[Run],
    running: Iterable[Run],
    *,
    max_runs: int,
    now: datetime,
    policy: Callable[[tuple[str, str]], ConcurrencyPolicy],
) -> Choice:
    """Choose which Pending runs start: by priority, then time, as far as the limits allow."""
    busy = {(run.source, run.workflow) for run in running}
    free = max_runs - len(list(running))
    start: list[Run] = []
    waiting: dict[str, str] = {}
    for run in sorted(pending, key=order):
        key = (run.source, run.workflow)
        if run.not_before is not None and run.not_before > now:
            waiting[run.id] = f"not before {run.not_before.isoformat(timespec='seconds')}"
        elif key in busy and policy(key) is not ConcurrencyPolicy.ALLOW:
            waiting[run.id] = "another run of this workflow is active"
        elif free <= 0:
            waiting[run.id] = f"maxParallel.runs ({max_runs}) are running"
        else:
            start.append(run)
            busy.add(key)
            free -= 1
    return Choice(tuple(start), waiting, next_moment(pending, now))


def order(run: Run) -> tuple[int, datetime, str]:
    return (-run.priority, run.scheduled_time or run.created_at, run.id)


def next_moment(pending: Iterable[Run], now: datetime) -> datetime | None:
    moments = (run.not_before for run in pending if run.not_before and run.not_before > now)
    return min(moments, default=None)
